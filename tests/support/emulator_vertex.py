"""The embedded service in process as Vertex AI and Cloud Storage; Vertex AI's own protos judge whatever it answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any

import httpx
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import Parse

from support.base_models import VERTEX
from support.emulator_world import World
from support.google_clients import vertex, vertex_v1beta1

PARENT = "projects/demo/locations/us-central1"
URI = "gs://data/numbers.jsonl"
NUMBERS = [(str(number), str(number + 1)) for number in range(15)]
DONE = 10 + 12
"""Three epochs of 15 examples in batches of four are 12 steps of a second; start and end take ten."""

_RESPONSES = (
    (r"GET .*/operations/\d+|DELETE .*|POST .*:(un)?deployModel|POST .*/endpoints", Operation),
    (r"POST .*:cancel", Empty),
    (r"POST .*:generateContent", "GenerateContentResponse"),
    (r"POST .*:countTokens", "CountTokensResponse"),
    (r"GET .*/tuningJobs", "ListTuningJobsResponse"),
    (r".*/tuningJobs.*", "TuningJob"),
    (r"GET .*/publishers/google/models", "ListPublisherModelsResponse"),
    (r"GET .*/publishers/google/models/[^/]+", "PublisherModel"),
    (r"GET .*/models", "ListModelsResponse"),
    (r"GET .*/models/[^/]+:listVersions", "ListModelVersionsResponse"),
    (r"(GET|PATCH) .*/models/[^/]+", "Model"),
    (r"GET .*/endpoints", "ListEndpointsResponse"),
    (r"GET .*/endpoints/[^/]+", "Endpoint"),
)


def line(question: str, answer: str, **more: Any) -> str:
    """An example in Vertex AI's form."""
    turns = [{"role": role, "parts": [{"text": text}]} for role, text in (("user", question), ("model", answer))]
    return json.dumps({"contents": turns, **more})


def lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A data set in Vertex AI's form."""
    return "".join(f"{line(*pair)}\n" for pair in pairs).encode()


def scored(question: str, preferred: str, rejected: str) -> bytes:
    """A preference pair in Vertex AI's form."""
    turns = [{"role": "user", "parts": [{"text": question}]}]
    completions = [
        {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
        for score, text in ((1, preferred), (0, rejected))
    ]
    return json.dumps({"contents": turns, "completions": completions}).encode()


class Vertex(World):
    """One embedded service with a data set in its Cloud Storage."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.put(URI, lines(NUMBERS))

    def put(self, uri: str, content: bytes) -> dict[str, Any]:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        response = self.storage("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media", content, name=name)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def storage(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None, **query: str
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
                url = httpx.URL(path).copy_merge_params(query)
                return await client.request(method, url, content=content, headers=headers)

        return asyncio.run(send())

    def ok(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        response = self.send(method, path, body, **query)
        assert response.status_code == 200, response.text
        request = f"{method} {path.partition('?')[0]}"
        message = next(message for pattern, message in _RESPONSES if re.fullmatch(pattern, request))
        _ = vertex.DeployModelResponse, vertex.Endpoint  # an operation may hold one
        api = vertex_v1beta1 if path.startswith("/v1beta1/") else vertex
        proto = getattr(api, message).pb()() if isinstance(message, str) else message()
        Parse(json.dumps(_in_protos(response.json())), proto, ignore_unknown_fields=False)
        return dict(response.json())

    def tune(self, *, parent: str = PARENT, spec: Any = None, parameters: Any = None, **job: Any) -> dict[str, Any]:
        return self.ok("POST", f"/v1/{parent}/tuningJobs", request(spec=spec, parameters=parameters, **job))

    def job(self, created: dict[str, Any]) -> dict[str, Any]:
        return self.ok("GET", f"/v1/{created['name']}")

    def jobs(self, *, parent: str = PARENT, **query: Any) -> list[str]:
        page = self.ok("GET", f"/v1/{parent}/tuningJobs", **query)
        return [job["name"] for job in page.get("tuningJobs", [])]


NOT_IN_PROTOS = frozenset({"gcsMetricsUri", "tuningJobState", "tuningJobMetadata"})
"""Fields of a job that the protos lack: Google's REST reference has the first, google-genai has all of them."""


def _in_protos(message: dict[str, Any]) -> dict[str, Any]:
    """The part of a response that the protos can judge."""
    jobs = [_in_protos(job) for job in message.get("tuningJobs", ())]
    known = {name: value for name, value in message.items() if name not in NOT_IN_PROTOS}
    return {**known, "tuningJobs": jobs} if jobs else known


def request(*, spec: Any = None, parameters: Any = None, **job: Any) -> dict[str, Any]:
    """The body of a create, which is itself a strict TuningJob where it is meant to be a good one."""
    described = {
        "trainingDatasetUri": URI,
        "hyperParameters": {"epochCount": "3", **(parameters or {})},
        **(spec or {}),
    }
    source = {} if "preTunedModel" in job else {"baseModel": VERTEX}
    return {**source, "supervisedTuningSpec": described, **job}
