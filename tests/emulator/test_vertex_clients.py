"""Google's own clients of Vertex AI against the service on a port, and google-genai in both of its modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials

from reconciler.emulator.generativelanguage.inference import BLOCKED_ANSWER, BLOCKED_PROMPT
from support.base_models import VERTEX
from support.emulator_process import Process, running
from support.emulator_vertex import DONE, NUMBERS, URI, lines
from support.emulator_world import BASE_MODELS, REQUEST
from support.google_clients import genai, vertex

pytestmark = pytest.mark.filterwarnings(
    "ignore:The SDK's tuning implementation is experimental"  # google-genai warns on every call of its tunings
)
SUCCEEDED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_CANCELLED"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("vertex")) as service:
        upload = f"{service.url}/upload/storage/v1/b/data/o?uploadType=media&name=numbers.jsonl"
        httpx.post(upload, content=lines(NUMBERS)).raise_for_status()
        yield service


@pytest.fixture
def service(shared: Process) -> Process:
    shared.advance_to(0)
    return shared


def client(kind: Any, service: Process) -> Any:
    return kind(credentials=AnonymousCredentials(), transport="rest", client_options={"api_endpoint": service.url})


def dataset(uri: str) -> Any:
    return genai.types.TuningDataset(gcs_uri=uri)


def gemini(service: Process, project: str) -> Any:
    return genai.Client(
        vertexai=True,
        project=project,
        location="us-central1",
        credentials=Credentials(token="any"),
        http_options=genai.types.HttpOptions(base_url=service.url, api_version="v1beta1"),
    )


def test_google_genai_tunes_waits_and_asks(service: Process) -> None:
    client = gemini(service, "genai")
    config = genai.types.CreateTuningJobConfig(
        epoch_count=3,
        learning_rate_multiplier=0.5,
        adapter_size="ADAPTER_SIZE_TWO",
        tuned_model_display_name="numbers",
        labels={"team": "demo"},
    )
    job = client.tunings.tune(base_model=VERTEX, training_dataset=dataset(URI), config=config)
    assert job.supervised_tuning_spec.hyper_parameters.learning_rate_multiplier == 0.5
    assert not job.has_ended
    service.advance_to(DONE)
    job = client.tunings.get(name=job.name)
    assert (job.has_succeeded, job.labels, len(job.tuned_model.checkpoints)) == (True, {"team": "demo"}, 3)
    answer = client.models.generate_content(model=job.tuned_model.endpoint, contents="7", config={"temperature": 0})
    assert answer.text == "8"

    cut = client.models.generate_content(
        model=job.tuned_model.endpoint, contents="7", config={"temperature": 0, "stop_sequences": ["8"]}
    )
    assert (cut.text, cut.candidates[0].finish_reason) == ("", genai.types.FinishReason.STOP)
    blocked = client.models.generate_content(model=job.tuned_model.endpoint, contents=f"7 {BLOCKED_PROMPT}")
    assert (blocked.text, blocked.prompt_feedback.block_reason) == (None, genai.types.BlockedReason.SAFETY)
    withheld = client.models.generate_content(model=job.tuned_model.endpoint, contents=f"7 {BLOCKED_ANSWER}")
    assert (withheld.text, withheld.candidates[0].finish_reason) == (None, genai.types.FinishReason.SAFETY)

    further = genai.types.CreateTuningJobConfig(pre_tuned_model_checkpoint_id="2", labels={"team": "other"})
    child = client.tunings.tune(base_model=job.tuned_model.model, training_dataset=dataset(URI), config=further)
    assert child.pre_tuned_model.checkpoint_id == "2"
    client.tunings.cancel(name=child.name)
    assert client.tunings.get(name=child.name).state == CANCELLED
    with pytest.raises(genai.errors.ClientError, match="cannot be canceled: it is already JOB_STATE_CANCELLED"):
        client.tunings.cancel(name=child.name)
    assert [each.name for each in client.tunings.list(config={"page_size": 1})] == [child.name, job.name]
    assert [each.name for each in client.tunings.list(config={"filter": "labels.team=demo"})] == [job.name]


def test_google_genai_tunes_further_and_asks_the_child(service: Process) -> None:
    client = gemini(service, "further")
    parent = client.tunings.tune(base_model=VERTEX, training_dataset=dataset(URI))
    service.advance_to(1000)
    upload = f"{service.url}/upload/storage/v1/b/data/o?uploadType=media&name=more.jsonl"
    httpx.post(upload, content=lines([("7", "eight")])).raise_for_status()
    model = client.tunings.get(name=parent.name).tuned_model.model
    child = client.tunings.tune(base_model=model, training_dataset=dataset("gs://data/more.jsonl"))
    service.advance_to(2000)
    endpoint = client.tunings.get(name=child.name).tuned_model.endpoint
    asked = [client.models.generate_content(model=endpoint, contents=text, config={"temperature": 0}) for text in "78"]
    assert [answer.text for answer in asked] == ["eight", "9"]


def test_google_genai_in_developer_mode_reads_and_asks(service: Process) -> None:
    body = {**REQUEST, "base_model": BASE_MODELS["v1beta"]}
    httpx.post(f"{service.url}/v1beta/tunedModels?tunedModelId=developer", json=body).raise_for_status()
    client = genai.Client(api_key="any", http_options=genai.types.HttpOptions(base_url=service.url))
    service.advance_to(1000)
    job = client.tunings.get(name="tunedModels/developer")
    assert (job.state, job.base_model) == (SUCCEEDED, BASE_MODELS["v1beta"])
    names = [model.name for model in client.models.list(config={"query_base": False})]
    assert names == ["tunedModels/developer"]
    answer = client.models.generate_content(model="tunedModels/developer", contents="seven", config={"temperature": 0})
    assert answer.text == "eight"
    client.models.delete(model="tunedModels/developer")
    with pytest.raises(genai.errors.ClientError, match="Tuned model tunedModels/developer does not exist"):
        client.tunings.get(name="tunedModels/developer")


def new_job(**fields: Any) -> Any:
    parameters = vertex.SupervisedHyperParameters(epoch_count=2, adapter_size="ADAPTER_SIZE_TWO")
    spec = vertex.SupervisedTuningSpec(training_dataset_uri=URI, hyper_parameters=parameters)
    return vertex.TuningJob(base_model=VERTEX, supervised_tuning_spec=spec, **fields)


def test_jobs_are_created_listed_and_cancelled(service: Process) -> None:
    jobs, parent = client(vertex.GenAiTuningServiceClient, service), "projects/jobs/locations/us-central1"
    first = jobs.create_tuning_job(parent=parent, tuning_job=new_job(labels={"key": "a-1"}))
    assert first.state == vertex.JobState.JOB_STATE_PENDING
    second = jobs.create_tuning_job(parent=parent, tuning_job=first)  # a client may send back what it was told
    assert second.name != first.name
    jobs.cancel_tuning_job(name=second.name)
    cancelled = jobs.get_tuning_job(name=second.name)
    assert (cancelled.state, cancelled.error.code) == (vertex.JobState.JOB_STATE_CANCELLED, 1)
    other = jobs.create_tuning_job(parent=parent, tuning_job=new_job(labels={"key": "b"}))
    found = jobs.list_tuning_jobs(request={"parent": parent, "filter": 'labels.key="a-1"', "page_size": 1})
    assert [job.name for job in found] == [second.name, first.name]
    assert [job.name for job in jobs.list_tuning_jobs(parent=parent)] == [other.name, second.name, first.name]
    with pytest.raises(NotFound, match="Requested entity was not found"):
        jobs.get_tuning_job(name=f"{parent}/tuningJobs/1")
    wrong = new_job()
    wrong.supervised_tuning_spec.hyper_parameters.epoch_count = -1
    with pytest.raises(BadRequest, match="epoch_count: must be between 1 and 100, but is -1"):
        jobs.create_tuning_job(parent=parent, tuning_job=wrong)


def test_what_a_job_made_is_deployed_again_and_deleted(service: Process) -> None:
    jobs, parent = client(vertex.GenAiTuningServiceClient, service), "projects/made/locations/us-central1"
    jobs.create_tuning_job(parent=parent, tuning_job=new_job())
    service.advance_to(1000)
    models, endpoints = client(vertex.ModelServiceClient, service), client(vertex.EndpointServiceClient, service)
    [model] = models.list_models(parent=parent)
    with pytest.raises(BadRequest, match="cannot be deleted: it is part of a deployment"):
        models.delete_model(name=model.name)
    for endpoint in endpoints.list_endpoints(parent="projects/made/locations/us"):
        assert endpoints.get_endpoint(name=endpoint.name) == endpoint
        deployed = endpoint.deployed_models[0]
        assert deployed.model == model.name
        endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=deployed.id).result()
        endpoints.delete_endpoint(name=endpoint.name).result()
    endpoint = endpoints.create_endpoint(parent=parent, endpoint=vertex.Endpoint(display_name="again")).result()
    again = vertex.DeployedModel(model=f"{model.name}@1", display_name="again", checkpoint_id="2")
    request = {"endpoint": endpoint.name, "deployed_model": again, "traffic_split": {"0": 100}}
    deployed = endpoints.deploy_model(request=request).result().deployed_model
    assert endpoints.get_endpoint(name=endpoint.name).traffic_split == {deployed.id: 100}
    assert models.get_model(name=model.name).deployed_models[0].endpoint == endpoint.name
    endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=deployed.id, traffic_split={}).result()
    endpoints.delete_endpoint(name=endpoint.name).result()
    models.delete_model(name=model.name).result()
    with pytest.raises(NotFound, match="Requested entity was not found"):
        models.get_model(name=model.name)
    assert list(endpoints.list_endpoints(parent=parent)) == []
