"""The embedded service in process, at a time that the test sets; Google's own protos judge whatever it answers."""

from __future__ import annotations

import asyncio
import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import Parse
from google.rpc import error_details_pb2  # noqa: F401 - registers the details that an error may hold
from google.rpc.status_pb2 import Status

from reconciler.emulator.app import create_app
from reconciler.emulator.errors import SERVER
from reconciler.emulator.training import TrainingPace
from reconciler.providers.vertex.spec import SPEC
from support.google_clients import LazyModule, gemini, palm

FIXTURES = Path(__file__).parent.parent / "fixtures" / "legacy"
START = datetime(2026, 1, 1, tzinfo=UTC)
PACE = TrainingPace(step_seconds=1, overhead_seconds=10)
"""A step a second; the training starts after 1 s, its first step after 9 s, and it ends 1 s after its last step."""
REQUEST: dict[str, Any] = json.loads((FIXTURES / "create_tuned_model.request.json").read_text(encoding="utf-8"))
"""15 examples in 3 epochs of batches of 2: 23 steps."""
DONE = 10 + 23
# legacy base models: models/text-bison-001, models/gemini-1.5-flash-001-tuning
BASE_MODELS = {"v1beta3": "models/text-bison-001", "v1beta": "models/gemini-1.5-flash-001-tuning"}
"""The first tunable base model of each version, which the old quickstarts take."""

_PROTOS: dict[str, LazyModule] = {"v1": gemini, "v1beta3": palm, "v1beta": gemini}
_RESPONSES = (
    (r"GET tunedModels", "ListTunedModelsResponse"),
    (r"POST tunedModels|GET tunedModels/[^/]+/operations/.*", Operation),
    (r"POST .*:transferOwnership|DELETE .*", Empty),
    (r"POST .*:generateText", "GenerateTextResponse"),
    (r"POST .*:generateContent", "GenerateContentResponse"),
    (r"POST .*:countTokens", "CountTokensResponse"),
    (r"GET .*/permissions", "ListPermissionsResponse"),
    (r".*/permissions.*", "Permission"),
    (r"(GET|PATCH) tunedModels/[^/]+", "TunedModel"),
    (r"GET models", "ListModelsResponse"),
    (r"GET models/[^/]+", "Model"),
)


class World:
    """One embedded service; ``advance`` moves its clock."""

    def __init__(
        self, store: Path | None = None, *, world: Path | None = None, pace: TrainingPace = PACE, now: datetime = START
    ) -> None:
        self.now = now
        seeded = random.Random(7)  # noqa: S311 - made-up ids, no secret
        self.app = create_app(
            store=store,
            clock=lambda: self.now,
            random=seeded,
            settings=pace,
            world=world,
            base_models=SPEC.catalog(),
        )

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def send(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return asyncio.run(self._send(method, path, content, query))

    async def _send(self, method: str, path: str, content: bytes | None, query: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            response = await client.request(method, path, content=content, params=query or None)
        assert response.headers["server"] == SERVER
        return response

    def ok(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        response = self.send(method, path, body, **query)
        assert response.status_code == 200, response.text
        judge(method, path, response.text)
        return dict(response.json())

    def refused(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str, str]:
        """HTTP status, google.rpc status and message of a refusal."""
        response = self.send(method, path, body, **query)
        error = response.json()["error"]
        assert error["code"] == response.status_code
        status = error.pop("status")
        Parse(json.dumps(error), Status(), ignore_unknown_fields=False)
        return response.status_code, status, error["message"]

    def create(self, chosen: str = "m", version: str = "v1beta3", **changes: Any) -> dict[str, Any]:
        body = {**REQUEST, "base_model": BASE_MODELS[version], **changes}
        return self.ok("POST", f"/{version}/tunedModels", body, tunedModelId=chosen)

    def names(self, version: str = "v1beta3", **query: Any) -> list[str]:
        page = self.ok("GET", f"/{version}/tunedModels", **query)
        return [model["name"].removeprefix("tunedModels/") for model in page.get("tunedModels", [])]


def judge(method: str, path: str, text: str) -> None:
    """Reads a response as the proto of its call, strictly."""
    _, version, rest = path.partition("?")[0].split("/", 2)
    message = next(message for pattern, message in _RESPONSES if re.fullmatch(pattern, f"{method} {rest}"))
    for api in _PROTOS.values():
        _ = api.CreateTunedModelMetadata  # an operation may hold that of another version
    proto = getattr(_PROTOS[version], message).pb()() if isinstance(message, str) else message()
    Parse(text, proto, ignore_unknown_fields=False)


def training(**hyperparameters: Any) -> dict[str, Any]:
    """A tuningTask with the usual examples and exactly these hyperparameters."""
    return {"trainingData": REQUEST["tuning_task"]["training_data"], "hyperparameters": hyperparameters}


def examples(*pairs: tuple[str, str]) -> dict[str, Any]:
    """A tuningTask with these examples."""
    return {"trainingData": {"examples": {"examples": [{"textInput": a, "output": b} for a, b in pairs]}}}
