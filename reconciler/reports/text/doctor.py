"""Draw Doctor and Validation documents: problems of a target, and errors in manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from reconciler.reports.documents.doctor import Status
from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Layout, Role, counted
from reconciler.reports.text.plan import target_line

_SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "ok": ("+", "good"),
    "warning": ("!", "warning"),
    "failed": ("x", "error"),
    "skipped": ("-", "muted"),
}
_LABELS: Final[Mapping[str, str]] = {"baseModels": "base models"}
_STATUS_WIDTH: Final = max(map(len, _SIGNS))
_LABEL_WIDTH: Final = len("base models")


def doctor_text(document: Document, layout: Layout) -> str:
    """Return a Doctor document: a line for each check, remedies below, and the totals."""
    lines = [target_line(document, layout)] if "target" in document else []
    for finding in document["findings"]:
        lines += _finding_lines(finding, layout)
    summary = document["summary"]
    counts = ", ".join(f"{summary[status]} {status}" for status in get_args(Status) if summary[status])
    failed = summary["failed"]
    totals = f"{'Not ready' if failed else 'Ready'}: {counts}."
    return "\n".join([*lines, layout.style("error" if failed else "good", totals)])


def _finding_lines(finding: Document, layout: Layout) -> Iterator[str]:
    sign, role = _SIGNS[finding["status"]]
    mark = f"{sign} {finding['status']:<{_STATUS_WIDTH}}"
    label = f"  {terminal_safe(_LABELS.get(finding['check'], finding['check'])):<{_LABEL_WIDTH}}  "
    yield from layout.lines(mark + label, finding["message"], colored=layout.style(role, mark) + label)
    if "remedy" in finding:
        yield from layout.lines(f"{' ' * len(mark + label)}remedy: ", finding["remedy"])


def validation_text(document: Document, layout: Layout) -> str:
    """Return a Validation document: a line for each error or warning as compilers write it, and the totals."""
    lines = [_problem_line(problem, layout) for problem in document["problems"]]
    verdict = layout.style("good" if document["valid"] else "error", validation_summary(document))
    return "\n".join([*lines, verdict])


def _problem_line(problem: Document, layout: Layout) -> str:
    place = terminal_safe(f"{problem['file']}:{problem['line']}:{problem['column']}: ")
    warning = layout.style("warning", "warning: ") if problem["severity"] == "warning" else ""
    path = f"{problem['path']}: " if "path" in problem else ""
    return layout.style("muted", place) + warning + terminal_safe(f"{path}{problem_text(problem)}")


def problem_text(problem: Document) -> str:
    """Return the message of a problem or finding, with its remedy."""
    return f"{problem['message']}; {problem['remedy']}" if "remedy" in problem else str(problem["message"])


def validation_summary(document: Document) -> str:
    """Return how many manifests are valid, or how many errors there are, in one line."""
    errors, warnings = document["summary"]["errors"], document["summary"]["warnings"]
    with_warnings = f", {counted(warnings, 'warning')}" if warnings else ""
    if document["valid"]:
        return f"{counted(document['manifests'], 'manifest is', 'manifests are')} valid{with_warnings}"
    files = {problem["file"] for problem in document["problems"] if problem["severity"] == "error"}
    return f"{counted(errors, 'error')} in {counted(len(files), 'file')}{with_warnings}"
