"""The services that the contract of the providers runs over."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import httpx

from reconciler.domain.model import Hyperparameters, Target
from reconciler.domain.ports import Provider
from reconciler.emulator.app import create_app
from reconciler.emulator.generativelanguage.inference import BLOCKED_PROMPT
from reconciler.emulator.training import TrainingPace
from reconciler.providers.vertex.provider import connect as connect_vertex
from reconciler.providers.vertex.spec import SPEC, capabilities_of, endpoint_of
from reconciler.testing.service import ServiceUnderTest
from support import provider_fake
from support.base_models import GEMINI_API, VERTEX
from support.provider_fake import FakeJobs, FakeProvider
from support.provider_samples import judge
from support.provider_service import ENDPOINT, Relay, provider_of, settings_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

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


class _Embedded(ServiceUnderTest):
    """The embedded service, which answers lists in small pages here, as any service may."""

    version: str
    blocked = BLOCKED_PROMPT
    failure = "not a number"
    refusal = r"^POST /\S+ failed with 40[04] \w+: "

    def __init__(self) -> None:
        super().__init__()
        app: ASGIApp = create_app(
            store=None,
            clock=self.clock,
            random=random.Random(1),  # noqa: S311 - made-up ids, no secret
            settings=TrainingPace(step_seconds=1, overhead_seconds=2),
            base_models=SPEC.catalog(),
        )
        self.relay = Relay(app, page_size=2)

    async def sleep(self, seconds: float) -> None:
        self.advance(timedelta(seconds=seconds))

    def count_bodies(self) -> int:
        return judge(self.relay.seen, self.version)


class EmbeddedGenerativeLanguage(_Embedded):
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    diverging: ClassVar[Hyperparameters] = {"epochCount": 3, "batchSize": 2, "learningRate": 1.0}
    steps = 23
    curves = True

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.base_model = GEMINI_API

    async def provider(self) -> AsyncIterator[Provider]:
        async with provider_of(self.relay, self, self.version) as provider:
            yield provider


class EmbeddedVertex(_Embedded):
    version = "v1"
    base_model = VERTEX
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "learningRateMultiplier": 0.5, "adapterSize": 4}
    conditional = frozenset({"batchSize", "beta", "learningRate"})
    diverging: ClassVar[Hyperparameters] = {"learningRateMultiplier": 10_000}

    def count_bodies(self) -> int:
        return sum(judge(self.relay.seen, version) for version in (self.version, "v1beta1"))

    async def provider(self) -> AsyncIterator[Provider]:
        transport = httpx.ASGITransport(self.relay)
        async with connect_vertex(
            endpoint_of(TARGET), TARGET, settings_of(self, transport), capabilities_of(TARGET)
        ) as provider:
            yield provider


class Fake(ServiceUnderTest):
    base_model = provider_fake.BASE_MODEL
    blocked = provider_fake.BLOCKED
    failure = "not a number"
    refusal = r"^POST /\S+ failed with 40[04] \w+: "
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 3, "learningRateMultiplier": 0.5}
    diverging: ClassVar[Hyperparameters] = {"learningRateMultiplier": provider_fake.DIVERGES}

    def __init__(self) -> None:
        super().__init__()
        self.jobs = FakeJobs(self.clock)

    async def provider(self) -> AsyncIterator[Provider]:
        yield FakeProvider(self.jobs)
