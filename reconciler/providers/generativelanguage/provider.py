"""The Generative Language API as a provider: one class for every version of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import ForbiddenError, ServiceError
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Handle,
    RemoteModel,
    Resources,
    State,
    TrainingExample,
    Update,
)
from reconciler.domain.ports import Clock, Created, Exists, Random, Sleeper
from reconciler.providers.generativelanguage import wire
from reconciler.providers.generativelanguage.permissions import Sharing
from reconciler.providers.generativelanguage.preflight import BaseModels
from reconciler.providers.google.api_versions import VERSIONS
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.inference import WAYS, ask
from reconciler.providers.google.network import Closing
from reconciler.providers.google.proto_json import integer, list_models, read_failure, resource_name, text

if TYPE_CHECKING:
    import httpx


T = TypeVar("T")

_PAGE_SIZE = "1000"  # the documented maximum; a server may answer with less
_REREADS = 3
_CREATE_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "correct what the service names; a base model can only be tuned while it offers createTunedModel, and Google"
        " retired its last such model of this API in May 2025",
    )
)
_FURTHER_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "correct what the service names; a tuned model can only be tuned further while it is there and ready, and while"
        " its base model can still be tuned",
    )
)

# Which permission on a tuned model does what: google/ai/generativelanguage/v1beta3/permission.proto, Role.
_UPDATE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for writer or owner permission on the tuned model"}
)
_DELETE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for owner permission on the tuned model"}
)
_ASK_REMEDIES = MappingProxyType(
    {
        "NOT_FOUND": "the model is gone: run `reconcile apply`",
        "PERMISSION_DENIED": "log in as its owner, or ask the owner for reader permission on the tuned model; if it is"
        " gone, run `reconcile apply`",
        "FAILED_PRECONDITION": "only a model that is ready can answer: run `reconcile wait`",
        "INVALID_ARGUMENT": "correct the prompt or its options as the service says",
    }
)


def connect(
    endpoint: str,
    version: str,
    *,
    auth: httpx.Auth | None,
    clock: Clock,
    sleep: Sleeper,
    random: Random,
    requests_per_minute: int | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    capabilities: Capabilities | None = None,
) -> GenerativeLanguage:
    """A provider over a client of its own; use it as an async context manager.

    Args:
        endpoint: The service's address without the version.
        version: A key of :data:`reconciler.providers.google.api_versions.VERSIONS`.
        auth: What authorises requests; ``None`` sends them bare, as to an embedded service.
        clock: The current time.
        sleep: What waits between attempts.
        random: Jitter.
        requests_per_minute: The rate limit; ``None`` is none.
        transport: What carries the requests instead of the network, such as ``httpx.ASGITransport(app)``.
        capabilities: Other capabilities than the version's, such as those of a service that simulates training.
    """
    client = Client(
        endpoint,
        auth=auth,
        clock=clock,
        sleep=sleep,
        random=random,
        requests_per_minute=requests_per_minute,
        transport=transport,
    )
    return GenerativeLanguage(client, version, capabilities or VERSIONS[version])


class GenerativeLanguage(Closing):
    """Implements :class:`reconciler.domain.ports.Provider`. Here the id of a model is its generation's key."""

    def __init__(self, client: Client, version: str, capabilities: Capabilities) -> None:
        self._client = client
        self._root = f"/{version}"
        self._way = WAYS[version]
        self._capabilities = capabilities
        self._base_models = BaseModels(client, self._root)
        self._sharing = Sharing(client, self._path, projects="projectAccess" in capabilities.features)

    async def aclose(self) -> None:
        """Give back the client's connections."""
        await self._client.aclose()

    @property
    def capabilities(self) -> Capabilities:
        """What this version of the API can do."""
        return self._capabilities

    @property
    def requests(self) -> int:
        """How many requests have been sent so far."""
        return self._client.requests

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Every tuned model of the project, in the service's order; a model that moves between pages counts once."""
        params = {"pageSize": _PAGE_SIZE, "fields": wire.list_fields(progress=progress)}
        return await list_models(self._client, Call("GET", f"{self._root}/tunedModels", params), wire.read_page)

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """One model by name; its operation is read for progress while it trains, and for the reason when it failed.

        The model comes first: an operation has neither mark nor creation time, and one read later than the model
        cannot lag behind it. So a model that serves, or is gone, costs one request and all others cost two. An
        operation that is no longer known leaves the model.
        """
        model = await self._read(handle.remote)
        if model is None or model.state is State.ACTIVE or handle.operation is None:
            return model
        return await self._get(handle.operation, partial(_with_outcome, model)) or model

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),  # noqa: ARG002 - this API measures on nothing
    ) -> Created | Exists:
        """Start a training. The id is the key, so a repeat cannot train twice; still, after doubt, it looks first."""
        remote = f"{wire.COLLECTION}{generation.key}"
        call = Call(
            "POST",
            f"{self._root}/tunedModels",
            {"tunedModelId": generation.key},
            wire.write_generation(generation, examples),
            _CREATE_REMEDIES if generation.source.base_model else _FURTHER_REMEDIES,
        )

        async def attempt(*, in_doubt: bool) -> Created | Exists:
            if in_doubt and (model := await self._read(remote)):
                return Exists(remote, model)
            operation = self._client.document(call, await self._client.once(call))
            return self._client.decode(call, partial(_created, remote), operation)

        try:
            return await self._client.repeat(attempt)
        except ServiceError as error:
            if error.code != "ALREADY_EXISTS":
                raise
        return Exists(remote, await self._read_taken(remote))

    async def _read_taken(self, remote: str) -> RemoteModel | None:
        """Read a model whose id is taken; one that was created this moment may take a few reads to show."""
        model = await self._read(remote)
        for number in range(1, _REREADS + 1):
            if model is not None:
                break
            await self._client.pause(number)
            model = await self._read(remote)
        return model

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Patch the fields of ``update``; the mark is written with the description, inside which it stands."""
        body = wire.write_update(update)
        call = Call("PATCH", self._path(remote), {"updateMask": ",".join(body)}, body, _UPDATE_REMEDIES)
        answer = await self._client.request(call)
        return self._client.decode(call, wire.read_model, answer)

    async def cancel(self, handle: Handle) -> None:
        """Stop a training by deleting the model that it makes: this API knows no other way."""
        model = await self._read(handle.remote)
        if model is not None and model.state is State.CREATING:
            await self._delete(handle.remote)

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Ask a model, in its version's way."""
        most = self._capabilities.max_candidates
        return await ask(self._client, self._path(remote), self._way, prompt, most, _ASK_REMEDIES)

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Every permission of a model, and the projects that may read it."""
        return await self._sharing.read(remote)

    async def set_access(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Change who may use a model."""
        await self._sharing.write(remote, live, changes)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        """Why some base models cannot be tuned; a service that does not tell leaves it to the create call."""
        return await self._base_models.untunable(base_models)

    async def tunable(self) -> tuple[str, ...] | None:
        """The base models that can be tuned; ``None`` when the service does not tell."""
        return await self._base_models.tunable()

    async def delete(self, handle: Handle, resources: Resources) -> None:  # noqa: ARG002 - a model is all there is
        """Delete a model."""
        await self._delete(handle.remote)

    async def _delete(self, remote: str) -> None:
        """Delete a model. A 403 counts as gone when the model does not show either, as after a repeated request."""
        try:
            await self._client.request(Call("DELETE", self._path(remote), remedies=_DELETE_REMEDIES))
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
        except ForbiddenError:
            if await self._read(remote) is not None:
                raise

    async def _read(self, remote: str) -> RemoteModel | None:
        return await self._get(remote, wire.read_model)

    async def _get(self, name: str, read: Callable[[Json], T]) -> T | None:
        """A model or an operation, or ``None``: Google answers 403 to what "you may not see, or may not exist".

        Taking both as absence is safe: an id is a content key, and creating one that exists is refused with 409.
        """
        call = Call("GET", self._path(name))
        try:
            body = await self._client.request(call)
        except ForbiddenError as error:
            if error.resource:
                return None
            raise
        except ServiceError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return self._client.decode(call, read, body)

    def _path(self, name: str) -> str:
        """The path of a resource; its name, from a lockfile or a service, may not reach out of the collection."""
        parts = name.split("/")
        if f"{parts[0]}/" != wire.COLLECTION or not set(parts).isdisjoint({"", ".", ".."}):
            remedy = f"correct the lockfile; names begin with {wire.COLLECTION}"
            raise ServiceError(f"{name!r} is no name of a tuned model here", remedy, code="INVALID_ARGUMENT")
        return f"{self._root}/{quote(name)}"


def _created(remote: str, operation: Json) -> Created:
    metadata = operation.get("metadata") or {}
    named = resource_name(metadata.get("tunedModel") or remote)
    handle = Handle(remote=named, operation=text(operation.get("name")) or None)
    return Created(handle, integer(metadata.get("totalSteps")))


def _with_outcome(model: RemoteModel, operation: Json) -> RemoteModel:
    """The model with what its operation knows beyond it: progress, the loss curve, why it failed."""
    metadata = operation.get("metadata") or {}
    done = bool(operation.get("done"))
    response = operation.get("response")
    seen = wire.read_model(response) if done and response else model
    total = integer(metadata.get("totalSteps"))
    known = dataclasses.replace(
        seen,
        snapshots=seen.snapshots or wire.read_snapshots(metadata),
        completed_steps=total if seen.state is State.ACTIVE else integer(metadata.get("completedSteps")) or 0,
        total_steps=total,
    )
    if done and (error := operation.get("error")):
        return dataclasses.replace(known, state=State.FAILED, failure=read_failure(error))
    return known
