"""The recorded state of one target as a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import (
    Dataset,
    Failure,
    Hyperparameters,
    Mark,
    RemoteModel,
    Resources,
    Sampling,
    Source,
    State,
    Target,
)

OWNER_FIELDS: Final = ("provider", "project", "location", "scope")
"""The fields of a target that determine which models a lockfile is about."""
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
"""A time before every other; replaces unknown times when sorting."""


class LockedTarget(Struct, frozen=True):
    """The target that a lockfile belongs to; ``limits`` holds those that differ from the defaults, by wire name."""

    name: str
    provider: str
    scope: str
    project: str | None = None
    location: str | None = None
    limits: Mapping[str, int] = {}


class LockedGeneration(Struct, frozen=True):
    """The record of one generation; ``spec`` and ``dataset.digest`` are ``sha256:`` digests.

    ``origin`` is ``created`` or ``adopted``. ``effective`` are the hyperparameters that the service reported.
    ``remote`` is empty while the generation is only intended. ``promote_time`` is its last promotion, ``checks`` the
    last results, and ``rejection`` the reason of a rollback. ``claimed`` means that the data set was declared after the
    training, whose real data is unknown.
    """

    key: str
    remote: str
    spec: str
    attempt: int
    origin: str
    state: State
    source: Source
    dataset: Dataset
    declared: Hyperparameters = {}
    effective: Hyperparameters = {}
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


class LockedModel(Struct, frozen=True):
    """The records of one manifest; generations newest first.

    ``rejected`` are the keys that must not be promoted. ``published`` is the key in the published pointer. ``labels``
    and ``sampling`` are those of the manifest; ``sampling`` is ``None`` if it declares none.
    """

    manifest: str
    serving: str | None = None
    rejected: tuple[str, ...] = ()
    protect: bool = False
    published: str | None = None
    labels: Mapping[str, str] = {}
    sampling: Sampling | None = None
    generations: tuple[LockedGeneration, ...] = ()

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


class Lock(Struct, frozen=True):
    """A lockfile; ``target`` is ``None`` until something was recorded."""

    target: LockedTarget | None = None
    models: Mapping[str, LockedModel] = {}


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
    )


def limits_by_name(target: Target) -> dict[str, int]:
    """Return the limits of a target by their wire names."""
    limits = target.limits
    return {
        "maxCreates": limits.max_creates,
        "maxSteps": limits.max_steps,
        "maxDeletePercent": limits.max_delete_percent,
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
            f"restore the old {name}, or move {file} away to start again with a target of another name",
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
