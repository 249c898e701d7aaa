"""Read and write the text of a lockfile: JSON, two-space indent, sorted keys, without empty values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from reconciler.domain.document import VERSION, builtins_of
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import REMOTE_SCHEME, State
from reconciler.state.json_decoder import JsonSource, Path

_TIMES: Final = {"createTime": "create_time", "completeTime": "complete_time", "promoteTime": "promote_time"}


def dumps(lock: Lock) -> str:
    """Return the text of a lockfile; equal locks have equal texts."""
    document = builtins_of(lock)
    document["target"] = _without_empty(document["target"] or {})
    document["models"] = {name: _without_empty(model) for name, model in document["models"].items()}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _without_empty(value: Any) -> Any:
    """Return a value without empty objects in it."""
    if isinstance(value, dict):
        return {key: kept for key, nested in value.items() if (kept := _without_empty(nested)) != {}}
    return [_without_empty(nested) for nested in value] if isinstance(value, list) else value


def loads(data: bytes | str, file: str) -> Lock:
    """Parse the text of a lockfile; ``file`` is its name in messages.

    Raises:
        ReconcileError: for truncated or other JSON, conflict markers, a missing or invalid field, a newer version.
    """
    origin = "an earlier version of the object" if file.startswith(REMOTE_SCHEME) else "git"
    remedy = f"restore it from {origin}, or move it away and run reconcile refresh"
    merge = "run reconcile refresh to merge both sides"
    source = JsonSource(data, file, remedy, allow_bom=False, conflict_remedy=merge)
    document = source.parse(limit_depth=False)
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1 or not isinstance(document.get("models"), dict):
        raise source.error([], "not a lockfile")
    source.require_version(document, VERSION)
    if document.get("target") == {}:
        document["target"] = None
    lock = source.convert(document, Lock)
    for path, problem in _problems(lock):
        raise source.error(path, problem)
    return lock


def _problems(lock: Lock) -> Iterator[tuple[Path, str]]:
    """Yield the path and the problem of each value that its type alone does not rule out."""
    if lock.models and not lock.target:
        yield ["target"], "missing, although there are models"
    for name, model in lock.models.items():
        for index, generation in enumerate(model.generations):
            for field, problem in _generation_problems(generation):
                yield ["models", name, "generations", index, field], problem


def _generation_problems(generation: LockedGeneration) -> Iterator[tuple[str, str]]:
    if not generation.remote and generation.state is not State.INTENDED:
        yield "remote", "missing"
    if not generation.source.identity:
        yield "source", "expected baseModel, generation or remote"
    for name, attribute in _TIMES.items():
        if not _is_time(getattr(generation, attribute)):
            yield name, "expected an RFC 3339 time"


def _is_time(text: str) -> bool:
    """Whether a text is empty or a time with a zone."""
    try:
        return not text or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
