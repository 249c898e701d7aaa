"""What providers do, as Google's own clients see it on the same service, and the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from google.auth.credentials import AnonymousCredentials
from msgspec.structs import replace

from reconciler.domain.access import EVERYONE, AccessChange, Grant, Grantee, Permission, access_changes
from reconciler.domain.model import CreateRequest, Handle, RemoteModel, Sampling, Source, State
from reconciler.domain.ports import Answer, Created, Prompt, Provider, Reply
from reconciler.providers.generativelanguage import provider as generativelanguage
from reconciler.providers.generativelanguage.spec import VERSIONS
from reconciler.providers.vertex import provider as vertex_ai
from reconciler.providers.vertex.spec import capabilities_of, endpoint_of
from support.base_models import GEMINI_API, VERTEX
from support.emulator_process import Process, running
from support.google_clients import gemini, palm, vertex
from support.provider_contract import TARGET
from support.provider_samples import EXAMPLES, generation
from support.provider_service import Time, settings_of

T = TypeVar("T")
DONE = 60
APIS: dict[str, Any] = {"v1beta3": palm, "v1beta": gemini}
ADA, NLP = Grantee("user", "ada@example.com"), Grantee("group", "nlp@example.com")
PROMPT = Prompt("3", Sampling(temperature=0.0), candidates=2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def service(shared: Process) -> Process:
    shared.advance_to(0)
    return shared


def client(kind: Any, service: Process) -> Any:
    return kind(credentials=AnonymousCredentials(), transport="rest", client_options={"api_endpoint": service.url})


def run(service: Process, version: str, act: Callable[[Provider], Awaitable[T]]) -> T:
    async def work() -> T:
        time = Time()
        if version == "v1":
            here = replace(TARGET, endpoint=service.url, storage_endpoint=service.url)
            async with vertex_ai.connect(endpoint_of(here), here, settings_of(time), capabilities_of(here)) as provider:
                return await act(provider)
        async with generativelanguage.connect(service.url, version, settings_of(time), VERSIONS[version]) as provider:
            return await act(provider)

    return asyncio.run(work())


def trained(service: Process, version: str, wanted: CreateRequest, until: float = DONE) -> RemoteModel:
    created = run(service, version, lambda provider: provider.create(wanted, EXAMPLES))
    assert isinstance(created, Created)
    handle = Handle(created.handle.remote)
    service.advance_to(until)
    model = run(service, version, lambda provider: provider.observe(handle))
    assert model is not None
    assert model.state is State.ACTIVE
    return model


@pytest.mark.parametrize("version", APIS)
def test_permissions_that_we_set_are_seen_by_googles_client(service: Process, version: str) -> None:
    api = APIS[version]
    model = trained(service, version, generation(f"set-{version}"))
    wanted = [Grant(ADA, "writer"), Grant(NLP, "reader"), Grant(EVERYONE, "reader")]

    async def reconcile(provider: Provider) -> tuple[Permission, ...]:
        live = await provider.access(model.remote)
        await provider.set_access(model.remote, live, access_changes(wanted, live))
        return await provider.access(model.remote)

    ours = run(service, version, reconcile)
    theirs = client(api.PermissionServiceClient, service).list_permissions(parent=model.remote)
    assert {
        (permission.grantee_type.name, permission.email_address, permission.role.name, permission.name)
        for permission in theirs
    } == {
        (permission.grantee.kind.upper(), permission.grantee.identifier, permission.role.upper(), permission.name)
        for permission in ours
    }
    assert len(ours) == 1 + len(wanted)


@pytest.mark.parametrize("version", APIS)
def test_permissions_that_googles_client_set_are_seen_changed_and_revoked_by_us(service: Process, version: str) -> None:
    api = APIS[version]
    model = trained(service, version, generation(f"seen-{version}"))
    permissions = client(api.PermissionServiceClient, service)
    kinds, roles = api.Permission.GranteeType, api.Permission.Role
    for kind, who in ((kinds.USER, "Ada@example.com"), (kinds.GROUP, "nlp@example.com")):
        permission = api.Permission(grantee_type=kind, email_address=who, role=roles.READER)
        permissions.create_permission(parent=model.remote, permission=permission)
    live = run(service, version, lambda provider: provider.access(model.remote))
    assert {permission.grantee: permission.role for permission in live if permission.role != "owner"} == {
        ADA: "reader",
        NLP: "reader",
    }
    changes = access_changes([Grant(ADA, "writer")], live)
    run(service, version, lambda provider: provider.set_access(model.remote, live, changes))
    listed = permissions.list_permissions(parent=model.remote)
    assert {
        permission.email_address.lower(): permission.role for permission in listed if permission.role != roles.OWNER
    } == {ADA.identifier: roles.WRITER}


def test_projects_that_we_let_read_are_seen_by_googles_client(service: Process) -> None:
    model = trained(service, "v1beta", generation("projects"))
    changes = [AccessChange(Grantee("project", number), None, "reader") for number in ("123", str(2**60))]
    run(service, "v1beta", lambda provider: provider.set_access(model.remote, (), changes))
    theirs = client(gemini.ModelServiceClient, service).get_tuned_model(name=model.remote)
    assert list(theirs.reader_project_numbers) == [123, 2**60]
    assert (theirs.display_name, theirs.description) != ("", "")


def test_palm_answers_us_as_it_does_googles_client(service: Process) -> None:
    model = trained(service, "v1beta3", generation("asked-palm"))
    request = palm.GenerateTextRequest(
        model=model.remote, prompt=palm.TextPrompt(text="3"), temperature=0, candidate_count=2
    )
    theirs = client(palm.TextServiceClient, service).generate_text(request)
    ours = run(service, "v1beta3", lambda provider: provider.infer(model.remote, PROMPT))
    assert (
        ours
        == Reply(tuple(Answer(candidate.output) for candidate in theirs.candidates))
        == Reply((Answer("4"), Answer("4")))
    )


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_gemini_answers_us_as_it_does_googles_client(service: Process, version: str) -> None:
    base = VERTEX if version == "v1" else GEMINI_API
    parameters = {"epochCount": 3}
    model = trained(service, version, generation(f"asked-{version}", base_model=base, hyperparameters=parameters))
    remote = model.resources.endpoint or model.remote
    api, kind = (
        (gemini, gemini.GenerativeServiceClient) if version == "v1beta" else (vertex, vertex.PredictionServiceClient)
    )
    request = api.GenerateContentRequest(
        model=remote,
        contents=[api.Content(role="user", parts=[api.Part(text="3")])],
        generation_config=api.GenerationConfig(temperature=0, candidate_count=2),
    )
    theirs = client(kind, service).generate_content(request)
    ours = run(service, version, lambda provider: provider.infer(remote, PROMPT))
    answers = tuple(Answer(candidate.content.parts[0].text) for candidate in theirs.candidates)
    assert ours == Reply(answers, model_version=theirs.model_version)
    assert answers == (Answer("4"), Answer("4"))


@pytest.mark.parametrize("version", APIS)
def test_googles_client_reads_the_source_of_a_child(service: Process, version: str) -> None:
    parent = trained(service, version, generation(f"parent-{version}"))
    wanted = replace(generation(f"child-{version}"), source=Source(remote=parent.remote))
    child = trained(service, version, wanted, until=2 * DONE)
    theirs = client(APIS[version].ModelServiceClient, service).get_tuned_model(name=child.remote)
    assert (theirs.tuned_model_source.tuned_model, theirs.tuned_model_source.base_model) == (parent.remote, GEMINI_API)
    assert child.source == Source(remote=parent.remote)


def test_googles_client_reads_the_source_of_a_job(service: Process) -> None:
    first = generation("parent", base_model=VERTEX, hyperparameters={"epochCount": 3})
    parent = trained(service, "v1", first)
    further = generation("child", base_model=VERTEX, hyperparameters={"epochCount": 3})
    child = trained(service, "v1", replace(further, source=Source(remote=parent.resources.model)), 2 * DONE)
    theirs = client(vertex.GenAiTuningServiceClient, service).get_tuning_job(name=child.remote)
    assert theirs.pre_tuned_model.tuned_model_name == parent.resources.model
    assert (theirs.pre_tuned_model.checkpoint_id, theirs.pre_tuned_model.base_model) == ("3", VERTEX)
    assert child.source == Source(remote=parent.resources.model, checkpoint="3")
