"""What manifests alone say about recorded generations: names that they had before, and data sets that they claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Manifest
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.planning.events import Claimed, Renamed, record

Moved = Renamed | Claimed


def find_moved(lock: Lock, manifests: Iterable[Manifest]) -> tuple[Moved, ...]:
    """The events by which a lock follows its manifests; nothing at the service changes by them.

    What was recorded under a former name goes to the present one. The first data set that is declared for a generation
    of unknown data is claimed to be what that was trained on, whatever else the manifest asks for, so that any later
    one is a change.
    """
    return tuple(event for manifest in manifests for event in _events(lock, manifest))


def with_carried(lock: Lock, manifests: Iterable[Manifest]) -> Lock:
    """The lock after :func:`carried_over`."""
    return reduce(record, find_moved(lock, manifests), lock)


def declared_names(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Every name that a manifest bears or bore: what is recorded under one of them is no orphan."""
    return frozenset(name for manifest in manifests for name in manifest.names)


def carrying_actions(lock: Lock, manifests: Iterable[Manifest]) -> Iterator[Action]:
    """The same events as actions of a plan; they are carried out before all others."""
    by_name = {manifest.name: manifest for manifest in manifests}
    for event in find_moved(lock, by_name.values()):
        manifest = by_name[event.name]
        message = _renaming(lock, event) if isinstance(event, Renamed) else _claim(manifest)
        key = event.key if isinstance(event, Claimed) else lock.models[event.former].serving or ""
        reason = Reason.RENAMED if isinstance(event, Renamed) else Reason.DATA_CLAIMED
        yield Action(manifest.name, manifest.file, Kind.ADOPT, reason, key=key, message=message)


def _events(lock: Lock, manifest: Manifest) -> Iterator[Moved]:
    for former in manifest.formerly:
        if former in lock.models and has_content(lock.models[former]):
            event = Renamed(manifest.name, former, manifest.file)
            lock = record(lock, event)
            yield event
    model = lock.models.get(manifest.name)
    for one in model.generations if model else ():
        declares = bool(manifest.dataset.digest) and not manifest.dataset.is_unknown
        if one.dataset.is_unknown and (declares or one.preamble != manifest.preamble):
            dataset = manifest.dataset if declares else one.dataset
            yield Claimed(manifest.name, one.key, dataset, manifest.preamble)


def has_content(model: LockedModel) -> bool:
    """Whether more is recorded than what applications still have to be told."""
    return bool(model.generations or model.rejected)


def _renaming(lock: Lock, event: Renamed) -> str:
    count = len(lock.models[event.former].generations)
    many = "its generation is" if count == 1 else f"its {count} generations are"
    return f"recorded as {event.former} so far: {many} carried over, nothing is trained"


def _claim(manifest: Manifest) -> str:
    if manifest.dataset.is_unknown:
        return "its data is unknown: spec.dataset.preamble counts as what it was trained with, nothing is trained"
    what = manifest.dataset.path or "the examples in the manifest"
    return f"its data is unknown: from now on {what} counts as what it was trained on, nothing is trained"
