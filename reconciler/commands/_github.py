"""Whether a command runs on GitHub Actions, and what happens at its end if it does."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from reconciler.reports.text.escape import encodable

if TYPE_CHECKING:
    from reconciler.commands._github_runner import Runner

_CURRENT: ContextVar[Runner | None] = ContextVar("runner", default=None)


def runner() -> Runner | None:
    """The runner that this command runs on, if it is one of GitHub Actions."""
    return _CURRENT.get()


@contextmanager
def on_actions(environ: Mapping[str, str], cwd: Path | None) -> Iterator[None]:
    """What a command writes on GitHub Actions is no command to it; at the end it is told of what was taken note of.

    Elsewhere nothing is changed.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    # Here, because elsewhere nothing needs it.
    from reconciler.commands._github_runner import Defused, Runner

    streams = sys.stdout, sys.stderr
    current = Runner(cwd or Path(), environ.get("GITHUB_STEP_SUMMARY", ""))
    token = _CURRENT.set(current)
    sys.stdout, sys.stderr = (cast("TextIO", Defused(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        _CURRENT.reset(token)
        with suppress(OSError):
            sys.stderr.writelines(f"{encodable(line, sys.stderr.encoding)}\n" for line in current.commands())
            sys.stderr.flush()
