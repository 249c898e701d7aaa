"""Faults on demand: an ASGI middleware that answers some requests wrongly, as rules in a file state.

The first rule that matches a request and fires decides. Rules that alter a response carry out the request first.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random as random_module
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

from msgspec import Meta, Struct

from reconciler.domain.document import Count, Document, Position, Record, Share, TableEnum
from reconciler.domain.ports import Clock, Sleeper

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Json = dict[str, Any]


class FaultKind(TableEnum):
    """What a faulty service does; a row has the name, what it does, and the field that a rule must set."""

    meaning: str
    required: str

    STATUS = "status", "answers with `status`, as JSON or with `html`, and with `retryAfter` if it is set", ""
    RESET = "reset", "closes the connection without a response", ""
    HANG = "hang", "never responds", ""
    DRIBBLE = "dribble", "sends the response one byte at a time, every `seconds`", "seconds"
    TRUNCATE = "truncate", "sends the first half of the response", ""
    REPEAT_PAGE = "repeatPage", "sends the first page of a list for every token, with the same next token", ""
    EMPTY_PAGE = "emptyPage", "sends a page without entries that has a next token", ""
    LAG = "lag", "leaves entries out of a list that are younger than `seconds`", "seconds"
    DUPLICATE = "duplicate", "sends every entry of a list twice", ""
    REPLACE = "replace", "replaces `field`, at any depth, by `value`", "field"
    REMOVE = "remove", "removes `field`, at any depth", "field"
    FAIL_TRAINING = "failTraining", "reports trainings as failed; `probability` selects the models", ""


class FaultRule(Record, frozen=True, kw_only=True):
    """One rule: which requests it matches, how often it fires, and the fault."""

    fault: FaultKind
    """What the service does."""
    method: Annotated[str, Meta(examples=["POST"])] = "*"
    """The HTTP method; `*` is any."""
    path: Annotated[str, Meta(examples=["*/tuningJobs", "/v1beta3/tunedModels*"])] = "*"
    """The path of the request without its query, as a glob: `*` matches any text."""
    skip: Count = 0
    """How many matching requests are answered properly first."""
    count: Position | None = None
    """How often the rule fires; unlimited by default."""
    probability: Share = 1.0
    """The share of matching requests for which the rule fires."""
    executed: bool = False
    """Whether `status`, `reset` and `hang` carry out the request first, so that its reply is lost."""
    status: Annotated[int, Meta(ge=200, le=599)] = 503
    """The HTTP status."""
    html: bool = False
    """Whether the body is the page of a front end in place of JSON."""
    retry_after: Annotated[float, Meta(ge=0)] | None = None
    """The seconds of the `Retry-After` header; without the field there is none."""
    seconds: Annotated[float, Meta(gt=0)] | None = None
    """The pause or the age in seconds."""
    field: Annotated[str, Meta(examples=["totalSteps", "state"])] = ""
    """The name of a JSON field."""
    value: Annotated[str | int | float | bool | None, Meta(examples=[-5, "NaN"])] = None
    """The new value of the field."""

    def __post_init__(self) -> None:
        """Raise ValueError for a rule without the field that its fault needs."""
        if self.fault.required and not getattr(self, self.fault.required):
            raise ValueError(f"{self.fault} needs {self.fault.required}")


class Faults(Document, frozen=True, kw_only=True, tag="Faults"):
    """Faults of the embedded service: the file of `reconcile emulator --faults FILE`."""

    seed: int = 0
    """The seed of the probabilities: the same requests in the same order have the same faults."""
    rules: tuple[FaultRule, ...]
    """The rules; the first that matches a request and fires decides."""


CONNECTION: Final = "reconciler.abort"
"""The name in the ASGI state under which a server puts the function that closes the connection of a request."""
_ERROR_NAMES: Mapping[int, str] = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}
_PAGE: Final = b"<!doctype html><title>Sign in</title><h1>Sign in to the network</h1>"
_FAILED_CODE: Final = 13
_FAILURES: Mapping[str, str] = {"ACTIVE": "FAILED", "JOB_STATE_SUCCEEDED": "JOB_STATE_FAILED"}


class Reply(Struct, frozen=True):
    """A whole HTTP response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_body(self, body: bytes) -> Reply:
        """Return the response with another body of the right length."""
        headers = (pair for pair in self.headers if pair[0] != b"content-length")
        return Reply(self.status, (*headers, (b"content-length", str(len(body)).encode())), body)

    @property
    def start(self) -> Message:
        """The message that begins the response."""
        return {"type": "http.response.start", "status": self.status, "headers": list(self.headers)}


