"""The plan as a value: actions with their kind and reason, the limits that apply to them, and the inputs of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.checks import RecordedChecks
from reconciler.domain.document import Count, Key, ManifestName, NonEmpty, Record, Remote, Scalar, TableEnum, Time
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import MAX_MODELS, Lock, limits_by_name
from reconciler.domain.model import (
    Capabilities,
    Dataset,
    Hyperparameters,
    Limits,
    Manifest,
    Number,
    RemoteModel,
    Source,
    Target,
)
from reconciler.domain.money import Money

MARK_FIELD = "ownership mark"
"""The name of the ownership mark in field changes."""


class Kind(TableEnum):
    """What an action does.

    This is the table of actions, in the order of execution: each row has the name and what it means. The schemas and
    docs/design.md are generated from it.
    """

    meaning: str

    CREATE = "create", "start a training"
    UPDATE = "update", "patch declared fields that differ, or deploy a model again"
    WAIT = "wait", "wait for a training in progress"
    ADOPT = "adopt", "record an existing managed generation"
    CHECK = "check", "run the checks of the manifest on a ready generation, and record the results"
    PROMOTE = "promote", "make a generation the serving one, and record it"
    DELETE = "delete", "cancel a duplicate training, or with `--prune` delete generations that are no longer needed"
    HOLD = "hold", "do nothing until someone resolves the stated reason"
    NOOP = "noop", "nothing to do: in sync, or an orphan"


class Reason(TableEnum):
    """Why an action is planned, in stable names that reports and scripts may rely on.

    This is the table of reasons: each row has the name, what it means, and the kinds of the actions that have it. The
    schemas and docs/plans.md are generated from it.
    """

    meaning: str
    kinds: tuple[Kind, ...]

    NOT_FOUND = "NotFound", "no generation of the manifest exists or is recorded", (Kind.CREATE,)
    CONTENT_CHANGED = "ContentChanged", "the manifest's content differs from every generation", (Kind.CREATE,)
    MISSING = "Missing", "the generation was deleted at the service", (Kind.CREATE,)
    PARENT_CHANGED = "ParentChanged", "the parent has a new generation, and nothing else changed", (Kind.CREATE,)
    RETRY_REQUESTED = "RetryRequested", "`--retry` was passed after the training failed or was canceled", (Kind.CREATE,)
    REPLACE_REQUESTED = "ReplaceRequested", "`--replace` was passed for a ready generation", (Kind.CREATE,)
    DRIFTED = "Drifted", "mutable fields or the ownership mark differ from the manifest", (Kind.UPDATE,)
    UNDEPLOYED = "Undeployed", "no endpoint has the model; it is deployed again", (Kind.UPDATE,)
    ACCESS_CHANGED = (
        "AccessChanged",
        "the permissions differ from `spec.access`, or are not known yet",
        (Kind.UPDATE, Kind.WAIT),
    )
    TRAINING = "Training", "the training is in progress", (Kind.WAIT,)
    FOUND_UNRECORDED = "FoundUnrecorded", "a model with the mark of this manifest is not in the lockfile", (Kind.ADOPT,)
    RENAMED = "Renamed", "the generations are recorded under a name in `metadata.formerly`", (Kind.ADOPT,)
    RECORD_DIFFERS = (
        "RecordDiffers",
        "the lockfile records facts that the live model or the manifest contradicts; they are corrected",
        (Kind.ADOPT,),
    )
    DATA_CLAIMED = "DataClaimed", "the data set is recorded as the training data of an adopted model", (Kind.ADOPT,)
    CHECKS_NOT_RUN = (
        "ChecksNotRun",
        "the checks were not run with this generation, or not in this run, which would promote it",
        (Kind.CHECK,),
    )
    CHECKS_CHANGED = "ChecksChanged", "the checks changed since they were run", (Kind.CHECK,)
    CHECKPOINT_CHANGED = (
        "CheckpointChanged",
        "the checks were run with another checkpoint than the one that is to serve",
        (Kind.CHECK,),
    )
    SERVING_CHANGED = (
        "ServingChanged",
        "the failed checks compared the generation with one that is no longer serving",
        (Kind.CHECK,),
    )
    READY = "Ready", "the generation is ready and passed its checks", (Kind.PROMOTE,)
    DUPLICATE = "Duplicate", "two runs started the same training; one of them is deleted", (Kind.DELETE,)
    SUPERSEDED = "Superseded", "another generation replaced it", (Kind.DELETE,)
    FAILED_TRAINING = "FailedTraining", "its training failed", (Kind.DELETE,)
    CANCELLED_TRAINING = "CancelledTraining", "its training was canceled", (Kind.DELETE,)
    ORPHANED_MODEL = "OrphanedModel", "it is recorded, and no manifest declares it", (Kind.DELETE,)
    ABANDONED = "Abandoned", "it has the mark of this scope, and no lockfile records it", (Kind.DELETE,)
    SUSPENDED = "Suspended", "`spec.lifecycle.suspend` is set", (Kind.HOLD,)
    ROLLED_BACK = "RolledBack", "the generation that matches the manifest was rolled back", (Kind.HOLD,)
    NOTHING_SERVES = (
        "NothingServes",
        "no generation is serving, and the one that matches the manifest, or its parent, was rolled back",
        (Kind.HOLD,),
    )
    FAILED = "Failed", "the training failed, and the manifest has not changed since", (Kind.HOLD,)
    CANCELLED = "Cancelled", "the training was canceled, and the manifest has not changed since", (Kind.HOLD,)
    DEADLINE_EXCEEDED = "DeadlineExceeded", "the training takes longer than `spec.lifecycle.timeout`", (Kind.HOLD,)
    CHECKS_FAILED = "ChecksFailed", "the generation failed its checks", (Kind.HOLD,)
    ACCESS_UNAVAILABLE = "AccessUnavailable", "the permissions of the model cannot be read", (Kind.HOLD,)
    PARENT_HELD = "ParentHeld", "the parent is held, or has no serving generation", (Kind.HOLD,)
    PARENT_ROLLED_BACK = "ParentRolledBack", "the parent was rolled back", (Kind.HOLD,)
    PARENT_SUSPENDED = "ParentSuspended", "the parent is suspended", (Kind.HOLD,)
    BASE_MODEL_UNAVAILABLE = "BaseModelUnavailable", "the service does not tune the base model", (Kind.HOLD,)
    CHECKPOINT_MISSING = "CheckpointMissing", "the model does not have the declared checkpoint", (Kind.HOLD,)
    DATA_UNAVAILABLE = "DataUnavailable", "a data set in Cloud Storage was not found or not read", (Kind.HOLD,)
    INVALID_TRAINING = (
        "InvalidTraining",
        "the training would fail: its data, its hyperparameters, its base model, or too little memory or disk space",
        (Kind.HOLD,),
    )
    DATA_UNKNOWN = "DataUnknown", "`spec.dataset.unknown` is set, so nothing can be trained", (Kind.HOLD,)
    ID_TAKEN = "IdTaken", "an unmanaged model has the ID of the generation", (Kind.HOLD,)
    ID_UNAVAILABLE = (
        "IdUnavailable",
        "the service rejects the ID of the generation and does not return its model",
        (Kind.HOLD,),
    )
    GUARDED = (
        "Guarded",
        "the plan is over a limit in `spec.limits` of the target, or over one of the lockfile",
        (Kind.HOLD,),
    )
    LISTING_SUSPICIOUS = (
        "ListingSuspicious",
        "so many recorded models are gone that the project may be wrong",
        (Kind.HOLD,),
    )
    RECORD_MISMATCH = (
        "RecordMismatch",
        "the live model does not prove what the lockfile records about it; nothing is changed",
        (Kind.HOLD,),
    )
    SOAKING = (
        "Soaking",
        "the requested generation has not been published to the stage before for the soak time of the stage",
        (Kind.HOLD,),
    )
    SOAK_UNKNOWN = (
        "SoakUnknown",
        "it is not known for how long the requested generation has been published to the stage before",
        (Kind.HOLD,),
    )
    NOT_IN_STAGE = (
        "NotInStage",
        "the requested generation is not serving in the stage before, or not published there",
        (Kind.HOLD,),
    )
    REJECTED_IN_STAGE = (
        "RejectedInStage",
        "the requested generation was rejected in the stage, or in one before it",
        (Kind.HOLD,),
    )
    REQUESTED_UNREADY = (
        "RequestedNotReady",
        "the generation that is requested for a stage is not ready at the service",
        (Kind.HOLD,),
    )
    FIELDS_SHARED = (
        "SharedFields",
        "the changed fields are those of all stages, and the last stage with this generation has not approved them",
        (Kind.HOLD,),
    )
    IN_SYNC = "InSync", "the live state matches the manifest", (Kind.NOOP,)
    ORPHANED = "Orphaned", "it is recorded, and no manifest declares it", (Kind.NOOP,)


REQUESTED_HOLDS = frozenset(
    {
        Reason.SUSPENDED,
        Reason.ROLLED_BACK,
        Reason.PARENT_SUSPENDED,
        Reason.PARENT_ROLLED_BACK,
        Reason.SOAKING,
        Reason.REJECTED_IN_STAGE,
        Reason.FIELDS_SHARED,
    }
)
"""Holds that a user requested: they do not make a run fail."""
PRUNE_REASONS = frozenset(
    {
        Reason.SUPERSEDED,
        Reason.FAILED_TRAINING,
        Reason.CANCELLED_TRAINING,
        Reason.ORPHANED_MODEL,
        Reason.ABANDONED,
    }
)
"""Reasons of deletions by pruning; other deletions stop duplicate trainings."""

_ORDER = {kind: position for position, kind in enumerate(Kind)}
EFFECTS = frozenset({Kind.CREATE, Kind.UPDATE, Kind.ADOPT, Kind.CHECK, Kind.PROMOTE, Kind.DELETE})
"""Actions that change the service or the lockfile."""


class Requirement(Record, frozen=True):
    """An amount that a training needs, and what is available, in bytes."""

    needed: Count
    """What the training needs."""
    available: Count | None = None
    """What is free on the machine that trains; omitted if unknown."""


class BaseWeights(Record, frozen=True, kw_only=True):
    """The weights of the base model of a training."""

    present: bool
    """Whether they are on the machine that trains; otherwise the training downloads them first."""
    source: Annotated[NonEmpty, Meta(examples=["https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"])]
    """The path of the files, or the address that they are downloaded from."""
    size: Count | None = field(name="bytes", default=None)
    """Their size in bytes; omitted if unknown."""


class TrainingNeeds(Record, frozen=True, kw_only=True):
    """What is known about a training before it starts, if its provider can find it out."""

    tokens: Count | None = None
    """The tokens of all training examples; with the method `preference`, those of the input count for each answer."""
    trained_tokens: Count | None = None
    """Those of the tokens that the loss is computed on."""
    longest_tokens: Count | None = None
    """The tokens of the longest training example."""
    device: Annotated[str, Meta(examples=["cpu", "cuda", "mps"])] = ""
    """Where the training runs."""
    memory: Requirement | None = None
    """The memory of the device."""
    disk: Requirement | None = None
    """The disk space of checkpoints and result."""
    weights: BaseWeights | None = None
    """Where the weights of the base model are."""
    seconds: Annotated[float, Meta(ge=0)] | None = None
    """The estimated duration in seconds, if it was measured, the service reports its speed, or the lockfile has earlier
    trainings of the manifest or its base model."""
    effective: Annotated[Hyperparameters, Meta(examples=[{"learningRate": 0.0002, "rank": 16}])] = field(
        default_factory=dict
    )
    """The effective hyperparameters, if they are known before the training."""


class TrainingFault(Record, frozen=True, kw_only=True):
    """What is wrong with a planned training, or unexpected about it.

    ``example`` is the number of the example in its data set, counted from 1; 0 if the fault is not in an example.
    """

    message: NonEmpty
    remedy: str = ""
    example: Count = 0
    in_validation: bool = False
    is_warning: bool = False
    place: str = ""
    """Where the example is declared; empty until it was looked up."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.place}: {self.message}{remedy}" if self.place else f"{self.message}{remedy}"


