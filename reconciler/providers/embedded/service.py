"""The service in this process: where it keeps its models, its pace, its doctor checks, and a server for others."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Capabilities, Target
from reconciler.emulator.training import TrainingPace
from reconciler.paths import repository_of, require_inside
from reconciler.providers.generativelanguage.capabilities import VERSIONS
from reconciler.providers.generativelanguage.spec import check_base_models
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext, ProviderContext

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

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
    default = TrainingPace()
    if step_seconds is None:
        return default
    return TrainingPace(step_seconds, default.overhead_seconds * step_seconds / default.step_seconds)


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
    for path in (directory, store, *directory.glob(f"{store.name}-*")):  # SQLite names its own files after the store
        require_inside(path, repository_of(context.root))
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise ReconcileError(
            f"the embedded service cannot keep its models in {directory}: {error.strerror}", "make the folder writable"
        ) from error
    app = create_app(
        store=store,
        clock=context.env.clock,
        random=context.env.rng,
        settings=_pace(settings.get("stepSeconds")),
        world=context.root / settings["world"] if "world" in settings else None,
    )
    return httpx.ASGITransport(app)


class ServerOptions(Struct, frozen=True):
    """What a server of the embedded service starts with; ``None`` is memory, no models, and the usual pace."""

    store: Path | None = None
    world: Path | None = None
    step_seconds: float | None = None


def serve(env: Environment, options: ServerOptions, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve the embedded service until it is interrupted; ``started`` gets its URL."""
    from reconciler.emulator.app import create_app
    from reconciler.emulator.server import serve as serve_app

    settings = _pace(options.step_seconds)
    app = create_app(store=options.store, clock=env.clock, random=env.rng, settings=settings, world=options.world)
    with suppress(KeyboardInterrupt):  # the ordinary way to end a server
        serve_app(app, host=host, port=port, started=started)


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


DOCTOR_CHECKS = (
    DoctorCheck("service", _check_store),
    DoctorCheck("list", _check_list, ("service",)),
    DoctorCheck("baseModels", _check_base_models, ("list",)),
)