class Exchange(Struct, frozen=True):
    """One request for which a rule fires; ``number`` counts how often the rule has fired."""

    rule: FaultRule
    number: int
    seed: int
    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    clock: Clock
    sleep: Sleeper

    @property
    def query(self) -> dict[str, str]:
        """The query of the request."""
        return dict(parse_qsl(self.scope["query_string"].decode()))

    async def carry_out(self, **query: str | None) -> Reply:
        """Return the response of the service; ``query`` replaces parameters, or removes those that are ``None``."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        changed = {name: text for name, text in {**self.query, **query}.items() if text is not None}
        scope = {**self.scope, "query_string": urlencode(changed).encode()} if query else self.scope
        await self.app(scope, self.receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Reply(messages[0]["status"], tuple(messages[0]["headers"]), body)

    async def reply(self, reply: Reply) -> None:
        """Send a response."""
        await self.send(reply.start)
        await self.send({"type": "http.response.body", "body": reply.body})

    async def carry_out_first(self) -> None:
        """Carry out the request if the rule has ``executed``; the response is lost."""
        if self.rule.executed:
            await self.carry_out()

    async def wait_for_disconnect(self) -> None:
        """Wait until the client closes the connection."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def _status(exchange: Exchange) -> None:
    await exchange.carry_out_first()
    rule = exchange.rule
    phrase = HTTPStatus(rule.status).phrase if rule.status in set(HTTPStatus) else "Unknown"
    name = _ERROR_NAMES.get(rule.status, phrase.upper().replace(" ", "_"))
    error = {"code": rule.status, "message": f"{phrase} (a fault on demand).", "status": name}
    body, kind = (_PAGE, b"text/html") if rule.html else (json.dumps({"error": error}).encode(), b"application/json")
    headers = [(b"content-type", kind)]
    if rule.retry_after is not None:
        headers.append((b"retry-after", f"{rule.retry_after:g}".encode()))
    await exchange.reply(Reply(rule.status, tuple(headers), b"").with_body(body))


async def _reset(exchange: Exchange) -> None:
    await exchange.carry_out_first()
    abort = exchange.scope.get("state", {}).get(CONNECTION)
    if abort is None:
        raise ConnectionResetError("a fault on demand")
    abort()
    await exchange.wait_for_disconnect()


async def _hang(exchange: Exchange) -> None:
    await exchange.carry_out_first()
    await exchange.wait_for_disconnect()


async def _dribble(exchange: Exchange) -> None:
    reply = await exchange.carry_out()
    await exchange.send(reply.start)
    for byte in reply.body:
        await exchange.send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await exchange.sleep(exchange.rule.seconds or 0.0)
    await exchange.send({"type": "http.response.body", "body": b""})


