"""Turn conversations into tokens, and decide which tokens are trained.

The loss is computed on the answers of the assistant alone. A chat template does not report where they are, so each
answer is the difference between two renderings: the conversation up to it, with the generation prompt, and the
conversation that includes it. Every answer is thus trained after exactly the text that precedes it at inference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.model import Method
from reconciler.domain.text import counted, sanitize
from reconciler.trainer.run_files import CheckProblem, RowTokens

IGNORED: Final = -100
"""The label of a token that is not trained."""
_LONGEST_REASON: Final = 200
_RAISE: Final = "raise maxLength to {} or omit it"
"""Where an example does not fit: the longest one of the file does then."""
Messages = list[dict[str, Any]]


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    bos_token_id: int | None
    all_special_tokens: list[str]

    def apply_chat_template(self, conversation: Messages, **options: Any) -> Any:
        """Render a conversation."""
        ...

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """Return the tokens of a text."""
        ...

    def decode(self, token_ids: Any) -> Any:
        """Return the text of tokens."""
        ...


class RowError(Exception):
    """An example cannot be trained: what is wrong, and the remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class Tokens(Struct, frozen=True):
    """A sequence of tokens with their labels."""

    ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """The number of tokens that are trained."""
        return sum(label != IGNORED for label in self.labels)


