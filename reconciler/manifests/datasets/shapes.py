"""The shapes of examples in JSON objects and table rows, and how each is read.

A new shape is a row in ``SHAPES``. Chat formats become conversations in Vertex AI's format; see conversations.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.text import counted, invalid, join_names, list_choices, quote
from reconciler.manifests.datasets.conversations import COMPLETIONS, MEMBERS, spell
from reconciler.manifests.datasets.preferences import common_turns, split_texts, transcript
from reconciler.manifests.datasets.records import (
    ConversationRow,
    Fault,
    ReadOptions,
    Record,
    Row,
    as_text,
    missing,
    text_problems,
)

PREFERENCE: Final = "preference"
"""The shape of pairs of answers, one of which was chosen."""
PAIRED: Final = frozenset({PREFERENCE, COMPLETIONS})
"""The shapes of examples with a rejected answer."""
_FILL_IN: Final = "fill it in, or delete the example"
_NO_BEGINNING: Final = "chosen and rejected have no common beginning"
_ADD_PROMPT: Final = "begin both with the same turns, or add prompt"
_Turn = tuple[str, str, list[dict[str, Any]]]
"""The role, the place and the parts of a turn."""
_OPENAI_ROLES: Final = {"user": "user", "assistant": "model", "tool": "tool", "system": "system", "developer": "system"}
_SHAREGPT_ROLES: Final = {
    "human": "user",
    "user": "user",
    "gpt": "model",
    "assistant": "model",
    "model": "model",
    "chatgpt": "model",
    "system": "system",
}


class Shape(Struct, frozen=True):
    """One shape of examples: its name for users, the members that it is recognized by, and how to read one.

    ``optional`` are the other members that are read.
    """

    title: str
    members: tuple[str, ...]
    read: Callable[[int, Mapping[str, Any], ReadOptions], Record]
    optional: tuple[str, ...]


class _InvalidExampleError(Exception):
    """An example cannot be read in its shape: what is wrong, and the remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def read_object(number: int, value: Any, options: ReadOptions) -> Record:
    """Return the example in a JSON object, in the declared shape."""
    if not isinstance(value, dict):
        return Fault(number, invalid(value, "an object", "example"), "write {…} with input and output")
    if options.shape:
        return read_shape(number, value, options)
    given, wanted = as_text(value.get(options.input)), as_text(value.get(options.output))
    if isinstance(given, str) and isinstance(wanted, str):
        return Row(number, given, wanted)
    if "contents" in value and options.input not in value:
        return _read_as(_contents, number, value, options)
    for name in (options.input, options.output):
        if name not in value:
            return missing_field(number, f"missing member {quote(name)}", name, value, options)
    name = options.output if isinstance(given, str) else options.input
    return Fault(number, invalid(value[name], "a string", f"member {quote(name)}"), _text_remedy(value[name]))


def read_shape(number: int, value: Mapping[str, Any], options: ReadOptions) -> Record:
    """Return the example in an object or row, in the shape that ``options`` declare."""
    shape = SHAPES[options.shape]
    for name in shape.members:
        if name not in value:
            found = recognize(value)
            remedy = f"set {options.declared}.shape to {found}" if found else f"expected {list_choices(name, value)}"
            return Fault(number, f"missing member {quote(name)}", remedy, option="shape", form=_form(value))
    return _read_as(shape.read, number, value, options)


def _read_as(
    read: Callable[[int, Mapping[str, Any], ReadOptions], Record],
    number: int,
    value: Mapping[str, Any],
    options: ReadOptions,
) -> Record:
    try:
        return read(number, value, options)
    except _InvalidExampleError as error:
        return Fault(number, str(error), error.remedy)


def recognize(names: Iterable[str]) -> str:
    """Return the key of the shape that has these members or columns; empty if it is none of ``SHAPES``."""
    known = set(names)
    return next((key for key, shape in SHAPES.items() if known.issuperset(shape.members)), "")


def unused_members(examples: Sequence[Mapping[str, Any]], options: ReadOptions) -> tuple[str, ...]:
    """Return the members of examples that their shape does not read, and the rejected answers of preference pairs."""
    shape = SHAPES[options.shape]
    used = {*shape.members, *shape.optional, ""}
    names = dict.fromkeys(name for example in examples for name in example)
    if options.shape == PREFERENCE:
        prompt = _prompt_member(names, options)
        used = used - {"rejected"} | ({prompt} if prompt else {"instruction", "input"})
    elif options.shape == "sharegpt" and any(_has_roles(example["conversations"]) for example in examples):
        used.add("tools")
    return tuple(name for name in names if name not in used)


