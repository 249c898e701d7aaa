"""Change the serving generation, and write the published pointer: the serving generations for applications."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import reduce
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    prove_record,
    prove_serving,
    unready_cause,
)
from reconciler.commands._session import EventLoop, display_path
from reconciler.commands.resolve import resolved
from reconciler.domain.access import access_changes
from reconciler.domain.document import escape_unseen, json_text
from reconciler.domain.errors import (
    AccessError,
    InterruptedRun,
    InvalidInput,
    LockConflict,
    ReconcileError,
    ServiceError,
    UsageError,
)
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, format_time
from reconciler.domain.model import BEST, REMOTE_SCHEME, Manifest, Sampling
from reconciler.domain.plan import Action, Publication, Reason
from reconciler.domain.text import join_names
from reconciler.engine.check import Checker, checked_generation
from reconciler.manifests.discovery import absolute
from reconciler.paths import find_writable, repository_of
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.events import Corrected, Disappeared, Event, Promoted, Staged, Withheld, record
from reconciler.planning.lineage import descendants
from reconciler.planning.lock_review import Served, published_lock, requested_serving, withheld_promotions
from reconciler.planning.observed_events import declared_preamble
from reconciler.planning.promotion_gates import describe_misses, describe_scores
from reconciler.planning.rollout import require_passed, unusable_error
from reconciler.planning.soak import PublicationHistory, Sighting, published_since
from reconciler.planning.stages import arrange_stages
from reconciler.reports.documents.change import (
    ResolvedModel,
    ResolveReport,
    ServingGeneration,
    ServingReport,
    next_actions,
    rejected_generations,
)
from reconciler.reports.documents.envelope import target_summary
from reconciler.state.published_pointer import (
    PublishedModel,
    newly_published,
    object_history,
    read_pointer,
    require_unchanged,
    served_in,
    serving_keys,
    with_times,
)

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.commands._lock_review import LockReview
    from reconciler.domain.checks import RecordedChecks
    from reconciler.domain.model import Capabilities, Stage, Target
    from reconciler.domain.ports import LockStore, Provider
    from reconciler.engine.recorder import Recorder
    from reconciler.environment import Environment
    from reconciler.planning.events import Published


_LOG = logging.getLogger(__name__)
_NO_MODELS: Mapping[str, PublishedModel] = {}
_MAX_CONFLICTS = 5
"""Writes lost to other runs before an error; each of those runs completed a write."""


class Publisher:
    """Writes the pointer of a stage: the serving generation of each model, and how to send prompts to it.

    It never overwrites changes that this project did not make. Every lock is that of the whole project.
    """

    def __init__(
        self,
        target: Target,
        capabilities: Capabilities,
        store: LockStore | None,
        shown: str,
        manifests: Iterable[Manifest] | None = None,
        stage: str = "",
    ) -> None:
        """Take the store of the pointer, if the stage has one, and its name in messages.

        ``manifests`` are all that declare what is published; without them, the lock is trusted.
        """
        self._manifests = None if manifests is None else {manifest.name: manifest for manifest in manifests}
        self.shown = shown
        self.address = target.destination(stage)
        self.stage = stage
        self.recorded_stage = "" if stage == target.first_stage else stage
        """The name of the stage in the records of models; the first stage has none."""
        self._target = target
        self._capabilities = capabilities
        self._store = store

    def check(self, lock: Lock, only: frozenset[str] | None = None) -> None:
        """Raise the ReconcileError that :meth:`publish` would, if it can be found without writing."""
        if self._store:
            self._store.check_writable()
            self._text(lock.in_stage(self.recorded_stage), self._store, only)

    def _published(self) -> dict[str, PublishedModel] | None:
        text = self._store.read() if self._store else None
        return None if text is None else read_pointer(text, self._target, self.shown, self.stage)

    def served(self) -> dict[str, Served] | None:
        """Return what is published by name; ``None`` if there is no pointer.

        Raises:
            ReconcileError: when the pointer cannot be read, is invalid, or is another target's or stage's.
        """
        models = self._published()
        return None if models is None else served_in(models)

    def conflict(self, lock: Lock) -> ReconcileError | None:
        """Return the error of a pointer that was changed out-of-band, or that is not a pointer of this stage.

        Raises:
            AccessError, ServiceError: when it cannot be read.
        """
        pattern = self._capabilities.endpoint_pattern
        try:
            published = self._published()
            if published is not None:
                require_unchanged(published, lock.in_stage(self.recorded_stage), self.shown, pattern)
        except (AccessError, ServiceError):
            raise
        except ReconcileError as error:
            return error
        return None

    def history(self) -> PublicationHistory:
        """Return what a pointer in a bucket has published, and when; raises as :meth:`served`."""
        models = self._published()
        written = self._store.server_time() if self._store and models is not None else None
        if models is None or written is None:
            return PublicationHistory(problem=f"{self.shown} does not exist", remedy="run reconcile apply")
        return object_history(models, written)

    def exists(self) -> bool:
        """Whether there is a pointer, or the stage has none."""
        return self._store is None or self._store.read() is not None

    def publish(self, lock: Lock, only: frozenset[str] | None = None) -> tuple[Published, ...]:
        """Write the serving generations of the lock, unless the pointer has them; return events for those that changed.

        With ``only``, the entries of all other models stay as they are: the caller has not proved their records. A new
        pointer is then left to the next apply.

        Raises:
            ReconcileError: when the pointer has changes that this project did not make, is invalid or another
                target's, or cannot be read or written; it is not changed then.
        """
        if self._store is None:
            return ()
        lock = lock.in_stage(self.recorded_stage)
        for _ in range(_MAX_CONFLICTS):
            with suppress(LockConflict), self._store.saving():
                text = self._text(lock, self._store, only)
                if text is not None:
                    self._store.write(text)
                events = newly_published(lock, self.recorded_stage)
                return events if only is None else tuple(event for event in events if text and event.name in only)
        raise LockConflict(
            f"{self.shown} cannot be written: other runs wrote it {_MAX_CONFLICTS} times in a row",
            "run the command again",
        )

    def _entry(
        self, model: ResolvedModel, serving: LockedGeneration, published: PublishedModel | None
    ) -> ResolvedModel:
        """Return the entry of a model; what neither manifest nor service shows stays as it was published.

        The preamble of data that no manifest declares any longer, and the sampling of an orphan, are only recorded.
        """
        if published is None or published.key != model.key:
            return model
        if published.checkpoint == model.checkpoint:
            model = replace(model, publish_time=published.publish_time)
        if self._manifests is None:
            return model
        manifest = self._manifests.get(model.name)
        if declared_preamble(serving, manifest) is None:
            model = replace(model, preamble=published.preamble)
        kept = None if published.sampling == Sampling() else published.sampling
        return model if manifest else replace(model, sampling=kept)

    def _text(self, lock: Lock, store: LockStore, only: frozenset[str] | None) -> str | None:
        """Return the new text of the pointer after checking the current one; ``None`` if no pointer is needed yet."""
        current, serving_now = store.read(), serving_keys(lock)
        if current is None and (only is not None or not serving_now):
            return None
        if current is not None:
            published = read_pointer(current, self._target, self.shown, self.stage)
            require_unchanged(published, lock, self.shown, self._capabilities.endpoint_pattern)
        text = self._merged(current, lock, only)
        if current is None or text == current or not (written := store.server_time()):
            return text
        return self._merged(with_times(current, written), lock, only)

    def _merged(self, current: str | None, lock: Lock, only: frozenset[str] | None) -> str:
        """Return the text of the pointer after the current one; with ``only``, other entries stay as they are."""
        published = _NO_MODELS if current is None else read_pointer(current, self._target, self.shown, self.stage)
        text = self._document(lock, published, only)
        if current is None or only is None:
            return text
        kept = [model for model in json.loads(current)["models"] if model["name"] not in only]
        document = json.loads(text)
        document["models"] = sorted([*kept, *document["models"]], key=itemgetter("name"))
        return escape_unseen(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"

    def text(self, lock: Lock, published: Mapping[str, PublishedModel] = _NO_MODELS) -> str:
        """Return the text of the pointer for a lock, after ``published``."""
        return self._document(lock.in_stage(self.recorded_stage), published, None)

    def _document(self, lock: Lock, published: Mapping[str, PublishedModel], only: frozenset[str] | None) -> str:
        """Return the text of the pointer for a lock as it is in the stage; with ``only``, of these models alone."""
        models = tuple(
            self._entry(resolved(self._target, name, lock.models[name], serving), serving, published.get(name))
            for name, key in serving_keys(lock).items()
            if (only is None or name in only) and (serving := lock.models[name].generation(key))
        )
        target = target_summary(self._target, self._capabilities, "")
        report = ResolveReport(
            simulated=self._capabilities.simulated, target=target, verified=True, stage=self.stage, models=models
        )
        return json_text(report) + "\n"


class PromotionRequests(Struct, frozen=True):
    """The generations by manifest that the lockfile names as serving, and that were not serving before.

    ``withheld`` are those that a run promotes itself, after their checks. ``publications`` has since when the
    generations that are requested for stages have been published.
    """

    serving: Mapping[str, str] = {}
    withheld: tuple[Withheld, ...] = ()
    publications: Mapping[tuple[str, str], Publication] = {}

    def withhold(self, project: Project) -> Project:
        """Return the project with the recorded state that a run starts from."""
        events: tuple[Event, ...] = self.withheld
        if any(withheld.stage for withheld in self.withheld):
            events = (Staged(tuple(stage.name for stage in project.target.stages)), *events)
        return replace(project, lock=reduce(record, events, project.lock), publications=self.publications)


def promotion_requests(
    project: Project, review: LockReview | None = None, *, offline: bool = False
) -> PromotionRequests:
    """Return what the lockfile names as serving, and the published pointers, or else the base of ``review``, do not.

    Without both the lockfile is trusted: nothing else has the serving generations. ``offline`` reads no pointer.

    An invalid pointer counts as none, because publishing raises its error.

    Raises:
        AccessError, ServiceError: when the pointer cannot be read.
    """
    requests = PromotionRequests(review.serving, review.withheld) if review else PromotionRequests()
    if offline:
        return requests
    stages = tuple(stage.name for stage in project.target.stages)
    lock, manifests = arrange_stages(project.lock, stages, begins=False), project.manifests
    for publisher in publisher_of(project).each:
        pointer = _valid(publisher.served)
        if pointer is None:
            continue
        stage, before = publisher.recorded_stage, requests.withheld
        if stage and publisher.address.startswith(REMOTE_SCHEME):  # no pull request can change it
            before = tuple(withheld for withheld in before if withheld.stage != stage)
        current = lock.in_stage(stage)
        published = published_lock(current, pointer, manifests)
        named = {withheld.name for withheld in before if withheld.stage == stage}
        found = withheld_promotions(published, current, manifests, stage)
        more = tuple(held for held in found if held.name not in named)
        serving = {} if stage else requested_serving(published, current, manifests)
        requests = PromotionRequests({**serving, **requests.serving}, (*before, *more))
    started = requests.withhold(project)
    started = replace(started, lock=arrange_stages(started.lock, stages))
    publications, now = _valid(lambda: read_publications(started)) or {}, project.session.environment.clock()
    dated = {requested: replace(publication, read=now) for requested, publication in publications.items()}
    return replace(requests, publications=dated)


_ValueT = TypeVar("_ValueT")


def _valid(read: Callable[[], _ValueT]) -> _ValueT | None:
    """Return what a pointer has; ``None`` if it is invalid."""
    try:
        return read()
    except (AccessError, ServiceError):
        raise
    except ReconcileError as error:
        _LOG.debug("publishing will fail: %s", error)
        return None


class Publishers:
    """Writes the pointers of all stages of a target, in their order; a target without stages has one pointer."""

    def __init__(self, publishers: Iterable[Publisher]) -> None:
        self.each = tuple(publishers)

    @property
    def shown(self) -> str:
        """The names of the pointers in messages, empty without any."""
        return join_names([publisher.shown for publisher in self.each if publisher.shown])

    def check(self, lock: Lock) -> None:
        """Raise the ReconcileError that :meth:`publish` would, if it can be found without writing."""
        for publisher in self.each:
            publisher.check(lock)

    def keys(self) -> frozenset[str]:
        """Return the keys that the pointers name; raises as :meth:`Publisher.served`."""
        published = [publisher.served() or {} for publisher in self.each]
        return frozenset(served.key for models in published for served in models.values())

    def exists(self) -> bool:
        """Whether all pointers exist that the target declares."""
        return all(publisher.exists() for publisher in self.each)

    def publish(self, lock: Lock, only: frozenset[str] | None = None) -> tuple[Published, ...]:
        """Write each pointer as :meth:`Publisher.publish`; if one of several was changed, none is written."""
        if len(self.each) > 1:
            for publisher in self.each:
                publisher.check(lock, only)
        return tuple(event for publisher in self.each for event in publisher.publish(lock, only))


def publisher_of(project: Project) -> Publishers:
    """Return the publishers of a project's target; they do nothing where it has no ``publish``."""
    stages = project.target.stages
    return Publishers(stage_publisher(project, stage) for stage in ([stage.name for stage in stages] or [""]))


