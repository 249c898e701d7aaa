"""What applications are told of what serves, and whether somebody else has told them something different meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import OWNER_FIELDS, Lock
from reconciler.domain.model import Sampling, State, Target
from reconciler.planning.events import Published
from reconciler.state.json_reader import DecodeError, JsonReader

POINTER_VERSION: Final = 1
_KIND: Final = "Resolve"
_OWNERS: Final = ("name", *OWNER_FIELDS)
"""What of a target says whose pointer it is."""
_ANEW: Final = "the next apply writes it anew"
_NAMED: Final = 3
"""How many models a message tells of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a pointer says of one model: the key and remote name of what serves, and how it is to be sampled."""

    key: str
    remote: str = ""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A model of which a pointer says something that this lock never told, and is not about to tell.

    ``says`` is the key in the pointer, ``wrote`` the one that was last written, ``serves`` the one to write now;
    ``None`` where there is none.
    """

    name: str
    says: str | None
    wrote: str | None
    serves: str | None


def serving_keys(lock: Lock) -> dict[str, str]:
    """What a pointer is to say: the key of each model that serves; one that was lost serves nobody."""
    ready = (
        (name, one.key)
        for name, model in lock.models.items()
        if (one := model.generation(model.serving)) and one.state is State.ACTIVE
    )
    return dict(sorted(ready))


def conflicts(pointer: Mapping[str, str], lock: Lock) -> tuple[Conflict, ...]:
    """Where a pointer (keys by model) says neither what it was last told nor what it is about to be told."""
    serving = serving_keys(lock)
    wrote = {name: model.published for name, model in lock.models.items()}
    told = (
        Conflict(name, pointer.get(name), wrote.get(name), serving.get(name))
        for name in sorted(pointer.keys() | lock.models.keys())
    )
    return tuple(one for one in told if one.says not in {one.wrote, one.serves})


def newly_published(lock: Lock) -> tuple[Published, ...]:
    """What applications learn from a pointer that is written now, by model."""
    serving = serving_keys(lock)
    return tuple(
        Published(name, serving.get(name))
        for name, model in sorted(lock.models.items())
        if model.published != serving.get(name)
    )


def require_ours(pointer: Mapping[str, Entry], lock: Lock, shown: str) -> None:
    """Refuse to write over what somebody else told applications; ``shown`` names the pointer.

    Raises:
        ReconcileError: naming the models, what the pointer says of them and what it was last told.
    """
    found = [*map(_told, conflicts({name: entry.key for name, entry in pointer.items()}, lock))]
    found += [
        f"it gives {name} another remote name than was written, {entry.remote}"
        for name, entry in sorted(pointer.items())
        if _is_redirected(name, entry, lock)
    ]
    if found:
        told = "; ".join(found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ReconcileError(
            f"{shown} was changed by somebody else, and is left as it is: {told}{more}",
            f"see who did that; then delete it, or move it away: {_ANEW}",
        )


def _is_redirected(name: str, entry: Entry, lock: Lock) -> bool:
    """Whether prompts are sent elsewhere under a recorded key; an endpoint may have been recorded only later."""
    model = lock.models.get(name)
    one = model.generation(entry.key) if model else None
    return one is not None and bool(entry.remote) and entry.remote not in {one.remote, one.resources.endpoint}


def _told(one: Conflict) -> str:
    says = f"it says that {one.says} serves {one.name}" if one.says else f"it does not name {one.name} any more"
    wrote = f"where {one.wrote} was last written" if one.wrote else "where nothing was written from here"
    serves = f"{one.serves} serves now" if one.serves else "nothing serves now"
    return f"{says}, {wrote} and {serves}"


def read_pointer(text: str, target: Target, shown: str) -> dict[str, Entry]:
    """What a pointer says, by model; ``shown`` names it in messages.

    Raises:
        ReconcileError: for a truncated file, foreign JSON, a newer version, or the pointer of another target.
    """
    document = _parsed(text, shown)
    version = document.get("version")
    if document.get("kind") != _KIND or type(version) is not int:
        raise _foreign(shown, "it is JSON of another kind")
    if version > POINTER_VERSION:
        message = f"{shown} has version {version}, and this reconcile reads up to {POINTER_VERSION}"
        raise ReconcileError(message, "upgrade reconcile")
    root = JsonReader("", document)
    try:
        _require_target(root.block("target"), target, shown)
        return _entries(root.blocks("models"))
    except DecodeError as error:
        raise _foreign(shown, str(error)) from error


def _parsed(text: str, shown: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _foreign(shown, f"it is no complete JSON ({error})") from error
    if not isinstance(document, dict):
        raise _foreign(shown, "it is JSON of another kind")
    return document


def _foreign(shown: str, why: str) -> ReconcileError:
    return ReconcileError(
        f"{shown} is not what reconcile publishes, and is left as it is: {why}",
        f"see what it is; then delete it, or move it away: {_ANEW}",
    )


def _require_target(block: JsonReader, target: Target, shown: str) -> None:
    for name in _OWNERS:
        says, wanted = block.find(name, str), getattr(target, name) or None
        if says != wanted:
            raise ReconcileError(
                f"{shown} belongs to another target, and is left as it is: its {name} is {says or 'none'}, that of"
                f" {target.file} {wanted or 'none'}",
                f"give each target a spec.publish of its own; or delete the file, or move it away: {_ANEW}",
            )


def _entries(blocks: Iterable[JsonReader]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for block in blocks:
        name = block.need("name", str)
        if name in entries:
            raise DecodeError(f"{block.where} is a second entry of {name}")
        entries[name] = Entry(
            block.need("key", str), block.find("remote", str) or "", _sampling(block.block("sampling"))
        )
    return entries


def _sampling(block: JsonReader) -> Sampling:
    return Sampling(block.find("temperature", float), block.find("topP", float), block.find("topK", int))
