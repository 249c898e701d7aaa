"""The JSON of Vertex AI: tuning jobs (google.cloud.aiplatform.v1.TuningJob), their labels, prompts, and data sets.

The labels of a job have its mark, because the service chooses its id. A label value has at most 63 lowercase letters,
digits, hyphens and underscores (https://cloud.google.com/resource-manager/docs/labels-overview#requirements). Scopes
and digests have others, so they are written in lowercase base32 without padding.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from reconciler.domain.identity import NAME_PATTERN, encode_string, key_of, normalize_newlines
from reconciler.domain.model import (
    Checkpoint,
    CreateRequest,
    DroppedExample,
    DroppedExamples,
    EvaluatedMetric,
    Example,
    Failure,
    Hyperparameters,
    Mark,
    Number,
    RemoteModel,
    Resources,
    ServiceEvaluation,
    State,
    TrainingExample,
)
from reconciler.domain.text import sanitize, shorten
from reconciler.providers.google.errors import (
    CLOUD_PLATFORM,
    ErrorResponse,
    ServiceDescription,
    find_reason,
    project_facts,
    read_count,
    read_failure,
    read_integer,
    read_name,
    read_number,
    read_source,
    read_text,
    read_time,
)
from reconciler.providers.google.inference import content_codec
from reconciler.providers.vertex.locations import JOB_NAME

MANAGED_BY = "managed-by"
OWNER = "reconcile"
KEY = "reconcile-key"
SCOPE = "reconcile-scope"
_MORE_SCOPE = "reconcile-scope-2"
_NAME = "reconcile-name"
_SPEC = "reconcile-spec"
_DATA = "reconcile-data"
_ATTEMPT = "reconcile-attempt"

_SCOPE_CHARACTERS = 60
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SHA256_BYTES = 32


def write_labels(mark: Mark) -> dict[str, str]:
    """Return the labels for the job of the generation with this mark."""
    scope = _base32(mark.scope.encode())
    first, more = scope[:_SCOPE_CHARACTERS], scope[_SCOPE_CHARACTERS:]
    return {
        MANAGED_BY: OWNER,
        KEY: key_of(mark),
        SCOPE: first,
        **({_MORE_SCOPE: more} if more else {}),
        _NAME: mark.name,
        _SPEC: _base32(_digest_bytes(mark.spec)),
        _DATA: _base32(_digest_bytes(mark.data)),
        _ATTEMPT: str(mark.attempt),
    }


def scope_label(scope: str) -> str:
    """Return the value of :data:`SCOPE` for a scope; long scopes may share one."""
    return _base32(scope.encode())[:_SCOPE_CHARACTERS]


def read_labels(labels: Any) -> Mark | None:
    """Return the mark in labels, or ``None`` where it is missing or not exactly as :func:`write_labels` writes it."""
    try:
        mark = _decode(labels)
        expected = write_labels(mark)
        return mark if {name: labels.get(name) for name in expected} == expected else None
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _decode(labels: Any) -> Mark:
    name, attempt = labels[_NAME], labels[_ATTEMPT]
    if not re.fullmatch(NAME_PATTERN, name) or not re.fullmatch(r"[0-9]{1,9}", attempt):
        raise ValueError("invalid name or attempt")
    return Mark(
        scope=_bytes(labels[SCOPE] + labels.get(_MORE_SCOPE, "")).decode(),
        name=name,
        spec=_digest(labels[_SPEC]),
        data=_digest(labels[_DATA]),
        attempt=int(attempt),
    )


def _digest_bytes(digest: str) -> bytes:
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise ValueError("invalid sha256 digest")
    return bytes.fromhex(match[1])


def _digest(label: str) -> str:
    digest = _bytes(label)
    if len(digest) != _SHA256_BYTES:
        raise ValueError("invalid sha256 digest")
    return f"sha256:{digest.hex()}"


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _bytes(label: str) -> bytes:
    return base64.b32decode(label.upper() + "=" * (-len(label) % 8))


_AGENT = "the account that the service names (Vertex AI's service agent, or spec.vertex.serviceAccount)"

SERVICE = ServiceDescription(
    host="aiplatform.googleapis.com",
    fields="spec.location and spec.endpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/aiplatform.user on the target's spec.project",
            "NOT_FOUND": "check spec.location, spec.project and spec.endpoint of the target",
            "UNIMPLEMENTED": "check spec.location and spec.endpoint of the target",
            "UNSUPPORTED_REGION": "set spec.location of the target to a location in which the base model can be tuned:"
            " `reconcile models` lists them",
            "AGENT_STORAGE": f"grant {_AGENT} roles/storage.objectViewer on the bucket of the data set:"
            " `gcloud storage buckets add-iam-policy-binding gs://BUCKET --role=roles/storage.objectViewer"
            " --member=serviceAccount:ACCOUNT`",
            "AGENT_PENDING": "wait a few minutes and run the command again: Google creates the service agents of a"
            " project on first use",
            "AGENT_KEY": f"grant {_AGENT} roles/cloudkms.cryptoKeyEncrypterDecrypter on spec.vertex.kmsKeyName",
            "AGENT_ACCOUNT": "grant Vertex AI's service agent roles/iam.serviceAccountTokenCreator, and yourself"
            " roles/iam.serviceAccountUser, on spec.vertex.serviceAccount",
        }
    ),
    phrases=MappingProxyType(
        {
            "nsupported region": "UNSUPPORTED_REGION",
            "storage.objects.": "AGENT_STORAGE",
            "storage.buckets.": "AGENT_STORAGE",
            "ervice agents are being provisioned": "AGENT_PENDING",
            "cloudkms.": "AGENT_KEY",
            "iam.serviceAccounts.": "AGENT_ACCOUNT",
        }
    ),
)

_DOCS = "https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning"
_BUSY = MappingProxyType(
    {
        "RESOURCE_EXHAUSTED": "wait until another tuning job of the project has ended, or request more quota of"
        " concurrent tuning jobs in the target's spec.location"
    }
)
_UNTUNABLE = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
CREATE_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    "fix what the service reports; `reconcile models` lists what can be tuned where",
)
CREATE_CHILD_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    f"fix what the service reports; for the tuned models that can be tuned further, see {_DOCS}",
)
INFER_REMEDIES = MappingProxyType(
    {
        **dict.fromkeys(
            ("NOT_FOUND", "FAILED_PRECONDITION"),
            "run `reconcile apply`, which deploys the model again, or trains it again if it is gone: the endpoint no"
            " longer exists, or has no deployed model",
        ),
        "INVALID_ARGUMENT": "fix the prompt or its options as the service reports",
    }
)
INFER_BASE_REMEDIES = INFER_REMEDIES | dict.fromkeys(
    ("NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED"),
    "set spec.servingLocation of the target to a location in which the base model answers prompts, or remove base from"
    " the check",
)
DEPLOY_REMEDIES = MappingProxyType(
    {
        "PERMISSION_DENIED": "ask for roles/aiplatform.user on the project, which can deploy models",
        **dict.fromkeys(
            ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"),
            "fix what the service reports, then run `reconcile apply` again",
        ),
    }
)
DELETE_REMEDIES = MappingProxyType(
    {
        "PERMISSION_DENIED": "ask for roles/aiplatform.user on the project, which can delete models and endpoints",
        "FAILED_PRECONDITION": "undeploy the model from every other endpoint, then run `reconcile prune` again",
    }
)

Json = dict[str, Any]

_MODELS = "publishers/google/models/"
_STATE = "JOB_STATE_"
_SUPERVISED, _PREFERENCE = "supervisedTuningSpec", "preferenceOptimizationSpec"
_TUNING_MODE = "TUNING_MODE_"
_TUNING_MODES = ("UNSPECIFIED", "FULL", "PEFT_ADAPTER")
"""By their numbers, in the order of google-genai's enum; the numbers are assumed."""
_ORDINARY_PHASES = frozenset({"RUNNING", "SUCCEEDED", "TUNING"})
_DETAIL = "TUNING_JOB_STATE_"
_DETAILED_PHASES = frozenset({"", "QUEUED", "PENDING", "RUNNING"})
"""The states of a job of which ``tuningJobState`` is a part: Google documents RUNNING, and the others are assumed."""
_UNSPECIFIED = "UNSPECIFIED"
_MOST_DROPPED = 20
_MOST_RUNS = 20
_MOST_METRICS = 50
_METRIC_RESULT = re.compile(r"([A-Za-z]{1,40}?)Metric(?:Value|Result)")
# AggregationMetric in the order of its numbers: google/cloud/aiplatform/v1/evaluation_service.proto.
_AGGREGATIONS = (
    *("", "AVERAGE", "MODE", "STANDARD_DEVIATION", "VARIANCE", "MINIMUM", "MAXIMUM", "MEDIAN"),
    *("PERCENTILE_P90", "PERCENTILE_P95", "PERCENTILE_P99"),
)
_REASON_ROOM = 200

