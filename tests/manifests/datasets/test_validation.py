"""Data sets in every format, and everything that can be wrong with them."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import Example
from reconciler.manifests.datasets.file_formats import file_records
from reconciler.manifests.datasets.records import ReadOptions, Row
from support.cases import each_row
from support.files_samples import CAPABILITIES, DATA, MANIFEST, close, load_in, messages, sample, write

_PAIRS = [("1", "2"), ("a, b", 'say "c"'), ("ü\tx", "y\nz")]
_DIGEST = dataset_digest(Example(*pair) for pair in _PAIRS)


def _separated(delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([("text_input", "output"), *_PAIRS])
    return out.getvalue()


def _objects() -> list[dict[str, str]]:
    return [{"text_input": one, "output": two} for one, two in _PAIRS]


def _named(name: str) -> str:
    return MANIFEST.replace("data.csv", name)


@each_row(
    ("name", "text"),
    [
        ("a.csv", _separated(",")),
        ("a.CSV", "\ufeff" + _separated(",")),
        ("a.tsv", _separated("\t")),
        ("a.jsonl", "\n".join(json.dumps(one) for one in _objects())),
        ("a.jsonl", "\r\n".join(json.dumps(one, ensure_ascii=False) for one in _objects()) + "\r\n\r\n"),
        ("a.json", json.dumps(_objects())),
        ("a.json", json.dumps(_objects(), indent=2) + "\n"),
    ],
)
def test_the_same_examples_have_one_digest_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: text}))
    assert not workspace.problems
    (manifest,) = workspace.manifests
    assert (manifest.dataset.path, manifest.dataset.digest, manifest.dataset.examples) == (name, _DIGEST, 3)


def test_inline_examples_have_the_same_digest(tmp_path: Path) -> None:
    examples = json.dumps([{"input": one, "output": two} for one, two in _PAIRS], ensure_ascii=False)
    workspace = load_in(sample(tmp_path, manifest=MANIFEST.replace("path: data.csv", f"examples: {examples}")))
    (manifest,) = workspace.manifests
    assert (manifest.dataset.path, manifest.dataset.digest, manifest.dataset.examples) == ("", _DIGEST, 3)
    assert [(one.input, one.output) for one in workspace.training(manifest)] == _PAIRS


@each_row(
    ("name", "text", "lines"),
    [
        ("a.csv", 'text_input,output\n"1\n1",2\n\n3,4\n5,6\n', (2, 5, 6)),
        ("a.jsonl", "".join(f"{json.dumps(one)}\n\n" for one in _objects()), (1, 3, 5)),
        ("a.json", json.dumps(_objects(), indent=2), (2, 6, 10)),
    ],
)
def test_examples_have_the_lines_of_their_records(
    tmp_path: Path, name: str, text: str, lines: tuple[int, int, int]
) -> None:
    workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: text}))
    (manifest,) = workspace.manifests
    first, second, third = lines
    assert workspace.places(manifest, {1, 2, 3}) == {1: f"{name}:{first}", 2: f"{name}:{second}", 3: f"{name}:{third}"}
    assert workspace.places(manifest, {2}) == {2: f"{name}:{second}"}
    assert workspace.places(manifest, ()) == workspace.places(manifest, {1}, validation=True) == {}


@each_row("text", [DATA, DATA.replace("\n", "\r\n"), DATA.replace("\n", "\r"), DATA + "\n\n"])
def test_line_ends_do_not_matter(tmp_path: Path, text: str) -> None:
    (manifest,) = load_in(sample(tmp_path, data=text)).manifests
    assert manifest.dataset.digest == dataset_digest([Example("1", "2"), Example("3", "4")])


def test_other_fields_and_a_preamble(tmp_path: Path) -> None:
    more = '    inputField: q\n    outputField: a\n    preamble: "Say: "\n'
    workspace = load_in(sample(tmp_path, manifest=MANIFEST + more, data="n,a,q\n0,2,1\n0,4,3\n"))
    (manifest,) = workspace.manifests
    assert manifest.preamble == "Say: "
    assert list(workspace.training(manifest)) == [Example("Say: 1", "2"), Example("Say: 3", "4")]


_CHOOSE_INPUT = "set spec.dataset.inputField to one that is there"
_CHOOSE_OUTPUT = "set spec.dataset.outputField to one that is there"
_SPLIT = "put fields that hold separators or line breaks in double quotes"
_CLOSE = 'close every quote, and double each " inside quotes'
_AS_UTF_8 = (
    "save the file as UTF-8, or set spec.dataset.encoding to its encoding, such as windows-1252 for files of Windows"
)
_LINES = "write one JSON object on each line"
_OK = '{"text_input": "1", "output": "2"}'
_BROKEN: list[tuple[str, str | bytes, list[str]]] = [
    (
        "d.csv",
        "input,output\n1,2\n",
        [
            (
                '1:1: spec.dataset.inputField: no column "text_input" in the header; set spec.dataset.inputField'
                " to one of: input, output (did you mean input?)"
            )
        ],
    ),
    (
        "d.csv",
        "text_input,reply\n1,2\n",
        [
            (
                '1:1: spec.dataset.outputField: no column "output" in the header; set spec.dataset.outputField to one'
                " of: text_input, reply"
            )
        ],
    ),
    (
        "d.csv",
        "text_input,output,output\n1,2,3\n",
        ['1:1: spec.dataset.path: 2 columns in the header are named "output"; rename all but one of them'],
    ),
    (
        "d.csv",
        'text_input,output\n1,2\n"a\nb",2,3\nc\n',
        [
            (
                "3:1: spec.dataset.path: expected 2 fields as in the header, found 3; put fields that contain"
                " separators or line breaks in double quotes"
            ),
            (
                "5:1: spec.dataset.path: expected 2 fields as in the header, found 1; put fields that contain"
                " separators or line breaks in double quotes"
            ),
        ],
    ),
    (
        "d.csv",
        'text_input,output\n1,"2\n',
        [f"2:3: spec.dataset.path: this quote is not closed; {_CLOSE}"],
    ),
    (
        "d.tsv",
        'text_input\toutput\n"1"x\t2\n',
        [f"2:1: spec.dataset.path: text after a closing quote; {_CLOSE}"],
    ),
    (
        "d.csv",
        "text_input,output\n,2\n1, \n",
        [
            "2:1: spec.dataset.path: the input is empty; fill it in, or delete the example",
            "3:1: spec.dataset.path: the output is empty; fill it in, or delete the example",
        ],
    ),
    (
        "d.csv",
        "text_input,output\n1\0,2\n",
        [("2:1: spec.dataset.path: the input contains a NUL character; remove it")],
    ),
    ("d.csv", b"text_input,output\n1,caf\xe9\n", [f"2:6: spec.dataset.encoding: not valid UTF-8; {_AS_UTF_8}"]),
    (
        "d.csv",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        ["1:1: spec.dataset.path: the file is a Git LFS pointer, not the data; run `git lfs pull`"],
    ),
    (
        "d.csv",
        f"text_input,output\n{'x' * 21},{'y' * 11}\n",
        [
            (
                "2:1: spec.dataset.path: the input has 21 characters, which exceeds the limit of 20 for the"
                " test service; shorten it"
            ),
            (
                "2:1: spec.dataset.path: the output has 11 characters, which exceeds the limit of 10 for the"
                " test service; shorten it"
            ),
        ],
    ),
    (
        "d.jsonl",
        f"{_OK}\n{{1}}\n",
        [
            (
                "2:1: spec.dataset.path: invalid JSON: Expecting property name enclosed in double quotes (column"
                f" 2); {_LINES}"
            )
        ],
    ),
    (
        "d.jsonl",
        f"{_OK}\n[1]\n",
        [("2:1: spec.dataset.path: invalid example: expected an object, not a list; write {…} with input and output")],
    ),
    (
        "d.jsonl",
        '{"text_input": "1", "out": "2"}\n',
        [
            (
                '1:1: spec.dataset.outputField: missing member "output"; set spec.dataset.outputField to one of:'
                " text_input, out (did you mean out?)"
            )
        ],
    ),
    (
        "d.jsonl",
        '{"text_input": 1.5, "output": true}\n',
        [
            (
                '1:1: spec.dataset.path: invalid member "text_input" 1.5: expected a string; write the number in double'
                " quotes, with the digits that the model is to use"
            )
        ],
    ),
    (
        "d.jsonl",
        '{"text_input": "1", "output": -Infinity}\n',
        [
            (
                '1:1: spec.dataset.path: invalid member "output" -.inf: expected a string; fill it in, or delete the'
                " example"
            )
        ],
    ),
    (
        "d.jsonl",
        '{"text_input": "1", "output": null}\n',
        ['1:1: spec.dataset.path: empty member "output": expected a string; fill it in, or delete the example'],
    ),
    (
        "d.jsonl",
        '{"text_input": "1", "output": "2", "output": "3"}\n',
        ['1:1: spec.dataset.path: invalid JSON: duplicate member "output"; remove all but one of them'],
    ),
    (
        "d.jsonl",
        '{"text_input": "\\ud800", "output": "\\u0000"}\n',
        [
            (
                "1:1: spec.dataset.path: the input contains an unpaired surrogate character; write the whole"
                " character in place of \\ud…"
            ),
            "1:1: spec.dataset.path: the output contains a NUL character; remove it",
        ],
    ),
    ("d.jsonl", "[" * 200_000, [f"1:1: spec.dataset.path: invalid JSON: nested too deeply; {_LINES}"]),
    (
        "d.json",
        _OK,
        [("1:1: spec.dataset.path: expected a JSON array, found an object without one; write [{…}, {…}]")],
    ),
    (
        "d.json",
        f"[\n{_OK}\n{_OK}]",
        [
            (
                "3:1: spec.dataset.path: invalid JSON array of objects: Expecting , or ] (column 1); write"
                " [{…}, {…}], separated by commas"
            )
        ],
    ),
    (
        "d.json",
        f"[\n{_OK}\n]\nx",
        [
            (
                "4:1: spec.dataset.path: invalid JSON array of objects: Extra data (column 1); write [{…},"
                " {…}], separated by commas"
            )
        ],
    ),
    (
        "d.json",
        f"[\n{_OK},\n{_OK},\n",
        [
            (
                "4:1: spec.dataset.path: invalid JSON array of objects: Expecting value (example 3, column 1);"
                " write [{…}, {…}], separated by commas"
            )
        ],
    ),
    (
        "d.json",
        f"[\n{_OK},\n\n3]",
        [
            (
                "4:1: spec.dataset.path: example 2 of 2: invalid example 3: expected an object; "
                "write {…} with input and output"
            )
        ],
    ),
    (
        "d.json",
        f"[{_OK},\n{'1' * 5000}]",
        [
            (
                "2:1: spec.dataset.path: example 2 of 2: invalid example .inf: expected an object; "
                "write {…} with input and output"
            )
        ],
    ),
]


@each_row(
    ("name", "data", "expected"),
    _BROKEN,
    ids=lambda value: value if isinstance(value, str) and "." in value[:3] else "",
)
def test_what_is_wrong_with_data(tmp_path: Path, name: str, data: str | bytes, expected: list[str]) -> None:
    workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: data}))
    errors = [str(problem) for problem in workspace.errors]
    assert errors == [f"{name}:{message}" for message in expected]
    assert not workspace.manifests


@each_row("name", ["d.csv", "d.tsv", "d.jsonl", "d.json"])
@each_row("text", ["", "\n \n"])
def test_an_empty_data_set(tmp_path: Path, name: str, text: str) -> None:
    workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: text}))
    assert messages(workspace) == [f"{name}:1:1: spec.dataset.path: the data set has no examples; add examples"]


@each_row(("name", "text"), [("d.csv", "text_input,output\n"), ("d.json", "[]"), ("d.json", " [ ] ")])
def test_a_data_set_of_nothing_but_a_frame(tmp_path: Path, name: str, text: str) -> None:
    workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: text}))
    assert messages(workspace) == [f"{name}:1:1: spec.dataset.path: the data set has no examples; add examples"]


def test_inline_examples_are_checked_at_their_places(tmp_path: Path) -> None:
    examples = 'examples:\n    - {input: "", output: b}\n    - {input: c, output: "\\0"}\n'
    workspace = load_in(sample(tmp_path, manifest=MANIFEST.replace("path: data.csv\n", examples)))
    assert [str(problem) for problem in workspace.errors] == [
        "m.yaml:9:7: spec.dataset.examples[0]: the input is empty; fill it in, or delete the example",
        "m.yaml:10:7: spec.dataset.examples[1]: the output contains a NUL character; remove it",
    ]


def test_no_inline_examples(tmp_path: Path) -> None:
    workspace = load_in(sample(tmp_path, manifest=MANIFEST.replace("path: data.csv", "examples: []")))
    assert messages(workspace) == ["m.yaml:7:3: spec.dataset: the data set has no examples; add examples"]


def test_the_whole_data_set_may_be_too_large(tmp_path: Path) -> None:
    data = "text_input,output\n" + "".join(f"{'é' * 5}{number:02},1\n" for number in range(20))
    assert messages(load_in(sample(tmp_path, data=data))) == [
        (
            "m.yaml:7:3: spec.dataset: the examples have 260 bytes, which exceeds the limit of 200 for the"
            " test service; use fewer or shorter examples"
        )
    ]


def test_the_preamble_counts_as_input(tmp_path: Path) -> None:
    workspace = load_in(sample(tmp_path, manifest=f"{MANIFEST}    preamble: {'x' * 20}\n"))
    assert messages(workspace)[0].startswith("data.csv:2:1: spec.dataset.path: the input has 21 characters")


def test_warnings_stop_nothing(tmp_path: Path) -> None:
    data = "text_input,output\n1,2\n1,2\n1,3\n"
    workspace = load_in(sample(tmp_path, data=data), capabilities=replace(CAPABILITIES, recommended_examples=20))
    assert {problem.severity for problem in workspace.problems} == {"warning"}
    assert messages(workspace) == [
        "data.csv:3:1: spec.dataset.path: duplicate of the example on line 2; delete one of them",
        (
            "data.csv:4:1: spec.dataset.path: same input as the example on line 2, but a different output; delete the"
            " wrong example"
        ),
        (
            "m.yaml:7:3: spec.dataset: 3 examples, at least 20 are recommended; add examples if the model"
            " learns too little"
        ),
    ]
    assert len(workspace.manifests) == 1


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    long = "".join(f'"{number}{chr(10) * 60}",2\n' for number in range(13))
    data = "text_input,output\n" + "1\n" * 25 + long
    texts = messages(load_in(sample(tmp_path, data=data), capabilities=None))
    assert len(texts) == 22
    assert texts[10] == (
        "data.csv:12:1: spec.dataset: 15 more errors of this data set are not shown; fix the errors above first"
    )
    assert texts[21] == "data.csv:637:1: spec.dataset: 3 more warnings of this data set are not shown"


def test_repetitions_are_one_warning_each_with_their_number(tmp_path: Path) -> None:
    data = "text_input,output\n" + "1,2\n" * 6 + "3,4\n3,5\n3,6\n"
    duplicates, contradictions = messages(load_in(sample(tmp_path, data=data)))
    assert duplicates == (
        "data.csv:3:1: spec.dataset.path: 5 examples are duplicates of earlier ones: line 3, line 4, line 5 and 2 more;"
        " delete them"
    )
    assert contradictions == (
        "data.csv:9:1: spec.dataset.path: 2 examples have the input of an earlier one, but a different output: line 9"
        " and line 10; delete the wrong examples"
    )


_PATHS = [
    ("nowhere.csv", "nowhere.csv: no such file; fix the path, or add the file"),
    ("no/folder.csv", "no/folder.csv: no such file; fix the path, or add the file"),
    ("dat.csv", "dat.csv: no such file; did you mean data.csv?"),
    ("folder", "folder: is a directory; set the path of a file in it"),
    ("/etc/passwd", 'invalid path "/etc/passwd": expected a relative path; make it relative to this file'),
    ("C:/data.csv", 'invalid path "C:/data.csv": expected a relative path; make it relative to this file'),
    ("../data.csv", "../data.csv: outside the repository; move the file into root"),
    ("link.csv", "link.csv: outside the repository; move the file into root"),
    ("loop.csv", "loop.csv: loop of symbolic links; set the path of a file"),
    ('"a\\0.csv"', "invalid path: contains a NUL character; remove it"),
    ("x" * 300 + ".csv", "cannot read " + "x" * 39 + "…: File name too long; check its permissions"),
    ("pipe.csv", "pipe.csv: not a regular file; set the path of a regular file"),
    ("data.txt", 'unsupported format ".txt"; set spec.dataset.format to one of: csv, tsv, jsonl, json, parquet, arrow'),
    (
        "data.jsnl",
        (
            'unsupported format ".jsnl"; set spec.dataset.format to one of: csv, tsv, jsonl, json, parquet, arrow '
            "(did you mean jsonl?)"
        ),
    ),
    (
        "data",
        "unsupported format: no file suffix; set spec.dataset.format to one of: csv, tsv, jsonl, json, parquet, arrow",
    ),
]


@each_row(("path", "message"), _PATHS, ids=lambda value: value[:12].replace("/", "|"))
def test_paths_that_lead_nowhere(tmp_path: Path, path: str, message: str) -> None:
    root = write(
        tmp_path,
        {"data.csv": DATA, "root/folder/x": "", "root/data.txt": DATA, "root/data": DATA, "root/data.jsnl": ""},
    )
    sample(root / "root", manifest=_named(path))
    (root / "root/link.csv").symlink_to(root / "data.csv")
    (root / "root/loop.csv").symlink_to("loop.csv")
    os.mkfifo(root / "root/pipe.csv")
    (found,) = messages(load_in(root / "root"))
    assert found == f"m.yaml:8:11: spec.dataset.path: {message}"


def test_a_file_above_the_root_is_fine_inside_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {".git/config": "", "data.csv": DATA})
    (manifest,) = load_in(sample(tmp_path / "specs", manifest=_named("../data.csv"))).manifests
    assert manifest.dataset.path == "../data.csv"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    close(sample(tmp_path) / "data.csv")
    assert messages(load_in(tmp_path)) == [
        "data.csv:1:1: spec.dataset.path: cannot be read: Permission denied; see to the file"
    ]


def test_a_file_larger_than_any_service_takes_is_not_read(tmp_path: Path) -> None:
    with (sample(tmp_path) / "data.csv").open("wb") as file:
        file.truncate(2**30 + 1)
    assert messages(load_in(tmp_path)) == [
        (
            "data.csv:1:1: spec.dataset.path: the file exceeds the limit of 1,073,741,824 bytes; use fewer"
            " examples; no service accepts more"
        )
    ]


@each_row("data", ["text_input,output\n1,2\n3,5\n", "text_input,output\n1,2\n3\n", ""])
def test_data_that_changes_before_the_create_is_refused(tmp_path: Path, data: str) -> None:
    workspace = load_in(sample(tmp_path))
    write(tmp_path, {"data.csv": data})
    with pytest.raises(ReconcileError, match=r"^data\.csv has changed since the plan was made; run the command again$"):
        list(workspace.training(workspace.manifests[0]))


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_every_format(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("text_input", "output"), *pairs])
    objects = [{"text_input": one, "output": two} for one, two in pairs]
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in objects)
    unlimited = replace(CAPABILITIES, max_input_characters=None, max_output_characters=None, max_dataset_bytes=None)
    for name, text in (("a.csv", out.getvalue()), ("a.jsonl", lines), ("a.json", json.dumps(objects))):
        workspace = load_in(write(sample(tmp_path, manifest=_named(name)), {name: text}), capabilities=unlimited)
        (manifest,) = workspace.manifests
        assert [(one.input, one.output) for one in workspace.training(manifest)] == pairs


def test_a_field_longer_than_the_csv_library_takes_by_itself_is_no_broken_quote(tmp_path: Path) -> None:
    file = write(tmp_path, {"d.csv": f"text_input,output\n{'x' * 140_000},y\n"}) / "d.csv"
    (row,) = file_records(file, ReadOptions("text_input", "output"))
    assert row == Row(2, "x" * 140_000, "y")
