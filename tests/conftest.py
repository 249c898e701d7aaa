"""Properties are tested with the same examples each time, and without a deadline, because the machine may be busy.

``--hypothesis-profile thorough`` tests more examples, and ``nightly`` many that are new each time.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Plugins of Hypothesis come with other packages: trio's takes half a second to import, and no test needs it.
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import LoadFileScheduling

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=10)
settings.register_profile("thorough", settings.get_profile("repeatable"), max_examples=50)
settings.register_profile(
    "nightly", settings.get_profile("thorough"), derandomize=False, max_examples=200, print_blob=True
)
settings.load_profile("repeatable")

# A command waits for the disk at each write of a lockfile or a store; in memory there is nothing to wait for.
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own there
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**31 and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

QUICK = ("domain", "manifests", "planning", "state")
"""Folders whose tests take milliseconds."""

# A shell starts background commands with SIGINT ignored, which processes inherit: tests that interrupt would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without bytecode, each process that a test starts compiles the package: half of its CPU time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Let every second worker collect in reverse order: in a fresh checkout each compiles half of the modules.

    Tests and modules stay until the end, so that the garbage collector need not look at them, now or later.
    """
    config = session.config
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if worker % 2 and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        files = [str(path) for args in config.args for path in config.rootpath.joinpath(args).rglob("test_*.py")]
        config.args[:] = sorted(files, reverse=True)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)  # what tests leave is little, and looking for it takes 3 % of their time
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all workers the same order, in which the files of quick tests come last and end at about the same time."""
    quick = tuple(f"{Path(__file__).parent / name}{os.sep}" for name in QUICK)
    order = {item.path: (str(item.path).startswith(quick), item.path) for item in items}
    items.sort(key=lambda item: order[item.path])


FOLDERS = count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for one test; pytest's own fixture looks for a free number among the folders of all tests."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f"{name}-{next(FOLDERS)}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Send each file to one worker, because what its fixtures make is shared by its tests; keep the order of files."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
