"""Values that the renderers draw: representative ones, and strategies for arbitrary ones."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.domain.checks import CheckResult, Comparison, Miss, check_results
from reconciler.domain.document import Record, json_text
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel, LockedTarget
from reconciler.domain.model import (
    Capabilities,
    Checkpoint,
    Dataset,
    Failure,
    RemoteModel,
    Resources,
    Snapshot,
    Source,
    State,
    Target,
)
from reconciler.domain.plan import Action, FieldChange, Kind, Plan, Reason, TrainingEstimate
from support import core_strategies
from support.base_models import GEMINI_API

SCHEMAS = Path(__file__).parents[2] / "schemas"

TARGET = Target(name="default", file="specs/reconcile.yaml", provider="embedded", scope="demo")
SIMULATED = Capabilities(label="embedded service", hyperparameters=frozenset(), simulated=True)
REAL = Capabilities(label="Generative Language API v1beta3", hyperparameters=frozenset())
LOCKFILE = "specs/reconcile.lock.json"

KEY = "number-generator-3kq7w2ma"
REMOTE = f"tunedModels/{KEY}"
SPEC, DATA = "sha256:" + "a" * 64, "sha256:" + "b" * 64
START = datetime(2026, 11, 22, 19, 16, tzinfo=UTC)

CREATE = Action(
    name="number-generator",
    file="number-generator.yaml",
    kind=Kind.CREATE,
    reason=Reason.NOT_FOUND,
    key=KEY,
    source=Source(GEMINI_API),
    dataset=Dataset("sha256:" + "0" * 64, "datasets/next-number.csv", 15),
    training=TrainingEstimate(examples=15, epochs=3, batch=2, steps=23, estimated=False, seconds=40.0),
)
IN_SYNC = Action(name="words", file="words.yaml", kind=Kind.NOOP, reason=Reason.IN_SYNC, key="words-abcdefgh")
FAILED = Action(
    name="letters",
    file="words.yaml",
    kind=Kind.HOLD,
    reason=Reason.FAILED,
    key="letters-22222222",
    message="the training failed: out of quota; change the inputs, or train it again with --retry letters",
)

ACTIVE = LockedGeneration(
    key=KEY,
    remote=REMOTE,
    spec=SPEC,
    attempt=0,
    origin="created",
    state=State.ACTIVE,
    source=Source(GEMINI_API),
    dataset=Dataset(DATA, "datasets/next-number.csv", 15),
    hyperparameters=LockedHyperparameters({"batchSize": 2}, {"batchSize": 2, "epochCount": 3}),
    operation=f"{REMOTE}/operations/1",
    total_steps=23,
    final_loss=3.8,
    create_time="2026-11-22T19:16:00Z",
    complete_time="2026-11-22T19:17:30.123456789Z",
)


CHECKS = check_results(
    "sha256:" + "c" * 64,
    (
        CheckResult(
            name="small", passed=False, passes=0, answers=1, score=0, minimum=1, misses=(Miss("8", "10", "expected 9"),)
        ),
        CheckResult(name="large", passed=True, passes=1, answers=1, score=1, minimum=1),
        CheckResult(
            name="roman",
            passed=False,
            passes=1,
            answers=3,
            score=0.3333,
            minimum=0.5,
            misses=(Miss("IV", "", "blocked: SAFETY"),) * 2,
        ),
        CheckResult(
            name="unseen",
            passed=True,
            passes=46,
            answers=50,
            score=0.92,
            minimum=0.8,
            interval=(0.8116, 0.9685),
            leaked=2,
            comparisons=(
                Comparison(
                    other="base",
                    model="models/gemini-3.5-flash",
                    score=0.1,
                    difference=0.82,
                    interval=(0.663, 0.8944),
                    required="better",
                    margin=0,
                    passed=True,
                    better=41,
                    worse=0,
                ),
            ),
            skipped={"serving": "no generation is serving"},
        ),
    ),
)
"""Two checks that pass, one of them an evaluation that compares, and two that do not."""


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def at(self, seconds: float) -> None:
        """Move to that many seconds after the start."""
        self.now = START + timedelta(seconds=seconds)


def training_model(done: int, *losses: float, state: State = State.CREATING) -> RemoteModel:
    """The remote model that belongs to ``ACTIVE`` with ``done`` of 23 steps and a loss for each of the last steps."""
    first = done - len(losses) + 1
    return RemoteModel(
        remote=REMOTE,
        state=state,
        create_time="2026-11-22T19:16:00Z",
        start_time="2026-11-22T19:16:00Z",
        snapshots=tuple(Snapshot(first + at, (first + at) * 2 // 15, loss) for at, loss in enumerate(losses)),
        completed_steps=done,
        total_steps=23,
    )


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema of that name."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    return loaded


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def held_to(name: str, document: dict[str, Any] | Record) -> dict[str, Any]:
    """The document as strict JSON gives it back, after its schema found nothing wrong in it."""
    document = document if isinstance(document, dict) else json.loads(json_text(document))
    errors = list(_validator(name).iter_errors(document))
    assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)
    copy: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    assert copy == document
    return copy


def uncoloured(text: str) -> str:
    """The text without ANSI colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