def stage_publisher(project: Project, stage: str) -> Publisher:
    """Return the publisher of a stage, or of a target without stages; it does nothing without ``publish``."""
    store, shown = _pointer_store(project, project.target.destination(stage))
    return Publisher(project.target, project.capabilities, store, shown, project.workspace.manifests, stage)


def read_publications(project: Project) -> dict[tuple[str, str], Publication]:
    """Return since when each generation that is requested for a stage is published to the stage before.

    They are by the requested stage and the name of the model. A stage without a soak time and a pointer needs none.

    Raises:
        ReconcileError: when a pointer cannot be read, or is invalid.
    """
    target, manifests = project.target, {manifest.name: manifest.names for manifest in project.workspace.manifests}
    found: dict[tuple[str, str], Publication] = {}
    for stage in target.later_stages:
        requested = {
            name: key for name, model in project.lock.models.items() if (key := model.stage(stage.name).requested)
        }
        if not requested or not (stage.soak or target.destination(stage.after)):
            continue
        now = project.session.environment.clock()
        history = _history_of(project, stage, now)
        before = project.lock.in_stage(stage.after)
        for name, key in requested.items():
            known = before.models[name].generation(key)
            served = Served(key, known.checkpoint if known else "")
            names = manifests.get(name, (name,))
            found[stage.name, name] = published_since(names, served, history, now=now)
    return found


