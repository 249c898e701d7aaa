"""The events of a run, and how each one changes the lockfile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import Dataset, Manifest, RemoteModel, Resources, Sampling, State
from reconciler.domain.plan import Reason
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.generations import EXPECTED_STATES
from reconciler.planning.prune import is_over, mark_deleted


class _ModelEvent(Struct, frozen=True):
    """An event about the models of the manifest ``name``."""

    name: str


class _GenerationEvent(_ModelEvent, frozen=True):
    """An event about one generation."""

    key: str


class _NewGeneration(_ModelEvent, frozen=True):
    """An event that records a generation."""

    manifest: str
    generation: LockedGeneration


class _TrainingEvent(_GenerationEvent, frozen=True):
    """An event with the live state of a training."""

    model: RemoteModel


class Targeted(Struct, frozen=True):
    """The run uses this target."""

    target: LockedTarget


class Declared(_ModelEvent, frozen=True):
    """A manifest was read; these fields are recorded for commands that do not read it, and outlive it."""

    manifest: str
    protect: bool
    labels: Mapping[str, str] = {}
    sampling: Sampling | None = None


def declared(manifest: Manifest) -> Declared:
    """Return the event for a manifest that was read."""
    sampling = None if manifest.sampling == Sampling() else manifest.sampling
    return Declared(manifest.name, manifest.file, manifest.lifecycle.protect, manifest.labels, sampling)


class Intended(_NewGeneration, frozen=True):
    """A generation is about to be requested from a service that chooses the id itself."""


class Withdrawn(_GenerationEvent, frozen=True):
    """An intended training was refused, or is no longer requested; ``before`` was recorded in its place."""

    before: LockedGeneration | None = None


class Started(_NewGeneration, frozen=True):
    """The service accepted a generation: its training is in progress."""


class Adopted(_NewGeneration, frozen=True):
    """A generation with this scope's mark was found that the lockfile did not record."""


class Progressed(_TrainingEvent, frozen=True):
    """The progress of a training was read; ``total_steps`` is reported or calculated."""

    total_steps: int | None


class Completed(_TrainingEvent, frozen=True):
    """A training completed."""


class Failed(_TrainingEvent, frozen=True):
    """A training failed; ``model.failure`` is the reason, if the service reports one."""


class Cancelled(_TrainingEvent, frozen=True):
    """A training was canceled, by this run or by another user."""


class Dropped(_GenerationEvent, frozen=True):
    """The training ``remote`` was canceled, because it duplicates another one of the same generation."""

    remote: str


class Disappeared(_GenerationEvent, frozen=True):
    """The service confirmed that a recorded generation is gone."""


class Updated(_GenerationEvent, frozen=True):
    """These mutable fields were changed."""

    fields: tuple[str, ...]


class Promoted(_GenerationEvent, frozen=True):
    """A generation became the serving one; ``time`` is an RFC 3339 time."""

    remote: str
    time: str = ""


class Checking(_GenerationEvent, frozen=True):
    """Checks are running: ``done`` of ``total`` prompts of the ``checks`` are answered."""

    done: int
    total: int
    checks: int


class Checked(_GenerationEvent, frozen=True):
    """The checks of a generation ran."""

    report: CheckResults


class Rejected(_GenerationEvent, frozen=True):
    """A generation was rejected by a rollback."""

    reason: str


class Restored(_GenerationEvent, frozen=True):
    """A rejected generation may be promoted again."""


class Published(_ModelEvent, frozen=True):
    """The published pointer names this generation, or with ``None`` no generation."""

    key: str | None


class Renamed(_ModelEvent, frozen=True):
    """A manifest was renamed: the records of its ``former`` name move to ``name``."""

    former: str
    manifest: str


class Claimed(_GenerationEvent, frozen=True):
    """A data set was declared for a generation with unknown training data."""

    dataset: Dataset
    preamble: str


class Forgotten(_ModelEvent, frozen=True):
    """A model is no longer managed; it stays at the service."""


