"""The size of a training, as the services count it; how long it will still take, and how often to poll it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Capabilities, RemoteModel, Snapshot, Source, State
from reconciler.domain.plan import Action, Kind, Reason, TrainingEstimate
from reconciler.planning.training_time import (
    completed_steps,
    estimate_training,
    poll_delay,
    reports_progress,
    seconds_left,
    total_steps,
    training_start,
    with_durations,
)
from support.cases import each_row
from support.core_cases import BASE_MODEL, CAPABILITIES, START, Made, at, manifest, recorded


@each_row(
    ("examples", "epochs", "batch", "steps"),
    [(15, 3, 2, 23), (15, 3, 4, 12), (15, 50, 4, 188), (1, 1, 64, 1), (16, 10, 16, 10)],
)
def test_steps_are_counted_as_the_service_counts_them(examples: int, epochs: int, batch: int, steps: int) -> None:
    assert total_steps(examples, {"epochCount": epochs, "batchSize": batch}) == steps


@each_row("known", [{}, {"epochCount": 3}, {"batchSize": 2}, {"epochCount": 3, "batchSize": 0}])
def test_steps_are_unknown_while_epochs_or_batch_are(known: dict[str, int]) -> None:
    assert total_steps(15, known) is None


def test_what_is_left_out_is_estimated_from_the_services_defaults() -> None:
    made = manifest(Made(hyperparameters={"epochCount": 3}, examples=15))
    assert estimate_training(made, CAPABILITIES) == TrainingEstimate(
        examples=15, epochs=3, batch=16, steps=3, estimated=True
    )
    unknown = TrainingEstimate(examples=15, epochs=3, estimated=True)
    assert estimate_training(made, replace(CAPABILITIES, defaults={})) == unknown


def test_time_is_told_where_the_service_tells_its_pace() -> None:
    made = manifest(Made(hyperparameters={"epochCount": 3, "batchSize": 2}, examples=15))
    paced = replace(CAPABILITIES, seconds_per_step=1.65, overhead_seconds=2.0)
    training = estimate_training(made, paced)
    assert (training.steps, training.estimated) == (23, False)
    assert training.seconds == pytest.approx(23 * 1.65 + 2)


REAL = Capabilities("a service", frozenset())
SIMULATED = Capabilities("a service", frozenset(), simulated=True)
NOW = START + timedelta(minutes=1)


def training(**fields: object) -> RemoteModel:
    return RemoteModel("tunedModels/m", State.CREATING, **fields)  # type: ignore[arg-type] # fields of every type


@each_row(
    ("model", "left"),
    [
        (training(start_time=at(0), completed_steps=10), 60 / 10 * 13),
        (training(start_time=at(0.5), create_time=at(0), completed_steps=10), 30 / 10 * 13),
        (training(create_time=at(0), snapshots=(Snapshot(5, 0, 1.0), Snapshot(20, 2, 0.5))), 60 / 20 * 3),
        (training(start_time=at(0), completed_steps=25), 0),
        (training(start_time=at(0), completed_steps=0), None),
        (training(start_time=at(0)), None),
        (training(completed_steps=5), None),
    ],
)
def test_the_time_left_follows_from_the_pace_so_far(model: RemoteModel, left: float | None) -> None:
    assert seconds_left(model, 23, NOW) == left


def test_without_a_total_there_is_no_telling() -> None:
    assert seconds_left(training(start_time=at(0), completed_steps=5), None, NOW) is None


def test_the_services_own_count_goes_before_the_curve() -> None:
    assert completed_steps(training(completed_steps=0, snapshots=(Snapshot(5, 0, 1.0),))) == 0
    assert completed_steps(training(snapshots=(Snapshot(5, 0, 1.0),))) == 5
    assert completed_steps(training()) == 0


def test_progress_is_told_by_a_count_or_by_a_curve() -> None:
    assert reports_progress(training(completed_steps=0))
    assert reports_progress(training(snapshots=(Snapshot(5, 0, 1.0),)))
    assert not reports_progress(training(total_steps=23))


def test_a_training_counts_from_its_start_or_until_then_from_its_creation() -> None:
    assert training_start(training(create_time=at(0), start_time=at(1))) == START + timedelta(minutes=1)
    assert training_start(training(create_time=at(0))) == START
    assert training_start(training()) is None


@each_row(
    ("left", "waited", "capabilities", "delay"),
    [
        (200, 0, REAL, 10),
        (3600, 0, REAL, 30),
        (5, 0, REAL, 2),
        (0, 0, REAL, 2),
        (None, 0, REAL, 2),
        (None, 100, REAL, 5),
        (None, 10_000, REAL, 30),
        (10, 0, SIMULATED, 0.5),
        (3600, 0, SIMULATED, 1),
        (0.5, 0, SIMULATED, 0.1),
    ],
)
def test_looks_are_spread_over_the_time_left(
    left: float | None, waited: float, capabilities: Capabilities, delay: float
) -> None:
    assert poll_delay(left, waited, capabilities) == delay


_SMALL = Made("small", hyperparameters={"epochCount": 2}, examples=10)
_LARGE = Made("large", hyperparameters={"epochCount": 2}, examples=1_000)
_EARLIER = Lock(
    models={
        "small": LockedModel("small.yaml", generations=(recorded(_SMALL, created=0, completed=10),)),
        "large": LockedModel("large.yaml", generations=(recorded(_LARGE, created=0, completed=40),)),
        "failed": LockedModel("failed.yaml", generations=(recorded(_SMALL, state="FAILED", created=0, completed=1),)),
        "ended before it began": LockedModel("odd.yaml", generations=(recorded(_SMALL, created=9, completed=1),)),
    }
)


@each_row(
    ("name", "base_model", "examples", "epochs", "minutes"),
    [
        ("small", BASE_MODEL, 10, 2, 10),
        ("small", BASE_MODEL, 5, 2, 10),  # the overhead stays
        ("small", BASE_MODEL, 10, 6, 30),
        ("other", BASE_MODEL, 900, 2, 40),
        ("other", BASE_MODEL, 2_000, 2, 80),
        ("other", BASE_MODEL, 1_000, None, 40),
        ("other", "models/other", 10, 2, None),
        ("small", "models/other", 10, 2, 10),
        ("small", BASE_MODEL, 0, 2, None),
        ("small", BASE_MODEL, 10, 1e308, 5_000_000),
    ],
)
def test_earlier_trainings_show_how_long_one_takes(
    name: str, base_model: str, examples: int, epochs: float | None, minutes: float | None
) -> None:
    """Those of the same manifest, or else of the same base model; failed ones show nothing."""
    training = TrainingEstimate(examples=examples, epochs=epochs, estimated=False)
    create = Action(name, "m.yaml", Kind.CREATE, Reason.NOT_FOUND, source=Source(base_model), training=training)
    known = replace(create, training=replace(training, seconds=1.0))
    first, second = with_durations([create, known], _EARLIER)
    assert first.training
    assert first.training.seconds == (None if minutes is None else minutes * 60)
    assert second == known
    assert with_durations([create], Lock()) == (create,)
