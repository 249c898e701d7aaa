"""Which tokens of a conversation are trained, with a tokenizer of characters and the chat templates of known models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reconciler.trainer.rows import IGNORED, TokenizedData, tokenize_file
from reconciler.trainer.run_files import Method
from support.training import conversation, preference, turn, write_rows

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n{% endif %}" + CHATML
LLAMA2 = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (  # as Qwen3 does, only the last answer has thoughts
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORCED = CHATML.replace("assistant\n{% endif", "assistant\n<think>{% endif")
"""The generation prompt has more than the template renders for an answer."""
TOOLS = (
    "{% if tools %}<tools>{{ tools | tojson }}{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for call in message.tool_calls or [] %}<call>{{ call.function | tojson }}{% endfor %}{{ message.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class CharacterTokenizer:
    """A tokenizer of characters and special tokens; ``merged`` are texts that are one token."""

    SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")

    def __init__(self, template: str, merged: tuple[str, ...] = ()) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = self._fail
        self._template = environment.from_string(template)
        self._pattern = re.compile("|".join(map(re.escape, (*self.SPECIAL, *merged))) + "|.", re.DOTALL)
        self._numbers = {token: number for number, token in enumerate((*self.SPECIAL, *merged))}
        self.bos_token_id: int | None = 0
        self.all_special_tokens = list(self.SPECIAL)

    @staticmethod
    def _fail(message: str) -> None:
        raise ValueError(message)

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> str:
        del options["tokenize"]
        return self._template.render(messages=conversation, bos_token="<s>", eos_token="</s>", **options)

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        tokens = self._pattern.findall(text)
        return {"input_ids": [self._numbers.get(token, ord(token[0]) + 100) for token in tokens]}

    def decode(self, token_ids: list[int]) -> str:
        tokens = list(self._numbers)
        return "".join(tokens[number] if number < len(tokens) else chr(number - 100) for number in token_ids)


CHATML_END, LLAMA_END = 3, 1


def read(
    folder: Path,
    rows: list[dict[str, Any]],
    tokenizer: CharacterTokenizer,
    *,
    method: Method = "supervised",
    max_length: int | None = None,
    context: int | None = None,
) -> TokenizedData:
    write_rows(folder / "examples.jsonl", rows)
    return tokenize_file(
        folder / "examples.jsonl",
        tokenizer,
        {CHATML_END, LLAMA_END},
        method=method,
        max_length=max_length,
        context=context,
    )


def trained(data: TokenizedData, tokenizer: CharacterTokenizer) -> list[list[str]]:
    """Return the trained spans of each sequence."""
    spans = []
    for row in data.rows:
        assert all(label in {IGNORED, token} for token, label in zip(row.ids, row.labels, strict=True))
        marked = [tokenizer.decode([label]) if label != IGNORED else "\0" for label in row.labels]
        spans.append([span for span in "".join(marked).split("\0") if span])
    return spans


@pytest.mark.parametrize("template", [CHATML, WITH_SYSTEM])
def test_the_answers_and_their_ends_alone_are_trained(tmp_path: Path, template: str) -> None:
    tokenizer = CharacterTokenizer(template)
    data = read(tmp_path, [conversation("a", "b"), conversation("a", "bc", "d", "ef")], tokenizer)
    assert data.errors == data.warnings == []
    assert trained(data, tokenizer) == [["b<|im_end|>"], ["bc<|im_end|>", "ef<|im_end|>"]]
    assert [(row.line, row.trained) for row in data.lengths] == [(1, 2), (2, 6)]


def test_a_template_with_bos_has_one(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(LLAMA2)
    data = read(tmp_path, [conversation("a", "b")], tokenizer)
    assert tokenizer.decode(data.rows[0].ids) == "<s>[INST] a [/INST] b</s>"
    assert trained(data, tokenizer) == [[" b</s>"]]


def test_answers_are_trained_apart_if_the_template_changes_earlier_turns(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(THINKING)
    data = read(tmp_path, [conversation("a", "b", "c", "d")], tokenizer)
    assert [tokenizer.decode(row.ids) for row in data.rows] == [
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think></think>b<|im_end|>\n",
        (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think></think>d<|im_end|>\n"
        ),
    ]
    assert trained(data, tokenizer) == [["<think></think>b<|im_end|>"], ["<think></think>d<|im_end|>"]]
    (warning,) = data.warnings
    assert warning.message == "row 1: trained as 2 sequences, because the chat template changes earlier turns"


def test_a_longer_generation_prompt_is_a_warning(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(FORCED)
    data = read(tmp_path, [conversation("a", "b")], tokenizer)
    assert trained(data, tokenizer) == [["b<|im_end|>"]]
    assert "starts an answer differently than its generation prompt" in data.warnings[0].message


def test_a_token_does_not_span_the_start_of_an_answer(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(CHATML, merged=("\nb",))
    data = read(tmp_path, [conversation("a", "bc", "d", "bx")], tokenizer)
    assert trained(data, tokenizer) == [["bc<|im_end|>", "bx<|im_end|>"]]
    prompt = tokenizer("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert data.rows[0].ids[: len(prompt)] == prompt


def test_functions_are_rendered_as_tools(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(TOOLS)
    call = {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"x": 1}}}]}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": {"sum": 2}}}]}
    row = {
        "contents": [turn("user", "a"), call, result, turn("model", "two")],
        "tools": [{"functionDeclarations": [{"name": "add"}]}],
    }
    data = read(tmp_path, [row], tokenizer)
    spans = [['<call>{"arguments": {"x": 1}, "name": "add"}<|im_end|>', "two<|im_end|>"]]
    assert trained(data, tokenizer) == spans
    text = tokenizer.decode(data.rows[0].ids)
    assert text.startswith('<tools>[{"function": {"name": "add"}, "type": "function"}]')
    assert '<|im_start|>tool\n{"sum": 2}<|im_end|>' in text


def test_both_answers_of_a_preference_follow_the_prompt(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer(CHATML)
    data = read(tmp_path, [preference("a", "good", "bad")], tokenizer, method="preference")
    (pair,) = data.pairs
    assert tokenizer.decode(pair.prompt) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert [tokenizer.decode(answer) for answer in (pair.chosen, pair.rejected)] == ["good<|im_end|>", "bad<|im_end|>"]
    assert data.lengths[0].trained == 9


LONG = conversation("a" * 100, "b")
PART = {"inlineData": {"mimeType": "image/png"}}


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        (CHATML, LONG, "has 122 tokens: 0 of 60 tokens are trained; raise maxLength to 122 or omit it"),
        (CHATML, conversation("a", "b" * 60), "has 82 tokens: 40 of 60 tokens are trained; raise"),
        (CHATML, preference("a", "b" * 60, "c"), "has 81 tokens: 40 of 60 tokens are trained; raise maxLe"),
        (CHATML.replace("<|im_end|>", ""), conversation("a", "b"), "the chat template does not end the answer"),
        ("<s>" + LLAMA2, conversation("a", "b"), "starts with two BOS tokens; remove the token"),
        (
            LLAMA2,
            {**conversation("a", "b"), "systemInstruction": turn("system", "x")},
            "the chat template of the base model fails: no system; move the system instruction into the first text",
        ),
        ("{{ messages[0].content.__class__.mro() }}", conversation("a", "b"), "the chat template of the"),
        ("{{ messages | length }}", conversation("a", "b"), "the chat template changes the text before"),
        (CHATML, conversation("a"), "does not end with an answer of the model; add the answer"),
        (CHATML, {"contents": []}, "has no contents; write the turns of user and model"),
        (CHATML, {"contents": [turn("critic", "a")]}, "has a turn of the role critic; use the roles user and"),
        (CHATML, {"contents": [{"role": "user", "parts": [PART]}]}, "has a part that is not text; remove it"),
        (CHATML, {"contents": [{"role": "user"}]}, "has a turn without parts; write"),
        (CHATML, preference("a", "b", "b"), "both completions are equal: nothing can be preferred; delete"),
        (CHATML, {"contents": [turn("user", "a")], "completions": []}, "does not have two completions; write"),
        (CHATML, {**preference("a", "b", "c"), **conversation("a", "b")}, "contents does not end with"),
    ],
)
def test_an_example_that_cannot_be_trained_is_an_error(
    tmp_path: Path, template: str, row: dict[str, Any], message: str
) -> None:
    method: Method = "preference" if "completions" in row else "supervised"
    good = preference("x", "y", "z") if method == "preference" else conversation("x", "y")
    data = read(tmp_path, [row], CharacterTokenizer(template), method=method, max_length=60)
    assert len(data.errors) == 1, data
    assert str(data.errors[0]).startswith(f"examples.jsonl:1: row 1: {message}")
    if template == CHATML:  # the other rows are read nevertheless
        data = read(tmp_path, [good, row, good], CharacterTokenizer(template), method=method, max_length=60)
        assert [(error.line, len(data.lengths) >= 2) for error in data.errors] == [(2, True)]


def test_an_example_longer_than_the_context_is_an_error(tmp_path: Path) -> None:
    data = read(tmp_path, [LONG], CharacterTokenizer(CHATML), context=100)
    expected = (
        "row 1: has 122 tokens: 0 of 100 tokens are trained; shorten the example: the base model supports 100 tokens"
    )
    assert str(data.errors[0]) == f"examples.jsonl:1: {expected}"


@pytest.mark.parametrize(("line", "message"), [("{", "not a JSON object"), ("[]", "not a JSON object")])
def test_a_line_that_is_not_an_object_is_an_error(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "examples.jsonl").write_text(f"{json.dumps(conversation('a', 'b'))}\n{line}\n", encoding="utf-8")
    data = tokenize_file(
        tmp_path / "examples.jsonl",
        CharacterTokenizer(CHATML),
        {CHATML_END},
        method="supervised",
        max_length=None,
        context=None,
    )
    assert [(error.line, message in error.message) for error in data.errors] == [(2, True)]


def test_a_file_without_examples_is_an_error(tmp_path: Path) -> None:
    assert str(read(tmp_path, [], CharacterTokenizer(CHATML)).errors[0]) == "examples.jsonl: no examples; add examples"


def test_every_remedy_names_the_length_of_the_longest_example(tmp_path: Path) -> None:
    rows = [conversation("a" * 90, "b"), LONG, conversation("a", "b")]
    data = read(tmp_path, rows, CharacterTokenizer(CHATML), max_length=60)
    remedy = "raise maxLength to 122 or omit it"
    assert [(problem.line, problem.remedy) for problem in data.errors] == [(1, remedy), (2, remedy)]
