"""Reports: a document in the form that the name of its file asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from reconciler.domain.errors import UsageError
from reconciler.reports.documents.plan_and_result import Document

Renderer = Callable[[Document], str]


def _json(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _markdown(document: Document) -> str:
    from reconciler.reports.markdown import markdown

    return markdown(document)


def _html(document: Document) -> str:
    # Here, because importing Jinja2 takes longer than most commands.
    from reconciler.reports.html.page import page

    return page(document)


def _junit(document: Document) -> str:
    from reconciler.reports.junit import junit

    return junit(document)


FACES: Final[Mapping[str, Renderer]] = MappingProxyType(
    {".json": _json, ".md": _markdown, ".html": _html, ".xml": _junit}
)
"""What draws a report, by the end of its file's name."""


def face_of(report: str) -> Renderer:
    """What draws a report of that name; raises UsageError where its end says nothing."""
    suffix = PurePath(report).suffix.lower()
    if suffix not in FACES:
        raise UsageError(
            f"--report {report}: reports are written as {', '.join(FACES)}",
            "name a file that ends in one of these; .xml is JUnit",
        )
    return FACES[suffix]


def encoded(text: str) -> bytes:
    r"""A report in UTF-8; half of a surrogate pair, which only JSON lets through, is spelt as JSON does: ``\ud800``."""
    return text.encode("utf-8", "backslashreplace")