def missing_field(number: int, message: str, name: str, known: Iterable[str], options: ReadOptions) -> Fault:
    """Return the fault of a missing column or member; the remedy names the shape, if the others show one."""
    names = list(known)
    if shape := recognize(names):
        remedy = f"set {options.declared}.shape to {shape}, for {SHAPES[shape].title}"
        return Fault(number, message, remedy, option="shape", form=_form(names))
    return replace(missing(number, message, name, names, options), form=_form(names))


def _form(names: Iterable[str]) -> str:
    """Return how an example with these members or columns is written, for users."""
    shape = recognize(names := list(names))
    return SHAPES[shape].title if shape else join_names(names, 3)


def _text_remedy(value: Any) -> str:
    """Return the remedy for a value that is not a string; quotes would hide gaps: null, NaN and infinity."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _FILL_IN
    if isinstance(value, float):
        return "write the number in double quotes, with the digits that the model is to use"
    return "name a member with a text" if isinstance(value, list | dict) else "put it in double quotes"


class _Conversation:
    """The turns of an example so far, and the name of the member that they are from."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._system: list[str] = []
        self._contents: list[dict[str, Any]] = []

    def add(self, role: str, place: str, parts: list[dict[str, Any]]) -> None:
        """Add a turn; texts of one role that follow each other are parts of one turn."""
        for part in parts:
            for message, remedy in text_problems(part.get("text", "-"), "turn"):
                raise _InvalidExampleError(f"{place} {message}", remedy)
        if role == "system":
            if self._contents:
                raise _InvalidExampleError(f"{place} has the role system after the first turn", "move it to the start")
            self._system += [part["text"] for part in parts]
        elif self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    def row(self, number: int, tools: Any = None) -> ConversationRow:
        """Return the example, which must start with a user and end with an answer."""
        if not self._contents or self._contents[0]["role"] != "user":
            raise _InvalidExampleError(f"{self.where} has no user before the first answer", "add the text of the user")
        if self._contents[-1]["role"] != "model":
            raise _InvalidExampleError(f"{self.where} ends without an answer", "add the answer, or delete the example")
        value: dict[str, Any] = {"contents": self._contents}
        if self._system:
            value["systemInstruction"] = {"parts": [{"text": "\n\n".join(self._system)}]}
        if tools:
            value["tools"] = tools
        return ConversationRow(number, value)


def _messages(number: int, value: Mapping[str, Any], _: ReadOptions, member: str = "messages") -> Record:
    """Read OpenAI's chat format: https://platform.openai.com/docs/guides/fine-tuning."""
    conversation = _Conversation(member)
    for turn in (*_system_turns(value), *_message_turns(value[member], member)):
        conversation.add(*turn)
    return conversation.row(number, _tools(value))


def _message_turns(messages: Any, member: str) -> Iterator[_Turn]:
    """Yield the role, the place and the parts of each message of OpenAI's chat format."""
    calls: dict[str, str] = {}
    for index, message in enumerate(_objects(messages, member)):
        place = f"{member}[{index}]"
        role = _choose(_OPENAI_ROLES, message.get("role"), f"{place}.role")
        _require_supported(messages, index, place)
        if role == "tool":
            name = calls.get(str(message.get("tool_call_id")), "")
            if not name:
                raise _InvalidExampleError(f"{place} answers no tool call before it", "correct its tool_call_id")
            answer = {"name": name, "response": _answer(message.get("content"))}
            yield "user", place, [{"functionResponse": answer}]
            continue
        parts = _text_parts(message.get("content"), f"{place}.content", optional=bool(message.get("tool_calls")))
        for call in message.get("tool_calls") or ():
            name, arguments = _function(call, f"{place}.tool_calls")
            calls[str(call.get("id"))] = name
            parts.append({"functionCall": {"name": name, "args": arguments}})
        yield role, f"{place}.content", parts


def _require_supported(messages: Sequence[Mapping[str, Any]], index: int, place: str) -> None:
    """Raise for a weight of 0, with the remedy that keeps the answers to train on, and for former function calls."""
    message = messages[index]
    if message.get("function_call"):
        remedy = "write it as tool_calls, and its answer with the role tool"
        raise _InvalidExampleError(f"{place} has function_call, the former name of tool_calls", remedy)
    if message.get("weight", 1) == 0:
        trained = [
            number for number, turn in enumerate(messages) if turn.get("role") == "assistant" and turn.get("weight", 1)
        ]
        remedy = "set its weight to 1, or delete the example"
        if trained:
            after = "remove the turns after the last answer to train on"
            remedy = after if trained[-1] < index else "set its weight to 1 to train on it too, or delete the example"
        raise _InvalidExampleError(f"{place} has the weight 0, which no supported service knows", remedy)


