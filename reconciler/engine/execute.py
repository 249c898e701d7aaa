"""Carry out the actions of a plan concurrently; a refused action stops only its own manifest. Runs have a context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.access import Permission, apply_access_changes
from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.identity import key_of
from reconciler.domain.lock import Lock, LockedGeneration, format_time
from reconciler.domain.model import BEST, CreateRequest, Handle, Manifest, Mark, RemoteModel, State, Target, Update
from reconciler.domain.plan import Action, Kind, Observation, Publication, Reason, Request, World
from reconciler.domain.ports import Clock, Created, Examples, Exists, Provider, Sleeper
from reconciler.engine.check import CheckedGeneration, Checker, checked_generation
from reconciler.engine.observe import run_bounded
from reconciler.engine.recorder import Recorder
from reconciler.environment import Deadline
from reconciler.planning import events
from reconciler.planning.adopt import adopted_generation, requested_generation
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.costs import estimate_of
from reconciler.planning.diff import update_of
from reconciler.planning.generations import EXPECTED_STATES, desired_content
from reconciler.planning.stages import recorded_stage, shared_fields

Publish = Callable[[Lock, frozenset[str] | None], Iterable[events.Published]]
"""Writes the serving generations of a lock to the published pointer, and returns what changed there.

With names, only the entries of these models are changed.
"""


def publish_nothing(_lock: Lock, _only: frozenset[str] | None = None) -> Iterable[events.Published]:
    """Return no events: the publisher of a target without a pointer."""
    return ()


class RunContext(Struct, frozen=True):
    """What a run that changes models works with.

    ``manifests`` are the selected ones. ``examples`` reads a data set again when it is sent. At the ``deadline`` the
    run ends. ``catalog`` has the base models that are known, and ``publications`` since when requested generations have
    been published, as in :class:`~reconciler.domain.plan.World`.
    """

    provider: Provider
    manifests: tuple[Manifest, ...]
    target: Target
    recorder: Recorder
    examples: Examples
    clock: Clock
    sleeper: Sleeper
    publish: Publish = publish_nothing
    deadline: Deadline = field(default_factory=Deadline)
    catalog: ModelCatalog = field(default_factory=ModelCatalog)
    publications: Mapping[tuple[str, str], Publication] = {}

    @property
    def concurrency(self) -> int:
        """How many requests run at once."""
        return self.target.limits.concurrency

    def world(self, observation: Observation, request: Request) -> World:
        """Return the inputs of a plan now."""
        return World(
            manifests=self.manifests,
            lock=self.recorder.lock,
            target=self.target,
            capabilities=self.provider.capabilities,
            now=self.clock(),
            observation=observation,
            request=request,
            catalog=self.catalog,
            publications=self.publications,
        )


_REFUSAL_CODES = frozenset(
    {
        *("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND", "ALREADY_EXISTS", "UNIMPLEMENTED"),
        "RESOURCE_EXHAUSTED",
    }
)
"""Codes of a ServiceError after which nothing was created; with any other code a model can exist."""


_ActionId = tuple[Kind, str, str, tuple[str, ...], str]
"""The kind of an action, the key and the remote name of its generation, its checkpoints and its stage."""


class _LiveState(Struct):
    """Live models and permissions by remote name, updated by each action."""

    models: dict[str, RemoteModel]
    permissions: dict[str, tuple[Permission, ...]]


class Executor:
    """Carries out actions, each at most once.

    ``refused`` has the error of each manifest whose actions stopped. ``checked`` are the keys of the generations whose
    checks ran, and ``stage_checks`` the results of those for a stage, by stage and key. ``started`` are the remote
    names of trainings of this run, and ``remnants`` those of models that are listed but no longer exist.
    """

    def __init__(self, context: RunContext) -> None:
        self.refused: dict[str, events.Refused] = {}
        self.checked: set[str] = set()
        self.stage_checks: dict[tuple[str, str], RecordedChecks] = {}
        self.started: set[str] = set()
        self.remnants: set[str] = set()
        self._context = context
        self._provider = context.provider
        self._recorder = context.recorder
        self._checker = Checker(context.provider, context.examples, context.recorder.emit, context.target)
        self._tried: set[_ActionId] = set()

    def untried(self, actions: Iterable[Action]) -> list[Action]:
        """Return the actions that were not tried yet, without those of refused manifests."""
        return [action for action in actions if _id_of(action) not in self._tried and action.name not in self.refused]

    async def carry_out(
        self, actions: Sequence[Action], manifests: Mapping[str, Manifest], observation: Observation
    ) -> Observation:
        """Carry out actions in their order for each manifest, and return the observation with their changes.

        Models that are gone were recorded as missing before; the returned observation does not contain them, because
        an action can create them again. Errors are collected in ``refused``.
        """
        live = _LiveState(dict(observation.models), dict(observation.permissions))
        groups = [(manifests[name], list(group)) for name, group in groupby(actions, key=lambda action: action.name)]
        await run_bounded(lambda group: self._carry_out_manifest(*group, live), groups, self._context.concurrency)
        return replace(observation, models=live.models, permissions=live.permissions, gone=frozenset())

    async def _carry_out_manifest(self, manifest: Manifest, actions: Sequence[Action], live: _LiveState) -> None:
        for action in actions:
            self._tried.add(_id_of(action))
            if action.remote in self.remnants:
                continue
            try:
                await self._carry_out_action(manifest, action, live)
            except ReconcileError as error:
                self._refuse(manifest.name, error)
            if manifest.name in self.refused:
                return

    async def _carry_out_action(self, manifest: Manifest, action: Action, live: _LiveState) -> None:
        match action.kind:
            case Kind.CREATE:
                await self._create(manifest, action, live.models)
            case Kind.ADOPT:
                await self._adopt(manifest, action, live)
            case Kind.UPDATE:
                await self._update(manifest, action, live)
            case Kind.CHECK if action.stage:
                checked = manifest.in_stage(self._context.target.stage(action.stage))
                candidates = self._checked_generations(manifest, action)
                results = await self._checker.check(checked, *candidates, stage=action.stage)
                self.stage_checks[action.stage, action.key] = recorded_checks(results)
            case Kind.CHECK:
                searches = manifest.serve == BEST and bool(action.checkpoints)
                await self._checker.check(manifest, *self._checked_generations(manifest, action), search=searches)
                self.checked.add(action.key)
            case Kind.PROMOTE:
                await self._promote(manifest, action)
            case Kind.DELETE:
                await self._provider.cancel(Handle(action.remote))
                live.models.pop(action.remote)
                self._recorder.emit(events.Dropped(manifest.name, action.key, action.remote))
            case _:
                raise AssertionError(f"{action.kind} has no effect")

    async def _create(self, manifest: Manifest, action: Action, models: dict[str, RemoteModel]) -> None:
        mark = desired_content(manifest, self._context.target.scope, action.attempt).mark()
        answer = await self._request_training(manifest, mark)
        if isinstance(answer, Created):
            requested = requested_generation(manifest, mark, remote=answer.handle.remote, state=State.CREATING)
            started = replace(
                requested,
                operation=answer.handle.operation,
                total_steps=answer.total_steps,
                estimate=estimate_of(action.training),
            )
            self.started.add(started.remote)
            self._record(manifest, events.Started(manifest.name, manifest.file, started))
        else:
            self._resolve_taken_id(manifest, mark, answer, models)

    async def _request_training(self, manifest: Manifest, mark: Mark) -> Created | Exists:
        """Request a training; where the service chooses ids, the intent is saved first.

        A run that is interrupted then leaves a trace. A refusal restores the previous record.
        """
        request = CreateRequest.of(manifest, mark, key_of(mark))
        before = self._recorded(manifest.name, request.key)
        records_intent = not self._provider.capabilities.caller_chosen_ids
        if records_intent:
            intended = requested_generation(manifest, mark, remote="", state=State.INTENDED)
            self._record(manifest, events.Intended(manifest.name, manifest.file, intended))
            self._recorder.flush()
        was_intended = before is not None and before.state is State.INTENDED
        try:
            return await self._provider.create(
                replace(request, intended=was_intended),
                self._context.examples.training(manifest),
                self._context.examples.validation(manifest),
            )
        except ReconcileError as error:
            if records_intent and not _is_in_doubt(error):
                self._recorder.emit(events.Withdrawn(manifest.name, request.key, None if was_intended else before))
            raise

    def _recorded(self, name: str, key: str) -> LockedGeneration | None:
        model = self._recorder.lock.models.get(name)
        return model.generation(key) if model else None

    def _resolve_taken_id(self, manifest: Manifest, mark: Mark, answer: Exists, models: dict[str, RemoteModel]) -> None:
        """Adopt the model that has the id if its mark is equal; otherwise refuse the manifest."""
        if answer.model is None:
            error = ReconcileError(
                f"{answer.remote} already exists, but you do not have access to it",
                "ask its owner for access, or rename the manifest",
            )
            self._refuse(manifest.name, error, Reason.ID_UNAVAILABLE)
        elif answer.model.mark != mark:
            error = ReconcileError(
                f"{answer.remote} already exists and is not managed by this project",
                f"if it was made from this manifest, run reconcile adopt {manifest.name} {answer.remote};"
                " otherwise rename the manifest",
            )
            self._refuse(manifest.name, error, Reason.ID_TAKEN)
        else:
            models[answer.remote] = answer.model
            self._record_adopted(manifest, answer.model)

    async def _adopt(self, manifest: Manifest, action: Action, live: _LiveState) -> None:
        """Adopt a listed model after requesting it by name.

        A list can contain remnants of deleted models, which are skipped, and it lacks the loss curve that the record
        of a ready model needs.
        """
        found = await self._provider.observe(Handle(action.remote))
        if found:
            self._record_adopted(manifest, found)
            return
        self.remnants.add(action.remote)
        del live.models[action.remote]
        model = self._recorder.lock.models.get(manifest.name)
        if model is None or all(generation.state not in EXPECTED_STATES for generation in model.generations):
            raise ReconcileError(
                f"{action.remote} has the mark of this scope, but its model was deleted",
                f"run the command again; if this persists, train it again with reconcile apply --replace {action.name}",
            )

    def _record_adopted(self, manifest: Manifest, model: RemoteModel) -> None:
        if model.mark is None:
            raise AssertionError("only models with a mark are adopted")
        adopted = adopted_generation(manifest, model.mark, model)
        self._record(manifest, events.Adopted(manifest.name, manifest.file, adopted))

    def _record(self, manifest: Manifest, event: events.Intended | events.Started | events.Adopted) -> None:
        """Record the event and the declared fields, which a new record of a manifest lacks."""
        self._recorder.emit(event)
        self._recorder.emit(events.declared(manifest))

    async def _update(self, manifest: Manifest, action: Action, live: _LiveState) -> None:
        model = live.models[action.remote]
        if action.reason is Reason.UNDEPLOYED:
            mark, checkpoint = self._mark(manifest, action, model), "".join(action.checkpoints)
            update = Update(mark, deploy=True, checkpoint=checkpoint)
            live.models[action.remote] = deployed = await self._provider.update(action.remote, update)
            self._recorder.emit(events.Corrected(manifest.name, action.key, deployed))
            self._recorder.emit(events.Updated(manifest.name, action.key, ("endpoint",)))
            return
        if action.changes:
            update = update_of(manifest, self._mark(manifest, action, model), model, action.changes)
            live.models[action.remote] = await self._provider.update(action.remote, update)
        if action.access:
            permissions = live.permissions[action.remote]
            await self._provider.set_access(action.remote, permissions, action.access)
            live.permissions[action.remote] = apply_access_changes(permissions, action.access)
        self._recorder.emit(events.Updated(manifest.name, action.key, action.fields))

    def _mark(self, manifest: Manifest, action: Action, model: RemoteModel) -> Mark:
        recorded = self._recorded(manifest.name, action.key)
        mark = recorded.mark(self._context.target.scope, manifest.name) if recorded else model.mark
        if mark is None:
            raise AssertionError("only models that are recorded or have a mark are updated")
        return mark

    def _checked_generations(self, manifest: Manifest, action: Action) -> list[CheckedGeneration]:
        recorded = self._recorded(manifest.name, action.key)
        if recorded is None:
            raise AssertionError("only recorded generations are checked")
        lock = self._recorder.lock
        serving = lock.models[manifest.name].in_stage(action.stage).serving_generation
        return [
            checked_generation(replace(recorded, checkpoint=checkpoint), serving, lock)
            for checkpoint in action.checkpoints or ("",)
        ]

    async def _promote(self, manifest: Manifest, action: Action) -> None:
        """Save the serving generation, then publish it; an error of publishing is reported at the end of the run."""
        await self._require_model(action)
        time, checkpoint = format_time(self._context.clock()), "".join(action.checkpoints)
        promoted = events.Promoted(manifest.name, action.key, action.remote, time, checkpoint)
        if action.stage:
            self._recorder.emit(self._in_stage(promoted, manifest, action.stage), self._decided(action))
        else:
            self._recorder.emit(promoted)
        self._recorder.flush()
        with suppress(ReconcileError):
            self.publish()

    def _decided(self, action: Action) -> events.Decided:
        """Return the entry of the history about a requested promotion; it repeats the reason of the request."""
        lock = self._recorder.lock
        before = lock.models[action.name].stage(action.stage).serving or ""
        about = ("request", action.name, action.key, action.stage)
        reason = next(
            (
                decision.reason
                for decision in lock.history
                if (decision.action, decision.model, decision.generation, decision.stage) == about
            ),
            "",
        )
        return self._recorder.decided(
            "promote", action.name, action.key, before=before, stage=action.stage, reason=reason
        )

    def _in_stage(self, promoted: events.Promoted, manifest: Manifest, stage: str) -> events.Promoted:
        """Return the promotion to a stage, with the sampling of the stage that the generation comes from."""
        target, model = self._context.target, self._recorder.lock.models[manifest.name]
        declared = target.stage(stage)
        before = model.record_of(recorded_stage(target, declared.after if declared else ""))
        source = before if before.serving == promoted.key else model.stage(stage)
        fields = shared_fields(manifest, self._provider.capabilities.mutable)
        return replace(promoted, stage=stage, sampling=source.sampling, fields=fields)

    async def _require_model(self, action: Action) -> None:
        """Record a model as deleted, and raise, where its job is listed but the model no longer exists."""
        if self._provider.capabilities.caller_chosen_ids or await self._provider.observe(Handle(action.remote)):
            return
        self._recorder.emit(events.Deleted(action.name, action.key, action.remote))
        raise ReconcileError(
            f"{action.key} cannot be promoted: the model of {action.remote} was deleted",
            "run reconcile plan to see what follows",
        )

    def publish(self) -> None:
        """Publish the serving generations where the target has a pointer, and record what changed there.

        Raises:
            ReconcileError: publishing failed; the serving generations are already recorded.
        """
        for event in self._context.publish(self._recorder.lock, None):
            self._recorder.emit(event)

    def _refuse(self, name: str, error: ReconcileError, reason: Reason | None = None) -> None:
        event = events.Refused(name, error, reason)
        self.refused[name] = event
        self._recorder.emit(event)


def _is_in_doubt(error: ReconcileError) -> bool:
    """Whether a training can have started: its reply was lost, or the provider does not report the outcome."""
    if error.outcome_unknown is None:
        return isinstance(error, ServiceError) and error.code not in _REFUSAL_CODES
    return error.outcome_unknown


def _id_of(action: Action) -> _ActionId:
    return action.kind, action.key, action.remote, action.checkpoints, action.stage
