"""The embedded service in a process of its own, on a port, at a time that the test sets through a file.

Run as a script it is that process: ``emulator_process.py STORE CLOCK HOST``.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from reconciler.emulator.app import create_app, serve
from reconciler.emulator.training import TrainingPace
from reconciler.providers.vertex.spec import SPEC
from support.fork_server import forked

START = datetime(2026, 1, 1, tzinfo=UTC)


class Process:
    """A running service: its base URL, its clock and its process."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._clock = folder / "clock"
        self.advance_to(0)
        command = forked(__file__, str(folder / "store"), str(self._clock), host)
        self.process = subprocess.Popen(  # noqa: S603 - this very file
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = _pipe(self.process.stdout).readline().strip()

    def advance_to(self, seconds: float) -> None:
        self._clock.write_text(str(seconds), encoding="utf-8")

    def end(self, signal: int) -> tuple[int, str, str]:
        """Exit status and what else was written to stdout and stderr."""
        self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def running(folder: Path, host: str = "127.0.0.1") -> Iterator[Process]:
    """A service that is gone afterwards, whatever happened."""
    service = Process(folder, host)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.communicate()


def main(store: str, clock: str, host: str) -> None:
    app = create_app(
        store=Path(store),
        clock=lambda: START + timedelta(seconds=float(Path(clock).read_text(encoding="utf-8"))),
        random=random.Random(7),  # noqa: S311 - made-up ids, no secret
        settings=TrainingPace(step_seconds=1, overhead_seconds=10),
        base_models=SPEC.catalog(),
    )
    serve(app, host=host, port=0, started=lambda url: print(url, flush=True))  # noqa: T201 - its report


if __name__ == "__main__":
    main(*sys.argv[1:])
