"""The models and endpoints of tuning jobs: compare them with the jobs, deploy a model again, and delete both.

A job is permanent, and shows the model and the endpoint that it created, whether they exist or not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.identity import key_of
from reconciler.domain.lock import EARLIEST, parse_time
from reconciler.domain.model import Failure, Mark, RemoteModel, Resources, State
from reconciler.domain.text import sanitize
from reconciler.providers.google.errors import read_failure, read_text, read_time
from reconciler.providers.google.http import Client, HttpRequest, Json, N, list_models
from reconciler.providers.vertex.locations import Locations, location_of
from reconciler.providers.vertex.wire import (
    DELETE_REMEDIES,
    DEPLOY_REMEDIES,
    KEY,
    MANAGED_BY,
    OWNER,
    SCOPE,
    scope_label,
    write_labels,
)

T = TypeVar("T")

_PAGE_SIZE: Final = "100"
_POLLS: Final = 40
"""The number of times that an operation is polled; with pauses of at most 30 s, for about 15 minutes."""
_MOST_ENDPOINTS: Final = 10
"""How many other endpoints of a model are read to find those that this project created: one for each checkpoint."""
_LOG = logging.getLogger(__name__)


class _Deployment(Struct, frozen=True):
    """A model at an endpoint; a model's own list has no model here, and an endpoint's list no endpoint."""

    id: str
    endpoint: str = ""
    model: str = ""
    version: str = ""
    checkpoint: str = ""

    def has_model(self, name: str) -> bool:
        """Return whether this deploys the model of this name, in the same version where both have one."""
        model, _, version = name.partition("@")
        same = _without_project(self.model) == _without_project(model)
        return same and (not version or not self.version or version == self.version)


class _Model(Struct, frozen=True):
    remote: str
    version: str
    deployments: tuple[_Deployment, ...]


class _Endpoint(Struct, frozen=True):
    remote: str
    labels: Mapping[str, str]
    create_time: str
    deployments: tuple[_Deployment, ...]

    def has_model(self, name: str, checkpoints: Collection[str] = ()) -> bool:
        """Return whether the model of this name is deployed here, as one of the checkpoints if any are given."""
        return any(
            deployment.has_model(name) and (not checkpoints or deployment.checkpoint in checkpoints)
            for deployment in self.deployments
        )


class _Operation(Struct, frozen=True):
    name: str
    done: bool
    failure: Failure | None = None


class ResourceClient:
    """Reads and changes the models and endpoints of a target's jobs, in the locations in which these can be."""

    def __init__(self, client: Client, locations: Locations, scope: str) -> None:
        self._client = client
        self._locations = locations
        self._path_of = locations.path_of
        self._managed = {MANAGED_BY: OWNER, SCOPE: scope_label(scope)}

    async def compare(self, jobs: tuple[RemoteModel, ...]) -> tuple[RemoteModel, ...]:
        """Return jobs as the lists of models and endpoints show their results; without a ready job, none is sent.

        There is one list for each location of models, and one for each of endpoints.

        A job whose model is not listed is ``DELETED``, and a checkpoint whose endpoint is not listed, or does not have
        the model, is not deployed. A list can lag, so the caller reads a job before it acts on that. If the lists are
        denied, the jobs are returned as they are: that proves nothing.
        """
        ready = [job.resources for job in jobs if self._is_checked(job)]
        if not ready:
            return jobs
        try:
            models = await self._list_in(_locations_of(resources.model for resources in ready), "models", _read_models)
            names = {_without_project(resources.model.partition("@")[0]) for resources in ready}
            deployed = [
                deployment.endpoint
                for model in models
                if _without_project(model.remote) in names
                for deployment in model.deployments
                if self._locations.has(deployment.endpoint)
            ]
            places = _locations_of([*(resources.endpoint or resources.model for resources in ready), *deployed])
            endpoints = await self._list_in(places, "endpoints", _read_endpoints)
        except AccessError as error:
            _LOG.warning("whether models and endpoints still exist was not checked: %s", error)
            return jobs
        versions = {_without_project(model.remote): model.version for model in models}
        by_model: dict[str, list[_Endpoint]] = {}
        for endpoint in endpoints:
            for deployment in endpoint.deployments:
                by_model.setdefault(_without_project(deployment.model), []).append(endpoint)

        def compared(job: RemoteModel) -> RemoteModel:
            name, _, version = job.resources.model.partition("@")
            listed = versions.get(_without_project(name))
            if listed is None or (version and listed and listed != version):
                return replace(job, state=State.DELETED)
            return self._with_endpoints(job, by_model.get(_without_project(name), ()))

        return tuple(compared(job) if self._is_checked(job) else job for job in jobs)

    async def read(self, job: RemoteModel) -> RemoteModel | None:
        """Return a job as its model and endpoint are now; ``None`` if its model was deleted."""
        if not self._is_checked(job):
            return job
        model = await self._get(self._path_of(job.resources.model), _read_model)
        if model is None:
            return None  # the job remains
        own = _endpoints_of(job.resources)
        names = {_without_project(deployment.endpoint): deployment.endpoint for deployment in model.deployments}
        found = [await self._find_endpoint(job.resources.endpoint)]
        found += [
            _Endpoint(name, {}, "", (_Deployment("", model=model.remote),))
            for name in own
            if name != job.resources.endpoint and _without_project(name) in names
        ]
        listed = self._with_endpoints(job, filter(None, found))
        if not listed.undeployed:
            return listed
        known = set(map(_without_project, own))
        others = sorted(name for short, name in names.items() if short not in known and self._locations.has(name))
        found += [await self._find_endpoint(name) for name in others[:_MOST_ENDPOINTS]]
        return self._with_endpoints(job, filter(None, found))

    def _is_checked(self, job: RemoteModel) -> bool:
        """Whether a job has a model in a location of this target; others are not queried."""
        model, endpoint = job.resources.model, job.resources.endpoint
        known = self._locations.has
        return job.state is State.ACTIVE and known(model) and (not endpoint or known(endpoint))

    def _with_endpoints(self, job: RemoteModel, endpoints: Iterable[_Endpoint]) -> RemoteModel:
        """Return a job with the endpoints that have its checkpoints: own ones, or else the first of this project."""
        resources = job.resources
        default, own = resources.checkpoint(""), set(map(_without_project, _endpoints_of(resources)))
        undeployed: set[str] = set()
        known: dict[str, list[_Endpoint]] = {}
        free: dict[str, _Endpoint] = {}  # the oldest endpoint for each checkpoint, of those of this project
        for endpoint in sorted(endpoints, key=_age):
            short = _without_project(endpoint.remote)
            if short in own:
                known.setdefault(short, []).append(endpoint)
            elif self._is_managed(endpoint):
                for deployment in endpoint.deployments:
                    if deployment.has_model(resources.model):
                        free.setdefault(deployment.checkpoint, endpoint)

        def place(name: str, checkpoint: str, *, is_default: bool) -> str:
            here = ("", checkpoint) if checkpoint else ()  # a service may not name the checkpoint of a deployment
            if any(found.has_model(resources.model, here) for found in known.get(_without_project(name), ())):
                return name
            there = (here or free) if is_default else (checkpoint,)
            usable = [free[chosen] for chosen in there if chosen in free]
            if not usable:
                undeployed.add(name)
            return min(usable, key=_age).remote if usable else name

        serving = place(resources.endpoint, default.id if default else "", is_default=True)
        checkpoints = tuple(
            replace(
                listed, endpoint=serving if listed is default else place(listed.endpoint, listed.id, is_default=False)
            )
            for listed in resources.checkpoints
        )
        moved = replace(resources, endpoint=serving, checkpoints=checkpoints)
        return replace(job, resources=moved, undeployed=frozenset(undeployed))

    def _is_managed(self, endpoint: _Endpoint) -> bool:
        return self._managed.items() <= endpoint.labels.items()

    async def deploy(self, job: RemoteModel, mark: Mark, kms_key: str, checkpoint: str = "") -> RemoteModel:
        """Return a job after a checkpoint is deployed: to its own endpoint if that is empty, or else to a new one.

        Without the ID of a checkpoint, it is the default one. It is assumed that a tuned model needs no machines of its
        own, as when the service deploys it after the training, and that an empty endpoint with the labels of the
        generation is the rest of an interrupted run.

        Raises:
            ServiceError: A request fails or takes too long.
            AccessError: There are no valid credentials, or they have no permission.
        """
        resources = job.resources
        own, chosen = resources.endpoint_of(checkpoint), resources.checkpoint(checkpoint)
        endpoint = await self._free_endpoint(job, mark, own) or await self._create_endpoint(job, mark, kms_key, own)
        deployed = {"model": resources.model, "displayName": job.display_name or mark.name}
        if chosen:
            deployed["checkpointId"] = chosen.id
        path = f"{self._path_of(endpoint)}:deployModel"

        async def find_deployment() -> _Operation | None:
            found = await self._find_endpoint(endpoint)
            return _Operation("", done=True) if found and found.has_model(resources.model) else None

        await self._post(path, {"deployedModel": deployed, "trafficSplit": {"0": 100}}, find_deployment)
        moved = replace(
            resources,
            endpoint=resources.endpoint if checkpoint and chosen is not resources.checkpoint("") else endpoint,
            checkpoints=tuple(
                replace(known, endpoint=endpoint) if known is chosen else known for known in resources.checkpoints
            ),
        )
        return replace(job, resources=moved, undeployed=job.undeployed - {own})

    async def _free_endpoint(self, job: RemoteModel, mark: Mark, own: str) -> str:
        """Return the endpoint ``own`` of a job, or one that was created for its model, if it is empty."""
        found = await self._find_endpoint(own)
        if found and not found.deployments:
            return own
        taken = {_without_project(name) for name in _endpoints_of(job.resources)}
        labeled = f"labels.{KEY}={key_of(mark)}"
        listed = await self._list(self._serving_location(job), "endpoints", _read_endpoints, filter=labeled)
        free = (
            endpoint
            for endpoint in listed
            if self._is_managed(endpoint)
            and not endpoint.deployments
            and _without_project(endpoint.remote) not in taken
        )
        oldest = min(free, key=_age, default=None)
        return oldest.remote if oldest else ""

    def _serving_location(self, job: RemoteModel) -> str:
        return self._locations.serving(job.resources.endpoint, job.resources.model)

    async def _create_endpoint(self, job: RemoteModel, mark: Mark, kms_key: str, own: str) -> str:
        body = {"displayName": job.display_name or mark.name, "labels": write_labels(mark)}
        if kms_key:
            body["encryptionSpec"] = {"kmsKeyName": kms_key}

        async def find_created() -> _Operation | None:
            name = await self._free_endpoint(job, mark, own)
            return _Operation(name, done=True) if name else None

        path = self._locations.collection(self._serving_location(job), "endpoints")
        operation = await self._post(path, body, find_created)
        return operation.name.partition("/operations/")[0]

    async def _post(self, path: str, body: Json, find: Callable[[], Awaitable[_Operation | None]]) -> _Operation:
        """Send a request once and wait for its operation; after a lost reply ``find`` returns what it had done."""
        request = HttpRequest("POST", path, body=body, remedies=DEPLOY_REMEDIES, idempotent=False)

        async def attempt(*, in_doubt: bool) -> _Operation:
            if in_doubt and (found := await find()):
                return found
            return await self._client.fetch_once(request, _read_operation)

        operation = await self._client.retry(attempt)
        await self._wait(operation, "apply")
        return operation

    async def delete(self, resources: Resources) -> None:
        """Delete the endpoints and the model of a job: the endpoints of its checkpoints first, the model last.

        Missing resources are skipped, so an interrupted deletion can be repeated. The model is needed to find the rest.

        Raises:
            ServiceError: The model is also deployed to another endpoint, or a request fails or takes too long.
            AccessError: There are no valid credentials, or they have no permission.
        """
        if not resources.model:
            return
        others = (name for name in _endpoints_of(resources) if name != resources.endpoint)
        created = await self._require_managed_endpoints(resources)
        for endpoint in dict.fromkeys(filter(None, (*others, *created, resources.endpoint))):
            await self._remove_endpoint(endpoint, resources.model)
        await self._remove_model(resources.model)

    async def _require_managed_endpoints(self, resources: Resources) -> list[str]:
        """Return the endpoints that this project created for a model.

        Raises:
            ServiceError: Another endpoint has the model, so that it cannot be deleted in the end.
        """
        known = {_without_project(endpoint) for endpoint in _endpoints_of(resources)}
        model = await self._get(self._path_of(resources.model), _read_model)
        managed = []
        for deployment in model.deployments if model else ():
            if _without_project(deployment.endpoint) in known:
                continue
            endpoint = await self._find_endpoint(deployment.endpoint)
            if endpoint and self._is_managed(endpoint):
                managed.append(deployment.endpoint)
            elif endpoint and endpoint.has_model(resources.model):
                raise ServiceError(
                    f"{sanitize(resources.model)} is also deployed to {sanitize(deployment.endpoint)}, which its"
                    " training did not create",
                    "undeploy it from there if it is no longer used, then run `reconcile prune` again",
                    code="FAILED_PRECONDITION",
                )
        return managed

    async def _remove_endpoint(self, name: str, model: str) -> None:
        """Undeploy the model from an endpoint, and delete the endpoint unless it has other models."""
        endpoint = await self._find_endpoint(name)
        if endpoint is None:
            return
        matching = [deployment for deployment in endpoint.deployments if deployment.has_model(model)]
        for deployment in matching:
            await self._undeploy(name, deployment, model)
        if len(matching) == len(endpoint.deployments):
            await self._delete(self._path_of(name))

    async def _undeploy(self, endpoint: str, deployment: _Deployment, model: str) -> None:
        """Undeploy a model; an error is ignored where another run has undeployed it."""
        path = f"{self._path_of(endpoint)}:undeployModel"
        request = HttpRequest("POST", path, body={"deployedModelId": deployment.id}, remedies=DELETE_REMEDIES)
        try:
            await self._wait(await self._client.fetch(request, _read_operation), "prune")
        except ServiceError:
            found = await self._find_endpoint(endpoint)
            if deployment.id in {left.id for left in (found.deployments if found else ()) if left.has_model(model)}:
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

    async def _find_endpoint(self, name: str) -> _Endpoint | None:
        return await self._get(self._path_of(name), _read_endpoint) if name else None

    async def _list(
        self, location: str, kind: str, read: Callable[[Json], tuple[tuple[N, ...], str]], **query: str
    ) -> tuple[N, ...]:
        path = self._locations.collection(location, kind)
        return await list_models(self._client, HttpRequest("GET", path, {**query, "pageSize": _PAGE_SIZE}), read)

    async def _list_in(
        self, locations: Iterable[str], kind: str, read: Callable[[Json], tuple[tuple[N, ...], str]]
    ) -> list[N]:
        return [found for location in locations for found in await self._list(location, kind, read)]

    async def _delete(self, path: str) -> None:
        operation = await self._client.find(HttpRequest("DELETE", path, remedies=DELETE_REMEDIES), _read_operation)
        if operation:
            await self._wait(operation, "prune")

    async def _get(self, path: str, read: Callable[[Json], T]) -> T | None:
        return await self._client.find(HttpRequest("GET", path), read)

    async def _wait(self, operation: _Operation, command: str) -> None:
        """Wait for the end of an operation of a command; one that no longer exists has ended."""
        name = operation.name
        for number in range(1, _POLLS + 1):
            if operation.done:
                break
            await self._client.pause(number)
            operation = await self._get(self._path_of(name), _read_operation) or _Operation(name, done=True)
        if not operation.done:
            raise ServiceError(
                f"{sanitize(name)} is still in progress", f"run `reconcile {command}` again later", code="UNAVAILABLE"
            )
        if operation.failure:
            raise ServiceError(
                f"{sanitize(name)} failed: {operation.failure.message}",
                f"fix what the service reports, then run `reconcile {command}` again",
                code="FAILED_PRECONDITION",
            )


