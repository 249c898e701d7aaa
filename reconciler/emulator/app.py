"""The embedded service as an ASGI application: requests become API calls, and results responses.

A world file has initial models in the JSON format of the service's list of tuned models.
"""

from __future__ import annotations

import hashlib
import json
import random as random_module
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import InvalidFile, Place, ReconcileError
from reconciler.domain.ports import Clock
from reconciler.emulator.errors import ApiError, Code, JsonObject, event_response, json_response
from reconciler.emulator.faults import abortable_protocol
from reconciler.emulator.generativelanguage import inference, messages, permissions, tuned_models
from reconciler.emulator.generativelanguage.messages import V1, V1BETA, V1BETA3
from reconciler.emulator.generativelanguage.permissions import grant_ownership
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.proto import EMPTY, Message, decode, decode_query, encode, read_json
from reconciler.emulator.service import Api, ApiCall, Method, Service, message_of, parse_fields, select
from reconciler.emulator.storage import storage_routes
from reconciler.emulator.store import Store
from reconciler.emulator.training import DEFAULT_PACE, TrainingPace
from reconciler.emulator.uploads import UploadSessions
from reconciler.emulator.vertex import creation, jobs, models
from reconciler.emulator.vertex import messages as vertex

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send


_method = partial(Method, apis=(V1BETA3, V1BETA, V1))


def _tuned_model(version: Api) -> Message:
    return version.tuned_model


def _operation(version: Api) -> Message:
    return version.operation


_BASE = "/models/{base}"
_COLLECTION = "/tunedModels"
_MEMBER = f"{_COLLECTION}/{{model}}"
_PERMISSIONS = f"{_MEMBER}/permissions"
_PERMISSION = f"{_PERMISSIONS}/{{permission}}"


def _prompts(model: str) -> tuple[Method, ...]:
    """Return the methods that send a prompt to a model with this path."""
    content = partial(
        _method,
        "POST",
        handler=inference.generate_content,
        response=messages.CONTENT,
        body=messages.GENERATE_CONTENT,
        apis=(V1BETA, V1),
    )
    return (
        _method(
            "POST",
            f"{model}:generateText",
            inference.generate_text,
            messages.TEXT,
            body=messages.GENERATE_TEXT,
            apis=(V1BETA3,),
        ),
        content(f"{model}:generateContent"),
        content(f"{model}:streamGenerateContent", split=inference.split_reply),
    )


_GENERATIVE_LANGUAGE = (
    _method("GET", "/models", tuned_models.list_base_models, messages.LIST_MODELS, query=messages.PAGE),
    *_prompts(_BASE),
    _method(
        "POST",
        f"{_BASE}:countTokens",
        inference.count_tokens,
        messages.TOKENS,
        body=messages.COUNT_TOKENS,
        apis=(V1BETA, V1),
    ),
    _method("GET", _BASE, tuned_models.get_base_model, messages.MODEL),
    _method(
        "GET",
        _COLLECTION,
        tuned_models.list_models,
        lambda version: version.tuned_models,
        query=lambda version: version.query,
    ),
    _method(
        "POST",
        _COLLECTION,
        tuned_models.create_model,
        _operation,
        query=messages.CREATE_QUERY,
        body=_tuned_model,
        root="tuned_model",
    ),
    _method(
        "POST", f"{_MEMBER}:transferOwnership", permissions.transfer_ownership, EMPTY, body=messages.TRANSFER_OWNERSHIP
    ),
    *_prompts(_MEMBER),
    _method("GET", _MEMBER, tuned_models.get_model, _tuned_model),
    _method(
        "PATCH",
        _MEMBER,
        tuned_models.update_model,
        _tuned_model,
        query=messages.UPDATE_QUERY,
        body=_tuned_model,
        root="tuned_model",
    ),
    _method("DELETE", _MEMBER, tuned_models.delete_model, EMPTY),
    _method(
        "GET",
        f"{_MEMBER}/operations/{{operation}}",
        tuned_models.get_operation,
        _operation,
    ),
    _method("GET", _PERMISSIONS, permissions.list_permissions, messages.LIST_PERMISSIONS, query=messages.PAGE),
    _method(
        "POST",
        _PERMISSIONS,
        permissions.create_permission,
        messages.PERMISSION,
        body=messages.PERMISSION,
        root="permission",
    ),
    _method("GET", _PERMISSION, permissions.get_permission, messages.PERMISSION),
    _method(
        "PATCH",
        _PERMISSION,
        permissions.update_permission,
        messages.PERMISSION,
        query=messages.UPDATE_QUERY,
        body=messages.PERMISSION,
        root="permission",
    ),
    _method("DELETE", _PERMISSION, permissions.delete_permission, EMPTY),
)

_vertex = partial(Method, apis=(vertex.VERTEX_V1, vertex.VERTEX_V1BETA1))
_JOBS, _MODELS, _ENDPOINTS = "/tuningJobs", "/models", "/endpoints"
_JOB, _MODEL, _ENDPOINT = f"{_JOBS}/{{job}}", f"{_MODELS}/{{model}}", f"{_ENDPOINTS}/{{endpoint}}"
_BASE_MODEL = f"/publishers/google{_MODEL}"

