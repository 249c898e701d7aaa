"""The events of a run; each one applies itself to the lockfile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import (
    MAX_DECISIONS,
    Decision,
    Lock,
    LockedGeneration,
    LockedModel,
    LockedStage,
    LockedTarget,
)
from reconciler.domain.model import PHASES, Dataset, DroppedExamples, Manifest, RemoteModel, Sampling, State, Suspension
from reconciler.domain.plan import Reason
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.generations import EXPECTED_STATES
from reconciler.planning.prune import is_over, mark_deleted, mark_deleting
from reconciler.planning.stages import arrange_stages


class ModelEvent(Struct, frozen=True):
    """An event about the models of the manifest ``name``; ``removes`` means that a model without records is removed."""

    name: str
    removes: ClassVar[bool] = False

    def apply(self, model: LockedModel) -> LockedModel:
        """Return the recorded model after the event; an equal one if the event is not recorded."""
        return model

    def apply_to(self, lock: Lock) -> Lock:
        """Return the lock after the event, the same object if nothing changed."""
        before = self._model_in(lock)
        if before is None:
            return lock
        changed = self.apply(before)
        if lock.models.get(self.name) == changed:
            return lock
        if self.removes and not (changed.generations or changed.barred_keys or changed.published_keys):
            return replace(lock, models={name: model for name, model in lock.models.items() if name != self.name})
        return replace(lock, models={**lock.models, self.name: changed})

    def _model_in(self, lock: Lock) -> LockedModel | None:
        return lock.models.get(self.name)


class _GenerationEvent(ModelEvent, frozen=True):
    """An event about one generation."""

    key: str


class _NewGeneration(ModelEvent, frozen=True):
    """An event that records a generation."""

    manifest: str
    generation: LockedGeneration

    def apply(self, model: LockedModel) -> LockedModel:
        """Add the generation; a new training of the serving content is promoted again, to later stages on request."""
        key = self.generation.key
        retrained = key in model.served_keys and self.generation.state is not State.ACTIVE
        if not retrained:
            return model.with_generation(self.generation)
        for name in filter(None, model.stages_serving(key)):
            record = model.stage(name)
            model = model.with_stage(name, replace(record, serving=None, requested=record.requested or key))
        return model.without_serving(key).with_generation(self.generation)

    def _model_in(self, lock: Lock) -> LockedModel:
        return replace(lock.models.get(self.name) or LockedModel(self.manifest), manifest=self.manifest)


class _TrainingEvent(_GenerationEvent, frozen=True):
    """An event with the live state of a training."""

    model: RemoteModel

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the live state, unless another run recorded another training of the key in the meantime."""
        generation = model.generation(self.key)
        if generation is None or generation.remote != self.model.remote:
            return model
        if generation.state is State.CANCELLED and self.model.state is State.CREATING:
            return model  # the service may report a canceled training as in progress for a while
        return model.with_generation(update_observed(generation, self.model))


class LockEvent(Struct, frozen=True):
    """An event about the whole lockfile."""

    def apply_to(self, lock: Lock) -> Lock:
        """Return the lock after the event, the same object if nothing changed."""
        raise NotImplementedError


class Decided(LockEvent, frozen=True):
    """A person decided this; the lockfile keeps it for readers."""

    decision: Decision

    def apply_to(self, lock: Lock) -> Lock:
        """Add the decision to the history, the last one first, unless it was saved without a confirmation."""
        if self.decision in lock.history:
            return lock
        return replace(lock, history=(self.decision, *lock.history)[:MAX_DECISIONS])


class Targeted(LockEvent, frozen=True):
    """The run uses this target."""

    target: LockedTarget

    def apply_to(self, lock: Lock) -> Lock:
        """Record the target; a change of its stages moves records, and is an event of its own."""
        target = replace(self.target, stages=lock.target.stages) if lock.target else self.target
        return lock if lock.target == target else replace(lock, target=target)


class Staged(LockEvent, frozen=True):
    """The target has these stages, in their order."""

    stages: tuple[str, ...]

    def apply_to(self, lock: Lock) -> Lock:
        """Move the records of stages, and begin new ones."""
        return arrange_stages(lock, self.stages)


