"""The embedded service as an ASGI app: how a request becomes a call, and its result a response."""

from __future__ import annotations

import random as random_module
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from reconciler.domain.ports import Clock
from reconciler.emulator.codec import decode, decode_query, encode, read_json
from reconciler.emulator.errors import ApiError, Code, json_response
from reconciler.emulator.generativelanguage.calls import CALLS
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.partial import parse_fields, select
from reconciler.emulator.service import Api, ApiCall, Method, Service
from reconciler.emulator.storage.routes import storage_routes
from reconciler.emulator.store import Store
from reconciler.emulator.training import DEFAULT_PACE, TrainingPace
from reconciler.emulator.vertex.calls import VERTEX_CALLS
from reconciler.emulator.world import load_world

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


MAX_BODY_BYTES = 20 * 1024 * 1024
"""The request limit of the real service."""
_SYSTEM_PARAMETERS = frozenset(
    ["alt", "access_token", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser", "userProject"]
)


def create_app(
    *,
    store: Path | None,
    clock: Clock,
    random: random_module.Random,
    settings: TrainingPace = DEFAULT_PACE,
    world: Path | None = None,
) -> Starlette:
    """The embedded service over the SQLite file ``store`` (``None``: in memory), ready without a lifespan.

    Several processes may share a file. ``random`` makes up ids and picks answers; ``settings`` pace the trainings that
    start from now on; ``world`` is a file of models that are already there. Raises ReconcileError when the store cannot
    be used, or the world file is malformed.
    """
    database = Store(store)
    service = Service(database, ObjectStore(database, store), clock, random, settings)
    if world is not None:
        load_world(service, world)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.objects.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            *(_route(service, api, entry) for entry in (*CALLS, *VERTEX_CALLS) for api in entry.apis),
            *storage_routes(service),
        ],
        exception_handlers={HTTPException: _no_such_call, sqlite3.DatabaseError: _store_failed},
    )
    app.router.redirect_slashes = False
    return app


def _route(service: Service, api: Api, entry: Method) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _answer(service, api, entry, request, await _body(request))
        except ApiError as error:
            return _refusal(error)

    return Route(f"/{api.version}{api.root}{entry.path}", endpoint, methods=[entry.method])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            message = f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes."
            raise ApiError(Code.INVALID_ARGUMENT, message)
    return bytes(body)


def _answer(service: Service, api: Api, entry: Method, request: Request, body: bytes) -> Response:
    system, parameters = _split(request)
    selection = parse_fields(system.get("fields", ""), entry.response(api))
    call = ApiCall(
        api=api,
        path=request.path_params,
        query=decode_query(entry.query(api), parameters),
        body=decode(entry.body(api), read_json(body), entry.root),
        selection=selection,
    )
    result = select(entry.handler(service, call), selection)
    enum_numbers = "enum-encoding=int" in system.get("alt", "").split(";")
    return json_response(encode(entry.response(api), result, enum_numbers=enum_numbers))


def _split(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """The system parameters of Google's REST APIs, which may bear a ``$``, and those of the call."""
    system: dict[str, str] = {}
    own: dict[str, str] = {}
    for name, value in request.query_params.items():
        plain = name.removeprefix("$")
        (system if plain in _SYSTEM_PARAMETERS else own)[plain if plain in _SYSTEM_PARAMETERS else name] = value
    return system, own


def _refusal(error: ApiError) -> Response:
    return json_response(error.body(), error.http_status)


async def _no_such_call(request: Request, _: Exception) -> Response:
    return _refusal(ApiError(Code.NOT_FOUND, f"Method not found: {request.method} {request.url.path}"))


async def _store_failed(_: Request, error: Exception) -> Response:
    return _refusal(ApiError(Code.UNAVAILABLE, f"The embedded service cannot use its store: {error}"))
