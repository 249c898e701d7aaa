"""The rules for a tuning job that is to be created."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.emulator.errors import Violation, invalid
from reconciler.emulator.limits import Rule, violations
from reconciler.emulator.messages import snake_case
from reconciler.emulator.vertex_dataset import URI

MAX_DISPLAY_NAME = 128
MAX_EPOCHS = 100
MAX_LABELS = 64
LABEL_KEY = r"[a-z][a-z0-9_-]{0,63}"
LABEL_VALUE = r"[a-z0-9_-]{0,64}"
"""64 characters each: https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs ."""

_JOB_RULES: Mapping[str, Rule] = {
    "tunedModelDisplayName": (
        lambda value: len(value) <= MAX_DISPLAY_NAME,
        f"must have at most {MAX_DISPLAY_NAME} characters",
    ),
}
_HYPERPARAMETER_RULES: Mapping[str, Rule] = {
    "epochCount": (lambda value: 1 <= value <= MAX_EPOCHS, f"must be between 1 and {MAX_EPOCHS}"),
    "learningRateMultiplier": (lambda value: value > 0, "must be greater than 0"),
}


def check_job(job: Mapping[str, Any]) -> None:
    """Raises ApiError with a violation for everything in a new job that breaks a rule."""
    wrong = [Violation(f"tuning_job.{each.field}", each.description) for each in _violations(job)]
    if wrong:
        raise invalid("CreateTuningJobRequest", wrong)


def _violations(job: Mapping[str, Any]) -> Iterator[Violation]:
    yield from violations(job, _JOB_RULES)
    yield from _label_violations(job.get("labels", {}))
    if "baseModel" not in job and "preTunedModel" not in job:
        yield Violation("base_model", "either base_model or pre_tuned_model is required")
    yield from _spec_violations(job.get("supervisedTuningSpec", {}))


def _label_violations(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > MAX_LABELS:
        yield Violation("labels", f"must have at most {MAX_LABELS} entries, but has {len(labels)}")
    for key, value in labels.items():
        if not re.fullmatch(LABEL_KEY, key):
            yield Violation("labels", f'the key must match {LABEL_KEY}, but is "{key[:100]}"')
        if not re.fullmatch(LABEL_VALUE, value):
            yield Violation("labels", f'the value of {key[:100]} must match {LABEL_VALUE}, but is "{value[:100]}"')


def _spec_violations(spec: Mapping[str, Any]) -> Iterator[Violation]:
    prefix = "supervised_tuning_spec."
    if "trainingDatasetUri" not in spec:
        yield Violation(f"{prefix}training_dataset_uri", "is required")
    for name in ("trainingDatasetUri", "validationDatasetUri"):
        if name in spec and not URI.fullmatch(spec[name]):
            described = f'must have the form gs://bucket/object.jsonl, but is "{spec[name][:100]}"'
            yield Violation(f"{prefix}{snake_case(name)}", described)
    hyperparameters = dict(spec.get("hyperParameters", {}))
    if "epochCount" in hyperparameters:
        hyperparameters["epochCount"] = int(hyperparameters["epochCount"])
    yield from violations(hyperparameters, _HYPERPARAMETER_RULES, f"{prefix}hyper_parameters.")
