"""The lockfile is read in pull requests: whatever happens to one model changes a few lines, in its own block."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, Miss, check_results
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel, LockedTarget
from reconciler.domain.model import Failure, RemoteModel, Snapshot, State
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Checked,
    Completed,
    Declared,
    Deleted,
    Disappeared,
    Event,
    Failed,
    Intended,
    Progressed,
    Promoted,
    Published,
    Rejected,
    Renamed,
    Restored,
    Started,
    Withdrawn,
    record,
)
from reconciler.state.lockfile import dumps
from support.cases import each_row
from support.core_strategies import generation

NAMES: Final = [f"model-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
NAME: Final = "model-m"
OLD, NOW, NEXT = (f"{NAME}-{letter * 8}" for letter in "abc")
WHOLE: Final = 32
"""The lines of a record of a generation, at most."""
REPORT: Final = check_results(
    "sha256:" + "1" * 64,
    (
        CheckResult(name="small", passed=True, passes=1, answers=1, score=1, minimum=1),
        CheckResult(
            name="large", passed=False, passes=0, answers=1, score=0, minimum=1, misses=(Miss("8", "10", "expected 9"),)
        ),
    ),
)


def one(key: str, number: int, **fields: object) -> LockedGeneration:
    known = {"epochCount": 3, "batchSize": 4}
    moment = f"2026-01-0{number}T00:00:00Z"
    common = {
        "hyperparameters": LockedHyperparameters(known, known),
        "create_time": moment,
        "total_steps": 15,
        "operation": "x/1",
    }
    return generation(key, **(common | fields))


def recorded(name: str, state: State = State.ACTIVE) -> LockedModel:
    keys = [f"{name}-{letter * 8}" for letter in "cba"]
    newest = one(keys[0], 3, state=state, create_time="" if state is State.CREATING else "2026-01-03T00:00:00Z")
    return LockedModel(f"{name}.yaml", keys[1], generations=(newest, one(keys[1], 2), one(keys[2], 1)))


def live(state: State, **fields: object) -> RemoteModel:
    shown = RemoteModel(
        f"tunedModels/{NEXT}",
        state,
        hyperparameters={"epochCount": 3, "batchSize": 4},
        create_time="2026-01-03T00:00:00Z",
        complete_time="2026-01-03T00:01:00Z",
        snapshots=(Snapshot(15, 2, 3.5),),
        total_steps=15,
    )
    return replace(shown, **fields)  # type: ignore[arg-type] # the fields are of several types


FRESH = one(f"{NAME}-dddddddd", 4, create_time="", hyperparameters=LockedHyperparameters(), state=State.CREATING)
LATER = one(f"{NAME}-dddddddd", 4)
TRANSITIONS: Mapping[str, tuple[State, Event, int]] = {
    "declared elsewhere": (State.ACTIVE, Declared(NAME, "moved.yaml", protect=False), 2),
    "protected": (State.ACTIVE, Declared(NAME, f"{NAME}.yaml", protect=True), 2),
    "intended": (State.ACTIVE, Intended(NAME, f"{NAME}.yaml", replace(FRESH, remote="", state=State.INTENDED)), WHOLE),
    "created": (State.ACTIVE, Started(NAME, f"{NAME}.yaml", FRESH), WHOLE),
    "adopted": (State.ACTIVE, Adopted(NAME, f"{NAME}.yaml", LATER), WHOLE),
    "looked at": (State.CREATING, Progressed(NAME, NEXT, live(State.CREATING, complete_time=""), 15), 1),
    "ready": (State.CREATING, Completed(NAME, NEXT, live(State.ACTIVE)), 5),
    "failed": (State.CREATING, Failed(NAME, NEXT, live(State.FAILED, failure=Failure(3, "no"))), 9),
    "cancelled": (State.CREATING, Cancelled(NAME, NEXT, live(State.CANCELLED, snapshots=())), 4),
    "missing": (State.ACTIVE, Disappeared(NAME, NOW), 2),
    "checked": (State.ACTIVE, Checked(NAME, NEXT, REPORT), 16),
    "promoted": (State.ACTIVE, Promoted(NAME, NEXT, "", "2026-01-04T00:00:00Z"), 3),
    "rejected": (State.ACTIVE, Rejected(NAME, NOW, "it is slow"), 5),
    "published": (State.ACTIVE, Published(NAME, NOW), 1),
    "deleted": (State.ACTIVE, Deleted(NAME, OLD, f"tunedModels/{OLD}"), 2),
}


def changed(before: Lock, after: Lock) -> list[str]:
    """The lines that git shows as added or removed."""
    with TemporaryDirectory() as folder:
        for name, lock in (("before", before), ("after", after)):
            Path(folder, name).write_text(dumps(lock), encoding="utf-8")
        told = subprocess.run(
            ["git", "diff", "--no-index", "--no-ext-diff", "--no-color", "--unified=0", "before", "after"],  # noqa: S607 - the git that there is
            cwd=folder,
            capture_output=True,
            check=False,
            text=True,
        ).stdout
    return [line for line in told.splitlines() if line[0] in "+-" and line[:3] not in {"+++", "---"}]


def lock_of(state: State) -> Lock:
    return Lock(LockedTarget("default", "embedded", "demo"), {name: recorded(name, state) for name in NAMES})


@each_row(("state", "event", "most"), TRANSITIONS.values(), ids=TRANSITIONS.keys())
def test_what_happens_to_one_model_changes_few_lines_of_its_block(state: State, event: Event, most: int) -> None:
    before = lock_of(state)
    after = record(before, event)
    lines = changed(before, after)
    assert 0 < len(lines) <= most, "\n".join(lines)
    old, new = (json.loads(dumps(lock))["models"] for lock in (before, after))
    assert {name for name in NAMES if old[name] != new[name]} == {NAME}
    whole = dumps(Lock(models={NAME: before.models[NAME]})) + dumps(Lock(models={NAME: after.models[NAME]}))
    assert all(line[1:] in whole for line in lines)


@pytest.mark.parametrize(
    ("there", "back", "most"),
    [
        (Rejected(NAME, NOW, "it is slow"), Restored(NAME, NOW), 6),
        (TRANSITIONS["intended"][1], Withdrawn(NAME, FRESH.key), WHOLE),
    ],
)
def test_what_is_taken_back_leaves_nothing(there: Event, back: Event, most: int) -> None:
    before = lock_of(State.ACTIVE)
    done = record(before, there)
    undone = record(done, back)
    assert len(changed(done, undone)) <= most
    assert record(undone, Promoted(NAME, NOW, "")) == before


def test_a_new_model_is_a_block_between_the_others() -> None:
    before = lock_of(State.ACTIVE)
    after = record(before, Started("model-mm", "mm.yaml", replace(FRESH, key="model-mm-aaaaaaaa")))
    lines = changed(before, after)
    assert len(lines) <= WHOLE + 6
    assert all(line.startswith("+") for line in lines)


def test_a_renamed_model_moves_and_nothing_else() -> None:
    before = lock_of(State.ACTIVE)
    after = record(before, Renamed("model-n2", NAME, "n2.yaml"))
    others = [one for one in NAMES if one != NAME]
    assert [after.models[name] for name in others] == [before.models[name] for name in others]
    size = len(dumps(Lock(models={NAME: before.models[NAME]})).splitlines())
    assert len(changed(before, after)) <= 2 * size


def test_a_whole_life_of_a_model_never_touches_another() -> None:
    lock = lock_of(State.CREATING)
    for name in ("ready", "checked", "promoted", "published", "rejected", "missing"):
        before, lock = lock, record(lock, TRANSITIONS[name][1])
        assert [lock.models[other] for other in NAMES if other != NAME] == [
            before.models[other] for other in NAMES if other != NAME
        ]
