"""Read the input of a command: manifests, target and lockfile, and what the lockfile records of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.commands._run_info import begin_run
from reconciler.commands._session import Session, display_root
from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.document import Document
from reconciler.domain.errors import ExitStatus, InvalidFile, InvalidInput, Place, Problem, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.lock import Lock, check_owner, require_stages
from reconciler.domain.model import Capabilities, Manifest, State, Target
from reconciler.domain.ports import LockStore, Objects
from reconciler.domain.target_option import use_target
from reconciler.domain.text import join_names, suggest
from reconciler.environment import Environment
from reconciler.manifests.discovery import (
    STDIN,
    Selection,
    UnknownPathError,
    absolute,
    discover,
    expand_lists,
    manifest_name,
    read,
    target_file_name,
)
from reconciler.manifests.target import read_root
from reconciler.manifests.yaml_parser import YamlDocument, parse
from reconciler.paths import repository_of
from reconciler.planning.hidden_examples import redact_problems
from reconciler.providers.registry import capabilities_of, catalog_of, recorded_spec
from reconciler.reports.documents.envelope import TargetSummary, target_summary
from reconciler.reports.text.format import counted
from reconciler.state.json_decoder import find_positions, show_path
from reconciler.state.lockfile import loads

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration, LockedModel
    from reconciler.domain.model import RemoteModel
    from reconciler.domain.plan import Observation, Plan, Publication, Request, Unread, World
    from reconciler.domain.ports import Provider
    from reconciler.engine.execute import Publish, RunContext
    from reconciler.engine.recorder import Recorder
    from reconciler.manifests.workspace import Workspace
    from reconciler.planning.events import Corrected, EventSink
    from reconciler.providers.spec import ConnectedProvider
    from reconciler.reports.documents.status import ModelDetails


Report_co = TypeVar("Report_co", bound=Document, covariant=True)
ReadLock = Callable[[LockStore, Target, str], Lock]


class CommandInput(Struct, frozen=True):
    """What the shared options select: paths, the target's name, manifests, and which hosts and folders are trusted.

    ``by_name`` is whether the command can select manifests by name. ``model_details`` adds details of each recorded
    model to the document, for which the service lists more. ``stdin_folder`` is the directory that paths in manifests
    from standard input are relative to, by default the working directory.
    """

    paths: tuple[str, ...] = ()
    target: str | None = None
    selection: Selection = field(default_factory=Selection)
    by_name: bool = False
    allow_endpoints: frozenset[str] = frozenset()
    allow_folders: frozenset[Path] = frozenset()
    model_details: bool = False
    stdin_folder: str | None = None


class CommandResult(Struct, Generic[Report_co], frozen=True):
    """A versioned document, the exit status, the warnings about the input, and the notices that are printed already.

    ``projects`` have the recorded state of each target at the end, for metrics.
    """

    document: Report_co
    exit_status: ExitStatus = ExitStatus.OK
    warnings: tuple[Problem, ...] = ()
    shown: tuple[str, ...] = ()
    projects: tuple[RecordedProject, ...] = ()


class RecordedProject(Struct, frozen=True, kw_only=True):
    """A target and its lockfile; no manifest is read.

    Attributes:
        input: The options that selected the project.
        session: Reaches the target's service, storage and lockfile.
        store: Reads and writes the lockfile.
        lockfile: The lockfile's path or address, as messages show it.
        lock: The recorded state.
        stage: The stage that ``lock`` shows; empty for the whole lockfile.
    """

    input: CommandInput
    session: Session
    store: LockStore
    lockfile: str
    lock: Lock
    stage: str = ""

    @property
    def target(self) -> Target:
        """The target that the command works on."""
        return self.session.target

    @property
    def capabilities(self) -> Capabilities:
        """What the target's service supports."""
        return capabilities_of(self.target)

    @property
    def catalog(self) -> ModelCatalog:
        """What is known about base models of the target's service."""
        return catalog_of(self.target, self.session.root)

    @property
    def root(self) -> str:
        """The root as messages show it, empty for the working directory."""
        return display_root(self.session.root, self.session.environment.cwd)

    @property
    def target_summary(self) -> TargetSummary:
        """The target as reports describe it."""
        return target_summary(self.target, self.capabilities, self.root)

    @property
    def names(self) -> set[str]:
        """The recorded names."""
        return set(self.lock.models)

    def in_stage(self, stage: str | None) -> Self:
        """Return the project with its lock as it is in a stage, to be read only; without a name, the project itself.

        Raises:
            UsageError: when the target has no such stage.
        """
        if not stage:
            return self
        declared = [known.name for known in self.target.stages]
        if stage not in declared:
            known = (
                f"stages: {join_names(declared)}" if declared else "remove --stage, or add spec.stages to the target"
            )
            remedy = suggest(stage, declared, otherwise=known)
            raise UsageError(f"the target {self.target.name} has no stage {stage}", remedy)
        recorded = self.lock.target and self.lock.target.first_stage
        is_first = stage == (recorded or self.target.first_stage)
        return replace(self, lock=self.lock if is_first else self.lock.in_stage(stage), stage=stage)

    def find_model(self, name: str) -> LockedModel | None:
        """Return what is recorded under a manifest's name, or ``None`` if the manifest was never applied.

        Raises:
            ReconcileError: when no manifest and no record has the name.
        """
        model = self.lock.models.get(name)
        if model is None and name not in self.names:
            raise self.unknown_name(name)
        return model

    def recorded_model(self, name: str) -> LockedModel:
        """Return what is recorded under a manifest's name.

        Raises:
            ReconcileError: when nothing is recorded.
        """
        model = self.find_model(name)
        if model is None:
            raise ReconcileError(f"{name} has no recorded generations: it was never applied", "run reconcile apply")
        return model

    def serving_generation(self, name: str) -> LockedGeneration:
        """Return the serving generation of a manifest, in any recorded state.

        Raises:
            ReconcileError: when the name is unknown, or there is no serving generation.
        """
        model = self.lock.models.get(name)
        serving = model.serving_generation if model else None
        if serving is None:
            raise self._no_serving_generation(name)
        return serving

    def recorded_generation(self, name: str, key: str) -> LockedGeneration:
        """Return the recorded generation of a manifest with that key.

        Raises:
            ReconcileError: when nothing is recorded under that name.
            UsageError: when no recorded generation has that key.
        """
        model = self.recorded_model(name)
        generation = model.generation(key)
        if generation is None:
            keys = [generation.key for generation in model.generations]
            remedy = suggest(key, keys, cutoff=0.8, otherwise=f"recorded generations: {join_names(keys)}")
            raise UsageError(f"{name} has no recorded generation {key}", remedy)
        return generation

    def unknown_name(self, name: str) -> ReconcileError:
        """Return the error for a name that is neither declared nor recorded."""
        names = sorted(self.names)
        known = f"known names: {join_names(names)}" if names else "add a manifest, or pass the root that has one"
        kind = name.lower() in {"tm", "tunedmodel", "tunedmodels", "models"}
        remedy = "leave out the kind: every name is that of a model" if kind else suggest(name, names, otherwise=known)
        return ReconcileError(f"{name} not found: no manifest and no model in {self.lockfile} has this name", remedy)

    def _no_serving_generation(self, name: str) -> ReconcileError:
        if name not in self.names:
            return self.unknown_name(name)
        cause, remedy = _missing_promotion(name, self.lock.models.get(name))
        if self.stage and self.stage != self.target.first_stage:
            cause = "none was promoted to this stage"
            remedy = f"run reconcile promote {name} --stage {self.stage}, review its change, and run reconcile apply"
        where = f" in {self.stage}" if self.stage else ""
        return ReconcileError(f"{name} has no serving generation{where}: {cause}", remedy)


