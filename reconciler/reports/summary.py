"""Summarize a document as rows about models: Markdown, JUnit and annotations are drawn from this summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, CheckResults
from reconciler.domain.document import Document
from reconciler.domain.drift import Finding
from reconciler.domain.errors import ExitStatus, UsageError
from reconciler.domain.model import State
from reconciler.domain.plan import REQUESTED_HOLDS, Kind, Reason
from reconciler.reports.documents.check import CheckedModel, CheckReport
from reconciler.reports.documents.doctor import ErrorProblem, ErrorReport, ValidationProblem, ValidationReport
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.documents.envelope import (
    display_path,
    is_simulated,
    kind_of,
    notices_of,
    run_details,
    run_of,
    target_of,
)
from reconciler.reports.documents.history import HistoryReport
from reconciler.reports.documents.inspection import DataDiffReport, InspectionReport
from reconciler.reports.documents.models import MigrationReport
from reconciler.reports.documents.plan import DataChange, LockfileChange, PlannedAction, PlanReport
from reconciler.reports.documents.result import ModelOutcome, Outcome, ResultReport
from reconciler.reports.documents.status import AccessSummary, ModelStatus, StatusReport
from reconciler.reports.documents.targets import CombinedReport, ListedTarget, TargetsReport
from reconciler.reports.text.check import (
    NO_SERVING_GENERATION,
    REGRESSED,
    different_summary,
    different_texts,
    miss_texts,
    passed_text,
    score_text,
)
from reconciler.reports.text.doctor import problem_text, validation_summary
from reconciler.reports.text.drift import CAUSES, difference, drift_summary, finding_weight, similar_findings
from reconciler.reports.text.format import (
    Detail,
    billing_text,
    counted,
    dropped_text,
    evaluations_text,
    minute,
    steps_and_loss,
    unchanged_models,
)
from reconciler.reports.text.history import (
    decision_text,
    decision_time,
    generation_details,
    generation_state,
    history_summary,
)
from reconciler.reports.text.inspection import data_diff_summary, inspection_facts, inspection_summary, place_text
from reconciler.reports.text.models import migration_details, migration_summary, migration_why
from reconciler.reports.text.plan import (
    action_details,
    data_change_text,
    destination_details,
    lock_change_text,
    plan_summary,
    planned_changes,
    sample_text,
)
from reconciler.reports.text.result import OUTCOMES, next_steps, outcome_details, result_summary
from reconciler.reports.text.status import (
    access_summary,
    missing_access,
    origin_of,
    passed_ratio,
    recorded_state,
    status_details,
)
from reconciler.reports.text.targets import (
    STATES,
    combined_summary,
    counts_text,
    target_details,
    targets_summary,
)

_T = TypeVar("_T")
Level = Literal["failed", "warning", "change", "note", "good", "quiet"]
"""How important a row is; where there is no room for all rows, the first levels are kept.

