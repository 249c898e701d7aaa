"""Status reports, generations as reports have them, and the model details of pages with their loss curves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from reconciler.domain.access import EffectiveAccess, Permission, Role
from reconciler.domain.checks import RecordedChecks
from reconciler.domain.document import (
    Attempt,
    Count,
    Digest,
    Key,
    LockfilePath,
    ManifestName,
    ManifestPath,
    NonEmpty,
    Record,
    Remote,
    Time,
    TotalSteps,
)
from reconciler.domain.lock import (
    EARLIEST,
    Lock,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    LockedStage,
    Origin,
    StageName,
)
from reconciler.domain.model import (
    Capabilities,
    Dataset,
    DroppedExamples,
    Failure,
    RemoteModel,
    Resources,
    ServiceEvaluation,
    Snapshot,
    Source,
    State,
    Suspension,
    Target,
)
from reconciler.domain.plan import Reason
from reconciler.planning.costs import Billing, billing_of
from reconciler.planning.training_time import CountedProgress, counted_progress, epoch_count, last_epoch
from reconciler.reports.documents.envelope import Loss, TargetReport, number, target_summary

CURVE_POINTS: Final = 100


class TrainingData(Record, frozen=True):
    """The training data of a generation."""

    digest: Digest
    """The digest of the examples, or of the object in Cloud Storage."""
    path: str = ""
    """The path relative to the root, or a gs:// address; omitted for inline examples."""
    examples: Count = 0
    """The number of examples; omitted if unknown."""
    generation: str = ""
    """The generation of the object in Cloud Storage."""


class StageUse(Record, frozen=True, kw_only=True):
    """What a generation is in a stage of the target."""

    stage: StageName
    """The name of the stage."""
    use: Literal["serving", "requested", "previous", "rejected"]
    """Whether it is serving there, its promotion is requested, it was serving before, or it was rejected there."""
    since: Time = ""
    """When the serving generation was promoted, according to the lockfile; RFC 3339."""
    held: Reason | None = None
    """Why the requested promotion is held, if the lockfile alone shows it; a stable name."""
    message: str = ""
    """The hold in a sentence."""


def _with_holds(uses: Iterable[StageUse], request: tuple[str, LockedModel, str], target: Target) -> Iterator[StageUse]:
    """Yield the uses of a generation, with the reasons of holds that the lockfile alone shows."""
    name, model, key = request
    stages = {stage.name: stage for stage in target.later_stages}
    for use in uses:
        stage = stages.get(use.stage) if use.use == "requested" else None
        unmet = None
        if stage:
            # Imported here because most targets have no stages, and status should start quickly.
            from reconciler.planning.stages import request_of, unmet_conditions

            found = request_of(name, model, target, stage, key)
            unmet = next(unmet_conditions(found, model, target, None, EARLIEST), None)
        is_known = unmet and unmet.reason is not Reason.SOAK_UNKNOWN  # which the lockfile cannot show
        yield replace(use, held=unmet.reason, message=unmet.message) if unmet and is_known else use


def stage_uses(lock: Lock, model: LockedModel, key: str) -> tuple[StageUse, ...]:
    """Return what a generation is in each stage, in the order of the target; nothing without stages."""
    stages = lock.target.stages if lock.target else ()
    if not stages:
        return ()
    records = {stages[0]: model, **{name: model.in_stage(name) for name in (*stages[1:], *sorted(model.stages))}}
    return tuple(use for name, record in records.items() if (use := _use(name, record, model.stage(name), key)))


def _use(name: str, record: LockedModel, stage: LockedStage, key: str) -> StageUse | None:
    if record.serves(key):
        serving = record.serving_generation
        return StageUse(stage=name, use="serving", since=serving.promote_time if serving else "")
    if key in record.rejected:
        return StageUse(stage=name, use="rejected")
    if key == stage.requested:
        return StageUse(stage=name, use="requested")
    return StageUse(stage=name, use="previous") if key == stage.previous else None