class Project(RecordedProject, frozen=True, kw_only=True):
    """Valid manifests, a target and its lockfile.

    Attributes:
        workspace: Everything read from the files, the manifests that are not selected included.
        manifests: The selected manifests. A data set in Cloud Storage is the recorded one until :func:`pin_datasets`.
        complete: Whether the manifests are all manifests of the root.
        publications: Since when requested generations have been published, as in a World; empty until it was read.
    """

    workspace: Workspace
    manifests: tuple[Manifest, ...]
    complete: bool
    publications: Mapping[tuple[str, str], Publication] = {}

    @property
    def places(self) -> dict[str, Place]:
        """Where each selected manifest is, by name."""
        return {manifest.name: manifest.place for manifest in self.manifests}

    def manifest(self, name: str) -> Manifest | None:
        """Return the selected manifest of that name."""
        return next((manifest for manifest in self.manifests if manifest.name == name), None)

    def reread_lock(self) -> Project:
        """Return the project with its lockfile as it is now.

        Raises:
            ReconcileError: when the lockfile cannot be read, or belongs to another target.
        """
        return replace(self, lock=read_lock(self.store, self.target, self.lockfile))

    def recorder(self, sinks: Sequence[EventSink] = ()) -> Recorder:
        """Return a recorder of events for this lockfile; ``sinks`` receive each event as well."""
        from reconciler.engine.recorder import Recorder

        environment = self.session.environment
        run = begin_run(environment)
        return Recorder(self.lock, self.store, environment.clock, sinks, lambda: run.info)

    def run_context(self, provider: Provider, recorder: Recorder, publish: Publish) -> RunContext:
        """Return the context in which a plan for the selected manifests is carried out."""
        from reconciler.engine.execute import RunContext

        return RunContext(
            provider=provider,
            manifests=self.manifests,
            target=self.target,
            recorder=recorder,
            examples=self.workspace,
            clock=self.session.environment.clock,
            sleeper=self.session.environment.sleeper,
            publish=publish,
            catalog=self.catalog,
            publications=self.publications,
            deadline=self.session.environment.deadline,
        )

    def world(self, observation: Observation | None = None, request: Request | None = None) -> World:
        """Return the inputs of a plan; by default for the recorded state, without further trainings."""
        from reconciler.domain.plan import Observation, Request, World

        return World(
            manifests=self.manifests,
            lock=self.lock,
            target=self.target,
            capabilities=self.capabilities,
            now=self.session.environment.clock(),
            observation=observation or Observation(),
            request=request or Request(complete=self.complete),
            catalog=self.catalog,
            publications=self.publications,
        )

    def unread(self, *, prunes: bool = False) -> Unread:
        """Return the manifests that were not read; nothing is searched if no recorded model lacks one.

        A run that ``prunes`` deletes unrecorded models too, whose names are not known yet.
        """
        from reconciler.domain.plan import Unread

        declared = {name for manifest in self.workspace.manifests for name in manifest.names}
        unselected = {name: place.file for name, place in self.workspace.unselected.items()}
        known = declared | unselected.keys()
        recorded = {name: model.manifest for name, model in self.lock.models.items() if name not in known}
        if not self.complete:
            return Unread()
        if not (recorded or prunes):
            return Unread(unselected=unselected)
        from reconciler.manifests.unread import find_unread

        environ = self.session.environment.environ
        found = find_unread(self.workspace, recorded, environ, shown_root=self.root)
        return replace(found, unselected=unselected)

    def require_manifests(self) -> None:
        """Refuse to change anything if the root has no manifest at all, although models are recorded.

        Raises:
            ReconcileError: naming the manifests that were not read, if there are any.
        """
        workspace = self.workspace
        if workspace.manifests or workspace.unselected or workspace.errors:
            return
        if not (workspace.complete and self.lock.models):
            return
        from reconciler.planning.prune import unread_notices

        found = "".join(f"; {notice}" for notice in unread_notices(self.unread()))
        raise ReconcileError(
            f"no manifest found in {self.root or '.'}, although {self.lockfile} records"
            f" {counted(len(self.lock.models), 'model')}{found}",
            "restore the manifests, or pass the path that they are in; to stop managing a model without a manifest,"
            " run reconcile forget NAME",
        )

    def plan(self, observation: Observation | None = None, request: Request | None = None) -> Plan:
        """Return the plan for an observation; by default for the recorded state, without further trainings."""
        from reconciler.domain.plan import Request
        from reconciler.planning.planner import plan

        return plan(self.world(observation, request or Request(complete=self.complete, unread=self.unread())))

    def unknown_name(self, name: str) -> ReconcileError:
        """Return the error for a name that is neither declared nor recorded, or that the target does not select."""
        place = self.workspace.unselected.get(name)
        if place is None:
            return RecordedProject.unknown_name(self, name)
        message = f"{name} not found: the target {self.target.name} does not select the manifest in {place.file}"
        return ReconcileError(message, "change spec.selector of the target, or name another target")

    @property
    def names(self) -> set[str]:
        """The declared and the recorded names."""
        return {manifest.name for manifest in self.manifests} | self.lock.models.keys()