def _locations_of(names: Iterable[str]) -> list[str]:
    return sorted(set(map(location_of, names)))


def _age(endpoint: _Endpoint) -> tuple[object, str]:
    return parse_time(endpoint.create_time) or EARLIEST, endpoint.remote


def _endpoints_of(resources: Resources) -> dict[str, None]:
    """Return the endpoints that a job created or shows, in their order."""
    checkpoints = (checkpoint.endpoint for checkpoint in resources.checkpoints)
    return dict.fromkeys(filter(None, (*checkpoints, resources.endpoint)))


def _read_endpoints(body: Json) -> tuple[tuple[_Endpoint, ...], str]:
    return tuple(map(_read_endpoint, body.get("endpoints") or ())), read_text(body.get("nextPageToken"))


def _read_endpoint(body: Json) -> _Endpoint:
    labels = {str(name): read_text(value) for name, value in (body.get("labels") or {}).items()}
    deployments = tuple(map(_read_deployed_model, body.get("deployedModels") or ()))
    return _Endpoint(read_text(body.get("name")), labels, read_time(body.get("createTime")), deployments)


def _read_deployed_model(body: Json) -> _Deployment:
    model, _, version = read_text(body.get("model")).partition("@")
    return _Deployment(
        read_text(body.get("id")),
        model=model,
        version=version or read_text(body.get("modelVersionId")),
        checkpoint=read_text(body.get("checkpointId")),
    )


def _read_models(body: Json) -> tuple[tuple[_Model, ...], str]:
    return tuple(map(_read_model, body.get("models") or ())), read_text(body.get("nextPageToken"))


def _read_model(body: Json) -> _Model:
    deployments = tuple(
        _Deployment(read_text(reference.get("deployedModelId")), endpoint=read_text(reference.get("endpoint")))
        for reference in body.get("deployedModels") or ()
    )
    return _Model(read_text(body.get("name")).partition("@")[0], read_text(body.get("versionId")), deployments)


def _read_versions(body: Json) -> tuple[str, ...]:
    return tuple(read_text(version["versionId"]) for version in body.get("models") or ())


def _read_operation(body: Json) -> _Operation:
    error = body.get("error")
    return _Operation(read_text(body.get("name")), bool(body.get("done")), read_failure(error) if error else None)


def _without_project(name: str) -> str:
    """Return a name without its project, which may be an id or a number."""
    return name.partition("/locations/")[2] or name
