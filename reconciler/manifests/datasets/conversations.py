"""Conversations: examples of several turns, in the canonical form that all chat formats are converted to.

It is Vertex AI's format, one JSON object each
(https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple

import rfc8785

from reconciler.domain.identity import normalize_newlines
from reconciler.domain.text import counted, invalid, suggest
from reconciler.manifests.datasets.records import ConversationRow, Row, text_problems

MessageAndRemedy = tuple[str, str]
"""What is wrong, and the remedy."""

MEMBERS = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig")
"""The members of an example that Google documents."""
COMPLETIONS = "completions"
"""The member with the two answers of a preference pair."""
_SPELLINGS = {
    name: member
    for name, member in (
        *((re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", member), member) for member in MEMBERS),
        ("function_call", "functionCall"),
        ("function_response", "functionResponse"),
        ("function_declarations", "functionDeclarations"),
        ("file_data", "fileData"),
        ("inline_data", "inlineData"),
        ("video_metadata", "videoMetadata"),
    )
    if name != member
}
"""The spellings of Google's protos and of some of its pages, each with that of its JSON."""
_FUNCTION = "function"
"""Another name for the role of a user's turn that has the results of function calls."""
_TURNS = "alternate user and model, starting with user"
_PARTS = 'write [{"text": "…"}]'


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return the object as RFC 8785 canonical JSON; raises ValueError, with a message for users, if it has none."""
    try:
        line = _COMPACT.encode(value) if _is_simple(value) else rfc8785.dumps(value).decode()
        line.encode()
    except (rfc8785.IntegerDomainError, rfc8785.FloatDomainError):
        raise ValueError("contains a number that JSON readers may read differently") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("contains an unpaired surrogate character") from None
    return line


def _is_simple(value: Any) -> bool:
    """Return whether the standard library writes the value as RFC 8785 does: it may differ for numbers and keys."""
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_is_simple, value.values()))
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return value is None or isinstance(value, str | bool)


def spell(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example in which members, parts and tools have the names of the JSON format.

    The arguments and answers of functions, which users define, are not changed. Raises ValueError, with a message for
    users, if a member is there in both spellings.
    """
    spelled = _spelled(value)
    for name in ("contents", "tools"):
        if isinstance(spelled.get(name), list):
            spelled[name] = [_spelled_content(element) for element in spelled[name]]
    if "systemInstruction" in spelled:
        spelled["systemInstruction"] = _spelled_content(spelled["systemInstruction"])
    return spelled


