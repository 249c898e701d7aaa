"""The recorded state of one target as a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.document import (
    END,
    VERSION,
    Attempt,
    Count,
    Digest,
    Key,
    ManifestPath,
    Moment,
    NonEmpty,
    Record,
    TotalSteps,
    Version,
)
from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import (
    Dataset,
    DroppedExamples,
    Failure,
    Handle,
    Hyperparameters,
    Mark,
    Number,
    RemoteModel,
    Resources,
    Sampling,
    ServiceEvaluation,
    Source,
    State,
    Suspension,
    Target,
)
from reconciler.domain.money import Money

Name = Annotated[
    str,
    Meta(
        pattern=f"^{NAME_PATTERN}{END}",
        extra={"expected": "a name of up to 31 lowercase letters, digits and hyphens, which begins with a letter"},
    ),
]
Origin = Annotated[Literal["created", "adopted"], Meta(description="How it was added to the lockfile.")]
Serving = str | None
"""The key of the serving generation. Other modules use the properties of ``LockedModel``, which know the stages."""
StageName = Annotated[
    str,
    Meta(
        pattern=f"^{NAME_PATTERN}{END}",
        extra={"expected": "the name of a stage: up to 31 lowercase letters, digits and hyphens"},
    ),
]
_Hyperparameters = Annotated[Hyperparameters, Meta(examples=[{"batchSize": 2}])]
OWNER_FIELDS: Final = ("provider", "project", "location", "scope")
"""The fields of a target that determine which models a lockfile is about."""
MAX_LOCKFILE_BYTES: Final = 2**26
"""The largest lockfile or pointer: 10,000 models with four generations of 1.5 KB. A response is read up to it too."""
MAX_MODELS: Final = 20_000
"""The most models of a lockfile or pointer: twice as many as the benchmarks measure."""
MAX_GENERATIONS: Final = 1_000
"""The most recorded generations of a model; ``prune`` deletes superseded ones."""
MAX_STAGES: Final = 100
"""The most recorded stages of a model; those that the target no longer has are kept until they are forgotten."""
MAX_DECISIONS: Final = 1_000
"""The most decisions of a history; recording another one drops the oldest."""
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
"""A time before every other; replaces unknown times when sorting."""


class LockedTarget(Record, frozen=True):
    """The target of the lockfile."""

    name: NonEmpty
    """The target's name."""
    provider: NonEmpty
    """The provider, as in the target file."""
    scope: NonEmpty
    """The scope: the owner of the models, and part of every key."""
    project: str | None = None
    """The Google Cloud project."""
    location: str | None = None
    """The location of the service."""
    limits: Annotated[
        Mapping[str, Count | NonEmpty | None], Meta(examples=[{"maxCreates": 5, "maxCost": "50 USD"}])
    ] = field(default_factory=dict)
    """The values in `spec.limits` of the target that differ from the defaults."""
    stages: tuple[StageName, ...] = ()
    """The stages of the target in their order; omitted without stages."""

    @property
    def first_stage(self) -> str:
        """The name of the first stage, empty without stages."""
        return self.stages[0] if self.stages else ""


class LockedHyperparameters(Record, frozen=True):
    """The hyperparameters of a training, by API field name."""

    declared: _Hyperparameters = field(default_factory=dict)
    """The declared hyperparameters."""
    effective: Annotated[Hyperparameters, Meta(examples=[{"batchSize": 2, "epochCount": 3}])] = field(
        default_factory=dict
    )
    """The effective hyperparameters, as the service reports them."""


class LockedEstimate(Record, frozen=True, kw_only=True):
    """What was expected of a training when it started."""

    tokens: Count
    """The estimated tokens of the training examples."""
    epochs: Number | None = None
    """The epochs; omitted if unknown."""
    price: Money | None = None
    """The price of a million tokens; omitted if unknown."""


