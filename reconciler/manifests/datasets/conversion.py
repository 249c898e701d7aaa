"""Convert a data file to another format, without loss: each example is read back, and compared with the original."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import PurePath
from typing import Any, Final

from msgspec import Struct

from reconciler.domain.document import escape_unseen
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.text import counted, one_of
from reconciler.manifests.datasets.conversations import canonical_json
from reconciler.manifests.datasets.data_files import DataFile, read_valid
from reconciler.manifests.datasets.file_formats import complete_options
from reconciler.manifests.datasets.records import ConversationRow, Fault, ReadOptions, Record, Row
from reconciler.manifests.datasets.shapes import read_shape

_FIRST: Final = 3
"""The number of examples that a message lists."""
_PAIR: Final = 2


class LossyError(Exception):
    """An example cannot be written in a format: what it has, for users."""


class Conversation(Struct, frozen=True):
    """An example of any shape: its texts and function calls, in a form in which equal examples are equal.

    ``turns`` have the role and the parts; texts of one turn that follow each other are joined. ``more`` has the members
    that only Vertex AI's format has.
    """

    turns: list[tuple[str, list[dict[str, Any]]]]
    system: str = ""
    tools: list[dict[str, Any]] = []
    more: Mapping[str, Any] = {}

    @property
    def texts(self) -> list[str]:
        """The text of each turn; raises LossyError if a turn has something else."""
        if self.tools or self.more:
            raise LossyError(one_of([*(["tools"] if self.tools else []), *sorted(self.more)], "and"))
        if any(part.keys() != {"text"} for _, parts in self.turns for part in parts):
            raise LossyError("parts that are not text")
        return ["".join(part["text"] for part in parts) for _, parts in self.turns]


def conversation_of(row: Row | ConversationRow) -> Conversation:
    """Return a valid example in the form that all formats are written from."""
    if isinstance(row, Row):
        return Conversation([("user", [{"text": row.input}]), ("model", [{"text": row.output}])])
    value = row.value
    known = {"contents", "systemInstruction", "tools"}
    tools = [tool for tool in value.get("tools", ()) if isinstance(tool, dict)]
    declared = [function for tool in tools for function in tool.get("functionDeclarations", ())]
    other_tools = [tool for tool in value.get("tools", ()) if not isinstance(tool, dict) or set(tool) - _FUNCTIONS]
    more = {name: member for name, member in value.items() if name not in known}
    return Conversation(
        turns=[("model" if turn["role"] == "model" else "user", _joined(turn["parts"])) for turn in value["contents"]],
        system="".join(part.get("text", "") for part in value.get("systemInstruction", {}).get("parts", ())),
        tools=declared,
        more={**more, "tools": other_tools} if other_tools else more,
    )


_FUNCTIONS: Final = {"functionDeclarations"}


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for part in parts:
        if joined and part.keys() == joined[-1].keys() == {"text"}:
            joined[-1] = {"text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def _identity(conversation: Conversation) -> str:
    return canonical_json(
        {
            "turns": [[role, parts] for role, parts in conversation.turns],
            "system": conversation.system,
            "tools": conversation.tools,
            "more": dict(conversation.more),
        }
    )


def _pair(conversation: Conversation) -> tuple[str, str]:
    texts = conversation.texts
    if len(texts) > _PAIR:
        raise LossyError(counted(len(texts) // _PAIR, "turn"))
    if conversation.system:
        raise LossyError("a system instruction")
    return texts[0], texts[1]


def _contents(conversation: Conversation) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if conversation.system:
        value["systemInstruction"] = {"parts": [{"text": conversation.system}]}
    value["contents"] = [{"role": role, "parts": parts} for role, parts in conversation.turns]
    tools = [{"functionDeclarations": conversation.tools}] if conversation.tools else []
    if tools or "tools" in conversation.more:
        value["tools"] = [*tools, *conversation.more.get("tools", ())]
    return {**conversation.more, **value}


def _messages(conversation: Conversation) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    calls = _Calls()
    for role, parts in conversation.turns:
        if role == "model":
            messages.append(_assistant(parts, calls))
        else:
            messages += (_user(part, calls) for part in parts)
    tools = [{"type": "function", "function": function} for function in conversation.tools]
    return {"messages": messages, **({"tools": tools} if tools else {})}


class _Calls:
    """The IDs of function calls, which Vertex AI's format does not have: an answer belongs to the first open call."""

    def __init__(self) -> None:
        self._number = 0
        self._open: dict[str, deque[str]] = {}

    def open(self, name: str) -> str:
        self._number += 1
        self._open.setdefault(name, deque()).append(f"call_{self._number}")
        return f"call_{self._number}"

    def close(self, name: Any) -> str:
        pending = self._open.get(name)
        if not pending:
            raise LossyError("an answer without a function call")
        return pending.popleft()


def _assistant(parts: list[dict[str, Any]], calls: _Calls) -> dict[str, Any]:
    texts = [part["text"] for part in parts if part.keys() == {"text"}]
    called = [part["functionCall"] for part in parts if part.keys() == {"functionCall"}]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if called:
        message["tool_calls"] = [
            {
                "id": calls.open(call["name"]),
                "type": "function",
                "function": {"name": call["name"], "arguments": _compact(call.get("args", {}))},
            }
            for call in called
        ]
    return message


def _user(part: dict[str, Any], calls: _Calls) -> dict[str, Any]:
    if part.keys() == {"text"}:
        return {"role": "user", "content": part["text"]}
    if part.keys() != {"functionResponse"}:
        raise LossyError("parts that are neither texts nor answers to function calls")
    answer = part["functionResponse"]
    call = calls.close(answer.get("name"))
    return {"role": "tool", "tool_call_id": call, "content": _compact(answer.get("response", {}))}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    speakers = ("human", "gpt")
    turns = [{"from": speakers[index % _PAIR], "value": text} for index, text in enumerate(conversation.texts)]
    system = {"system": conversation.system} if conversation.system else {}
    return {**system, "conversations": turns}


