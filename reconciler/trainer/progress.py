"""Report the progress of a training in the files of its run folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from reconciler.trainer.run_files import (
    METRICS_FILE,
    STATUS_FILE,
    Metrics,
    RunStatus,
    iter_metrics,
    read_marker,
    read_status,
    start_folder,
    write_record,
)

_LIBRARIES: Final = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "safetensors",
    "tokenizers",
    "gguf",
    "bitsandbytes",
)
_INTERVAL: Final = 1.0
"""The least seconds between two changes of the status of a running training."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the training libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def moment(seconds: float) -> str:
    """Return a Unix time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Progress:
    """The status and the metrics of a start; of the processes of torchrun, only the ``active`` first one reports."""

    def __init__(self, run: Path, start: int, clock: Callable[[], float], *, active: bool = True) -> None:
        self.active = active
        self._folder = start_folder(run, start)
        self._clock = clock
        self._written = 0.0
        now = moment(clock())
        self.status = RunStatus(
            state="preparing",
            start=start,
            started=now,
            updated=now,
            versions=versions(),
            host=platform.node(),
            process=os.getpid(),
        )
        self.write()

    def update(self, *, always: bool = True, **changes: Any) -> None:
        """Change the status; unless ``always``, it is written at most once a second. Raises OSError."""
        self.status = replace(self.status, **changes)
        if always or self._clock() - self._written >= _INTERVAL:
            self.write()

    def write(self) -> None:
        """Write the status; raises OSError."""
        if not self.active:
            return
        self._written = self._clock()
        self.status = replace(self.status, updated=moment(self._written))
        write_record(self._folder / STATUS_FILE, self.status)

    def measure(self, step: int, epoch: float, **values: float | None) -> None:
        """Append a measurement; raises OSError."""
        if not self.active:
            return
        metrics = Metrics(step=step, epoch=epoch, time=moment(self._clock()), **values)
        with (self._folder / METRICS_FILE).open("ab") as file:
            file.write(msgspec.json.encode(metrics) + b"\n")

    def resume(self, earlier: Path, step: int) -> None:
        """Copy the measurements of an earlier start up to the step that is resumed; raises OSError."""
        if not self.active:
            return
        lines = [
            msgspec.json.encode(metrics) + b"\n"
            for metrics in iter_metrics(earlier / METRICS_FILE)
            if metrics.step <= step
        ]
        (self._folder / METRICS_FILE).write_bytes(b"".join(lines))
        self.update(resumed_from=step, step=step)


def settle_status(run: Path, result: Path) -> None:
    """Report a result that was complete when its trainer was killed before it could do so; raises OSError."""
    status, marker = read_status(run), read_marker(result)
    if status and marker and status.state != "succeeded":
        ended = replace(
            status, state="succeeded", step=status.total_steps, adapter_digest=marker.digest, remaining_seconds=0.0
        )
        write_record(result.parent / STATUS_FILE, ended)
