"""Draw a document as one self-contained HTML page that loads nothing.

The templates escape everything. A policy in the page allows only its own style sheet and script, so that even a mistake
in escaping cannot load or run anything.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from reconciler.domain.document import VERSION, Document
from reconciler.domain.drift import DriftClass, Finding, Retirement
from reconciler.domain.errors import ExitStatus
from reconciler.domain.inspection import Finding as InspectedFinding
from reconciler.domain.lock import Decision
from reconciler.domain.plan import Kind, Reason
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.check import CheckedModel, CheckReport
from reconciler.reports.documents.doctor import ErrorReport
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
from reconciler.reports.documents.inspection import InspectionReport
from reconciler.reports.documents.models import MigrationReport
from reconciler.reports.documents.plan import DataChange, LockfileChange, PlannedAction, PlanReport
from reconciler.reports.documents.result import SETTLED, ModelOutcome, Outcome, ResultReport
from reconciler.reports.documents.status import ModelStatus, StatusReport
from reconciler.reports.documents.targets import CombinedReport
from reconciler.reports.html import loss_chart
from reconciler.reports.html.models import CheckScore, model_sections, score_of
from reconciler.reports.summary import (
    LEVELS,
    Level,
    check_summary,
    convert,
    error_summary,
    failed_kind,
    lock_changes,
    summaries_of,
    summarize,
)
from reconciler.reports.text.check import NO_SERVING_GENERATION, REGRESSED, passed_text
from reconciler.reports.text.drift import CAUSES, SIGNS, drift_summary, finding_weight, similar_findings
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    billing_text,
    counted,
    dropped_text,
    evaluations_text,
    loss,
    minute,
    share,
    unchanged_models,
    value,
)
from reconciler.reports.text.history import decision_text, decision_time, history_summary
from reconciler.reports.text.inspection import inspection_facts, inspection_summary, place_text
from reconciler.reports.text.models import migration_details, migration_summary, migration_why
from reconciler.reports.text.plan import (
    SYMBOLS,
    action_details,
    action_phrase,
    data_change_counts,
    data_change_remarks,
    destination_details,
    lock_change_text,
    plan_totals,
    sample_text,
)
from reconciler.reports.text.result import OUTCOMES, TRAINED, next_steps, outcome_details, result_summary
from reconciler.reports.text.status import access_lines, origin_of, passed_ratio, recorded_state, status_details


class Cell(Struct, frozen=True):
    """A cell of a table.

    ``model`` is the name of the model that it links to, ``code`` whether the text is an identifier, ``sign`` a symbol
    before the text, ``order`` the value to sort by. ``notes`` and then ``details`` follow below the text.
    """

    text: str = ""
    role: Role | None = None
    sign: str = ""
    code: bool = False
    model: str = ""
    order: str = ""
    details: tuple[Detail, ...] = ()
    notes: tuple[str, ...] = ()
    score: CheckScore | None = None


class TableRow(Struct, frozen=True):
    """A row of a table; the page can be filtered by its ``states``."""

    states: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def model(self) -> str:
        """The name of the model that the row is about; empty for other rows."""
        return next((cell.model for cell in self.cells if cell.model), "")


class PageModel(Struct, frozen=True):
    """The first part of a page; the first of ``lines`` has the totals.

    ``subject`` is what the page is about if it is not a target. ``tallies`` have a state, its number of rows and its
    role. ``folded`` are the rows of models in sync. ``base`` is the Git reference that data sets were compared with,
    empty if they were not, and ``data`` has their changes.
    """

    title: str
    role: Role
    lines: tuple[str, ...]
    heading: str
    tallies: tuple[tuple[str, int, Role], ...] = ()
    rows: tuple[TableRow, ...] = ()
    facts: tuple[Detail, ...] = ()
    remarks: tuple[str, ...] = ()
    base: str = ""
    data: tuple[DataChange, ...] = ()
    timeline: tuple[RetirementEntry, ...] = ()
    subject: str = ""
    charts: tuple[BarChart, ...] = ()
    decisions: tuple[Decision, ...] = ()
    folded: tuple[TableRow, ...] = ()

    @property
    def quiet(self) -> frozenset[str]:
        """The models that are in sync, and have no row of their own."""
        return frozenset(row.model for row in self.folded) - {row.model for row in self.rows}


class BarChart(Struct, frozen=True):
    """Counts as bars: the label of each, the count, and its share of the greatest one."""

    title: str
    bars: tuple[tuple[str, int, float], ...]


class RetirementEntry(Struct, frozen=True):
    """A base model on the timeline of retirements, with the models that are tuned from it."""

    retirement: Retirement
    models: tuple[str, ...]


def _tallies(rows: Iterable[TableRow], roles: Mapping[str, Role]) -> tuple[tuple[str, int, Role], ...]:
    """Return the number of rows in each state, in the order of ``roles``."""
    counts = Counter(state for row in rows for state in row.states)
    return tuple((state, counts[state], role) for state, role in roles.items() if counts[state])


def _manifest_cell(file: str, line: int | None, column: int | None, root: str) -> Cell:
    if not file:
        return Cell(code=True)
    positions = [str(position) for position in (line, column) if position is not None]
    return Cell(":".join([display_path(file, root), *positions]), code=True)


def _name_cell(name: str) -> Cell:
    return Cell(name, model=name)


_IN_SYNC: Final = "in sync"


def _plan(report: PlanReport) -> PageModel:
    explained: dict[str, str] = {}
    rows = [_action_row(action, explained, report.target.root) for action in report.actions]
    changed = _lock_rows(report)
    roles = {kind.value: role for kind, (_, role) in SYMBOLS.items() if kind is not Kind.NOOP}
    return PageModel(
        title="Plan",
        role="error" if report.summary.failing or report.unexplained else ("update" if report.changes else "good"),
        lines=tuple(line.removeprefix("Plan: ") for line in reversed([*plan_totals(report, Layout())])),
        heading="Actions",
        tallies=_tallies([*changed, *rows], {**_LOCK_ROLES, **roles, "kept": "muted", _IN_SYNC: "muted"}),
        rows=(*changed, *sorted(_without(rows, _IN_SYNC), key=lambda row: row.states[0] == "kept")),
        folded=_only(rows, _IN_SYNC),
        facts=tuple(destination_details(report.target)),
        remarks=tuple(unchanged_models(report.unmanaged, report.candidates)),
        base=report.base.ref if report.base and report.base.commit and report.data_changes is not None else "",
        data=report.data_changes or (),
    )


def _only(rows: Iterable[TableRow], state: str) -> tuple[TableRow, ...]:
    return tuple(row for row in rows if row.states[0] == state)


def _without(rows: Iterable[TableRow], state: str) -> tuple[TableRow, ...]:
    return tuple(row for row in rows if row.states[0] != state)


_LOCK_ROLES: Final[Mapping[str, Role]] = {"unexplained fact": "error", "changed decision": "hold"}


def _lock_rows(report: PlanReport | ResultReport, *more: Cell) -> list[TableRow]:
    """Return the changes of the lockfile as rows; ``more`` are empty cells of further columns."""
    return [_lock_row(change, word, more) for changes, word, _ in lock_changes(report) for change in changes]


def _lock_row(change: LockfileChange, word: str, more: tuple[Cell, ...]) -> TableRow:
    return TableRow(
        (word,),
        (
            _name_cell(change.name),
            Cell(word, role=_LOCK_ROLES[word], sign="!"),
            Cell(lock_change_text(change)),
            *more,
            _manifest_cell(change.file, change.line, change.column, ""),
        ),
    )


def _action_row(action: PlannedAction, explained: dict[str, str], root: str) -> TableRow:
    sign, role = SYMBOLS[action.action]
    unchanged = _IN_SYNC if action.reason is Reason.IN_SYNC else "kept"
    state = unchanged if action.action is Kind.NOOP else action.action.value
    in_sync = state == _IN_SYNC
    text = action.key if in_sync else action_phrase(action)
    return TableRow(
        (state,),
        (
            _name_cell(action.name),
            Cell(state, role=role, sign=sign, notes=() if in_sync else (action.reason.value,)),
            Cell(text, code=in_sync, details=tuple(action_details(action, explained))),
            _manifest_cell(action.file, action.line, action.column, root),
        ),
    )


def _result(report: ResultReport) -> PageModel:
    explained: dict[str, str] = {}
    rows = [row for model in report.models for row in _outcome_rows(model, explained, report.target.root)]
    settled = {OUTCOMES[state][0] for state in SETTLED}
    changed = _lock_rows(report, Cell(), Cell())
    unpublished = (f"Not published: {report.unpublished}",) if report.unpublished else ()
    roles: Mapping[ExitStatus, Role] = {ExitStatus.OK: "good", ExitStatus.STILL_TRAINING: "wait"}
    return PageModel(
        title="Result",
        role=roles.get(report.exit_status, "error"),
        # The page states elsewhere that training is simulated.
        lines=(
            result_summary(report).removeprefix("Models: ").removesuffix(" Training is simulated."),
            *next_steps(report),
            *unpublished,
        ),
        heading="Outcomes",
        tallies=_tallies([*changed, *rows], {**_LOCK_ROLES, **dict(OUTCOMES.values())}),
        rows=(*changed, *sorted(_without(rows, _IN_SYNC), key=lambda row: row.states[0] in settled)),
        folded=_only(rows, _IN_SYNC),
    )


def _outcome_rows(model: ModelOutcome, explained: dict[str, str], root: str) -> Iterator[TableRow]:
    yield _outcome_row(model, explained, root)
    for held in model.held_stages:
        held_model = ModelOutcome(
            model.name,
            Outcome.HELD,
            held.reason,
            held.key,
            message=f"in {held.stage}: {held.message}",
            file=model.file,
            line=model.line,
            column=model.column,
        )
        yield _outcome_row(held_model, explained, root)


def _outcome_row(model: ModelOutcome, explained: dict[str, str], root: str) -> TableRow:
    word, role = OUTCOMES[model.state]
    return TableRow(
        (word,),
        (
            _name_cell(model.name),
            Cell(word, role=role, notes=(model.reason.value,) if model.reason else ()),
            _outcome_cell(model, explained),
            *_training_cells(model.steps, model.final_loss),
            _manifest_cell(model.file, model.line, model.column, root),
        ),
    )


def _outcome_cell(model: ModelOutcome, explained: dict[str, str]) -> Cell:
    """Return the details of an outcome, without the training, which has columns of its own."""
    if model.state not in TRAINED:
        return Cell(outcome_details(model, explained))
    notes = (billing_text(model.billing), passed_text(model.checks) if model.checks else "")
    return Cell(model.remote or model.key, code=True, notes=tuple(filter(None, notes)))


def _training_cells(steps: int | None, final_loss: float | str | None) -> tuple[Cell, Cell]:
    return (
        Cell() if steps is None else Cell(str(steps)),
        Cell() if final_loss is None else Cell(loss(final_loss), order=str(final_loss)),
    )


_STATUS_ROLES: Final[Mapping[str, Role]] = {
    "failed": "error",
    "canceled": "error",
    "held": "hold",
    "rejected": "hold",
    "orphaned": "warning",
    "intended": "wait",
    "training": "wait",
    "ready": "promote",
    "serving": "good",
    "not serving": "muted",
}


def _status(report: StatusReport) -> PageModel:
    rows = [_status_row(model) for model in report.models]
    models = f"{counted(len(rows), 'model is', 'models are')} recorded." if rows else "No models are recorded."
    return PageModel(
        title="Status",
        role="good",
        lines=(models, *origin_of(report)),
        heading="Models",
        tallies=_tallies(rows, _STATUS_ROLES),
        rows=tuple(rows),
        remarks=tuple(access_lines(report.access, Layout())) if report.access else (),
    )


def _status_row(model: ModelStatus) -> TableRow:
    shown = model.shown
    details = tuple((word, text) for _, word, text in status_details(model))
    states = ["serving" if model.serving else "not serving", *(word for word, _ in details)]
    return TableRow(
        tuple(dict.fromkeys(states)),
        (
            _name_cell(model.name),
            Cell(states[0], role=_STATUS_ROLES[states[0]]),
            Cell(shown.key if shown else "", code=True, details=details),
            *(_training_cells(shown.total_steps, shown.final_loss) if shown else (Cell(), Cell())),
            Cell(passed_ratio(shown.checks)) if shown and shown.checks else Cell(),
            Cell(minute(model.since), order=model.since),
        ),
    )


def _drift(report: DriftReport) -> PageModel:
    order = [*SIGNS]
    findings = sorted(report.findings, key=lambda finding: order.index(finding_weight(finding)))
    rows = [_finding_row(similar) for similar in similar_findings(findings)]
    roles: dict[str, Role] = dict.fromkeys(CAUSES.values(), "hold")
    return PageModel(
        title="Drift",
        role="hold" if report.drifted else "good",
        lines=(drift_summary(report).removeprefix("Drift: "),),
        heading="Differences",
        tallies=_tallies(rows, roles | {_finding_word(finding): _finding_mark(finding)[1] for finding in findings}),
        rows=_without(rows, _IN_SYNC),
        folded=_only(rows, _IN_SYNC),
        remarks=tuple(unchanged_models(report.unmanaged or 0)),
        timeline=_timeline(report.findings),
    )


def _timeline(findings: Iterable[Finding]) -> tuple[RetirementEntry, ...]:
    """Return the retirements of base models by date."""
    models: dict[Retirement, list[str]] = {}
    for finding in findings:
        if finding.retirement:
            models.setdefault(finding.retirement, []).append(finding.name)
    ordered = sorted(models, key=lambda retirement: (retirement.date, retirement.base_model))
    return tuple(RetirementEntry(retirement, tuple(models[retirement])) for retirement in ordered)


def _finding_mark(finding: Finding) -> tuple[str, Role]:
    weight = finding_weight(finding)
    sign, role = SIGNS[weight]
    roles: Mapping[str, Role] = {"note": "warning", DriftClass.IN_SYNC: "good"}
    return sign, roles.get(weight, role)


def _finding_word(finding: Finding) -> str:
    return _IN_SYNC if finding.kind is DriftClass.IN_SYNC else finding.kind


def _finding_row(similar: Sequence[Finding]) -> TableRow:
    finding = similar[0]
    weight, cause = finding_weight(finding), CAUSES.get(finding.cause, "")
    sign, role = _finding_mark(finding)
    name = finding.name
    return TableRow(
        tuple(filter(None, (_finding_word(finding), cause))),
        (
            Cell(
                _finding_word(finding), role=role, sign=sign, notes=(cause or weight,) if weight != finding.kind else ()
            ),
            Cell(name or finding.remote, model=name, code=not name),
            Cell(finding.message, details=tuple(_finding_details(similar))),
            Cell(minute(finding.since), order=finding.since),
            _manifest_cell(finding.file, finding.line, finding.column, ""),
        ),
    )


def _finding_details(similar: Sequence[Finding]) -> Iterator[Detail]:
    finding = similar[0]
    for differing in (finding for finding in similar if finding.field):
        sides = [("declared", differing.declared), ("live", differing.live)]
        yield differing.field, ", ".join(f"{side} {value(shown)}" for side, shown in sides if shown is not None)
    facts = {"generation": finding.key, "remote": finding.remote if finding.name else "", "remedy": finding.remedy}
    yield from ((label, text) for label, text in facts.items() if text)


_CHECK_ROLES: Final[Mapping[str, Role]] = {
    "failed": "error",
    "warning": "warning",
    "not checked": "error",
    NO_SERVING_GENERATION: "muted",
    "passed": "good",
}


def _check(report: CheckReport) -> PageModel:
    rows = [row for model in report.models for row in _check_rows(model)]
    unserved = Cell(NO_SERVING_GENERATION, role=_CHECK_ROLES[NO_SERVING_GENERATION])
    rows += [
        TableRow((NO_SERVING_GENERATION,), (_name_cell(name), Cell(), unserved, Cell(), Cell()))
        for name in report.unserved
    ]
    return PageModel(
        title="Check",
        role="error" if report.exit_status else "good",
        lines=(check_summary(report),),
        heading="Check results",
        tallies=_tallies(rows, _CHECK_ROLES),
        rows=tuple(rows),
    )


def _check_rows(model: CheckedModel) -> Iterator[TableRow]:
    name, key = _name_cell(model.name), Cell(model.key, code=True)
    if model.checks is None:
        error = Cell("not checked", role="error", details=(("why", model.message),))
        yield TableRow(("not checked",), (name, Cell(), error, Cell(), key))
        return
    for result in model.checks.results:
        verdict = "passed" if result.passed else "failed" if result.holds else "warning"
        notes = (REGRESSED,) if model.regressed and not result.passed else ()
        verdict_cell = Cell(verdict, role=_CHECK_ROLES[verdict], notes=notes)
        score = Cell(order=str(result.score), score=score_of(result))
        yield TableRow((verdict,), (name, Cell(result.name), verdict_cell, score, key))


def _history(report: HistoryReport) -> PageModel:
    generations = f"{counted(len(report.generations), 'generation')} of {report.name}, newest first."
    empty = f"No generation of {report.name} is recorded." if report.name else history_summary(report)
    manifest = (("manifest", display_path(report.manifest, report.target.root)),) if report.manifest else ()
    return PageModel(
        title="History",
        role="good",
        lines=(generations if report.generations else empty, recorded_state(report.lockfile)),
        heading="",
        facts=manifest,
        decisions=report.decisions,
    )


_SEVERITY_ROLES: Final[Mapping[str, Role]] = {"error": "error", "warning": "warning", "note": "muted"}


def _error(report: ErrorReport) -> PageModel:
    rows = tuple(
        TableRow(
            (problem.severity,),
            (
                Cell(problem.severity, role=_SEVERITY_ROLES[problem.severity]),
                Cell(problem.message, details=(("remedy", problem.remedy),) if problem.remedy else ()),
                Cell(problem.path, code=True),
                _manifest_cell(problem.file, problem.line, problem.column, ""),
            ),
        )
        for problem in report.problems
    )
    return PageModel(
        title=failed_kind(report),
        role="error",
        lines=(error_summary(report),),
        heading="Problems",
        tallies=_tallies(rows, _SEVERITY_ROLES),
        rows=rows,
        facts=(("target", report.target_name),) if report.target_name else (),
    )


def _inspection(report: InspectionReport) -> PageModel:
    rows = [_inspection_row(report, finding) for finding in report.findings]
    lengths = ((title, found) for title, found in (("Inputs", report.inputs), ("Outputs", report.outputs)) if found)
    charts = [
        _bar_chart(f"{title}: characters", [(f"up to {bucket.up_to:,}", bucket.examples) for bucket in found.histogram])
        for title, found in lengths
    ]
    charts += (
        [_bar_chart("Labels", [(label.output, label.examples) for label in report.labels])] if report.labels else []
    )
    return PageModel(
        title="Data set",
        role="error" if report.exit_status else ("warning" if report.findings else "good"),
        lines=(inspection_summary(report),),
        heading="Findings",
        tallies=_tallies(rows, {finding.kind: _SEVERITY_ROLES[finding.severity] for finding in report.findings}),
        rows=tuple(rows),
        facts=tuple(inspection_facts(report)),
        subject=report.manifest or report.file,
        charts=tuple(charts),
    )


def _inspection_row(report: InspectionReport, finding: InspectedFinding) -> TableRow:
    places = tuple(("", place_text(report.file, spot)) for spot in finding.first)
    return TableRow(
        (finding.kind,),
        (
            Cell(finding.kind, role=_SEVERITY_ROLES[finding.severity], sign="!"),
            Cell(f"{finding.count:,}", order=str(finding.count)),
            Cell(finding.message, details=(("remedy", finding.remedy),) if finding.remedy else ()),
            Cell(details=places),
        ),
    )


def _bar_chart(title: str, counts: Sequence[tuple[str, int]]) -> BarChart:
    most = max(count for _, count in counts)
    return BarChart(title, tuple((label, count, count / most) for label, count in counts))


_MIGRATION_ROLES: Final[Mapping[str, Role]] = {"changed": "update", "unchanged": "muted", "refused": "error"}


def _migration(report: MigrationReport) -> PageModel:
    rows = [
        TableRow(
            (model.outcome,),
            (
                Cell(model.name),
                Cell(model.outcome, role=_MIGRATION_ROLES[model.outcome]),
                Cell(migration_why(model), details=tuple(migration_details(model))),
                _manifest_cell(model.manifest, model.line, None, report.target.root),
            ),
        )
        for model in report.models
    ]
    return PageModel(
        title="Migration",
        role="error" if report.exit_status else ("update" if report.changes else "good"),
        lines=(migration_summary(report),),
        heading="Manifests",
        tallies=_tallies(rows, _MIGRATION_ROLES),
        rows=tuple(rows),
    )


_LEVEL_ROLES: Final[Mapping[Level, Role]] = {
    "failed": "error",
    "warning": "warning",
    "change": "update",
    "note": "wait",
    "good": "good",
    "quiet": "muted",
}


def _combined(report: CombinedReport) -> PageModel:
    parts = summaries_of(report)
    rows = [
        TableRow(
            (row.word,),
            (
                Cell(part.target),
                Cell(row.name),
                Cell(row.word, role=_LEVEL_ROLES[row.level]),
                Cell(row.why, details=row.details),
                _manifest_cell(row.file, row.line, row.column, ""),
            ),
        )
        for part in parts
        for row in sorted(part.rows, key=lambda row: LEVELS.index(row.level))
    ]
    whole = summarize(report)
    roles = {row.word: _LEVEL_ROLES[row.level] for part in parts for row in part.rows}
    quiet = {row.word for part in parts for row in part.rows if row.level == "quiet"}
    return PageModel(
        title=whole.kind,
        role="error" if whole.failed else "good",
        lines=(whole.summary, *whole.warnings, *whole.remarks),
        heading="Targets and models",
        tallies=_tallies(rows, roles),
        rows=tuple(row for row in rows if row.states[0] not in quiet),
        folded=tuple(row for row in rows if row.states[0] in quiet),
        subject=f"for targets {whole.target}",
    )


_PAGES: Final[Mapping[str, Callable[[Any], PageModel]]] = {
    "Check": _check,
    "Combined": _combined,
    "Drift": _drift,
    "Error": _error,
    "History": _history,
    "Inspection": _inspection,
    "Migration": _migration,
    "Plan": _plan,
    "Result": _result,
    "Status": _status,
}


_BAR_START: Final = 2
_BAR_LENGTH: Final = 100
PLOT: Final = {
    "width": loss_chart.WIDTH,
    "height": loss_chart.HEIGHT,
    "left": loss_chart.LEFT,
    "right": loss_chart.RIGHT,
    "bottom": loss_chart.BOTTOM,
}


def page(document: Document) -> str:
    """Return the page of a document of a kind in ``_PAGES``.

    Raises:
        UsageError: for a document of another kind.
    """
    overview, models = convert(document, _PAGES, " for HTML"), model_sections(document)
    style, script, run = asset("page.css"), asset("page.js"), run_of(document)
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            overview=overview,
            models=models,
            anchors={model.name: model.anchor for model in models},
            target=target_of(document),
            facts=_facts(document, overview),
            run=tuple(run_details(run)) if run else (),
            quiet=overview.quiet,
            notices=notices_of(document),
            simulated=is_simulated(document),
            kind=kind_of(document),
            version=VERSION,
            plot=PLOT,
            policy=policy(style, script),
            style=style,
            script=script,
        )
    )


def _facts(document: Document, overview: PageModel) -> tuple[Detail, ...]:
    target = target_of(document)
    if target is None:
        return overview.facts
    facts = {
        "service": target.label,
        "scope": target.scope,
        "project": target.project,
        "location": target.location,
        "lockfile": _local_lockfile(document),
    }
    return (*((label, text) for label, text in facts.items() if text), *overview.facts)


def _local_lockfile(document: Document) -> str:
    """Return the path of the lockfile; empty if it is in a bucket, which the destinations show."""
    return "" if isinstance(document, PlanReport) and document.target.lock else getattr(document, "lockfile", "")


def policy(style: str, *scripts: str, connects: bool = False) -> str:
    """Return a Content-Security-Policy that allows only this style sheet and these scripts.

    ``data:`` is the empty icon. A page that ``connects`` may send requests to its own server.
    """
    allowed = " ".join(f"'{_hash(script)}'" for script in scripts)
    connected = "connect-src 'self'; " if connects else ""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src {allowed}; img-src data:; {connected}"
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def asset(name: str) -> str:
    """Return a style sheet or a script."""
    return resources.files("reconciler.reports.html").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def templates() -> Environment:
    """Return the templates, which escape every text."""
    environment = Environment(
        loader=PackageLoader("reconciler.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        data_change_counts=data_change_counts,
        data_change_remarks=data_change_remarks,
        sample_text=sample_text,
        loss=loss,
        evaluations=evaluations_text,
        minute=minute,
        share=share,
        width=_width,
        counted=counted,
        decided_at=decision_time,
        decision=decision_text,
        dropped=dropped_text,
        along=lambda share: _BAR_START + _width(share),
        shortened=lambda key, name: key.removeprefix(f"{name}-"),
    )
    return environment


def _readable(value: object) -> object:
    """Return text with invisible characters escaped and lines kept; markup of the templates is unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(terminal_safe(line) for line in value.split("\n"))


def _width(share_of_bar: float) -> float:
    """Return the length of a share in a bar."""
    return round(_BAR_LENGTH * min(max(share_of_bar, 0.0), 1.0), 1)
