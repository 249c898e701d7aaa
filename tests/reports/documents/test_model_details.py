"""Portraits of recorded models: what is known of each generation, and its loss curve where it was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks, RecordedMiss
from reconciler.domain.lock import Lock, LockedHyperparameters, LockedModel
from reconciler.domain.model import RemoteModel, Snapshot, Source, State
from reconciler.reports.documents.status import StatusReport, curve, model_details, status_report
from support.cases import each_row
from support.render_values import (
    ACTIVE,
    DATA,
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

CHECKS = RecordedChecks(
    "sha256:" + "c" * 64, passed=2, failed=1, scores={"unseen": 0.9}, misses=(RecordedMiss("small", "8", "10"),)
)


def lock(**fields: Any) -> Lock:
    one = replace(ACTIVE, **fields)
    return Lock(models={"number-generator": LockedModel("numbers.yaml", serving=KEY, generations=(one,))})


def told(recorded: Lock, live: Mapping[str, RemoteModel]) -> list[dict[str, Any]]:
    """The model details as a Status document has them, held to its schema."""
    details = model_details(recorded, live, SIMULATED)
    report = status_report(recorded, TARGET, SIMULATED, LOCKFILE, model_details=details)
    document = held_to("status", report)
    assert convert(document, StatusReport) == report
    details: list[dict[str, Any]] = document.get("modelDetails", [])
    return details


def test_a_recorded_generation_is_told_as_the_lockfile_spells_it() -> None:
    (one,) = told(lock(promote_time="2026-11-22T19:18:00Z", checks=CHECKS), {})
    assert (one["name"], one["manifest"], one["serving"]) == ("number-generator", "numbers.yaml", KEY)
    assert one["generations"] == [
        {
            "key": KEY,
            "remote": REMOTE,
            "state": "ACTIVE",
            "createTime": "2026-11-22T19:16:00Z",
            "completeTime": "2026-11-22T19:17:30.123456789Z",
            "promoteTime": "2026-11-22T19:18:00Z",
            "finalLoss": 3.8,
            "totalSteps": 23,
            "checks": {
                "digest": CHECKS.digest,
                "passed": 2,
                "failed": 1,
                "scores": {"unseen": 0.9},
                "failures": [{"check": "small", "prompt": "8", "answer": "10"}],
            },
            "source": {"baseModel": "models/gemini-3.5-flash"},
            "dataset": {"path": "datasets/next-number.csv", "digest": DATA, "examples": 15},
            "hyperparameters": {"declared": {"batchSize": 2}, "effective": {"batchSize": 2, "epochCount": 3}},
        }
    ]


def test_what_the_service_shows_is_believed_first() -> None:
    live = training_model(3, 7.5, math.nan, 5.25)
    recorded = lock(state=State.CREATING, final_loss=None, complete_time="", hyperparameters=LockedHyperparameters())
    (one,) = told(recorded, {REMOTE: replace(live, hyperparameters={"batchSize": 4})})
    (generation,) = one["generations"]
    assert generation["state"] == "CREATING"
    assert generation["curve"] == [[1, 7.5], [3, 5.25]]
    assert generation["hyperparameters"]["effective"] == {"batchSize": 4}
    assert "finalLoss" not in generation


def test_the_last_loss_of_what_ended_meanwhile_is_its_final_one() -> None:
    live = training_model(3, 7.5, 5.25, state=State.ACTIVE)
    (one,) = told(lock(state=State.CREATING, final_loss=None), {REMOTE: live})
    assert one["generations"][0]["finalLoss"] == 5.25


def test_rejected_generations_say_why_and_children_whose_they_are() -> None:
    child = replace(ACTIVE, source=Source(tuned_model="base", key="base-22222222"), rejection="it rhymes")
    model = LockedModel("m.yaml", rejected=(KEY,), generations=(child,))
    (one,) = told(Lock(models={"poems": model}), {})
    assert "serving" not in one
    (generation,) = one["generations"]
    assert (generation["rejected"], generation["rejection"]) == (True, "it rhymes")
    assert generation["source"] == {"tunedModel": "base", "generation": "base-22222222"}


@each_row("count", [1, 2, 99, 100, 101, 150, 199, 5000])
def test_a_long_curve_is_thinned_and_keeps_both_ends(count: int) -> None:
    points = curve([Snapshot(step, 0, 1 / step) for step in range(1, count + 1)])
    steps = [step for step, _ in points]
    assert len(points) == min(count, 100)
    assert (steps[0], steps[-1]) == (1, count)
    assert steps == sorted(set(steps))
    widths = {after - before for before, after in pairwise(steps)}
    assert not widths or max(widths) - min(widths) <= 1


def test_losses_that_nothing_can_draw_are_left_out() -> None:
    assert curve([Snapshot(1, 0, math.inf), Snapshot(2, 0, math.nan), Snapshot(3, 0, -math.inf)]) == ()


@given(locks, st.lists(remote_models, max_size=3))
def test_model_details_obey_their_schema(recorded: Lock, shown: list[RemoteModel]) -> None:
    details = told(recorded, {one.remote: one for one in shown})
    assert [one["name"] for one in details] == sorted(recorded.models)
