"""Examples in Vertex AI's own form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import Conversation, Example
from reconciler.manifests.datasets.conversations import canonical_json
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, VERTEX, load_in, messages, sample, write

_MANIFEST = MANIFEST.replace("data.csv", "d.jsonl").replace("models/gemini-3.5-flash", "gemini-3.5-flash")


def _turn(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text} for text in texts]}


_SYSTEM = {"role": "system", "parts": [{"text": "Be kind."}]}
_SHORT = {"contents": [_turn("user", "1"), _turn("model", "2")]}
_LONG = {"systemInstruction": _SYSTEM, "contents": [*_SHORT["contents"], _turn("user", "ü", "!"), _turn("model", "4")]}


def _lines(*values: Any) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


def _root(folder: Path, *values: Any, manifest: str = _MANIFEST) -> Path:
    return write(sample(folder, manifest=manifest), {"d.jsonl": _lines(*values)})


def test_each_line_is_an_example_in_canonical_form(tmp_path: Path) -> None:
    workspace = load_in(_root(tmp_path, _SHORT, _LONG), capabilities=VERTEX)
    assert not workspace.problems
    (manifest,) = workspace.manifests
    expected = [Conversation(rfc8785.dumps(value).decode()) for value in (_SHORT, _LONG)]
    assert list(workspace.training(manifest)) == expected
    assert (manifest.dataset.digest, manifest.dataset.examples) == (dataset_digest(expected), 2)
    assert manifest.longest_example == len(rfc8785.dumps(_LONG))


def test_how_a_line_is_written_does_not_matter(tmp_path: Path) -> None:
    (one,) = load_in(_root(tmp_path / "a", _SHORT, _LONG), capabilities=VERTEX).manifests
    other = _lines(_SHORT).replace(": ", ":") + "\r\n" + json.dumps(dict(reversed(_LONG.items())), ensure_ascii=False)
    write(_root(tmp_path / "b"), {"d.jsonl": other})
    (two,) = load_in(tmp_path / "b", capabilities=VERTEX).manifests
    assert one.dataset.digest == two.dataset.digest


def test_a_service_of_single_turns_gets_conversations_of_one(tmp_path: Path) -> None:
    one = {"contents": [_turn("user", "1"), _turn("model", "2")]}
    workspace = load_in(_root(tmp_path, {**one, "system_instruction": _SYSTEM}, one), capabilities=CAPABILITIES)
    assert list(workspace.training(workspace.manifests[0])) == [
        Example(f"{_SYSTEM['parts'][0]['text']}\n\n1", "2"),
        Example("1", "2"),
    ]


def test_a_service_of_single_turns_refuses_the_others(tmp_path: Path) -> None:
    tools = {"contents": [_turn("user", "1"), _turn("model", "2")], "tools": [{}]}
    image = {"contents": [{"role": "user", "parts": [{"fileData": {}}]}, _turn("model", "2")]}
    workspace = load_in(_root(tmp_path, *[_LONG] * 12, tools, image), capabilities=CAPABILITIES)
    found = messages(workspace)
    way = "and the test service accepts one input and one output; split the example, or use a Vertex AI target"
    assert found[0] == f"d.jsonl:1:1: spec.dataset.path: has 2 turns, {way}"
    assert found[10].endswith("4 more errors of this data set are not shown; fix the errors above first")


def test_the_preamble_does_not_apply(tmp_path: Path) -> None:
    manifest = _MANIFEST + "    preamble: 'Say: '\n"
    assert messages(load_in(_root(tmp_path, _SHORT, _LONG, manifest=manifest), capabilities=VERTEX)) == [
        (
            "m.yaml:9:15: spec.dataset.preamble: does not apply to spec.dataset, whose examples are in"
            " Vertex AI's format; remove it, and write it into the systemInstruction of each line"
        )
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_two_forms_in_one_file(tmp_path: Path, *, turned: bool) -> None:
    lines = [_SHORT, {"text_input": "1", "output": "2"}]
    (message,) = messages(load_in(_root(tmp_path, *lines[:: -1 if turned else 1]), capabilities=VERTEX))
    forms = "an input and an output", "a conversation"
    expected, found = forms if turned else forms[::-1]
    assert message == (
        f"d.jsonl:2:1: spec.dataset.path: expected {expected} as in the lines above, found {found};"
        " write all lines in one format"
    )


def test_repeated_conversations_are_told(tmp_path: Path) -> None:
    other = {**_LONG, "contents": [*_LONG["contents"][:-1], _turn("model", "another answer")]}
    assert messages(load_in(_root(tmp_path, _SHORT, _LONG, _SHORT, other), capabilities=VERTEX)) == [
        "d.jsonl:3:1: spec.dataset.path: duplicate of the example on line 1; delete one of them",
        (
            "d.jsonl:4:1: spec.dataset.path: same input as the example on line 2, but a different output; delete the"
            " wrong example"
        ),
    ]


_TURNS = "let user and model take turns, beginning with user"
_SURROGATE = "contains an unpaired surrogate character; write the whole character in place of \\ud…"


@each_row(
    ("value", "expected"),
    [
        ({"contents": []}, ["empty contents: expected a list; write the turns of user and model"]),
        (
            {"contents": "hello"},
            ['invalid contents "hello": expected a list; write the turns of user and model'],
        ),
        (
            {"contents": [_turn("model", "2")]},
            [('invalid contents[0].role "model": expected user; alternate user and model, starting with user')],
        ),
        (
            {"contents": [{"parts": [{"text": "1"}]}]},
            [("missing contents[0].role; alternate user and model, starting with user")],
        ),
        (
            {"contents": [_turn("user", "1"), _turn("user", "2")]},
            ['invalid contents[1].role "user": expected model; alternate user and model, starting with user'],
        ),
        ({"contents": [_turn("user", "1")]}, ["contents ends with user; add the answer of the model"]),
        (
            {"contents": ["1", _turn("model", "2")]},
            ['invalid contents[0] "1": expected an object; write {…}'],
        ),
        (
            {"contents": [{"role": "user"}, {"role": "model", "parts": []}]},
            [
                'empty contents[0].parts: expected a list; write [{"text": "…"}]',
                'empty contents[1].parts: expected a list; write [{"text": "…"}]',
            ],
        ),
        (
            {"contents": [{"role": "user", "parts": [{}, "1", {"text": 1}]}, _turn("model", " ")]},
            [
                "contents[1].parts[0].text is empty; fill it in, or delete the example",
                "empty contents[0].parts[0]: expected an object; write {…}",
                'invalid contents[0].parts[1] "1": expected an object; write {…}',
                "invalid contents[0].parts[2].text 1: expected a string; put it in double quotes",
            ],
        ),
        (
            {**_SHORT, "systemInstruction": "Be kind."},
            ['invalid systemInstruction "Be kind.": expected an object; write {…}'],
        ),
        (
            {**_SHORT, "systemInstruction": {"parts": [{"text": ""}]}},
            ["systemInstruction.parts[0].text is empty; fill it in, or delete the example"],
        ),
        (
            {"contents": [_turn("user", "\ud800"), _turn("model", "\0")]},
            [
                f"contents[0].parts[0].text {_SURROGATE}",
                "contents[1].parts[0].text contains a NUL character; remove it",
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_conversation(tmp_path: Path, value: Any, expected: list[str]) -> None:
    workspace = load_in(_root(tmp_path, _LONG, value), capabilities=VERTEX)
    assert [str(problem) for problem in workspace.errors] == [
        f"d.jsonl:2:1: spec.dataset.path: {message}" for message in expected
    ]


_CALL = {"name": "f", "args": {"function_call": 1}}
_ANSWER = {"name": "f", "response": {"file_data": 2}}
_FILE = {"mimeType": "video/mp4", "fileUri": "gs://b/v.mp4"}
_LOW = {"mediaResolution": "MEDIA_RESOLUTION_LOW"}


def _documented(system: str, call: str, answer: str, declared: str, file: str, config: str) -> dict[str, Any]:
    """Return an example with everything that Google documents, in a spelling."""
    return {
        system: {"role": "system", "parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{file: _FILE}, {"text": "q"}]},
            {"role": "model", "parts": [{call: _CALL}]},
            {"role": "function", "parts": [{answer: _ANSWER}]},
            _turn("model", "a"),
        ],
        "tools": [{declared: [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
        config: _LOW,
    }


def test_both_spellings_of_google_are_one_example(tmp_path: Path) -> None:
    camel = _documented(
        *("systemInstruction", "functionCall", "functionResponse", "functionDeclarations", "fileData"),
        "generationConfig",
    )
    snake = _documented(
        *("system_instruction", "function_call", "function_response", "function_declarations", "file_data"),
        "generation_config",
    )
    workspace = load_in(_root(tmp_path, camel, snake), capabilities=VERTEX)
    assert [str(problem) for problem in workspace.errors] == []
    assert list(workspace.training(workspace.manifests[0])) == [Conversation(rfc8785.dumps(camel).decode())] * 2


def test_unknown_members_are_one_warning_each(tmp_path: Path) -> None:
    rows = [{"contents": [_turn("user", str(n)), _turn("model", "2")], "label": "x"} for n in range(12)]
    workspace = load_in(_root(tmp_path, *rows, {**_LONG, "tool": []}), capabilities=VERTEX)
    assert messages(workspace) == [
        (
            'd.jsonl:1:1: spec.dataset.path: unknown member "label" in 12 examples; remove it, unless the service'
            " supports it"
        ),
        'd.jsonl:13:1: spec.dataset.path: unknown member "tool"; did you mean tools?',
    ]
    assert [problem.severity for problem in workspace.problems] == ["warning", "warning"]
    assert len(list(workspace.training(workspace.manifests[0]))) == 13


_ANOTHER_WAY = "rewrite or delete the example"


@each_row(
    ("part", "message"),
    [
        ("9007199254740993", "contains a number that JSON readers may read differently"),
        ("1" * 5000, "contains a number that JSON readers may read differently"),
        ("1e999", "contains a number that JSON readers may read differently"),
        ("NaN", "contains a number that JSON readers may read differently"),
        ('"\\ud800"', "contains an unpaired surrogate character"),
        ('{"\\ud800": 1}', "contains an unpaired surrogate character"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
    ],
    ids=lambda value: value[:20],
)
def test_what_has_no_canonical_form(tmp_path: Path, part: str, message: str) -> None:
    text = _lines(_SHORT) + _lines({"contents": [_turn("user", "1"), _turn("model", "2")]}).replace(
        '"text": "1"', f'"text": "1", "x": {part}'
    )
    workspace = load_in(write(_root(tmp_path), {"d.jsonl": text}), capabilities=VERTEX)
    assert [str(problem) for problem in workspace.errors] == [
        f"d.jsonl:2:1: spec.dataset.path: {message}; {_ANOTHER_WAY}"
    ]


def test_numbers_and_other_parts_keep_their_values(tmp_path: Path) -> None:
    call = {"functionCall": {"name": "f", "args": {"n": 9007199254740991, "m": -0.5, "k": 3.0, "big": 1e21}}}
    picture = {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/x.png"}}
    value = {"contents": [{"role": "user", "parts": [picture]}, {"role": "model", "parts": [call]}], "tools": [{}]}
    workspace = load_in(_root(tmp_path, value, _SHORT), capabilities=VERTEX)
    assert not workspace.problems
    first = next(iter(workspace.training(workspace.manifests[0])))
    assert isinstance(first, Conversation)
    assert json.loads(first.line) == value
    assert '{"big":1e+21,"k":3,"m":-0.5,"n":9007199254740991}' in first.line


@each_row("text", [_lines(_SHORT), _lines(_SHORT, {"contents": [9007199254740993]}), "{"])
def test_conversations_that_change_before_the_create_are_refused(tmp_path: Path, text: str) -> None:
    workspace = load_in(_root(tmp_path, _SHORT, _LONG), capabilities=VERTEX)
    write(tmp_path, {"d.jsonl": text})
    with pytest.raises(ReconcileError, match=r"^d\.jsonl has changed since the plan was made; run the command again$"):
        list(workspace.training(workspace.manifests[0]))


_KEYS = st.text(st.characters(exclude_categories=["Cs"]))
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_the_canonical_form_is_that_of_rfc_8785(value: dict[str, Any]) -> None:
    assert canonical_json(value).encode() == rfc8785.dumps(value)
