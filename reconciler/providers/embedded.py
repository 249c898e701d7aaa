"""The embedded service, which simulates tuning in this process: its spec, models, pace, doctor checks and server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from os.path import realpath
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Target
from reconciler.emulator.training import DEFAULT_STEP_SECONDS, OVERHEAD_STEPS, TrainingPace
from reconciler.files import require_safe, write_errors
from reconciler.paths import find_file, repository_of, require_inside
from reconciler.providers.generativelanguage.spec import VERSIONS, check_base_models
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext, FieldFinding, ProviderContext, ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from starlette.types import ASGIApp

    from reconciler.emulator.faults import Faults
    from reconciler.environment import Environment
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage


_DIRECTORY = ".reconcile"


def store_of(context: ProviderContext) -> Path:
    """Return the SQLite file that keeps the models of a target."""
    return context.root / _DIRECTORY / f"{context.target.name}.sqlite3"


def capabilities_of(target: Target) -> Capabilities:
    """Return what the embedded service can do at the pace of a target."""
    pace = _pace(target.settings.get("stepSeconds"))
    return replace(
        VERSIONS[target.api_version],
        label="embedded service",
        simulated=True,
        seconds_per_step=pace.step_seconds,
        overhead_seconds=pace.overhead_seconds,
    )


def _pace(step_seconds: float | None) -> TrainingPace:
    """Return the pace of the simulated training; a quicker step shortens start and end in proportion."""
    return TrainingPace() if step_seconds is None else TrainingPace(step_seconds, step_seconds * OVERHEAD_STEPS)


def connect(context: ProviderContext) -> GenerativeLanguage:
    """Return a client of the service in this process."""
    from reconciler.providers.generativelanguage import provider
    from reconciler.providers.google.http import ClientSettings

    env, target = context.env, context.target
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, transport=_transport(context))
    return provider.connect("http://embedded.localhost", target.api_version, settings, capabilities_of(target))


def _transport(context: ProviderContext) -> httpx.AsyncBaseTransport:
    import httpx

    from reconciler.emulator.app import create_app

    store, settings = store_of(context), context.target.settings
    directory = store.parent
    require_inside(directory, repository_of(context.root))
    for path in (directory, store, *directory.glob(f"{store.name}-*")):  # SQLite names its own files after the store
        with write_errors(path):
            require_safe(path)
    with write_errors(directory):
        directory.mkdir(exist_ok=True)
    app = create_app(
        store=store,
        clock=context.env.clock,
        random=context.env.rng,
        settings=_pace(settings.get("stepSeconds")),
        world=context.root / settings["world"] if "world" in settings else None,
    )
    return httpx.ASGITransport(app)


class ServerOptions(Struct, frozen=True):
    """What a server of the embedded service starts with; ``None`` is memory, no models, the usual pace, no faults."""

    store: Path | None = None
    world: Path | None = None
    step_seconds: float | None = None
    hosts: tuple[str, ...] = ()
    faults: Faults | None = None


def serve(env: Environment, options: ServerOptions, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve the embedded service until it is interrupted; ``started`` gets its URL."""
    from reconciler.emulator.app import create_app
    from reconciler.emulator.app import serve as serve_app
    from reconciler.emulator.faults import FaultInjector
    from reconciler.providers.vertex.spec import SPEC as VERTEX_SPEC

    settings = _pace(options.step_seconds)
    app: ASGIApp = create_app(
        store=options.store,
        clock=env.clock,
        random=env.rng,
        settings=settings,
        world=options.world,
        base_models=VERTEX_SPEC.catalog(),
    )
    if options.faults:
        app = FaultInjector(app, options.faults, clock=env.clock, sleep=env.sleeper)
    with suppress(KeyboardInterrupt):  # the ordinary way to end a server
        serve_app(app, host=host, port=port, started=started, hosts=options.hosts)


async def _check_store(doctor: DoctorContext) -> Diagnosis:
    """Check that the models can be kept on this machine."""
    return _describe_store(doctor)


