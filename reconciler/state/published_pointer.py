"""The published pointer: read it, and compare it with the serving generations of a lock."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, to_builtins

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import MAX_LOCKFILE_BYTES, MAX_MODELS, OWNER_FIELDS, Lock, LockedModel, parse_time
from reconciler.domain.model import Sampling, State, Target
from reconciler.domain.text import sanitize
from reconciler.planning.events import Published
from reconciler.planning.lock_review import Served
from reconciler.planning.soak import PublicationHistory, Sighting
from reconciler.state.json_decoder import JsonSource

POINTER_VERSION: Final = 1
_KIND: Final = "Resolve"
_TARGET_FIELDS: Final = ("name", *OWNER_FIELDS)
"""The fields of a target that identify whose pointer it is."""
_PUBLISH_TIME: Final = "publishTime"
_BEFORE_TIME: Final = ("name", "key", "checkpoint")
"""The fields of an entry that precede its time."""
_NOT_POINTER: Final = "not a published pointer, not overwritten: "
_NEXT_APPLY: Final = "the next apply writes a new one"
_MOST_LISTED: Final = 3
"""How many models a message lists."""


class PublishedModel(Struct, frozen=True, rename="camel"):
    """A model in a pointer: key, checkpoint, remote name, preamble and sampling of its serving generation.

    ``publish_time`` is when the server of the pointer first had this key and checkpoint, if another entry has changed
    since.
    """

    name: str
    key: str
    remote: str = ""
    preamble: str = ""
    sampling: Sampling = Sampling()
    checkpoint: str = ""
    publish_time: str = ""

    @property
    def published_at(self) -> datetime | None:
        """The time in ``publish_time``; ``None`` if it is empty or invalid."""
        try:
            moment = parse_time(self.publish_time)
        except ValueError:
            return None
        return moment if moment and moment.tzinfo else None


class PointerTarget(Struct, frozen=True):
    """The target that a pointer belongs to."""

    name: str | None = None
    provider: str | None = None
    project: str | None = None
    location: str | None = None
    scope: str | None = None


class Pointer(Struct, frozen=True):
    """The parts of a Resolve document that identify what it publishes; the others are for its readers."""

    target: PointerTarget = PointerTarget()
    stage: str = ""
    models: tuple[PublishedModel, ...] = ()


class PointerConflict(Struct, frozen=True):
    """A model whose key in the pointer is neither the last one written by this lock nor the serving one.

    ``found`` is the key in the pointer, ``written`` the last one written, ``serving`` the one to write now; ``None``
    where there is none.
    """

    name: str
    found: str | None
    written: str | None
    serving: str | None


def serving_keys(lock: Lock) -> dict[str, str]:
    """Return the key to publish of each model; a serving generation that is not ready is not published."""
    ready = (
        (name, generation.key)
        for name, model in lock.models.items()
        if (generation := model.serving_generation) and generation.state is State.ACTIVE
    )
    return dict(sorted(ready))


def find_conflicts(pointer: Mapping[str, str], lock: Lock) -> tuple[PointerConflict, ...]:
    """Return the models whose key in a pointer (keys by model) is neither the last one written nor the serving one."""
    serving = serving_keys(lock)
    written = {name: model.published for name, model in lock.models.items()}
    models = (
        PointerConflict(name, pointer.get(name), written.get(name), serving.get(name))
        for name in sorted(pointer.keys() | lock.models.keys())
    )
    return tuple(model for model in models if model.found not in {model.written, model.serving})


def newly_published(lock: Lock, stage: str = "") -> tuple[Published, ...]:
    """Return an event for each model whose key in a pointer that is written now differs from the last one written.

    ``lock`` is as it is in the ``stage`` of the pointer; the first one has no name here.
    """
    serving = serving_keys(lock)
    return tuple(
        Published(name, serving.get(name), stage)
        for name, model in sorted(lock.models.items())
        if model.published != serving.get(name)
    )


def without_pointer(target: Target, name: str, model: LockedModel) -> tuple[Published, ...]:
    """Return an event for each stage of a model that was published, and for which the target has no pointer now."""
    published = {"": model.published} | {stage: record.published for stage, record in model.stages.items()}
    destinations = {"": target.destination()} | {stage.name: stage.publish for stage in target.later_stages}
    return tuple(
        Published(name, None, stage) for stage, key in published.items() if key and not destinations.get(stage)
    )


def require_unchanged(
    pointer: Mapping[str, PublishedModel], lock: Lock, shown: str, endpoint_pattern: str = ""
) -> None:
    """Refuse to overwrite a pointer that something else has changed; ``shown`` is its name in messages.

    Another endpoint in the target's project and location is replaced, because a model can be deployed again.
    ``endpoint_pattern`` matches these.

    Raises:
        ReconcileError: with the models, their keys in the pointer and the keys that were last written.
    """
    found = [*map(_describe, find_conflicts({name: model.key for name, model in pointer.items()}, lock))]
    found += [
        f"{name} has the remote name {model.remote}, which was not written by this project"
        for name, model in sorted(pointer.items())
        if _is_redirected(name, model, lock, endpoint_pattern)
    ]
    if found:
        listed = "; ".join(found[:_MOST_LISTED])
        more = f"; and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
        raise ReconcileError(
            f"{shown}: changed out-of-band, not overwritten: {listed}{more}",
            f"find out what changed it, then move it away: {_NEXT_APPLY}",
        )


def _is_redirected(name: str, published: PublishedModel, lock: Lock, endpoint_pattern: str) -> bool:
    """Whether a recorded key has another remote name, so prompts go elsewhere.

    The endpoint also counts as the remote name, as it can be recorded after the pointer was written.
    """
    model = lock.models.get(name)
    recorded = model.generation(published.key) if model else None
    if recorded is None or not published.remote:
        return False
    if recorded.resources.endpoint and re.fullmatch(endpoint_pattern, published.remote):
        return False
    return published.remote not in {recorded.remote, recorded.resources.endpoint, recorded.resources.weights}


def _describe(conflict: PointerConflict) -> str:
    found = f"{conflict.name} has {conflict.found}" if conflict.found else f"{conflict.name} is missing"
    written = f"last written was {conflict.written or 'nothing'}"
    serving = f"{conflict.serving} is serving" if conflict.serving else "no generation is serving"
    return f"{found} ({written}, {serving})"


def read_pointer(text: str, target: Target, shown: str, stage: str = "") -> dict[str, PublishedModel]:
    """Parse a pointer of a stage, and return its models by name; ``shown`` is the name of the pointer in messages.

    A pointer that was written before the target had stages has none.

    Raises:
        ReconcileError: for truncated or other JSON, a newer version, or the pointer of another target or stage.
    """
    remedy = f"check the file, then move it away: {_NEXT_APPLY}"
    source = JsonSource(text, shown, remedy, _NOT_POINTER, limit=MAX_LOCKFILE_BYTES)
    document = source.parse()
    if not isinstance(document, dict) or document.get("kind") != _KIND or type(document.get("version")) is not int:
        raise source.error([], "other JSON")
    source.require_version(document, POINTER_VERSION)
    pointer = source.convert(document, Pointer)
    _require_target(pointer.target, target, shown)
    if pointer.stage not in ("", stage):
        raise ReconcileError(
            f"{shown}: belongs to the stage {sanitize(pointer.stage)}, not overwritten: it would be written for"
            f" {f'the stage {stage}' if stage else 'a target without stages'}",
            f"set another spec.stages[].publish for each stage, or move the file away: {_NEXT_APPLY}",
        )
    if len(pointer.models) > MAX_MODELS:
        raise source.error(["models"], f"{len(pointer.models)} models: expected at most {MAX_MODELS}")
    models: dict[str, PublishedModel] = {}
    for index, model in enumerate(pointer.models):
        if model.name in models:
            raise source.error(["models", index], f"duplicate model {model.name}")
        models[model.name] = model
    return models


def served_in(pointer: Mapping[str, PublishedModel]) -> dict[str, Served]:
    """Return what a pointer publishes by the names of the models."""
    return {name: Served(model.key, model.checkpoint) for name, model in pointer.items()}


def object_history(pointer: Mapping[str, PublishedModel], written: datetime) -> PublicationHistory:
    """Return the history of a pointer object that was ``written`` at this time of the server.

    An account that may write the bucket may publish, so the times of its entries are trusted as much as the entries.
    Each write keeps the time of an entry that it does not change.
    """
    published = served_in(pointer)
    claims = {name: moment for name, model in pointer.items() if (moment := model.published_at)}
    return PublicationHistory((Sighting(written, published, claims),))


def with_times(text: str, written: datetime) -> str:
    """Return a valid pointer that the server wrote then, with this time in each entry that has no earlier one."""
    document = json.loads(text)
    document["models"] = [_with_time(model, written) for model in document["models"]]
    return json.dumps(document)


def _with_time(model: dict[str, Any], written: datetime) -> dict[str, Any]:
    known = PublishedModel("", "", publish_time=model.get(_PUBLISH_TIME, "")).published_at
    if known and known <= written:
        return model
    first: dict[str, Any] = {field: model[field] for field in _BEFORE_TIME if field in model}
    dated = {**first, _PUBLISH_TIME: to_builtins(written.astimezone(UTC))}
    return dated | {field: value for field, value in model.items() if field not in dated}


def _require_target(recorded: PointerTarget, target: Target, shown: str) -> None:
    for name in _TARGET_FIELDS:
        found, expected = getattr(recorded, name), getattr(target, name) or None
        if found != expected:
            raise ReconcileError(
                f"{shown}: belongs to another target, not overwritten: {name} is {found or 'none'}, but "
                f"{expected or 'none'} in {target.file}",
                f"set another spec.publish for each target, or move the file away: {_NEXT_APPLY}",
            )
