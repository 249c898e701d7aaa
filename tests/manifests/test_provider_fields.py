"""A provider's own block of a manifest stands in place of common fields there, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.model import Capabilities, Manifest
from support.files_samples import CAPABILITIES, MANIFEST, VERTEX, load_in, messages, sample

_COMMON = "  hyperparameters: {epochCount: 3, batchSize: 2, learningRate: 0.001}\n"
_BLOCK = (
    "  vertex:\n"
    "    baseModel: gemini-3.5-flash\n"
    "    hyperparameters: {learningRateMultiplier: 0.5, adapterSize: 4}\n"
    "    exportLastCheckpointOnly: true\n"
)
_BARE = MANIFEST.replace("models/gemini-3.5-flash", "gemini-3.5-flash")


def _read(folder: Path, manifest: str, capabilities: Capabilities = VERTEX) -> Manifest:
    workspace = load_in(sample(folder, manifest=manifest), capabilities=capabilities)
    assert not workspace.problems
    return workspace.manifests[0]


def test_one_manifest_serves_two_services(tmp_path: Path) -> None:
    here = _read(tmp_path, MANIFEST + _COMMON + _BLOCK, CAPABILITIES)
    assert here.source.base_model == "models/gemini-3.5-flash"
    assert here.hyperparameters == {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    assert here.last_checkpoint_only is None
    there = _read(tmp_path, MANIFEST + _COMMON + _BLOCK)
    assert there.source.base_model == "gemini-3.5-flash"
    assert there.hyperparameters == {"learningRateMultiplier": 0.5, "adapterSize": 4}
    assert there.last_checkpoint_only is True
    assert there.dataset == here.dataset


def test_common_fields_count_where_the_block_has_none(tmp_path: Path) -> None:
    manifest = _read(
        tmp_path, _BARE + "  hyperparameters: {epochCount: 3}\n  vertex: {exportLastCheckpointOnly: false}\n"
    )
    assert (manifest.source.base_model, manifest.hyperparameters) == ("gemini-3.5-flash", {"epochCount": 3})
    assert manifest.last_checkpoint_only is False


def test_empty_hyperparameters_of_the_block_leave_all_to_the_service(tmp_path: Path) -> None:
    assert _read(tmp_path, _BARE + _COMMON + "  vertex: {hyperparameters: {}}\n").hyperparameters == {}


def test_common_hyperparameters_that_do_not_apply_name_the_block(tmp_path: Path) -> None:
    assert messages(load_in(sample(tmp_path, manifest=_BARE + _COMMON), capabilities=VERTEX)) == [
        (
            "m.yaml:9:36: spec.hyperparameters.batchSize: hyperparameter not supported by Vertex AI; set"
            " spec.vertex.hyperparameters, which replaces these, to some of adapterSize, epochCount,"
            " learningRateMultiplier"
        ),
        (
            "m.yaml:9:50: spec.hyperparameters.learningRate: hyperparameter not supported by Vertex AI; set"
            " spec.vertex.hyperparameters, which replaces these, to some of adapterSize, epochCount,"
            " learningRateMultiplier"
        ),
    ]


def test_a_name_of_the_other_service_names_the_block(tmp_path: Path) -> None:
    assert messages(load_in(sample(tmp_path), capabilities=VERTEX)) == [
        (
            "m.yaml:6:3: spec.baseModel: models/gemini-3.5-flash is a base model of the Generative Language"
            " API; add spec.vertex.baseModel for Vertex AI, such as gemini-3.5-flash"
        )
    ]


def test_hyperparameters_that_a_version_lacks_are_told_at_their_place(tmp_path: Path) -> None:
    old = replace(CAPABILITIES, label="version 1", hyperparameters=frozenset({"epochCount"}))
    manifest = MANIFEST + "  hyperparameters:\n    learningRateMultiplier: 2\n"
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=old)) == [
        (
            "m.yaml:10:5: spec.hyperparameters.learningRateMultiplier: hyperparameter not supported by"
            " version 1; remove it, or use one of epochCount"
        )
    ]


def test_hyperparameters_of_the_block_that_the_service_lacks_are_told_there(tmp_path: Path) -> None:
    less = replace(VERTEX, hyperparameters=frozenset({"epochCount"}))
    assert messages(load_in(sample(tmp_path, manifest=MANIFEST + _COMMON + _BLOCK), capabilities=less)) == [
        (
            f"m.yaml:12:{column}: spec.vertex.hyperparameters.{name}: hyperparameter not supported by"
            " Vertex AI; remove it, or use one of epochCount"
        )
        for column, name in ((23, "learningRateMultiplier"), (52, "adapterSize"))
    ]


@pytest.mark.parametrize("capabilities", [CAPABILITIES, VERTEX], ids=lambda value: value.label)
def test_the_block_fits_its_schema_everywhere(tmp_path: Path, capabilities: Capabilities) -> None:
    block = "  vertex: {baseModel: models/x, hyperparameters: {rank: 2}, exportLastCheckpointOnly: 1}\n"
    assert messages(load_in(sample(tmp_path, manifest=_BARE + block), capabilities=capabilities)) == [
        (
            'm.yaml:9:23: spec.vertex.baseModel: invalid value "models/x"; write the bare name of a model,'
            " as in gemini-3.5-flash, or PUBLISHER/MODEL@VERSION for an open model"
        ),
        (
            'm.yaml:9:51: spec.vertex.hyperparameters.rank: unknown field "rank"; use one of'
            " epochCount, learningRateMultiplier, adapterSize, beta, batchSize, learningRate"
        ),
        (
            "m.yaml:9:87: spec.vertex.exportLastCheckpointOnly: invalid value 1: expected true or false;"
            " set true or false"
        ),
    ]


def test_sampling_is_declared_for_every_service(tmp_path: Path) -> None:
    assert _read(tmp_path, _BARE + "  sampling: {temperature: 0.5}\n").sampling.temperature == 0.5


def test_display_names_are_held_to_the_service_s_own_length(tmp_path: Path) -> None:
    assert _read(tmp_path, f"{_BARE}  displayName: {'x' * 128}\n").display_name == "x" * 128
    (message,) = messages(
        load_in(sample(tmp_path, manifest=f"{_BARE}  displayName: {'x' * 129}\n"), capabilities=VERTEX)
    )
    assert message == (
        "m.yaml:9:3: spec.displayName: 129 characters, which exceeds the limit of 128 for Vertex AI; shorten it"
    )


def test_a_checkpoint_of_a_source_has_an_id_and_a_service_with_checkpoints(tmp_path: Path) -> None:
    parent = f"{{remote: {VERTEX.tuned_model_example}, checkpoint: %s}}"
    child = _BARE.replace("baseModel: gemini-3.5-flash", f"source: {parent}")
    able = replace(VERTEX, features=frozenset({"lineage", "checkpoints"}))
    assert _read(tmp_path, child % 2, able).source.checkpoint == "2"
    assert _read(tmp_path, child % "ep-2", able).source.checkpoint == "ep-2"
    for word in ("best", "last"):
        (message,) = messages(load_in(sample(tmp_path, manifest=child % word), capabilities=able))
        assert f'spec.source.checkpoint: invalid value "{word}"; use the ID of a checkpoint' in message
    local = replace(able, label="this machine", features=frozenset({"lineage"}))
    (message,) = messages(load_in(sample(tmp_path, manifest=child % 2), capabilities=local))
    assert message.endswith(
        "spec.source.checkpoint: checkpoints are not supported by this machine; remove it: the whole model is tuned"
        " further"
    )


def test_a_checkpoint_serves_only_where_it_can(tmp_path: Path) -> None:
    able = replace(VERTEX, features=frozenset({"checkpoints"}))
    check = '  checks: [{name: eight, prompt: "7", expect: {equals: "8"}}]\n'
    only_last = "  vertex: {exportLastCheckpointOnly: true}\n"

    def told(serve: object, more: str = "", capabilities: Capabilities = able) -> list[str]:
        manifest = f"{_BARE}  serve: {{checkpoint: {serve}}}\n{more}"
        found = messages(load_in(sample(tmp_path, manifest=manifest), capabilities=capabilities))
        return [message.partition("spec.serve.checkpoint: ")[2] for message in found]

    kept = "spec.vertex.exportLastCheckpointOnly keeps only the last checkpoint; set last, or remove"
    assert told("best", check) == told("last", only_last) == told(2) == told("ep-2") == []
    assert told("best") == ["the checks find the best checkpoint, and none are declared; add spec.checks, or set last"]
    assert told("best", check + only_last) == told(2, only_last) == [f"{kept} exportLastCheckpointOnly"]
    assert told("Best", check) == ['unknown checkpoint "Best"; did you mean best?']
    (message,) = told("two/2")
    assert message.startswith('invalid value "two/2"; use best, last or the ID of a checkpoint')
    assert told("last", capabilities=VERTEX) == [
        "checkpoints are not supported by Vertex AI; remove spec.serve: the model serves as its training left it"
    ]
