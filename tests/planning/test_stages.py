"""Promotions to the stages after the first one, played through as a state machine without a service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import reduce
from typing import Any

from msgspec.structs import replace

from reconciler.domain.checks import Check, Expectation, RecordedChecks
from reconciler.domain.lock import Lock, LockedModel, LockedStage, LockedTarget, record_target
from reconciler.domain.model import Manifest, Sampling, Stage, Target
from reconciler.domain.plan import Action, Kind, Observation, Plan, Publication, Reason, Request, World
from reconciler.planning.drift import drift
from reconciler.planning.events import (
    Declared,
    Event,
    Promoted,
    Rejected,
    Renamed,
    Requested,
    RequestRemoved,
    Restored,
    Staged,
    Started,
    Targeted,
    Withheld,
    record,
)
from reconciler.planning.lock_review import review_lock, withheld_in_stages
from reconciler.planning.planner import plan
from reconciler.planning.stages import arrange_stages, shared_fields, stage_requests
from reconciler.state.lockfile import dumps, loads
from reconciler.state.merge import merge
from support.cases import each_row
from support.core_cases import CAPABILITIES, NAME, SCOPE, START, Made, live, manifest, recorded

OLD, NEW = Made(hyperparameters={"epochCount": 3}), Made(hyperparameters={"epochCount": 4})
NOW = START + timedelta(days=2)
CHECK = Check("polite", "hi", (Expectation("contains", ("hello",)),))
DAY = timedelta(days=1)
STAGES = (Stage("staging"), Stage("production", "staging", DAY), Stage("eu", "production"))
PUBLISHED = Publication(NOW - DAY)


def target(*stages: Stage) -> Target:
    return Target("default", "reconcile.yaml", "embedded", SCOPE, stages=stages)


TARGET = target(*STAGES)


def lock_of(*, first: str | None = NEW.key, of: Target = TARGET, **stages: LockedStage) -> Lock:
    """A lock with both generations, of which staging has the new one."""
    generations = tuple(recorded(made, created=number) for number, made in ((2, NEW), (1, OLD)))
    return Lock(record_target(of), {NAME: LockedModel("numbers.yaml", first, generations=generations, stages=stages)})


def stage(**fields: Any) -> LockedStage:
    return LockedStage(**{"serving": OLD.key, **fields})


def world_of(lock: Lock, **changes: Any) -> World:
    world = World(
        manifests=(manifest(NEW),),
        lock=lock,
        target=TARGET,
        capabilities=CAPABILITIES,
        now=NOW,
        observation=Observation({made.remote: live(made, created=created) for created, made in ((1, OLD), (2, NEW))}),
        publications={("production", NAME): PUBLISHED, ("eu", NAME): PUBLISHED},
    )
    return replace(world, **changes)


def planned(lock: Lock, **changes: Any) -> Plan:
    return plan(world_of(lock, **changes))


def stage_actions_of(current: Plan) -> list[Action]:
    return [action for action in current.actions if action.stage]


def in_production(current: Plan) -> tuple[str, str, str]:
    (action,) = [action for action in stage_actions_of(current) if action.stage == "production"]
    return action.kind, action.reason, action.message


REQUESTED = lock_of(production=stage(requested=NEW.key))
_UNKNOWN = Publication(NOW - timedelta(hours=1), "this clone is shallow", "fetch all")
CONDITIONS: Mapping[str, tuple[Lock, dict[str, Any], str, str]] = {
    "exactly over": (REQUESTED, {}, Kind.PROMOTE, f"it replaces {OLD.key}"),
    "a second too early": (
        REQUESTED,
        {"now": NOW - timedelta(seconds=1)},
        Reason.SOAKING,
        f"soak ends 2026-01-03 00:00:00 UTC; {OLD.key} keeps serving in production",
    ),
    "a forged time in the lockfile": (
        lock_of(production=stage(requested=NEW.key, promote_time="2020-01-01T00:00:00Z")),
        {"publications": {("production", NAME): Publication(NOW - timedelta(hours=1))}},
        Reason.SOAKING,
        "has been published in staging since 2026-01-02 23:00:00 UTC",
    ),
    "a publication before the model was there": (
        REQUESTED,
        {
            "publications": {("production", NAME): Publication(NOW - 99 * DAY)},
            "observation": Observation(
                {
                    OLD.remote: live(OLD, created=1),
                    NEW.remote: replace(live(NEW, created=2), complete_time="2026-01-02T22:00:00Z"),
                }
            ),
        },
        Reason.SOAKING,
        "has been published in staging since 2026-01-02 22:00:00 UTC",
    ),
    "a long run did not look again": (
        REQUESTED,
        {"publications": {("production", NAME): replace(PUBLISHED, read=NOW - timedelta(seconds=1))}},
        Reason.SOAKING,
        "soak ends 2026-01-03 00:00:00 UTC",
    ),
    "the start is unknown": (
        REQUESTED,
        {"publications": {("production", NAME): _UNKNOWN}},
        Reason.SOAK_UNKNOWN,
        "this clone is shallow; fetch all",
    ),
    "not read": (
        REQUESTED,
        {"publications": {}},
        Reason.SOAK_UNKNOWN,
        "run reconcile plan to read it, without --offline",
    ),
    "not published": (
        REQUESTED,
        {"publications": {("production", NAME): Publication()}},
        Reason.NOT_IN_STAGE,
        f"{NEW.key} is not published in staging yet",
    ),
    "no pointer and git unreadable": (
        REQUESTED,
        {"publications": {("production", NAME): Publication(None, "no git", "use a clone")}},
        Reason.SOAK_UNKNOWN,
        "no git; use a clone",
    ),
    "staging moved meanwhile": (
        lock_of(first=OLD.key, production=stage(serving=None, requested=NEW.key)),
        {"manifests": (manifest(OLD),)},
        Reason.NOT_IN_STAGE,
        f"{NEW.key} is requested, and {OLD.key} is serving in staging; request it with",
    ),
    "rejected in staging by a rollback": (
        reduce(
            record,
            (Rejected(NAME, NEW.key, "bad"), Promoted(NAME, OLD.key, OLD.remote)),
            lock_of(production=stage(requested=NEW.key)),
        ),
        {"manifests": (manifest(OLD),)},
        Reason.REJECTED_IN_STAGE,
        f"{NEW.key} was rejected in staging",
    ),
    "rejected there": (
        lock_of(production=stage(requested=NEW.key, rejected=(NEW.key,))),
        {},
        Reason.REJECTED_IN_STAGE,
        "was rejected in production; the request is removed",
    ),
    "gone at the service": (
        REQUESTED,
        {"observation": Observation({OLD.remote: live(OLD, created=1)}, gone=frozenset({NEW.remote}))},
        Reason.REQUESTED_UNREADY,
        f"; {OLD.key} keeps serving in production",
    ),
    "training": (
        REQUESTED,
        {"observation": Observation({OLD.remote: live(OLD), NEW.remote: live(NEW, state="CREATING")})},
        Reason.REQUESTED_UNREADY,
        "its state is CREATING",
    ),
    "failed": (
        REQUESTED,
        {"observation": Observation({OLD.remote: live(OLD), NEW.remote: live(NEW, state="FAILED")})},
        Reason.REQUESTED_UNREADY,
        "its state is FAILED",
    ),
    "never recorded": (
        lock_of(first="other", production=stage(requested="other")),
        {},
        Reason.REQUESTED_UNREADY,
        "other is requested, and the lockfile does not record it",
    ),
    "nothing served in production before": (
        lock_of(production=stage(serving=None, requested=NEW.key)),
        {"now": NOW - DAY},
        Reason.SOAKING,
        "no generation is serving in production",
    ),
}


@each_row(("lock", "changes", "outcome", "message"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_each_condition_of_a_stage(lock: Lock, changes: dict[str, Any], outcome: str, message: str) -> None:
    kind, reason, found = in_production(planned(lock, **changes))
    assert outcome == (reason if kind == Kind.HOLD else kind)
    assert message in found
    assert not stage_actions_of(planned(lock, **changes, request=Request(promotes=False)))


def test_a_soak_that_is_not_over_does_not_fail_a_run_and_the_stage_before_goes_first() -> None:
    both = lock_of(production=stage(requested=NEW.key), eu=stage(requested=NEW.key))
    found = {action.stage: action for action in stage_actions_of(planned(both))}
    assert (found["production"].kind, found["eu"].reason) == (Kind.PROMOTE, Reason.NOT_IN_STAGE)
    assert not planned(REQUESTED, now=NOW - DAY).failing
    unknown = planned(REQUESTED, publications={("production", NAME): _UNKNOWN})
    assert [action.reason for action in unknown.failing] == [Reason.SOAK_UNKNOWN]


def test_checks_of_a_stage_run_with_those_of_the_manifest_in_this_run() -> None:
    checked = target(STAGES[0], replace(STAGES[1], checks=(CHECK,)))
    declared = replace(manifest(NEW), checks=(replace(CHECK, prompt="other"),))
    names = ["polite", "production: polite"]
    assert [check.name for check in declared.in_stage(checked.stages[1]).checks] == names
    first = replace(STAGES[0], checks=(replace(CHECK, name="first"), CHECK))
    assert [check.name for check in declared.in_stage(first).checks] == ["polite", "first", "staging: polite"]
    assert declared.in_stage(first).in_stage(checked.stages[1]) == declared.in_stage(checked.stages[1])

    def outcome(**changes: Any) -> tuple[str, str, str]:
        return in_production(planned(REQUESTED, target=checked, **changes))

    assert outcome()[:2] == (Kind.CHECK, Reason.CHECKS_NOT_RUN)
    results = {("production", NEW.key): RecordedChecks("sha256:" + "0" * 64, passed=1, failed=0)}
    assert outcome(stage_checks=results)[0] == Kind.PROMOTE
    failed = {("production", NEW.key): RecordedChecks("sha256:" + "0" * 64, passed=0, failed=1)}
    kind, reason, message = outcome(stage_checks=failed)
    assert (kind, reason) == (Kind.HOLD, Reason.CHECKS_FAILED)
    assert f"0 of 1 checks passed; {OLD.key} keeps serving in production" in message


def served(lock: Lock) -> dict[str, str]:
    return lock.models[NAME].serving_by_stage


def test_events_move_one_stage_only() -> None:
    promoted = Promoted(NAME, NEW.key, NEW.remote, "2026-01-03T00:00:00Z", "2", "production", Sampling(0.5))
    lock = record(REQUESTED, promoted)
    assert lock.models[NAME].stage("production") == LockedStage(
        serving=NEW.key,
        previous=OLD.key,
        checkpoint="2",
        promote_time="2026-01-03T00:00:00Z",
        sampling=Sampling(0.5),
    )
    assert lock.models[NAME].serving == NEW.key
    rejected = record(lock, Rejected(NAME, NEW.key, "bad", "production"))
    back = record(rejected, Promoted(NAME, OLD.key, OLD.remote, "2026-01-04T00:00:00Z", stage="production"))
    production = back.models[NAME].stage("production")
    assert (production.serving, production.previous, production.rejected) == (OLD.key, None, (NEW.key,))
    assert back.models[NAME].rejected == ()
    assert served(back) == {"": NEW.key, "production": OLD.key}
    trained = Started(NAME, "numbers.yaml", replace(recorded(OLD, state="CREATING"), remote="tunedModels/again"))
    again = record(back, trained).models[NAME].stage("production")
    assert (again.serving, again.requested) == (None, OLD.key), "another training has to meet the conditions again"
    restored = record(back, Restored(NAME, NEW.key, "production"))
    assert restored.models[NAME].stage("production").rejected == ()
    barred = record(back, Rejected(NAME, NEW.key, "worse", "eu"))
    for lock, reason in ((restored, ""), (record(barred, Restored(NAME, NEW.key, "production")), "worse")):
        assert lock.models[NAME].by_key[NEW.key].rejection == reason, "it is kept while a stage bars the generation"
    asked = record(restored, Requested(NAME, NEW.key, "production"))
    assert [(request.key, request.before) for request in stage_requests(asked, TARGET)] == [(NEW.key, "")]
    assert not list(stage_requests(record(asked, RequestRemoved(NAME, NEW.key, "production")), TARGET))
    assert record(asked, RequestRemoved(NAME, OLD.key, "production")) == asked, "another one was requested since"


def test_a_rollback_in_staging_bars_the_request_for_production() -> None:
    rolled_back = reduce(record, (Rejected(NAME, NEW.key, "bad"), Promoted(NAME, OLD.key, OLD.remote)), REQUESTED)
    assert in_production(planned(rolled_back, manifests=(manifest(OLD),)))[1] == Reason.REJECTED_IN_STAGE
    elsewhere = lock_of(production=stage(serving=NEW.key, rejected=()), eu=stage(requested=NEW.key))
    barred = record(elsewhere, Rejected(NAME, NEW.key, "bad", "production"))
    (action,) = stage_actions_of(planned(barred))
    assert (action.stage, action.reason) == ("eu", Reason.REJECTED_IN_STAGE)


def test_a_generation_whose_endpoint_is_lost_is_deployed_again_and_then_promoted() -> None:
    def actions(lock: Lock, lost: Made) -> list[tuple[str, str, str]]:
        models = (live(made, created=number, deployed=made is not lost) for number, made in ((1, OLD), (2, NEW)))
        current = planned(lock, observation=Observation({model.remote: model for model in models}))
        return [(action.kind, action.reason, action.key) for action in current.actions if action.kind != Kind.NOOP]

    production = lock_of(production=stage(serving=OLD.key))
    assert actions(production, OLD) == [(Kind.UPDATE, Reason.UNDEPLOYED, OLD.key)]
    assert actions(REQUESTED, NEW) == [(Kind.UPDATE, Reason.UNDEPLOYED, NEW.key)], "the promotion follows in this run"
    assert (Kind.PROMOTE, Reason.READY, NEW.key) in actions(REQUESTED, OLD)
    everywhere = lock_of(production=stage(serving=NEW.key), eu=stage(serving=NEW.key))
    assert actions(everywhere, NEW) == [(Kind.UPDATE, Reason.UNDEPLOYED, NEW.key)], "once"


# the fields that all stages share


def test_changed_shared_fields_wait_for_the_last_stage_that_serves_the_generation() -> None:
    changed = replace(manifest(NEW), description="another")
    before = shared_fields(manifest(NEW), CAPABILITIES.mutable)
    both = lock_of(production=stage(serving=NEW.key, fields=before), eu=stage(serving=NEW.key, fields=before))

    def update(lock: Lock, declared: Manifest = changed) -> list[tuple[str, str, str]]:
        actions = planned(lock, manifests=(declared,)).actions
        return [
            (action.kind, action.reason, action.stage)
            for action in actions
            if action.key == NEW.key and action.kind is not Kind.NOOP
        ]

    assert update(both) == [(Kind.HOLD, Reason.FIELDS_SHARED, "eu")]
    assert update(lock_of(production=stage(fields=before))) == [(Kind.UPDATE, Reason.DRIFTED, "")], "not served there"
    approved = record(both, Requested(NAME, NEW.key, "eu"))
    assert (Kind.PROMOTE, Reason.READY, "eu") in update(approved)
    after = shared_fields(changed, CAPABILITIES.mutable)
    moved = record(approved, Promoted(NAME, NEW.key, NEW.remote, stage="eu", fields=after))
    assert update(moved) == [(Kind.UPDATE, Reason.DRIFTED, "")]
    repaired = replace(manifest(NEW), description="")
    assert shared_fields(repaired, CAPABILITIES.mutable) != after
    assert record(both, Declared(NAME, "numbers.yaml", protect=False, fields=after)).models[NAME].stages == (
        both.models[NAME].stages
    ), "only a new stage begins with the declared fields"


# changed stages


_NAMES = {"one": ("staging",), "two": ("staging", "production"), "three": ("staging", "production", "eu")}
_FIRST = {"": NEW.key}
ARRANGED: Mapping[str, tuple[Lock, tuple[str, ...], dict[str, str]]] = {
    "added to a target": (
        lock_of(of=target()),
        _NAMES["two"],
        {"": NEW.key, "production": NEW.key},
    ),
    "one more at the end begins with what passed the most": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        _NAMES["three"],
        {"": NEW.key, "production": OLD.key, "eu": OLD.key},
    ),
    "one more in the middle": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("staging", "canary", "production"),
        {"": NEW.key, "production": OLD.key, "canary": OLD.key},
    ),
    "one more in front": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("dev", "staging", "production"),
        {"": NEW.key, "staging": NEW.key, "production": OLD.key},
    ),
    "the first one renamed": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("test", "production"),
        {"": NEW.key, "staging": NEW.key, "production": OLD.key},
    ),
    "the last one renamed": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("staging", "live"),
        {"": NEW.key, "production": OLD.key, "live": OLD.key},
    ),
    "reordered": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("production", "staging"),
        {"": OLD.key, "staging": NEW.key},
    ),
    "the first one removed": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        ("production",),
        {"": OLD.key, "staging": NEW.key},
    ),
    "the last one removed": (
        lock_of(of=target(*STAGES[:2]), production=stage()),
        _NAMES["one"],
        {"": NEW.key, "production": OLD.key},
    ),
}


@each_row(("lock", "stages", "expected"), ARRANGED.values(), ids=ARRANGED.keys())
def test_records_follow_the_names_of_stages(lock: Lock, stages: tuple[str, ...], expected: dict[str, str]) -> None:
    arranged = record(lock, Staged(stages))
    assert served(arranged) == expected
    assert arranged.target
    assert arranged.target.stages == stages
    assert loads(dumps(arranged), "f") == arranged
    assert record(arranged, Staged(stages)) is arranged
    assert served(record(arranged, Staged(lock.target.stages if lock.target else ()))).items() >= (
        served(lock).items()
    ), "back to what it was"
    facts = record(lock, Targeted(LockedTarget("default", "embedded", SCOPE, stages=stages)))
    assert served(facts) == served(lock), "an unmerged branch moves nothing"


def test_a_removed_stage_that_returns_has_its_own_record() -> None:
    lock = lock_of(of=target(*STAGES[:2]), production=stage())
    assert served(reduce(record, (Staged(("staging",)), Staged(_NAMES["two"])), lock)) == served(lock)


# merges


def merged(base: LockedStage, ours: LockedStage, theirs: LockedStage) -> tuple[LockedStage, str]:
    sides = [lock_of(production=side) for side in (base, ours, theirs)]
    found, swapped = merge(*sides), merge(sides[0], sides[2], sides[1])
    assert found.lock == swapped.lock
    return found.lock.models[NAME].stage("production"), "\n".join(found.notes)


_BASE = stage(serving="k1")
_K2, _K3 = stage(serving="k2", previous="k1"), stage(serving="k3", previous="k1")
MERGES: Mapping[str, tuple[LockedStage, LockedStage, LockedStage, LockedStage, str]] = {
    "one side promoted": (_BASE, _K2, _BASE, _K2, ""),
    "both promoted the same": (_BASE, _K2, _K2, _K2, ""),
    "both promoted": (_BASE, _K2, _K3, _BASE, "a merge never moves a later stage: k1 keeps serving"),
    "one requested, one promoted": (
        _BASE,
        stage(serving="k1", requested="k3"),
        _K2,
        replace(_K2, requested="k3"),
        "",
    ),
    "both requested": (
        _BASE,
        stage(serving="k1", requested="k3"),
        stage(serving="k1", requested="k2"),
        _BASE,
        "the sides requested different generations for production; neither is requested",
    ),
    "one rolled back, one unchanged": (
        _K2,
        stage(serving="k1", rejected=("k2",)),
        _K2,
        stage(serving="k1", rejected=("k2",)),
        "",
    ),
    "one rolled back, one promoted": (
        _K2,
        stage(serving="k1", rejected=("k2",)),
        _K3,
        stage(serving="k1", rejected=("k2",)),
        "one side rejected k2 in production; k1 is serving",
    ),
    "one promoted what the other rejected": (
        stage(serving="k1", requested="k2"),
        _K2,
        stage(serving="k1", rejected=("k2",)),
        stage(serving="k1", rejected=("k2",)),
        "one side promoted k2 to production, and the other rejected it; k1 keeps serving",
    ),
    "one promoted what the other rejected, after a rollback": (
        _K2,
        _K3,
        stage(serving="k1", rejected=("k2", "k3")),
        stage(serving="k1", rejected=("k2", "k3")),
        "one side rejected k2 in production; k1 is serving",
    ),
    "each rejected what the other is serving": (
        _K2,
        stage(serving="k1", rejected=("k2", "k3")),
        stage(serving="k3", rejected=("k2", "k1")),
        stage(serving=None, previous="k1", rejected=("k1", "k2", "k3")),
        "no generation is serving",
    ),
    "one carried the request out, one requested another": (
        stage(serving="k1", requested="k2"),
        _K2,
        stage(serving="k1", requested="k3"),
        replace(_K2, requested="k3"),
        "",
    ),
    "both replaced the request": (
        stage(serving="k1", requested="k2"),
        stage(serving="k1", requested="k3"),
        stage(serving="k1", requested="k4"),
        _BASE,
        "the sides requested different generations for production; neither is requested",
    ),
    "one requested what the other promoted": (_BASE, stage(serving="k1", requested="k2"), _K2, _K2, ""),
    "one requested what is serving, for its shared fields": (
        _BASE,
        stage(serving="k1", requested="k1"),
        stage(serving="k1", rejected=("k0",)),
        stage(serving="k1", requested="k1", rejected=("k0",)),
        "",
    ),
    "published moved on one side": (_BASE, replace(_BASE, published="k1"), _BASE, replace(_BASE, published="k1"), ""),
}


@each_row(("base", "ours", "theirs", "expected", "note"), MERGES.values(), ids=MERGES.keys())
def test_a_merge_never_moves_a_later_stage(
    base: LockedStage, ours: LockedStage, theirs: LockedStage, expected: LockedStage, note: str
) -> None:
    found, notes = merged(base, ours, theirs)
    assert found == expected
    assert note in notes
    assert bool(note) == bool(notes)


def test_a_merge_keeps_a_generation_that_one_side_removed_and_a_stage_of_the_other_needs() -> None:
    base = lock_of(production=stage(serving=NEW.key))
    model = base.models[NAME]
    without = replace(base, models={NAME: replace(model, generations=model.generations[:1], protect=True)})
    asked = record(base, Requested(NAME, OLD.key, "production"))
    assert OLD.key in merge(base, without, asked).lock.models[NAME].by_key


def test_a_merge_moves_records_by_name_when_one_side_reordered_the_stages() -> None:
    base = lock_of(of=target(*STAGES[:2]), production=stage())
    reordered = arrange_stages(base, ("production", "staging"))
    promoted = record(base, Promoted(NAME, NEW.key, NEW.remote, stage="production"))
    found = merge(base, reordered, promoted).lock
    assert served(found) == {"": NEW.key, "staging": NEW.key}
    assert served(merge(base, promoted, reordered).lock) == served(found)


# changed lockfiles


FORGED: Mapping[str, tuple[LockedStage, LockedStage, LockedStage]] = {
    "another generation": (stage(), stage(serving=NEW.key), stage(requested=NEW.key)),
    "a first generation": (LockedStage(), stage(serving=NEW.key), LockedStage(requested=NEW.key)),
    "none": (stage(serving=NEW.key), LockedStage(), stage(serving=NEW.key)),
    "none, and a rejection": (
        stage(serving=NEW.key),
        LockedStage(rejected=(NEW.key,)),
        stage(serving=NEW.key, rejected=(NEW.key,)),
    ),
    "another checkpoint": (stage(), stage(checkpoint="7"), stage()),
    "a rollback to what served before": (
        stage(serving=NEW.key, previous=OLD.key),
        stage(serving=OLD.key, rejected=(NEW.key,)),
        stage(serving=OLD.key, rejected=(NEW.key,)),
    ),
    "a rollback to something else": (
        stage(serving=OLD.key, previous=None),
        stage(serving=NEW.key, rejected=(OLD.key,)),
        LockedStage(requested=NEW.key, rejected=(OLD.key,)),
    ),
    "a rollback, and a new request for what it rejected": (
        stage(serving=NEW.key, previous=OLD.key),
        stage(serving=OLD.key, requested=NEW.key),
        stage(serving=OLD.key, requested=NEW.key),
    ),
    "a rollback, and a request for something else": (
        stage(serving=NEW.key, previous=OLD.key),
        stage(serving=OLD.key, requested="k3", rejected=(NEW.key,)),
        stage(serving=OLD.key, requested="k3", rejected=(NEW.key,)),
    ),
    "a rollback to something else, and a request": (
        stage(serving=OLD.key, previous=None),
        stage(serving=NEW.key, requested="k3", rejected=(OLD.key,)),
        LockedStage(requested="k3", rejected=(OLD.key,)),
    ),
    "another generation, and an older request": (
        stage(requested="k3"),
        stage(serving=NEW.key, requested="k3"),
        stage(requested=NEW.key),
    ),
    "a request": (stage(), stage(requested=NEW.key), stage(requested=NEW.key)),
}


@each_row(("before", "after", "expected"), FORGED.values(), ids=FORGED.keys())
def test_a_pointer_that_was_edited_is_a_request(before: LockedStage, after: LockedStage, expected: LockedStage) -> None:
    base, head = (lock_of(production=record) for record in (before, after))
    withheld = withheld_in_stages(base, head, (manifest(NEW),), TARGET)
    events: tuple[Event, ...] = withheld
    assert reduce(record, events, head).models[NAME].stage("production") == expected
    rows = review_lock(base, head, (manifest(NEW),), TARGET, chosen_ids=True)
    assert rows, "it is a row at the top of the plan"
    assert all(row.kind == "decision" and row.field.startswith("stages.production.") for row in rows)


def test_a_block_with_records_of_a_later_stage_only_counts() -> None:
    for kept in (LockedStage(published=OLD.key), LockedStage(rejected=(OLD.key,))):
        base = replace(lock_of(), models={NAME: LockedModel("numbers.yaml", stages={"production": kept})})
        (row,) = review_lock(base, replace(base, models={}), (), TARGET, chosen_ids=True)
        assert (row.kind, row.name) == ("decision", NAME), "its removal is a row"
        renamed = record(base, Renamed("other", NAME, "other.yaml"))
        assert ("other" in renamed.models) is bool(kept.rejected), "only a published key stays under the former name"
    lost = lock_of(production=stage(serving="lost"))
    messages = [finding.message for finding in drift(world_of(lost))]
    assert "the lockfile records lost as serving, but has no record of that generation" in messages


def test_a_lockfile_with_other_stages_than_target_and_base_is_refused() -> None:
    base = lock_of(production=stage())
    head = replace(base, target=record_target(target(STAGES[0])))
    (row,) = [row for row in review_lock(base, head, (), TARGET, chosen_ids=True) if not row.name][:1]
    assert (row.kind, row.field) == ("fact", "stages[1]")
    grown = target(*STAGES, Stage("us", "production"))
    assert not [row for row in review_lock(base, base, (), grown, chosen_ids=True) if not row.name]
    renamed = target(Stage("production"))
    moved = replace(base, target=record_target(renamed))  # then production would publish what is serving in staging
    (row,) = [row for row in review_lock(base, moved, (), renamed, chosen_ids=True) if not row.name]
    assert (row.kind, row.field, row.after) == ("decision", "stages", "production")
    assert not [row for row in review_lock(Lock(), moved, (), renamed, chosen_ids=True) if not row.name]


def test_a_withheld_promotion_was_made_by_another_run_since() -> None:
    withheld = Withheld(NAME, OLD.key, None, stage="production")
    lock = lock_of(production=stage(serving=NEW.key))
    assert record(lock, withheld) == lock