class StageForgotten(LockEvent, frozen=True):
    """The record of a stage that the target no longer has was dropped."""

    stage: str

    def apply_to(self, lock: Lock) -> Lock:
        """Remove the record of the stage from all models."""
        models = {name: model.with_stage(self.stage, LockedStage()) for name, model in lock.models.items()}
        return lock if models == lock.models else replace(lock, models=models)


class Declared(ModelEvent, frozen=True):
    """A manifest was read; these fields are recorded for commands that do not read it, and outlive it."""

    manifest: str
    protect: bool
    labels: Mapping[str, str] = {}
    sampling: Sampling | None = None
    suspend: Suspension | None = None
    fields: str = ""

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the fields; a new stage begins with those that all stages share."""
        stages = {
            name: replace(stage, fields=self.fields) if self.fields and stage.serving and not stage.fields else stage
            for name, stage in model.stages.items()
        }
        return replace(
            model,
            manifest=self.manifest,
            protect=self.protect,
            labels=self.labels,
            sampling=self.sampling,
            suspend=self.suspend,
            stages=stages,
        )


def declared(manifest: Manifest, fields: str = "") -> Declared:
    """Return the event for a manifest that was read; ``fields`` is the digest of those that all stages share."""
    sampling = None if manifest.sampling == Sampling() else manifest.sampling
    lifecycle = manifest.lifecycle
    return Declared(
        manifest.name, manifest.file, lifecycle.protect, manifest.labels, sampling, lifecycle.suspend, fields
    )


class Applied(ModelEvent, frozen=True):
    """The live model has all declared fields; ``fields`` are their digests."""

    fields: Mapping[str, str]

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the digests."""
        return replace(model, applied=self.fields)


class Intended(_NewGeneration, frozen=True):
    """A generation is about to be requested from a service that chooses the id itself."""

    def apply(self, model: LockedModel) -> LockedModel:
        """Add the generation, unless a faster run has started it."""
        recorded = model.generation(self.generation.key)
        started = recorded is not None and recorded.state in EXPECTED_STATES
        return model if started else model.with_generation(self.generation)


class Withdrawn(_GenerationEvent, frozen=True):
    """An intended training was refused, or is no longer requested; ``before`` was recorded in its place."""

    before: LockedGeneration | None = None
    removes: ClassVar[bool] = True

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove the intention; what another run recorded in the meantime is kept, such as a cancellation."""
        generation = model.generation(self.key)
        if generation is None or generation.state is not State.INTENDED:
            return model
        return model.with_generation(self.before) if self.before else model.without_generation(self.key)


class Started(_NewGeneration, frozen=True):
    """The service accepted a generation: its training is in progress."""

    def apply(self, model: LockedModel) -> LockedModel:
        """Add the generation, unless another user canceled it after the start."""
        recorded = model.generation(self.generation.key)
        canceled = recorded is not None and recorded.state is State.CANCELLED
        same = recorded is not None and recorded.remote == self.generation.remote
        return model if canceled and same else super().apply(model)


class Adopted(_NewGeneration, frozen=True):
    """A generation with this scope's mark was found that the lockfile did not record."""


class Progressed(_TrainingEvent, frozen=True):
    """The progress of a training was read; ``total_steps`` is reported or calculated."""

    total_steps: int | None


class Completed(_TrainingEvent, frozen=True):
    """A training completed."""


class Corrected(_TrainingEvent, frozen=True):
    """The live model proves a record, and shows other facts; ``preamble`` is that of the manifest for the same data.

    Creation time and hyperparameters are what proves a model that lost its mark, and are not changed.
    """

    preamble: str | None = None

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the live facts, and the preamble."""
        generation = model.generation(self.key)
        if generation is None or generation.remote != self.model.remote:
            return model
        return model.with_generation(self.correct(generation))

    def correct(self, recorded: LockedGeneration) -> LockedGeneration:
        """Return the record with the live facts."""
        live = update_observed(recorded, self.model)
        return replace(
            live,
            create_time=recorded.create_time or live.create_time,
            hyperparameters=recorded.hyperparameters,
            failure=self.model.failure if self.model.state is State.ACTIVE else live.failure,
            preamble=recorded.preamble if self.preamble is None else self.preamble,
        )


class Failed(_TrainingEvent, frozen=True):
    """A training failed; ``model.failure`` is the reason, if the service reports one."""


class Cancelled(_TrainingEvent, frozen=True):
    """A training was canceled, by this run or by another user."""


class Dropped(_GenerationEvent, frozen=True):
    """The training ``remote`` was canceled, because it duplicates another one of the same generation."""

    remote: str


class Disappeared(_GenerationEvent, frozen=True):
    """The service confirmed that a recorded generation is gone."""

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the state; what another run recorded in the meantime is kept."""
        generation = model.generation(self.key)
        expected = generation is not None and generation.state in EXPECTED_STATES
        return _update(model, self.key, state=State.MISSING) if expected else model


