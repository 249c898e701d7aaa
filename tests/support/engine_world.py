"""An applier over the embedded service in process, with a clock that moves only when a run waits."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from msgspec import Struct, field
from msgspec.structs import replace
from starlette.requests import Request as HttpRequest

from reconciler.domain.checks import Check
from reconciler.domain.errors import Place
from reconciler.domain.identity import dataset_digest
from reconciler.domain.lock import Lock
from reconciler.domain.model import Dataset, Example, Limits, Manifest, Number, Source, Stage, Target
from reconciler.domain.plan import Plan
from reconciler.domain.ports import Provider
from reconciler.emulator.app import create_app
from reconciler.emulator.training import TrainingPace
from reconciler.engine.apply import Applier, ApplyOptions, ApplyOutcome
from reconciler.engine.execute import Publish, RunContext, publish_nothing
from reconciler.engine.recorder import Recorder
from reconciler.environment import Deadline
from reconciler.planning.events import Event
from reconciler.state.lockfile import LockFile, loads
from support.base_models import GEMINI_API
from support.provider_service import Relay, Time, provider_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")

FOREIGN = Path(__file__).parent.parent / "fixtures" / "legacy" / "list_tuned_models.v1beta3.json"
EXAMPLES = tuple(Example(str(number), str(number + 1)) for number in range(15))
TUNING = {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
SECONDS = 2 + 23
"""How long a training of TUNING takes: 23 steps of a second, and what start and end take."""
LIST = "GET /v1beta3/tunedModels"
CREATE = "POST /v1beta3/tunedModels"


def manifest(name: str = "numbers", *, examples: tuple[Example, ...] = EXAMPLES, **fields: Any) -> Manifest:
    """A manifest over 15 examples and TUNING; ``fields`` are further ones of the Manifest, or other ones."""
    return replace(
        Manifest(
            name=name,
            file=f"{name}.yaml",
            place=Place(f"{name}.yaml"),
            source=Source(GEMINI_API),
            dataset=Dataset(dataset_digest(examples), "data.csv", len(examples)),
            hyperparameters=TUNING,
        ),
        **fields,
    )


def tuning(**changes: Number) -> dict[str, Number]:
    return {**TUNING, **changes}


class SameExamples:
    """The same examples for every manifest."""

    def training(self, _: Manifest) -> tuple[Example, ...]:
        return EXAMPLES

    def validation(self, _: Manifest) -> tuple[Example, ...]:
        return ()

    def places(self, _: Manifest, numbers: Collection[int], *, validation: bool = False) -> dict[int, str]:
        return {number: f"{'validation' if validation else 'data'}.csv:{number + 1}" for number in numbers}

    def held_out(self, _manifest: Manifest, _check: Check) -> tuple[Example, ...]:
        return ()


class Ran(Struct, frozen=True):
    """One run: the plan that was approved, how it ended, what happened, and the requests that it sent."""

    approved: Plan
    outcome: ApplyOutcome
    events: list[Event]
    requests: list[str]

    @property
    def happened(self) -> list[str]:
        """The names of the events, without progress and what repeats the manifests."""
        names = (type(event).__name__ for event in self.events)
        return [name for name in names if name not in {"Progressed", "Declared", "Targeted", "Applied"}]


class Checkout(Struct, dict=True):
    """The lockfile of one working copy."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def lock(self) -> Lock:
        return loads(self.text, self.path.name) if self.path.exists() else Lock()