def _spelled_content(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    content = _spelled(content)
    if isinstance(content.get("parts"), list):
        content["parts"] = [_spelled(part) if isinstance(part, dict) else part for part in content["parts"]]
    return content


def _spelled(value: Mapping[str, Any]) -> dict[str, Any]:
    for name in value:
        if name in _SPELLINGS and _SPELLINGS[name] in value:
            raise ValueError(f"has {_SPELLINGS[name]} and {name}")
    return {_SPELLINGS.get(name, name): member for name, member in value.items()}


def unknown_members(value: Mapping[str, Any]) -> dict[str, str]:
    """Return the members that are not documented, each with its remedy; a service may support them."""
    unused = [known for known in MEMBERS if known not in value]
    unless = "remove it, unless the service supports it"
    return {name: suggest(name, unused, otherwise=unless) for name in value if name not in MEMBERS}


def conversation_problems(value: Mapping[str, Any]) -> Iterator[MessageAndRemedy]:
    """Yield all errors in an example of this format."""
    if "systemInstruction" in value:
        yield from _object(value["systemInstruction"], "systemInstruction", _parts)
    yield from _list(value["contents"], "contents", "write the turns of user and model", _turns)


def _turns(turns: list[Any], where: str) -> Iterator[MessageAndRemedy]:
    for index, (turn, role) in enumerate(zip(turns, cycle(("user", "model")), strict=False)):
        place = f"{where}[{index}]"
        if isinstance(turn, dict) and turn.get("role") != role and not (role == "user" and _answers_a_call(turn)):
            found = invalid(turn["role"], role, f"{place}.role") if "role" in turn else f"missing {place}.role"
            yield found, _TURNS
            return
        yield from _object(turn, place, _parts)
    if len(turns) % 2:
        yield f"{where} ends with user", "add the answer of the model"


def _answers_a_call(turn: Mapping[str, Any]) -> bool:
    parts = turn.get("parts")
    called = isinstance(parts, list) and all(isinstance(part, dict) and "functionResponse" in part for part in parts)
    return turn.get("role") == _FUNCTION and called


def _parts(content: Mapping[str, Any], where: str) -> Iterator[MessageAndRemedy]:
    yield from _list(content.get("parts"), f"{where}.parts", _PARTS, _each_part)


def _each_part(parts: list[Any], where: str) -> Iterator[MessageAndRemedy]:
    for index, part in enumerate(parts):
        yield from _object(part, f"{where}[{index}]", _text)


def _text(part: Mapping[str, Any], where: str) -> Iterator[MessageAndRemedy]:
    text = part.get("text", "-")
    if not isinstance(text, str):
        yield invalid(text, "a string", f"{where}.text"), "put it in double quotes"
        return
    for message, remedy in text_problems(text):
        yield f"{where}.text {message}", remedy


def _object(
    value: Any, where: str, check: Callable[[Mapping[str, Any], str], Iterator[MessageAndRemedy]]
) -> Iterator[MessageAndRemedy]:
    if isinstance(value, dict) and value:
        yield from check(value, where)
    else:
        yield invalid(value or None, "an object", where), "write {…}"


def _list(
    value: Any, where: str, remedy: str, check: Callable[[list[Any], str], Iterator[MessageAndRemedy]]
) -> Iterator[MessageAndRemedy]:
    if isinstance(value, list) and value:
        yield from check(value, where)
    else:
        yield invalid(value or None, "a list", where), remedy


class NotSingleTurnError(ValueError):
    """A conversation has more than one text of a user and one answer: the reason, for users."""


def single_turn(row: ConversationRow) -> Row:
    """Return a valid conversation of one turn as input and output; its system instruction precedes the input.

    A blank line separates them, and the parts of a text are joined without one.

    Raises:
        NotSingleTurnError: if it has more turns, tools, or anything but text.
    """
    contents = row.value["contents"]
    if len(contents) > 2:  # noqa: PLR2004 - an input and an output
        raise NotSingleTurnError(f"has {counted(len(contents) // 2, 'turn')}")
    if "tools" in row.value:
        raise NotSingleTurnError("has tools")
    given, wanted = (_joined(content) for content in contents)
    system = _joined(row.value["systemInstruction"]) if "systemInstruction" in row.value else ""
    return Row(row.number, f"{system}\n\n{given}" if system else given, wanted, row.rejected)


def preference_value(row: Row | ConversationRow) -> dict[str, Any]:
    """Return a preference pair in Vertex AI's format: the conversation up to the answer, and the two answers.

    The chosen one has the score 1, the rejected one 0.
    """
    value = row.value if isinstance(row, ConversationRow) else {"contents": [_turn("user", row.input)]}
    contents = value["contents"]
    chosen = contents[-1] if isinstance(row, ConversationRow) else _turn("model", row.output)
    before = contents[:-1] if isinstance(row, ConversationRow) else contents
    completions = [
        {"score": score, "completion": answer} for score, answer in ((1, chosen), (0, _turn("model", row.rejected)))
    ]
    return {**value, "contents": before, "completions": completions}


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


TURN_BREAK = "\n\0\n"
"""What separates the turns in the input of an :class:`ExampleText`; valid texts contain no NUL."""


class ExampleText(NamedTuple):
    """A valid example as two texts: everything up to the last answer, and this answer.

    Two examples with the same input and output train the same, in any shape.
    """

    input: str
    output: str
    turns: int = 1


def example_text(row: Row | ConversationRow) -> ExampleText:
    """Return the texts of a valid example; parts that are not text are written as canonical JSON."""
    if isinstance(row, ConversationRow):
        try:
            single = single_turn(row)
        except NotSingleTurnError:
            return _conversation_text(row.value)
        return example_text(single)
    return ExampleText(normalize_newlines(row.input), normalize_newlines(row.output))


def _conversation_text(value: Mapping[str, Any]) -> ExampleText:
    contents = value["contents"]
    before = [value["systemInstruction"]] if "systemInstruction" in value else []
    texts = [canonical_json({"tools": value["tools"]})] if "tools" in value else []
    texts += [_content_text(content) for content in (*before, *contents)]
    return ExampleText(TURN_BREAK.join(texts[:-1]), texts[-1], len(contents) // 2)


def _content_text(content: Mapping[str, Any]) -> str:
    texts = (part["text"] if part.keys() == {"text"} else canonical_json(part) for part in content["parts"])
    return normalize_newlines("".join(texts))


_MEDIA = ("fileData", "inlineData", "file_data", "inline_data")


def has_media(value: Mapping[str, Any]) -> bool:
    """Return whether a valid conversation has parts whose tokens are not those of a text: images, audio, documents."""
    return any(name in part for content in value["contents"] for part in content["parts"] for name in _MEDIA)


def _joined(content: Mapping[str, Any]) -> str:
    if any("text" not in part for part in content["parts"]):
        raise NotSingleTurnError("has parts that are not text")
    return "".join(part["text"] for part in content["parts"])


_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
