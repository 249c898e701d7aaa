"""Merge two versions of a lockfile value by value, and keep what either side recorded.

The side that changed a value relative to the common ancestor wins; where both changed it, a rule decides. No rule
depends on which side is ``ours``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import chain
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import fields, replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import (
    EARLIEST,
    MAX_DECISIONS,
    OWNER_FIELDS,
    Decision,
    Lock,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    LockedStage,
    LockedTarget,
    parse_time,
)
from reconciler.domain.model import State
from reconciler.domain.target_option import for_target
from reconciler.planning.stages import arrange_stages

_T = TypeVar("_T")
_StructT = TypeVar("_StructT", bound=Struct)
Rule = Callable[[Any, Any, Any], Any]
"""From the ancestor's value and two different values to the merged one; symmetric in the last two."""

TAKE_ONE_SIDE: Final = (
    "take one side (`git checkout --ours FILE` or `--theirs`, then `git add FILE`), and run reconcile refresh"
)
"""The remedy for sides that cannot be merged."""
ABSENT: Final = object()
"""The ancestor's value where there is no ancestor; equal to no value."""


def pick_changed(base: Any, ours: _T, theirs: _T, rule: Rule) -> _T:
    """Return the value of the side that changed it; the rule decides where both did."""
    if theirs in (ours, base):
        return ours
    merged: _T = theirs if ours == base else rule(base, ours, theirs)
    return merged


def prefer_nonempty(_base: object, ours: _T, theirs: _T) -> _T:
    """Return the value that is not empty; of two such values the longer one."""
    return max(ours, theirs, key=lambda value: (value not in (None, "", (), {}), len(repr(value)), repr(value)))


def latest(_base: object, ours: str, theirs: str) -> str:
    """Return the later of two RFC 3339 times; an empty one is the earliest."""
    return max(ours, theirs, key=lambda time: (parse_time(time) or EARLIEST, time))


def merge_sets(base: Iterable[str], ours: Iterable[str], theirs: Iterable[str]) -> tuple[str, ...]:
    """Return the set with what either side added, and without what either side removed."""
    before, left, right = set(base), set(ours), set(theirs)
    kept = (left & right) | ((left ^ right) - before)
    return (*(key for key in base if key in kept), *sorted(kept - before))


def join_reasons(_base: object, ours: str, theirs: str) -> str:
    """Return both texts, or the longer one where it contains the other."""
    short, long = sorted((ours, theirs), key=lambda text: (len(text), text))
    return long if short in long else "; ".join(sorted((ours, theirs)))


_BY_PROGRESS: Final = (
    State.INTENDED,
    State.CREATING,
    State.ACTIVE,
    State.MISSING,
    State.CANCELLED,
    State.FAILED,
    State.DELETING,
    State.DELETED,
)
"""The states of one training, the last known last. A failure outlives the model: it holds the manifest."""
_BY_PRECEDENCE: Final = (
    State.ACTIVE,
    State.CREATING,
    State.FAILED,
    State.MISSING,
    State.CANCELLED,
    State.DELETING,
    State.DELETED,
    State.INTENDED,
)
"""Of two trainings with one key the first of these states is kept, as when the service lists both."""


class MergeResult(Struct, frozen=True):
    """The merged lock, and a note about each conflict that a rule decided."""

    lock: Lock
    notes: tuple[str, ...] = ()


