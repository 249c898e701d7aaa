"""Who watches while a command works: a live display on terminals, plain lines elsewhere, nobody when it is quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from reconciler.app.environment import Environment
from reconciler.cli.output import Output
from reconciler.core.events import Event

Sink = Callable[[Event], None]


def progress(
    env: Environment, output: Output, names: Iterable[str], *, simulated: bool
) -> AbstractContextManager[Sink]:
    """A sink of events about the models of these names, to be entered while the command works."""
    if output.quiet:
        return nullcontext(_ignore)
    if sys.stderr.isatty():
        from rich.console import Console

        from reconciler.render.live import LiveProgress

        console = Console(stderr=True, no_color=not output.wants_colour(sys.stderr), highlight=False)
        return LiveProgress(console, clock=env.clock, names=names, simulated=simulated)
    from reconciler.render.progress import PlainProgress

    style = output.style(sys.stderr)
    return PlainProgress(sys.stderr, clock=env.clock, names=names, simulated=simulated, style=style)


def _ignore(_event: Event) -> None:
    """Quiet means that nobody watches."""
