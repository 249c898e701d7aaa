"""What an examination of a target found, check by check: as a document, and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.plan_and_result import DOCUMENT_VERSION, Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, plain, told
from reconciler.reports.text.plan import target_line

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: a sentence, and what to do about it; both may have several lines."""

    check: str
    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """The target that was examined; ``root`` is its root's path as the user would write it."""

    target: Target
    capabilities: Capabilities
    root: str = ""


def doctor_document(examined: Examined | None, findings: Sequence[Finding], exit_status: ExitStatus) -> Document:
    """All that was found; without ``examined`` the target could not be read (schema: doctor)."""
    counted = Counter(finding.status for finding in findings)
    head = {"version": DOCUMENT_VERSION, "kind": "Doctor"}
    if examined:
        head = envelope("Doctor", examined.target, examined.capabilities, examined.root)
    return {
        **head,
        "exitStatus": int(exit_status),
        "summary": {status: counted[status] for status in get_args(Status)},
        "findings": [_finding(finding) for finding in findings],
    }


def _finding(finding: Finding) -> Document:
    return filled(
        {
            "check": finding.check,
            "status": finding.status,
            "message": finding.message,
            "remedy": finding.remedy,
        }
    )


_SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "ok": ("+", "good"),
    "warning": ("!", "warning"),
    "failed": ("x", "error"),
    "skipped": ("-", "muted"),
}
_LABELS: Final[Mapping[str, str]] = {"baseModels": "base models"}
_STATUS_WIDTH: Final = max(map(len, _SIGNS))
_LABEL_WIDTH: Final = len("base models")


def doctor_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Doctor document: a line a check, what to do about it below, and how many there are of each status."""
    lines = [target_line(document, style, width)] if "target" in document else []
    for finding in document["findings"]:
        lines.extend(_lines(finding, width, style))
    return "\n".join([*lines, _totals(document["summary"], style)])


def _lines(finding: Document, width: int | None, style: Style) -> Iterator[str]:
    sign, role = _SIGNS[finding["status"]]
    label = _LABELS.get(finding["check"], finding["check"])
    mark = f"{sign} {finding['status']:<{_STATUS_WIDTH}}"
    head = f"{mark}  {terminal_safe(label):<{_LABEL_WIDTH}}  "
    for margin, line in told(head, finding["message"], width):
        yield (margin.replace(mark, style(role, mark), 1) + line).rstrip()
    if "remedy" in finding:
        for margin, line in told(f"{' ' * len(head)}to do: ", finding["remedy"], width):
            yield (margin + line).rstrip()


def _totals(summary: Document, style: Style) -> str:
    counts = ", ".join(_counts(summary))
    if summary["failed"]:
        return style("error", f"Not ready: {counts}.")
    return style("good", f"Ready: {counts}.")


def _counts(summary: Document) -> Iterable[str]:
    return (f"{summary[status]} {status}" for status in get_args(Status) if summary[status])
