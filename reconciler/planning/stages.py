"""Stages in a lockfile: move their records when a target changes its stages, and list what is requested for them.

In records, the first stage has no name: its fields are those of the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedModel, LockedStage, LockedTarget
from reconciler.domain.model import MUTABLE_FIELDS, Manifest, Stage, Target
from reconciler.domain.plan import Publication, Reason
from reconciler.domain.target_option import for_target


def recorded_stage(target: Target | LockedTarget, name: str) -> str:
    """Return the name of a stage in records."""
    return "" if name == target.first_stage else name


# changed stages


def arrange_stages(lock: Lock, stages: Sequence[str], *, begins: bool = True) -> Lock:
    """Return the lock with its records as those of these stages, which are in the order of the target.

    Records are moved by the name of their stage, and those of removed stages are kept. A new stage ``begins`` with the
    serving generation of the last recorded stage, which has passed the most conditions: a renamed one keeps it.
    """
    recorded = lock.target.stages if lock.target else ()
    if lock.target is None or recorded == tuple(stages):
        return lock
    if not stages:
        kept = any(model.stages for model in lock.models.values())
        return lock if kept else replace(lock, target=replace(lock.target, stages=()))
    models = {name: _arranged(model, recorded, stages, begins=begins) for name, model in lock.models.items()}
    return replace(lock, target=replace(lock.target, stages=tuple(stages)), models=models)


def _arranged(model: LockedModel, recorded: Sequence[str], stages: Sequence[str], *, begins: bool) -> LockedModel:
    before = recorded[0] if recorded else ""
    records = dict(model.stages)
    if before:
        records[before] = model.record_of("")
    last = model.record_of(recorded[-1] if recorded[1:] else "")
    if begins:
        for name in stages:
            if name not in recorded and name not in model.stages and (name != stages[0] or before):
                records[name] = _beginning(last)
    first = stages[0]
    if not before or first == before:
        records.pop(first, None)
        return replace(model, stages=_without_empty(records))
    if first not in recorded and first not in model.stages:
        # The first stage was renamed or added before the others: what is trained next is promoted to it.
        records[first] = model.record_of("")
    moved = model.with_first(records.pop(first, LockedStage()))
    return replace(moved, stages=_without_empty(records))


def _without_empty(records: dict[str, LockedStage]) -> dict[str, LockedStage]:
    return {name: record for name, record in records.items() if record != LockedStage()}


def _beginning(last: LockedStage) -> LockedStage:
    """Return the record of a new stage, in which nothing was published or requested yet."""
    return LockedStage(
        serving=last.serving,
        checkpoint=last.checkpoint,
        promote_time=last.promote_time,
        sampling=last.sampling,
        rejected=last.rejected,
        fields=last.fields,
    )


def stage_notices(lock: Lock, target: Target) -> Iterator[str]:
    """Yield how a run changes the recorded stages of a target."""
    recorded, stages = lock.target.stages if lock.target else (), [stage.name for stage in target.stages]
    if not stages or recorded == tuple(stages) or not lock.models:
        return
    last = f"in {recorded[-1]}" if recorded else "now"
    for name in stages[0 if recorded else 1 :]:
        if name not in recorded:
            yield f"the new stage {name} begins with the generations that are serving {last}"
    for name in recorded:
        if name not in stages:
            yield for_target(
                f"the stage {name} is no longer declared; its record is kept until reconcile forget --stage {name}"
            )


# requests


class StageRequest(Struct, frozen=True):
    """A generation that is requested for a stage.

    ``before`` is the recorded name of the stage that it comes from, ``checkpoint`` the ID of the checkpoint that serves
    there.
    """

    name: str
    stage: Stage
    before: str
    key: str
    checkpoint: str


def stage_requests(lock: Lock, target: Target) -> Iterator[StageRequest]:
    """Yield what is requested for the stages of a target, whose records are arranged."""
    for name, model in lock.models.items():
        for stage in target.later_stages:
            key = model.stage(stage.name).requested
            if key:
                yield request_of(name, model, target, stage, key)


def request_of(name: str, model: LockedModel, target: Target, stage: Stage, key: str) -> StageRequest:
    """Return the request to promote a generation to a stage."""
    before = recorded_stage(target, stage.after)
    record, known = model.record_of(before), model.generation(key)
    checkpoint = record.checkpoint if record.serving == key else known.checkpoint if known else ""
    if model.stage(stage.name).serving == key and record.serving != key:
        checkpoint = model.stage(stage.name).checkpoint
    return StageRequest(name, stage, before, key, checkpoint)


class Unmet(Struct, frozen=True):
    """A condition of a stage that is not met: the reason of the hold, and a sentence."""

    reason: Reason
    message: str


def unmet_conditions(
    request: StageRequest, model: LockedModel, target: Target, publication: Publication | None, now: datetime
) -> Iterator[Unmet]:
    """Yield the conditions of a promotion to a stage that are not met; its checks, and the live proof, come later.

    ``publication`` is since when the generation has been published to the stage before, ``None`` if that was not read.
    A generation that serves in the stage already only gets its shared fields approved.
    """
    stage, key, after = request.stage, request.key, request.stage.after
    barred = next(
        (
            other.name
            for other in (stage, *target.stages_before(stage.name))
            if key in model.record_of(recorded_stage(target, other.name)).rejected
        ),
        None,
    )
    if barred is not None:
        message = f"{key} was rejected in {barred}; the request is removed; promote another generation"
        yield Unmet(Reason.REJECTED_IN_STAGE, message)
    if model.stage(stage.name).serving == key:
        return
    served = model.record_of(request.before).serving
    if served != key:
        serving = f"{served} is serving" if served else "no generation is serving"
        again = for_target(f"; request it with reconcile promote {request.name} --stage {stage.name}") if served else ""
        yield Unmet(Reason.NOT_IN_STAGE, f"{key} is requested, and {serving} in {after}{again}")
    else:
        yield from _unmet_publication(request, target, publication, now)


def _unmet_publication(
    request: StageRequest, target: Target, publication: Publication | None, now: datetime
) -> Iterator[Unmet]:
    stage, key, after = request.stage, request.key, request.stage.after
    if publication is None:
        if stage.soak or target.destination(after):
            message = for_target(
                f"what is published in {after} was not read; run reconcile plan to read it, without --offline"
            )
            yield Unmet(Reason.SOAK_UNKNOWN, message)
        return
    problem = f"{publication.problem}; {publication.remedy}" if publication.problem else ""
    if publication.since is None:
        known = Reason.SOAK_UNKNOWN if problem else Reason.NOT_IN_STAGE
        yield Unmet(known, f"{key} is not published in {after} yet{f': {problem}' if problem else ''}")
        return
    if stage.soak is None or publication.lasted(stage.soak, now):
        return
    end = publication.since + stage.soak
    if problem:
        yield Unmet(Reason.SOAK_UNKNOWN, f"for how long {key} has been published in {after} is not known: {problem}")
        return
    shown = f"{end:%Y-%m-%d %H:%M:%S} UTC"
    yield Unmet(Reason.SOAKING, f"{key} has been published in {after} since {_shown(publication)}; soak ends {shown}")


def _shown(publication: Publication) -> str:
    return f"{publication.since:%Y-%m-%d %H:%M:%S} UTC" if publication.since else ""


# shared fields


def shared_fields(manifest: Manifest, mutable: frozenset[str]) -> str:
    """Return the digest of the declared fields that a model has at the service, which are the same in all stages.

    ``mutable`` are the groups of fields that the service can patch.
    """
    values = {field.name: field.value(manifest) for field in MUTABLE_FIELDS if field.group in mutable}
    access = None if manifest.access is None else sorted(map(str, (to_builtins(grant) for grant in manifest.access)))
    text = json.dumps([_VERSION, values, access], sort_keys=True, ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


_VERSION: Final = 1
