"""The events by which recorded generations follow their manifests: renamed manifests and claimed data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Manifest
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.planning.events import Claimed, Renamed, record

Moved = Renamed | Claimed


def find_moved(lock: Lock, manifests: Iterable[Manifest]) -> tuple[Moved, ...]:
    """Return the events by which a lockfile follows its manifests; the service is not changed.

    The records of a former name move to the present one. The first data set that is declared for a generation with
    unknown data is a claim: it is recorded as its training data, so that a later change of the data set is a change.
    """
    return tuple(event for manifest in manifests for event in _events(lock, manifest))


def apply_moved(lock: Lock, manifests: Iterable[Manifest]) -> Lock:
    """Return the lockfile after the events of :func:`find_moved`."""
    return reduce(record, find_moved(lock, manifests), lock)


def declared_names(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Return all present and former names of manifests; models with these names are not orphans."""
    return frozenset(name for manifest in manifests for name in manifest.names)


def moved_actions(lock: Lock, manifests: Iterable[Manifest]) -> Iterator[Action]:
    """Return the events of :func:`find_moved` as actions of a plan; they are carried out first."""
    by_name = {manifest.name: manifest for manifest in manifests}
    for event in find_moved(lock, by_name.values()):
        manifest = by_name[event.name]
        if isinstance(event, Renamed):
            former = lock.models[event.former]
            reason, key, message = Reason.RENAMED, former.serving or "", _describe_rename(former, event)
        else:
            reason, key, message = Reason.DATA_CLAIMED, event.key, _describe_claim(manifest)
        yield Action(manifest.name, manifest.file, Kind.ADOPT, reason, key=key, message=message)


def _events(lock: Lock, manifest: Manifest) -> Iterator[Moved]:
    for former in manifest.formerly:
        if former in lock.models and has_content(lock.models[former]):
            event = Renamed(manifest.name, former, manifest.file)
            lock = record(lock, event)
            yield event
    model = lock.models.get(manifest.name)
    for generation in model.generations if model else ():
        declares = bool(manifest.dataset.digest) and not manifest.dataset.is_unknown
        if generation.dataset.is_unknown and (declares or generation.preamble != manifest.preamble):
            dataset = manifest.dataset if declares else generation.dataset
            yield Claimed(manifest.name, generation.key, dataset, manifest.preamble)


def has_content(model: LockedModel) -> bool:
    """Return whether more is recorded than the key in the published pointer."""
    return bool(model.generations or model.rejected)


def _describe_rename(former: LockedModel, event: Renamed) -> str:
    count = len(former.generations)
    records = "its generation is" if count == 1 else f"its {count} generations are"
    return f"recorded as {event.former} before: {records} moved to {event.name}, nothing is trained"


def _describe_claim(manifest: Manifest) -> str:
    claim = manifest.dataset.path or "the inline examples"
    if manifest.dataset.is_unknown:
        claim = "spec.dataset.preamble"
    return f"its training data is unknown: {claim} is recorded as a claim, nothing is trained"