class GenerationSummary(Record, frozen=True, kw_only=True):
    """A generation of a manifest."""

    key: Key
    remote: str = ""
    """The remote name; omitted while the state is INTENDED."""
    state: State
    """The live state of the generation, or else the recorded one."""
    create_time: str = ""
    """When it was created; RFC 3339, as the service wrote it."""
    complete_time: str = ""
    """When its training ended; RFC 3339, as the service wrote it."""
    promote_time: str = ""
    """When it was last promoted; RFC 3339."""
    checkpoint: str = ""
    """The ID of the checkpoint that was promoted; omitted for the default one."""
    rejection: str = ""
    """The reason for the rollback."""
    stages: tuple[StageUse, ...] = ()
    """Where it is serving, requested or rejected, if the target has stages."""
    total_steps: TotalSteps | None = None
    final_loss: Loss | None = None
    """The mean loss of the last step."""
    billing: Billing | None = None
    """The estimated cost of the training, and the actual one."""
    error: Failure | None = None
    """Why the training failed."""
    dropped_examples: DroppedExamples | None = None
    """The examples that the service dropped or truncated."""
    experiment_url: str = ""
    """The page of the experiment that has the metrics of the training."""
    checks: RecordedChecks | None = None
    """The result of the last run of the checks."""
    evaluations: tuple[ServiceEvaluation, ...] = ()
    """The evaluations by the service, which decide nothing here."""


class TrainingProgress(Record, frozen=True, kw_only=True):
    """The progress of a training."""

    completed_steps: Count | None = None
    """The completed steps; omitted if the service does not report them."""
    total_steps: TotalSteps | None = None
    percent: Annotated[float, Meta(ge=0)] | None = None
    """The completed share of the steps, or of the epochs if the service counts only them."""
    epoch: Count | None = None
    """The completed epochs, or else the epoch of the last snapshot."""
    epochs: Count | None = None
    """The number of epochs."""
    loss: Loss | None = None
    """The mean loss of the last snapshot."""


class LiveGeneration(GenerationSummary, frozen=True, kw_only=True):
    """A generation as the service lists it, or else as it is recorded."""

    rejected: bool = False
    """Whether it is rejected: it was rolled back and is not promoted again. Omitted if not."""
    phase: Annotated[str, Meta(examples=["QUEUED", "WAITING_FOR_QUOTA"])] = ""
    """The state in the service's spelling, if it is more specific."""
    progress: TrainingProgress | None = None
    """The progress of the training, only while it runs."""


class GenerationDetails(LiveGeneration, frozen=True, kw_only=True):
    """One generation of the manifest, with its inputs and its loss curve."""

    source: Source
    """The base model or parent that it was tuned from."""
    dataset: TrainingData
    """The training data."""
    hyperparameters: LockedHyperparameters | None = None
    """The hyperparameters."""
    curve: tuple[tuple[float, float], ...] = ()
    """At most 100 points of the loss curve, each a step and its mean loss, the first and the last included."""


class ModelDetails(Record, frozen=True, kw_only=True):
    """One recorded model and its history."""

    name: ManifestName
    manifest: ManifestPath
    serving: str = ""
    """The key of the serving generation; omitted if there is none."""
    generations: tuple[GenerationDetails, ...]
    """Its generations, newest first."""


RecordedDetails = Annotated[
    tuple[ModelDetails, ...],
    Meta(description="Every recorded model with its generations; present when a report was requested."),
]


def model_details(lock: Lock, live: Mapping[str, RemoteModel], capabilities: Capabilities) -> tuple[ModelDetails, ...]:
    """Return every recorded model with its generations, newest first, sorted by name.

    ``live`` has the live state by remote name and overrides the record; a loss curve is included if it was read.
    """
    return tuple(
        ModelDetails(
            name=name,
            manifest=model.manifest,
            serving=model.serving_key or "",
            generations=tuple(
                _details(known, live.get(known.remote), (lock, model, capabilities)) for known in model.generations
            ),
        )
        for name, model in sorted(lock.models.items())
    )


def _details(generation: LockedGeneration, live: RemoteModel | None, context: _Context) -> GenerationDetails:
    effective = generation.hyperparameters.effective or (live.hyperparameters if live else {})
    both = LockedHyperparameters(generation.hyperparameters.declared, effective)
    return live_generation(
        GenerationDetails,
        generation,
        live,
        context,
        source=generation.source.recorded,
        dataset=training_data(generation.dataset),
        hyperparameters=both if generation.hyperparameters.declared or effective else None,
        curve=curve(live.snapshots) if live else (),
    )


_G = TypeVar("_G", bound=LiveGeneration)
_Context = tuple[Lock, LockedModel, Capabilities]