``failed`` requires a user's attention, ``warning`` may, ``change`` is planned or done, ``note`` is in progress or left
unchanged, ``good`` is as desired, and rows of ``quiet`` are only counted.
"""
LEVELS: Final[tuple[Level, ...]] = ("failed", "warning", "change", "note", "good", "quiet")


class SummaryRow(Struct, frozen=True):
    """One line about a model, or about one part of it.

    ``word`` is the state or action in one or two words, ``why`` the explanation, which may contain untrusted text.
    ``part`` names the part of the model, such as a check. ``file`` is the manifest's path as the user would write it;
    without ``line`` the row is about the whole file.
    """

    name: str
    word: str
    level: Level
    why: str = ""
    part: str = ""
    details: tuple[Detail, ...] = ()
    file: str = ""
    line: int | None = None
    column: int | None = None


class ReportSummary(Struct, frozen=True):
    """A document in short.

    ``summary`` has the totals, ``about`` describes the target, ``run`` who made it and when, ``facts`` where data goes.
    ``subject`` is what a row is about.
    """

    kind: str
    target: str
    about: tuple[Detail, ...]
    summary: str
    failed: bool
    rows: tuple[SummaryRow, ...]
    facts: tuple[Detail, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    run: tuple[Detail, ...] = ()
    subject: Literal["model", "target"] = "model"


def summarize(document: Document) -> ReportSummary:
    """Return the summary of a document.

    Raises:
        UsageError: for a kind of document without a summary.
    """
    return convert(document, _SUMMARIES)


def convert(document: Document, functions: Mapping[str, Callable[[Any], _T]], form: str = "") -> _T:
    """Return the result of the function for the kind of a document; ``form`` is what it returns, for messages.

    Raises:
        UsageError: for a kind of document without a function.
    """
    kind = kind_of(document)
    if kind not in functions:
        raise UsageError(
            f"unsupported kind of document {kind}{form}: expected {', '.join(sorted(functions))}",
            "write the report as JSON (.json)",
        )
    return functions[kind](document)


def _summary(
    document: Document,
    summary: str,
    rows: Iterable[SummaryRow],
    *,
    failed: bool,
    facts: Iterable[Detail] = (),
    warnings: Iterable[str] = (),
    remarks: Iterable[str] = (),
) -> ReportSummary:
    target, run = target_of(document), run_of(document)
    about: list[Detail] = []
    if target:
        about = [("service", f"{target.label}{' (simulated training)' if is_simulated(document) else ''}")]
        where = {"project": target.project, "location": target.location, "scope": target.scope}
        about += [(label, text) for label, text in where.items() if text]
    return ReportSummary(
        kind=kind_of(document),
        target=target.name if target else "",
        about=tuple(about),
        summary=summary,
        failed=failed,
        rows=tuple(rows),
        facts=tuple(facts),
        warnings=(*notices_of(document), *warnings),
        remarks=tuple(remarks),
        run=tuple(run_details(run)) if run else (),
    )


def _shown_file(file: str, root: str) -> str:
    return display_path(file, root) if file and file != "-" else ""


def _plan(report: PlanReport) -> ReportSummary:
    explained: dict[str, str] = {}
    rows = _lock_changes(report)
    data = {change.name: change for change in report.data_changes or () if change.use == "training"}
    rows += [_action(action, report.target.root, explained, data.get(action.name)) for action in report.actions]
    by_name = {row.name: row for row in rows[-len(report.actions) :] if report.actions}
    rows += [_data_change(change, by_name.get(change.name)) for change in report.data_changes or ()]
    return _summary(
        report,
        plan_summary(report),
        rows,
        failed=report.summary.failing > 0 or bool(report.unexplained),
        facts=destination_details(report.target),
        remarks=unchanged_models(report.unmanaged, report.candidates),
    )


def _lock_changes(report: PlanReport | ResultReport) -> list[SummaryRow]:
    return [
        SummaryRow(
            change.name,
            word,
            level,
            lock_change_text(change),
            file=change.file,
            line=change.line,
            column=change.column,
        )
        for changes, word, level in lock_changes(report)
        for change in changes
    ]


def lock_changes(report: PlanReport | ResultReport) -> tuple[tuple[tuple[LockfileChange, ...], str, Level], ...]:
    """Return the changes of the lockfile by kind, with the word and the level of their rows."""
    unexplained = report.unexplained or () if isinstance(report, PlanReport) else ()  # they end a run
    return (
        (unexplained, "unexplained fact", "failed"),
        (report.decisions or (), "changed decision", "warning"),
    )


def _action(action: PlannedAction, root: str, explained: dict[str, str], data: DataChange | None) -> SummaryRow:
    in_sync = action.reason is Reason.IN_SYNC
    details = list(action_details(action, explained))
    reasons = "; ".join(text for label, text in details if label == "why")
    generation = (("generation", action.key),) if action.key and action.action is not Kind.HOLD else ()
    return SummaryRow(
        action.name,
        {Kind.NOOP: "in sync" if in_sync else "kept", Kind.HOLD: "held"}.get(action.action, action.action.value),
        _action_level(action),
        ""
        if in_sync
        else "; ".join([*planned_changes(action, data), ": ".join(filter(None, [action.reason, reasons]))]),
        details=(*generation, *(detail for detail in details if detail[0] != "why")),
        file=_shown_file(action.file, root),
        line=action.line,
        column=action.column,
    )


def _action_level(action: PlannedAction) -> Level:
    match action.action:
        case Kind.HOLD:
            return "warning" if action.reason in REQUESTED_HOLDS else "failed"
        case Kind.NOOP:
            return "quiet" if action.reason is Reason.IN_SYNC else "note"
        case kind:
            return "note" if kind is Kind.WAIT else "change"


def _data_change(change: DataChange, action: SummaryRow | None) -> SummaryRow:
    """Return an row about a data set, with the place of the manifest from the row about its action."""
    row = SummaryRow(
        change.name,
        "data",
        "warning" if change.duplicates or change.contradictions or change.leaked else "change",
        data_change_text(change),
        details=tuple(("example", " ".join(sample_text(sample))) for sample in change.samples),
    )
    return replace(row, file=action.file, line=action.line, column=action.column) if action else row


_FINDING_LEVELS: Final[Mapping[str, Level]] = {"drift": "failed", "note": "note"}


def _drift(report: DriftReport) -> ReportSummary:
    return _summary(
        report,
        drift_summary(report),
        [_finding(similar) for similar in similar_findings(report.findings)],
        failed=report.drifted,
        remarks=unchanged_models(report.unmanaged or 0),
    )


def _finding(similar: list[Finding]) -> SummaryRow:
    finding = similar[0]
    differences = ((finding.field, difference(finding)) for finding in similar if finding.field)
    facts = {"generation": finding.key, "remote": finding.remote, "since": minute(finding.since)}
    cause = f"{CAUSES[finding.cause]}; " if finding.cause else ""
    return SummaryRow(
        finding.name or finding.remote,
        finding.kind,
        _FINDING_LEVELS.get(finding_weight(finding), "quiet"),
        f"{cause}{finding.message}{f'; {finding.remedy}' if finding.remedy else ''}",
        details=(*differences, *_filled(facts)),
        file=_shown_file(finding.file, ""),
        line=finding.line,
        column=finding.column,
    )


def _filled(facts: Mapping[str, str]) -> tuple[Detail, ...]:
    """Return label and text of each fact that is known."""
    return tuple((label, text) for label, text in facts.items() if text)


_OUTCOME_LEVELS: Final[Mapping[Outcome, Level]] = {
    Outcome.READY: "change",
    Outcome.CHECKED: "change",
    Outcome.UPDATED: "change",
    Outcome.DELETED: "change",
    Outcome.TRAINING: "note",
    Outcome.FAILED: "failed",
    Outcome.HELD: "failed",
    Outcome.REFUSED: "failed",
    Outcome.PENDING: "warning",
    Outcome.IN_SYNC: "quiet",
    Outcome.ORPHANED: "note",
}


def _result(report: ResultReport) -> ReportSummary:
    explained: dict[str, str] = {}
    return _summary(
        report,
        result_summary(report),
        [*_lock_changes(report), *(row for model in report.models for row in _outcomes(model, report, explained))],
        failed=report.exit_status not in {ExitStatus.OK, ExitStatus.STILL_TRAINING},
        warnings=[*_dropped(report), *([f"Not published: {report.unpublished}"] if report.unpublished else [])],
        remarks=next_steps(report),
    )


def _dropped(report: ResultReport) -> Iterator[str]:
    for model in report.models:
        if model.dropped_examples:
            yield f"{model.name}: {dropped_text(model.dropped_examples)}"


def _outcomes(model: ModelOutcome, report: ResultReport, explained: dict[str, str]) -> Iterator[SummaryRow]:
    outcome = _outcome(model, report.target.root, explained)
    yield outcome
    for held in model.held_stages:
        why = ": ".join(filter(None, [held.reason, held.message]))
        level: Level = "failed" if held.fails else "warning"
        yield replace(outcome, part=held.stage, word="held", level=level, why=why, details=())


def _outcome(model: ModelOutcome, root: str, explained: dict[str, str]) -> SummaryRow:
    harmless = model.state is Outcome.HELD and model.reason in REQUESTED_HOLDS
    facts = {
        "generation": model.key,
        "remote": model.remote,
        "training": steps_and_loss(model.steps, model.final_loss),
        "cost": billing_text(model.billing),
    }
    why = ": ".join(filter(None, [model.reason or "", outcome_details(model, explained)]))
    return SummaryRow(
        model.name,
        OUTCOMES[model.state][0],
        "warning" if harmless else _OUTCOME_LEVELS[model.state],
        "" if model.state is Outcome.IN_SYNC else why,
        details=(*((label, text) for label, text in facts.items() if text), *_checks(model.checks)),
        file=_shown_file(model.file, root),
        line=model.line,
        column=model.column,
    )


def _checks(checks: CheckResults | None) -> Iterator[Detail]:
    if checks is None:
        return
    yield "checks", passed_text(checks)
    for result in checks.results:
        if result.interval or not result.passed:
            yield result.name, score_text(result)
        if not result.passed:
            yield from ((result.name, miss) for miss in miss_texts(result))
        yield from _different(result)


def _different(result: CheckResult) -> Iterator[Detail]:
    if result.different:
        yield "different", different_summary(result)
        yield from (("different", row) for row in different_texts(result))


_STATUS_LEVELS: Final[Mapping[str, Level]] = {
    "error": "failed",
    "hold": "warning",
    "warning": "warning",
    "wait": "note",
    "good": "good",
    "muted": "good",
}


def _status(report: StatusReport) -> ReportSummary:
    rows = [_model(model, report.target.root) for model in report.models]
    serving = sum(model.serving is not None for model in report.models)
    return _summary(
        report,
        f"{counted(len(rows), 'model is', 'models are')} recorded, {serving} serving.",
        rows,
        failed=any(row.level == "failed" for row in rows),
        remarks=[*origin_of(report), *(_access(report.access) if report.access else ())],
    )


def _access(access: AccessSummary) -> Iterator[str]:
    yield f"{access_summary(access)}."
    for preposition, permissions in (("as", access.models), ("possibly as", access.perhaps)):
        for permission in permissions:
            role = f"{preposition} {permission.role}, through {permission.through}"
            yield f"{access.address} has access to {permission.key} {role}"
    yield from map(missing_access, access.gone)


def _model(model: ModelStatus, root: str) -> SummaryRow:
    shown, unfinished = model.shown, list(status_details(model))
    levels = [_STATUS_LEVELS[role] for role, _, _ in unfinished]
    facts = (
        {}
        if shown is None
        else {
            "generation": shown.key,
            "remote": shown.remote,
            "state": shown.state,
            "training": steps_and_loss(shown.total_steps, shown.final_loss),
            "cost": billing_text(shown.billing),
            "checks": f"{passed_ratio(shown.checks)} passed" if shown.checks else "",
            "evaluation": evaluations_text(shown.evaluations),
            "since": minute(model.since),
            "experiment": shown.experiment_url,
        }
    )
    return SummaryRow(
        model.name,
        "serving" if model.serving else "not serving",
        min(levels, key=LEVELS.index, default="good" if model.serving else "note"),
        "\n".join(f"{word}: {text}" for _, word, text in unfinished) or (shown.key if shown else ""),
        details=_filled(facts),
        file=_shown_file(model.manifest, root),
    )


def check_summary(report: CheckReport) -> str:
    """Return how many checks of a Check report passed, in one line."""
    ran = [model.checks for model in report.models if model.checks]
    count = sum(len(checks.results) for checks in ran)
    passed = sum(checks.passed for checks in ran)
    return f"{passed} of {counted(count, 'check')} passed." if count else "No check was run."


def _check(report: CheckReport) -> ReportSummary:
    rows = [row for model in report.models for row in _check_rows(model)]
    rows += [SummaryRow(name, "not checked", "warning", NO_SERVING_GENERATION) for name in report.unserved]
    return _summary(report, check_summary(report), rows, failed=report.exit_status != ExitStatus.OK)


def _check_rows(model: CheckedModel) -> Iterator[SummaryRow]:
    about = (("generation", model.key), ("remote", model.remote))
    if model.checks is None:
        yield SummaryRow(model.name, "not checked", "failed", model.message, details=about)
        return
    for result in model.checks.results:
        passed, score = result.passed, score_text(result)
        yield SummaryRow(
            model.name,
            "passed" if passed else "failed" if result.holds else "warning",
            "good" if passed else "failed" if result.holds else "warning",
            f"{REGRESSED}; {score}" if model.regressed and not passed else score,
            part=result.name,
            details=(
                *(() if passed else (*about, *(("wrong", miss) for miss in miss_texts(result)))),
                *_different(result),
            ),
        )


_STANDINGS: Final[Mapping[str, Level]] = {"serving": "good", "rejected": "warning", "held": "failed"}


def _history(report: HistoryReport) -> ReportSummary:
    file = _shown_file(report.manifest, report.target.root)
    rows = [
        SummaryRow(
            generation.key,
            generation.role or "superseded",
            "failed"
            if generation.state in {State.FAILED, State.CANCELLED}
            else _STANDINGS.get(generation.role, "note"),
            generation_state(generation),
            details=tuple(generation_details(generation)),
            file=file,
        )
        for generation in report.generations
    ]
    summary = f"{report.name}: {counted(len(rows), 'generation')}, newest first."
    rows += [
        SummaryRow(
            decision.model or "lockfile",
            decision.action,
            "note",
            f"{decision_time(decision)} {decision_text(decision)}",
            file=file,
        )
        for decision in report.decisions
    ]
    return _summary(
        report,
        summary if report.name else history_summary(report),
        rows,
        failed=False,
        remarks=[recorded_state(report.lockfile)],
    )


def _validation(report: ValidationReport) -> ReportSummary:
    rows = [_problem(problem) for problem in report.problems]
    return _summary(report, f"{validation_summary(report)}.", rows, failed=not report.valid)


_PROBLEM_LEVELS: Final[Mapping[str, Level]] = {"error": "failed", "warning": "warning", "note": "note"}


def _problem(problem: ValidationProblem | ErrorProblem, otherwise: str = "") -> SummaryRow:
    """Return the row of a problem; ``otherwise`` is its name if it is in no file."""
    return SummaryRow(
        f"{problem.file}:{problem.line}:{problem.column}" if problem.file else otherwise,
        problem.severity,
        _PROBLEM_LEVELS[problem.severity],
        problem_text(problem),
        part=problem.path,
        file=_shown_file(problem.file, ""),
        line=problem.line,
        column=problem.column,
    )


_RESULTS: Final[Mapping[str, str]] = {
    "apply": "Result",
    "migrate": "Migration",
    "prune": "Result",
    "validate": "Validation",
    "wait": "Result",
}
"""The kinds of the documents of commands, where it is not the name of the command."""


def failed_kind(report: ErrorReport) -> str:
    """Return the kind of the document that a failed command would have made; ``Error`` for one without a summary."""
    kind = _RESULTS.get(report.command, report.command.capitalize())
    return kind if kind in _SUMMARIES else kind_of(report)


def error_summary(report: ErrorReport) -> str:
    """Return how a command failed, in one line."""
    errors = sum(problem.severity == "error" for problem in report.problems)
    return f"reconcile {report.command} ended with {counted(errors, 'error')} and exit status {report.exit_status:d}."


def _error(report: ErrorReport) -> ReportSummary:
    rows = [_problem(problem, f"reconcile {report.command}") for problem in report.problems]
    summary = _summary(report, error_summary(report), rows, failed=True)
    return replace(summary, kind=failed_kind(report), target=report.target_name)


def _inspection(report: InspectionReport) -> ReportSummary:
    rows = [
        SummaryRow(
            f"{report.file}:{finding.first[0].line}:{finding.first[0].column}",
            finding.severity,
            "failed" if finding.severity == "error" else "warning",
            f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message,
            part=finding.kind,
            details=tuple(("place", place_text(report.file, spot)) for spot in finding.first),
            file=_shown_file(report.file, ""),
            line=finding.first[0].line,
            column=finding.first[0].column,
        )
        for finding in report.findings
    ]
    facts = [("data set", report.file), *inspection_facts(report)]
    return _summary(report, inspection_summary(report), rows, failed=bool(report.exit_status), facts=facts)


def _data_diff(report: DataDiffReport) -> ReportSummary:
    return _summary(report, data_diff_summary(report), (), failed=False)


_MIGRATIONS: Final[Mapping[str, Level]] = {"changed": "change", "unchanged": "note", "refused": "failed"}


def _migration(report: MigrationReport) -> ReportSummary:
    rows = [
        SummaryRow(
            model.name,
            model.outcome,
            _MIGRATIONS[model.outcome],
            migration_why(model),
            details=tuple(migration_details(model)),
            file=_shown_file(model.manifest, report.target.root),
            line=model.line,
        )
        for model in report.models
    ]
    return _summary(report, migration_summary(report), rows, failed=bool(report.exit_status))


_TARGET_LEVELS: Final[Mapping[str, Level]] = {
    "invalid": "failed",
    "failed": "failed",
    "held": "warning",
    "pending": "change",
    "training": "note",
    "unknown": "note",
    "inSync": "quiet",
}


def _targets(report: TargetsReport) -> ReportSummary:
    rows = [_target(target) for target in report.targets]
    return replace(_summary(report, targets_summary(report), rows, failed=bool(report.exit_status)), subject="target")


def _target(target: ListedTarget) -> SummaryRow:
    facts = {
        "provider": target.provider,
        "project": target.project,
        "location": target.location,
        "stages": ", ".join(target.stages),
        "lockfile": target.lockfile,
        "last change": minute(target.last_change),
    }
    return SummaryRow(
        target.name,
        STATES[target.state][0],
        _TARGET_LEVELS[target.state],
        counts_text(target.counts) if target.counts else "\n".join(target_details(target)),
        details=(*_filled(facts), *(("", text) for text in target_details(target) if target.counts)),
        file=target.file,
    )


def summaries_of(document: Document) -> tuple[ReportSummary, ...]:
    """Return the summary of a document, or those of the reports that it combines, each with its target.

    Raises:
        UsageError: for a kind of document without a summary.
    """
    if not isinstance(document, CombinedReport):
        return (summarize(document),)
    return tuple(replace(summarize(result.report), target=result.target) for result in document.reports)


def _combined(report: CombinedReport) -> ReportSummary:
    """Return one summary of all targets; the name of a model is below that of its target."""
    parts = summaries_of(report)
    summary = _summary(
        report,
        combined_summary(report),
        [replace(row, name=f"{part.target}/{row.name}") for part in parts for row in part.rows],
        failed=any(part.failed for part in parts),
        warnings=[f"{part.target}: {warning}" for part in parts for warning in part.warnings],
        remarks=[
            remark
            for part, result in zip(parts, report.reports, strict=True)
            for remark in (
                f"{part.target}{' (simulated training)' if is_simulated(result.report) else ''}: {part.summary}",
                *(f"{part.target}: {text}" for text in part.remarks),
            )
        ],
    )
    kind = _RESULTS.get(report.command, report.command.capitalize())
    return replace(summary, kind=kind, target=", ".join(dict.fromkeys(part.target for part in parts)))


_SUMMARIES: Final[Mapping[str, Callable[[Any], ReportSummary]]] = {
    "Check": _check,
    "Combined": _combined,
    "DataDiff": _data_diff,
    "Drift": _drift,
    "Error": _error,
    "History": _history,
    "Inspection": _inspection,
    "Migration": _migration,
    "Plan": _plan,
    "Result": _result,
    "Status": _status,
    "Targets": _targets,
    "Validation": _validation,
}
