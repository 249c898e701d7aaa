"""What manifests alone say about recorded generations: names that they had, and data sets that they claim."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given
from msgspec.structs import replace

from reconciler.domain.identity import key_of, same_data
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import UNKNOWN_DATA, Dataset, Manifest, RemoteModel, Source, State
from reconciler.domain.plan import Kind, Observation, Reason
from reconciler.planning.adopt import first_generation
from reconciler.planning.events import (
    Cancelled,
    Claimed,
    Disappeared,
    Forgotten,
    Progressed,
    Published,
    Started,
    record,
)
from reconciler.planning.generations import resolve_recorded, satisfies
from reconciler.planning.live_proof import Owner
from reconciler.planning.observed_events import apply_moved, declared_names, find_moved, moved_actions
from reconciler.state.lockfile import dumps, loads
from support.cases import each_row
from support.core_cases import SCOPE, Made, live, manifest, recorded
from support.core_worlds import World, worlds

MADE = Made(name="numbers")
DECLARED = manifest(MADE)
THEIRS = RemoteModel(
    "tunedModels/theirs",
    State.ACTIVE,
    source=Source("models/gemini-3.5-flash"),
    chosen_id="theirs",
    hyperparameters={"epochCount": 3},
    create_time="2026-01-01T00:00:00Z",
)


def called(name: str, *formerly: str, of: Manifest = DECLARED) -> Manifest:
    return replace(of, name=name, file=f"{name}.yaml", formerly=formerly)


def unknown(preamble: str = "") -> Manifest:
    """What adopt writes for THEIRS."""
    return replace(DECLARED, hyperparameters={}, dataset=Dataset(UNKNOWN_DATA, "", 0), preamble=preamble)


def block(*generations: LockedGeneration, **fields: Any) -> LockedModel:
    return replace(LockedModel("numbers.yaml", generations=generations), **fields)


def taken() -> LockedGeneration:
    return first_generation("numbers", SCOPE, THEIRS)


def test_the_digest_of_unknown_data_is_no_data_sets() -> None:
    assert f"sha256:{hashlib.sha256(b'null').hexdigest()}" == UNKNOWN_DATA
    assert same_data(UNKNOWN_DATA, MADE.dataset.digest)
    assert not same_data("sha256:" + "0" * 64, MADE.dataset.digest)


def test_the_key_of_what_is_adopted_never_changes() -> None:
    assert taken().key == "numbers-66bbviuv"


def test_what_is_adopted_is_what_its_manifest_asks_for() -> None:
    one = taken()
    mark = one.mark(SCOPE, "numbers")
    assert (one.key, one.origin, mark.data) == (key_of(mark), "adopted", UNKNOWN_DATA)
    known = resolve_recorded(one, Owner(SCOPE, "numbers"), Observation({THEIRS.remote: THEIRS}))
    assert known.live is THEIRS
    assert satisfies(known, unknown())
    assert satisfies(known, replace(unknown(), hyperparameters={"epochCount": 3}))
    assert not satisfies(known, replace(unknown(), hyperparameters={"epochCount": 4}))
    assert not satisfies(known, replace(unknown(), source=Source("models/other")))
    assert satisfies(known, replace(unknown(), dataset=MADE.dataset))


def test_what_is_adopted_survives_the_lockfile() -> None:
    lock = Lock(LockedTarget("default", "embedded", SCOPE), {"numbers": block(taken())})
    assert loads(dumps(lock), "lock.json") == lock


def test_the_first_data_set_is_claimed_once() -> None:
    one = taken()
    lock = Lock(models={"numbers": block(one)})
    declared = replace(unknown("Say: "), dataset=MADE.dataset)
    (event,) = find_moved(lock, [declared])
    assert event == Claimed("numbers", one.key, MADE.dataset, "Say: ")
    after = apply_moved(lock, [declared])
    (claimed,) = after.models["numbers"].generations
    assert claimed == replace(one, dataset=replace(MADE.dataset, claimed=True), preamble="Say: ")
    assert find_moved(after, [declared]) == ()
    other = replace(declared, dataset=Made(data="B").dataset)
    assert find_moved(after, [other]) == ()
    assert not satisfies(resolve_recorded(claimed, Owner(SCOPE, "numbers"), Observation()), other)
    assert satisfies(resolve_recorded(claimed, Owner(SCOPE, "numbers"), Observation()), declared)


def test_an_object_that_was_not_looked_at_claims_nothing() -> None:
    lock = Lock(models={"numbers": block(taken())})
    assert find_moved(lock, [replace(unknown(), dataset=Dataset("", "gs://bucket/data.jsonl", 0))]) == ()


def test_a_preamble_alone_is_claimed_as_often_as_it_changes() -> None:
    lock = apply_moved(Lock(models={"numbers": block(taken())}), [unknown("Say: ")])
    (one,) = lock.models["numbers"].generations
    assert (one.preamble, one.dataset.claimed, one.dataset.unknown) == ("Say: ", False, True)
    assert [event.preamble for event in find_moved(lock, [unknown()]) if isinstance(event, Claimed)] == [""]


def test_a_renamed_model_keeps_everything_but_its_name() -> None:
    one = recorded(MADE)
    before = block(one, serving=one.key, rejected=("numbers-22222222",), protect=True, published=one.key)
    lock = apply_moved(Lock(models={"numbers": before}), [called("sums", "numbers")])
    assert lock.models == {
        "numbers": LockedModel("numbers.yaml", published=one.key),
        "sums": replace(before, manifest="sums.yaml", published=None),
    }
    told = record(record(lock, Published("numbers", None)), Published("sums", one.key))
    assert told.models == {"sums": replace(before, manifest="sums.yaml")}
    assert find_moved(lock, [called("sums", "numbers")]) == ()


def test_a_renamed_generation_still_matches_and_keeps_its_mark() -> None:
    model = live(MADE)
    known = resolve_recorded(recorded(MADE, created=None), Owner(SCOPE, "sums"), Observation({model.remote: model}))
    assert known.live == model, "its mark has the former name"
    assert known.mark == MADE.mark
    assert satisfies(known, called("sums", "numbers"))


def test_several_former_names_come_together() -> None:
    first, second = recorded(MADE, created=1), recorded(Made(name="words"), created=2)
    lock = Lock(models={"numbers": block(first, serving=first.key), "words": block(second, serving=second.key)})
    after = apply_moved(lock, [called("sums", "numbers", "words")])
    assert list(after.models) == ["sums"]
    assert (after.models["sums"].serving, after.models["sums"].generations) == (first.key, (second, first))


def test_the_actions_say_what_is_carried_over() -> None:
    one = taken()
    lock = Lock(models={"numbers": block(one, serving=one.key)})
    declared = called("sums", "numbers", of=replace(unknown(), dataset=MADE.dataset))
    told = [(one.kind, one.reason, one.key, one.message) for one in moved_actions(lock, [declared])]
    assert told == [
        (
            Kind.ADOPT,
            Reason.RENAMED,
            one.key,
            "recorded as numbers before: its generation is moved to sums, nothing is trained",
        ),
        (
            Kind.ADOPT,
            Reason.DATA_CLAIMED,
            one.key,
            "its training data is unknown: data.csv is recorded as a claim, nothing is trained",
        ),
    ]
    assert declared_names([declared]) == {"sums", "numbers"}


def test_what_is_forgotten_leaves_what_applications_know() -> None:
    one = recorded(MADE)
    lock = Lock(models={"numbers": block(one, serving=one.key)})
    assert record(lock, Forgotten("numbers")).models == {}
    known = Lock(models={"numbers": block(one, serving=one.key, published=one.key)})
    left = record(known, Forgotten("numbers"))
    assert left.models == {"numbers": LockedModel("numbers.yaml", published=one.key)}
    assert record(left, Published("numbers", None)).models == {}


@each_row("state", [state for state in State if state is not State.CANCELLED])
def test_what_somebody_cancelled_stays_so_while_others_wait_for_it(state: State) -> None:
    one = recorded(MADE, state="CANCELLED")
    lock = Lock(models={"numbers": block(one)})
    seen = replace(live(MADE), state=State.CREATING)
    started = replace(one, state=state)
    for event in (
        Started("numbers", "numbers.yaml", started),
        Progressed("numbers", one.key, seen, 5),
        Disappeared("numbers", one.key),
    ):
        assert record(lock, event) == lock


def test_a_training_that_ended_before_it_was_cancelled_counts() -> None:
    lock = Lock(models={"numbers": block(recorded(MADE, state="CREATING"))})
    cancelled = record(lock, Cancelled("numbers", MADE.key, replace(live(MADE), state=State.CANCELLED)))
    assert cancelled.models["numbers"].generations[0].state is State.CANCELLED


@given(worlds())
def test_renaming_what_is_declared_trains_nothing_more(world: World) -> None:
    """The same world with every manifest renamed has the same creates."""
    names = {one.name: f"{one.name}-x" for one in world.manifests}
    renamed = tuple(
        replace(
            one,
            name=names[one.name],
            formerly=(one.name,),
            source=replace(one.source, tuned_model=names.get(one.source.tuned_model, one.source.tuned_model)),
        )
        for one in world.manifests
    )
    request = replace(
        world.request,
        retry=frozenset(names.get(name, name) for name in world.request.retry),
        replace=frozenset(names.get(name, name) for name in world.request.replace),
    )
    before, after = world.plan(), replace(world, manifests=renamed, request=request).plan()
    created = {names.get(one.name, one.name) for one in before.of_kind(Kind.CREATE)}
    assert {one.name for one in after.of_kind(Kind.CREATE)} <= created
