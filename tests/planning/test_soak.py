"""Since when a generation has been published, of histories with forged and wrong times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.domain.plan import Publication
from reconciler.planning.lock_review import Served
from reconciler.planning.soak import PublicationHistory, Sighting, commit_times, published_since
from support.cases import each_row

K1, K2 = Served("words-11111111"), Served("words-22222222")
SHALLOW = ("this clone is shallow", "fetch it")


def at(hour: float) -> datetime:
    return datetime(2026, 11, 30, tzinfo=UTC) + timedelta(hours=hour)


NOW, COMPLETED = at(20), at(8)


def seen(hour: float, served: Served | None = K1, claim: float | None = None, name: str = "words") -> Sighting:
    return Sighting(at(hour), {name: served} if served else {}, {} if claim is None else {name: at(claim)})


@each_row(
    ("sightings", "since"),
    [
        # a file in git: the file on disk, then commits
        ((seen(20), seen(15), seen(12), seen(11, K2)), at(12)),
        ((seen(20), seen(15, name="old"), seen(11, None)), at(15)),  # under a former name
        ((seen(20), seen(15, K2), seen(12)), at(20)),  # an uncommitted change counts from now
        ((seen(20, K2), seen(15), seen(12)), None),  # not published now
        ((seen(20), seen(15), seen(13, None), seen(9)), at(15)),  # published before, and not in between
        ((seen(20), seen(15, Served(K1.key, "2")), seen(9)), at(20)),  # another checkpoint is another publication
        ((seen(20), seen(15), seen(-9999), seen(-9999, K2)), at(8)),  # before the training was completed
        ((seen(20), seen(30), seen(15, K2)), at(20)),  # a commit in the future
        # an object in a bucket: the time of its last write, and the claims of its writer
        ((seen(15),), at(15)),
        ((seen(15, claim=10),), at(10)),
        ((seen(15, claim=16),), at(15)),  # later than the write that contains it
        ((seen(15, claim=7),), at(8)),  # before the training was completed
        ((seen(15, claim=8),), at(8)),
        ((seen(25),), at(20)),  # the clock of the server is ahead
        ((seen(25, claim=22),), at(20)),
        ((seen(15, claim=10, name="other"),), None),
        ((), None),
    ],
)
def test_since_when_a_generation_is_published(sightings: tuple[Sighting, ...], since: datetime | None) -> None:
    found = published_since(("words", "old"), K1, PublicationHistory(sightings), now=NOW)
    assert found.not_before(COMPLETED) == Publication(since)


@each_row(
    ("sightings", "since", "unknown"),
    [
        ((), None, True),
        ((seen(20), seen(15)), at(15), True),  # at least since then
        ((seen(20), seen(15), seen(12, K2)), at(15), False),  # earlier moments do not matter
        ((seen(20, K2),), None, False),
    ],
)
def test_what_is_missing_of_a_history(
    sightings: tuple[Sighting, ...], since: datetime | None, *, unknown: bool
) -> None:
    found = published_since(("words",), K1, PublicationHistory(sightings, *SHALLOW), now=NOW)
    assert found == Publication(since, *(SHALLOW if unknown else ()))
    assert found.lasted(timedelta(hours=5), NOW) is (since == at(15))
    assert not found.lasted(timedelta(hours=5, seconds=1), NOW)
    assert found.end_of(timedelta(hours=5)) == (NOW if since else None)


@each_row(
    ("committed", "credible"),
    [
        ((15, 12, 9), (15, 12, 9)),
        ((-9999, 12, 9), (12, 12, 9)),  # a commit is not older than its parent
        ((15, 30, 9), (15, 20, 9)),  # one in the future counts as now, and does not move its descendants
        ((30,), (20,)),
        ((), ()),
    ],
)
def test_times_of_commits(committed: tuple[float, ...], credible: tuple[float, ...]) -> None:
    assert commit_times([at(hour) for hour in committed], NOW) == tuple(at(hour) for hour in credible)
