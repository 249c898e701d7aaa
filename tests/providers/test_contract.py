"""What every provider owes the engine, whatever service is behind it; a further provider is a row of SERVICES."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from reconciler.core.model import Capabilities, Generation, Handle, Hyperparameters, Sampling, Snapshot, State, Update
from reconciler.core.ports import Created, Exists, Provider
from reconciler.core.problems import ServiceError
from reconciler.emulator.app import create_app
from reconciler.emulator.settings import Settings
from support.provider_samples import BASE_MODELS, EXAMPLES, generation, judge
from support.provider_service import Relay, Time, provider_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

T = TypeVar("T")
NEVER = timedelta(days=1)


@dataclass
class Service:
    """A service in memory, whose training takes no real time; what it was sent is judged by Google's protos."""

    version: str
    world: Path | None = None
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        app: ASGIApp = create_app(
            store=None,
            clock=self.time.clock,
            random=random.Random(1),  # noqa: S311 - made-up ids, no secret
            settings=Settings(step_seconds=1, overhead_seconds=2),
            world=self.world,
        )
        self.relay = Relay(app)

    def run(self, act: Callable[[Provider], Awaitable[T]]) -> T:
        async def run() -> T:
            async with provider_of(self.relay, self.time, self.version) as provider:
                return await act(provider)

        return asyncio.run(run())

    def generation(
        self, hyperparameters: Hyperparameters | None = None, sampling: Sampling | None = None
    ) -> Generation:
        return generation(
            base_model=BASE_MODELS[self.version], hyperparameters=hyperparameters, sampling=sampling or Sampling()
        )

    def train(self, wanted: Generation) -> Handle:
        created = self.run(lambda provider: provider.create(wanted, EXAMPLES))
        assert isinstance(created, Created)
        return created.handle


SERVICES: Mapping[str, Callable[[], Service]] = {
    "embedded v1beta3": lambda: Service("v1beta3"),
    "embedded v1beta": lambda: Service("v1beta"),
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]()


def test_nothing_is_listed_at_first(service: Service) -> None:
    assert service.run(lambda provider: provider.list(progress=True)) == ()


