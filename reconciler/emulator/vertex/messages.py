"""The protos of Vertex AI (google.cloud.aiplatform, v1 and v1beta1 alike) as tables."""

from __future__ import annotations

from reconciler.emulator.generativelanguage.messages import (
    BOOL,
    DOUBLE,
    INT,
    INT64,
    MAP,
    OUTPUT_STRING,
    OUTPUT_TIMESTAMP,
    STATUS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Field,
    Message,
    content,
    enum,
    generate_content,
    many,
    message,
    one,
)

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
_SPEC = message(
    "SupervisedTuningSpec",
    trainingDatasetUri=STRING,
    validationDatasetUri=STRING,
    hyperParameters=one(_HYPERPARAMETERS),
    exportLastCheckpointOnly=BOOL,
)
_CHECKPOINT = message("TunedModelCheckpoint", checkpointId=STRING, epoch=INT64, step=INT64, endpoint=STRING)
_STATS = message(
    "SupervisedTuningDataStats",
    tuningDatasetExampleCount=INT64,
    totalTuningCharacterCount=INT64,
    totalBillableCharacterCount=INT64,
    tuningStepCount=INT64,
)
ENCRYPTION_SPEC = message("EncryptionSpec", kmsKeyName=STRING)

TUNING_JOB = message(
    "TuningJob",
    baseModel=Field("string", optional=True, oneof="source_model"),
    preTunedModel=one(
        message("PreTunedModel", tunedModelName=STRING, checkpointId=STRING, baseModel=OUTPUT_STRING),
        oneof="source_model",
    ),
    supervisedTuningSpec=one(_SPEC, oneof="tuning_spec"),
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
    error=one(STATUS, output_only=True),
    labels=MAP,
    experiment=OUTPUT_STRING,
    tunedModel=one(
        message("TunedModel", model=STRING, endpoint=STRING, checkpoints=many(_CHECKPOINT)), output_only=True
    ),
    tuningDataStats=one(message("TuningDataStats", supervisedTuningDataStats=one(_STATS)), output_only=True),
    encryptionSpec=one(ENCRYPTION_SPEC),
    serviceAccount=STRING,
)

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
    deployedModels=many(message("DeployedModelRef", endpoint=STRING, deployedModelId=STRING)),
    labels=MAP,
    encryptionSpec=one(ENCRYPTION_SPEC),
)
ENDPOINT = message(
    "Endpoint",
    name=STRING,
    displayName=STRING,
    description=STRING,
    deployedModels=many(
        message(
            "DeployedModel",
            id=STRING,
            model=STRING,
            modelVersionId=STRING,
            displayName=STRING,
            createTime=TIMESTAMP,
            checkpointId=STRING,
        )
    ),
    labels=MAP,
    createTime=TIMESTAMP,
    updateTime=TIMESTAMP,
    encryptionSpec=one(ENCRYPTION_SPEC),
)


def list_of(collection: str, of: Message, field: str = "") -> Message:
    """The response to a list of a collection; ``field`` is where it stands, where that is called otherwise."""
    name = f"List{collection[0].upper()}{collection[1:]}Response"
    return message(name, **{field or collection: many(of), "nextPageToken": STRING})


LIST = message("ListRequest", filter=STRING, pageSize=INT, pageToken=STRING)
UNDEPLOY_MODEL = message("UndeployModelRequest", deployedModelId=STRING)

_TYPE = {"@type": STRING}
OPERATION = message(
    "Operation",
    name=STRING,
    metadata=one(
        Message(
            "OperationMetadata",
            {
                **_TYPE,
                "genericMetadata": one(message("GenericOperationMetadata", createTime=TIMESTAMP, updateTime=TIMESTAMP)),
            },
        )
    ),
    done=BOOL,
    response=one(Message("Response", _TYPE)),
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
