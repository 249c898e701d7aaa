"""A trainer without a training library, run as a program by the provider: it waits for what the test writes.

It takes its lock and claims a start as the real one does, and writes its process number into the pipe ``ready``. With
the line ``fork`` in the pipe ``go`` it starts a child, which writes its number into ``child``. Both run until they are
killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from reconciler.domain.lock import format_time
from reconciler.environment import utc_now
from reconciler.files import acquire_lock
from reconciler.trainer import run_files
from reconciler.trainer.run_files import RunStatus


def main(run: Path) -> None:
    descriptor = acquire_lock(run / run_files.LOCK_FILE, "", _refuse)
    assert descriptor is not None
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))
    start = run_files.claim_start(run)
    now = format_time(utc_now())
    status = RunStatus(state="running", start=start, updated=now, started=now, step=1, process=os.getpid())
    run_files.write_record(run_files.start_folder(run, start) / run_files.STATUS_FILE, status)
    (run / "ready").write_text(f"{os.getpid()}\n", encoding="utf-8")
    for line in (run / "go").read_text(encoding="utf-8").splitlines():
        if line == "fork" and os.fork() == 0:
            (run / "child").write_text(f"{os.getpid()}\n", encoding="utf-8")
            (run / "never").read_text(encoding="utf-8")
    (run / "never").read_text(encoding="utf-8")


def _refuse(_holder: str) -> NoReturn:
    sys.exit(run_files.TrainerExit.BUSY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
