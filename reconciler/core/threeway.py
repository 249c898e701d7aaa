"""Merging values that two sides changed: three-way, and alike whichever side is which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from reconciler.core.lock import instant

_T = TypeVar("_T")
Settle = Callable[[Any, Any, Any], Any]
"""From the ancestor's value and two different ones to the one that counts, whichever order the two come in."""

NEVER: Final = datetime.min.replace(tzinfo=UTC)
ABSENT: Final = object()
"""The ancestor's value where it has none: it equals nothing."""


def picked(base: Any, ours: _T, theirs: _T, settle: Settle) -> _T:
    """The value that was changed, where only one side did that."""
    if theirs in (ours, base):
        return ours
    settled: _T = theirs if ours == base else settle(base, ours, theirs)
    return settled


def fuller(_base: object, ours: _T, theirs: _T) -> _T:
    """The value that says more; of two that say as much always the same one."""
    return max(ours, theirs, key=lambda one: (one not in (None, "", (), {}), len(repr(one)), repr(one)))


def later(_base: object, ours: str, theirs: str) -> str:
    """The later one of two RFC 3339 times; an empty one is earlier than any."""
    return max(ours, theirs, key=lambda one: (instant(one) or NEVER, one))


def united(base: Iterable[str], ours: Iterable[str], theirs: Iterable[str]) -> tuple[str, ...]:
    """A set as both sides changed it: what either added, without what either removed."""
    before, one, other = set(base), set(ours), set(theirs)
    kept = (one & other) | ((one ^ other) - before)
    return (*(key for key in base if key in kept), *sorted(kept - before))


def joined(_base: object, ours: str, theirs: str) -> str:
    """Both reasons, where neither holds the other."""
    short, long = sorted((ours, theirs), key=lambda one: (len(one), one))
    return long if short in long else "; ".join(sorted((ours, theirs)))