def test_a_created_generation_trains_under_its_key_and_mark(service: Service) -> None:
    wanted = service.generation(sampling=Sampling(temperature=0.0, top_p=0.5, top_k=3))
    created = service.run(lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(created, Created)
    assert created.total_steps == 23
    found = service.run(lambda provider: provider.observe(created.handle))
    assert found is not None
    assert (found.state, found.chosen_id, found.mark) == (State.CREATING, wanted.key, wanted.mark)
    assert (found.display_name, found.description) == (wanted.display_name, wanted.description)
    assert (found.source, found.sampling) == (wanted.source, wanted.sampling)
    assert found.hyperparameters == wanted.hyperparameters
    assert (found.completed_steps, found.total_steps) == (0, 23)
    assert found.create_time
    assert judge(service.relay.seen, service.version) == 1


def test_what_is_left_out_is_the_services_to_choose(service: Service) -> None:
    handle = service.train(service.generation(hyperparameters={}))
    found = service.run(lambda provider: provider.observe(handle))
    assert found is not None
    assert {"epochCount", "batchSize", "learningRate"} <= set(found.hyperparameters)
    assert found.sampling.temperature is not None
    assert judge(service.relay.seen, service.version) == 1


def test_documented_defaults_are_the_services(service: Service) -> None:
    defaults = service.run(_capabilities).defaults
    handle = service.train(service.generation(hyperparameters={}))
    found = service.run(lambda provider: provider.observe(handle))
    assert found is not None
    assert {name: found.hyperparameters[name] for name in defaults} == dict(defaults)


async def _capabilities(provider: Provider) -> Capabilities:
    return provider.capabilities


def test_every_hyperparameter_of_the_capabilities_is_taken(service: Service) -> None:
    names = service.run(_capabilities).hyperparameters
    for name in names:
        wanted = generation(name=name.lower(), base_model=BASE_MODELS[service.version], hyperparameters={name: 1})
        assert isinstance(service.run(lambda provider, wanted=wanted: provider.create(wanted, EXAMPLES)), Created)
    assert judge(service.relay.seen, service.version) == len(names)


def test_creating_twice_answers_with_what_is_there(service: Service) -> None:
    wanted = service.generation()
    handle = service.train(wanted)
    again = service.run(lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(again, Exists)
    assert again.remote == handle.remote
    assert again.model is not None
    assert again.model.mark == wanted.mark
    assert len(service.run(lambda provider: provider.list(progress=False))) == 1


def test_progress_is_seen_while_time_passes_and_the_end_too(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += timedelta(seconds=10)
    training = service.run(lambda provider: provider.observe(handle))
    assert training is not None
    assert training.state is State.CREATING
    assert training.completed_steps is not None
    assert 0 < training.completed_steps < 23
    assert training.snapshots[-1].step == training.completed_steps
    service.time.now += NEVER
    trained = service.run(lambda provider: provider.observe(handle))
    assert trained is not None
    assert trained.state is State.ACTIVE
    assert trained.complete_time
    assert trained.snapshots[: len(training.snapshots)] == training.snapshots
    assert trained.snapshots[-1].step == 23


def test_a_list_shows_what_observing_shows_and_curves_only_on_demand(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += NEVER
    observed = service.run(lambda provider: provider.observe(handle))
    with_curves = service.run(lambda provider: provider.list(progress=True))
    without = service.run(lambda provider: provider.list(progress=False))
    assert with_curves == (observed,)
    assert without[0].snapshots == ()
    assert isinstance(with_curves[0].snapshots[0], Snapshot)


def test_a_failed_training_tells_why(service: Service) -> None:
    handle = service.train(service.generation(hyperparameters={"epochCount": 3, "batchSize": 2, "learningRate": 1.0}))
    service.time.now += NEVER
    failed = service.run(lambda provider: provider.observe(handle))
    assert failed is not None
    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert failed.failure.message
    listed = service.run(lambda provider: provider.list(progress=False))
    assert [model.state for model in listed] == [State.FAILED]


def test_an_update_changes_its_fields_and_no_other(service: Service) -> None:
    wanted = service.generation()
    handle = service.train(wanted)
    service.time.now += NEVER
    before = service.run(lambda provider: provider.observe(handle))
    assert before is not None
    update = Update(wanted.mark, description="Other.", sampling=Sampling(temperature=0.25))
    after = service.run(lambda provider: provider.update(handle.remote, update))
    assert (after.description, after.mark) == ("Other.", wanted.mark)
    assert after.sampling == Sampling(0.25, before.sampling.top_p, before.sampling.top_k)
    assert (after.display_name, after.hyperparameters) == (before.display_name, before.hyperparameters)
    assert after.create_time == before.create_time
    assert service.run(lambda provider: provider.observe(handle)) == after
    assert judge(service.relay.seen, service.version) == 2


def test_what_was_never_there_is_none(service: Service) -> None:
    assert service.run(lambda provider: provider.observe(Handle("tunedModels/never-there"))) is None


def test_a_retired_model_is_gone_and_retiring_it_again_is_no_error(service: Service) -> None:
    handle = service.train(service.generation())
    service.run(lambda provider: provider.retire(handle))
    service.run(lambda provider: provider.retire(handle))
    assert service.run(lambda provider: provider.observe(handle)) is None
    assert service.run(lambda provider: provider.list(progress=False)) == ()


def test_what_the_service_refuses_is_an_error_for_people(service: Service) -> None:
    wanted = generation(base_model="models/none-such")
    with pytest.raises(ServiceError, match=r"^POST /\w+/tunedModels was refused with 404 NOT_FOUND: models/none"):
        service.run(lambda provider: provider.create(wanted, EXAMPLES))


def test_a_thousand_models_are_a_request(tmp_path: Path) -> None:
    world = tmp_path / "world.json"
    models = [{"name": f"tunedModels/m{number}", "state": "ACTIVE"} for number in range(2001)]
    world.write_text(json.dumps({"tunedModels": models}), encoding="utf-8")
    service = Service("v1beta3", world)
    assert len(service.run(lambda provider: provider.list(progress=False))) == 2001
    assert len(service.relay.seen) == 3
