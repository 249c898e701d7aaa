"""A recorded generation counts only if the live model proves it: the table of what may differ, and what may not."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.lock import (
    Lock,
    LockedEstimate,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    LockedStage,
    LockedTarget,
)
from reconciler.domain.model import (
    DroppedExample,
    DroppedExamples,
    Failure,
    Lifecycle,
    RemoteModel,
    Resources,
    Sampling,
    ServiceEvaluation,
    Source,
    State,
    Suspension,
    Target,
)
from reconciler.domain.plan import Kind, Observation, Pruning, Request, World
from reconciler.planning.adopt import first_generation
from reconciler.planning.drift import drift
from reconciler.planning.events import record
from reconciler.planning.generations import find_live_model
from reconciler.planning.live_proof import Owner, Owners, find_mismatch, is_elsewhere
from reconciler.planning.lock_review import Served, published_lock, requested_serving, review_lock, withheld_promotions
from reconciler.planning.observed_events import apply_corrections
from reconciler.planning.planner import plan
from support.cases import each_row
from support.core_cases import CAPABILITIES, SCOPE, START, Made, at, live, manifest, recorded

MADE = Made()
CHILD = Made("poems", parent=MADE)
OWNER = Owner(SCOPE, "numbers", ("numbers", "digits"))
UNMARKED = live(MADE, under="theirs", marked=False)
ADOPTED = replace(first_generation("numbers", SCOPE, UNMARKED), create_time=at(0))
MARKED = replace(UNMARKED, mark=ADOPTED.mark(SCOPE, "numbers"))
PARENTS = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(recorded(MADE),))})
NINE = {"epochCount": 9, "batchSize": 2}
NAMED = replace(OWNER, adopted="tunedModels/theirs")


def moved(model: RemoteModel, **fields: Any) -> RemoteModel:
    """The model with another value in its mark."""
    assert model.mark is not None
    return replace(model, mark=replace(model.mark, **fields))


@each_row(
    ("record", "owner", "model"),
    [
        (recorded(MADE), OWNER, live(MADE)),
        (recorded(MADE), OWNER, live(MADE, created=40)),  # another run trained it again
        (recorded(MADE), OWNER, live(MADE, marked=False)),
        (recorded(MADE), replace(OWNER, name="digits", names=("digits", "numbers")), live(MADE)),
        (recorded(MADE), replace(OWNER, name="sums", names=None), live(MADE)),
        (recorded(MADE, number=1), OWNER, live(MADE, number=1)),
        (ADOPTED, OWNER, MARKED),
        (replace(ADOPTED, dataset=replace(MADE.dataset, claimed=True)), NAMED, UNMARKED),
        (ADOPTED, NAMED, UNMARKED),
        (recorded(CHILD), Owner(SCOPE, "poems", ("poems",)), live(CHILD)),
        (
            recorded(CHILD),
            Owner(SCOPE, "poems", ("poems",), lock=PARENTS),
            live(CHILD),
        ),
    ],
)
def test_what_the_live_model_proves(record: LockedGeneration, owner: Owner, model: RemoteModel) -> None:
    assert find_mismatch(record, owner, model) is None


@each_row(
    ("record", "owner", "model", "field"),
    [
        (recorded(MADE), OWNER, replace(live(MADE), remote="tunedModels/other"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), scope="theirs"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), name="words"), "remote"),
        (recorded(MADE), replace(OWNER, name="sums", names=("sums",)), live(MADE), "remote"),
        (replace(recorded(MADE), remote="tunedModels/x"), OWNER, live(MADE, under="x"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), spec=Made(data="B").mark.spec), "key"),
        (replace(recorded(MADE), key="numbers-aaaaaaaa"), OWNER, live(MADE), "key"),
        (replace(recorded(MADE), spec=Made(data="B").mark.spec), OWNER, live(MADE), "spec"),
        (replace(recorded(MADE), attempt=1), OWNER, live(MADE), "attempt"),
        (replace(recorded(MADE), dataset=Made(data="B").dataset), OWNER, live(MADE), "dataset.digest"),
        (replace(recorded(MADE), source=Source("models/other")), OWNER, live(MADE), "spec"),
        (replace(recorded(MADE), hyperparameters=LockedHyperparameters()), OWNER, live(MADE), "spec"),
        (recorded(MADE), OWNER, replace(live(MADE), source=Source("models/other")), "source"),
        (recorded(MADE), OWNER, live(MADE, marked=False, created=40), "createTime"),
        (recorded(MADE, created=None), OWNER, live(MADE, marked=False), "createTime"),
        (recorded(MADE), OWNER, live(MADE, marked=False, effective=NINE), "hyperparameters.effective.epochCount"),
        (recorded(MADE, number=1), OWNER, live(MADE, marked=False, number=1), "remote"),
        (replace(recorded(MADE), remote="tunedModels/theirs"), NAMED, UNMARKED, "remote"),
        (ADOPTED, OWNER, UNMARKED, "remote"),
        (ADOPTED, NAMED, replace(UNMARKED, create_time=at(9)), "createTime"),
        (ADOPTED, NAMED, replace(UNMARKED, source=Source("models/other")), "source"),
        (replace(ADOPTED, key="numbers-aaaaaaaa"), NAMED, UNMARKED, "key"),
        (replace(ADOPTED, spec=MADE.mark.spec), NAMED, UNMARKED, "spec"),
        (replace(ADOPTED, attempt=1), NAMED, UNMARKED, "spec"),
        (replace(ADOPTED, origin="created"), NAMED, UNMARKED, "remote"),
        (replace(ADOPTED, source=Source("models/other")), NAMED, replace(UNMARKED, chosen_id=None), "source"),
    ],
)  # fmt: skip
def test_what_the_live_model_contradicts(
    record: LockedGeneration, owner: Owner, model: RemoteModel, field: str
) -> None:
    found = find_mismatch(record, owner, model)
    assert found is not None
    assert found.field == field


@each_row(
    ("remote", "elsewhere"),
    [("jobs/1", False), ("jobs/x", True), ("other/jobs/1", True), ("jobs/1\n", True), ("", False)],
)
def test_names_of_another_project_are_elsewhere(remote: str, *, elsewhere: bool) -> None:
    record = replace(recorded(MADE), remote=remote, resources=Resources())
    assert is_elsewhere(record, replace(OWNER, remote_pattern=r"jobs/[0-9]+")) == elsewhere


# Forge each field of a lockfile with a serving generation, a candidate and an orphan.

SERVING, CANDIDATE, ORPHAN = Made(), Made(hyperparameters={"epochCount": 5}), Made("words")
THEIRS = replace(live(Made("theirs"), under="theirs", marked=False), resources=Resources(endpoint="endpoints/theirs"))
CHECKED = {"of": ("small",), "failed": 1}
DECLARED = replace(
    manifest(CANDIDATE, checks=("small",)), lifecycle=Lifecycle(retain=1), labels={"team": "sums"}, preamble="Add. "
)
POINTER = {"numbers": Served(SERVING.key), "words": Served(ORPHAN.key)}
DETAILS: dict[str, Any] = {"preamble": "Add. ", "total_steps": 15, "final_loss": 0.5}
ENDED = replace(recorded(ORPHAN, completed=1), total_steps=15, final_loss=0.5)
HONEST = Lock(
    target=LockedTarget("default", "embedded", SCOPE),
    models={
        "numbers": LockedModel(
            "numbers.yaml",
            serving=SERVING.key,
            published=SERVING.key,
            labels={"team": "sums"},
            generations=(
                replace(recorded(CANDIDATE, created=9, completed=9, checks=CHECKED), **DETAILS),
                replace(recorded(SERVING, promoted=1, completed=1), **DETAILS),
            ),
        ),
        "words": LockedModel("words.yaml", serving=ORPHAN.key, published=ORPHAN.key, generations=(ENDED,)),
    },
)
OTHER_DIGEST = "sha256:" + "0" * 64
GENERATION_FIELDS: list[tuple[str, Any]] = [
    ("key", "numbers-aaaaaaaa"),
    ("remote", THEIRS.remote),
    ("spec", OTHER_DIGEST),
    ("attempt", 3),
    ("origin", "adopted"),
    *(("state", state) for state in State if state not in {State.ACTIVE, State.MISSING}),
    ("source", Source("models/other")),
    ("hyperparameters", LockedHyperparameters({"epochCount": 9})),
    ("dataset", Made(data="B").dataset),
    ("preamble", "Lie. "),
    ("operation", "operations/theirs"),
    ("total_steps", 1),
    ("final_loss", 0.01),
    ("estimate", LockedEstimate(tokens=1)),
    ("billable_tokens", 1),
    ("create_time", at(50)),
    ("complete_time", at(50)),
    ("failure", Failure(3, "broken")),
    ("resources", Resources(job="jobs/1", model="models/1", endpoint="endpoints/theirs")),
    ("phase", "WAITING_FOR_QUOTA"),
    ("completed_epochs", 7),
    ("dropped_examples", DroppedExamples(1, (DroppedExample(1, "empty"),))),
    ("evaluations", (ServiceEvaluation(run="projects/theirs/locations/us/evaluationRuns/1"),)),
    ("experiment", "projects/theirs/locations/us/metadataStores/default/contexts/1"),
    ("provider_data", {"host": "evil.example"}),
    ("checks", recorded(CANDIDATE, checks={"of": ("small",)}).checks),
    ("promote_time", at(59)),
    ("checkpoint", "9"),
    ("rejection", "worse"),
]
MODEL_FIELDS: list[tuple[str, Any]] = [
    ("manifest", "other.yaml"),
    ("serving", CANDIDATE.key),
    ("serving", None),
    ("rejected", (SERVING.key,)),
    ("protect", True),
    ("published", CANDIDATE.key),
    ("published", None),
    ("labels", {"team": "theirs"}),
    ("sampling", Sampling(2.0)),
    ("applied", {"displayName": "aaaaaaaa"}),
    ("suspend", Suspension(reason="theirs")),
    ("generations", ()),
    *(
        ("stages", {"production": stage})
        for stage in (
            LockedStage(serving=CANDIDATE.key, promote_time="2020-01-01T00:00:00Z"),
            LockedStage(requested=CANDIDATE.key),
            LockedStage(published=CANDIDATE.key),
            LockedStage(rejected=(SERVING.key,)),
            LockedStage(previous=CANDIDATE.key, checkpoint="9", sampling=Sampling(2.0), fields=OTHER_DIGEST),
        )
    ),
]


def world_of(lock: Lock) -> World:
    """What apply --prune starts from, with a published pointer that a pull request cannot change."""
    before = published_lock(lock, POINTER, (DECLARED,))
    withheld = withheld_promotions(before, lock, (DECLARED,))
    observation = Observation(
        {one.remote: one for one in (live(SERVING), live(CANDIDATE, created=9), live(ORPHAN), THEIRS)}
    )
    return World(
        manifests=(DECLARED,),
        lock=reduce(record, withheld, lock),
        target=TARGET,
        capabilities=CAPABILITIES,
        now=START + timedelta(hours=1),
        observation=observation,
        request=Request(
            pruning=Pruning(published=frozenset(served.key for served in POINTER.values())),
            serving=requested_serving(before, lock, (DECLARED,)),
        ),
    )


TARGET = Target("default", "reconcile.yaml", "embedded", SCOPE)


def effects(world: World) -> set[tuple[str, str, str]]:
    """What a plan changes at the service, and which generations it promotes."""
    changing = plan(world).of_kind(Kind.CREATE, Kind.UPDATE, Kind.PROMOTE, Kind.DELETE)
    return {(action.kind, action.key, action.remote) for action in changing}


def addresses(world: World) -> dict[str, tuple[Resources, str]]:
    """Where the prompts of each generation that counts would be sent, and what precedes them."""
    lock, owners = apply_corrections(world).lock, Owners.of(world)
    return {
        generation.remote: (generation.resources, generation.preamble)
        for name, model in lock.models.items()
        for generation in model.generations
        if find_live_model(generation, owners.owner(name), world.observation)
    }


def forged(of: Made, field: str, value: Any) -> Lock:
    """The lockfile with another value in the record of one generation."""
    models = {
        name: replace(
            model,
            generations=tuple(
                replace(known, **{field: value}) if known.key == of.key else known for known in model.generations
            ),
        )
        for name, model in HONEST.models.items()
    }
    return replace(HONEST, models=models)


def shown(lock: Lock) -> tuple[object, ...]:
    """What reports show: the plan, drift, and the review of the pull request."""
    world = world_of(lock)
    review = review_lock(HONEST, lock, (DECLARED,), TARGET, chosen_ids=True)
    return plan(world).actions, drift(world), review


def test_every_field_of_the_lockfile_is_forged() -> None:
    assert {field for field, _ in GENERATION_FIELDS} == set(LockedGeneration.__struct_fields__)
    assert {field for field, _ in MODEL_FIELDS} == set(LockedModel.__struct_fields__)


@each_row("of", [SERVING, CANDIDATE, ORPHAN], ids=["serving", "candidate", "orphan"])
@each_row(("field", "value"), GENERATION_FIELDS, ids=lambda value: str(value)[:20])
def test_a_forged_field_of_a_generation_changes_nothing_and_is_shown(of: Made, field: str, value: Any) -> None:
    lock, honest = forged(of, field, value), world_of(HONEST)
    if lock == HONEST:
        pytest.skip("this is the value")
    world = world_of(lock)
    assert effects(world) <= effects(honest)
    if (of, field) != (ORPHAN, "preamble"):  # no manifest has it: the published one stays
        assert addresses(world).items() <= addresses(honest).items()
    assert shown(lock) != shown(HONEST)


@each_row("name", ["numbers", "words"])
@each_row(("field", "value"), MODEL_FIELDS, ids=lambda value: str(value)[:20])
def test_a_forged_field_of_a_model_changes_nothing_and_is_shown(name: str, field: str, value: Any) -> None:
    lock = replace(HONEST, models={**HONEST.models, name: replace(HONEST.models[name], **{field: value})})
    world, honest = world_of(lock), world_of(HONEST)
    assert effects(world) <= effects(honest)
    assert addresses(world).items() <= addresses(honest).items()
    assert shown(lock) != shown(HONEST)
