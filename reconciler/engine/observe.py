"""Observe live state: models, permissions, base models and data sets in Cloud Storage. Nothing is changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from reconciler.domain.access import Permission
from reconciler.domain.errors import AccessError, ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import (
    CreateRequest,
    Dataset,
    DroppedExamples,
    Handle,
    Manifest,
    RemoteModel,
    Resources,
    Source,
    State,
)
from reconciler.domain.plan import Action, Kind, Observation, Plan, TrainingCheck, World
from reconciler.domain.ports import (
    BaseModelList,
    BaseModelSource,
    Clock,
    Examples,
    Objects,
    PlannedTraining,
    Provider,
    ServiceClock,
    TrainingChecks,
    UnmanagedModels,
)
from reconciler.planning.datasets import remote_paths
from reconciler.planning.generations import EXPECTED_STATES, desired_content, find_live_model, shared_remotes
from reconciler.planning.hidden_examples import redact_check
from reconciler.planning.live_proof import Owner
from reconciler.planning.planner import plan

TRANSIENT_CODES = frozenset(
    {"UNREACHABLE", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNKNOWN"}
)
"""Codes of a ServiceError that can disappear when the request is repeated later; a front end's page is UNKNOWN."""
_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


async def observe(
    provider: Provider, lock: Lock, *, concurrency: int, progress: bool, unmanaged: bool = False
) -> Observation:
    """Return the live models.

    A recorded generation that the list lacks is requested by name, which proves that it is gone; no request is sent for
    a name outside the target's project and location. So is one whose model the list shows as deleted, and a serving one
    that no endpoint has according to the list. A training that has just ended is requested through its operation,
    which contains the reason of a failure, and so is a generation whose deletion was interrupted. ``progress`` includes
    loss curves; ``unmanaged`` includes models that the list of a provider leaves out.

    Raises:
        ServiceError: the service refuses a request or cannot be reached.
        AccessError: the service denies access.
    """
    listed = {model.remote: model for model in await provider.list(progress=progress)}
    models = {remote: model for remote, model in listed.items() if model.state is not State.DELETED}
    requested = [
        generation
        for model in lock.models.values()
        for generation in model.generations
        if generation.state in {*EXPECTED_STATES, State.DELETING}
        and re.fullmatch(provider.capabilities.remote_pattern, generation.remote)
        and _is_requested(
            generation,
            models.get(generation.remote),
            model.served_checkpoints(generation.key, generation.checkpoint),
        )
    ]
    answers = await run_bounded(provider.observe, map(_handle, requested), concurrency)
    gone = set()
    for generation, answer in zip(requested, answers, strict=True):
        if answer is not None:
            models[generation.remote] = _merge_outcome(answer, models.get(generation.remote))
        elif generation.remote not in models or not provider.capabilities.caller_chosen_ids:
            models.pop(generation.remote, None)  # a permanent training may be listed longer than its model
            gone.add(generation.remote)
    if unmanaged and isinstance(provider, UnmanagedModels):
        models = {model.remote: model for model in await provider.list_unmanaged()} | models
    time = provider.service_time if isinstance(provider, ServiceClock) else None
    deleted = {remote: model for remote, model in listed.items() if remote not in models}
    return Observation(models, frozenset(gone), time=time, deleted=deleted)


async def observe_generation(provider: Provider, generation: LockedGeneration, owner: Owner) -> RemoteModel | None:
    """Return the live model of a recorded generation; ``None`` if it is gone, or another model has its remote name."""
    live = await provider.observe(replace(generation.handle, operation=None))
    return find_live_model(generation, owner, Observation({generation.remote: live})) if live else None


def _is_requested(generation: LockedGeneration, model: RemoteModel | None, served: Iterable[str]) -> bool:
    """Whether a list does not prove that a model is gone, how its training ended, or that it is not deployed."""
    if model is None or generation.state is State.DELETING:  # an interrupted run may have deleted the model
        return True
    ended = generation.state is State.CREATING and model.state is not State.CREATING
    return ended or not all(map(model.is_deployed, served))


def _handle(generation: LockedGeneration) -> Handle:
    """Return the handle, with the operation only while the outcome is unknown."""
    handle = generation.handle
    return handle if generation.state is State.CREATING else replace(handle, operation=None)