def _alpaca(conversation: Conversation) -> dict[str, Any]:
    *before, instruction, output = conversation.texts
    value: dict[str, Any] = {"instruction": instruction, "input": "", "output": output}
    if conversation.system:
        value["system"] = conversation.system
    if before:
        value["history"] = [list(turn) for turn in zip(before[::_PAIR], before[1::_PAIR], strict=True)]
    return value


def _prompt_completion(conversation: Conversation) -> dict[str, Any]:
    return dict(zip(("prompt", "completion"), _pair(conversation), strict=True))


def _input_output(conversation: Conversation) -> dict[str, Any]:
    return dict(zip(("text_input", "output"), _pair(conversation), strict=True))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Target(Struct, frozen=True):
    """A format to convert to: how an example is written, and the key of the shape that it is read back in.

    ``containers`` are the file formats that it can be in, the default first.
    """

    write: Callable[[Conversation], dict[str, Any]]
    shape: str = ""
    containers: tuple[str, ...] = ("jsonl", "json")


TARGETS: Final[Mapping[str, Target]] = {
    "csv": Target(_input_output, containers=("csv",)),
    "tsv": Target(_input_output, containers=("tsv",)),
    "jsonl": Target(_input_output, containers=("jsonl",)),
    "json": Target(_input_output, containers=("json",)),
    "prompt-completion": Target(_prompt_completion),
    "messages": Target(_messages, "messages"),
    "contents": Target(_contents, "contents"),
    "sharegpt": Target(_sharegpt, "sharegpt"),
    "alpaca": Target(_alpaca, "alpaca"),
}
"""The formats by the names that ``data convert --to`` accepts."""
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}


def output_options(path: str, target: str) -> ReadOptions:
    """Return the file format and the compression of the output; an empty path is standard output.

    Raises UsageError if the suffix stands for a format that the target cannot be in.
    """
    allowed = TARGETS[target].containers
    try:
        options = complete_options(PurePath(path or "-").name, ReadOptions(format="" if path else allowed[0]))
    except ReconcileError:
        options = None
    if options is None or options.format not in allowed:
        endings = one_of([f".{container}" for container in allowed])
        raise UsageError(f"{path} has no ending for {target}", f"name a file that ends in {endings}, or add .gz to it")
    return options


def check_conversion(data: DataFile, target: str) -> int:
    """Return the number of examples of a file, all of which can be converted to a format without loss.

    Raises:
        InvalidInput: an example is invalid.
        ReconcileError: examples would lose something: their number, and the first of them.
    """
    examples = lossy = 0
    first, keeping = [], ["messages", "contents"]
    for record in read_valid(data):
        examples += 1
        try:
            _convert(record.row, TARGETS[target])
        except LossyError as error:
            lossy += 1
            keeping = [other for other in keeping if _is_lossless(record.row, other)]
            if lossy <= _FIRST:
                place = data.source.locate(record.number)[0]
                example = f" (example {record.ordinal})" if data.source.counts_items else ""
                first.append(f"line {place.line}{example} has {error}")
    if lossy:
        more = [f"{lossy - _FIRST:,} more"] if lossy > _FIRST else []
        message = f"{data.shown}: {lossy:,} of {counted(examples, 'example')} would lose something as {target}"
        remedy = f"convert to {one_of(keeping)}" if keeping else "keep the file as it is"
        raise ReconcileError(f"{message}: {one_of([*first, *more], 'and')}", remedy)
    return examples


def converted(data: DataFile, target: str, container: str) -> Iterator[str]:
    """Yield the text of a file in another format; see :func:`check_conversion`."""
    values = (_convert(record.row, TARGETS[target]) for record in read_valid(data))
    if container in _DELIMITERS:
        yield from _table(values, _DELIMITERS[container])
    elif container == "jsonl":
        yield from (f"{_json(value)}\n" for value in values)
    else:
        separator = "[\n"
        for value in values:
            yield f"{separator}{_json(value)}"
            separator = ",\n"
        yield "\n]\n" if separator != "[\n" else "[]\n"


def _json(value: dict[str, Any]) -> str:
    return escape_unseen(json.dumps(value, ensure_ascii=False))


def _table(values: Iterator[dict[str, Any]], delimiter: str) -> Iterator[str]:
    row = io.StringIO(newline="")
    writer = csv.writer(row, delimiter=delimiter, lineterminator="\n")
    for cells in chain([("text_input", "output")], (value.values() for value in values)):
        writer.writerow(cells)
        yield row.getvalue()
        row.seek(0)
        row.truncate()


def _convert(row: Row | ConversationRow, target: Target) -> dict[str, Any]:
    """Return an example as a target writes it; raises LossyError if it does not read back to the same example."""
    conversation = conversation_of(row)
    value = target.write(conversation)
    if target.shape:
        again: Record = read_shape(row.number, value, ReadOptions(shape=target.shape))
        if isinstance(again, Fault) or _identity(conversation_of(again)) != _identity(conversation):
            raise LossyError(_what_is_lost(conversation, target))
    return value


def _is_lossless(row: Row | ConversationRow, target: str) -> bool:
    try:
        _convert(row, TARGETS[target])
    except LossyError:
        return False
    return True


def _what_is_lost(conversation: Conversation, target: Target) -> str:
    if conversation.more and target.shape != "contents":
        return one_of(sorted(conversation.more), "and")
    return "parts that this format does not have"
