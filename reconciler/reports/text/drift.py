"""Draw a Drift report: manifest files, their models, and how desired, live and recorded state differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from msgspec.structs import replace

from reconciler.domain.drift import Cause, DriftClass, Finding
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.drift import DriftReport, count_models
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    counted,
    minute,
    notices_text,
    report_heading,
    signed_head,
    unchanged_models,
    value,
)

SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "drift": ("!", "hold"),
    "note": ("i", "muted"),
    DriftClass.IN_SYNC: ("=", "muted"),
}
"""Sign and role of a finding, by its weight: its severity, or that the model is in sync."""


CAUSES: Final[Mapping[Cause, str]] = {"pending": "pending", "outOfBand": "out of band"}
"""The causes of findings in words."""


def drift_text(report: DriftReport, layout: Layout) -> str:
    """Return a Drift report as a tree; a verbose layout includes models that are in sync."""
    shown = [finding for finding in report.findings if layout.verbose or finding.kind is not DriftClass.IN_SYNC]
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    explained: dict[str, str] = {}
    for file, findings in groupby(shown, key=lambda finding: finding.file):
        lines.append(terminal_safe(_file_line(file, report)))
        for similar in similar_findings(findings):
            lines += _finding_lines(similar, explained, layout)
    if report.notices:
        lines.append(notices_text(report.notices, layout))
    return "\n".join([*lines, *_closing(report, layout)])


def similar_findings(findings: Iterable[Finding]) -> Iterator[list[Finding]]:
    """Yield groups of findings that differ only in their field: each group is shown as one finding."""
    for _, similar in groupby(findings, key=lambda finding: replace(finding, field="", declared=None, live=None)):
        yield list(similar)


def finding_weight(finding: Finding) -> str:
    """Return the severity of a finding, or its class where the model is in sync."""
    return finding.kind if finding.kind is DriftClass.IN_SYNC else finding.severity


def _file_line(file: str, report: DriftReport) -> str:
    if file:
        return "standard input" if file == "-" else file
    return f"no manifest in {report.target.root or '.'}"


def _finding_lines(similar: Sequence[Finding], explained: dict[str, str], layout: Layout) -> Iterator[str]:
    finding = similar[0]
    sign, role = SIGNS[finding_weight(finding)]
    since = f" since {minute(finding.since)}" if finding.since else ""
    cause = f" ({CAUSES[finding.cause]})" if finding.cause else ""
    yield from layout.lines(signed_head(sign, finding.name or finding.remote), f"{finding.kind}{cause}{since}", role)
    yield from layout.details(_details(similar, explained))


def _details(similar: Sequence[Finding], explained: dict[str, str]) -> Iterator[Detail]:
    finding = similar[0]
    if finding.kind is DriftClass.IN_SYNC:
        return
    name, message = finding.name, finding.message
    first = explained.setdefault(message, name) if "\n" in message else ""
    yield "why", message if first in {"", name} else f"same as {first}"
    if finding.key:
        yield "generation", finding.key
    for number, differing in enumerate(finding for finding in similar if finding.field):
        yield "" if number else "differs", f"{differing.field}: {difference(differing)}"
    if finding.remedy:
        yield "remedy", finding.remedy


def difference(finding: Finding) -> str:
    """Return the live and the declared value of the field that a finding is about."""
    declared = "" if finding.kind is DriftClass.UNMANAGED else f", declared {value(finding.declared)}"
    return f"live {value(finding.live)}{declared}"


def _closing(report: DriftReport, layout: Layout) -> Iterator[str]:
    yield from layout.sentences("muted", *unchanged_models(report.unmanaged or 0))
    in_sync = report.summary.get(DriftClass.IN_SYNC, 0)
    if in_sync and report.drifted:
        yield f"{counted(in_sync, 'model is', 'models are')} in sync."
    yield from layout.sentences("hold" if report.drifted else "good", drift_summary(report))


def drift_summary(report: DriftReport) -> str:
    """Return the totals of a Drift report in one line, such as ``Drift: 1 Missing. Notes: 1 InProgress.``."""
    counts = {severity: _counts(report, severity) for severity in ("drift", "note")}
    notes = f" Notes: {counts['note']}." if counts["note"] else ""
    models = {"Pending": report.pending, "Out of band": report.out_of_band}
    causes = "".join(f" {cause}: {counted(number, 'model')}." for cause, number in models.items() if number)
    if counts["drift"]:
        return f"Drift: {counts['drift']}.{causes}{notes}"
    return f"No drift: {counted(report.summary.get(DriftClass.IN_SYNC, 0), 'model')} in sync.{notes}"


def _counts(report: DriftReport, severity: str) -> str:
    """Return how many models have findings of a severity and each class, without models that are in sync."""
    found = count_models(finding for finding in report.findings if finding.severity == severity)
    return ", ".join(f"{found[kind]} {kind}" for kind in DriftClass if found[kind] and kind is not DriftClass.IN_SYNC)
