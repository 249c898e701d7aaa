"""Data files are read as streams: what is in memory stays small, and places stay exact."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import Place, ReconcileError
from reconciler.domain.model import Dataset, Example
from reconciler.manifests.datasets.detect import AmbiguousFieldsError, detect_options
from reconciler.manifests.datasets.file_formats import complete_options, file_records
from reconciler.manifests.datasets.json_files import array_places, json_array
from reconciler.manifests.datasets.records import MAX_CHARACTERS, Fault, ReadOptions, Record, Row
from reconciler.manifests.datasets.validation import DatasetSource, file_source, read_examples, validate_dataset
from support.cases import each_row
from support.files_samples import write

_FIELDS = ReadOptions("text_input", "output")
_HEADER = "text_input,output\n"


def _source(file: Path) -> DatasetSource:
    return file_source(file, file.name, file.name, _FIELDS, (Place("m.yaml"), "spec.dataset"), "")


def _checked(source: DatasetSource) -> Dataset:
    dataset = validate_dataset(source, None).dataset
    assert dataset is not None
    return dataset


@each_row(
    ("name", "line"),
    [
        ("d.csv", lambda text: f"{text},y\n"),
        ("d.jsonl", lambda text: json.dumps({"text_input": text, "output": "y"}) + "\n"),
        ("d.json", lambda text: json.dumps({"text_input": text, "output": "y"}) + ","),
    ],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str, line: Callable[[str], str]) -> None:
    with (tmp_path / name).open("w", encoding="utf-8") as file:
        file.write({"d.csv": _HEADER, "d.json": "["}.get(name, ""))
        file.writelines(line(f"{number:04}" + "x" * 40_000) for number in range(299))
        file.write(line("x" * 40_000).rstrip(",") + ("]" if name == "d.json" else ""))
    source = _source(tmp_path / name)
    tracemalloc.start()
    try:
        dataset = _checked(source)
        count = sum(1 for _ in read_examples(source, dataset))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (dataset.examples, count) == (300, 300)
    assert peak < 2_000_000 < (tmp_path / name).stat().st_size / 5


def test_examples_come_one_at_a_time_and_a_change_is_told_at_the_end(tmp_path: Path) -> None:
    file = write(tmp_path, {"d.csv": f"{_HEADER}1,2\n3,4\n"}) / "d.csv"
    source = _source(file)
    dataset = _checked(source)
    write(tmp_path, {"d.csv": f"{_HEADER}1,2\n3,5\n"})
    examples = read_examples(source, dataset)
    assert [next(examples), next(examples)] == [Example("1", "2"), Example("3", "5")]
    with pytest.raises(ReconcileError, match=r"^d\.csv has changed since the plan was made; run the command again$"):
        next(examples)


_AS_UTF_8 = (
    "save the file as UTF-8, or set spec.dataset.encoding to its encoding, such as windows-1252 for files of Windows"
)
_CLOSE = 'close every quote, and double each " inside quotes'
_GOES_ON = "the example exceeds the limit of 1,048,576 characters"


@each_row(
    ("name", "text", "fault"),
    [
        ("d.csv", f'{_HEADER}1,2\n3,"' + "x\n" * (MAX_CHARACTERS // 2), Fault(3, _GOES_ON, _CLOSE)),
        ("d.csv", "x" * (MAX_CHARACTERS + 1), Fault(1, _GOES_ON, _CLOSE)),
        (
            "d.jsonl",
            '\n{"text_input": "' + "x" * MAX_CHARACTERS,
            Fault(2, _GOES_ON, "write one JSON object on each line"),
        ),
    ],
    ids=["quoted", "header", "jsonl"],
)
def test_an_example_without_end_is_not_read_to_the_end(tmp_path: Path, name: str, text: str, fault: Fault) -> None:
    assert list(file_records(write(tmp_path, {name: text}) / name, _FIELDS))[-1] == fault


def test_examples_of_the_greatest_length_are_read(tmp_path: Path) -> None:
    text = "x" * (MAX_CHARACTERS - 10)
    items = list(file_records(write(tmp_path, {"d.csv": f"{_HEADER}1,{text}\n2,{text}\n"}) / "d.csv", _FIELDS))
    assert [(item.number, item.input) for item in items if isinstance(item, Row)] == [(2, "1"), (3, "2")]


@each_row("start", ["", "\ufeff"])
@each_row(
    ("before", "place"),
    [
        ('["' + "é" * 7, (1, 10)),
        ("[" + "\n" * 100_000 + '"é', (100_001, 3)),
        ('["' + "é" * 200_000 + '",\n"' + "é" * 200_000, (2, 200_002)),
    ],
)
def test_where_a_file_is_not_utf_8(tmp_path: Path, start: str, before: str, place: tuple[int, int]) -> None:
    file = write(tmp_path, {"d.json": f"{start}{before}".encode() + b"\xc3("}) / "d.json"
    *_, fault = file_records(file, _FIELDS)
    assert fault == Fault(0, "not valid UTF-8", _AS_UTF_8, place[1], "encoding", place[0])


def test_a_file_that_ends_within_a_character(tmp_path: Path) -> None:
    file = write(tmp_path, {"d.csv": f"{_HEADER}1,2\n3,".encode() + b"\xe2\x82"}) / "d.csv"
    assert list(file_records(file, _FIELDS))[-1] == Fault(0, "not valid UTF-8", _AS_UTF_8, 3, "encoding", 3)


_ARRAY = r"""{"text_input": "a\n\ud83d\ude00 \"]}", "output": "é"} , {"text_input": "1", "n": [-1.5e+3, {}],
"output": "2"}, {"text_input":"","output":"x"}"""
_CUT = (
    f"{_ARRAY}]",
    f"{_ARRAY}] \n",
    f"{_ARRAY}, 12.5e-7, null, [], {{}}]",
    f"{_ARRAY}] x",
    f"{_ARRAY},]",
    f"{_ARRAY} {{}}]",
    f"{_ARRAY}, {{1: 2}}]",
    f"{_ARRAY}, 1.x]",
    _ARRAY,
    f"{_ARRAY[:-2]}",
    f'{_ARRAY}, {{"text_input": "1", "output": "2", "output": "2"}}, {{}}]',
)


class _Blocks(StringIO):
    """A text that is read in small blocks."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text, newline="")
        self._size = size

    def read(self, size: int | None = -1, /) -> str:  # noqa: ARG002 - as if there were no more yet
        return super().read(self._size)