class TrainingCheck(Record, frozen=True, kw_only=True):
    """What a provider found out about a planned training, before anything is created.

    ``unchecked`` is why nothing was found out, with its remedy. If the training ``cannot_start`` either, it is refused.
    """

    needs: TrainingNeeds = TrainingNeeds()
    faults: tuple[TrainingFault, ...] = ()
    unchecked: str = ""
    remedy: str = ""
    cannot_start: bool = False

    @property
    def errors(self) -> tuple[TrainingFault, ...]:
        """The faults that the training would fail of."""
        return tuple(fault for fault in self.faults if not fault.is_warning)

    @property
    def warnings(self) -> tuple[TrainingFault, ...]:
        """The other faults."""
        return tuple(fault for fault in self.faults if fault.is_warning)


class TrainingCost(Record, frozen=True, kw_only=True):
    """What a training costs, by the public price of its base model."""

    billable_tokens: Count | None = None
    """The tokens of all epochs; omitted if unknown."""
    price: Money | None = None
    """The price of a million tokens; omitted if unknown."""
    total: Money | None = None
    """The cost; omitted if unknown."""
    unknown: str = ""
    """Why the cost is unknown."""
    remedy: str = ""
    """How to make it known."""


class TrainingEstimate(TrainingNeeds, frozen=True, kw_only=True):
    """The amount of training that a create starts, and what it needs."""

    examples: Count
    """Training examples."""
    epochs: Number | None = None
    """Passes over the data set; omitted if unknown."""
    batch: Number | None = None
    """Examples a step; omitted if unknown."""
    steps: Count | None = None
    """The training steps; omitted if unknown."""
    estimated: bool
    """Whether the service chooses the epochs or the batch size; the numbers are its documented defaults."""
    tokens_estimated: bool = False
    """Whether the tokens are estimated from the texts, without the tokenizer of the model."""
    cost: TrainingCost | None = None
    """The cost; omitted if nothing is paid."""


