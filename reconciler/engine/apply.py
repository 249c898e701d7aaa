"""The loop: observe, plan, carry out, wait, and again, until nothing is left to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError, ServiceError
from reconciler.domain.lock import record_target
from reconciler.domain.model import Manifest, Source, State, Target
from reconciler.domain.plan import EFFECTS, Action, Kind, Plan, Reason, Request, approved_effects
from reconciler.domain.ports import Clock, Examples, Provider, Sleeper
from reconciler.engine.execute import Executor, Publish, publish_nothing
from reconciler.engine.observe import PASSING_ERRORS, look, observe, with_permissions
from reconciler.engine.prune import Pruner
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Cancelled, Declared, Failed, Published, Refused, Renamed, Targeted
from reconciler.planning.generations import resolve_recorded, satisfies
from reconciler.planning.moved import find_moved
from reconciler.planning.observed_events import observed_events
from reconciler.planning.planner import plan
from reconciler.planning.prune import deletions_only, without_deletions
from reconciler.planning.training_time import poll_delay, seconds_left
from reconciler.planning.world import Observation, World

LONGEST_OUTAGE = timedelta(minutes=15)
"""How long a wait goes on without an answer; each look has been retried by the provider before."""
LOOKS_BEFORE_GONE = 5


@dataclass(frozen=True, slots=True)
class Options:
    """How far a run goes.

    ``creates`` allows trainings, and to cancel one that doubles another; ``writes`` allows whatever else changes at the
    service, and to tell applications what serves. Without both only the lockfile changes.
    ``wait`` stays until the trainings end, at most ``timeout`` long. ``foreseen`` says that writes which come up during
    the run are approved too; without it only those of manifests that the approved plan creates or writes. ``exact``
    allows nothing but what the approved plan does, by generation, and what follows from its trainings. ``curves``
    asks for the loss curves of trainings that are over, too.
    """

    request: Request = field(default_factory=Request)
    creates: bool = True
    writes: bool = True
    wait: bool = True
    foreseen: bool = True
    exact: bool = False
    timeout: timedelta | None = None
    curves: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what is left to do, which trainings failed, what was refused, and whether time ran out.

    ``unpublished`` is why applications could not be told what serves. ``unfinished`` says that something declared is
    left undone: it may not be created, came up during the run, or had no effect.
    """

    plan: Plan
    failed: frozenset[str] = frozenset()
    refused: dict[str, Refused] = field(default_factory=dict)
    timed_out: bool = False
    unpublished: ReconcileError | None = None
    unfinished: bool = False

    @property
    def exit_status(self) -> ExitStatus:
        """What the process should tell its caller; the worst of what happened."""
        errors = [*(event.error for event in self.refused.values()), self.unpublished]
        if any(isinstance(error, AccessError) for error in errors):
            return ExitStatus.ACCESS
        if self.failed or any(errors) or self.plan.failing or self.unfinished:
            return ExitStatus.ERROR
        return ExitStatus.STILL_TRAINING if self.timed_out else ExitStatus.OK


