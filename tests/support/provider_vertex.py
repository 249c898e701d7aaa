"""Vertex AI and Cloud Storage as they answer, for scripts; and providers that take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import CreateRequest, Target
from reconciler.providers.vertex.provider import Vertex, connect
from reconciler.providers.vertex.spec import capabilities_of, endpoint_of
from reconciler.providers.vertex.wire import JobInputs, write_job
from support.base_models import VERTEX
from support.provider_contract import TARGET
from support.provider_samples import generation
from support.provider_service import Time, error, settings_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

WANTED = generation(base_model=VERTEX, hyperparameters={"epochCount": 3, "adapterSize": 4})
JOBS = "/v1beta1/projects/acme-project/locations/us-central1/tuningJobs"

T = TypeVar("T")


def name_of(number: int) -> str:
    return f"projects/123/locations/us-central1/tuningJobs/{number}"


def body_of(number: int = 1, state: str = "PENDING", wanted: CreateRequest = WANTED, **more: Any) -> dict[str, Any]:
    """A job as the service shows it; later numbers were created later."""
    created = f"2026-01-01T00:00:{number:02}Z"
    placed = write_job(wanted, JobInputs("gs://b/o.jsonl"))
    return {**placed, "name": name_of(number), "state": f"JOB_STATE_{state}", "createTime": created, **more}


def job(number: int = 1, state: str = "PENDING", wanted: CreateRequest = WANTED, **more: Any) -> Response:
    return JSONResponse(body_of(number, state, wanted, **more))


def jobs(*bodies: dict[str, Any]) -> Response:
    return JSONResponse({"tuningJobs": list(bodies)} if bodies else {})


def vertex_over(transport: httpx.AsyncBaseTransport, time: Time, target: Target = TARGET) -> Vertex:
    return connect(endpoint_of(target), target, settings_of(time, transport), capabilities_of(target))


def vertex_of(app: ASGIApp, time: Time, target: Target = TARGET) -> Vertex:
    return vertex_over(httpx.ASGITransport(app), time, target)


NONE = jobs()
GONE = error(404, "NOT_FOUND", "The TuningJob does not exist.")


def act(app: ASGIApp, action: Callable[[Vertex], Awaitable[T]], time: Time | None = None) -> T:
    async def run() -> T:
        async with vertex_of(app, time or Time()) as provider:
            return await action(provider)

    return asyncio.run(run())


def failure(app: ASGIApp, action: Callable[[Vertex], Awaitable[Any]]) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        act(app, action)
    return caught.value


class Turns:
    """Lets the requests of several runs through in a given order."""

    def __init__(self, app: ASGIApp, order: Sequence[str]) -> None:
        self.lines: list[str] = []
        self._carrier = httpx.ASGITransport(app)
        self._order = list(order)
        self._changed = asyncio.Condition()

    def of(self, name: str) -> httpx.AsyncBaseTransport:
        return _Turn(self, name)

    async def leave(self, name: str) -> None:
        """This run is over; its turns are nobody's."""
        async with self._changed:
            self._order = [other for other in self._order if other != name]
            self._changed.notify_all()

    async def carry(self, name: str, request: httpx.Request) -> httpx.Response:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._order or self._order[0] == name)
            self.lines.append(f"{name} {request.method} {request.url.path}")
            response = await self._carrier.handle_async_request(request)
            del self._order[:1]
            self._changed.notify_all()
            return response


class _Turn(httpx.AsyncBaseTransport):
    def __init__(self, turns: Turns, name: str) -> None:
        self._turns = turns
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._turns.carry(self._name, request)
