"""Google's own clients against the service on a port: list, create, wait, patch, share, ask and delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, InvalidArgument, NotFound
from google.auth.credentials import AnonymousCredentials

from reconciler.emulator.generativelanguage.inference import BLOCKED_ANSWER, BLOCKED_PROMPT
from support.emulator_process import Process, running
from support.emulator_world import BASE_MODELS, DONE, REQUEST
from support.google_clients import gemini, palm

Api = Any  # one of the two generated modules
VERSIONS: dict[str, Api] = {"v1beta3": palm, "v1beta": gemini}


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


def tuned_model(api: Api, version: str, **fields: Any) -> Any:
    pairs = REQUEST["tuning_task"]["training_data"]["examples"]["examples"]
    return api.TunedModel(
        display_name="number generator",
        base_model=BASE_MODELS[version],
        tuning_task=api.TuningTask(
            hyperparameters=api.Hyperparameters(epoch_count=3, batch_size=2, **fields),
            training_data=api.Dataset(
                examples=api.TuningExamples(examples=[api.TuningExample(pair) for pair in pairs])
            ),
        ),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_lives_its_whole_life(service: Process, version: str) -> None:
    api, name = VERSIONS[version], f"tunedModels/life-{version}"
    models = client(api.ModelServiceClient, service)
    tunable = [model.name for model in models.list_models() if "createTunedModel" in model.supported_generation_methods]
    assert BASE_MODELS[version] in tunable
    assert "models/gemini-3.5-flash" in tunable

    operation = models.create_tuned_model(tuned_model=tuned_model(api, version), tuned_model_id=f"life-{version}")
    assert (operation.metadata.tuned_model, operation.metadata.total_steps) == (name, 23)
    assert not operation.done()
    assert models.get_tuned_model(name=name).state == api.TunedModel.State.CREATING
    service.advance_to(20)
    assert not operation.done()
    assert operation.metadata.completed_steps == len(operation.metadata.snapshots) == 11
    service.advance_to(DONE)
    assert operation.done()
    model = operation.result()
    assert (model.name, model.state) == (name, api.TunedModel.State.ACTIVE)
    assert model.tuning_task.snapshots[-1].epoch == 3
    assert name in [each.name for each in models.list_tuned_models(page_size=1)]

    model.description = "Says the next number."
    model.temperature = 0
    patched = models.update_tuned_model(tuned_model=model, update_mask="description,temperature")
    assert (patched.description, patched.temperature) == ("Says the next number.", 0)
    assert models.get_tuned_model(name=name) == patched

    models.delete_tuned_model(name=name)
    with pytest.raises(NotFound, match=f"Tuned model {name} does not exist"):
        models.get_tuned_model(name=name)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_is_shared_and_given_away(service: Process, version: str) -> None:
    api, parent = VERSIONS[version], f"tunedModels/shared-{version}"
    client(api.ModelServiceClient, service).create_tuned_model(
        tuned_model=tuned_model(api, version), tuned_model_id=f"shared-{version}"
    )
    permissions = client(api.PermissionServiceClient, service)
    Permission = api.Permission  # noqa: N806 - a class
    reader = Permission(
        grantee_type=Permission.GranteeType.USER, email_address="a@example.com", role=Permission.Role.READER
    )
    created = permissions.create_permission(parent=parent, permission=reader)
    with pytest.raises(Conflict, match="already has a permission for a@example"):
        permissions.create_permission(parent=parent, permission=reader)
    created.role = Permission.Role.WRITER
    assert permissions.update_permission(permission=created, update_mask="role") == created
    assert permissions.get_permission(name=created.name) == created
    permissions.transfer_ownership(api.TransferOwnershipRequest(name=parent, email_address="a@example.com"))
    listed = list(permissions.list_permissions(api.ListPermissionsRequest(parent=parent, page_size=1)))
    owner = next(permission for permission in listed if permission.role == Permission.Role.OWNER)
    assert (len(listed), owner.email_address) == (2, "a@example.com")
    writer = next(permission for permission in listed if permission.role == Permission.Role.WRITER)
    permissions.delete_permission(name=writer.name)
    assert len(list(permissions.list_permissions(parent=parent))) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_permissions_are_paged_and_refused_like_real_ones(service: Process, version: str) -> None:
    api, parent = VERSIONS[version], f"tunedModels/paged-{version}"
    client(api.ModelServiceClient, service).create_tuned_model(
        tuned_model=tuned_model(api, version), tuned_model_id=f"paged-{version}"
    )
    permissions = client(api.PermissionServiceClient, service)
    Permission = api.Permission  # noqa: N806 - a class
    everyone = permissions.create_permission(
        parent=parent,
        permission=Permission(grantee_type=Permission.GranteeType.EVERYONE, role=Permission.Role.READER),
    )
    assert "email_address" not in everyone
    group = {"grantee_type": Permission.GranteeType.GROUP, "role": Permission.Role.READER}
    for number in range(10):
        address = f"team{number}@example.com"
        permissions.create_permission(parent=parent, permission=Permission(**group, email_address=address))
    pager = permissions.list_permissions(api.ListPermissionsRequest(parent=parent))
    assert [len(page.permissions) for page in pager.pages] == [10, 2]
    with pytest.raises(BadRequest, match='email_address: must be an email address for GROUP, but is "team@"'):
        permissions.create_permission(parent=parent, permission=Permission(**group, email_address="team@"))
    with pytest.raises(BadRequest, match='update_mask: may only name role, but is "emailAddress"'):
        permissions.update_permission(permission=everyone, update_mask="emailAddress")


def test_projects_read_a_model_of_gemini(service: Process) -> None:
    models = client(gemini.ModelServiceClient, service)
    asked = tuned_model(gemini, "v1beta")
    asked.reader_project_numbers = [9007199254740993]
    models.create_tuned_model(tuned_model=asked, tuned_model_id="projects")
    model = models.get_tuned_model(name="tunedModels/projects")
    assert list(model.reader_project_numbers) == [9007199254740993]
    model.reader_project_numbers = [12, 34]
    model.description = "not in the mask"
    patched = models.update_tuned_model(tuned_model=model, update_mask="readerProjectNumbers")
    assert (list(patched.reader_project_numbers), patched.description) == ([12, 34], "")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_is_tuned_further(service: Process, version: str) -> None:
    api, base = VERSIONS[version], BASE_MODELS[version]
    models = client(api.ModelServiceClient, service)
    models.create_tuned_model(tuned_model=tuned_model(api, version), tuned_model_id=f"parent-{version}")
    parent = f"tunedModels/parent-{version}"
    examples = api.TuningExamples(examples=[api.TuningExample(text_input="seven", output="VIII")])
    child = api.TunedModel(
        tuned_model_source=api.TunedModelSource(tuned_model=parent),
        tuning_task=api.TuningTask(training_data=api.Dataset(examples=examples)),
    )
    with pytest.raises(BadRequest, match=f"{parent} is CREATING; only an ACTIVE one can be tuned further"):
        models.create_tuned_model(tuned_model=child, tuned_model_id=f"child-{version}")
    service.advance_to(DONE)
    operation = models.create_tuned_model(tuned_model=child, tuned_model_id=f"child-{version}")
    service.advance_to(1000)
    assert operation.result().tuned_model_source == api.TunedModelSource(tuned_model=parent, base_model=base)
    models.delete_tuned_model(name=parent)
    assert [ask(service, version, f"child-{version}", text) for text in ("seven", "one")] == ["VIII", "two"]


def ask(service: Process, version: str, model: str, text: str) -> str:
    if version == "v1beta3":
        prompt = palm.TextPrompt(text=text)
        request = palm.GenerateTextRequest(model=f"tunedModels/{model}", prompt=prompt, temperature=0)
        return str(client(palm.TextServiceClient, service).generate_text(request).candidates[0].output)
    answer = client(gemini.GenerativeServiceClient, service).generate_content(content_request(model, text))
    return str(answer.candidates[0].content.parts[0].text)


def content_request(model: str, text: str, **config: Any) -> Any:
    return gemini.GenerateContentRequest(
        model=f"tunedModels/{model}",
        contents=[gemini.Content(role="user", parts=[gemini.Part(text=text)])],
        generation_config=gemini.GenerationConfig(**{"temperature": 0, **config}),
    )


def test_palm_answers(service: Process) -> None:
    client(palm.ModelServiceClient, service).create_tuned_model(
        tuned_model=tuned_model(palm, "v1beta3"), tuned_model_id="palm"
    )
    request = palm.GenerateTextRequest(
        model="tunedModels/palm", prompt=palm.TextPrompt(text="seven"), temperature=0, candidate_count=2
    )
    texts = client(palm.TextServiceClient, service)
    with pytest.raises(BadRequest, match="Tuned model tunedModels/palm is CREATING"):
        texts.generate_text(request)
    service.advance_to(DONE)
    assert [candidate.output for candidate in texts.generate_text(request).candidates] == ["eight", "eight"]
    request.prompt.text = f"seven {BLOCKED_PROMPT}"
    blocked = texts.generate_text(request)
    assert [each.reason for each in blocked.filters] == [palm.ContentFilter.BlockedReason.SAFETY]
    assert not blocked.candidates


def test_gemini_answers(service: Process) -> None:
    client(gemini.ModelServiceClient, service).create_tuned_model(
        tuned_model=tuned_model(gemini, "v1beta"), tuned_model_id="gemini"
    )
    service.advance_to(DONE)
    asked, reasons = client(gemini.GenerativeServiceClient, service).generate_content, gemini.Candidate.FinishReason
    answer = asked(content_request("gemini", "seven"))
    assert answer.candidates[0].content.parts[0].text == "eight"
    assert answer.candidates[0].finish_reason == reasons.STOP
    cut = asked(content_request("gemini", "two hundred", max_output_tokens=1)).candidates[0]
    assert (cut.content.parts[0].text, cut.finish_reason) == ("two", reasons.MAX_TOKENS)
    blocked = asked(content_request("gemini", BLOCKED_PROMPT))
    assert blocked.prompt_feedback.block_reason == gemini.GenerateContentResponse.PromptFeedback.BlockReason.SAFETY
    assert not blocked.candidates
    withheld = asked(content_request("gemini", BLOCKED_ANSWER)).candidates[0]
    assert (withheld.finish_reason, list(withheld.content.parts)) == (reasons.SAFETY, [])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_training_raises_in_the_client(service: Process, version: str) -> None:
    api = VERSIONS[version]
    operation = client(api.ModelServiceClient, service).create_tuned_model(
        tuned_model=tuned_model(api, version, learning_rate=2), tuned_model_id=f"failed-{version}"
    )
    service.advance_to(1000)
    with pytest.raises(InvalidArgument, match="the mean loss is not a number at step 6 of 23"):
        operation.result()


def test_a_refusal_reaches_the_client_with_its_details(service: Process) -> None:
    models = client(palm.ModelServiceClient, service)
    with pytest.raises(BadRequest) as caught:
        models.create_tuned_model(tuned_model=palm.TunedModel(display_name="x" * 41), tuned_model_id="M")
    fields = [violation["field"] for violation in caught.value.details[0]["fieldViolations"]]
    assert fields == [
        "tuned_model_id",
        "tuned_model.display_name",
        "tuned_model.tuning_task.training_data.examples.examples",
    ]
