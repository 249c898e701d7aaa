"""The provider for the Generative Language API, in all its versions, and which of its base models can be tuned."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import ForbiddenError, ServiceError
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
from reconciler.domain.ports import Created, Exists, Prompt, Reply
from reconciler.domain.text import join_names, sanitize, suggest
from reconciler.providers.generativelanguage import wire
from reconciler.providers.generativelanguage.permissions import PermissionClient
from reconciler.providers.google.errors import read_count, read_failure, read_name, read_text
from reconciler.providers.google.http import AsyncClosing, Client, ClientSettings, HttpRequest, Json, list_models
from reconciler.providers.google.inference import send_prompt

T = TypeVar("T")

_PAGE_SIZE = "1000"  # the documented maximum; a server may return fewer
_REREADS = 3


def connect(endpoint: str, version: str, settings: ClientSettings, capabilities: Capabilities) -> GenerativeLanguage:
    """Return a provider for an API version, such as ``v1beta``; use it as an async context manager."""
    return GenerativeLanguage(Client(endpoint, wire.SERVICE, settings), version, capabilities)


class GenerativeLanguage(AsyncClosing):
    """Implements :class:`reconciler.domain.ports.Provider`; the id of a model is the key of its generation."""

    def __init__(self, client: Client, version: str, capabilities: Capabilities) -> None:
        self._client = client
        self._root = f"/{version}"
        self._codec = wire.CODECS[version]
        self._capabilities = capabilities
        self._base_models = BaseModels(client, self._root)
        self._permissions = PermissionClient(client, self._path, projects="projectAccess" in capabilities.features)

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.aclose()

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this API version."""
        return self._capabilities

    @property
    def requests(self) -> int:
        """The number of requests that have been sent."""
        return self._client.requests

    @property
    def service_time(self) -> datetime | None:
        """The time of the service at its last response."""
        return self._client.service_time

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Return every tuned model of the project, in the service's order."""
        params = {"pageSize": _PAGE_SIZE, "fields": wire.list_fields(progress=progress)}
        request = HttpRequest("GET", f"{self._root}/tunedModels", params)
        return await list_models(self._client, request, wire.read_page)

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """Return a model by name, with the progress or the failure that only its operation contains.

        The operation is read after the model, so that it cannot be older; it has neither mark nor creation time. A
        ready or missing model takes one request, and any other takes two. Without its operation, the model is returned.
        """
        model = await self._read(handle.remote)
        if model is None or model.state is State.ACTIVE or handle.operation is None:
            return model
        return await self._get(handle.operation, partial(_with_outcome, model)) or model

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),  # noqa: ARG002 - this API has no validation data
    ) -> Created | Exists:
        """Start a training; a repeated request cannot train twice, because the id of a model is its key."""
        remote = f"{wire.COLLECTION}{generation.key}"
        request = HttpRequest(
            "POST",
            f"{self._root}/tunedModels",
            {"tunedModelId": generation.key},
            wire.write_generation(generation, examples),
            wire.CREATE_REMEDIES if generation.source.base_model else wire.CREATE_CHILD_REMEDIES,
            idempotent=False,
        )

        async def attempt(*, in_doubt: bool) -> Created | Exists:
            if in_doubt and (model := await self._read(remote)):
                return Exists(remote, model)
            return await self._client.fetch_once(request, partial(_read_created, remote))

        try:
            return await self._client.retry(attempt)
        except ServiceError as error:
            if error.code != "ALREADY_EXISTS":
                raise
        return Exists(remote, await self._read_existing(remote))

    async def _read_existing(self, remote: str) -> RemoteModel | None:
        """Read a model whose id exists; a new model may appear only after a few reads."""
        model = await self._read(remote)
        for number in range(1, _REREADS + 1):
            if model is not None:
                break
            await self._client.pause(number)
            model = await self._read(remote)
        return model

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Patch the fields of ``update``; the mark is a part of the description."""
        body = wire.write_update(update)
        mask = {"updateMask": ",".join(body)}
        request = HttpRequest("PATCH", self._path(remote), mask, body, wire.UPDATE_REMEDIES)
        return await self._client.fetch(request, wire.read_model)

    async def cancel(self, handle: Handle) -> None:
        """Stop a training by deleting its model: this API has no other way."""
        path = self._path(handle.remote)
        try:
            model = await self._client.find(HttpRequest("GET", path, remedies=wire.DELETE_REMEDIES), wire.read_model)
        except ForbiddenError as error:
            if not error.resource or await self._is_listed(handle.remote):
                raise
            return
        if model is not None and model.state is State.CREATING:
            await self._delete(handle.remote)

    def base_remote(self, base_model: str) -> str:
        """Return the full name of a base model, which answers prompts under it."""
        if not _BASE_MODEL.fullmatch(base_model):
            message = f"invalid base model {sanitize(base_model)!r}: expected a name that begins with {_COLLECTION}"
            raise ServiceError(message, "fix the lockfile", code="INVALID_ARGUMENT")
        return base_model

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Send a prompt to a tuned model or a base model."""
        is_base, most = remote.startswith(_COLLECTION), self._capabilities.max_candidates
        path = f"{self._root}/{self.base_remote(remote)}" if is_base else self._path(remote)
        remedies = wire.INFER_BASE_REMEDIES if is_base else wire.INFER_REMEDIES
        return await send_prompt(self._client, path, self._codec, prompt, most, remedies)

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Return every permission of a model, and the projects that may read it."""
        return await self._permissions.read(remote)

    async def set_access(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Change the permissions of a model."""
        await self._permissions.write(remote, live, changes)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        """Return an error for each base model that cannot be tuned, where the service lists its base models."""
        return await self._base_models.untunable(base_models)

    async def tunable(self) -> tuple[str, ...] | None:
        """Return the base models that can be tuned; ``None`` where the service does not list them."""
        return await self._base_models.tunable()

    async def delete(self, handle: Handle, resources: Resources) -> None:  # noqa: ARG002 - the model is the only resource
        """Delete a model."""
        await self._delete(handle.remote)

    async def _delete(self, remote: str) -> None:
        """Delete a model; a 403 counts as deleted only if the model is not listed, as after a repeated request."""
        request = HttpRequest("DELETE", self._path(remote), remedies=wire.DELETE_REMEDIES)
        try:
            await self._client.find(request, dict)
        except ForbiddenError:
            if await self._is_listed(remote):
                raise

    async def _is_listed(self, remote: str) -> bool:
        """Return whether a model exists; a GET answers 403 both to names that do not exist and without access."""
        return any(model.remote == remote for model in await self.list(progress=False))

    async def _read(self, remote: str) -> RemoteModel | None:
        return await self._get(remote, wire.read_model)

    async def _get(self, name: str, read: Callable[[Json], T]) -> T | None:
        """Return a model or an operation, or ``None``: Google responds with 403 to names that "may not exist".

        It is safe to treat both as absent: an id is a content key, and creating one that exists fails with 409.
        """
        try:
            return await self._client.find(HttpRequest("GET", self._path(name)), read)
        except ForbiddenError as error:
            if error.resource:
                return None
            raise

    def _path(self, name: str) -> str:
        """Return the path of a resource; its name, from a lockfile or a service, must be inside the collection."""
        parts = name.split("/")
        if f"{parts[0]}/" != wire.COLLECTION or not set(parts).isdisjoint({"", ".", ".."}):
            message = f"invalid tuned model {name!r}: expected a name that begins with {wire.COLLECTION}"
            raise ServiceError(message, "fix the lockfile", code="INVALID_ARGUMENT")
        return f"{self._root}/{quote(name)}"


