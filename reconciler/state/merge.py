"""Uniting two lockfiles that grew apart, by what they mean: what either side learnt is kept.

Each value is merged on its own: the side that changed it relative to the common ancestor wins, and only where both
changed it differently there is something to decide. The decisions do not depend on which side is which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import EARLIEST, OWNER_FIELDS, Lock, LockedGeneration, LockedModel, LockedTarget, parse_time
from reconciler.domain.model import State

_T = TypeVar("_T")
Settle = Callable[[Any, Any, Any], Any]
"""From the ancestor's value and two different ones to the one that counts, whichever order the two come in."""

ABSENT: Final = object()
"""The ancestor's value where it has none: it equals nothing."""


def pick_changed(base: Any, ours: _T, theirs: _T, settle: Settle) -> _T:
    """The value that was changed, where only one side did that."""
    if theirs in (ours, base):
        return ours
    settled: _T = theirs if ours == base else settle(base, ours, theirs)
    return settled


def prefer_nonempty(_base: object, ours: _T, theirs: _T) -> _T:
    """The value that says more; of two that say as much always the same one."""
    return max(ours, theirs, key=lambda one: (one not in (None, "", (), {}), len(repr(one)), repr(one)))


def later(_base: object, ours: str, theirs: str) -> str:
    """The later one of two RFC 3339 times; an empty one is earlier than any."""
    return max(ours, theirs, key=lambda one: (parse_time(one) or EARLIEST, one))


def merge_sets(base: Iterable[str], ours: Iterable[str], theirs: Iterable[str]) -> tuple[str, ...]:
    """A set as both sides changed it: what either added, without what either removed."""
    before, one, other = set(base), set(ours), set(theirs)
    kept = (one & other) | ((one ^ other) - before)
    return (*(key for key in base if key in kept), *sorted(kept - before))


def joined(_base: object, ours: str, theirs: str) -> str:
    """Both reasons, where neither holds the other."""
    short, long = sorted((ours, theirs), key=lambda one: (len(one), one))
    return long if short in long else "; ".join(sorted((ours, theirs)))


_NEW: Final = LockedModel("")
"""What both sides began with where the ancestor does not hold a model."""
_COURSE: Final = (
    State.INTENDED,
    State.CREATING,
    State.ACTIVE,
    State.MISSING,
    State.CANCELLED,
    State.FAILED,
    State.DELETED,
)
"""The states of one training, those last that are known last; what failed may be swept away, and goes on holding its
manifest."""
_PRESENCE: Final = (
    State.ACTIVE,
    State.CREATING,
    State.FAILED,
    State.MISSING,
    State.CANCELLED,
    State.DELETED,
    State.INTENDED,
)
"""Which of two trainings of one key counts, the first of them, as it does when a service shows both."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The lock that holds what both sides say, and sentences about what had to be decided."""

    lock: Lock
    notes: tuple[str, ...] = ()


def merge(base: Lock | None, ours: Lock, theirs: Lock) -> Merged:
    """Both sides as one lock; ``base`` is their common ancestor, ``None`` where nobody knows it.

    Without it nothing can be told to have been removed, so what one side alone holds is kept.

    Raises:
        ReconcileError: when the sides belong to different providers, projects, locations or scopes.
    """
    _require_one_owner(ours, theirs)
    before = base if base and _strangers(base, ours) is None and _strangers(base, theirs) is None else Lock()
    models: dict[str, LockedModel] = {}
    notes: list[str] = []
    for name in sorted(ours.models.keys() | theirs.models.keys()):
        found, told = _model(name, *(lock.models.get(name) for lock in (before, ours, theirs)))
        notes += told
        if found:
            models[name] = found
    target = pick_changed(before.target, ours.target, theirs.target, _target)
    return Merged(Lock(target, models), tuple(notes))


def _require_one_owner(ours: Lock, theirs: Lock) -> None:
    name = _strangers(ours, theirs)
    if name:
        sides = sorted(str(getattr(lock.target, name)) for lock in (ours, theirs))
        raise ReconcileError(
            f"the sides of this merge belong to another {name} each: {sides[0]} and {sides[1]}",
            "take the side of the target that is meant (git checkout --ours FILE, or --theirs, then git add FILE), "
            "and run reconcile refresh",
        )


def _strangers(one: Lock, other: Lock) -> str | None:
    """The first field by which two locks belong to different targets; ``None`` where they belong together."""
    if one.target is None or other.target is None:
        return None
    return next((name for name in OWNER_FIELDS if getattr(one.target, name) != getattr(other.target, name)), None)