class LockedGeneration(Record, frozen=True, kw_only=True):
    """One generation of a manifest."""

    key: Key
    remote: str = ""
    """The remote name; omitted while the state is INTENDED."""
    spec: Digest
    """The digest of the canonical content."""
    attempt: Attempt
    origin: Origin
    state: State
    """The last recorded state."""
    source: Source
    """The base model or parent that it was tuned from."""
    hyperparameters: LockedHyperparameters = LockedHyperparameters()
    """The hyperparameters, by API field name."""
    dataset: Dataset
    """The training data."""
    preamble: str = field(default_factory=str)  # a plain default would be omitted
    """The text before every training input and every prompt."""
    operation: str | None = None
    """The long-running operation of the training."""
    total_steps: TotalSteps | None = None
    final_loss: Number | None = None
    """The mean loss of the last step."""
    create_time: str = ""
    """When it was created; RFC 3339, as the service wrote it."""
    complete_time: str = ""
    """When its training ended; RFC 3339, as the service wrote it."""
    failure: Failure | None = field(default=None, name="error")
    """Why the training failed."""
    resources: Resources = Resources()
    """The resources of the training; their names are the provider's."""
    phase: Annotated[str, Meta(examples=["WAITING_FOR_QUOTA"])] = ""
    """What the training did when it was last observed, if it was not training; omitted after its end."""
    completed_epochs: Count | None = None
    """The epochs that were completed when the training was last observed; omitted after its end."""
    estimate: LockedEstimate | None = None
    """What was expected when it started."""
    billable_tokens: Count | None = None
    """The tokens of the training examples that are billed, as the service counts them."""
    dropped_examples: DroppedExamples | None = None
    """The examples that the service dropped or truncated."""
    evaluations: tuple[ServiceEvaluation, ...] = ()
    """The evaluations by the service."""
    experiment: str = ""
    """The resource name of the experiment that has the metrics of the training."""
    provider_data: Annotated[Mapping[str, Any], Meta(examples=[{"jobId": "42"}])] = field(default_factory=dict)
    """What the provider records for itself; the package of the provider defines the fields."""
    checks: RecordedChecks | None = None
    """The result of the last run of the checks."""
    promote_time: str = ""
    """When it was last promoted; RFC 3339."""
    checkpoint: Annotated[str, Meta(examples=["2"])] = ""
    """The ID of the checkpoint that was promoted; omitted for the default one."""
    rejection: str = ""
    """The reason for the rollback."""

    @property
    def handle(self) -> Handle:
        """The handle of the model."""
        return Handle(self.remote, self.operation, self.provider_data)

    @property
    def address(self) -> str:
        """The name that takes prompts: the endpoint of the promoted checkpoint if there is one, else the model.

        Of a model that is not deployed, it is the folder of its weights.
        """
        return self.resources.endpoint_of(self.checkpoint) or self.resources.weights or self.remote

    def mark(self, scope: str, name: str) -> Mark:
        """Return the ownership mark of this generation for a manifest and a scope.

        The name in the mark is the one in the key: the manifest can have been renamed since.
        """
        made_as = self.key.rpartition("-")[0]
        return Mark(scope, made_as or name, self.spec, self.dataset.digest, self.attempt)

    @property
    def created_at(self) -> datetime:
        """The creation time, for sorting; an unknown time is the latest."""
        return parse_time(self.create_time) or datetime.max.replace(tzinfo=UTC)

    def is_same(self, live: RemoteModel) -> bool:
        """Whether a live model with this remote name is the recorded one: it has the same creation time."""
        return bool(self.create_time) and parse_time(live.create_time) == parse_time(self.create_time)


def parse_time(text: str) -> datetime | None:
    """Parse an RFC 3339 time of a service (0 to 9 fraction digits), to microseconds; ``None`` if it is empty."""
    return datetime.fromisoformat(text) if text else None