def _missing_promotion(name: str, model: LockedModel | None) -> tuple[str, str]:
    """Return why a known manifest has no serving generation, and the remedy."""
    if model is None:
        return "it was never applied", "run reconcile apply"
    newest = model.generations[0] if model.generations else None
    if newest and newest.key in model.rejected:
        return f"{newest.key} was rolled back", f"run reconcile promote {name} to promote it again"
    if newest and newest.checks and newest.checks.failed:
        checks = counted(newest.checks.failed, "check")
        return f"{newest.key} failed {checks}", f"see reconcile history {name}; change the inputs or the checks"
    return "none of its generations has been promoted yet", "run reconcile apply"


def read_workspace(environment: Environment, command_input: CommandInput) -> Workspace:
    """Read all files; problems become part of the result. Provider limits are checked for selected manifests only.

    Raises:
        UsageError: when there is no target.
    """
    from reconciler.manifests.workspace import load

    use_target(command_input.target)
    with _suggest_selection(command_input):
        return load(
            command_input.paths,
            target=command_input.target,
            cwd=environment.cwd,
            stdin=environment.stdin,
            stdin_folder=_stdin_folder(environment, command_input),
            environ=environment.environ,
            capabilities=capabilities_of,
            is_selected=command_input.selection.matches,
        )


