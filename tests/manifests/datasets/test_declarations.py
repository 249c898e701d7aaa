"""Data sets in Cloud Storage, and those for validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import Dataset, Example
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, VERTEX, load_in, messages, sample, write

_MANIFEST = MANIFEST.replace("models/gemini-3.5-flash", "gemini-3.5-flash")
_OBJECT = "gs://acme-tuning-data/sets/numbers.jsonl"
_REMOTE = _MANIFEST.replace("data.csv", _OBJECT)


def test_a_data_set_in_cloud_storage_has_no_examples_here(tmp_path: Path) -> None:
    workspace = load_in(sample(tmp_path, manifest=_REMOTE), capabilities=replace(VERTEX, recommended_examples=20))
    assert not workspace.problems
    (manifest,) = workspace.manifests
    assert manifest.dataset == Dataset("", _OBJECT, 0)
    assert not list(workspace.training(manifest))
    assert not list(workspace.validation(manifest))


def test_other_services_do_not_read_cloud_storage(tmp_path: Path) -> None:
    manifest = _REMOTE + "    inputField: q\n"
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=CAPABILITIES)) == [
        (
            "m.yaml:8:11: spec.dataset.path: data sets in Cloud Storage are not supported by the test"
            " service; set the path of a file, or use a Vertex AI target"
        )
    ]


_ADDRESS = "invalid address of an object in Cloud Storage; write gs://BUCKET/NAME.jsonl"
_ONE_OBJECT = "invalid object name: contains a wildcard or control character; remove any of * ? [ ] #"


@each_row(
    ("path", "message"),
    [
        ("gs://", _ADDRESS),
        ("gs://bucket", _ADDRESS),
        ("gs://bucket/", _ADDRESS),
        ("gs:///x.jsonl", _ADDRESS),
        ("gs://Bucket/x.jsonl", _ADDRESS),
        ("gs://b/x.jsonl", _ADDRESS),
        ("gs://bucket/*.jsonl", _ONE_OBJECT),
        ("gs://bucket/a[1].jsonl", _ONE_OBJECT),
        ("gs://bucket/x.jsonl#123", _ONE_OBJECT),
        ("gs://bucket/x\\n.jsonl", _ONE_OBJECT),
        (
            "gs://bucket/x.csv",
            ("unsupported format: expected JSON Lines in Cloud Storage; write gs://BUCKET/NAME.jsonl"),
        ),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, path: str, message: str) -> None:
    manifest = _MANIFEST.replace("data.csv", f'"{path}"')
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=VERTEX)) == [
        f"m.yaml:8:11: spec.dataset.path: {message}"
    ]


@pytest.mark.parametrize("path", ["gs://bucket/a//b/../ü x.jsonl", "gs://a.b_c-d/x.jsonl"])
def test_an_address_is_taken_as_it_stands(tmp_path: Path, path: str) -> None:
    workspace = load_in(sample(tmp_path, manifest=_MANIFEST.replace("data.csv", path)), capabilities=VERTEX)
    assert workspace.manifests[0].dataset.path == path


def test_what_does_not_apply_to_cloud_storage(tmp_path: Path) -> None:
    manifest = _REMOTE + "    inputField: q\n    outputField: a\n    preamble: 'Say: '\n"
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=VERTEX)) == [
        (
            "m.yaml:9:17: spec.dataset.inputField: does not apply to a data set in Cloud Storage, which has"
            " Vertex AI's format; remove it"
        ),
        (
            "m.yaml:10:18: spec.dataset.outputField: does not apply to a data set in Cloud Storage, which"
            " has Vertex AI's format; remove it"
        ),
        (
            "m.yaml:11:15: spec.dataset.preamble: does not apply to a data set in Cloud Storage, which has"
            " Vertex AI's format; remove it, and write it into the systemInstruction of each line"
        ),
    ]


def _validated(dataset: str) -> str:
    return f"{_MANIFEST}    preamble: 'Say '\n  vertex:\n    validationDataset: {dataset}\n"


_INLINE = "{examples: [{input: a, output: b}]}"
_FILE = "{path: v.csv, inputField: q, outputField: a}"


@pytest.mark.parametrize(("dataset", "path"), [(_INLINE, ""), (_FILE, "v.csv")])
def test_validation_examples_have_the_preamble_too(tmp_path: Path, dataset: str, path: str) -> None:
    write(sample(tmp_path, manifest=_validated(dataset)), {"v.csv": "a,q\nb,a\n"})
    workspace = load_in(tmp_path, capabilities=VERTEX)
    assert not workspace.problems
    (manifest,) = workspace.manifests
    examples = [Example("Say a", "b")]
    assert manifest.validation == Dataset(dataset_digest(examples), path, 1)
    assert list(workspace.validation(manifest)) == examples
    assert len(list(workspace.training(manifest))) == 2


def test_validation_examples_that_change_before_the_create_are_refused(tmp_path: Path) -> None:
    write(sample(tmp_path, manifest=_validated(_FILE)), {"v.csv": "a,q\nb,a\n"})
    workspace = load_in(tmp_path, capabilities=VERTEX)
    write(tmp_path, {"v.csv": "a,q\nb,c\n"})
    with pytest.raises(ReconcileError, match=r"^v\.csv has changed since the plan was made; run the command again$"):
        list(workspace.validation(workspace.manifests[0]))


def test_a_validation_data_set_in_cloud_storage(tmp_path: Path) -> None:
    workspace = load_in(sample(tmp_path, manifest=_validated(f"{{path: '{_OBJECT}'}}")), capabilities=VERTEX)
    (manifest,) = workspace.manifests
    assert manifest.validation == Dataset("", _OBJECT, 0)
    assert not list(workspace.validation(manifest))


def test_elsewhere_the_block_is_not_read(tmp_path: Path) -> None:
    (manifest,) = load_in(sample(tmp_path, manifest=_validated("{path: nowhere.csv}"))).manifests
    assert manifest.validation is None


_WHERE = "spec.vertex.validationDataset"


@each_row(
    ("dataset", "expected"),
    [
        (
            "{path: nowhere.csv}",
            [f"m.yaml:11:31: {_WHERE}.path: nowhere.csv: no such file; fix the path, or add the file"],
        ),
        (
            "{path: v.csv}",
            [
                (
                    f'v.csv:1:1: {_WHERE}.inputField: no column "text_input" in the header; set {_WHERE}.inputField'
                    " to one of: a, q"
                ),
                (
                    f'v.csv:1:1: {_WHERE}.outputField: no column "output" in the header; set {_WHERE}.outputField to'
                    " one of: a, q"
                ),
            ],
        ),
        (
            "{path: gs://bucket/x}",
            [
                (
                    f"m.yaml:11:31: {_WHERE}.path: unsupported format: expected JSON Lines in Cloud Storage;"
                    " write gs://BUCKET/NAME.jsonl"
                )
            ],
        ),
        ("{examples: []}", [f"m.yaml:11:5: {_WHERE}: the data set has no examples; add examples"]),
        (
            "{examples: [{input: '', output: b}]}",
            [f"m.yaml:11:36: {_WHERE}.examples[0]: the input is empty; fill it in, or delete the example"],
        ),
        (
            "{path: v.csv, inputFeild: q}",
            [f'm.yaml:11:38: {_WHERE}.inputFeild: unknown field "inputFeild"; did you mean inputField?'],
        ),
        (
            "{path: c.jsonl}",
            [
                (
                    f"m.yaml:9:15: spec.dataset.preamble: does not apply to {_WHERE}, whose examples are in"
                    " Vertex AI's format; remove it, and write it into the systemInstruction of each line"
                )
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_validation_data_set(tmp_path: Path, dataset: str, expected: list[str]) -> None:
    turns = [{"role": role, "parts": [{"text": "x"}]} for role in ("user", "model")]
    files = {"v.csv": "a,q\nb,a\n", "c.jsonl": json.dumps({"contents": turns})}
    write(sample(tmp_path, manifest=_validated(dataset)), files)
    workspace = load_in(tmp_path, capabilities=VERTEX)
    assert messages(workspace) == expected
    assert not workspace.manifests


@each_row(
    ("wrong", "message"),
    [
        (
            "    path: 1\n    preamble: 'Say '\n",
            "m.yaml:8:11: spec.dataset.path: invalid value 1: expected a string; put it in quotes",
        ),
        (
            "    path: data.csv\n    preamble: 1\n",
            "m.yaml:9:15: spec.dataset.preamble: invalid value 1: expected a string; put it in quotes",
        ),
        (
            "    path: nothing.csv\n    preamble: 'Say '\n",
            "m.yaml:8:11: spec.dataset.path: nothing.csv: no such file; fix the path, or add the file",
        ),
    ],
)
def test_what_is_wrong_with_one_data_set_hides_nothing_of_the_other(tmp_path: Path, wrong: str, message: str) -> None:
    right = "    path: data.csv\n    preamble: 'Say '\n"
    manifest = _validated("{path: nowhere.csv}").replace(right, wrong)
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=VERTEX)) == [
        message,
        f"m.yaml:11:31: {_WHERE}.path: nowhere.csv: no such file; fix the path, or add the file",
    ]


def test_without_a_data_set_the_one_for_validation_is_read(tmp_path: Path) -> None:
    head, _, rest = _validated("{path: nowhere.csv}").partition("  dataset:")
    manifest = head + rest[rest.index("  vertex:") :]
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=VERTEX)) == [
        "m.yaml:5:1: spec.dataset: missing required field; add it",
        f"m.yaml:8:31: {_WHERE}.path: nowhere.csv: no such file; fix the path, or add the file",
    ]


def test_a_field_with_a_name_alike_hides_nothing_of_the_data_set(tmp_path: Path) -> None:
    manifest = _validated("{path: nowhere.csv}").replace("data.csv", "nothing.csv") + "  datasets: 1\n"
    assert [message.partition("; ")[0] for message in messages(load_in(sample(tmp_path, manifest=manifest)))] == [
        "m.yaml:8:11: spec.dataset.path: nothing.csv: no such file",
        'm.yaml:12:3: spec.datasets: unknown field "datasets"',
    ]