class FieldChange(Record, frozen=True):
    """One declared field that differs."""

    field: NonEmpty
    """The name of the field."""
    live: Scalar | None = None
    """The current value; omitted if there is none."""
    declared: Scalar | None = None
    """The declared value."""


class Deletion(Record, frozen=True):
    """Details of a generation to delete; omitted when a duplicate training is canceled."""

    create_time: Time = ""
    """When it was created."""
    age_seconds: int | None = None
    """The age in seconds."""
    served_from: Time = ""
    """When it was last promoted; omitted if no promotion is known."""
    served_until: Time = ""
    """When another generation was promoted after it."""
    serves: bool = False
    """Whether it is the serving generation of an orphan, whose whole model is deleted."""
    examples: Count = 0
    """The number of training examples."""
    size: Count = field(name="bytes", default=0)
    """The size of the training data set in Cloud Storage, in bytes."""
    checkpoints: Count = 0
    """The number of checkpoints that are deleted with it."""


class KeptGeneration(Record, frozen=True):
    """A generation that is kept."""

    name: ManifestName
    key: Key
    remote: Remote
    reason: NonEmpty
    """All reasons to keep it."""


class Action(Struct, frozen=True):
    """One step of a plan for one manifest.

    ``file`` is the manifest's path relative to the root. ``key`` and ``remote`` identify the generation. ``message`` is
    a sentence for users. ``source``, ``dataset``, ``validation`` (the path of the validation data set),
    ``hyperparameters`` (the declared ones), ``settings`` (those of the manifest) and ``training`` describe a create;
    ``changes`` are the fields that an update patches, or that require a new generation; ``access`` are the permissions
    that it sets. ``after`` is the key of the parent generation that must be serving before a create can begin, or
    empty. ``checks`` is the number of checks to run, and ``prompts`` the most prompts that they send. ``checkpoints``
    are the IDs of the checkpoints that are checked, promoted or deployed; empty for the default one. ``deletion``
    describes a generation to delete, and ``descendants`` are the remote names of the generations tuned from it, which
    are deleted first. ``serving`` is the key of the serving generation. ``stage`` is the one that an action is about,
    empty for the first stage.
    """

    name: str
    file: str
    kind: Kind
    reason: Reason
    key: str = ""
    remote: str = ""
    message: str = ""
    attempt: int = 0
    source: Source | None = None
    dataset: Dataset | None = None
    validation: str = ""
    hyperparameters: Hyperparameters = {}
    settings: Mapping[str, Any] = {}
    training: TrainingEstimate | None = None
    changes: tuple[FieldChange, ...] = ()
    access: tuple[AccessChange, ...] = ()
    after: str = ""
    checks: int = 0
    prompts: int = 0
    checkpoints: tuple[str, ...] = ()
    deletion: Deletion | None = None
    descendants: frozenset[str] = frozenset()
    serving: str = ""
    stage: str = ""

    @property
    def prunes(self) -> bool:
        """Whether pruning deletes a generation."""
        return self.kind is Kind.DELETE and self.reason in PRUNE_REASONS

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of what an update changes: fields, and grantees as in ``access.user:ada@example.com``."""
        return (*(change.field for change in self.changes), *(f"access.{change.grantee}" for change in self.access))

    def sort_key(self) -> tuple[str, str, int, str, str]:
        """Sort by manifest, then in the order of execution."""
        return self.file, self.name, _ORDER[self.kind], self.key, self.stage


class Pruning(Struct, frozen=True):
    """Options of pruning.

    With ``older_than``, only generations that were created longer ago are deleted, including those with this scope's
    mark that no lockfile records. ``names`` limits pruning to these models, which a user typed: an unread manifest does
    not keep them. ``others`` are the lockfiles of the other targets of the root. ``adopted`` are the remote names of
    adopted models that may be deleted, ``destroys`` deletes all generations of ``names`` as if no manifest declared
    them, apart from protected and suspended ones, and ``published`` the keys in the published pointer.
    """

    older_than: timedelta | None = None
    others: tuple[Lock, ...] = ()
    names: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()
    destroys: bool = False
    published: frozenset[str] = frozenset()


class Unread(Struct, frozen=True):
    """What may declare models, although it was not read: a model that such a file names is not an orphan.

    ``files`` are the paths of unread manifests. ``names`` has a reason for each name that they, or git, may declare.
    ``unknown`` is the reason why other names may be declared too, empty if all files were searched. ``unselected`` has
    the file of each name that a manifest declares, and that the target does not select. ``templates`` has a reason for
    each shell pattern of names that a template may declare.
    """

    files: tuple[str, ...] = ()
    names: Mapping[str, str] = {}
    unknown: str = ""
    unselected: Mapping[str, str] = {}
    templates: Mapping[str, str] = {}

    def reason(self, name: str) -> str:
        """Return why a manifest of that name may exist; empty if none can."""
        if name in self.unselected:
            return f"{self.unselected[name]} declares it, and the target does not select it"
        rendered = (reason for pattern, reason in self.templates.items() if fnmatchcase(name, pattern))
        return self.names.get(name) or next(rendered, self.unknown)


class Request(Struct, frozen=True):
    """Options of a plan.

    ``complete`` means that every manifest of the root was read and selected, so that undeclared models are orphans.
    ``pruning`` requests deletions. Without ``promotes`` the serving generations stay as they are, and children are
    trained from the parent that the next run promotes. ``serving`` are the generations, by manifest, that a changed
    lockfile requests to serve: each is checked in this run. ``accept_missing`` records that models are gone however
    many they are; a user confirmed it. ``unread`` are the manifests that were not read.
    """

    retry: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()
    complete: bool = True
    pruning: Pruning | None = None
    promotes: bool = True
    serving: Mapping[str, str] = {}
    accept_missing: bool = False
    unread: Unread = Unread()


class Plan(Struct, frozen=True):
    """What a run would do: sorted, including no-ops.

    ``notices`` are sentences about the whole plan. ``unmanaged`` counts unmanaged models, ``candidates`` those with
    this scope's mark that neither manifests nor lockfile have. ``sources`` has the source of each manifest by name,
    with the chosen parent generations; a manifest whose parent is held has none. ``kept`` are the generations that a
    requested pruning keeps, and ``skipped`` are sentences about the orphans among them.
    """

    actions: tuple[Action, ...]
    notices: tuple[str, ...] = ()
    unmanaged: int = 0
    candidates: int = 0
    sources: Mapping[str, Source] = {}
    kept: tuple[KeptGeneration, ...] = ()
    skipped: tuple[str, ...] = ()

    def of_kind(self, *kinds: Kind) -> tuple[Action, ...]:
        """The actions of these kinds, in order."""
        return tuple(action for action in self.actions if action.kind in kinds)

    @property
    def steps(self) -> int:
        """The training steps of all creates, where they are known."""
        return sum(action.training.steps or 0 for action in self.of_kind(Kind.CREATE) if action.training)

    @property
    def changes(self) -> bool:
        """Whether applying the plan would change the service or the lockfile."""
        return any(action.kind in EFFECTS for action in self.actions)

    @property
    def failing(self) -> tuple[Action, ...]:
        """The holds that make a run fail until someone resolves them."""
        return tuple(hold for hold in self.of_kind(Kind.HOLD) if hold.reason not in REQUESTED_HOLDS)

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a run that leaves this plan: the most severe of its holds."""
        if any(hold.reason is Reason.ACCESS_UNAVAILABLE for hold in self.failing):
            return ExitStatus.ACCESS
        return ExitStatus.ERROR if self.failing else ExitStatus.OK