texts = st.text(max_size=30)
some = st.text(min_size=1, max_size=30)
counts = st.integers(0, 10**9)
names = core_strategies.names()
numbers = st.integers(0, 10**6) | st.floats(0, 1e6)
values = st.none() | texts | numbers | st.booleans()
losses = st.floats()
digests = core_strategies.digests()

datasets = st.builds(Dataset, digests, texts, counts, generation=texts, checksum=texts, size=counts)
resources = st.builds(
    Resources,
    job=texts,
    model=texts,
    endpoint=texts,
    location=texts,
    checkpoints=st.lists(st.builds(Checkpoint, some, counts, counts, texts), max_size=2).map(tuple),
)
_seconds = st.none() | st.floats(0, 1e9)
trainings = st.builds(
    TrainingEstimate,
    examples=counts,
    epochs=numbers,
    batch=numbers,
    steps=counts,
    estimated=st.booleans(),
    seconds=_seconds,
) | st.builds(
    TrainingEstimate,
    examples=counts,
    epochs=st.none() | numbers,
    batch=st.none() | numbers,
    steps=st.none(),
    estimated=st.booleans(),
    seconds=st.none(),
)
actions = st.builds(
    Action,
    name=names,
    file=some,
    kind=st.sampled_from(Kind),
    reason=st.sampled_from(Reason),
    key=texts,
    remote=texts,
    message=texts,
    attempt=counts,
    source=st.none() | st.builds(Source, texts),
    dataset=st.none() | datasets,
    training=st.none() | trainings,
    changes=st.lists(st.builds(FieldChange, some, values, values), max_size=3).map(tuple),
)
plans = st.builds(
    Plan,
    actions=st.lists(actions, max_size=6).map(lambda some: tuple(sorted(some, key=Action.sort_key))),
    notices=st.lists(texts, max_size=2).map(tuple),
    unmanaged=counts,
    candidates=counts,
)
capabilities = st.builds(Capabilities, label=some, hyperparameters=st.just(frozenset[str]()), simulated=st.booleans())
targets = st.builds(
    Target, name=some, file=some, provider=some, scope=some, project=st.none() | texts, location=st.none() | texts
)
generations = st.builds(
    LockedGeneration,
    key=some,
    remote=some,
    spec=digests,
    attempt=counts,
    origin=st.sampled_from(["created", "adopted"]),
    state=st.sampled_from(State),
    source=st.builds(Source, some),
    dataset=datasets,
    hyperparameters=st.builds(
        LockedHyperparameters,
        st.dictionaries(some, numbers, max_size=2),
        st.dictionaries(some, numbers, max_size=2),
    ),
    preamble=texts,
    operation=st.none() | some,
    total_steps=st.none() | counts,
    final_loss=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    create_time=texts,
    complete_time=texts,
    failure=st.none() | st.builds(Failure, st.integers(), texts),
    resources=resources,
)
locks = st.builds(
    Lock,
    target=st.none()
    | st.builds(
        LockedTarget,
        name=some,
        provider=some,
        scope=some,
        project=st.none() | texts,
        location=st.none() | texts,
        limits=st.dictionaries(st.sampled_from(["maxCreates", "maxSteps", "concurrency"]), counts),
    ),
    models=st.dictionaries(
        names,
        st.builds(
            LockedModel,
            manifest=some,
            serving=st.none() | some,
            rejected=st.lists(some, max_size=2, unique=True).map(tuple),
            protect=st.booleans(),
            generations=st.lists(generations, max_size=2, unique_by=lambda one: one.key).map(tuple),
        ),
        max_size=2,
    ),
)
remote_models = st.builds(
    RemoteModel,
    remote=some,
    state=st.sampled_from([State.CREATING, State.ACTIVE, State.FAILED]),
    snapshots=st.lists(st.builds(Snapshot, counts, counts, losses), max_size=3).map(tuple),
    completed_steps=st.none() | counts,
    total_steps=st.none() | counts,
    failure=st.none() | st.builds(Failure, st.integers(), texts),
)
