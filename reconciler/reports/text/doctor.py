"""Draw Doctor, Validation and Error reports: problems of a target, errors in manifests, and why a command failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.doctor import (
    DoctorFinding,
    DoctorReport,
    EffectiveManifest,
    ErrorProblem,
    ErrorReport,
    Status,
    ValidationProblem,
    ValidationReport,
)
from reconciler.reports.text.format import Layout, Role, counted, report_heading

_SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "ok": ("+", "good"),
    "warning": ("!", "warning"),
    "failed": ("x", "error"),
    "skipped": ("-", "muted"),
}
_SEVERITIES: Final[Mapping[str, Role]] = {"warning": "warning", "note": "muted"}
_LABELS: Final[Mapping[str, str]] = {"baseModels": "base models"}
_STATUS_WIDTH: Final = max(map(len, _SIGNS))
_LABEL_WIDTH: Final = len("base models")


def doctor_text(report: DoctorReport, layout: Layout) -> str:
    """Return a Doctor report: a line for each check, remedies below, and the totals."""
    lines = [report_heading(report.target, layout, simulated=bool(report.simulated))] if report.target else []
    for finding in report.findings:
        lines += _finding_lines(finding, layout)
    summary = report.summary
    counts = ", ".join(f"{number} {status}" for status in get_args(Status) if (number := getattr(summary, status)))
    failed = summary.failed
    totals = f"{'Not ready' if failed else 'Ready'}: {counts}."
    return "\n".join([*lines, layout.style("error" if failed else "good", totals)])


def _finding_lines(finding: DoctorFinding, layout: Layout) -> Iterator[str]:
    sign, role = _SIGNS[finding.status]
    mark = f"{sign} {finding.status:<{_STATUS_WIDTH}}"
    label = f"  {terminal_safe(_LABELS.get(finding.check, finding.check)):<{_LABEL_WIDTH}}  "
    yield from layout.lines(mark + label, finding.message, colored=layout.style(role, mark) + label)
    if finding.remedy:
        yield from layout.lines(f"{' ' * len(mark + label)}remedy: ", finding.remedy)


_YAML_WIDTH: Final = 10_000
"""Longer texts are folded."""


def validation_text(report: ValidationReport, layout: Layout) -> str:
    """Return a Validation report: a line for each error or warning as compilers write it, and the totals."""
    lines = [_problem_line(problem, layout) for problem in report.problems]
    lines += [f"{layout.style('muted', 'not read: ')}{terminal_safe(file)}" for file in report.unread]
    lines.append(layout.style("good" if report.valid else "error", validation_summary(report)))
    if report.effective:  # the output is YAML
        lines = [f"# {line}" for line in lines]
    for manifest in report.effective:
        lines += _effective_lines(manifest, layout)
    return "\n".join(lines)


def _effective_lines(manifest: EffectiveManifest, layout: Layout) -> Iterator[str]:
    """Yield an effective manifest as a YAML document; its comments name the places of overridden fields."""
    import yaml

    comments = [manifest.file, *(f"{field.path}: {field.place}" for field in manifest.overridden)]
    text = yaml.safe_dump(manifest.manifest, sort_keys=False, allow_unicode=True, width=_YAML_WIDTH)
    yield "---"
    yield from (layout.style("muted", terminal_safe(f"# {comment}")) for comment in comments)
    yield from map(terminal_safe, text.splitlines())


def error_text(report: ErrorReport, layout: Layout) -> str:
    """Return an Error report: a line for each problem as compilers write it, or after `Error:` without a place."""
    return "\n".join(
        _problem_line(problem, layout)
        if problem.file
        else f"{layout.style('error', 'Error:')} {terminal_safe(problem_text(problem))}"
        for problem in report.problems
    )


def _problem_line(problem: ValidationProblem | ErrorProblem, layout: Layout) -> str:
    place = terminal_safe(f"{problem.file}:{problem.line}:{problem.column}: ")
    role = _SEVERITIES.get(problem.severity)
    severity = layout.style(role, f"{problem.severity}: ") if role else ""
    path = f"{problem.path}: " if problem.path else ""
    return layout.style("muted", place) + severity + terminal_safe(f"{path}{problem_text(problem)}")


def problem_text(problem: ValidationProblem | ErrorProblem) -> str:
    """Return the message of a problem or finding, with its remedy."""
    return f"{problem.message}; {problem.remedy}" if problem.remedy else problem.message


def validation_summary(report: ValidationReport) -> str:
    """Return how many manifests are valid, or how many errors there are, in one line."""
    errors, warnings = report.summary.errors, report.summary.warnings
    with_warnings = f", {counted(warnings, 'warning')}" if warnings else ""
    if report.valid:
        return f"{counted(report.manifests, 'manifest is', 'manifests are')} valid{with_warnings}"
    files = {problem.file for problem in report.problems if problem.severity == "error"}
    return f"{counted(errors, 'error')} in {counted(len(files), 'file')}{with_warnings}"
