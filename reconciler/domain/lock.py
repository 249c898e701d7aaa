"""The lock as a value: what was recorded, and of which target."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import (
    Dataset,
    Failure,
    Hyperparameters,
    Mark,
    RemoteModel,
    Resources,
    Source,
    State,
    Target,
)

OWNER_FIELDS: Final = ("provider", "project", "location", "scope")
"""The fields of a target that say which models a lockfile is about."""
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
"""Sorts before every time of a service; stands for a time that is unknown or has not come."""


@dataclass(frozen=True, slots=True)
class LockedTarget:
    """The target that a lockfile belongs to; ``limits`` holds those that differ from the defaults, by wire name."""

    name: str
    provider: str
    scope: str
    project: str | None = None
    location: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockedGeneration:
    """What was recorded about one generation; ``spec`` and ``dataset.digest`` are ``sha256:`` digests.

    ``origin`` is ``created`` or ``adopted``. ``effective`` are the hyperparameters that the service reported.
    ``remote`` is empty while the generation is only intended. ``promote_time`` is when it last began to serve,
    ``checks`` how it last did, and ``rejection`` why it was rolled back. ``claimed`` says that the data set was
    declared after the training, of which nobody here knows what it was on.
    """

    key: str
    remote: str
    spec: str
    attempt: int
    origin: str
    state: State
    source: Source
    dataset: Dataset
    declared: Hyperparameters = field(default_factory=dict)
    effective: Hyperparameters = field(default_factory=dict)
    preamble: str = ""
    operation: str | None = None
    total_steps: int | None = None
    final_loss: float | None = None
    create_time: str = ""
    complete_time: str = ""
    failure: Failure | None = None
    resources: Resources = field(default_factory=Resources)
    checks: RecordedChecks | None = None
    promote_time: str = ""
    rejection: str = ""
    claimed: bool = False

    def mark(self, scope: str, name: str) -> Mark:
        """The ownership mark of this generation, of that manifest in that scope.

        It bears the name under which the generation was made, as its key does: a manifest may be called otherwise now.
        """
        made_as = self.key.rpartition("-")[0]
        return Mark(scope, made_as or name, self.spec, self.dataset.digest, self.attempt)

    @property
    def created_at(self) -> datetime:
        """When it was created, for sorting; a time that is not known yet comes last."""
        return parse_time(self.create_time) or datetime.max.replace(tzinfo=UTC)

    def is_same(self, live: RemoteModel) -> bool:
        """Whether a live model of this remote name is the recorded one: created at the very same moment."""
        return bool(self.create_time) and parse_time(live.create_time) == parse_time(self.create_time)


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time of a service (0 to 9 fraction digits), cut to microseconds; ``None`` when there is none."""
    return datetime.fromisoformat(text) if text else None


def format_time(moment: datetime) -> str:
    """A moment in UTC as an RFC 3339 time in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class LockedModel:
    """Everything recorded under one manifest's name; generations newest first.

    ``rejected`` are the keys that must not serve. ``published`` is the key that the target's ``publish`` was last told.
    """

    manifest: str
    serving: str | None = None
    rejected: tuple[str, ...] = ()
    protect: bool = False
    published: str | None = None
    generations: tuple[LockedGeneration, ...] = ()

    def generation(self, key: str | None) -> LockedGeneration | None:
        """The generation of that key, if it is recorded."""
        return next((one for one in self.generations if one.key == key), None)

    def without_generation(self, key: str) -> LockedModel:
        """The model without the generation of that key."""
        return replace(self, generations=tuple(one for one in self.generations if one.key != key))

    def with_generation(self, generation: LockedGeneration) -> LockedModel:
        """The model with this generation in the place of the one with its key, or among the others, newest first.

        What was created at an unknown time was created just now.
        """
        if self.generation(generation.key):
            return replace(
                self, generations=tuple(generation if one.key == generation.key else one for one in self.generations)
            )
        everything = (generation, *self.generations)
        return replace(self, generations=tuple(sorted(everything, key=lambda one: one.created_at, reverse=True)))


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lockfile; ``target`` is ``None`` until something was recorded."""

    target: LockedTarget | None = None
    models: Mapping[str, LockedModel] = field(default_factory=dict)


def record_target(target: Target) -> LockedTarget:
    """What a lockfile says of a target."""
    limits, defaults = limits_by_name(target), limits_by_name(replace(target, limits=type(target.limits)()))
    return LockedTarget(
        name=target.name,
        provider=target.provider,
        scope=target.scope,
        project=target.project,
        location=target.location,
        limits={name: value for name, value in limits.items() if value != defaults[name]},
    )


def limits_by_name(target: Target) -> dict[str, int]:
    """The limits of a target by their wire names."""
    limits = target.limits
    return {
        "maxCreates": limits.max_creates,
        "maxSteps": limits.max_steps,
        "maxDeletePercent": limits.max_delete_percent,
        "concurrency": limits.concurrency,
        "requestsPerMinute": limits.requests_per_minute,
    }


def check_owner(lock: Lock, target: Target, file: str) -> None:
    """Refuse a lockfile that was written for another provider, project, location or scope.

    Raises:
        ReconcileError: naming the first field that differs.
    """
    for name, recorded, wanted in _differences(lock, target):
        raise ReconcileError(
            f"{file} belongs to another {name}: it records {_shown(recorded)}, {target.file} says {_shown(wanted)}",
            f"go back to the old {name}, or move {file} away to start anew under a target of another name",
        )


def check_same_owner(lock: Lock, ours: Lock, file: str) -> None:
    """Refuse what another run has saved when that run was about another provider, project, location or scope.

    Raises:
        ReconcileError: naming the first field that differs.
    """
    if ours.target is None:
        return
    for name, theirs, own in _differences(lock, ours.target):
        raise ReconcileError(
            f"{file} was taken over by a run with another {name}: it records {_shown(theirs)} now, not {_shown(own)}",
            "give each target a lockfile of its own",
        )


def _differences(lock: Lock, target: Target | LockedTarget) -> Iterator[tuple[str, str | None, str | None]]:
    if lock.target:
        for name in OWNER_FIELDS:
            recorded, wanted = getattr(lock.target, name), getattr(target, name)
            if recorded != wanted:
                yield name, recorded, wanted


def _shown(value: str | None) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
