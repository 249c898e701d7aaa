"""Data sets in the format of Vertex AI: JSON Lines with ``contents`` in an object of Cloud Storage.

The first lines are validated and the others only counted, so that any data set takes bounded memory and little time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from msgspec import Struct

from reconciler.emulator.errors import Code, JsonObject
from reconciler.emulator.objects import ObjectStore, StorageError
from reconciler.emulator.vertex.jobs import JobError

URI = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>.+\.jsonl)")
MAX_BYTES = 2**30
MAX_VALIDATION_EXAMPLES = 5000
"""The limits of the real service for Gemini 2.5, from "Limitations" in
https://cloud.google.com/vertex-ai/generative-ai/docs/models/tune-text-models-supervised ."""
CHECKED_LINES = 5000
KEPT_BYTES = 4 * 1024 * 1024
"""The size of the examples that are kept for answers."""
_MAX_LINE = 8 * 1024 * 1024
_CHUNK = 1024 * 1024
_ROLES = ("user", "model")


class FaultyDatasetError(Exception):
    """A data set that cannot be used for tuning."""

    def __init__(self, message: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.fault = JobError(code, message)


class TuningData(Struct):
    """Some examples as pairs of input and output, and the total number."""

    examples: list[JsonObject] = []
    count: int = 0


def read_dataset(objects: ObjectStore, uri: str) -> TuningData:
    """Return the data set in an object; raises FaultyDatasetError."""
    place = URI.fullmatch(uri)
    if place is None:
        raise FaultyDatasetError(f"invalid URI {uri}: expected gs://bucket/object.jsonl")
    try:
        stored = objects.get(place["bucket"], place["name"])
    except StorageError as error:
        raise FaultyDatasetError(f"The data set {uri} was not found: {error.message}", Code.NOT_FOUND) from None
    if stored.size > MAX_BYTES:
        raise FaultyDatasetError(f"The data set {uri} has {stored.size} bytes; the maximum is {MAX_BYTES}.")
    with stored.path.open("rb") as file:
        dataset = _read(file, uri)
    if not dataset.count:
        raise FaultyDatasetError(f"The data set {uri} has no examples.")
    return dataset


def _read(file: IO[bytes], uri: str) -> TuningData:
    dataset, kept = TuningData(), 0
    for number, line in enumerate(_lines(file), 1):
        try:
            example = _example(line)
        except ValueError as error:
            raise FaultyDatasetError(f"Line {number} of the data set {uri}: {error}") from None
        if example is None:
            continue
        dataset.count += 1
        kept += len(line)
        if kept <= KEPT_BYTES:
            dataset.examples.append(example)
    dataset.count += _count_lines(file)
    return dataset


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    for _ in range(CHECKED_LINES):
        line = file.readline(_MAX_LINE)
        if not line:
            return
        yield line


def _count_lines(file: IO[bytes]) -> int:
    """Count the remaining lines; the last may lack a line end."""
    count, last = 0, b"\n"
    while chunk := file.read(_CHUNK):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def _example(line: bytes) -> JsonObject | None:
    """Return the last input and output of a line, or ``None`` for an empty line; raises ValueError."""
    if not line.strip():
        return None
    if len(line) == _MAX_LINE:
        raise ValueError(f"is longer than {_MAX_LINE} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    _require(isinstance(value, dict), "must be a JSON object")
    turns = value.get("contents")
    _require(isinstance(turns, list) and bool(turns), "must have contents, a list of turns")
    for index, turn in enumerate(turns):
        _check_content(turn, f"contents[{index}]")
        _require(turn.get("role") in _ROLES, f'contents[{index}].role must be "user" or "model"')
    if value.get("systemInstruction") is not None:
        _check_content(value["systemInstruction"], "systemInstruction")
    _require(turns[-1]["role"] == "model", 'contents must end with a turn of the role "model"')
    prompt = next((turn for turn in reversed(turns) if turn["role"] == "user"), None)
    _require(prompt is not None, 'contents must have a turn of the role "user"')
    return {"textInput": _text(prompt), "output": _text(turns[-1])}


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ValueError(message)


def _check_content(content: Any, path: str) -> None:
    _require(isinstance(content, dict), f"{path} must be an object")
    parts = content.get("parts")
    _require(isinstance(parts, list) and bool(parts), f"{path}.parts must be a list that is not empty")
    for index, part in enumerate(parts):
        _require(isinstance(part, dict), f"{path}.parts[{index}] must be an object")
        _require(isinstance(part.get("text", ""), str), f"{path}.parts[{index}].text must be a string")


def _text(content: Any) -> str:
    return "".join(part.get("text", "") for part in content["parts"])