class Reconciler:
    """Brings one target's service to what the manifests declare."""

    def __init__(
        self,
        *,
        provider: Provider,
        manifests: Sequence[Manifest],
        target: Target,
        recorder: Recorder,
        examples: Examples,
        clock: Clock,
        sleeper: Sleeper,
        options: Options,
        publish: Publish = publish_nothing,
    ) -> None:
        """``examples`` reads data sets again when they are sent; ``publish`` tells applications what serves."""
        self._provider = provider
        self._manifests = {manifest.name: manifest for manifest in manifests}
        self._target = target
        self._recorder = recorder
        self._clock = clock
        self._sleeper = sleeper
        self._options = options
        self._request = options.request
        self._observation = Observation()
        self._publish = publish if options.writes else publish_nothing
        self._executor = Executor(provider, target, recorder, examples, clock, self._publish)
        self._sources: Mapping[str, Source] = {}
        self._failed: set[str] = set()
        self._writable: set[str] = set()
        self._approved: frozenset[tuple[str, str, Kind]] = frozenset()
        self._missed: Counter[str] = Counter()
        self._seen = clock()

    @property
    def observation(self) -> Observation:
        """What the service showed last."""
        return self._observation

    async def look(self) -> Plan:
        """Observe, and plan; nothing changes anywhere."""
        lock = self._recorder.lock
        training = any(one.state is State.CREATING for model in lock.models.values() for one in model.generations)
        self._observation, made = await look(
            self._provider, self._world(), self._clock, progress=training or self._options.curves
        )
        self._sources = made.sources
        return made

    async def run(self, approved: Plan) -> Outcome:
        """Carry out the plan that :meth:`look` gave, and what follows from it, and wait as far as the options say.

        The lockfile is saved before this returns or raises. A create that was not in ``approved`` never happens. While
        the approved plan is carried out, other runs that share the lockfile are kept out; not while trainings run.
        """
        asked = {one.name for one in approved.actions if one.kind is Kind.CREATE or one.reason is Reason.GUARDED}
        self._writable = {one.name for one in approved.of_kind(Kind.CREATE, Kind.UPDATE, Kind.DELETE) if not one.prunes}
        self._approved = approved_effects(approved)
        self._narrow_request(asked)
        try:
            outcome = await self._converge({one.key for one in approved.of_kind(Kind.CREATE)}, approved)
        finally:
            self._recorder.flush()
        try:
            self._executor.tell_applications()
        except ReconcileError as error:
            return replace(outcome, unpublished=error)
        self._recorder.flush()
        return outcome

    async def _converge(self, creatable: set[str], approved: Plan) -> Outcome:
        began = self._seen = self._clock()
        with self._recorder.lease() if approved.changes else nullcontext():
            self._declare()
            self._refresh()
            current = await self._carry_out(creatable)
        while True:
            waiting = current.of_kind(Kind.WAIT)
            left = self._time_left(began)
            if not waiting or not self._options.wait or (left is not None and left <= 0):
                current = await self._prune(approved, current)
                return self._outcome(current, timed_out=bool(waiting) and self._options.wait)
            self._save()
            delay = self._delay(waiting, began)
            await self._sleeper(delay if left is None else min(delay, left))
            await self._look_again()
            self._refresh()
            current = await self._carry_out(creatable)

    async def _prune(self, approved: Plan, current: Plan) -> Plan:
        """Delete last what the approved plan deletes; what may be deleted since then is left to another run."""
        if self._request.pruning is None:
            return current
        if not any(one.prunes for one in approved.actions):
            return without_deletions(current, deletions_only(current))
        pruner = Pruner(
            provider=self._provider,
            manifests=tuple(self._manifests.values()),
            target=self._target,
            recorder=self._recorder,
            clock=self._clock,
            request=self._request,
            publish=self._publish,
        )
        left = await pruner.run(approved)
        self._executor.refused.update(pruner.refused)
        return without_deletions(current, left)

    def _save(self) -> None:
        """What cannot be saved now can be saved later; the end of the run does not forgive that."""
        try:
            self._recorder.flush()
        except ServiceError as error:
            self._forgive(error)

    async def _look_again(self) -> None:
        """Observe once more. Hours of waiting outlive an outage: what was seen last holds until it has lasted too long.

        A model that this run created is not taken for gone because it does not show at once.
        """
        try:
            found = await observe(
                self._provider, self._recorder.lock, concurrency=self._target.limits.concurrency, progress=True
            )
        except ServiceError as error:
            self._forgive(error)
            return
        self._seen = self._clock()
        self._missed.update(found.gone & self._executor.started)
        hidden = {remote for remote, looks in self._missed.items() if looks < LOOKS_BEFORE_GONE}
        before = self._observation
        self._observation = replace(
            found,
            models={name: one for name, one in found.models.items() if name not in self._executor.remnants},
            gone=found.gone - hidden,
            untunable=before.untunable,
            permissions=before.permissions,
            unreadable=before.unreadable,
        )

    def _forgive(self, error: ServiceError) -> None:
        """Raise the error, unless it may be gone a little later."""
        if error.code not in PASSING_ERRORS or self._clock() - self._seen > LONGEST_OUTAGE:
            raise error

    async def _carry_out(self, creatable: set[str]) -> Plan:
        """Plan and act until a plan has nothing left that may be done; each action is tried once a run."""
        while True:
            await self._look_at_permissions()
            current = self._plan()
            effects = [one for one in current.of_kind(*EFFECTS) if self._allowed(one, current, creatable)]
            effects = self._executor.untried(effects)
            if not effects:
                return current
            self._observation = await self._executor.carry_out(effects, self._resolved(), self._observation)
            self._narrow_request(self._manifests.keys() - {one.name for one in effects if one.kind is Kind.CREATE})

    async def _look_at_permissions(self) -> None:
        """What has become ready, or was taken up, has permissions that nobody has read yet."""
        try:
            self._observation = await with_permissions(self._provider, self._world())
        except ServiceError as error:
            self._forgive(error)

    def _resolved(self) -> dict[str, Manifest]:
        """The manifests with the parent generations that the last plan chose."""
        return {
            name: replace(manifest, source=self._sources.get(name, manifest.source))
            for name, manifest in self._manifests.items()
        }

    def _narrow_request(self, names: AbstractSet[str]) -> None:
        """Ask for one more training of these alone: each is asked for once, and never of what fails in this run."""
        asked = self._request
        self._request = replace(asked, retry=asked.retry & names, replace=asked.replace & names)

    def _allowed(self, action: Action, current: Plan, creatable: set[str]) -> bool:
        if action.prunes:  # comes last, when nothing else is left to do
            return False
        if self._options.exact and (action.name, action.key, action.kind) not in self._approved:
            return False
        if action.kind is Kind.CREATE:
            return self._options.creates and action.key in creatable and not action.after
        if action.kind in {Kind.UPDATE, Kind.DELETE}:
            allowed = self._options.writes or (self._options.creates and action.reason is Reason.DUPLICATE)
            return allowed and (self._options.foreseen or action.name in self._writable)
        if action.kind is Kind.PROMOTE:
            updates = (one for one in current.of_kind(Kind.UPDATE) if one.name == action.name)
            return all(self._allowed(one, current, creatable) for one in updates)
        return True  # to adopt changes the lockfile alone

    def _plan(self) -> Plan:
        made = plan(self._world())
        self._sources = made.sources
        return made

    def _world(self) -> World:
        return World(
            manifests=tuple(self._manifests.values()),
            lock=self._recorder.lock,
            target=self._target,
            capabilities=self._provider.capabilities,
            now=self._clock(),
            observation=self._observation,
            request=self._request,
        )

    def _declare(self) -> None:
        self._recorder.emit(Targeted(record_target(self._target)))
        for event in find_moved(self._recorder.lock, self._manifests.values()):
            self._recorder.emit(event)
            if isinstance(event, Renamed) and not self._target.publish:
                self._recorder.emit(Published(event.former, None))  # nobody is left to be told
        for manifest in self._manifests.values():
            self._recorder.emit(Declared(manifest.name, manifest.file, manifest.lifecycle.protect))

    def _refresh(self) -> None:
        """Record what the observation says of the recorded generations."""
        for event in observed_events(replace(self._world(), manifests=tuple(self._resolved().values()))):
            if isinstance(event, Failed | Cancelled) and self._is_wanted(event):
                self._failed.add(event.name)
            self._recorder.emit(event)

    def _is_wanted(self, event: Failed | Cancelled) -> bool:
        manifest = self._resolved().get(event.name)
        one = self._recorder.lock.models[event.name].generation(event.key)
        return bool(
            manifest
            and one
            and satisfies(resolve_recorded(one, self._target.scope, event.name, self._observation), manifest)
        )

    def _time_left(self, began: datetime) -> float | None:
        timeout = self._options.timeout
        return None if timeout is None else (timeout - (self._clock() - began)).total_seconds()

    def _delay(self, waiting: Iterable[Action], began: datetime) -> float:
        now, waited = self._clock(), (self._clock() - began).total_seconds()
        return min(poll_delay(self._left(one, now), waited, self._provider.capabilities) for one in waiting)

    def _left(self, action: Action, now: datetime) -> float | None:
        live = self._observation.models.get(action.remote)
        model = self._recorder.lock.models.get(action.name)  # without what was refused to be taken up
        locked = model.generation(action.key) if model else None
        total = (live.total_steps if live else None) or (locked.total_steps if locked else None)
        return seconds_left(live, total, now) if live else None

    def _unfinished(self, current: Plan) -> bool:
        """Whether something declared is left undone: nobody trains it, or a write that was allowed had no effect."""
        writes = current.of_kind(Kind.UPDATE, Kind.DELETE) if self._options.writes else ()
        deferred = bool(current.of_kind(Kind.WAIT))  # what follows when the parents are ready is nobody's omission yet
        creates = [one for one in current.of_kind(Kind.CREATE) if not (one.after and deferred)]
        return bool(creates or writes)

    def _outcome(self, current: Plan, *, timed_out: bool) -> Outcome:
        return Outcome(
            plan=_with_refusals(current, self._executor.refused),
            failed=frozenset(self._failed),
            refused=dict(self._executor.refused),
            timed_out=timed_out,
            unfinished=self._unfinished(current),
        )


def _with_refusals(current: Plan, refused: Mapping[str, Refused]) -> Plan:
    """The plan with the creates that ran into a taken id shown as what they are: held."""

    def shown(action: Action) -> Action:
        event = refused.get(action.name)
        if action.kind is not Kind.CREATE or event is None or event.reason is None:
            return action
        return replace(action, kind=Kind.HOLD, reason=event.reason, message=str(event.error))

    return replace(current, actions=tuple(shown(action) for action in current.actions))
