"""What holds of deletions in every world."""

from __future__ import annotations

from hypothesis import event, given

from reconciler.domain.model import State
from reconciler.domain.plan import Kind, Reason
from reconciler.planning.generations import is_suspicious
from support.core_cases import SCOPE
from support.core_pruning import PruningWorld, pruning_worlds


def nothing_is_deleted_that_serves_is_published_or_protected_by_any_lockfile(world: PruningWorld) -> None:
    deleted = world.deletions()
    event(f"deletes {min(len(deleted), 3)}")
    assert not {one.remote for one in deleted} & set(world.relied_on())
    protected = {one.name for one in world.manifests if one.lifecycle.protect or one.lifecycle.suspend}
    assert not {one.name for one in deleted} & protected


def nothing_is_deleted_that_is_not_ours_or_is_not_what_was_recorded(world: PruningWorld) -> None:
    for one in world.deletions():
        model = world.observation.models[one.remote]
        assert model.mark is None or model.mark.scope == SCOPE
        recorded = world.recorded(one.remote)
        if recorded:
            assert {entry.create_time for entry in recorded} == {model.create_time}
        else:
            assert model.mark is not None
            assert (one.reason, world.request.pruning and world.request.pruning.older_than is not None) == (
                Reason.ABANDONED,
                True,
            )
        assert model.state is not State.CREATING


def nothing_is_deleted_that_something_descends_from_which_stays(world: PruningWorld) -> None:
    deleted = {one.remote for one in world.deletions()}
    assert not deleted & world.ancestors_of_what_stays(deleted)


def what_descends_from_something_is_deleted_before_it(world: PruningWorld) -> None:
    deleted = {one.remote: one for one in world.deletions()}
    for remote in deleted:
        above = world.ancestors_of(remote) & deleted.keys() - {remote}
        for ancestor in above:
            assert remote in deleted[ancestor].descendants


def an_observation_that_is_not_believed_deletes_nothing(world: PruningWorld) -> None:
    if is_suspicious(world.lock, world.observation):
        made = world.plan()
        assert {one.kind for one in made.actions} <= {Kind.HOLD}
        assert {one.name for one in made.actions} >= {
            name for name, block in world.lock.models.items() if block.generations and world.request.complete
        } - {one.name for one in world.manifests}


def what_is_not_declared_is_deleted_only_when_everything_was_read(world: PruningWorld) -> None:
    if not world.request.complete:
        assert {one.name for one in world.deletions()} <= world.declared


def deleting_what_a_plan_deletes_leaves_at_most_records_without_models(world: PruningWorld) -> None:
    once = world.without(world.deletions())
    left = once.deletions()
    assert all(one.remote == "" for one in left)
    assert once.without(left).deletions() == []


def every_generation_that_is_there_is_deleted_or_told_why_it_is_kept(world: PruningWorld) -> None:
    if is_suspicious(world.lock, world.observation):
        return
    made = world.plan()
    held = {one.remote for one in made.actions if one.deletion}
    kept = {one.remote for one in made.kept}
    assert not held & kept
    assert all(one.reason for one in made.kept)
    ours = {
        one.remote
        for one in world.observation.models.values()
        if (one.mark and one.mark.scope == SCOPE and not world.recorded(one.remote))
    }
    assert ours <= held | kept


@given(pruning_worlds())
def test_what_holds_of_deletions(world: PruningWorld) -> None:
    for holds in (
        nothing_is_deleted_that_serves_is_published_or_protected_by_any_lockfile,
        nothing_is_deleted_that_is_not_ours_or_is_not_what_was_recorded,
        nothing_is_deleted_that_something_descends_from_which_stays,
        what_descends_from_something_is_deleted_before_it,
        an_observation_that_is_not_believed_deletes_nothing,
        what_is_not_declared_is_deleted_only_when_everything_was_read,
        deleting_what_a_plan_deletes_leaves_at_most_records_without_models,
        every_generation_that_is_there_is_deleted_or_told_why_it_is_kept,
    ):
        holds(world)