_TRAINED = frozenset({Kind.ADOPT, Kind.UPDATE, Kind.CHECK, Kind.PROMOTE})
FOLLOW_UPS: Mapping[Kind, frozenset[Kind]] = {
    Kind.CREATE: _TRAINED | {Kind.DELETE},  # of its duplicate, if two runs raced
    Kind.WAIT: _TRAINED,
    Kind.ADOPT: _TRAINED,
    Kind.UPDATE: frozenset({Kind.CHECK, Kind.PROMOTE}),
    Kind.CHECK: frozenset({Kind.PROMOTE}),
}
"""The actions that can follow for the same generation."""


def approved_effects(approved: Plan) -> frozenset[tuple[str, str, Kind, str]]:
    """Return everything that applying this plan may do, by name, key, kind and stage."""
    return frozenset(
        (action.name, action.key, kind, action.stage)
        for action in approved.actions
        for kind in (action.kind, *FOLLOW_UPS.get(action.kind, ()))
        if kind in EFFECTS
    )


def hold_over_limits(actions: tuple[Action, ...], limits: Limits) -> tuple[Action, ...]:
    """Return the actions, with every create held if together they exceed a limit."""
    creates = [action for action in actions if action.kind is Kind.CREATE]
    steps = sum(action.training.steps or 0 for action in creates if action.training)
    for name, amount, limit, unit in (
        ("maxCreates", len(creates), limits.max_creates, "models to create"),
        ("maxSteps", steps, limits.max_steps, "training steps"),
    ):
        if amount > limit:
            message = (
                f"{unit} in this plan: {amount}, but limits.{name} of the target is {limit}, so nothing is created; "
                f"raise spec.limits.{name} in the target, or select fewer manifests with --only or -l"
            )
            return tuple(
                hold_over_limit(action, message) if action.kind is Kind.CREATE else action for action in actions
            )
    return actions


