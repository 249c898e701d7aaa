"""Places, and a message of our own for everything that can be wrong with YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import Place
from reconciler.manifests.yaml_parser import MAX_DEPTH, MAX_EXPANDED, dotted, parse
from support.cases import each_row

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)
_CHAIN = f"a: &a {'[' * 60}x{']' * 60}\n" + "".join(
    f"{name}: &{name} {'[' * 60}*{before}{']' * 60}\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)
"""Seventeen values, each flat enough, and each with the one before at its bottom."""
_LONG = "secret" * 10
_CUT = f"{_LONG[:39]}…"
_ALIGN = "fix the indentation, or put the text in quotes"
_TOO_MANY = f"the aliases of this document stand for more than {MAX_EXPANDED:,} values"
_BROKEN = [
    (b"a: 1\na: 2\n", 'f:2:1: a: duplicate key "a" (first defined on line 1); remove one of them'),
    (b"a:\n  b: 1\n  c: 2\n  b: 3\n", ('f:4:3: a.b: duplicate key "b" (first defined on line 2); remove one of them')),
    (
        b"a:\n  <<: {b: 1}\n",
        "f:2:3: a: unsupported merge key <<; write the fields out, or use an alias as a value",
    ),
    (b"1: a\n", "f:1:1: invalid key 1: expected a string; put the key in quotes"),
    (b"- true: a\n", "f:1:3: [0]: invalid key true: expected a string; put the key in quotes"),
    (b"? [a]\n: b\n", "f:1:3: invalid key: expected a string; put the key in quotes"),
    (b"?\n: b\n", "f:1:2: empty key: expected a string; put the key in quotes"),
    (b"a:\n\tb: 1\n", "f:2:1: tab in the indentation; indent with spaces"),
    (b"a: caf\xe9\n", "f:1:7: not valid UTF-8; save the file as UTF-8"),
    ("a: 1\n".encode("utf-16"), "f:1:1: not valid UTF-8; save the file as UTF-8"),
    (
        b"a: 1\nb: \x07\n",
        "f:2:4: unprintable character U+0007; remove it, or write it as an escape in double quotes",
    ),
    (
        b"a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> other\n",
        (
            "f:2:1: contains git conflict markers: <<<<<<< in line 2, ======= in line 4, >>>>>>> in line 6; "
            "edit the lines between the markers, and remove the markers"
        ),
    ),
    (
        b"a: 1\n||||||| base\nb: 2\n=======\nb: 3\n",
        (
            "f:2:1: contains git conflict markers: ||||||| in line 2, ======= in line 4; edit the lines between the"
            " markers, and remove the markers"
        ),
    ),
    (
        b"a: b: c\n" + b"=======\n" * 20_000,  # each is found without reading the text before it again
        (
            "f:2:1: contains git conflict markers: ======= in line 2, ======= in line 3, ======= in line 4, ======= in"
            " line 5 and 19,996 more; edit the lines between the markers, and remove the markers"
        ),
    ),
    (b"a: *b\n", "f:1:4: a: undefined alias *b; write the value out, or put &b before an earlier value"),
    (
        b"a: &a [*a]\n",
        "f:1:8: a[0]: alias *a is inside its own anchor; write the value out, or put &a before an earlier value",
    ),
    (b"a: !secret b\n", "f:1:4: a: unsupported tag !secret; remove it, and quote the value if it is a string"),
    (b"a: !!set {b}\n", "f:1:4: a: unsupported tag !!set; remove it, and quote the value if it is a string"),
    (b"a: " + b"1" * 5000, "f:1:4: a: number out of range; set a smaller number"),
    (b"a: b: c\n", "f:1:5: unexpected colon; fix the indentation, or put the text in quotes"),
    (b"- a\nb: 1\n", "f:2:1: unexpected indentation or structure; fix the indentation, or put the text in quotes"),
    (b"a: 1\n- b\n", f"f:2:1: unexpected indentation or structure; {_ALIGN}"),
    (b"a: 'b' c\n", "f:1:8: unexpected indentation or structure; fix the indentation, or put the text in quotes"),
    (b"a: 1\nb\n", "f:3:1: missing colon after a key; write `key: value`, with a space after the colon"),
    (b"a: {b: 1\n", "f:2:1: missing closing brace; add the missing comma or }"),
    (b"a: [b\n", "f:2:1: missing closing bracket; add the missing comma or ]"),
    (b"a: [,]\n", "f:1:5: missing value; add a value, or close the bracket before it"),
    (b"a: - b\n", "f:1:4: unexpected list item; put the item on its own line"),
    (b"a: 'b\n", "f:2:1: missing closing quote; close the string with the quote that opens it"),
    (b"a: 'b\n---\n", "f:2:1: missing closing quote; close the string with the quote that opens it"),
    (
        b'a: "\\q"\n',
        "f:1:5: unknown escape sequence; write \\\\ for a backslash, or use single quotes",
    ),
    (b"a: @b\n", "f:1:4: unexpected character; put the text in quotes"),
    (b" a: 1\nb: 2\n", "f:2:1: unexpected content after the end of the document; start a new document with ---"),
    (b"%FOO\n--- a\n", "f:1:5: invalid YAML: found unknown directive name; fix the syntax"),
    (
        b"[a, " * 100_000,
        f"f:1:{4 * MAX_DEPTH + 1}: {'[1]' * MAX_DEPTH}: nested more than 64 levels deep; reduce the nesting",
    ),
    (
        _CHAIN.encode(),
        f"f:2:{6 + 60 + 1}: b{'[0]' * 60}: nested more than 64 levels deep; reduce the nesting",
    ),
    (
        f"a: {'[' * 63}x{']' * 63}\nb: &b [x]\nc: {'[' * 63}*b{']' * 63}\n".encode(),
        f"f:3:{4 + 63}: c{'[0]' * 63}: nested more than 64 levels deep; reduce the nesting",
    ),
    (
        f"a: 1\n{_LONG}: 2\n{_LONG}: 3\n".encode(),
        f'f:3:1: {_CUT}: duplicate key "{_CUT}" (first defined on line 2); remove one of them',
    ),
    (
        f"a: !{_LONG} b\n".encode(),
        f"f:1:4: a: unsupported tag !{_CUT[:-2]}…; remove it, and quote the value if it is a string",
    ),
    (
        f"a: *{_LONG}\n".encode(),
        f"f:1:4: a: undefined alias *{_CUT}; write the value out, or put &{_CUT} before an earlier value",
    ),
    (
        _BOMB.encode(),
        (
            "f:5:8: e[0]: the aliases of this document expand to more than 20,000 values; use fewer aliases,"
            " or write the values out"
        ),
    ),
]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="these are libyaml's columns")
@each_row(("data", "message"), _BROKEN)
def test_every_fault_has_a_place_a_cause_and_a_remedy(data: bytes, message: str) -> None:
    assert [str(problem) for problem in parse(data, "f").problems] == [message]


def test_brackets_that_no_parser_reads_to_their_end_are_told_all_the_same() -> None:
    (problem,) = parse(b"[" * 100_000, "f").problems
    assert problem.message in {f"nested more than {MAX_DEPTH} levels deep", "nested too deeply"}
    assert problem.remedy == "reduce the nesting"


def test_aliases_may_be_as_deep_as_what_is_written_out() -> None:
    parsed = parse(f"a: &a [x]\nb: {'[' * 62}*a{']' * 62}\nc: {'[' * 63}x{']' * 63}\n".encode(), "f")
    assert not parsed.problems
    assert json.dumps(parsed.documents[0].value["b"]) == f'{"[" * 63}"x"{"]" * 63}'


@each_row("number", ["9" * 309, "-" + "9" * 400, "0x" + "f" * 400])
def test_an_integer_beyond_floats_is_no_number(number: str) -> None:
    (problem,) = parse(f"a: {number}\n".encode(), "f").problems
    assert str(problem) == "f:1:4: a: number out of range; set a smaller number"


def test_several_faults_are_all_told() -> None:
    problems = parse(b"a: 1\na: 2\n2: x\nb: !x y\n", "f").problems
    assert [problem.place.line for problem in problems] == [2, 3, 4]


def test_documents_before_a_fault_are_kept() -> None:
    parsed = parse(b"a: 1\n---\nb: [\n", "f")
    assert [document.value for document in parsed.documents] == [{"a": 1}]
    assert len(parsed.problems) == 1


@each_row("data", [b"", b"# nothing\n", b"---\n---\n", b"\xef\xbb\xbf", b"null\n"])
def test_empty_documents_are_left_out(data: bytes) -> None:
    parsed = parse(data, "f")
    assert (parsed.documents, parsed.problems) == ((), ())


def test_a_byte_order_mark_is_tolerated() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\n", "f").documents[0].value == {"a": 1}


def test_scalars_quotes_and_aliases() -> None:
    (document,) = parse(b"a: &x {n: 1e-3, s: '1', t: no}\nb: *x\nc: ! 5\nd: !!str 5\ne: |\n  x\n", "f").documents
    shared = {"n": 0.001, "s": "1", "t": "no"}
    assert document.value == {"a": shared, "b": shared, "c": "5", "d": "5", "e": "x\n"}


def test_anchors_end_with_their_document() -> None:
    assert "undefined alias *x" in str(parse(b"a: &x 1\n---\nb: *x\n", "f").problems[0])


def test_places_of_values_keys_and_what_is_not_there() -> None:
    (document,) = parse("a:\n  ü: [x,\n    {b: c}]\n".encode(), "f").documents
    assert document.place(["a", "ü", 1, "b"]) == Place("f", 3, 9)
    assert document.place(["a", "ü", 1, "b"], key=True) == Place("f", 3, 6)
    assert document.place(["a", "missing"]) == Place("f", 1, 1)
    assert document.child(["a", "ü", 1]).place(["b"]) == Place("f", 3, 9)


def test_the_value_of_an_alias_stands_where_the_alias_does() -> None:
    (document,) = parse(b"a: &x {n: 1}\nb: *x\n", "f").documents
    assert document.place(["b"]) == Place("f", 2, 4)
    assert document.place(["b", "n"]) == Place("f", 1, 11)


def test_dotted_paths() -> None:
    assert dotted(["spec", "checks", 0, "name"]) == "spec.checks[0].name"
    assert dotted([]) == ""


def test_half_a_surrogate_pair_never_becomes_text() -> None:
    (problem,) = parse(b'a: "\\ud800"\n', "f").problems
    assert problem.remedy


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cn", "Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcö<-? :", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(_VALUES)
def test_json_is_yaml(value: Any) -> None:
    parsed = parse(json.dumps(value, ensure_ascii=False).replace("Infinity", ".inf").encode(), "f")
    assert not parsed.problems
    assert [document.value for document in parsed.documents] == ([] if value is None else [value])


@given(st.text("ab:- \n\t'\"[]{}#&*!|>%@,?1~\\", max_size=40) | st.text(max_size=20))
def test_no_text_makes_it_fail(text: str) -> None:
    parsed = parse(text.encode("utf-8", "surrogatepass"), "f")
    assert all(problem.message and problem.remedy for problem in parsed.problems)


_PURE = """
import json, sys
sys.modules["yaml._yaml"] = None
from reconciler.manifests.yaml_parser import parse
for line in sys.stdin:
    parsed = parse(bytes.fromhex(line), "f")
    print(json.dumps([[d.value for d in parsed.documents], [str(p) for p in parsed.problems]]))
"""


def _without_libyaml(inputs: list[bytes]) -> Iterator[Any]:
    lines = "".join(f"{data.hex()}\n" for data in inputs)
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-c", _PURE], input=lines, capture_output=True, text=True, check=True
    )
    return map(json.loads, done.stdout.splitlines())


def test_the_pure_python_parser_says_the_same() -> None:
    inputs = [data for data, message in _BROKEN if "invalid YAML" not in message]
    inputs += [file.read_bytes() for file in sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))]
    for data, (values, problems) in zip(inputs, _without_libyaml(inputs), strict=True):
        parsed = parse(data, "f")
        assert values == [document.value for document in parsed.documents]
        assert [_cause(text) for text in problems] == [_cause(str(problem)) for problem in parsed.problems]


def test_the_pure_python_parser_takes_no_half_of_a_surrogate_pair() -> None:
    ((values, problems),) = _without_libyaml([b'a: "\\ud800"\n'])
    assert values == []
    assert problems == ["f:1:4: a: unpaired surrogate character; write the whole character in place of \\ud…"]


def _cause(message: str) -> str:
    """Without the columns, and without the lines where a text ends: there the two count differently."""
    _, line, _, text = message.split(":", 3)
    return text if "close" in text else f"{line}:{text}"