@each_row("rest", _CUT)
def test_an_array_is_read_alike_wherever_it_is_cut_into_blocks(rest: str) -> None:
    """Also the places of its faults."""
    text = f"[\n{rest}"
    expected = list(json_array(StringIO(text), _FIELDS))
    places = list(array_places(StringIO(text), _FIELDS))
    for size in range(1, 60):
        assert list(json_array(_Blocks(text, size), _FIELDS)) == expected
        assert list(array_places(_Blocks(text, size), _FIELDS)) == places


_ONE = '{"text_input": "1", "output": "2"}'


@each_row(
    ("text", "records"),
    [
        (f'{{"version": 1, "data": [{_ONE}], "other": [[1], {{}}]}}', [Row(1, "1", "2")]),
        (f'{{"other": ["]", {{"data": []}}], "data": [{_ONE}]}}', [Row(1, "1", "2")]),
        ('{"data": []}', []),
        (
            f'{{"data": [{_ONE}], "data": []}}',
            [
                Row(1, "1", "2"),
                Fault(
                    0,
                    'invalid JSON array of objects: duplicate member "data" (column 54)',
                    "remove all but one of them",
                    54,
                    line=1,
                ),
            ],
        ),
        (
            f'{{"data": [{_ONE}], "other": x}}',
            [
                Row(1, "1", "2"),
                Fault(
                    0,
                    "invalid JSON array of objects: Expecting value (column 57)",
                    "write [{…}, {…}], separated by commas",
                    57,
                    line=1,
                ),
            ],
        ),
        (
            f'{{"data": [{_ONE}]}}\n{{"data": []}}',
            [
                Row(1, "1", "2"),
                Fault(
                    0,
                    "expected one JSON array, found several values",
                    "write [{…}, {…}], or set spec.dataset.format to jsonl if each line has an object",
                    option="format",
                ),
            ],
        ),
    ],
)
def test_an_array_in_an_object(text: str, records: list[Record]) -> None:
    assert list(json_array(StringIO(text), replace(_FIELDS, items="data"))) == records


def test_blank_lines_before_a_header_are_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path, {"d.csv": f"\n \n{_HEADER}1,2\n"}) / "d.csv"
    assert list(file_records(file, _FIELDS)) == [Row(4, "1", "2")]
    without = replace(_FIELDS, input="1", output="2", header=False)
    write(tmp_path, {"d.csv": "sep=;\n\n \n1;2\n3;4\n"})
    assert list(file_records(file, without)) == [Row(4, "1", "2"), Row(5, "3", "4")]
    write(tmp_path, {"d.csv": "\ntext_input\n1\n"})
    (fault,) = file_records(file, _FIELDS)
    assert isinstance(fault, Fault)
    assert (fault.number, fault.message) == (2, 'no column "output" in the header')


