"""What holds of drift in every world."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.lock import Lock
from reconciler.domain.model import Limits
from reconciler.domain.plan import Kind, Observation, Reason, Request
from reconciler.planning.drift import drift
from support.core_worlds import World, worlds, worlds_without_ids

ALL_WORLDS = worlds() | worlds_without_ids()
BESIDE_NOOP = frozenset({DriftClass.REPLACED, DriftClass.DEGRADED, DriftClass.MISSING})
"""Classes of drift that a manifest may have although its plan changes nothing."""


def found(world: World) -> tuple[Finding, ...]:
    return drift(world.inputs())


def unasked(world: World) -> World:
    """The world without requests for training and without limits, which drift ignores."""
    return replace(world, request=Request(complete=world.request.complete), limits=Limits())


def findings_always_exist_are_sorted_and_say_something_of_every_manifest(world: World) -> None:
    findings = found(world)
    assert list(findings) == sorted(findings, key=Finding.sort_key)
    assert {one.name for one in world.manifests} <= {one.name for one in findings}
    assert all(one.message and (one.remedy or one.kind.severity == "note") for one in findings)
    assert len({(one.kind, one.name, one.key, one.remote, one.field) for one in findings}) == len(findings)


def findings_do_not_depend_on_the_order_of_what_they_are_made_from(world: World, random: Any) -> None:
    def shuffled(items: Any) -> list[Any]:
        mixed = list(items)
        random.shuffle(mixed)
        return mixed

    other = replace(
        world,
        manifests=tuple(shuffled(world.manifests)),
        observation=Observation(dict(shuffled(world.observation.models.items())), world.observation.gone),
        lock=Lock(world.lock.target, dict(shuffled(world.lock.models.items()))),
    )
    assert found(other) == found(world)


def what_a_plan_would_train_or_patch_is_drift(world: World) -> None:
    wanted = {one.name for one in unasked(world).plan().of_kind(Kind.CREATE, Kind.UPDATE)}
    drifted = {one.name for one in found(world) if one.severity == "drift"}
    assert wanted <= drifted


def where_a_plan_finds_nothing_to_do_there_is_no_drift_that_it_could_mend(world: World) -> None:
    made = unasked(world).plan()
    idle = {one.name for one in made.of_kind(Kind.NOOP) if one.reason is Reason.IN_SYNC}
    idle -= {one.name for one in made.actions if one.kind is not Kind.NOOP}
    kinds = {one.kind for one in found(world) if one.name in idle and one.severity == "drift"}
    assert kinds <= BESIDE_NOOP


def what_is_in_sync_has_no_drift(world: World) -> None:
    findings = found(world)
    synced = {one.name for one in findings if one.kind is DriftClass.IN_SYNC}
    assert synced.isdisjoint(one.name for one in findings if one.severity == "drift")


def with_fewer_paths_nothing_is_called_an_orphan(world: World) -> None:
    part = replace(world, request=Request(complete=False))
    assert DriftClass.ORPHANED not in {one.kind for one in found(part)}


@given(ALL_WORLDS, st.randoms(use_true_random=False))
def test_what_holds_of_drift(world: World, random: Any) -> None:
    findings_do_not_depend_on_the_order_of_what_they_are_made_from(world, random)
    for holds in (
        findings_always_exist_are_sorted_and_say_something_of_every_manifest,
        what_a_plan_would_train_or_patch_is_drift,
        where_a_plan_finds_nothing_to_do_there_is_no_drift_that_it_could_mend,
        what_is_in_sync_has_no_drift,
        with_fewer_paths_nothing_is_called_an_orphan,
    ):
        holds(world)
