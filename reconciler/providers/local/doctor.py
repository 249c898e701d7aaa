"""The doctor checks of training on this machine: the store, the libraries, the device, base models and the server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import counted, join_names, sanitize
from reconciler.providers.local.base_models import Fault, Places, read_base_model
from reconciler.providers.local.capabilities import inference_of, slots_of, threads_of
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.inference import KEY_VARIABLE, Server
from reconciler.providers.local.processes import INSTALL, LIBRARIES, missing_libraries, trainer_environment
from reconciler.providers.local.store import open_store
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext
from reconciler.trainer.run_files import BaseModel

LEAST_DISK: Final = 5 * 10**9
"""A base model of a billion parameters has some 2 GB, and a training keeps up to three checkpoints."""
LEAST_MEMORY: Final = 2 * 10**9
"""What a small model needs to be trained on a CPU."""
_GIGABYTE: Final = 10**9
_SECONDS: Final = 120.0
_DEVICE: Final = """
import json, torch
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    found = {"device": torch.cuda.get_device_name(), "free": free, "total": total}
elif torch.backends.mps.is_available():
    found = {"device": "Apple GPU (MPS)"}
else:
    found = {"device": "CPU"}
print(json.dumps(found))
"""


async def _check_store(doctor: DoctorContext) -> Diagnosis:
    """Check that models can be kept, and that there is room for them."""
    store = open_store(doctor.context)
    folder = next(parent for parent in (store.path, *store.path.parents) if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ReconcileError(f"{store.shown} cannot be written", f"make {folder} writable")
    doctor.models = await doctor.provider.list(progress=False)
    free = shutil.disk_usage(folder).free
    scope = doctor.target.scope
    own = sum(1 for model in doctor.models if model.mark and model.mark.scope == scope)
    message = (
        f"{store.shown} has {counted(len(doctor.models), 'model')}, {own} of them of the scope {scope};"
        f" {_gigabytes(free)} of disk space are free"
    )
    if free < LEAST_DISK:
        return Diagnosis(message, f"free disk space: {_gigabytes(LEAST_DISK)} are recommended", "warning")
    return Diagnosis(message)


async def _check_libraries(_doctor: DoctorContext) -> Diagnosis:
    """Check that the training libraries are installed."""
    missing = missing_libraries()
    if missing:
        return Diagnosis(f"{join_names(missing)} not installed", f"run `{INSTALL}`", "failed")
    return Diagnosis(", ".join(f"{name} {_version(name)}" for name in LIBRARIES))


def _version(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return "(unknown version)"


async def _check_device(doctor: DoctorContext) -> Diagnosis:
    """Check that torch can be imported, and which device and how much memory there are."""
    environ = trainer_environment(doctor.env.environ, Hub(), uses_hub=False)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-c", _DEVICE),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Diagnosis("torch was not imported within two minutes", "run the command again", "failed")
    if process.returncode:
        last = next(reversed(errors.decode(errors="replace").strip().splitlines()), "no message")
        return Diagnosis(f"torch cannot be imported: {sanitize(last)}", f"run `{INSTALL}`", "failed")
    found = json.loads(output)
    target = doctor.target
    parts = [f"trainings run on {found['device']}"]
    if "total" in found:
        parts.append(f"{_gigabytes(found['free'])} of its {_gigabytes(found['total'])} are free")
    memory = available_memory()
    if memory is not None:
        parts.append(f"{_gigabytes(memory)} of memory are available")
    parts.append(f"{counted(slots_of(target), 'slot')} with {counted(threads_of(target), 'CPU thread')} each")
    if memory is not None and memory < LEAST_MEMORY:
        return Diagnosis("; ".join(parts), f"free memory: {_gigabytes(LEAST_MEMORY)} are recommended", "warning")
    return Diagnosis("; ".join(parts))


def available_memory() -> int | None:
    """Return the bytes of memory that new processes can use; ``None`` where the system does not show it."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) * 1024
    return None


async def _check_base_models(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests exist, and whether their weights have to be downloaded."""
    context = doctor.context
    places, hub = Places(context.root, context.allow_folders), Hub.of(doctor.env.environ, context.allow_endpoints)
    found = {name: read_base_model(name, places) for name in sorted(doctor.base_models)}
    faults = [str(fault) for fault in found.values() if isinstance(fault, Fault)]
    faults += [str(hub.fault)] if hub.fault and any(is_hub(base) for base in found.values()) else []
    if faults:
        problems, remedies = zip(*(fault.split("; ", 1) for fault in faults), strict=True)
        return Diagnosis("\n".join(problems), "\n".join(remedies), "failed")
    if not found:
        return Diagnosis("no manifest names a base model", status="skipped")
    absent = [name for name, base in found.items() if isinstance(base, BaseModel) and not is_present(base, doctor)]
    if absent and hub.offline:
        return Diagnosis(
            f"the weights of {join_names(absent)} are not on this machine, and HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE for the first training, or name a folder with the weights",
            "failed",
        )
    if absent:
        return Diagnosis(f"the first training downloads {join_names(absent)} from {hub.address}")
    return Diagnosis(f"the weights of {counted(len(found), 'base model')} are on this machine")


def is_hub(base: BaseModel | Fault) -> bool:
    """Return whether a base model comes from the hub."""
    return isinstance(base, BaseModel) and bool(base.hub)


def is_present(base: BaseModel, doctor: DoctorContext) -> bool:
    """Return whether the weights of a base model are on this machine."""
    if not base.hub:
        return True
    snapshot = hub_cache(doctor.env.environ) / f"models--{base.hub.replace('/', '--')}" / "snapshots" / base.revision
    return any(snapshot.glob("*.safetensors"))


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Return the folder in which the libraries of the hub keep models."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"])
    cache = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME', '/')}/.cache"
    return Path(environ.get("HF_HOME") or f"{cache}/huggingface") / "hub"


async def _check_server(doctor: DoctorContext) -> Diagnosis:
    """Check that the server that answers prompts can be reached."""
    url, context = inference_of(doctor.target), doctor.context
    if not url:
        return Diagnosis("a worker of this machine answers prompts", status="skipped")
    server = Server(url, context.allow_endpoints, doctor.env.environ.get(KEY_VARIABLE, ""))
    try:
        names = await server.models()
    finally:
        await server.aclose()
    return Diagnosis(f"{url} serves {join_names(sorted(names), 5)}")


DOCTOR_CHECKS: Final = (
    DoctorCheck("store", _check_store),
    DoctorCheck("libraries", _check_libraries),
    DoctorCheck("device", _check_device, ("libraries",)),
    DoctorCheck("baseModels", _check_base_models),
    DoctorCheck("inference", _check_server),
)
"""What `reconcile doctor` checks on this machine."""


def _gigabytes(amount: int) -> str:
    return f"{amount / _GIGABYTE:.1f} GB"