def _history_of(project: Project, stage: Stage, now: datetime) -> PublicationHistory:
    """Return what was published to the stage before, as far back as the soak time of a stage needs it."""
    target, publisher = project.target, stage_publisher(project, stage.after)
    if publisher.address.startswith(REMOTE_SCHEME):
        return publisher.history()
    if not stage.soak:
        return PublicationHistory((Sighting(now, publisher.served() or {}),))
    if not publisher.address and target.lock:
        problem = f"the lockfile is in a bucket, and {stage.after} has no pointer"
        return PublicationHistory(problem=problem, remedy=f"set spec.stages[].publish of {stage.after}")
    from reconciler.state.publication_history import committed_history, served_by_lockfile

    def served(text: str) -> Mapping[str, Served]:
        if publisher.address:
            return served_in(read_pointer(text, target, publisher.shown, publisher.stage))
        return served_by_lockfile(text, stage.after, target.first_stage)

    root, environment = project.session.root, project.session.environment
    file = absolute(publisher.address, root) if publisher.address else project.session.lockfile
    return committed_history(file, environment.environ, served, now=now, enough=now - stage.soak)


def _pointer_store(project: Project, address: str) -> tuple[LockStore | None, str]:
    root = project.workspace.root
    if not address:
        return None, ""
    if address.startswith(REMOTE_SCHEME):
        return project.session.object_store(address, "the published pointer"), address
    find_writable(address, root, repository_of(root))
    path = absolute(address, root)
    return project.session.file_store(path), display_path(path, project.session.environment.cwd)