class Updated(_GenerationEvent, frozen=True):
    """These mutable fields were changed."""

    fields: tuple[str, ...]


class Requested(_GenerationEvent, frozen=True):
    """The promotion of a generation to a ``stage`` after the first one is requested; the next apply carries it out."""

    stage: str

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the request, in place of an earlier one."""
        return model.with_stage(self.stage, replace(model.stage(self.stage), requested=self.key))


class RequestRemoved(_GenerationEvent, frozen=True):
    """The requested promotion to a ``stage`` is barred by a rejection."""

    stage: str

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove the request, unless another generation was requested since."""
        record = model.stage(self.stage)
        return model.with_stage(self.stage, replace(record, requested=None)) if record.requested == self.key else model


class Promoted(_GenerationEvent, frozen=True):
    """A checkpoint of a generation, by default the default one, serves since ``time``, an RFC 3339 time.

    A ``stage`` after the first one gets the ``sampling`` of the stage before, and the digest of the shared ``fields``.
    """

    remote: str
    time: str = ""
    checkpoint: str = ""
    stage: str = ""
    sampling: Sampling | None = None
    fields: str | None = None

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the serving generation; only a ready one is promoted, so it exists."""
        if self.stage:
            return model.with_stage(self.stage, self._promoted_in(model.stage(self.stage)))
        promoted = _update(model, self.key, promote_time=self.time, checkpoint=self.checkpoint).with_serving(self.key)
        generation = promoted.generation(self.key)
        deleting = generation is not None and generation.state is State.DELETING
        return _update(promoted, self.key, state=State.ACTIVE) if deleting else promoted

    def _promoted_in(self, record: LockedStage) -> LockedStage:
        previous = record.previous if record.serving in (None, self.key) else record.serving
        return replace(
            record,
            serving=self.key,
            previous=None if previous == self.key else previous,
            checkpoint=self.checkpoint,
            promote_time=record.promote_time if record.serving == self.key else self.time,
            sampling=self.sampling,
            requested=None if record.requested == self.key else record.requested,
            fields=self.fields or record.fields,
        )


class Checking(_GenerationEvent, frozen=True):
    """Checks are running: ``done`` of ``total`` prompts of the ``checks`` are answered."""

    done: int
    total: int
    checks: int


class Checked(_GenerationEvent, frozen=True):
    """The checks of a generation ran, with those of a ``stage`` after the first one if it is set."""

    report: CheckResults
    stage: str = ""

    def apply(self, model: LockedModel) -> LockedModel:
        """Record a summary of the results; scores of other checkpoints that were not checked again are kept.

        Results for a stage are not recorded: they are of other checks than those of the manifest.
        """
        if self.stage:
            return model
        checks, known = recorded_checks(self.report), model.generation(self.key)
        before = known.checks if known else None
        if before and (before.digest, before.checkpoint) == (checks.digest, checks.checkpoint):
            checks = replace(checks, candidates=checks.candidates or before.candidates)
        return _update(model, self.key, checks=checks)


class Rejected(_GenerationEvent, frozen=True):
    """A generation was rejected by a rollback; in a ``stage`` after the first one, it is barred there and later."""

    reason: str
    stage: str = ""

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the rejection and its reason."""
        if self.stage:
            record = model.stage(self.stage)
            barred = replace(
                record,
                serving=None if record.serving == self.key else record.serving,
                requested=None if record.requested == self.key else record.requested,
                rejected=tuple(dict.fromkeys((*record.rejected, self.key))),
            )
            return _update(model, self.key, rejection=self.reason).with_stage(self.stage, barred)
        rejected = tuple(dict.fromkeys((*model.rejected, self.key)))
        changed = _update(model, self.key, rejection=self.reason).without_serving(self.key)
        return replace(changed, rejected=rejected)


