"""Prove from the live model that a recorded generation is what the lockfile states.

A lockfile can be edited in a pull request. A record counts only if the live model under its remote name shows that it
was trained or adopted for the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from reconciler.domain.identity import Content, key_of, same_data, same_value
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import UNKNOWN_DATA, Hyperparameters, Manifest, RemoteModel, Source
from reconciler.domain.plan import World

_NO_LOCK = Lock()


class Owner(Struct, frozen=True):
    """What the live models of a manifest must show.

    ``names`` are the present and former names of the manifest, or the recorded name of an orphan; a mark must have one
    of them, or with ``None`` any name. ``adopted`` is the remote name in ``spec.adopted``. ``remote_pattern`` matches
    the remote names of the target's project and location. ``lock`` has the parents.
    """

    scope: str
    name: str
    names: tuple[str, ...] | None = None
    adopted: str = ""
    remote_pattern: str = r"\S+"
    lock: Lock = _NO_LOCK

    def has_name(self, name: str) -> bool:
        """Whether a mark may have that name."""
        return self.names is None or name in self.names


class Mismatch(Struct, frozen=True):
    """The field of a record that the live model contradicts, and how; the remedy is empty if there is no better one."""

    field: str
    message: str
    remedy: str = ""


class Owners(Struct, frozen=True):
    """The owner of each recorded or declared name."""

    scope: str
    manifests: Mapping[str, Manifest]
    remote_pattern: str
    lock: Lock
    complete: bool

    @classmethod
    def of(cls, world: World) -> Owners:
        """Return the owners of a world. Without all manifests, the former names of the others are unknown."""
        manifests = {manifest.name: manifest for manifest in world.manifests}
        pattern = world.capabilities.remote_pattern
        return cls(world.scope, manifests, pattern, world.lock, world.request.complete)

    def owner(self, name: str) -> Owner:
        """Return the owner of that name."""
        manifest = self.manifests.get(name)
        if manifest:
            return Owner(self.scope, name, manifest.names, manifest.adopted, self.remote_pattern, self.lock)
        return Owner(self.scope, name, (name,) if self.complete else None, "", self.remote_pattern, self.lock)


def find_mismatch(generation: LockedGeneration, owner: Owner, live: RemoteModel) -> Mismatch | None:
    """Return how the live model under the remote name of a record contradicts it, ``None`` if it proves the record."""
    return next(_mismatches(generation, owner, live), None)


def _mismatches(generation: LockedGeneration, owner: Owner, live: RemoteModel) -> Iterator[Mismatch]:
    if live.edit:
        yield Mismatch("remote", live.edit.message, live.edit.remedy)
    if live.remote != generation.remote:
        yield Mismatch("remote", f"the service returns {live.remote} for this name")
    yield from _unproved_mark(generation, owner, live) if live.mark else _unmarked(generation, owner, live)
    if generation.origin == "created":
        data = generation.dataset.digest
        yield from _unproved_content(generation, owner, generation.hyperparameters.declared, data)
    elif live.mark is None:
        yield from _unproved_content(generation, owner, {}, UNKNOWN_DATA)  # as adopt recorded it
    if generation.checkpoint and live.resources.checkpoint(generation.checkpoint) is None:
        yield Mismatch("checkpoint", f"the model has no checkpoint {generation.checkpoint}")
    if live.chosen_id is not None:  # a service that chooses the names may spell the content differently
        yield from _other_content(generation, owner, live)


def _unproved_mark(generation: LockedGeneration, owner: Owner, live: RemoteModel) -> Iterator[Mismatch]:
    mark = live.mark
    if mark is None:
        return
    if mark.scope != owner.scope:
        yield Mismatch("remote", f"it has the ownership mark of the scope {mark.scope}")
    if not owner.has_name(mark.name):
        yield Mismatch("remote", f"it has the ownership mark of {mark.name}")
    if key_of(mark) != generation.key:
        yield Mismatch("key", f"it has the ownership mark of {key_of(mark)}")
    if mark.spec != generation.spec:
        yield Mismatch("spec", f"its ownership mark has {mark.spec}")
    if mark.attempt != generation.attempt:
        yield Mismatch("attempt", f"its ownership mark has {mark.attempt}")
    if not same_data(mark.data, generation.dataset.digest):
        yield Mismatch("dataset.digest", f"its ownership mark has {mark.data}")
    if live.chosen_id is not None and live.chosen_id != generation.key and generation.origin == "created":
        yield Mismatch("remote", "its id is not the key of the generation")


def _unmarked(generation: LockedGeneration, owner: Owner, live: RemoteModel) -> Iterator[Mismatch]:
    """Compare a model without a mark: an edited description loses it, and adopted models do not have it at first."""
    if not generation.is_same(live):
        times = (
            f"was created at {live.create_time or 'an unknown time'}, not at {generation.create_time or 'that time'}"
        )
        yield Mismatch("createTime", f"it has no ownership mark, and {times}")
    if generation.origin == "adopted" and owner.names is not None and owner.adopted != generation.remote:
        yield Mismatch("remote", "it has no ownership mark, and no manifest names it in spec.adopted")
    if generation.origin == "adopted" and live.source and not generation.source.is_same(live.source):
        yield Mismatch("source", f"it was tuned from {live.source.identity}, not from {generation.source.identity}")
    if generation.origin == "created" and live.chosen_id != generation.key:
        yield Mismatch("remote", "it has no ownership mark, and its id is not the key of the generation")


def _unproved_content(
    generation: LockedGeneration, owner: Owner, declared: Hyperparameters, data: str
) -> Iterator[Mismatch]:
    """Recompute the digest of a record; a training of this project has all of its content there."""
    made_as = generation.key.rpartition("-")[0]
    content = Content(
        owner.scope,
        made_as,
        generation.source,
        declared,
        data,
        generation.attempt,
    ).mark()
    if not owner.has_name(made_as):
        yield Mismatch("key", f"it is a key of {made_as}")
    if content.spec != generation.spec:
        yield Mismatch("spec", "it is not the digest of the recorded content")
    elif key_of(content) != generation.key:
        yield Mismatch("key", f"the key of the recorded content is {key_of(content)}")


def _other_content(generation: LockedGeneration, owner: Owner, live: RemoteModel) -> Iterator[Mismatch]:
    recorded = shown_source(generation.source, owner.lock)
    if live.source and recorded.identity and not recorded.is_same(live.source):
        yield Mismatch("source", f"it was tuned from {live.source.identity}, not from {recorded.identity}")
    if live.mark is None:  # a mark has the digest of the declared hyperparameters
        yield from _other_hyperparameters(generation, live)


def _other_hyperparameters(generation: LockedGeneration, live: RemoteModel) -> Iterator[Mismatch]:
    effective = generation.hyperparameters.effective
    for name in sorted(effective.keys() & live.hyperparameters.keys()):
        if not same_value(effective[name], live.hyperparameters[name]):
            value = live.hyperparameters[name]
            yield Mismatch(f"hyperparameters.effective.{name}", f"it was trained with {value}, not {effective[name]}")


def shown_source(source: Source, lock: Lock) -> Source:
    """Return a source as services return it; empty if the lockfile no longer has the parent."""
    if not source.tuned_model:
        return source
    parent = lock.models.get(source.tuned_model)
    found = parent.generation(source.key) if parent else None
    if found is None:
        return Source()
    return Source(remote=found.resources.model or found.remote, checkpoint=source.checkpoint)


def is_elsewhere(generation: LockedGeneration, owner: Owner) -> bool:
    """Whether a remote name is outside the target's project and location, so that no request is sent for it."""
    return bool(generation.remote) and not re.fullmatch(owner.remote_pattern, generation.remote)


def is_adopted(live: RemoteModel, key: str) -> bool:
    """Whether another user trained the model of a generation; the origin in a record can be edited.

    Where callers choose ids, that of a training of this project is its key. Elsewhere only such a training has a mark.
    """
    return live.mark is None if live.chosen_id is None else live.chosen_id != key