def live_generation(
    kind: type[_G],
    generation: LockedGeneration,
    live: RemoteModel | None,
    context: _Context,
    **further: Any,
) -> _G:
    """Return a generation with its live state, or else the recorded one, and with the further fields of its kind."""
    lock, model, capabilities = context
    state = live.state if live else generation.state
    snapshots = live.snapshots if live and state is State.ACTIVE else ()
    return kind(
        key=generation.key,
        remote=generation.remote,
        state=state,
        create_time=generation.create_time or (live.create_time if live else ""),
        complete_time=generation.complete_time or (live.complete_time if live else ""),
        promote_time=generation.promote_time,
        checkpoint=generation.checkpoint,
        rejection=generation.rejection,
        stages=stage_uses(lock, model, generation.key),
        total_steps=generation.total_steps or (live.total_steps if live else None),
        final_loss=number(snapshots[-1].loss if snapshots else generation.final_loss),
        billing=billing_of(generation),
        error=(live.failure if live else None) or generation.failure,
        dropped_examples=generation.dropped_examples or (live.dropped_examples if live else None),
        experiment_url=capabilities.experiment_url(generation.experiment or (live.experiment if live else "")),
        checks=generation.checks,
        evaluations=generation.evaluations or (live.evaluations if live else ()),
        rejected=generation.key in model.rejected,
        phase=live.phase if live else generation.phase,
        progress=_live_progress(generation, live) if live else _recorded_progress(generation),
        **further,
    )


def training_data(dataset: Dataset) -> TrainingData:
    """Return the training data that a data set is."""
    return TrainingData(dataset.digest, dataset.path, dataset.examples, dataset.generation)


def curve(snapshots: Sequence[Snapshot]) -> tuple[tuple[float, float], ...]:
    """Return at most a hundred points (step, loss) of a loss curve, including the first and the last.

    Infinite and undefined losses are omitted, because they cannot be drawn.
    """
    points = [(snapshot.step, snapshot.loss) for snapshot in snapshots if math.isfinite(snapshot.loss)]
    if len(points) <= CURVE_POINTS:
        return tuple(points)
    stride = (len(points) - 1) / (CURVE_POINTS - 1)
    return tuple(points[round(at * stride)] for at in range(CURVE_POINTS))


_GRANTEES = ["user:ada@example.com", "group:nlp@example.com", "everyone", "project:123"]


class SharedGeneration(Record, frozen=True):
    """A generation whose permissions were read."""

    name: ManifestName
    key: Key
    remote: Remote
    serving: bool
    """Whether it is the serving generation."""


class AccessibleGeneration(SharedGeneration, frozen=True):
    """A generation, and a permission of the address."""

    role: Role
    """What the permission allows."""
    through: Annotated[NonEmpty, Meta(examples=_GRANTEES)]
    """The grantee of the permission."""


class AccessSummary(Record, frozen=True):
    """The access of one address."""

    address: NonEmpty
    """The email address."""
    asked: Count
    """The number of ready generations whose permissions the service returned."""
    models: tuple[AccessibleGeneration, ...]
    """What the address can access, each with its strongest permission."""
    perhaps: tuple[AccessibleGeneration, ...]
    """Further access if the address belongs to that group or project."""
    gone: tuple[SharedGeneration, ...]
    """Recorded generations that no longer exist at the service."""


class GenerationStatus(LiveGeneration, frozen=True, kw_only=True):
    """One generation of the manifest."""

    attempt: Attempt
    origin: Origin
    undeployed: bool = False
    """Whether no endpoint has its model; omitted if one has it, or if the service was not queried."""
    resources: Resources | None = None
    """The resources of the training."""


class ServingKey(Record, frozen=True):
    """The serving generation."""

    key: Key
    remote: Remote
    checkpoint: str = ""
    """The ID of its checkpoint; omitted for the default one."""


class ModelStatus(Record, frozen=True, kw_only=True):
    """One recorded model."""

    name: ManifestName
    manifest: ManifestPath
    serving: ServingKey | None = None
    """The serving generation; omitted if there is none."""
    protect: bool
    """Whether it is protected from deletion."""
    suspend: Suspension | None = None
    """The suspension that its manifest declared when it was last applied; omitted if it has ended."""
    in_progress: bool
    """Whether a generation is training."""
    orphaned: bool = False
    """Whether its manifest file is gone and no other manifest declares it; omitted if not."""
    generations: tuple[GenerationStatus, ...]
    """Its generations, newest first."""

    @property
    def shown(self) -> GenerationStatus | None:
        """The generation that represents the model: the serving one, or the newest if none is serving."""
        serving = self.serving.key if self.serving else ""
        matching = (generation for generation in self.generations if generation.key == serving)
        return next(matching, self.generations[0] if self.generations else None)

    @property
    def since(self) -> str:
        """Since when the shown generation is serving; otherwise when its training completed or was created."""
        shown = self.shown
        if shown is None:
            return ""
        served = shown.promote_time if self.serving else ""
        return served or shown.complete_time or shown.create_time or ""


