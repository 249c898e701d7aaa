"""The method that creates a tuning job: validate it, read its data sets, and record its future results.

Data sets are JSON Lines with ``contents`` in an object of Cloud Storage. The first lines are validated and the others
only counted, so that any data set takes bounded memory and little time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import IO, Any

from msgspec import Struct

from reconciler.domain.base_models import BaseModel
from reconciler.domain.tokens import estimate_tokens
from reconciler.emulator.errors import ApiError, Code, JsonObject, Rule, Violation, find_violations, invalid, snake_case
from reconciler.emulator.objects import ObjectStore, StorageError
from reconciler.emulator.service import ApiCall, Service
from reconciler.emulator.store import with_inherited
from reconciler.emulator.training import SimulatedTraining, timestamp
from reconciler.emulator.vertex import store
from reconciler.emulator.vertex.jobs import JobError, JobTimeline, job_view
from reconciler.emulator.vertex.messages import new_name, parent_of
from reconciler.emulator.vertex.models import checkpoints_of, resources_of_job, tunable_models

URI = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>.+\.jsonl)")
OUTPUT = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<folder>.+?)/?")
MAX_BYTES = 2**30
MAX_VALIDATION_EXAMPLES = 5000
"""The limits of the real service for Gemini 3.5 Flash, from "Limitations" in
https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning/supervised-tuning ."""
CHECKED_LINES = 5000
KEPT_BYTES = 4 * 1024 * 1024
"""The size of the examples that are kept for answers."""
_MAX_LINE = 8 * 1024 * 1024
_CHUNK = 1024 * 1024
_PAIR = 2
_ROLES = ("user", "model", "function")
SUPERVISED, PREFERENCE = "supervisedTuningSpec", "preferenceOptimizationSpec"
_CHARACTERS_A_TOKEN = 4
"""The approximate length of a token in Google's documentation; there is no tokenizer here."""


