"""The spec of training on this machine: what a target declares for it, how to connect, and the doctor checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.endpoints import is_host, is_loopback
from reconciler.domain.model import Target
from reconciler.providers.local.capabilities import (
    CAPABILITIES,
    DEFAULT_STORE,
    slots_of,
    threads_of,
)
from reconciler.providers.local.models import LocalRecord
from reconciler.providers.spec import DoctorCheck, FieldFinding, ProviderContext, ProviderSpec, Usage

if TYPE_CHECKING:
    from reconciler.providers.local.provider import Local


def connect(context: ProviderContext) -> Local:
    """Return a provider on the store of a target."""
    from reconciler.providers.local.base_models import Places
    from reconciler.providers.local.checks import CheckProcess
    from reconciler.providers.local.export import Merger
    from reconciler.providers.local.hosts import Slots, this_host
    from reconciler.providers.local.hub import Hub
    from reconciler.providers.local.inference import Worker, server_of
    from reconciler.providers.local.processes import DetachedProcesses
    from reconciler.providers.local.provider import Local, Machine
    from reconciler.providers.local.store import open_store

    env, target = context.env, context.target
    store, hub = open_store(context), Hub.of(env.environ, context.allow_endpoints)
    host, worker = this_host(), Worker(env.environ, hub, threads=threads_of(target))
    return Local(
        Machine(
            store=store,
            places=Places(context.root, context.allow_folders),
            host=host,
            launcher=DetachedProcesses(env.environ, hub),
            checker=CheckProcess(env.environ, hub),
            answerer=server_of(context) or worker,
            worker=worker,
            merger=Merger(env.environ, hub),
            hub=hub,
            clock=env.clock,
            sleeper=env.sleeper,
            slots=Slots.of(host, env.environ, store.path, slots_of(target)),
            threads=threads_of(target),
        )
    )


def _usage(target: Target, root: Path, remote: str, recorded: Mapping[str, Any]) -> Usage | None:
    from reconciler.providers.local.usage import usage_of

    return usage_of(target, root, remote, recorded)


def _catalog() -> ModelCatalog:
    from reconciler.providers.catalog import built_in

    return replace(built_in(__file__), closed=False)  # any other open model can be tuned too


def _doctor_checks() -> Iterable[DoctorCheck]:
    from reconciler.providers.local.doctor import DOCTOR_CHECKS

    return DOCTOR_CHECKS


def _check_target(spec: Mapping[str, Any], _directory: Path) -> Iterator[FieldFinding]:
    local = spec.get("local")
    inference = local.get("inference") if isinstance(local, dict) else None
    url = inference.get("url") if isinstance(inference, dict) else None
    if isinstance(url, str) and not is_safe(url):
        remedy = "set https://HOST/v1, or http:// with a loopback address"
        yield ("spec", "local", "inference", "url"), "unsupported address", remedy


def is_safe(url: str) -> bool:
    """Return whether an address is https, or http on this machine, and has no credentials, query or fragment."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and is_host(parts.netloc) and not set("?#%\\ ") & set(url)
    return plain and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "title": "This machine",
        "description": "Settings of training on this machine.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "store": {
                "title": "Store",
                "description": (
                    "The folder of the tuned models, relative to this file. Outside of the repository it needs"
                    f" `--allow-folder`. Default: {DEFAULT_STORE}, which git ignores."
                ),
                "type": "string",
                "minLength": 1,
                "maxLength": 1000,
                "examples": ["/data/models"],
            },
            "slots": {
                "title": "Slots",
                "description": "The trainings of a user that run at once on a machine; the others wait. Default: 1.",
                "type": "integer",
                "minimum": 1,
                "maximum": 64,
                "examples": [1],
            },
            "threads": {
                "title": "Threads",
                "description": (
                    "The CPU threads of each training; a fixed number makes it reproducible. Default: half of the"
                    " processors, divided by the slots."
                ),
                "type": "integer",
                "minimum": 1,
                "maximum": 1024,
                "examples": [4],
            },
            "inference": {
                "title": "Inference",
                "description": "Where prompts are sent. Default: a worker on this machine that loads the model.",
                "type": "object",
                "additionalProperties": False,
                "required": ["url"],
                "properties": {
                    "url": {
                        "title": "URL",
                        "description": (
                            "The address of a server with the OpenAI API, such as vLLM, that has each adapter under its"
                            " key. Another host than this machine needs `--allow-endpoint`."
                        ),
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 300,
                        "examples": ["http://127.0.0.1:8000/v1"],
                    }
                },
                "examples": [{"url": "http://127.0.0.1:8000/v1"}],
            },
        },
        "examples": [{"slots": 1}],
    }
)
"""The JSON Schema of ``spec.local``."""

SPEC = ProviderSpec(
    name="local",
    capabilities=lambda _target: CAPABILITIES,
    connect=connect,
    settings=_SETTINGS,
    unused_fields=MappingProxyType(
        {
            "endpoint": "the trainings are processes of this machine",
            "storageEndpoint": "data sets are files",
            "bucket": "data sets are files",
            "apiVersion": "it selects a version of the Generative Language API",
            "servingLocation": "models are not deployed",
            "vertex": "it contains settings of Vertex AI",
        }
    ),
    check_target=_check_target,
    catalog=_catalog,
    usage=_usage,
    record=LocalRecord,
    doctor_checks=_doctor_checks,
)
