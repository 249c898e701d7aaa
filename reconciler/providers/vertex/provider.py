"""The provider for Vertex AI: supervised tuning jobs, with data sets in Cloud Storage.

The service chooses the ids of jobs, so labels prevent that a generation is trained twice: the jobs with its mark are
listed before and after each create request, and of several training jobs the earliest is kept. Jobs are permanent, so
what they created is read from the lists of models and endpoints.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.identity import key_of
from reconciler.domain.lock import EARLIEST, parse_time
from reconciler.domain.model import (
    REMOTE_SCHEME,
    Capabilities,
    CreateRequest,
    Dataset,
    Failure,
    Handle,
    Mark,
    RemoteModel,
    Resources,
    State,
    Target,
    TrainingExample,
    Update,
)
from reconciler.domain.ports import Created, Exists, Prompt, Reply
from reconciler.domain.text import sanitize
from reconciler.planning.generations import find_duplicates
from reconciler.providers.google import storage as cloud_storage
from reconciler.providers.google.http import AsyncClosing, Client, ClientSettings, HttpRequest, list_models
from reconciler.providers.google.inference import send_prompt
from reconciler.providers.google.storage import Storage
from reconciler.providers.google.upload import spool_lines
from reconciler.providers.vertex import wire
from reconciler.providers.vertex.locations import JOB_NAME, Locations, is_base_model
from reconciler.providers.vertex.metrics import MetricsReader
from reconciler.providers.vertex.resources import ResourceClient
from reconciler.providers.vertex.wire import KEY, SCOPE, scope_label, write_labels

_PAGE_SIZE = "100"
_LIST_PAUSES = (2, 4, 8, 16, 30)
"""Seconds between the lists in which a job is looked up that an interrupted run may have created, 60 in total.

