"""The API of Vertex AI: its messages, versions, locations and default hyperparameters.

The messages are protos of google.cloud.aiplatform, which v1 and v1beta1 share, apart from tuning jobs.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from reconciler.emulator.errors import ApiError, Code
from reconciler.emulator.generativelanguage.messages import content, generate_content
from reconciler.emulator.proto import (
    BOOL,
    DOUBLE,
    INT,
    INT64,
    INTEGERS,
    MAP,
    OUTPUT_STRING,
    OUTPUT_TIMESTAMP,
    STATUS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Field,
    Message,
    enum,
    message,
    repeated,
    single,
)
from reconciler.emulator.service import Api, ApiCall, Service
from reconciler.emulator.vertex.store import is_taken

_HYPERPARAMETERS = message(
    "SupervisedHyperParameters",
    epochCount=INT64,
    learningRateMultiplier=DOUBLE,
    adapterSize=enum(
        "ADAPTER_SIZE_UNSPECIFIED",
        "ADAPTER_SIZE_ONE",
        "ADAPTER_SIZE_FOUR",
        "ADAPTER_SIZE_EIGHT",
        "ADAPTER_SIZE_SIXTEEN",
        "ADAPTER_SIZE_THIRTY_TWO",
        "ADAPTER_SIZE_TWO",
    ),
)
AGGREGATIONS = (
    "AGGREGATION_METRIC_UNSPECIFIED",
    *("AVERAGE", "MODE", "STANDARD_DEVIATION", "VARIANCE", "MINIMUM", "MAXIMUM", "MEDIAN"),
    *("PERCENTILE_P90", "PERCENTILE_P95", "PERCENTILE_P99"),
)
_TUNING_MODE = enum("TUNING_MODE_UNSPECIFIED", "TUNING_MODE_FULL", "TUNING_MODE_PEFT_ADAPTER")
"""The numbers of the modes are assumed."""


def _with(of: Message, /, **fields: Field) -> Message:
    """Return a message with more fields."""
    return Message(of.name, {**of.fields, **fields})


_METRIC = message(
    "Metric",
    predefinedMetricSpec=single(message("PredefinedMetricSpec", metricSpecName=STRING)),
    llmBasedMetricSpec=single(message("LLMBasedMetricSpec", metricPromptTemplate=STRING, systemInstruction=STRING)),
    pointwiseMetricSpec=single(message("PointwiseMetricSpec", metricPromptTemplate=STRING, systemInstruction=STRING)),
    exactMatchSpec=single(message("ExactMatchSpec")),
    bleuSpec=single(message("BleuSpec", useEffectiveOrder=BOOL)),
    rougeSpec=single(message("RougeSpec", rougeType=STRING, useStemmer=BOOL, splitSummaries=BOOL)),
    aggregationMetrics=Field("enum", repeated=True, enum=AGGREGATIONS),
)
_EVALUATION_CONFIG = message(
    "EvaluationConfig",
    metrics=repeated(_METRIC),
    outputConfig=single(
        message("OutputConfig", gcsDestination=single(message("GcsDestination", outputUriPrefix=STRING)))
    ),
    autoraterConfig=single(message("AutoraterConfig", samplingCount=INT, flipEnabled=BOOL, autoraterModel=STRING)),
    inferenceGenerationConfig=generate_content((), ()).fields["generationConfig"],
)
_SCORE = single(message("MetricValue", score=Field("float", optional=True)), oneof="aggregation_result")
_EVALUATE_DATASET_RUN = message(
    "EvaluateDatasetRun",
    evaluationRun=STRING,
    checkpointId=STRING,
    evaluateDatasetResponse=single(
        message(
            "EvaluateDatasetResponse",
            aggregationOutput=single(
                message(
                    "AggregationOutput",
                    aggregationResults=repeated(
                        message(
                            "AggregationResult",
                            pointwiseMetricResult=_SCORE,
                            exactMatchMetricValue=_SCORE,
                            bleuMetricValue=_SCORE,
                            rougeMetricValue=_SCORE,
                            aggregationMetric=enum(*AGGREGATIONS),
                        )
                    ),
                )
            ),
            outputInfo=single(
                message("OutputInfo", gcsOutputDirectory=Field("string", optional=True, oneof="output_location"))
            ),
        )
    ),
)
_SPEC = message(
    "SupervisedTuningSpec",
    trainingDatasetUri=STRING,
    validationDatasetUri=STRING,
    hyperParameters=single(_HYPERPARAMETERS),
    exportLastCheckpointOnly=BOOL,
    evaluationConfig=single(_EVALUATION_CONFIG),
)
_SPEC_V1BETA1 = _with(
    _SPEC,
    hyperParameters=single(_with(_HYPERPARAMETERS, batchSize=INT64, learningRate=DOUBLE)),
    tuningMode=_TUNING_MODE,
)
_PREFERENCE_SPEC = Message(
    "PreferenceOptimizationSpec",
    {
        **_SPEC.fields,
        "hyperParameters": single(
            message("PreferenceOptimizationHyperParameters", **_HYPERPARAMETERS.fields, beta=DOUBLE)
        ),
    },
)
"""As google-genai has it; the protos of google-cloud-aiplatform have no preference tuning."""
_CHECKPOINT = message("TunedModelCheckpoint", checkpointId=STRING, epoch=INT64, step=INT64, endpoint=STRING)
_STATS = message(
    "SupervisedTuningDataStats",
    tuningDatasetExampleCount=INT64,
    totalTuningCharacterCount=INT64,
    totalBillableCharacterCount=INT64,
    totalBillableTokenCount=INT64,
    tuningStepCount=INT64,
    totalTruncatedExampleCount=INT64,
    truncatedExampleIndices=Field("int64", repeated=True),
    droppedExampleReasons=STRINGS,
)
_PREFERENCE_STATS = message(
    "PreferenceOptimizationDataStats",
    tuningDatasetExampleCount=INT64,
    totalBillableTokenCount=INT64,
    tuningStepCount=INT64,
    droppedExampleIndices=Field("int64", repeated=True),
    droppedExampleReasons=STRINGS,
)
ENCRYPTION_SPEC = message("EncryptionSpec", kmsKeyName=STRING)

TUNING_JOB = message(
    "TuningJob",
    baseModel=Field("string", optional=True, oneof="source_model"),
    preTunedModel=single(
        message("PreTunedModel", tunedModelName=STRING, checkpointId=STRING, baseModel=OUTPUT_STRING),
        oneof="source_model",
    ),
    supervisedTuningSpec=single(_SPEC, oneof="tuning_spec"),
    name=OUTPUT_STRING,
    tunedModelDisplayName=STRING,
    description=STRING,
    state=enum(
        "JOB_STATE_UNSPECIFIED",
        "JOB_STATE_QUEUED",
        "JOB_STATE_PENDING",
        "JOB_STATE_RUNNING",
        "JOB_STATE_SUCCEEDED",
        "JOB_STATE_FAILED",
        "JOB_STATE_CANCELLING",
        "JOB_STATE_CANCELLED",
        output_only=True,
    ),
    createTime=OUTPUT_TIMESTAMP,
    startTime=OUTPUT_TIMESTAMP,
    endTime=OUTPUT_TIMESTAMP,
    updateTime=OUTPUT_TIMESTAMP,
    error=single(STATUS, output_only=True),
    labels=MAP,
    experiment=OUTPUT_STRING,
    evaluateDatasetRuns=repeated(_EVALUATE_DATASET_RUN, output_only=True),
    gcsMetricsUri=OUTPUT_STRING,
    tunedModel=single(
        message("TunedModel", model=STRING, endpoint=STRING, checkpoints=repeated(_CHECKPOINT)), output_only=True
    ),
    tuningDataStats=single(message("TuningDataStats", supervisedTuningDataStats=single(_STATS)), output_only=True),
    encryptionSpec=single(ENCRYPTION_SPEC),
    serviceAccount=STRING,
)

TUNING_JOB_V1BETA1 = _with(
    TUNING_JOB,
    supervisedTuningSpec=single(_SPEC_V1BETA1, oneof="tuning_spec"),
    preferenceOptimizationSpec=single(_PREFERENCE_SPEC, oneof="tuning_spec"),
    customBaseModel=STRING,
    outputUri=STRING,
    tuningDataStats=single(
        message(
            "TuningDataStats",
            supervisedTuningDataStats=single(_STATS),
            preferenceOptimizationDataStats=single(_PREFERENCE_STATS),
        ),
        output_only=True,
    ),
    tuningJobState=enum(
        "TUNING_JOB_STATE_UNSPECIFIED",
        "TUNING_JOB_STATE_WAITING_FOR_QUOTA",
        "TUNING_JOB_STATE_PROCESSING_DATASET",
        "TUNING_JOB_STATE_WAITING_FOR_CAPACITY",
        "TUNING_JOB_STATE_TUNING",
        "TUNING_JOB_STATE_POST_PROCESSING",
        output_only=True,
    ),
    tuningJobMetadata=single(message("TuningJobMetadata", completedEpochCount=INT64), output_only=True),
)
"""With the fields that only v1beta1 or google-genai has, which calls v1beta1; the order of the states is assumed."""

MODEL = message(
    "Model",
    name=STRING,
    versionId=STRING,
    versionAliases=STRINGS,
    versionCreateTime=TIMESTAMP,
    versionUpdateTime=TIMESTAMP,
    displayName=STRING,
    description=STRING,
    createTime=TIMESTAMP,
    updateTime=TIMESTAMP,
    deployedModels=repeated(message("DeployedModelRef", endpoint=STRING, deployedModelId=STRING)),
    labels=MAP,
    encryptionSpec=single(ENCRYPTION_SPEC),
)
PUBLISHER_MODEL = message("PublisherModel", name=STRING, versionId=STRING)
_DEPLOYED_MODEL = message(
    "DeployedModel",
    id=STRING,
    model=STRING,
    modelVersionId=OUTPUT_STRING,
    displayName=STRING,
    createTime=OUTPUT_TIMESTAMP,
    checkpointId=STRING,
)
ENDPOINT = message(
    "Endpoint",
    name=OUTPUT_STRING,
    displayName=STRING,
    description=STRING,
    deployedModels=repeated(_DEPLOYED_MODEL, output_only=True),
    trafficSplit=INTEGERS,
    labels=MAP,
    createTime=OUTPUT_TIMESTAMP,
    updateTime=OUTPUT_TIMESTAMP,
    encryptionSpec=single(ENCRYPTION_SPEC),
)


def list_of(collection: str, of: Message, field: str = "") -> Message:
    """Return the response message of a list method; ``field`` is the field of the list, by default the collection."""
    name = f"List{collection[0].upper()}{collection[1:]}Response"
    return message(name, **{field or collection: repeated(of), "nextPageToken": STRING})


def tuning_job(api: Api) -> Message:
    """Return the message of a tuning job in an API version."""
    return api.tuned_model


def tuning_jobs(api: Api) -> Message:
    """Return the response of the list of tuning jobs in an API version."""
    return list_of("tuningJobs", api.tuned_model)


LIST = message("ListRequest", filter=STRING, pageSize=INT, pageToken=STRING)
UPDATE = message("UpdateModelRequest", updateMask=STRING)
UNDEPLOY_MODEL = message("UndeployModelRequest", deployedModelId=STRING, trafficSplit=INTEGERS)
DEPLOY_MODEL = message("DeployModelRequest", deployedModel=single(_DEPLOYED_MODEL), trafficSplit=INTEGERS)

_TYPE = {"@type": STRING}
OPERATION = message(
    "Operation",
    name=STRING,
    metadata=single(
        Message(
            "OperationMetadata",
            {
                **_TYPE,
                "genericMetadata": single(
                    message("GenericOperationMetadata", createTime=TIMESTAMP, updateTime=TIMESTAMP)
                ),
            },
        )
    ),
    done=BOOL,
    response=single(Message("Response", {**_TYPE, **ENDPOINT.fields, "deployedModel": single(_DEPLOYED_MODEL)})),
)

GENERATE_CONTENT = generate_content(
    categories=(
        "HARM_CATEGORY_UNSPECIFIED",
        "HARM_CATEGORY_HATE_SPEECH",
        "HARM_CATEGORY_DANGEROUS_CONTENT",
        "HARM_CATEGORY_HARASSMENT",
        "HARM_CATEGORY_SEXUALLY_EXPLICIT",
        "HARM_CATEGORY_CIVIC_INTEGRITY",
    ),
    thresholds=(
        "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
        "BLOCK_NONE",
        "OFF",
    ),
    labels=MAP,
)
CONTENT = content(INT)
COUNT_TOKENS = Message(
    "CountTokensRequest",
    {name: GENERATE_CONTENT.fields[name] for name in ("model", "contents", "systemInstruction", "generationConfig")},
)
TOKENS = message("CountTokensResponse", totalTokens=INT)

VERTEX_V1 = Api(
    version="v1",
    tuned_model=TUNING_JOB,
    defaults={"epochCount": 5, "batchSize": 4, "learningRate": 0.001},
    mutable=frozenset(),
    query=LIST,
    root="/projects/{project}/locations/{location}",
    package="google.cloud.aiplatform",
)
VERTEX_V1BETA1 = replace(VERTEX_V1, version="v1beta1", tuned_model=TUNING_JOB_V1BETA1)


PUBLISHER = replace(VERTEX_V1BETA1, root="/publishers/google")
"""The base models, which are in no project."""


_LOCATION = re.compile(r"global|us|eu|[a-z]{2,20}-[a-z]{2,20}[0-9]{1,2}")


def parent_of(call: ApiCall) -> str:
    """Return the project and location of a call; raises ApiError for an invalid location."""
    location = call.path["location"]
    if not _LOCATION.fullmatch(location):
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f"Unsupported region: {location}. Choose a location of Vertex AI, such as us-central1.",
        )
    return f"projects/{call.path['project']}/locations/{location}"


def new_name(service: Service, collection: str) -> str:
    """Return an unused name in a collection."""
    while True:
        name = f"{collection}/{service.number()}"
        if not is_taken(service.store, name):
            return name
