"""Which service a target means, and how it is reached. HTTP and ASGI are imported only by commands that need them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Capabilities, Resources, Target
from reconciler.emulator.training import TrainingPace
from reconciler.environment import Environment
from reconciler.manifests.paths import repository_of, require_inside
from reconciler.providers.google.api_versions import VERSIONS, VERTEX, vertex_endpoint

if TYPE_CHECKING:
    import httpx

    from reconciler.providers.generativelanguage.provider import GenerativeLanguage
    from reconciler.providers.google.storage import Storage
    from reconciler.providers.vertex.provider import Vertex

    Service: TypeAlias = GenerativeLanguage | Vertex

EMBEDDED = "embedded"
VERTEX_AI = "vertex"
GENERATIVE_LANGUAGE_ENDPOINT = "https://generativelanguage.googleapis.com"
TOKEN_VARIABLE = "RECONCILE_ACCESS_TOKEN"  # noqa: S105 - the name of the variable, not a token
WORLD_FOLDER = ".reconcile"


def capabilities_of(target: Target) -> Capabilities:
    """What the target's service can do."""
    if target.provider == VERTEX_AI:
        return VERTEX
    capabilities = VERSIONS[target.api_version]
    if target.provider != EMBEDDED:
        return capabilities
    pace = _pace(target.step_seconds)
    return replace(
        capabilities,
        label="embedded service",
        simulated=True,
        seconds_per_step=pace.step_seconds,
        overhead_seconds=pace.overhead_seconds,
    )


def _pace(step_seconds: float | None) -> TrainingPace:
    """The pace of the embedded service; a quicker step shortens start and end in proportion."""
    default = TrainingPace()
    if step_seconds is None:
        return default
    return TrainingPace(step_seconds, default.overhead_seconds * step_seconds / default.step_seconds)


def endpoint_of(target: Target) -> str:
    """The address of the target's service; empty for the embedded one, which has none."""
    if target.provider == EMBEDDED:
        return ""
    if target.provider == VERTEX_AI:
        return vertex_endpoint(target)
    return target.endpoint or GENERATIVE_LANGUAGE_ENDPOINT


def url_of(target: Target, remote: str) -> str:
    """The address that takes prompts for a remote model (or for its endpoint, where it has one)."""
    version = "v1" if target.provider == VERTEX_AI else target.api_version
    endpoint = endpoint_of(target)
    return f"{endpoint}/{version}/{remote}" if endpoint else ""


def callable_name(remote: str, resources: Resources) -> str:
    """The name that prompts are put to: a tuning job answers none, its endpoint does."""
    return resources.endpoint or remote


def connect(env: Environment, target: Target, root: Path, allow_endpoints: frozenset[str]) -> Service:
    """A client of the target's service, to be used as an async context manager."""
    if target.provider == VERTEX_AI:
        from reconciler.providers.vertex.provider import connect as connect_vertex

        auth = _auth(env, target, allow_endpoints)
        return connect_vertex(target, auth=auth, clock=env.clock, sleep=env.sleeper, random=env.rng.random)
    from reconciler.providers.generativelanguage.provider import connect as connect_to

    embedded = target.provider == EMBEDDED
    return connect_to(
        "http://embedded.localhost" if embedded else endpoint_of(target),
        target.api_version,
        auth=None if embedded else _auth(env, target, allow_endpoints),
        transport=_embedded(env, target, root) if embedded else None,
        clock=env.clock,
        sleep=env.sleeper,
        random=env.rng.random,
        requests_per_minute=None if embedded else target.limits.requests_per_minute,
        capabilities=capabilities_of(target),
    )


def connect_storage(env: Environment, target: Target, allow_endpoints: frozenset[str]) -> Storage:
    """A client of Cloud Storage, to be used as an async context manager."""
    from reconciler.providers.google.storage import connect as connect_to

    return connect_to(
        target.storage_endpoint,
        auth=_auth(env, target, allow_endpoints),
        clock=env.clock,
        sleep=env.sleeper,
        random=env.rng.random,
        requests_per_minute=target.limits.requests_per_minute,
    )


def _auth(env: Environment, target: Target, allow_endpoints: frozenset[str]) -> httpx.Auth:
    from reconciler.providers.google.auth import google_auth

    return google_auth(
        access_token=env.environ.get(TOKEN_VARIABLE),
        environ=env.environ,
        project=target.project,
        allow_endpoints=allow_endpoints,
    )


def _embedded(env: Environment, target: Target, root: Path) -> httpx.AsyncBaseTransport:
    import httpx

    from reconciler.emulator.app import create_app

    folder = root / WORLD_FOLDER
    store = folder / f"{target.name}.sqlite3"
    for path in (folder, store, *folder.glob(f"{store.name}-*")):  # the last are SQLite's own, named after the store
        require_inside(path, repository_of(root))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ReconcileError(
            f"the embedded service cannot keep its models in {folder}: {error.strerror}", "make the folder writable"
        ) from error
    app = create_app(
        store=store,
        clock=env.clock,
        random=env.rng,
        settings=_pace(target.step_seconds),
        world=root / target.world if target.world else None,
    )
    return httpx.ASGITransport(app)


@dataclass(frozen=True, slots=True)
class Served:
    """What the embedded service starts with; ``None`` is memory, no models, and the usual pace."""

    store: Path | None = None
    world: Path | None = None
    step_seconds: float | None = None


def serve(env: Environment, what: Served, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve the embedded service until it is interrupted; ``started`` is told its URL."""
    from reconciler.emulator.app import create_app
    from reconciler.emulator.server import serve as serve_app

    app = create_app(
        store=what.store, clock=env.clock, random=env.rng, settings=_pace(what.step_seconds), world=what.world
    )
    with suppress(KeyboardInterrupt):  # the ordinary way to end a server
        serve_app(app, host=host, port=port, started=started)
