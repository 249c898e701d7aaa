"""The host that trainings run on, and the kernel locks of its slots.

Only the kernel that holds a lock can show that its process lives. A host that has restarted has none of its earlier
processes; nothing is known about the processes of another host.
"""

from __future__ import annotations

import os
import platform
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from reconciler.domain.document import NonEmpty, Record
from reconciler.domain.errors import ReconcileError
from reconciler.files import acquire_lock, write_errors

_BOOT_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_PROBE: Final = ".probe.lock"


class Host(Record, frozen=True):
    """A host: its name, the machine, and the start of its kernel."""

    name: NonEmpty
    machine: str = ""
    boot: str = ""

    def is_same(self, other: Host) -> bool:
        """Whether both are one host: the same kernel, as in containers, or the same machine after a restart."""
        if self.boot and self.boot == other.boot:
            return True
        return self.name == other.name and self.machine == other.machine


def this_host() -> Host:
    """Return the host of this process."""
    return Host(platform.node() or "unknown", _machine(), _read(_BOOT_FILE))


def _machine() -> str:
    return next(filter(None, map(_read, _MACHINE_FILES)), f"{uuid.getnode():012x}")


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""


def require_locks(store: Path, shown: str) -> None:
    """Refuse a store whose file system has no kernel locks, with which two runs could train the same model.

    Raises:
        ReconcileError: naming the store.
    """
    probe = store / _PROBE
    with write_errors(shown):
        descriptors = [try_lock(probe), try_lock(probe)]
    for descriptor in filter(None, descriptors):
        os.close(descriptor)
    if not find_spec("fcntl") or None not in descriptors:
        raise ReconcileError(
            f"the file system of {shown} has no kernel locks, which keep two runs from training the same model",
            "set spec.local.store to a folder on a local disk of Linux or macOS",
        )


class _HeldError(Exception):
    """Another process has the lock, or this one by another descriptor."""


def _refuse_to_wait(_holder: str) -> None:
    raise _HeldError


def try_lock(path: Path, holder: str = "") -> int | None:
    """Take the kernel's lock of a file without waiting; return its descriptor, or ``None`` if it is held."""
    try:
        return acquire_lock(path, holder or f"process {os.getpid()}", _refuse_to_wait)
    except _HeldError:
        return None


def lock_folder(path: Path) -> int | None:
    """Take the kernel's lock of a folder without waiting; return its descriptor, or ``None`` if it is held or gone."""
    import fcntl  # not on Windows, where no store is used

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Slots(Struct, frozen=True):
    """The slots of a host, which have a file each: so many trainings run at once."""

    folder: Path
    count: int = 1

    @classmethod
    def of(cls, host: Host, environ: Mapping[str, str], store: Path, count: int) -> Self:
        """Return the slots of a host, which all stores of a user share, because they share its devices.

        Containers of one host have the same boot. Without a home, the slots are those of the store.
        """
        state, home = Path(environ.get("XDG_STATE_HOME", "")), Path(environ.get("HOME", ""))
        parent = next((path for path in (state, home / ".local/state") if path.is_absolute()), None)
        folder = parent / "reconcile/slots" if parent else store / ".slots"
        return cls(folder / re.sub(r"[^A-Za-z0-9._-]", "_", host.boot or host.name), count)

    def take(self, run: Path) -> int | None:
        """Take a slot for a training; return its descriptor, or ``None`` if all are taken.

        The training has it until its process ends.

        Raises:
            ReconcileError: the folder cannot be written.
        """
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            taken = (try_lock(path, str(run)) for path in self._paths())
            return next((descriptor for descriptor in taken if descriptor is not None), None)

    def holders(self) -> list[Path]:
        """Return the folders of the trainings that have the slots, if all are taken."""
        return [Path(path.read_text(errors="replace")) for path in self._paths()]

    def _paths(self) -> list[Path]:
        return [self.folder / str(number) for number in range(self.count)]