def _stdin_folder(environment: Environment, command_input: CommandInput) -> Path | None:
    """Return the directory that ``--root`` names; raise UsageError if there is none."""
    if command_input.stdin_folder is None:
        return None
    folder = absolute(command_input.stdin_folder, environment.cwd)
    if not folder.is_dir():
        raise UsageError(f"--root {command_input.stdin_folder}: not a directory", "pass a directory")
    return folder


@contextmanager
def _suggest_selection(command_input: CommandInput) -> Iterator[None]:
    """Name the option that selects a model by its name, if a path that does not exist can be a name."""
    try:
        yield
    except UnknownPathError as error:
        if command_input.by_name and re.fullmatch(NAME_PATTERN, error.path):
            error.remedy = f"{error.remedy}; to select a model by its name, pass --only {error.path}"
        raise


def open_project(environment: Environment, command_input: CommandInput, *, strict: bool = True) -> Project:
    """Read manifests, target and lockfile; without ``strict``, skip manifests that have errors.

    Raises:
        InvalidInput: with every problem of every file.
        UsageError: when there is no target, or no manifest has a selected name.
        ReconcileError: when the lockfile cannot be read, or belongs to another target.
    """
    return load_project(environment, read_workspace(environment, command_input), command_input, strict=strict)


def _session(
    environment: Environment, target: Target, root: Path, lockfile: Path, command_input: CommandInput
) -> Session:
    return Session(environment, target, root, lockfile, command_input.allow_endpoints, command_input.allow_folders)


