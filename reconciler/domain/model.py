"""The nouns: what is declared, what a service shows, what was recorded. Frozen values, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal, Self, TypeVar

from reconciler.domain.access import Grant
from reconciler.domain.checks import Check
from reconciler.domain.errors import Place

Number = int | float
Hyperparameters = Mapping[str, Number]
"""Hyperparameters under their wire names: epochCount, batchSize, learningRate, learningRateMultiplier, adapterSize."""

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
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Source:
    """What a generation is tuned from: a base model, or a model that is tuned already.

    ``base_model`` is the service's full form: ``models/text-bison-001`` for the Generative Language API,
    ``gemini-2.5-flash`` for Vertex AI. ``tuned_model`` is the name of the manifest whose model is tuned further, and
    ``key`` the generation of it, once that is chosen. ``remote`` is the name under which the service knows the tuned
    model; of a model that no manifest describes it is all there is. What does not apply is empty.
    """

    base_model: str = ""
    tuned_model: str = ""
    key: str = ""
    remote: str = ""

    @property
    def identity(self) -> str:
        """What goes into the content of a generation."""
        return self.base_model or self.key or self.remote

    def is_same(self, other: Source) -> bool:
        """Whether both mean one model; a service shows the remote name of what it tuned further, and no key."""
        if self.base_model or other.base_model:
            return self.base_model == other.base_model
        if self.key and other.key:
            return self.key == other.key
        return bool(self.remote) and self.remote == other.remote


@dataclass(frozen=True, slots=True)
class Example:
    """One training example, after the preamble has been put before its input."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One training example in Vertex AI's own form: ``line`` is its JSON object in RFC 8785 canonical form."""

    line: str


TrainingExample = Example | Conversation

REMOTE_SCHEME = "gs://"
UNKNOWN_DATA = "sha256:74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
"""The digest that stands for data that nobody has at hand: that of the JSON ``null``, which no data set has."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set, as it was read and checked, or as it was found in Cloud Storage.

    ``path`` is relative to the root with forward slashes, empty for inline examples, or a ``gs://`` address; ``digest``
    is ``sha256:`` and the hexadecimal digest (see :func:`reconciler.domain.identity.dataset_digest` and
    :func:`reconciler.domain.identity.object_digest`); ``examples`` is the number of examples, 0 where nobody counted.
    ``generation``, ``checksum`` and ``size`` (in bytes) pin an object in Cloud Storage, in the service's own spelling.

    An object that has not been looked at has no digest; ``error`` says why it cannot be read.
    """

    path: str
    digest: str
    examples: int
    generation: str = ""
    checksum: str = ""
    size: int = 0
    error: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it stands in Cloud Storage."""
        return self.path.startswith(REMOTE_SCHEME)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody has it at hand: a model that was adopted was trained on it."""
        return self.digest == UNKNOWN_DATA


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling defaults of a tuned model; ``None`` is undeclared, or not told by the service."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What may happen to a model, and how long its training may take (``timeout``, from the start of the training)."""

    protect: bool = False
    suspend: bool = False
    retain: int = 2
    timeout: timedelta | None = None
    on_failed_checks: Literal["hold", "serve"] = "hold"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One TunedModel document, valid and complete. ``None`` means undeclared: the server's to choose.

    ``file`` is the manifest's path relative to the root (``-`` for standard input), ``place`` where its name stands, as
    the user gave the path. ``access`` is ``None`` where nobody declares it, which is not the same as nobody: then no
    permission is looked at. ``formerly`` are the names that it had before; what was trained under them is its own.
    What a provider's own block says has replaced the common fields already. ``validation`` and
    ``last_checkpoint_only`` (keep no checkpoint but the last) apply to the next training and are no part of a
    generation's content: they change what is measured and kept, not the model.
    """

    name: str
    file: str
    place: Place
    source: Source
    dataset: Dataset
    hyperparameters: Hyperparameters = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
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
    formerly: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and those that it had before."""
        return self.name, *self.formerly


class FieldRole(StrEnum):
    """What a change of a manifest field does to the models; a row has the name and the effect."""

    effect: str

    def __new__(cls, name: str, effect: str = "") -> Self:
        """Return the member with its row."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.effect = effect
        return member

    IDENTITY = "identity", "a new generation is trained beside the serving one"
    MUTABLE = "mutable", "the model is updated in place"
    ACCESS = "access", "permissions are created, changed and revoked"
    NEXT_TRAINING = "next training", "nothing; the next training uses it"
    POLICY = "policy", "nothing at the service; the next run follows it"


@dataclass(frozen=True, slots=True)
class ManifestField:
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
    ManifestField("spec.dataset", FieldRole.IDENTITY, "dataset"),
    ManifestField("spec.hyperparameters", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.vertex.baseModel", FieldRole.IDENTITY, "source"),
    ManifestField("spec.vertex.hyperparameters", FieldRole.IDENTITY, "hyperparameters"),
    ManifestField("spec.vertex.validationDataset", FieldRole.NEXT_TRAINING, "validation"),
    ManifestField("spec.vertex.exportLastCheckpointOnly", FieldRole.NEXT_TRAINING, "last_checkpoint_only"),
    ManifestField("spec.displayName", FieldRole.MUTABLE, "display_name"),
    ManifestField("spec.description", FieldRole.MUTABLE, "description"),
    ManifestField("spec.sampling.temperature", FieldRole.MUTABLE, "sampling.temperature"),
    ManifestField("spec.sampling.topP", FieldRole.MUTABLE, "sampling.top_p"),
    ManifestField("spec.sampling.topK", FieldRole.MUTABLE, "sampling.top_k", is_integer=True),
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may do at most; ``max_delete_percent`` counts from 10 managed models."""

    max_creates: int = 20
    max_steps: int = 100_000
    max_delete_percent: int = 30
    concurrency: int = 5
    requests_per_minute: int = 300