class Pair(Struct, frozen=True):
    """A prompt with the preferred and the rejected answer."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class TokenizedData(Struct):
    """All examples of a file as tokens, and the problems that were found."""

    rows: list[Tokens]
    pairs: list[Pair]
    lengths: list[RowTokens]
    errors: list[CheckProblem]
    warnings: list[CheckProblem]

    @property
    def longest(self) -> int:
        """The number of tokens of the longest sequence."""
        sequences = (len(row.ids) for row in self.rows)
        pairs = (len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in self.pairs)
        return max((*sequences, *pairs), default=0)


def tokenize_file(
    path: Path,
    tokenizer: Tokenizer,
    ends: Collection[int],
    *,
    method: Method,
    max_length: int | None,
    context: int | None,
) -> TokenizedData:
    """Return the examples of a file as tokens.

    Args:
        path: A file with a canonical conversation in each line.
        tokenizer: The tokenizer of the base model.
        ends: The tokens that end a turn; generation stops at them.
        method: Whether the examples are conversations or preferences.
        max_length: The declared limit of tokens; a longer example is an error, because nothing is cut.
        context: The number of tokens that the model supports, if it is known.

    Raises:
        OSError: the file cannot be read.
    """
    data = TokenizedData([], [], [], [], [])
    limits = [(max_length, _RAISE)] if max_length else []
    if context:
        limits.append((context, f"shorten the example: the base model supports {context} tokens"))
    reader, longest = _Reader(tokenizer, ends), 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                rows, pair = reader.read(line, method)
                tokens, trained = _measure(rows, pair)
                data.lengths.append(RowTokens(line=number, tokens=tokens, trained=trained))
                sequences = [*rows, *_sequences(pair)]
                longest = max(longest, *(len(row.ids) for row in sequences))
                for limit, remedy in limits:
                    _require_fit(sequences, limit, remedy)
            except RowError as error:
                problem = CheckProblem(
                    message=f"row {number}: {error}", remedy=error.remedy, file=path.name, line=number
                )
                data.errors.append(problem)
                continue
            data.rows += rows
            data.pairs += [pair] if pair else []
            data.warnings += [
                CheckProblem(message=f"row {number}: {message}", remedy=remedy, file=path.name, line=number)
                for message, remedy in reader.warnings(rows)
            ]
    raised = {_RAISE: _RAISE.format(longest)}
    data.errors = [replace(problem, remedy=raised.get(problem.remedy, problem.remedy)) for problem in data.errors]
    if not data.lengths and not data.errors:
        data.errors.append(CheckProblem(message="no examples", remedy="add examples", file=path.name))
    return data


def _measure(rows: list[Tokens], pair: Pair | None) -> tuple[int, int]:
    if pair:
        tokens = 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)
        return tokens, len(pair.chosen) + len(pair.rejected)
    return sum(len(row.ids) for row in rows), sum(row.trained for row in rows)


def _sequences(pair: Pair | None) -> list[Tokens]:
    if pair is None:
        return []
    masked = [IGNORED] * len(pair.prompt)
    return [Tokens(pair.prompt + answer, masked + answer) for answer in (pair.chosen, pair.rejected)]


def _require_fit(sequences: Iterable[Tokens], limit: int, remedy: str) -> None:
    for row in sequences:
        if len(row.ids) > limit:
            trained = Tokens(row.ids[:limit], row.labels[:limit]).trained
            message = f"has {counted(len(row.ids), 'token')}: {trained} of {limit} tokens are trained"
            raise RowError(message, remedy)


class _Reader:
    """Read the lines of a file."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._prompt_differs = False
        self._split = False

    def read(self, line: str, method: Method) -> tuple[list[Tokens], Pair | None]:
        """Return the sequences, or the pair, of an example; raises RowError."""
        try:
            value = json.loads(line)
        except ValueError:
            raise RowError("not a JSON object", "write one conversation on each line") from None
        if not isinstance(value, dict):
            raise RowError("not a JSON object", "write one conversation on each line")
        self._prompt_differs = self._split = False
        if method == "preference":
            return [], self._pair(value)
        messages, tools = messages_of(value), tools_of(value)
        if not messages or messages[-1]["role"] != "assistant":
            raise RowError("does not end with an answer of the model", "add the answer")
        return self._rows(messages, tools), None

    def warnings(self, rows: Iterable[Tokens]) -> Iterator[tuple[str, str]]:
        """Yield warnings about the example that was read last, with remedies."""
        if self._prompt_differs:
            yield (
                "the chat template starts an answer differently than its generation prompt",
                "check the first answers of the tuned model",
            )
        count = sum(1 for _ in rows)
        if self._split:
            yield (
                f"trained as {count} sequences, because the chat template changes earlier turns",
                "count them as examples when you choose epochCount",
            )

    def _rows(self, messages: Messages, tools: list[Any] | None) -> list[Tokens]:
        """Return one sequence with all answers, or several where the template changes earlier turns."""
        rows: list[Tokens] = []
        text, spans = "", list[tuple[int, int]]()
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = self._around(messages[:index], message, tools)
            if not before.startswith(text):
                rows.append(self._tokens(text, spans))
                spans = []
                self._split = True
            text = after
            spans.append((len(before), len(after)))
        return [*rows, self._tokens(text, spans)]

    def _around(self, before: Messages, answer: dict[str, Any], tools: list[Any] | None) -> tuple[str, str]:
        """Return the text before an answer, and the text that includes it."""
        prompt = self._render(before, tools, prompt=True)
        whole = self._render([*before, answer], tools, prompt=False)
        if whole.startswith(prompt):
            return prompt, whole
        history = self._render(before, tools, prompt=False)
        if not whole.startswith(history):
            raise RowError("the chat template changes the text before an answer", "use a model with another template")
        self._prompt_differs = True
        return os.path.commonprefix([prompt, whole]), whole  # noqa: RUF071 - texts, compared by characters

    def _render(self, messages: Messages, tools: list[Any] | None, *, prompt: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:
            reason = sanitize(str(error))[:_LONGEST_REASON]
            raise RowError(
                f"the chat template of the base model fails: {reason}", _template_remedy(messages)
            ) from error
        return str(text)

    def _tokens(self, text: str, spans: list[tuple[int, int]]) -> Tokens:
        ids = self._ids(text)
        bounds = [bound for span in spans for bound in span]
        pieces = [len(self._ids(text[:bound])) for bound in bounds]
        if any(self._ids(text[:bound]) != ids[:piece] for bound, piece in zip(bounds, pieces, strict=True)):
            ids, pieces = self._by_pieces(text, bounds)
        labels = [IGNORED] * len(ids)
        for start, end in zip(pieces[::2], pieces[1::2], strict=True):
            last = next((at for at in range(end - 1, start - 1, -1) if ids[at] in self._ends), None)
            if last is None:
                raise RowError(
                    "the chat template does not end the answer with the end-of-turn token: the model would never stop",
                    "use a base model whose chat template and eos_token agree, usually its instruct version",
                )
            labels[start : last + 1] = ids[start : last + 1]  # what follows the end of the turn is never generated
        self._require_one_bos(ids)
        return Tokens(ids, labels)

    def _by_pieces(self, text: str, bounds: list[int]) -> tuple[list[int], list[int]]:
        """Return the tokens where some would span the start of an answer: at inference they cannot."""
        ids: list[int] = []
        ends: list[int] = []
        for start, end in zip([0, *bounds], [*bounds, len(text)], strict=True):
            ids += self._ids(text[start:end])
            ends.append(len(ids))
        if self._tokenizer.decode(ids) != self._tokenizer.decode(self._ids(text)):
            raise RowError(
                "tokens span the start of an answer, and the text changes without them",
                "begin the answer without whitespace",
            )
        return ids, ends[:-1]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _require_one_bos(self, ids: list[int]) -> None:
        bos = self._tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            raise RowError(
                "starts with two BOS tokens", "remove the token from the text, or from the chat template of the model"
            )

    def _pair(self, value: Mapping[str, Any]) -> Pair:
        messages, tools = messages_of(value), tools_of(value)
        chosen, rejected = completions_of(value)
        if not messages or messages[-1]["role"] == "assistant":
            raise RowError("contents does not end with the user", "move the answers into completions")
        chosen_row, rejected_row = (self._rows([*messages, answer], tools)[-1] for answer in (chosen, rejected))
        prompts, answers = zip(
            *(_split_answer(row, self._answer_start(row)) for row in (chosen_row, rejected_row)), strict=True
        )
        if prompts[0] != prompts[1]:
            raise RowError("the two completions start after different prompts", "use a model with another template")
        if answers[0] == answers[1]:
            raise RowError("both completions are equal: nothing can be preferred", "delete the example")
        return Pair(prompts[0], answers[0], answers[1])

    @staticmethod
    def _answer_start(row: Tokens) -> int:
        """Return the index of the first token of the last answer."""
        at = len(row.labels)
        while at and row.labels[at - 1] == IGNORED:
            at -= 1
        while at and row.labels[at - 1] != IGNORED:
            at -= 1
        return at


def _split_answer(row: Tokens, start: int) -> tuple[list[int], list[int]]:
    return row.ids[:start], [label for label in row.labels[start:] if label != IGNORED]


def _template_remedy(messages: Messages) -> str:
    if messages and messages[0]["role"] == "system":
        return "move the system instruction into the first text of the user, or use a model that supports it"
    return "change the example, or use a model with another chat template"


def messages_of(value: Mapping[str, Any]) -> Messages:
    """Return the turns of a canonical conversation as messages of a chat template; raises RowError."""
    contents = value.get("contents")
    if not isinstance(contents, list) or not contents:
        raise RowError("has no contents", "write the turns of user and model")
    messages: Messages = []
    if system := value.get("systemInstruction"):
        messages.append({"role": "system", "content": _text(_parts(system))})
    for content in contents:
        messages += _turn(_parts(content), content.get("role"))
    return messages


def _turn(parts: list[dict[str, Any]], role: Any) -> Messages:
    if role == "model":
        return [_answer(parts)]
    if role not in {"user", "function"}:
        raise RowError(f"has a turn of the role {sanitize(str(role))}", "use the roles user and model")
    answers: Messages = [
        {
            "role": "tool",
            "name": part["functionResponse"].get("name", ""),
            "content": json.dumps(part["functionResponse"].get("response"), ensure_ascii=False),
        }
        for part in parts
        if isinstance(part.get("functionResponse"), dict)
    ]
    texts = [part for part in parts if "functionResponse" not in part]
    return [*answers, {"role": "user", "content": _text(texts)}] if texts else answers


def _answer(parts: list[dict[str, Any]]) -> dict[str, Any]:
    calls = [part["functionCall"] for part in parts if isinstance(part.get("functionCall"), dict)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _text([part for part in parts if "functionCall" not in part]),
    }
    if calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.get("name", ""), "arguments": call.get("args", {})}}
            for call in calls
        ]
    return message


