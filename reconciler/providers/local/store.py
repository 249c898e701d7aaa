"""The store: a folder for each tuned model, which states what exists. Whether a process runs is shown by its lock.

Each model has a folder with the key as its name. Beside the files of the trainer (see
:mod:`reconciler.trainer.run_files`) it has:

- ``training.json``: what was requested, and when; nothing changes it;
- ``model.json``: the fields that can be changed, and the ownership mark;
- ``host.json``: the host that trains it;
- ``launches/N.json`` and ``N.log``: each start of a trainer, and what it printed.

A folder with only an adapter in it, which a user has copied there, is an unmanaged model. Names that begin with a dot
are folders that are being written or deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from reconciler.domain.document import Count, Record, json_text
from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Mark, Sampling, Source
from reconciler.domain.text import sanitize
from reconciler.files import create_file, write_errors, write_file
from reconciler.paths import git_repository_of
from reconciler.providers.local.base_models import Places, is_allowed
from reconciler.providers.local.capabilities import store_of
from reconciler.providers.local.hosts import Host, lock_folder, require_locks
from reconciler.providers.spec import ProviderContext
from reconciler.trainer import run_files

TRAINING_FILE: Final = "training.json"
MODEL_FILE: Final = "model.json"
HOST_FILE: Final = "host.json"
LAUNCHES_FOLDER: Final = "launches"
PARENT_FOLDER: Final = "parent"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IGNORE: Final = b"*\n"
_RecordT = TypeVar("_RecordT", bound=Record)


class RecordedMark(Record, frozen=True):
    """The ownership mark of a model."""

    scope: str
    name: str
    spec: str
    data: str
    attempt: Count = 0

    def mark(self) -> Mark:
        """Return the mark."""
        return Mark(self.scope, self.name, self.spec, self.data, self.attempt)


class Training(Record, frozen=True, kw_only=True):
    """What was requested."""

    source: Source
    examples: Count
    create_time: str


class ModelFields(Record, frozen=True, kw_only=True):
    """The fields of a model that can be changed, and its mark."""

    display_name: str = ""
    description: str = ""
    sampling: Sampling = Sampling()
    mark: RecordedMark | None = None
    digest: str = ""
    """The digest of the weights when the mark was written, for an adapter that was not trained here."""


class Launch(Record, frozen=True, kw_only=True):
    """A start of a trainer."""

    time: str
    step: Count = 0
    """The last step that was saved before."""


class Folder(Struct, frozen=True):
    """The folder of a model in a store."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the folder: the key of a generation, or the name of an adapter that a user has copied."""
        return self.path.name

    @property
    def training(self) -> Training | None:
        """What was requested; ``None`` for an adapter that was not trained here."""
        return _read(self.path / TRAINING_FILE, Training)

    @property
    def fields(self) -> ModelFields:
        """The fields that can be changed."""
        return _read(self.path / MODEL_FILE, ModelFields) or ModelFields()

    @property
    def host(self) -> Host | None:
        """The host that trains the model; ``None`` if a user has moved the file away."""
        return _read(self.path / HOST_FILE, Host)

    @property
    def adapter(self) -> Path | None:
        """The folder of the complete adapter, or ``None``."""
        if self.training is None:
            return self.path if (self.path / ADAPTER_CONFIG).is_file() else None
        return run_files.complete_adapter(self.path)

    def write_fields(self, fields: ModelFields) -> None:
        """Replace the fields that can be changed; raises OSError."""
        _write(self.path / MODEL_FILE, fields)

    def claim(self, host: Host) -> Host:
        """Return the host that trains the model: the given one, if there is none yet; raises OSError."""
        with suppress(FileExistsError):
            create_file(self.path / HOST_FILE, _encode(host))
        return self.host or host

    def launches(self) -> list[Launch]:
        """Return the starts of trainers, in their order."""
        folder = self.path / LAUNCHES_FOLDER
        try:
            numbers = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())
        except OSError:
            return []
        found = (_read(folder / f"{number}.json", Launch) for number in numbers)
        return [launch for launch in found if launch]

    def add_launch(self, launch: Launch) -> Path:
        """Record a start, and return the path of its log; raises OSError."""
        folder = self.path / LAUNCHES_FOLDER
        folder.mkdir(exist_ok=True)
        number = len(list(folder.glob("*.json"))) + 1
        while True:
            try:
                create_file(folder / f"{number}.json", _encode(launch))
            except FileExistsError:
                number += 1
            else:
                return folder / f"{number}.log"


