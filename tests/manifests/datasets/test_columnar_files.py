"""Parquet and Arrow files: recognized, read in bounded memory, and read as the same rows in lines of JSON."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from msgspec.structs import replace
from pyarrow import csv

from reconciler.domain.errors import Place, ReconcileError
from reconciler.domain.model import Example
from reconciler.manifests.datasets.records import ReadOptions
from reconciler.manifests.datasets.validation import file_source, validate_dataset
from reconciler.manifests.scaffold import init
from support.cases import each_row
from support.files_samples import CAPABILITIES, CORPUS, EXPECTED, data_file, load_in

SERVICE = replace(CAPABILITIES, max_input_characters=None, max_output_characters=None, max_dataset_bytes=None)
PAIRS = [(f"q{number}", f"a{number}") for number in range(24)]
QUESTIONS = {"id": [*range(24)], "question": [q for q, _ in PAIRS], "answer": [a for _, a in PAIRS]}
CHAT = {
    "messages": [
        [{"role": "user", "content": q, "tool_calls": None}, {"role": "assistant", "content": a, "tool_calls": None}]
        for q, a in PAIRS
    ]
}


def _write(file: Path, columns: dict[str, Any], kind: str = "parquet") -> None:
    table = pa.table(columns)
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=10)
        return
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(file), table.schema) as writer:
        writer.write_table(table, max_chunksize=10)


def _started(folder: Path, name: str) -> tuple[dict[str, Any], list[Example]]:
    init(folder, data=data_file(folder / name), name="m")
    declared: dict[str, Any] = yaml.safe_load((folder / "specs/m.yaml").read_text())["spec"]["dataset"]
    workspace = load_in(folder, "specs", capabilities=SERVICE)
    assert not workspace.errors
    return declared, [example for example in workspace.training(workspace.manifests[0]) if isinstance(example, Example)]


@each_row(
    ("name", "kind", "columns", "options"),
    [
        ("d.parquet", "parquet", QUESTIONS, {"inputField": "question", "outputField": "answer"}),
        ("d.arrow", "file", QUESTIONS, {"inputField": "question", "outputField": "answer"}),
        ("d.arrow", "stream", QUESTIONS, {"inputField": "question", "outputField": "answer"}),
        ("d.csv", "parquet", QUESTIONS, {"inputField": "question", "outputField": "answer", "format": "parquet"}),
        ("chat.parquet", "parquet", CHAT, {"shape": "messages"}),
    ],
)
def test_a_file_is_recognized_and_read(
    tmp_path: Path, name: str, kind: str, columns: dict[str, Any], options: dict[str, str]
) -> None:
    _write(tmp_path / name, columns, kind)
    declared, examples = _started(tmp_path, name)
    assert declared == {"path": f"datasets/{name}"} | options
    assert examples == [Example(*pair) for pair in PAIRS]


def test_the_digest_is_that_of_the_same_rows_in_lines_of_json(tmp_path: Path) -> None:
    _write(tmp_path / "d.parquet", QUESTIONS)
    lines = (json.dumps({"question": q, "answer": a}) for q, a in PAIRS)
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    digests = []
    for name in ("d.parquet", "d.jsonl"):
        init(tmp_path / name[2:], data=data_file(tmp_path / name), name="m")
        digests.append(load_in(tmp_path / name[2:], "specs", capabilities=SERVICE).manifests[0].dataset.digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("labels", "texts"), [([0, 1], ["0", "1"]), ([True, False], ["true", "false"])])
def test_integers_and_booleans_are_texts(tmp_path: Path, labels: list[Any], texts: list[str]) -> None:
    _write(tmp_path / "d.parquet", {"text": ["q", "r"], "label": labels, "__index_level_0__": ["x", "y"]})
    init(tmp_path, data=data_file(tmp_path / "d.parquet"), name="m")
    workspace = load_in(tmp_path, "specs", capabilities=SERVICE)
    assert list(workspace.training(workspace.manifests[0])) == [Example("q", texts[0]), Example("r", texts[1])]


@each_row(
    ("columns", "message"),
    [
        (
            {"prompt": ["q", "r"], "completion": ["a", None]},
            'd.parquet:1:1: spec.dataset.path: example 2 of 2: empty member "completion": expected a string; fill',
        ),
        (
            {"prompt": ["q", "r"], "label": [0.5, 1.5]},
            'column "label" has the type double, not texts, integers or booleans; name a column with texts',
        ),
        ({"text": ["q", "r"]}, 'd.parquet has one field, "text": expected one for inputs and one for outputs'),
        ({"prompt": [], "completion": []}, "d.parquet"),
    ],
)
def test_rows_that_cannot_be_trained_on(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    _write(tmp_path / "d.parquet", columns)
    with pytest.raises(ReconcileError) as caught:
        init(tmp_path, data=data_file(tmp_path / "d.parquet"), name="m")
    assert message in str(caught.value)


def test_a_damaged_file(tmp_path: Path) -> None:
    _write(tmp_path / "d.parquet", QUESTIONS)
    content = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(content[:-20])
    with pytest.raises(ReconcileError, match=r"cannot read the parquet file: .*; export it again"):
        init(tmp_path, data=data_file(tmp_path / "d.parquet"), name="m")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    texts = [f"{number:05}" + "x" * 4_000 for number in range(2_000)]
    pq.write_table(pa.table({"prompt": texts, "completion": texts}), tmp_path / "d.parquet", row_group_size=50)
    file = tmp_path / "d.parquet"
    source = file_source(file, file.name, file.name, ReadOptions("prompt", "completion"), (Place(""), ""), "")
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        validated = validate_dataset(source, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert validated.dataset is not None
    assert validated.dataset.examples == 2_000
    assert peak < 4_000_000 < 2_000 * 8_000
    assert pa.total_allocated_bytes() - before < 2_000_000


TABLES = [
    name
    for name, expected in EXPECTED.items()
    if expected.get("dataset", {}).keys() >= {"inputField", "outputField"} and Path(name).suffix in {".csv", ".tsv"}
]


@each_row("name", TABLES)
def test_arrow_reads_tables_to_the_same_rows(name: str) -> None:
    declared, content = EXPECTED[name]["dataset"], (CORPUS / name).read_bytes()
    text = (gzip.decompress(content) if declared.get("compression") else content).decode(
        declared.get("encoding", "utf-8-sig")
    )
    delimiter = declared.get("delimiter", "\t" if name.endswith(".tsv") and "format" not in declared else ",")
    if text.startswith("sep="):  # a line for Excel alone
        first, text = text.split("\n", 1)
        delimiter = first[4]
    names = None if declared.get("header", True) else ["1", "2"]
    table = csv.read_csv(
        io.BytesIO(text.encode()),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(default_column_type=pa.string(), strings_can_be_null=False),
    )
    columns = {name.strip(): table.column(number) for number, name in enumerate(table.column_names)}
    pairs = zip(*(columns[declared[field]].to_pylist() for field in ("inputField", "outputField")), strict=True)
    assert [[given, wanted] for given, wanted in pairs if given or wanted] == EXPECTED[name]["examples"]
