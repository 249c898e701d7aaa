"""Read and write lockfiles: their text (JSON, two-space indent, sorted keys, without empty values), and the file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from reconciler.domain.document import VERSION, builtins_of, escape_unseen
from reconciler.domain.errors import LockConflict, ReconcileError
from reconciler.domain.lock import (
    MAX_DECISIONS,
    MAX_GENERATIONS,
    MAX_LOCKFILE_BYTES,
    MAX_MODELS,
    MAX_STAGES,
    Lock,
    LockedGeneration,
    LockedModel,
    require_size,
)
from reconciler.domain.model import REMOTE_SCHEME, State
from reconciler.domain.target_option import for_target
from reconciler.domain.text import decode_utf8
from reconciler.environment import Deadline
from reconciler.files import check_writable, remove_leftovers, require_safe, write_errors, write_file
from reconciler.paths import require_no_escape
from reconciler.redaction import redact, redact_free_texts
from reconciler.state.checkout import Checkout, pause
from reconciler.state.json_decoder import JsonPath, JsonSource

if TYPE_CHECKING:
    from msgspec import Struct

    from reconciler.domain.ports import LockStore


_PROVIDER_DATA: Final = "providerData"
_TIMES: Final = {"createTime": "create_time", "completeTime": "complete_time", "promoteTime": "promote_time"}


def dumps(lock: Lock) -> str:
    """Return the text of a lockfile; equal locks have equal texts."""
    return LockWriter().dumps(lock)


class LockWriter:
    """Writes lockfiles of one run; it keeps the text of each model, so that a save costs what changed."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[LockedModel, str]] = {}

    def dumps(self, lock: Lock) -> str:
        """Return the text of a lockfile."""
        self._written = {name: self._entry(name, model) for name, model in lock.models.items()}
        blocks = (f"    {_json(name)}: {self._written[name][1]}" for name in sorted(self._written))
        models = ",\n".join(blocks)
        shown = f"{{\n{models}\n  }}" if models else "{}"
        target = _indented(_without_empty(builtins_of(lock.target)) if lock.target else {}, 2)
        decisions = [builtins_of(replace(decision, reason=redact(decision.reason))) for decision in lock.history]
        history = f'\n  "history": {_indented(decisions, 2)},' if decisions else ""
        return f'{{{history}\n  "models": {shown},\n  "target": {target},\n  "version": {lock.version}\n}}\n'

    def _entry(self, name: str, model: LockedModel) -> tuple[LockedModel, str]:
        written = self._written.get(name)
        if written and written[0] is model:
            return written
        return model, _indented(redact_free_texts(_without_empty(builtins_of(model))), 4)


def _indented(value: object, depth: int) -> str:
    """Return the JSON of a value; lines after the first have an indent of this number of spaces."""
    return _json(value).replace("\n", "\n" + " " * depth)  # JSON escapes line ends in strings


