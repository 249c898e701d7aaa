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
_ALIGN = "mend the indentation, or put the text in quotes"
_TOO_MANY = f"the aliases of this document stand for more than {MAX_EXPANDED:,} values"
_BROKEN = [
    (b"a: 1\na: 2\n", "f:2:1: a: the key a stands here twice, first in line 1; keep one of them"),
    (b"a:\n  b: 1\n  c: 2\n  b: 3\n", "f:4:3: a.b: the key b stands here twice, first in line 2; keep one of them"),
    (
        b"a:\n  <<: {b: 1}\n",
        "f:2:3: a: merge keys are no part of YAML 1.2; write the fields out, or use an alias as a value",
    ),
    (b"1: a\n", "f:1:1: the key 1 is no text; put it in quotes"),
    (b"- true: a\n", "f:1:3: [0]: the key true is no text; put it in quotes"),
    (b"? [a]\n: b\n", "f:1:3: a collection as a key is no text; put it in quotes"),
    (b"?\n: b\n", "f:1:2: an empty key is no text; put it in quotes"),
    (b"a:\n\tb: 1\n", "f:2:1: a tab indents this line; indent with spaces"),
    (b"a: caf\xe9\n", "f:1:7: is not UTF-8 text; save the file as UTF-8"),
    ("a: 1\n".encode("utf-16"), "f:1:1: is not UTF-8 text; save the file as UTF-8"),
    (
        b"a: 1\nb: \x07\n",
        "f:2:4: holds the unprintable character U+0007; delete it, or write it as an escape in double quotes",
    ),
    (b"a: *b\n", "f:1:4: a: the anchor &b is unknown; write the value out, or put &b before an earlier value"),
    (
        b"a: &a [*a]\n",
        "f:1:8: a[0]: the alias *a is inside its own anchor; write the value out, or put &a before an earlier value",
    ),
    (b"a: !secret b\n", "f:1:4: a: the tag !secret is not supported; delete it; quotes make a text of a value"),
    (b"a: !!set {b}\n", "f:1:4: a: the tag !!set is not supported; delete it; quotes make a text of a value"),
    (b"a: " + b"1" * 5000, "f:1:4: a: the number has too many digits; write a number of a sensible size"),
    (b"a: b: c\n", f"f:1:5: a colon is not allowed here; {_ALIGN}"),
    (b"- a\nb: 1\n", f"f:2:1: does not fit what stands before it; {_ALIGN}"),
    (b"a: 1\n- b\n", f"f:2:1: does not fit what stands before it; {_ALIGN}"),
    (b"a: 'b' c\n", f"f:1:8: does not fit what stands before it; {_ALIGN}"),
    (b"a: 1\nb\n", "f:3:1: a key without a colon; write it as `key: value`, with a space after the colon"),
    (b"a: {b: 1\n", "f:2:1: the { before this is not closed; add the missing comma or }"),
    (b"a: [b\n", "f:2:1: the [ before this is not closed; add the missing comma or ]"),
    (b"a: [,]\n", "f:1:5: a value is missing here; write one, or close the bracket before it"),
    (b"a: - b\n", "f:1:4: a list item is not allowed here; put it on a line of its own"),
    (b"a: 'b\n", "f:2:1: the quoted text is not closed; close it with the same quote that opens it"),
    (b"a: 'b\n---\n", "f:2:1: the quoted text is not closed; close it with the same quote that opens it"),
    (
        b'a: "\\q"\n',
        "f:1:5: the backslash in the double quotes starts no known escape; write \\\\ for a backslash, or use '…'",
    ),
    (b"a: @b\n", "f:1:4: this character cannot begin a text; put the text in quotes"),
    (b" a: 1\nb: 2\n", "f:2:1: something follows the end of the document; begin a new document with ---"),
    (b"%FOO\n--- a\n", "f:1:5: is no valid YAML: found unknown directive name; mend the file"),
    (
        b"[a, " * 100_000,
        f"f:1:{4 * MAX_DEPTH + 1}: {'[1]' * MAX_DEPTH}: is nested more than 64 levels deep; write flatter YAML",
    ),
    (
        _CHAIN.encode(),
        f"f:2:{6 + 60 + 1}: b{'[0]' * 60}: is nested more than 64 levels deep; write flatter YAML",
    ),
    (
        f"a: {'[' * 63}x{']' * 63}\nb: &b [x]\nc: {'[' * 63}*b{']' * 63}\n".encode(),
        f"f:3:{4 + 63}: c{'[0]' * 63}: is nested more than 64 levels deep; write flatter YAML",
    ),
    (
        f"a: 1\n{_LONG}: 2\n{_LONG}: 3\n".encode(),
        f"f:3:1: {_CUT}: the key {_CUT} stands here twice, first in line 2; keep one of them",
    ),
    (
        f"a: !{_LONG} b\n".encode(),
        f"f:1:4: a: the tag !{_CUT[:-2]}… is not supported; delete it; quotes make a text of a value",
    ),
    (
        f"a: *{_LONG}\n".encode(),
        f"f:1:4: a: the anchor &{_CUT} is unknown; write the value out, or put &{_CUT} before an earlier value",
    ),
    (
        _BOMB.encode(),
        f"f:5:8: e[0]: {_TOO_MANY}; write the values out, or use fewer aliases",
    ),
]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="these are libyaml's columns")
@pytest.mark.parametrize(("data", "message"), _BROKEN)
def test_every_fault_has_a_place_a_cause_and_a_remedy(data: bytes, message: str) -> None:
    assert [str(problem) for problem in parse(data, "f").problems] == [message]


