"""Write a short message about the result of a command, for chats and mail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from reconciler.domain.document import Document
from reconciler.domain.errors import ExitStatus
from reconciler.domain.text import terminal_safe
from reconciler.redaction import redact
from reconciler.reports.summary import LEVELS, ReportSummary, SummaryRow, summarize

_SHOWN_ROWS: Final = 10
_SHOWN_CHARACTERS: Final = 200
_OUTCOMES: Final[Mapping[ExitStatus, str]] = {
    ExitStatus.OK: "succeeded",
    ExitStatus.CHANGES: "found changes",
    ExitStatus.STILL_TRAINING: "still training",
    ExitStatus.INTERRUPTED: "interrupted",
}
"""The outcome of each exit status; ``failed`` for the others."""
_MARKUP: Final = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'", "[": "(", "]": ")", "*": "∗", "_": "＿"})  # noqa: RUF001 - they look alike, and chats do not interpret them
"""Characters with which a chat would mention users, or show a link under another name."""


class Notification(Struct, frozen=True):
    """A message: a title, and lines of text; ``good`` is whether the exit status is 0."""

    title: str
    body: str
    good: bool


def notification(document: Document, command: str, status: ExitStatus, link: str = "") -> Notification:
    """Return the message about a document: target, outcome, counts, failures, and the address of the CI run."""
    summary = summarize(document)
    rows = sorted(
        (row for row in summary.rows if row.level in {"failed", "warning"}), key=lambda row: LEVELS.index(row.level)
    )
    more = len(rows) - _SHOWN_ROWS
    lines = [
        _harmless(summary.summary),
        *map(_line, rows[:_SHOWN_ROWS]),
        *([f"and {more} more"] if more > 0 else []),
        *([link] if link else []),
    ]
    return Notification(_title(summary, command, status), "\n".join(lines), status is ExitStatus.OK)


def _title(summary: ReportSummary, command: str, status: ExitStatus) -> str:
    target = f" for target {_harmless(summary.target)}" if summary.target else ""
    return f"reconcile {command}{target}: {_OUTCOMES.get(status, 'failed')}"


def _line(row: SummaryRow) -> str:
    why = redact(row.why.partition("\n")[0])
    shown = f"{why[:_SHOWN_CHARACTERS]}…" if len(why) > _SHOWN_CHARACTERS else why
    text = ": ".join(filter(None, [row.name, " ".join(filter(None, [row.part, row.word])), shown]))
    return f"- {_harmless(text)}"


def _harmless(text: str) -> str:
    """Return text that no chat interprets: it can come from a service or a manifest.

    Secrets are removed first, because they are not found in the other characters.
    """
    return terminal_safe(redact(text)).translate(_MARKUP)
