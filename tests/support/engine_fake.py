"""An applier over a service in memory that chooses ids, with a clock that moves only when a run waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.identity import key_of
from reconciler.domain.model import (
    CreateRequest,
    Handle,
    Limits,
    Manifest,
    RemoteModel,
    Source,
    State,
    Target,
    TrainingExample,
)
from reconciler.domain.plan import Plan
from reconciler.domain.ports import Created, Exists, Provider
from reconciler.engine.apply import Applier, ApplyOptions, ApplyOutcome
from reconciler.engine.execute import RunContext
from reconciler.engine.recorder import Recorder
from reconciler.environment import Deadline
from reconciler.planning.events import Event
from reconciler.state.lockfile import LockFile
from support import engine_world
from support.engine_world import Checkout, Ran, SameExamples
from support.provider_fake import BASE_MODEL, FakeJobs, FakeProvider
from support.provider_service import Time

SCOPE = "demo"


def manifest(name: str = "numbers", **fields: Any) -> Manifest:
    """A manifest that the service takes; ``fields`` are further ones of the Manifest, or other ones."""
    common = {"source": Source(BASE_MODEL), "hyperparameters": {"epochCount": 3}}
    return engine_world.manifest(name, **(common | fields))


class Meanwhile(Time):
    """A clock that calls one of ``acts``, in turn, at each sleep."""

    def __init__(self, least: float = 20) -> None:
        super().__init__(least)
        self.acts: list[Callable[[], object]] = []

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if self.acts:
            self.acts.pop(0)()


class Queue(FakeJobs):
    """A service that is so busy that no training ever begins."""

    def get(self, name: str) -> RemoteModel | None:
        return self.jobs.get(name)


def raising(error: BaseException) -> Callable[[], object]:
    """Something that happens by raising."""

    def act() -> object:
        raise error

    return act


class Eventful(FakeProvider):
    """Things happen at each create: ``before`` the service hears of it, and ``after`` it took the training."""

    def __init__(
        self,
        jobs: FakeJobs,
        *,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(jobs)
        self.before = before
        self.after = after

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        self.before()
        answer = await super().create(generation, examples, validation)
        self.after()
        return answer


class Blind(FakeProvider):
    """Lists the jobs, and shows none of them by name."""

    def __init__(self, jobs: FakeJobs, error: Exception) -> None:
        super().__init__(jobs)
        self.error = error

    async def observe(self, handle: Handle) -> RemoteModel | None:  # noqa: ARG002 - it shows none of them
        raise self.error


class World(Struct, dict=True):
    """A service and a first checkout."""

    folder: Path
    lag: int = 0
    service: type[FakeJobs] = FakeJobs
    limits: Limits = field(default_factory=Limits)
    time: Meanwhile = field(default_factory=Meanwhile)

    def __post_init__(self) -> None:
        self.jobs = self.service(self.time.clock, self.lag)
        self.checkout = self.another("reconcile.lock.json")

    def another(self, name: str) -> Checkout:
        return Checkout(self.folder / name)

    @property
    def target(self) -> Target:
        return Target(name="default", file="reconcile.yaml", provider="vertex", scope=SCOPE, limits=self.limits)

    def states(self) -> list[State]:
        """What became of each job, in the order in which they were begun."""
        return [job.state for name in self.jobs.jobs if (job := self.jobs.get(name))]

    def applier(
        self,
        manifests: tuple[Manifest, ...],
        options: ApplyOptions,
        *,
        checkout: Checkout | None = None,
        provider: Provider | None = None,
        events: list[Event] | None = None,
        timeout: timedelta | None = None,
    ) -> Applier:
        """A run of its own; ``events`` takes what happens."""
        into = checkout or self.checkout
        sinks = [] if events is None else [events.append]
        context = RunContext(
            provider=provider or FakeProvider(self.jobs),
            manifests=manifests,
            target=self.target,
            recorder=Recorder(into.lock, LockFile(into.path), self.time.clock, sinks),
            examples=SameExamples(),
            clock=self.time.clock,
            sleeper=self.time.sleep,
            deadline=Deadline(timeout, self.time.clock),
        )
        return Applier(context, options)

    def run(
        self,
        *manifests: Manifest,
        checkout: Checkout | None = None,
        provider: Provider | None = None,
        timeout: timedelta | None = None,
        **options: Any,
    ) -> Ran:
        """Look, and run the plan; ``provider`` is one with troubles of its own."""
        events: list[Event] = []
        applier = self.applier(
            manifests,
            ApplyOptions(**options),
            checkout=checkout,
            provider=provider,
            events=events,
            timeout=timeout,
        )

        async def act() -> tuple[Plan, ApplyOutcome]:
            approved = await applier.plan()
            return approved, await applier.apply(approved)

        approved, outcome = asyncio.run(act())
        return Ran(approved, outcome, events, [])

    def race(self, *checkouts: Checkout, **options: Any) -> list[Ran]:
        """Runs that all look before any of them acts; each has a thread if they share a lockfile, as one may wait."""
        recorded: list[list[Event]] = [[] for _ in checkouts]
        appliers = [
            self.applier((manifest(),), ApplyOptions(**options), checkout=checkout, events=events)
            for checkout, events in zip(checkouts, recorded, strict=True)
        ]

        async def act() -> list[tuple[Plan, ApplyOutcome]]:
            plans = [await applier.plan() for applier in appliers]
            runs = map(Applier.apply, appliers, plans)
            if len({checkout.path for checkout in checkouts}) < len(checkouts):
                runs = (asyncio.to_thread(asyncio.run, run) for run in list(runs))
            outcomes = await asyncio.gather(*runs)
            return list(zip(plans, outcomes, strict=True))

        ended = asyncio.run(act())
        return [Ran(plan, outcome, events, []) for (plan, outcome), events in zip(ended, recorded, strict=True)]

    def begin(self, declared: Manifest, checkout: Checkout | None = None) -> None:
        """What a run leaves that does not wait."""
        self.run(declared, checkout=checkout or self.another("elsewhere.json"), wait=False)

    def double(self, **fields: Any) -> None:
        """The first job's generation is trained again, as by a run that did not see it."""
        first = self.jobs.jobs["jobs/1"]
        assert first.mark is not None
        assert first.source is not None
        generation = CreateRequest(
            key=key_of(first.mark),
            mark=first.mark,
            source=first.source,
            hyperparameters=first.hyperparameters,
            display_name=first.display_name,
            description=first.description,
            sampling=first.sampling,
            dataset=manifest().dataset,
        )
        self.change(self.jobs.start(generation).remote, **fields)

    def change(self, remote: str, **fields: Any) -> None:
        """Something happens to a job at the service."""
        self.jobs.jobs[remote] = replace(self.jobs.jobs[remote], **fields)