def _read_created(remote: str, operation: Json) -> Created:
    metadata = operation.get("metadata") or {}
    name = read_name(metadata.get("tunedModel") or remote)
    handle = Handle(remote=name, operation=read_text(operation.get("name")) or None)
    return Created(handle, read_count(metadata.get("totalSteps")))


def _with_outcome(model: RemoteModel, operation: Json) -> RemoteModel:
    """Return the model with its operation's progress, loss curve and failure."""
    metadata = operation.get("metadata") or {}
    done = bool(operation.get("done"))
    response = operation.get("response")
    latest = wire.read_model(response) if done and response else model
    total = read_count(metadata.get("totalSteps"))
    trained = replace(
        latest,
        snapshots=latest.snapshots or wire.read_snapshots(metadata),
        completed_steps=total if latest.state is State.ACTIVE else read_count(metadata.get("completedSteps")) or 0,
        total_steps=total,
    )
    if done and (error := operation.get("error")):
        return replace(trained, state=State.FAILED, failure=read_failure(error))
    return trained


_COLLECTION = "models/"
_BASE_MODEL = re.compile(r"models/[A-Za-z0-9][A-Za-z0-9._-]*")
_TUNE = "createTunedModel"
_FIELDS = "name,supportedGenerationMethods"
_NOT_AVAILABLE = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})
_MAX_NAMES = 5


