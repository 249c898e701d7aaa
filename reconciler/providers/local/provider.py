"""The provider for models that are tuned on this machine: the store states what exists, a lock what runs."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from msgspec import Struct, ValidationError
from msgspec.structs import asdict, replace

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import (
    Capabilities,
    Conversation,
    CreateRequest,
    Handle,
    HyperparameterValue,
    RemoteModel,
    Resources,
    Sampling,
    Source,
    State,
    TrainingExample,
    Update,
)
from reconciler.domain.plan import BaseModelChange, TrainingCheck
from reconciler.domain.ports import Clock, Created, Exists, PlannedTraining, Prompt, Reply, Sleeper
from reconciler.domain.text import join_names
from reconciler.files import write_errors, write_file
from reconciler.paths import repository_of
from reconciler.providers.local.base_models import Fault, Places, is_allowed, read_base_model
from reconciler.providers.local.capabilities import (
    BASE_PREFIX,
    CAPABILITIES,
    MERGED_PREFIX,
    PREFIX,
    read_hyperparameters,
)
from reconciler.providers.local.checks import CheckProgram, PlannedRun, check_runs, refused, unchecked
from reconciler.providers.local.export import Merger, base_note, copy_model, merge_model
from reconciler.providers.local.hosts import Host, Slots, try_lock
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.models import CANCELING, ELSEWHERE, WAITING, AnsweringModel, Reader, adapter_fault
from reconciler.providers.local.processes import LAUNCH_LOCK, Launcher
from reconciler.providers.local.store import (
    HOST_FILE,
    MODEL_FILE,
    PARENT_FOLDER,
    TRAINING_FILE,
    Folder,
    Launch,
    ModelFields,
    RecordedMark,
    Store,
    Training,
)
from reconciler.trainer import run_files
from reconciler.trainer.run_files import (
    BaseModel,
    Hyperparameters,
    RunConfig,
    Tuning,
)

CANCEL_POLLS: Final = 20
CANCEL_SECONDS: Final = 0.5
"""How long a canceled training is waited for: a step on a CPU can take longer, and ends it all the same."""
_LOG: Final = logging.getLogger(__name__)


class Answerer(Protocol):
    """Answers prompts with adapters."""

    async def answer(self, adapter: AnsweringModel, prompt: Prompt) -> Reply:
        """Return the reply to a prompt whose sampling is complete."""
        ...

    async def aclose(self) -> None:
        """End what was started."""
        ...


class Machine(Struct, frozen=True, kw_only=True):
    """What the provider works with on a machine; tests replace the processes by functions of their clock.

    ``answerer`` answers prompts, ``worker`` those for files outside of the store.
    """

    store: Store
    places: Places
    host: Host
    launcher: Launcher
    checker: CheckProgram
    answerer: Answerer
    worker: Answerer
    merger: Merger
    hub: Hub
    clock: Clock
    sleeper: Sleeper
    slots: Slots
    threads: int = 1


class Local:
    """Implements :class:`reconciler.domain.ports.Provider`; the id of a model is the key of its generation."""

    capabilities: Capabilities = CAPABILITIES

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._store = machine.store
        self._reader = Reader(machine.host, machine.launcher.is_running, machine.places.root)
        self._reported: set[str] = set()
        self._merged: dict[str, tuple[AnsweringModel, Sampling]] = {}
        self.requests = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the worker that answers prompts; trainings continue."""
        await self._machine.answerer.aclose()
        await self._machine.worker.aclose()

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Return the models of the store, sorted by name."""
        self.requests += 1
        return tuple(self._reader.model(folder, progress=progress) for folder in self._store.folders())

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """Return a model with its loss curve."""
        folder = self._find(handle.remote)
        fault = adapter_fault(folder) if folder and folder.training is None else None
        if fault:
            raise ServiceError(fault.message, fault.remedy, code="FAILED_PRECONDITION")
        return self._reader.model(folder, progress=True) if folder else None

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        """Write the folder of a training aside and rename it; the training starts, or waits for a slot."""
        remote = PREFIX + generation.key
        folder = self._find(remote)
        if folder is None:
            if missing := self._machine.launcher.find_fault():
                raise _refusal(missing)
            base, parent = self._origin(generation.source)
            self._store.prepare()
            folder = Folder(self._store.path / generation.key)
            with write_errors(self._store.shown):
                created = self._write(folder, generation, (base, parent), examples, validation)
        else:
            created = self._restart(folder)
        if not created:
            return Exists(remote, self._reader.model(folder, progress=True))
        await self.start_queued()
        return Created(Handle(remote), self._reader.model(folder, progress=False).total_steps)

    def _write(
        self,
        folder: Folder,
        generation: CreateRequest,
        origin: tuple[BaseModel, Path | None],
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample],
    ) -> bool:
        """Write the folder of a training; return false if another run was first. Raises OSError."""
        base, parent = origin
        machine, source = self._machine, generation.source
        config = self._config(generation, self._relative(base, folder.path), PARENT_FOLDER if parent else "")
        with self._store.writing(generation.key) as path:
            count = _write_run(path, config, PlannedTraining(generation, examples, validation))
            if parent:
                shutil.copytree(parent, path / PARENT_FOLDER)
            written = Folder(path)
            written.claim(machine.host)
            written.write_fields(
                ModelFields(
                    display_name=generation.display_name,
                    description=generation.description,
                    sampling=generation.sampling,
                    mark=RecordedMark(**asdict(generation.mark)),
                )
            )
            created = machine.clock().isoformat().replace("+00:00", "Z")
            identity = Source(source.base_model, remote="" if source.base_model else source.remote)
            training = Training(source=identity, examples=count, create_time=created)
            run_files.write_record(path / TRAINING_FILE, training)
            return self._store.publish(path, generation.key)

    def _config(self, generation: CreateRequest, base: BaseModel, continue_from: str) -> RunConfig:
        """Return what to train; raises ServiceError for an invalid hyperparameter."""
        hyperparameters, tuning = _hyperparameters(generation.hyperparameters)
        return RunConfig(
            base=base,
            method=generation.dataset.method,
            tuning=tuning,
            hyperparameters=hyperparameters,
            continue_from=continue_from,
            threads=self._machine.threads,
            name=generation.mark.name,
        )

    async def check_trainings(self, trainings: Sequence[PlannedTraining]) -> Mapping[str, TrainingCheck]:
        """Return what the trainer finds out about planned trainings, with the libraries of this machine."""
        missing = self._machine.launcher.find_fault()
        if missing:
            return {planned.generation.key: unchecked(missing, cannot_start=True) for planned in trainings}
        found, runs = dict[str, TrainingCheck](), list[PlannedRun]()
        for planned in trainings:
            try:
                runs.append(self._planned_run(planned))
            except ServiceError as error:
                found[planned.generation.key] = refused(error)
        found |= await check_runs(self._store, self._machine.checker, runs)
        return {key: self._in_repository(check) for key, check in found.items()}

    def _in_repository(self, check: TrainingCheck) -> TrainingCheck:
        """Return a check that names weights of the repository as the manifest does, the same in each checkout."""
        weights, root = check.needs.weights, self._machine.places.root
        if weights is None or not weights.present or not Path(weights.source).is_relative_to(repository_of(root)):
            return check
        shown = replace(weights, source=f"./{Path(os.path.relpath(weights.source, root)).as_posix()}")
        return replace(check, needs=replace(check.needs, weights=shown))

    def _planned_run(self, planned: PlannedTraining) -> PlannedRun:
        generation = planned.generation
        base, parent = self._origin(generation.source)
        config = self._config(generation, base, str(parent or ""))
        data = [found.digest for found in (generation.dataset, generation.validation) if found]
        return PlannedRun(generation.key, config, tuple(data), lambda path: _write_run(path, config, planned))

    def _restart(self, folder: Folder) -> bool:
        """Put a canceled training into the queue again, and return whether this run did that."""
        if self._state(folder)[0] is not State.CANCELLED:
            return False
        try:
            (folder.path / run_files.CANCEL_FILE).unlink()
        except FileNotFoundError:
            return False
        return True

    def _relative(self, base: BaseModel, folder: Path) -> BaseModel:
        """Return a base model whose path, if it is in the repository, moves together with the store."""
        path = base.folder or base.gguf
        if not path or not Path(path).is_relative_to(repository_of(self._machine.places.root)):
            return base
        relative = os.path.relpath(path, folder)
        return replace(base, folder=relative) if base.folder else replace(base, gguf=relative)

    def _origin(self, source: Source) -> tuple[BaseModel, Path | None]:
        """Return the base model of a training, and the adapter that it continues.

        Raises:
            ServiceError: one of them does not exist, or is not allowed.
        """
        if source.base_model:
            found = self._base_model(source.base_model)
            if fault := self._machine.launcher.find_fault(found):
                raise _refusal(fault)
            return found, None
        parent = self._find(source.remote)
        adapter = self._reader.adapter(parent) if parent else None
        if adapter is None:
            raise ServiceError(
                f"{source.remote} not found, or not ready: a model is tuned further from a complete adapter",
                "run `reconcile status` to see the models, and set spec.source to one that is ready",
                code="NOT_FOUND",
            )
        return adapter.base, adapter.path

    def _base_model(self, name: str) -> BaseModel:
        """Return a base model; raises ServiceError if it does not exist or is not allowed."""
        found = read_base_model(name, self._machine.places)
        if isinstance(found, Fault):
            raise _refusal(found)
        return found

    async def start_queued(self) -> None:
        """Start the trainings of this host that wait, also those that were interrupted, while there is a free slot."""
        self._store.remove_leftovers()
        for folder in self._store.queued():
            try:
                if not self._is_startable(folder):
                    continue
                slot = self._machine.slots.take(folder.path)
                if slot is None:
                    self._report_other_stores(folder)
                    return
                try:
                    self._launch(folder, slot)
                finally:
                    os.close(slot)
            except (OSError, ReconcileError, subprocess.SubprocessError) as error:
                self._warn_once(folder, f"could not be started: {error}")

    def _launch(self, folder: Folder, slot: int) -> None:
        """Start a trainer unless another run does it, or has done it meanwhile; raises OSError."""
        launch_lock = try_lock(folder.path / LAUNCH_LOCK)
        if launch_lock is None:
            return
        try:
            facts = replace(self._reader.facts(folder), running=False)  # the lock is that of this run
            if facts.state[1] not in WAITING:
                return
            time = self._machine.clock().isoformat().replace("+00:00", "Z")
            log = folder.add_launch(Launch(time=time, step=facts.status.step if facts.status else 0))
            self._machine.launcher.launch(folder.path, log, (launch_lock, slot))
        finally:
            os.close(launch_lock)

    def _is_startable(self, folder: Folder) -> bool:
        """Return whether a training waits for this host; raises OSError."""
        facts = self._reader.facts(folder)
        if facts.state[1] == ELSEWHERE:
            self._report_other_host(folder)
        if facts.state[1] not in WAITING or facts.config is None:
            return False
        launcher = self._machine.launcher
        fault = launcher.find_fault() or launcher.find_fault(facts.config.base)
        if fault:
            self._warn_once(folder, f"waits: {fault}")
            return False
        return folder.claim(self._machine.host).is_same(self._machine.host)

    def _warn_once(self, folder: Folder, text: str) -> None:
        if folder.name not in self._reported:
            self._reported.add(folder.name)
            _LOG.warning("%s %s", folder.name, text)

    def _report_other_stores(self, folder: Folder) -> None:
        others = [path for path in self._machine.slots.holders() if path.parent != self._store.path]
        if others:
            shown = join_names([str(path) for path in others], 3)
            self._warn_once(folder, f"waits for a slot of this machine: trainings of other stores run, {shown}")

    def _report_other_host(self, folder: Folder) -> None:
        host, file = folder.host, shlex.quote(str(folder.path / HOST_FILE))
        name = host.name if host else "unknown"
        self._warn_once(
            folder,
            f"is trained on the host {name}, and only that host can show whether it still runs; if it does not, run"
            f" `mv {file} {file}.former`, and the next apply continues it here",
        )

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Write the fields of ``update``; they are files beside the adapter."""
        folder = self._existing(remote)
        fields = folder.fields
        changed = ModelFields(
            display_name=fields.display_name if update.display_name is None else update.display_name,
            description=fields.description if update.description is None else update.description,
            sampling=_merged(update.sampling, fields.sampling),
            mark=RecordedMark(**asdict(update.mark)) if update.mark else None,
            digest="" if folder.training else self._reader.copied_digest(folder),
        )
        with write_errors(folder.path / MODEL_FILE):
            folder.write_fields(changed)
        return self._reader.model(folder, progress=True)

    async def cancel(self, handle: Handle) -> None:
        """Cancel a training wherever it runs, and interrupt its process if it is on this host."""
        folder = self._find(handle.remote)
        if folder is None or self._state(folder)[0] is not State.CREATING:
            return
        with write_errors(folder.path):
            run_files.request_cancel(folder.path)
        self._machine.launcher.interrupt(folder.path)
        for _ in range(CANCEL_POLLS):
            if self._state(folder)[0] is not State.CREATING:
                return
            await self._machine.sleeper(CANCEL_SECONDS)

    async def delete(self, handle: Handle, resources: Resources) -> None:  # noqa: ARG002 - the folder has everything
        """Delete the folder of a model."""
        folder = self._find(handle.remote)
        if folder is None:
            return
        await self.cancel(handle)
        if self._state(folder)[1] == CANCELING:
            raise ServiceError(
                f"{handle.remote} is still training", "run the command again when it has stopped", code="UNAVAILABLE"
            )
        with write_errors(self._store.shown):
            self._store.remove(folder)

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Return the answers of an adapter, with the sampling that is stored with it, or those of a base model."""
        if remote.startswith(BASE_PREFIX):
            base = self._base_model(remote.removeprefix(BASE_PREFIX))
            return _without_cuts(
                prompt, await self._machine.answerer.answer(AnsweringModel(None, remote, base), prompt)
            )
        if remote in self._merged:
            model, sampling = self._merged[remote]
            return await self._machine.worker.answer(model, _complete(prompt, sampling))
        folder, adapter = self._ready(remote)
        reply = await self._machine.answerer.answer(adapter, _complete(prompt, folder.fields.sampling))
        return _without_cuts(prompt, reply)

    def _ready(self, remote: str) -> tuple[Folder, AnsweringModel]:
        folder = self._existing(remote)
        adapter = self._reader.adapter(folder)
        if adapter is None:
            raise ServiceError(f"{remote} is not ready", "run `reconcile wait`", code="FAILED_PRECONDITION")
        self._require_allowed(adapter)
        return folder, adapter

    async def export(self, remote: str, folder: Path) -> str:
        """Copy the files of a model into an empty folder, and return a note if they need another file of this machine.

        A model whose files were changed is refused.
        """
        found, adapter = self._ready(remote)
        if adapter.path:
            copy_model(found, adapter.path, folder)
        return base_note(adapter)

    async def merge(self, remote: str, exported: Path, folder: Path) -> str:
        """Merge exported files into the base model, and return the remote name that answers with the result."""
        found, adapter = self._ready(remote)
        await merge_model(self._machine.merger, found, adapter, exported, folder)
        name = f"{MERGED_PREFIX}{found.name}"
        model = AnsweringModel(folder, found.name, BaseModel(folder=str(folder)))
        self._merged[name] = model, found.fields.sampling
        return name

    def _require_allowed(self, adapter: AnsweringModel) -> None:
        """Refuse a base model that a copied adapter or an edited run folder names, outside of the repository."""
        path = adapter.base.folder or adapter.base.gguf
        if path and not is_allowed(Path(os.path.realpath(path)), self._machine.places):
            raise ServiceError(
                f"the base model of {adapter.name}, {path}, is outside the repository",
                f"pass --allow-folder {path} if you trust this folder",
                code="FAILED_PRECONDITION",
            )

    def base_remote(self, base_model: str) -> str:
        """Return the name by which a base model answers prompts."""
        self._base_model(base_model)
        return BASE_PREFIX + base_model

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Refuse: who may read the folder decides."""
        raise ServiceError(
            f"{remote} has no permissions: it is a folder of this machine",
            "remove spec.access, and set the permissions of the folder",
            code="UNIMPLEMENTED",
        )

    async def set_access(
        self,
        remote: str,
        live: tuple[Permission, ...],  # noqa: ARG002 - there are no permissions
        changes: Iterable[AccessChange],  # noqa: ARG002 - the same
    ) -> None:
        """Refuse, as :meth:`access` does."""
        await self.access(remote)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        """Return an error for each base model that is missing or not allowed."""
        faults = {name: self._base_model_fault(name) for name in base_models}
        return {name: str(fault) for name, fault in faults.items() if fault}

    async def find_base_model_changes(self, base_models: frozenset[str]) -> Mapping[str, BaseModelChange]:
        """Return the base models of the hub whose main branch has other files now; other base models are not pinned."""
        found = {name: read_base_model(name, self._machine.places) for name in sorted(base_models)}
        pinned = {name: base for name, base in found.items() if isinstance(base, BaseModel)}
        return await self._machine.hub.find_changes(pinned)

    def _base_model_fault(self, name: str) -> Fault | None:
        found = read_base_model(name, self._machine.places)
        return found if isinstance(found, Fault) else self._machine.launcher.find_fault(found)

    def _state(self, folder: Folder) -> tuple[State, str]:
        return self._reader.facts(folder).state if folder.training else (State.ACTIVE, "")

    def _find(self, remote: str) -> Folder | None:
        self.requests += 1
        return self._store.find(remote.removeprefix(PREFIX)) if remote.startswith(PREFIX) else None

    def _existing(self, remote: str) -> Folder:
        folder = self._find(remote)
        if folder is None:
            raise ServiceError(
                f"{remote} not found in {self._store.shown}",
                "run `reconcile apply`: it no longer exists",
                code="NOT_FOUND",
            )
        return folder


