"""The size of a training, as the services count it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.domain.plan import TrainingEstimate
from reconciler.planning.training_time import estimate_training, total_steps
from support.core_cases import CAPABILITIES, Made, manifest


@pytest.mark.parametrize(
    ("examples", "epochs", "batch", "steps"),
    [(15, 3, 2, 23), (15, 3, 4, 12), (15, 50, 4, 188), (1, 1, 64, 1), (16, 10, 16, 10)],
)
def test_steps_are_counted_as_the_service_counts_them(examples: int, epochs: int, batch: int, steps: int) -> None:
    assert total_steps(examples, {"epochCount": epochs, "batchSize": batch}) == steps


@pytest.mark.parametrize("known", [{}, {"epochCount": 3}, {"batchSize": 2}, {"epochCount": 3, "batchSize": 0}])
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