# JobState in the order of its numbers: google/cloud/aiplatform/v1/job_state.proto.
_STATE_NAMES = (
    "UNSPECIFIED",
    "QUEUED",
    "PENDING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "CANCELLING",
    "CANCELLED",
    "PAUSED",
    "EXPIRED",
    "UPDATING",
    "PARTIALLY_SUCCEEDED",
)
# Any other state counts as training: apply waits for such a job, and neither promotes nor repeats it.
_STATES: Mapping[str, State] = MappingProxyType(
    {
        "SUCCEEDED": State.ACTIVE,
        "FAILED": State.FAILED,
        "EXPIRED": State.FAILED,
        "CANCELLING": State.CANCELLED,
        "CANCELLED": State.CANCELLED,
    }
)

# SupervisedHyperParameters.AdapterSize, by its number: google/cloud/aiplatform/v1/tuning_job.proto.
_ADAPTERS: Mapping[int, tuple[int, str]] = MappingProxyType(
    {1: (1, "ONE"), 2: (4, "FOUR"), 3: (8, "EIGHT"), 4: (16, "SIXTEEN"), 5: (32, "THIRTY_TWO"), 6: (2, "TWO")}
)
_ADAPTER = "ADAPTER_SIZE_"
_ADAPTER_NAMES: Mapping[Number, str] = MappingProxyType({size: _ADAPTER + name for size, name in _ADAPTERS.values()})
_ADAPTER_SIZES: Mapping[object, int] = MappingProxyType(
    {number: size for number, (size, _) in _ADAPTERS.items()}
    | {_ADAPTER + name: size for size, name in _ADAPTERS.values()}
)


