"""Draw documents: as text by their kind, and as report files by the end of the file name.

A new report format is a module with one function, and a row in ``REPORT_FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from reconciler.domain.document import Document, json_text
from reconciler.domain.errors import UsageError
from reconciler.reports.documents.envelope import kind_of
from reconciler.reports.text.format import Layout, Style, plain

_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Change": "change:change_text",
        "Check": "check:check_text",
        "Doctor": "doctor:doctor_text",
        "Drift": "drift:drift_text",
        "Graph": "graph:graph_text",
        "History": "history:history_text",
        "Plan": "plan:plan_text",
        "Prompt": "check:prompt_text",
        "Refresh": "change:refresh_text",
        "Resolve": "change:resolve_text",
        "Result": "result:result_text",
        "Serving": "change:serving_text",
        "Status": "status:status_text",
        "Validation": "doctor:validation_text",
    }
)
"""The function of ``reports/text`` that draws each kind; only that of the printed document is imported."""
KINDS: Final = tuple(_TEXTS)
"""The kinds of documents that commands print."""
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Change": "change:ChangeReport",
        "Check": "check:CheckReport",
        "Doctor": "doctor:DoctorReport",
        "Drift": "drift:DriftReport",
        "Graph": "graph:GraphReport",
        "History": "history:HistoryReport",
        "Plan": "plan:PlanReport",
        "Prompt": "check:PromptReport",
        "Refresh": "change:RefreshReport",
        "Resolve": "change:ResolveReport",
        "Result": "result:ResultReport",
        "SavedPlan": "saved_plan:SavedPlan",
        "Serving": "change:ServingReport",
        "Status": "status:StatusReport",
        "Validation": "doctor:ValidationReport",
    }
)
"""The type in ``reports/documents`` of each kind."""


def type_of(kind: str) -> type[Document]:
    """Return the type of a kind of document."""
    found: type[Document] = _load("documents", _TYPES[kind])
    return found


def render_text(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """Return a document as text for a terminal, folded to ``width`` columns; ``verbose`` adds details."""
    draw: Callable[[Document, Layout], str] = _load("text", _TEXTS[kind_of(document)])
    return draw(document, Layout(width, style, verbose))


def _load(package: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"reconciler.reports.{package}.{module}"), attribute)


def _json(document: Document) -> str:
    return json_text(document) + "\n"


def _markdown(document: Document) -> str:
    from reconciler.reports.markdown import markdown

    return markdown(document)


def _html(document: Document) -> str:
    # Imported here because importing Jinja2 takes longer than most commands.
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