Choose = Callable[[Lock, str, Manifest | None], tuple[LockedGeneration, tuple[Event, ...]]]
"""Takes the lock, the scope and the manifest, if any; returns the generation to promote, and the events to record.

There are no events if the generation is serving already.
"""


def change_serving(
    environment: Environment,
    command_input: CommandInput,
    name: str,
    choose: Choose,
    action: Literal["promote", "rollback"],
    reason: str = "",
    approve: Callable[[LockedModel], None] = lambda _model: None,
    stage: str = "",
) -> CommandResult[ServingReport]:
    """Promote the chosen generation of a model, grant its declared permissions, and publish it.

    The checks of the manifest run first, and a generation that fails them is not promoted. For a rollback they run
    afterwards, and the report has a warning if they fail. The lockfile keeps who did it, and the ``reason``.
    ``approve`` raises an error if the user does not approve; no lease is held meanwhile. ``stage`` is the recorded name
    of the stage that changes, empty for the first one.
    """
    project = open_project(environment, command_input, strict=False)
    project.require_manifests()
    approve(project.recorded_model(name))
    manifest = _manifest(project, name)
    publisher = publisher_of(project)
    with EventLoop() as loop, project.store.lease():
        project = project.reread_lock()
        before = project.recorded_model(name).record_of(stage).serving
        chosen, events = choose(project.lock, project.target.scope, manifest)
        recorder = project.recorder()
        if events:
            project.store.check_writable()
            publisher.check(reduce(record, events, project.lock))
        run = _ServingChange(project, recorder, publisher, name, manifest, stage)
        if events:
            decided = recorder.decided(action, name, chosen.key, before=before or "", stage=stage, reason=reason)
            events = (*events, decided)
        warning = run.carry_out(loop, chosen, events, rolls_back=action == "rollback")
    report = ServingReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        name=name,
        changed=bool(events),
        before=(before or "") if events else "",
        reason=reason,
        published=stage_publisher(project, stage or project.target.first_stage).shown,
        serving=ServingGeneration(key=chosen.key, remote=run.chosen.address, checkpoint=run.chosen.checkpoint),
        stage=stage,
        still_serving=recorder.lock.models[name].stages_serving(before) if events and not stage else (),
        rejected=rejected_generations(recorder.lock.in_stage(stage).models[name]),
        warning=warning,
        lockfile=project.lockfile,
        next=next_actions(_next_actions(project, recorder.lock, name), name),
    )
    return CommandResult(report)