def merge(base: Lock | None, ours: Lock, theirs: Lock) -> MergeResult:
    """Merge two locks; ``base`` is their common ancestor, ``None`` where it is unknown.

    Without an ancestor nothing counts as removed, so everything that either side has is kept.

    Raises:
        ReconcileError: the sides belong to different providers, projects, locations or scopes.
    """
    _require_same_owner(ours, theirs)
    stages = _merged_stages(base.target if base else None, ours.target, theirs.target)
    ours, theirs = (arrange_stages(side, stages, begins=False) for side in (ours, theirs))
    base = arrange_stages(base, stages, begins=False) if base else None
    related = base and not _differing_owner_field(base, ours) and not _differing_owner_field(base, theirs)
    ancestor = base if base and related else Lock()
    models: dict[str, LockedModel] = {}
    notes: list[str] = []
    for name in sorted(ours.models.keys() | theirs.models.keys()):
        model = _merge_model(name, notes, *(lock.models.get(name) for lock in (ancestor, ours, theirs)))
        if model:
            models[name] = model
    target = pick_changed(ancestor.target, ours.target, theirs.target, _merge_target)
    history = pick_changed(ancestor.history, ours.history, theirs.history, _merge_histories)
    return MergeResult(Lock(target, models, history), tuple(notes))


def _merge_histories(_base: object, ours: Sequence[Decision], theirs: Sequence[Decision]) -> tuple[Decision, ...]:
    """Return the decisions of both sides, the last one first.

    Those of one second keep the order of their side; what both sides have is older than what only one has.
    """
    common = set(ours) & set(theirs)
    both = chain.from_iterable(sorted((ours, theirs), key=repr))
    newest_first = sorted(both, key=lambda decision: (decision.time, decision not in common), reverse=True)
    return tuple(dict.fromkeys(newest_first))[:MAX_DECISIONS]


def _require_same_owner(ours: Lock, theirs: Lock) -> None:
    name = _differing_owner_field(ours, theirs)
    if name:
        values = sorted(str(getattr(lock.target, name)) for lock in (ours, theirs))
        raise ReconcileError(
            f"the sides of this merge differ in the {name} of their target: {values[0]} and {values[1]}",
            TAKE_ONE_SIDE,
        )


def _differing_owner_field(left: Lock, right: Lock) -> str | None:
    """Return the first field by which two locks belong to different targets, or ``None``."""
    if left.target is None or right.target is None:
        return None
    return next((name for name in OWNER_FIELDS if getattr(left.target, name) != getattr(right.target, name)), None)


def _merge_target(
    base: LockedTarget | None, ours: LockedTarget | None, theirs: LockedTarget | None
) -> LockedTarget | None:
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
        stages=_merged_stages(base, ours, theirs),
    )


def _merged_stages(
    base: LockedTarget | None, ours: LockedTarget | None, theirs: LockedTarget | None
) -> tuple[str, ...]:
    """Return the stages of the side that changed them; of two such the one that keeps the first stage, if one does."""
    before, left, right = (target.stages if target else () for target in (base, ours, theirs))
    return pick_changed(before, left, right, _with_first)


