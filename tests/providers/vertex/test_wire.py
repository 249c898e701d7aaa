from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from msgspec.structs import replace

from reconciler.domain.model import (
    Checkpoint,
    Conversation,
    DroppedExample,
    DroppedExamples,
    EvaluatedMetric,
    Example,
    Failure,
    Resources,
    ServiceEvaluation,
    Source,
    State,
)
from reconciler.providers.vertex.spec import VERTEX
from reconciler.providers.vertex.wire import JobInputs, read_job, read_page, write_example, write_job
from support.cases import each_row
from support.google_clients import genai, vertex, vertex_v1beta1
from support.provider_samples import generation

JOB = "projects/123/locations/us-central1/tuningJobs/456"
WANTED = generation(
    base_model="gemini-3.5-flash", hyperparameters={"epochCount": 3, "learningRateMultiplier": 0.5, "adapterSize": 4}
)


LONG = DroppedExample(5, "x" * 199 + "…")


def judged(body: dict[str, Any]) -> Any:
    message = vertex.TuningJob.pb()()
    return Parse(json.dumps(body), message, ignore_unknown_fields=False)


@each_row(
    ("word", "state", "phase"),
    [
        ("JOB_STATE_QUEUED", State.CREATING, "QUEUED"),
        ("JOB_STATE_PENDING", State.CREATING, "PENDING"),
        ("JOB_STATE_RUNNING", State.CREATING, ""),
        ("JOB_STATE_SUCCEEDED", State.ACTIVE, ""),
        ("JOB_STATE_FAILED", State.FAILED, "FAILED"),
        ("JOB_STATE_CANCELLING", State.CANCELLED, "CANCELLING"),
        ("JOB_STATE_CANCELLED", State.CANCELLED, "CANCELLED"),
        ("JOB_STATE_PAUSED", State.CREATING, "PAUSED"),
        ("JOB_STATE_EXPIRED", State.FAILED, "EXPIRED"),
        ("JOB_STATE_UPDATING", State.CREATING, "UPDATING"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", State.FAILED, "PARTIALLY_SUCCEEDED"),
        ("JOB_STATE_UNSPECIFIED", State.CREATING, ""),
        ("JOB_STATE_\x1b[31mNEW", State.CREATING, "[31mNEW"),
        (None, State.CREATING, ""),
        (3, State.CREATING, ""),
        (4, State.ACTIVE, ""),
        (99, State.CREATING, "99"),
        (-1, State.CREATING, "-1"),
    ],
)
def test_every_state_has_its_place(word: object, state: State, phase: str) -> None:
    job = read_job({"name": JOB, "state": word})
    assert (job.state, job.phase) == (state, phase)


def test_states_have_the_numbers_of_the_proto() -> None:
    for known in vertex.JobState:
        by_name, by_number = (read_job({"name": JOB, "state": value}) for value in (known.name, known.value))
        assert by_name == by_number


def test_what_succeeded_in_part_serves_if_it_made_a_model() -> None:
    body = {"name": JOB, "state": "JOB_STATE_PARTIALLY_SUCCEEDED", "tunedModel": {"model": "projects/123/models/1@1"}}
    assert read_job(body).state is State.ACTIVE


def test_adapter_sizes_have_the_numbers_of_the_proto() -> None:
    for size in vertex.SupervisedHyperParameters.AdapterSize:
        by_name, by_number = (
            read_job({"name": JOB, "supervisedTuningSpec": {"hyperParameters": {"adapterSize": value}}}).hyperparameters
            for value in (size.name, size.value)
        )
        assert by_name == by_number
        if size.name.endswith("UNSPECIFIED"):
            assert not by_name
            continue
        assert by_name, size
        body = write_job(replace(WANTED, hyperparameters=by_name), JobInputs("gs://b/o.jsonl"))
        assert body["supervisedTuningSpec"]["hyperParameters"]["adapterSize"] == size.name


OPEN = generation(
    base_model="qwen/qwen3@qwen3-8b",
    hyperparameters={
        "epochCount": 3,
        "batchSize": 8,
        "learningRate": 0.0002,
        "adapterSize": 16,
        "tuningMode": "PEFT_ADAPTER",
        "customBaseModel": "gs://models/mine",
    },
)


def test_an_open_model_is_tuned_into_a_folder_of_its_generation() -> None:
    body = write_job(replace(OPEN, settings={"outputUri": "gs://models/tuned/"}), JobInputs("gs://b/o.jsonl"))
    Parse(json.dumps(body), vertex_v1beta1.TuningJob.pb()(), ignore_unknown_fields=False)
    assert body["outputUri"] == f"gs://models/tuned/{OPEN.key}"
    assert body["supervisedTuningSpec"] == {
        "trainingDatasetUri": "gs://b/o.jsonl",
        "hyperParameters": {
            "epochCount": "3",
            "batchSize": "8",
            "learningRate": 0.0002,
            "adapterSize": "ADAPTER_SIZE_SIXTEEN",
        },
        "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
    }
    assert read_job({**body, "name": JOB}).hyperparameters == OPEN.hyperparameters
    by_number = {**body["supervisedTuningSpec"], "tuningMode": 2}
    assert read_job({**body, "name": JOB, "supervisedTuningSpec": by_number}).hyperparameters == OPEN.hyperparameters
    unspecified = {**body["supervisedTuningSpec"], "tuningMode": "TUNING_MODE_UNSPECIFIED"}
    assert "tuningMode" not in read_job({"name": JOB, "supervisedTuningSpec": unspecified}).hyperparameters


def test_pairs_are_tuned_with_a_spec_of_their_own() -> None:
    wanted = generation(base_model="gemini-3.5-flash", hyperparameters={"epochCount": 3, "beta": 0.2})
    wanted = replace(wanted, dataset=replace(wanted.dataset, pairs=True), last_checkpoint_only=True)
    body = write_job(wanted, JobInputs("gs://b/o.jsonl", "gs://b/v.jsonl"))
    genai.types.TuningJob.model_validate(body, extra="forbid")
    assert "supervisedTuningSpec" not in body
    assert body["preferenceOptimizationSpec"] == {
        "trainingDatasetUri": "gs://b/o.jsonl",
        "validationDatasetUri": "gs://b/v.jsonl",
        "hyperParameters": {"epochCount": "3", "beta": 0.2},
        "exportLastCheckpointOnly": True,
    }
    stats = {"preferenceOptimizationDataStats": {"tuningStepCount": "7"}}
    job = read_job({**body, "name": JOB, "tuningDataStats": stats})
    assert (job.hyperparameters, job.total_steps) == (wanted.hyperparameters, 7)


def test_evaluations_of_the_service_are_asked_for_and_read() -> None:
    config = {"metrics": [{"bleuSpec": {}}], "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://b/e"}}}
    body = write_job(replace(WANTED, settings={"evaluationConfig": config}), JobInputs("gs://b/o.jsonl"))
    assert body["supervisedTuningSpec"]["evaluationConfig"] == config
    results = [
        {"bleuMetricValue": {"score": 0.25}, "aggregationMetric": "AVERAGE"},
        {"rougeMetricValue": {"score": 0.5}, "aggregationMetric": 7},
        {"pointwiseMetricResult": {"score": 4, "explanation": "x"}},
        {"pairwiseMetricResult": {"pairwiseChoice": "CANDIDATE"}, "aggregationMetric": 99},
    ]
    response = {
        "aggregationOutput": {"aggregationResults": results},
        "outputInfo": {"gcsOutputDirectory": "gs://b/e/1"},
    }
    runs = [
        {"evaluationRun": "projects/1/r", "checkpointId": "2", "evaluateDatasetResponse": response},
        {"operationName": "o", "error": {"code": 3, "message": "no \x1b[31mquota" + "!" * 500}},
    ]
    whole = {**body, "name": JOB, "evaluateDatasetRuns": [*runs, *[{}] * 40]}
    read, failed, *others = read_job(whole).evaluations
    metrics = (("bleu", 0.25, "AVERAGE"), ("rouge", 0.5, "MEDIAN"), ("pointwise", 4, ""))
    assert read == ServiceEvaluation("2", "projects/1/r", tuple(EvaluatedMetric(*row) for row in metrics), "gs://b/e/1")
    assert (failed.run, len(failed.error), "\x1b" in failed.error) == ("o", 200, False)
    assert len(others) == 18
    for odd in (
        "x",
        {"a": 1},
        [1],
        [{"evaluateDatasetResponse": {"aggregationOutput": {"aggregationResults": ["x"]}}}],
    ):
        assert not any(found.metrics for found in read_job({"name": JOB, "evaluateDatasetRuns": odd}).evaluations)


