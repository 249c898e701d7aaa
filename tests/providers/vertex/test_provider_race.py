"""Two runs that create one generation at once, seeing nothing before they post: one job is kept, whatever the order."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from itertools import permutations

import httpx

from reconciler.domain.model import RemoteModel, State
from reconciler.domain.ports import Created, Exists
from reconciler.emulator.app import create_app
from support.cases import each_row
from support.provider_samples import EXAMPLES
from support.provider_service import Time
from support.provider_vertex import WANTED, Turns, vertex_over

# Both look and find nothing; A uploads the data, B finds it there. Then each posts, looks again, and may cancel.
BEFORE = "ABAAB"
AFTER = sorted({"".join(order) for order in permutations("AAABBB")})


def race(order: str, tick: float) -> tuple[list[Created | Exists], tuple[RemoteModel, ...], list[str]]:
    """What both runs are told, and what is there afterwards. ``tick`` seconds pass whenever the service looks."""
    time = Time()

    def ticking() -> datetime:
        time.now += timedelta(seconds=tick)
        return time.now

    seeded = random.Random(1)  # noqa: S311 - made-up ids, no secret
    app = create_app(store=None, clock=ticking, random=seeded)

    async def run() -> tuple[list[Created | Exists], tuple[RemoteModel, ...], list[str]]:
        turns = Turns(app, order)

        async def one(name: str) -> Created | Exists:
            async with vertex_over(turns.of(name), time) as provider:
                answer = await provider.create(WANTED, EXAMPLES)
            await turns.leave(name)
            return answer

        answers = await asyncio.gather(one("A"), one("B"))
        async with vertex_over(httpx.ASGITransport(app), time) as provider:
            return list(answers), await provider.list(progress=False), turns.lines

    return asyncio.run(run())


@each_row("order", AFTER)
def test_one_job_is_kept_in_any_order(order: str) -> None:
    answers, there, lines = race(BEFORE + order, 0.001)
    assert sum(" POST /v1beta1/" in line and line.endswith("/tuningJobs") for line in lines) == 2
    kept = [job for job in there if job.state is not State.CANCELLED]
    assert len(there) == 2
    assert len(kept) == 1
    told = {answer.handle.remote if isinstance(answer, Created) else answer.remote for answer in answers}
    assert told == {kept[0].remote}
    assert [type(answer) for answer in answers].count(Created) == 1
    assert kept[0].create_time == min(job.create_time for job in there)


@each_row("order", AFTER)
def test_jobs_of_one_moment_are_reported_apart_by_their_names(order: str) -> None:
    _, there, _ = race(BEFORE + order, 0)
    kept = [job.remote for job in there if job.state is not State.CANCELLED]
    assert kept == [min(job.remote for job in there)]
