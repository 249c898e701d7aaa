"""Files as people have them: ``init`` finds out how to read each, and it is read to the expected examples."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Conversation, Example
from reconciler.manifests.scaffold import init
from support.cases import each_row
from support.files_samples import (
    CAPABILITIES,
    CORPUS,
    EXPECTED,
    MANIFEST,
    READABLE,
    VERTEX,
    data_file,
    load_in,
    sample,
    write,
)

SINGLE_TURNS = replace(CAPABILITIES, max_input_characters=None, max_output_characters=None, max_dataset_bytes=None)
"""A service that accepts single turns, however long."""


def test_every_file_has_an_expectation() -> None:
    assert {file.name for file in CORPUS.iterdir()} == {*EXPECTED, "expected.json"}


@each_row("name", READABLE)
def test_init_declares_how_to_read_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((CORPUS / name).read_bytes())
    init(tmp_path, data=data_file(file), name="m")
    manifest = yaml.safe_load((tmp_path / "specs/m.yaml").read_text(encoding="utf-8"))
    declared = manifest["spec"]["dataset"]
    assert (
        declared
        == {"path": f"datasets/{name}" if declared["path"][0] == "d" else f"../{name}"} | EXPECTED[name]["dataset"]
    )

    workspace = load_in(tmp_path, "specs", capabilities=SINGLE_TURNS)
    assert not workspace.errors
    examples = workspace.training(workspace.manifests[0])
    assert list(examples) == [Example(*pair) for pair in EXPECTED[name]["examples"]]


@each_row("name", [name for name, expected in EXPECTED.items() if "error" in expected])
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((CORPUS / name).read_bytes())
    found = ""
    if options := EXPECTED[name].get("declared"):
        declared = "".join(f"    {option}: {value}\n" for option, value in options.items())
        write(sample(tmp_path, manifest=MANIFEST.replace("data.csv", name) + declared), {})
    else:
        try:
            init(tmp_path, data=data_file(file), name="m")
        except ReconcileError as error:
            found = str(error)
    if not found:
        root = "specs" if (tmp_path / "specs").exists() else "."
        found = "\n".join(map(str, load_in(tmp_path, root, capabilities=SINGLE_TURNS).errors))
    assert EXPECTED[name]["error"] in found


def test_function_calls_become_parts(tmp_path: Path) -> None:
    name = "openai-tools.jsonl"
    manifest = MANIFEST.replace("data.csv", name).replace("models/gemini-3.5-flash", "gemini-3.5-flash")
    write(sample(tmp_path, manifest=f"{manifest}    shape: messages\n"), {name: (CORPUS / name).read_text()})
    workspace = load_in(tmp_path, capabilities=VERTEX)
    assert not workspace.errors
    (example,) = workspace.training(workspace.manifests[0])
    assert isinstance(example, Conversation)
    assert [json.loads(example.line)] == EXPECTED[name]["conversations"]
