"""The values of manifests, targets, live models and requests: frozen, without IO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr, replace

from reconciler.domain.access import Grant
from reconciler.domain.checks import Check, Judge
from reconciler.domain.document import Count, Digest, Moment, NonEmpty, Position, Record, TableEnum
from reconciler.domain.errors import Place, Severity
from reconciler.domain.money import Money

Number = int | float
HyperparameterValue = Number | str
Hyperparameters = Mapping[str, HyperparameterValue]
"""Hyperparameters under their wire names, such as epochCount, batchSize, learningRate, adapterSize and rank."""

API_GROUP = "tuning.reconcile"
API_VERSION = "tuning.reconcile/v1alpha1"


class State(StrEnum):
    """The state of a generation, as the lockfile spells it."""

    INTENDED = "INTENDED"
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    MISSING = "MISSING"
    DELETING = "DELETING"
    DELETED = "DELETED"


class Source(Record, frozen=True):
    """The model that a generation is tuned from: a base model, or an already tuned model."""

    base_model: Annotated[str, Meta(examples=["models/gemini-3.5-flash", "gemini-3.5-flash"])] = ""
    """The base model in the full form of the service."""
    tuned_model: str = ""
    """The name of the parent's manifest."""
    key: str = field(name="generation", default="")
    """The key of the parent generation."""
    remote: str = ""
    """The remote name of a tuned model without a manifest."""
    checkpoint: Annotated[str, Meta(examples=["2"])] = ""
    """The ID of the checkpoint of the tuned model; omitted for its default checkpoint."""

    @property
    def identity(self) -> str:
        """The source as part of a generation's content."""
        model = self.base_model or self.key or self.remote
        return f"{model}#{self.checkpoint}" if model and self.checkpoint else model

    def is_same(self, other: Source) -> bool:
        """Whether ``other`` is this model; services return the remote name of a parent, and no key.

        Without a checkpoint, every checkpoint of the other one is the same: services return the one that they chose.
        """
        if self.checkpoint and self.checkpoint != other.checkpoint:
            return False
        if self.base_model or other.base_model:
            return self.base_model == other.base_model
        if self.key and other.key:
            return self.key == other.key
        return bool(self.remote) and self.remote == other.remote

    @property
    def recorded(self) -> Source:
        """The source as lockfiles and documents have it: a parent with a manifest is named by its key alone."""
        return replace(self, remote="") if self.tuned_model else self


class Example(Struct, frozen=True):
    """One training example; the preamble is already part of its input."""

    input: str
    output: str


class Conversation(Struct, frozen=True):
    """One training example in Vertex AI's own form: ``line`` is its JSON object in RFC 8785 canonical form."""

    line: str


TrainingExample = Example | Conversation
Method = Literal["supervised", "preference"]
"""How a model is trained."""

REMOTE_SCHEME = "gs://"
HUB_SCHEME = "hf://"
UNKNOWN_DATA = "sha256:74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
"""The digest of unknown data: that of the JSON ``null``, which no data set has."""


class Dataset(Record, frozen=True):
    """A data set that was read and validated, or that is in Cloud Storage."""

    digest: Digest
    """The digest of the examples, or of the address and version of an object in Cloud Storage."""
    path: str = ""
    """The path relative to the root, or a gs:// address; omitted for inline examples."""
    examples: Count = 0
    """The number of examples; omitted if unknown."""
    generation: Annotated[str, Meta(examples=["1760000000000000"])] = ""
    """The generation of an object in Cloud Storage."""
    checksum: str = ""
    """The checksum of an object in Cloud Storage, in the service's encoding."""
    size: Count = field(default=0, name="bytes")
    """The size of an object in Cloud Storage."""
    pairs: bool = False
    """Whether the examples are pairs of a chosen and a rejected answer, for the method `preference`."""
    claimed: bool = False
    """Whether the data set is a claim: declared after the training, and not verified."""
    unknown: bool = False
    """Whether the examples are unavailable; the digest identifies them."""

    def __post_init__(self) -> None:
        """Set ``unknown``, which follows from the digest. An object that was not read has no digest."""
        force_setattr(self, "unknown", self.digest == UNKNOWN_DATA)

    @property
    def is_remote(self) -> bool:
        """Whether it is in Cloud Storage."""
        return self.path.startswith(REMOTE_SCHEME)

    @property
    def method(self) -> Method:
        """The method of a training with these examples."""
        return "preference" if self.pairs else "supervised"