def _tools(value: Mapping[str, Any]) -> Any:
    if value.get("functions"):
        remedy = 'write [{"type": "function", "function": {…}}] as tools'
        raise _InvalidExampleError("has functions, the former name of tools", remedy)
    declared = [_declaration(tool) for tool in _objects(value.get("tools") or [], "tools")]
    return [{"functionDeclarations": declared}] if declared else None


def _answer(content: Any) -> dict[str, Any]:
    """Return the result of a function as an object, which Vertex AI expects."""
    try:
        value = json.loads(content) if isinstance(content, str) else content
    except ValueError:
        value = content
    return value if isinstance(value, dict) else {"content": value}


def _function(call: Any, place: str) -> tuple[str, dict[str, Any]]:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    try:
        arguments = json.loads(function["arguments"] or "{}") if isinstance(function, dict) else None
    except (KeyError, TypeError, ValueError):
        arguments = None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        remedy = 'write {"function": {"name": "…", "arguments": "{…}"}}'
        raise _InvalidExampleError(f"{place} has a call without a name and arguments in JSON", remedy)
    return name, arguments


def _declaration(tool: Mapping[str, Any]) -> Any:
    if not isinstance(tool.get("function"), dict):
        raise _InvalidExampleError("tools has a tool that is not a function", "remove it")
    return {name: value for name, value in tool["function"].items() if name in {"name", "description", "parameters"}}


def _sharegpt(number: int, value: Mapping[str, Any], options: ReadOptions) -> Record:
    """Read ShareGPT's format: ``conversations`` of ``from`` and ``value``; some files have OpenAI's members in it."""
    turns = _objects(value["conversations"], "conversations")
    if _has_roles(turns):
        return _messages(number, value, options, "conversations")
    conversation = _Conversation("conversations")
    for turn in (*_system_turns(value), *_sharegpt_turns(turns, "conversations")):
        conversation.add(*turn)
    return conversation.row(number)


def _has_roles(turns: Any) -> bool:
    """Return whether turns have OpenAI's members."""
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "role" in turns[0]


def _system_turns(value: Mapping[str, Any]) -> list[_Turn]:
    """Return the turn of a system message in a member of its own, as Anthropic, ShareGPT and Alpaca write it."""
    system = value.get("system")
    is_blank = not system or (isinstance(system, str) and not system.strip())
    return [] if is_blank else [("system", "system", _text_parts(system, "system"))]


def _sharegpt_turns(turns: Any, member: str) -> Iterator[_Turn]:
    """Yield the role, the place and the parts of each turn of ShareGPT's format."""
    for index, turn in enumerate(_objects(turns, member)):
        place = f"{member}[{index}]"
        role = _choose(_SHAREGPT_ROLES, turn.get("from"), f"{place}.from")
        yield role, f"{place}.value", _text_parts(turn.get("value"), f"{place}.value")


def _contents(number: int, value: Mapping[str, Any], _: ReadOptions) -> Record:
    """Read Vertex AI's own format, in which Google's pages also write names such as ``system_instruction``."""
    try:
        value = spell(value)
    except ValueError as error:
        raise _InvalidExampleError(str(error), "remove one of them") from None
    return _scored(number, value) if COMPLETIONS in value else ConversationRow(number, value)


def _scored(number: int, value: Mapping[str, Any]) -> Record:
    """Read a preference pair of Vertex AI, as an example of the answer with the higher score.

    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning-prepare
    """
    answers = [_scored_answer(answer, index) for index, answer in enumerate(_objects(value[COMPLETIONS], COMPLETIONS))]
    if len(answers) != 2 or answers[0][0] == answers[1][0]:  # noqa: PLR2004 - preferred and rejected
        message = f"{COMPLETIONS} has {counted(len(answers), 'answer')}, expected two with different scores"
        raise _InvalidExampleError(message, "write the preferred answer with the score 1, and the rejected one with 0")
    (_, chosen), (_, rejected) = sorted(answers, key=lambda answer: -answer[0])
    before = value["contents"] if isinstance(value["contents"], list) else [value["contents"]]
    contents = [*before, {"role": "model", "parts": [{"text": chosen}]}]
    kept = {name: member for name, member in value.items() if name != COMPLETIONS}
    return ConversationRow(number, {**kept, "contents": contents}, rejected)