def read_page(body: Mapping[str, Any], *, reasons: bool = True) -> tuple[tuple[RemoteModel, ...], str]:
    """Return the jobs of a page and the token of the next page, empty on the last; raises as :func:`read_job`."""
    jobs = tuple(read_job(job, reasons=reasons) for job in body.get("tuningJobs") or ())
    return jobs, read_text(body.get("nextPageToken"))


def read_job(body: Mapping[str, Any], *, reasons: bool = True) -> RemoteModel:
    """Return a TuningJob. The source of a job that tunes a tuned model is that model, not its base model.

    Without ``reasons``, those of dropped examples are omitted: they can quote an example.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is not a TuningJob.
    """
    name = read_name(body["name"])
    tuned: Mapping[str, Any] = body.get("tunedModel") or {}
    phase = _read_phase(body.get("state"))
    state = _STATES.get(phase, State.CREATING)
    if phase == "PARTIALLY_SUCCEEDED":
        state = State.ACTIVE if tuned else State.FAILED
    base_model = read_text(body.get("baseModel")).removeprefix(_MODELS)
    parent: Mapping[str, Any] = body.get("preTunedModel") or {}
    spec: Mapping[str, Any] = body.get(_SUPERVISED) or body.get(_PREFERENCE) or {}
    stats = _read_stats(body)
    detail = _read_phase(body.get("tuningJobState"), _DETAIL)
    if detail and phase in _DETAILED_PHASES:
        phase = detail
    return RemoteModel(
        remote=name,
        state=state,
        source=read_source(base_model, parent.get("tunedModelName"), parent.get("checkpointId")),
        mark=read_labels(body.get("labels")),
        display_name=read_text(body.get("tunedModelDisplayName")),
        description=read_text(body.get("description")),
        hyperparameters={**_read_hyperparameters(spec.get("hyperParameters") or {}), **_read_content(body, spec)},
        create_time=read_time(body.get("createTime")),
        start_time=read_time(body.get("startTime")),
        complete_time=read_time(body.get("endTime")),
        total_steps=read_count(stats.get("tuningStepCount")),
        billable_tokens=read_count(stats.get("totalBillableTokenCount")),
        failure=_read_failure(name, body.get("error") or {}) if state is State.FAILED else None,
        phase="" if phase in _ORDINARY_PHASES else phase,
        completed_epochs=read_count((body.get("tuningJobMetadata") or {}).get("completedEpochCount")),
        dropped_examples=_read_dropped(stats, reasons=reasons),
        evaluations=_read_evaluations(body),
        experiment=read_text(body.get("experiment")),
        metrics_uri=read_text(body.get("gcsMetricsUri")),
        resources=_read_resources(name, tuned, read_text(body.get("outputUri"))),
    )


