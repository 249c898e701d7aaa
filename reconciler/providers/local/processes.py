"""The processes that train: they are detached, outlive the command that starts them, and hold their locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from reconciler.domain.endpoints import HUB, HUB_VARIABLE
from reconciler.files import open_log
from reconciler.providers.local import start
from reconciler.providers.local.base_models import Fault
from reconciler.providers.local.hub import TOKEN_VARIABLES, Hub
from reconciler.trainer import run_files
from reconciler.trainer.run_files import BaseModel

LAUNCH_LOCK: Final = "launch.lock"
LIBRARIES: Final = ("torch", "transformers", "peft", "trl")
INSTALL: Final = "pip install 'tuned-model-reconciler[local]'"
TRAINER: Final = "reconciler.trainer"


class Launcher(Protocol):
    """Starts and stops trainers of run folders on this host."""

    def find_fault(self, base: BaseModel | None = None) -> Fault | None:
        """Return why no training can start here, or none of this base model; ``None`` if one can."""
        ...

    def launch(self, run: Path, log: Path, held: Sequence[int]) -> None:
        """Start a trainer, which keeps the locks of these descriptors until it ends; raises OSError."""
        ...

    def is_running(self, run: Path) -> bool:
        """Return whether a trainer was started on this host and has not ended."""
        ...

    def interrupt(self, run: Path) -> None:
        """Ask a trainer that is running to stop after the current step, if its process can be identified."""
        ...


class DetachedProcesses:
    """Starts the trainer in a session of its own.

    Args:
        environ: The environment of the command.
        hub: Where models of the hub come from.
        program: The module that trains, or a file that ends in .py.
    """

    def __init__(self, environ: Mapping[str, str], hub: Hub, program: str = TRAINER) -> None:
        self._environ = environ
        self._hub = hub
        self._program = program

    def find_fault(self, base: BaseModel | None = None) -> Fault | None:
        """Return which of the training libraries are missing, or that the hub is not allowed for a base model."""
        if base:
            return self._hub.fault if base.hub else None
        missing = missing_libraries() if self._program == TRAINER else []
        if missing:
            return Fault(f"training needs {', '.join(missing)}", f"run `{INSTALL}`; docs/local.md has smaller builds")
        return None

    def launch(self, run: Path, log: Path, held: Sequence[int]) -> None:
        """Start the trainer; it has no terminal and no open files of this process."""
        uses_hub = bool(run_files.read_run(run).base.hub)
        command = [sys.executable, "-P", start.__file__, self._program, str(run), *map(str, held)]
        with open_log(log, "a") as output:
            subprocess.run(  # noqa: S603 - this interpreter, and a program of this package
                command,
                check=True,
                cwd=run,
                env=trainer_environment(self._environ, self._hub, uses_hub=uses_hub),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=held,
                start_new_session=True,
            )

    def is_running(self, run: Path) -> bool:
        """Return whether one of the locks of a trainer is held: that of its launch, or its own."""
        return bool(run_files.is_locked(run / LAUNCH_LOCK) or run_files.is_running(run))

    def interrupt(self, run: Path) -> None:
        """Send SIGTERM to the process group of the trainer; a process is identified by the lock that it has open."""
        status = run_files.read_status(run)
        if status and status.process > 1 and _has_open(status.process, run / run_files.LOCK_FILE):
            with suppress(OSError):
                os.killpg(os.getpgid(status.process), signal.SIGTERM)


def missing_libraries() -> list[str]:
    """Return the names of the training libraries that are not installed."""
    return [name for name in LIBRARIES if not find_spec(name)]


def trainer_environment(environ: Mapping[str, str], hub: Hub, *, uses_hub: bool) -> dict[str, str]:
    """Return the environment of a process that loads models: the token of the hub goes to the hub alone."""
    common = {**environ, HUB_VARIABLE: hub.address, "HF_HUB_DISABLE_TELEMETRY": "1"}
    if uses_hub and hub.address == HUB:
        return common
    without = {name: value for name, value in common.items() if name not in TOKEN_VARIABLES}
    return without if not uses_hub else {**without, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def package_path(environ: Mapping[str, str]) -> str:
    """Return a PYTHONPATH with which a process has the same package as this one."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), environ.get("PYTHONPATH"))))


def _has_open(process: int, path: Path) -> bool:
    """Return whether a process has a file open: another process can have the number after a restart.

    Where the system does not show it, nothing is proved.
    """
    with suppress(OSError):
        wanted = path.stat()
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    return False