class Sampling(Record, frozen=True):
    """The sampling parameters; an omitted one is the default of the model or the service."""

    temperature: Number | None = None
    """The randomness of the answers; 0 selects the most likely one."""
    top_p: Number | None = None
    """Sample from the most likely tokens whose probabilities sum to this value."""
    top_k: Annotated[int, Meta(ge=1)] | None = None
    """Sample from this number of the most likely tokens."""


class Suspension(Record, frozen=True):
    """Nothing is changed for a model, until a time and for a reason if they are declared."""

    until: Moment = ""
    """When the suspension ends; omitted if it has no end."""
    reason: str = ""
    """Why the model is suspended."""

    def has_ended(self, now: datetime) -> bool:
        """Whether the model is reconciled again."""
        return bool(self.until) and datetime.fromisoformat(self.until) <= now

    def __str__(self) -> str:
        until = f" until {self.until.removesuffix('T00:00:00Z')}" if self.until else ""
        return until + (f" ({self.reason})" if self.reason else "")


class Lifecycle(Struct, frozen=True):
    """The rules for a model, and ``timeout``, the longest time from the start of its training."""

    protect: bool = False
    suspend: Suspension | None = None
    retain: int = 2
    timeout: timedelta | None = None
    on_failed_checks: Literal["hold", "serve"] = "hold"

    def suspension(self, now: datetime) -> Suspension | None:
        """Return the suspension, unless it has ended."""
        return None if self.suspend is None or self.suspend.has_ended(now) else self.suspend


class FieldPlace(Struct, frozen=True):
    """Where a field of a manifest is declared: its place, and its dotted path."""

    place: Place
    path: str


