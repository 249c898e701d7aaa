"""The plan as a value: what a run would do, action by action, and how it follows from what is declared and observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconciler.core.access import AccessChange
from reconciler.core.lock import Lock, limits_of
from reconciler.core.model import Dataset, Hyperparameters, Limits, Source, Target
from reconciler.core.training import Training


class Kind(StrEnum):
    """What an action does."""

    CREATE = "create"
    UPDATE = "update"
    WAIT = "wait"
    ADOPT = "adopt"
    CHECK = "check"
    PROMOTE = "promote"
    RETIRE = "retire"
    HOLD = "hold"
    NOOP = "noop"


class Reason(StrEnum):
    """Why; stable names that reports and scripts may rely on."""

    NOT_FOUND = "NotFound"
    CONTENT_CHANGED = "ContentChanged"
    MISSING = "Missing"
    RETRY_REQUESTED = "RetryRequested"
    REPLACE_REQUESTED = "ReplaceRequested"
    DRIFTED = "Drifted"
    TRAINING = "Training"
    FOUND_UNRECORDED = "FoundUnrecorded"
    READY = "Ready"
    IN_SYNC = "InSync"
    ORPHANED = "Orphaned"
    SUSPENDED = "Suspended"
    ROLLED_BACK = "RolledBack"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    CHECKS_NOT_RUN = "ChecksNotRun"
    CHECKS_CHANGED = "ChecksChanged"
    CHECKS_FAILED = "ChecksFailed"
    ACCESS_CHANGED = "AccessChanged"
    ACCESS_UNAVAILABLE = "AccessUnavailable"
    PARENT_CHANGED = "ParentChanged"
    PARENT_HELD = "ParentHeld"
    PARENT_ROLLED_BACK = "ParentRolledBack"
    PARENT_SUSPENDED = "ParentSuspended"
    DUPLICATE = "Duplicate"
    BASE_MODEL_UNAVAILABLE = "BaseModelUnavailable"
    DATA_UNAVAILABLE = "DataUnavailable"
    DATA_UNKNOWN = "DataUnknown"
    DATA_CLAIMED = "DataClaimed"
    RENAMED = "Renamed"
    ID_TAKEN = "IdTaken"
    ID_UNAVAILABLE = "IdUnavailable"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    GUARDED = "Guarded"
    LISTING_SUSPICIOUS = "ListingSuspicious"


HARMLESS_HOLDS = frozenset({Reason.SUSPENDED, Reason.ROLLED_BACK, Reason.PARENT_SUSPENDED, Reason.PARENT_ROLLED_BACK})
"""Holds that somebody asked for: they do not make a run fail."""

_ORDER = {kind: position for position, kind in enumerate(Kind)}
EFFECTS = frozenset({Kind.CREATE, Kind.UPDATE, Kind.ADOPT, Kind.CHECK, Kind.PROMOTE, Kind.RETIRE})
"""Actions that change the service or the lockfile."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One declared field that differs; ``live`` is the value now, ``declared`` the one asked for."""

    field: str
    live: object
    declared: object


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan for one manifest.

    ``file`` is the manifest's path relative to the root. ``key`` and ``remote`` say which generation is meant.
    ``message`` is a sentence for people. ``source``, ``dataset``, ``validation`` (the path of the validation data
    set), ``hyperparameters`` (the declared ones) and ``training`` describe a create;
    ``changes`` are the fields that an update patches, or that made a new generation necessary; ``access`` are the
    permissions that it sets. ``after`` is the key of the parent generation that has to serve before a create can begin,
    empty where nothing has to. ``checks`` counts the checks that are to run.
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
    hyperparameters: Hyperparameters = field(default_factory=dict)
    training: Training | None = None
    changes: tuple[FieldChange, ...] = ()
    access: tuple[AccessChange, ...] = ()
    after: str = ""
    checks: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """What an update changes, by name: fields, and grantees as in ``access.user:ada@example.com``."""
        return (*(one.field for one in self.changes), *(f"access.{one.grantee}" for one in self.access))

    def order(self) -> tuple[str, str, int, str]:
        """Where the action stands in a plan: by manifest, then in the order of execution."""
        return self.file, self.name, _ORDER[self.kind], self.key


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asked of this plan.

    ``complete`` says that every manifest of the root was read and selected, so that what is not declared is an orphan.
    """

    retry: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. It always exists, holds its no-ops, and is sorted.

    ``notices`` are sentences about the whole plan. ``unmanaged`` counts foreign models, ``candidates`` those of our
    scope that no manifest here and no lockfile entry claims. ``sources`` says, by name, what each manifest is tuned
    from: the parent generations that were chosen stand in it, and nothing for a manifest whose parent is held.
    """

    actions: tuple[Action, ...]
    notices: tuple[str, ...] = ()
    unmanaged: int = 0
    candidates: int = 0
    sources: Mapping[str, Source] = field(default_factory=dict)

    def of_kind(self, *kinds: Kind) -> tuple[Action, ...]:
        """The actions of these kinds, in order."""
        return tuple(action for action in self.actions if action.kind in kinds)

    @property
    def steps(self) -> int:
        """The training steps that the creates would take, as far as they can be told."""
        return sum(action.training.steps or 0 for action in self.of_kind(Kind.CREATE) if action.training)

    @property
    def changes(self) -> bool:
        """Whether carrying the plan out would change the service or the lockfile."""
        return any(action.kind in EFFECTS for action in self.actions)

    @property
    def failing(self) -> tuple[Action, ...]:
        """The holds that make a run fail until somebody resolves them."""
        return tuple(one for one in self.of_kind(Kind.HOLD) if one.reason not in HARMLESS_HOLDS)


def guarded(actions: tuple[Action, ...], limits: Limits) -> tuple[Action, ...]:
    """The actions, with every create held when together they are over a limit: all or nothing."""
    creates = [action for action in actions if action.kind is Kind.CREATE]
    steps = sum(action.training.steps or 0 for action in creates if action.training)
    for name, amount, limit, unit in (
        ("maxCreates", len(creates), limits.max_creates, "models to create"),
        ("maxSteps", steps, limits.max_steps, "training steps"),
    ):
        if amount > limit:
            message = (
                f"{amount} {unit} are over the target's limits.{name} of {limit}, so nothing is created; "
                f"raise spec.limits.{name} in the target, or take fewer manifests with --only or -l"
            )
            return tuple(_held(action, message) if action.kind is Kind.CREATE else action for action in actions)
    return actions


def _held(action: Action, message: str) -> Action:
    return replace(action, kind=Kind.HOLD, reason=Reason.GUARDED, message=message)


def limit_notices(lock: Lock, target: Target) -> tuple[str, ...]:
    """Sentences about limits that differ from what the last run recorded: a pull request can change them."""
    if lock.target is None:
        return ()
    recorded: Mapping[str, int] = {**limits_of(replace(target, limits=Limits())), **lock.target.limits}
    return tuple(
        f"{target.file} changes limits.{name} from {recorded[name]} to {value}"
        for name, value in limits_of(target).items()
        if recorded[name] != value
    )