class Unprotected(_ModelEvent, frozen=True):
    """The recorded protection of an orphan was removed."""


class Unserved(_GenerationEvent, frozen=True):
    """The serving generation of an orphan was taken out of service, before its deletion."""


class Deleted(_GenerationEvent, frozen=True):
    """The generation ``remote`` was deleted with everything that its training created."""

    remote: str


class Ended(_ModelEvent, frozen=True):
    """The last generation of an orphan was deleted."""


class Refused(_ModelEvent, frozen=True):
    """An action failed, and the others continue; ``reason`` is set if it is a hold."""

    error: ReconcileError
    reason: Reason | None = None


Event = (
    Targeted
    | Declared
    | Intended
    | Withdrawn
    | Started
    | Adopted
    | Progressed
    | Completed
    | Failed
    | Cancelled
    | Dropped
    | Disappeared
    | Updated
    | Promoted
    | Checking
    | Checked
    | Rejected
    | Restored
    | Published
    | Renamed
    | Claimed
    | Forgotten
    | Unprotected
    | Unserved
    | Deleted
    | Ended
    | Refused
)
EventSink = Callable[[Event], None]
"""Takes each event of a run as it happens."""


def record(lock: Lock, event: Event) -> Lock:
    """Return the lockfile after an event, the same object if nothing changed. Nothing else changes a lockfile."""
    if isinstance(event, Targeted):
        return lock if lock.target == event.target else replace(lock, target=event.target)
    if isinstance(event, Renamed):
        return _rename(lock, event)
    if isinstance(event, _NewGeneration):
        model = lock.models.get(event.name) or LockedModel(event.manifest)
        changed = _add(replace(model, manifest=event.manifest), event)
    elif event.name in lock.models:
        changed = _change(lock.models[event.name], event)
    else:
        return lock
    if lock.models.get(event.name) == changed:
        return lock
    empty = not (changed.generations or changed.rejected or changed.published)
    if empty and isinstance(event, Withdrawn | Published | Forgotten | Ended):
        return replace(lock, models={name: model for name, model in lock.models.items() if name != event.name})
    return replace(lock, models={**lock.models, event.name: changed})


def _rename(lock: Lock, event: Renamed) -> Lock:
    """Move the records; the published key stays under the former name until the pointer is updated."""
    former = lock.models.get(event.former)
    if former is None or not (former.generations or former.rejected):
        return lock
    present = lock.models.get(event.name) or LockedModel(event.manifest)
    merged = replace(
        present,
        manifest=event.manifest,
        serving=present.serving or former.serving,
        rejected=tuple(dict.fromkeys((*present.rejected, *former.rejected))),
        protect=present.protect or former.protect,
    )
    models = {**lock.models, event.name: reduce(LockedModel.with_generation, former.generations, merged)}
    if former.published:
        return replace(lock, models={**models, event.former: _published_only(former)})
    del models[event.former]
    return replace(lock, models=models)


def _published_only(model: LockedModel) -> LockedModel:
    return LockedModel(model.manifest, published=model.published)


def _add(model: LockedModel, event: _NewGeneration) -> LockedModel:
    generation = event.generation
    recorded = model.generation(generation.key)
    if isinstance(event, Intended):
        started = recorded is not None and recorded.state in EXPECTED_STATES  # by a faster run
        return model if started else model.with_generation(generation)
    canceled = recorded is not None and recorded.state is State.CANCELLED and recorded.remote == generation.remote
    if canceled and isinstance(event, Started):
        return model  # another user canceled it after the start
    retrained = model.serving == generation.key and generation.state is not State.ACTIVE
    serving = None if retrained else model.serving  # a new training of the serving content is promoted again
    return replace(model, serving=serving).with_generation(generation)


