"""Read and write the text of a lockfile: JSON, two-space indent, sorted keys, without empty values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from reconciler.domain.document import VERSION, builtins_of
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import REMOTE_SCHEME, State
from reconciler.state.json_decoder import JsonSource, Path

_TIMES: Final = {"createTime": "create_time", "completeTime": "complete_time", "promoteTime": "promote_time"}


def dumps(lock: Lock) -> str:
    """Return the text of a lockfile; equal locks have equal texts."""
    return LockWriter().dumps(lock)


class LockWriter:
    """Writes lockfiles of one run; it keeps the text of each model, so that a save costs what changed."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[LockedModel, str]] = {}

    def dumps(self, lock: Lock) -> str:
        """Return the text of a lockfile."""
        self._written = {name: self._entry(name, model) for name, model in lock.models.items()}
        blocks = (f"    {_json(name)}: {self._written[name][1]}" for name in sorted(self._written))
        models = ",\n".join(blocks)
        shown = f"{{\n{models}\n  }}" if models else "{}"
        target = _indented(_without_empty(builtins_of(lock.target)) if lock.target else {}, 2)
        return f'{{\n  "models": {shown},\n  "target": {target},\n  "version": {lock.version}\n}}\n'

    def _entry(self, name: str, model: LockedModel) -> tuple[LockedModel, str]:
        written = self._written.get(name)
        if written and written[0] is model:
            return written
        return model, _indented(_without_empty(builtins_of(model)), 4)


def _indented(value: dict[str, Any], depth: int) -> str:
    """Return the JSON of an object; lines after the first have an indent of this number of spaces."""
    return _json(value).replace("\n", "\n" + " " * depth)  # JSON escapes line ends in strings


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


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
