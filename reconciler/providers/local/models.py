"""Read the folders of a store as live models: only a completeness marker makes a model ready."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final

import msgspec
from msgspec import Struct

from reconciler.domain.document import Count, Record
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import format_time
from reconciler.domain.model import (
    Edit,
    Failure,
    HyperparameterValue,
    Number,
    RemoteModel,
    Snapshot,
    Source,
    State,
)
from reconciler.domain.text import join_names, sanitize
from reconciler.providers.local.base_models import HUB_PATTERN, Fault
from reconciler.providers.local.capabilities import PREFIX, shown_hyperparameters
from reconciler.providers.local.hosts import Host
from reconciler.providers.local.store import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    LAUNCHES_FOLDER,
    Folder,
    Launch,
)
from reconciler.trainer import run_files
from reconciler.trainer.run_files import BaseModel, Hyperparameters, Marker, RunConfig, RunError, RunStatus, effective

MOST_LAUNCHES: Final = 3
"""How often a trainer is started that always ends at the same step without a result."""
CANCELING: Final = "CANCELING"
PREPARING: Final = "PREPARING"
QUEUED: Final = "WAITING_FOR_CAPACITY"
INTERRUPTED: Final = "INTERRUPTED"
ELSEWHERE: Final = "ON_ANOTHER_HOST"
WAITING: Final = frozenset({QUEUED, INTERRUPTED})
"""The phases of a training that starts when there is a free slot."""
_INTERNAL: Final = 13
"""The google.rpc code of a failure."""
_LOG_BYTES: Final = 4096
_SHOWN_FILES: Final = 3


class LocalRecord(Record, frozen=True):
    """What the lockfile records of a model that was trained on a machine."""

    adapter: str
    """The folder of the adapter, relative to the store."""
    digest: str = ""
    """The digest of the files of the adapter."""
    base_model: str = ""
    """The base model as the libraries load it: the name on the hub, or a path."""
    revision: str = ""
    """The commit of the base model on the hub."""
    rank: Count = 0
    """The rank of the adapter; 0 if the training changed all weights."""


class AnsweringModel(Struct, frozen=True):
    """A model that answers: the folder of its adapter, its name, the base model with absolute paths, and the rank.

    The rank is 0 if the training changed all weights: then the folder has the whole model. The base model itself has no
    folder.
    """

    path: Path | None
    name: str
    base: BaseModel
    rank: int = 0


class Digests:
    """Which files of folders were changed; they are read again only if one of them was written."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[object, Sequence[str]]] = {}

    def changed(self, folder: Path, marker: Marker) -> Sequence[str]:
        """Return the files of a folder that are not those of its marker."""
        try:
            state = [(path, *_signature(path)) for path in sorted(folder.rglob("*"))]
            known = self._known.get(folder)
            if known is None or known[0] != state:
                known = self._known[folder] = (state, run_files.changed_files(folder, marker))
        except OSError as error:
            return [Path(str(error.filename)).name]
        return known[1]


def edit_of(folder: Folder, changed: Sequence[str]) -> Edit:
    """Return what is wrong with a model whose files were changed, and what to do."""
    aside = folder.path.with_name(f".{folder.name}.edited")
    return Edit(
        f"{join_names(changed, _SHOWN_FILES)} of {folder.name} changed after the training",
        f"restore it, or run `mv {quote(str(folder.path))} {quote(str(aside))}`, and the next apply trains it again",
    )