class _ServingChange:
    """One promotion or rollback by a person."""

    def __init__(
        self,
        project: Project,
        recorder: Recorder,
        publisher: Publishers,
        name: str,
        manifest: Manifest | None,
        stage: str = "",
    ) -> None:
        self._stage = stage
        self._project = project
        self._recorder = recorder
        self._publisher = publisher
        self._name = name
        self._manifest = manifest.in_stage(project.target.stage(stage)) if manifest and stage else manifest

    def carry_out(
        self, loop: EventLoop, chosen: LockedGeneration, events: tuple[Event, ...], *, rolls_back: bool
    ) -> str:
        """Prove the generation, promote and publish it, and return a warning if it serves although checks fail."""
        self.chosen = chosen
        service = self._project.session.connect()
        try:
            serve = self._manifest.serve if self._manifest and events and not rolls_back else None
            proved = loop.run(_prepare(self._project, self._recorder, self._name, chosen, service, serve))
            self.chosen = proved.correct(chosen)
            if not events:
                return ""
            if serve is not None:
                self.chosen = replace(self.chosen, checkpoint=self.chosen.resources.named(serve))
            candidates = proved.model.deployed_checkpoints if serve == BEST else ()
            warning = "" if rolls_back else self._check(loop, service, candidates)
            events = tuple(self._with_checkpoint(event) for event in events)
            loop.run(_grant_access(service, self._manifest, chosen))
            self._recorder.emit(proved)
            only = loop.run(self._prove_published(service))
            _record_and_publish(self._project, self._recorder, self._publisher, self._name, chosen, events, only)
            return self._check_afterwards(loop, service) if rolls_back else warning
        finally:
            loop.run(service.aclose())

    def _with_checkpoint(self, event: Event) -> Event:
        return replace(event, checkpoint=self.chosen.checkpoint) if isinstance(event, Promoted) else event

    def _check(self, loop: EventLoop, service: Provider, candidates: tuple[str, ...]) -> str:
        """Run the checks, and choose the best of the candidates if there are any.

        Raises ReconcileError if they fail and the manifest does not allow it.
        """
        if self._manifest is None or not self._manifest.checks:
            return ""
        run = _run_checks(self._project, self._recorder, self._manifest, self.chosen, service, candidates)
        checks = loop.run(run)
        if candidates:
            self.chosen = replace(self.chosen, checkpoint=checks.checkpoint)
        require_passed(self.chosen.key, checks, self._manifest)
        return f"its checks fail: {describe_scores(checks)}" if checks.failed else ""

    def _check_afterwards(self, loop: EventLoop, service: Provider) -> str:
        """Run the checks of a generation that serves already, and return what is wrong."""
        if self._manifest is None or not self._manifest.checks:
            return ""
        try:
            run = _run_checks(self._project, self._recorder, self._manifest, self.chosen, service, stage=self._stage)
            checks = loop.run(run)
        except ReconcileError as error:
            return f"its checks could not be run: {error.message}"
        return f"its checks fail: {describe_scores(checks)}{describe_misses(checks)}" if checks.failed else ""

    async def _prove_published(self, service: Provider) -> frozenset[str] | None:
        """Return the model whose entry is published; without a pointer, ``None`` for all after proving each."""
        if self._publisher.exists():
            return frozenset({self._name})
        lock = self._recorder.lock
        for name, key in serving_keys(lock).items():
            generation = lock.models[name].generation(key)
            if generation and name != self._name:
                proved = await prove_record(self._project, service, name, generation)
                self._recorder.emit(proved or Disappeared(name, key))
        return None


