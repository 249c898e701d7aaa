"""Vertex AI as a provider: supervised tuning jobs, on data sets in Cloud Storage.

Nobody chooses the id of a job, so what keeps a generation from being trained twice are labels, looked at before each
create and again after it: of several jobs with one mark that train the earliest is kept.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.lock import EARLIEST, parse_time
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Dataset,
    Handle,
    Mark,
    RemoteModel,
    Resources,
    State,
    Target,
    TrainingExample,
    Update,
)
from reconciler.domain.ports import Clock, Created, Exists, Random, Sleeper
from reconciler.planning.generations import find_duplicates
from reconciler.providers.google import storage as cloud_storage
from reconciler.providers.google.api_versions import VERTEX, vertex_endpoint
from reconciler.providers.google.errors import VERTEX as SERVICE
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client
from reconciler.providers.google.inference import VERTEX_WAY, ask
from reconciler.providers.google.network import Closing
from reconciler.providers.google.proto_json import list_models
from reconciler.providers.google.storage import Storage
from reconciler.providers.google.upload import spooled
from reconciler.providers.vertex import wire
from reconciler.providers.vertex.deletion import Deleter
from reconciler.providers.vertex.labels import KEY, SCOPE, scope_label, write_labels

if TYPE_CHECKING:
    import httpx


_VERSION = "v1"
_PAGE_SIZE = "100"
_LOOKS = 4
_PRESENCE = MappingProxyType({State.ACTIVE: 0, State.CREATING: 1})
"""What counts for more among several jobs of one mark: what is ready, then what trains, then what failed."""
_LOG = logging.getLogger(__name__)
_UNTUNABLE = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
_DOCS = "https://cloud.google.com/vertex-ai/generative-ai/docs/models"
_BUSY = MappingProxyType(
    {
        "RESOURCE_EXHAUSTED": "wait until another tuning job of the project has ended, or ask for more quota of"
        " concurrent tuning jobs in the target's spec.location"
    }
)
_CREATE_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    f"correct what the service names; which base models can be tuned, and where: {_DOCS}/tune-models",
)
_FURTHER_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    f"correct what the service names; which tuned models can be tuned further: {_DOCS}/gemini-use-continuous-tuning",
)
_ASK_REMEDIES = MappingProxyType(
    {
        **dict.fromkeys(
            ("NOT_FOUND", "FAILED_PRECONDITION"),
            "the endpoint is gone, or nothing is deployed to it: deploy the model again, or train it again with"
            " `reconcile apply --replace NAME`",
        ),
        "INVALID_ARGUMENT": "correct the prompt or its options as the service says",
    }
)


def connect(
    target: Target,
    *,
    auth: httpx.Auth | None,
    clock: Clock,
    sleep: Sleeper,
    random: Random,
    transport: httpx.AsyncBaseTransport | None = None,
    capabilities: Capabilities = VERTEX,
) -> Vertex:
    """A provider over clients of its own for Vertex AI and Cloud Storage; use it as an async context manager.

    Args:
        target: Where: project, location, bucket, endpoints, and what the jobs run as.
        auth: What authorises requests; ``None`` sends them bare, as to an embedded service.
        clock: The current time.
        sleep: What waits between attempts.
        random: Jitter.
        transport: What carries the requests instead of the network, such as ``httpx.ASGITransport(app)``.
        capabilities: Other capabilities, such as those of a service that simulates training.
    """
    client = Client(
        vertex_endpoint(target),
        service=SERVICE,
        auth=auth,
        clock=clock,
        sleep=sleep,
        random=random,
        requests_per_minute=target.limits.requests_per_minute,
        transport=transport,
    )
    storage = cloud_storage.connect(
        target.storage_endpoint,
        auth=auth,
        clock=clock,
        sleep=sleep,
        random=random,
        requests_per_minute=target.limits.requests_per_minute,
        transport=transport,
    )
    return Vertex(client, storage, target, capabilities)


class Vertex(Closing):
    """Implements :class:`reconciler.domain.ports.Provider` and ``Objects``. Here a remote model is a tuning job."""

    def __init__(self, client: Client, storage: Storage, target: Target, capabilities: Capabilities) -> None:
        self._client = client
        self._storage = storage
        self._target = target
        self._capabilities = capabilities
        place = f"projects/{quote(target.project or '', safe='')}/locations/{quote(target.location or '', safe='')}"
        self._place = place
        self._jobs = f"/{_VERSION}/{place}/tuningJobs"
        self._deleter = Deleter(client, self._product)

    async def aclose(self) -> None:
        """Give back the clients' connections."""
        await self._client.aclose()
        await self._storage.aclose()

    @property
    def capabilities(self) -> Capabilities:
        """What tuning on Vertex AI can do."""
        return self._capabilities

    @property
    def requests(self) -> int:
        """How many requests have been sent so far, to both services."""
        return self._client.requests + self._storage.requests

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:  # noqa: ARG002 - jobs tell no loss curves
        """Every tuning job with our mark and scope in the target's location; a project's other jobs are left out."""
        scope = self._target.scope
        jobs = await self._labelled(SCOPE, scope_label(scope))
        return tuple(job for job in jobs if job.mark and job.mark.scope == scope)

    async def list_unmanaged(self) -> tuple[RemoteModel, ...]:
        """The tuning jobs of the project in the target's location that do not bear our mark and scope."""
        jobs = await list_models(self._client, Call("GET", self._jobs, {"pageSize": _PAGE_SIZE}), wire.read_page)
        return tuple(job for job in jobs if not (job.mark and job.mark.scope == self._target.scope))

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """One job by name; it tells itself why it failed. One whose model was deleted is there no longer."""
        job = await self._read(handle.remote)
        if job and job.state is State.ACTIVE and job.resources.model:
            return job if await self._deleter.has_model(job.resources) else None
        return job

    async def _read(self, remote: str) -> RemoteModel | None:
        call = Call("GET", self._path(remote))
        try:
            body = await self._client.request(call)
        except ServiceError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return self._client.decode(call, wire.read_job, body)

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        """Upload the data and start a training, unless a job with the very mark is there; see the module's text."""
        known = await self._known(generation.mark, patient=generation.intended)
        if known:
            return Exists(known.remote, known)
        placement = await self._placement(generation, examples, validation)
        remedies = _CREATE_REMEDIES if generation.source.base_model else _FURTHER_REMEDIES
        call = Call("POST", self._jobs, body=wire.write_job(generation, placement), remedies=remedies)

        async def attempt(*, in_doubt: bool) -> tuple[RemoteModel, bool]:
            if in_doubt and (job := await self._known(generation.mark, patient=True)):
                return job, False
            answer = self._client.document(call, await self._client.once(call))
            return self._client.decode(call, wire.read_job, answer), True

        job, ours = await self._client.repeat(attempt)
        kept = await self._settled(generation.mark, job)
        if ours and kept.remote == job.remote:
            return Created(Handle(kept.remote), kept.total_steps)
        return Exists(kept.remote, kept)

    async def update(self, remote: str, update: Update) -> RemoteModel:  # noqa: ARG002 - nothing of it can be changed
        """Refuse: Vertex AI has no call that changes a job."""
        raise ServiceError(
            f"{clean(remote)} is a tuning job, and Vertex AI cannot change one",
            "to change what is declared, train it again with --replace",
            code="UNIMPLEMENTED",
        )

    async def cancel(self, handle: Handle) -> None:
        """Stop a job. A refusal counts only while the job still trains: what has ended cannot be cancelled."""
        try:
            await self._client.request(Call("POST", f"{self._path(handle.remote)}:cancel", body={}))
        except ServiceError:
            job = await self._read(handle.remote)
            if job is not None and job.state is State.CREATING:
                raise

    async def delete(self, handle: Handle, resources: Resources) -> None:  # noqa: ARG002 - the job itself is history
        """Delete the endpoints and the model that a job made; the job itself stays, as nothing can delete it."""
        await self._deleter.delete(resources)

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Ask the endpoint ``remote``, to which a job has deployed what it made."""
        path = self._path_of(remote, wire.ENDPOINT_NAME, "an endpoint", "endpoints")
        return await ask(self._client, path, VERTEX_WAY, prompt, self._capabilities.max_candidates, _ASK_REMEDIES)

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Refuse: who may use a model is said elsewhere."""
        raise _without_permissions(remote)

    async def set_access(
        self,
        remote: str,
        live: tuple[Permission, ...],  # noqa: ARG002 - there is nothing to change
        changes: Iterable[AccessChange],  # noqa: ARG002 - the same
    ) -> None:
        """Refuse, as :meth:`access` does."""
        raise _without_permissions(remote)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:  # noqa: ARG002 - told by the create call
        """Nothing is known before: Vertex AI documents no call that lists the models that can be tuned."""
        return {}

    async def pin(self, uri: str) -> Dataset:
        """A data set in Cloud Storage as it is now."""
        return await self._storage.pin(uri)

    async def _labelled(self, label: str, value: str) -> tuple[RemoteModel, ...]:
        params = {"filter": f"labels.{label}={value}", "pageSize": _PAGE_SIZE}
        return await list_models(self._client, Call("GET", self._jobs, params), wire.read_page)

    async def _marked(self, mark: Mark) -> tuple[RemoteModel, ...]:
        jobs = await self._labelled(KEY, write_labels(mark)[KEY])
        return tuple(job for job in jobs if job.mark == mark)

    async def _known(self, mark: Mark, *, patient: bool) -> RemoteModel | None:
        """The job that trains or trained this; with patience, for one that may take a while to show."""
        job = _first(await self._marked(mark))
        for number in range(1, _LOOKS if patient else 1):
            if job is not None:
                break
            await self._client.pause(number)
            job = _first(await self._marked(mark))
        return job

    async def _settled(self, mark: Mark, job: RemoteModel) -> RemoteModel:
        """Which of the jobs with this mark is kept, after those that double it were cancelled.

        Runs that race come to the same result, as it depends on what the service shows alone. The job is there,
        whatever happens now: what cannot be looked at or cancelled, or shows late, a later run finds double.
        """
        kept = job
        try:
            seen = {job.remote: job} | {one.remote: one for one in await self._marked(mark)}
            kept = _first(seen.values()) or job
            for double, _ in find_duplicates(seen.values()):
                await self.cancel(Handle(double.remote))
        except ReconcileError as error:
            _LOG.warning("the next run looks again whether other jobs double %s: %s", clean(kept.remote), error)
        return kept

    async def _placement(
        self, generation: CreateRequest, examples: Iterable[TrainingExample], validation: Iterable[TrainingExample]
    ) -> wire.Placement:
        return wire.Placement(
            training=await self._data(generation.dataset, examples),
            validation=await self._data(generation.validation, validation) if generation.validation else "",
            service_account=self._target.service_account,
            kms_key=self._target.kms_key,
        )

    async def _data(self, dataset: Dataset, examples: Iterable[TrainingExample]) -> str:
        """The ``gs://`` address of a data set, which is then there."""
        if dataset.is_remote:
            await self._require_unchanged(dataset)
            return dataset.path
        uri = f"{self._target.bucket.rstrip('/')}/reconcile/{dataset.digest.removeprefix('sha256:')}.jsonl"
        async with spooled(map(wire.write_example, examples)) as spool:
            await self._storage.upload(uri, spool)
        return uri

    async def _require_unchanged(self, dataset: Dataset) -> None:
        found = await self._storage.stat(dataset.path)
        if found is None or str(found.generation) != dataset.generation:
            what = "has changed" if found else "has gone"
            raise ReconcileError(f"{dataset.path} {what} since the plan was made", "run the command again")

    def _product(self, name: str) -> str:
        return self._path_of(name, wire.PRODUCT_NAME, "a model, an endpoint or an operation", "models")

    def _path(self, name: str) -> str:
        return self._path_of(name, wire.JOB_NAME, "a tuning job", "tuningJobs")

    def _path_of(self, name: str, names: re.Pattern[str], what: str, collection: str) -> str:
        """The path of a resource; its name, from a lockfile or a service, may not reach elsewhere.

        A project is known by its id and by its number; the service names what it makes by the number.
        """
        place = names.fullmatch(name)
        here = place and place["location"] == self._target.location
        if not place or not here or not (place["project"] == self._target.project or place["project"].isdecimal()):
            remedy = f"correct the lockfile; names look like {self._place}/{collection}/1"
            raise ServiceError(f"{clean(name)!r} is no name of {what} here", remedy, code="INVALID_ARGUMENT")
        return f"/{_VERSION}/{name}"


def _without_permissions(remote: str) -> ServiceError:
    return ServiceError(
        f"{clean(remote)} has no permissions of its own: on Vertex AI, IAM says who may use a project's models",
        "delete spec.access of the manifest, and grant roles/aiplatform.user: `gcloud projects add-iam-policy-binding"
        " PROJECT --role=roles/aiplatform.user --member=user:ADDRESS`",
        code="UNIMPLEMENTED",
    )


def _first(jobs: Iterable[RemoteModel]) -> RemoteModel | None:
    """Return the job that counts among those with one mark, as :mod:`reconciler.planning.generations` finds it."""
    standing = (job for job in jobs if job.state is not State.CANCELLED)
    return min(standing, key=_rank, default=None)


def _rank(job: RemoteModel) -> tuple[int, datetime, str]:
    return _PRESENCE.get(job.state, len(_PRESENCE)), parse_time(job.create_time) or EARLIEST, job.remote