def _signature(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Facts(Struct, frozen=True):
    """What the state of a training follows from: its files, and the locks of this host.

    ``here`` is whether this host trains it. ``config`` is ``None`` if it is invalid.
    """

    complete: bool
    canceled: bool
    running: bool
    here: bool
    status: RunStatus | None
    launches: tuple[Launch, ...]
    config: RunConfig | None

    @property
    def state(self) -> tuple[State, str]:
        """The state, and the more specific phase."""
        reported = self.status.state if self.status else "preparing"
        if self.complete:
            return State.ACTIVE, ""
        if self.running:
            return State.CREATING, CANCELING if self.canceled else PREPARING if reported == "preparing" else ""
        if self.canceled or reported == "canceled":
            return State.CANCELLED, "CANCELLED"
        if reported == "failed" or self.config is None or (self.here and self.is_exhausted):
            return State.FAILED, ""
        if not self.here:
            return State.CREATING, ELSEWHERE
        return State.CREATING, INTERRUPTED if self.launches else QUEUED

    @property
    def is_exhausted(self) -> bool:
        """Whether the last trainers all ended at the same step, without a result and without a reason."""
        reached = self.status.step if self.status else 0
        last = self.launches[-MOST_LAUNCHES:]
        return len(last) == MOST_LAUNCHES and all(launch.step == reached for launch in last)


class Reader:
    """Reads folders as live models.

    Args:
        host: The host that reads.
        is_running: Returns whether a trainer of this host runs in a folder.
        root: The folder of the target file, which paths of base models are relative to.
    """

    def __init__(self, host: Host, is_running: Callable[[Path], bool], root: Path) -> None:
        self._host = host
        self._is_running = is_running
        self._root = Path(os.path.realpath(root))
        self._digests = Digests()

    def model(self, folder: Folder, *, progress: bool) -> RemoteModel:
        """Return the live model of a folder; ``progress`` includes its loss curve."""
        training = folder.training
        if training is None:
            return self._copied(folder)
        facts = self.facts(folder)
        state, phase = facts.state
        status, config, fields = facts.status, facts.config, folder.fields
        adapter = folder.adapter if facts.complete else None
        edit = self._edit(folder, adapter) if adapter else None
        total = status.total_steps if status else 0
        if config and not total:
            total = total_steps(config, training.examples)
        return RemoteModel(
            remote=PREFIX + folder.name,
            state=state,
            source=training.source,
            chosen_id=folder.name,
            mark=fields.mark.mark() if fields.mark and not edit else None,
            display_name=fields.display_name,
            description=fields.description,
            sampling=fields.sampling,
            hyperparameters=hyperparameters(config, status, training.examples) if config else {},
            create_time=_edit_time(adapter) if adapter and edit else training.create_time,
            start_time=facts.launches[0].time if facts.launches else "",
            complete_time=status.updated if status and state is not State.CREATING else "",
            snapshots=snapshots(folder) if progress else (),
            completed_steps=total if state is State.ACTIVE else status.step if status else None,
            total_steps=total or None,
            failure=_failure(folder, facts) if state is State.FAILED else None,
            phase=phase,
            provider_data=self._record(folder, adapter) if adapter and state is State.ACTIVE else None,
            edit=edit,
        )

    def facts(self, folder: Folder) -> Facts:
        """Return what the state of a training follows from."""
        running = self._is_running(folder.path)  # first, because a trainer that has ended has written its files
        host, config = folder.host, _config(folder)
        return Facts(
            complete=folder.adapter is not None,
            canceled=run_files.is_canceled(folder.path),
            running=running,
            here=host is None or host.is_same(self._host),
            status=run_files.read_status(folder.path),
            launches=tuple(folder.launches()),
            config=config if isinstance(config, RunConfig) else None,
        )

    def adapter(self, folder: Folder) -> AnsweringModel | None:
        """Return the complete adapter of a folder."""
        path = folder.adapter
        if path is None:
            return None
        config = _adapter_config(path)
        run = _config(folder) if folder.training else None
        base = run.base if isinstance(run, RunConfig) else config.base
        return AnsweringModel(path, folder.name, _located(base, folder.path), config.r)

    def _record(self, folder: Folder, path: Path) -> LocalRecord:
        adapter = self.adapter(folder)
        if adapter is None:
            raise AssertionError("only complete adapters are recorded")
        marker = run_files.read_marker(path) if folder.training else None
        base = adapter.base
        return LocalRecord(
            adapter=f"{folder.name}/{path.relative_to(folder.path).as_posix()}".removesuffix("/."),
            digest=marker.digest if marker else folder.fields.digest or self.copied_digest(folder),
            base_model=base.hub or self._named(Path(base.folder or base.gguf)),
            revision=base.revision,
            rank=adapter.rank,
        )

    def _named(self, path: Path) -> str:
        """Return the name that manifests have for a path: relative to the root if it is below it."""
        return f"./{path.relative_to(self._root).as_posix()}" if path.is_relative_to(self._root) else str(path)

    def _edit(self, folder: Folder, path: Path) -> Edit | None:
        """Return which files of an adapter are not those of its completeness marker."""
        marker = run_files.read_marker(path)
        changed = self._digests.changed(path, marker) if marker else [run_files.MARKER_FILE]
        return edit_of(folder, changed) if changed else None

    def _copied(self, folder: Folder) -> RemoteModel:
        """Return an adapter that a user has copied into the store."""
        fields, config = folder.fields, _adapter_config(folder.path)
        edited = bool(fields.digest) and fields.digest != self.copied_digest(folder)
        edit = edit_of(folder, [ADAPTER_WEIGHTS]) if edited else None
        return RemoteModel(
            remote=PREFIX + folder.name,
            state=State.ACTIVE,
            source=self._source_of(_located(config.base, folder.path)),
            chosen_id=folder.name,
            mark=fields.mark.mark() if fields.mark and not edited else None,
            display_name=fields.display_name,
            description=fields.description,
            sampling=fields.sampling,
            hyperparameters={"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout},
            create_time=_edit_time(folder.path),
            provider_data=self._record(folder, folder.path),
            edit=edit,
        )

    def copied_digest(self, folder: Folder) -> str:
        """Return the digest of the weights of an adapter that a user has copied; the other files do not count."""
        with suppress(OSError):
            return run_files.digest_file(folder.path / ADAPTER_WEIGHTS)
        return ""

    def _source_of(self, base: BaseModel) -> Source | None:
        if base.revision:
            return Source(f"{base.hub}@{base.revision}")
        path = Path(base.folder or base.gguf)
        return Source(self._named(path)) if path.exists() else None


class AdapterConfig(Struct, frozen=True):
    """What is read of PEFT's adapter_config.json."""

    base_model_name_or_path: str = ""
    revision: str | None = None
    r: int = 0
    lora_alpha: Number = 0
    lora_dropout: Number = 0

    @property
    def base(self) -> BaseModel:
        """The base model; that of the hub has no revision if it is not pinned to a commit."""
        name = self.base_model_name_or_path
        if re.fullmatch(HUB_PATTERN, f"{name}@{self.revision}"):
            return BaseModel(hub=name, revision=self.revision or "")
        return BaseModel(gguf=name) if name.endswith(".gguf") else BaseModel(folder=name)


def _located(base: BaseModel, folder: Path) -> BaseModel:
    """Return a base model with an absolute path."""
    path = base.folder or base.gguf
    if not path:
        return base
    absolute = os.path.normpath(folder / path)
    return BaseModel(folder=absolute) if base.folder else BaseModel(gguf=absolute)


def adapter_fault(folder: Folder) -> Fault | None:
    """Return why the base model of an adapter that a user has copied is unknown."""
    base = _located(_adapter_config(folder.path).base, folder.path)
    if base.revision or Path(base.folder or base.gguf).exists():
        return None
    name = _adapter_config(folder.path).base_model_name_or_path
    return Fault(
        f"{folder.name}: {ADAPTER_CONFIG} does not name a commit of its base model {sanitize(name) or '(none)'}",
        "set its member revision to the 40 digits of the commit that it was trained from, or base_model_name_or_path to"
        " the absolute path of the base model",
    )


def _adapter_config(path: Path) -> AdapterConfig:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((path / ADAPTER_CONFIG).read_bytes(), type=AdapterConfig)
    return AdapterConfig()


def _config(folder: Folder) -> RunConfig | ReconcileError:
    try:
        return run_files.read_run(folder.path)
    except ReconcileError as error:
        return error


def hyperparameters(config: RunConfig, status: RunStatus | None, examples: int) -> dict[str, HyperparameterValue]:
    """Return the effective hyperparameters: what the trainer reports, or what it will choose."""
    reported = status.hyperparameters if status else Hyperparameters()
    given = config.hyperparameters if reported == Hyperparameters() else reported
    return shown_hyperparameters(effective(given, config.method, config.tuning, examples), config.tuning)


def total_steps(config: RunConfig, examples: int) -> int:
    """Return the steps of a training: each epoch ends with a step, which may have fewer examples."""
    chosen = effective(config.hyperparameters, config.method, config.tuning, examples)
    step = (chosen.batch_size or 1) * (chosen.gradient_accumulation or 1)
    return math.ceil(examples / step) * (chosen.epoch_count or 1)


def snapshots(folder: Folder) -> tuple[Snapshot, ...]:
    """Return the loss curve of a training."""
    return tuple(
        Snapshot(point.step, math.ceil(point.epoch), point.loss)
        for point in run_files.read_metrics(folder.path)
        if point.loss is not None
    )


def _failure(folder: Folder, facts: Facts) -> Failure:
    config, status = _config(folder), facts.status
    if isinstance(config, ReconcileError):
        return Failure(_INTERNAL, str(config))
    if status and status.state == "failed":
        return _reported(status.error)
    reached = f"after step {status.step}" if status else "before its first step"
    log = folder.path / LAUNCHES_FOLDER / f"{len(facts.launches)}.log"
    last = _last_line(log)
    shown = f": {last}" if last else ""
    return Failure(_INTERNAL, f"the trainer ended {MOST_LAUNCHES} times {reached} without a result{shown}; read {log}")


def _reported(error: RunError | None) -> Failure:
    if error is None:
        return Failure(_INTERNAL, "the trainer reported no reason")
    step = f" (after step {error.step})" if error.step else ""
    remedy = f"; {error.remedy}" if error.remedy else ""
    return Failure(_INTERNAL, f"{error.message}{step}{remedy}")


def _last_line(log: Path) -> str:
    with suppress(OSError), log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _LOG_BYTES))
        lines = stream.read().decode(errors="replace").split("\n")
        return next((sanitize(line) for line in reversed(lines) if line.strip()), "")
    return ""


def _edit_time(path: Path) -> str:
    """Return when the weights of an adapter were last changed."""
    times = [found.stat().st_mtime for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG) if (found := path / name).is_file()]
    return format_time(datetime.fromtimestamp(max(times, default=0), UTC))
