"""Start a trainer as a process of its own: ``start.py PROGRAM RUN_FOLDER DESCRIPTOR...``, run by the provider.

The process keeps the locks of the descriptors until it ends: that of the launch, and its slot. Its children do not.
"""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path


def main(program: str, run: str, *descriptors: str) -> None:
    """Run a module, or a file that ends in .py, detached from the process that started this one."""
    if os.fork():
        os._exit(0)  # the trainer has no parent that would have to wait for it
    held = [int(descriptor) for descriptor in descriptors]
    for descriptor in held:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only parameter
    os.register_at_fork(after_in_child=lambda: _close(held))
    sys.path.insert(0, str(Path(__file__).parents[3]))  # the same package as that of the command
    sys.argv = [program, run]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


if __name__ == "__main__":
    main(*sys.argv[1:])
