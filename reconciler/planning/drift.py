"""Compare desired, recorded and live state: one finding for each difference; ``domain.drift`` has the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.drift import Cause, DriftClass, Finding, Retirement
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import RemoteModel, State, Suspension
from reconciler.domain.plan import Action, FieldChange, Kind, Reason, World
from reconciler.planning.decide import decide, failure_cause
from reconciler.planning.diff import ACCESS_FIELD, ReconcileContext, declared_fields
from reconciler.planning.generations import (
    EXPECTED_STATES,
    ResolvedGeneration,
    find_live_model,
    marked_models,
    owners_of,
    replaced_fields,
    satisfies,
)
from reconciler.planning.model_catalog import CatalogContext, describe_retirement, replacement
from reconciler.planning.observed_events import Correction, apply_moved, declared_names, find_corrections
from reconciler.planning.planner import list_unmanaged, orphan_actions, resolve_manifests
from reconciler.planning.promotion_gates import describe_misses, describe_scores

_GENERATION: Final = "generation"
"""The field of findings whose values are keys."""
_CAUSES: Final[Mapping[DriftClass, Cause]] = {
    DriftClass.MISSING: "pending",
    DriftClass.OUTDATED: "pending",
    DriftClass.ORPHANED: "pending",
    DriftClass.REPLACED: "outOfBand",
}
"""The causes of findings, where the class has one."""
_BESIDE_SYNC: Final = frozenset(
    {
        DriftClass.CANDIDATE,
        DriftClass.BASE_MODEL_CHANGED,
        DriftClass.BASE_MODEL_RETIRING,
        DriftClass.BASE_MODEL_RETIRED,
        DriftClass.REPLACED,
        DriftClass.SUSPENSION_EXPIRED,
    }
)
"""Classes of notes that a manifest in sync may have."""


def drift(world: World, *, where: str = "") -> tuple[Finding, ...]:
    """Return all findings, sorted; each manifest has at least one.

    The observation's ``untunable`` must cover the base models of manifests and of serving generations. Requests for
    training are ignored. ``where`` is appended to the commands of remedies, such as ``--target gl``.
    """

    def command(*words: str) -> str:
        return " ".join(("reconcile", *words, *filter(None, (where,))))

    complete = world.request.complete
    world = replace(
        world, lock=apply_moved(world.lock, world.manifests), request=replace(world.request, complete=complete)
    )
    findings: list[Finding] = []
    corrections = tuple(find_corrections(world))
    for resolved in resolve_manifests(world):
        findings += _of_manifest(world, resolved.context, resolved.actions, corrections, command)
    if complete:
        findings += [*_orphaned(world, command), *_undeclared_candidates(world)]
        orphans = world.lock.models.keys() - declared_names(world.manifests)
        findings += _differing_records((change for change in corrections if change.event.name in orphans), command)
    findings += map(_unmanaged, list_unmanaged(world))
    return tuple(sorted(findings, key=Finding.sort_key))


def with_severities(findings: Iterable[Finding], fail_on: frozenset[DriftClass] | None) -> tuple[Finding, ...]:
    """Return the findings with the severity ``drift`` for the classes of ``fail_on`` and ``note`` for the others.

    With ``None`` they are unchanged.
    """
    if fail_on is None:
        return tuple(findings)
    return tuple(replace(finding, severity="drift" if finding.kind in fail_on else "note") for finding in findings)


_Command = Callable[..., str]
"""Returns the ``reconcile`` command of these words, with paths and target."""


class _Case(Struct, frozen=True):
    """One manifest with its plan; ``actions`` are those that ``spec.lifecycle.suspend`` does not hold back."""

    context: ReconcileContext
    actions: tuple[Action, ...]
    world: World
    command: _Command
    generations: Mapping[str, ResolvedGeneration]

    @property
    def serving(self) -> ResolvedGeneration | None:
        return self.context.serving

    @property
    def suspension(self) -> Suspension | None:
        """The suspension that has not ended."""
        return self.context.manifest.lifecycle.suspension(self.world.now)

    def finding(
        self, kind: DriftClass, message: str, generation: ResolvedGeneration | None = None, **fields: Any
    ) -> Finding:
        manifest = self.context.manifest
        about = {"key": generation.key, "remote": generation.remote} if generation else {}
        fields = {"severity": kind.severity, "cause": _CAUSES.get(kind, ""), **about, **fields}
        if self.suspension and kind in {DriftClass.PINNED, DriftClass.IN_SYNC}:
            message = f"{message}; spec.lifecycle.suspend is set{self.suspension}"
        return Finding(kind=kind, message=message, name=manifest.name, file=manifest.file, **fields)

    def apply(self, *options: str) -> str:
        """Return the remedy that applies the manifest, after resuming it where it is suspended."""
        command = self.command("apply", *options)
        if self.suspension is None:
            return command
        return f"remove spec.lifecycle.suspend from {self.context.manifest.place.file}, then {command}"

    def outdated(self) -> DriftClass:
        """Return the class of a manifest that the serving generation does not match; suspending it is intended."""
        if self.serving is None:
            return DriftClass.MISSING
        return DriftClass.PINNED if self.suspension else DriftClass.OUTDATED


def _of_manifest(
    world: World,
    context: ReconcileContext,
    actions: tuple[Action, ...],
    corrections: Iterable[Correction],
    command: _Command,
) -> Iterator[Finding]:
    if context.manifest.lifecycle.suspension(world.now):
        lifecycle = replace(context.manifest.lifecycle, suspend=None)
        actions = decide(replace(context, manifest=replace(context.manifest, lifecycle=lifecycle)))
    generations = {generation.key: generation for generation in context.generations}
    case = _Case(context, actions, world, command, generations)
    findings = [*_missing(case), *_replaced(case)]
    replaced = {finding.key for finding in findings if finding.kind is DriftClass.REPLACED}
    own = (found for found in corrections if found.event.name == context.manifest.name)
    findings += _differing_records((found for found in own if found.event.key not in replaced), command)
    lost = any(finding.severity == "drift" for finding in findings)
    for action in actions:
        findings += _RULES[action.kind](case, action)
    if lost:  # the loss explains why no generation is serving
        findings = [finding for finding in findings if finding.kind is not DriftClass.MISSING or finding.key]
    findings += [*_degraded(case), *_unverifiable(case), *_unneeded(case), *_base_model_retired(case)]
    findings += [*_base_model_changed(case), *_suspension_expired(case)]
    yield from findings
    if all(finding.severity == "note" and finding.kind in _BESIDE_SYNC for finding in findings):
        message = "the live state matches the manifest"
        yield case.finding(DriftClass.IN_SYNC, message, case.serving, since=_promote_time(case.serving))


def _suspension_expired(case: _Case) -> Iterator[Finding]:
    manifest = case.context.manifest
    expired = manifest.lifecycle.suspend
    if expired and case.suspension is None:
        yield case.finding(
            DriftClass.SUSPENSION_EXPIRED,
            f"the suspension{expired} has ended, and the manifest is applied again",
            case.serving,
            since=expired.until,
            remedy=f"remove spec.lifecycle.suspend from {manifest.place.file}",
        )


def _missing(case: _Case) -> Iterator[Finding]:
    """Find recorded generations that the service no longer has."""
    locked = case.context.locked
    for recorded in locked.generations:
        generation = case.generations[recorded.key]
        serves = locked.serves(recorded.key)
        stages = [stage for stage in locked.stages_serving(recorded.key) if stage]
        expected = recorded.state in EXPECTED_STATES or ((serves or stages) and recorded.state is State.MISSING)
        lost = generation.locked is recorded and generation.state is State.MISSING and expected
        if lost and recorded.remote not in case.world.observation.models:
            where = f" of {' and '.join(stages)}" if stages else ""
            message = f"the {'serving ' if serves or stages else ''}generation{where} is gone from the service"
            matters = serves or satisfies(generation, case.context.manifest)
            remedy = _loss_remedy(case) if matters else f"{case.apply()}, which records that"
            if stages:
                promote = case.command("promote", case.context.manifest.name, "--stage", stages[0])
                remedy = f"{remedy}; then {promote}, which requests another one"
            fields = {"field": _GENERATION, "declared": recorded.key, "remedy": remedy, "cause": "outOfBand"}
            yield case.finding(DriftClass.MISSING, message, generation, **fields)


def _loss_remedy(case: _Case) -> str:
    for action in case.actions:
        if action.reason is Reason.NOTHING_SERVES:
            return action.message.rpartition("; ")[2]
        if action.kind is Kind.PROMOTE:
            return f"{case.apply()}, which promotes {action.key}"
    return f"{case.apply()}, which trains it again"


def _replaced(case: _Case) -> Iterator[Finding]:
    """Find recorded generations whose remote name another model has; it is a note for superseded ones."""
    context = case.context
    for recorded in context.locked.generations:
        generation, model = case.generations[recorded.key], case.world.observation.models.get(recorded.remote)
        if generation.locked is not recorded or model is None or recorded.state not in EXPECTED_STATES:
            continue
        proved = generation.live is not None
        managed = proved or (model.mark is not None and model.mark.scope == context.scope)
        strict = not managed or context.capabilities.caller_chosen_ids
        message = f"another model has the name of {recorded.key}" + ("" if managed else ", without this scope's mark")
        for change in replaced_fields(recorded, model, case.world.lock, strict=strict):
            yield case.finding(
                DriftClass.REPLACED,
                model.edit.message if model.edit else message,
                generation,
                **_values(change),
                since=model.create_time,
                severity="drift" if _matters(case, recorded, generation) else "note",
                remedy=model.edit.remedy if model.edit else _replacement_remedy(case, change.field, managed=managed),
            )


def _differing_records(corrections: Iterable[Correction], command: _Command) -> Iterator[Finding]:
    """Find recorded facts that the live model, or the manifest that declares its data, contradicts."""
    for correction in corrections:
        for change in correction.changes:
            yield Finding(
                kind=DriftClass.MODIFIED,
                message=f"the lockfile records another value for {correction.event.key}",
                severity=DriftClass.MODIFIED.severity,
                cause="outOfBand",
                name=correction.event.name,
                file=correction.file,
                key=correction.event.key,
                remote=correction.event.model.remote,
                **_values(change),
                remedy=f"{command('apply')}, which records the live value",
            )


def _matters(case: _Case, recorded: LockedGeneration, generation: ResolvedGeneration) -> bool:
    serving = case.context.locked.served_keys
    return recorded.key in serving if serving else satisfies(generation, case.context.manifest)


def _replacement_remedy(case: _Case, field: str, *, managed: bool) -> str:
    if not managed:
        return "find out who created that model; to train the generation under another name, rename the manifest"
    if field == "ownership mark":
        return f"remove the line managed-by=reconcile from its description, then {case.apply()} to restore the mark"
    again = case.apply("--replace", case.context.manifest.name)
    return f"{case.command('refresh')} if another run of yours trained it; otherwise {again}, which trains it again"


def _values(change: FieldChange) -> dict[str, Any]:
    return {"field": change.field, "declared": change.declared, "live": change.live}


def _training_needed(case: _Case, action: Action) -> Iterator[Finding]:
    """Find what a training that has not started, or is held, leaves missing or outdated."""
    kind = case.outdated()
    remedy = f"{case.apply()}, which trains {action.key}"
    if action.kind is Kind.HOLD:
        remedy = f"resolve that, then {case.apply()}"
    if kind is DriftClass.MISSING:
        message = action.message or "no generation is serving and none is training"
        cause = _loss_cause(case)
        yield case.finding(kind, message, field=_GENERATION, declared=action.key or None, remedy=remedy, cause=cause)
    else:
        message = action.message or "the serving generation does not match the manifest"
        yield from _for_each_field(case, kind, message, remedy=remedy)


def _loss_cause(case: _Case) -> Cause:
    """Return the cause of a model without a serving generation: the service lost one, or none was applied yet."""
    lost = (known for known in case.context.satisfying if known.state is State.MISSING)
    return "outOfBand" if any(lost) else "pending"


def _field_cause(case: _Case, field: str) -> Cause:
    """Return the cause of a field with another live value: the manifest declared the same when it was last applied."""
    declared = declared_fields(case.context.manifest)
    same = field not in declared or case.context.locked.applied.get(field) == declared[field]
    return "outOfBand" if same else "pending"


def _for_each_field(case: _Case, kind: DriftClass, message: str, **fields: Any) -> Iterator[Finding]:
    """Return a finding for each field in which the content differs, or one without a field if none is known."""
    changes = case.context.changes() if case.context.manifest.dataset.digest else ()
    for change in changes or (FieldChange("", None, None),):
        yield case.finding(kind, message, case.serving, **_values(change), **fields)


def _modified(case: _Case, action: Action) -> Iterator[Finding]:
    generation = case.generations[action.key]
    if action.reason is Reason.UNDEPLOYED:
        message = action.message.rpartition("; ")[0]
        remedy = f"{case.apply()}, which deploys it again"
        yield case.finding(DriftClass.DEGRADED, message, generation, remedy=remedy, cause="outOfBand")
        return
    message = f"{generation.key} differs from the manifest"
    since = generation.live.update_time if generation.live else ""
    for change in action.changes:
        cause = _field_cause(case, change.field)
        begun = since if cause == "outOfBand" else ""
        fields = {**_values(change), "since": begun, "remedy": case.apply(), "cause": cause}
        yield case.finding(DriftClass.MODIFIED, message, generation, **fields)
    for grant in action.access:
        before = grant.before.role if grant.before else None
        fields = {"field": f"{ACCESS_FIELD}.{grant.grantee}", "declared": grant.role, "live": before}
        fields |= {"remedy": case.apply(), "cause": _field_cause(case, ACCESS_FIELD)}
        yield case.finding(
            DriftClass.MODIFIED, f"permissions of {generation.key} differ from the manifest", generation, **fields
        )


def _in_progress(case: _Case, action: Action) -> Iterator[Finding]:
    generation = case.generations[action.key]
    if action.reason is Reason.ACCESS_CHANGED:
        yield case.finding(DriftClass.UNVERIFIABLE, action.message, generation, remedy=case.apply())
        return
    serving = f"; {case.serving.key} keeps serving" if case.serving else ""
    message = action.message or f"the training is in progress{serving}"
    fields = {"since": _start_time(generation), "remedy": case.command("wait")}
    yield case.finding(DriftClass.IN_PROGRESS, message, generation, **fields)


def _ready(case: _Case, action: Action) -> Iterator[Finding]:
    """Find a ready generation that was not checked, recorded or promoted."""
    generation, context = case.generations[action.key], case.context
    if context.serves(generation) and (action.kind is Kind.PROMOTE or action.reason is Reason.CHECKPOINT_CHANGED):
        fields = {"field": "serve.checkpoint", "declared": context.manifest.serve or None, "remedy": case.apply()}
        message = (
            f"another checkpoint than spec.serve asks for is serving{': ' if action.message else ''}{action.message}"
        )
        yield case.finding(case.outdated(), message, generation, live=generation.checkpoint or None, **fields)
    elif context.serves(generation):
        changed = action.reason is Reason.CHECKS_CHANGED
        message = "its checks changed after they last ran" if changed else "its checks have not run"
        remedy = case.command("check", context.manifest.name)
        yield case.finding(DriftClass.UNVERIFIABLE, message, generation, remedy=remedy)
    elif generation.locked is None and context.locked.serving_key is None:
        message = "it has this scope's mark and matches the manifest, but the lockfile records no serving generation"
        remedy = f"{case.apply()}, which records it and trains nothing"
        since = _start_time(generation)
        yield case.finding(DriftClass.UNVERIFIABLE, message, generation, since=since, remedy=remedy)
    else:
        kind = DriftClass.OUTDATED if case.serving is None else case.outdated()
        message = f"{generation.key} is ready and was not promoted"
        yield from _for_each_field(case, kind, message, since=_end_time(generation), remedy=case.apply())


def _duplicate(case: _Case, action: Action) -> Iterator[Finding]:
    yield case.finding(
        DriftClass.IN_PROGRESS, action.message, key=action.key, remote=action.remote, remedy=case.apply()
    )


def _failed(case: _Case, action: Action) -> Iterator[Finding]:
    generation = case.generations[action.key]
    remedy = f"change the inputs and {case.apply()}, or {case.apply('--retry', case.context.manifest.name)}"
    yield case.finding(
        DriftClass.FAILED, failure_cause(generation), generation, since=_end_time(generation), remedy=remedy
    )


def _checks_failed(case: _Case, action: Action) -> Iterator[Finding]:
    generation = case.generations[action.key]
    checks = generation.locked.checks if generation.locked else None
    if case.context.serves(generation) or checks is None:
        return  # the serving generation is Degraded
    serving = f"{case.serving.key} keeps serving" if case.serving else "no generation is serving"
    yield case.finding(
        DriftClass.FAILED,
        f"its checks failed, so it was not promoted: {describe_scores(checks)}{describe_misses(checks)}; {serving}",
        generation,
        since=_end_time(generation),
        remedy=f"fix data or checks and {case.apply()}, or set spec.lifecycle.onFailedChecks to serve",
    )


def _rolled_back(case: _Case, action: Action) -> Iterator[Finding]:
    generation, serving = case.generations[action.key], case.serving
    reason = f": {generation.locked.rejection}" if generation.locked and generation.locked.rejection else ""
    promote = case.command("promote", case.context.manifest.name, "--to", generation.key)
    yield case.finding(
        DriftClass.PINNED,
        f"{generation.key} was rolled back{reason}",
        serving,
        field=_GENERATION,
        declared=generation.key,
        live=serving.key if serving else None,
        since=_promote_time(serving),
        remedy=f"{promote}, or change the manifest",
    )


def _parent_held(case: _Case, action: Action) -> Iterator[Finding]:
    kind = DriftClass.UNVERIFIABLE if action.reason is Reason.PARENT_HELD else DriftClass.PINNED
    parent = case.context.parent.name if case.context.parent else ""
    remedy = f"fix {parent} first, then {case.apply()}"
    yield case.finding(kind if case.serving else DriftClass.MISSING, action.message, case.serving, remedy=remedy)


def _access_unavailable(case: _Case, action: Action) -> Iterator[Finding]:
    yield case.finding(DriftClass.UNVERIFIABLE, action.message, case.generations[action.key])


def _mismatched(case: _Case, action: Action) -> Iterator[Finding]:
    """Find a record that its live model does not prove, unless the fields that differ are found anyway."""
    generation = case.generations[action.key]
    if generation.mismatch and all(finding.key != action.key for finding in _replaced(case)):
        yield case.finding(DriftClass.REPLACED, action.message, generation, field=generation.mismatch.field)


def _nothing_serves(case: _Case, action: Action) -> Iterator[Finding]:
    if not case.context.locked.serving_key:  # the loss of a serving generation is found anyway
        message, _, remedy = action.message.rpartition("; ")
        yield case.finding(DriftClass.MISSING, message, remedy=remedy, cause=_loss_cause(case))


def _nothing(_case: _Case, _action: Action) -> Iterator[Finding]:
    yield from ()


_Rule = Callable[[_Case, Action], Iterator[Finding]]
_HOLD_RULES: Final[Mapping[Reason, _Rule]] = {
    Reason.ROLLED_BACK: _rolled_back,
    Reason.NOTHING_SERVES: _nothing_serves,
    Reason.FAILED: _failed,
    Reason.CANCELLED: _failed,
    Reason.CHECKS_FAILED: _checks_failed,
    Reason.DEADLINE_EXCEEDED: _in_progress,
    Reason.ACCESS_UNAVAILABLE: _access_unavailable,
    Reason.RECORD_MISMATCH: _mismatched,
    Reason.PARENT_HELD: _parent_held,
    Reason.PARENT_ROLLED_BACK: _parent_held,
    Reason.PARENT_SUSPENDED: _parent_held,
}
"""Rules for the reasons of holds; the others hold a training."""


def _held(case: _Case, action: Action) -> Iterator[Finding]:
    return _HOLD_RULES.get(action.reason, _training_needed)(case, action)


_RULES: Final[Mapping[Kind, _Rule]] = {
    Kind.CREATE: _training_needed,
    Kind.UPDATE: _modified,
    Kind.WAIT: _in_progress,
    Kind.ADOPT: _nothing,  # the action after it has the finding
    Kind.CHECK: _ready,
    Kind.PROMOTE: _ready,
    Kind.DELETE: _duplicate,
    Kind.HOLD: _held,
    Kind.NOOP: _nothing,
}


def _degraded(case: _Case) -> Iterator[Finding]:
    serving = case.serving
    checks = serving.locked.checks if serving and serving.locked else None
    if case.context.manifest.checks and checks and checks.failed:
        rollback = case.command("rollback", case.context.manifest.name, "--reason", "TEXT")
        yield case.finding(
            DriftClass.DEGRADED,
            f"the serving generation fails its checks: {describe_scores(checks)}{describe_misses(checks)}",
            serving,
            remedy=f"{rollback}, or fix data or checks and {case.apply()}",
        )


def _unverifiable(case: _Case) -> Iterator[Finding]:
    """Find a serving generation that the lockfile does not describe, or whose training data is unknown."""
    locked = case.context.locked
    for key in sorted(locked.served_keys - locked.by_key.keys()):
        message = f"the lockfile records {key} as serving, but has no record of that generation"
        yield case.finding(DriftClass.UNVERIFIABLE, message, key=key, remedy=case.command("refresh"))
    recorded = case.serving.locked if case.serving else None
    if recorded and (recorded.dataset.claimed or recorded.dataset.unknown):
        path = case.context.manifest.dataset.path
        yield case.finding(
            DriftClass.UNVERIFIABLE,
            "it was adopted, and its training data is unknown",
            case.serving,
            field="dataset" if path else "",
            declared=path or None,
            since=recorded.create_time,
            remedy="none is required; a change of the data set trains a generation with known data",
        )


def _unneeded(case: _Case) -> Iterator[Finding]:
    """Find candidates, and trainings that the manifest no longer asks for."""
    kinds = {Kind.ADOPT, Kind.WAIT, Kind.HOLD, Kind.DELETE}
    planned = {action.key for action in case.actions if action.kind in kinds}
    recorded = {generation.remote for generation in case.context.locked.generations}
    for key, generation in case.generations.items():
        if key in planned or generation.live is None:
            continue
        if generation.locked is None and generation.remote in recorded:
            continue  # the mismatch of the record is found
        if generation.locked is None:
            message = _candidate_message(generation.live)
            yield case.finding(DriftClass.CANDIDATE, message, generation, since=generation.create_time)
        elif generation.state is State.CREATING:
            message = "it is training, but does not match the manifest"
            fields = {"since": _start_time(generation), "remedy": case.command("cancel", case.context.manifest.name)}
            yield case.finding(DriftClass.IN_PROGRESS, message, generation, **fields)


def _candidate_message(live: RemoteModel) -> str:
    return f"it has this scope's mark, and neither manifests nor lockfile here have it ({live.state})"


def _base_model_retired(case: _Case) -> Iterator[Finding]:
    """Find base models that cannot be tuned; it is drift where the plan would train from one."""
    serving, declared = case.serving, case.context.manifest.source.base_model
    served = serving.source.base_model if serving and serving.source else ""
    wanted = any(action.reason is Reason.BASE_MODEL_UNAVAILABLE for action in case.actions)
    for base_model in dict.fromkeys(filter(None, (declared, served))):
        retirement = _retirement_of(base_model, case)
        reason = case.world.observation.untunable.get(base_model)
        if reason is None:
            yield from _by_catalog(case, retirement, declared, served)
            continue
        needed = wanted and base_model == declared
        yield case.finding(
            DriftClass.BASE_MODEL_RETIRED,
            reason if needed else f"existing generations keep working, but no new one can be trained: {reason}",
            serving,
            field="baseModel",
            declared=declared or None,
            live=served or None,
            severity="drift" if needed else "note",
            retirement=retirement,
            remedy="use another base model in the manifest" if needed else "plan a change of the base model",
        )


def _retirement_of(base_model: str, case: _Case) -> Retirement | None:
    known = case.world.catalog.models.get(base_model)
    if known is None or known.retirement is None:
        return None
    days = (known.retirement - case.world.now.date()).days
    return Retirement(base_model, known.retirement, max(days, 0), known.successor)


def _by_catalog(case: _Case, retirement: Retirement | None, declared: str, served: str) -> Iterator[Finding]:
    """Find base models that the catalog has a retirement date of; the service may know better."""
    world, today = case.world, case.world.now.date()
    if retirement is None:
        return
    base_model, known = retirement.base_model, world.catalog.models[retirement.base_model]
    is_retired = known.is_retired(today)
    message = describe_retirement(base_model, known, today)
    if not message or (is_retired and base_model in world.observation.tunable):
        return
    place = case.context.manifest.field_places.get("baseModel")
    remedy = replacement(place.path if place else "spec.baseModel", known, CatalogContext.of(world))
    if declared and base_model != declared:
        remedy = f"{case.apply()}, which trains from {declared}"
    effect = "; existing generations keep working, but no new one can be trained" if is_retired else ""
    yield case.finding(
        DriftClass.BASE_MODEL_RETIRED if is_retired else DriftClass.BASE_MODEL_RETIRING,
        f"{message}, according to {world.catalog.named}{effect}",
        case.serving,
        field="baseModel",
        declared=declared or None,
        live=served or None,
        retirement=retirement,
        remedy=remedy,
    )


def _base_model_changed(case: _Case) -> Iterator[Finding]:
    """Find a base model that changed at its source; the pinned one is trained as before."""
    declared = case.context.manifest.source.base_model
    change = case.world.observation.changed_base_models.get(declared)
    if change is None:
        return
    place = case.context.manifest.field_places.get("baseModel")
    newest = f"set {place.path if place else 'spec.baseModel'} to {change.newest} to train from it"
    yield case.finding(
        DriftClass.BASE_MODEL_CHANGED,
        change.message,
        case.serving,
        field="baseModel",
        declared=declared,
        live=change.newest or None,
        remedy=newest if change.newest else "keep a copy of its files, and name their folder as the base model",
    )


def _orphaned(world: World, command: _Command) -> Iterator[Finding]:
    owners = owners_of(world)
    for action in orphan_actions(world, declared_names(world.manifests)):
        if action.reason is Reason.RECORD_MISMATCH:
            yield Finding(
                kind=DriftClass.REPLACED,
                message=action.message,
                severity=DriftClass.REPLACED.severity,
                cause=_CAUSES[DriftClass.REPLACED],
                name=action.name,
                file=action.file,
                key=action.key,
                remote=action.remote,
            )
            continue
        model = world.lock.models[action.name]
        alive = sum(
            find_live_model(generation, owners.owner(action.name), world.observation) is not None
            for generation in model.generations
        )
        serving = model.serving_generation
        forget = command("forget", action.name)
        still = f"{alive or 'none'} of its generations still exist{'' if alive > 1 else 's'}"
        unread = world.request.unread.reason(action.name)
        review = command("prune --dry-run", action.name)
        remedy = f"{forget} to keep its generations, or {review} to see what prune would delete" if alive else forget
        yield Finding(
            kind=DriftClass.ORPHANED,
            message=f"a manifest may declare it: {unread}; {still}" if unread else f"no manifest declares it; {still}",
            severity=DriftClass.ORPHANED.severity,
            cause=_CAUSES[DriftClass.ORPHANED],
            name=action.name,
            file=action.file,
            key=action.key,
            remote=serving.remote if serving else "",
            remedy="move the manifest to where it is read, or commit its removal" if unread else remedy,
        )


def _undeclared_candidates(world: World) -> Iterator[Finding]:
    """Find models with this scope's mark whose name no manifest here has."""
    declared = declared_names(world.manifests) | world.request.unread.unselected.keys()
    recorded = {generation.remote for model in world.lock.models.values() for generation in model.generations}
    for name, models in marked_models(world).items():
        for live in models if name not in declared else ():
            if live.remote not in recorded:
                yield Finding(
                    kind=DriftClass.CANDIDATE,
                    message=_candidate_message(live),
                    severity=DriftClass.CANDIDATE.severity,
                    name=name,
                    key=live.chosen_id or "",
                    remote=live.remote,
                    since=live.create_time,
                )


def _unmanaged(live: RemoteModel) -> Finding:
    base_model = live.source.base_model or live.source.remote if live.source else ""
    return Finding(
        kind=DriftClass.UNMANAGED,
        message=f"{live.display_name or live.remote} is not managed by this project",
        severity=DriftClass.UNMANAGED.severity,
        remote=live.remote,
        field="baseModel" if base_model else "",
        live=base_model or None,
        since=live.create_time,
    )


def _start_time(generation: ResolvedGeneration) -> str:
    return (generation.live.start_time if generation.live else "") or generation.create_time


def _end_time(generation: ResolvedGeneration) -> str:
    recorded = generation.locked.complete_time if generation.locked else ""
    return (generation.live.complete_time if generation.live else "") or recorded or generation.create_time


def _promote_time(generation: ResolvedGeneration | None) -> str:
    return generation.locked.promote_time if generation and generation.locked else ""