def promotion(environment: Environment, name: str, generation: LockedGeneration) -> Promoted:
    """Return the event that makes a generation the serving one."""
    return Promoted(name, generation.key, generation.remote, format_time(environment.clock()), generation.checkpoint)


def _manifest(project: Project, name: str) -> Manifest | None:
    """Return the manifest of that name; ``None`` only if no manifest of the root can have it."""
    manifest = next((manifest for manifest in project.workspace.manifests if manifest.name == name), None)
    if manifest is None:
        if project.workspace.errors:
            raise InvalidInput(project.workspace.problems)
        if not project.complete:
            raise UsageError(
                f"no manifest {name} in these paths; other paths may have one",
                f"add the path of its manifest, or, if it has none, name the whole root {project.root or '.'}",
            )
        return None
    suspension = manifest.lifecycle.suspension(project.session.environment.clock())
    if suspension:
        raise ReconcileError(
            f"{name} is suspended{suspension}, and its serving generation is not changed",
            f"remove spec.lifecycle.suspend in {manifest.place.file}",
        )
    return project.manifest(name)  # with the recorded data set


async def _prepare(
    project: Project, recorder: Recorder, name: str, chosen: LockedGeneration, service: Provider, serve: str | None
) -> Corrected:
    """Return the facts that the live model of the chosen generation, which is ready, shows; record it if it is gone.

    ``serve`` is the checkpoint that is to serve, as in ``spec.serve``; ``None`` for the recorded one.
    """
    try:
        found = await prove_record(project, service, name, chosen, serve)
    except (AccessError, ServiceError):
        raise
    except ReconcileError as error:
        raise unusable_error(recorder.lock.models[name], chosen.key, error.message) from error
    if found is None:
        recorder.emit(Disappeared(name, chosen.key))
        recorder.flush()
    cause = unready_cause(found) if found else "the service no longer has it, which is now recorded"
    if found is None or cause:
        raise unusable_error(recorder.lock.models[name], chosen.key, cause)
    return found


async def _run_checks(
    project: Project,
    recorder: Recorder,
    manifest: Manifest,
    chosen: LockedGeneration,
    service: Provider,
    candidates: tuple[str, ...] = (),
    stage: str = "",
) -> RecordedChecks:
    """Run the checks of a generation, or find the best one of its checkpoints, and record the results."""
    checker = Checker(service, project.workspace, recorder.emit, project.target)
    serving = await prove_serving(project, service, recorder.lock, manifest, chosen.key)
    checked = [
        checked_generation(replace(chosen, checkpoint=checkpoint), serving, recorder.lock)
        for checkpoint in candidates or (chosen.checkpoint,)
    ]
    results = await checker.check(manifest, *checked, search=bool(candidates), stage=stage)
    recorder.flush()
    return recorded_checks(results)


async def _grant_access(service: Provider, manifest: Manifest | None, chosen: LockedGeneration) -> None:
    if manifest is None or manifest.access is None:
        return
    live = await service.access(chosen.remote)
    changes = access_changes(manifest.access, live)
    if changes:
        await service.set_access(chosen.remote, live, changes)


def _record_and_publish(
    project: Project,
    recorder: Recorder,
    publisher: Publishers,
    name: str,
    chosen: LockedGeneration,
    events: tuple[Event, ...],
    only: frozenset[str] | None,
) -> None:
    try:
        recorder.emit(*events)
        recorder.flush()
        _publish(recorder, publisher, chosen, only)
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"interrupted; {project.lockfile} may already record {chosen.key} as the serving generation of {name}",
            f"see reconcile resolve {name}; the next apply publishes the serving generation",
        ) from None


def _publish(recorder: Recorder, publisher: Publishers, chosen: LockedGeneration, only: frozenset[str] | None) -> None:
    try:
        published = publisher.publish(recorder.lock, only)
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; the lockfile records {chosen.key} as serving, and the next apply publishes it"
        raise
    recorder.emit(*published)
    recorder.flush()


def _next_actions(project: Project, lock: Lock, name: str) -> list[Action]:
    """Return what the next apply would do about the manifest and its children, according to the lockfile."""
    plan = replace(project, lock=lock).plan()
    family = descendants(project.manifests, name)
    own = [action for action in plan.actions if action.name == name]
    return own + [action for action in plan.actions if action.name in family and action.reason is not Reason.IN_SYNC]