def test_a_job_is_read_whole() -> None:
    body = {
        **write_job(WANTED, JobInputs("gs://b/o.jsonl")),
        "name": JOB,
        "baseModel": "publishers/google/models/gemini-3.5-flash",
        "state": "JOB_STATE_SUCCEEDED",
        "createTime": "2026-01-01T00:00:00.123456Z",
        "startTime": "2026-01-01T00:01:00Z",
        "endTime": "2026-01-01T01:00:00Z",
        "tuningDataStats": {"supervisedTuningDataStats": {"tuningStepCount": "12", "totalBillableTokenCount": "4100"}},
        "experiment": "projects/123/locations/us-central1/metadataStores/default/contexts/tuning-1",
        "tunedModel": {
            "model": "projects/123/locations/us-central1/models/7@1",
            "endpoint": "projects/123/locations/us-central1/endpoints/9",
            "checkpoints": [{"checkpointId": "1", "epoch": "1", "step": "4", "endpoint": "e"}, {"checkpointId": "2"}],
        },
    }
    judged(body)
    job = read_job(body)
    assert (job.remote, job.state, job.chosen_id, job.mark) == (JOB, State.ACTIVE, None, WANTED.mark)
    assert job.source == Source("gemini-3.5-flash")
    assert (job.display_name, job.description) == (WANTED.display_name, WANTED.description)
    assert job.hyperparameters == {"epochCount": 3, "learningRateMultiplier": 0.5, "adapterSize": 4}
    assert (job.create_time, job.start_time, job.complete_time) == (
        "2026-01-01T00:00:00.123456Z",
        "2026-01-01T00:01:00Z",
        "2026-01-01T01:00:00Z",
    )
    assert (job.total_steps, job.billable_tokens, job.completed_steps, job.failure) == (12, 4100, None, None)
    assert job.experiment == body["experiment"]
    beta = read_job({**body, "tuningJobMetadata": {"completedEpochCount": "2"}, "gcsMetricsUri": "gs://b/metrics"})
    assert (beta.completed_epochs, beta.metrics_uri) == (2, "gs://b/metrics")
    assert job.resources == Resources(
        job=JOB,
        model="projects/123/locations/us-central1/models/7@1",
        endpoint="projects/123/locations/us-central1/endpoints/9",
        location="us-central1",
        checkpoints=(Checkpoint("1", 1, 4, "e"), Checkpoint("2", 0, 0)),
    )