def hold_over_records(actions: tuple[Action, ...], lock: Lock) -> tuple[Action, ...]:
    """Return the actions, with every create of a new model held if the lockfile would have too many models."""
    new = {action.name for action in actions if action.kind is Kind.CREATE} - lock.models.keys()
    total = len(lock.models) + len(new)
    if not new or total <= MAX_MODELS:
        return actions
    message = (
        f"the lockfile would have {total} models, and it has at most {MAX_MODELS}, so none is added; move manifests to"
        " another target"
    )
    return tuple(
        hold_over_limit(action, message) if action.kind is Kind.CREATE and action.name in new else action
        for action in actions
    )


def hold_over_limit(action: Action, message: str) -> Action:
    """Return an action as one that is held because of a limit."""
    return replace(action, kind=Kind.HOLD, reason=Reason.GUARDED, message=message)


def _shown_limit(value: int | str | None) -> int | str:
    return "none" if value is None else value


def limit_notices(lock: Lock, target: Target) -> tuple[str, ...]:
    """Return a notice for each limit that differs from the recorded one: a pull request can change them."""
    if lock.target is None:
        return ()
    recorded: Mapping[str, int | str | None] = {
        **limits_by_name(replace(target, limits=Limits())),
        **lock.target.limits,
    }
    return tuple(
        f"{target.file} changes limits.{name} from {_shown_limit(recorded[name])} to {_shown_limit(value)}"
        for name, value in limits_by_name(target).items()
        if recorded[name] != value
    )