def _scored_answer(answer: Mapping[str, Any], index: int) -> tuple[float, str]:
    """Return the score and the text of a completion; preference tuning supports text alone."""
    place, score, content = f"{COMPLETIONS}[{index}]", answer.get("score"), answer.get("completion")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise _InvalidExampleError(invalid(score, "a number", f"{place}.score"), "write 1 or 0")
    where = f"{place}.completion.parts"
    parts = _objects(content.get("parts") if isinstance(content, dict) else None, where)
    if any("text" not in part for part in parts):
        raise _InvalidExampleError(f"{where} has a part that is not text", "delete it: only texts are compared")
    text = "".join(_string(part["text"], f"{where}[{number}].text") for number, part in enumerate(parts))
    for message, remedy in text_problems(text):
        raise _InvalidExampleError(f"{where} {message}", remedy)
    return score, text


def _alpaca(number: int, value: Mapping[str, Any], _: ReadOptions) -> Record:
    """Read Alpaca's format; the input follows the instruction after a blank line."""
    prompt, output = _instruction(value), _string(_answer_text(value), "output")
    system = _system_turns(value)
    if not system and not value.get("history"):
        return Row(number, prompt, output)
    conversation = _Conversation("history")
    for said in system:
        conversation.add(*said)
    for index, turn in enumerate(value.get("history") or ()):
        if not isinstance(turn, list) or len(turn) != 2:  # noqa: PLR2004 - a text and its answer
            raise _InvalidExampleError(f"history[{index}] is not a pair of texts", 'write ["…", "…"]')
        for role, text in zip(("user", "model"), turn, strict=True):
            conversation.add(role, f"history[{index}]", _text_parts(text, f"history[{index}]"))
    conversation.add("user", "instruction", [{"text": prompt}])
    conversation.add("model", "output", [{"text": output}])
    return conversation.row(number)


def _answer_text(value: Mapping[str, Any]) -> Any:
    output = as_text(value["output"])
    return "" if output is None else output


def _instruction(value: Mapping[str, Any]) -> str:
    instruction, more = (_string(value.get(name) or "", name) for name in ("instruction", "input"))
    return f"{instruction}\n\n{more}" if more.strip() else instruction


def _preference(number: int, value: Mapping[str, Any], options: ReadOptions) -> Record:
    """Read a preference pair, as an example of the chosen answer: https://huggingface.co/docs/trl/dataset_formats.

    The prompt is in a member of its own, or is what both conversations begin with. Turns are those of OpenAI's chat
    format or of ShareGPT's; LLaMA-Factory has one turn in place of a list.
    """
    given, chosen, rejected = _prompt(value, options), value["chosen"], value["rejected"]
    if chosen == rejected and chosen:
        raise _InvalidExampleError("chosen and rejected are the same: neither is preferred", "delete the example")
    if isinstance(chosen, dict):
        chosen, rejected = [chosen], [rejected]
    if isinstance(chosen, list):
        turns = [list(_turns(answer, name)) for answer, name in _named(chosen, rejected)]
        return _pair(number, _before(value, given), turns[0], turns[1], _tools(value))
    texts = _string(chosen, "chosen"), _string(rejected, "rejected")
    spoken = [[(role, name, [{"text": said}]) for role, said in transcript(text)] for text, name in _named(*texts)]
    if all(spoken) and not isinstance(given, list):
        return _pair(number, _system_turns(value), spoken[0], spoken[1])
    if given is None:
        given, left, right = split_texts(*texts)
        texts = left, right
        if not given:
            raise _InvalidExampleError(_NO_BEGINNING, _ADD_PROMPT)
    if isinstance(given, list) or _system_turns(value):
        answers = [[("model", name, [{"text": text}])] for text, name in _named(*texts)]
        return _pair(number, _before(value, given), answers[0], answers[1], _tools(value))
    return _text_pair(number, _string(given, "prompt"), *texts)


def _prompt(value: Mapping[str, Any], options: ReadOptions) -> Any:
    """Return the prompt of a preference pair; ``None`` without one."""
    if name := _prompt_member(value, options):
        return value[name]
    return _instruction(value) if "instruction" in value else None


def _prompt_member(names: Collection[str], options: ReadOptions) -> str:
    """Return the member with the prompt of a preference pair; empty if it is in ``instruction`` or in the answers."""
    return next((name for name in (options.input, "prompt", "conversations") if name in names), "")


