"""The contract of a provider: what the engine relies on. Capabilities say what a provider does not support."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from unittest import SkipTest

from msgspec.structs import replace

from reconciler.domain.access import EVERYONE, AccessChange, Grant, Grantee, Role, access_changes
from reconciler.domain.errors import ServiceError
from reconciler.domain.model import Handle, RemoteModel, Resources, Sampling, Source, State, Update
from reconciler.domain.ports import Answer, BasePrompts, Created, Exists, Prompt, Provider, Reply
from reconciler.testing.service import EXAMPLES, ServiceUnderTest, create_request, raises

DETERMINISTIC = Sampling(temperature=0.0)
NEXT_NUMBER = Prompt("3", DETERMINISTIC)
ADA, BOB, TEAM = Grantee("user", "ada@example.com"), Grantee("user", "bob@example.com"), Grantee("group", "nlp@x.com")
PROJECT, LARGE_PROJECT = Grantee("project", "123"), Grantee("project", str(2**60))


class ProviderContract(ABC):
    """The contract tests. A subclass, named ``Test…``, returns the service in :meth:`service`."""

    @abstractmethod
    def service(self) -> ServiceUnderTest:
        """Return a new service without models."""

    def test_a_new_service_lists_no_models(self) -> None:
        assert self.service().list(progress=True) == ()

    def test_a_created_generation_trains_with_its_mark(self) -> None:
        service = self.service()
        request = service.request()
        created = service.run(lambda provider: provider.create(request, EXAMPLES))
        assert isinstance(created, Created)
        assert created.total_steps == service.steps
        model = service.observe(created.handle)
        assert (model.remote, model.state, model.mark) == (created.handle.remote, State.CREATING, request.mark)
        assert model.chosen_id == (request.key if service.capabilities.caller_chosen_ids else None)
        assert (model.display_name, model.description) == (request.display_name, request.description)
        assert (model.source, model.hyperparameters) == (request.source, request.hyperparameters)
        assert model.total_steps == service.steps
        assert model.create_time
        assert service.count_bodies() in {1, None}

    def test_declared_sampling_is_stored_if_it_is_mutable(self) -> None:
        service = self.service()
        declared = Sampling(temperature=0.0, top_p=0.5, top_k=3)
        model = service.observe(service.train(service.request(sampling=declared)))
        assert model.sampling == (declared if "sampling" in service.capabilities.mutable else Sampling())
        assert service.count_bodies() in {1, None}

    def test_the_service_chooses_undeclared_hyperparameters(self) -> None:
        service = self.service()
        defaults = service.capabilities.defaults
        model = service.observe(service.train(service.request({})))
        assert {name: model.hyperparameters[name] for name in defaults} == dict(defaults)
        assert service.count_bodies() in {1, None}

    def test_every_hyperparameter_of_the_capabilities_is_accepted(self) -> None:
        service = self.service()
        names = service.capabilities.hyperparameters - service.conditional
        for name in names:
            service.train(service.request({name: service.values.get(name, 1)}, name=name.lower()))
        assert service.count_bodies() in {len(names), None}

    def test_a_second_create_returns_the_existing_model(self) -> None:
        service = self.service()
        request = service.request()
        handle = service.train(request)
        answer = service.run(lambda provider: provider.create(request, EXAMPLES))
        assert isinstance(answer, Exists)
        assert answer.remote == handle.remote
        assert answer.model is not None
        assert answer.model.mark == request.mark
        assert len(service.list()) == 1

    def test_two_runs_that_create_at_once_start_one_training(self) -> None:
        service = self.service()
        answers = service.race(lambda provider: provider.create(service.request(), EXAMPLES))
        (kept,) = [model.remote for model in service.list() if model.state is not State.CANCELLED]
        assert {answer.handle.remote if isinstance(answer, Created) else answer.remote for answer in answers} == {kept}
        assert [type(answer) for answer in answers].count(Created) == 1

    def test_a_completed_training_is_not_repeated(self) -> None:
        self._check_not_repeated(self.service(), State.ACTIVE)

    def test_a_failed_training_is_not_repeated(self) -> None:
        self._check_not_repeated(self.service(), State.FAILED)

    def _check_not_repeated(self, service: ServiceUnderTest, end: State) -> None:
        request = service.request(service.diverging if end is State.FAILED else None)
        service.train(request)
        service.advance()
        answer = service.run(lambda provider: provider.create(request, EXAMPLES))
        assert isinstance(answer, Exists)
        assert answer.model is not None
        assert answer.model.state is end

    def test_the_end_of_a_training_is_observed(self) -> None:
        service = self.service()
        model = service.trained()
        assert (model.phase, model.failure) == ("", None)
        assert model.complete_time
        if service.capabilities.prompts_to_endpoint:
            assert model.resources.model
            assert model.resources.endpoint

    def test_progress_is_observed_if_the_service_reports_it(self) -> None:
        service = self.service()
        handle = service.train()
        service.advance(timedelta(seconds=10))
        training = service.observe(handle)
        service.advance()
        trained = service.observe(handle)
        assert training.state is State.CREATING
        if not service.curves:
            assert (training.snapshots, training.completed_steps) == ((), None)
            return
        assert training.completed_steps is not None
        assert service.steps is not None
        assert 0 < training.completed_steps < service.steps
        assert training.snapshots[-1].step == training.completed_steps
        assert trained.snapshots[: len(training.snapshots)] == training.snapshots
        assert trained.snapshots[-1].step == service.steps

    def test_a_list_equals_what_is_observed_with_loss_curves_on_request(self) -> None:
        service = self.service()
        model = service.trained()
        (listed,) = service.list(progress=True)
        assert replace(listed, snapshots=listed.snapshots if service.curves else ()) == model
        assert service.list()[0].snapshots == ()
        assert bool(model.snapshots) == service.curves

    def test_a_failed_training_has_a_reason(self) -> None:
        service = self.service()
        handle = service.train(service.request(service.diverging))
        service.advance()
        failed = service.observe(handle)
        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert service.failure in failed.failure.message
        assert [model.state for model in service.list()] == [State.FAILED]

    def test_an_update_changes_only_its_fields(self) -> None:
        service = self.service()
        request = service.request()
        before = service.trained(request)
        update = Update(request.mark, description="Other.", sampling=Sampling(temperature=0.25))
        if not service.capabilities.mutable:
            with raises(ServiceError, "change") as caught:
                service.run(lambda provider: provider.update(before.remote, update))
            assert caught.code == "UNIMPLEMENTED"
            return
        after = service.run(lambda provider: provider.update(before.remote, update))
        assert (after.description, after.mark) == ("Other.", request.mark)
        if "sampling" in service.capabilities.mutable:
            assert after.sampling == Sampling(0.25, before.sampling.top_p, before.sampling.top_k)
        assert (after.display_name, after.hyperparameters) == (before.display_name, before.hyperparameters)
        assert after.create_time == before.create_time
        assert service.find(Handle(before.remote)) == after
        assert service.count_bodies() in {2, None}

    def test_an_unknown_model_is_observed_as_none(self) -> None:
        service = self.service()
        unknown = _unknown(service.train().remote)
        assert service.find(Handle(unknown)) is None
        service.run(lambda provider: provider.cancel(Handle(unknown)))

    def test_cancel_stops_a_training_and_can_be_repeated(self) -> None:
        service = self.service()
        handle = service.train()
        for _ in range(2):
            service.run(lambda provider: provider.cancel(handle))
        service.advance()
        model = service.find(handle)
        assert model is None or (model.state, model.phase) == (State.CANCELLED, "CANCELLED")
        assert {listed.state for listed in service.list()} <= {State.CANCELLED}

    def test_a_canceled_generation_can_be_trained_again(self) -> None:
        service = self.service()
        request = service.request()
        handle = service.train(request)
        service.run(lambda provider: provider.cancel(handle))
        service.train(request)

    def test_cancel_does_not_change_a_completed_training(self) -> None:
        service = self.service()
        model = service.trained()
        service.run(lambda provider: provider.cancel(Handle(model.remote)))
        assert service.find(Handle(model.remote)) == model

    def test_a_refused_request_is_a_service_error(self) -> None:
        service = self.service()
        request = create_request("none-such", service.hyperparameters)
        with raises(ServiceError, service.refusal) as caught:
            service.run(lambda provider: provider.create(request, EXAMPLES))
        assert "none-such" in str(caught.error)

    def test_a_deleted_model_is_gone_and_deleting_it_again_is_no_error(self) -> None:
        service = self.service()
        kept, model = service.trained(service.request(name="kept")), service.trained()
        for _ in range(2):
            service.run(lambda provider: provider.delete(Handle(model.remote), model.resources))
        assert service.find(Handle(model.remote)) is None
        with raises(ServiceError) as caught:
            service.prompt(model, Prompt("3"))
        assert caught.code == "NOT_FOUND"
        assert service.prompt(kept, NEXT_NUMBER) == Reply((Answer("4"),))
        assert service.find(Handle(kept.remote)) is not None
        assert service.count_bodies() != 0

    def test_a_failed_model_can_be_deleted(self) -> None:
        service = self.service()
        handle = service.train(service.request(service.diverging))
        service.advance()
        for _ in range(2):
            service.run(lambda provider: provider.delete(handle, Resources()))
        model = service.find(handle)
        assert model is None or model.state is State.FAILED
        assert (model is None) == service.capabilities.caller_chosen_ids

    # Prompts

    def test_a_model_answers_as_trained(self) -> None:
        service = self.service()
        assert service.prompt(service.trained(), NEXT_NUMBER) == Reply((Answer("4"),))
        assert service.count_bodies() in {2, None}

    def test_a_prompt_can_have_every_option(self) -> None:
        service = self.service()
        prompt = Prompt("3", Sampling(temperature=0.0, top_p=0.5, top_k=3), candidates=2, max_tokens=10)
        assert service.prompt(service.trained(), prompt) == Reply((Answer("4"), Answer("4")))
        assert service.count_bodies() in {2, None}

    def test_more_candidates_than_one_request_allows_are_answered(self) -> None:
        service = self.service()
        model, most = service.trained(), service.capabilities.max_candidates
        reply = service.prompt(model, Prompt("3", DETERMINISTIC, candidates=2 * most + 1))
        assert reply == Reply((Answer("4"),) * (2 * most + 1))
        assert service.count_bodies() in {1 + 3, None}

    def test_a_blocked_prompt_has_a_reason(self) -> None:
        service = self.service()
        if not service.blocked:
            raise SkipTest("the service blocks no prompt")
        assert service.prompt(service.trained(), Prompt(service.blocked, candidates=20)) == Reply((), "SAFETY")
        assert service.count_bodies() in {2, None}

    def test_a_prompt_to_an_unknown_model_is_refused(self) -> None:
        service = self.service()
        model = service.trained()
        unknown = _unknown(model.resources.endpoint or model.remote)
        with raises(ServiceError, service.refusal) as caught:
            service.run(lambda provider: provider.infer(unknown, Prompt("3")))
        assert caught.code == "NOT_FOUND"

    def test_the_base_model_answers_as_untrained(self) -> None:
        service = self._with_feature("basePrompts")
        model = service.trained()

        async def ask(provider: Provider) -> Reply:
            assert isinstance(provider, BasePrompts)
            return await provider.infer(provider.base_remote(service.base_model), NEXT_NUMBER)

        reply = service.run(ask)
        assert len(reply.answers) == 1
        assert reply != service.prompt(model, NEXT_NUMBER)
        assert service.count_bodies() in {3, None}

    def test_an_invalid_base_model_gets_no_prompt(self) -> None:
        service = self._with_feature("basePrompts")

        async def ask(provider: Provider) -> str:
            assert isinstance(provider, BasePrompts)
            return provider.base_remote(f"../{service.base_model}?x=1")

        with raises(ServiceError, "base model") as caught:
            service.run(ask)
        assert caught.code == "INVALID_ARGUMENT"

    # Lineage

    def test_a_child_of_a_ready_parent_has_its_source(self) -> None:
        service = self._with_feature("lineage")
        parent = service.trained()
        assert parent.source == Source(service.base_model)
        request = service.request(name="child", parent=parent)
        child = service.trained(request)
        assert child.source is not None
        assert request.source.is_same(child.source)
        assert child.mark == request.mark
        grandchild = service.trained(service.request(name="grandchild", parent=child))
        assert grandchild.source is not None
        assert Source(remote=child.resources.model or child.remote).is_same(grandchild.source)
        assert {model.source for model in service.list()} == {parent.source, child.source, grandchild.source}
        assert service.prompt(grandchild, NEXT_NUMBER) == Reply((Answer("4"),))
        assert service.count_bodies() in {4, None}

    def test_a_child_of_an_unknown_parent_is_refused(self) -> None:
        service = self._with_feature("lineage")
        parent = service.trained()
        name, at, version = (parent.resources.model or parent.remote).partition("@")
        request = replace(service.request(name="child"), source=Source(remote=f"{name}1{at}{version}"))
        with raises(ServiceError, service.refusal):
            service.run(lambda provider: provider.create(request, EXAMPLES))

    def test_a_parent_can_be_deleted_when_its_child_is_ready(self) -> None:
        service = self._with_feature("lineage")
        parent = service.trained()
        child = service.trained(service.request(name="child", parent=parent))
        service.run(lambda provider: provider.delete(Handle(parent.remote), parent.resources))
        assert service.prompt(child, NEXT_NUMBER) == Reply((Answer("4"),))

    # Access

    def test_access_is_refused_if_models_have_no_permissions(self) -> None:
        service = self.service()
        if "access" in service.capabilities.features:
            raise SkipTest("models have permissions")
        model = service.trained()
        with raises(ServiceError, "has no permissions") as caught:
            service.run(lambda provider: provider.access(model.remote))
        assert caught.code == "UNIMPLEMENTED"
        with raises(ServiceError, "has no permissions"):
            service.run(lambda provider: provider.set_access(model.remote, (), ()))

    def test_permissions_become_the_declared_ones(self) -> None:
        service = self._with_feature("access")
        model = service.trained()
        (owner,) = service.run(lambda provider: provider.access(model.remote))
        owned = {owner.grantee: owner.role}
        assert owner.role == "owner"
        created: dict[Grantee, Role] = {ADA: "reader", BOB: "writer", TEAM: "reader", EVERYONE: "reader"}
        assert _share(service, model, *created.items()) == owned | created
        changed: dict[Grantee, Role] = {ADA: "writer", TEAM: "reader"}
        assert _share(service, model, *changed.items()) == owned | changed
        assert _share(service, model) == owned
        assert service.count_bodies() != 0

    def test_the_owner_remains_the_owner(self) -> None:
        service = self._with_feature("access")
        model = service.trained()
        (owner,) = service.run(lambda provider: provider.access(model.remote))
        assert _share(service, model, (owner.grantee, "reader")) == {owner.grantee: "owner"}

    def test_many_permissions_are_read(self) -> None:
        service = self._with_feature("access")
        many: dict[Grantee, Role] = {Grantee("user", f"{number}@example.com"): "reader" for number in range(7)}
        found = _share(service, service.trained(), *many.items())
        assert {grantee: role for grantee, role in found.items() if role != "owner"} == many

    def test_addresses_are_compared_without_case(self) -> None:
        service = self._with_feature("access")
        model = service.trained()
        change = AccessChange(Grantee("user", "Ada@Example.com"), None, "reader")
        service.run(lambda provider: provider.set_access(model.remote, (), [change]))
        found = service.run(lambda provider: provider.access(model.remote))
        assert [permission.grantee for permission in found if permission.role == "reader"] == [ADA]
        assert _share(service, model, (ADA, "writer"))[ADA] == "writer"

    def test_two_runs_that_share_at_once_end_with_the_declared_permissions(self) -> None:
        service = self._with_feature("access")
        model = service.trained()
        changes = [AccessChange(grantee, None, "reader") for grantee in (ADA, BOB)]
        service.race(lambda provider: provider.set_access(model.remote, (), changes))
        found = service.run(lambda provider: provider.access(model.remote))
        assert sorted(permission.grantee for permission in found if permission.role == "reader") == [ADA, BOB]

    def test_projects_can_be_readers(self) -> None:
        service = self._with_feature("projectAccess")
        model = service.trained()
        assert _share(service, model, (PROJECT, "reader"), (ADA, "reader"))[PROJECT] == "reader"
        found = _share(service, model, (LARGE_PROJECT, "reader"), (PROJECT, "reader"))
        assert {grantee for grantee, role in found.items() if role == "reader"} == {PROJECT, LARGE_PROJECT}
        assert set(_share(service, model, (LARGE_PROJECT, "reader"))) & {PROJECT, LARGE_PROJECT} == {LARGE_PROJECT}
        assert set(_share(service, model)) & {PROJECT, LARGE_PROJECT} == set()

    def _with_feature(self, feature: str) -> ServiceUnderTest:
        """Return a new service, or skip the test if the service does not have the feature."""
        service = self.service()
        if feature not in service.capabilities.features:
            raise SkipTest(f"the service does not support {feature}")
        return service


def _unknown(remote: str) -> str:
    """Return the name of a model that does not exist, like that of one that does."""
    return remote[:-1] + ("2" if remote.endswith("1") else "1")


def _share(service: ServiceUnderTest, model: RemoteModel, *grants: tuple[Grantee, Role]) -> dict[Grantee, Role]:
    """Declare who may use a model, twice from the same observation, and return the permissions then."""
    live = service.run(lambda provider: provider.access(model.remote))
    declared = [Grant(*grant) for grant in grants]
    changes = access_changes(declared, live)
    for _ in range(2):
        service.run(lambda provider: provider.set_access(model.remote, live, changes))
    found = service.run(lambda provider: provider.access(model.remote))
    assert access_changes(declared, found) == ()
    roles = {permission.grantee: permission.role for permission in found}
    assert len(roles) == len(found)
    return roles