def _target(base: LockedTarget | None, ours: LockedTarget | None, theirs: LockedTarget | None) -> LockedTarget | None:
    if ours is None or theirs is None:
        return ours or theirs
    before = base.limits if base else {}
    names = sorted(before.keys() | ours.limits.keys() | theirs.limits.keys())
    limits = {
        name: pick_changed(before.get(name), ours.limits.get(name), theirs.limits.get(name), _lower) for name in names
    }
    return replace(
        ours,
        name=pick_changed(base.name if base else ABSENT, ours.name, theirs.name, prefer_nonempty),
        limits={name: limit for name, limit in limits.items() if limit is not None},
    )


def _lower(_base: object, ours: int | None, theirs: int | None) -> int | None:
    """A plan says so when a limit was raised; what was lifted on one side only counts as the other has it."""
    return ours if theirs is None else theirs if ours is None else min(ours, theirs)


def _model(
    name: str, base: LockedModel | None, ours: LockedModel | None, theirs: LockedModel | None
) -> tuple[LockedModel | None, list[str]]:
    notes: list[str] = []

    def settle(before: LockedModel | None, one: LockedModel | None, other: LockedModel | None) -> LockedModel | None:
        if one is None or other is None:
            notes.append(f"{name} was removed from the lockfile on one side and changed on the other: it is kept")
            return one or other
        return _Union(name, before or _NEW, one, other, notes).model()

    return pick_changed(base, ours, theirs, settle), notes


class _Union:
    """One model that both sides changed, or that both of them added."""

    def __init__(self, name: str, base: LockedModel, ours: LockedModel, theirs: LockedModel, notes: list[str]) -> None:
        self._name = name
        self._base = base
        self._sides = (ours, theirs)
        self._notes = notes

    def model(self) -> LockedModel:
        merged = LockedModel(**{one.name: self._of_model(one.name) for one in fields(LockedModel)})
        merged = replace(merged, generations=tuple(self._explained(one, merged) for one in merged.generations))
        serving = self._serving(merged)
        self._tell_of_loss(merged, serving)
        return replace(merged, serving=serving)

    def _of_model(self, field: str) -> Any:
        if field == "generations":
            return tuple(sorted(self._generations(), key=lambda one: (one.created_at, one.key), reverse=True))
        settled: Mapping[str, Settle] = {
            "rejected": merge_sets,
            "serving": self._promoted_last,
            "published": self._promoted_last,
        }
        ours, theirs = (getattr(side, field) for side in self._sides)
        return pick_changed(getattr(self._base, field), ours, theirs, settled.get(field, prefer_nonempty))

    # what serves

    def _promoted_last(self, _base: str | None, ours: str | None, theirs: str | None) -> str | None:
        keys = (key for key in (ours, theirs) if key)
        return max(keys, key=lambda key: (self._promoted(key), key), default=None)

    def _promoted(self, key: str) -> datetime:
        found = (side.generation(key) for side in self._sides)
        return max((parse_time(one.promote_time) or EARLIEST for one in found if one), default=EARLIEST)

    def _serving(self, merged: LockedModel) -> str | None:
        """What serves, of which one side may not know that it was rejected."""
        chosen = merged.serving
        if chosen in merged.rejected and not any(_serves_rejected(side, chosen) for side in self._sides):
            others = {side.serving for side in (*self._sides, self._base)} - {None, *merged.rejected}
            left = [one.key for one in merged.generations if one.key in others]
            chosen = max(left, key=lambda key: (self._promoted(key), key), default=None)
            self._notes.append(
                f"{self._name}: {merged.serving} does not serve, as it was rejected on one side; "
                f"{chosen or 'nothing'} serves"
            )
            return chosen
        ours, theirs = (side.serving for side in self._sides)
        if ours != theirs and self._base.serving not in (ours, theirs):
            self._notes.append(self._decision(ours, theirs, chosen))
        return chosen

    def _decision(self, ours: str | None, theirs: str | None, chosen: str | None) -> str:
        if ours is None or theirs is None:
            return f"{self._name}: one side lets {chosen} serve, and the other nothing any more; {chosen} serves"
        told = " and ".join(map(self._dated, sorted((ours, theirs))))
        return f"{self._name}: both sides let another generation serve, {told}; {chosen} serves, as the later one"

    def _dated(self, key: str) -> str:
        moment = self._promoted(key)
        return key if moment == EARLIEST else f"{key} (since {moment:%Y-%m-%d %H:%M:%S})"

    def _tell_of_loss(self, merged: LockedModel, serving: str | None) -> None:
        one = merged.generation(serving)
        known = (side.generation(serving) for side in self._sides if side.serving == serving)
        if one and one.state is not State.ACTIVE and any(it and it.state is State.ACTIVE for it in known):
            self._notes.append(
                f"{self._name}: {serving} serves on one side, and the other records it as {one.state}; "
                "run reconcile apply to mend that"
            )

    # generations

    def _generations(self) -> Iterator[LockedGeneration]:
        ours, theirs = self._sides
        keys = dict.fromkeys(one.key for side in self._sides for one in side.generations)
        for key in keys:
            found = pick_changed(
                self._base.generation(key), ours.generation(key), theirs.generation(key), self._one_generation
            )
            if found or (found := self._begun_to_serve(key)):
                yield found

    def _begun_to_serve(self, key: str) -> LockedGeneration | None:
        """What one side removed, and the other lets serve."""
        return next(
            (side.generation(key) for side in self._sides if side.serving == key and self._base.serving != key), None
        )

    def _one_generation(
        self, base: LockedGeneration | None, ours: LockedGeneration | None, theirs: LockedGeneration | None
    ) -> LockedGeneration | None:
        if ours is None or theirs is None:
            kept = ours or theirs
            if base and kept:
                self._notes.append(
                    f"{self._name}: {kept.key} was removed on one side and changed on the other: it is kept"
                )
            return kept
        if not _is_same_training(ours, theirs):
            return self._one_training(base, ours, theirs)
        leader = max(ours, theirs, key=_knowledge)
        merged = _by_field(base, ours, theirs, _GENERATION)
        state, failure = pick_changed(
            (base.state, base.failure) if base else ABSENT,
            (ours.state, ours.failure),
            (theirs.state, theirs.failure),
            lambda *_: (leader.state, leader.failure),
        )
        if ours.checks and theirs.checks and merged.checks and not _is_settled(base, ours, theirs, "checks"):
            self._notes.append(
                f"{self._name}: the checks of {merged.key} went otherwise on each side; {merged.checks.failed} of "
                f"{merged.checks.passed + merged.checks.failed} failed by the result that is kept"
            )
        return replace(merged, state=state, failure=failure)

    def _one_training(
        self, base: LockedGeneration | None, ours: LockedGeneration, theirs: LockedGeneration
    ) -> LockedGeneration:
        """Of two trainings under one key the one that was begun since, or else the one that every run would keep."""
        begun = [one for one in (ours, theirs) if base is None or not _is_same_training(base, one)]
        kept = min(begun, key=_precedence)
        remotes = sorted({one.remote for one in begun if one.remote})
        if len(remotes) > 1:
            self._notes.append(
                f"{self._name}: {kept.key} was trained on both sides, as {' and '.join(remotes)}; {kept.remote} counts"
            )
        rejection = pick_changed(base.rejection if base else ABSENT, ours.rejection, theirs.rejection, joined)
        return replace(kept, rejection=rejection)

    def _explained(self, one: LockedGeneration, merged: LockedModel) -> LockedGeneration:
        """Without the reason of a rejection that one side has taken back."""
        restored = one.key not in merged.rejected and any(one.key in side.rejected for side in self._sides)
        return replace(one, rejection="") if restored else one