_VERTEX = (
    _vertex("GET", _JOBS, jobs.list_jobs, vertex.tuning_jobs, query=vertex.LIST),
    _vertex("POST", _JOBS, creation.create_job, vertex.tuning_job, body=vertex.tuning_job, root="tuning_job"),
    _vertex("POST", f"{_JOB}:cancel", jobs.cancel_job, EMPTY),
    _vertex("GET", _JOB, jobs.get_job, vertex.tuning_job),
    _vertex("GET", _MODELS, models.list_models, vertex.list_of("models", vertex.MODEL), query=vertex.LIST),
    _vertex(
        "GET",
        f"{_MODEL}:listVersions",
        models.list_versions,
        vertex.list_of("modelVersions", vertex.MODEL, "models"),
        query=vertex.LIST,
    ),
    _vertex("DELETE", f"{_MODEL}:deleteVersion", models.delete_version, vertex.OPERATION),
    _vertex("GET", _MODEL, models.get_model, vertex.MODEL),
    _vertex("PATCH", _MODEL, models.update_model, vertex.MODEL, query=vertex.UPDATE, body=vertex.MODEL, root="model"),
    _vertex("DELETE", _MODEL, models.delete_model, vertex.OPERATION),
    _vertex("GET", f"{_MODEL}/operations/{{operation}}", models.get_operation, vertex.OPERATION),
    _vertex("GET", _ENDPOINTS, models.list_endpoints, vertex.list_of("endpoints", vertex.ENDPOINT), query=vertex.LIST),
    _vertex("POST", _ENDPOINTS, models.create_endpoint, vertex.OPERATION, body=vertex.ENDPOINT, root="endpoint"),
    _vertex("POST", f"{_ENDPOINT}:deployModel", models.deploy_model, vertex.OPERATION, body=vertex.DEPLOY_MODEL),
    _vertex("POST", f"{_ENDPOINT}:undeployModel", models.undeploy_model, vertex.OPERATION, body=vertex.UNDEPLOY_MODEL),
    _vertex(
        "POST", f"{_ENDPOINT}:generateContent", models.generate_content, vertex.CONTENT, body=vertex.GENERATE_CONTENT
    ),
    _vertex(
        "POST",
        f"{_ENDPOINT}:streamGenerateContent",
        models.generate_content,
        vertex.CONTENT,
        body=vertex.GENERATE_CONTENT,
        split=inference.split_reply,
    ),
    _vertex("POST", f"{_ENDPOINT}:countTokens", models.count_tokens, vertex.TOKENS, body=vertex.COUNT_TOKENS),
    _vertex("GET", _ENDPOINT, models.get_endpoint, vertex.ENDPOINT),
    _vertex("DELETE", _ENDPOINT, models.delete_endpoint, vertex.OPERATION),
    _vertex("GET", f"{_ENDPOINT}/operations/{{operation}}", models.get_operation, vertex.OPERATION),
    _vertex(
        "POST",
        f"{_BASE_MODEL}:generateContent",
        models.generate_base_content,
        vertex.CONTENT,
        body=vertex.GENERATE_CONTENT,
    ),
    _vertex(
        "POST",
        f"{_BASE_MODEL}:streamGenerateContent",
        models.generate_base_content,
        vertex.CONTENT,
        body=vertex.GENERATE_CONTENT,
        split=inference.split_reply,
    ),
    _vertex("POST", f"{_BASE_MODEL}:countTokens", models.count_base_tokens, vertex.TOKENS, body=vertex.COUNT_TOKENS),
)

_publisher = partial(Method, apis=(vertex.PUBLISHER,))

_PUBLISHERS = (
    _publisher(
        "GET",
        _MODELS,
        models.list_base_models,
        vertex.list_of("publisherModels", vertex.PUBLISHER_MODEL),
        query=vertex.LIST,
    ),
    _publisher("GET", _MODEL, models.get_base_model, vertex.PUBLISHER_MODEL),
)

METHODS = (*_GENERATIVE_LANGUAGE, *_VERTEX, *_PUBLISHERS)


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
    base_models: ModelCatalog | None = None,
) -> Starlette:
    """Return the embedded service over the SQLite file ``store`` (``None``: in memory), ready without a lifespan.

    Several processes may share a file. ``random`` generates IDs and selects answers; ``settings`` is the pace of new
    trainings; ``world`` is a file with initial models. ``base_models`` can be tuned on
    Vertex AI; without them, all can. Raises ReconcileError if the store cannot be used or the world
    file is malformed.
    """
    database = Store(store)
    service = Service(database, ObjectStore(database, store), clock, random, settings, base_models or ModelCatalog())
    if world is not None:
        load_world(service, world)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.objects.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[*_routes(), *storage_routes()],
        exception_handlers={HTTPException: _no_such_call, sqlite3.DatabaseError: _store_failed},
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.uploads = service, UploadSessions(service)
    return app