class Restored(_GenerationEvent, frozen=True):
    """A rejected generation may be promoted again, to a ``stage`` after the first one if it is set."""

    stage: str = ""

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove the rejection, and its reason unless it is rejected in another stage."""
        if self.stage:
            record = model.stage(self.stage)
            changed = model.with_stage(self.stage, replace(record, rejected=_without(record.rejected, self.key)))
        else:
            changed = replace(model, rejected=_without(model.rejected, self.key))
        return changed if self.key in changed.barred_keys else _update(changed, self.key, rejection="")


class Withheld(_GenerationEvent, frozen=True):
    """A changed lockfile names this generation as serving; until it is promoted, ``checkpoint`` of ``before`` serves.

    In a stage, it is requested unless the change has a request of its own, ``requested``. Both keys are equal if only
    the checkpoint changed, or if a stage names no generation.
    """

    before: str | None
    checkpoint: str = ""
    stage: str = ""
    requested: str | None = None

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the checkpoint that served before, unless another one has been promoted since.

        In a ``stage`` after the first one, the change becomes a request.
        """
        if self.stage:
            record = model.stage(self.stage)
            if record.serving != self.key and (record.serving or self.key != self.before):
                return model
            requested = self.requested or (record.requested if self.before == self.key else self.key)
            kept = replace(record, serving=self.before, checkpoint=self.checkpoint, requested=requested)
            return model.with_stage(self.stage, kept)
        if not model.serves(self.key):
            return model
        return _update(replace(model, serving=self.before), self.before or "", checkpoint=self.checkpoint)


class Published(ModelEvent, frozen=True):
    """The published pointer names this generation, or with ``None`` no generation; ``stage`` is one after the first."""

    key: str | None
    stage: str = ""
    removes: ClassVar[bool] = True

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the published key."""
        if self.stage:
            return model.with_stage(self.stage, replace(model.stage(self.stage), published=self.key))
        return replace(model, published=self.key)


class Renamed(ModelEvent, frozen=True):
    """A manifest was renamed: the records of its ``former`` name move to ``name``."""

    former: str
    manifest: str

    def apply_to(self, lock: Lock) -> Lock:
        """Move the records; the published key stays under the former name until the pointer is updated."""
        former = lock.models.get(self.former)
        if former is None or not (former.generations or former.barred_keys):
            return lock
        present = lock.models.get(self.name) or LockedModel(self.manifest)
        merged = replace(
            present,
            manifest=self.manifest,
            serving=present.serving or former.serving,
            rejected=tuple(dict.fromkeys((*present.rejected, *former.rejected))),
            protect=present.protect or former.protect,
            applied=present.applied or former.applied,
            stages={**{name: _unpublished(stage) for name, stage in former.stages.items()}, **present.stages},
        )
        models = {**lock.models, self.name: reduce(LockedModel.with_generation, former.generations, merged)}
        if former.published_keys:
            return replace(lock, models={**models, self.former: _published_only(former)})
        del models[self.former]
        return replace(lock, models=models)


class Claimed(_GenerationEvent, frozen=True):
    """A data set was declared for a generation with unknown training data."""

    dataset: Dataset
    preamble: str

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the data set as a claim."""
        claim = replace(self.dataset, claimed=not self.dataset.unknown)
        return _update(model, self.key, dataset=claim, preamble=self.preamble)


class Forgotten(ModelEvent, frozen=True):
    """A model is no longer managed; it stays at the service."""

    removes: ClassVar[bool] = True

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove everything except the published key."""
        return _published_only(model)


class Unprotected(ModelEvent, frozen=True):
    """The recorded protection of an orphan was removed."""

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove the protection."""
        return replace(model, protect=False)


class Unserved(_GenerationEvent, frozen=True):
    """The serving generation of an orphan was taken out of service in all stages, before its deletion."""

    def apply(self, model: LockedModel) -> LockedModel:
        """Record that no generation is serving where this one was."""
        stages = {name: _without_key(stage, self.key) for name, stage in model.stages.items()}
        kept = {name: stage for name, stage in stages.items() if stage != LockedStage()}
        return replace(model.without_serving(self.key), stages=kept)


