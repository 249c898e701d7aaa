"""What every provider owes the engine, whatever service is behind it. What one cannot do, its capabilities say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.domain.access import EVERYONE, AccessChange, Grant, Grantee, Role, access_changes
from reconciler.domain.errors import ServiceError
from reconciler.domain.inference import Answer, Prompt, Reply
from reconciler.domain.model import Handle, RemoteModel, Resources, Sampling, Snapshot, Source, State, Update
from reconciler.domain.ports import Created, Exists
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
    with pytest.raises(ServiceError, match=r"^POST /\S+ failed with 40[04] \w+: .*none-such"):
        service.run(lambda provider: provider.create(wanted, EXAMPLES))


# deletions


def test_what_is_deleted_answers_nobody_and_is_gone_and_deleting_it_again_is_no_error(service: Service) -> None:
    kept, model = service.trained(service.generation(name="kept")), service.trained()
    for _ in range(2):
        service.run(lambda provider: provider.delete(Handle(model.remote), model.resources))
    assert service.run(lambda provider: provider.observe(Handle(model.remote))) is None
    with pytest.raises(ServiceError, match="NOT_FOUND"):
        service.ask(model, Prompt("3"))
    assert service.ask(kept, Prompt("3", Sampling(temperature=0.0))) == Reply((Answer("4"),))
    assert service.run(lambda provider: provider.observe(Handle(kept.remote))) is not None
    assert service.judged() is None or service.judged()


def test_what_failed_can_be_deleted_too(service: Service) -> None:
    handle = service.train(service.generation(service.diverging))
    service.time.now += NEVER
    for _ in range(2):
        service.run(lambda provider: provider.delete(handle, Resources()))
    found = service.run(lambda provider: provider.observe(handle))
    assert found is None or found.state is State.FAILED
    assert (found is None) == service.capabilities.caller_chosen_ids


def test_a_parent_can_be_deleted_when_its_child_is_ready(service: Service) -> None:
    parent = service.trained()
    child = service.trained(service.generation(name="child", parent=parent))
    service.run(lambda provider: provider.delete(Handle(parent.remote), parent.resources))
    assert service.ask(child, Prompt("3", Sampling(temperature=0.0))) == Reply((Answer("4"),))


# prompts


def test_a_model_answers_what_it_was_trained_on(service: Service) -> None:
    model = service.trained()
    assert service.ask(model, Prompt("3", Sampling(temperature=0.0))) == Reply((Answer("4"),))
    assert service.judged() in {2, None}


def test_a_prompt_can_bear_everything_that_is_open_to_choice(service: Service) -> None:
    full = Prompt("3", Sampling(temperature=0.0, top_p=0.5, top_k=3), candidates=2, max_tokens=10)
    assert service.ask(service.trained(), full) == Reply((Answer("4"), Answer("4")))
    assert service.judged() in {2, None}


def test_candidates_beyond_what_one_request_gives_are_answered_too(service: Service) -> None:
    model, most = service.trained(), service.capabilities.max_candidates
    reply = service.ask(model, Prompt("3", Sampling(temperature=0.0), candidates=2 * most + 1))
    assert reply == Reply((Answer("4"),) * (2 * most + 1))
    assert service.judged() in {1 + 3, None}


def test_a_blocked_prompt_is_told_with_the_services_reason(service: Service) -> None:
    assert service.ask(service.trained(), Prompt(service.blocked, candidates=20)) == Reply((), "SAFETY")
    assert service.judged() in {2, None}


def test_what_is_not_there_cannot_be_asked(service: Service) -> None:
    model = service.trained()
    remote = model.resources.endpoint or model.remote
    never = remote[:-1] + ("2" if remote.endswith("1") else "1")
    with pytest.raises(ServiceError, match=r"^POST /\S+ failed with 404 NOT_FOUND: ") as caught:
        service.run(lambda provider: provider.infer(never, Prompt("3")))
    assert caught.value.code == "NOT_FOUND"


# lineage


def test_a_child_of_a_ready_parent_trains_and_shows_its_source(service: Service) -> None:
    parent = service.trained()
    assert parent.source == Source(service.base_model)
    wanted = service.generation(name="child", parent=parent)
    child = service.trained(wanted)
    assert (child.source, child.mark) == (wanted.source, wanted.mark)
    grandchild = service.trained(service.generation(name="grandchild", parent=child))
    assert grandchild.source == Source(remote=child.resources.model or child.remote)
    listed = service.run(lambda provider: provider.list(progress=False))
    assert {model.source for model in listed} == {parent.source, child.source, grandchild.source}
    assert service.ask(grandchild, Prompt("3", Sampling(temperature=0.0))) == Reply((Answer("4"),))
    assert service.judged() in {4, None}


def test_a_child_of_what_is_not_there_is_refused(service: Service) -> None:
    parent = service.trained()
    name, at, version = (parent.resources.model or parent.remote).partition("@")
    wanted = replace(service.generation(name="child"), source=Source(remote=f"{name}1{at}{version}"))
    with pytest.raises(ServiceError, match=r"^POST /\S+ failed with 40[04] \w+: "):
        service.run(lambda provider: provider.create(wanted, EXAMPLES))


# access


SHAREABLE = ("embedded v1beta3", "embedded v1beta")


@pytest.fixture(params=SHAREABLE)
def shareable(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]()


@pytest.mark.parametrize("name", SERVICES)
def test_the_features_say_where_there_are_permissions(name: str) -> None:
    features = SERVICES[name]().capabilities.features
    assert ("access" in features, "projectAccess" in features) == (name in SHAREABLE, name == "embedded v1beta")
    assert "lineage" in features


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - SHAREABLE))
def test_where_access_is_said_elsewhere_it_is_refused(name: str) -> None:
    service = SERVICES[name]()
    model = service.trained()
    with pytest.raises(ServiceError, match="has no permissions") as caught:
        service.run(lambda provider: provider.access(model.remote))
    assert caught.value.code == "UNIMPLEMENTED"
    with pytest.raises(ServiceError, match="has no permissions"):
        service.run(lambda provider: provider.set_access(model.remote, (), ()))


ADA, BOB, NLP = Grantee("user", "ada@example.com"), Grantee("user", "bob@example.com"), Grantee("group", "nlp@x.com")
P1, P2 = Grantee("project", "123"), Grantee("project", str(2**60))


def share(service: Service, model: RemoteModel, *grants: tuple[Grantee, Role]) -> dict[Grantee, Role]:
    """Who may use a model after that was declared; declaring it twice, from the same look, must change nothing more."""
    live = service.run(lambda provider: provider.access(model.remote))
    changes = access_changes([Grant(*grant) for grant in grants], live)
    for _ in range(2):
        service.run(lambda provider: provider.set_access(model.remote, live, changes))
    found = service.run(lambda provider: provider.access(model.remote))
    assert access_changes([Grant(*grant) for grant in grants], found) == ()
    roles = {permission.grantee: permission.role for permission in found}
    assert len(roles) == len(found)
    return roles


def test_who_may_use_a_model_becomes_what_is_declared(shareable: Service) -> None:
    model = shareable.trained()
    (owner,) = shareable.run(lambda provider: provider.access(model.remote))
    owned = {owner.grantee: owner.role}
    assert owner.role == "owner"
    created: dict[Grantee, Role] = {ADA: "reader", BOB: "writer", NLP: "reader", EVERYONE: "reader"}
    assert share(shareable, model, *created.items()) == owned | created
    changed: dict[Grantee, Role] = {ADA: "writer", NLP: "reader"}
    assert share(shareable, model, *changed.items()) == owned | changed
    assert share(shareable, model) == owned
    assert shareable.judged() is not None


def test_the_owner_stays_the_owner_whatever_is_declared(shareable: Service) -> None:
    model = shareable.trained()
    (owner,) = shareable.run(lambda provider: provider.access(model.remote))
    assert share(shareable, model, (owner.grantee, "reader")) == {owner.grantee: "owner"}


def test_permissions_of_many_are_seen_page_by_page(shareable: Service) -> None:
    model = shareable.trained()
    many: dict[Grantee, Role] = {Grantee("user", f"{number}@example.com"): "reader" for number in range(7)}
    found = share(shareable, model, *many.items())
    assert {grantee: role for grantee, role in found.items() if role != "owner"} == many


def test_an_address_is_one_however_it_is_capitalised(shareable: Service) -> None:
    model = shareable.trained()
    change = AccessChange(Grantee("user", "Ada@Example.com"), None, "reader")
    shareable.run(lambda provider: provider.set_access(model.remote, (), [change]))
    found = shareable.run(lambda provider: provider.access(model.remote))
    assert [permission.grantee for permission in found if permission.role == "reader"] == [ADA]
    assert share(shareable, model, (ADA, "writer"))[ADA] == "writer"


def test_two_runs_that_share_at_once_end_with_what_is_declared(shareable: Service) -> None:
    model = shareable.trained()
    changes = [AccessChange(grantee, None, "reader") for grantee in (ADA, BOB)]
    shareable.race(lambda provider: provider.set_access(model.remote, (), changes))
    found = shareable.run(lambda provider: provider.access(model.remote))
    assert sorted(one.grantee for one in found if one.role == "reader") == [ADA, BOB]


def test_whole_projects_may_read_where_there_is_such() -> None:
    service = SERVICES["embedded v1beta"]()
    model = service.trained()
    assert share(service, model, (P1, "reader"), (ADA, "reader"))[P1] == "reader"
    found = share(service, model, (P2, "reader"), (P1, "reader"))
    assert {grantee for grantee, role in found.items() if role == "reader"} == {P1, P2}
    assert set(share(service, model, (P2, "reader"))) & {P1, P2} == {P2}
    assert set(share(service, model)) & {P1, P2} == set()
