"""Generations to create, and the judge of what is sent: Google's own protos, read strictly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.ai import generativelanguage_v1beta as gemini
from google.ai import generativelanguage_v1beta3 as palm
from google.cloud.aiplatform_v1.types import tuning_job
from google.protobuf.json_format import Parse

from reconciler.core.identity import Content, dataset_digest, key_of
from reconciler.core.model import Dataset, Example, Generation, Hyperparameters, Sampling, Source
from support.provider_service import Seen

EXAMPLES = tuple(Example(str(number), str(number + 1)) for number in range(15))
BASE_MODELS = {"v1beta3": "models/text-bison-001", "v1beta": "models/gemini-1.5-flash-001-tuning"}
_MESSAGES: dict[str, Any] = {
    "v1beta3": palm.TunedModel,
    "v1beta": gemini.TunedModel,
    "v1": tuning_job.TuningJob,
}


def generation(
    name: str = "number-generator",
    *,
    base_model: str = "models/text-bison-001",
    hyperparameters: Hyperparameters | None = None,
    sampling: Sampling | None = None,
    attempt: int = 0,
) -> Generation:
    declared = {"epochCount": 3, "batchSize": 2, "learningRate": 0.001} if hyperparameters is None else hyperparameters
    source = Source(base_model)
    content = Content("acme/nlp", name, source, declared, dataset_digest(EXAMPLES), attempt)
    return Generation(
        key=key_of(content.mark()),
        mark=content.mark(),
        source=source,
        hyperparameters=declared,
        display_name="number generator",
        description="Says the next number.",
        sampling=sampling or Sampling(),
        dataset=Dataset("", content.data, len(EXAMPLES)),
    )


def judge(requests: Iterable[Seen], version: str) -> int:
    """Read every body that was sent to a version of an API and refuse what its protos do not know.

    Says how many there were. Requests to cancel have no fields.
    """
    bodies = [seen for seen in requests if seen.body not in {b"", b"{}"} and seen.path.startswith(f"/{version}/")]
    for seen in bodies:
        assert seen.method in {"POST", "PATCH"}
        Parse(seen.body, _MESSAGES[version].pb()(), ignore_unknown_fields=False)
    return len(bodies)
