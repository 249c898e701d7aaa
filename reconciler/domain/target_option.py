"""Commands in messages: each gets the option of the target that the current command works on.

Own texts name commands as for the default target, and pass through :func:`for_target`; those of users and services
do not, which may name a command too. Remedies of errors pass through it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from shlex import quote
from typing import Final

DEFAULT_TARGET: Final = "default"
"""The target of a command without ``--target``."""
COMMANDS: Final = (
    *("add", "adopt", "apply", "cancel", "check", "destroy", "doctor", "drift", "export", "forget", "graph", "history"),
    *("list", "migrate", "models", "plan", "promote", "prompt", "prune", "push", "refresh", "resolve", "rollback"),
    *("status", "validate", "wait"),
)
"""The commands that work on one target."""
_COMMAND: Final = re.compile(rf"\breconcile (?:{'|'.join(COMMANDS)})\b(?! --target )")
_CURRENT: ContextVar[str] = ContextVar("target", default=DEFAULT_TARGET)


@contextmanager
def commands_for(target: str) -> Iterator[None]:
    """Make this the target of commands in messages, until :func:`use_target` names another one."""
    token = _CURRENT.set(target)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def use_target(target: str | None) -> None:
    """Make this the target of commands in messages; ``None`` is the default one."""
    _CURRENT.set(target or DEFAULT_TARGET)


def for_target(text: str, target: str | None = None) -> str:
    """Return an own text with ``--target NAME`` in each command; by default for the current target."""
    name = target or _CURRENT.get()
    return text if name == DEFAULT_TARGET else _COMMAND.sub(lambda found: f"{found[0]} --target {quote(name)}", text)
