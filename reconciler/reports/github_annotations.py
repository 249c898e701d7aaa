"""What GitHub Actions is told: annotations as workflow commands, and how text is kept from being taken for one.

Runners read the lines of both standard streams. They take a line for a command that begins with ``::``, white space and
what cannot be seen aside, and one of an older form, ``##[``, anywhere in a line
(https://github.com/actions/runner, ``ActionCommand.cs`` and ``OutputManager.cs``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.domain.text import shorten
from reconciler.reports.documents.envelope import Document
from reconciler.reports.markdown import Limit, utf8_bytes
from reconciler.reports.summary import summarize
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import counted

Severity = Literal["error", "warning"]

SUMMARY: Final = Limit(1024 * 1024, utf8_bytes, "a step's summary")
"""GitHub drops all of a step's summary when it has more bytes than these."""
_MOST: Final = 10
"""Annotations of each severity that GitHub shows of a step."""
_TITLE_SHOWN: Final = 200
_MESSAGE_SHOWN: Final = 4_000


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is shown beside a line of a file, or beside none: ``file`` is a path from the top of the repository."""

    severity: Severity
    message: str
    title: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None


def annotated(document: Document, path: Callable[[str], str]) -> Iterator[Annotation]:
    """What a document has to say about lines of manifests, and what else everybody should see.

    ``path`` gives the path from the top of the repository of one as the user wrote it.
    """
    summary = summarize(document)
    for entry in summary.entries:
        if entry.level in {"failed", "warning"}:
            yield Annotation(
                severity="error" if entry.level == "failed" else "warning",
                message=entry.why or entry.word,
                title=" ".join(filter(None, [entry.name, entry.part, entry.word])),
                file=path(entry.file) if entry.file else "",
                line=entry.line,
                column=entry.column,
            )
    for warning in summary.warnings:
        yield Annotation("warning", warning, title=f"reconcile {summary.kind.lower()}")


def commands(found: Iterable[Annotation]) -> Iterator[str]:
    """The annotations as workflow commands, a line each: as many as GitHub shows; the last counts the others."""
    every = list(found)
    severities: tuple[Severity, ...] = ("error", "warning")
    for severity in severities:
        those = [one for one in every if one.severity == severity]
        shown = those if len(those) <= _MOST else those[: _MOST - 1]
        yield from map(_command, shown)
        if len(those) > len(shown):
            rest = counted(len(those) - len(shown), f"further {severity}")
            yield _command(Annotation(severity, f"{rest} of this step; its log tells them all", title="reconcile"))


def _command(one: Annotation) -> str:
    properties = {
        "file": terminal_safe(one.file),
        "line": one.line if one.file else None,
        "col": one.column if one.file else None,
        "title": terminal_safe(shorten(one.title, _TITLE_SHOWN)),
    }
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    return f"::{one.severity} {told}::{_data(one.message[:_MESSAGE_SHOWN])}"


def _data(text: str) -> str:
    """A message as the data of a command; its lines stay lines."""
    return "%0A".join(terminal_safe(line).replace("%", "%25") for line in text.split("\n"))


def _property(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


_UNSEEN: Final = (
    r"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Control characters, and what Unicode says to ignore by default: comparisons may pass over it."""
_COMMAND: Final = re.compile(rf"((?:\A|(?<=[\r\n]))(?:[^\S\r\n]|{_UNSEEN})*:{_UNSEEN}*):|(\#{_UNSEEN}*\#{_UNSEEN}*)\[")


def defused(text: str) -> str:
    r"""The text with nothing that a runner takes for a command: the last character of what begins one is written out.

    It is written as ``\u003a`` or ``\u005b``, which in a string of JSON is the same character.
    """
    return _COMMAND.sub(lambda found: f"{found[1]}\\u003a" if found[1] else f"{found[2]}\\u005b", text)
