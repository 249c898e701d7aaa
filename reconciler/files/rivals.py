"""Targets of one root that would contradict each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.core.model import REMOTE_SCHEME
from reconciler.files.publishing import published_at

_OWNERS = ("provider", "project", "location", "scope")


def rivalries(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str, str]]:
    """The field of our spec, what the other target does about the same thing, and what to do; theirs may be wrong."""
    lock, their_lock = ours.get("lock"), theirs.get("lock")
    publish, they_publish = _real(ours, folder), _real(theirs, folder)
    if all(ours.get(name) == theirs.get(name) for name in _OWNERS):
        yield "scope", "has the same provider, project, location and scope", "give each a scope of its own"
    if lock and lock == their_lock:
        yield "lock", "has the same lockfile", "give each a lockfile of its own"
    if lock and lock == they_publish:
        yield "lock", "publishes what serves there", "give each a name of its own"
    if publish and publish == they_publish:
        yield "publish", "publishes what serves there too", "give each a name of its own"
    if publish and publish == their_lock:
        yield "publish", "keeps its lockfile there", "give each a name of its own"


def _real(spec: Mapping[str, Any], folder: Path) -> str:
    publish = published_at(spec, folder)
    return publish if publish.startswith(REMOTE_SCHEME) else publish and os.path.realpath(publish)
