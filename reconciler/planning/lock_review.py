"""Review a lockfile: what it lacks for its manifests, and which facts and decisions it changes since a base commit.

Facts are what the service confirms: records of trainings with their remote names, times, digests, losses and results.
Decisions are what people and gates choose: the serving generation, rejections, protection, and which models are
managed. Changed facts need an explanation by a manifest; changed decisions need a review.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.document import Record, Scalar, builtins_of
from reconciler.domain.errors import Problem
from reconciler.domain.identity import Content, key_of
from reconciler.domain.lock import (
    MAX_DECISIONS,
    Decision,
    Lock,
    LockedGeneration,
    LockedModel,
    LockedStage,
    format_time,
    record_target,
)
from reconciler.domain.model import Manifest, Sampling, State, Target
from reconciler.domain.plan import Observation
from reconciler.domain.target_option import for_target
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.diff import declared_fields
from reconciler.planning.events import Withheld
from reconciler.planning.generations import choose_generation, resolve_generations, satisfies
from reconciler.planning.lineage import ParentGeneration, parents_first, recorded_parent, source_name, with_source
from reconciler.planning.live_proof import Owner
from reconciler.planning.observed_events import apply_moved, has_content
from reconciler.planning.stages import recorded_stage

Path = tuple[str | int, ...]
Leaves = dict[Path, Scalar]
"""The values of a record by path; lists and objects are not values."""

_UNFINISHED: Final = frozenset({State.INTENDED, State.CREATING})
_REPLACEABLE: Final = frozenset({State.INTENDED, State.MISSING, State.DELETING, State.DELETED})
"""States of a record that another training with the same content replaces."""
_DECISIONS: Final = ("promoteTime", "checkpoint", "rejection")
"""Fields of a generation that a promotion or rollback writes."""
_PROGRESS: Final = frozenset(
    {
        "billableTokens",
        "completeTime",
        "createTime",
        "droppedExamples",
        "error",
        "estimate",
        "evaluations",
        "experiment",
        "finalLoss",
        "hyperparameters",
        "operation",
        "resources",
        "totalSteps",
    }
)
"""Fields that a training fills in until it ends."""
_TRANSIENT: Final = frozenset({"completedEpochs", "phase"})
"""Fields that change during a training, and that its end removes."""
_DETAILS: Final = frozenset(
    {"billableTokens", "completeTime", "droppedExamples", "evaluations", "experiment", "finalLoss", "totalSteps"}
)
"""Fields that ``refresh`` fills in later; nothing depends on them."""
_UNDECLARED: Final = "no manifest declares this model"
_UNEXPLAINED: Final = "no manifest change explains this"


_RECORDED_FACTS: Final = frozenset({"cancel", "claim", "refresh"})
"""Entries of the history about commands that record facts; a run on an unmerged branch may write them."""
_CLOCK_SKEW: Final = timedelta(minutes=10)


class LockChange(Struct, frozen=True, kw_only=True):
    """One change of a lockfile; ``path`` is where it is in the new lockfile, or would be.

    ``name`` is the model, empty for the target; ``field`` the field in the model or in its generation ``key``, whose
    remote name is ``remote``. ``None`` as a value means that there is none. ``reason`` says what is wrong with a fact.
    """

    kind: Literal["fact", "decision"]
    name: str
    path: Path
    field: str
    before: Scalar | None = None
    after: Scalar | None = None
    key: str = ""
    remote: str = ""
    reason: str = ""


def review_lock(
    base: Lock,
    head: Lock,
    manifests: Iterable[Manifest],
    target: Target,
    *,
    chosen_ids: bool,
    now: datetime | None = None,
) -> tuple[LockChange, ...]:
    """Return the changed decisions, and the changed facts that the manifests do not explain.

    ``manifests`` are all manifests of the root as the pull request has them. With ``chosen_ids`` the id of a model is
    its key. Entries of the history after ``now`` are not explained.
    """
    by_name = {manifest.name: manifest for manifest in manifests}
    review = _Review(head, by_name, target, chosen_ids=chosen_ids)
    return (
        *_target_changes(base, head, target),
        *_history_changes(base.history, head.history, now),
        *review.changes(apply_moved(base, by_name.values())),
    )


def _history_changes(base: Sequence[Decision], head: Sequence[Decision], now: datetime | None) -> Iterator[LockChange]:
    """Yield the entries of the history that were added or removed; a full history lacks those before its oldest one."""
    known, kept = set(base), set(head)
    latest = format_time(now + _CLOCK_SKEW) if now else ""
    for index, decision in enumerate(head):
        is_later = bool(latest) and decision.time > latest
        if decision in known or (decision.action in _RECORDED_FACTS and not decision.reason and not is_later):
            continue
        yield LockChange(
            kind="fact" if is_later else "decision",
            name=decision.model,
            path=("history", index),
            field="history",
            after=_described(decision),
            key=decision.generation,
            reason="its time is in the future" if is_later else "",
        )
    begin = min(decision.time for decision in head) if len(head) >= MAX_DECISIONS else ""
    for decision in base:
        if decision not in kept and decision.time > begin:
            yield LockChange(
                kind="fact",
                name=decision.model,
                path=("history",),
                field="history",
                before=_described(decision),
                key=decision.generation,
                reason="no command removes a decision",
            )


def _described(decision: Decision) -> str:
    values = builtins_of(decision).items()
    return ", ".join(f"{name} {value}" for name, value in values)


def _target_changes(base: Lock, head: Lock, target: Target) -> Iterator[LockChange]:
    recorded = _leaves(head.target)
    declared = record_target(target)
    stages = base.target.stages if base.target else declared.stages
    if recorded in (_leaves(base.target), _leaves(replace(declared, stages=stages))):
        return
    if recorded == _leaves(declared):
        # Recorded without an apply, the new first stage would have the generations of the former one.
        yield LockChange(
            kind="decision",
            name="",
            path=("target", "stages"),
            field="stages",
            before=", ".join(stages),
            after=", ".join(declared.stages),
        )
        return
    expected = _leaves(record_target(target) if head.target else base.target)
    for path in sorted(recorded.keys() | expected.keys(), key=str):
        before, after = expected.get(path), recorded.get(path)
        if before != after:
            yield LockChange(
                kind="fact",
                name="",
                path=("target", *path),
                field=_dotted(path),
                before=before,
                after=after,
                reason=f"{target.file} does not declare this",
            )


class Served(Struct, frozen=True):
    """What a published pointer names: the key of a generation, and the ID of its checkpoint, empty for the default."""

    key: str
    checkpoint: str = ""


def published_lock(lock: Lock, pointer: Mapping[str, Served], manifests: Iterable[Manifest]) -> Lock:
    """Return the lock with the generations as serving that a published pointer names, by the name of the manifest.

    A model whose pointer was changed out-of-band stays as it is: nothing is published then.
    """
    former_names = {manifest.name: manifest.formerly for manifest in manifests}

    def last(name: str, model: LockedModel) -> LockedModel:
        names = (name, *former_names.get(name, ()))
        found = next((known for known in names if known in pointer), name)
        written = lock.models[found].published if found in lock.models else None
        served = pointer.get(found)
        if (served.key if served else None) != written:
            return model
        known = model.generation(served.key) if served else None
        if served and known:
            model = model.with_generation(replace(known, checkpoint=served.checkpoint))
        return replace(model, serving=written)

    return replace(lock, models={name: last(name, model) for name, model in lock.models.items()})


def withheld_promotions(base: Lock, head: Lock, manifests: Iterable[Manifest], stage: str = "") -> tuple[Withheld, ...]:
    """Return the promotions that a changed lockfile contains, to be made by this run instead, after the checks.

    A rollback is not withheld: it has rejected the generation that served before. In a ``stage`` after the first one,
    a ready generation keeps serving if the changed lockfile names none: apply would promote no other one.
    """
    former_names = {manifest.name: manifest.formerly for manifest in manifests}
    found: list[Withheld] = []
    for name, model in head.models.items():
        known = (base.models.get(known) for known in (name, *former_names.get(name, ())))
        recorded = next((recorded for recorded in known if recorded and has_content(recorded)), None)
        before = recorded.serving_generation if recorded else None
        key, kept = model.serving_key, model.generation(before.key if before else None)
        checkpoint = before.checkpoint if before else ""
        is_ready = kept is not None and kept.state is State.ACTIVE
        if key is None and not (stage and is_ready):
            continue
        if key and recorded and recorded.serving_key in model.rejected:
            continue
        if recorded and recorded.serving_key == key and (kept is None or kept.checkpoint == checkpoint):
            continue
        kept_key = kept.key if kept and is_ready else None
        found.append(Withheld(name, key or kept_key or "", kept_key, checkpoint, stage))
    return tuple(found)


def withheld_in_stages(base: Lock, head: Lock, manifests: Iterable[Manifest], target: Target) -> tuple[Withheld, ...]:
    """Return the promotions to stages after the first one that a changed lockfile contains: they become requests.

    A rollback is not withheld if it returns to the generation that served in the stage before. What it rejected can be
    requested again in the same change. A new request is never replaced.
    """
    manifests, found = tuple(manifests), list[Withheld]()
    for stage in target.later_stages:
        before, after = base.in_stage(stage.name), head.in_stage(stage.name)
        former = {name: _recorded_in(base, name, stage.name) for name in base.models}
        returned = {
            name: replace(model, serving=former[name].previous)
            for name, model in before.models.items()
            if _is_other_rollback(former[name], after.models.get(name))
        }
        before = replace(before, models={**before.models, **returned})
        for held in withheld_promotions(before, after, manifests, stage.name):
            known, record = former.get(held.name) or LockedStage(), head.models[held.name].stage(stage.name)
            requested = record.requested if record.requested != known.requested else None
            if not (requested and requested == known.serving and record.serving == known.previous):
                found.append(replace(held, requested=requested))
    return tuple(found)


def _recorded_in(lock: Lock, name: str, stage: str) -> LockedStage:
    model = lock.models[name]
    return model.record_of(recorded_stage(lock.target, stage) if lock.target else stage)


def _is_other_rollback(record: LockedStage, after: LockedModel | None) -> bool:
    """Whether a changed lockfile rejects what served, in favor of a generation that did not serve before it."""
    rejects = after is not None and record.serving is not None and record.serving in after.rejected
    return rejects and after is not None and after.serving not in (None, record.serving, record.previous)


def requested_serving(base: Lock, head: Lock, manifests: Iterable[Manifest]) -> dict[str, str]:
    """Return the serving generation by manifest where a changed lockfile has another one than its base."""
    manifests = tuple(manifests)
    base, head = apply_moved(base, manifests), apply_moved(head, manifests)
    before = {name: model.serving_key for name, model in base.models.items()}
    after = {name: model.serving_key for name, model in head.models.items()}
    return {name: key for name, key in after.items() if key and key != before.get(name)}


class _Review:
    def __init__(self, head: Lock, manifests: Mapping[str, Manifest], target: Target, *, chosen_ids: bool) -> None:
        self._head = head
        self._manifests = manifests
        self._scope = target.scope
        self._chosen_ids = chosen_ids
        self._uses = Counter(generation.remote for model in head.models.values() for generation in model.generations)

    def changes(self, base: Lock) -> Iterator[LockChange]:
        """Yield the changes of all models; renames and claims of the manifests are already applied to ``base``."""
        head = apply_moved(self._head, self._manifests.values())
        for name in sorted(base.models.keys() | head.models.keys()):
            before, after = base.models.get(name), head.models.get(name)
            if after is None and before:
                yield from self._removed(name, before)
            elif after and before != after:
                yield from self._model(name, before or LockedModel(after.manifest), after, is_new=before is None)

    def _removed(self, name: str, before: LockedModel) -> Iterator[LockChange]:
        if has_content(before) or before.published_keys:
            serving = before.generation(before.serving)
            yield LockChange(
                kind="decision",
                name=name,
                path=("models", name),
                field="generations",
                before=", ".join([known.key for known in before.generations] or sorted(before.published_keys)),
                remote=serving.remote if serving else "",
            )

    def _model(self, name: str, before: LockedModel, after: LockedModel, *, is_new: bool) -> Iterator[LockChange]:
        yield from self._decisions(name, before, after)
        manifest = self._manifests.get(name)
        if manifest is None and is_new and not after.generations:
            yield LockChange(
                kind="fact",
                name=name,
                path=("models", name),
                field="manifest",
                after=after.manifest,
                reason=_UNDECLARED,
            )
        yield from self._declared(name, before, after, manifest)
        yield from self._generations(name, before, after, manifest)

    def _decisions(self, name: str, before: LockedModel, after: LockedModel) -> Iterator[LockChange]:
        recorded = before.by_key | after.by_key

        def decision(
            field: str, old: Scalar | None, new: Scalar | None, key: str | None, within: Path = ()
        ) -> LockChange:
            known = recorded.get(key) if key else None
            return LockChange(
                kind="decision",
                name=name,
                path=("models", name, *within, field),
                field=_dotted((*within, field)),
                before=old,
                after=new,
                key=key or "",
                remote=known.remote if known else "",
            )

        for field in ("serving", "published"):
            old, new = getattr(before, field), getattr(after, field)
            if old != new:
                yield decision(field, old, new, new or old)
        sides = [frozenset(model.rejected) for model in (before, after)]
        for key in dict.fromkeys((*before.rejected, *after.rejected)):
            old, new = (key if key in rejected else None for rejected in sides)
            if old != new:
                yield decision("rejected", old, new, key)
        for stage in sorted(before.stages.keys() | after.stages.keys()):
            records = [builtins_of(model.stage(stage)) for model in (before, after)]
            for field in sorted(records[0].keys() | records[1].keys()):
                old, new = (_scalar(record.get(field)) for record in records)
                if old != new:
                    named = after.stage(stage).requested or after.stage(stage).serving or before.stage(stage).serving
                    yield decision(field, old, new, named, ("stages", stage))
        manifest = self._manifests.get(name)
        if before.protect != after.protect and not (manifest and manifest.lifecycle.protect == after.protect):
            yield decision("protect", before.protect, after.protect, after.serving)

    def _declared(
        self, name: str, before: LockedModel, after: LockedModel, manifest: Manifest | None
    ) -> Iterator[LockChange]:
        """Yield the fields that repeat those of the manifest, where they have another value."""
        sampling = manifest.sampling if manifest and manifest.sampling != Sampling() else None
        expected = {
            "manifest": manifest.file if manifest else before.manifest,
            "labels": manifest.labels if manifest else before.labels,
            "sampling": sampling if manifest else before.sampling,
            "applied": declared_fields(manifest) if manifest else before.applied,
            "suspend": manifest.lifecycle.suspend if manifest else before.suspend,
        }
        for field, value in expected.items():
            old, new = getattr(before, field), getattr(after, field)
            if new not in (old, value):
                yield LockChange(
                    kind="fact",
                    name=name,
                    path=("models", name, field),
                    field=field,
                    before=_scalar(old),
                    after=_scalar(new),
                    reason=_UNEXPLAINED,
                )

    def _generations(
        self, name: str, before: LockedModel, after: LockedModel, manifest: Manifest | None
    ) -> Iterator[LockChange]:
        seen: set[str] = set()
        recorded = before.by_key
        for index, generation in enumerate(after.generations):
            record = _RecordReview(self, name, index, generation, manifest)
            known = recorded.get(generation.key)
            if generation.key in seen:
                yield record.fact(("key",), None, f"{generation.key} is recorded twice")
            elif known is None or _is_replaced(known, generation):
                yield from record.new()
            elif known != generation:
                yield from record.changed(known)
            seen.add(generation.key)
        for generation in before.generations:
            if generation.key not in seen and generation.state is not State.INTENDED:
                yield LockChange(
                    kind="decision",
                    name=name,
                    path=("models", name, "generations"),
                    field="generations",
                    before=generation.key,
                    key=generation.key,
                    remote=generation.remote,
                )

    def is_shared(self, remote: str) -> bool:
        """Whether several records name the same remote model."""
        return self._uses[remote] > 1

    def has_id_of(self, generation: LockedGeneration) -> bool:
        """Whether the id of the model is the key of its generation, where callers choose ids."""
        return not self._chosen_ids or generation.remote.rpartition("/")[2] == generation.key

    def has_content_of(self, generation: LockedGeneration, manifest: Manifest) -> bool:
        """Whether key and digest are those of the recorded content, trained under a name of the manifest."""
        return any(
            (mark.spec, key_of(mark)) == (generation.spec, generation.key)
            for mark in (
                Content(
                    self._scope,
                    name,
                    generation.source,
                    generation.hyperparameters.declared,
                    generation.dataset.digest,
                    generation.attempt,
                ).mark()
                for name in manifest.names
            )
        )


class _RecordReview(Struct, frozen=True):
    """The review of one record of the new lockfile."""

    review: _Review
    name: str
    index: int
    generation: LockedGeneration
    manifest: Manifest | None

    def fact(self, path: Path, before: Scalar | None, reason: str) -> LockChange:
        """Return a change of a fact."""
        return self._change("fact", path, before, reason)

    def _change(
        self, kind: Literal["fact", "decision"], path: Path, before: Scalar | None, reason: str = ""
    ) -> LockChange:
        return LockChange(
            kind=kind,
            name=self.name,
            path=("models", self.name, "generations", self.index, *path),
            field=_dotted(path),
            before=before,
            after=_leaves(self.generation).get(path),
            key=self.generation.key,
            remote=self.generation.remote,
            reason=reason,
        )

    def new(self) -> Iterator[LockChange]:
        """Yield what is wrong with a record that the base does not have."""
        generation, manifest = self.generation, self.manifest
        yield from (self._change("decision", (field,), None) for field in _DECISIONS if _leaf(generation, field))
        if manifest is None:
            yield self.fact(("remote",), None, _UNDECLARED)
        elif self.review.is_shared(generation.remote) and generation.remote:
            yield self.fact(("remote",), None, "another record has the same remote name")
        elif not self.review.has_content_of(generation, manifest):
            if generation.origin == "adopted":
                yield self._change("decision", ("origin",), None)
            else:
                yield self.fact(("spec",), None, f"it is not the digest of this record's content under {self.name}")
        elif generation.remote and not self.review.has_id_of(generation):
            yield self.fact(("remote",), None, f"the id of this model would be {generation.key}")
        elif generation.dataset.digest == manifest.dataset.digest and generation.preamble != manifest.preamble:
            yield self.fact(("preamble",), manifest.preamble, "the manifest declares another preamble for this data")

    def changed(self, known: LockedGeneration) -> Iterator[LockChange]:
        """Yield the changed fields of a record that the base has too."""
        before, after = _leaves(known), _leaves(self.generation)
        for path in sorted(before.keys() | after.keys(), key=str):
            old, new = before.get(path), after.get(path)
            if old == new:
                continue
            if path[0] in _DECISIONS or (path == ("state",) and new in {State.DELETING, State.DELETED}):
                yield self._change("decision", path, old)
            elif not self._is_explained(known, str(path[0]), path, old):
                yield self.fact(path, old, _UNEXPLAINED)

    def _is_explained(self, known: LockedGeneration, field: str, path: Path, old: Scalar | None) -> bool:
        generation = self.generation
        if field == "state":
            return known.state in _UNFINISHED or (known.state is State.ACTIVE and generation.state is State.MISSING)
        if field == "checks":
            return self._ran_new_checks(known)
        if field == "remote":
            return (
                not known.remote and self.review.has_id_of(generation) and not self.review.is_shared(generation.remote)
            )
        filled_in = old is None or old == ""
        if known.state in _UNFINISHED and field in _TRANSIENT:
            return True
        if known.state in _UNFINISHED and field in _PROGRESS:
            return filled_in and path[:2] != ("hyperparameters", "declared")
        return filled_in and field in _DETAILS

    def _ran_new_checks(self, known: LockedGeneration) -> bool:
        """Whether the results are those of the declared checks, and the base has none of them."""
        checks = self.generation.checks
        if checks is None or self.manifest is None or not self.manifest.checks:
            return False
        is_new = known.checks is None or known.checks.digest != checks.digest
        return is_new and checks.digest == checks_digest(self.manifest.checks)


def _is_replaced(known: LockedGeneration, generation: LockedGeneration) -> bool:
    """Whether a record is that of another training: the one before is gone, or was never started."""
    return known.state in _REPLACEABLE and generation.create_time != known.create_time


def _leaves(record: Record | None) -> Leaves:
    return dict(_walk((), builtins_of(record))) if record else {}


def _walk(path: Path, value: Any) -> Iterator[tuple[Path, Scalar]]:
    if isinstance(value, dict | list):
        for step, nested in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk((*path, step), nested)
    elif value is not None:
        yield path, value


def _leaf(record: Record, field: str) -> Scalar | None:
    return _leaves(record).get((field,))


def _scalar(value: Any) -> Scalar | None:
    """Return a value of a model as one text: objects as their fields."""
    if isinstance(value, Record):
        value = builtins_of(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={nested}" for name, nested in sorted(value.items())) or None
    if isinstance(value, list):
        return ", ".join(value) or None
    return None if value is None else str(value)


def _dotted(path: Path) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


_OFFLINE = Observation()


def verify_locked(manifests: Iterable[Manifest], scope: str, lock: Lock, lockfile: str) -> Iterator[Problem]:
    """Return a problem for each manifest without a ready recorded generation of exactly its content."""
    ready: dict[str, ParentGeneration] = {}
    manifests = tuple(manifests)
    lock = apply_moved(lock, manifests)
    for declared in parents_first(manifests):
        name = declared.source.tuned_model
        parent = (ready.get(name) or recorded_parent(Owner(scope, name), lock, _OFFLINE)) if name else None
        manifest = with_source(declared, parent)
        model = lock.models.get(manifest.name) or LockedModel(manifest.file)
        generations = resolve_generations(Owner(scope, manifest.name), model, _OFFLINE, ())
        matching = tuple(generation for generation in generations if satisfies(generation, manifest))
        chosen = choose_generation(matching, model.serving_key, model.rejected)
        if chosen and chosen.state is State.ACTIVE:
            ready[manifest.name] = ParentGeneration(manifest.name, chosen.key, source_name(chosen))
        states = {generation.state for generation in matching}
        serving = model.serving_generation
        if chosen is None and State.ACTIVE in states and not (serving and serving.state is State.ACTIVE):
            gone = f"and {serving.key} is recorded as {serving.state}" if serving else "and no other one is serving"
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} has no generation of {manifest.name} that may serve: the one with this content was"
                f" rolled back, {gone}",
                remedy=for_target(
                    f"change the manifest, or promote a generation with reconcile promote {manifest.name}"
                ),
            )
        if State.ACTIVE not in states:
            recorded = f"recorded: {', '.join(sorted(states))}" if states else "none is recorded"
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} has no ready generation of {manifest.name} with this content ({recorded})",
                remedy=for_target("run reconcile apply where training is allowed, and commit the lockfile"),
            )
