"""What can stand before a service: front ends that refuse, change, hold back or cut off what goes through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from threading import Event
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Json = dict[str, Any]
Front = Callable[["ASGIApp"], "ASGIApp"]


def line_of(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"


def refusal(status: int, code: str, message: str, *details: Json, **headers: str) -> Response:
    """An error as Google's services tell it."""
    body = {"error": {"code": status, "message": message, "status": code, "details": list(details)}}
    return Response(json.dumps(body), status, {name.replace("_", "-"): value for name, value in headers.items()})


def refusing(response: Response, *lines: str, times: int = 1_000_000) -> Front:
    """A front end that answers requests which begin with one of ``lines`` so, the first ``times`` of them."""
    left = [response] * min(times, 1_000)

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            refused = left and line_of(scope).startswith(lines)
            await (left.pop() if refused else app)(scope, receive, send)

        return answer

    return front


def emptied(*kinds: str) -> Front:
    """A front end that answers lists of these collections with an empty page."""

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            empty = scope["method"] == "GET" and scope["path"].endswith(kinds)
            await (Response("{}") if empty else app)(scope, receive, send)

        return answer

    return front


def losing_reply(line: str) -> Front:
    """A front end that passes requests which begin with ``line`` on, and answers in place of the service."""

    def front(app: ASGIApp) -> ASGIApp:
        async def lose(scope: Scope, receive: Receive, send: Send) -> None:
            if not line_of(scope).startswith(line):
                await app(scope, receive, send)
                return
            await app(scope, receive, _nowhere)
            await refusal(502, "", "The reply is lost.")(scope, receive, send)

        return lose

    return front


def dated(now: datetime) -> Front:
    """A front end that adds the time of the service to its responses."""

    def front(app: ASGIApp) -> ASGIApp:
        async def date(scope: Scope, receive: Receive, send: Send) -> None:
            async def add(message: Message) -> None:
                headers = [*message.get("headers", ()), (b"date", format_datetime(now, usegmt=True).encode())]
                await send({**message, "headers": headers} if "headers" in message else message)

            await app(scope, receive, add)

        return date

    return front


def altering(alter: Callable[[Json], Json]) -> Front:
    """A front end that changes each tuning job that is shown."""

    def changed(body: bytes) -> bytes:
        document = json.loads(body)
        if "tuningJobs" in document:
            document["tuningJobs"] = [alter(job) for job in document["tuningJobs"]]
        elif "name" in document:
            document = alter(document)
        return json.dumps(document).encode()

    def front(app: ASGIApp) -> ASGIApp:
        async def altered(scope: Scope, receive: Receive, send: Send) -> None:
            start: Message = {}

            async def rewrite(message: Message) -> None:
                if message["type"] == "http.response.start":
                    start.update(message)
                    return
                body = changed(message["body"])
                headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({**message, "body": body})

            shown = "/tuningJobs" in scope["path"] and not scope["path"].endswith(":cancel")
            await app(scope, receive, rewrite if shown else send)

        return altered

    return front


class Holding:
    """A front end that leaves the first request which begins with ``line`` without an answer.

    With ``carried_out`` the service gets it all the same.
    """

    def __init__(self, line: str, *, carried_out: bool = False) -> None:
        self.reached = Event()
        self._line = line
        self._carried_out = carried_out

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def hold(scope: Scope, receive: Receive, send: Send) -> None:
            if self.reached.is_set() or not line_of(scope).startswith(self._line):
                await app(scope, receive, send)
                return
            if self._carried_out:
                await app(scope, receive, _nowhere)
            self.reached.set()
            while (await receive())["type"] != "http.disconnect":
                pass

        return hold


class Meeting:
    """A front end that lets requests which begin with ``line`` through when so many have come."""

    def __init__(self, line: str, count: int) -> None:
        self._line = line
        self._missing = count
        self._met = asyncio.Event()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def meet(scope: Scope, receive: Receive, send: Send) -> None:
            if line_of(scope).startswith(self._line):
                self._missing -= 1
                if self._missing <= 0:
                    self._met.set()
                await asyncio.wait_for(self._met.wait(), 60)
            await app(scope, receive, send)

        return meet


async def _nowhere(_message: Message) -> None:
    pass


class Cutting:
    """A front end that cuts off uploads: of each of the first ``times`` parts only ``size`` bytes arrive."""

    def __init__(self, size: int, times: int) -> None:
        self.spans: list[str] = []
        self._size = size
        self._left = times

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def cut(scope: Scope, receive: Receive, send: Send) -> None:
            span = Request(scope).headers.get("content-range", "")
            part = scope["method"] == "PUT" and "*/" not in span
            self.spans += [span] if scope["method"] == "PUT" else []
            if not part or not self._left:
                await app(scope, receive, send)
                return
            self._left -= 1
            await app(scope, _first(self._size, receive), _nowhere)
            await refusal(503, "UNAVAILABLE", "The connection was lost.")(scope, receive, send)

        return cut


def _first(size: int, receive: Receive) -> Receive:
    """What a connection brings that breaks after so many bytes."""
    left = size

    async def partial() -> Message:
        nonlocal left
        if left <= 0:
            return {"type": "http.disconnect"}
        message = await receive()
        body = message.get("body", b"")[:left]
        left -= len(body)
        return {**message, "body": body, "more_body": True}

    return partial
