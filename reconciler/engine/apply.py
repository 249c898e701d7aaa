"""Apply a plan: observe, plan, carry out actions and wait, until no action is left."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.errors import AccessError, ExitStatus, LeaseHeld, ReconcileError, ServiceError, TimeoutReached
from reconciler.domain.lock import Lock, LockedGeneration, record_target
from reconciler.domain.model import Manifest, Source, State
from reconciler.domain.plan import EFFECTS, Action, Kind, Observation, Plan, Reason, Request, World, approved_effects
from reconciler.domain.ports import TrainingQueue
from reconciler.engine.execute import Executor, RunContext, publish_nothing
from reconciler.engine.observe import TRANSIENT_CODES, add_permissions, observe, place_dropped, plan_live_state
from reconciler.engine.prune import Pruner
from reconciler.environment import Deadline
from reconciler.planning.diff import declared_fields
from reconciler.planning.events import (
    Applied,
    Cancelled,
    Claimed,
    Event,
    Failed,
    Published,
    Refused,
    Renamed,
    RequestRemoved,
    Staged,
    Targeted,
    Withheld,
    declared,
    record,
)
from reconciler.planning.generations import owners_of, resolve_recorded, satisfies
from reconciler.planning.live_proof import Owner
from reconciler.planning.observed_events import find_moved, observed_events
from reconciler.planning.planner import plan
from reconciler.planning.prune import deletions_only, without_deletions
from reconciler.planning.stages import shared_fields
from reconciler.planning.training_time import poll_delay, seconds_left
from reconciler.state.published_pointer import without_pointer

T = TypeVar("T")
MAX_OUTAGE = timedelta(minutes=15)
"""How long a run waits while every observation fails; the provider has retried each of them."""
MISSES_BEFORE_GONE = 5
"""How many observations in a row must lack a model of this run before it counts as gone."""
_LEASE_POLL = 10.0  # seconds
_LOG = logging.getLogger(__name__)


async def run_within(deadline: Deadline, part: Coroutine[Any, Any, T]) -> T:
    """Return the result of a part of a run, which is canceled at the deadline and its grace.

    Raises:
        TimeoutReached: the part was canceled.
    """
    left = deadline.left()
    try:
        async with asyncio.timeout(None if left is None else (left + deadline.grace).total_seconds()):
            return await part
    except TimeoutError:
        raise TimeoutReached(
            "the service did not respond within --timeout; trainings that have started continue",
            "run the command again to resume",
        ) from None


class ApplyOptions(Struct, frozen=True):
    """What a run may do.

    ``creates`` allows trainings, and canceling duplicate ones. ``writes`` allows promotions, and all other changes
    at the service and of the published pointer. Without both only facts in the lockfile change. ``wait`` waits for
    trainings. ``foreseen`` approves writes that become necessary during the run; without it only manifests that the
    approved plan trains or writes are written. ``exact`` allows only the approved actions, by generation, and what
    follows from their trainings. ``withheld`` are the promotions of a changed lockfile that this run makes itself,
    after the checks. ``curves`` also observes the loss curves of completed trainings.
    """

    request: Request = field(default_factory=Request)
    creates: bool = True
    writes: bool = True
    wait: bool = True
    foreseen: bool = True
    exact: bool = False
    withheld: tuple[Withheld, ...] = ()
    curves: bool = False


class ApplyOutcome(Struct, frozen=True):
    """How a run ended: the remaining plan, failed trainings, refused manifests, and whether the timeout passed.

    ``unpublished`` is the error of publishing. ``unfinished`` means that something declared is not done: it is not
    allowed, became necessary during the run, or had no effect.
    """

    plan: Plan
    failed: frozenset[str] = frozenset()
    refused: dict[str, Refused] = {}
    timed_out: bool = False
    unpublished: ReconcileError | None = None
    unfinished: bool = False

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of the process: the most severe of all results."""
        errors = [*(event.error for event in self.refused.values()), self.unpublished]
        held = self.plan.exit_status
        if held is ExitStatus.ACCESS or any(isinstance(error, AccessError) for error in errors):
            return ExitStatus.ACCESS
        if held or self.failed or any(errors) or self.unfinished:
            return ExitStatus.ERROR
        return ExitStatus.STILL_TRAINING if self.timed_out else ExitStatus.OK


