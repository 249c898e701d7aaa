"""What every provider owes the engine, whatever service is behind it. What one cannot do, its capabilities say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.core.model import Handle, Sampling, Snapshot, State, Update
from reconciler.core.ports import Created, Exists
from reconciler.core.problems import ServiceError
from support.provider_contract import NEVER, SERVICES, Service
from support.provider_samples import EXAMPLES, generation


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]()


def test_nothing_is_listed_at_first(service: Service) -> None:
    assert service.run(lambda provider: provider.list(progress=True)) == ()


def test_a_created_generation_trains_under_its_mark(service: Service) -> None:
    wanted = service.generation()
    created = service.run(lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(created, Created)
    assert created.total_steps == service.steps
    found = service.run(lambda provider: provider.observe(created.handle))
    assert found is not None
    assert (found.remote, found.state, found.mark) == (created.handle.remote, State.CREATING, wanted.mark)
    assert found.chosen_id == (wanted.key if service.capabilities.caller_chosen_ids else None)
    assert (found.display_name, found.description) == (wanted.display_name, wanted.description)
    assert (found.source, found.hyperparameters) == (wanted.source, wanted.hyperparameters)
    assert found.total_steps == service.steps
    assert found.create_time
    assert service.judged() in {1, None}


def test_sampling_is_what_was_declared_where_there_is_such(service: Service) -> None:
    declared = Sampling(temperature=0.0, top_p=0.5, top_k=3)
    handle = service.train(service.generation(sampling=declared))
    found = service.run(lambda provider: provider.observe(handle))
    assert found is not None
    assert found.sampling == (declared if "sampling" in service.capabilities.mutable else Sampling())
    assert service.judged() in {1, None}


def test_what_is_left_out_is_the_services_to_choose(service: Service) -> None:
    defaults = service.capabilities.defaults
    handle = service.train(service.generation({}))
    found = service.run(lambda provider: provider.observe(handle))
    assert found is not None
    assert "epochCount" in found.hyperparameters
    assert {name: found.hyperparameters[name] for name in defaults} == dict(defaults)
    assert service.judged() in {1, None}


def test_every_hyperparameter_of_the_capabilities_is_taken(service: Service) -> None:
    names = service.capabilities.hyperparameters
    for name in names:
        wanted = service.generation({name: 1}, name=name.lower())
        assert isinstance(service.run(lambda provider, wanted=wanted: provider.create(wanted, EXAMPLES)), Created)
    assert service.judged() in {len(names), None}


def test_creating_twice_answers_with_what_is_there(service: Service) -> None:
    wanted = service.generation()
    handle = service.train(wanted)
    again = service.run(lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(again, Exists)
    assert again.remote == handle.remote
    assert again.model is not None
    assert again.model.mark == wanted.mark
    assert len(service.run(lambda provider: provider.list(progress=False))) == 1


def test_two_runs_that_create_at_once_end_with_one_training(service: Service) -> None:
    answers = service.race(lambda provider: provider.create(service.generation(), EXAMPLES))
    listed = service.run(lambda provider: provider.list(progress=False))
    (kept,) = [model.remote for model in listed if model.state is not State.CANCELLED]
    assert {answer.handle.remote if isinstance(answer, Created) else answer.remote for answer in answers} == {kept}
    assert [type(answer) for answer in answers].count(Created) == 1


@pytest.mark.parametrize("end", ["ACTIVE", "FAILED"])
def test_what_has_ended_is_not_trained_again(service: Service, end: str) -> None:
    wanted = service.generation(service.diverging if end == "FAILED" else None)
    service.train(wanted)
    service.time.now += NEVER
    again = service.run(lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(again, Exists)
    assert again.model is not None
    assert again.model.state is State[end]


def test_the_end_of_a_training_is_seen(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += NEVER
    trained = service.run(lambda provider: provider.observe(handle))
    assert trained is not None
    assert (trained.state, trained.phase, trained.failure) == (State.ACTIVE, "", None)
    assert trained.complete_time
    if not service.capabilities.caller_chosen_ids:
        assert trained.resources.model
        assert trained.resources.endpoint


def test_progress_is_seen_while_time_passes(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += timedelta(seconds=10)
    training = service.run(lambda provider: provider.observe(handle))
    service.time.now += NEVER
    trained = service.run(lambda provider: provider.observe(handle))
    assert training is not None
    assert trained is not None
    assert training.state is State.CREATING
    if service.curves:
        assert training.completed_steps is not None
        assert 0 < training.completed_steps < 23
        assert training.snapshots[-1].step == training.completed_steps
        assert trained.snapshots[: len(training.snapshots)] == training.snapshots
        assert trained.snapshots[-1].step == 23
    else:
        assert (training.snapshots, training.completed_steps) == ((), None)


def test_a_list_shows_what_observing_shows_and_curves_only_on_demand(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += NEVER
    observed = service.run(lambda provider: provider.observe(handle))
    with_curves = service.run(lambda provider: provider.list(progress=True))
    without = service.run(lambda provider: provider.list(progress=False))
    assert with_curves == (observed,)
    assert without[0].snapshots == ()
    assert [isinstance(one, Snapshot) for one in with_curves[0].snapshots[:1]] == [True] * service.curves


def test_a_failed_training_tells_why(service: Service) -> None:
    handle = service.train(service.generation(service.diverging))
    service.time.now += NEVER
    failed = service.run(lambda provider: provider.observe(handle))
    assert failed is not None
    assert failed.state is State.FAILED
    assert failed.failure is not None
    assert "not a number" in failed.failure.message
    listed = service.run(lambda provider: provider.list(progress=False))
    assert [model.state for model in listed] == [State.FAILED]


def test_an_update_changes_its_fields_and_no_other(service: Service) -> None:
    wanted = service.generation()
    handle = service.train(wanted)
    service.time.now += NEVER
    before = service.run(lambda provider: provider.observe(handle))
    assert before is not None
    update = Update(wanted.mark, description="Other.", sampling=Sampling(temperature=0.25))
    if not service.capabilities.mutable:
        with pytest.raises(ServiceError, match="change") as caught:
            service.run(lambda provider: provider.update(handle.remote, update))
        assert caught.value.code == "UNIMPLEMENTED"
        return
    after = service.run(lambda provider: provider.update(handle.remote, update))
    assert (after.description, after.mark) == ("Other.", wanted.mark)
    assert after.sampling == Sampling(0.25, before.sampling.top_p, before.sampling.top_k)
    assert (after.display_name, after.hyperparameters) == (before.display_name, before.hyperparameters)
    assert after.create_time == before.create_time
    assert service.run(lambda provider: provider.observe(handle)) == after
    assert service.judged() == 2


def test_what_was_never_there_is_none(service: Service) -> None:
    handle = service.train(service.generation())
    never = Handle(handle.remote[:-1] + ("2" if handle.remote.endswith("1") else "1"))
    assert service.run(lambda provider: provider.observe(never)) is None
    service.run(lambda provider: provider.cancel(never))


def test_a_cancelled_training_is_one_no_more_and_cancelling_it_again_is_no_error(service: Service) -> None:
    handle = service.train(service.generation())
    for _ in range(2):
        service.run(lambda provider: provider.cancel(handle))
    service.time.now += NEVER
    found = service.run(lambda provider: provider.observe(handle))
    assert found is None or (found.state, found.phase) == (State.CANCELLED, "CANCELLED")
    listed = service.run(lambda provider: provider.list(progress=False))
    assert {model.state for model in listed} <= {State.CANCELLED}


def test_what_was_cancelled_can_be_trained_again(service: Service) -> None:
    wanted = service.generation()
    handle = service.train(wanted)
    service.run(lambda provider: provider.cancel(handle))
    assert isinstance(service.run(lambda provider: provider.create(wanted, EXAMPLES)), Created)


def test_cancelling_what_has_ended_changes_nothing(service: Service) -> None:
    handle = service.train(service.generation())
    service.time.now += NEVER
    before = service.run(lambda provider: provider.observe(handle))
    service.run(lambda provider: provider.cancel(handle))
    assert service.run(lambda provider: provider.observe(handle)) == before


def test_what_the_service_refuses_is_an_error_for_people(service: Service) -> None:
    wanted = generation(base_model="models/none-such", hyperparameters=service.hyperparameters)
    with pytest.raises(ServiceError, match=r"^POST /\S+ was refused with 40[04] \w+: .*none-such"):
        service.run(lambda provider: provider.create(wanted, EXAMPLES))
