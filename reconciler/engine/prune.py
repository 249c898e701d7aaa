"""Delete superseded and failed generations and orphans: only what was approved, and only if it still applies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import reduce

from msgspec.structs import replace

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.lock import DecidedAction, parse_time
from reconciler.domain.model import Handle, RemoteModel, State
from reconciler.domain.plan import Action, KeptGeneration, Observation, Plan, Reason, Request
from reconciler.engine.execute import RunContext
from reconciler.engine.observe import TRANSIENT_CODES, observe, run_bounded
from reconciler.planning.events import (
    Deleted,
    Deleting,
    Ended,
    Event,
    Kept,
    Refused,
    Unprotected,
    Unserved,
    record,
)
from reconciler.planning.observed_events import observed_events
from reconciler.planning.planner import plan
from reconciler.planning.prune import deletions_only, is_over
from reconciler.state.published_pointer import without_pointer

_RUN_AGAIN = "run reconcile prune again, and check its plan"
_ASK_FOR_ACCESS = "ask the owner of the model for access, then run reconcile prune again"
_CHANGED = "another run has changed its record"
GenerationId = tuple[str, str, str]
"""Name, key and remote name of a generation."""
_Found = Mapping[str, RemoteModel | ReconcileError | None]
"""Live models by remote name, ``None`` for those that are gone, or the error that hides one."""


class Pruner:
    """Plans deletions and carries them out; a refused deletion keeps only the model and its ancestors."""

    def __init__(self, context: RunContext, request: Request, unprotected: Iterable[str] = ()) -> None:
        """``unprotected`` are models whose recorded protection is removed."""
        self.refused: dict[str, Refused] = {}
        self.finds_deleted = False
        """Whether the observation of the plan has models that an interrupted run deleted, which is not recorded."""
        self._context = context
        self._provider = context.provider
        self._recorder = context.recorder
        self._request = request
        self._action: DecidedAction = "destroy" if request.pruning and request.pruning.destroys else "prune"
        self._unprotected = tuple(map(Unprotected, unprotected))
        self._kept: set[str] = set()
        self._no_longer_planned: dict[GenerationId, str] = {}

    async def plan(self) -> Plan:
        """Observe live state, and return the planned deletions; nothing is changed."""
        observation, current = await self._plan_live_state()
        self.finds_deleted = any(isinstance(event, Deleted) for event in self._observed(observation))
        return current

    async def delete(self, approved: Plan) -> Plan:
        """Delete what is approved and still planned, and return the remaining plan.

        Other runs can have changed models since the plan was made, so with the lease held the lockfile is read and
        live state observed again. The lockfile is saved before this returns or raises.

        Raises:
            ReconcileError: so many models are missing that live state is not trusted, or another run has the lease.
            ServiceError: the service cannot be reached.
            AccessError: the service denies access.
        """
        with self._recorder.lease():
            decided = (self._recorder.decided("unprotect", event.name) for event in self._unprotected)
            self._recorder.emit(*self._unprotected, *decided)
            approved_ids = {_id_of(action) for action in approved.actions if action.prunes}
            return await self._delete_approved(approved_ids, approved)

    async def _delete_approved(self, approved_ids: AbstractSet[GenerationId], approved: Plan) -> Plan:
        if not (approved_ids or self.finds_deleted):
            return approved
        observation, current = await self._plan_live_state()
        _require_trusted(current)
        self._record_observation(observation)
        actions = _with_all_descendants(
            [action for action in current.actions if action.prunes and _id_of(action) in approved_ids]
        )
        await self._delete_all([action for action in actions if action.remote], observation)
        self._remove_records([action for action in actions if not action.remote])
        self._end({action.name for action in actions if action.reason is Reason.ORPHANED_MODEL})
        kept = {_id_of(generation): generation.reason for generation in current.kept} | self._no_longer_planned
        done = {_id_of(action) for action in actions if action.remote not in self._kept} | kept.keys()
        return replace(
            current,
            actions=tuple(action for action in current.actions if _id_of(action) not in done),
            notices=(
                *current.notices,
                *(f"{found[1]} is kept: {reason}" for found, reason in kept.items() if found in approved_ids),
            ),
        )

    async def _plan_live_state(self) -> tuple[Observation, Plan]:
        """Return live state and the planned deletions.

        Unmanaged models are included, because they can be tuned from a managed one. Unrecorded models are requested by
        name: a list can contain remnants of deleted ones.
        """
        concurrency = self._context.concurrency
        observation = await observe(
            self._provider, self._recorder.lock, concurrency=concurrency, progress=False, unmanaged=True
        )
        current = self._plan(observation)
        unrecorded = [action.remote for action in current.actions if action.reason is Reason.ABANDONED]
        found = await run_bounded(self._provider.observe, map(Handle, unrecorded), concurrency)
        remnants = {remote for remote, model in zip(unrecorded, found, strict=True) if model is None}
        if remnants:
            models = {remote: model for remote, model in observation.models.items() if remote not in remnants}
            observation = replace(observation, models=models)
            current = self._plan(observation)
        return observation, deletions_only(current)

    def _plan(self, observation: Observation) -> Plan:
        world = self._context.world(observation, self._request)
        return plan(replace(world, lock=reduce(record, self._unprotected, world.lock)))

    def _record_observation(self, observation: Observation) -> None:
        """Record how trainings ended before their models are deleted."""
        self._recorder.emit(*self._observed(observation))

    def _observed(self, observation: Observation) -> Iterable[Event]:
        return observed_events(self._context.world(observation, replace(self._request, complete=False)))

    async def _delete_all(self, actions: Sequence[Action], observation: Observation) -> None:
        """Delete descendants before their ancestors, and unrelated models concurrently.

        Another run can have changed the lockfile meanwhile, so it is read and decided again right before the requests.
        """
        left = list(actions)
        while left:
            remotes = {action.remote for action in left}
            ready = [action for action in left if not (action.descendants & remotes - {action.remote})]
            if not ready:
                raise AssertionError("cyclic ancestry")
            batch = ready[: self._context.concurrency]
            found = await self._read(batch)
            if self._recorder.reload():
                self._decide_again(left, observation)
            await self._delete_batch(batch, found, observation)
            left = [action for action in left if action not in batch]

    async def _delete_batch(self, batch: Sequence[Action], found: _Found, observation: Observation) -> None:
        """Delete generations of which none is tuned from another, as ``found`` by name.

        The intention is saved first: wherever this run ends, the next one finds which models may be gone.
        """
        intended = [action for action in batch if self._intend(action, observation, found[action.remote])]
        self._recorder.flush()
        intended = [action for action in intended if self._is_intended(action)]

        async def request(action: Action) -> None:
            live = found[action.remote]
            await self._request_deletion(action, live if isinstance(live, RemoteModel) else None, observation)

        await run_bounded(request, intended, self._context.concurrency)

    async def _read(self, batch: Sequence[Action]) -> _Found:
        """Return the live models of these actions."""

        async def read(remote: str) -> RemoteModel | ReconcileError | None:
            try:
                return await self._provider.observe(Handle(remote))
            except ReconcileError as error:
                return error

        remotes = [action.remote for action in batch]
        found = dict(zip(remotes, await run_bounded(read, remotes, self._context.concurrency), strict=True))
        if self._provider.capabilities.caller_chosen_ids and None in found.values():
            # The service may refuse to return a model as if it did not exist. The list proves that it does.
            for model in await self._provider.list(progress=False):
                if model.remote in found and found[model.remote] is None:
                    found[model.remote] = AccessError(
                        f"{model.remote} is kept: the service lists it, and denies access to it", _ASK_FOR_ACCESS
                    )
        return found

    def _decide_again(self, actions: Iterable[Action], observation: Observation) -> None:
        """Drop the deletions that are no longer planned with the lockfile as it is now."""
        current = self._plan(observation)
        planned = {_id_of(action) for action in current.actions if action.prunes}
        reasons = {_id_of(generation): generation.reason for generation in current.kept}
        for action in actions:
            if _id_of(action) not in planned:
                self._drop(action, reasons.get(_id_of(action), _CHANGED))

    def _drop(self, action: Action, reason: str) -> None:
        self._kept.add(action.remote)
        self._no_longer_planned[_id_of(action)] = reason

    def _intend(self, action: Action, observation: Observation, found: RemoteModel | ReconcileError | None) -> bool:
        """Record that a generation is about to be deleted, unless it is kept; return whether it is not."""
        if _id_of(action) in self._no_longer_planned:
            return False
        try:
            if isinstance(found, ReconcileError):
                raise found
            self._require_no_descendant(action)
            if found:
                _require_unchanged(action, observation.models[action.remote], found)
            if action.reason is Reason.ORPHANED_MODEL:
                self._take_out_of_service(action)
        except ReconcileError as error:
            self._refuse(action, error)
            return False
        self._recorder.emit(Deleting(action.name, action.key, action.remote))
        return True

    def _is_intended(self, action: Action) -> bool:
        """Return whether the intention is saved; a run that saved in between can have promoted the generation."""
        model = self._recorder.lock.models.get(action.name)
        recorded = model.generation(action.key) if model else None
        if action.reason is Reason.ABANDONED or (recorded and recorded.state is State.DELETING):
            return True
        self._drop(action, _CHANGED)
        return False

    async def _request_deletion(self, action: Action, found: RemoteModel | None, observation: Observation) -> None:
        """Delete one generation; an error keeps it, and is recorded. After an unknown outcome the intention stays."""
        planned = observation.models[action.remote]
        try:
            if found or not self._provider.capabilities.caller_chosen_ids:  # another owner can reuse an id that is free
                await self._provider.delete(Handle(action.remote), (found or planned).resources)
        except ReconcileError as error:
            if not (isinstance(error, ServiceError) and error.code in TRANSIENT_CODES):
                self._recorder.emit(Kept(action.name, action.key, planned.state))
            self._refuse(action, error)
        else:
            decided = self._recorder.decided(self._action, action.name, action.key)
            self._recorder.emit(Deleted(action.name, action.key, action.remote), decided)

    def _refuse(self, action: Action, error: ReconcileError) -> None:
        self._kept.add(action.remote)
        self.refused[action.name] = Refused(action.name, error)
        self._recorder.emit(self.refused[action.name])

    def _require_no_descendant(self, action: Action) -> None:
        kept = sorted(action.descendants & self._kept)
        if kept:
            message = f"{action.key} is kept: {kept[0]} is tuned from it, and could not be deleted"
            raise ReconcileError(message, _RUN_AGAIN)

    def _remove_records(self, actions: Iterable[Action]) -> None:
        """Record as deleted what is left of orphans in the lockfile; nothing of them exists at the service."""
        for action in actions:
            try:
                self._take_out_of_service(action)
            except ReconcileError as error:
                self._refuse(action, error)
                continue
            model = self._recorder.lock.models.get(action.name)
            for generation in model.generations if model else ():
                decided = self._recorder.decided(self._action, action.name, generation.key)
                self._recorder.emit(Deleted(action.name, generation.key, generation.remote), decided)

    def _take_out_of_service(self, action: Action) -> None:
        """Record and publish that an orphan is no longer serving before it is deleted."""
        model = self._recorder.lock.models.get(action.name)
        if model and action.key in model.kept_keys:
            self._recorder.emit(Unserved(action.name, action.key))
            self._recorder.flush()
        if model and action.key in model.published_keys:
            self._recorder.emit(*self._context.publish(self._recorder.lock, frozenset({action.name})))
            self._recorder.emit(*without_pointer(self._context.target, action.name, model))

    def _end(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            model = self._recorder.lock.models.get(name)
            if model and is_over(model):
                self._recorder.emit(Ended(name))


def _require_trusted(current: Plan) -> None:
    for action in current.actions:
        if action.reason is Reason.LISTING_SUSPICIOUS:
            raise ReconcileError(f"nothing was deleted: {action.message}")


def _require_unchanged(action: Action, planned: RemoteModel, found: RemoteModel) -> None:
    same = parse_time(found.create_time) == parse_time(planned.create_time)
    if not same or found.state is not planned.state or found.mark != planned.mark or found.state is State.CREATING:
        raise ReconcileError(f"{action.remote} is kept: it changed after the plan was made", _RUN_AGAIN)


def _with_all_descendants(actions: Sequence[Action]) -> list[Action]:
    """Return the actions whose descendants are all deleted too."""
    remotes = {action.remote for action in actions}
    return [action for action in actions if action.descendants <= remotes]


def _id_of(generation: Action | KeptGeneration) -> GenerationId:
    return generation.name, generation.key, generation.remote