def _before(value: Mapping[str, Any], given: Any) -> list[_Turn]:
    """Return the turns of a system message and a prompt, which may be a text."""
    turns = _system_turns(value)
    if isinstance(given, list):
        return [*turns, *_turns(given, "prompt")]
    return [*turns, ("user", "prompt", [{"text": _string(given, "prompt")}])] if given else turns


def _turns(turns: Any, member: str) -> Iterator[_Turn]:
    first = _objects(turns, member)[:1]
    return _sharegpt_turns(turns, member) if first and "from" in first[0] else _message_turns(turns, member)


def _named(chosen: Any, rejected: Any) -> tuple[tuple[Any, str], tuple[Any, str]]:
    return (chosen, "chosen"), (rejected, "rejected")


def _text_pair(number: int, prompt: str, chosen: str, rejected: str) -> Row:
    for message, remedy in text_problems(rejected):
        raise _InvalidExampleError(f"rejected {message}", remedy)
    return Row(number, prompt, chosen, rejected)


def _pair(
    number: int, before: Sequence[_Turn], chosen: Sequence[_Turn], rejected: Sequence[_Turn], tools: Any = None
) -> Record:
    """Return a pair of conversations; each has the prompt, if there is one, or begins after it."""
    said = [[(role, parts) for role, _, parts in turns] for turns in (before, chosen, rejected)]
    common = common_turns(said[1], said[2])
    asked = [(role, parts) for role, parts in said[0] if role != "system"]
    if asked and said[1][: len(asked)] == asked:  # some data sets repeat the prompt, but not the system message
        before = before[: len(before) - len(asked)]
    if before and said[1][: len(before)] != said[0][: len(before)]:
        chosen, rejected = [*before, *chosen], [*before, *rejected]
        common += len(before)
    if not common:
        raise _InvalidExampleError(_NO_BEGINNING, _ADD_PROMPT)
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) == common or turns[-1][0] != "model":
            raise _InvalidExampleError(f"{name} does not end with an answer", "add the answer, or delete the example")
        if len(turns) > common + 1:
            message = f"{name} has {len(turns) - common} turns after the common beginning"
            raise _InvalidExampleError(message, "end both with the first answer that differs")
    conversation = _Conversation("chosen")
    for turn in chosen:
        conversation.add(*turn)
    for message, remedy in (problem for part in rejected[-1][2] for problem in text_problems(part.get("text", ""))):
        raise _InvalidExampleError(f"rejected {message}", remedy)
    text = "".join(part["text"] for part in rejected[-1][2])
    return conversation.row(number, tools)._replace(rejected=text)


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise _InvalidExampleError(invalid(value, "a list of objects", where), "write [{…}, {…}]")
    return value


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _InvalidExampleError(invalid(value, "a string", where), _text_remedy(value))
    return value


def _text_parts(content: Any, where: str, *, optional: bool = False) -> list[dict[str, Any]]:
    """Return a text as parts: a string, or a list of objects with a text; no parts if it may be absent and is."""
    if content is None and optional:
        return []
    if not isinstance(content, list):
        return [{"text": _string(content, where)}]
    for index, part in enumerate(_objects(content, where)):
        if part.get("type", "text") != "text":
            message = f"{where}[{index}] is of the type {quote(str(part['type']))}: only text is supported"
            raise _InvalidExampleError(message, "remove it, or write the example in Vertex AI's format")
    return [{"text": _string(part.get("text"), f"{where}[{index}].text")} for index, part in enumerate(content)]


def _choose(roles: Mapping[str, str], role: Any, where: str) -> str:
    if not isinstance(role, str) or role not in roles:
        raise _InvalidExampleError(invalid(role, "a known role", where), f"write one of {', '.join(roles)}")
    return roles[role]


SHAPES: Final[Mapping[str, Shape]] = {
    PREFERENCE: Shape("preference pairs", ("chosen", "rejected"), _preference, ("system", "tools")),
    COMPLETIONS: Shape(
        "Vertex AI's preference pairs", ("contents", COMPLETIONS), _contents, (*MEMBERS, "system_instruction")
    ),
    "messages": Shape("OpenAI's chat format", ("messages",), _messages, ("system", "tools")),
    "contents": Shape(
        "Vertex AI's format",
        ("contents",),
        _contents,
        (*MEMBERS, "system_instruction", "generation_config"),
    ),
    "sharegpt": Shape("ShareGPT's format", ("conversations",), _sharegpt, ("system",)),
    "alpaca": Shape("Alpaca's format", ("instruction", "output"), _alpaca, ("input", "system", "history")),
}
"""The shapes by their names in manifests, in the order in which they are recognized."""