@each_row(
    ("fields", "phase"),
    [
        ({"state": "JOB_STATE_PENDING"}, "PENDING"),
        ({"state": "JOB_STATE_RUNNING"}, ""),
        ({"state": "JOB_STATE_RUNNING", "tuningJobState": "TUNING_JOB_STATE_UNSPECIFIED"}, ""),
        ({"state": "JOB_STATE_RUNNING", "tuningJobState": "TUNING_JOB_STATE_TUNING"}, ""),
        ({"state": "JOB_STATE_PENDING", "tuningJobState": "TUNING_JOB_STATE_WAITING_FOR_QUOTA"}, "WAITING_FOR_QUOTA"),
        ({"state": "JOB_STATE_RUNNING", "tuningJobState": "TUNING_JOB_STATE_WARMING_UP\u202e"}, "WARMING_UP"),
        ({"state": "JOB_STATE_PAUSED", "tuningJobState": "TUNING_JOB_STATE_TUNING"}, "PAUSED"),
        ({"state": "JOB_STATE_SUCCEEDED", "tuningJobState": "TUNING_JOB_STATE_POST_PROCESSING"}, ""),
        ({"state": "JOB_STATE_CANCELLED", "tuningJobState": "TUNING_JOB_STATE_TUNING"}, "CANCELLED"),
    ],
)
def test_what_a_job_does_is_the_detail_of_its_state(fields: dict[str, Any], phase: str) -> None:
    assert read_job({"name": JOB, **fields}).phase == phase