def open_recorded(environment: Environment, command_input: CommandInput) -> RecordedProject:
    """Read target and lockfile, but no manifest; the target's provider need not be installed.

    Raises:
        InvalidInput: with every problem of the target.
        UsageError: when a path does not exist, or there is no target.
        ReconcileError: when a file cannot be read, or the lockfile belongs to another target.
    """
    use_target(command_input.target)
    try:
        with _suggest_selection(command_input):
            root = read_root(
                command_input.paths,
                command_input.target,
                environment.cwd,
                environment.environ,
                installed=False,
                stdin_folder=_stdin_folder(environment, command_input),
            )
    except OSError as error:
        raise ReconcileError(f"cannot read {error.filename}: {error.strerror}", "check its permissions") from error
    if root.target is None:
        raise InvalidInput(tuple(sorted(set(redact_problems(root.problems)))))
    session = _session(environment, root.target, root.folder, root.lockfile, command_input)
    store = session.lock_store()
    with _suggest_recovery(session):
        lock = read_lock(store, root.target, session.shown_lockfile)
    return RecordedProject(
        input=command_input, session=session, store=store, lockfile=session.shown_lockfile, lock=lock
    )


_RESTORE: Final = "restore it from git"


@contextmanager
def _suggest_recovery(session: Session) -> Iterator[None]:
    """Complete the remedy for an invalid lockfile with the commands that restore or rebuild it."""
    try:
        yield
    except ReconcileError as error:
        if error.remedy.startswith(_RESTORE) and not session.target.lock:
            alternative = error.remedy.removeprefix(_RESTORE).removeprefix(", or ")
            error.remedy = ", or ".join(filter(None, [alternative, _recovery(session)]))
        raise


def _recovery(session: Session) -> str:
    """Return how to restore a lockfile from the newest commit in which it is valid, or else how to rebuild it."""
    from reconciler.manifests.git import last_version

    target, file = session.target, session.lockfile

    def is_valid(content: bytes) -> bool:
        try:
            check_owner(loads(content, file.name, recorded_spec(target.provider).record), target, file.name)
        except ReconcileError:
            return False
        return True

    cwd = session.environment.cwd
    commit = last_version(file, session.environment.environ, is_valid)
    root = display_root(session.root, cwd)
    refresh = f"reconcile refresh {quote(root)}" if root else "reconcile refresh"
    if commit:
        folder = f"-C {quote(root)} " if root else ""
        return f"run `git {folder}restore --source={commit[:12]} -- {file.name}`, then `{refresh}`"
    shown = quote(session.shown_lockfile)
    return (
        f"run `mv {shown} {shown}.invalid`, then `{refresh}`, which rebuilds it without what only this file recorded,"
        " such as rollbacks and protection, because git has no valid version"
    )


def select_recorded(project: RecordedProject) -> RecordedProject:
    """Return the project with the recorded models that have the selected labels and a manifest at the given paths.

    The labels are the recorded ones. Manifests are read only if the paths do not include the root.

    Raises:
        InvalidInput: when the files at the paths have errors and no manifest.
        UsageError: when no model is selected.
        ReconcileError: when a selected name is not recorded.
    """
    names, selection = _declared_names(project), project.input.selection
    for name in sorted((selection.only | selection.exclude) - project.names):
        raise project.unknown_name(name)
    models = {
        name: model
        for name, model in project.lock.models.items()
        if (names is None or name in names) and selection.matches(name, model.labels)
    }
    if project.lock.models and not models:
        remedy = "check the paths, --label, --only and --exclude; reconcile apply records the labels of manifests"
        raise UsageError(f"no models match in {project.lockfile}", remedy)
    return replace(project, lock=replace(project.lock, models=models))


def _declared_names(project: RecordedProject) -> frozenset[str] | None:
    """Return the names of the manifests at the given paths, ``None`` for all manifests of the root."""
    environment, paths = project.session.environment, project.input.paths
    if not paths or any(absolute(path, environment.cwd) == project.session.root for path in paths):
        return None
    documents, problems = _documents(project, paths)
    names = frozenset(filter(None, map(manifest_name, documents)))
    if problems and not names:
        raise InvalidInput(problems)
    return names


