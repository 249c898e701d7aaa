"""Whether answers pass checks: pure, reproducible, and linear in the length of an answer."""

from __future__ import annotations

from reconciler.core.checks import CheckReport, RecordedChecks


def recorded_checks(report: CheckReport) -> RecordedChecks:
    """What a lockfile keeps of a report."""
    return RecordedChecks(report.digest, report.passed, report.failed)