class Applier:
    """Brings the live state of a target to what the manifests declare."""

    def __init__(self, context: RunContext, options: ApplyOptions) -> None:
        self._publish = context.publish if options.writes else publish_nothing
        self._context = replace(context, publish=self._publish_proved)
        self._provider = context.provider
        self._target = context.target
        self._stages = tuple(stage.name for stage in context.target.stages)
        self._recorder = context.recorder
        self._clock = context.clock
        self._manifests = {manifest.name: manifest for manifest in context.manifests}
        self._options = options
        self._deadline = context.deadline
        self._request = replace(options.request, promotes=options.writes)
        self._observation = Observation()
        self._executor = Executor(self._context)
        self._sources: Mapping[str, Source] = {}
        self._failed: set[str] = set()
        self._writable: set[str] = set()
        self._approved: frozenset[tuple[str, str, Kind, str]] = frozenset()
        self._misses: Counter[str] = Counter()
        self._observed_at = self._clock()

    @property
    def observation(self) -> Observation:
        """The latest observation."""
        return self._observation

    async def plan(self) -> Plan:
        """Observe live state, and return the plan; nothing is changed. Raises TimeoutReached."""
        return await run_within(self._deadline, self._observe_and_plan())

    async def _observe_and_plan(self) -> Plan:
        lock = self._recorder.lock
        generations = (generation for model in lock.models.values() for generation in model.generations)
        training = any(generation.state is State.CREATING for generation in generations)
        world = self._world()
        if self._options.exact:  # saved plans contain promotions, also those that a run without writes carries out
            world = replace(world, request=replace(world.request, promotes=True))
        if world.request.promotes:
            events: tuple[Event, ...] = self._options.withheld
            if any(withheld.stage for withheld in self._options.withheld):
                events = (Staged(self._stages), *events)
            world = replace(world, lock=reduce(record, events, world.lock))  # as it will be recorded
        self._observation, current = await plan_live_state(
            self._provider,
            world,
            self._clock,
            progress=training or self._options.curves,
            examples=self._context.examples if self._options.creates else None,
        )
        self._sources = current.sources
        return current

    async def apply(self, approved: Plan) -> ApplyOutcome:
        """Carry out a plan of :meth:`plan` and what follows from it, wait for trainings, delete, and publish.

        Only trainings in ``approved`` are started. The lease is held while the approved actions are carried out, but
        not while trainings run. The lockfile is saved before this returns or raises. When the timeout passes while the
        service does not respond, the request is canceled as in an interrupted run, and nothing is published.

        Raises:
            ServiceError: the service could not be reached for a long time, or failed permanently.
            AccessError: the service denies access.
            ReconcileError: the lockfile cannot be saved, or another run has the lease.
        """
        creates = approved.of_kind(Kind.CREATE)
        writes = approved.of_kind(Kind.CREATE, Kind.UPDATE, Kind.DELETE)
        held = {action.name for action in approved.actions if action.reason is Reason.GUARDED}
        self._writable = {action.name for action in writes if not action.prunes}
        self._approved = approved_effects(approved)
        self._narrow_request({action.name for action in creates} | held)
        run = self._converge({action.key for action in creates}, approved)
        try:
            try:
                outcome = await run_within(self._deadline, run)
            finally:
                self._recorder.flush()
        except TimeoutReached as reached:
            return self._cut_off(reached)
        self._remove_barred(outcome.plan)
        return replace(outcome, unpublished=self._publish_serving())

    def _remove_barred(self, current: Plan) -> None:
        """Remove requests for stages whose generation was rejected; the holds of this run report it."""
        for action in current.of_kind(Kind.HOLD):
            if action.reason is Reason.REJECTED_IN_STAGE:
                self._recorder.emit(RequestRemoved(action.name, action.key, action.stage))
        self._recorder.flush()

    def _publish_serving(self) -> ReconcileError | None:
        """Publish what is recorded as serving now, and return the error; it changes nothing else about the run."""
        if not self._target.publishes:
            return None
        try:
            with self._recorder.lease():
                self._executor.publish()
        except ReconcileError as error:
            return error
        return None

    async def _converge(self, creatable: set[str], approved: Plan) -> ApplyOutcome:
        self._observed_at = self._clock()
        started = self._observed_at
        with self._recorder.lease() if approved.changes else nullcontext() as changed:
            await self._start_queued()
            if changed:
                await self._observe_again()
            self._record_manifests()
            self._record_observation()
            current = await self._carry_out(creatable)
        held: LeaseHeld | None = None
        while True:
            waiting = current.of_kind(Kind.WAIT)
            if held and self._deadline.has_passed:
                raise TimeoutReached(f"--timeout has passed: {held.message}", held.remedy)
            if not (waiting or held) or not self._options.wait or self._deadline.has_passed:
                if self._options.writes:
                    self._record_applied(current)
                current = await self._prune(approved, current)
                return self._outcome(current, timed_out=bool(waiting or held) and self._options.wait)
            self._save()
            delay = self._delay(waiting, started) if waiting else _LEASE_POLL
            left = self._deadline.left()
            await self._context.sleeper(delay if left is None else min(delay, left.total_seconds()))
            await self._start_queued()
            await self._observe_again()
            self._record_observation()
            try:
                current, held = await self._carry_out(creatable), None
            except LeaseHeld as error:  # it has waited for hours, and the other run ends, or its lease expires
                _LOG.warning("waiting: %s", error.message)
                current, held = self._plan(), error

    async def _start_queued(self) -> None:
        if isinstance(self._provider, TrainingQueue):
            await self._provider.start_queued()

    def _cut_off(self, reached: TimeoutReached) -> ApplyOutcome:
        """Return the outcome of a run that ended before everything that it may do was done."""
        current = without_deletions(self._plan(), Plan(actions=()))
        outcome = self._outcome(current, timed_out=True)
        return replace(outcome, plan=replace(outcome.plan, notices=(*current.notices, str(reached))), unfinished=False)

    async def _prune(self, approved: Plan, current: Plan) -> Plan:
        """Delete what the approved plan deletes; later candidates are left for another run."""
        if self._request.pruning is None:
            return current
        if not any(action.prunes for action in approved.actions):
            return without_deletions(current, deletions_only(current))
        pruner = Pruner(self._context, self._request)
        left = await pruner.delete(approved)
        self._executor.refused.update(pruner.refused)
        return without_deletions(current, left)

    def _save(self) -> None:
        """Save the lockfile; a transient error is ignored, because the end of the run saves again."""
        try:
            self._recorder.flush()
        except ServiceError as error:
            self._ignore_transient(error)

    async def _observe_again(self) -> None:
        """Observe live state again; after a transient error the previous observation stays valid.

        A model that this run created counts as gone only after several misses, because lists can lag behind.
        """
        try:
            found = await observe(
                self._provider, self._recorder.lock, concurrency=self._context.concurrency, progress=True
            )
        except ServiceError as error:
            self._ignore_transient(error)
            return
        self._observed_at = self._clock()
        self._misses.update(found.gone & self._executor.started)
        lagging = {remote for remote, misses in self._misses.items() if misses < MISSES_BEFORE_GONE}
        before = self._observation
        self._observation = replace(
            found,
            models={remote: model for remote, model in found.models.items() if remote not in self._executor.remnants},
            gone=found.gone - lagging,
            untunable=before.untunable,
            training_checks=before.training_checks,
            permissions=before.permissions,
            unreadable=before.unreadable,
        )

    def _ignore_transient(self, error: ServiceError) -> None:
        """Raise the error unless it is transient and the outage is still short."""
        if error.code not in TRANSIENT_CODES or self._clock() - self._observed_at > MAX_OUTAGE:
            raise error

    async def _carry_out(self, creatable: set[str]) -> Plan:
        """Plan and carry out actions until no allowed action is left; each action is tried once in a run.

        The lease is held from the decision until its results are saved.
        """
        while True:
            current, effects = await self._decide(creatable)
            if not effects:
                return current
            with self._recorder.lease() as changed:
                if changed:
                    await self._observe_again()
                    self._record_observation()
                    _, effects = await self._decide(creatable)
                self._observation = await self._executor.carry_out(effects, self._resolved(), self._observation)
            created = {action.name for action in effects if action.kind is Kind.CREATE}
            self._narrow_request(self._manifests.keys() - created)

    async def _decide(self, creatable: set[str]) -> tuple[Plan, list[Action]]:
        """Return the plan for what is recorded and observed now, and its actions that this run may carry out."""
        await self._add_permissions()
        current = self._plan()
        allowed = [action for action in current.of_kind(*EFFECTS) if self._allowed(action, current, creatable)]
        return current, self._executor.untried(allowed)

    async def _add_permissions(self) -> None:
        """Read the permissions of models that became ready or were adopted."""
        try:
            self._observation = await add_permissions(self._provider, self._world())
        except ServiceError as error:
            self._ignore_transient(error)

    def _resolved(self) -> dict[str, Manifest]:
        """Return the manifests with the parent generations that the last plan chose."""
        return {
            name: replace(manifest, source=self._sources.get(name, manifest.source))
            for name, manifest in self._manifests.items()
        }

    def _narrow_request(self, names: AbstractSet[str]) -> None:
        """Keep requested retries and replacements of these manifests only: each is trained once in a run."""
        request = self._request
        self._request = replace(request, retry=request.retry & names, replace=request.replace & names)

    def _allowed(self, action: Action, current: Plan, creatable: set[str]) -> bool:
        if action.prunes or action.reason is Reason.RECORD_DIFFERS:  # deletions come last, corrections came first
            return False
        if self._options.exact and (action.name, action.key, action.kind, action.stage) not in self._approved:
            return False
        if action.kind is Kind.CREATE:
            return self._options.creates and action.key in creatable and not action.after
        if action.kind in {Kind.UPDATE, Kind.DELETE}:
            allowed = self._options.writes or (self._options.creates and action.reason is Reason.DUPLICATE)
            return allowed and (self._options.foreseen or action.name in self._writable)
        if action.kind is Kind.PROMOTE:
            updates = (
                update for update in current.of_kind(Kind.UPDATE) if update.name == action.name and not action.stage
            )
            return self._options.writes and all(self._allowed(update, current, creatable) for update in updates)
        return True  # adopting and checking change only the lockfile

    def _publish_proved(self, lock: Lock, only: frozenset[str] | None) -> Iterable[Published]:
        """Publish the serving generations, unless the live model of one does not prove its record."""
        owners = owners_of(replace(self._world(), lock=lock))
        for name, model in lock.models.items() if self._target.publishes else ():
            for key in sorted(model.served_keys):
                self._require_proved(name, model.generation(key), owners.owner(name))
        return self._publish(lock, only)

    def _require_proved(self, name: str, serving: LockedGeneration | None, owner: Owner) -> None:
        found = resolve_recorded(serving, owner, self._observation) if serving else None
        if found and found.mismatch:
            raise ReconcileError(
                f"nothing is published: {name}: {found.mismatch.field} of {found.key} in the lockfile:"
                f" {found.mismatch.message}",
                "restore this record from the history of the lockfile",
            )

    def _plan(self) -> Plan:
        current = plan(self._world())
        self._sources = current.sources
        return current

    def _world(self) -> World:
        world = self._context.world(self._observation, self._request)
        return replace(world, checked=frozenset(self._executor.checked), stage_checks=dict(self._executor.stage_checks))

    def _record_manifests(self) -> None:
        self._recorder.emit(Targeted(record_target(self._target)))
        recorded = self._recorder.lock.target
        if self._options.writes and recorded and recorded.stages != self._stages:  # an unmerged branch decides nothing
            self._recorder.emit(Staged(self._stages))
        self._recorder.emit(*(self._options.withheld if self._options.writes else ()))
        for event in find_moved(self._recorder.lock, self._manifests.values()):
            self._recorder.emit(event)
            if isinstance(event, Claimed) and not event.dataset.unknown:
                self._recorder.emit(self._recorder.decided("claim", event.name, event.key))
            former = self._recorder.lock.models.get(event.former) if isinstance(event, Renamed) else None
            if isinstance(event, Renamed) and former:  # no pointer has the old name
                self._recorder.emit(*without_pointer(self._target, event.former, former))
        shares = self._options.writes and self._target.later_stages
        for manifest in self._manifests.values():
            fields = shared_fields(manifest, self._provider.capabilities.mutable) if shares else ""
            self._recorder.emit(declared(manifest, fields))

    def _record_applied(self, current: Plan) -> None:
        """Record of each model in sync which fields its manifest declares."""
        in_sync = (action.name for action in current.actions if action.reason is Reason.IN_SYNC)
        for name in dict.fromkeys(in_sync):
            self._recorder.emit(Applied(name, declared_fields(self._manifests[name])))

    def _record_observation(self) -> None:
        """Record what changed at the recorded generations, and collect failed trainings that are still declared."""
        self._observation = place_dropped(self._world(), self._context.examples)
        for event in observed_events(replace(self._world(), manifests=tuple(self._resolved().values()))):
            if isinstance(event, Failed | Cancelled) and self._is_declared(event):
                self._failed.add(event.name)
            self._recorder.emit(event)

    def _is_declared(self, event: Failed | Cancelled) -> bool:
        """Whether the manifest still asks for the generation of the event."""
        manifest = self._resolved().get(event.name)
        recorded = self._recorder.lock.models[event.name].generation(event.key)
        if manifest is None or recorded is None:
            return False
        return satisfies(
            resolve_recorded(recorded, owners_of(self._world()).owner(event.name), self._observation), manifest
        )

    def _delay(self, waiting: Sequence[Action], started: datetime) -> float:
        now, waited = self._clock(), (self._clock() - started).total_seconds()
        return min(poll_delay(self._left(action, now), waited, self._provider.capabilities) for action in waiting)

    def _left(self, action: Action, now: datetime) -> float | None:
        """Return the estimated seconds until a training ends, ``None`` where they are unknown."""
        live = self._observation.models.get(action.remote)
        model = self._recorder.lock.models.get(action.name)  # missing where adopting was refused
        recorded = model.generation(action.key) if model else None
        total = (live.total_steps if live else None) or (recorded.total_steps if recorded else None)
        return seconds_left(live, total, now) if live else None

    def _unfinished(self, current: Plan) -> bool:
        """Whether a declared training was not started, or an allowed write had no effect."""
        writes = current.of_kind(Kind.UPDATE, Kind.DELETE) if self._options.writes else ()
        waiting = bool(current.of_kind(Kind.WAIT))  # children follow when their parents are ready
        creates = [action for action in current.of_kind(Kind.CREATE) if not (action.after and waiting)]
        return bool(creates or writes)

    def _outcome(self, current: Plan, *, timed_out: bool) -> ApplyOutcome:
        return ApplyOutcome(
            plan=_with_refusals(current, self._executor.refused),
            failed=frozenset(self._failed),
            refused=dict(self._executor.refused),
            timed_out=timed_out,
            unfinished=self._unfinished(current),
        )


def _with_refusals(current: Plan, refused: Mapping[str, Refused]) -> Plan:
    """Return the plan with trainings whose id is taken as held actions."""

    def hold(action: Action) -> Action:
        event = refused.get(action.name)
        if action.kind is not Kind.CREATE or event is None or event.reason is None:
            return action
        return replace(action, kind=Kind.HOLD, reason=event.reason, message=str(event.error))

    return replace(current, actions=tuple(hold(action) for action in current.actions))
