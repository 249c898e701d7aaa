"""Deleting models: last, only approved ones, and only if the plan still applies."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError, ServiceError
from reconciler.domain.lock import Lock
from reconciler.domain.model import Handle, Lifecycle, Limits, Manifest, Resources, Source, State
from reconciler.domain.plan import Kind, Plan, Pruning, Reason, Request
from reconciler.domain.ports import Provider
from reconciler.engine.prune import Pruner
from reconciler.planning.events import Deleted, Event, Forgotten, Published, Rejected, Unserved, record
from reconciler.state.lockfile import dumps
from reconciler.state.published_pointer import newly_published
from support.engine_fake import World as Jobs
from support.engine_fake import manifest as job_manifest
from support.engine_world import World, answering, manifest, tuning
from support.provider_service import error

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

ASKED = Request(pruning=Pruning())
ONE = Lifecycle(retain=1)


class Pruned(Struct, dict=True):
    """What a run of pruning did: what was approved, what was left, and what happened."""

    approved: Plan
    left: Plan
    events: list[Event]
    pruner: Pruner

    @property
    def deleted(self) -> list[str]:
        return [event.key for event in self.events if isinstance(event, Deleted)]


def prune(
    world: World,
    *manifests: Manifest,
    request: Request = ASKED,
    meanwhile: Callable[[], object] = lambda: None,
    publish: Callable[[Lock], Any] = lambda _lock: (),
    unprotected: tuple[str, ...] = (),
) -> Pruned:
    """Look, let something happen, and delete."""
    events: list[Event] = []
    recorder = world.recorder(world.checkout, events)

    def pruner(provider: Provider) -> Pruner:
        context = replace(world.context(provider, manifests, recorder), publish=publish)
        return Pruner(context, request, unprotected)

    async def act(provider: Provider) -> Pruned:
        run = pruner(provider)
        return Pruned(approved, await run.delete(approved), events, run)

    approved = world.with_provider(lambda provider: pruner(provider).plan())
    meanwhile()
    return world.with_provider(act)


def keys_of(world: World, name: str = "numbers") -> list[str]:
    """Return the keys of the recorded generations, the oldest first."""
    return [one.key for one in reversed(world.checkout.lock.models[name].generations)]


STORE = "service.sqlite3"


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, datetime]]:
    """Folders after one to four trainings of the same model with that many epochs, and when the last one ended."""
    base = tmp_path_factory.mktemp("histories")
    (base / "now").mkdir()
    world = World(base / "now", store=base / "now" / STORE)
    found = []
    for count in range(1, 5):
        world.run(manifest(hyperparameters=tuning(epochCount=count)))
        found.append((Path(shutil.copytree(world.folder, base / str(count))), world.time.now))
    return found


class After(Protocol):
    def __call__(self, trainings: int, **fields: Any) -> World:
        """Return a world of its own after that many trainings."""


@pytest.fixture
def after(histories: list[tuple[Path, datetime]], tmp_path: Path) -> After:
    def copied(trainings: int, **fields: Any) -> World:
        folder, now = histories[trainings - 1]
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        world = World(tmp_path, store=tmp_path / STORE, **fields)
        world.time.now = now
        return world

    return copied


def ids(world: World) -> set[str]:
    return {model["name"].removeprefix("tunedModels/") for model in world.everything()}


def states(world: World, name: str = "numbers") -> list[State]:
    return [one.state for one in reversed(world.checkout.lock.models[name].generations)]


def latest(epochs: int = 3, **fields: Any) -> Manifest:
    return manifest(hyperparameters=tuning(epochCount=epochs), **({"lifecycle": ONE} | fields))


def test_a_superseded_generation_is_deleted_and_stays_recorded(after: After) -> None:
    world = after(3)
    first, second, third = keys_of(world)
    ran = prune(world, latest())
    assert set(ran.deleted) == {first, second}
    assert ids(world) == {third}
    assert states(world) == [State.DELETED, State.DELETED, State.ACTIVE]
    assert (ran.left.actions, ran.pruner.refused) == ((), {})


def test_planning_deletions_sends_only_get_requests(after: After) -> None:
    world = after(2)
    text, before = world.checkout.text, len(world.relay.lines)

    async def look(provider: Provider) -> Plan:
        context = world.context(provider, (latest(2),), world.recorder(world.checkout, []))
        return await Pruner(context, ASKED).plan()

    assert len(world.with_provider(look).actions) == 1
    assert {line.split()[0] for line in world.relay.lines[before:]} == {"GET"}
    assert world.checkout.text == text


def test_a_generation_that_was_promoted_again_is_not_deleted(after: After) -> None:
    """Another run rolled back in the same checkout between plan and deletion."""
    world = after(2)
    first, second = keys_of(world)

    def roll_back() -> None:
        lock = record(world.checkout.lock, Rejected("numbers", second, "no"))
        model = replace(lock.models["numbers"], serving=first)
        world.checkout.path.write_text(dumps(replace(lock, models={"numbers": model})))

    ran = prune(world, latest(2), meanwhile=roll_back)
    assert [one.key for one in ran.approved.actions] == [first]
    assert (ran.deleted, ids(world)) == ([], {first, second})
    assert any(notice.startswith(f"{first} is kept: it is serving") for notice in ran.left.notices)


def test_candidates_since_the_plan_are_left_for_another_run(after: After) -> None:
    world = after(2)
    first, second = keys_of(world)
    ran = prune(world, latest(3), meanwhile=lambda: world.run(latest(3)))
    assert ran.deleted == [first]
    assert {second} <= ids(world)
    assert [one.key for one in ran.left.actions] == [second]


def test_another_model_with_the_same_name_is_not_deleted(after: After) -> None:
    world = after(2)
    first, _ = keys_of(world)

    def replaced() -> None:
        old = world.request("GET", f"tunedModels/{first}")
        world.request("DELETE", f"tunedModels/{first}")
        task = {
            "hyperparameters": {"epochCount": 1},
            "trainingData": {"examples": {"examples": [{"textInput": "1", "output": "2"}] * 20}},
        }
        body = {"baseModel": old["baseModel"], "displayName": "another model", "tuningTask": task}
        world.request("POST", "tunedModels", body, tunedModelId=first)

    ran = prune(world, latest(2), meanwhile=replaced)
    assert (ran.deleted, first in ids(world)) == ([], True)


def test_a_refused_deletion_does_not_stop_the_others(after: After) -> None:
    keys: list[str] = []

    def answer(request: HttpRequest) -> Response | None:
        refused = request.method == "DELETE" and keys and request.url.path.endswith(keys[0])
        return error(400, "FAILED_PRECONDITION", "It is in use.") if refused else None

    world = after(3, around=answering(answer))
    first, second, third = keys[:] = keys_of(world)
    ran = prune(world, latest())
    assert ran.deleted == [second]
    assert "It is in use" in str(ran.pruner.refused["numbers"].error)
    assert [one.key for one in ran.left.actions] == [first]
    assert states(world) == [State.ACTIVE, State.DELETED, State.ACTIVE]
    assert third in ids(world)


def test_a_missing_model_counts_as_deleted(after: After) -> None:
    world = after(4)
    first, *_ = keys_of(world)
    ran = prune(world, latest(4), meanwhile=lambda: world.request("DELETE", f"tunedModels/{first}"))
    assert first not in ran.deleted
    assert states(world)[0] is State.MISSING


def test_nothing_is_deleted_when_many_models_are_missing(after: After) -> None:
    world = after(4)
    keys = keys_of(world)

    def vanish() -> None:
        for key in keys[1:]:
            world.request("DELETE", f"tunedModels/{key}")

    with pytest.raises(ReconcileError, match=r"^nothing was deleted: 3 recorded models are gone at once"):
        prune(world, latest(4), meanwhile=vanish)
    assert ids(world) == {keys[0]}


def test_a_deleted_failed_training_still_holds_its_manifest(tmp_path: Path) -> None:
    world = World(tmp_path)
    diverging = manifest(hyperparameters=tuning(learningRate=1.0))
    assert world.run(diverging).outcome.failed
    assert len(prune(world, diverging).deleted) == 1
    assert (ids(world), states(world)) == (set(), [State.DELETED])
    (held,) = world.look(diverging).actions
    assert (held.kind, held.reason) == (Kind.HOLD, Reason.FAILED)
    assert "not a number" in held.message
    assert world.run(diverging, request=Request(retry=frozenset({"numbers"}))).approved.of_kind(Kind.CREATE)


def test_a_deleted_generation_is_trained_again_only_by_a_plan(after: After) -> None:
    world = after(2)
    first, _ = keys_of(world)
    prune(world, latest(2))
    ran = world.run(latest(1))
    assert [one.key for one in ran.approved.of_kind(Kind.CREATE)] == [first]
    assert world.checkout.lock.models["numbers"].serving == first


# orphans


def test_an_orphan_stops_serving_before_it_is_deleted_and_removed(after: After) -> None:
    world = after(1)
    (key,) = keys_of(world)
    ran = prune(world)
    told = [type(event) for event in ran.events if isinstance(event, Unserved | Deleted)]
    assert (told, ran.deleted) == ([Unserved, Deleted], [key])
    assert world.checkout.lock.models == {}


@pytest.mark.parametrize("works", [True, False])
def test_the_pointer_is_published_before_a_serving_orphan_is_deleted(after: After, *, works: bool) -> None:
    world = after(1)
    (key,) = keys_of(world)
    lock = record(world.checkout.lock, Published("numbers", key))
    world.checkout.path.write_text(dumps(lock))
    there: list[set[str]] = []

    def publish(lock: Lock, only: frozenset[str] | None) -> tuple[Published, ...]:
        assert only == {"numbers"}
        there.append(ids_now())
        if not works:
            raise ReconcileError("the pointer cannot be written")
        return newly_published(lock)

    def ids_now() -> set[str]:
        """The models that were deleted so far, from the requests."""
        return {line.rpartition("/")[2] for line in world.relay.lines if line.startswith("DELETE")}

    ran = prune(world, publish=publish)
    assert there[0] == set()
    assert (ran.deleted, ids(world)) == (([key], set()) if works else ([], {key}))
    assert ("numbers" in world.checkout.lock.models) is not works
    if not works:
        assert "the pointer cannot be written" in str(ran.pruner.refused["numbers"].error)


def test_the_protection_of_an_orphan_is_removed_on_request(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run(manifest(lifecycle=Lifecycle(protect=True)))
    (key,) = keys_of(world)
    assert prune(world).deleted == []
    assert prune(world, unprotected=("numbers",)).deleted == [key]


# lineage


def family(world: World) -> tuple[Manifest, Manifest]:
    parent = manifest()
    child = manifest("leaf", source=Source(tuned_model="numbers"))
    world.run(parent, child)
    return parent, child


def test_children_are_deleted_before_their_parents(tmp_path: Path) -> None:
    world = World(tmp_path)
    family(world)
    before = len(world.relay.lines)
    prune(world)
    deletes = [line.rpartition("/")[2] for line in world.relay.lines[before:] if line.startswith("DELETE")]
    assert [one.partition("-")[0] for one in deletes] == ["leaf", "numbers"]


def test_a_parent_is_kept_when_its_child_cannot_be_deleted(tmp_path: Path) -> None:
    def answer(request: HttpRequest) -> Response | None:
        refused = request.method == "DELETE" and "leaf" in request.url.path
        return error(403, "PERMISSION_DENIED", "You may not.") if refused else None

    world = World(tmp_path, around=answering(answer))
    family(world)
    ran = prune(world)
    assert (ran.deleted, len(ids(world))) == ([], 2)
    assert isinstance(ran.pruner.refused["leaf"].error, AccessError)
    assert "is tuned from it, and could not be deleted" in str(ran.pruner.refused["numbers"].error)


# in a run of apply


def test_apply_deletes_last_and_only_what_its_plan_contains(after: After) -> None:
    world = after(2)
    first, second = keys_of(world)
    ran = world.run(latest(3), request=ASKED)
    assert [one.key for one in ran.approved.of_kind(Kind.DELETE)] == [first]
    assert ran.happened[-2:] == ["Deleted", "Decided"]
    assert "Promoted" in ran.happened
    assert states(world) == [State.DELETED, State.ACTIVE, State.ACTIVE]
    assert (ran.outcome.exit_status, ran.outcome.plan.of_kind(Kind.DELETE)) == (ExitStatus.OK, ())
    assert "1 more generation can be deleted; run reconcile prune --dry-run" in ran.outcome.plan.notices
    assert second in ids(world)


def test_apply_reports_failed_deletions(after: After) -> None:
    def answer(request: HttpRequest) -> Response | None:
        return error(400, "FAILED_PRECONDITION", "It is in use.") if request.method == "DELETE" else None

    world = after(2, around=answering(answer))
    ran = world.run(latest(2), request=ASKED)
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert "It is in use" in str(ran.outcome.refused["numbers"].error)


def test_apply_without_prune_deletes_nothing(after: After) -> None:
    world = after(2)
    assert world.run(latest(2)).outcome.exit_status is ExitStatus.OK
    assert len(ids(world)) == 2


# where jobs stay


def jobs_pruned(world: Jobs, *manifests: Manifest) -> list[str]:
    events: list[Event] = []
    applier = world.applier(manifests, options(), events=events)

    async def act() -> None:
        await applier.apply(await applier.plan())

    asyncio.run(act())
    return [event.key for event in events if isinstance(event, Deleted)]


def options() -> Any:
    from reconciler.engine.apply import ApplyOptions

    return ApplyOptions(request=ASKED)


def test_a_deleted_model_whose_job_stays_is_trained_as_another_attempt(
    tmp_path: Path,
) -> None:
    world = Jobs(tmp_path)
    old = job_manifest(hyperparameters={"epochCount": 1}, lifecycle=ONE)
    new = job_manifest(hyperparameters={"epochCount": 2}, lifecycle=ONE)
    world.run(old)
    world.run(new)
    (gone,) = jobs_pruned(world, new)
    assert world.jobs.deleted == {"jobs/1"}
    assert jobs_pruned(world, new) == []
    assert world.run(new).happened == []

    ran = world.run(old)
    (create,) = ran.approved.of_kind(Kind.CREATE)
    assert (create.attempt, create.key == gone) == (1, False)
    assert world.checkout.lock.models["numbers"].serving == create.key


def test_a_job_whose_model_was_deleted_is_not_adopted(tmp_path: Path) -> None:
    world = Jobs(tmp_path)
    world.run(job_manifest())
    world.jobs.deleted.add("jobs/1")
    ran = world.run(job_manifest(), checkout=world.another("lost.json"))
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert str(ran.outcome.refused["numbers"].error) == (
        "jobs/1 has the mark of this scope, but its model was deleted; "
        "run the command again; if this persists, train it again with reconcile apply --replace numbers"
    )
    assert world.another("lost.json").lock.models == {}
    again = world.run(
        job_manifest(), checkout=world.another("lost.json"), request=Request(replace=frozenset({"numbers"}))
    )
    assert again.outcome.exit_status is ExitStatus.OK
    lock = world.another("lost.json").lock
    assert [
        (one.attempt, one.state, one.key == lock.models["numbers"].serving)
        for one in lock.models["numbers"].generations
    ] == [(1, State.ACTIVE, True)]


def test_a_generation_deleted_by_another_checkout_is_not_promoted(tmp_path: Path) -> None:
    world = Jobs(tmp_path)
    old = job_manifest(hyperparameters={"epochCount": 1}, lifecycle=ONE)
    new = job_manifest(hyperparameters={"epochCount": 2}, lifecycle=ONE)
    world.run(old)
    world.run(new)
    other = world.another("other.json")
    other.path.write_text(world.checkout.text)
    assert len(jobs_pruned(world, new)) == 1

    ran = world.run(old, checkout=other)
    assert "cannot be promoted: the model of jobs/1 was deleted" in str(ran.outcome.refused["numbers"].error)
    assert [one.state for one in other.lock.models["numbers"].generations] == [State.ACTIVE, State.DELETED]
    again = world.run(old, checkout=other)
    assert [one.attempt for one in again.approved.of_kind(Kind.CREATE)] == [1]
    assert again.outcome.exit_status is ExitStatus.OK


def test_a_model_that_cannot_be_read_is_kept(after: After) -> None:
    world = after(2)

    def answer(request: HttpRequest) -> Response | None:
        return error(403, "PERMISSION_DENIED", "No.") if request.method == "DELETE" else None

    world.relay.app = answering(answer)(world.app)
    ran = prune(world, latest(2))
    assert ran.deleted == []
    assert isinstance(ran.pruner.refused["numbers"].error, AccessError | ServiceError)
    assert world.with_provider(lambda provider: provider.observe(Handle(ran.approved.actions[0].remote))) is not None


# interrupted, and beside other runs


def on_first(method: str, act: Callable[[], object]) -> Callable[[HttpRequest], None]:
    """Let something happen before the first request with this method is answered."""
    happened: list[bool] = []

    def answer(request: HttpRequest) -> None:
        if request.method == method and "/tunedModels/" in request.url.path and not happened:
            happened.append(True)
            act()

    return answer


def test_a_prune_that_is_cut_off_at_any_deletion_leaves_a_usable_lockfile(after: After) -> None:
    world = after(4)
    first, _second, _third, fourth = keys_of(world)
    rejected = record(world.checkout.lock, Rejected("numbers", first, "speaks French"))
    world.checkout.path.write_text(dumps(rejected))
    saved: list[str] = []

    def remember(request: HttpRequest) -> None:
        if request.method == "DELETE":
            saved.append(world.checkout.text)

    world.relay.app = answering(remember)(world.app)
    prune(world, latest(4))
    assert ids(world) == {fourth}
    for text in saved:  # what the next run finds if the process ends while it waits for this answer
        world.checkout.path.write_text(text)
        assert world.look(latest(4)).failing == ()
        assert world.run(latest(4)).outcome.exit_status is ExitStatus.OK
        assert states(world) == [State.DELETED, State.DELETED, State.DELETED, State.ACTIVE]
        assert world.checkout.lock.models["numbers"].rejected == (first,)
        assert prune(world, latest(4)).deleted == []
    assert len(saved) == 3


def test_a_deletion_that_did_not_happen_is_completed_by_the_next_prune(after: After) -> None:
    unavailable = [True]

    def answer(request: HttpRequest) -> Response | None:
        return error(503, "UNAVAILABLE", "Later.") if request.method == "DELETE" and unavailable else None

    world = after(2, around=answering(answer))
    first, _ = keys_of(world)
    ran = prune(world, latest(2))
    assert (ran.deleted, states(world)) == ([], [State.DELETING, State.ACTIVE])
    assert world.run(latest(2)).outcome.exit_status is ExitStatus.OK
    assert states(world) == [State.DELETING, State.ACTIVE]  # it may be on its way out
    unavailable.clear()
    assert prune(world, latest(2)).deleted == [first]


def test_what_another_run_promotes_between_two_deletions_is_kept(after: After) -> None:
    """Another run rolled back after the observation, before the deletion of what it promoted."""
    world = after(4, limits=Limits(concurrency=1, max_delete_percent=100))
    first, second, third, fourth = keys_of(world)
    deleted: list[str] = []

    def roll_back() -> None:
        lock = record(world.checkout.lock, Rejected("numbers", fourth, "no"))
        deleted.extend(one.key for one in lock.models["numbers"].generations if one.state is State.DELETING)
        left = next(key for key in (first, second, third) if key not in deleted)
        model = lock.models["numbers"].with_serving(left)
        world.checkout.path.write_text(dumps(replace(lock, models={"numbers": model})))

    world.relay.app = answering(on_first("DELETE", roll_back))(world.app)
    ran = prune(world, latest(4))
    serving = world.checkout.lock.models["numbers"].serving
    assert serving in ids(world)
    assert deleted
    assert serving not in ran.deleted
    assert any(notice.startswith(f"{serving} is kept: it is serving") for notice in ran.left.notices)


def test_what_another_run_forgets_before_the_deletion_is_kept(after: After) -> None:
    world = after(2)
    keys = keys_of(world)
    others = manifest("others")
    world.run(others)

    def forget() -> None:
        world.checkout.path.write_text(dumps(record(world.checkout.lock, Forgotten("numbers"))))

    world.relay.app = answering(on_first("GET", forget))(world.app)
    ran = prune(world, others)
    assert (ran.deleted, set(keys) <= ids(world)) == ([], True)
    assert set(world.checkout.lock.models) == {"others"}


@pytest.mark.parametrize("methods", [{"GET"}, {"GET", "DELETE"}])
def test_a_model_that_is_listed_and_not_returned_is_not_deleted(after: After, methods: set[str]) -> None:
    def answer(request: HttpRequest) -> Response | None:
        denied = request.method in methods and "/tunedModels/" in request.url.path and hidden
        return error(403, "PERMISSION_DENIED", "You do not have permission, or it may not exist.") if denied else None

    hidden: list[bool] = []
    world = after(2, around=answering(answer))
    first, second = keys_of(world)
    hidden.append(True)
    ran = prune(world, latest(2))
    hidden.clear()
    assert (ran.deleted, ids(world)) == ([], {first, second})
    assert isinstance(ran.pruner.refused["numbers"].error, AccessError)
    assert states(world) == [State.ACTIVE, State.ACTIVE]


@pytest.mark.parametrize("act", ["delete", "cancel"])
def test_a_model_that_is_denied_does_not_count_as_gone(after: After, act: str) -> None:
    def answer(request: HttpRequest) -> Response | None:
        denied = "/tunedModels/" in request.url.path and request.method in {"GET", "DELETE"}
        return error(403, "PERMISSION_DENIED", "You do not have permission, or it may not exist.") if denied else None

    world = after(1)
    (key,) = keys_of(world)
    world.relay.app = answering(answer)(world.app)
    handle = Handle(f"tunedModels/{key}")

    async def remove(provider: Provider) -> None:
        await (provider.delete(handle, Resources()) if act == "delete" else provider.cancel(handle))

    with pytest.raises(AccessError):
        world.with_provider(remove)
    world.request("DELETE", handle.remote)
    world.with_provider(remove)  # no longer listed, so it is gone