def _with_first(base: tuple[str, ...], ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return min(ours, theirs, key=lambda stages: (stages[:1] != base[:1], stages))


def _lower(_base: object, ours: int | None, theirs: int | None) -> int | None:
    """Return the lower limit: a later plan reports that a limit was raised."""
    return ours if theirs is None else theirs if ours is None else min(ours, theirs)


def _merge_model(
    name: str, notes: list[str], base: LockedModel | None, ours: LockedModel | None, theirs: LockedModel | None
) -> LockedModel | None:
    def rule(base: LockedModel | None, ours: LockedModel | None, theirs: LockedModel | None) -> LockedModel | None:
        if ours is None or theirs is None:
            notes.append(f"{name} was removed from the lockfile on one side and changed on the other: it is kept")
            return ours or theirs
        return _ModelMerge(name, base or LockedModel(""), ours, theirs, notes).merge()

    return pick_changed(base, ours, theirs, rule)


class _ModelMerge:
    """The merge of one model that both sides changed or added."""

    def __init__(self, name: str, base: LockedModel, ours: LockedModel, theirs: LockedModel, notes: list[str]) -> None:
        self._name = name
        self._base = base
        self._sides = (ours, theirs)
        self._recorded = (base.by_key, ours.by_key, theirs.by_key)
        self._rejected = ours.barred_keys | theirs.barred_keys
        self._notes = notes

    def merge(self) -> LockedModel:
        merged = LockedModel(**{field.name: self._merge_field(field.name) for field in fields(LockedModel)})
        revoked = self._rejected - merged.barred_keys
        generations = tuple(_without_reason(generation, revoked) for generation in merged.generations)
        merged = replace(merged, generations=generations)
        serving = self._serving(merged)
        self._note_lost(merged, serving)
        return replace(merged, serving=serving)

    def _merge_field(self, name: str) -> Any:
        if name == "generations":
            return tuple(
                sorted(
                    self._generations(), key=lambda generation: (generation.created_at, generation.key), reverse=True
                )
            )
        if name == "stages":
            return self._stages()
        rules: Mapping[str, Rule] = {
            "rejected": merge_sets,
            "serving": self._promoted_last,
            "published": self._promoted_last,
        }
        ours, theirs = (getattr(side, name) for side in self._sides)
        return pick_changed(getattr(self._base, name), ours, theirs, rules.get(name, prefer_nonempty))

    def _note(self, text: str) -> None:
        self._notes.append(f"{self._name}: {text}")

    # the serving generation

    def _promoted_last(self, _base: str | None, ours: str | None, theirs: str | None) -> str | None:
        return self._latest_promotion(key for key in (ours, theirs) if key)

    def _latest_promotion(self, keys: Iterable[str]) -> str | None:
        return max(keys, key=lambda key: (self._promote_time(key), key), default=None)

    def _promote_time(self, key: str) -> datetime:
        recorded = (side.get(key) for side in self._recorded[1:])
        times = (parse_time(generation.promote_time) or EARLIEST for generation in recorded if generation)
        return max(times, default=EARLIEST)

    def _serving(self, merged: LockedModel) -> str | None:
        """Return the serving key; one that only the other side rejected is replaced."""
        key = merged.serving_key
        if key in merged.rejected and not any(side.serves(key) and key in side.rejected for side in self._sides):
            candidates = {side.serving_key for side in (*self._sides, self._base)} - {None, *merged.rejected}
            key = self._latest_promotion(
                generation.key for generation in merged.generations if generation.key in candidates
            )
            self._note(
                f"{merged.serving_key} is not serving because one side rejected it; "
                f"{f'{key} is serving' if key else 'no generation is serving'}"
            )
            return key
        ours, theirs = (side.serving_key for side in self._sides)
        if ours != theirs and self._base.serving_key not in (ours, theirs):
            self._note_promotions(ours, theirs, key)
        return key

    def _note_promotions(self, ours: str | None, theirs: str | None, key: str | None) -> None:
        if ours is None or theirs is None:
            self._note(f"one side promoted {key}, and on the other no generation is serving; {key} is serving")
        else:
            promoted = " and ".join(map(self._dated, sorted((ours, theirs))))
            self._note(f"the sides promoted different generations, {promoted}; {key} is serving as the later one")

    def _dated(self, key: str) -> str:
        time = self._promote_time(key)
        return key if time == EARLIEST else f"{key} (since {time:%Y-%m-%d %H:%M:%S})"

    def _note_lost(self, merged: LockedModel, key: str | None) -> None:
        generation = merged.generation(key)
        recorded = (side.generation(key) for side in self._sides if side.serves(key))
        was_ready = any(version.state is State.ACTIVE for version in recorded if version)
        if generation and generation.state is not State.ACTIVE and was_ready:
            self._note(
                for_target(
                    f"{key} is serving on one side and {generation.state} on the other; run reconcile apply to fix this"
                )
            )

    # the stages after the first one

    def _stages(self) -> dict[str, LockedStage]:
        names = dict.fromkeys(name for side in self._sides for name in side.stages)
        merged = {name: self._stage(name) for name in sorted(names)}
        return {name: stage for name, stage in merged.items() if stage != LockedStage()}

    def _stage(self, name: str) -> LockedStage:
        """Return a stage as the side has it that changed it; where both moved it, it stays as it was, if it may."""
        base, sides = self._base.stage(name), tuple(side.stage(name) for side in self._sides)
        ours, theirs = sides
        rejected = pick_changed(base.rejected, ours.rejected, theirs.rejected, merge_sets)
        requested = pick_changed(base.requested, ours.requested, theirs.requested, _one_request)
        if requested is None and ours.requested and theirs.requested:
            self._note(f"the sides requested different generations for {name}; neither is requested: request one again")
        carried_out = {side.serving for side in sides if side.requested != requested} - {base.serving}
        published = pick_changed(base.published, ours.published, theirs.published, lambda before, *_: before)
        return replace(
            self._moved_stage(name, base, ours, theirs, rejected),
            rejected=rejected,
            requested=None if requested in (*rejected, *carried_out) else requested,
            published=published,
        )

    def _moved_stage(
        self, name: str, base: LockedStage, ours: LockedStage, theirs: LockedStage, rejected: Sequence[str]
    ) -> LockedStage:
        """Return the record of the side that moved the stage; a rollback wins over what it rejected."""
        if _position(ours) == _position(theirs):
            return ours
        kept = replace(base, serving=None) if base.serving in rejected else base
        serving = f"{kept.serving} keeps serving" if kept.serving else "no generation is serving"
        if _position(base) in (_position(ours), _position(theirs)):
            moved = theirs if _position(base) == _position(ours) else ours
            if moved.serving not in rejected:
                return moved
            self._note(f"one side promoted {moved.serving} to {name}, and the other rejected it; {serving}")
            return kept
        allowed = (side for side in (ours, theirs) if side.serving not in rejected)
        rolled_back = [side for side in allowed if base.serving in side.rejected]
        if rolled_back:
            kept = min(rolled_back, key=repr)
            self._note(f"one side rejected {base.serving} in {name}; {kept.serving or 'no generation'} is serving")
            return kept
        self._note(
            for_target(
                f"the sides promoted different generations to {name}, {ours.serving or 'none'} and"
                f" {theirs.serving or 'none'}; a merge never moves a later stage: {serving}; request one of them again"
                f" with reconcile promote {self._name} --stage {name}"
            )
        )
        return kept

    # generations

    def _generations(self) -> Iterator[LockedGeneration]:
        base, ours, theirs = self._recorded
        for key in dict.fromkeys(generation.key for side in self._sides for generation in side.generations):
            merged = pick_changed(base.get(key), ours.get(key), theirs.get(key), self._merge_generation)
            if merged or (merged := self._newly_serving(key)):
                yield merged

    def _newly_serving(self, key: str) -> LockedGeneration | None:
        """Return the generation of that key if one side promoted or requested it; the other side removed it."""
        sides = (side for side in self._sides if key in side.kept_keys - self._base.kept_keys)
        return next((side.generation(key) for side in sides), None)

    def _merge_generation(
        self, base: LockedGeneration | None, ours: LockedGeneration | None, theirs: LockedGeneration | None
    ) -> LockedGeneration | None:
        if ours is None or theirs is None:
            kept = ours or theirs
            if base and kept:
                self._note(f"{kept.key} was removed on one side and changed on the other: it is kept")
            return kept
        if not _is_same_training(ours, theirs):
            return self._pick_training(base, ours, theirs)
        merged = _merge_fields(base, ours, theirs)
        _, checkpoint = pick_changed(_promotion(base) if base else ABSENT, _promotion(ours), _promotion(theirs), _later)
        last = max(ours, theirs, key=_progress)
        state, failure = pick_changed(
            (base.state, base.failure) if base else ABSENT,
            (ours.state, ours.failure),
            (theirs.state, theirs.failure),
            lambda *_: (last.state, last.failure),
        )
        before = base.checks if base else ABSENT
        if ours.checks != theirs.checks and before not in (ours.checks, theirs.checks):
            self._note_checks(ours, theirs, merged)
        return replace(merged, state=state, failure=failure, checkpoint=checkpoint)

    def _note_checks(self, ours: LockedGeneration, theirs: LockedGeneration, merged: LockedGeneration) -> None:
        if ours.checks and theirs.checks and merged.checks:
            failed, total = merged.checks.failed, merged.checks.total
            self._note(
                f"the results of the checks of {merged.key} differ; the result with {failed} of {total} failed is kept"
            )

    def _pick_training(
        self, base: LockedGeneration | None, ours: LockedGeneration, theirs: LockedGeneration
    ) -> LockedGeneration:
        """Return the training that is newer than the ancestor; of two such the one that every run would keep."""
        new = [generation for generation in (ours, theirs) if base is None or not _is_same_training(base, generation)]
        kept = min(new, key=_precedence)
        remotes = sorted({generation.remote for generation in new if generation.remote})
        if len(remotes) > 1:
            self._note(f"{kept.key} was trained on both sides, as {' and '.join(remotes)}; {kept.remote} is kept")
        rejection = pick_changed(base.rejection if base else ABSENT, ours.rejection, theirs.rejection, join_reasons)
        return replace(kept, rejection=rejection)


def _one_request(_base: object, ours: str | None, theirs: str | None) -> str | None:
    """Return the request of one side, where the other carried an earlier one out or removed it; never one of two."""
    return ours if theirs is None else theirs if ours is None else None


def _position(stage: LockedStage) -> tuple[object, ...]:
    """Return what a promotion or rollback writes in a stage."""
    return stage.serving, stage.previous, stage.checkpoint, stage.promote_time, stage.sampling, stage.fields


_Promotion = tuple[datetime, str]


def _promotion(generation: LockedGeneration) -> _Promotion:
    """Return when a generation was last promoted, and with which checkpoint."""
    return parse_time(generation.promote_time) or EARLIEST, generation.checkpoint


def _later(_base: object, ours: _Promotion, theirs: _Promotion) -> _Promotion:
    return max(ours, theirs)


def _without_reason(generation: LockedGeneration, revoked: AbstractSet[str]) -> LockedGeneration:
    """Return the generation without the reason of a rejection that one side revoked."""
    return replace(generation, rejection="") if generation.key in revoked else generation


def _merge_fields(base: _StructT | None, ours: _StructT, theirs: _StructT) -> _StructT:
    values = {
        name: pick_changed(
            getattr(base, name) if base else ABSENT,
            getattr(ours, name),
            getattr(theirs, name),
            _RULES.get(name, prefer_nonempty),
        )
        for name in (field.name for field in fields(ours))
    }
    return type(ours)(**values)


def _is_same_training(left: LockedGeneration, right: LockedGeneration) -> bool:
    if left.remote != right.remote:
        return False
    return not (left.create_time and right.create_time) or parse_time(left.create_time) == parse_time(right.create_time)


def _progress(generation: LockedGeneration) -> tuple[int, bool, str]:
    return _BY_PROGRESS.index(generation.state), generation.failure is not None, repr(generation.failure)


def _precedence(generation: LockedGeneration) -> tuple[int, datetime, str, str]:
    return _BY_PRECEDENCE.index(generation.state), generation.created_at, generation.remote, repr(generation)


def _worse_checks(base: RecordedChecks | None, ours: RecordedChecks | None, theirs: RecordedChecks | None) -> Any:
    """Return the result of checks that the ancestor does not have; of two such the one with more failures."""
    before = base.digest if isinstance(base, RecordedChecks) else ""
    results = [checks for checks in (ours, theirs) if checks]
    return max(results, key=lambda checks: (checks.digest != before, checks.failed, repr(checks)), default=None)


def _merge_hyperparameters(
    base: LockedHyperparameters | object, ours: LockedHyperparameters, theirs: LockedHyperparameters
) -> LockedHyperparameters:
    return _merge_fields(base if isinstance(base, LockedHyperparameters) else None, ours, theirs)


_RULES: Final[Mapping[str, Rule]] = {
    "promote_time": latest,
    "rejection": join_reasons,
    "checks": _worse_checks,
    "hyperparameters": _merge_hyperparameters,
}
"""The rules of the fields of a generation."""
