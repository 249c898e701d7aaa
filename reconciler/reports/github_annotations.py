"""Write annotations for GitHub Actions as workflow commands, and keep other text from being read as commands.

Runners read the lines of both standard streams. A line is a command if it begins with ``::`` after whitespace and
invisible characters, or if it contains ``##[``, the older form
(https://github.com/actions/runner, ``ActionCommand.cs`` and ``OutputManager.cs``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

from reconciler.domain.document import Document
from reconciler.domain.text import UNSEEN, shorten, terminal_safe
from reconciler.reports.markdown import Limit, utf8_bytes
from reconciler.reports.summary import summarize
from reconciler.reports.text.format import counted

Severity = Literal["error", "warning"]

SUMMARY: Final = Limit(1024 * 1024, utf8_bytes, "a step's summary")
"""The maximum size of a step's summary; GitHub drops a larger one completely."""
_MOST: Final = 10
"""Annotations of each severity that GitHub shows for a step."""
_TITLE_SHOWN: Final = 200
_MESSAGE_SHOWN: Final = 4_000


class Annotation(Struct, frozen=True):
    """A message about a line of a file; ``file`` is a path from the top of the repository, empty for no file."""

    severity: Severity
    message: str
    title: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None


def annotated(document: Document, path: Callable[[str], str]) -> Iterator[Annotation]:
    """Yield the errors and warnings of a document, at the lines of manifests if known.

    ``path`` converts a path of the user to a path from the top of the repository.
    """
    summary = summarize(document)
    for row in summary.rows:
        if row.level in {"failed", "warning"}:
            yield Annotation(
                severity="error" if row.level == "failed" else "warning",
                message=row.why or row.word,
                title=" ".join(filter(None, [row.name, row.part, row.word])),
                file=path(row.file) if row.file else "",
                line=row.line,
                column=row.column,
            )
    for warning in summary.warnings:
        yield Annotation("warning", warning, title=f"reconcile {summary.kind.lower()}")


def commands(found: Iterable[Annotation]) -> Iterator[str]:
    """Yield the annotations as workflow commands: as many as GitHub shows; the last one counts the others."""
    annotations = list(found)
    severities: tuple[Severity, ...] = ("error", "warning")
    for severity in severities:
        similar = [annotation for annotation in annotations if annotation.severity == severity]
        shown = similar if len(similar) <= _MOST else similar[: _MOST - 1]
        yield from map(_command, shown)
        if len(similar) > len(shown):
            rest = counted(len(similar) - len(shown), f"further {severity}")
            yield _command(Annotation(severity, f"{rest} of this step; see the log", title="reconcile"))


def _command(annotation: Annotation) -> str:
    properties = {
        "file": terminal_safe(annotation.file),
        "line": annotation.line if annotation.file else None,
        "col": annotation.column if annotation.file else None,
        "title": terminal_safe(shorten(annotation.title, _TITLE_SHOWN)),
    }
    fields = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    return f"::{annotation.severity} {fields}::{_data(annotation.message[:_MESSAGE_SHOWN])}"


def _data(text: str) -> str:
    """Return a message as the data of a command; line breaks are kept."""
    return "%0A".join(terminal_safe(line).replace("%", "%25") for line in text.split("\n"))


def _property(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


_UNSEEN: Final = rf"(?![\r\n])[{UNSEEN}]"
"""Comparisons may skip these characters."""
_COMMAND: Final = re.compile(rf"((?:\A|(?<=[\r\n]))(?:[^\S\r\n]|{_UNSEEN})*:{_UNSEEN}*):|(\#{_UNSEEN}*\#{_UNSEEN}*)\[")


def defused(text: str) -> str:
    r"""Return the text without workflow commands: the last character of each start of a command is escaped.

    It becomes ``\u003a`` or ``\u005b``, which is the same character in a JSON string.
    """
    return _COMMAND.sub(lambda found: f"{found[1]}\\u003a" if found[1] else f"{found[2]}\\u005b", text)
