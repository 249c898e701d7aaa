"""Deleting what tuning jobs make: the endpoints of their checkpoints, and then the model, or its version.

What is there no longer is passed over, so that a run which was cut off anywhere can simply be repeated. The model goes
last: as long as it is there, so is all that has to be known about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from reconciler.domain.errors import ServiceError
from reconciler.domain.model import Failure, Resources
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.proto_json import read_failure, text

T = TypeVar("T")

_POLLS: Final = 40
"""How often an operation is looked at: with pauses of at most half a minute, for about a quarter of an hour."""
_REMEDIES: Final = MappingProxyType(
    {
        "PERMISSION_DENIED": "ask for roles/aiplatform.user on the project, which may delete models and endpoints",
        "FAILED_PRECONDITION": "see where the model is deployed, undeploy it there, and run reconcile prune again",
    }
)


@dataclass(frozen=True, slots=True)
class _Deployment:
    """Where a model is deployed, or what is deployed to an endpoint: the names that one of the two sides tells."""

    id: str
    endpoint: str = ""
    model: str = ""
    version: str = ""

    def is_of(self, name: str) -> bool:
        """Whether that is the model of this name, in the very version where both sides tell one."""
        plain, _, version = name.partition("@")
        same = _placed(self.model) == _placed(plain)
        return same and (not version or not self.version or version == self.version)


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    done: bool
    failure: Failure | None = None


class Deleter:
    """Deletes what one job made. ``path_of`` gives the path of a resource, and refuses names that reach elsewhere."""

    def __init__(self, client: Client, path_of: Callable[[str], str]) -> None:
        self._client = client
        self._path_of = path_of

    async def has_model(self, resources: Resources) -> bool:
        """Whether the model that a job made is there."""
        return await self._deployed_model(resources.model) is not None

    async def delete(self, resources: Resources) -> None:
        """Delete the endpoints and the model.

        Raises:
            ServiceError: the model is deployed elsewhere too, or the service refuses, or takes too long.
            AccessError: it does not let us in.
        """
        if not resources.model:
            return
        ours = _endpoints(resources)
        await self._require_free(resources.model, ours)
        for name in ours:
            await self._remove_endpoint(name, resources.model)
        await self._remove_model(resources.model)

    async def _require_free(self, model: str, ours: Iterable[str]) -> None:
        """Refuse, before anything is deleted, what cannot be deleted in the end."""
        known = {_placed(name) for name in ours}
        for one in await self._deployed_model(model) or ():
            if _placed(one.endpoint) not in known and await self._deployed(one.endpoint, model):
                raise ServiceError(
                    f"{clean(model)} is deployed to {clean(one.endpoint)} too, which its training did not make",
                    "undeploy it there if nobody asks it there any more, and run reconcile prune again",
                    code="FAILED_PRECONDITION",
                )

    async def _remove_endpoint(self, name: str, model: str) -> None:
        """Take our model off an endpoint, and delete it; one to which others have deployed something stays."""
        deployed = await self._deployed_to(name)
        if deployed is None:
            return
        ours = [one for one in deployed if one.is_of(model)]
        for one in ours:
            await self._undeploy(name, one, model)
        if len(ours) == len(deployed):
            await self._delete(self._path_of(name))

    async def _undeploy(self, name: str, one: _Deployment, model: str) -> None:
        """A refusal counts only while the model is still deployed: another run may have been faster."""
        path = f"{self._path_of(name)}:undeployModel"
        call = Call("POST", path, body={"deployedModelId": one.id}, remedies=_REMEDIES)
        try:
            await self._settle(self._client.decode(call, _read_operation, await self._client.request(call)))
        except ServiceError:
            if one.id in {each.id for each in await self._deployed(name, model)}:
                raise

    async def _remove_model(self, name: str) -> None:
        """Delete the version of a model, or all of it where there is no other."""
        plain, _, version = name.partition("@")
        versions = await self._get(f"{self._path_of(plain)}:listVersions", _read_versions) or ()
        if not versions or (version and version not in versions):
            return
        if len(versions) > 1 and not version:
            raise ServiceError(
                f"{clean(name)} has several versions, and nobody recorded which of them is meant",
                "delete it at the service",
                code="FAILED_PRECONDITION",
            )
        await self._delete(self._path_of(plain) if len(versions) == 1 else f"{self._path_of(name)}:deleteVersion")

    async def _deployed(self, name: str, model: str) -> list[_Deployment]:
        """How a model is deployed to an endpoint."""
        return [one for one in await self._deployed_to(name) or () if one.is_of(model)]

    async def _deployed_to(self, endpoint: str) -> tuple[_Deployment, ...] | None:
        return await self._get(self._path_of(endpoint), _read_endpoint)

    async def _deployed_model(self, model: str) -> tuple[_Deployment, ...] | None:
        return await self._get(self._path_of(model), _read_model)

    async def _get(self, path: str, read: Callable[[Json], T]) -> T | None:
        return await self._found(Call("GET", path), read)

    async def _delete(self, path: str) -> None:
        operation = await self._found(Call("DELETE", path, remedies=_REMEDIES), _read_operation)
        if operation:
            await self._settle(operation)

    async def _found(self, call: Call, read: Callable[[Json], T]) -> T | None:
        try:
            body = await self._client.request(call)
        except ServiceError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return self._client.decode(call, read, body)

    async def _settle(self, operation: _Operation) -> None:
        """Wait for the end of an operation; one that is known no longer has ended."""
        name = operation.name
        for number in range(1, _POLLS + 1):
            if operation.done:
                break
            await self._client.pause(number)
            operation = await self._get(self._path_of(name), _read_operation) or _Operation(name, done=True)
        if not operation.done:
            raise ServiceError(
                f"{clean(name)} has not ended yet, and goes on", "run reconcile prune again later", code="UNAVAILABLE"
            )
        if operation.failure:
            raise ServiceError(
                f"{clean(name)} failed: {operation.failure.message}",
                "correct what the service names, and run reconcile prune again",
                code="FAILED_PRECONDITION",
            )


def _endpoints(resources: Resources) -> tuple[str, ...]:
    """The endpoints that a job made, each once; the one that answers prompts goes last."""
    checkpoints = (one.endpoint for one in resources.checkpoints if one.endpoint != resources.endpoint)
    return tuple(filter(None, (*dict.fromkeys(checkpoints), resources.endpoint)))


def _read_endpoint(body: Json) -> tuple[_Deployment, ...]:
    return tuple(map(_read_deployed_model, body.get("deployedModels") or ()))


def _read_deployed_model(one: Json) -> _Deployment:
    plain, _, version = text(one.get("model")).partition("@")
    return _Deployment(text(one.get("id")), model=plain, version=version or text(one.get("modelVersionId")))


def _read_model(body: Json) -> tuple[_Deployment, ...]:
    return tuple(
        _Deployment(text(one.get("deployedModelId")), endpoint=text(one.get("endpoint")))
        for one in body.get("deployedModels") or ()
    )


def _read_versions(body: Json) -> tuple[str, ...]:
    return tuple(text(one["versionId"]) for one in body.get("models") or ())


def _read_operation(body: Json) -> _Operation:
    error = body.get("error")
    return _Operation(text(body.get("name")), bool(body.get("done")), read_failure(error) if error else None)


def _placed(name: str) -> str:
    """A name without the project, which has a number beside its id."""
    return name.partition("/locations/")[2] or name