class Manifest(Struct, frozen=True):
    """One valid TunedModel document. ``None`` means undeclared: the service chooses.

    ``file`` is the manifest's path relative to the root (``-`` for standard input), ``place`` the position of its name,
    with the path as the user wrote it. ``access`` is ``None`` if it is not declared: then permissions are not read.
    ``formerly`` are previous names, whose generations belong to this manifest, and ``adopted`` is the remote name of
    the model that it adopts. The provider's own block has already
    replaced the common fields. ``validation`` and ``last_checkpoint_only`` (keep only the last checkpoint) apply to the
    next training and are not part of a generation's content. ``serve`` is the checkpoint that serves: an ID, ``best``,
    ``last``, or empty for the default one. ``dataset_error`` and ``validation_error`` are the
    reasons why data sets in Cloud Storage have no current version. ``training_bytes`` and ``validation_bytes`` are
    the sizes of the examples of local data sets, and ``longest_example`` is that of the longest one in bytes.
    ``training_tokens`` is the estimated number of tokens that an epoch trains on; ``None`` if it is unknown.
    ``settings`` are the other fields of the provider's block, which go into the request of the next training.
    ``field_places`` has the places of the effective ``baseModel``, ``dataset``, ``validationDataset`` and
    hyperparameters, if they are declared.
    """

    name: str
    file: str
    place: Place
    source: Source
    dataset: Dataset
    hyperparameters: Hyperparameters = {}
    labels: Mapping[str, str] = {}
    display_name: str | None = None
    description: str | None = None
    preamble: str = ""
    sampling: Sampling = Sampling()
    checks: tuple[Check, ...] = ()
    access: tuple[Grant, ...] | None = None
    lifecycle: Lifecycle = Lifecycle()
    ignore_drift: frozenset[str] = frozenset()
    validation: Dataset | None = None
    last_checkpoint_only: bool | None = None
    serve: str = ""
    formerly: tuple[str, ...] = ()
    adopted: str = ""
    dataset_error: str = ""
    validation_error: str = ""
    training_bytes: int = 0
    longest_example: int = 0
    training_tokens: int | None = None
    validation_bytes: int = 0
    field_places: Mapping[str, FieldPlace] = {}
    settings: Mapping[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The name and all previous names."""
        return self.name, *self.formerly

    @property
    def method(self) -> Method:
        """How the model is trained; the data set has the examples for it."""
        return self.dataset.method

    def in_stage(self, stage: Stage | None) -> Manifest:
        """Return the manifest with the checks of a stage after its own, in place of those of another stage.

        A check of the stage whose name is taken gets that of the stage too.
        """
        if stage is None:
            return self
        checks = {check.name: check for check in self.checks if not check.stage}
        for declared in stage.checks:
            name = declared.name
            while name in checks:
                name = f"{stage.name}: {name}"
            checks[name] = replace(declared, name=name, stage=stage.name)
        return replace(self, checks=tuple(checks.values()))


class FieldRole(TableEnum):
    """What a change of a manifest field does to the models; a row has the name and the effect."""

    effect: str

    IDENTITY = "identity", "a new generation is trained beside the serving one"
    MUTABLE = "mutable", "the model is updated in place"
    ACCESS = "access", "permissions are created, changed and revoked"
    NEXT_TRAINING = "next training", "nothing; the next training uses it"
    POLICY = "policy", "nothing at the service; the next run follows it"


class ManifestField(Struct, frozen=True):
    """A field of a manifest: its path, its role, and the attribute of :class:`Manifest` that has its value.

    Mutable fields have the same attribute in :class:`RemoteModel`, :class:`CreateRequest` and :class:`Update`; a dotted
    one is an attribute of a group such as ``sampling``. ``effect`` replaces that of the role.
    """

    path: str
    role: FieldRole
    attribute: str = ""
    effect: str = ""
    is_integer: bool = False

    @property
    def name(self) -> str:
        """The path below ``spec``, as ``ignoreDrift`` and field changes spell it."""
        return self.path.removeprefix("spec.")

    @property
    def group(self) -> str:
        """The first part of the name, as in :attr:`Capabilities.mutable`."""
        return self.name.partition(".")[0]

    def value(self, record: Manifest | RemoteModel) -> Any:
        """Return the value of the field in a manifest or a live model."""
        return attrgetter(self.attribute)(record)


FIELDS = (
    ManifestField("metadata.name", FieldRole.IDENTITY, "name", "a new model is trained; the old one becomes an orphan"),
    ManifestField("metadata.formerly", FieldRole.POLICY, "formerly", "the model keeps the records of its former names"),
    ManifestField("metadata.labels", FieldRole.POLICY, "labels"),
    ManifestField("metadata.annotations", FieldRole.POLICY),
    ManifestField("spec.baseModel", FieldRole.IDENTITY, "source"),
    ManifestField("spec.source", FieldRole.IDENTITY, "source"),
    ManifestField("spec.method", FieldRole.IDENTITY, "dataset"),
    ManifestField("spec.dataset", FieldRole.IDENTITY, "dataset"),
    ManifestField("spec.hyperparameters", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.local.baseModel", FieldRole.IDENTITY, "source"),
    ManifestField("spec.local.hyperparameters", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.local.validationDataset", FieldRole.NEXT_TRAINING, "validation"),
    ManifestField("spec.vertex.baseModel", FieldRole.IDENTITY, "source"),
    ManifestField("spec.vertex.hyperparameters", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.vertex.tuningMode", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.vertex.customBaseModel", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.vertex.outputUri", FieldRole.NEXT_TRAINING, "settings"),
    ManifestField("spec.vertex.evaluationConfig", FieldRole.NEXT_TRAINING, "settings"),
    ManifestField("spec.vertex.validationDataset", FieldRole.NEXT_TRAINING, "validation"),
    ManifestField("spec.vertex.exportLastCheckpointOnly", FieldRole.NEXT_TRAINING, "last_checkpoint_only"),
    ManifestField("spec.displayName", FieldRole.MUTABLE, "display_name"),
    ManifestField("spec.description", FieldRole.MUTABLE, "description"),
    ManifestField("spec.sampling.temperature", FieldRole.MUTABLE, "sampling.temperature"),
    ManifestField("spec.sampling.topP", FieldRole.MUTABLE, "sampling.top_p"),
    ManifestField("spec.sampling.topK", FieldRole.MUTABLE, "sampling.top_k", is_integer=True),
    ManifestField("spec.adopted", FieldRole.POLICY, "adopted", "the record of the adopted model counts"),
    ManifestField("spec.serve", FieldRole.POLICY, "serve", "the checks run again, and another checkpoint serves"),
    ManifestField("spec.access", FieldRole.ACCESS, "access"),
    ManifestField("spec.checks", FieldRole.POLICY, "checks", "the checks run again; nothing is trained"),
    ManifestField("spec.lifecycle", FieldRole.POLICY, "lifecycle"),
    ManifestField("spec.ignoreDrift", FieldRole.POLICY, "ignore_drift"),
)
"""The table of manifest fields. Identity, drift, patches and docs/manifests.md follow from it."""
MUTABLE_FIELDS = tuple(declared for declared in FIELDS if declared.role is FieldRole.MUTABLE)
_RecordT = TypeVar("_RecordT", "Manifest", "Update", "Sampling")


def with_value(record: _RecordT, attribute: str, value: Any) -> _RecordT:
    """Return the record with this value of an attribute, which may be dotted."""
    name, _, nested = attribute.partition(".")
    return replace(record, **{name: with_value(getattr(record, name), nested, value) if nested else value})


class Limits(Struct, frozen=True):
    """The limits of one run; a run may delete ``max_deletes`` models, or ``max_delete_percent`` of the managed ones.

    With ``max_cost`` no training of unknown cost is started.
    """

    max_creates: int = 20
    max_steps: int = 100_000
    max_cost: Money | None = None
    max_delete_percent: int = 30
    max_deletes: int = 3
    concurrency: int = 5
    requests_per_minute: int = 300


class Stage(Struct, frozen=True):
    """One stage of a target: a pointer to a generation of each model.

    A generation is promoted to it from the stage ``after``, which is empty for the first stage, once it was published
    there for ``soak`` and has passed ``checks``. ``publish`` is where the pointer of the stage is written.
    """

    name: str
    after: str = ""
    soak: timedelta | None = None
    checks: tuple[Check, ...] = ()
    publish: str = ""


class Target(Struct, frozen=True):
    """One Target document: where the models are, and what may be done there.

    ``file`` is the target file's path as shown to the user. ``serving_location`` is where models are deployed if it is
    not empty. ``endpoint`` and ``storage_endpoint`` replace the provider's own addresses unless empty. ``bucket`` is
    where data sets are uploaded, as ``gs://bucket`` or ``gs://bucket/prefix``; ``lock`` is the ``gs://`` address of a
    lockfile in a bucket. ``publish`` is where the published pointer is written: a file's path from the root, or a
    ``gs://`` address. ``models`` is the path of a file that is added to the provider's catalog of base models.
    ``public_access`` allows models that are shared with everyone; without ``show_examples``, examples, prompts and
    answers are kept out of documents, texts and the lockfile. ``judge`` evaluates answers by rubrics. ``settings``
    are the values of the block that has the provider's name, as its ``ProviderSpec.settings`` describes them.
    ``stages`` are in their declared order, each after the stage that it follows; then ``publish`` is empty.
    """

    name: str
    file: str
    provider: str
    scope: str
    project: str | None = None
    location: str | None = None
    serving_location: str = ""
    api_version: str = "v1beta3"
    endpoint: str = ""
    storage_endpoint: str = ""
    bucket: str = ""
    lock: str = ""
    publish: str = ""
    models: str = ""
    public_access: bool = True
    show_examples: bool = True
    limits: Limits = Limits()
    judge: Judge | None = None
    settings: Mapping[str, Any] = {}
    stages: tuple[Stage, ...] = ()

    @property
    def first_stage(self) -> str:
        """The name of the first stage, empty without stages."""
        return self.stages[0].name if self.stages else ""

    @property
    def later_stages(self) -> tuple[Stage, ...]:
        """The stages after the first one."""
        return self.stages[1:]

    def stage(self, name: str) -> Stage | None:
        """Return the declared stage with that name, or ``None``."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def stages_before(self, name: str) -> tuple[Stage, ...]:
        """Return the stages that a generation has passed before it gets to the one with that name, nearest first."""
        before, stage = [], self.stage(name)
        while stage and (stage := self.stage(stage.after)):
            before.append(stage)
        return tuple(before)

    def stages_after(self, name: str) -> tuple[Stage, ...]:
        """Return the stages that a generation gets to from the one with that name, directly or through others."""
        return tuple(
            stage for stage in self.stages if any(before.name == name for before in self.stages_before(stage.name))
        )

    @property
    def publishes(self) -> bool:
        """Whether the target has a published pointer."""
        return bool(self.publish) or any(stage.publish for stage in self.stages)

    def destination(self, stage: str = "") -> str:
        """Return where the pointer of a stage is written, empty for nowhere; the default is the first stage."""
        found = self.stage(stage or self.first_stage)
        return found.publish if found else self.publish


class Mark(Struct, frozen=True):
    """The ownership mark of a managed model. ``spec`` and ``data`` are ``sha256:`` digests."""

    scope: str
    name: str
    spec: str
    data: str
    attempt: int = 0


class Snapshot(Struct, frozen=True):
    """One point of a loss curve."""

    step: int
    epoch: int
    loss: float


CANCELLED_CODE = 1
"""The google.rpc code of a canceled operation."""


class Failure(Record, frozen=True):
    """Why a training failed."""

    code: int
    """The google.rpc code."""
    message: str
    """The service's own message."""


BEST: Final = "best"
"""The value of ``spec.serve.checkpoint`` for the checkpoint with the best results of the checks."""
LAST: Final = "last"
"""The value of ``spec.serve.checkpoint`` for the checkpoint with the most steps."""
MOST_CHECKPOINTS: Final = 10
"""The number of checkpoints that a training on Vertex AI keeps at most."""


class Checkpoint(Record, frozen=True):
    """A model at one point of its training."""

    id: NonEmpty = field(name="checkpointId")
    """The ID."""
    epoch: Count
    """The epoch."""
    step: Count
    """The step."""
    endpoint: str = ""
    """The endpoint; omitted if it is not deployed."""


class Resources(Record, frozen=True):
    """The resources of a training besides the model's own record, under full resource names."""

    job: str = ""
    """The tuning job."""
    model: str = ""
    """The model with its version, such as `projects/…/models/1@1`."""
    endpoint: str = ""
    """The endpoint, which answers prompts."""
    location: str = ""
    """The location."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """The available checkpoints."""
    weights: Annotated[str, Meta(examples=["gs://acme-models/support/support-3kq7w2ma"])] = ""
    """The folder in Cloud Storage with the weights of an open model."""

    def named(self, serve: str) -> str:
        """Return the ID of the checkpoint that ``spec.serve`` names, empty for the default one and for the best one."""
        if serve != LAST:
            return "" if serve == BEST else serve
        last = max(enumerate(self.checkpoints), key=lambda known: (known[1].step, known[0]), default=None)
        return last[1].id if last else ""

    def checkpoint(self, identifier: str) -> Checkpoint | None:
        """Return the checkpoint with that ID, or for an empty one the default: that of the model's own endpoint."""
        by_id = {known.id: known for known in self.checkpoints}
        by_endpoint = {known.endpoint: known for known in self.checkpoints if known.endpoint}
        return by_id.get(identifier) if identifier else by_endpoint.get(self.endpoint)

    def endpoint_of(self, checkpoint: str) -> str:
        """Return the endpoint of a checkpoint, of the default one if the ID is empty; empty if there is none."""
        if not checkpoint:
            return self.endpoint
        found = self.checkpoint(checkpoint)
        return found.endpoint if found else ""


class EvaluatedMetric(Record, frozen=True):
    """One metric of an evaluation by the service."""

    metric: Annotated[str, Meta(min_length=1, examples=["rouge"])]
    """The metric, as the service names its result."""
    score: Number
    """The score."""
    aggregation: Annotated[str, Meta(examples=["AVERAGE"])] = ""
    """How the scores of the examples are aggregated, in the service's spelling."""


class ServiceEvaluation(Record, frozen=True):
    """An evaluation of a tuned model by the service; it decides nothing here, unlike checks."""

    checkpoint: Annotated[str, Meta(examples=["3"])] = field(name="checkpointId", default="")
    """The ID of the evaluated checkpoint; omitted if the service does not report one."""
    run: str = ""
    """The resource name of the evaluation."""
    metrics: tuple[EvaluatedMetric, ...] = ()
    """The scores."""
    output: str = ""
    """The folder in Cloud Storage with its results."""
    error: str = ""
    """Why it failed."""


class DroppedExample(Record, frozen=True):
    """A training example that the service dropped or truncated."""

    example: Position
    """Its number in the data set, counted from 1."""
    reason: str = ""
    """The service's reason."""
    place: str = ""
    """Where it is, as `FILE:LINE`; omitted if unknown."""


class DroppedExamples(Record, frozen=True):
    """The training examples that the service dropped or truncated."""

    count: Count
    """The number of these examples."""
    sample: tuple[DroppedExample, ...] = ()
    """Some of them, as the service lists them."""

    def is_same(self, other: DroppedExamples | None) -> bool:
        """Whether both name the same examples; places and hidden reasons do not matter."""
        return other is not None and (self.count, self.numbers) == (other.count, other.numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the named examples."""
        return tuple(dropped.example for dropped in self.sample)


PHASES: Mapping[str, str] = MappingProxyType(
    {
        "WAITING_FOR_QUOTA": "waiting for quota",
        "PROCESSING_DATASET": "processing data",
        "WAITING_FOR_CAPACITY": "waiting for capacity",
        "POST_PROCESSING": "post-processing",
    }
)
"""The phases of a training that services share, with their words; they are recorded. Without one, it is training."""
WAITING_PHASES = frozenset({"WAITING_FOR_QUOTA", "WAITING_FOR_CAPACITY"})
"""The phases in which nothing happens until the service has room."""


class Edit(Struct, frozen=True):
    """What was changed in the files of a model after its training, and what to do."""

    message: str
    remedy: str


class RemoteModel(Struct, frozen=True):
    """One tuned model as the service returns it.

    ``remote`` is its full remote name. ``chosen_id`` is its id where callers choose ids, else ``None``; it is compared
    with keys and never parsed. ``description`` is the human part, without the mark; ``mark`` is the mark or ``None``.
    Times are RFC 3339 strings as the service wrote them, empty if unknown; ``update_time`` is the time of the last
    change. ``completed_steps``, ``total_steps``, ``completed_epochs`` and ``failure`` are ``None`` if the service does
    not return them. ``phase`` is the service's own name of its state if that is more specific than ``state``
    (``QUEUED``), including unknown ones; :data:`PHASES` are those that services share. ``experiment`` is the resource
    name of the experiment that has the metrics of the training, and ``metrics_uri`` the address of an object with its
    loss curve. ``provider_data`` is what the provider records for itself: a value of its ``ProviderSpec.record``.
    ``undeployed`` has the endpoints in ``resources`` that do not exist or do not have the model; the empty name stands
    for an endpoint that was never there. ``edit`` is set if the files of the
    model are not those of its training; then it has no mark.
    """

    remote: str
    state: State
    source: Source | None = None
    chosen_id: str | None = None
    mark: Mark | None = None
    display_name: str = ""
    description: str = ""
    sampling: Sampling = Sampling()
    hyperparameters: Hyperparameters = {}
    create_time: str = ""
    start_time: str = ""
    complete_time: str = ""
    update_time: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    completed_steps: int | None = None
    total_steps: int | None = None
    billable_tokens: int | None = None
    failure: Failure | None = None
    phase: str = ""
    completed_epochs: int | None = None
    dropped_examples: DroppedExamples | None = None
    evaluations: tuple[ServiceEvaluation, ...] = ()
    experiment: str = ""
    metrics_uri: str = ""
    resources: Resources = Resources()
    undeployed: frozenset[str] = frozenset()
    provider_data: Struct | None = None
    edit: Edit | None = None

    @property
    def deployed(self) -> bool:
        """Whether the endpoint of the model has it, or it needs none."""
        return self.is_deployed("")

    @property
    def deployed_checkpoints(self) -> tuple[str, ...]:
        """The IDs of the checkpoints that an endpoint has, in the order of the training."""
        ordered = sorted(self.resources.checkpoints, key=lambda checkpoint: checkpoint.step)
        return tuple(known.id for known in ordered if known.endpoint and known.endpoint not in self.undeployed)

    def is_deployed(self, checkpoint: str) -> bool:
        """Whether the endpoint of a checkpoint, or of the default one, has it, or it needs none."""
        return self.resources.endpoint_of(checkpoint) not in self.undeployed


class CreateRequest(Struct, frozen=True):
    """A generation to create: everything the service needs except the examples.

    ``key`` is the content-addressed name and, where callers choose ids, the id. ``intended`` means that an interrupted
    run was about to create it, so that it can exist although the service does not list it yet. ``settings`` are those
    of the manifest.
    """

    key: str
    mark: Mark
    source: Source
    hyperparameters: Hyperparameters
    display_name: str
    description: str
    sampling: Sampling
    dataset: Dataset
    validation: Dataset | None = None
    last_checkpoint_only: bool | None = None
    settings: Mapping[str, Any] = {}
    intended: bool = False

    @classmethod
    def of(cls, manifest: Manifest, mark: Mark, key: str) -> Self:
        """Return the request for a generation of a manifest; the display name defaults to the manifest's name."""
        return cls(
            key=key,
            mark=mark,
            source=manifest.source,
            hyperparameters=manifest.hyperparameters,
            display_name=manifest.display_name or manifest.name,
            description=manifest.description or "",
            sampling=manifest.sampling,
            dataset=manifest.dataset,
            validation=manifest.validation,
            last_checkpoint_only=manifest.last_checkpoint_only,
            settings=manifest.settings,
        )


class Update(Struct, frozen=True):
    """Fields to patch on a managed model; ``None`` leaves a field unchanged.

    ``description`` is the human part; it is set whenever it or the mark must be written, because a service that keeps
    the mark inside the description can only write both together. Without a ``mark`` the live mark is removed.
    ``deploy`` deploys the ``checkpoint`` with that ID, or without one the model, to an endpoint if none has it.
    """

    mark: Mark | None
    display_name: str | None = None
    description: str | None = None
    sampling: Sampling = Sampling()
    deploy: bool = False
    checkpoint: str = ""


class Handle(Struct, frozen=True):
    """The remote name of a model and, during its training, the operation that creates it (opaque).

    ``provider_data`` is what the provider recorded for itself, as JSON; empty where the lockfile has no record.
    """

    remote: str
    operation: str | None = None
    provider_data: Mapping[str, Any] = {}


class FieldFault(Struct, frozen=True):
    """What is wrong with a field of a manifest, by its path from the top of the document, and what to do."""

    path: tuple[str, ...]
    message: str
    remedy: str
    severity: Severity = "error"


class Capabilities(Struct, frozen=True):
    """The capabilities of a provider, for validation and planning.

    ``label`` is the name of the service for users. ``hyperparameters`` are the supported names. ``defaults`` are the
    documented defaults, for estimates only; ``effective`` returns the effective hyperparameters of a training with
    these declared ones and this data set, where they are known before. ``seconds_per_step`` and ``overhead_seconds``
    are known for simulated training, which ``simulated`` marks in every output. ``billed`` is
    whether the service charges for training tokens. ``features`` are the supported optional
    parts of a manifest (``access``, ``projectAccess`` for whole projects, ``lineage``, ``cloudStorage`` for data sets
    at ``gs://``, ``checkpoints`` that have endpoints and can be tuned further, ``conversations`` for examples in Vertex
    AI's own form, ``preference`` for that method, ``cancellation`` if a stopped training leaves a record,
    ``basePrompts`` if base models answer prompts; the provider is then a
    :class:`~reconciler.domain.ports.BasePrompts`). ``tuned_model_pattern`` matches the remote name of a tuned model,
    and ``remote_pattern`` that of a managed one, each with an example for messages. ``max_candidates`` is the limit of
    answers per request. ``block`` is the manifest's block that overrides common fields. Of its own fields, those in
    ``content_fields`` are part of a generation's content, as hyperparameters are and among them; those in
    ``settings_fields`` are sent with the next training. ``check_spec`` returns the faults of a manifest's ``spec``,
    which may violate its schema, beyond these rules. ``mutable`` are the groups of fields that can be patched.
    ``base_model_prefix`` begins the full names of base models, ``base_model_pattern`` matches what follows, and
    ``base_model_example`` is one. ``base_model_hints`` has, by the pattern of an invalid name, what is wrong with it
    and the remedy, in both of which ``{0}`` is the first group. ``endpoint_pattern`` matches the names of endpoints,
    where a model answers only at its endpoint. ``weights_pattern`` matches the folders that the weights of open models
    are in. ``experiment_url`` returns the page of an experiment by its resource name, empty if there is none.
    ``encrypted`` is whether models get a customer-managed key. ``remedies`` has, by field, the remedies for unsupported
    parts of a manifest (``access``) that are better than "delete it". Without ``caller_chosen_ids`` only labels show
    whether a generation was created before. Lengths are in characters, sizes in bytes.
    """

    label: str
    hyperparameters: frozenset[str]
    caller_chosen_ids: bool = True
    mutable: frozenset[str] = frozenset()
    block: str = ""
    content_fields: tuple[str, ...] = ()
    settings_fields: tuple[str, ...] = ()
    check_spec: Callable[[Mapping[str, Any]], Iterable[FieldFault]] | None = None
    simulated: bool = False
    billed: bool = True
    defaults: Hyperparameters = {}
    effective: Callable[[Hyperparameters, Dataset], Hyperparameters] | None = None
    seconds_per_step: float | None = None
    overhead_seconds: float = 0.0
    features: frozenset[str] = frozenset()
    max_input_characters: int | None = None
    max_output_characters: int | None = None
    max_dataset_bytes: int | None = None
    recommended_examples: int = 20
    max_display_name: int = 40
    max_candidates: int = 8
    tuned_model_pattern: str = r"\S+"
    tuned_model_example: str = "number-generator-3kq7w2ma"
    remote_pattern: str = r"\S+"
    remote_example: str = "number-generator-3kq7w2ma"
    base_model_prefix: str = ""
    base_model_pattern: str = r"[A-Za-z0-9][A-Za-z0-9._-]*"
    base_model_hints: Mapping[str, tuple[str, str]] = {}
    base_model_example: str = "gemini-3.5-flash"
    endpoint_pattern: str = ""
    weights_pattern: str = ""
    experiment_url: Callable[[str], str] = lambda _experiment: ""
    encrypted: bool = False
    remedies: Mapping[str, str] = {}

    @property
    def prompts_to_endpoint(self) -> bool:
        """Whether a model answers only at its endpoint."""
        return bool(self.endpoint_pattern)
