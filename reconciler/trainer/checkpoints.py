"""Folders that are complete or not there: checkpoints and results.

A folder is written under another name, its files are flushed to the disk, its completeness marker is written last, and
then it is renamed. A folder without a valid marker, or with a file that differs from it, is ignored.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from reconciler.trainer.run_files import (
    CHECKPOINTS_FOLDER,
    MARKER_FILE,
    changed_files,
    make_marker,
    newest_start,
    read_marker,
    start_folder,
    write_record,
)

KEPT: Final = 2
"""The complete checkpoints that are kept."""
PARTIAL: Final = ".partial"
"""The end of the name of a folder that is being written."""
_PREFIX: Final = "step-"


def finish_folder(partial: Path, final: Path, inputs: str) -> str:
    """Make a written folder complete under its final name, and return its digest; raises OSError.

    ``inputs`` is the digest of what the training depends on: a checkpoint of other inputs is not resumed.
    """
    for path in partial.rglob("*"):
        if path.is_file():
            _sync(path)
    marker = make_marker(partial, inputs)
    write_record(partial / MARKER_FILE, marker)
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)  # an incomplete one of a killed process
    partial.rename(final)
    _sync(final.parent)
    return marker.digest


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # Windows does not open folders
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_folder(start: Path, step: int) -> Path:
    """Return the folder of the checkpoint after a step."""
    return start / CHECKPOINTS_FOLDER / f"{_PREFIX}{step}"


def last_checkpoint(run: Path, inputs: str) -> tuple[int, int, Path] | None:
    """Return step, start and folder of the newest complete checkpoint with these inputs, or ``None``.

    The files are compared with their digests: after a crash of the machine, a renamed folder may have lost content.
    """
    for step, start, folder in sorted(_checkpoints(run), reverse=True):
        marker = read_marker(folder)
        if marker and marker.inputs == inputs and not changed_files(folder, marker):
            return step, start, folder
    return None


def _checkpoints(run: Path) -> Iterator[tuple[int, int, Path]]:
    for start in range(newest_start(run), 0, -1):
        parent = start_folder(run, start) / CHECKPOINTS_FOLDER
        with suppress(OSError):
            for folder in parent.iterdir():
                number = folder.name.removeprefix(_PREFIX)
                if folder.name.startswith(_PREFIX) and number.isdecimal():
                    yield int(number), start, folder


def remove_old_checkpoints(run: Path, kept: int = KEPT) -> None:
    """Remove all checkpoints but the newest complete ones, and what killed processes left."""
    folders = sorted(_checkpoints(run), reverse=True)
    complete = [folder for _, _, folder in folders if read_marker(folder)]
    for _, _, folder in folders:
        if folder not in complete[:kept]:
            shutil.rmtree(folder, ignore_errors=True)


def remove_partial(run: Path) -> None:
    """Remove the incomplete folders that killed processes left."""
    for start in range(newest_start(run), 0, -1):
        folder = start_folder(run, start)
        for parent in (folder, folder / CHECKPOINTS_FOLDER):
            with suppress(OSError):
                for path in parent.iterdir():
                    if path.name.endswith(PARTIAL):
                        shutil.rmtree(path, ignore_errors=True)


def partial_folder(final: Path) -> Path:
    """Return an empty folder to write a folder in, beside its final place; raises OSError."""
    folder = final.with_name(final.name + PARTIAL)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