def _read_phase(value: Any, prefix: str = _STATE) -> str:
    """Return the name of a JobState or TuningJobState without its prefix, empty where it is unspecified."""
    if prefix == _STATE and isinstance(value, int) and 0 <= value < len(_STATE_NAMES):
        value = _STATE_NAMES[value]
    name = sanitize(str(value).removeprefix(prefix)) if value is not None else ""
    return "" if name == _UNSPECIFIED else name


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read_stats(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the statistics of the data set of a job, which are of one kind for each method."""
    stats: Mapping[str, Any] = body.get("tuningDataStats") or {}
    return stats.get("supervisedTuningDataStats") or stats.get("preferenceOptimizationDataStats") or {}


def _read_evaluations(body: Mapping[str, Any]) -> tuple[ServiceEvaluation, ...]:
    """Return the evaluations of a job, of which at most 20 are kept."""
    runs = _list(body.get("evaluateDatasetRuns"))[:_MOST_RUNS]
    return tuple(_read_evaluation(run) for run in runs if isinstance(run, dict))


def _read_evaluation(run: Mapping[str, Any]) -> ServiceEvaluation:
    response: Mapping[str, Any] = run.get("evaluateDatasetResponse") or {}
    results = _list((response.get("aggregationOutput") or {}).get("aggregationResults"))[:_MOST_METRICS]
    error = run.get("error")
    return ServiceEvaluation(
        checkpoint=read_text(run.get("checkpointId")),
        run=read_text(run.get("evaluationRun")) or read_text(run.get("operationName")),
        metrics=tuple(metric for result in results if isinstance(result, dict) for metric in _read_metrics(result)),
        output=read_text((response.get("outputInfo") or {}).get("gcsOutputDirectory")),
        error=sanitize(read_failure(error).message)[:_REASON_ROOM] if error else "",
    )


def _read_metrics(result: Mapping[str, Any]) -> Iterator[EvaluatedMetric]:
    """Yield the scores of an aggregation, which names its metric by the field that the score is in."""
    aggregation = result.get("aggregationMetric")
    if isinstance(aggregation, int):
        aggregation = _AGGREGATIONS[aggregation] if 0 < aggregation < len(_AGGREGATIONS) else ""
    for name, value in result.items():
        metric = _METRIC_RESULT.fullmatch(name)
        score = read_number(value.get("score")) if metric and isinstance(value, dict) else None
        if metric and score is not None and math.isfinite(score):
            yield EvaluatedMetric(sanitize(metric[1]), score, sanitize(read_text(aggregation)))


def _read_dropped(stats: Mapping[str, Any], *, reasons: bool) -> DroppedExamples | None:
    """Return the examples that were dropped or truncated: Google's fields name both, and describe them as dropped.

    The service lists a part of them, of which at most 20 are kept. Their numbers count the lines of the data set.
    """
    numbers = _list(stats.get("truncatedExampleIndices")) or _list(stats.get("droppedExampleIndices"))
    given = _list(stats.get("droppedExampleReasons")) if reasons else []
    listed = tuple(
        DroppedExample(number, shorten(sanitize(read_text(reason)), _REASON_ROOM))
        for number, reason in zip_longest(map(read_count, numbers), given[: len(numbers)])
        if number
    )
    total = read_count(stats.get("totalTruncatedExampleCount"))
    count = max(total or 0, len(listed))
    return DroppedExamples(count, listed[:_MOST_DROPPED]) if count else None


def _read_hyperparameters(holder: Mapping[str, Any]) -> Hyperparameters:
    hyperparameters = {
        "epochCount": read_integer(holder.get("epochCount")),
        "learningRateMultiplier": read_number(holder.get("learningRateMultiplier")),
        "adapterSize": _ADAPTER_SIZES.get(holder.get("adapterSize")),
        "beta": read_number(holder.get("beta")),
        "batchSize": read_integer(holder.get("batchSize")),
        "learningRate": read_number(holder.get("learningRate")),
    }
    return {name: value for name, value in hyperparameters.items() if value is not None}


def _read_content(body: Mapping[str, Any], spec: Mapping[str, Any]) -> Hyperparameters:
    """Return the other fields of a job that are part of what is trained."""
    mode = spec.get("tuningMode")
    name = _TUNING_MODES[mode] if isinstance(mode, int) and 0 <= mode < len(_TUNING_MODES) else read_text(mode)
    fields = {
        "tuningMode": name.removeprefix(_TUNING_MODE).replace(_UNSPECIFIED, ""),
        "customBaseModel": read_text(body.get("customBaseModel")),
    }
    return {name: value for name, value in fields.items() if value}


def _read_failure(job: str, error: Mapping[str, Any]) -> Failure | None:
    """Return the failure of a job, with the remedy for a known cause in its project."""
    if not error:
        return None
    failure = read_failure(error)
    match = JOB_NAME.fullmatch(job)
    response = ErrorResponse(0, "", failure.message, quota_project=match["project"] if match else "")
    remedy = SERVICE.find_remedy("", find_reason(response, SERVICE), facts=project_facts(response))
    return Failure(failure.code, f"{failure.message}; {remedy}") if remedy else failure


def _read_resources(job: str, tuned: Mapping[str, Any], weights: str) -> Resources:
    match = JOB_NAME.fullmatch(job)
    return Resources(
        job=job,
        model=read_text(tuned.get("model")),
        endpoint=read_text(tuned.get("endpoint")),
        location=match["location"] if match else "",
        weights=weights,
        checkpoints=tuple(
            _read_checkpoint(checkpoint)
            for checkpoint in tuned.get("checkpoints") or ()
            if read_text(checkpoint.get("checkpointId"))
        ),
    )


def _read_checkpoint(checkpoint: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        id=read_text(checkpoint.get("checkpointId")),
        epoch=read_count(checkpoint.get("epoch")) or 0,
        step=read_count(checkpoint.get("step")) or 0,
        endpoint=read_text(checkpoint.get("endpoint")),
    )


class JobInputs(Struct, frozen=True):
    """The data sets of a job, its service account and its key; an empty value is left to the service."""

    training: str
    validation: str = ""
    service_account: str = ""
    kms_key: str = ""


def write_job(generation: CreateRequest, inputs: JobInputs) -> Json:
    """Return the TuningJob of a create request; the mark is in its labels."""
    spec = _present(
        {
            "trainingDatasetUri": inputs.training,
            "validationDatasetUri": inputs.validation,
            "hyperParameters": {
                name: _WRITERS[name](value)
                for name, value in generation.hyperparameters.items()
                if not isinstance(value, str)
            },
        }
    )
    if generation.last_checkpoint_only is not None:
        spec["exportLastCheckpointOnly"] = generation.last_checkpoint_only
    if "evaluationConfig" in generation.settings:
        spec["evaluationConfig"] = generation.settings["evaluationConfig"]
    mode = generation.hyperparameters.get("tuningMode")
    if mode and not generation.dataset.pairs:
        spec["tuningMode"] = f"{_TUNING_MODE}{mode}"
    source = generation.source
    parent = _present({"tunedModelName": source.remote, "checkpointId": source.checkpoint})
    return _present(
        {
            **({"baseModel": source.base_model} if source.base_model else {"preTunedModel": parent}),
            _PREFERENCE if generation.dataset.pairs else _SUPERVISED: spec,
            "customBaseModel": generation.hyperparameters.get("customBaseModel"),
            "outputUri": output_of(generation),
            "tunedModelDisplayName": generation.display_name,
            "description": generation.description,
            "labels": write_labels(generation.mark),
            "serviceAccount": inputs.service_account,
            "encryptionSpec": _present({"kmsKeyName": inputs.kms_key}),
        }
    )


def output_of(generation: CreateRequest) -> str:
    """Return where the weights of a generation are written: a folder of its own, so that no other one replaces them."""
    declared = str(generation.settings.get("outputUri", "")).rstrip("/")
    return f"{declared}/{generation.key}" if declared else ""


_WRITERS: Mapping[str, Callable[[Number], Any]] = {
    "epochCount": lambda value: str(int(value)),
    "learningRateMultiplier": float,
    "adapterSize": _ADAPTER_NAMES.__getitem__,
    "beta": float,
    "batchSize": lambda value: str(int(value)),
    "learningRate": float,
}


def _present(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value}


def write_example(example: TrainingExample) -> bytes:
    """Return an example as a line of a data set, without its line feed.

    This form must never change: objects are named after the digest of their examples, and compared byte by byte. Line
    ends are normalized here as in the digest.
    """
    if not isinstance(example, Example):
        return example.line.encode()
    turns = ",".join(
        f'{{"role":"{role}","parts":[{{"text":{encode_string(normalize_newlines(content))}}}]}}'
        for role, content in (("user", example.input), ("model", example.output))
    )
    return f'{{"contents":[{turns}]}}'.encode()


# google/cloud/aiplatform/v1/content.proto: FinishReason, and prediction_service.proto: BlockedReason.
CODEC = content_codec(
    finish_reasons=(
        *("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("MALFORMED_FUNCTION_CALL", "MODEL_ARMOR"),
    ),
    block_reasons=("", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "MODEL_ARMOR", "JAILBREAK"),
)
"""Prompts to an endpoint; Vertex AI numbers the reasons differently than the Generative Language API."""