class BaseModelChange(Struct, frozen=True):
    """How a base model changed at its source since it was pinned; ``newest`` is its name with the newest pin."""

    message: str
    newest: str = ""


class Observation(Struct, frozen=True):
    """The live state: every listed model by remote name, and the remote names that are confirmed to be gone.

    ``untunable`` has, by base model, the reason why it cannot be tuned; only base models that a plan needs are looked
    up. ``tunable`` are those of them that the service lists as tunable. ``deleted`` are the listed trainings whose
    model was deleted: they only show that their attempt was made. ``permissions`` are those of the models that
    :func:`~reconciler.planning.generations.shared_remotes` returns, by remote name; ``unreadable`` has the reason where
    they cannot be read. ``time`` is that of the service, if it reports one. ``training_checks`` are those of planned
    trainings by the keys of their generations. ``changed_base_models`` are the pinned base models of manifests that
    changed at their source; only ``drift`` looks them up.
    """

    models: Mapping[str, RemoteModel] = {}
    gone: frozenset[str] = frozenset()
    untunable: Mapping[str, str] = {}
    permissions: Mapping[str, tuple[Permission, ...]] = {}
    unreadable: Mapping[str, str] = {}
    time: datetime | None = None
    deleted: Mapping[str, RemoteModel] = {}
    tunable: frozenset[str] = frozenset()
    training_checks: Mapping[str, TrainingCheck] = {}
    changed_base_models: Mapping[str, BaseModelChange] = {}


