"""The manifest that is written for a model that is taken over: what it says, and what none can say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import InvalidInput, ReconcileError
from reconciler.domain.model import Hyperparameters, RemoteModel, Sampling, Source, State
from reconciler.manifests.adopted_manifest import manifest_text, write_manifest
from reconciler.manifests.yaml_parser import parse
from reconciler.providers.generativelanguage.spec import VERSIONS
from reconciler.providers.vertex.spec import VERTEX

GL = VERSIONS["v1beta"]
JOB = "projects/p/locations/l/tuningJobs/1"


def model(
    *,
    remote: str = "tunedModels/theirs",
    base: str = "models/gemini-3.5-flash",
    description: str = "",
    sampling: Sampling | None = None,
    hyperparameters: Hyperparameters | None = None,
) -> RemoteModel:
    return RemoteModel(
        remote=remote,
        state=State.ACTIVE,
        source=Source(base),
        description=description,
        sampling=sampling or Sampling(),
        hyperparameters=hyperparameters or {},
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\ufffe\uffff"), max_size=60))
def test_every_description_is_read_back_as_it_is(description: str) -> None:
    (document,) = parse(manifest_text("adder", model(description=description), GL).encode(), "m.yaml").documents
    assert document.value["spec"].get("description", "") == description


def test_what_hides_or_reorders_text_is_written_out_for_reviewers() -> None:
    hostile = "fine\u202e # enif\u200b\n\U000e0041 ü"
    text = manifest_text("adder", model(description=hostile), GL)
    assert r"fine\u202E # enif\u200B\n\U000E0041 ü" in text
    assert not {"\u202e", "\u200b", "\U000e0041"} & set(text)
    (document,) = parse(text.encode(), "m.yaml").documents
    assert document.value["spec"]["description"] == hostile


def test_a_model_of_which_little_is_told_has_a_short_manifest() -> None:
    (document,) = parse(manifest_text("adder", model(), GL).encode(), "m.yaml").documents
    assert document.value["spec"] == {
        "baseModel": "models/gemini-3.5-flash",
        "dataset": {"unknown": True},
        "adopted": "tunedModels/theirs",
    }


def test_numbers_are_the_shortest_that_are_the_same_on_the_wire() -> None:
    text = manifest_text("adder", model(sampling=Sampling(temperature=0.699999988, top_k=40)), GL)
    assert "    temperature: 0.7\n    topK: 40\n" in text


@pytest.mark.parametrize(
    ("capabilities", "told"),
    [
        (GL, "  # hyperparameters: {epochCount: 3, learningRate: 0.001}\n"),
        (VERTEX, "  # vertex: {hyperparameters: {epochCount: 3, learningRate: 0.001, adapterSize: 4}}\n"),
    ],
    ids=["Generative Language", "Vertex AI"],
)
def test_hyperparameters_are_told_where_the_service_takes_them(capabilities: object, told: str) -> None:
    able = VERTEX if capabilities is VERTEX else GL
    reported = {"epochCount": 3, "learningRate": 0.0010000000474974513, "adapterSize": 4}
    assert manifest_text("adder", model(base="gemini-3.5-flash", hyperparameters=reported), able).endswith(told)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            model(remote=JOB, base="publishers/meta/models/llama@1"),
            f'the manifest for {JOB}:7:3: spec.baseModel: invalid value "publishers/meta/models/llama@1":',
        ),
        (
            model(sampling=Sampling(temperature=1.5)),
            "the manifest for tunedModels/theirs:12:18: spec.sampling.temperature: invalid value 1.5:",
        ),
    ],
    ids=["base model", "temperature"],
)
def test_what_no_manifest_can_say_is_told(found: RemoteModel, told: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        manifest_text("adder", found, VERTEX if found.remote == JOB else GL)
    assert str(raised.value).startswith(told)


def test_a_manifest_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError) as raised:
        write_manifest(tmp_path / "none" / "adder.yaml", "")
    assert str(raised.value) == (
        f"{tmp_path}/none/adder.yaml cannot be written: No such file or directory; "
        "name a file in an existing, writable directory"
    )
