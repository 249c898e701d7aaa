"""Doctor reports (problems of a target), Validation reports (errors in manifests), Error reports (failed commands)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, convert

from reconciler.domain.document import Count, ManifestName, NonEmpty, Position, Record, Report
from reconciler.domain.errors import ExitStatus, InvalidFile, InvalidInput, Problem, ReconcileError, Severity
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import TargetSummary, target_summary

Status = Literal["ok", "warning", "failed", "skipped"]
_CHECKS = [
    "target",
    "manifests",
    "credentials",
    "service",
    "list",
    "baseModels",
    "region",
    "locationPolicy",
    "bucket",
    "lockfile",
]


class DoctorFinding(Record, frozen=True):
    """The finding of one check."""

    check: Annotated[NonEmpty, Meta(examples=_CHECKS)]
    """The name of the check: `target`, `manifests` and `lockfile`, and between them the checks of the provider."""
    status: Status
    """The status; only `failed` stops a run."""
    message: str
    """What the check found; may have several lines."""
    remedy: str = ""
    """The remedy; may have several lines."""


class DoctorSummary(Record, frozen=True):
    """The number of checks with each status."""

    ok: Count
    """Checks that passed."""
    warning: Count
    """Checks that ended with a warning."""
    failed: Count
    """Checks that failed."""
    skipped: Count
    """Checks that were skipped because an earlier one failed."""


class DoctorReport(Report, frozen=True, kw_only=True, tag="Doctor"):
    """Diagnostics of a target: the output of `reconcile doctor --format json`."""

    simulated: bool | None = None
    """Whether the service simulates training; no real model is created."""
    target: TargetSummary | None = None
    """The target of this document; omitted if its file cannot be read."""
    exit_status: ExitStatus
    """The exit status of the command: 0 if nothing failed, 3 if credentials or permissions failed, 1 otherwise.
    The first failure decides."""
    summary: DoctorSummary
    """The number of checks with each status."""
    findings: tuple[DoctorFinding, ...]
    """The findings, in the order of the checks."""


class DoctorTarget(Struct, frozen=True):
    """The examined target; ``root`` is its root's path as the user would write it."""

    target: Target
    capabilities: Capabilities
    root: str = ""


def doctor_report(
    examined: DoctorTarget | None, findings: Sequence[DoctorFinding], exit_status: ExitStatus
) -> DoctorReport:
    """Return the report of a target; without ``examined`` the target could not be read."""
    counted = Counter(finding.status for finding in findings)
    return DoctorReport(
        simulated=examined.capabilities.simulated if examined else None,
        target=target_summary(examined.target, examined.capabilities, examined.root) if examined else None,
        exit_status=exit_status,
        summary=DoctorSummary(*(counted[status] for status in get_args(Status))),
        findings=tuple(findings),
    )


class ValidationSummary(Record, frozen=True):
    """The number of problems."""

    errors: Count
    """The number of errors, which stop a run."""
    warnings: Count
    """The number of warnings, which stop nothing."""


class ValidationProblem(Record, frozen=True, kw_only=True):
    """One error, warning or note."""

    file: str
    """The file, as given on the command line."""
    line: Position
    """The line, counted from 1."""
    column: Position
    """The column, counted from 1."""
    path: Annotated[str, Meta(examples=["spec.dataset.path"])] = ""
    """The dotted path of the field; omitted if the problem is about the whole file."""
    message: str
    """The problem."""
    remedy: str = ""
    """The remedy."""
    severity: Severity
    """Whether it is an error, which stops a run, a warning, or a note, such as about files that are skipped."""


class OverriddenField(Record, frozen=True):
    """A field of a manifest that the target sets or removes."""

    path: NonEmpty
    """The dotted path of the field in the manifest."""
    place: NonEmpty
    """Where the target file has it, as `FILE:LINE:COLUMN`."""