class Publication(Struct, frozen=True):
    """Since when a generation has been published, at least; ``problem`` is why an earlier time can be unknown.

    ``read`` is when this was read: what was published later in a long run is not known.
    """

    since: datetime | None = None
    problem: str = ""
    remedy: str = ""
    read: datetime | None = None

    def not_before(self, completed: datetime | None) -> Publication:
        """Return the publication from the end of the training on: no earlier time can be true."""
        forged = self.since is not None and completed is not None and self.since < completed
        return replace(self, since=completed) if forged else self

    def end_of(self, soak: timedelta) -> datetime | None:
        """Return when this duration ends; ``None`` if the start is unknown."""
        return self.since + soak if self.since else None

    def lasted(self, soak: timedelta, now: datetime) -> bool:
        """Whether the generation has verifiably been published for this duration."""
        end = self.end_of(soak)
        return end is not None and end <= min(now, self.read or now)


class World(Struct, frozen=True):
    """Everything that a plan depends on; ``now`` is aware and in UTC.

    ``checked`` are the keys of the generations whose checks ran in this run: recorded results promote nothing.
    ``catalog`` has the base models that are known; without it there are no warnings about them. ``publications`` has
    for each generation that is requested for a stage, by that stage and the name of the model, since when it has been
    published to the stage before. ``stage_checks`` are the results of the checks for a stage that ran in this run, by
    the stage and the key of the generation.
    """

    manifests: tuple[Manifest, ...]
    lock: Lock
    target: Target
    capabilities: Capabilities
    now: datetime
    observation: Observation = field(default_factory=Observation)
    request: Request = field(default_factory=Request)
    checked: frozenset[str] = frozenset()
    catalog: ModelCatalog = field(default_factory=ModelCatalog)
    publications: Mapping[tuple[str, str], Publication] = {}
    stage_checks: Mapping[tuple[str, str], RecordedChecks] = {}

    @property
    def scope(self) -> str:
        """The scope of the target."""
        return self.target.scope
