"""Draw documents: as text by their kind, and as report files by the end of the file name.

A new report format is a module with one function, and a row in ``REPORT_FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PurePath
from types import MappingProxyType, ModuleType
from typing import Final

from reconciler.domain.document import Document, json_text
from reconciler.domain.errors import UsageError
from reconciler.domain.target_option import DEFAULT_TARGET, commands_for
from reconciler.reports.documents.envelope import kind_of, target_of
from reconciler.reports.text.format import Layout, Style, plain

_MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Change": "change",
        "Check": "check",
        "Combined": "targets",
        "DataDiff": "inspection",
        "Doctor": "doctor",
        "Drift": "drift",
        "Error": "doctor",
        "Export": "check",
        "Graph": "graph",
        "History": "history",
        "Inspection": "inspection",
        "Migration": "models",
        "Models": "models",
        "Plan": "plan",
        "Prompt": "check",
        "Refresh": "change",
        "Resolve": "change",
        "Result": "result",
        "Serving": "change",
        "Status": "status",
        "Targets": "targets",
        "Validation": "doctor",
    }
)
"""The module of each kind, imported when it is needed: ``documents/plan.py`` has its type ``PlanReport``, and
``text/plan.py`` draws it with ``plan_text``."""
KINDS: Final = tuple(_MODULES)
"""The kinds of documents that commands print."""


def type_of(kind: str) -> type[Document]:
    """Return the type of a kind of document."""
    if kind == "SavedPlan":
        from reconciler.reports.documents.saved_plan import SavedPlan

        return SavedPlan
    found: type[Document] = getattr(_module("documents", kind), f"{kind}Report")
    return found


def render_text(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """Return a document as text for a terminal, folded to ``width`` columns; ``verbose`` adds details."""
    return _draw(document, Layout(width, style, verbose))


def _draw(document: Document, layout: Layout) -> str:
    kind, target = kind_of(document), target_of(document)
    draw: Callable[..., str] = getattr(_module("text", kind), f"{kind.lower()}_text")
    with commands_for(target.name if target else DEFAULT_TARGET):
        return draw(document, layout, _draw) if kind == "Combined" else draw(document, layout)


def _module(package: str, kind: str) -> ModuleType:
    return import_module(f"reconciler.reports.{package}.{_MODULES[kind]}")


def _json(document: Document) -> str:
    return json_text(document) + "\n"


def _markdown(document: Document) -> str:
    from reconciler.reports.markdown import markdown

    return markdown(document)


def _html(document: Document) -> str:
    # Imported here because importing Jinja2 takes longer than most commands.
    from reconciler.reports.documents.targets import TargetsReport

    if isinstance(document, TargetsReport):
        from reconciler.reports.html.front import front_page

        return front_page(document)
    from reconciler.reports.html.page import page

    return page(document)


def _junit(document: Document) -> str:
    from reconciler.reports.junit import junit

    return junit(document)


REPORT_FORMATS: Final[Mapping[str, Callable[[Document], str]]] = MappingProxyType(
    {".json": _json, ".md": _markdown, ".html": _html, ".xml": _junit}
)
"""The renderer of each report format, by the end of the file name."""


def report_renderer(report: str) -> Callable[[Document], str]:
    """Return the renderer for a report file; raises UsageError for an unsupported format."""
    suffix = PurePath(report).suffix.lower()
    if suffix not in REPORT_FORMATS:
        raise UsageError(
            f"--report {report}: unsupported format",
            f"name a file that ends in {', '.join(REPORT_FORMATS)}; .xml is JUnit",
        )
    return REPORT_FORMATS[suffix]


def encode_report(text: str) -> bytes:
    r"""Return a report in UTF-8; half of a surrogate pair, which only JSON allows, becomes ``\ud800``."""
    return text.encode("utf-8", "backslashreplace")
