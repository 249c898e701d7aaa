"""What has changed behind the manifests' back, and where they are ahead: a finding for each, with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from reconciler.domain.errors import Place
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, State, Target
from reconciler.domain.plan import Action, FieldChange, Kind, Reason, Request
from reconciler.planning.context import ReconcileContext
from reconciler.planning.decide import decide, failure_cause
from reconciler.planning.generations import (
    EXPECTED_STATES,
    Observation,
    ResolvedGeneration,
    find_live_model,
    marked_models,
    replaced_fields,
    satisfies,
)
from reconciler.planning.moved import declared_names, with_carried
from reconciler.planning.planner import list_unmanaged, orphan_actions, resolve_manifests
from reconciler.planning.promotion_gates import describe_misses, describe_scores

Severity = Literal["drift", "note"]


class DriftClass(StrEnum):
    """The classes of findings, in the order in which those of one model are told."""

    MISSING = "Missing"
    REPLACED = "Replaced"
    FAILED = "Failed"
    DEGRADED = "Degraded"
    OUTDATED = "Outdated"
    MODIFIED = "Modified"
    ORPHANED = "Orphaned"
    PINNED = "Pinned"
    IN_PROGRESS = "InProgress"
    CANDIDATE = "Candidate"
    UNVERIFIABLE = "Unverifiable"
    BASE_MODEL_RETIRED = "BaseModelRetired"
    UNMANAGED = "Unmanaged"
    IN_SYNC = "InSync"


FAILING: Final = frozenset(
    {
        DriftClass.MISSING,
        DriftClass.REPLACED,
        DriftClass.FAILED,
        DriftClass.DEGRADED,
        DriftClass.OUTDATED,
        DriftClass.MODIFIED,
        DriftClass.ORPHANED,
    }
)
"""What counts as drift; the others are notes, so that a scheduled job is not red for ever."""
_ORDER: Final = {one: position for position, one in enumerate(DriftClass)}
_GENERATION: Final = "generation"
"""The field of findings that are about which generation there is; its values are keys."""
_BESIDE_SYNC: Final = frozenset({DriftClass.CANDIDATE, DriftClass.BASE_MODEL_RETIRED, DriftClass.REPLACED})
"""What may be noted of a manifest that is in sync all the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about one model.

    ``file`` is the manifest's path relative to the root and ``place`` where its name stands; both are empty for what
    has no manifest. ``field`` is what differs, ``declared`` what was asked for or recorded and ``live`` what there is.
    ``since`` is an RFC 3339 time: since when it is so, as far as known. ``message`` is a sentence without a final stop,
    ``remedy`` a command or what else to do.
    """

    kind: DriftClass
    message: str
    severity: Severity
    name: str = ""
    file: str = ""
    place: Place | None = None
    key: str = ""
    remote: str = ""
    field: str = ""
    declared: object = None
    live: object = None
    since: str = ""
    remedy: str = ""

    def sort_key(self) -> tuple[bool, str, str, int, str, str, str]:
        """Where the finding stands: by manifest, then by class; what has no manifest comes last."""
        return not self.file, self.file, self.name, _ORDER[self.kind], self.key, self.remote, self.field


def drift(
    manifests: Sequence[Manifest],
    observed: Observation,
    lock: Lock,
    target: Target,
    capabilities: Capabilities,
    now: datetime,
    *,
    complete: bool = True,
    where: str = "",
) -> tuple[Finding, ...]:
    """Everything that is to be said of what is declared, recorded and there, sorted.

    ``observed.untunable`` should tell of the base models of what serves and of what is declared. ``complete`` says
    that every manifest of the root was read. ``where`` is what commands in remedies need to be about the same, such as
    ``--target gl``.
    """

    def command(*words: str) -> str:
        return " ".join(("reconcile", *words, *filter(None, (where,))))

    lock = with_carried(lock, manifests)
    found: list[Finding] = []
    for one in resolve_manifests(manifests, observed, lock, target, Request(complete=complete), capabilities, now):
        found += _of_manifest(one.context, one.actions, observed, lock, command)
    if complete:
        found += _orphaned(manifests, observed, lock, target.scope, command)
        found += _others_candidates(manifests, observed, lock, target.scope)
    found += map(_unmanaged, list_unmanaged(observed, lock, target.scope))
    return tuple(sorted(found, key=Finding.sort_key))


def judged(findings: Iterable[Finding], fail_on: frozenset[DriftClass] | None) -> tuple[Finding, ...]:
    """The findings with their severity set by what somebody wants to fail on; as they are where nobody says."""
    if fail_on is None:
        return tuple(findings)
    return tuple(replace(one, severity="drift" if one.kind in fail_on else "note") for one in findings)


_Command = Callable[..., str]


@dataclass(frozen=True, slots=True)
class _Case:
    """One manifest and what is around it. ``actions`` are those of a manifest that is not suspended."""

    it: ReconcileContext
    actions: tuple[Action, ...]
    observed: Observation
    lock: Lock
    command: _Command
    known: Mapping[str, ResolvedGeneration] = field(default_factory=dict)

    @property
    def serving(self) -> ResolvedGeneration | None:
        return self.it.serving

    def finding(
        self, kind: DriftClass, message: str, known: ResolvedGeneration | None = None, **fields: Any
    ) -> Finding:
        manifest = self.it.manifest
        about = {"key": known.key, "remote": known.remote} if known else {}
        severity: Severity = "drift" if kind in FAILING else "note"
        filled = {"severity": severity, **about, **fields}
        return Finding(kind, message, name=manifest.name, file=manifest.file, place=manifest.place, **filled)

    def apply(self, *options: str) -> str:
        """The command that mends it, once nothing suspends the manifest."""
        command = self.command("apply", *options)
        if not self.it.manifest.lifecycle.suspend:
            return command
        return f"take spec.lifecycle.suspend out of {self.it.manifest.place.file}, then {command}"

    def lagging(self) -> DriftClass:
        """What a manifest is whose content serves nowhere: somebody who suspends it asked for that."""
        if self.serving is None:
            return DriftClass.MISSING
        return DriftClass.PINNED if self.it.manifest.lifecycle.suspend else DriftClass.OUTDATED


def _of_manifest(
    it: ReconcileContext, actions: tuple[Action, ...], observed: Observation, lock: Lock, command: _Command
) -> Iterator[Finding]:
    if it.manifest.lifecycle.suspend:
        lifecycle = replace(it.manifest.lifecycle, suspend=False)
        actions = decide(replace(it, manifest=replace(it.manifest, lifecycle=lifecycle)))
    case = _Case(it, actions, observed, lock, command, {one.key: one for one in it.generations})
    found = [*_lost(case), *_replaced(case)]
    lost = any(one.severity == "drift" for one in found)
    for action in actions:
        found += _TOLD[action.kind](case, action)
    if lost:  # that nothing is there any more says all of it
        found = [one for one in found if one.kind is not DriftClass.MISSING or one.key]
    found += [*_degraded(case), *_unverifiable(case), *_strays(case), *_retired(case)]
    yield from found
    if all(one.severity == "note" and one.kind in _BESIDE_SYNC for one in found):
        yield case.finding(DriftClass.IN_SYNC, "it is as declared", case.serving, since=_promoted(case.serving))


def _lost(case: _Case) -> Iterator[Finding]:
    """The recorded generations that are gone."""
    for one in case.it.locked.generations:
        known = case.known[one.key]
        serves = one.key == case.it.locked.serving
        expected = one.state in EXPECTED_STATES or (serves and one.state is State.MISSING)
        if known.locked is not one or known.state is not State.MISSING or not expected:
            continue
        if one.remote not in case.observed.models:
            what = "what serves is gone from the service" if serves else "it is gone from the service"
            then = _next(case) if serves or satisfies(known, case.it.manifest) else "which records that"
            differs = {"field": _GENERATION, "declared": one.key}
            yield case.finding(DriftClass.MISSING, what, known, **differs, remedy=f"{case.apply()}, {then}")


def _next(case: _Case) -> str:
    """What the next apply does about a loss."""
    takes = next((one.key for one in case.actions if one.kind is Kind.PROMOTE), "")
    return f"which lets {takes} serve" if takes else "which trains it again"


def _replaced(case: _Case) -> Iterator[Finding]:
    """The recorded generations under whose name there is something else; what is superseded is only noted."""
    for one in case.it.locked.generations:
        known, model = case.known[one.key], case.observed.models.get(one.remote)
        if known.locked is not one or model is None or one.state not in EXPECTED_STATES:
            continue
        ours = find_live_model(one, case.it.scope, case.it.manifest.name, case.observed) is not None
        for change in replaced_fields(one, model, case.lock, strict=not ours or case.it.capabilities.caller_chosen_ids):
            serving = case.it.locked.serving
            matters = one.key == serving if serving else satisfies(known, case.it.manifest)
            yield case.finding(
                DriftClass.REPLACED,
                f"another model stands under the name of {one.key}" + ("" if ours else ", without our mark"),
                known,
                field=change.field,
                declared=change.declared,
                live=change.live,
                since=model.create_time,
                severity="drift" if matters else "note",
                remedy=_replacement(case, change.field, ours=ours),
            )


def _replacement(case: _Case, changed: str, *, ours: bool) -> str:
    name = case.it.manifest.name
    if not ours:
        return f"delete that model by hand, then {case.apply()}, which trains it again; or rename the manifest"
    if changed == "ownership mark":
        return f"take the line managed-by=reconcile out of its description; {case.apply()} writes the recorded one"
    again = case.apply("--replace", name)
    refresh = case.command("refresh")
    return f"{refresh} if another run of yours trained it; else {again}, which trains it once more"


def _needed(case: _Case, action: Action) -> Iterator[Finding]:
    """A training that is asked for and not begun, be it because something stands in the way."""
    held = action.kind is Kind.HOLD
    kind = case.lagging()
    if kind is DriftClass.MISSING:
        message = action.message or "nothing serves it, and nothing trains for it"
        remedy = f"when that is settled, {case.apply()}" if held else f"{case.apply()}, which trains {action.key}"
        yield case.finding(kind, message, field=_GENERATION, declared=action.key or None, remedy=remedy)
        return
    serving = case.serving
    known = action.message or "what serves is not what the manifest asks for by now"
    remedy = f"when that is settled, {case.apply()}" if held else f"{case.apply()}, which trains {action.key}"
    yield from _differing(case, kind, known, serving, remedy=remedy)


def _differing(
    case: _Case, kind: DriftClass, message: str, known: ResolvedGeneration | None, **fields: Any
) -> Iterator[Finding]:
    """A finding for each field in which the content differs; one without a field where none is known to."""
    changes = case.it.changes() if case.it.manifest.dataset.digest else ()
    for change in changes or (FieldChange("", None, None),):
        shown = {"field": change.field, "declared": change.declared, "live": change.live}
        yield case.finding(kind, message, known, **shown, **fields)


def _modified(case: _Case, action: Action) -> Iterator[Finding]:
    known = case.known[action.key]
    live = known.live
    for change in action.changes:
        yield case.finding(
            DriftClass.MODIFIED,
            f"{known.key} is at the service not what is declared",
            known,
            field=change.field,
            declared=change.declared,
            live=change.live,
            since=live.update_time if live else "",
            remedy=case.apply(),
        )
    for one in action.access:
        before = one.before.role if one.before else None
        yield case.finding(
            DriftClass.MODIFIED,
            f"{known.key} is shared otherwise",
            known,
            field=f"access.{one.grantee}",
            declared=one.role,
            live=before,
            remedy=case.apply(),
        )


def _in_flight(case: _Case, action: Action) -> Iterator[Finding]:
    known = case.known[action.key]
    if action.reason is Reason.ACCESS_CHANGED:
        yield case.finding(DriftClass.UNVERIFIABLE, action.message, known, remedy=case.apply())
        return
    meanwhile = f"; {case.serving.key} serves meanwhile" if case.serving else ""
    message = action.message or f"it is training{meanwhile}"
    yield case.finding(DriftClass.IN_PROGRESS, message, known, since=_begun(known), remedy=case.command("wait"))


def _ready(case: _Case, action: Action) -> Iterator[Finding]:
    """A generation that is ready, and still has its checks or its promotion before it."""
    known = case.known[action.key]
    name = case.it.manifest.name
    if case.it.serves(known):
        why = "its checks have changed since they were run on it"
        never = "its checks were never run on it"
        message = why if action.reason is Reason.CHECKS_CHANGED else never
        yield case.finding(DriftClass.UNVERIFIABLE, message, known, remedy=case.command("check", name))
    elif known.locked is None and case.it.locked.serving is None:
        message = "it bears our mark and is what the manifest asks for, but the lockfile does not tell what serves"
        remedy = f"{case.apply()}, which records it and trains nothing"
        yield case.finding(DriftClass.UNVERIFIABLE, message, known, since=_begun(known), remedy=remedy)
    else:
        kind = DriftClass.OUTDATED if case.serving is None else case.lagging()
        message = f"{known.key} is ready, and does not serve yet"
        yield from _differing(case, kind, message, case.serving, since=_ended(known), remedy=case.apply())


def _double(case: _Case, action: Action) -> Iterator[Finding]:
    yield case.finding(
        DriftClass.IN_PROGRESS, action.message, key=action.key, remote=action.remote, remedy=case.apply()
    )


def _failed(case: _Case, action: Action) -> Iterator[Finding]:
    known = case.known[action.key]
    remedy = f"change the inputs and {case.apply()}, or {case.apply('--retry', case.it.manifest.name)}"
    yield case.finding(DriftClass.FAILED, failure_cause(known), known, since=_ended(known), remedy=remedy)


def _checks_failed(case: _Case, action: Action) -> Iterator[Finding]:
    known = case.known[action.key]
    checks = known.locked.checks if known.locked else None
    if case.it.serves(known) or checks is None:
        return  # what serves is degraded, which is told of anyway
    serves = f"; {case.serving.key} serves on" if case.serving else "; nothing serves"
    yield case.finding(
        DriftClass.FAILED,
        f"it was trained, and does not serve: {describe_scores(checks)}{describe_misses(checks)}{serves}",
        known,
        since=_ended(known),
        remedy=f"correct data or checks and {case.apply()}, or set spec.lifecycle.onFailedChecks to serve",
    )


def _rolled_back(case: _Case, action: Action) -> Iterator[Finding]:
    known, serving = case.known[action.key], case.serving
    why = f": {known.locked.rejection}" if known.locked and known.locked.rejection else ""
    yield case.finding(
        DriftClass.PINNED,
        f"{known.key} was rolled back{why}",
        serving,
        field=_GENERATION,
        declared=known.key,
        live=serving.key if serving else None,
        since=_promoted(serving),
        remedy=f"{case.command('promote', case.it.manifest.name, '--to', known.key)}, or change the manifest",
    )


def _parent_paused(case: _Case, action: Action) -> Iterator[Finding]:
    kind = DriftClass.PINNED if case.serving else DriftClass.MISSING
    yield case.finding(kind, action.message, case.serving, remedy=_parents_remedy(case))


def _parent_held(case: _Case, action: Action) -> Iterator[Finding]:
    kind = DriftClass.UNVERIFIABLE if case.serving else DriftClass.MISSING
    yield case.finding(kind, action.message, case.serving, remedy=_parents_remedy(case))


def _parents_remedy(case: _Case) -> str:
    name = case.it.parent.name if case.it.parent else ""
    return f"settle {name} first, then {case.apply()}"


def _unreadable(case: _Case, action: Action) -> Iterator[Finding]:
    yield case.finding(DriftClass.UNVERIFIABLE, action.message, case.known[action.key])


def _nothing(_case: _Case, _action: Action) -> Iterator[Finding]:
    yield from ()


_Told = Callable[[_Case, Action], Iterator[Finding]]
_HELD: Final[Mapping[Reason, _Told]] = {
    Reason.ROLLED_BACK: _rolled_back,
    Reason.FAILED: _failed,
    Reason.CANCELLED: _failed,
    Reason.CHECKS_FAILED: _checks_failed,
    Reason.DEADLINE_EXCEEDED: _in_flight,
    Reason.ACCESS_UNAVAILABLE: _unreadable,
    Reason.PARENT_HELD: _parent_held,
    Reason.PARENT_ROLLED_BACK: _parent_paused,
    Reason.PARENT_SUSPENDED: _parent_paused,
}
"""How holds are told; those that stand in the way of a training are told as that training is."""


def _held(case: _Case, action: Action) -> Iterator[Finding]:
    return _HELD.get(action.reason, _needed)(case, action)


_TOLD: Final[Mapping[Kind, _Told]] = {
    Kind.CREATE: _needed,
    Kind.UPDATE: _modified,
    Kind.WAIT: _in_flight,
    Kind.ADOPT: _nothing,  # what is taken up is told of by what follows
    Kind.CHECK: _ready,
    Kind.PROMOTE: _ready,
    Kind.DELETE: _double,
    Kind.HOLD: _held,
    Kind.NOOP: _nothing,
}


def _degraded(case: _Case) -> Iterator[Finding]:
    serving = case.serving
    checks = serving.locked.checks if serving and serving.locked else None
    if case.it.manifest.checks and checks and checks.failed:
        back = case.command("rollback", case.it.manifest.name, "--reason", "TEXT")
        yield case.finding(
            DriftClass.DEGRADED,
            f"what serves fails its checks: {describe_scores(checks)}{describe_misses(checks)}",
            serving,
            remedy=f"{back}, or correct data or checks and {case.apply()}",
        )


def _unverifiable(case: _Case) -> Iterator[Finding]:
    """Where the lockfile cannot tell what it ought to."""
    locked = case.it.locked
    if locked.serving and locked.generation(locked.serving) is None:
        message = f"the lockfile says that {locked.serving} serves, and does not describe it"
        yield case.finding(DriftClass.UNVERIFIABLE, message, key=locked.serving, remedy=case.command("refresh"))
    recorded = case.serving.locked if case.serving else None
    if recorded and (recorded.claimed or recorded.dataset.is_unknown):
        path = case.it.manifest.dataset.path
        yield case.finding(
            DriftClass.UNVERIFIABLE,
            "it was taken over, and nobody knows what it was trained on",
            case.serving,
            field="dataset" if path else "",
            declared=path or None,
            since=recorded.create_time,
            remedy="nothing needs to be done; a change of the data set trains a generation whose data is known",
        )


def _strays(case: _Case) -> Iterator[Finding]:
    """Generations that nobody here asks for: other branches', and what trains for a manifest that has changed since."""
    told = {action.key for action in case.actions if action.kind in {Kind.ADOPT, Kind.WAIT, Kind.HOLD, Kind.DELETE}}
    for key, known in case.known.items():
        if key in told or known.live is None:
            continue
        if known.locked is None:
            yield case.finding(DriftClass.CANDIDATE, _candidate(known.live), known, since=known.create_time)
        elif known.state is State.CREATING:
            message = "it is training, and the manifest asks for something else by now"
            remedy = case.command("cancel", case.it.manifest.name)
            yield case.finding(DriftClass.IN_PROGRESS, message, known, since=_begun(known), remedy=remedy)