def _refusal(fault: Fault) -> ServiceError:
    return ServiceError(fault.message, fault.remedy, code="INVALID_ARGUMENT")


def _hyperparameters(declared: Mapping[str, HyperparameterValue]) -> tuple[Hyperparameters, Tuning]:
    """Return declared hyperparameters as the trainer has them; raises ServiceError for an invalid value."""
    try:
        return read_hyperparameters(declared)
    except ValidationError as error:
        raise ServiceError(
            f"invalid hyperparameter: {error}", "correct the value in spec.hyperparameters", code="INVALID_ARGUMENT"
        ) from error


def _complete(prompt: Prompt, stored: Sampling) -> Prompt:
    return replace(prompt, sampling=_merged(prompt.sampling, stored))


def _without_cuts(prompt: Prompt, reply: Reply) -> Reply:
    """Return a reply whose answers ended where they were long enough: for the check they are wrong, and not cut."""
    if prompt.enough is None or prompt.max_tokens:
        return reply
    whole = (replace(answer, finish="") if answer.finish == "MAX_TOKENS" else answer for answer in reply.answers)
    return Reply(tuple(whole), reply.blocked)


def _merged(given: Sampling, stored: Sampling) -> Sampling:
    return Sampling(
        stored.temperature if given.temperature is None else given.temperature,
        stored.top_p if given.top_p is None else given.top_p,
        stored.top_k if given.top_k is None else given.top_k,
    )


def _write_run(path: Path, config: RunConfig, planned: PlannedTraining) -> int:
    """Write what a trainer reads into a folder, and return the number of examples; raises OSError."""
    count = _write_examples(path / run_files.EXAMPLES_FILE, planned.examples)
    if planned.generation.validation:
        _write_examples(path / run_files.VALIDATION_FILE, planned.validation)
    run_files.write_record(path / run_files.RUN_FILE, config)
    return count


def _write_examples(path: Path, examples: Iterable[TrainingExample]) -> int:
    """Write examples as canonical conversations, and return their number; raises OSError."""
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for example in examples:
            count += 1
            yield conversation_line(example)

    write_file(path, lines())
    return count


def conversation_line(example: TrainingExample) -> bytes:
    """Return an example as a line of the trainer's file: a conversation in canonical form."""
    if isinstance(example, Conversation):
        return f"{example.line}\n".encode()
    turns = (("user", example.input), ("model", example.output))
    contents = [{"parts": [{"text": normalize_newlines(text)}], "role": role} for role, text in turns]
    return json.dumps({"contents": contents}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