class EffectiveManifest(Record, frozen=True, kw_only=True):
    """A manifest with the overrides and variables of the target."""

    name: ManifestName
    file: NonEmpty
    """The file of the manifest."""
    overridden: tuple[OverriddenField, ...] = ()
    """The fields that the target sets or removes; a removed field is not in `manifest`."""
    manifest: Annotated[Mapping[str, Any], Meta(examples=[{"kind": "TunedModel"}])]
    """The manifest."""


class ValidationReport(Report, frozen=True, kw_only=True, tag="Validation"):
    """Errors and warnings in manifests by file and line: the output of `reconcile validate --format json`."""

    valid: bool
    """Whether there are no errors; warnings are allowed."""
    files: Count
    """The number of files that were read."""
    manifests: Count
    """The number of TunedModel documents."""
    summary: ValidationSummary
    """The number of problems."""
    problems: tuple[ValidationProblem, ...]
    """Every problem, in the order of files and lines."""
    unread: tuple[NonEmpty, ...] = ()
    """Files below the root that contain manifests, or commented ones, and that are not read as such; with -v only."""
    effective: tuple[EffectiveManifest, ...] = ()
    """The manifests that `--show` names, as the target has them."""


def validation_report(
    problems: Iterable[Problem],
    files: int,
    manifests: int,
    unread: tuple[str, ...] = (),
    effective: tuple[EffectiveManifest, ...] = (),
) -> ValidationReport:
    """Return the report of all problems, ordered by file and line."""
    ordered = sorted(problems)
    counted = Counter(problem.severity for problem in ordered)
    return ValidationReport(
        valid=not counted["error"],
        files=files,
        manifests=manifests,
        summary=ValidationSummary(counted["error"], counted["warning"]),
        problems=tuple(map(_problem, ordered)),
        unread=unread,
        effective=effective,
    )


def _problem(problem: Problem) -> ValidationProblem:
    place = problem.place
    return ValidationProblem(
        file=place.file,
        line=place.line,
        column=place.column,
        path=problem.path,
        message=problem.message,
        remedy=problem.remedy,
        severity=problem.severity,
    )


class ErrorProblem(Record, frozen=True, kw_only=True):
    """One error, or a warning that was found before it."""

    file: str = ""
    """The file, as given on the command line; omitted if the problem is not in a file."""
    line: Position | None = None
    """The line, counted from 1."""
    column: Position | None = None
    """The column, counted from 1."""
    path: Annotated[str, Meta(examples=["spec.dataset.path"])] = ""
    """The dotted path of the field; omitted if the problem is not about one field."""
    message: str
    """The problem."""
    remedy: str = ""
    """The remedy."""
    severity: Severity
    """Whether it is an error, which stops a run, a warning, or a note, such as about files that are skipped."""


class ErrorReport(Report, frozen=True, kw_only=True, tag="Error"):
    """Why a command has no other document: what `--format json` prints and `--report` writes when it fails before."""

    command: NonEmpty
    """The name of the command, such as `plan`."""
    target_name: str = ""
    """The name of the target, for commands that have one; its file may be the problem."""
    exit_status: ExitStatus
    """The exit status of the command."""
    problems: tuple[ErrorProblem, ...]
    """Every problem; at least one is an error."""


def error_report(error: ReconcileError, command: str, target_name: str = "") -> ErrorReport:
    """Return the report of the error that ended a command."""
    match error:
        case InvalidInput():
            found = tuple(map(_error_problem, error.problems))
        case InvalidFile():
            found = (_error_problem(Problem(error.place, error.path, error.problem, error.remedy)),)
        case _:
            found = (ErrorProblem(message=error.message, remedy=error.remedy, severity="error"),)
    return ErrorReport(command=command, target_name=target_name, exit_status=error.exit_status, problems=found)


def _error_problem(problem: Problem) -> ErrorProblem:
    return convert(_problem(problem), ErrorProblem, from_attributes=True)