def test_brackets_that_no_parser_reads_to_their_end_are_told_all_the_same() -> None:
    (problem,) = parse(b"[" * 100_000, "f").problems
    assert problem.message in {f"is nested more than {MAX_DEPTH} levels deep", "is nested too deep"}
    assert problem.remedy == "write flatter YAML"


def test_aliases_may_be_as_deep_as_what_is_written_out() -> None:
    parsed = parse(f"a: &a [x]\nb: {'[' * 62}*a{']' * 62}\nc: {'[' * 63}x{']' * 63}\n".encode(), "f")
    assert not parsed.problems
    assert json.dumps(parsed.documents[0].value["b"]) == f'{"[" * 63}"x"{"]" * 63}'


@pytest.mark.parametrize("number", ["9" * 309, "-" + "9" * 400, "0x" + "f" * 400])
def test_an_integer_beyond_floats_is_no_number(number: str) -> None:
    (problem,) = parse(f"a: {number}\n".encode(), "f").problems
    assert str(problem) == "f:1:4: a: the number has too many digits; write a number of a sensible size"


def test_several_faults_are_all_told() -> None:
    problems = parse(b"a: 1\na: 2\n2: x\nb: !x y\n", "f").problems
    assert [problem.place.line for problem in problems] == [2, 3, 4]


def test_documents_before_a_fault_are_kept() -> None:
    parsed = parse(b"a: 1\n---\nb: [\n", "f")
    assert [document.value for document in parsed.documents] == [{"a": 1}]
    assert len(parsed.problems) == 1


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n---\n", b"\xef\xbb\xbf", b"null\n"])
def test_empty_documents_are_left_out(data: bytes) -> None:
    assert parse(data, "f") == parse(b"", "f")


def test_a_byte_order_mark_is_tolerated() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\n", "f").documents[0].value == {"a": 1}


def test_scalars_quotes_and_aliases() -> None:
    (document,) = parse(b"a: &x {n: 1e-3, s: '1', t: no}\nb: *x\nc: ! 5\nd: !!str 5\ne: |\n  x\n", "f").documents
    shared = {"n": 0.001, "s": "1", "t": "no"}
    assert document.value == {"a": shared, "b": shared, "c": "5", "d": "5", "e": "x\n"}


def test_anchors_end_with_their_document() -> None:
    assert "the anchor &x is unknown" in str(parse(b"a: &x 1\n---\nb: *x\n", "f").problems[0])


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
    inputs = [data for data, message in _BROKEN if "no valid YAML" not in message]
    inputs += [file.read_bytes() for file in sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))]
    for data, (values, problems) in zip(inputs, _without_libyaml(inputs), strict=True):
        parsed = parse(data, "f")
        assert values == [document.value for document in parsed.documents]
        assert [_cause(text) for text in problems] == [_cause(str(problem)) for problem in parsed.problems]


def test_the_pure_python_parser_takes_no_half_of_a_surrogate_pair() -> None:
    ((values, problems),) = _without_libyaml([b'a: "\\ud800"\n'])
    assert values == []
    assert problems == [
        "f:1:4: a: the text holds half of a surrogate pair; write the whole character in place of \\ud…"
    ]


def _cause(message: str) -> str:
    """Without the columns, and without the lines where a text ends: there the two count differently."""
    _, line, _, text = message.split(":", 3)
    return text if "close" in text else f"{line}:{text}"
