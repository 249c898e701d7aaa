"""Delete what a tuning job created: the endpoints of its checkpoints, then the model or its version.

Missing resources are skipped, so an interrupted deletion can be repeated. The model is deleted last, because it is
needed to find the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from msgspec import Struct

from reconciler.domain.errors import ServiceError
from reconciler.domain.model import Failure, Resources
from reconciler.domain.text import sanitize
from reconciler.providers.google.errors import read_failure, read_text
from reconciler.providers.google.http import Client, HttpRequest, Json
from reconciler.providers.vertex.wire import DELETE_REMEDIES

T = TypeVar("T")

_POLLS: Final = 40
"""The number of times that an operation is polled; with pauses of at most 30 s, for about 15 minutes."""


class _Deployment(Struct, frozen=True):
    """A model at an endpoint; a model's own list has no model here, and an endpoint's list no endpoint."""

    id: str
    endpoint: str = ""
    model: str = ""
    version: str = ""

    def has_model(self, name: str) -> bool:
        """Return whether this deploys the model of this name, in the same version where both have one."""
        model, _, version = name.partition("@")
        same = _without_project(self.model) == _without_project(model)
        return same and (not version or not self.version or version == self.version)


class _Operation(Struct, frozen=True):
    name: str
    done: bool
    failure: Failure | None = None


class ModelDeleter:
    """Deletes the resources of a job; ``path_of`` returns the path of a resource, and rejects names elsewhere."""

    def __init__(self, client: Client, path_of: Callable[[str], str]) -> None:
        self._client = client
        self._path_of = path_of

    async def has_model(self, resources: Resources) -> bool:
        """Return whether the model of a job exists."""
        return await self._list_deployments(resources.model) is not None

    async def delete(self, resources: Resources) -> None:
        """Delete the endpoints and the model.

        Raises:
            ServiceError: The model is also deployed to another endpoint, or a request fails or takes too long.
            AccessError: There are no valid credentials, or they have no permission.
        """
        if not resources.model:
            return
        checkpoints = (checkpoint.endpoint for checkpoint in resources.checkpoints)
        others = dict.fromkeys(endpoint for endpoint in checkpoints if endpoint != resources.endpoint)
        endpoints = tuple(filter(None, (*others, resources.endpoint)))  # the endpoint for prompts is the last
        await self._require_no_other_endpoint(resources.model, endpoints)
        for endpoint in endpoints:
            await self._remove_endpoint(endpoint, resources.model)
        await self._remove_model(resources.model)

    async def _require_no_other_endpoint(self, model: str, endpoints: Iterable[str]) -> None:
        """Raise ServiceError, before anything is deleted, for a model that cannot be deleted in the end."""
        expected = {_without_project(endpoint) for endpoint in endpoints}
        for deployment in await self._list_deployments(model) or ():
            endpoint = deployment.endpoint
            if _without_project(endpoint) not in expected and await self._find_deployments(endpoint, model):
                raise ServiceError(
                    f"{sanitize(model)} is also deployed to {sanitize(endpoint)}, which its training did not create",
                    "undeploy it from there if it is no longer used, then run `reconcile prune` again",
                    code="FAILED_PRECONDITION",
                )

    async def _remove_endpoint(self, endpoint: str, model: str) -> None:
        """Undeploy the model from an endpoint, and delete the endpoint unless it has other models."""
        deployments = await self._list_deployed(endpoint)
        if deployments is None:
            return
        matching = [deployment for deployment in deployments if deployment.has_model(model)]
        for deployment in matching:
            await self._undeploy(endpoint, deployment, model)
        if len(matching) == len(deployments):
            await self._delete(self._path_of(endpoint))

    async def _undeploy(self, endpoint: str, deployment: _Deployment, model: str) -> None:
        """Undeploy a model; an error is ignored where another run has undeployed it."""
        path = f"{self._path_of(endpoint)}:undeployModel"
        request = HttpRequest("POST", path, body={"deployedModelId": deployment.id}, remedies=DELETE_REMEDIES)
        try:
            await self._wait(await self._client.fetch(request, _read_operation))
        except ServiceError:
            if deployment.id in {remaining.id for remaining in await self._find_deployments(endpoint, model)}:
                raise

    async def _remove_model(self, name: str) -> None:
        """Delete the version of a model, or the whole model where it is the only version."""
        model, _, version = name.partition("@")
        versions = await self._get(f"{self._path_of(model)}:listVersions", _read_versions) or ()
        if not versions or (version and version not in versions):
            return
        if len(versions) > 1 and not version:
            raise ServiceError(
                f"{sanitize(name)} has several versions, and the lockfile does not record which one was trained",
                "delete the version at the service",
                code="FAILED_PRECONDITION",
            )
        await self._delete(self._path_of(model) if len(versions) == 1 else f"{self._path_of(name)}:deleteVersion")

    async def _find_deployments(self, endpoint: str, model: str) -> list[_Deployment]:
        return [deployment for deployment in await self._list_deployed(endpoint) or () if deployment.has_model(model)]

    async def _list_deployed(self, endpoint: str) -> tuple[_Deployment, ...] | None:
        return await self._get(self._path_of(endpoint), _read_endpoint)

    async def _list_deployments(self, model: str) -> tuple[_Deployment, ...] | None:
        return await self._get(self._path_of(model), _read_model)

    async def _delete(self, path: str) -> None:
        operation = await self._client.find(HttpRequest("DELETE", path, remedies=DELETE_REMEDIES), _read_operation)
        if operation:
            await self._wait(operation)

    async def _get(self, path: str, read: Callable[[Json], T]) -> T | None:
        return await self._client.find(HttpRequest("GET", path), read)

    async def _wait(self, operation: _Operation) -> None:
        """Wait for the end of an operation; one that no longer exists has ended."""
        name = operation.name
        for number in range(1, _POLLS + 1):
            if operation.done:
                break
            await self._client.pause(number)
            operation = await self._get(self._path_of(name), _read_operation) or _Operation(name, done=True)
        if not operation.done:
            raise ServiceError(
                f"{sanitize(name)} is still in progress", "run `reconcile prune` again later", code="UNAVAILABLE"
            )
        if operation.failure:
            raise ServiceError(
                f"{sanitize(name)} failed: {operation.failure.message}",
                "fix what the service reports, then run `reconcile prune` again",
                code="FAILED_PRECONDITION",
            )


def _read_endpoint(body: Json) -> tuple[_Deployment, ...]:
    return tuple(map(_read_deployed_model, body.get("deployedModels") or ()))


def _read_deployed_model(body: Json) -> _Deployment:
    model, _, version = read_text(body.get("model")).partition("@")
    return _Deployment(read_text(body.get("id")), model=model, version=version or read_text(body.get("modelVersionId")))


def _read_model(body: Json) -> tuple[_Deployment, ...]:
    return tuple(
        _Deployment(read_text(reference.get("deployedModelId")), endpoint=read_text(reference.get("endpoint")))
        for reference in body.get("deployedModels") or ()
    )


def _read_versions(body: Json) -> tuple[str, ...]:
    return tuple(read_text(version["versionId"]) for version in body.get("models") or ())


def _read_operation(body: Json) -> _Operation:
    error = body.get("error")
    return _Operation(read_text(body.get("name")), bool(body.get("done")), read_failure(error) if error else None)


def _without_project(name: str) -> str:
    """Return a name without its project, which may be an id or a number."""
    return name.partition("/locations/")[2] or name