class BaseModel(Struct, frozen=True):
    """A base model by its full name, ``models/gemini-3.5-flash``, and the methods that it supports."""

    remote: str
    methods: frozenset[str]

    @property
    def tunable(self) -> bool:
        """Whether a model can be tuned from it."""
        return _TUNE in self.methods


class BaseModels:
    """The base models of a service; their list is requested once.

    Args:
        client: The client of the service.
        root: The API's version as a path, ``/v1beta3``.
    """

    def __init__(self, client: Client, root: str) -> None:
        self._client = client
        self._root = root
        self._listed: Mapping[str, BaseModel] | None = None

    async def tunable(self) -> tuple[str, ...] | None:
        """Return the sorted names of the base models that can be tuned; ``None`` where the service does not list them.

        Raises:
            AccessError: There are no valid credentials.
            ServiceError: The service cannot be reached.
        """
        listed = await self._list_once()
        return tuple(sorted(model.remote for model in listed.values() if model.tunable)) if listed else None

    async def untunable(self, names: Iterable[str]) -> dict[str, str]:
        """Return an error for each named base model that cannot be tuned; raises as :meth:`tunable`.

        A model that is not listed is requested by name, because lists may be incomplete. Without a list there are no
        errors here, and the create request decides.
        """
        listed, tunable = await self._list_once(), await self.tunable()
        if tunable is None:
            return {}
        models = {name: listed.get(name) or await self._read(name) for name in sorted(names)}
        return {name: _explain(name, model, tunable) for name, model in models.items() if not (model and model.tunable)}

    async def _list_once(self) -> Mapping[str, BaseModel]:
        """Return the list by name; empty where there is none, or where no model names its methods."""
        if self._listed is None:
            params = {"pageSize": _PAGE_SIZE, "fields": f"nextPageToken,models({_FIELDS})"}
            request = HttpRequest("GET", f"{self._root}/models", params)
            models = await _find(list_models(self._client, request, _read_page)) or ()
            self._listed = {model.remote: model for model in models} if any(model.methods for model in models) else {}
        return self._listed

    async def _read(self, name: str) -> BaseModel | None:
        request = HttpRequest("GET", f"{self._root}/{name}", {"fields": _FIELDS})
        return await _find(self._client.fetch(request, _read_model))


async def _find(response: Awaitable[T]) -> T | None:
    """Return a response; ``None`` where it does not exist, or is not visible to the account."""
    try:
        return await response
    except ForbiddenError:
        return None
    except ServiceError as error:
        if error.code in _NOT_AVAILABLE:
            return None
        raise


def _read_page(body: Json) -> tuple[tuple[BaseModel, ...], str]:
    return tuple(map(_read_model, body.get("models") or ())), read_text(body.get("nextPageToken"))


def _read_model(body: Json) -> BaseModel:
    methods = body.get("supportedGenerationMethods") or ()
    supported = frozenset(method for method in methods if isinstance(method, str))
    return BaseModel(sanitize(read_name(body["name"])), supported)


def _explain(name: str, model: BaseModel | None, tunable: tuple[str, ...]) -> str:
    if not tunable:
        return wire.NO_TUNABLE_MODELS
    problem = f"{name} cannot be tuned: it does not support {_TUNE}" if model else f"no such base model: {name}"
    names = {model.removeprefix(_COLLECTION): model for model in tunable}  # the shared prefix would make all similar
    suggestion = suggest(name.removeprefix(_COLLECTION), names)
    hint = suggestion.replace("did you mean ", f"did you mean {_COLLECTION}") + " " if suggestion else ""
    return f"{problem}; {hint}set spec.baseModel to one of {join_names(tunable, _MAX_NAMES)}"
