"""Generations to create, and the judge of what is sent: Google's own protos, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from google.protobuf.json_format import Parse

from reconciler.domain.identity import Content, dataset_digest, key_of
from reconciler.domain.model import CreateRequest, Dataset, Example, Hyperparameters, Sampling, Source
from support.base_models import GEMINI_API
from support.google_clients import gemini, palm, vertex, vertex_v1beta1
from support.provider_service import Seen

EXAMPLES = tuple(Example(str(number), str(number + 1)) for number in range(15))
_APIS = {"v1beta3": palm, "v1beta": gemini, "v1": vertex, "v1beta1": vertex_v1beta1}
_MESSAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "v1beta3": (
        (r".*:generateText", "GenerateTextRequest"),
        (r".*/permissions(/[^/]+)?", "Permission"),
        (r".*/tunedModels(/[^/:]+)?", "TunedModel"),
    ),
    "v1beta": (
        (r".*:generateContent", "GenerateContentRequest"),
        (r".*/permissions(/[^/]+)?", "Permission"),
        (r".*/tunedModels(/[^/:]+)?", "TunedModel"),
    ),
    "v1": (
        (r".*/(endpoints|publishers/google/models)/[^/]+:generateContent", "GenerateContentRequest"),
        (r".*/endpoints/[^/]+:undeployModel", "UndeployModelRequest"),
    ),
    "v1beta1": ((r".*/tuningJobs", "TuningJob"),),
}
"""The messages that the bodies of requests are, by version and path."""


def generation(
    name: str = "number-generator",
    *,
    base_model: str = GEMINI_API,
    hyperparameters: Hyperparameters | None = None,
    sampling: Sampling | None = None,
    attempt: int = 0,
) -> CreateRequest:
    declared = {"epochCount": 3, "batchSize": 2, "learningRate": 0.001} if hyperparameters is None else hyperparameters
    source = Source(base_model)
    content = Content("acme/nlp", name, source, declared, dataset_digest(EXAMPLES), attempt)
    return CreateRequest(
        key=key_of(content.mark()),
        mark=content.mark(),
        source=source,
        hyperparameters=declared,
        display_name="number generator",
        description="Says the next number.",
        sampling=sampling or Sampling(),
        dataset=Dataset(content.data, "", len(EXAMPLES)),
    )


def judge(requests: Iterable[Seen], version: str) -> int:
    """Read every body that was sent to a version of an API and refuse what its protos do not know.

    Says how many there were. Requests to cancel have no fields.
    """
    bodies = [seen for seen in requests if seen.body not in {b"", b"{}"} and seen.path.startswith(f"/{version}/")]
    for seen in bodies:
        assert seen.method in {"POST", "PATCH"}
        (message,) = [message for path, message in _MESSAGES[version] if re.fullmatch(path, seen.path)]
        Parse(seen.body, getattr(_APIS[version], message).pb()(), ignore_unknown_fields=False)
    return len(bodies)