class Deleting(_GenerationEvent, frozen=True):
    """The deletion of the generation ``remote`` is about to be requested."""

    remote: str

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the intention, unless another run made it the serving generation or another training."""
        generation = model.generation(self.key)
        if generation is None or generation.remote != self.remote or self.key in model.kept_keys:
            return model
        return model.with_generation(mark_deleting(generation))


class Kept(_GenerationEvent, frozen=True):
    """A deletion was refused, or did not happen: the generation still exists in this state."""

    state: State

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the state, unless another run recorded another one in the meantime."""
        generation = model.generation(self.key)
        deleting = generation is not None and generation.state is State.DELETING
        return _update(model, self.key, state=self.state) if deleting else model


class Deleted(_GenerationEvent, frozen=True):
    """The generation ``remote`` was deleted with everything that its training created."""

    remote: str

    def apply(self, model: LockedModel) -> LockedModel:
        """Record the deletion."""
        return mark_deleted(model, self.key, self.remote)


class Ended(ModelEvent, frozen=True):
    """The last generation of an orphan was deleted."""

    removes: ClassVar[bool] = True

    def apply(self, model: LockedModel) -> LockedModel:
        """Remove everything except the published key, if nothing was recorded in the meantime."""
        return _published_only(model) if is_over(model) else model


class Refused(ModelEvent, frozen=True):
    """An action failed, and the others continue; ``reason`` is set if it is a hold."""

    error: ReconcileError
    reason: Reason | None = None


Event = LockEvent | ModelEvent
EventSink = Callable[[Event], None]
"""Takes each event of a run as it happens."""


def record(lock: Lock, event: Event) -> Lock:
    """Return the lockfile after an event, the same object if nothing changed. Nothing else changes a lockfile."""
    return event.apply_to(lock)


def _published_only(model: LockedModel) -> LockedModel:
    published = {
        name: LockedStage(published=stage.published) for name, stage in model.stages.items() if stage.published
    }
    return LockedModel(model.manifest, published=model.published, stages=published)


def _without_key(stage: LockedStage, key: str) -> LockedStage:
    """Return a stage in which the generation neither serves nor is requested."""
    if stage.serving == key:
        stage = replace(stage, serving=None, checkpoint="", promote_time="", sampling=None, fields=None)
    return replace(
        stage,
        previous=None if stage.previous == key else stage.previous,
        requested=None if stage.requested == key else stage.requested,
    )


def _without(keys: Iterable[str], removed: str) -> tuple[str, ...]:
    return tuple(key for key in keys if key != removed)


def _unpublished(stage: LockedStage) -> LockedStage:
    return replace(stage, published=None)


def _update(model: LockedModel, key: str, **fields: Any) -> LockedModel:
    generation = model.generation(key)
    return model.with_generation(replace(generation, **fields)) if generation else model


def recorded_data(data: Struct | None) -> dict[str, Any]:
    """Return the JSON of what a provider records for itself; numbers that are not finite are ``None``."""
    return {} if data is None else decode(encode(data), type=dict[str, Any])


def update_observed(generation: LockedGeneration, model: RemoteModel) -> LockedGeneration:
    """Return the recorded generation with its live state; fields that the service no longer reports are kept.

    Requests depend on the resources, so they are always the live ones.

    The loss is recorded only after the training, so that the lockfile does not change with every poll, and only if it
    is finite, because JSON has no other numbers. Phase and epochs are recorded only during the training.
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
        total_steps=model.total_steps or generation.total_steps,
        billable_tokens=model.billable_tokens if ended else generation.billable_tokens,
        final_loss=loss if math.isfinite(loss) else generation.final_loss,
        failure=model.failure or generation.failure,
        resources=model.resources,
        phase="" if ended or model.phase not in PHASES else model.phase,
        completed_epochs=None if ended else model.completed_epochs,
        dropped_examples=_with_known_places(model.dropped_examples, generation.dropped_examples),
        evaluations=model.evaluations,
        experiment=model.experiment,
        provider_data=recorded_data(model.provider_data) or generation.provider_data,
    )


def _with_known_places(live: DroppedExamples | None, recorded: DroppedExamples | None) -> DroppedExamples | None:
    """Return the dropped examples that the service lists; the record of the same ones can also have their places."""
    if live is None or not live.is_same(recorded) or any(dropped.place for dropped in live.sample):
        return live
    return recorded