def _describe_store(doctor: DoctorContext) -> Diagnosis:
    store = store_of(doctor.context)
    directory = store.parent
    if not os.access(directory if directory.exists() else doctor.context.root, os.W_OK | os.X_OK):
        raise ReconcileError(f"the embedded service cannot keep its models in {directory}", "make the folder writable")
    shown = Path(os.path.relpath(store, doctor.env.cwd)).as_posix()
    later = "" if store.is_file() else ", once there are any"
    return Diagnosis(f"the embedded service keeps its models in {shown}{later}")


async def _check_list(doctor: DoctorContext) -> Diagnosis:
    """List the models that were trained here."""
    if not store_of(doctor.context).is_file():
        return Diagnosis("nothing was trained here yet", status="skipped")
    from reconciler.providers.google.doctor import tuned_models_listed

    doctor.models = await doctor.provider.list(progress=False)
    return Diagnosis(tuned_models_listed(doctor))


async def _check_base_models(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests can be tuned."""
    if not store_of(doctor.context).is_file():
        return Diagnosis("the embedded service simulates them", status="skipped")
    return await check_base_models(doctor)


def _catalog() -> ModelCatalog:
    """Return the Gemini models of Vertex AI under their names at this service, which has no locations."""
    from reconciler.providers.vertex.spec import SPEC as VERTEX_SPEC

    catalog, prefix = VERTEX_SPEC.catalog(), next(iter(VERSIONS.values())).base_model_prefix
    models = {
        f"{prefix}{name}": replace(
            model,
            methods=("SFT",) if model.methods else (),
            locations=(),
            serving_locations=(),
            successor=model.successor and f"{prefix}{model.successor}",
        )
        for name, model in catalog.models.items()
        if name.startswith("gemini-")
    }
    return ModelCatalog(catalog.as_of, models, closed=False)


DOCTOR_CHECKS = (
    DoctorCheck("service", _check_store),
    DoctorCheck("list", _check_list, ("service",)),
    DoctorCheck("baseModels", _check_base_models, ("list",)),
)

_NOT_IN_STORAGE = "Cloud Storage is not used"


def _check_target(spec: Mapping[str, Any], directory: Path) -> Iterator[FieldFinding]:
    publish = spec.get("publish")
    if isinstance(publish, str) and publish.startswith(REMOTE_SCHEME):
        yield ("spec", "publish"), "Cloud Storage is not supported by provider embedded", "set the path of a file"
    settings = spec.get("embedded")
    world = settings.get("world") if isinstance(settings, dict) else None
    if not isinstance(world, str):
        return
    try:
        file = find_file(world, directory, repository_of(directory))
    except ReconcileError as error:
        yield ("spec", "embedded", "world"), error.message, error.remedy
        return
    if isinstance(publish, str) and "\0" not in publish and realpath(directory / publish) == realpath(file):
        message = f"{publish}: same file as spec.embedded.world"
        yield ("spec", "publish"), message, "use another name, such as serving.json"


_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Embedded service",
        "description": "Settings of the embedded service; other providers ignore them.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "stepSeconds": {
                "title": "Seconds a step",
                "description": (
                    "The duration of one simulated training step in seconds. "
                    f"Optional; by default {DEFAULT_STEP_SECONDS}."
                ),
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 86400,
                "examples": [0.05],
            },
            "world": {
                "title": "World",
                "description": (
                    "A file with the models that exist initially, in the format of the service's list; "
                    "relative to this file and inside the repository."
                ),
                "type": "string",
                "minLength": 1,
                "examples": ["world.json"],
            },
        },
        "examples": [{"stepSeconds": 0.05}],
    }
)
"""The JSON Schema of ``spec.embedded``."""

SPEC = ProviderSpec(
    name="embedded",
    capabilities=capabilities_of,
    connect=connect,
    settings=_SETTINGS,
    unused_fields=MappingProxyType(
        {
            "endpoint": "the service runs in the process of the command",
            "bucket": "data sets are sent in requests",
            "lock": "the lockfile is always a local file",
            "storageEndpoint": _NOT_IN_STORAGE,
            "vertex": "it contains settings of Vertex AI",
        }
    ),
    check_target=_check_target,
    catalog=_catalog,
    doctor_checks=lambda: DOCTOR_CHECKS,
)
