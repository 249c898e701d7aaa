"""Build Doctor documents (problems of a target) and Validation documents (errors in manifests)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from msgspec import Struct

from reconciler.domain.errors import Problem
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import DOCUMENT_VERSION, Document, envelope, filled

Status = Literal["ok", "warning", "failed", "skipped"]


class DoctorFinding(Struct, frozen=True):
    """The result of one check: a message and a remedy, each of one or several lines."""

    check: str
    status: Status
    message: str
    remedy: str = ""


class DoctorTarget(Struct, frozen=True):
    """The examined target; ``root`` is its root's path as the user would write it."""

    target: Target
    capabilities: Capabilities
    root: str = ""


def doctor_document(
    examined: DoctorTarget | None, findings: Sequence[DoctorFinding], exit_status: ExitStatus
) -> Document:
    """Return a Doctor document (schema: doctor); without ``examined`` the target could not be read."""
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


def _finding(finding: DoctorFinding) -> Document:
    return filled(
        {
            "check": finding.check,
            "status": finding.status,
            "message": finding.message,
            "remedy": finding.remedy,
        }
    )


def validation_document(problems: Iterable[Problem], files: int, manifests: int) -> Document:
    """Return a Validation document: errors and warnings by file and line (schema: validation)."""
    ordered = sorted(problems)
    counted = Counter(problem.severity for problem in ordered)
    return {
        "version": DOCUMENT_VERSION,
        "kind": "Validation",
        "valid": not counted["error"],
        "files": files,
        "manifests": manifests,
        "summary": {"errors": counted["error"], "warnings": counted["warning"]},
        "problems": [_problem(problem) for problem in ordered],
    }


def _problem(problem: Problem) -> Document:
    return filled(
        {
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "path": problem.path,
            "message": problem.message,
            "remedy": problem.remedy,
            "severity": problem.severity,
        }
    )
