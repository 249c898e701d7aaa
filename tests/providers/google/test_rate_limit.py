from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.providers.google.http import RateLimit
from support.provider_service import Time


def test_the_minutes_allowance_passes_at_once_and_the_rest_evenly() -> None:
    time = Time()
    limit = RateLimit(30, clock=time.clock, sleep=time.sleep)

    async def run() -> None:
        for _ in range(33):
            await limit.acquire()

    asyncio.run(run())
    assert time.naps == [2.0, 2.0, 2.0]


def test_an_idle_minute_restores_the_allowance() -> None:
    time = Time()
    limit = RateLimit(10, clock=time.clock, sleep=time.sleep)

    async def ten() -> None:
        for _ in range(10):
            await limit.acquire()

    async def run() -> None:
        await ten()
        time.now += timedelta(minutes=1)
        await ten()

    asyncio.run(run())
    assert time.naps == []


def test_a_clock_that_is_set_back_costs_no_more_than_one_interval() -> None:
    time = Time()
    limit = RateLimit(60, clock=time.clock, sleep=time.sleep)

    async def run() -> None:
        for _ in range(60):
            await limit.acquire()
        time.now -= timedelta(hours=1)
        await limit.acquire()

    asyncio.run(run())
    assert time.naps == [1.0]


@given(per_minute=st.integers(1, 50), gaps=st.lists(st.floats(0, 30), min_size=1, max_size=120))
def test_no_minute_sees_more_than_its_allowance_twice(per_minute: int, gaps: list[float]) -> None:
    time = Time()
    limit = RateLimit(per_minute, clock=time.clock, sleep=time.sleep)
    sent = []

    async def run() -> None:
        for gap in gaps:
            time.now += timedelta(seconds=gap)
            await limit.acquire()
            sent.append(time.now)

    asyncio.run(run())
    for start in sent:
        within = [moment for moment in sent if start <= moment < start + timedelta(minutes=1)]
        assert len(within) <= 2 * per_minute