How long the service's lists lag is not documented; a minute is assumed, and 12 seconds were seen.
"""
_RESULTS_LAG = timedelta(seconds=60)
"""How long after its end a job may lack its model or endpoint, which is not documented either."""
_PREFERENCE = MappingProxyType({State.ACTIVE: 0, State.CREATING: 1})
"""Of several jobs with one mark, a ready one is preferred, then one that trains, then one that failed."""
_UNKNOWN = 2
"""The google.rpc code of an unknown error."""
_LOG = logging.getLogger(__name__)


def connect(endpoint: str, target: Target, settings: ClientSettings, capabilities: Capabilities) -> Vertex:
    """Return a provider with clients of Vertex AI and Cloud Storage; use it as an async context manager."""
    client = Client(endpoint, wire.SERVICE, settings)
    storage = cloud_storage.connect(target.storage_endpoint, settings)
    return Vertex(client, storage, target, capabilities, settings)


class Vertex(AsyncClosing):
    """Implements :class:`reconciler.domain.ports.Provider` and ``Objects``; a remote model is a tuning job."""

    def __init__(
        self, client: Client, storage: Storage, target: Target, capabilities: Capabilities, settings: ClientSettings
    ) -> None:
        self._client = client
        self._storage = storage
        self._target = target
        self._capabilities = capabilities
        self._locations = Locations(target)
        self._clock = settings.clock
        self._read_page = partial(wire.read_page, reasons=target.show_examples)
        self._read_job = partial(wire.read_job, reasons=target.show_examples)
        self._sleep = settings.sleep
        self._metrics = MetricsReader(storage, target)
        self._resources = ResourceClient(client, self._locations, target.scope)

    async def aclose(self) -> None:
        """Close the clients' connections."""
        await self._client.aclose()
        await self._storage.aclose()

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of tuning on Vertex AI."""
        return self._capabilities

    @property
    def requests(self) -> int:
        """The number of requests that have been sent, to both services."""
        return self._client.requests + self._storage.requests

    @property
    def service_time(self) -> datetime | None:
        """The time of the service at its last response."""
        return self._client.service_time

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Return every tuning job with the mark of this scope in the target's location.

        If one has succeeded, the models and endpoints of its location are listed too; see ``ResourceClient.compare``.
        Loss curves are read from Cloud Storage; see ``MetricsReader``.
        """
        scope = self._target.scope
        jobs = await self._list_labeled(SCOPE, scope_label(scope))
        marked = tuple(self._settled(job) for job in jobs if job.mark and job.mark.scope == scope)
        compared = [await self._with_weights(job) for job in await self._resources.compare(marked)]
        return await self._metrics.add(compared) if progress else tuple(compared)

    async def list_unmanaged(self) -> tuple[RemoteModel, ...]:
        """Return the other tuning jobs of the project in the target's location."""
        request = HttpRequest("GET", self._locations.jobs, {"pageSize": _PAGE_SIZE})
        jobs = await list_models(self._client, request, self._read_page)
        return tuple(job for job in jobs if not (job.mark and job.mark.scope == self._target.scope))

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """Return a job by name, with its failure; ``None`` for one whose model was deleted."""
        job = await self._read(handle.remote)
        return await self._read_results(job) if job else None

    async def _read_results(self, job: RemoteModel) -> RemoteModel | None:
        """Return a job as its results are now; ``None`` if its model or its weights were deleted."""
        found = await self._resources.read(self._settled(job))
        found = await self._with_weights(found) if found else None
        return None if found is None or found.state is State.DELETED else found

    async def _with_weights(self, job: RemoteModel) -> RemoteModel:
        """Return a job of an open model as deleted if no object is left of its weights, which are all that it made."""
        if job.state is not State.ACTIVE or not _only_weights(job):
            return job
        if not re.fullmatch(self._capabilities.weights_pattern, job.resources.weights):
            return job  # nothing is requested from other buckets
        try:
            left = await self._storage.list_folder(f"{job.resources.weights}/", first=True)
        except AccessError as error:
            _LOG.warning("whether the weights of %s still exist was not checked: %s", sanitize(job.remote), error)
            return job
        return job if left else replace(job, state=State.DELETED)

    def _settled(self, job: RemoteModel) -> RemoteModel:
        """Return a job that succeeded as training while its model or endpoint is not shown yet, and later as failed.

        Without an endpoint only, it is not deployed later.
        """
        if job.state is not State.ACTIVE or _only_weights(job) or (job.resources.model and job.resources.endpoint):
            return job
        ended = parse_time(job.complete_time)
        if ended and self._clock() - ended < _RESULTS_LAG:
            return replace(job, state=State.CREATING)
        if job.resources.model:
            return replace(job, undeployed=frozenset({""}))
        return replace(job, state=State.FAILED, failure=Failure(_UNKNOWN, "the job succeeded and shows no model"))

    async def _read(self, remote: str) -> RemoteModel | None:
        return await self._client.find(HttpRequest("GET", self._locations.job(remote)), self._read_job)

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        """Upload the data and start a training, unless a job with the same mark exists; see the module's docstring."""
        existing = await self._find(generation.mark, patient=generation.intended)
        if existing:
            return Exists(existing.remote, await self._require_results(existing))
        inputs = wire.JobInputs(
            training=await self._locate(generation.dataset, examples),
            validation=await self._locate(generation.validation, validation) if generation.validation else "",
            service_account=self._target.settings.get("serviceAccount", ""),
            kms_key=self._target.settings.get("kmsKeyName", ""),
        )
        remedies = wire.CREATE_REMEDIES if generation.source.base_model else wire.CREATE_CHILD_REMEDIES
        request = HttpRequest(
            "POST", self._locations.jobs, body=wire.write_job(generation, inputs), remedies=remedies, idempotent=False
        )

        async def attempt(*, in_doubt: bool) -> tuple[RemoteModel, bool]:
            if in_doubt and (job := await self._find(generation.mark, patient=True)):
                return job, False
            return await self._client.fetch_once(request, self._read_job), True

        job, created = await self._client.retry(attempt)
        kept = await self._cancel_duplicates(generation.mark, job)
        if created and kept.remote == job.remote:
            return Created(Handle(kept.remote), kept.total_steps)
        return Exists(kept.remote, kept)

    async def _require_results(self, job: RemoteModel) -> RemoteModel:
        """Return a job as its model and endpoint are; raise ServiceError if its model was deleted."""
        found = await self._read_results(job)
        if found is None:
            raise ServiceError(
                f"{sanitize(job.remote)} has the mark of this generation, and its model was deleted",
                "run the command again: another attempt is planned",
                code="FAILED_PRECONDITION",
            )
        return found

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Deploy the model of a job again; raise ServiceError for another change, because jobs cannot be changed."""
        if update.deploy and update.mark:
            job = await self._read(remote)
            if job is None:
                raise ServiceError(f"{sanitize(remote)} was not found", "run the command again", code="NOT_FOUND")
            job = await self._require_results(job)
            if job.state is not State.ACTIVE or job.is_deployed(update.checkpoint):
                return job
            kms_key = self._target.settings.get("kmsKeyName", "")
            return await self._resources.deploy(job, update.mark, kms_key, update.checkpoint)
        raise ServiceError(
            f"cannot change {sanitize(remote)}: Vertex AI does not support changes to a tuning job",
            "undo the change in the manifest, or change its training inputs, which trains a new generation",
            code="UNIMPLEMENTED",
        )

    async def cancel(self, handle: Handle) -> None:
        """Stop a job; an error is ignored where the job has ended."""
        try:
            await self._client.request(HttpRequest("POST", f"{self._locations.job(handle.remote)}:cancel", body={}))
        except ServiceError:
            job = await self._read(handle.remote)
            if job is not None and job.state is State.CREATING:
                raise

    async def delete(self, handle: Handle, resources: Resources) -> None:
        """Delete the endpoints and the model that a job created, and the weights of an open model.

        The job remains, because jobs cannot be deleted.
        """
        await self._resources.delete(resources)
        if resources.weights:
            await self._delete_weights(handle.remote)

    async def _delete_weights(self, remote: str) -> None:
        """Delete the folder that the job itself names, because a lockfile can be edited; raises ServiceError.

        It must be one that this project chose: in a bucket for results, and named by the key in the mark of the job.
        """
        job = await self._read(remote)
        folder = job.resources.weights if job else ""
        if job is None or not folder:
            return
        own = job.mark and folder.endswith(f"/{key_of(job.mark)}")
        if not own or not re.fullmatch(self._capabilities.weights_pattern, folder):
            raise ServiceError(
                f"the weights of {sanitize(remote)} are in {sanitize(folder)}, which this target did not choose",
                "check spec.bucket and spec.vertex.outputBuckets of the target",
                code="FAILED_PRECONDITION",
            )
        bucket = folder.partition("://")[2].partition("/")[0]
        for found in await self._storage.list_folder(f"{folder}/"):
            await self._storage.delete(f"gs://{bucket}/{found.name}", generation=found.generation)

    def base_remote(self, base_model: str) -> str:
        """Return the name of a base model of Google, in the location where the target's models are served."""
        return self._locations.base_model(base_model)

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Send a prompt to the endpoint ``remote``, where a job has deployed its model, or to a base model."""
        if JOB_NAME.fullmatch(remote) or remote.startswith(REMOTE_SCHEME):
            raise ServiceError(
                f"{sanitize(remote)} has no endpoint: the service does not deploy open models",
                "remove spec.checks of the manifest, and use the weights that `reconcile resolve` prints",
                code="FAILED_PRECONDITION",
            )
        is_base, most = is_base_model(remote), self._capabilities.max_candidates
        path = self._locations.base_path(remote) if is_base else self._locations.endpoint(remote)
        remedies = wire.INFER_BASE_REMEDIES if is_base else wire.INFER_REMEDIES
        return await send_prompt(self._client, path, wire.CODEC, prompt, most, remedies)

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Raise ServiceError: IAM decides who can use a model."""
        raise _access_not_supported(remote)

    async def set_access(
        self,
        remote: str,
        live: tuple[Permission, ...],  # noqa: ARG002 - models have no permissions
        changes: Iterable[AccessChange],  # noqa: ARG002 - as above
    ) -> None:
        """Raise ServiceError, as :meth:`access` does."""
        raise _access_not_supported(remote)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:  # noqa: ARG002 - the create request decides
        """Return no errors: Vertex AI has no documented method that lists the base models that can be tuned."""
        return {}

    async def pin(self, uri: str) -> Dataset | str:
        """Return the current version of a data set in Cloud Storage."""
        return await self._storage.pin(uri)

    async def _list_labeled(self, label: str, value: str) -> tuple[RemoteModel, ...]:
        params = {"filter": f"labels.{label}={value}", "pageSize": _PAGE_SIZE}
        return await list_models(self._client, HttpRequest("GET", self._locations.jobs, params), self._read_page)

    async def _list_marked(self, mark: Mark) -> tuple[RemoteModel, ...]:
        jobs = await self._list_labeled(KEY, write_labels(mark)[KEY])
        return tuple(job for job in jobs if job.mark == mark)

    async def _find(self, mark: Mark, *, patient: bool) -> RemoteModel | None:
        """Return the job with a mark; ``patient`` repeats the list for a new job that it may not contain yet."""
        job = _preferred(await self._list_marked(mark))
        for seconds in _LIST_PAUSES if patient else ():
            if job is not None:
                break
            await self._sleep(seconds)
            job = _preferred(await self._list_marked(mark))
        return job

    async def _cancel_duplicates(self, mark: Mark, job: RemoteModel) -> RemoteModel:
        """Cancel all jobs with this mark but one, and return that one.

        Concurrent runs keep the same job, because the choice depends only on live state. The job has started, so errors
        are only logged: a later run finds the duplicates that could not be listed or canceled now.
        """
        kept = job
        try:
            jobs = {job.remote: job} | {marked.remote: marked for marked in await self._list_marked(mark)}
            kept = _preferred(jobs.values()) or job
            for duplicate, _ in find_duplicates(jobs.values()):
                await self.cancel(Handle(duplicate.remote))
        except ReconcileError as error:
            _LOG.warning("the next run checks again for duplicates of %s: %s", sanitize(kept.remote), error)
        return kept

    async def _locate(self, dataset: Dataset, examples: Iterable[TrainingExample]) -> str:
        """Return the ``gs://`` address of a data set, after uploading a local one."""
        if dataset.is_remote:
            stored = await self._storage.stat(dataset.path)
            if stored is None or str(stored.generation) != dataset.generation:
                change = "has changed" if stored else "has been deleted"
                raise ReconcileError(f"{dataset.path} {change} since the plan was made", "run the command again")
            return dataset.path
        uri = f"{self._target.bucket.rstrip('/')}/reconcile/{dataset.digest.removeprefix('sha256:')}.jsonl"
        async with spool_lines(map(wire.write_example, examples)) as spool:
            await self._storage.upload(uri, spool)
        return uri


def _only_weights(job: RemoteModel) -> bool:
    """Whether a job of an open model shows no model: then its weights in Cloud Storage are its result."""
    return bool(job.resources.weights) and not job.resources.model


def _access_not_supported(remote: str) -> ServiceError:
    match = JOB_NAME.fullmatch(remote)
    project = match["project"] if match else "PROJECT"
    return ServiceError(
        f"{sanitize(remote)} has no permissions: on Vertex AI, IAM decides who can use the models of a project",
        "remove spec.access from the manifest, and grant roles/aiplatform.user: `gcloud projects add-iam-policy-binding"
        f" {project} --role=roles/aiplatform.user --member=user:ADDRESS`",
        code="UNIMPLEMENTED",
    )


def _preferred(jobs: Iterable[RemoteModel]) -> RemoteModel | None:
    """Return the job that counts among those with one mark, as :mod:`reconciler.planning.generations` finds it."""

    def rank(job: RemoteModel) -> tuple[int, datetime, str]:
        preference = _PREFERENCE.get(job.state, len(_PREFERENCE))
        return preference, parse_time(job.create_time) or EARLIEST, job.remote

    return min((job for job in jobs if job.state is not State.CANCELLED), key=rank, default=None)
