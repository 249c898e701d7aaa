"""Checks one after another, and what a failure does to those that follow."""

from __future__ import annotations

import pytest

from reconciler.commands.doctor import Report
from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError
from reconciler.providers.spec import Diagnosis
from reconciler.reports.documents.doctor import DoctorFinding


def fine() -> Diagnosis:
    return Diagnosis("fine")


def doubtful() -> Diagnosis:
    return Diagnosis("so so", "look at it", "warning")


def wrong() -> Diagnosis:
    return Diagnosis("wrong", "mend it", "failed")


def forbidden() -> Diagnosis:
    raise AccessError("not for you", "log in")


def broken() -> Diagnosis:
    raise ReconcileError("broken")


def never() -> Diagnosis:
    raise AssertionError("it must not be looked at")


def test_passed_checks_and_warnings_stop_nothing() -> None:
    report = Report()
    report.check("credentials", fine)
    report.check("service", doubtful, after=("credentials",))
    report.check("list", fine, after=("credentials", "service"))
    assert report.exit_status is ExitStatus.OK
    assert report.findings == [
        DoctorFinding("credentials", "ok", "fine"),
        DoctorFinding("service", "warning", "so so", "look at it"),
        DoctorFinding("list", "ok", "fine"),
    ]


def test_checks_that_depend_on_a_failed_one_are_skipped() -> None:
    report = Report()
    report.check("credentials", forbidden)
    report.check("service", fine)
    report.check("list", never, after=("credentials", "service"))
    report.check("baseModels", never, after=("list",))
    report.check("lockfile", fine)
    because = "skipped, because credentials failed"
    assert report.findings == [
        DoctorFinding("credentials", "failed", "not for you", "log in"),
        DoctorFinding("service", "ok", "fine"),
        DoctorFinding("list", "skipped", because),
        DoctorFinding("baseModels", "skipped", because),
        DoctorFinding("lockfile", "ok", "fine"),
    ]


def test_the_first_failure_decides_the_exit_status() -> None:
    for first, second, status in ((wrong, forbidden, ExitStatus.ERROR), (forbidden, broken, ExitStatus.ACCESS)):
        report = Report()
        report.check("service", first)
        report.check("lockfile", second)
        assert report.exit_status is status
    assert report.findings[-1] == DoctorFinding("lockfile", "failed", "broken")


def test_unexpected_errors_are_not_hidden() -> None:
    with pytest.raises(AssertionError):
        Report().check("list", never)
