"""Data files that are converted, split and compared: each file of the corpus survives it."""

from __future__ import annotations

import gzip
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.manifests.datasets.comparison import MOST_LISTED, compare_files
from reconciler.manifests.datasets.conversion import TARGETS, check_conversion, converted, output_options
from reconciler.manifests.datasets.data_files import DataFile, open_data_file, read_valid
from reconciler.manifests.datasets.file_formats import encoded
from reconciler.manifests.datasets.splitting import HeldOutShare, split_file, split_paths
from support.cases import each_row
from support.files_samples import CORPUS, EXPECTED, READABLE

CHATS = [
    "openai-turns.jsonl",
    "openai-tools.jsonl",
    "openai-developer.jsonl",
    "sharegpt-system.jsonl",
    "gemini-system.jsonl",
]
HALF = HeldOutShare(Fraction(1, 2))


def opened(file: Path) -> DataFile:
    return open_data_file(file, file.name)


def written(tmp_path: Path, name: str, content: str | bytes) -> DataFile:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return opened(file)


def convert(data: DataFile, target: str, output: Path) -> DataFile:
    options = output_options(output.name, target)
    check_conversion(data, target)
    output.write_bytes(b"".join(encoded(converted(data, target, options.format), options)))
    return opened(output)


def texts(data: DataFile) -> list[Any]:
    return [record.text for record in read_valid(data)]


@each_row("name", [name for name in READABLE if "config" not in name])
def test_every_file_is_the_same_after_a_conversion(tmp_path: Path, name: str) -> None:
    data = opened(CORPUS / name)
    if "system" in name or "developer" in name:  # the examples have the system instruction joined with the input
        data = convert(data, "messages", tmp_path / "first.jsonl")
    else:
        data = convert(data, "csv", tmp_path / "first.csv")
        assert texts(data) == [(*pair, 1) for pair in EXPECTED[name]["examples"]]
    again = convert(data, "contents", tmp_path / "second.json.gz")
    assert texts(convert(again, "alpaca", tmp_path / "third.jsonl.zst")) == texts(data)


@each_row("target", sorted(TARGETS))
@each_row("name", CHATS)
def test_a_conversion_loses_nothing_or_is_refused(tmp_path: Path, name: str, target: str) -> None:
    data = opened(CORPUS / name)
    output = tmp_path / f"out.{TARGETS[target].containers[0]}"
    try:
        found = convert(data, target, output)
    except ReconcileError as error:
        assert "would lose something" in error.message  # noqa: PT017 - either of two results
        assert target not in {"contents", "messages"}
        return
    comparison = compare_files(data, found)
    assert (comparison.added, comparison.removed, comparison.changed) == (0, 0, 0)
    assert texts(found) == texts(data)


def test_parallel_calls_of_a_function_are_answered_in_order(tmp_path: Path) -> None:
    def call(city: str) -> dict[str, Any]:
        return {"functionCall": {"name": "weather", "args": {"city": city}}}

    def answer(sky: str) -> dict[str, Any]:
        return {"functionResponse": {"name": "weather", "response": {"sky": sky}}}

    contents = [
        {"role": "user", "parts": [{"text": "Weather?"}]},
        {"role": "model", "parts": [call("Rome"), call("Oslo")]},
        {"role": "user", "parts": [answer("blue"), answer("gray")]},
        {"role": "model", "parts": [{"text": "Blue and gray."}]},
    ]
    data = written(tmp_path, "d.jsonl", json.dumps({"contents": contents}))
    (line,) = converted(data, "messages", "jsonl")
    messages = json.loads(line)["messages"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    assert [(message["tool_call_id"], message["content"]) for message in messages[2:4]] == [
        ("call_1", '{"sky":"blue"}'),
        ("call_2", '{"sky":"gray"}'),
    ]


_CHAT = [
    {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]},
    {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}],
    },
    {
        "contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}],
        "generationConfig": {"temperature": 0},
    },
    {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"data": ""}}]},
            {"role": "model", "parts": [{"text": "b"}]},
        ]
    },
]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "csv",
            (
                "d.jsonl: 3 of 4 examples would lose something as csv: line 2 has a system instruction, line 3 has "
                "generationConfig and line 4 has parts that are not text; convert to contents"
            ),
        ),
        (
            "messages",
            (
                "d.jsonl: 2 of 4 examples would lose something as messages: line 3 has generationConfig and line 4 has "
                "parts that are neither texts nor answers to function calls; convert to contents"
            ),
        ),
    ],
)
def test_what_would_be_lost_is_counted_and_named(tmp_path: Path, target: str, message: str) -> None:
    data = written(tmp_path, "d.jsonl", "".join(f"{json.dumps(example)}\n" for example in _CHAT))
    with pytest.raises(ReconcileError) as refused:
        check_conversion(data, target)
    assert str(refused.value) == message
    assert check_conversion(data, "contents") == 4