class StatusReport(TargetReport, frozen=True, kw_only=True, tag="Status"):
    """The recorded and live state of every model: the output of `reconcile status --format json`."""

    lockfile: LockfilePath
    verified: bool
    """Whether the service was queried; otherwise the document contains what the lockfile records."""
    models: tuple[ModelStatus, ...]
    """Every recorded model, by name."""
    access: AccessSummary | None = None
    """The access of one address; only with `--access`."""
    model_details: RecordedDetails = ()


class AccessReport(Struct, frozen=True):
    """The access of an address to each generation; ``None`` for a generation that is missing."""

    address: str
    found: tuple[tuple[SharedGeneration, EffectiveAccess | None], ...]


def access_summary(reach: AccessReport) -> AccessSummary:
    """Return the part ``access`` of a Status report."""
    there = [(shared, reached) for shared, reached in reach.found if reached]
    return AccessSummary(
        address=reach.address,
        asked=len(there),
        models=tuple(_accessible(shared, reached.certain) for shared, reached in there if reached.certain),
        perhaps=tuple(_accessible(shared, held) for shared, reached in there for held in reached.perhaps),
        gone=tuple(shared for shared, reached in reach.found if reached is None),
    )


def _accessible(shared: SharedGeneration, held: Permission) -> AccessibleGeneration:
    return AccessibleGeneration(shared.name, shared.key, shared.remote, shared.serving, held.role, str(held.grantee))


def status_report(
    lock: Lock,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    live: Mapping[str, RemoteModel] | None = None,
    reach: AccessReport | None = None,
    root: str = "",
    model_details: tuple[ModelDetails, ...] = (),
    orphans: Collection[str] = (),
    now: datetime | None = None,
) -> StatusReport:
    """Return the report of every recorded model; ``orphans`` are those that no manifest declares.

    A suspension that has ended ``now`` is omitted.

    ``live`` has the live state by remote name and overrides the record; without it ``verified`` is false. ``reach`` is
    the access of an address, if it was requested.
    """
    return StatusReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        lockfile=lockfile,
        verified=live is not None,
        models=tuple(
            replace(
                _model(name, live or {}, (lock, model, capabilities), target),
                orphaned=name in orphans,
                suspend=None if model.suspend and now and model.suspend.has_ended(now) else model.suspend,
            )
            for name, model in sorted(lock.models.items())
        ),
        access=access_summary(reach) if reach else None,
        model_details=model_details,
    )


def _model(name: str, live: Mapping[str, RemoteModel], context: _Context, target: Target) -> ModelStatus:
    lock, model, _ = context
    generations = tuple(_generation(known, live.get(known.remote), context) for known in model.generations)
    if lock.target and lock.target.stages == tuple(stage.name for stage in target.stages):
        generations = tuple(
            replace(known, stages=tuple(_with_holds(known.stages, (name, model, known.key), target)))
            for known in generations
        )
    serving = model.serving_generation
    return ModelStatus(
        name=name,
        manifest=model.manifest,
        serving=ServingKey(serving.key, serving.remote, serving.checkpoint) if serving else None,
        protect=model.protect,
        in_progress=any(generation.state is State.CREATING for generation in generations),
        generations=generations,
    )


def _generation(generation: LockedGeneration, live: RemoteModel | None, context: _Context) -> GenerationStatus:
    _, model, _ = context
    checkpoints = {generation.checkpoint, *model.served_checkpoints(generation.key, generation.checkpoint)}
    resources = live.resources if live and live.resources != Resources() else generation.resources
    return live_generation(
        GenerationStatus,
        generation,
        live,
        context,
        attempt=generation.attempt,
        origin=generation.origin,
        undeployed=live is not None and not all(map(live.is_deployed, checkpoints)),
        resources=None if resources == Resources() else resources,
    )


def _live_progress(generation: LockedGeneration, live: RemoteModel) -> TrainingProgress | None:
    total = live.total_steps or generation.total_steps
    progress = counted_progress(live, total) if live.state is State.CREATING else None
    if progress is None:
        return None
    last = live.snapshots[-1] if live.snapshots else None
    return TrainingProgress(
        completed_steps=progress.done if progress.unit == "step" else None,
        total_steps=total,
        percent=progress.percent,
        epoch=last_epoch(live),
        epochs=epoch_count(live.hyperparameters),
        loss=number(last.loss) if last else None,
    )


def _recorded_progress(generation: LockedGeneration) -> TrainingProgress | None:
    done, hyperparameters = generation.completed_epochs, generation.hyperparameters
    if generation.state is not State.CREATING or done is None:
        return None
    epochs = epoch_count(hyperparameters.effective or hyperparameters.declared)
    percent = CountedProgress(done, epochs, "epoch").percent
    return TrainingProgress(total_steps=generation.total_steps, percent=percent, epoch=done, epochs=epochs)