def _merge_outcome(answer: RemoteModel, listed: RemoteModel | None) -> RemoteModel:
    """Return the listed model with the outcome of its operation, whose other fields are older than the list."""
    if listed is None:
        return answer
    return replace(
        listed,
        snapshots=answer.snapshots or listed.snapshots,
        completed_steps=answer.completed_steps,
        total_steps=answer.total_steps,
        failure=answer.failure,
        undeployed=answer.undeployed,
        resources=listed.resources if answer.resources == Resources() else answer.resources,
    )


async def run_bounded(
    call: Callable[[_Argument], Awaitable[_Result]], arguments: Iterable[_Argument], concurrency: int
) -> list[_Result]:
    """Return the results of concurrent calls in order, at most ``concurrency`` at once.

    The first error cancels the other calls, and is raised.
    """
    semaphore = asyncio.Semaphore(concurrency)

    async def run(argument: _Argument) -> _Result:
        async with semaphore:
            return await call(argument)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(argument)) for argument in arguments]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def plan_live_state(
    provider: Provider, world: World, clock: Clock, *, progress: bool, examples: Examples | None = None
) -> tuple[Observation, Plan]:
    """Return live state and the plan. Raises as :func:`observe`.

    Where the plan trains, base models are checked, and so are the trainings of these manifests that the list shows as
    deleted: a list can lag. With ``examples`` the trainings are checked themselves, if the provider can do that.
    """
    observation = await _observe_world(provider, world, progress=progress)
    current = plan(replace(world, observation=observation, now=clock()))
    listed, observation = observation, await _confirm_deleted(provider, observation, world, current)
    if observation is not listed:
        current = plan(replace(world, observation=observation, now=clock()))
    sources = (action.source for action in current.of_kind(Kind.CREATE) if action.source)
    observation = await _add_untunable(provider, observation, sources)
    if observation.untunable or observation.tunable:
        current = plan(replace(world, observation=observation, now=clock()))
    if examples and isinstance(provider, TrainingChecks):
        checks = await _check_trainings(provider, examples, world, current)
        if checks:
            observation = replace(observation, training_checks=checks)
            current = plan(replace(world, observation=observation, now=clock()))
    return observation, current


async def _check_trainings(
    provider: TrainingChecks, examples: Examples, world: World, current: Plan
) -> dict[str, TrainingCheck]:
    """Return the checks of the trainings that a plan starts, by key, with the places of the examples."""
    manifests = {manifest.name: manifest for manifest in world.manifests}
    creates = {action.key: action for action in current.of_kind(Kind.CREATE)}
    planned = []
    for key, action in creates.items():
        manifest = replace(manifests[action.name], source=_present_source(action, creates))
        generation = CreateRequest.of(manifest, desired_content(manifest, world.scope, action.attempt).mark(), key)
        planned.append(PlannedTraining(generation, examples.training(manifest), examples.validation(manifest)))
    checks = await provider.check_trainings(planned) if planned else {}
    if not world.target.show_examples:
        checks = {key: redact_check(check) for key, check in checks.items()}
    return {key: _with_places(check, manifests[creates[key].name], examples) for key, check in checks.items()}


def _present_source(action: Action, creates: Mapping[str, Action]) -> Source:
    """Return what a training is tuned from; if the plan has yet to train that, its base model."""
    while action.after in creates:
        action = creates[action.after]
    return action.source or Source()


def _with_places(check: TrainingCheck, manifest: Manifest, examples: Examples) -> TrainingCheck:
    for validation in (False, True):
        faults = [fault for fault in check.faults if fault.example and fault.in_validation is validation]
        places = examples.places(manifest, {fault.example for fault in faults}, validation=validation)
        placed = {fault: replace(fault, place=places.get(fault.example, "")) for fault in faults}
        check = replace(check, faults=tuple(placed.get(fault, fault) for fault in check.faults))
    return check


def place_dropped(world: World, examples: Examples) -> Observation:
    """Return the observation with the places of dropped examples that are not recorded yet.

    A place is known if the manifest still declares the data of the training, and its files can be read.
    """
    manifests, models = {manifest.name: manifest for manifest in world.manifests}, dict(world.observation.models)
    for name, model in world.lock.models.items():
        for generation in model.generations:
            live, manifest = models.get(generation.remote), manifests.get(name)
            dropped = live.dropped_examples if live else None
            if live is None or dropped is None or dropped.is_same(generation.dropped_examples):
                continue
            if manifest and manifest.dataset.digest == generation.dataset.digest:
                placed = _with_dropped_places(dropped, manifest, examples)
                models[generation.remote] = replace(live, dropped_examples=placed)
    return replace(world.observation, models=models)