def _candidate(live: RemoteModel) -> str:
    return f"it bears our mark, and neither manifest nor lockfile knows it: another branch's, {live.state}"


def _retired(case: _Case) -> Iterator[Finding]:
    """Base models that can be tuned no more: a note for what is there, drift where something is to be made from one."""
    manifest, serving = case.it.manifest, case.serving
    declared = manifest.source.base_model
    served = serving.source.base_model if serving and serving.source else ""
    wanted = any(action.reason is Reason.BASE_MODEL_UNAVAILABLE for action in case.actions)
    for base in dict.fromkeys(filter(None, (declared, served))):
        why = case.observed.untunable.get(base)
        if why is None:
            continue
        needed = wanted and base == declared
        yield case.finding(
            DriftClass.BASE_MODEL_RETIRED,
            why if needed else f"what serves stays, and nothing new can be tuned from its base model: {why}",
            serving,
            field="baseModel",
            declared=declared or None,
            live=served or None,
            severity="drift" if needed else "note",
            remedy="name another base model in the manifest" if needed else "plan to change the base model",
        )


def _orphaned(
    manifests: Iterable[Manifest], observed: Observation, lock: Lock, scope: str, command: _Command
) -> Iterator[Finding]:
    for action in orphan_actions(lock, declared_names(manifests)):
        model = lock.models[action.name]
        if model.generations and all(one.state is State.DELETED for one in model.generations):
            continue
        alive = sum(find_live_model(one, scope, action.name, observed) is not None for one in model.generations)
        serving = model.generation(model.serving)
        kept = f"no manifest declares it any more; {alive} of its models are at the service"
        forget = command("forget", action.name)
        yield Finding(
            DriftClass.ORPHANED,
            kept if alive else "no manifest declares it any more, and nothing of it is left at the service",
            severity="drift",
            name=action.name,
            file=action.file,
            key=action.key,
            remote=serving.remote if serving else "",
            remedy=f"{command('prune')} deletes what is left, {forget} leaves it" if alive else forget,
        )