def _documents(project: RecordedProject, paths: Sequence[str]) -> tuple[list[YamlDocument], tuple[Problem, ...]]:
    """Return the YAML documents at these paths, and the problems of their files."""
    environment = project.session.environment
    repository = repository_of(project.session.root)
    files = discover(paths, environment.cwd, target_file_name(project.target.name))
    parsed = [read(file.path, file.shown, repository) for file in files]
    if STDIN in paths:
        parsed.append(parse(environment.stdin.read(), STDIN))
    documents = [document for part in parsed for document in expand_lists(part.documents)]
    return documents, tuple(problem for part in parsed for problem in part.problems)


def find_orphans(project: RecordedProject) -> frozenset[str]:
    """Return the recorded models whose manifest file is gone, and that no other file of the root declares.

    The files are read only if one is gone. If one of them cannot be read, it may declare each of these models.
    """
    root = project.session.root
    gone = {
        name: model
        for name, model in project.lock.models.items()
        if model.manifest != STDIN and not (root / model.manifest).exists()
    }
    if not gone:
        return frozenset()
    from reconciler.planning.observed_events import has_content

    documents, problems = _documents(project, [str(root)])
    named = [document for document in documents if manifest_name(document)]
    former = (name for document in named for name in document.value["metadata"].get("formerly") or ())
    declared = {*map(manifest_name, named), *former}
    orphans = (name for name, model in gone.items() if name not in declared and has_content(model))
    return frozenset() if problems else frozenset(orphans)


def read_lock(store: LockStore, target: Target, shown: str) -> Lock:
    """Read a lockfile, which messages call ``shown``; return an empty lock if there is none.

    Raises:
        ReconcileError: when it cannot be read, or belongs to another target.
    """
    text = store.read()
    lock = Lock() if text is None else loads(text, shown, recorded_spec(target.provider).record)
    check_owner(lock, target, shown)
    require_stages(lock, target, shown)
    return lock


def load_project(
    environment: Environment,
    workspace: Workspace,
    command_input: CommandInput,
    *,
    strict: bool = True,
    read: ReadLock = read_lock,
) -> Project:
    """Return the project of a workspace; ``read`` reads its lockfile. Raises as :func:`open_project` does."""
    if strict and workspace.errors:
        raise InvalidInput(workspace.problems)
    from reconciler.planning.datasets import with_dataset_versions

    target, lockfile = workspace.target, workspace.lockfile
    session = _session(environment, target, workspace.root, lockfile, command_input)
    store = session.lock_store()
    shown = session.shown_lockfile
    with _suggest_recovery(session):
        lock = read(store, target, shown)
    return Project(
        input=command_input,
        session=session,
        workspace=workspace,
        manifests=with_dataset_versions(
            command_input.selection.select(workspace.manifests, workspace.unselected), {}, lock
        ),
        complete=workspace.complete and command_input.selection.selects_all,
        store=store,
        lockfile=shown,
        lock=lock,
    )


async def prove_generation(
    project: Project, service: Provider, name: str, recorded: LockedGeneration
) -> LockedGeneration | None:
    """Return the record of a generation with the facts that its live model shows; raises as :func:`prove_record`."""
    event = await prove_record(project, service, name, recorded)
    return event.correct(recorded) if event else None


async def prove_serving(
    project: Project, service: Provider, lock: Lock, manifest: Manifest, key: str
) -> LockedGeneration | None:
    """Return the serving generation with which the checks of a manifest compare the one with that key, if there is one.

    Raises as :func:`prove_record`.
    """
    model = lock.models.get(manifest.name)
    serving = model.serving_generation if model else None
    if serving is None or serving.key == key or not any(check.compares_with("serving") for check in manifest.checks):
        return serving
    return await prove_generation(project, service, manifest.name, serving)