def _serves_rejected(model: LockedModel, key: str | None) -> bool:
    return key is not None and model.serving == key and key in model.rejected


def _is_settled(base: object, ours: object, theirs: object, field: str) -> bool:
    """Whether at most one side changed a field."""
    before, one, other = (getattr(it, field, ABSENT) for it in (base, ours, theirs))
    return one == other or before in (one, other)


def _by_field(
    base: LockedGeneration | None, ours: LockedGeneration, theirs: LockedGeneration, settle: Mapping[str, Settle]
) -> LockedGeneration:
    names = [one.name for one in fields(LockedGeneration)]
    values = {
        name: pick_changed(
            getattr(base, name) if base else ABSENT,
            getattr(ours, name),
            getattr(theirs, name),
            settle.get(name, prefer_nonempty),
        )
        for name in names
    }
    return LockedGeneration(**values)


def _is_same_training(one: LockedGeneration, other: LockedGeneration) -> bool:
    if one.remote != other.remote:
        return False
    return not (one.create_time and other.create_time) or parse_time(one.create_time) == parse_time(other.create_time)


def _knowledge(one: LockedGeneration) -> tuple[int, bool, str]:
    return _COURSE.index(one.state), one.failure is not None, repr(one.failure)


def _precedence(one: LockedGeneration) -> tuple[int, datetime, str, str]:
    return _PRESENCE.index(one.state), one.created_at, one.remote, repr(one)


def _worse(base: RecordedChecks | None, ours: RecordedChecks | None, theirs: RecordedChecks | None) -> Any:
    """The result of checks that the ancestor did not know, and of two such the worse."""
    known = base.digest if isinstance(base, RecordedChecks) else ""
    results = [one for one in (ours, theirs) if one]
    return max(results, key=lambda one: (one.digest != known, one.failed, repr(one)), default=None)


_GENERATION: Final[Mapping[str, Settle]] = {"promote_time": later, "rejection": joined, "checks": _worse}
