"""Documents that are worth a page: one rich world, told in every kind of document that has one."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks, RecordedMiss
from reconciler.domain.document import RunInfo
from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus, Place
from reconciler.domain.lock import Decision, Lock, LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import (
    Capabilities,
    Dataset,
    DroppedExample,
    DroppedExamples,
    Failure,
    RemoteModel,
    Snapshot,
    Source,
    State,
)
from reconciler.domain.plan import Action, FieldChange, Kind, Plan, Reason
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.history import list_history
from reconciler.providers.vertex.locations import ExperimentPages
from reconciler.reports.documents.check import CheckedModel, CheckReport, check_report
from reconciler.reports.documents.drift import DriftReport, drift_report
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.documents.history import HistoryReport, history_report
from reconciler.reports.documents.plan import DataBase, DataChange, DataSample, PlanReport, plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, ResultReport, result_report
from reconciler.reports.documents.status import StatusReport, model_details, status_report
from support.base_models import GEMINI_API
from support.render_values import (
    ACTIVE,
    CHECKS,
    CREATE,
    FAILED,
    IN_SYNC,
    KEY,
    LOCKFILE,
    REAL,
    REMOTE,
    SIMULATED,
    TARGET,
)

HOSTILE: Final = """</script></style><script>document.title = "mine"</script><img src=x onerror="alert()">'"{{ 7*7 }}"""
"""What tries to leave a text, an attribute, a style sheet, a script and a template."""


RUN: Final = RunInfo(
    time="2026-11-22T19:15:00Z",
    command="reconcile history number-generator --report history.html",
    reconciler="1.2.3",
    commit="c" * 40,
    branch="topic/longer-curves",
    actor="ada",
)


def _generation(key: str, **fields: Any) -> LockedGeneration:
    return replace(ACTIVE, key=key, remote=f"tunedModels/{key}", **fields)


def _checks(passed: int, failed: int, score: float, *misses: RecordedMiss) -> RecordedChecks:
    return RecordedChecks(CHECKS.digest, passed, failed, {"unseen": score}, misses)


_NEWEST: Final = replace(
    ACTIVE,
    dataset=Dataset("sha256:" + "d" * 64, "datasets/next-number.csv", 27),
    hyperparameters=LockedHyperparameters({}, {"batchSize": 2, "epochCount": 3, "learningRate": 0.0005}),
    total_steps=40,
    final_loss=3.1,
    checks=replace(
        _checks(2, 2, 0.92, RecordedMiss("small", "8", "10"), RecordedMiss("roman", "IV", "")),
        comparisons=recorded_checks(CHECKS).comparisons,
    ),
)
_SERVING: Final = _generation(
    "number-generator-5xkq2wab",
    hyperparameters=LockedHyperparameters({}, {"batchSize": 2, "epochCount": 3, "learningRate": 0.001}),
    create_time="2026-10-02T09:30:00Z",
    complete_time="2026-10-02T09:31:10Z",
    promote_time="2026-10-02T09:31:40Z",
    checks=_checks(4, 0, 0.84),
)
_REJECTED: Final = _generation(
    "number-generator-aaaaaaaa",
    hyperparameters=LockedHyperparameters({"batchSize": 4}, {"batchSize": 4, "epochCount": 3, "learningRate": 0.001}),
    source=Source(GEMINI_API),
    create_time="2026-09-14T12:00:00Z",
    complete_time="2026-09-14T12:01:00Z",
    promote_time="2026-09-14T12:01:30Z",
    rejection="answers with Roman numerals",
    total_steps=12,
    final_loss=5.3,
    checks=_checks(4, 0, 0.71),
)
_FAILED: Final = _generation(
    "letters-22222222",
    state=State.FAILED,
    failure=Failure(8, "out of quota"),
    complete_time="2026-11-22T19:16:20Z",
    final_loss=None,
)
_WORDS: Final = _generation(
    "words-abcdefgh",
    create_time="2026-08-01T07:00:00Z",
    complete_time="2026-08-01T08:10:00Z",
    promote_time="2026-08-01T08:11:00Z",
    total_steps=300,
    final_loss=0.42,
)
_RHYMES: Final = _generation("rhymes-abcdefgh", state=State.CREATING, complete_time="", final_loss=None)
LOCK: Final = Lock(
    models={
        "letters": LockedModel("words.yaml", generations=(_FAILED,)),
        "number-generator": LockedModel(
            "number-generator.yaml",
            serving=_SERVING.key,
            rejected=(_REJECTED.key,),
            generations=(_NEWEST, _SERVING, _REJECTED),
        ),
        "rhymes": LockedModel("rhymes.yaml", generations=(_RHYMES,)),
        "words": LockedModel("words.yaml", serving=_WORDS.key, generations=(_WORDS,)),
    }
)


