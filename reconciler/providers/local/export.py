"""Copy the files of a tuned model out of the store, and merge an adapter into its base model in another process."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.domain.document import builtins_of
from reconciler.domain.errors import ServiceError
from reconciler.domain.text import sanitize
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.models import AnsweringModel, edit_of
from reconciler.providers.local.processes import package_path, trainer_environment
from reconciler.providers.local.store import ADAPTER_CONFIG, ADAPTER_WEIGHTS, HOST_FILE, MODEL_FILE, Folder
from reconciler.trainer import run_files

_EXPORTED: Final = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".md"})
"""The suffixes of the files of a model; others can contain code, or the state of an optimizer."""
_OWN: Final = frozenset({run_files.MARKER_FILE, HOST_FILE, MODEL_FILE})
_MERGE: Final = "reconciler.trainer.merge"


def copy_model(folder: Folder, adapter: Path, destination: Path) -> None:
    """Copy the files of a complete adapter, or of a whole model, into an empty folder.

    The copy is compared with the digests of the training, so that nothing changes between the comparison and the copy.

    Raises:
        ServiceError: a file was changed after the training, or is a link.
        OSError: a file cannot be copied.
    """
    marker = run_files.read_marker(adapter) if folder.training else None
    for path in sorted(adapter.iterdir()):
        if path.name in _OWN or path.suffix not in _EXPORTED:
            continue
        if path.is_symlink():
            raise _refusal(f"{path} is a link, which is not exported", "replace it by a copy of the file")
        if path.is_file():
            shutil.copyfile(path, destination / path.name)
    if marker:
        changed: Sequence[str] = run_files.changed_files(destination, marker)
    else:
        expected = folder.fields.digest
        copied = destination / ADAPTER_WEIGHTS
        is_changed = bool(expected) and (not copied.is_file() or run_files.digest_file(copied) != expected)
        changed = [ADAPTER_WEIGHTS] if is_changed else []
    if changed:
        edit = edit_of(folder, changed)
        raise _refusal(edit.message, edit.remedy)


def base_note(model: AnsweringModel) -> str:
    """Return a note if an adapter cannot be used on another machine; empty if it can."""
    path = model.base.folder or model.base.gguf
    if not path or not model.rank:
        return ""
    return f"the adapter needs its base model {path}, which is on this machine; --merged writes a whole model"


def _refusal(message: str, remedy: str) -> ServiceError:
    return ServiceError(message, remedy, code="FAILED_PRECONDITION")


class Merger(Struct, frozen=True):
    """Runs the program that merges.

    ``environ`` is the environment of the command, ``hub`` where base models come from, and ``program`` the arguments of
    Python that run the program.
    """

    environ: Mapping[str, str]
    hub: Hub
    program: Sequence[str] = ("-m", _MERGE)

    async def merge(self, model: AnsweringModel, exported: Path, folder: Path, base_digest: str) -> None:
        """Write the merged model into an empty folder; raises ServiceError."""
        base = model.base
        if base.hub and self.hub.fault:
            raise _refusal(self.hub.fault.message, self.hub.fault.remedy)
        request = {
            "base": builtins_of(base),
            "baseDigest": base_digest,
            "adapter": str(exported),
            "folder": str(folder),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            *self.program,
            env=trainer_environment(self.environ, self.hub, uses_hub=bool(base.hub))
            | {"PYTHONPATH": package_path(self.environ)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # an interrupt in the terminal ends the command, which then ends the program
        )
        try:
            output, errors = await process.communicate(json.dumps(request).encode())
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # after an interrupt
            await process.wait()
        error = _error_of(output) if process.returncode else None
        if error:
            raise _refusal(sanitize(error["message"]), sanitize(error["remedy"]))
        if process.returncode:
            lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
            reason = sanitize(lines[-1]) if lines else f"exit status {process.returncode}"
            raise _refusal(
                f"the program that merges {model.name} has ended: {reason}",
                "run `reconcile doctor`, which checks the libraries and the memory",
            )


def _error_of(output: bytes) -> Mapping[str, str] | None:
    """Return the message and the remedy that the program has printed; ``None`` if it ended without them."""
    with suppress(ValueError):
        found = json.loads(output)
        if isinstance(found, dict) and {"message", "remedy"} <= found.keys():
            return found
    return None


async def merge_model(merger: Merger, folder: Folder, model: AnsweringModel, exported: Path, destination: Path) -> None:
    """Write the merged model of exported files into an empty folder; a whole model is copied. Raises OSError."""
    if not (exported / ADAPTER_CONFIG).is_file():
        shutil.copytree(exported, destination, dirs_exist_ok=True)
        return
    status = run_files.read_status(folder.path) if folder.training else None
    await merger.merge(model, exported, destination, status.base_digest if status else "")
