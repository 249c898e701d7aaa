"""Deleting what is no longer needed: what was approved, and only as far as that still holds when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import reduce

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, parse_time
from reconciler.domain.model import Handle, Manifest, RemoteModel, State, Target
from reconciler.domain.plan import Action, KeptGeneration, Plan, Reason, Request
from reconciler.domain.ports import Clock, Provider, UnmanagedModels
from reconciler.engine.execute import Publish
from reconciler.engine.observe import bounded, observe
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Deleted, Ended, Published, Refused, Unprotected, Unserved, record
from reconciler.planning.observed_events import observed_events
from reconciler.planning.planner import plan
from reconciler.planning.prune import deletions_only, is_over
from reconciler.planning.world import Observation, World

_AGAIN = "run reconcile prune again, and look at what it shows"
Identity = tuple[str, str, str]
"""Name, key and remote name of a generation."""


class Pruner:
    """Plans deletions, and carries them out; one that is refused keeps what it descends from, and nothing else."""

    def __init__(
        self,
        *,
        provider: Provider,
        manifests: Sequence[Manifest],
        target: Target,
        recorder: Recorder,
        clock: Clock,
        request: Request,
        publish: Publish,
        unprotected: Iterable[str] = (),
    ) -> None:
        """``publish`` tells applications what serves; of ``unprotected`` models the recorded protection is lifted."""
        self.refused: dict[str, Refused] = {}
        self._provider = provider
        self._manifests = tuple(manifests)
        self._target = target
        self._recorder = recorder
        self._clock = clock
        self._request = request
        self._publish = publish
        self._unprotected = tuple(map(Unprotected, unprotected))
        self._kept: set[str] = set()

    async def look(self) -> Plan:
        """The deletions that there are to be; nothing changes anywhere."""
        _, made = await self._look()
        return made

    async def run(self, approved: Plan) -> Plan:
        """Delete what is in ``approved`` and still to be deleted, and return what then is left, approved or not.

        Between the plan and now people were asked, trainings waited for, and other runs may have changed what serves:
        so the lockfile is read and the service asked again, while other runs that share the lockfile are kept out. The
        lockfile is saved before this returns or raises.

        Raises:
            ReconcileError: when so much is gone by now that the service is not believed.
            ServiceError, AccessError: when the service cannot be asked.
        """
        with self._recorder.lease():
            self._recorder.reread()
            try:
                self._recorder.emit(*self._unprotected)
                return await self._delete_approved({_identity(one) for one in approved.actions if one.prunes}, approved)
            finally:
                self._recorder.flush()

    async def _delete_approved(self, wanted: AbstractSet[Identity], approved: Plan) -> Plan:
        if not wanted:
            return approved
        seen, made = await self._look()
        _require_belief(made)
        self._refresh(seen)
        chosen = _closed([one for one in made.actions if one.prunes and _identity(one) in wanted])
        await self._delete(chosen, seen)
        self._end({one.name for one in chosen if one.reason is Reason.ORPHANED_MODEL})
        done = {_identity(one) for one in chosen if one.remote not in self._kept}
        return replace(
            made,
            actions=tuple(one for one in made.actions if _identity(one) not in done),
            notices=tuple(f"{one.key} stays: {one.reason}" for one in made.kept if _identity(one) in wanted),
        )

    async def _look(self) -> tuple[Observation, Plan]:
        """What shows, and the deletions that follow.

        What others have tuned further from a model of ours counts too, so they are asked about where a list of ours
        leaves them out. Of what stands in no lockfile it is proved that there is something to delete.
        """
        concurrency = self._target.limits.concurrency
        seen = await observe(self._provider, self._recorder.lock, concurrency=concurrency, progress=False)
        others = await self._provider.list_unmanaged() if isinstance(self._provider, UnmanagedModels) else ()
        seen = replace(seen, models={model.remote: model for model in others} | dict(seen.models))
        made = self._plan(seen)
        unrecorded = [one.remote for one in made.actions if one.reason is Reason.ABANDONED]
        found = await bounded(self._provider.observe, map(Handle, unrecorded), concurrency)
        remnants = {remote for remote, model in zip(unrecorded, found, strict=True) if model is None}
        if remnants:
            seen = replace(seen, models={name: one for name, one in seen.models.items() if name not in remnants})
            made = self._plan(seen)
        return seen, deletions_only(made)

    def _plan(self, seen: Observation) -> Plan:
        return plan(self._world(seen, reduce(record, self._unprotected, self._recorder.lock)))

    def _world(self, seen: Observation, lock: Lock) -> World:
        return World(
            self._manifests, lock, self._target, self._provider.capabilities, self._clock(), seen, self._request
        )

    def _refresh(self, seen: Observation) -> None:
        """How a training ended is recorded before what it made is deleted."""
        request = replace(self._request, complete=False)
        self._recorder.emit(*observed_events(replace(self._world(seen, self._recorder.lock), request=request)))

    async def _delete(self, actions: Sequence[Action], seen: Observation) -> None:
        """Descendants first; what does not descend from each other side by side."""
        left = list(actions)
        while left:
            remotes = {one.remote for one in left}
            ready = [one for one in left if not (_descendants(one) & remotes - {one.remote})]
            if not ready:
                raise AssertionError("nothing descends from itself")
            await bounded(lambda one: self._one(one, seen.models[one.remote]), ready, self._target.limits.concurrency)
            left = [one for one in left if one not in ready]

    async def _one(self, action: Action, planned: RemoteModel) -> None:
        try:
            self._require_no_descendant(action)
            await self._delete_generation(action, planned)
        except ReconcileError as error:
            self._kept.add(action.remote)
            self.refused[action.name] = Refused(action.name, error)
            self._recorder.emit(self.refused[action.name])

    def _require_no_descendant(self, action: Action) -> None:
        kept = sorted(_descendants(action) & self._kept)
        if kept:
            raise ReconcileError(f"{action.key} stays: {kept[0]} is tuned from it, and could not be deleted", _AGAIN)

    async def _delete_generation(self, action: Action, planned: RemoteModel) -> None:
        """Delete one generation, after a last look that it is the very one that was planned."""
        found = await self._provider.observe(Handle(action.remote))
        if found:
            _require_unchanged(action, planned, found)
        if action.reason is Reason.ORPHANED_MODEL:
            self._take_out_of_service(action)
        if found or not self._provider.capabilities.caller_chosen_ids:  # an id that is free may be anybody's next
            await self._provider.delete(Handle(action.remote), (found or planned).resources)
        self._recorder.emit(Deleted(action.name, action.key, action.remote))

    def _take_out_of_service(self, action: Action) -> None:
        """Applications are told that nothing serves before what served is gone."""
        if self._recorder.lock.models[action.name].serving == action.key:
            self._recorder.emit(Unserved(action.name, action.key))
            self._recorder.flush()
        if self._recorder.lock.models[action.name].published == action.key:
            self._tell(action.name)

    def _end(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            model = self._recorder.lock.models.get(name)
            if model and is_over(model):
                self._recorder.emit(Ended(name))

    def _tell(self, name: str) -> None:
        self._recorder.emit(*self._publish(self._recorder.lock))
        if not self._target.publish:
            self._recorder.emit(Published(name, None))  # nobody is left to be told


def _require_belief(made: Plan) -> None:
    for one in made.actions:
        if one.reason is Reason.LISTING_SUSPICIOUS:
            raise ReconcileError(f"nothing was deleted: {one.message}")


def _require_unchanged(action: Action, planned: RemoteModel, found: RemoteModel) -> None:
    same = parse_time(found.create_time) == parse_time(planned.create_time)
    if not same or found.state is not planned.state or found.mark != planned.mark or found.state is State.CREATING:
        raise ReconcileError(f"{action.remote} stays: it is not what it was when the plan was made", _AGAIN)


def _closed(actions: Sequence[Action]) -> list[Action]:
    """Those of the actions all of whose descendants are deleted too."""
    remotes = {one.remote for one in actions}
    return [one for one in actions if _descendants(one) <= remotes]


def _descendants(action: Action) -> frozenset[str]:
    return action.deletion.descendants if action.deletion else frozenset()


def _identity(one: Action | KeptGeneration) -> Identity:
    return one.name, one.key, one.remote