def test_texts_of_a_table_may_contain_anything(tmp_path: Path) -> None:
    examples = [('a "quoted", text\r\nwith lines', "sep=;"), ("\ttab", " spaces "), ("=1+1", "\u202e")]
    lines = "".join(json.dumps({"prompt": given, "completion": wanted}) + "\n" for given, wanted in examples)
    data = written(tmp_path, "d.jsonl", lines)
    for target in ("csv", "tsv"):
        assert texts(convert(data, target, tmp_path / f"d.{target}")) == texts(data)


def test_a_conversion_of_invalid_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"d.csv:3:1: the output is empty"):
        check_conversion(written(tmp_path, "d.csv", "question,answer\na,b\nc,\n"), "jsonl")


def test_the_ending_of_the_output_must_fit() -> None:
    assert output_options("a.json.gz", "messages").format == "json"
    assert output_options("", "tsv").format == "tsv"
    for name in ("a.csv", "a", "a.txt"):
        with pytest.raises(UsageError, match=r"has no ending for messages; name a file that ends in \.jsonl or \.json"):
            output_options(name, "messages")


@each_row("name", [*(name for name in READABLE if not name.endswith((".parquet", ".arrow"))), *CHATS[:1]])
def test_a_split_file_has_the_examples_in_the_same_format(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((CORPUS / name).read_bytes())
    data = opened(file)
    parts = split_file(data, HALF)
    assert [part.path for part in parts] == list(split_paths(file))
    found = []
    for part in parts:
        options = data.options
        source = DataFile(part.path, part.path.name, data.detected, opened(part.path).source, options)
        assert opened(part.path).options == options
        assert len(texts(source)) == part.examples
        found += texts(source)
    assert sorted(found) == sorted(texts(data))
    assert abs(parts[0].examples - parts[1].examples) <= 1


def test_what_is_around_the_examples_is_kept(tmp_path: Path) -> None:
    data = written(tmp_path, "d.csv", 'sep=;\r\n\r\nid;question;answer\r\n1;a;x\r\n\r\n2;"b\r\nc";y\r\n3;d;z')
    held_out = split_file(data, HeldOutShare(count=1))[1].path.read_bytes()
    train = (tmp_path / "d.train.csv").read_bytes()
    header = b"sep=;\r\n\r\nid;question;answer\r\n"
    assert held_out.startswith(header)
    assert train.startswith(header)
    rows = {b"1;a;x\r\n\r\n", b'2;"b\r\nc";y\r\n', b"3;d;z\r\n"}
    assert {held_out.removeprefix(header)} < rows
    assert sorted(map(len, rows - {held_out.removeprefix(header)})) == sorted(
        len(row) for row in rows if row in train.removeprefix(header)
    )


def test_a_split_depends_on_the_examples_and_not_on_their_order(tmp_path: Path) -> None:
    rows = [f"question {number},{'spam' if number % 4 else 'ham'}\n" for number in range(200)]
    found = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        random.Random(seed).shuffle(rows)  # noqa: S311 - reproducible
        data = written(tmp_path / str(seed), "d.csv", "question,answer\n" + "".join(rows))
        parts = split_file(data, HeldOutShare(Fraction(1, 10)))
        assert [dict(part.labels) for part in parts] == [{"spam": 135, "ham": 45}, {"spam": 15, "ham": 5}]
        found.append(sorted(parts[1].path.read_text().splitlines()))
    assert found[0] == found[1] == found[2]


def test_examples_with_the_same_input_are_in_one_file(tmp_path: Path) -> None:
    rows = [f"question {number % 10},answer {number}\n" for number in range(100)]
    parts = split_file(written(tmp_path, "d.csv", "question,answer\n" + "".join(rows)), HeldOutShare(Fraction(3, 10)))
    sides = [{text.input for text in texts(opened(part.path))} for part in parts]
    assert not sides[0] & sides[1]
    assert [part.examples for part in parts] == [70, 30]


@each_row(("rows", "amount"), [("a,1\na,2\n", 1), ("a,1\nb,2\n", 2), ("a,1\nb,2\n", 9)])
def test_a_split_needs_examples_for_both_files(tmp_path: Path, rows: str, amount: int) -> None:
    data = written(tmp_path, "d.csv", f"question,answer\n{rows}")
    with pytest.raises(ReconcileError, match=r"cannot hold out (any|all) of the 2 examples of d.csv; add examples"):
        split_file(data, HeldOutShare(count=amount))
    assert [file.name for file in tmp_path.iterdir()] == ["d.csv"]


def test_a_binary_file_is_converted_before_it_is_split(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = [{"question": f"question {number}", "answer": f"answer {number}"} for number in range(4)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = opened(tmp_path / "d.parquet")
    with pytest.raises(
        ReconcileError, match=r"convert it first: reconcile data convert d\.parquet --to jsonl --out FILE"
    ):
        split_file(data, HALF)
    parts = split_file(convert(data, "jsonl", tmp_path / "d.jsonl"), HALF)
    assert [part.examples for part in parts] == [2, 2]
    found = compare_files(data, opened(tmp_path / "d.jsonl"))
    assert (found.unchanged, found.added, found.removed, found.changed) == (4, 0, 0, 0)


def test_a_split_overwrites_nothing(tmp_path: Path) -> None:
    data = written(tmp_path, "d.csv", "question,answer\na,1\nb,2\n")
    (tmp_path / "d.held-out.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ReconcileError, match=r"d\.held-out\.csv already exists, so nothing was written; move it away"):
        split_file(data, HALF)
    assert not (tmp_path / "d.train.csv").exists()


def test_compressed_files_have_no_time(tmp_path: Path) -> None:
    data = written(tmp_path, "d.csv.gz", gzip.compress(b"question,answer\na,1\nb,2\n"))
    train = split_file(data, HALF)[0].path.read_bytes()
    assert train[4:8] == bytes(4)


@each_row(
    ("old", "new", "counts", "listed"),
    [
        ("a,1\nb,2\n", "b,2\na,1\n", (0, 0, 0, 2), []),
        ("a,1\n", "a,1\nb,2\n", (1, 0, 0, 1), [("added", 3, None)]),
        ("a,1\nb,2\n", "b,2\n", (0, 1, 0, 1), [("removed", 2, None)]),
        ("b,2\na,1\n", "a,9\nb,2\n", (0, 0, 1, 1), [("changed", 2, 3)]),
        ("a,1\n", "a,1\na,1\n", (1, 0, 0, 1), [("added", 3, None)]),
        ("a,1\na,1\na,2\n", "a,3\n", (0, 2, 1, 0), [("removed", 3, None), ("removed", 4, None), ("changed", 2, 3)]),
        ("a,1\na,1\n", "a,1\na,2\n", (0, 0, 1, 1), [("changed", 3, 3)]),
        ("a,1\n", "c,1\n", (1, 1, 0, 0), [("added", 2, None), ("removed", 2, None)]),
    ],
)
def test_differences(
    tmp_path: Path,
    old: str,
    new: str,
    counts: tuple[int, int, int, int],
    listed: list[tuple[str, int, int | None]],
) -> None:
    files = [
        written(tmp_path, f"{name}.csv", f"id,input,output\n{_numbered(rows)}")
        for name, rows in (("o", old), ("n", new))
    ]
    found = compare_files(*files)
    assert (found.added, found.removed, found.changed, found.unchanged) == counts
    assert [(example.kind, example.line, example.old_line) for example in found.examples] == listed


def _numbered(rows: str) -> str:
    return "".join(f"{number},{row}\n" for number, row in enumerate(rows.splitlines()))


def test_conversations_change_by_their_last_answer(tmp_path: Path) -> None:
    def line(*turns: str) -> str:
        roles = ("user", "assistant") * 2
        return json.dumps({"messages": [{"role": r, "content": text} for r, text in zip(roles, turns, strict=True)]})

    old, new = line("a", "b", "c", "d"), line("a", "b", "c", "e")
    found = compare_files(written(tmp_path, "o.jsonl", old), written(tmp_path, "n.jsonl", new))
    (example,) = found.examples
    assert (example.kind, example.input, example.old_output, example.output) == ("changed", "a / b / c", "d", "e")


def test_the_first_differences_are_listed(tmp_path: Path) -> None:
    old = written(tmp_path, "o.csv", "question,answer\nx,0\ny,1\n")
    rows = "".join(f"q{number},{number}\n" for number in range(500))
    found = compare_files(old, written(tmp_path, "n.csv", f"question,answer\nx,0\ny,1\n{rows}"))
    assert found.added == 500
    assert [example.line for example in found.examples] == list(range(4, 4 + MOST_LISTED))
