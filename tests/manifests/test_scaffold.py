"""What `reconcile init` writes is valid, and overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.domain.model import Manifest
from reconciler.manifests.scaffold import init
from reconciler.manifests.yaml_parser import parse
from support.cases import each_row
from support.files_samples import CAPABILITIES, data_file, load_in, write

SCHEMAS = ("specs/.schemas/target.schema.json", "specs/.schemas/tuned-model.schema.json")
_ROOMY = replace(CAPABILITIES, max_dataset_bytes=None, recommended_examples=20)


def _valid(folder: Path) -> Manifest:
    workspace = load_in(folder, "specs", capabilities=_ROOMY)
    assert not workspace.errors
    (manifest,) = workspace.manifests
    return manifest


def test_without_data_there_is_a_sample(tmp_path: Path) -> None:
    scaffold = init(tmp_path, data=None, name=None)
    assert scaffold.created == (
        *SCHEMAS,
        "specs/datasets/number-generator.csv",
        "specs/number-generator.yaml",
        "specs/reconcile.yaml",
        ".gitignore",
    )
    assert scaffold.next_command == "reconcile plan specs"
    assert not load_in(tmp_path, "specs", capabilities=_ROOMY).problems
    manifest = _valid(tmp_path)
    assert (manifest.name, manifest.dataset.examples) == ("number-generator", 20)
    assert manifest.hyperparameters == {"epochCount": 3, "batchSize": 4}


def test_the_scope_is_quoted_where_yaml_would_misread_it(tmp_path: Path) -> None:
    init(tmp_path / "1e3", data=None, name="null")
    assert load_in(tmp_path / "1e3", "specs").target.scope == "1e3"
    assert _valid(tmp_path / "1e3").name == "null"


@each_row(
    ("name", "text", "fields"),
    [
        ("a.csv", "Question,id,Answer\nq,1,a\n", ("q", "a")),
        ("a.csv", "id,prompt,completion\n1,q,a\n", ("q", "a")),
        ("a.csv", "text,label\nq,a\n", ("q", "a")),
        ("a.csv", "left,right\nq,a\n", ("q", "a")),
        ("a.csv", "label,whatever\na,q\n", ("q", "a")),
        ("a.csv", "whatever,input\na,q\n", ("q", "a")),
        ("a.tsv", 'one "1"\ttwo: #2\nq\ta\n', ("q", "a")),
        ("a.jsonl", '{"id": "1", "input": "q", "target": "a"}\n', ("q", "a")),
        ("a.json", '[{"no": "q", "1": "a"}]', ("q", "a")),
    ],
)
def test_the_fields_are_guessed(tmp_path: Path, name: str, text: str, fields: tuple[str, str]) -> None:
    write(tmp_path, {name: text, ".git/config": ""})
    assert init(tmp_path, data=data_file(tmp_path / name), name=None).created == (
        *SCHEMAS,
        "specs/a.yaml",
        "specs/reconcile.yaml",
        ".gitignore",
    )
    workspace = load_in(tmp_path, "specs")
    (example,) = workspace.training(workspace.manifests[0])
    assert (example.input, example.output) == fields
    assert workspace.manifests[0].dataset.path == f"../{name}"


@each_row(
    "mark",
    ["\x80", "\x9f", "\x85", "\u2028", "\u2029", "\x7f", "\ufeff", "\ufffe", "\U0001f600", "\U000e0001", "\xad", "\b"],
)
def test_a_manifest_names_every_field(tmp_path: Path, mark: str) -> None:
    field = f"a{mark} b"
    text = json.dumps({field: "q", "answer": "a"})
    init(tmp_path, data=data_file(write(tmp_path, {"a.jsonl": text}) / "a.jsonl"), name="m")
    assert _valid(tmp_path).dataset.examples == 1
    (document,) = parse((tmp_path / "specs/m.yaml").read_bytes(), "").documents
    assert document.value["spec"]["dataset"]["inputField"] == field


_CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
_SAID = {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}}


@each_row(
    ("value", "unused"),
    [
        ({"id": 7, "source": "x", "system": "s", **_CHAT, "tools": []}, "  not used: id, source"),
        ({**_SAID, "rejected": {"from": "gpt", "value": "b"}, "id": 7}, "  not used: rejected, id"),
        ({"prompt": "q", "input": "x", "chosen": "a", "rejected": "b"}, "  not used: input, rejected"),
        ({"instruction": "q", "input": "x", "chosen": "a", "rejected": "b"}, "  not used: rejected"),
        ({"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, "  not used: rejected"),
        ({"instruction": "q", "input": "", "output": "a", "text": "q a"}, "  not used: text"),
        ({"conversations": _CHAT["messages"], "tools": [], "id": 7}, "  not used: id"),
        (
            {"conversations": [*_SAID["conversations"], _SAID["chosen"]], "tools": "[]", "id": 7},
            "  not used: tools, id",
        ),
    ],
)
def test_what_is_not_used_is_shown(tmp_path: Path, value: dict[str, Any], unused: str) -> None:
    data = data_file(write(tmp_path, {"a.jsonl": json.dumps(value)}) / "a.jsonl")
    assert init(tmp_path, data=data, name=None).mapping[-2:-1] == (unused,)


def test_data_outside_the_repository_is_copied(tmp_path: Path) -> None:
    write(tmp_path, {"My Data #1.csv": "a,b\n1,2\n"})
    scaffold = init(tmp_path / "folder", data=data_file(tmp_path / "My Data #1.csv"), name=None)
    assert "specs/datasets/My Data #1.csv" in scaffold.created
    manifest = _valid(tmp_path / "folder")
    assert (manifest.name, manifest.dataset.path) == ("my-data-1", "datasets/My Data #1.csv")


@each_row(
    ("stem", "name"),
    [("2026", "model-2026"), ("日本", "model"), ("x" * 40, "x" * 31), (f"{'x' * 30} y", "x" * 30), ("A_b.c", "a-b-c")],
)
def test_the_name_comes_from_the_data(tmp_path: Path, stem: str, name: str) -> None:
    write(tmp_path, {f"{stem}.csv": "a,b\n1,2\n"})
    init(tmp_path / "folder", data=data_file(tmp_path / f"{stem}.csv"), name=None)
    assert _valid(tmp_path / "folder").name == name


@each_row(("rows", "batch_size"), [(40, 4), (41, 8), (5000, 64)])
def test_a_first_run_is_short(tmp_path: Path, rows: int, batch_size: int) -> None:
    write(tmp_path, {"a.csv": "a,b\n" + "".join(f"{row},{row}x\n" for row in range(rows))})
    init(tmp_path / "folder", data=data_file(tmp_path / "a.csv"), name=None)
    assert _valid(tmp_path / "folder").hyperparameters["batchSize"] == batch_size


def test_a_chosen_name(tmp_path: Path) -> None:
    assert "specs/my-model.yaml" in init(tmp_path, data=None, name="my-model").created
    with pytest.raises(UsageError) as caught:
        init(tmp_path, data=None, name="My Model")
    assert str(caught.value) == (
        'invalid model name "My Model"; use 1 to 31 lower-case letters, digits and hyphens, starting with a letter'
    )


@each_row("name", ["specs/reconcile.yaml", "specs/number-generator.yaml", "specs/datasets/number-generator.csv"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "mine"})
    with pytest.raises(ReconcileError) as caught:
        init(tmp_path, data=None, name=None)
    remedy = "use `reconcile add NAME --from FILE`" if name.endswith("reconcile.yaml") else "keep using it"
    assert str(caught.value) == (
        f"{tmp_path / name} already exists, so nothing was written; {remedy}, or move it away first"
    )
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / name]


@each_row(
    ("before", "after"),
    [
        (None, ".reconcile/\n"),
        ("build/", "build/\n.reconcile/\n"),
        ("build/\n", "build/\n.reconcile/\n"),
        (".reconcile/\nbuild/\n", ".reconcile/\nbuild/\n"),
    ],
)
def test_git_ignores_the_embedded_world(tmp_path: Path, before: str | None, after: str) -> None:
    write(tmp_path, {".gitignore": before} if before else {})
    scaffold = init(tmp_path, data=None, name=None)
    assert (tmp_path / ".gitignore").read_text() == after
    assert (".gitignore" in scaffold.created) == (before != after)


def test_a_broken_data_set_is_told_before_anything_is_written(tmp_path: Path) -> None:
    data = write(tmp_path, {"a.csv": "a,b\n1\n"}) / "a.csv"
    with pytest.raises(
        InvalidInput, match=r"a.csv:2:1: spec.dataset.path: expected 2 fields as in the header, found 1"
    ):
        init(tmp_path / "folder", data=data_file(data), name=None)
    assert not (tmp_path / "folder").exists()


@each_row(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "one\n1\n",
            'a.csv has one field, "one": expected one for inputs and one for outputs; add a field with the outputs',
        ),
        ("a.csv", '"one"x,two\n', "a.csv:1:1: spec.dataset.path: text after a closing quote"),
        ("a.jsonl", "{'a': 'b'}\n", "write names and texts in double quotes, not in single quotes"),
        ("a.jsonl", "[1]\n", "invalid example 1: expected an object"),
        ("a.json", "{", "invalid JSON array of objects"),
        ("a.txt", "x", 'a.txt has one field, "x": expected one for inputs'),
        ("a.csv", b"PK\x03\x04", "a.csv: the file is a ZIP archive; extract the data file from it"),
        ("a.csv", "a,b,c\n1,2,3\n", "the fields a, b, c; which of them are inputs and outputs is ambiguous"),
        ("a.csv", "\x1b[31ma,b'\u202e,c\n1,2,3\n", r"such as --input $'\u001b[31ma' --output $'b\'\U0000202E'"),
        ("a.csv", b"", "a.csv:1:1: spec.dataset.path: the data set has no examples"),
        ("a.jsonl", r'{"a\ud800": "q", "answer": "a"}', 'the name "a\ud800" contains an unpaired surrogate character'),
    ],
)
def test_data_without_usable_fields(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ReconcileError) as caught:
        init(tmp_path / "folder", data=data_file(write(tmp_path, {name: text}) / name), name=None)
    assert message in str(caught.value)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {"as.csv": ""})
    for shown, similar in (("a.csv", "as.csv"), ("data/a.csv", "data/as.csv")):
        with pytest.raises(ReconcileError) as caught:
            init(tmp_path, data=replace(data_file(tmp_path / "a.csv"), shown=shown), name=None)
        assert str(caught.value) == f"{shown}: no such file; did you mean {similar}?"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, {"specs": "a file"})
    with pytest.raises(ReconcileError) as caught:
        init(tmp_path, data=None, name=None)
    assert str(caught.value) == (
        f"{tmp_path}/specs/reconcile.yaml cannot be written: File exists; move the file away, or name another file"
    )


def test_a_gitignore_that_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": b"\xff"})
    with pytest.raises(ReconcileError, match=r"\.gitignore cannot be read: it is not UTF-8 text; add \.reconcile"):
        init(tmp_path, data=None, name=None)