def _change(model: LockedModel, event: Event) -> LockedModel:
    match event:
        case Declared(_, manifest, protect, labels, sampling):
            return replace(model, manifest=manifest, protect=protect, labels=labels, sampling=sampling)
        case Forgotten() | Unprotected() | Unserved() | Deleted() | Ended():
            return _delete(model, event)
        case Promoted() | Checked() | Rejected() | Restored() | Published() | Claimed():
            return _promote(model, event)
        case Withdrawn() | Disappeared():
            return _withdraw(model, event)
        case _TrainingEvent():
            return _observe(model, event)
        case _:
            return model


def _promote(model: LockedModel, event: Promoted | Checked | Rejected | Restored | Published | Claimed) -> LockedModel:
    match event:
        case Claimed(_, key, dataset, preamble):
            claim = replace(dataset, claimed=not dataset.unknown)
            return _update(model, key, dataset=claim, preamble=preamble)
        case Published(_, published):
            return replace(model, published=published)
        case Promoted(_, key, _, time):
            return replace(_update(model, key, promote_time=time), serving=key)
        case Checked(_, key, report):
            return _update(model, key, checks=recorded_checks(report))
        case Rejected(_, key, reason):
            rejected = tuple(dict.fromkeys((*model.rejected, key)))
            serving = None if model.serving == key else model.serving
            return replace(_update(model, key, rejection=reason), rejected=rejected, serving=serving)
        case Restored(_, key):
            rejected = tuple(other for other in model.rejected if other != key)
            return replace(_update(model, key, rejection=""), rejected=rejected)


def _delete(model: LockedModel, event: Forgotten | Unprotected | Unserved | Deleted | Ended) -> LockedModel:
    match event:
        case Forgotten():
            return _published_only(model)
        case Unprotected():
            return replace(model, protect=False)
        case Unserved(_, key):
            return replace(model, serving=None) if model.serving == key else model
        case Deleted(_, key, remote):
            return mark_deleted(model, key, remote)
        case Ended():
            return _published_only(model) if is_over(model) else model


def _update(model: LockedModel, key: str, **fields: Any) -> LockedModel:
    generation = model.generation(key)
    return model.with_generation(replace(generation, **fields)) if generation else model


def _withdraw(model: LockedModel, event: Withdrawn | Disappeared) -> LockedModel:
    """Keep what another run recorded in the meantime, such as a cancellation."""
    generation = model.generation(event.key)
    if isinstance(event, Disappeared):
        expected = generation is not None and generation.state in EXPECTED_STATES
        return _update(model, event.key, state=State.MISSING) if expected else model
    if generation is None or generation.state is not State.INTENDED:
        return model
    return model.with_generation(event.before) if event.before else model.without_generation(event.key)


def _observe(model: LockedModel, event: _TrainingEvent) -> LockedModel:
    """Record the live state, unless another run recorded another training of the key in the meantime."""
    generation = model.generation(event.key)
    if generation is None or generation.remote != event.model.remote:
        return model
    if generation.state is State.CANCELLED and event.model.state is State.CREATING:
        return model  # the service may report a canceled training as in progress for a while
    return model.with_generation(update_observed(generation, event.model))


def update_observed(generation: LockedGeneration, model: RemoteModel) -> LockedGeneration:
    """Return the recorded generation with its live state; fields that the service no longer reports are kept.

    The loss is recorded only after the training, so that the lockfile does not change with every poll, and only if it
    is finite, because JSON has no other numbers.
    """
    ended = model.state is not State.CREATING
    hyperparameters = generation.hyperparameters
    loss = model.snapshots[-1].loss if ended and model.snapshots else math.nan
    return replace(
        generation,
        state=model.state,
        hyperparameters=replace(hyperparameters, effective=dict(model.hyperparameters) or hyperparameters.effective),
        create_time=model.create_time or generation.create_time,
        complete_time=model.complete_time or generation.complete_time,
        total_steps=generation.total_steps or model.total_steps,
        final_loss=loss if math.isfinite(loss) else generation.final_loss,
        failure=model.failure or generation.failure,
        resources=generation.resources if model.resources == Resources() else model.resources,
    )
