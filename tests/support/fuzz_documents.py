"""Fuzz one kind of document with atheris: ``python -m support.fuzz_documents KIND -runs=N CORPUS``.

Any exception other than ReconcileError, and an error that is not one message with a place, ends the run with status 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import atheris  # type: ignore[import-not-found] # an optional tool

with atheris.instrument_imports(include=["reconciler.state", "reconciler.domain"]):
    from reconciler.commands._event_log import is_event_log
    from reconciler.domain.errors import ReconcileError
    from reconciler.domain.model import Target
    from reconciler.reports.documents.saved_plan import SavedPlan
    from reconciler.state.document_files import read_saved_plan
    from reconciler.state.lockfile import dumps, loads
    from reconciler.state.published_pointer import read_pointer

TARGET = Target("default", "specs/reconcile.yaml", "embedded", "demo")
PLACE = re.compile(r"x\.json:[1-9]\d*:[1-9]\d*: ")


def read_lockfile(file: Path) -> None:
    """Read a lockfile, and what is written for it."""
    lock = loads(file.read_bytes(), "x.json")
    if loads(dumps(lock), "x.json") != lock:
        raise AssertionError("the lockfile was written with other values")


READERS: Mapping[str, Callable[[Path], Any]] = {
    "lockfile": read_lockfile,
    "saved-plan": lambda file: read_saved_plan(file, "x.json", SavedPlan),
    "pointer": lambda file: read_pointer(file.read_bytes().decode(errors="replace"), TARGET, "x.json"),
    "events": lambda file: is_event_log(file, "x.json"),
}


def main() -> None:
    """Fuzz the kind that the first argument names."""
    read = READERS[sys.argv.pop(1)]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.json"

        def check(data: bytes) -> None:
            file.write_bytes(data)
            try:
                read(file)
            except ReconcileError as error:
                if not (error.remedy and PLACE.match(error.message)):
                    raise AssertionError(f"not one message with a place: {error}") from error

        atheris.Setup(sys.argv, check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