async def _truncate(exchange: Exchange) -> None:
    reply = await exchange.carry_out()
    await exchange.reply(reply.with_body(reply.body[: len(reply.body) // 2]))


async def _repeat_page(exchange: Exchange) -> None:
    reply = await exchange.carry_out(pageToken=None)
    await exchange.reply(_altered(reply, lambda page: {**page, "nextPageToken": "repeated"}))


async def _empty_page(exchange: Exchange) -> None:
    position = base64.urlsafe_b64decode(exchange.query.get("pageToken", "")).decode().partition(":")[2] or "0"
    # another spelling of the same position, because an empty page with the token of its request would repeat it
    token = base64.urlsafe_b64encode(f"after:{'0' * exchange.number}{position}".encode()).decode()
    await exchange.reply(_altered(await exchange.carry_out(), lambda _page: {"nextPageToken": token}))


async def _alter(exchange: Exchange) -> None:
    alter = _ALTERATIONS[exchange.rule.fault]
    await exchange.reply(_altered(await exchange.carry_out(), lambda document: alter(exchange, document)))


def _altered(reply: Reply, alter: Callable[[Json], Json]) -> Reply:
    """Return a successful JSON response with an altered document, and any other response as it is."""
    try:
        document = json.loads(reply.body)
    except ValueError:
        return reply
    if reply.status != HTTPStatus.OK or not isinstance(document, dict):
        return reply
    return reply.with_body(json.dumps(alter(document)).encode())


def _map_lists(document: Json, change: Callable[[list[Json]], list[Json]]) -> Json:
    """Return a page with changed lists of resources."""
    return {name: change(value) if _is_resources(value) else value for name, value in document.items()}


def _is_resources(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(resource, dict) and "name" in resource for resource in value)


def _map_objects(value: Any, change: Callable[[Json], Json]) -> Any:
    """Return a JSON value with every object in it changed, the innermost first."""
    if isinstance(value, dict):
        return change({name: _map_objects(nested, change) for name, nested in value.items()})
    return [_map_objects(nested, change) for nested in value] if isinstance(value, list) else value


def _lag(exchange: Exchange, document: Json) -> Json:
    oldest = exchange.clock() - timedelta(seconds=exchange.rule.seconds or 0)

    def is_listed(resource: Json) -> bool:
        created = resource.get("createTime") or resource.get("timeCreated")
        return created is None or datetime.fromisoformat(created) <= oldest

    return _map_lists(document, lambda resources: [resource for resource in resources if is_listed(resource)])


def _duplicate(_exchange: Exchange, document: Json) -> Json:
    return _map_lists(document, lambda resources: [resource for resource in resources for _ in range(2)])


def _replace(exchange: Exchange, document: Json) -> Json:
    field, value = exchange.rule.field, exchange.rule.value
    changed: Json = _map_objects(document, lambda found: {**found, field: value} if field in found else found)
    return changed


def _remove(exchange: Exchange, document: Json) -> Json:
    field = exchange.rule.field
    changed: Json = _map_objects(document, lambda found: {name: found[name] for name in found if name != field})
    return changed


def _fail_training(exchange: Exchange, document: Json) -> Json:
    error = {"code": _FAILED_CODE, "message": "The training failed (a fault on demand)."}

    def change(found: Json) -> Json:
        state = _FAILURES.get(str(found.get("state")))
        if state and "name" in found and _is_chosen(exchange, found["name"]):  # a part of a response may lack the name
            failed = {name: value for name, value in found.items() if name != "tunedModel"} | {"state": state}
            return failed | {"error": error} if state.startswith("JOB") else failed
        model = (found.get("metadata") or {}).get("tunedModel")
        if model and "response" in found and _is_chosen(exchange, model):
            return {name: value for name, value in found.items() if name != "response"} | {"error": error}
        return found

    changed: Json = _map_objects(document, change)
    return changed


def _is_chosen(exchange: Exchange, model: str) -> bool:
    """Whether the training of a model fails: all requests about it must agree."""
    chance = random_module.Random(f"{exchange.seed}:{model}").random()  # noqa: S311 - reproducible, and no secret
    return chance < exchange.rule.probability


_ALTERATIONS: Mapping[FaultKind, Callable[[Exchange, Json], Json]] = {
    FaultKind.LAG: _lag,
    FaultKind.DUPLICATE: _duplicate,
    FaultKind.REPLACE: _replace,
    FaultKind.REMOVE: _remove,
    FaultKind.FAIL_TRAINING: _fail_training,
}
_FAULTS: Mapping[FaultKind, Callable[[Exchange], Awaitable[None]]] = {
    FaultKind.STATUS: _status,
    FaultKind.RESET: _reset,
    FaultKind.HANG: _hang,
    FaultKind.DRIBBLE: _dribble,
    FaultKind.TRUNCATE: _truncate,
    FaultKind.REPEAT_PAGE: _repeat_page,
    FaultKind.EMPTY_PAGE: _empty_page,
    **dict.fromkeys(_ALTERATIONS, _alter),
}


def abortable_protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with :data:`CONNECTION` in the state of each request; uvicorn loads slowly."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Abortable(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            self.app_state = {**self.app_state, CONNECTION: transport.abort}

    return Abortable


class FaultInjector:
    """An application that passes requests on to another one, unless a rule fires.

    ``fired`` counts the faults by kind. Without a server that puts :data:`CONNECTION` into the state, a reset raises
    ConnectionResetError.
    """

    def __init__(self, app: ASGIApp, faults: Faults, *, clock: Clock, sleep: Sleeper) -> None:
        self._app = app
        self._faults = faults
        self._clock = clock
        self._sleep = sleep
        self._random = random_module.Random(faults.seed)  # noqa: S311 - reproducible, and no secret
        self._matched = [0] * len(faults.rules)
        self._fired = [0] * len(faults.rules)

    @property
    def fired(self) -> dict[FaultKind, int]:
        """How many faults of each kind there were."""
        counts = dict.fromkeys((rule.fault for rule in self._faults.rules), 0)
        for rule, number in zip(self._faults.rules, self._fired, strict=True):
            counts[rule.fault] += number
        return counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request properly, or as the first rule that fires."""
        index = self._choose(scope) if scope["type"] == "http" else None
        if index is None:
            await self._app(scope, receive, send)
            return
        rule, number = self._faults.rules[index], self._fired[index]
        exchange = Exchange(rule, number, self._faults.seed, self._app, scope, receive, send, self._clock, self._sleep)
        await _FAULTS[rule.fault](exchange)

    def _choose(self, scope: Scope) -> int | None:
        for index, rule in enumerate(self._faults.rules):
            if not (fnmatchcase(scope["method"], rule.method) and fnmatchcase(scope["path"], rule.path)):
                continue
            self._matched[index] += 1
            if self._matched[index] <= rule.skip or (rule.count is not None and self._fired[index] >= rule.count):
                continue
            # which trainings fail depends on their names, so that all requests about one agree
            if rule.fault is FaultKind.FAIL_TRAINING or self._random.random() < rule.probability:
                self._fired[index] += 1
                return index
        return None
