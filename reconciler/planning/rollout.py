"""Choose the generation of a rollback or of a manual promotion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.lock import EARLIEST, Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import Manifest, State
from reconciler.domain.plan import Observation
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.generations import (
    ResolvedGeneration,
    choose_generation,
    resolve_generations,
    satisfies,
)
from reconciler.planning.lineage import recorded_parent, with_source
from reconciler.planning.live_proof import Owner
from reconciler.planning.promotion_gates import describe_scores, failed_checks_remedy

_OFFLINE = Observation()
_CHANGE: Final = "change the manifest and run reconcile apply"


def choose_rollback(name: str, model: LockedModel, to: str | None) -> LockedGeneration:
    """Return the generation to roll back to: ``to``, or else the previous serving generation.

    That is the ready and not rejected one with the last promotion. Without a recorded promotion, it is the newest one
    that is older than the serving generation and did not fail its checks.

    Raises:
        ReconcileError: when no generation is serving, or ``to`` cannot be promoted, or no other can.
    """
    serving = model.serving_key
    if serving is None:
        raise ReconcileError(
            f"{name} has no serving generation, so there is nothing to roll back",
            f"promote a generation with reconcile promote {name} --to KEY, or run reconcile apply",
        )
    if to is None:
        return _served_before(name, model, serving)
    chosen = _recorded(name, model, to)
    if model.serves(to):
        raise ReconcileError(f"{to} is already serving {name}", _instead(model))
    if to in model.rejected:
        reason = f": {chosen.rejection}" if chosen.rejection else ""
        raise ReconcileError(
            f"{to} was rejected{reason}",
            f"remove the rejection with reconcile promote {name} --to {to}",
        )
    _require_ready(model, chosen)
    return chosen


def choose_rollback_in(name: str, model: LockedModel, stage: str, to: str | None) -> LockedGeneration:
    """Return the generation to roll a stage after the first one back to: ``to``, or else the one that served before.

    Raises ReconcileError as :func:`choose_rollback`.
    """
    seen, previous = model.in_stage(stage), model.stage(stage).previous
    if to is None and seen.serving_key and previous is None:
        message = f"no generation of {name} was serving in {stage} before {seen.serving_key}"
        raise ReconcileError(message, _instead(seen))
    return choose_rollback(name, seen, to or previous)


def rollback_doubt(model: LockedModel, to: str | None) -> str:
    """Return why a person must approve a rollback to a generation that is named; empty if its checks did not fail."""
    generation = model.generation(to) if to else None
    checks = generation.checks if generation else None
    return f"the checks of {to} failed: {describe_scores(checks)}" if checks and checks.failed else ""


def alternatives(model: LockedModel, *keys: str) -> tuple[LockedGeneration, ...]:
    """Return the generations that could replace the serving one, newest first, without these keys."""
    barred = {model.serving_key, *model.rejected, *keys}
    return tuple(
        generation
        for generation in model.generations
        if generation.state is State.ACTIVE and generation.key not in barred
    )


def _served_before(name: str, model: LockedModel, serving: str) -> LockedGeneration:
    usable = alternatives(model)
    promoted = [generation for generation in usable if generation.promote_time]
    if promoted:
        return max(promoted, key=_promoted_at)
    older = set(_older(model, serving))
    found = next(
        (
            generation
            for generation in usable
            if generation.key in older and not (generation.checks and generation.checks.failed)
        ),
        None,
    )
    if found is None:
        lack = "served before, or is older and did not fail its checks" if usable else "is ready and not rejected"
        message = f"there is no generation to roll back to from {serving}: no other generation of {name} {lack}"
        raise ReconcileError(message, _instead(model) if usable else _CHANGE)
    return found


def _promoted_at(generation: LockedGeneration) -> datetime:
    return parse_time(generation.promote_time) or EARLIEST


def _older(model: LockedModel, key: str) -> Iterator[str]:
    """Return the keys of older generations; all keys if that one is not recorded."""
    keys = [generation.key for generation in model.generations]
    yield from keys[keys.index(key) + 1 :] if key in keys else keys


def choose_promotion(
    name: str, lock: Lock, to: str | None, *, scope: str, manifest: Manifest | None
) -> LockedGeneration:
    """Return the generation to promote: ``to``, or else a rejected one.

    Among rejected ones, one that matches the manifest is preferred, then the newest ready one; if none is rejected, it
    is the serving generation. One that is already serving and not rejected is returned without further checks.

    Raises:
        ReconcileError: when it cannot be promoted, or the next apply would promote another
            one again; or when there is no choice.
    """
    model = lock.models[name]
    wanted = _with_parent(manifest, scope, lock) if manifest else None
    satisfying = _satisfying(model, wanted, scope) if wanted else ()
    chosen = _rejected(name, model, satisfying) if to is None else _recorded(name, model, to)
    if is_serving(model, chosen.key):
        return chosen
    _require_ready(model, chosen)
    if wanted:
        _require_lasting(model, chosen, wanted, satisfying)
    return chosen


def is_serving(model: LockedModel, key: str) -> bool:
    """Whether that generation is serving and not rejected."""
    return model.serves(key) and key not in model.rejected


def _with_parent(manifest: Manifest, scope: str, lock: Lock) -> Manifest:
    parent = manifest.source.tuned_model
    return with_source(manifest, recorded_parent(Owner(scope, parent), lock, _OFFLINE) if parent else None)


def _satisfying(model: LockedModel, manifest: Manifest, scope: str) -> tuple[ResolvedGeneration, ...]:
    known = resolve_generations(Owner(scope, manifest.name), model, _OFFLINE, ())
    return tuple(generation for generation in known if satisfies(generation, manifest))


def _rejected(name: str, model: LockedModel, satisfying: Iterable[ResolvedGeneration]) -> LockedGeneration:
    rejected = [generation for generation in model.generations if generation.key in model.rejected]
    good = {generation.key for generation in satisfying}
    serving = model.serving_generation
    if rejected:
        return min(rejected, key=lambda generation: (generation.state is not State.ACTIVE, generation.key not in good))
    if serving is None:
        raise ReconcileError(f"no generation of {name} is rejected, so there is none to promote again", _keys(model))
    return serving


def _recorded(name: str, model: LockedModel, key: str) -> LockedGeneration:
    found = model.generation(key)
    if found is None:
        raise UsageError(f"{name} has no recorded generation {key}", _keys(model))
    return found


def _keys(model: LockedModel) -> str:
    shown = [f"{generation.key} ({generation.state})" for generation in model.generations]
    return (
        f"pass one with --to; recorded generations: {join_names(shown)}"
        if shown
        else for_target("run reconcile apply first")
    )


def _instead(model: LockedModel, *keys: str) -> str:
    others = alternatives(model, *keys)
    if others:
        return f"pass another one with --to: {join_names([generation.key for generation in others])}"
    return for_target(f"no other generation can be promoted; {_CHANGE}")


def unusable_error(model: LockedModel, key: str, cause: str) -> ReconcileError:
    """Return the error for a generation that cannot be promoted, with the alternatives."""
    return ReconcileError(f"{key} cannot be promoted: {cause}", _instead(model, key))


def _require_ready(model: LockedModel, generation: LockedGeneration) -> None:
    if generation.state is not State.ACTIVE:
        raise unusable_error(model, generation.key, f"its recorded state is {generation.state}")


def require_passed(key: str, checks: RecordedChecks, manifest: Manifest) -> None:
    """Refuse a generation that failed its checks, unless the manifest allows it; manual promotions need them too.

    Raises:
        ReconcileError: with the number of passed checks, scores and comparisons.
    """
    if checks.failed and manifest.lifecycle.on_failed_checks == "hold":
        message = f"{key} cannot be promoted: {describe_scores(checks)}"
        raise ReconcileError(message, failed_checks_remedy(checks))


def _is_held(generation: LockedGeneration | None, manifest: Manifest) -> bool:
    """Whether a generation failed its declared checks and must not be promoted because of that."""
    checks = generation.checks if generation else None
    if not checks or not checks.failed or manifest.lifecycle.on_failed_checks != "hold":
        return False
    return bool(manifest.checks) and checks.digest == checks_digest(manifest.checks)


def _require_lasting(
    model: LockedModel, generation: LockedGeneration, manifest: Manifest, satisfying: tuple[ResolvedGeneration, ...]
) -> None:
    """Refuse a promotion that the next apply would revert."""
    rejected = tuple(key for key in model.rejected if key != generation.key)
    chosen = choose_generation(satisfying, generation.key, rejected)
    if (
        chosen is None
        or chosen.key == generation.key
        or chosen.state is not State.ACTIVE
        or _is_held(chosen.locked, manifest)
    ):
        return
    rolls_back = model.serves(chosen.key) and generation.key not in model.rejected
    raise ReconcileError(
        f"{generation.key} would not keep serving: {chosen.key} is ready and matches the manifest, so the next apply"
        " would promote it again",
        f"reject that one instead: reconcile rollback {manifest.name} --to {generation.key} --reason TEXT"
        if rolls_back
        else f"restore the manifest that {generation.key} was trained from (nothing is trained), then promote it",
    )