def _json(value: object) -> str:
    return escape_unseen(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def _without_empty(value: Any) -> Any:
    """Return a value without empty objects in it; what a provider recorded is unchanged."""
    if isinstance(value, dict):
        kept = {key: nested if key == _PROVIDER_DATA else _without_empty(nested) for key, nested in value.items()}
        return {key: nested for key, nested in kept.items() if nested != {}}
    return [_without_empty(nested) for nested in value] if isinstance(value, list) else value


def loads(data: bytes | str, file: str, provider_data: type[Struct] | None = None) -> Lock:
    """Parse the text of a lockfile; ``file`` is its name in messages.

    ``provider_data`` is the type of what the provider records for itself; without it, that is not checked.

    Raises:
        ReconcileError: for truncated or other JSON, conflict markers, a missing or invalid field, a newer version.
    """
    origin = "an earlier version of the object" if file.startswith(REMOTE_SCHEME) else "git"
    remedy = f"restore it from {origin}"  # it may hold rollbacks, so every remedy starts with what keeps them
    merge = for_target("run reconcile refresh to merge both sides")
    source = JsonSource(data, file, remedy, allow_bom=False, conflict_remedy=merge, limit=MAX_LOCKFILE_BYTES)
    document = source.parse()
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1 or not isinstance(document.get("models"), dict):
        raise source.error([], "not a lockfile")
    source.require_version(document, VERSION)
    if document.get("target") == {}:
        document["target"] = None
    for path, problem in _excesses(document["models"], document.get("history")):
        raise source.error(path, problem)
    lock = source.convert(document, Lock)
    for path, problem in _problems(lock):
        raise source.error(path, problem)
    if provider_data:
        for path, recorded in _provider_data(lock):
            source.convert(recorded, provider_data, path)
    return lock


def _excesses(models: Mapping[str, Any], history: object) -> Iterator[tuple[JsonPath, str]]:
    """Yield the path and the problem of each list or object that is too long."""
    if isinstance(history, list) and len(history) > MAX_DECISIONS:
        yield ["history"], f"{len(history)} decisions: expected at most {MAX_DECISIONS}"
    if len(models) > MAX_MODELS:
        yield ["models"], f"{len(models)} models: expected at most {MAX_MODELS}"
    for name, model in models.items():
        generations = model.get("generations") if isinstance(model, dict) else None
        if isinstance(generations, list) and len(generations) > MAX_GENERATIONS:
            path = ["models", name, "generations"]
            yield path, f"{len(generations)} generations: expected at most {MAX_GENERATIONS}"
        stages = model.get("stages") if isinstance(model, dict) else None
        if isinstance(stages, dict) and len(stages) > MAX_STAGES:
            yield ["models", name, "stages"], f"{len(stages)} stages: expected at most {MAX_STAGES}"


def _provider_data(lock: Lock) -> Iterator[tuple[JsonPath, Mapping[str, Any]]]:
    """Yield the path and the value of what the provider recorded for itself."""
    for name, model in lock.models.items():
        for index, generation in enumerate(model.generations):
            if generation.provider_data:
                yield ["models", name, "generations", index, _PROVIDER_DATA], generation.provider_data


def _problems(lock: Lock) -> Iterator[tuple[JsonPath, str]]:
    """Yield the path and the problem of each value that its type alone does not rule out."""
    if lock.models and not lock.target:
        yield ["target"], "missing, although there are models"
    stages = lock.target.stages if lock.target else ()
    if len(set(stages)) < len(stages):
        yield ["target", "stages"], "a stage is named twice"
    for name, model in lock.models.items():
        for index, generation in enumerate(model.generations):
            for field, problem in _generation_problems(generation):
                yield ["models", name, "generations", index, field], problem
        for stage, recorded in model.stages.items():
            path: JsonPath = ["models", name, "stages", stage]
            if lock.target and stage == lock.target.first_stage:
                yield path, "the first stage has no record of its own: its fields are those of the model"
            if not _is_time(recorded.promote_time):
                yield [*path, "promoteTime"], "expected an RFC 3339 time"


def _generation_problems(generation: LockedGeneration) -> Iterator[tuple[str, str]]:
    if not generation.remote and generation.state is not State.INTENDED:
        yield "remote", "missing"
    if not generation.source.identity:
        yield "source", "expected baseModel, generation or remote"
    for name, attribute in _TIMES.items():
        if not _is_time(getattr(generation, attribute)):
            yield name, "expected an RFC 3339 time"


def _is_time(text: str) -> bool:
    """Whether a text is empty or a time with a zone."""
    try:
        return not text or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


class LockFile:
    """A lockfile, or another text that several runs write, on disk; one run has one such object for it.

    Args:
        path: The file.
        deadline: How long to wait while another run of this checkout has the lock.
        pause: Lets a moment pass meanwhile.
    """

    def __init__(self, path: Path, deadline: Deadline | None = None, pause: Callable[[], None] = pause) -> None:
        self.path = path
        self._checkout = Checkout(path, deadline or Deadline(), pause)
        self._found: bytes | None = None

    def read(self) -> str | None:
        """Return the text, or ``None`` when the file does not exist; raises ReconcileError when it cannot be read."""
        require_no_escape(self.path, self.path)
        try:
            self._found = self._read()
        except OSError as error:
            raise ReconcileError(
                f"{self.path} cannot be read: {error.strerror}", "check the permissions of the file and its folder"
            ) from error
        if self._found is None:
            return None
        if len(self._found) > MAX_LOCKFILE_BYTES:
            raise ReconcileError(
                f"{self.path}: larger than {MAX_LOCKFILE_BYTES} bytes, the limit for lockfiles and pointers",
                "restore an earlier version of the file",
            )
        return decode_utf8(self._found, str(self.path), "restore it from git, or save it as UTF-8")

    def _read(self) -> bytes | None:
        """Return the content, of a file that is too large only a part."""
        _require_regular(self.path)
        try:
            with self.path.open("rb") as stream:
                return stream.read(MAX_LOCKFILE_BYTES + 1)
        except FileNotFoundError:
            return None

    def server_time(self) -> None:
        """Return no time: nothing but the user wrote the file."""

    def write(self, text: str) -> bool:
        """Replace the text that :meth:`read` returned, and return whether it differed.

        Raises:
            LockConflict: another run, or git, has changed the text since; nothing is written.
            SwitchedBranch: another branch is checked out than at the start of the run.
            TimeoutReached, InterruptedRun: another run has the lock.
            ReconcileError: the text is too large, or writing fails.
        """
        data = text.encode()
        require_size(data, str(self.path))
        with self._locked(saves=True), write_errors(self.path):
            require_safe(self.path)
            current = self._read()
            if current == data:
                remove_leftovers(self.path)
                return False
            if current != self._found:
                raise LockConflict(f"{self.path} has changed since it was read", "run the command again")
            write_file(self.path, data)
            self._found = data
            return True

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would raise for missing folders and permissions."""
        with write_errors(self.path):
            _require_regular(self.path)
            check_writable(self.path)

    def lease(self) -> AbstractContextManager[None]:
        """Exclude other runs of this checkout until the end; waits for a run that has the lock.

        Raises:
            SwitchedBranch: another branch is checked out than at the start of the run.
            TimeoutReached: another run still has the lock at the deadline.
            ReconcileError: the lock cannot be created.
        """
        return self._locked(saves=False)

    def saving(self) -> AbstractContextManager[None]:
        """Exclude other runs of this checkout until the end; raises as :meth:`write`."""
        return self._locked(saves=True)

    @contextmanager
    def _locked(self, *, saves: bool) -> Iterator[None]:
        with ExitStack() as stack:
            with write_errors(self.path):
                stack.enter_context(self._checkout.locked(saves=saves))
            yield


def _require_regular(path: Path) -> None:
    """Raise OSError for a path that exists and is not a regular file: opening a pipe can block forever."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")


class RedactedLockStore:
    """A lock store without the prompts and answers of failed checks, which an earlier policy may have recorded."""

    def __init__(self, store: LockStore) -> None:
        self._store = store
        self.server_time = store.server_time
        self.write = store.write
        self.saving = store.saving
        self.check_writable = store.check_writable
        self.lease = store.lease

    @property
    def path(self) -> object:
        """The name of the store in messages."""
        return self._store.path

    def read(self) -> str | None:
        """Return the redacted text; an invalid text is returned as it is, and its reader reports the error."""
        text = self._store.read()
        try:
            lock = loads(text or "", str(self.path))
        except ReconcileError:
            return text
        from reconciler.planning.hidden_examples import redact_lock

        redacted = redact_lock(lock)
        return text if redacted is lock else dumps(redacted)