@dataclass(frozen=True, slots=True)
class Target:
    """One Target document: where the models live, and what may be done there.

    ``file`` is the target file's path as shown to the user. ``endpoint`` and ``storage_endpoint`` are addresses that
    take the place of the provider's own, empty for those. ``bucket`` is where data sets are uploaded, as
    ``gs://bucket`` or ``gs://bucket/prefix``; ``lock`` is the ``gs://`` address of a lockfile that is kept there.
    ``publish`` is where it is told which generations serve: a file's path from the root, or a ``gs://`` address.
    ``public_access`` allows models that everyone may use; without ``show_examples``, examples, prompts and answers are
    kept out of documents, texts and the lockfile. ``settings`` are the provider's own: the values of ``spec.PROVIDER``
    as its schema describes them.
    """

    name: str
    file: str
    provider: str
    scope: str
    project: str | None = None
    location: str | None = None
    api_version: str = "v1beta3"
    endpoint: str = ""
    storage_endpoint: str = ""
    bucket: str = ""
    lock: str = ""
    publish: str = ""
    public_access: bool = True
    show_examples: bool = True
    limits: Limits = Limits()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """The ownership mark that a remote model of ours bears. ``spec`` and ``data`` are ``sha256:`` digests."""

    scope: str
    name: str
    spec: str
    data: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One point of a loss curve."""

    step: int
    epoch: int
    loss: float


CANCELLED_CODE = 1
"""The google.rpc code of what was cancelled."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a training failed: the google.rpc code as a number, and the service's own message."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it was at some point of its training; ``endpoint`` is where it answers, empty for nowhere."""

    id: str
    epoch: int
    step: int
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a training made besides the model's own record, under full resource names; empty where there is no such.

    ``model`` bears its version (``projects/…/models/1@1``); ``endpoint`` is what answers prompts.
    """

    job: str = ""
    model: str = ""
    endpoint: str = ""
    location: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """One tuned model as a service shows it now.

    ``remote`` is its full remote name. ``chosen_id`` is the id under which it stands where callers choose ids, else
    ``None``; it is compared with keys and never taken apart. ``description`` is the human part, without our mark;
    ``mark`` is the mark or ``None``. Times are RFC 3339 strings as the service wrote them, empty when unknown;
    ``update_time`` is when anything of it last changed.
    ``completed_steps``, ``total_steps`` and ``failure`` are known only where the service tells them. ``phase`` is the
    service's own word for its state where that says more than ``state`` (``QUEUED``), also one that nobody knows.
    """

    remote: str
    state: State
    source: Source | None = None
    chosen_id: str | None = None
    mark: Mark | None = None
    display_name: str = ""
    description: str = ""
    sampling: Sampling = Sampling()
    hyperparameters: Hyperparameters = field(default_factory=dict)
    create_time: str = ""
    start_time: str = ""
    complete_time: str = ""
    update_time: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    completed_steps: int | None = None
    total_steps: int | None = None
    failure: Failure | None = None
    phase: str = ""
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A generation to create: everything the service needs but the examples, which travel beside it.

    ``key`` is the content-addressed name; a service that takes ids is given it as the id. ``intended`` says that an
    earlier run was about to create it: it may be there although it does not show yet.
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
        )


@dataclass(frozen=True, slots=True)
class Update:
    """Fields to patch on a remote model of ours; ``None`` leaves a field alone.

    ``description`` is the human part; it is set whenever it or the mark must be written, because a service that keeps
    the mark inside the description can only write both together. Without a ``mark`` it takes the mark away.
    """

    mark: Mark | None
    display_name: str | None = None
    description: str | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Handle:
    """How to ask for one remote model: its remote name, and while it trains the operation that made it (opaque)."""

    remote: str
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do and how it behaves, as a value that validation and planning read.

    ``label`` names the service for people. ``hyperparameters`` are the names it takes. ``defaults`` are its documented
    choices for what is left out; they serve estimates only. ``seconds_per_step`` and ``overhead_seconds`` are known
    where training is simulated, and ``simulated`` makes every output say so. ``features`` names the optional parts of a
    manifest that it supports (``access``, ``projectAccess`` for whole projects, ``lineage``, ``cloudStorage`` for data
    sets at ``gs://``, ``conversations`` for examples in Vertex AI's own form, ``cancellation`` where a training that is
    stopped leaves a record behind). ``tuned_model_pattern`` is what the remote name of a tuned model looks like, and
    ``remote_pattern`` that of what is managed, each with an example for people. ``max_candidates`` are the answers that
    one request may ask for. ``block`` is the manifest's block that overrides common fields here. ``mutable`` names the
    declared fields that can be patched once a model is there. ``base_model_prefix`` begins the full names of base
    models, and ``base_model_example`` is one. ``prompts_to_endpoint`` means that a model answers only at its endpoint.
    ``remedies`` has, by field, the remedies for unsupported parts of a manifest (``access``) that are better than
    "delete it". Without ``caller_chosen_ids`` nothing but labels tells
    whether a generation was created before. Lengths are in characters, sizes in bytes.
    """

    label: str
    hyperparameters: frozenset[str]
    caller_chosen_ids: bool = True
    mutable: frozenset[str] = frozenset(declared.group for declared in MUTABLE_FIELDS)
    block: str = ""
    simulated: bool = False
    defaults: Hyperparameters = field(default_factory=dict)
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
    base_model_example: str = "text-bison-001"
    prompts_to_endpoint: bool = False
    remedies: Mapping[str, str] = field(default_factory=dict)
