"""The embedded service as an ASGI application: turn requests into API calls, and results into responses."""

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
from reconciler.emulator.errors import ApiError, Code, json_response
from reconciler.emulator.generativelanguage.calls import CALLS
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.partial import parse_fields, select
from reconciler.emulator.proto import decode, decode_query, encode, read_json
from reconciler.emulator.service import Api, ApiCall, Method, Service
from reconciler.emulator.storage import storage_routes
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
    """Return the embedded service over the SQLite file ``store`` (``None``: in memory), ready without a lifespan.

    Several processes may share a file. ``random`` generates IDs and selects answers; ``settings`` is the pace of new
    trainings; ``world`` is a file with initial models. Raises ReconcileError if the store cannot be used or the world
    file is malformed.
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
            *(_route(service, api, method) for method in (*CALLS, *VERTEX_CALLS) for api in method.apis),
            *storage_routes(service),
        ],
        exception_handlers={HTTPException: _no_such_call, sqlite3.DatabaseError: _store_failed},
    )
    app.router.redirect_slashes = False
    return app


def _route(service: Service, api: Api, method: Method) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _answer(service, api, method, request, await _body(request))
        except ApiError as error:
            return _refusal(error)

    return Route(f"/{api.version}{api.root}{method.path}", endpoint, methods=[method.verb])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            message = f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes."
            raise ApiError(Code.INVALID_ARGUMENT, message)
    return bytes(body)


def _answer(service: Service, api: Api, method: Method, request: Request, body: bytes) -> Response:
    system, parameters = _split(request)
    selection = parse_fields(system.get("fields", ""), method.response(api))
    call = ApiCall(
        api=api,
        path=request.path_params,
        query=decode_query(method.query(api), parameters),
        body=decode(method.body(api), read_json(body), method.root),
        selection=selection,
    )
    result = select(method.handler(service, call), selection)
    enum_numbers = "enum-encoding=int" in system.get("alt", "").split(";")
    return json_response(encode(method.response(api), result, enum_numbers=enum_numbers))


def _split(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Split off the system parameters of Google's REST APIs, which may start with ``$``."""
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
