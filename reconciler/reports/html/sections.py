"""What a page shows of each kind of document before it comes to the single models: a summary and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.domain.drift import DriftClass
from reconciler.domain.errors import UsageError
from reconciler.reports.documents.check import passed_text
from reconciler.reports.documents.dataset_diff import counts_line, remarks, sample_line
from reconciler.reports.documents.drift import drift_summary
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.documents.status import access_lines
from reconciler.reports.html.models import Score, score_of
from reconciler.reports.text.documents import (
    OUTCOMES,
    outcome_details,
    passed_ratio,
    result_tally,
    shown_generation,
    status_details,
    what_next,
)
from reconciler.reports.text.format import Role, counted, loss, minute, plain, value
from reconciler.reports.text.plan import (
    SYMBOLS,
    action_details,
    action_verb,
    display_path,
    left_alone,
    plan_totals,
    reach_details,
)

Detail = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; ``sort`` says how it can be sorted, empty where it cannot; ``right`` aligns it there."""

    label: str
    sort: Literal["text", "number", ""] = "text"
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell.

    ``model`` is the name of the model that it links to, ``code`` whether the text is a name for machines, ``role`` its
    colour, ``sign`` a symbol before it. ``details`` stand below, ``notes`` below them.
    """

    text: str = ""
    role: Role | None = None
    sign: str = ""
    code: bool = False
    model: str = ""
    order: str = ""
    details: tuple[Detail, ...] = ()
    notes: tuple[str, ...] = ()
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; ``states`` are those by which it can be chosen."""

    states: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def model(self) -> str:
        """The name of the model that the row is about, empty where it is about none."""
        return next((cell.model for cell in self.cells if cell.model), "")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows are in a state."""

    state: str
    count: int
    role: Role


@dataclass(frozen=True, slots=True)
class DataChange:
    """What became of a data set; ``samples`` are what became of an example, and the example."""

    model: str
    path: str
    use: str
    counts: str
    remarks: tuple[str, ...]
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PageModel:
    """The first part of a page; ``lines`` are sentences, the first of which says what it comes to.

    ``base`` is what data sets were compared with, empty where they were not, and ``data`` what became of them.
    """

    title: str
    role: Role
    lines: tuple[str, ...]
    heading: str
    tallies: tuple[Tally, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    facts: tuple[Detail, ...] = ()
    remarks: tuple[str, ...] = ()
    base: str = ""
    data: tuple[DataChange, ...] = ()


def face_of(document: Document) -> PageModel:
    """The first part of the page of a document.

    Raises:
        UsageError: for a kind of document that has no page.
    """
    kind = document["kind"]
    if kind not in _FACES:
        kinds = ", ".join(sorted(_FACES))
        raise UsageError(
            f"a document of the kind {kind} is not drawn as HTML", f"HTML shows {kinds}; name another file"
        )
    return _FACES[kind](document)


def _tallies(rows: Iterable[Row], roles: Mapping[str, Role]) -> tuple[Tally, ...]:
    """How many rows there are in each state, in the order of ``roles``."""
    counts = Counter(state for row in rows for state in row.states)
    return tuple(Tally(state, counts[state], role) for state, role in roles.items() if counts[state])


def _place(one: Document, root: str) -> str:
    """File, line and column, as far as they are known."""
    if "file" not in one:
        return ""
    marks = [str(one[mark]) for mark in ("line", "column") if mark in one]
    return ":".join([display_path(one["file"], root), *marks])


_IN_SYNC: Final = "in sync"


def _plan(document: Document) -> PageModel:
    explained: dict[str, str] = {}
    root = document["target"].get("root", "")
    rows = [_action_row(action, explained, root) for action in document["actions"]]
    roles = {
        **{kind: role for kind, (_, role) in SYMBOLS.items() if kind != "noop"},
        "kept": "muted",
        _IN_SYNC: "muted",
    }
    failing = document["summary"]["failing"]
    return PageModel(
        title="Plan",
        role="error" if failing else ("update" if document["changes"] else "good"),
        lines=tuple(line.removeprefix("Plan: ") for line in reversed([*plan_totals(document)])),
        heading="What would be done",
        tallies=_tallies(rows, roles),
        columns=(Column("Model"), Column("Action"), Column("What and why", ""), Column("Manifest")),
        rows=tuple(sorted(rows, key=lambda row: row.states[0] in {_IN_SYNC, "kept"})),
        facts=tuple(reach_details(document["target"])),
        remarks=tuple(left_alone(document)),
        base=document["base"]["ref"] if "commit" in document.get("base", {}) else "",
        data=tuple(_data_change(one) for one in document.get("dataChanges", ())),
    )


def _data_change(one: Document) -> DataChange:
    return DataChange(
        model=one["name"],
        path=one.get("path", "inline examples"),
        use=f"held out for {one['check']}" if "check" in one else one["use"],
        counts=counts_line(one),
        remarks=tuple(remarks(one)),
        samples=tuple((each["change"], sample_line(each)[1]) for each in one.get("samples", ())),
    )


def _action_row(action: Document, explained: dict[str, str], root: str) -> Row:
    sign, role = SYMBOLS[action["action"]]
    kept = _IN_SYNC if action["reason"] == "InSync" else "kept"
    state = kept if action["action"] == "noop" else action["action"]
    what = action_verb(action)
    return Row(
        (state,),
        (
            Cell(action["name"], model=action["name"]),
            Cell(state, role=role, sign=sign, notes=(action["reason"],) if state != _IN_SYNC else ()),
            Cell(
                action.get("key", "") if state == _IN_SYNC else what,
                code=state == _IN_SYNC,
                details=tuple(action_details(action, explained)),
            ),
            Cell(_place(action, root), code=True),
        ),
    )


def _result(document: Document) -> PageModel:
    explained: dict[str, str] = {}
    root = document["target"].get("root", "")
    rows = [_outcome_row(model, explained, root) for model in document["models"]]
    settled = {OUTCOMES[state][0] for state in ("inSync", "orphaned")}
    unpublished = (f"Not published: {document['unpublished']}",) if "unpublished" in document else ()
    return PageModel(
        title="Result",
        role="error" if document["exitStatus"] not in {0, 4} else ("wait" if document["exitStatus"] else "good"),
        lines=(_came_to(document), *what_next(document), *unpublished),
        heading="What was done",
        tallies=_tallies(rows, dict(OUTCOMES.values())),
        columns=(
            Column("Model"),
            Column("Outcome"),
            Column("What", ""),
            Column("Steps", "number", right=True),
            Column("Final loss", "number", right=True),
            Column("Manifest"),
        ),
        rows=tuple(sorted(rows, key=lambda row: row.states[0] in settled)),
    )


def _came_to(document: Document) -> str:
    """The tally; that training is simulated stands elsewhere on the page."""
    return result_tally(document).removeprefix("Models: ").removesuffix(" The training is simulated.")


def _outcome_row(model: Document, explained: dict[str, str], root: str) -> Row:
    word, role = OUTCOMES[model["state"]]
    return Row(
        (word,),
        (
            Cell(model["name"], model=model["name"]),
            Cell(word, role=role, notes=(model["reason"],) if "reason" in model else ()),
            _outcome(model, explained),
            _steps(model.get("steps")),
            _loss(model.get("finalLoss")),
            Cell(_place(model, root), code=True),
        ),
    )


def _outcome(model: Document, explained: dict[str, str]) -> Cell:
    """What became of it; how it trained has columns of its own."""
    if model["state"] not in {"ready", "checked"}:
        return Cell(outcome_details(model, explained))
    checks = (passed_text(model["checks"]),) if "checks" in model else ()
    return Cell(model.get("remote") or model.get("key", ""), code=True, notes=checks)


def _steps(steps: int | None) -> Cell:
    return Cell() if steps is None else Cell(str(steps))


def _loss(final_loss: float | str | None) -> Cell:
    return Cell() if final_loss is None else Cell(loss(final_loss), order=str(final_loss))


_STATUS_ROLES: Final[Mapping[str, Role]] = {
    "failed": "error",
    "cancelled": "error",
    "held": "hold",
    "rejected": "hold",
    "intended": "wait",
    "training": "wait",
    "ready": "promote",
    "serving": "good",
    "not serving": "muted",
}


def _status(document: Document) -> PageModel:
    rows = [_status_row(model) for model in document["models"]]
    asked = "asked for permissions alone" if "access" in document else "not asked"
    recorded = () if document["observed"] else (f"As {document['lockfile']} records it; the service was {asked}.",)
    models = counted(len(rows), "model") + " recorded." if rows else "No models are recorded."
    return PageModel(
        title="Status",
        role="good",
        lines=(models, *recorded),
        heading="Models at a glance",
        tallies=_tallies(rows, _STATUS_ROLES),
        columns=(
            Column("Model"),
            Column("State"),
            Column("Generation", ""),
            Column("Steps", "number", right=True),
            Column("Final loss", "number", right=True),
            Column("Checks passed"),
            Column("Since (UTC)"),
        ),
        rows=tuple(rows),
        remarks=tuple(access_lines(document["access"], plain)) if "access" in document else (),
    )


def _status_row(model: Document) -> Row:
    shown = shown_generation(model)
    plights = list(status_details(model))
    states = ["serving" if "serving" in model else "not serving", *(word for _, word, _ in plights)]
    since = shown.get("completeTime") or shown.get("createTime", "")
    return Row(
        tuple(dict.fromkeys(states)),
        (
            Cell(model["name"], model=model["name"]),
            Cell(states[0], role=_STATUS_ROLES[states[0]]),
            Cell(shown.get("key", ""), code=True, details=tuple((word, text) for _, word, text in plights)),
            _steps(shown.get("totalSteps")),
            _loss(shown.get("finalLoss")),
            Cell(passed_ratio(shown["checks"])) if "checks" in shown else Cell(),
            Cell(minute(since), order=since),
        ),
    )


def _drift(document: Document) -> PageModel:
    findings = sorted(document["findings"], key=lambda one: _DRIFT_ORDER[_weight(one)])
    rows = [_finding_row(one) for one in findings]
    unmanaged = document.get("unmanaged", 0)
    return PageModel(
        title="Drift",
        role="hold" if document["drifted"] else "good",
        lines=(drift_summary(document).removeprefix("Drift: "),),
        heading="What differs",
        tallies=_tallies(rows, {one["class"]: _FINDINGS[_weight(one)][1] for one in findings}),
        columns=(
            Column("Class"),
            Column("Model"),
            Column("What", ""),
            Column("Since (UTC)"),
            Column("Manifest"),
        ),
        rows=tuple(rows),
        remarks=(f"Unmanaged: {counted(unmanaged, 'foreign model')}.",) if unmanaged else (),
    )


_FINDINGS: Final[Mapping[str, tuple[str, Role]]] = {
    "drift": ("!", "hold"),
    "note": ("i", "warning"),
    _IN_SYNC: ("=", "muted"),
}
_DRIFT_ORDER: Final = {weight: position for position, weight in enumerate(_FINDINGS)}


def _weight(finding: Document) -> str:
    """How much a finding matters: its severity, less where all is well."""
    return _IN_SYNC if finding["class"] == DriftClass.IN_SYNC else str(finding["severity"])


def _finding_row(one: Document) -> Row:
    weight = _weight(one)
    sign, role = _FINDINGS[weight]
    name = one.get("name", "")
    return Row(
        (one["class"],),
        (
            Cell(one["class"], role=role, sign=sign, notes=(weight,) if weight != _IN_SYNC else ()),
            Cell(name or one.get("remote", ""), model=name, code=not name),
            Cell(one["message"], details=tuple(_finding_details(one))),
            Cell(minute(one.get("since", "")), order=one.get("since", "")),
            Cell(_place(one, ""), code=True),
        ),
    )


def _finding_details(one: Document) -> Iterator[Detail]:
    if "field" in one:
        sides = [f"{side} {value(one[side])}" for side in ("declared", "live") if side in one]
        yield one["field"], ", ".join(sides)
    for label, name in (("generation", "key"), ("remote", "remote"), ("remedy", "remedy")):
        if name in one and (name != "remote" or "name" in one):
            yield label, one[name]


_CHECK_ROLES: Final[Mapping[str, Role]] = {
    "failed": "error",
    "not checked": "error",
    "nothing serves": "muted",
    "passed": "good",
}


def _check(document: Document) -> PageModel:
    rows = [row for model in document["models"] for row in _check_rows(model)]
    rows += [
        Row(("nothing serves",), (Cell(name, model=name), Cell(), Cell("nothing serves", role="muted"), Cell(), Cell()))
        for name in document["unserved"]
    ]
    states = Counter(state for row in rows for state in row.states)
    total = states["passed"] + states["failed"]
    line = f"{states['passed']} of {counted(total, 'check')} passed." if total else "Nothing was checked."
    return PageModel(
        title="Check",
        role="error" if document["exitStatus"] else "good",
        lines=(line,),
        heading="How the checks went",
        tallies=_tallies(rows, _CHECK_ROLES),
        columns=(Column("Model"), Column("Check"), Column("Verdict"), Column("Score", "number"), Column("Generation")),
        rows=tuple(rows),
    )


def _check_rows(model: Document) -> Iterator[Row]:
    name, key = Cell(model["name"], model=model["name"]), Cell(model["key"], code=True)
    if "message" in model:
        told = Cell("not checked", role="error", details=(("why", model["message"]),))
        yield Row(("not checked",), (name, Cell(), told, Cell(), key))
        return
    regressed = ("it used to pass these very checks",) if model["regressed"] else ()
    for one in model["checks"]["results"]:
        verdict = "passed" if one["passed"] else "failed"
        yield Row(
            (verdict,),
            (
                name,
                Cell(one["name"]),
                Cell(verdict, role=_CHECK_ROLES[verdict], notes=() if one["passed"] else regressed),
                Cell(order=str(one["score"]), score=score_of(one)),
                key,
            ),
        )


def _history(document: Document) -> PageModel:
    count = len(document["generations"])
    where = display_path(document["manifest"], document["target"].get("root", ""))
    generations = f"{counted(count, 'generation')} of {document['name']}, newest first." if count else ""
    return PageModel(
        title="History",
        role="good",
        lines=(
            generations or f"No generation of {document['name']} is recorded yet.",
            f"As {document['lockfile']} records it; the service was not asked.",
        ),
        heading="",
        facts=(("manifest", where),),
    )


_FACES: Final[Mapping[str, Callable[[Document], PageModel]]] = {
    "Check": _check,
    "Drift": _drift,
    "History": _history,
    "Plan": _plan,
    "Result": _result,
    "Status": _status,
}