class Store(Struct, frozen=True):
    """All models of a target on this machine."""

    path: Path
    shown: str

    def prepare(self) -> None:
        """Create the folder, which git ignores.

        Raises:
            ReconcileError: it cannot be written, or has no kernel locks.
        """
        with write_errors(self.shown):
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                create_file(self.path / ".gitignore", _IGNORE)
        require_locks(self.path, self.shown)

    def folders(self) -> list[Folder]:
        """Return the folders of all models, sorted by name.

        Raises:
            ReconcileError: the store cannot be read.
        """
        try:
            paths = sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReconcileError(f"cannot read {self.shown}: {error.strerror}", "check its permissions") from error
        return [folder for folder in map(Folder, paths) if _is_model(folder)]

    def find(self, name: str) -> Folder | None:
        """Return the folder of a model; ``None`` if there is none of this name."""
        folder = Folder(self.path / name)
        return folder if _NAME.fullmatch(name) and _is_model(folder) else None

    def queued(self) -> Iterator[Folder]:
        """Yield the trainings in the order in which they were requested."""
        found = [
            (training.create_time, folder.name, folder) for folder in self.folders() if (training := folder.training)
        ]
        return (folder for _, _, folder in sorted(found, key=lambda ordered: ordered[:2]))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Create a folder for a model of this name, which is written aside; it is removed unless it was published.

        Raises OSError.
        """
        self.remove_leftovers()
        path, descriptor = self._create_locked(name)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _create_locked(self, name: str) -> tuple[Path, int]:
        while True:
            path = self.path / f".{name}.{os.urandom(4).hex()}.new"
            path.mkdir()
            descriptor = lock_folder(path)
            if descriptor is not None and path.exists():
                return path, descriptor
            if descriptor is not None:  # another run has removed the folder, before it was locked
                os.close(descriptor)

    def publish(self, written: Path, name: str) -> bool:
        """Give a folder that was written aside its name, and return whether this was the first; raises OSError."""
        try:
            written.rename(self.path / name)
        except OSError:
            if self.find(name) is None:
                raise
            return False
        return True

    def remove(self, folder: Folder) -> None:
        """Delete a model: its name is free at once, also if the deletion is interrupted. Raises OSError."""
        aside = self.path / f".{folder.name}.{os.urandom(4).hex()}.deleted"
        with suppress(FileNotFoundError):
            folder.path.rename(aside)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove what runs that were killed have left; the folder that a run is writing is locked."""
        for path in self.path.glob(".*.deleted"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(".*.new"):
            descriptor = lock_folder(path)
            if descriptor is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)


def _is_model(folder: Folder) -> bool:
    return (folder.path / TRAINING_FILE).is_file() or (folder.path / ADAPTER_CONFIG).is_file()


def _encode(record: Record) -> bytes:
    return (json_text(record) + "\n").encode()


def _write(path: Path, record: Record) -> None:
    write_file(path, _encode(record))


def _read(path: Path, kind: type[_RecordT]) -> _RecordT | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def open_store(context: ProviderContext) -> Store:
    """Return the store of a target.

    Raises:
        ReconcileError: it is outside of the repository, and not in a folder that the user has allowed.
    """
    path = store_of(context.target, context.root)
    if not is_allowed(path, Places(context.root, context.allow_folders)):
        raise ReconcileError(
            f"spec.local.store: {path} is outside the repository",
            f"pass --allow-folder {path} if you trust this folder with your models",
        )
    store = Store(path, Path(os.path.relpath(path, context.env.cwd)).as_posix())
    _require_untracked(store, context)
    return store


def _require_untracked(store: Store, context: ProviderContext) -> None:
    """Refuse a store that has files in git: a pull request could add models, which would count as trained.

    Raises:
        ReconcileError: naming a file.
    """
    repository = git_repository_of(store.path)
    if repository is None or not store.path.exists():
        return
    options = ("-c", f"safe.directory={repository}", "-c", "core.fsmonitor=false", "--literal-pathspecs")
    try:
        listed = subprocess.run(  # noqa: S603 - no shell; the path is after --
            ["git", "-C", str(repository), *options, "ls-files", "-z", "--", str(store.path)],  # noqa: S607 - on PATH
            env={name: context.env.environ[name] for name in _GIT_VARIABLES if name in context.env.environ},
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ReconcileError(
            f"git cannot show whether files of {store.shown} are in the repository",
            "install git, or set spec.local.store to a folder outside of the repository",
        ) from error
    if listed:
        file = listed.split(b"\0")[0].decode(errors="replace")
        raise ReconcileError(
            f"{store.shown} has files that are in git, such as {sanitize(file)}: a commit could add models",
            f"run `git rm -r --cached {quote(store.shown)}`, and commit that",
        )


_GIT_VARIABLES: Final = ("PATH", "HOME", "SYSTEMROOT")
