"""What stands between a ready generation and its serving: access and sampling, then checks, then the promotion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.domain.access import AccessChange, access_changes
from reconciler.domain.checks import RecordedChecks
from reconciler.domain.model import State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.context import ReconcileContext
from reconciler.planning.diff import mutable_changes
from reconciler.planning.generations import ResolvedGeneration


def update_actions(it: ReconcileContext, desired: ResolvedGeneration | None = None) -> Iterator[Action]:
    """The patches of what serves and of what is to serve, and the permissions of every ready generation of ours."""
    for known in it.generations:
        if known.live is None or known.state is not State.ACTIVE:
            continue
        if known.remote in it.unreadable:
            yield it.action(Kind.HOLD, Reason.ACCESS_UNAVAILABLE, known, it.unreadable[known.remote])
        mutable = it.serves(known) or known is desired
        changes = mutable_changes(it.manifest, known.live, it.capabilities.mutable, known.mark) if mutable else ()
        access = _access(it, known)
        if changes or access:
            reason = Reason.DRIFTED if changes else Reason.ACCESS_CHANGED
            yield replace(it.action(Kind.UPDATE, reason, known), changes=changes, access=access)


def _access(it: ReconcileContext, known: ResolvedGeneration) -> tuple[AccessChange, ...]:
    declared, live = it.manifest.access, it.permissions.get(known.remote)
    return () if declared is None or live is None else access_changes(declared, live)


def _is_open(it: ReconcileContext, known: ResolvedGeneration) -> bool:
    """Whether nobody knows yet who may use it, although the manifest says who should."""
    return it.manifest.access is not None and known.live is not None and known.remote not in it.permissions


def promotion_actions(it: ReconcileContext, known: ResolvedGeneration) -> Iterator[Action]:
    """Whether a ready generation may serve: its checks, and then its promotion; nothing where it serves already."""
    if not it.serves(known) and _is_open(it, known):
        if known.remote not in it.unreadable:
            yield it.action(Kind.WAIT, Reason.ACCESS_CHANGED, known, "its permissions could not be read yet")
        return
    checks = known.locked.checks if known.locked else None
    digest = checks_digest(it.manifest.checks) if it.manifest.checks else ""
    if digest and (checks is None or checks.digest != digest):
        yield _check(it, known, Reason.CHECKS_CHANGED if checks else Reason.CHECKS_NOT_RUN)
    elif digest and checks and checks.failed and it.manifest.lifecycle.on_failed_checks == "hold":
        yield it.action(Kind.HOLD, Reason.CHECKS_FAILED, known, _failure(it, known, checks))
    elif not it.serves(known):
        yield _promotion(it, known, checks if digest else None)


def failed_notice(it: ReconcileContext, known: ResolvedGeneration) -> str:
    """A sentence about a generation that serves although its checks fail, as its manifest allows; else empty."""
    checks = known.locked.checks if known.locked else None
    if not (it.manifest.checks and checks and checks.failed):
        return ""
    return f"{it.manifest.name} serves although its checks fail: {describe_scores(checks)}"


def _check(it: ReconcileContext, known: ResolvedGeneration, reason: Reason) -> Action:
    message = (
        "the checks have changed since they were run; nothing is trained" if reason is Reason.CHECKS_CHANGED else ""
    )
    return replace(it.action(Kind.CHECK, reason, known, message), checks=len(it.manifest.checks))


def _promotion(it: ReconcileContext, known: ResolvedGeneration, checks: RecordedChecks | None) -> Action:
    over = f"it takes over from {it.locked.serving}" if it.locked.serving else ""
    failure = (
        f"{describe_scores(checks)}, and spec.lifecycle.onFailedChecks lets it serve"
        if checks and checks.failed
        else ""
    )
    message = "; ".join(filter(None, (over, failure)))
    return replace(it.action(Kind.PROMOTE, Reason.READY, known, message), changes=it.changes())


def _failure(it: ReconcileContext, known: ResolvedGeneration, checks: RecordedChecks) -> str:
    """Both scores side by side, and what is to be done."""
    told = f"{known.key}: {describe_scores(checks)}{describe_misses(checks)}"
    if it.serves(known):
        return f"{told}; it serves on; correct data or checks, or roll it back"
    serving = it.serving
    remedy = "correct data or checks, or set spec.lifecycle.onFailedChecks to serve"
    if serving is None:
        return f"{told}; nothing serves; {remedy}"
    return f"{told}; {serving.key} serves on{_compared(serving, checks)}; {remedy}"


def _compared(serving: ResolvedGeneration, checks: RecordedChecks) -> str:
    theirs = serving.locked.checks if serving.locked else None
    if theirs is None:
        return ", for which no checks were run"
    others = "" if theirs.digest == checks.digest else " of the checks that were declared then"
    return f": {describe_scores(theirs)}{others}"


def describe_scores(checks: RecordedChecks) -> str:
    """``2 of 3 checks passed``, with the shares of evaluations."""
    total = checks.passed + checks.failed
    shares = "".join(f", {name} {share:.2f}" for name, share in sorted(checks.scores.items()))
    return f"{checks.passed} of {total} checks passed{shares}"


def describe_misses(checks: RecordedChecks) -> str:
    """Some of the answers that did not pass, in brackets; empty where none is recorded."""
    told = "; ".join(f"{one.check}: {one.prompt!r} → {one.answer!r}" for one in checks.misses)
    return f" ({told})" if told else ""
