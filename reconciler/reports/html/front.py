"""Draw the front page: all targets of a root with their models, the trainings in progress, and watched runs.

``reconcile targets --report`` writes it as a file; ``reconcile ui`` serves it, and adds a script that keeps it current.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from reconciler.domain.document import VERSION
from reconciler.reports.documents.doctor import ErrorProblem
from reconciler.reports.documents.envelope import run_details
from reconciler.reports.documents.targets import ListedModel, ListedTarget, ModelState, TargetsReport
from reconciler.reports.html.loss_chart import Chart, Losses, chart
from reconciler.reports.html.page import PLOT, Cell, PageModel, TableRow, asset, policy, templates
from reconciler.reports.text.doctor import problem_text
from reconciler.reports.text.format import Role
from reconciler.reports.text.targets import STATES, counts_text, targets_summary

_MANY: Final = 200
"""With more rows of models, the browser lays out only those in view."""
_MOST_CARDS: Final = 100
"""The trainings that are shown, which are drawn again whenever one has advanced."""
_NOW: Final = '<div data-live="now">'
_MODEL_STATES: Final[Mapping[ModelState, tuple[str, Role]]] = {
    "failed": ("failed", "error"),
    "held": ("held", "hold"),
    "pending": ("pending", "update"),
    "training": ("training", "wait"),
    "orphaned": ("orphaned", "muted"),
    "unselected": ("not selected", "muted"),
    "inSync": ("in sync", "good"),
}
"""The word and the color of each state of a model, in the order of the rows."""


class Training(Struct, frozen=True):
    """A training in progress; ``text`` is how far it is, ``curve`` has points (step, loss)."""

    target: str
    name: str
    key: str
    text: str
    curve: tuple[tuple[float, float], ...] = ()
    simulated: bool = False


class WatchedRun(Struct, frozen=True):
    """A run, by its event log: when it began, the last line about it, and whether it has ended."""

    command: str
    target: str
    began: str
    last: str
    role: Role
    file: str


class Now(Struct, frozen=True):
    """What happens now; ``notes`` are why something is not shown."""

    trainings: tuple[Training, ...] = ()
    runs: tuple[WatchedRun, ...] = ()
    notes: tuple[str, ...] = ()


NOTHING: Final = Now()


class _TrainingCard(Struct, frozen=True):
    """A training with its chart; the template of curves uses ``anchor`` and ``name``."""

    anchor: str
    name: str
    training: Training
    chart: Chart | None


class _TargetRow(Struct, frozen=True):
    target: ListedTarget
    word: str
    role: Role
    counts: str
    problems: tuple[str, ...]


def front_page(report: TargetsReport, now: Now = NOTHING, *, live: bool = False) -> str:
    """Return the page; ``live`` adds the script that keeps it current, which needs the server of ``reconcile ui``."""
    overview = _overview(report)
    style = asset("page.css")
    scripts = (asset("page.js"), *((asset("live.js"),) if live else ()))
    return (
        templates()
        .get_template("front.html.j2")
        .render(
            overview=overview,
            counts=_counts(overview.rows),
            targets=[_target_row(target) for target in report.targets],
            policy=policy(style, *scripts, connects=live),
            style=style,
            scripts=scripts,
            live=live,
            run=tuple(run_details(report.run)) if report.run else (),
            many=len(overview.rows) > _MANY,
            simulated=any(target.simulated for target in report.targets),
            version=VERSION,
            **_now(now),
        )
    )


def now_part(now: Now) -> str:
    """Return the part of the page that changes while a training runs."""
    return templates().get_template("now.html.j2").render(**_now(now))


def with_now(page: str, part: str, revisions: Mapping[str, str]) -> str:
    """Return a live page, drawn for :data:`NOTHING`, with the part of :func:`now_part` and its revisions."""
    attributes = "".join(f' data-{name}="{revision}"' for name, revision in revisions.items())
    return page.replace("<body>", f"<body{attributes}>", 1).replace(_NOW, f"{_NOW}{part}", 1)


def page_policy() -> str:
    """Return the Content-Security-Policy of the served page, which is sent as a header too."""
    return f"{policy(asset('page.css'), asset('page.js'), asset('live.js'), connects=True)}; frame-ancestors 'none'"


def _now(now: Now) -> Mapping[str, object]:
    count = len(now.trainings)
    more = f"Only {_MOST_CARDS} of {count:,} trainings are shown." if count > _MOST_CARDS else ""
    notes = [*now.notes, *filter(None, [more])]
    return {"cards": list(_cards(now.trainings[:_MOST_CARDS])), "now": now, "notes": notes, "plot": PLOT}


def _cards(trainings: Sequence[Training]) -> Iterator[_TrainingCard]:
    for position, training in enumerate(trainings, start=1):
        yield _TrainingCard(
            f"training-{position}", training.name, training, chart([Losses(training.key, training.curve)])
        )


def _overview(report: TargetsReport) -> PageModel:
    states = list(_MODEL_STATES)
    models = [(target, model) for target in report.targets for model in target.models]
    models.sort(key=lambda found: states.index(found[1].state))
    roles = {STATES[target.state][1] for target in report.targets}
    worst: Role = next((role for _, role in STATES.values() if role in roles), "good")
    return PageModel(
        title="Targets",
        role=worst,
        lines=(targets_summary(report),),
        heading="Models",
        rows=tuple(_model_row(target, model) for target, model in models),
    )


def _model_row(target: ListedTarget, model: ListedModel) -> TableRow:
    word, role = _MODEL_STATES[model.state]
    return TableRow(
        (word,),
        (
            Cell(model.name, model=model.name),
            Cell(target.name),
            Cell(word, role=role),
            Cell(model.serving, code=True, details=tuple(model.stages.items())),
            Cell(model.reason),
        ),
    )


def _counts(rows: Iterable[TableRow]) -> list[tuple[str, int, Role]]:
    """Return the number of models in each state, states without models included: they can get some."""
    states = [row.states[0] for row in rows]
    return [(word, states.count(word), role) for word, role in _MODEL_STATES.values()]


def _target_row(target: ListedTarget) -> _TargetRow:
    word, role = STATES[target.state]
    counts = counts_text(target.counts) if target.counts else ""
    return _TargetRow(target, word, role, counts, tuple(map(_problem_line, target.problems)))


def _problem_line(problem: ErrorProblem) -> str:
    place = f"{problem.file}:{problem.line}:{problem.column}" if problem.file else ""
    return ": ".join(filter(None, [place, problem.path, problem_text(problem)]))