def _trained(one: LockedGeneration, steps: int, start: float, end: float) -> RemoteModel:
    """What the service shows of it: a curve that falls as trainings do, with a little noise that is always the same."""
    losses = [
        end + (start - end) * math.exp(-4 * step / steps) + 0.12 * math.sin(step * 2.3) for step in range(1, steps + 1)
    ]
    return RemoteModel(
        remote=one.remote,
        state=one.state,
        create_time=one.create_time,
        snapshots=tuple(Snapshot(step, step * 2 // 15, round(loss, 3)) for step, loss in enumerate(losses, start=1)),
        completed_steps=steps,
        total_steps=one.total_steps,
    )


LIVE: Final = {
    model.remote: model
    for model in (
        _trained(_NEWEST, 40, 8.2, 3.1),
        _trained(_SERVING, 23, 7.9, 3.8),
        _trained(_REJECTED, 12, 9.3, 5.3),
        _trained(_FAILED, 9, 8.0, 7.4),
        _trained(_RHYMES, 16, 7.2, 5.1),
        _trained(_WORDS, 300, 600.0, 0.42),
    )
}
PORTRAITS: Final = model_details(LOCK, LIVE, SIMULATED)

_UPDATE: Final = Action(
    name="words",
    file="words.yaml",
    kind=Kind.UPDATE,
    reason=Reason.DRIFTED,
    key="words-abcdefgh",
    changes=(FieldChange("description", "Says the next word, and only that.", None), FieldChange("topK", 40, 20)),
)
_WAIT: Final = Action(name="rhymes", file="rhymes.yaml", kind=Kind.WAIT, reason=Reason.TRAINING, key="rhymes-abcdefgh")
_MORE: Final = tuple(
    replace(IN_SYNC, name=name, file=f"{name}.yaml", key=f"{name}-abcdefgh") for name in ("capitals", "months")
)
_PLAN: Final = Plan(
    actions=tuple(sorted((CREATE, FAILED, _UPDATE, _WAIT, *_MORE), key=Action.sort_key)),
    notices=("limits.maxSteps is 200000 now; it was 100000 when the lockfile was last written",),
    unmanaged=2,
    candidates=1,
)
_BASE: Final = DataBase("origin/main", "a" * 40)
_DATA_CHANGES: Final = (
    DataChange(
        name="number-generator",
        use="training",
        path="datasets/next-number.csv",
        added=14,
        removed=2,
        changed=1,
        contradictions=1,
        leaked=1,
        samples=(
            DataSample(change="added", input="thirty", output="thirty-one"),
            DataSample(change="removed", input="1", output="one"),
            DataSample(change="changed", input="9", before="ten", after="10"),
            DataSample(change="contradiction", input="7", outputs=("8", "eight")),
            DataSample(change="leaked", check="unseen", input="41"),
        ),
    ),
    DataChange(name="words", use="check", check="unseen", path="held-out.csv", note="the old one is not in git"),
)
_OUTCOMES: Final = (
    ModelOutcome("number-generator", Outcome.READY, key=KEY, remote=REMOTE, steps=40, final_loss=3.1, checks=CHECKS),
    ModelOutcome(
        "letters", Outcome.FAILED, key="letters-22222222", message="the service ran out of quota\nask for more, or wait"
    ),
)


def plan_page(capabilities: Capabilities = SIMULATED) -> PlanReport:
    """A Plan with model details and with what became of the data sets."""
    target = replace(TARGET, bucket="gs://acme-tuning-data", publish="serving.json")
    report = plan_report(_PLAN, target, capabilities, LOCKFILE, root="specs")
    return replace(report, model_details=PORTRAITS, base=_BASE, data_changes=_DATA_CHANGES)


def result_page() -> ResultReport:
    """A Result with model details and a whole report of checks."""
    report = result_report(
        plan=replace(_PLAN, actions=(FAILED, _WAIT, *_MORE)),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=_OUTCOMES,
        requests=17,
        seconds=95.2,
        exit_status=ExitStatus.ERROR,
        unpublished="gs://acme-tuning-data/serving.json cannot be written",
        root="specs",
    )
    return replace(report, model_details=PORTRAITS)


def status_page() -> StatusReport:
    """A Status of the service with model details."""
    return status_report(LOCK, TARGET, SIMULATED, LOCKFILE, live=LIVE, root="specs", model_details=PORTRAITS)


def recorded_page() -> StatusReport:
    """A Status of the lockfile alone."""
    return status_report(LOCK, TARGET, SIMULATED, LOCKFILE, root="specs")


def job_page(phase: str) -> StatusReport:
    """A Status of a training in a phase, with a dropped example and the page of its experiment."""
    sample = (DroppedExample(3, f"too long {HOSTILE}", "data.csv:4"),)
    training = replace(
        _RHYMES,
        phase=phase,
        completed_epochs=1,
        dropped_examples=DroppedExamples(2, sample),
        experiment="projects/1/locations/us/metadataStores/default/contexts/e-1",
    )
    lock = Lock(models={"rhymes": LockedModel("rhymes.yaml", generations=(training,))})
    capabilities = replace(REAL, experiment_url=ExperimentPages("acme"))
    return status_report(lock, TARGET, capabilities, LOCKFILE, model_details=model_details(lock, {}, capabilities))


def drift_page() -> DriftReport:
    """A Drift with model details."""
    findings = (
        Finding(
            kind=DriftClass.MODIFIED,
            severity="drift",
            name="words",
            file="words.yaml",
            key="words-abcdefgh",
            remote="tunedModels/words-abcdefgh",
            field="description",
            declared="Says the next word.",
            live="changed by hand",
            since="2026-11-23T10:00:00Z",
            message="the description is not the declared one",
            remedy="run reconcile apply, or declare what is there",
        ),
        Finding(
            kind=DriftClass.FAILED,
            severity="drift",
            name="letters",
            file="words.yaml",
            message="the training failed: out of quota",
            remedy="train it again with --retry letters",
        ),
        Finding(
            kind=DriftClass.IN_PROGRESS,
            severity="note",
            name="rhymes",
            key="rhymes-abcdefgh",
            message="training in progress",
        ),
        Finding(
            kind=DriftClass.UNMANAGED,
            severity="note",
            remote="tunedModels/by-hand",
            message="nobody here manages it",
        ),
    )
    places = dict.fromkeys(("words", "letters"), Place("specs/words.yaml", 4, 3))
    return drift_report(
        findings, TARGET, SIMULATED, LOCKFILE, unmanaged=1, places=places, root="specs", model_details=PORTRAITS
    )


def check_page() -> CheckReport:
    """A Check with one that passed before, one that could not be asked, and one that nothing serves."""
    words = CheckedModel(
        name="words",
        key="words-abcdefgh",
        remote="tunedModels/words-abcdefgh",
        serving=True,
        regressed=False,
        message="a; b",
    )
    numbers = replace(words, name="number-generator", key=KEY, remote=REMOTE, before=_checks(4, 0, 0.95), message="")
    checked = ((numbers.with_results(CHECKS), ExitStatus.ERROR), (words, ExitStatus.ERROR))
    return check_report(checked, ["letters"], target_summary(TARGET, REAL, "specs"), simulated=False)


def history_page() -> HistoryReport:
    """A History of three generations and two decisions of one second."""
    name, entries = "number-generator", list_history(LOCK.models["number-generator"], {})
    decided: dict[str, Any] = {"time": "2026-10-02T09:31:40Z", "model": name, "actor": "ada", "commit": "c" * 40}
    decisions = (
        Decision(action="promote", generation=_SERVING.key, before=_REJECTED.key, **decided),
        Decision(action="rollback", generation=_REJECTED.key, before=_SERVING.key, reason="it is slow", **decided),
    )
    report = history_report(
        name, "number-generator.yaml", entries, TARGET, SIMULATED, LOCKFILE, root="specs", decisions=decisions
    )
    return replace(report, run=RUN)


PAGES: Final = {
    "plan": plan_page,
    "result": result_page,
    "status": status_page,
    "recorded": recorded_page,
    "drift": drift_page,
    "check": check_page,
    "history": history_page,
}
"""A maker for each page worth looking at."""


CODES: Final = frozenset(
    {
        "kind",
        "version",
        "action",
        "reason",
        "state",
        "class",
        "severity",
        "role",
        "origin",
        "digest",
        "use",
        "change",
        "commit",
        "missing",
        "with",
        "required",
    }
)
"""Names of fields that hold one of a few words of ours, or a digest."""
TIMES: Final = frozenset({"createTime", "completeTime", "promoteTime", "since"})
_NAMED: Final = frozenset({"scores", "comparisons", "declared", "effective"})
"""Objects whose names are those that people gave."""


def poisoned(part: Any, text: str, kept: frozenset[str] = CODES, *, named: bool = False) -> Any:
    """The document with the text before each of its texts, but for those under names that are ``kept``.

    What is ``named`` by people has it before its names, too.
    """
    if isinstance(part, dict):
        return {
            text + name if named else name: one if name in kept else poisoned(one, text, kept, named=name in _NAMED)
            for name, one in part.items()
        }
    if isinstance(part, list | tuple):
        return type(part)(poisoned(one, text, kept) for one in part)
    if isinstance(part, Struct):
        names = zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True)
        return replace(
            part,
            **{
                field: poisoned(getattr(part, field), text, kept, named=name in _NAMED)
                for field, name in names
                if name not in kept and getattr(part, field) != ""  # which the document leaves out
            },
        )
    return text + part if isinstance(part, str) and not isinstance(part, Enum) else part