class FaultyDatasetError(Exception):
    """A data set that cannot be used for tuning."""

    def __init__(self, message: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.fault = JobError(code, message)


class TuningData(Struct):
    """Some examples as pairs of input and output, the total number, and why some were dropped or truncated.

    ``reasons`` has the reasons by the number of the example, counted from 1. A dropped example is not trained on.
    ``tokens`` is the estimated number of tokens of the others; those that were not read are like the first ones.
    """

    examples: list[JsonObject] = []
    count: int = 0
    dropped: int = 0
    tokens: int = 0
    reasons: dict[int, str] = {}

    @property
    def trained(self) -> int:
        """The number of examples that are trained on."""
        return self.count - self.dropped


def read_dataset(objects: ObjectStore, uri: str, max_tokens: int | None = None, *, pairs: bool = False) -> TuningData:
    """Return the data set in an object, of ``pairs`` for preference tuning; raises FaultyDatasetError.

    Examples are truncated to ``max_tokens``.
    """
    place = URI.fullmatch(uri)
    if place is None:
        raise FaultyDatasetError(f"invalid URI {uri}: expected gs://bucket/object.jsonl")
    try:
        stored = objects.get(place["bucket"], place["name"])
    except StorageError as error:
        raise FaultyDatasetError(f"The data set {uri} was not found: {error.message}", Code.NOT_FOUND) from None
    if stored.size > MAX_BYTES:
        raise FaultyDatasetError(f"The data set {uri} has {stored.size} bytes; the maximum is {MAX_BYTES}.")
    with stored.path.open("rb") as file:
        dataset = _read(file, uri, max_tokens, pairs=pairs)
    if not dataset.trained:
        raise FaultyDatasetError(f"The data set {uri} has no examples.")
    return dataset


def _read(file: IO[bytes], uri: str, max_tokens: int | None, *, pairs: bool) -> TuningData:
    dataset, kept = TuningData(), 0
    for number, line in enumerate(_lines(file), 1):
        try:
            example = _example(line, pairs=pairs)
        except ValueError as error:
            raise FaultyDatasetError(f"Line {number} of the data set {uri}: {error}") from None
        if example is None:
            continue
        dataset.count += 1
        empty, characters, billable = (example.pop(name) for name in ("empty", "characters", "tokens"))
        if empty:
            dataset.dropped += 1
            dataset.reasons[dataset.count] = f"dropped: {empty} is empty"
            continue
        tokens = characters // _CHARACTERS_A_TOKEN
        if max_tokens and tokens > max_tokens:
            dataset.reasons[dataset.count] = f"truncated: {tokens} tokens are more than {max_tokens}"
        dataset.tokens += min(billable, max_tokens) if max_tokens else billable
        kept += len(line)
        if kept <= KEPT_BYTES:
            dataset.examples.append(example)
    read = dataset.trained
    dataset.count += _count_lines(file)
    dataset.tokens = round(dataset.tokens * dataset.trained / read) if read else 0
    return dataset


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    for _ in range(CHECKED_LINES):
        line = file.readline(_MAX_LINE)
        if not line:
            return
        yield line


def _count_lines(file: IO[bytes]) -> int:
    """Count the remaining lines; the last may lack a line end."""
    count, last = 0, b"\n"
    while chunk := file.read(_CHUNK):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def _example(line: bytes, *, pairs: bool) -> JsonObject | None:
    """Return the last input and output of a line, or ``None`` for an empty line; raises ValueError.

    Of a pair the output is the preferred completion. ``characters`` is the length of all turns, ``tokens`` are those
    that are billed, and ``empty`` names an empty turn.
    """
    if not line.strip():
        return None
    if len(line) == _MAX_LINE:
        raise ValueError(f"is longer than {_MAX_LINE} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    _require(isinstance(value, dict), "must be a JSON object")
    turns = value.get("contents")
    _require(isinstance(turns, list) and bool(turns), "must have contents, a list of turns")
    for index, turn in enumerate(turns):
        _check_content(turn, f"contents[{index}]")
        _require(turn.get("role") in _ROLES, f'contents[{index}].role must be "user" or "model"')
    system = [name for name in ("systemInstruction", "system_instruction") if value.get(name) is not None]
    for name in system:
        _check_content(value[name], name)
    last = "user" if pairs else "model"
    _require(turns[-1]["role"] == last, f'contents must end with a turn of the role "{last}"')
    prompt = next((turn for turn in reversed(turns) if turn["role"] == "user"), None)
    _require(prompt is not None, 'contents must have a turn of the role "user"')
    empty = next((f"contents[{index}]" for index, turn in enumerate(turns) if _is_empty(turn)), "")
    output = _preferred(value.get("completions")) if pairs else turns[-1]
    texts = [_text(turn) for turn in turns]
    billed = [*(_text(value[name]) for name in system), *texts]
    completions = [[_text(answer["completion"])] for answer in value["completions"]] if pairs else [[]]
    return {
        "textInput": _text(prompt),
        "output": _text(output),
        "characters": sum(map(len, texts)),
        "tokens": sum(estimate_tokens(*billed, *completion) for completion in completions),
        "empty": empty,
    }


def _is_empty(turn: Any) -> bool:
    return all(part.keys() <= {"text"} and not part.get("text", "").strip() for part in turn["parts"])


def _preferred(completions: Any) -> Any:
    """Return the preferred one of two completions; raises ValueError.

    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning-prepare
    """
    _require(isinstance(completions, list) and len(completions) == _PAIR, "must have two completions")
    for index, completion in enumerate(completions):
        _require(isinstance(completion, dict), f"completions[{index}] must be an object")
        _check_content(completion.get("completion"), f"completions[{index}].completion")
    scores = [completion.get("score", 0) for completion in completions]
    _require(sorted(scores, key=str) == [0, 1], "completions must have the scores 0 and 1")
    return completions[scores.index(1)]["completion"]


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ValueError(message)


def _check_content(content: Any, path: str) -> None:
    _require(isinstance(content, dict), f"{path} must be an object")
    parts = content.get("parts")
    _require(isinstance(parts, list) and bool(parts), f"{path}.parts must be a list that is not empty")
    for index, part in enumerate(parts):
        _require(isinstance(part, dict), f"{path}.parts[{index}] must be an object")
        _require(isinstance(part.get("text", ""), str), f"{path}.parts[{index}].text must be a string")


def _text(content: Any) -> str:
    return "".join(part.get("text", "") for part in content["parts"])


MAX_DISPLAY_NAME = 128
MAX_EPOCHS = 100
MAX_LABELS = 64
LABEL_KEY = r"[a-z][a-z0-9_-]{0,63}"
LABEL_VALUE = r"[a-z0-9_-]{0,64}"
"""64 characters each: https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs ."""

_JOB_RULES: Mapping[str, Rule] = {
    "tunedModelDisplayName": (
        lambda value: len(value) <= MAX_DISPLAY_NAME,
        f"must have at most {MAX_DISPLAY_NAME} characters",
    ),
}
_HYPERPARAMETER_RULES: Mapping[str, Rule] = {
    "epochCount": (lambda value: 1 <= value <= MAX_EPOCHS, f"must be between 1 and {MAX_EPOCHS}"),
    "learningRateMultiplier": (lambda value: value > 0, "must be greater than 0"),
    "learningRate": (lambda value: value > 0, "must be greater than 0"),
    "beta": (lambda value: value > 0, "must be greater than 0"),
}


def check_job(job: Mapping[str, Any]) -> None:
    """Raise ApiError with all violations of a new job."""
    wrong = [Violation(f"tuning_job.{violation.field}", violation.description) for violation in _violations(job)]
    if wrong:
        raise invalid("CreateTuningJobRequest", wrong)


def _violations(job: Mapping[str, Any]) -> Iterator[Violation]:
    yield from find_violations(job, _JOB_RULES)
    yield from _label_violations(job.get("labels", {}))
    if "baseModel" not in job and "preTunedModel" not in job:
        yield Violation("base_model", "either base_model or pre_tuned_model is required")
    yield from _open_model_violations(job)
    yield from _spec_violations(spec_of(job), job.get(spec_of(job), {}))


def is_open(job: Mapping[str, Any]) -> bool:
    """Return whether a job tunes an open model, whose name has its publisher."""
    return "/" in job.get("baseModel", "")


def _open_model_violations(job: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield what does not fit an open or another model, as the descriptions of these fields have it."""
    output, spec = job.get("outputUri", ""), job.get(spec_of(job), {})
    if not is_open(job):
        own = {**job, **spec, **spec.get("hyperParameters", {})}
        for name in ("outputUri", "customBaseModel", "tuningMode", "batchSize", "learningRate"):
            if own.get(name):
                yield Violation(snake_case(name), "is only available for open source models")
    elif not OUTPUT.fullmatch(output):
        described = f'must have the form gs://bucket/folder, but is "{output[:100]}"' if output else "is required"
        yield Violation("output_uri", described)


def spec_of(job: Mapping[str, Any]) -> str:
    """Return the field of a job that has its method."""
    return PREFERENCE if PREFERENCE in job else SUPERVISED


def _label_violations(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > MAX_LABELS:
        yield Violation("labels", f"must have at most {MAX_LABELS} entries, but has {len(labels)}")
    for key, value in labels.items():
        if not re.fullmatch(LABEL_KEY, key):
            yield Violation("labels", f'the key must match {LABEL_KEY}, but is "{key[:100]}"')
        if not re.fullmatch(LABEL_VALUE, value):
            yield Violation("labels", f'the value of {key[:100]} must match {LABEL_VALUE}, but is "{value[:100]}"')


def _spec_violations(field: str, spec: Mapping[str, Any]) -> Iterator[Violation]:
    prefix = f"{snake_case(field)}."
    if "trainingDatasetUri" not in spec:
        yield Violation(f"{prefix}training_dataset_uri", "is required")
    for name in ("trainingDatasetUri", "validationDatasetUri"):
        if name in spec and not URI.fullmatch(spec[name]):
            described = f'must have the form gs://bucket/object.jsonl, but is "{spec[name][:100]}"'
            yield Violation(f"{prefix}{snake_case(name)}", described)
    hyperparameters = dict(spec.get("hyperParameters", {}))
    if "epochCount" in hyperparameters:
        hyperparameters["epochCount"] = int(hyperparameters["epochCount"])
    yield from find_violations(hyperparameters, _HYPERPARAMETER_RULES, f"{prefix}hyper_parameters.")


_MOST_REASONS = 50
"""How many dropped or truncated examples a job lists; the number in the real service is not documented."""
_STATS = {SUPERVISED: "supervisedTuningDataStats", PREFERENCE: "preferenceOptimizationDataStats"}
_STEPS_AN_EPOCH = 100
"""The batch size doubles until an epoch has at most this number of steps."""


def create_job(service: Service, call: ApiCall) -> JsonObject:
    """Start a training and return its job."""
    parent = parent_of(call)
    check_job(call.body)
    now = service.clock()
    source = _source(service, call, now)
    base_model = _base_model_of(service, {**call.body, **source})
    _require_supported(call, base_model)
    inherited = _inherited(service, source, now)
    method = spec_of(call.body)
    spec = {**call.body[method], "hyperParameters": _effective(call)}
    dataset, fault = _read_data(service, spec, base_model, pairs=method == PREFERENCE)
    with service.store.transaction():
        course = JobTimeline(_training(service, call, {**source, **spec}, dataset, now), fault)
        served = _serving_parent(call, base_model)
        job = _document(service, (parent, served), {**call.body, **source, method: spec}, course, dataset)
        known = with_inherited(dataset.examples, inherited)
        seq = store.insert(service.store, job, now, course=course.dump(), examples=known)
        if course.succeeds and "tunedModel" in job:
            end = course.training.end_time
            for product in resources_of_job(service, job, job["tunedModel"], timestamp(end)):
                store.insert(service.store, product, end, origin=seq)
    return job_view(store.get(service.store, job["name"], now), now)


def _source(service: Service, call: ApiCall, now: datetime) -> JsonObject:
    """Return the complete preTunedModel of a new job, if it has one; raises ApiError if it cannot be tuned."""
    if "preTunedModel" in call.body:
        return {"preTunedModel": _pre_tuned(service, call, now)}
    name = call.body["baseModel"]
    supported = tunable_models(service)
    if service.base_models.models and name not in service.base_models.tunable(service.clock().date()):
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f'Base model "{name[:100]}" is not supported for tuning. Supported are: {", ".join(supported)}.',
        )
    return {}


def _pre_tuned(service: Service, call: ApiCall, now: datetime) -> JsonObject:
    requested = call.body["preTunedModel"]
    name = _without_version(requested.get("tunedModelName", ""))
    if "/models/" not in name:
        described = f'must be the name of a model, but is "{name[:100]}"'
        raise invalid("CreateTuningJobRequest", [Violation("tuning_job.pre_tuned_model.tuned_model_name", described)])
    model = store.get(service.store, name, now)
    job = store.origin_of(service.store, model)
    checkpoints = [checkpoint["checkpointId"] for checkpoint in job["tunedModel"]["checkpoints"]]
    if requested.get("checkpointId", checkpoints[-1]) not in checkpoints:
        described = f'must be one of {", ".join(checkpoints)}, but is "{requested["checkpointId"][:100]}"'
        field = "tuning_job.pre_tuned_model.checkpoint_id"
        raise invalid("CreateTuningJobRequest", [Violation(field, described)])
    base = job.get("baseModel") or job["preTunedModel"]["baseModel"]
    return {"checkpointId": checkpoints[-1], **requested, "baseModel": base}


_ADAPTERS = {"ONE": 1, "TWO": 2, "FOUR": 4, "EIGHT": 8, "SIXTEEN": 16, "THIRTY_TWO": 32}


def _base_model_of(service: Service, job: JsonObject) -> BaseModel:
    name = job.get("baseModel") or job["preTunedModel"]["baseModel"]
    return service.base_models.models.get(name, BaseModel())


def _require_supported(call: ApiCall, model: BaseModel) -> None:
    """Raise ApiError unless a base model supports the location, adapter size and key of a job."""
    location = call.path["location"]
    if model.locations and location not in model.locations:
        places = ", ".join(model.locations)
        message = f"Unsupported region for tuning: {location}. The base model can be tuned in {places}."
        raise ApiError(Code.INVALID_ARGUMENT, message)
    adapter = call.body[spec_of(call.body)].get("hyperParameters", {}).get("adapterSize", "")
    size = _ADAPTERS.get(adapter.removeprefix("ADAPTER_SIZE_"))
    if size and model.adapter_sizes and size not in model.adapter_sizes:
        sizes = ", ".join(map(str, model.adapter_sizes))
        message = f"Adapter size {size} is not supported for the base model. Supported are: {sizes}."
        raise ApiError(Code.INVALID_ARGUMENT, message)
    if (model.cmek is False or location == "global") and call.body.get("encryptionSpec"):
        where = "in the location global" if location == "global" else "for the base model"
        message = f"Customer-managed encryption keys are not supported {where}."
        raise ApiError(Code.INVALID_ARGUMENT, message)


def _serving_parent(call: ApiCall, model: BaseModel) -> str:
    """Return where endpoints are: in the multi-region around the job's location, if the base model is served there.

    Whether the names of real endpoints have the multi-region or the region is not documented.
    """
    parent, location = parent_of(call), call.path["location"]
    around = next((area for area, prefix in _MULTI_REGIONS if location.startswith(prefix)), location)
    served = around if around in model.serving_locations else location
    return f"{parent.removesuffix(location)}{served}"


_MULTI_REGIONS = (("us", "us-"), ("eu", "europe-"))


def _without_version(model: str) -> str:
    """Return the name of a model without its version."""
    return model.partition("@")[0]


def _inherited(service: Service, source: JsonObject, now: datetime) -> list[JsonObject]:
    """Return the examples of the parent, if there is one."""
    if "preTunedModel" not in source:
        return []
    parent = _without_version(source["preTunedModel"]["tunedModelName"])
    checkpoint = source["preTunedModel"]["checkpointId"]
    return store.learned_by(service.store, store.get(service.store, parent, now), checkpoint)


def _effective(call: ApiCall) -> JsonObject:
    """Return the declared hyperparameters with defaults for the others."""
    declared = call.body[spec_of(call.body)].get("hyperParameters", {})
    defaults = {
        "epochCount": str(call.api.defaults["epochCount"]),
        **({} if is_open(call.body) else {"learningRateMultiplier": 1.0, "adapterSize": "ADAPTER_SIZE_FOUR"}),
    }
    return {**defaults, **declared}


def _read_data(
    service: Service, spec: Mapping[str, Any], base_model: BaseModel, *, pairs: bool
) -> tuple[TuningData, JobError | None]:
    """Return the training data, or empty data and the error."""
    try:
        dataset = read_dataset(service.objects, spec["trainingDatasetUri"], base_model.max_tokens, pairs=pairs)
        if "validationDatasetUri" in spec:
            uri = spec["validationDatasetUri"]
            count = read_dataset(service.objects, uri, pairs=pairs).count
            if count > MAX_VALIDATION_EXAMPLES:
                message = f"The validation data set {uri} has {count} examples, more than {MAX_VALIDATION_EXAMPLES}."
                return TuningData(), JobError(Code.INVALID_ARGUMENT, message)
    except FaultyDatasetError as error:
        return TuningData(), error.fault
    return dataset, None


def _training(
    service: Service, call: ApiCall, content: JsonObject, dataset: TuningData, now: datetime
) -> SimulatedTraining:
    hyperparameters = content["hyperParameters"]
    batch_size = int(hyperparameters.get("batchSize", call.api.defaults["batchSize"]))
    while "batchSize" not in hyperparameters and dataset.trained > batch_size * _STEPS_AN_EPOCH:
        batch_size *= 2
    seed = json.dumps([content, dataset.count, dataset.examples], sort_keys=True)
    return SimulatedTraining(
        created=timestamp(now),
        examples=dataset.trained,
        batch_size=batch_size,
        epochs=int(hyperparameters["epochCount"]),
        learning_rate=hyperparameters.get("learningRateMultiplier", 1.0) * call.api.defaults["learningRate"],
        seed=hashlib.sha256(seed.encode()).hexdigest(),
        step_seconds=service.settings.step_seconds,
        overhead_seconds=service.settings.overhead_seconds,
    )


def _document(
    service: Service, parents: tuple[str, str], requested: JsonObject, course: JobTimeline, dataset: TuningData
) -> JsonObject:
    """Return the time-independent part of the job, including fields that appear only at its end.

    ``parents`` are the location of the job and its model, and that of its endpoints.
    """
    parent, served = parents
    name, training = new_name(service, f"{parent}/tuningJobs"), course.training
    method = spec_of(requested)
    last_only = requested[method].get("exportLastCheckpointOnly", False)
    checkpoints = checkpoints_of(service, served, training, last_only=last_only)
    number = name.rpartition("/")[2]
    bucket = requested[method]["trainingDatasetUri"].removeprefix("gs://").partition("/")[0]
    return {
        **requested,
        "name": name,
        "createTime": training.created,
        **_evaluations(service, parent, requested[method], checkpoints),
        "experiment": f"{parent}/metadataStores/default/contexts/tuning-experiment-{number}",
        "gcsMetricsUri": f"gs://{bucket}/tuning-metrics/{number}.jsonl",
        **({} if is_open(requested) else {"tunedModel": _tuned_model(service, parent, checkpoints)}),
        "tuningDataStats": {
            _STATS[method]: {
                "tuningDatasetExampleCount": str(dataset.count),
                "totalBillableTokenCount": str(dataset.tokens),
                "tuningStepCount": str(training.total_steps),
                **_dropped(dataset, method),
            }
        },
    }


_RESULTS = {
    "exactMatchSpec": "exactMatchMetricValue",
    "bleuSpec": "bleuMetricValue",
    "rougeSpec": "rougeMetricValue",
}
"""The field of the result of a metric; all others are judged by a model, point by point."""


def _evaluations(service: Service, parent: str, spec: JsonObject, checkpoints: list[JsonObject]) -> JsonObject:
    """Return the runs of a declared evaluation, one for each checkpoint, whose scores are made up."""
    config = spec.get("evaluationConfig", {})
    results = [
        {
            next((field for name, field in _RESULTS.items() if name in metric), "pointwiseMetricResult"): {
                "score": 0.5
            },
            "aggregationMetric": aggregation,
        }
        for metric in config.get("metrics", ())
        for aggregation in metric.get("aggregationMetrics") or ["AVERAGE"]
    ]
    folder = config.get("outputConfig", {}).get("gcsDestination", {}).get("outputUriPrefix", "")
    runs = [
        {
            "evaluationRun": new_name(service, f"{parent}/evaluationRuns"),
            "checkpointId": checkpoint["checkpointId"],
            "evaluateDatasetResponse": {
                "aggregationOutput": {"aggregationResults": results},
                "outputInfo": {"gcsOutputDirectory": folder},
            },
        }
        for checkpoint in checkpoints
    ]
    return {"evaluateDatasetRuns": runs} if results else {}


def _tuned_model(service: Service, parent: str, checkpoints: list[JsonObject]) -> JsonObject:
    """Return the results of a job; one of an open model is assumed to have only its weights in Cloud Storage."""
    return {
        "model": f"{new_name(service, f'{parent}/models')}@1",
        "endpoint": checkpoints[-1]["endpoint"],
        "checkpoints": checkpoints,
    }


def _dropped(dataset: TuningData, method: str) -> JsonObject:
    """Return the part of the statistics about examples that were dropped or truncated."""
    if not dataset.reasons:
        return {}
    listed = list(dataset.reasons.items())[:_MOST_REASONS]
    numbers, reasons = [str(number) for number, _ in listed], [reason for _, reason in listed]
    if method == PREFERENCE:
        return {"droppedExampleIndices": numbers, "droppedExampleReasons": reasons}
    return {
        "totalTruncatedExampleCount": str(len(dataset.reasons)),
        "truncatedExampleIndices": numbers,
        "droppedExampleReasons": reasons,
    }
