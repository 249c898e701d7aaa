"""What a manifest declares for Vertex AI, with the base models, methods and targets that it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from reconciler.domain.model import Target
from reconciler.providers.vertex.spec import SPEC
from support.cases import each_row
from support.files_samples import MANIFEST, load_in, messages, sample

TARGET = Target(
    "t", "t.yaml", "vertex", "acme", project="p", location="us-central1", bucket="gs://acme/data",
    settings={"outputBuckets": ["gs://models"]},
)  # fmt: skip
GEMINI = MANIFEST.replace("models/gemini-3.5-flash", "gemini-3.5-flash")
OPEN = MANIFEST.replace("models/gemini-3.5-flash", "qwen/qwen3@qwen3-8b")
EVALUATION = "  vertex: {{evaluationConfig: {{{}, outputConfig: {{gcsDestination: {{outputUriPrefix: '{}'}}}}}}}}\n"
OUTPUT = "  vertex: {outputUri: gs://acme/weights}\n"
KEY = {"kmsKeyName": "projects/p/locations/global/keyRings/r/cryptoKeys/k"}


def faults(folder: Path, manifest: str, target: Target) -> list[str]:
    """The errors and warnings of a manifest, without the recommended number of examples and without places."""
    workspace = load_in(
        sample(folder, manifest=manifest), capabilities=replace(SPEC.capabilities(target), recommended_examples=0)
    )
    shown = dict(zip(messages(workspace), workspace.problems, strict=True))
    return [f"{problem.severity}: {text.partition(': ')[2]}" for text, problem in shown.items()]


@each_row(
    ("manifest", "target", "expected"),
    [
        (GEMINI, {}, []),
        (GEMINI + "  hyperparameters: {epochCount: 3}\n", {}, []),
        (OPEN + OUTPUT, {"location": "global"}, []),
        (OPEN + "  vertex: {outputUri: gs://models/x, tuningMode: FULL, customBaseModel: gs://others/x}\n", {}, []),
        (OPEN + "  vertex: {outputUri: gs://acme/x, hyperparameters: {batchSize: 8, learningRate: 0.001}}\n", {}, []),
        (
            OPEN,
            {},
            [
                (
                    "error: spec.vertex.outputUri: missing outputUri, where the weights that are tuned from "
                    "qwen/qwen3@qwen3-8b are written; add spec.vertex.outputUri: gs://BUCKET/FOLDER"
                )
            ],
        ),
        (
            OPEN + "  vertex: {outputUri: gs://acme-evil/x}\n",
            {},
            [
                (
                    "error: spec.vertex.outputUri: gs://acme-evil/x is not in a bucket that results may be "
                    "written to: gs://acme, gs://models; use one of these, or add the bucket to "
                    "spec.vertex.outputBuckets of the target"
                )
            ],
        ),
        (
            GEMINI + "  hyperparameters: {batchSize: 8}\n",
            {},
            [
                (
                    "error: spec.hyperparameters.batchSize: hyperparameter not supported by Vertex AI for this "
                    "base model; set spec.vertex.hyperparameters, which replaces these, to some of adapterSize, "
                    "epochCount, learningRateMultiplier"
                )
            ],
        ),
        (
            GEMINI + "  vertex: {hyperparameters: {learningRate: 0.1, beta: 0.1}}\n",
            {},
            [
                (
                    "error: spec.vertex.hyperparameters.learningRate: hyperparameter not supported by Vertex AI "
                    "for this base model; remove it, or use one of adapterSize, epochCount, "
                    "learningRateMultiplier"
                ),
                (
                    "error: spec.vertex.hyperparameters.beta: only the method preference has beta; remove it, or "
                    "set spec.method to preference"
                ),
            ],
        ),
        (
            GEMINI + "  vertex: {tuningMode: FULL, outputUri: gs://acme/x}\n",
            {},
            [
                (
                    "warning: spec.vertex.tuningMode: tuningMode is documented for open models only, unlike "
                    "gemini-3.5-flash; remove it, unless the service supports it"
                ),
                (
                    "warning: spec.vertex.outputUri: outputUri is documented for open models only, unlike "
                    "gemini-3.5-flash; remove it, unless the service supports it"
                ),
            ],
        ),
        (GEMINI + EVALUATION.format("metrics: [{bleuSpec: {}}]", "gs://models/e"), {}, []),
        (
            GEMINI + EVALUATION.format("metrics: [{x: [.nan]}]", "gs://models/e"),
            {},
            ["error: spec.vertex.evaluationConfig.metrics.x: nan is not a number in JSON; write a finite number"],
        ),
        (
            GEMINI + EVALUATION.format("metric: []", "gs://evil/e"),
            {},
            [
                (
                    "error: spec.vertex.evaluationConfig.outputConfig.gcsDestination.outputUriPrefix: gs://evil/e is"
                    " not in a bucket that results may be written to: gs://acme, gs://models; use one of these, or add"
                    " the bucket to spec.vertex.outputBuckets of the target"
                ),
                (
                    "warning: spec.vertex.evaluationConfig.metrics: no metrics, which the service requires; add them,"
                    " or remove evaluationConfig"
                ),
                "warning: spec.vertex.evaluationConfig.metric: unknown field of an evaluation; did you mean metrics?",
            ],
        ),
        (
            GEMINI
            + EVALUATION.format(
                "metrics: [{pointwiseMetricSpec: {output: [' bq://evil']}}], autoraterConfig: {autorater_model:"
                " projects/evil/locations/us-central1/endpoints/1}, output_config: {gcs_destination:"
                " {output_uri_prefix: 'gs://evil/e'}}",
                "gs://models/e",
            ),
            {},
            [
                (
                    f"error: spec.vertex.evaluationConfig.{field} is not in a bucket that results may be written to:"
                    " gs://acme, gs://models; use one of these, or add the bucket to spec.vertex.outputBuckets of the"
                    " target"
                )
                for field in (
                    "metrics.pointwiseMetricSpec.output:  bq://evil",
                    "output_config.gcs_destination.output_uri_prefix: gs://evil/e",
                )
            ]
            + [
                (
                    "warning: spec.vertex.evaluationConfig.output_config: unknown field of an evaluation; did you mean"
                    " outputConfig?"
                ),
                (
                    "error: spec.vertex.evaluationConfig.autoraterConfig.autorater_model:"
                    " projects/evil/locations/us-central1/endpoints/1 is not in the project p of the target; use a"
                    " resource of this project: projects/p/..."
                ),
            ],
        ),
        (
            GEMINI + "  vertex: {evaluationConfig: {metrics: bleu}}\n",
            {},
            [
                (
                    'error: spec.vertex.evaluationConfig.metrics: invalid metrics "bleu": expected a list of objects;'
                    " write [{rougeSpec: {rougeType: rougeLsum}}]"
                ),
                (
                    "warning: spec.vertex.evaluationConfig.outputConfig: no folder for the results, which the service"
                    " requires; add outputConfig: {gcsDestination: {outputUriPrefix: gs://BUCKET/FOLDER}}"
                ),
            ],
        ),
        (
            OPEN + OUTPUT,
            {"location": "global", "settings": KEY},
            [
                (
                    "warning: spec.baseModel: the location global supports no KMS keys (spec.vertex.kmsKeyName "
                    "of the target); remove kmsKeyName from the target, or set a region in spec.location"
                )
            ],
        ),
        (
            OPEN + OUTPUT + "  serve: {checkpoint: last}\n",
            {},
            [
                (
                    "error: spec.serve: an open model is not deployed after its training, so no checkpoint of it can"
                    " serve; remove it"
                )
            ],
        ),
        (
            OPEN + OUTPUT + "  checks: [{name: a, prompt: b, expect: {equals: c}}]\n",
            {},
            [
                (
                    "warning: spec.checks: an open model is not deployed after its training, so its checks get "
                    "no answers; remove them, and evaluate the weights elsewhere"
                )
            ],
        ),
    ],
)
def test_what_a_manifest_declares_for_the_service(
    tmp_path: Path, manifest: str, target: dict[str, Any], expected: list[str]
) -> None:
    assert sorted(faults(tmp_path, manifest, replace(TARGET, **target))) == sorted(expected)
