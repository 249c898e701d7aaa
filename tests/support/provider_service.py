"""A scripted service for the tests of the providers: real HTTP in process, and time that only passes when one waits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.domain.model import Capabilities
from reconciler.providers.generativelanguage.provider import GenerativeLanguage, connect
from reconciler.providers.generativelanguage.spec import VERSIONS
from reconciler.providers.generativelanguage.wire import SERVICE
from reconciler.providers.google.http import Client, ClientSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Answer = Response | Callable[[Request], Response]

START = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINT = "http://127.0.0.1"


class Time:
    """A clock and a sleeper: sleeping takes no time and moves the clock, by at least ``least`` seconds."""

    def __init__(self, least: float = 0) -> None:
        self.now = START
        self.naps: list[float] = []
        self._least = least

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += timedelta(seconds=max(seconds, self._least))


class Seen(Struct, frozen=True):
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    def json(self) -> Any:
        return json.loads(self.body)


class _Recorder:
    """An ASGI application that keeps what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def keep(self, request: Request) -> bytes:
        body = await request.body()
        query, headers = dict(request.query_params), dict(request.headers)
        self.seen.append(Seen(request.method, request.scope["raw_path"].decode(), query, headers, body))
        return body

    @property
    def lines(self) -> list[str]:
        return [seen.line for seen in self.seen]


class Script(_Recorder):
    """Gives its answers in turn, the last one for ever."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__()
        self.answers = list(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await self.keep(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        response = answer if isinstance(answer, Response) else answer(request)
        await response(scope, receive, send)


class Relay(_Recorder):
    """Passes everything on to another application; ``page_size`` makes that answer lists in smaller pages."""

    def __init__(self, app: ASGIApp, page_size: int | None = None) -> None:
        super().__init__()
        self.app = app
        self._page_size = page_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self.keep(Request(scope, receive))
        if self._page_size:
            query = re.sub(rb"(?<=pageSize=)\d+", str(self._page_size).encode(), scope["query_string"])
            scope = {**scope, "query_string": query}

        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)


def script(*answers: Answer) -> Script:
    return Script(answers)


def error(status: int, code: str, message: str, *details: dict[str, Any], **headers: str) -> Response:
    body = {"error": {"code": status, "message": message, "status": code, "details": list(details)}}
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def client_of(
    app: Script,
    time: Time,
    *,
    auth: httpx.Auth | None = None,
    requests_per_minute: int | None = None,
    jitter: float = 0,
) -> Client:
    transport = httpx.ASGITransport(app)
    settings = ClientSettings(time.clock, time.sleep, lambda: jitter, auth, requests_per_minute, transport)
    return Client(ENDPOINT, SERVICE, settings)


def settings_of(time: Time, transport: httpx.AsyncBaseTransport | None = None) -> ClientSettings:
    """Return settings with the time of a test, without jitter and authorization."""
    return ClientSettings(time.clock, time.sleep, lambda: 0.0, transport=transport)


def provider_of(
    app: ASGIApp, time: Time, version: str = "v1beta3", capabilities: Capabilities | None = None
) -> GenerativeLanguage:
    settings = settings_of(time, httpx.ASGITransport(app))
    return connect(ENDPOINT, version, settings, capabilities or VERSIONS[version])
