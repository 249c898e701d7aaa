"""Carrying out the actions of a plan, side by side; one that is refused does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

from reconciler.domain.access import Permission, apply_access_changes
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.identity import key_of
from reconciler.domain.lock import Lock, LockedGeneration, format_time
from reconciler.domain.model import (
    CreateRequest,
    Handle,
    Manifest,
    Mark,
    RemoteModel,
    State,
    Target,
)
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.domain.ports import Clock, Created, Examples, Exists, Provider
from reconciler.engine.check import Checker, Subject
from reconciler.engine.observe import bounded
from reconciler.engine.recorder import Recorder
from reconciler.planning.diff import update_of
from reconciler.planning.events import (
    Adopted,
    Declared,
    Deleted,
    Dropped,
    Intended,
    Promoted,
    Published,
    Refused,
    Started,
    Updated,
    Withdrawn,
)
from reconciler.planning.generations import EXPECTED_STATES, desired_content
from reconciler.planning.world import Observation
from reconciler.state.generation_record import adopted_generation, requested_generation

_REFUSALS = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND", "ALREADY_EXISTS", "UNIMPLEMENTED"}
)
"""Codes of a ServiceError by which a service says no; after any other the request may have been carried out."""


Publish = Callable[[Lock], Iterable[Published]]
"""Tells applications which generations serve by this lock, and says what they were told that they did not know."""


def publish_nothing(_lock: Lock) -> Iterable[Published]:
    """For targets that publish nowhere."""
    return ()


@dataclass(slots=True)
class _World:
    """What the service shows, as it is changed by what is carried out: models and permissions by remote name."""

    models: dict[str, RemoteModel]
    permissions: dict[str, tuple[Permission, ...]]


class Executor:
    """Carries out actions, each at most once, and keeps what was refused."""

    def __init__(
        self,
        provider: Provider,
        target: Target,
        recorder: Recorder,
        examples: Examples,
        clock: Clock,
        publish: Publish,
    ) -> None:
        """``examples`` reads data sets again when they are sent; ``publish`` is called when another one serves.

        ``remnants`` are the remote names of what is listed and was found not to be there.
        """
        self.refused: dict[str, Refused] = {}
        self.started: set[str] = set()
        self.remnants: set[str] = set()
        self._provider = provider
        self._target = target
        self._recorder = recorder
        self._examples = examples
        self._clock = clock
        self._publish = publish
        self._checker = Checker(provider, examples, recorder.emit, target)
        self._tried: set[tuple[Kind, str, str]] = set()

    def untried(self, actions: Iterable[Action]) -> list[Action]:
        """The actions that were not tried yet, of manifests of which nothing was refused."""
        return [one for one in actions if _identity(one) not in self._tried and one.name not in self.refused]

    async def carry_out(
        self, actions: Sequence[Action], manifests: Mapping[str, Manifest], observation: Observation
    ) -> Observation:
        """Carry out the actions, those of one manifest in order, and return the observation with what they changed.

        What was proved to be gone is recorded as missing before anything is carried out; it may be there again now.
        """
        now = _World(dict(observation.models), dict(observation.permissions))
        groups = [(manifests[name], list(group)) for name, group in groupby(actions, key=lambda one: one.name)]
        await bounded(
            lambda group: self._one_manifest(*group, now),
            groups,
            self._target.limits.concurrency,
        )
        return replace(observation, models=now.models, permissions=now.permissions, gone=frozenset())

    async def _one_manifest(self, manifest: Manifest, actions: Sequence[Action], now: _World) -> None:
        for action in actions:
            self._tried.add(_identity(action))
            if action.remote in self.remnants:
                continue
            try:
                await self._one(manifest, action, now)
            except ReconcileError as error:
                self._refuse(manifest.name, error)
            if manifest.name in self.refused:
                return

    async def _one(self, manifest: Manifest, action: Action, now: _World) -> None:
        match action.kind:
            case Kind.CREATE:
                await self._create(manifest, action, now.models)
            case Kind.ADOPT:
                await self._take_up(manifest, action, now)
            case Kind.UPDATE:
                await self._update(manifest, action, now)
            case Kind.CHECK:
                await self._checker.check(manifest, self._subject(manifest, action))
            case Kind.PROMOTE:
                await self._require_model(action)
                self._promote(manifest, action)
            case Kind.DELETE:
                await self._provider.cancel(Handle(action.remote))
                now.models.pop(action.remote)
                self._recorder.emit(Dropped(manifest.name, action.key, action.remote))
            case _:
                raise AssertionError(f"{action.kind} has no effect to carry out")

    async def _create(self, manifest: Manifest, action: Action, models: dict[str, RemoteModel]) -> None:
        mark = desired_content(manifest, self._target.scope, action.attempt).mark()
        answer = await self._ask(manifest, mark)
        if isinstance(answer, Created):
            locked = requested_generation(manifest, mark, remote=answer.handle.remote, state=State.CREATING)
            operation, steps = answer.handle.operation, answer.total_steps
            locked = replace(locked, operation=operation, total_steps=steps)
            self.started.add(locked.remote)
            self._found(manifest, Started(manifest.name, manifest.file, locked))
        else:
            self._resolve_taken(manifest, mark, answer, models)

    async def _ask(self, manifest: Manifest, mark: Mark) -> Created | Exists:
        wanted = _generation(manifest, mark)
        before = self._recorded(manifest.name, wanted.key)
        intends = not self._provider.capabilities.caller_chosen_ids
        if intends:
            self._intend(manifest, mark)
        intended = before is not None and before.state is State.INTENDED
        try:
            return await self._provider.create(
                replace(wanted, intended=intended),
                self._examples.training(manifest),
                self._examples.validation(manifest),
            )
        except ReconcileError as error:
            if intends and _is_refusal(error):
                self._recorder.emit(Withdrawn(manifest.name, wanted.key, None if intended else before))
            raise

    def _recorded(self, name: str, key: str) -> LockedGeneration | None:
        locked = self._recorder.lock.models.get(name)
        return locked.generation(key) if locked else None

    def _intend(self, manifest: Manifest, mark: Mark) -> None:
        """On disk before the service hears of it: a run that is cut off now leaves a trace, as no id will."""
        locked = requested_generation(manifest, mark, remote="", state=State.INTENDED)
        self._found(manifest, Intended(manifest.name, manifest.file, locked))
        self._recorder.flush()

    def _resolve_taken(self, manifest: Manifest, mark: Mark, answer: Exists, models: dict[str, RemoteModel]) -> None:
        """The id is taken: by ourselves (a run that was cut off, or a racing one), by a stranger, or invisibly."""
        if answer.model is None:
            error = ReconcileError(
                f"{answer.remote} exists already, and the service does not show it to us",
                "ask its owner for access, or rename this manifest",
            )
            self._refuse(manifest.name, error, Reason.ID_UNAVAILABLE)
        elif answer.model.mark != mark:
            error = ReconcileError(
                f"{answer.remote} exists already and does not bear our mark",
                "delete that model, or rename this manifest",
            )
            self._refuse(manifest.name, error, Reason.ID_TAKEN)
        else:
            models[answer.remote] = answer.model
            self._adopt(manifest, answer.model)

    async def _take_up(self, manifest: Manifest, action: Action, now: _World) -> None:
        """Adopt a model that is there; one that is only listed is what is left of a deleted one, and is passed over.

        The list leaves loss curves out, too, and the record of a model that is ready wants its last point.
        """
        found = await self._provider.observe(Handle(action.remote))
        if found:
            self._adopt(manifest, found)
            return
        self.remnants.add(action.remote)
        del now.models[action.remote]
        locked = self._recorder.lock.models.get(manifest.name)
        if locked is None or all(one.state not in EXPECTED_STATES for one in locked.generations):
            raise ReconcileError(
                f"{action.remote} bears our mark, and what it made is not there any more",
                f"train it again with reconcile apply --replace {action.name}",
            )

    def _adopt(self, manifest: Manifest, model: RemoteModel) -> None:
        mark = model.mark
        if mark is None:
            raise AssertionError("only what bears our mark is adopted")
        self._found(manifest, Adopted(manifest.name, manifest.file, adopted_generation(manifest, mark, model)))

    def _found(self, manifest: Manifest, event: Intended | Started | Adopted) -> None:
        """The first generation of a manifest opens its block in the lock, which then takes what was declared."""
        self._recorder.emit(event)
        self._recorder.emit(Declared(manifest.name, manifest.file, manifest.lifecycle.protect))

    async def _update(self, manifest: Manifest, action: Action, now: _World) -> None:
        live = now.models[action.remote]
        if action.changes:
            mark = self._mark(manifest, action, live)
            update = update_of(manifest, mark, live, action.changes)
            now.models[action.remote] = await self._provider.update(action.remote, update)
        if action.access:
            shared = now.permissions[action.remote]
            await self._provider.set_access(action.remote, shared, action.access)
            now.permissions[action.remote] = apply_access_changes(shared, action.access)
        self._recorder.emit(Updated(manifest.name, action.key, action.fields))

    def _subject(self, manifest: Manifest, action: Action) -> Subject:
        locked = self._recorded(manifest.name, action.key)
        if locked is None:
            raise AssertionError("what is checked has been adopted before")
        return Subject(locked.key, locked.resources.endpoint or locked.remote, locked.preamble)

    async def _require_model(self, action: Action) -> None:
        """Where a job stays when its model is deleted, a list does not tell; what is gone is recorded as deleted."""
        if self._provider.capabilities.caller_chosen_ids or await self._provider.observe(Handle(action.remote)):
            return
        self._recorder.emit(Deleted(action.name, action.key, action.remote))
        raise ReconcileError(
            f"{action.key} cannot serve: {action.remote} is there, and what it made was deleted, which is recorded now",
            "see reconcile plan for what follows",
        )

    def _promote(self, manifest: Manifest, action: Action) -> None:
        """What serves is on disk before applications are told of it."""
        self._recorder.emit(Promoted(manifest.name, action.key, action.remote, format_time(self._clock())))
        self._recorder.flush()
        with suppress(ReconcileError):  # it serves all the same; the end of the run tries again, and tells of it
            self.tell_applications()

    def tell_applications(self) -> None:
        """Publish what serves, where the target wants that; nothing happens where nothing has changed.

        Raises:
            ReconcileError: when that fails; what serves is recorded already.
        """
        for event in self._publish(self._recorder.lock):
            self._recorder.emit(event)

    def _mark(self, manifest: Manifest, action: Action, live: RemoteModel) -> Mark:
        locked = self._recorded(manifest.name, action.key)
        mark = locked.mark(self._target.scope, manifest.name) if locked else live.mark
        if mark is None:
            raise AssertionError("only what bears our mark or is recorded is updated")
        return mark

    def _refuse(self, name: str, error: ReconcileError, reason: Reason | None = None) -> None:
        event = Refused(name, error, reason)
        self.refused[name] = event
        self._recorder.emit(event)


def _is_refusal(error: ReconcileError) -> bool:
    """Whether nothing can have been created: the service said no, or the data could not be sent."""
    return not isinstance(error, ServiceError) or error.code in _REFUSALS


def _identity(action: Action) -> tuple[Kind, str, str]:
    return action.kind, action.key, action.remote


def _generation(manifest: Manifest, mark: Mark) -> CreateRequest:
    return CreateRequest(
        key=key_of(mark),
        mark=mark,
        source=manifest.source,
        hyperparameters=manifest.hyperparameters,
        display_name=manifest.display_name or manifest.name,
        description=manifest.description or "",
        sampling=manifest.sampling,
        dataset=manifest.dataset,
        validation=manifest.validation,
        last_checkpoint_only=manifest.last_checkpoint_only,
    )
