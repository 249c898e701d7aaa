"""The status document: the record, and what the service shows before it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Failure, RemoteModel, State
from reconciler.reports.documents.status import StatusReport, status_report
from reconciler.reports.writer import render_text
from support.render_values import (
    ACTIVE,
    KEY,
    LOCKFILE,
    REMOTE,
    SIMULATED,
    TARGET,
    held_to,
    locks,
    remote_models,
    training_model,
)


def status(model: LockedModel, *live: RemoteModel) -> dict[str, Any]:
    lock = Lock(models={"number-generator": model})
    shown = {one.remote: one for one in live} or None
    document = held_to("status", status_report(lock, TARGET, SIMULATED, LOCKFILE, live=shown))
    only: dict[str, Any]
    (only,) = document["models"]
    return only


def test_the_record_alone_tells_what_serves() -> None:
    model = status(LockedModel("number-generator.yaml", serving=KEY, protect=True, generations=(ACTIVE,)))
    assert model["serving"] == {"key": KEY, "remote": REMOTE}
    assert model["protect"] is True
    assert model["inProgress"] is False
    assert model["generations"][0]["finalLoss"] == 3.8
    assert model["generations"][0]["completeTime"] == "2026-11-22T19:17:30.123456789Z"


def test_it_shows_since_when_a_generation_is_serving() -> None:
    promoted = replace(ACTIVE, promote_time="2026-11-23T08:00:00Z")
    for model, since in (
        (LockedModel("n.yaml", serving=KEY, generations=(promoted,)), "2026-11-23 08:00"),
        (LockedModel("n.yaml", serving=KEY, generations=(ACTIVE,)), "2026-11-22 19:17"),
        (LockedModel("n.yaml", generations=(promoted,)), "2026-11-22 19:17"),
    ):
        report = status_report(Lock(models={"n": model}), TARGET, SIMULATED, LOCKFILE)
        (row,) = (line for line in render_text(report).splitlines() if line.startswith("n "))
        assert since in row


def test_a_document_says_whether_the_service_was_asked() -> None:
    lock = Lock(models={})
    assert status_report(lock, TARGET, SIMULATED, LOCKFILE).verified is False
    assert status_report(lock, TARGET, SIMULATED, LOCKFILE, live={}).verified is True


def test_a_training_under_way_shows_its_progress() -> None:
    creating = replace(ACTIVE, state=State.CREATING, final_loss=None, complete_time="")
    model = status(LockedModel("n.yaml", generations=(creating,)), training_model(16, 7.21, 5.14))
    assert model["inProgress"] is True
    assert "serving" not in model
    assert model["generations"][0]["progress"] == {
        "completedSteps": 16,
        "totalSteps": 23,
        "percent": 69.6,
        "epoch": 2,
        "loss": 5.14,
    }


def test_where_a_service_tells_no_steps_none_are_invented() -> None:
    queued = RemoteModel(REMOTE, State.CREATING, total_steps=50, phase="QUEUED")
    model = status(LockedModel("n.yaml", generations=(replace(ACTIVE, state=State.CREATING),)), queued)
    (generation,) = model["generations"]
    assert generation["phase"] == "QUEUED"
    assert "progress" not in generation


def test_the_service_is_believed_before_the_record() -> None:
    creating = replace(ACTIVE, state=State.CREATING, final_loss=None, complete_time="")
    ended = replace(training_model(23, 3.8, state=State.ACTIVE), complete_time="2026-11-22T19:20:00Z")
    (generation,) = status(LockedModel("n.yaml", generations=(creating,)), ended)["generations"]
    assert generation["state"] == "ACTIVE"
    assert generation["finalLoss"] == 3.8
    assert generation["completeTime"] == "2026-11-22T19:20:00Z"
    assert "progress" not in generation


def test_a_failure_says_why() -> None:
    failed = replace(ACTIVE, state=State.FAILED, failure=Failure(8, "out of quota"))
    (generation,) = status(LockedModel("n.yaml", generations=(failed,)))["generations"]
    assert generation["error"] == {"code": 8, "message": "out of quota"}


@given(locks, st.none() | st.lists(remote_models, max_size=3))
def test_every_status_obeys_its_schema(lock: Lock, live: list[RemoteModel] | None) -> None:
    remotes = [one.remote for model in lock.models.values() for one in model.generations]
    shown = None if live is None else dict(zip(remotes, live, strict=False))
    report = status_report(lock, TARGET, SIMULATED, LOCKFILE, live=shown)
    assert convert(held_to("status", report), StatusReport) == report
