"""Generations to create, and the judge of what is sent: Google's own protos, read strictly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.ai import generativelanguage_v1beta as gemini
from google.ai import generativelanguage_v1beta3 as palm
from google.protobuf.json_format import Parse

from reconciler.core.identity import Content, dataset_digest, key_of
from reconciler.core.model import Dataset, Example, Generation, Hyperparameters, Sampling, Source
from support.provider_service import Seen

EXAMPLES = tuple(Example(str(number), str(number + 1)) for number in range(15))
BASE_MODELS = {"v1beta3": "models/text-bison-001", "v1beta": "models/gemini-1.5-flash-001-tuning"}
_TUNED_MODELS: dict[str, Any] = {"v1beta3": palm.TunedModel, "v1beta": gemini.TunedModel}


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
    """Read every request body as a TunedModel and refuse what the proto does not know; says how many there were."""
    bodies = [seen for seen in requests if seen.body]
    for seen in bodies:
        assert seen.method in {"POST", "PATCH"}
        Parse(seen.body, _TUNED_MODELS[version].pb()(), ignore_unknown_fields=False)
    return len(bodies)