def _parts(content: Any) -> list[dict[str, Any]]:
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise RowError("has a turn without parts", 'write {"role": "user", "parts": [{"text": "…"}]}')
    return parts


def _text(parts: list[dict[str, Any]]) -> str:
    if any(not isinstance(part.get("text"), str) for part in parts):
        raise RowError("has a part that is not text", "remove it: this trainer supports text and function calls")
    return "".join(part["text"] for part in parts)


def tools_of(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the functions of a canonical conversation as tools of a chat template."""
    declared = [
        {"type": "function", "function": function}
        for tool in value.get("tools") or ()
        for function in tool.get("functionDeclarations") or ()
    ]
    return declared or None


def completions_of(value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the preferred and the rejected answer of an example, as messages of a chat template; raises RowError."""
    remedy = 'write {"completions": [{"score": 1, "completion": {…}}, {"score": 0, "completion": {…}}]}'
    completions = value.get("completions")
    if not isinstance(completions, list) or len(completions) != 2:  # noqa: PLR2004 - preferred and rejected
        raise RowError("does not have two completions", remedy)
    scored = []
    for completion in completions:
        score = completion.get("score") if isinstance(completion, dict) else None
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise RowError("has a completion without a score", remedy)
        scored.append((score, _answer(_parts(completion.get("completion")))))
    scored.sort(key=lambda pair: -pair[0])
    if scored[0][0] == scored[1][0]:
        raise RowError("has two completions of the same score", remedy)
    return scored[0][1], scored[1][1]
