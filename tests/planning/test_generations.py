"""Which generation a manifest uses, and which live models belong to a record."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Limits, Manifest, Number, RemoteModel, Source, State, Target
from reconciler.domain.plan import FieldChange, Observation, World
from reconciler.planning.generations import (
    ResolvedGeneration,
    choose_generation,
    has_same_content,
    marked_models,
    replaced_fields,
    shared_remotes,
)
from support.cases import each_row
from support.core_cases import CAPABILITIES, SCOPE, START, Made, at, live, manifest, recorded


def known(
    attempt: int = 0, state: str = "ACTIVE", *, created: float = 0, locked: bool = True, epochs: int = 3
) -> ResolvedGeneration:
    made = Made(attempt=attempt, hyperparameters={"epochCount": epochs})
    return ResolvedGeneration(
        key=made.key,
        remote=made.remote,
        state=State(state),
        mark=made.mark,
        source=made.recorded_source,
        effective=made.declared,
        create_time=at(created),
        failure=None,
        locked=recorded(made) if locked else None,
        live=live(made, state=state),
    )


@each_row(
    ("candidates", "serving", "replacing", "expected"),
    [
        ([], None, False, None),
        ([known(state="FAILED"), known(1, "MISSING"), known(2, "DELETED"), known(3, "INTENDED")], None, True, None),
        ([known(), known(epochs=4, created=1)], None, False, 1),
        ([known(), known(epochs=4, created=1)], 0, False, 0),
        ([known(), known(epochs=4, state="CREATING", created=1)], None, False, 0),
        ([known(state="CREATING"), known(epochs=4, state="CREATING", created=1)], None, False, 1),
        ([known(), known(1)], 0, False, 1),
        ([known(), known(1)], 1, False, 1),
        ([known(), known(1, "CREATING", created=1)], 0, False, 1),
        ([known(), known(1, created=5), known(2, created=1)], 0, False, 2),
        ([known(), known(1, locked=False)], 0, False, 0),
        ([known(), known(1, locked=False)], 0, True, 1),
        ([known(locked=False), known(1, created=1)], None, True, 1),
        ([known(), known(epochs=4, state="CREATING", created=1, locked=False)], None, True, 0),
        ([known(), known(1, locked=False, state="CREATING")], None, True, 1),
        ([known(), known(1, locked=False, state="CREATING")], None, False, 0),
    ],
    ids=[
        "no generation",
        "none is usable",
        "the newest ready",
        "the serving before a newer",
        "a ready before one in training",
        "the newest in training",
        "a recorded replacement",
        "a serving replacement",
        "a replacement in training",
        "the latest of several replacements",
        "an unrecorded attempt is not a replacement",
        "an unrecorded attempt is the requested replacement",
        "a recorded attempt before an unrecorded earlier one",
        "a first attempt is not a replacement",
        "a requested replacement in training",
        "an unrecorded training without a request",
    ],
)
def test_the_generation_to_use(
    candidates: list[ResolvedGeneration], serving: int | None, *, replacing: bool, expected: int | None
) -> None:
    key = None if serving is None else candidates[serving].key
    for ordered in (candidates, candidates[::-1]):
        chosen = choose_generation(tuple(ordered), key, (), replacing=replacing)
        assert chosen == (None if expected is None else candidates[expected])


def test_a_rejected_generation_is_not_used() -> None:
    first, second = known(), known(1)
    assert choose_generation((first, second), first.key, (second.key,)) == first
    assert choose_generation((first,), first.key, (first.key,)) is None


@each_row(
    ("name", "formerly", "same"), [("numbers", (), True), ("counter", ("numbers",), True), ("counter", (), False)]
)
def test_content_is_the_same_under_a_former_name(name: str, formerly: tuple[str, ...], *, same: bool) -> None:
    declared = replace(manifest(Made()), name=name, formerly=formerly)
    made = Made()
    generation = replace(known(), mark=made.mark, effective={}, source=None)
    assert has_same_content(generation, declared) == same


def world_of(declared: Manifest, lock: Lock, *models: RemoteModel) -> World:
    target = Target("default", "reconcile.yaml", "embedded", SCOPE, limits=Limits())
    observation = Observation({model.remote: model for model in models})
    return World((declared,), lock, target, CAPABILITIES, START, observation)


@each_row("state", ["ACTIVE", "CREATING", "FAILED"])
@each_row("shared", [True, False], ids=["access declared", "no access declared"])
def test_permissions_are_read_of_ready_models_only(state: str, *, shared: bool) -> None:
    made, unlisted = Made(), Made(data="B")
    lock = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(recorded(unlisted),))})
    declared = manifest(made, access={} if shared else None)
    world = world_of(declared, lock, live(made, state=state))
    assert shared_remotes(world) == ({made.remote} if shared and state == "ACTIVE" else frozenset())


@pytest.mark.parametrize("created", [0, 5])
def test_a_model_belongs_to_the_name_in_its_mark_whatever_the_lockfile_records(created: float) -> None:
    made = Made()
    lock = Lock(models={"counter": LockedModel("counter.yaml", generations=(recorded(made),))})
    model = live(made, created=created)
    assert marked_models(world_of(manifest(made), lock, model)) == {"numbers": [model]}


MADE, PARENT = Made(), Made("base")
CHILD = Made(parent=PARENT)
RECORD, CHILD_RECORD = recorded(MADE), recorded(CHILD)
PARENTS = Lock(models={"base": LockedModel("base.yaml", generations=(recorded(PARENT),))})


@each_row(
    ("generation", "model", "lock", "fields"),
    [
        (RECORD, live(MADE), Lock(), []),
        (RECORD, replace(live(MADE), source=None), Lock(), []),
        (RECORD, replace(live(MADE), hyperparameters={"other": 1}), Lock(), []),
        (RECORD, replace(live(MADE), source=Source("models/other")), Lock(), ["baseModel"]),
        (RECORD, replace(live(MADE), source=Source(remote="tunedModels/other")), Lock(), ["source"]),
        (CHILD_RECORD, live(CHILD), PARENTS, []),
        (CHILD_RECORD, replace(live(CHILD), source=Source("models/other")), PARENTS, ["source"]),
        (CHILD_RECORD, replace(live(CHILD), source=Source(remote="tunedModels/other")), PARENTS, ["source"]),
        (CHILD_RECORD, replace(live(CHILD), source=Source(remote="tunedModels/other")), Lock(), []),
    ],
    ids=[
        "same",
        "no source is reported",
        "other hyperparameters are reported",
        "another base model",
        "a tuned model",
        "same parent",
        "a base model in place of the parent",
        "another parent",
        "the parent is not recorded",
    ],
)
def test_fields_in_which_a_live_model_differs_from_its_record(
    generation: LockedGeneration, model: RemoteModel, lock: Lock, fields: list[str]
) -> None:
    assert [change.field for change in replaced_fields(generation, model, lock, strict=True)] == fields


@pytest.mark.parametrize(("value", "changes"), [(3, []), (4, [FieldChange("hyperparameters.epochCount", 4, 3)])])
def test_hyperparameters_in_which_a_live_model_differs(value: Number, changes: list[FieldChange]) -> None:
    model = replace(live(MADE), hyperparameters={"epochCount": value})
    assert list(replaced_fields(RECORD, model, Lock(), strict=True)) == changes
