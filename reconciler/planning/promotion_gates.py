"""The gates between a ready generation and its promotion: access and sampling, then checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from reconciler.domain.access import AccessChange, access_changes
from reconciler.domain.checks import RecordedChecks, describe_candidates, describe_comparison
from reconciler.domain.model import BEST, State
from reconciler.domain.plan import Action, FieldChange, Kind, Reason
from reconciler.domain.text import join_names
from reconciler.planning.check_evaluation import checks_digest, most_prompts
from reconciler.planning.diff import ReconcileContext, mutable_changes
from reconciler.planning.generations import ResolvedGeneration, satisfies


def update_actions(context: ReconcileContext, desired: ResolvedGeneration | None = None) -> Iterator[Action]:
    """Yield patches of the serving and the desired generation, and permissions of every ready one."""
    for generation in context.generations:
        if generation.live is None or generation.state is not State.ACTIVE:
            continue
        if generation.remote in context.unreadable:
            yield context.action(
                Kind.HOLD, Reason.ACCESS_UNAVAILABLE, generation, context.unreadable[generation.remote]
            )
        for checkpoint in context.locked.served_checkpoints(generation.key, generation.checkpoint):
            if not generation.is_deployed(checkpoint):
                yield _deployment(context, generation, checkpoint)
        mutable = context.serves(generation) or generation is desired
        changes = (
            mutable_changes(context.manifest, generation.live, context.capabilities.mutable, generation.mark)
            if mutable
            else ()
        )
        access = _access(context, generation)
        if changes or access:
            reason = Reason.DRIFTED if changes else Reason.ACCESS_CHANGED
            yield replace(context.action(Kind.UPDATE, reason, generation), changes=changes, access=access)


def _deployment(context: ReconcileContext, generation: ResolvedGeneration, checkpoint: str) -> Action:
    endpoint = generation.resources.endpoint_of(checkpoint)
    lost = f"{endpoint} does not exist or does not have its model" if endpoint else "its training created no endpoint"
    deployed = f"checkpoint {checkpoint}" if checkpoint else "it"
    action = context.action(Kind.UPDATE, Reason.UNDEPLOYED, generation, f"{lost}; {deployed} is deployed again")
    return replace(action, checkpoints=(checkpoint,) if checkpoint else ())


def _access(context: ReconcileContext, generation: ResolvedGeneration) -> tuple[AccessChange, ...]:
    declared, live = context.manifest.access, context.permissions.get(generation.remote)
    return () if declared is None or live is None else access_changes(declared, live)


def _is_open(context: ReconcileContext, generation: ResolvedGeneration) -> bool:
    """Whether permissions are declared but not read yet, in a run that promotes."""
    return (
        context.request.promotes
        and context.manifest.access is not None
        and generation.live is not None
        and generation.remote not in context.permissions
    )


def promotion_actions(context: ReconcileContext, generation: ResolvedGeneration) -> Iterator[Action]:
    """Yield the checks, or else the promotion, of a ready generation; nothing if it is already serving.

    Recorded results that passed are not used for a promotion: the lockfile can be edited. A rollback that a changed
    lockfile records is checked too, but not held: the generation is already serving, and the one before is rejected.
    """
    wanted = wanted_checkpoint(context, generation)
    serves = context.serves(generation) and generation.checkpoint == wanted
    obstacle = _checkpoint_obstacle(context, generation, wanted)
    if obstacle:
        if not (serves and obstacle.reason is Reason.UNDEPLOYED):  # else an update of the serving generation
            yield obstacle
        return
    if not serves and _is_open(context, generation):
        if generation.remote not in context.unreadable:
            yield context.action(Kind.WAIT, Reason.ACCESS_CHANGED, generation, "its permissions could not be read yet")
        return
    yield from _checked_promotion(context, generation, wanted, serves=serves)


def _checked_promotion(
    context: ReconcileContext, generation: ResolvedGeneration, wanted: str | None, *, serves: bool
) -> Iterator[Action]:
    rolled_back = serves and generation is context.requested
    checks = generation.locked.checks if generation.locked else None
    digest = checks_digest(context.manifest.checks) if context.manifest.checks else ""
    if digest and (checks is None or checks.digest != digest):
        yield _check(context, generation, wanted, Reason.CHECKS_CHANGED if checks else Reason.CHECKS_NOT_RUN)
    elif digest and checks and context.request.promotes and checks.checkpoint != wanted:
        yield _check(context, generation, wanted, Reason.CHECKPOINT_CHANGED)
    elif digest and checks and checks.failed and _is_outdated(context, generation, checks):
        yield _check(context, generation, wanted, Reason.SERVING_CHANGED)
    elif (
        digest
        and checks
        and checks.failed
        and context.manifest.lifecycle.on_failed_checks == "hold"
        and not rolled_back
    ):
        yield context.action(Kind.HOLD, Reason.CHECKS_FAILED, generation, _failure(context, generation, checks))
    elif digest and context.request.promotes and generation.key not in context.checked and (rolled_back or not serves):
        yield _check(context, generation, wanted, Reason.CHECKS_NOT_RUN, _recorded(context, checks) if checks else "")
    elif not serves:
        yield _promotion(context, generation, wanted, checks if digest else None)


def wanted_checkpoint(context: ReconcileContext, generation: ResolvedGeneration) -> str | None:
    """Return the ID of the checkpoint that is to serve, empty for the default one; ``None`` if checks have to find it.

    ``spec.serve`` is about generations that match the manifest. Of others, which a rollback promotes, the checkpoint
    that was promoted before serves. The best one is found among the recorded results only if it was compared with all
    others; a promotion checks them again.
    """
    if not satisfies(generation, context.manifest):
        return generation.checkpoint
    serve, resources = context.manifest.serve, generation.resources
    if serve != BEST:
        return resources.named(serve)
    if not (context.manifest.checks and resources.checkpoints):
        return ""
    checks = generation.locked.checks if generation.locked else None
    compared = checks is not None and bool(checks.candidates) and resources.checkpoint(checks.checkpoint) is not None
    return checks.checkpoint if checks and compared else None


def _checkpoint_obstacle(
    context: ReconcileContext, generation: ResolvedGeneration, wanted: str | None
) -> Action | None:
    """Return what has to happen before a checkpoint can be checked; ``None`` if an endpoint has it."""
    if wanted and generation.resources.checkpoint(wanted) is None:
        existing = (checkpoint.id for checkpoint in generation.resources.checkpoints)
        missing = describe_missing(generation.key, wanted, existing, "spec.serve.checkpoint")
        return context.action(Kind.HOLD, Reason.CHECKPOINT_MISSING, generation, "; ".join(missing))
    if wanted is None:
        return None if generation.deployed_checkpoints else _deployment(context, generation, "")
    return None if generation.is_deployed(wanted) else _deployment(context, generation, wanted)


def _is_outdated(context: ReconcileContext, generation: ResolvedGeneration, checks: RecordedChecks) -> bool:
    """Whether a generation that does not serve was compared with another one than now serves."""
    serving = context.serving.key if context.serving else ""
    compared = (comparison for recorded in checks.comparisons.values() for comparison in recorded)
    return generation.key != serving and any(
        comparison.other == "serving" and comparison.model != serving for comparison in compared
    )


def describe_missing(key: str, checkpoint: str, existing: Iterable[str], field: str) -> tuple[str, str]:
    """Return that a generation lacks the checkpoint in a field of the manifest, and which ones can be set there."""
    return f"{key} has no checkpoint {checkpoint}", f"set {field} to one of {join_names(tuple(existing))}"


def failed_notice(context: ReconcileContext, generation: ResolvedGeneration) -> str:
    """Return the notice for a generation that is serving although its checks fail; else empty."""
    checks = generation.locked.checks if generation.locked else None
    if not (context.manifest.checks and checks and checks.failed):
        return ""
    return f"{context.manifest.name} is serving although its checks fail: {describe_scores(checks)}"


def _check(
    context: ReconcileContext, generation: ResolvedGeneration, wanted: str | None, reason: Reason, recorded: str = ""
) -> Action:
    """Return the action that runs the checks; on every deployed checkpoint if the best one serves."""
    searches = context.manifest.serve == BEST and satisfies(generation, context.manifest)
    checkpoints = generation.deployed_checkpoints if searches else (wanted,) if wanted else ()
    changed = "the checks have changed since they were run; nothing is trained"
    compared = f"the best of the checkpoints {join_names(checkpoints)} is to serve" if searches and checkpoints else ""
    message = "; ".join(filter(None, (changed if reason is Reason.CHECKS_CHANGED else recorded, compared)))
    action, checks = context.action(Kind.CHECK, reason, generation, message), context.manifest.checks
    prompts = most_prompts(checks) * max(1, len(checkpoints))
    return replace(action, checks=len(checks), prompts=prompts, checkpoints=checkpoints)


def _promotion(
    context: ReconcileContext, generation: ResolvedGeneration, wanted: str | None, checks: RecordedChecks | None
) -> Action:
    before = context.locked.serving_key
    moves = before == generation.key and context.serves(generation)
    over = _checkpoint_name(generation.checkpoint) if moves else before
    found = describe_candidates(checks) if checks and not checks.failed and context.manifest.serve == BEST else ""
    failure = (
        f"{describe_scores(checks)}, and spec.lifecycle.onFailedChecks is serve" if checks and checks.failed else ""
    )
    message = "; ".join(filter(None, (f"it replaces {over}" if over else "", found, failure)))
    moved = (FieldChange("serve.checkpoint", generation.checkpoint or None, wanted or None),) if moves else ()
    action = context.action(Kind.PROMOTE, Reason.READY, generation, message)
    return replace(action, changes=(*context.changes(), *moved), checkpoints=(wanted,) if wanted else ())


def _checkpoint_name(checkpoint: str) -> str:
    return f"checkpoint {checkpoint}" if checkpoint else "the default checkpoint"


def _failure(context: ReconcileContext, generation: ResolvedGeneration, checks: RecordedChecks) -> str:
    """Return both scores side by side, and the remedy."""
    told = f"{generation.key}: {describe_scores(checks)}{describe_misses(checks)}"
    if context.serves(generation):
        return f"{told}; it keeps serving; fix the data or the checks, or roll it back"
    serving = context.serving
    remedy = failed_checks_remedy(checks)
    if serving is None:
        return f"{told}; no generation is serving; {remedy}"
    return f"{told}; {serving.key} keeps serving{_compared(serving, checks)}; {remedy}"


def _recorded(context: ReconcileContext, checks: RecordedChecks) -> str:
    """Return the recorded scores side by side; they are not used, because the lockfile can be edited."""
    serving = context.serving
    other = f"; {serving.key} is serving{_compared(serving, checks)}" if serving else ""
    return f"recorded earlier: {describe_scores(checks)}{other}; the checks run again before the promotion"


def _compared(serving: ResolvedGeneration, checks: RecordedChecks) -> str:
    theirs = serving.locked.checks if serving.locked else None
    if theirs is None:
        return ", for which no checks were run"
    others = "" if theirs.digest == checks.digest else " with the checks declared then"
    return f": {describe_scores(theirs)}{others}"


def failed_checks_remedy(checks: RecordedChecks) -> str:
    """Return what to do about a generation that failed its checks."""
    lost = any(not comparison.passed for recorded in checks.comparisons.values() for comparison in recorded)
    wider = ", add rows to the data set of a check whose interval is wide" if lost else ""
    return f"fix the data or the checks{wider}, or set spec.lifecycle.onFailedChecks to serve"


def describe_scores(checks: RecordedChecks) -> str:
    """Return ``2 of 3 checks passed``, with the shares of evaluations and their comparisons with other models."""
    shares = "".join(f", {name} {_share(checks, name)}" for name in sorted(checks.scores))
    best = describe_candidates(checks)
    return f"{checks.passed} of {checks.total} checks passed{shares}{f', {best}' if best else ''}"


def _share(checks: RecordedChecks, name: str) -> str:
    score, comparisons = checks.scores[name], checks.comparisons.get(name, ())
    compared = "; ".join(describe_comparison(score, comparison) for comparison in comparisons)
    return f"{score:.2f} ({compared})" if compared else f"{score:.2f}"


def describe_misses(checks: RecordedChecks) -> str:
    """Return some of the wrong answers, in parentheses; empty if none is recorded."""
    told = "; ".join(f"{miss.check}: {miss.prompt!r} → {miss.answer!r}" for miss in checks.misses)
    return f" ({told})" if told else ""