@each_row(
    ("stats", "expected"),
    [
        ({}, None),
        ({"totalTruncatedExampleCount": "0"}, None),
        ({"totalTruncatedExampleCount": "3"}, DroppedExamples(3)),
        (
            {
                "totalTruncatedExampleCount": "3",
                "truncatedExampleIndices": ["2", 7],
                "droppedExampleReasons": ["too many tokens\u001b[2J.", None, "of none"],
            },
            DroppedExamples(3, (DroppedExample(2, "too many tokens [2J"), DroppedExample(7))),
        ),
        ({"truncatedExampleIndices": ["-1", "0", "x", None, 1e400, {}], "droppedExampleReasons": {"a": 1}}, None),
        ({"truncatedExampleIndices": [5], "droppedExampleReasons": ["x" * 999]}, DroppedExamples(1, (LONG,))),
        (
            {"truncatedExampleIndices": [*range(1, 100)]},
            DroppedExamples(99, tuple(DroppedExample(number) for number in range(1, 21))),
        ),
    ],
)
def test_dropped_examples_are_read_with_their_reasons(stats: dict[str, Any], expected: DroppedExamples | None) -> None:
    job = {"name": JOB, "tuningDataStats": {"supervisedTuningDataStats": stats}}
    assert read_job(job).dropped_examples == expected


def test_examples_of_preferences_are_dropped_under_another_name() -> None:
    stats = {"droppedExampleIndices": ["4"], "droppedExampleReasons": ["equal scores"]}
    job = read_job({"name": JOB, "tuningDataStats": {"preferenceOptimizationDataStats": stats}})
    assert job.dropped_examples == DroppedExamples(1, (DroppedExample(4, "equal scores"),))


def test_a_job_of_another_user_is_read_without_mark() -> None:
    job = read_job({"name": JOB, "preTunedModel": {"checkpointId": "1"}, "labels": {"a": "b"}})
    assert (job.mark, job.source, job.hyperparameters) == (None, None, {})


def test_a_job_that_continues_from_a_tuned_model_is_that_ones_child_and_not_the_base_models() -> None:
    parent = "projects/123/locations/us-central1/models/7@2"
    wanted = replace(WANTED, source=Source(tuned_model="parent", key="parent-22222222", remote=parent))
    body = write_job(wanted, JobInputs("gs://b/train.jsonl"))
    message = judged(body)
    assert (message.pre_tuned_model.tuned_model_name, message.base_model) == (parent, "")
    shown = {**body, "name": JOB, "preTunedModel": {**body["preTunedModel"], "baseModel": "gemini-3.5-flash"}}
    judged(shown)
    assert read_job(shown).source == Source(remote=parent)
    early = write_job(replace(wanted, source=replace(wanted.source, checkpoint="1")), JobInputs("gs://b/train.jsonl"))
    assert judged(early).pre_tuned_model.checkpoint_id == "1"
    assert read_job({**early, "name": JOB}).source == Source(remote=parent, checkpoint="1")


@each_row(
    ("name", "fits"),
    [
        ("projects/p/locations/us-central1/models/7", True),
        ("projects/example.com:p/locations/us-central1/models/7@2", True),
        ("projects/p/locations/us-central1/models/7@golden", True),
        ("projects/p/locations/us-central1/models/7@", False),
        ("projects/p/locations/us-central1/tuningJobs/7", False),
        ("models/7@2", False),
        ("tunedModels/7", False),
    ],
)
def test_the_name_of_a_tuned_model_has_its_form(name: str, fits: bool) -> None:  # noqa: FBT001 - a table's column
    assert (re.fullmatch(VERTEX.tuned_model_pattern, name) is not None) is fits
    assert re.fullmatch(VERTEX.tuned_model_pattern, VERTEX.tuned_model_example)


