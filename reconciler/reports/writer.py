"""Draw documents: as text by their kind, and as report files by the end of the file name.

A new report format is a module with one function, and a row in ``REPORT_FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from msgspec import convert

from reconciler.domain.document import Document, json_text
from reconciler.domain.errors import UsageError
from reconciler.reports.documents.check import CheckReport, PromptReport
from reconciler.reports.documents.doctor import DoctorReport, ValidationReport
from reconciler.reports.documents.envelope import AnyDocument, kind_of
from reconciler.reports.text.change import change_text, refresh_text, resolve_text, serving_text
from reconciler.reports.text.check import check_text, prompt_text
from reconciler.reports.text.doctor import doctor_text, validation_text
from reconciler.reports.text.drift import drift_text
from reconciler.reports.text.format import Layout, Style, plain
from reconciler.reports.text.graph import graph_text
from reconciler.reports.text.history import history_text
from reconciler.reports.text.plan import plan_text
from reconciler.reports.text.result import result_text
from reconciler.reports.text.status import status_text

_TEXTS: Final[Mapping[str, Callable[[Any, Layout], str]]] = MappingProxyType(
    {
        "Change": change_text,
        "Check": check_text,
        "Doctor": doctor_text,
        "Drift": drift_text,
        "Graph": graph_text,
        "History": history_text,
        "Plan": plan_text,
        "Prompt": prompt_text,
        "Refresh": refresh_text,
        "Resolve": resolve_text,
        "Result": result_text,
        "Serving": serving_text,
        "Status": status_text,
        "Validation": validation_text,
    }
)
KINDS: Final = tuple(_TEXTS)
"""The kinds of documents that commands print."""
_TYPES: Final[Mapping[str, type[Document]]] = {
    "Check": CheckReport,
    "Doctor": DoctorReport,
    "Prompt": PromptReport,
    "Validation": ValidationReport,
}


def typed(document: dict[str, Any]) -> AnyDocument:
    """Return a valid JSON document as the type of its kind, if that has one."""
    kind = _TYPES.get(document["kind"])
    return convert(document, kind) if kind else document


def render_text(document: AnyDocument, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """Return a document as text for a terminal, folded to ``width`` columns; ``verbose`` adds details."""
    return _TEXTS[kind_of(document)](document, Layout(width, style, verbose))


def _json(document: AnyDocument) -> str:
    return json_text(document) + "\n"


def _markdown(document: AnyDocument) -> str:
    from reconciler.reports.markdown import markdown

    return markdown(document)


def _html(document: AnyDocument) -> str:
    # Imported here because importing Jinja2 takes longer than most commands.
    from reconciler.reports.html.page import page

    return page(document)


def _junit(document: AnyDocument) -> str:
    from reconciler.reports.junit import junit

    return junit(document)


REPORT_FORMATS: Final[Mapping[str, Callable[[AnyDocument], str]]] = MappingProxyType(
    {".json": _json, ".md": _markdown, ".html": _html, ".xml": _junit}
)
"""The renderer of each report format, by the end of the file name."""


def report_renderer(report: str) -> Callable[[AnyDocument], str]:
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
