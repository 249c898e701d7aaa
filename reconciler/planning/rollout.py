"""Moving by hand what serves: which generation a rollback goes back to, and which one a promotion lets serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import EARLIEST, Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import Manifest, State
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.generations import (
    ResolvedGeneration,
    choose_generation,
    resolve_generations,
    satisfies,
)
from reconciler.planning.lineage import recorded_parent, with_source
from reconciler.planning.world import Observation

_OFFLINE = Observation()
_ANEW: Final = "change the manifest and run reconcile apply"


def choose_rollback(name: str, model: LockedModel, to: str | None) -> LockedGeneration:
    """The generation to go back to from what serves: ``to``, or else what served before.

    That is the one of the ready and not rejected ones that was promoted last. Where no promotion is recorded, it is the
    newest one that is older than what serves and did not fail its checks.

    Raises:
        ReconcileError: when nothing serves, or when ``to`` cannot serve, or nothing else can.
    """
    if model.serving is None:
        raise ReconcileError(
            f"nothing serves {name}, so there is nothing to roll back",
            f"let a generation serve with reconcile promote {name} --to KEY, or run reconcile apply",
        )
    if to is None:
        return _served_before(name, model, model.serving)
    chosen = _recorded(name, model, to)
    if to == model.serving:
        raise ReconcileError(f"{to} is what serves {name}", _instead(model))
    if to in model.rejected:
        why = f": {chosen.rejection}" if chosen.rejection else ""
        raise ReconcileError(
            f"{to} was rejected{why}; a rejected generation does not serve",
            f"take the rejection back with reconcile promote {name} --to {to}",
        )
    _require_ready(model, chosen)
    return chosen


def alternatives(model: LockedModel, *keys: str) -> tuple[LockedGeneration, ...]:
    """The generations that could serve in the place of what does, newest first, but not those of these keys."""
    barred = {model.serving, *model.rejected, *keys}
    return tuple(one for one in model.generations if one.state is State.ACTIVE and one.key not in barred)


def _served_before(name: str, model: LockedModel, serving: str) -> LockedGeneration:
    usable = alternatives(model)
    promoted = [one for one in usable if one.promote_time]
    if promoted:
        return max(promoted, key=_promoted_at)
    older = set(_older(model, serving))
    found = next((one for one in usable if one.key in older and not (one.checks and one.checks.failed)), None)
    if found is None:
        lack = "served before, or is older and did not fail its checks" if usable else "is ready and not rejected"
        message = f"there is nothing to go back to from {serving}: no other generation of {name} {lack}"
        raise ReconcileError(message, _instead(model) if usable else _ANEW)
    return found


def _promoted_at(one: LockedGeneration) -> datetime:
    return parse_time(one.promote_time) or EARLIEST


def _older(model: LockedModel, key: str) -> Iterator[str]:
    """The keys behind that one; all of them where it is not recorded."""
    keys = [one.key for one in model.generations]
    yield from keys[keys.index(key) + 1 :] if key in keys else keys


def choose_promotion(
    name: str, lock: Lock, to: str | None, *, scope: str, manifest: Manifest | None
) -> LockedGeneration:
    """The generation that is to serve from now on: ``to``, or else a rejected one.

    Of those, the one that satisfies the manifest comes first, then the newest that is ready; where nothing is rejected,
    it is the one that serves. What serves already, and is not rejected, is fine as it is.

    Raises:
        ReconcileError: when it cannot serve, its checks were not passed, or the next apply would have another one serve
            again; or when there is nothing to choose.
    """
    model = lock.models[name]
    wanted = _with_parent(manifest, scope, lock) if manifest else None
    satisfying = _satisfying(model, wanted, scope) if wanted else ()
    chosen = _rejected(name, model, satisfying) if to is None else _recorded(name, model, to)
    if is_serving(model, chosen.key):
        return chosen
    _require_ready(model, chosen)
    if wanted:
        _require_checks(chosen, wanted)
        _require_lasting(model, chosen, wanted, satisfying)
    return chosen


def is_serving(model: LockedModel, key: str) -> bool:
    """Whether that generation serves, and nobody has rejected it."""
    return model.serving == key and key not in model.rejected


def _with_parent(manifest: Manifest, scope: str, lock: Lock) -> Manifest:
    parent = manifest.source.tuned_model
    return with_source(manifest, recorded_parent(parent, scope, lock, _OFFLINE) if parent else None)


def _satisfying(model: LockedModel, manifest: Manifest, scope: str) -> tuple[ResolvedGeneration, ...]:
    known = resolve_generations(manifest.name, scope, model, _OFFLINE, ())
    return tuple(one for one in known if satisfies(one, manifest))


def _rejected(name: str, model: LockedModel, satisfying: Iterable[ResolvedGeneration]) -> LockedGeneration:
    rejected = [one for one in model.generations if one.key in model.rejected]
    good = {one.key for one in satisfying}
    serving = model.generation(model.serving)
    if rejected:
        return min(rejected, key=lambda one: (one.state is not State.ACTIVE, one.key not in good))
    if serving is None:
        raise ReconcileError(f"no generation of {name} is rejected, so there is none to let serve again", _keys(model))
    return serving


def _recorded(name: str, model: LockedModel, key: str) -> LockedGeneration:
    found = model.generation(key)
    if found is None:
        raise ReconcileError(f"{name} has no recorded generation {key}", _keys(model))
    return found


def _keys(model: LockedModel) -> str:
    shown = ", ".join(f"{one.key} ({one.state})" for one in model.generations)
    return f"name one with --to; the recorded ones are: {shown}" if shown else "run reconcile apply first"


def _instead(model: LockedModel, *keys: str) -> str:
    others = alternatives(model, *keys)
    if others:
        return f"name another one with --to: {', '.join(one.key for one in others)}"
    return f"no other one could serve; {_ANEW}"


def unusable_error(model: LockedModel, key: str, why: str) -> ReconcileError:
    """That a generation cannot serve, with the others that could."""
    return ReconcileError(f"{key} cannot serve: {why}", _instead(model, key))


def _require_ready(model: LockedModel, one: LockedGeneration) -> None:
    if one.state is not State.ACTIVE:
        raise unusable_error(model, one.key, f"it was recorded as {one.state}")


def _require_checks(one: LockedGeneration, manifest: Manifest) -> None:
    """What a manifest expects of answers holds for what is promoted by hand too."""
    run = f"reconcile check {manifest.name} --generation {one.key}"
    if manifest.checks and (one.checks is None or one.checks.digest != checks_digest(manifest.checks)):
        which = "the checks" if one.checks is None else "the present checks"
        raise ReconcileError(f"{one.key} cannot serve: {which} were never run on it", f"run {run} first")
    if one.checks and _is_held(one, manifest):
        total = one.checks.passed + one.checks.failed
        raise ReconcileError(
            f"{one.key} cannot serve: {one.checks.failed} of {total} checks failed",
            f"correct the checks and run {run}, or set spec.lifecycle.onFailedChecks to serve",
        )


def _is_held(one: LockedGeneration | None, manifest: Manifest) -> bool:
    """Whether a generation failed the checks that its manifest declares, and may not serve because of that."""
    checks = one.checks if one else None
    if not checks or not checks.failed or manifest.lifecycle.on_failed_checks != "hold":
        return False
    return bool(manifest.checks) and checks.digest == checks_digest(manifest.checks)


def _require_lasting(
    model: LockedModel, one: LockedGeneration, manifest: Manifest, satisfying: tuple[ResolvedGeneration, ...]
) -> None:
    """Refuse what the next apply would undo."""
    rejected = tuple(key for key in model.rejected if key != one.key)
    chosen = choose_generation(satisfying, one.key, rejected)
    if chosen is None or chosen.key == one.key or chosen.state is not State.ACTIVE or _is_held(chosen.locked, manifest):
        return
    rolls_back = chosen.key == model.serving and one.key not in model.rejected
    raise ReconcileError(
        f"{one.key} would not serve for long: {chosen.key} is ready and what the manifest asks for, so the next apply"
        " would have it serve again",
        f"reject that one instead: reconcile rollback {manifest.name} --to {one.key} --reason TEXT"
        if rolls_back
        else f"bring the manifest back to what {one.key} was trained from (that trains nothing), and promote it then",
    )
