"""The specs of the repository show the format, and run quickly."""

from __future__ import annotations

import math
from pathlib import Path

from msgspec.structs import replace

from support.files_samples import CAPABILITIES, VERTEX, load_in, messages

_ROOT = Path(__file__).parents[2]
_REAL = replace(
    CAPABILITIES,
    max_input_characters=40_000,
    max_output_characters=5_000,
    max_dataset_bytes=4_000_000,
    recommended_examples=20,
)


def test_they_are_valid_and_warn_of_one_thing() -> None:
    assert messages(load_in(_ROOT, "specs", capabilities=_REAL)) == [
        (
            "specs/number-generator.yaml:11:3: spec.dataset: 15 examples, at least 20 are recommended; add"
            " examples if the model learns too little"
        )
    ]


def test_they_can_be_trained_on_vertex_ai_too() -> None:
    workspace = load_in(_ROOT, "specs", capabilities=VERTEX)
    assert not workspace.problems
    assert {one.source.base_model for one in workspace.manifests} == {"gemini-3.5-flash"}
    assert len(workspace.manifests) == 4


def test_their_training_takes_few_steps() -> None:
    manifests = load_in(_ROOT, "specs", capabilities=_REAL).manifests
    assert len(manifests) == 4
    for manifest in manifests:
        declared = manifest.hyperparameters
        assert math.ceil(manifest.dataset.examples * declared["epochCount"] / declared["batchSize"]) <= 25


def test_the_quick_start_is_the_one_of_the_service_s_guide() -> None:
    workspace = load_in(_ROOT, "specs/number-generator.yaml", capabilities=_REAL)
    (manifest,) = workspace.manifests
    assert manifest.hyperparameters == {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    assert (workspace.target.name, workspace.target.scope) == ("default", "demo")
    assert {(one.input, one.output) for one in workspace.training(manifest)} >= {
        ("1", "2"),
        ("10,100,000", "10,100,001"),
    }