def _with_dropped_places(dropped: DroppedExamples, manifest: Manifest, examples: Examples) -> DroppedExamples:
    try:
        places = examples.places(manifest, dropped.numbers)
    except ReconcileError:  # the data is read again when something is trained from it, and the error is reported then
        return dropped
    sample = (replace(example, place=places.get(example.example, "")) for example in dropped.sample)
    return replace(dropped, sample=tuple(sample))


async def _confirm_deleted(provider: Provider, observation: Observation, world: World, current: Plan) -> Observation:
    """Return the observation with the unrecorded trainings that still have a model, if the plan would repeat one."""
    created = {action.name for action in current.of_kind(Kind.CREATE)}
    names = {name for manifest in world.manifests if manifest.name in created for name in manifest.names}
    recorded = {generation.remote for model in world.lock.models.values() for generation in model.generations}
    doubtful = [
        job.remote
        for job in observation.deleted.values()
        if job.mark and job.mark.name in names and job.remote not in recorded
    ]
    answers = await run_bounded(provider.observe, map(Handle, doubtful), world.target.limits.concurrency)
    found = {answer.remote: answer for answer in answers if answer}
    if not found:
        return observation
    deleted = {remote: job for remote, job in observation.deleted.items() if remote not in found}
    return replace(observation, models={**observation.models, **found}, deleted=deleted)


async def observe_all(provider: Provider, world: World, *, progress: bool, unmanaged: bool) -> Observation:
    """Return live state with permissions and the base models of manifests and serving generations.

    Raises as :func:`observe`.
    """
    observation = await _observe_world(provider, world, progress=progress, unmanaged=unmanaged)
    serving = (model.serving_generation for model in world.lock.models.values())
    sources = (*(manifest.source for manifest in world.manifests), *(found.source for found in serving if found))
    observation = await _add_untunable(provider, observation, sources)
    if not isinstance(provider, BaseModelSource):
        return observation
    declared = frozenset(filter(None, (manifest.source.base_model for manifest in world.manifests)))
    return replace(observation, changed_base_models=await provider.find_base_model_changes(declared))


async def _observe_world(provider: Provider, world: World, *, progress: bool, unmanaged: bool = False) -> Observation:
    """Return the live models and permissions of a world."""
    observation = await observe(
        provider, world.lock, concurrency=world.target.limits.concurrency, progress=progress, unmanaged=unmanaged
    )
    return await add_permissions(provider, replace(world, observation=observation))


async def _add_untunable(provider: Provider, observation: Observation, sources: Iterable[Source]) -> Observation:
    """Return the observation with the base models of these sources that cannot, and those that can be tuned."""
    base_models = frozenset(source.base_model for source in sources if source.base_model)
    if not base_models:
        return replace(observation, untunable={}, tunable=frozenset())
    untunable = await provider.preflight(base_models)
    listed = await provider.tunable() if isinstance(provider, BaseModelList) else None
    return replace(observation, untunable=untunable, tunable=base_models.intersection(listed or ()))


async def add_permissions(provider: Provider, world: World) -> Observation:
    """Return the observation with the permissions of models whose access is declared, if they were not read before.

    A run that promotes nothing grants nothing, and reads none: on an unmerged branch, its account may have no access.

    Raises as :func:`observe`; a single model that denies access is recorded as unreadable.
    """
    observation = world.observation
    if not world.request.promotes:
        return observation
    known = observation.permissions.keys() | observation.unreadable.keys()
    missing = sorted(shared_remotes(world) - known)

    async def read(remote: str) -> tuple[Permission, ...] | AccessError:
        try:
            return await provider.access(remote)
        except AccessError as error:
            return error

    answers = dict(zip(missing, await run_bounded(read, missing, world.target.limits.concurrency), strict=True))
    denied = {remote: str(answer) for remote, answer in answers.items() if isinstance(answer, AccessError)}
    allowed = {remote: answer for remote, answer in answers.items() if not isinstance(answer, AccessError)}
    return replace(
        observation,
        permissions={**observation.permissions, **allowed},
        unreadable={**observation.unreadable, **denied},
    )


async def fetch_dataset_versions(
    objects: Objects, manifests: Sequence[Manifest], concurrency: int
) -> dict[str, Dataset | str]:
    """Return the current versions of the data sets in Cloud Storage that the manifests name, or the reasons, by URI.

    Raises:
        ServiceError: Cloud Storage cannot be reached.
        AccessError: there are no credentials.
    """
    uris = sorted(remote_paths(manifests))
    return dict(zip(uris, await run_bounded(objects.pin, uris, concurrency), strict=True))