def _others_candidates(
    manifests: Sequence[Manifest], observed: Observation, lock: Lock, scope: str
) -> Iterator[Finding]:
    """What bears our mark under a name that no manifest here has."""
    declared = declared_names(manifests)
    recorded = {one.remote for model in lock.models.values() for one in model.generations}
    for name, models in marked_models(scope, observed, lock, manifests).items():
        for live in models if name not in declared else ():
            if live.remote not in recorded:
                yield Finding(
                    DriftClass.CANDIDATE,
                    _candidate(live),
                    severity="note",
                    name=name,
                    key=live.chosen_id or "",
                    remote=live.remote,
                    since=live.create_time,
                )


def _unmanaged(live: RemoteModel) -> Finding:
    base = live.source.base_model or live.source.remote if live.source else ""
    return Finding(
        DriftClass.UNMANAGED,
        f"{live.display_name or live.remote} is nobody's here, and stays as it is",
        severity="note",
        remote=live.remote,
        field="baseModel" if base else "",
        live=base or None,
        since=live.create_time,
    )


def _begun(known: ResolvedGeneration) -> str:
    return (known.live.start_time if known.live else "") or known.create_time


def _ended(known: ResolvedGeneration) -> str:
    recorded = known.locked.complete_time if known.locked else ""
    return (known.live.complete_time if known.live else "") or recorded or known.create_time


def _promoted(known: ResolvedGeneration | None) -> str:
    return known.locked.promote_time if known and known.locked else ""
