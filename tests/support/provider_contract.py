"""The services that the contract suite of the providers runs over; a further provider is a row of SERVICES."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, TypeVar

import httpx

from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Handle,
    Hyperparameters,
    RemoteModel,
    Sampling,
    Source,
    State,
    Target,
)
from reconciler.domain.ports import Created, Provider
from reconciler.emulator.answers import BLOCKED_PROMPT
from reconciler.emulator.app import create_app
from reconciler.emulator.training import TrainingPace
from reconciler.providers.vertex.provider import connect as connect_vertex
from support import provider_fake
from support.provider_fake import FakeJobs, FakeProvider
from support.provider_samples import BASE_MODELS, EXAMPLES, generation, judge
from support.provider_service import ENDPOINT, Relay, Time, provider_of, settings_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

T = TypeVar("T")
NEVER = timedelta(days=1)

TARGET = Target(
    name="default",
    file="reconcile.yaml",
    provider="vertex",
    scope="acme/nlp",
    project="acme-project",
    location="us-central1",
    endpoint=ENDPOINT,
    storage_endpoint=ENDPOINT,
    bucket="gs://acme-data/tuning",
)


class Service(ABC):
    """A service in memory, whose training takes no real time.

    ``hyperparameters`` are ones that it takes, ``diverging`` ones with which a training fails, and ``steps`` how many
    the training with the former has, where the service says so when it begins. ``curves`` tells that it shows how a
    training goes on. ``blocked`` is a prompt that it does not answer, for the reason SAFETY.
    """

    base_model: str
    blocked: ClassVar[str]
    hyperparameters: ClassVar[Hyperparameters]
    diverging: ClassVar[Hyperparameters]
    steps: ClassVar[int | None] = None
    curves: ClassVar[bool] = False

    def __init__(self) -> None:
        self.time = Time()

    def clock(self) -> datetime:
        """The service's time; no two looks at it are the same moment, as for a real one."""
        self.time.now += timedelta(milliseconds=1)
        return self.time.now

    @abstractmethod
    def provider(self) -> AsyncIterator[Provider]:
        """A provider for one act."""

    @abstractmethod
    def judged(self) -> int | None:
        """How many requests with a body there were, each judged by Google's protos; ``None`` where there are none."""

    def run(self, act: Callable[[Provider], Awaitable[T]]) -> T:
        async def run() -> T:
            async with asynccontextmanager(self.provider)() as provider:
                return await act(provider)

        return asyncio.run(run())

    def race(self, act: Callable[[Provider], Awaitable[T]]) -> list[T]:
        """What two runs at the same time come to."""

        async def run() -> list[T]:
            opened = asynccontextmanager(self.provider)
            async with opened() as one, opened() as other:
                return await asyncio.gather(act(one), act(other))

        return asyncio.run(run())

    @property
    def capabilities(self) -> Capabilities:
        async def told(provider: Provider) -> Capabilities:
            return provider.capabilities

        return self.run(told)

    def generation(
        self,
        hyperparameters: Hyperparameters | None = None,
        *,
        name: str = "number-generator",
        sampling: Sampling | None = None,
        parent: RemoteModel | None = None,
    ) -> CreateRequest:
        declared = self.hyperparameters if hyperparameters is None else hyperparameters
        made = generation(name, base_model=self.base_model, hyperparameters=declared, sampling=sampling)
        return replace(made, source=Source(remote=parent.resources.model or parent.remote)) if parent else made

    def train(self, wanted: CreateRequest) -> Handle:
        created = self.run(lambda provider: provider.create(wanted, EXAMPLES))
        assert isinstance(created, Created)
        return created.handle

    def trained(self, wanted: CreateRequest | None = None) -> RemoteModel:
        """A model whose training has ended."""
        handle = self.train(wanted or self.generation())
        self.time.now += NEVER
        found = self.run(lambda provider: provider.observe(handle))
        assert found is not None
        assert found.state is State.ACTIVE
        return found

    def ask(self, model: RemoteModel, prompt: Prompt) -> Reply:
        """What a model answers."""
        return self.run(lambda provider: provider.infer(model.resources.endpoint or model.remote, prompt))


class _Embedded(Service):
    """The embedded service, which answers lists in small pages here, as any service may."""

    version: str
    blocked = BLOCKED_PROMPT

    def __init__(self) -> None:
        super().__init__()
        app: ASGIApp = create_app(
            store=None,
            clock=self.clock,
            random=random.Random(1),  # noqa: S311 - made-up ids, no secret
            settings=TrainingPace(step_seconds=1, overhead_seconds=2),
        )
        self.relay = Relay(app, page_size=2)

    def judged(self) -> int:
        return judge(self.relay.seen, self.version)


class EmbeddedGenerativeLanguage(_Embedded):
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    diverging: ClassVar[Hyperparameters] = {"epochCount": 3, "batchSize": 2, "learningRate": 1.0}
    steps = 23
    curves = True

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.base_model = BASE_MODELS[version]

    async def provider(self) -> AsyncIterator[Provider]:
        async with provider_of(self.relay, self.time, self.version) as provider:
            yield provider


class EmbeddedVertex(_Embedded):
    version = "v1"
    base_model = "gemini-2.5-flash"
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "learningRateMultiplier": 0.5, "adapterSize": 4}
    diverging: ClassVar[Hyperparameters] = {"learningRateMultiplier": 10_000}

    async def provider(self) -> AsyncIterator[Provider]:
        transport = httpx.ASGITransport(self.relay)
        async with connect_vertex(TARGET, settings_of(self.time, transport)) as provider:
            yield provider


class Fake(Service):
    base_model = provider_fake.BASE_MODEL
    blocked = provider_fake.BLOCKED
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "learningRateMultiplier": 0.5}
    diverging: ClassVar[Hyperparameters] = {"learningRateMultiplier": provider_fake.DIVERGES}

    def __init__(self) -> None:
        super().__init__()
        self.jobs = FakeJobs(self.clock)

    async def provider(self) -> AsyncIterator[Provider]:
        yield FakeProvider(self.jobs)

    def judged(self) -> None:
        return None


SERVICES: Mapping[str, Callable[[], Service]] = {
    "embedded v1beta3": lambda: EmbeddedGenerativeLanguage("v1beta3"),
    "embedded v1beta": lambda: EmbeddedGenerativeLanguage("v1beta"),
    "embedded Vertex AI": EmbeddedVertex,
    "fake without ids": Fake,
}
