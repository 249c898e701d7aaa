"""Decide since when a generation has continuously been published to a stage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from msgspec import Struct

from reconciler.domain.plan import Publication
from reconciler.planning.lock_review import Served


class Sighting(Struct, frozen=True):
    """What was published at a moment: of a commit, or of the write of an object.

    ``claims`` are the times since which the writer of an object has published the models.
    """

    time: datetime
    published: Mapping[str, Served]
    claims: Mapping[str, datetime] = {}


class PublicationHistory(Struct, frozen=True):
    """What was published to a stage, newest first.

    Where older moments exist and cannot be read, ``problem`` and ``remedy`` explain this.
    """

    sightings: tuple[Sighting, ...] = ()
    problem: str = ""
    remedy: str = ""


def published_since(
    names: Collection[str], served: Served, history: PublicationHistory, *, now: datetime
) -> Publication:
    """Return since when a generation has continuously been published under one of the names of its manifest.

    The claim of a writer counts if it is not later than the write, by the server's clock. A time before the end of the
    training does not count either: see :meth:`~reconciler.domain.plan.Publication.not_before`.
    """
    found = tuple(takewhile(lambda sighting: _claim(names, served, sighting) is not None, history.sightings))
    since = min((time for sighting in found for time in _times(names, served, sighting, now)), default=None)
    is_complete = len(found) < len(history.sightings)
    return Publication(since) if is_complete else Publication(since, history.problem, history.remedy)


def _claim(names: Collection[str], served: Served, sighting: Sighting) -> str | None:
    """Return the name under which the generation was published then, if it was."""
    return next((name for name in names if sighting.published.get(name) == served), None)


def _times(names: Collection[str], served: Served, sighting: Sighting, now: datetime) -> Iterator[datetime]:
    """Yield the credible times of a sighting; one in the future counts as now."""
    yield min(sighting.time, now)
    claim = sighting.claims.get(_claim(names, served, sighting) or "")
    if claim and claim <= min(sighting.time, now):
        yield claim


def commit_times(times: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the times of commits, newest first, without those that their authors cannot have committed at.

    A commit is not older than its ancestors, and one in the future counts as now. It says nothing about its
    descendants then: otherwise one wrong clock would set all later times.
    """
    latest: datetime | None = None
    credible: list[datetime] = []
    for time in reversed(times):
        if time <= now:
            latest = time if latest is None else max(time, latest)
        credible.append(now if time > now or latest is None else latest)
    return tuple(reversed(credible))