class World(Struct, dict=True):
    """A service and a first checkout; ``around`` puts an application before the service."""

    folder: Path
    models: Path | None = None
    limits: Limits = field(default_factory=Limits)
    scope: str = "demo"
    around: Callable[[ASGIApp], ASGIApp] = field(default=lambda app: app)
    time: Time = field(default_factory=partial(Time, 30))  # the first or second poll of a training finds its end
    publish: Publish = publish_nothing
    store: Path | None = None
    """The file of the service's models; by default they are in memory."""
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        self.app: ASGIApp = create_app(
            store=self.store,
            clock=self.time.clock,
            random=random.Random(1),  # noqa: S311 - made-up ids, no secret
            settings=TrainingPace(step_seconds=1, overhead_seconds=2),
            world=self.models,
        )
        self.relay = Relay(self.around(self.app))
        self.checkout = self.another("reconcile.lock.json")

    def another(self, name: str) -> Checkout:
        return Checkout(self.folder / name)

    @property
    def target(self) -> Target:
        publish = "" if self.publish is publish_nothing else "serving.json"
        return Target(
            "default", "reconcile.yaml", "embedded", self.scope, limits=self.limits, publish=publish, stages=self.stages
        )

    def recorder(self, checkout: Checkout, events: list[Event]) -> Recorder:
        return Recorder(checkout.lock, LockFile(checkout.path), self.time.clock, [events.append])

    def context(
        self,
        provider: Provider,
        manifests: tuple[Manifest, ...],
        recorder: Recorder,
        timeout: timedelta | None = None,
        grace: timedelta | None = None,
    ) -> RunContext:
        return RunContext(
            provider=provider,
            manifests=manifests,
            target=self.target,
            recorder=recorder,
            examples=SameExamples(),
            clock=self.time.clock,
            sleeper=self.time.sleep,
            publish=self.publish,
            deadline=Deadline(timeout, self.time.clock, grace),
        )

    def with_provider(self, act: Callable[[Provider], Awaitable[T]]) -> T:
        async def run() -> T:
            async with provider_of(self.relay, self.time) as provider:
                return await act(provider)

        return asyncio.run(run())

    def run(
        self,
        *manifests: Manifest,
        checkout: Checkout | None = None,
        approve: Callable[[Plan], Plan] = lambda plan: plan,
        timeout: timedelta | None = None,
        grace: timedelta | None = None,
        **options: Any,
    ) -> Ran:
        """Plan, and apply what ``approve`` returns for the plan."""
        events: list[Event] = []
        before = len(self.relay.lines)

        async def act(provider: Provider) -> tuple[Plan, ApplyOutcome]:
            recorder = self.recorder(checkout or self.checkout, events)
            context = self.context(provider, manifests, recorder, timeout, grace)
            applier = Applier(context, ApplyOptions(**options))
            approved = approve(await applier.plan())
            return approved, await applier.apply(approved)

        approved, outcome = self.with_provider(act)
        return Ran(approved, outcome, events, self.relay.lines[before:])

    def look(self, *manifests: Manifest, **options: Any) -> Plan:
        async def act(provider: Provider) -> Plan:
            recorder = self.recorder(self.checkout, [])
            return await Applier(self.context(provider, manifests, recorder), ApplyOptions(**options)).plan()

        return self.with_provider(act)

    def request(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """Send a request as another client."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, f"/v1beta3/{path}", params=query, json=body)

        response = asyncio.run(send())
        assert response.status_code == 200, response.text
        return dict(response.json())

    def everything(self) -> list[dict[str, Any]]:
        """The full JSON of every model."""
        return list(self.request("GET", "tunedModels", pageSize="1000").get("tunedModels", []))


def crowd(folder: Path, count: int) -> Path:
    """A world file of that many unmanaged models."""
    models = [{"name": f"tunedModels/other-{number}", "baseModel": GEMINI_API} for number in range(count)]
    path = folder / f"crowd-{count}.json"
    path.write_text(json.dumps({"tunedModels": [{**model, "state": "ACTIVE"} for model in models]}), encoding="utf-8")
    return path


def answering(answer: Callable[[HttpRequest], Response | None]) -> Callable[[ASGIApp], ASGIApp]:
    """A front end that answers some requests itself."""

    def around(app: ASGIApp) -> ASGIApp:
        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            response = answer(HttpRequest(scope))
            await (response or app)(scope, receive, send)

        return front

    return around