def format_time(moment: datetime) -> str:
    """Format a time in UTC as RFC 3339 in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class LockedStage(Record, frozen=True, kw_only=True):
    """A model in a stage after the first one; the fields of the model itself are those of the first stage."""

    serving: Serving = None
    """The key of the generation that serves in this stage."""
    previous: str | None = None
    """The key of the generation that served in this stage before."""
    checkpoint: Annotated[str, Meta(examples=["2"])] = ""
    """The ID of the checkpoint that serves in this stage; omitted for the default one."""
    promote_time: str = ""
    """When the serving generation was promoted to this stage; RFC 3339."""
    sampling: Sampling | None = None
    """The sampling parameters, which were promoted with the generation."""
    requested: str | None = None
    """The key of the generation whose promotion to this stage is requested; omitted after the promotion."""
    rejected: tuple[NonEmpty, ...] = ()
    """The keys of the generations that must not be promoted to this stage, nor to the stages after it."""
    published: str | None = None
    """The key that was last written to the published pointer of this stage."""
    fields: Digest | None = None
    """The digest of the fields that all stages share at the service, as they were approved for this stage."""


class LockedModel(Record, frozen=True):
    """The recorded model of one manifest."""

    manifest: ManifestPath
    serving: Serving = None
    """The key of the serving generation."""
    rejected: tuple[NonEmpty, ...] = ()
    """The keys of the rejected generations, which must not be promoted."""
    protect: bool = False
    """Whether deletion is blocked, even if no manifest declares the protection any longer; omitted if not."""
    published: str | None = None
    """The key that was last written to the published pointer."""
    labels: Mapping[str, str] = {}
    """The labels of the manifest."""
    sampling: Sampling | None = None
    """The sampling parameters that the manifest declares."""
    suspend: Suspension | None = None
    """The suspension that the manifest declares."""
    applied: Mapping[str, str] = {}
    """A digest of each declared field that can be changed at the service, by its name below `spec`, when the live model
    last had all of them; for display only."""
    generations: tuple[LockedGeneration, ...] = ()
    """Its generations, newest first."""
    stages: Mapping[StageName, LockedStage] = {}
    """The model in the stages after the first one, by their names."""

    def stage(self, name: str) -> LockedStage:
        """Return the model in a stage after the first one; an empty record if nothing is recorded."""
        return self.stages.get(name) or LockedStage()

    def with_stage(self, name: str, stage: LockedStage) -> LockedModel:
        """Return the model with this record of a stage after the first one; an empty record is removed."""
        others = {other: record for other, record in self.stages.items() if other != name}
        return replace(self, stages={**others, name: stage} if stage != LockedStage() else others)

    def in_stage(self, name: str) -> LockedModel:
        """Return the model as it is in a stage, as if that were the only one; the first one has no name here."""
        if not name:
            return self
        record = self.stage(name)
        seen = replace(
            self,
            serving=record.serving,
            rejected=record.rejected,
            published=record.published,
            sampling=record.sampling,
            stages={},
        )
        serving = seen.serving_generation
        if serving is None:
            return seen
        return seen.with_generation(replace(serving, checkpoint=record.checkpoint, promote_time=record.promote_time))

    @property
    def barred_keys(self) -> frozenset[str]:
        """The keys of the generations that are rejected in any stage."""
        return frozenset((*self.rejected, *(key for stage in self.stages.values() for key in stage.rejected)))

    @property
    def published_keys(self) -> frozenset[str]:
        """The keys that were last written to the published pointers of all stages."""
        keys = (self.published, *(stage.published for stage in self.stages.values()))
        return frozenset(key for key in keys if key)

    def record_of(self, stage: str) -> LockedStage:
        """Return what is recorded of a stage; the first one has no name here."""
        if stage:
            return self.stage(stage)
        serving = self.serving_generation
        return LockedStage(
            serving=self.serving,
            checkpoint=serving.checkpoint if serving else "",
            promote_time=serving.promote_time if serving else "",
            sampling=self.sampling,
            rejected=self.rejected,
            published=self.published,
        )

    def with_first(self, record: LockedStage) -> LockedModel:
        """Return the model with this record as that of the first stage."""
        model = replace(self, serving=record.serving, rejected=record.rejected, published=record.published)
        serving = model.serving_generation
        if serving is None:
            return model
        return model.with_generation(replace(serving, checkpoint=record.checkpoint, promote_time=record.promote_time))

    @property
    def serving_by_stage(self) -> dict[str, str]:
        """The keys of the serving generations by stage; that of the first stage, or without stages, has no name."""
        first = {"": self.serving} if self.serving else {}
        return first | {name: stage.serving for name, stage in self.stages.items() if stage.serving}

    @property
    def served_keys(self) -> frozenset[str]:
        """The keys of the generations that serve in any stage."""
        return frozenset(self.serving_by_stage.values())

    @property
    def kept_keys(self) -> frozenset[str]:
        """The keys that serve in any stage, served there before, or are requested to: none of them is superseded."""
        later = (key for stage in self.stages.values() for key in (stage.serving, stage.previous, stage.requested))
        return frozenset(key for key in (self.serving, *later) if key)

    def stages_serving(self, key: str | None) -> tuple[str, ...]:
        """Return the stages in which the generation with that key serves, sorted; the first one has no name."""
        return tuple(sorted(name for name, served in self.serving_by_stage.items() if served == key))

    def served_checkpoints(self, key: str, checkpoint: str) -> tuple[str, ...]:
        """Return the IDs of the checkpoints with which a generation serves in the stages; empty for the default one.

        ``checkpoint`` is that of the generation, which is the one of the first stage.
        """
        first = [checkpoint] if self.serves(key) else []
        later = [stage.checkpoint for stage in self.stages.values() if stage.serving == key]
        return tuple(dict.fromkeys((*first, *later)))

    @property
    def serving_key(self) -> str | None:
        """The key of the serving generation, or ``None``."""
        return self.serving

    @property
    def serving_generation(self) -> LockedGeneration | None:
        """The record of the serving generation, or ``None`` if there is none."""
        return self.generation(self.serving)

    def serves(self, key: str | None) -> bool:
        """Whether the generation with that key is serving."""
        return key is not None and self.serving == key

    def with_serving(self, key: str) -> LockedModel:
        """Return the model with that generation as the serving one."""
        return replace(self, serving=key)

    def without_serving(self, key: str) -> LockedModel:
        """Return the model with no serving generation if the one with that key was; else the model unchanged."""
        return replace(self, serving=None) if self.serves(key) else self

    @property
    def by_key(self) -> dict[str, LockedGeneration]:
        """The recorded generations by key, for many look-ups; of several with one key the first."""
        return {generation.key: generation for generation in reversed(self.generations)}

    def generation(self, key: str | None) -> LockedGeneration | None:
        """Return the recorded generation with that key, or ``None``."""
        return next((generation for generation in self.generations if generation.key == key), None)

    def without_generation(self, key: str) -> LockedModel:
        """Return the model without the generation with that key."""
        return replace(self, generations=tuple(generation for generation in self.generations if generation.key != key))

    def with_generation(self, generation: LockedGeneration) -> LockedModel:
        """Return the model with this generation, which replaces the one with its key or is added, newest first.

        A generation without a creation time is the newest.
        """
        if self.generation(generation.key):
            kept = (generation if known.key == generation.key else known for known in self.generations)
            return replace(self, generations=tuple(kept))
        newest_first = sorted((generation, *self.generations), key=lambda known: known.created_at, reverse=True)
        return replace(self, generations=tuple(newest_first))


DecidedAction = Literal[
    "request", "promote", "rollback", "adopt", "forget", "refresh", "prune", "destroy", "unprotect", "cancel", "claim"
]
"""What people decide."""


def _text(most: int) -> Meta:
    return Meta(max_length=most, extra={"expected": f"a text of at most {most} characters"})


class Decision(Record, frozen=True, kw_only=True):
    """A decision of a person. It is for display only: nothing depends on it."""

    time: Moment
    """When it was made; in UTC, in whole seconds."""
    action: DecidedAction
    """What was decided."""
    model: Annotated[str, _text(31)] = ""
    """The model, by metadata.name; omitted if it is about the whole lockfile."""
    generation: Annotated[str, _text(200)] = ""
    """The key of the generation; for a rollback of the one that is promoted again."""
    before: Annotated[str, _text(200)] = ""
    """The key of the generation that was serving before."""
    stage: Annotated[str, _text(63)] = ""
    """The stage; omitted without stages."""
    actor: Annotated[str, _text(200)] = ""
    """Who decided: the actor of the CI job, or else the user."""
    commit: Annotated[str, _text(64)] = ""
    """The commit that the command ran at."""
    reason: Annotated[str, _text(500)] = ""
    """Why, as the person stated it."""


def _no_models() -> dict[str, LockedModel]:
    return {}  # the factory `dict` would omit an empty map


class Lock(Record, frozen=True):
    """The recorded state of one target.

    Commit it with the manifests. It records provenance; every run observes the service before it acts.
    """

    target: LockedTarget | None = field(default_factory=lambda: None)  # a plain default would be omitted
    """The target of the lockfile; empty until something is recorded."""
    models: Mapping[Name, LockedModel] = field(default_factory=_no_models)
    """The recorded models, by metadata.name."""
    history: tuple[Decision, ...] = ()
    """What people decided, the last decision first; older decisions than the last 1,000 are dropped."""
    version: Version = field(default_factory=lambda: VERSION)
    """The version of this format."""

    def in_stage(self, name: str) -> Lock:
        """Return the lock as it is in a stage, as if that were the only one; a name is needed after the first one.

        To be read only: a run that records events needs the whole lock.
        """
        if not name or (self.target and name == self.target.first_stage):
            return self
        return replace(self, models={model: record.in_stage(name) for model, record in self.models.items()})


def require_stages(lock: Lock, target: Target, file: str) -> None:
    """Refuse a target without stages if its lockfile records stages after the first one.

    Raises:
        ReconcileError: naming the stages; which of their generations would serve is not known.
    """
    recorded = sorted({stage for model in lock.models.values() for stage in model.stages})
    if target.stages or not recorded or lock.target is None:
        return
    first = lock.target.first_stage or "NAME"
    raise ReconcileError(
        f"{file} records the stages {', '.join(recorded)}, and {target.file} declares none",
        f"set spec.stages to [{{name: {first}}}], run"
        f" {' and '.join(f'reconcile forget --stage {stage}' for stage in recorded)}, and then remove spec.stages",
    )


def require_size(data: bytes, shown: str) -> None:
    """Refuse a new lockfile or pointer that could not be read again; ``shown`` is its name in messages.

    Raises:
        ReconcileError: it is larger than :data:`MAX_LOCKFILE_BYTES`.
    """
    if len(data) > MAX_LOCKFILE_BYTES:
        raise ReconcileError(
            f"{shown}: not saved, because the new content has {len(data)} bytes, and the limit is {MAX_LOCKFILE_BYTES}",
            "move manifests to another target, or review superseded generations with reconcile prune --dry-run",
        )


def record_target(target: Target) -> LockedTarget:
    """Return the record of a target."""
    limits, defaults = limits_by_name(target), limits_by_name(replace(target, limits=type(target.limits)()))
    return LockedTarget(
        name=target.name,
        provider=target.provider,
        scope=target.scope,
        project=target.project,
        location=target.location,
        limits={name: value for name, value in limits.items() if value != defaults[name]},
        stages=tuple(stage.name for stage in target.stages),
    )


def limits_by_name(target: Target) -> dict[str, int | str | None]:
    """Return the limits of a target by their wire names; a limit that is not set is ``None``."""
    limits = target.limits
    return {
        "maxCreates": limits.max_creates,
        "maxSteps": limits.max_steps,
        "maxCost": None if limits.max_cost is None else str(limits.max_cost),
        "maxDeletePercent": limits.max_delete_percent,
        "maxDeletes": limits.max_deletes,
        "concurrency": limits.concurrency,
        "requestsPerMinute": limits.requests_per_minute,
    }


def check_owner(lock: Lock, target: Target, file: str) -> None:
    """Refuse a lockfile of another provider, project, location or scope.

    Raises:
        ReconcileError: naming the first field that differs.
    """
    for name, recorded, wanted in _differences(lock, target):
        raise ReconcileError(
            f"{file} belongs to another {name}: it records {_shown(recorded)}, {target.file} has {_shown(wanted)}",
            f"restore the old {name}, or describe the new one in a target file with another name, which gets its own"
            " lockfile",
        )


def check_same_owner(lock: Lock, own: Lock, file: str) -> None:
    """Refuse a lockfile that another run has saved for another provider, project, location or scope.

    Raises:
        ReconcileError: naming the first field that differs.
    """
    if own.target is None:
        return
    for name, saved, expected in _differences(lock, own.target):
        raise ReconcileError(
            f"{file} was overwritten by a run with another {name}: it records {_shown(saved)}, not {_shown(expected)}",
            "give each target its own lockfile",
        )


def _differences(lock: Lock, target: Target | LockedTarget) -> Iterator[tuple[str, str | None, str | None]]:
    if lock.target:
        for name in OWNER_FIELDS:
            recorded, wanted = getattr(lock.target, name), getattr(target, name)
            if recorded != wanted:
                yield name, recorded, wanted


def _shown(value: str | None) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