@each_row("name", [None, "", 5])
def test_a_job_without_a_name_is_none(name: object) -> None:
    with pytest.raises((KeyError, ValueError)):
        read_page({"tuningJobs": [{"name": name}]})


AGENT = "service-123@gcp-sa-aiplatform.iam.gserviceaccount.com"


@each_row(
    ("message", "remedy"),
    [
        (f"{AGENT} does not have the permission storage.objects.get on gs://b/o.", "roles/storage.objectViewer"),
        (f"{AGENT}: Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied", "roles/cloudkms.cryptoKeyEncrypter"),
        ("Permission iam.serviceAccounts.getAccessToken denied on x@y", "roles/iam.serviceAccountTokenCreator"),
        ("Billing is disabled: enable billing.", "`gcloud billing projects link 123 --billing-account=ACCOUNT`"),
        ("Vertex AI API has not been used in project my-team-1 before.", " --project=my-team-1`"),
        ("us-central1 violates constraints/gcp.resourceLocations", "gcp.resourceLocations --effective --project=123`"),
        ("Unsupported region for tuning: us-central1.", "`reconcile models` lists them"),
        ("Service agents are being provisioned.", "wait a few minutes and run the command again"),
    ],
)
def test_why_a_job_failed_comes_with_its_remedy(message: str, remedy: str) -> None:
    error = {"code": 7, "message": message}
    failure = read_job({"name": JOB, "state": "JOB_STATE_FAILED", "error": error}).failure
    assert failure is not None
    assert failure.code == 7
    assert failure.message.startswith(f"{message.rstrip('.')}; ")
    assert remedy in failure.message


def test_another_failure_is_reported_as_it_is() -> None:
    error = {"code": 3, "message": "Dataset is\nempty."}
    assert read_job({"name": JOB, "state": 5, "error": error}).failure == Failure(3, "Dataset is empty")
    assert read_job({"name": JOB, "state": "JOB_STATE_EXPIRED"}).failure is None
    assert read_job({"name": JOB, "state": "JOB_STATE_CANCELLED", "error": error}).failure is None


def test_a_job_is_written_as_the_proto_has_it() -> None:
    wanted = replace(WANTED, last_checkpoint_only=False)
    kms = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    placement = JobInputs("gs://b/train.jsonl", "gs://b/validate.jsonl", "robot@p.iam.gserviceaccount.com", kms)
    body = write_job(wanted, placement)
    message = judged(body)
    spec = message.supervised_tuning_spec
    assert (message.base_model, message.tuned_model_display_name) == ("gemini-3.5-flash", "number generator")
    assert (message.description, message.service_account) == ("Says the next number.", placement.service_account)
    assert message.encryption_spec.kms_key_name == kms
    assert (spec.training_dataset_uri, spec.validation_dataset_uri) == (placement.training, placement.validation)
    assert spec.hyper_parameters.epoch_count == 3
    assert body["supervisedTuningSpec"]["exportLastCheckpointOnly"] is False


def test_what_is_not_declared_is_not_written() -> None:
    wanted = replace(WANTED, hyperparameters={}, description="")
    body = write_job(wanted, JobInputs("gs://b/train.jsonl"))
    assert set(body) == {"baseModel", "supervisedTuningSpec", "tunedModelDisplayName", "labels"}
    assert body["supervisedTuningSpec"] == {"trainingDatasetUri": "gs://b/train.jsonl"}
    judged(body)


def test_the_form_of_an_example_never_changes() -> None:
    line = write_example(Example("é\r\nb\rc", '"d"\n'))
    assert line.decode() == (
        '{"contents":[{"role":"user","parts":[{"text":"é\\nb\\nc"}]},{"role":"model","parts":[{"text":"\\"d\\"\\n"}]}]}'
    )


def test_a_conversation_is_written_as_it_stands() -> None:
    assert write_example(Conversation('{"contents":["ü"]}')) == '{"contents":["ü"]}'.encode()