@cache
def _routes() -> tuple[Route, ...]:
    """Return the routes of all methods, which apps share: compiling their paths takes 10 ms."""
    return tuple(_route(api, method) for method in METHODS for api in method.apis)


def _route(api: Api, method: Method) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _answer(request.app.state.service, api, method, request, await _body(request))
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
    selection = parse_fields(system.get("fields", ""), message_of(method.response, api))
    call = ApiCall(
        api=api,
        path=request.path_params,
        query=decode_query(message_of(method.query, api), parameters),
        body=decode(message_of(method.body, api), read_json(body), method.root),
        selection=selection,
    )
    alt = system.get("alt", "").split(";")

    def encoded(message: JsonObject) -> JsonObject:
        selected = select(message, selection)
        return encode(message_of(method.response, api), selected, enum_numbers="enum-encoding=int" in alt)

    response = method.handler(service, call)
    if method.split is None:
        return json_response(encoded(response))
    stream = list(map(encoded, method.split(response)))
    return event_response(stream) if "sse" in alt else json_response(stream)


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
    code = Code.UNAVAILABLE if isinstance(error, sqlite3.OperationalError) else Code.DATA_LOSS  # SQLite: or damaged
    return _refusal(ApiError(code, f"The embedded service cannot use its store: {error}"))


_WORLD_REMEDY = 'use the format of the list method: {"tunedModels": [{"name": "tunedModels/…", …}]}'
_TUNED_MODELS = "tunedModels/"


def load_world(service: Service, path: Path) -> None:
    """Insert the models of a world file into the store, once for each content; existing models are kept.

    Raises ReconcileError if the file cannot be read or is not a list of tuned models.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReconcileError(f"{path}: cannot be read: {error.strerror}", "name a world file that exists") from error
    digest = hashlib.sha256(raw).hexdigest()
    if service.store.is_loaded(digest):
        return
    models = _read_world(path, raw)
    with service.store.transaction():
        for model in models:
            _insert_model(service, model)
        service.store.set_loaded(digest)


def _insert_model(service: Service, model: JsonObject) -> None:
    task = model.get("tuningTask", {})
    examples = task.pop("trainingData", {}).get("examples", {}).get("examples", [])
    snapshots = task.pop("snapshots", [])
    seq = service.store.insert(model, api="v1beta3", examples=examples, snapshots=snapshots)
    if seq is not None:
        grant_ownership(service, seq, model["name"])


def _read_world(path: Path, raw: bytes) -> list[JsonObject]:
    try:
        world = decode(V1BETA.tuned_models, _parse_world(path, raw), stored=True)
    except ApiError as error:
        raise ReconcileError(f"{path}: is not a list of tuned models: {error.message}", _WORLD_REMEDY) from error
    models: list[JsonObject] = world.get("tunedModels", [])
    for index, model in enumerate(models):
        name = model.get("name", "")
        if not name.startswith(_TUNED_MODELS) or "/" in name.removeprefix(_TUNED_MODELS) or name == _TUNED_MODELS:
            place = f"{path}: tunedModels[{index}].name"
            raise ReconcileError(f'{place}: invalid name "{name}": expected tunedModels/ID', _WORLD_REMEDY)
    return models


def _parse_world(path: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        place = Place(str(path), error.lineno, error.colno)
        raise InvalidFile(place, "", f"not valid JSON: {error.msg}", _WORLD_REMEDY) from error
    except (ValueError, RecursionError) as error:
        raise ReconcileError(f"{path}: is not valid JSON: {error}", _WORLD_REMEDY) from error


_GRACE_SECONDS = 1


class HostGuard:
    """An application that answers only requests for its own host names, and from pages of these.

    Otherwise any web page could reach it through the user's browser: with a name that resolves to a loopback address,
    or with a form. Loopback names are always allowed.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 403."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            allowed = self._is_allowed(f"//{headers.get('host', '')}") and (origin is None or self._is_allowed(origin))
            if not allowed:
                message = "Requests for this host or from this origin are not allowed."
                await json_response({"error": {"code": 403, "message": message}}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, url: str) -> bool:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return False
        return is_loopback(host) or host.endswith(".localhost") or host in self._hosts


def serve(app: ASGIApp, *, host: str, port: int, started: Callable[[str], None], hosts: Iterable[str] = ()) -> None:
    """Serve until SIGINT, which raises KeyboardInterrupt, or SIGTERM. Port 0 selects a free one.

    ``started`` is called once with the base URL, when the server accepts requests. ``hosts`` are names that requests
    may be for, beside ``host`` and the loopback names. Raises ReconcileError if the address is not available.
    """
    import uvicorn

    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                started(f"http://{name}:{listener.getsockname()[1]}")

        config = uvicorn.Config(
            HostGuard(app, (host, *hosts)),
            http=abortable_protocol(),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise responses wait for acknowledgements
        return listener  # noqa: TRY300 - both calls fail for the same reasons
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the rest repeats the address
        raise ReconcileError(
            f"cannot listen on {host} port {port}: {reason}", "choose another host or port; port 0 selects a free one"
        ) from error