async def prove_record(
    project: Project, service: Provider, name: str, recorded: LockedGeneration, serve: str | None = None
) -> Corrected | None:
    """Return the event that gives a record the facts that its live model shows; ``None`` if the model is gone.

    ``serve`` is the checkpoint that must be deployed, as in ``spec.serve``; by default it is the recorded one.

    Raises:
        ReconcileError: when no endpoint has the model, the checkpoint does not exist, or the live model does not prove
            the record; then it names the line of the lockfile.
    """
    from reconciler.domain.model import BEST, Handle
    from reconciler.domain.plan import Observation
    from reconciler.planning.generations import owners_of, resolve_recorded
    from reconciler.planning.live_proof import is_elsewhere
    from reconciler.planning.observed_events import correction_of
    from reconciler.planning.promotion_gates import describe_missing

    owner = owners_of(project.world()).owner(name)
    live = None if is_elsewhere(recorded, owner) else await service.observe(Handle(recorded.remote))
    observation = Observation({recorded.remote: live} if live else {})
    found = resolve_recorded(recorded, owner, observation)
    if found.mismatch:
        path = generation_path(project.lock, name, recorded.key, found.mismatch.field)
        remedy = found.mismatch.remedy or "restore the record from the history of the lockfile"
        raise InvalidFile(locate(project, path), show_path(path), found.mismatch.message, remedy)
    checkpoint = recorded.checkpoint if serve is None else found.resources.named(serve)
    if checkpoint and found.live and found.resources.checkpoint(checkpoint) is None:
        existing = (known.id for known in found.resources.checkpoints)
        raise ReconcileError(*describe_missing(recorded.key, checkpoint, existing, "spec.serve.checkpoint"))
    if not found.is_deployed(checkpoint) and not (serve == BEST and found.deployed_checkpoints):
        raise ReconcileError(
            f"{recorded.key} is not deployed: no endpoint has its model", "run reconcile apply, which deploys it again"
        )
    return correction_of(name, recorded, found.live, project.manifest(name)) if found.live else None


def unready_cause(proved: Corrected) -> str:
    """Return why a generation whose record is proved cannot serve; empty if its live model is ready."""
    state = proved.model.state
    return "" if state is State.ACTIVE else f"the service reports it as {state}"


def generation_path(lock: Lock, name: str, key: str, field: str) -> tuple[str | int, ...]:
    """Return the path of a field of a generation in the lockfile."""
    keys = [generation.key for generation in lock.models[name].generations]
    return ("models", name, "generations", keys.index(key), *field.split("."))


def locate(project: RecordedProject, path: tuple[str | int, ...]) -> Place:
    """Return the place of a value in the lockfile, or of the innermost value around it."""
    line, column = find_positions(project.store.read() or "{}", [path])[path]
    return Place(project.lockfile, line, column)


async def pin_datasets(project: Project, service: ConnectedProvider) -> Project:
    """Return the project with its data sets in Cloud Storage as they are now; without any, send no request."""
    from reconciler.planning.datasets import remote_paths, with_dataset_versions

    if not remote_paths(project.manifests):
        return project
    if not isinstance(service, Objects):
        raise TypeError("validation rejects data sets in Cloud Storage for services that cannot read them")
    from reconciler.engine.observe import fetch_dataset_versions

    datasets = await fetch_dataset_versions(service, project.manifests, project.target.limits.concurrency)
    return replace(project, manifests=with_dataset_versions(project.manifests, datasets, project.lock))


def details_of(project: RecordedProject, lock: Lock, observation: Observation) -> tuple[ModelDetails, ...]:
    """Return the details of each recorded model for a report."""
    from reconciler.reports.documents.status import model_details

    live = live_models(lock, project.target.scope, observation)
    return model_details(lock, live, project.capabilities)


def live_models(lock: Lock, scope: str, observation: Observation) -> dict[str, RemoteModel]:
    """Return the recorded models that the service lists, by remote name; another model may have the name today."""
    from reconciler.planning.generations import find_live_model
    from reconciler.planning.live_proof import Owner

    models = (
        find_live_model(generation, Owner(scope, name), observation)
        for name, model in lock.models.items()
        for generation in model.generations
    )
    return {model.remote: model for model in models if model}