def test_repetitions_are_sought_among_the_first_hundred_thousand(tmp_path: Path) -> None:
    rows = "".join(f"{number},x\n" for number in range(99_998))
    file = write(tmp_path, {"d.csv": f"{_HEADER}{rows}0,x\n0,y\n1,x\n1,y\n"}) / "d.csv"
    assert [str(problem) for problem in validate_dataset(_source(file), None).problems] == [
        "d.csv:100000:1: spec.dataset.path: duplicate of the example on line 2; delete one of them",
        (
            "d.csv:100001:1: spec.dataset.path: same input as the example on line 2, but a different output; delete"
            " the wrong example"
        ),
    ]


_LONG = "word, and; more | of it. " * 12_000
_LONG_OBJECTS = [{"question": _LONG, "answer": "b"}, {"question": "c", "answer": "d"}]
_AS_LINES = "".join(f"{json.dumps(one)}\n" for one in _LONG_OBJECTS)
_WRAPPED = {"version": 1, "data": _LONG_OBJECTS, "license": "x"}
_BEHIND = {"about": {"text": _LONG, "tags": [{}]}, "empty": [], "data": _LONG_OBJECTS}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gzip"])
@each_row(
    ("name", "text", "expected"),
    [
        ("d.jsonl", _AS_LINES, ("jsonl", "", "")),
        ("d.json", f"\n{_AS_LINES}", ("jsonl", "", "")),
        ("d.txt", _AS_LINES, ("jsonl", "", "")),
        ("d.json", json.dumps(_LONG_OBJECTS), ("json", "", "")),
        ("d.csv", json.dumps(_LONG_OBJECTS, indent=1), ("json", "", "")),
        ("d.json", json.dumps(_WRAPPED), ("json", "", "data")),
        ("d.jsonl", json.dumps(_BEHIND), ("json", "", "data")),
        ("d.jsonl", json.dumps(_BEHIND, indent=1), ("json", "", "data")),
        ("d.csv", f'"{_LONG}";b\n"c";d\n', ("csv", ";", "")),
        ("d.csv", f'question|answer\n"{_LONG}"|b\nc|d\n', ("csv", "|", "")),
        ("d.csv", "[INST] text,label\n{a},[b]\n{c},d\n", ("csv", "", "")),
    ],
)
def test_a_format_is_recognized_wherever_the_sample_is_cut(
    tmp_path: Path, name: str, text: str, encoding: str, expected: tuple[str, str, str]
) -> None:
    content = gzip.compress(text.encode(), 1) if encoding == "gzip" else text.encode(encoding)
    file = write(tmp_path, {name: content}) / name
    options = complete_options(name, detect_options(file).options)
    assert (options.format, options.delimiter, options.items) == expected
    assert [type(record) for record in file_records(file, options)] == [Row, Row]


def test_an_encoding_is_recognized_far_from_the_start(tmp_path: Path) -> None:
    text = f'question,answer\n"{_LONG}","naïve"\nc,"déjà vu"\n'
    file = write(tmp_path, {"d.csv": text.encode("windows-1252")}) / "d.csv"
    options = detect_options(file).options
    assert options.encoding == "windows-1252"
    assert [record[2] for record in file_records(file, options) if isinstance(record, Row)] == ["naïve", "déjà vu"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.csv.gz",
            gzip.compress(b"text_input,output\n" + b"a,b\n" * 9)[:-8] + b"\0" * 8,
            "the file is damaged: CRC check",
        ),
        ("d.csv.gz", gzip.compress(b"text_input,output\na,b\n") + b"more", "the file is damaged: Not a gzipped"),
        ("d.csv.gz", gzip.compress(b"\n" * (2**20 + 1)), "more than 1,048,576 empty lines; delete them"),
        ("d.csv", b"text_input,output\n" + b"\n" * (2**20 + 1), "more than 1,048,576 empty lines; delete them"),
        ("d.jsonl.gz", gzip.compress(b"\n" * (2**20 + 1)), "more than 1,048,576 empty lines; delete them"),
    ],
    ids=["checksum", "trailing data", "empty lines in place of a header", "empty lines below a header", "JSON Lines"],
)
def test_files_of_no_data_end_with_a_message(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    *_, last = file_records(tmp_path / name, ReadOptions())
    assert isinstance(last, Fault)
    assert message in f"{last.message}; {last.remedy}"


def test_messages_list_some_of_many_columns(tmp_path: Path) -> None:
    rows = [[f"c{column}" for column in range(2_000)], *([f"v{row}"] * 2_000 for row in range(5))]
    (tmp_path / "d.csv").write_text("".join(f"{','.join(row)}\n" for row in rows))
    with pytest.raises(AmbiguousFieldsError, match="c8, c9 and 1,990 more; which of them"):
        detect_options(tmp_path / "d.csv")
