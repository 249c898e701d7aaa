"""Messages of Google APIs as tables, and their JSON: lenient when reading, canonical when writing.

Rules: https://protobuf.dev/programming-guides/json/ . Messages live as JSON objects under their JSON names with enums
as names, 64-bit integers as strings and floats as the shortest decimal of their 32-bit value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NoReturn

from msgspec import Struct

from reconciler.domain.identity import canonical_number
from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, malformed, snake_case

Kind = Literal["string", "int32", "int64", "float", "double", "bool", "timestamp", "enum", "map", "integers", "message"]


class Field(Struct, frozen=True):
    """One field of a message.

    ``optional`` fields are sent even at their default value. An ``output_only`` field is ignored in requests. Of the
    fields with the same ``oneof`` at most one may be set. ``enum`` lists the values by number. A ``map`` has
    strings as keys and values, ``integers`` has strings as keys and integers as values.
    """

    kind: Kind
    repeated: bool = False
    optional: bool = False
    output_only: bool = False
    oneof: str = ""
    enum: tuple[str, ...] = ()
    message: Message | None = None

    @property
    def keeps_default(self) -> bool:
        """Whether the field is sent at its default value too."""
        return self.optional or (self.message is not None and not self.repeated)


@dataclass(frozen=True)
class Message:
    """A message: its name in the proto package, and its fields by their JSON names."""

    name: str
    fields: Mapping[str, Field]

    @cached_property
    def json_names(self) -> Mapping[str, str]:
        """The JSON name of every field, by JSON name and by snake_case proto name."""
        return {spelling: name for name in self.fields for spelling in (name, snake_case(name))}


def message(name: str, /, **fields: Field) -> Message:
    """Return a message; keyword arguments are its fields by JSON name."""
    return Message(name, fields)


def single(of: Message, *, output_only: bool = False, oneof: str = "") -> Field:
    """Return a field with one message."""
    return Field("message", message=of, output_only=output_only, oneof=oneof)


def repeated(of: Message, *, output_only: bool = False) -> Field:
    """Return a field with a list of messages."""
    return Field("message", message=of, repeated=True, output_only=output_only)


def enum(*values: str, output_only: bool = False) -> Field:
    """Return a field with one of the values; the first is the default."""
    return Field("enum", enum=values, output_only=output_only)


STRING = Field("string")
STRINGS = Field("string", repeated=True)
OPTIONAL_STRING = Field("string", optional=True)
OUTPUT_STRING = Field("string", output_only=True)
INT = Field("int32")
INT64 = Field("int64")
OPTIONAL_INT = Field("int32", optional=True)
FLOAT = Field("float")
OPTIONAL_FLOAT = Field("float", optional=True)
DOUBLE = Field("double")
BOOL = Field("bool")
MAP = Field("map")
INTEGERS = Field("integers")
TIMESTAMP = Field("timestamp")
OUTPUT_TIMESTAMP = Field("timestamp", output_only=True)
EMPTY = message("Empty")
STATUS = message("Status", code=INT, message=STRING)
_PREFIX = "Invalid JSON payload received. "
_ZERO = ("int64", "0")
_TRAILING_COMMA = re.compile(rb'(?P<kept>"(?:[^"\\]|\\.)*+"?|[\[{]\s*+,)|,(?=\s*[\]}])', re.DOTALL)
"""A comma before a closing bracket, or else what no such comma is in: a string, or an opening bracket with a comma."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def read_json(body: bytes) -> JsonObject:
    """Return the JSON object in a request body, an empty one for an empty body; raises ApiError."""
    if not body.strip():
        return {}
    try:
        payload = _parse(body)
    except (ValueError, RecursionError) as error:
        reason = "Nesting is too deep." if isinstance(error, RecursionError) else f"Unable to parse: {error}"
        raise ApiError(Code.INVALID_ARGUMENT, _PREFIX + reason) from None
    if not isinstance(payload, dict):
        raise ApiError(Code.INVALID_ARGUMENT, f"{_PREFIX}Root element must be a message.")
    return payload


def _parse(body: bytes) -> Any:
    """Return the value of a JSON text; as at Google's front end, an object or a list may end with a comma."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except ValueError:
        strict = _TRAILING_COMMA.sub(lambda found: found["kept"] or b" ", body)  # a space keeps the places in messages
        return json.loads(strict, parse_constant=_refuse_constant)


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not JSON")


def decode(message: Message, payload: Mapping[str, Any], root: str = "", *, stored: bool = False) -> JsonObject:
    """Return the message in ``payload`` in canonical form.

    ``root`` is the path of the payload inside its request. Output-only fields are dropped, unless the
    payload was ``stored`` by a service. Raises ApiError with a violation for every unknown field and wrong type.
    """
    violations: list[Violation] = []
    value = _Decoder(violations, stored=stored).message(message, payload, root)
    if violations:
        raise malformed(violations)
    return value


def decode_query(message: Message, parameters: Mapping[str, str]) -> JsonObject:
    """Return the query parameters of a call in canonical form; raises ApiError."""
    unknown = [name for name in parameters if name not in message.json_names]
    if unknown:
        raise malformed(
            Violation(
                "",
                f'{_PREFIX}Unknown name "{name}": Cannot bind query parameter. '
                f"Field '{name}' could not be found in request message.",
            )
            for name in unknown
        )
    return decode(message, parameters)


class _Decoder:
    """Decodes a message and collects its violations."""

    def __init__(self, violations: list[Violation], *, stored: bool) -> None:
        self._violations = violations
        self._stored = stored

    def message(self, message: Message, payload: Any, path: str) -> JsonObject:
        if not isinstance(payload, Mapping):
            self._wrong(path, message.name, payload)
            return {}
        value: JsonObject = {}
        for spelling, raw in payload.items():
            name = message.json_names.get(spelling)
            if name is None:
                at = f" at '{path}'" if path else ""
                self._violate(path, f"{_PREFIX}Unknown name {json.dumps(spelling)}{at}: Cannot find field.")
            elif raw is not None and (self._stored or not message.fields[name].output_only):
                self._set(message, value, name, raw, path)
        return value

    def _set(self, message: Message, value: JsonObject, name: str, raw: Any, path: str) -> None:
        field = message.fields[name]
        rival = next((other for other in value if field.oneof and message.fields[other].oneof == field.oneof), name)
        if rival in value:
            group = f"'{path}' (oneof), oneof field '{field.oneof}'" if field.oneof else f"'{path}', field '{rival}'"
            self._violate(path, f"Invalid value at {group} is already set. Cannot set '{name}'")
            return
        element = self._field(field, raw, f"{path}.{snake_case(name)}" if path else snake_case(name))
        if (element and (field.kind, element) != _ZERO) or field.keeps_default:
            value[name] = element

    def _field(self, field: Field, raw: Any, path: str) -> Any:
        if not field.repeated:
            return self._single(field, raw, path)
        if not isinstance(raw, list):
            self._wrong(path, f"repeated {field.kind}", raw)
            return []
        return [self._single(field, element, f"{path}[{index}]") for index, element in enumerate(raw)]

    def _single(self, field: Field, raw: Any, path: str) -> Any:
        if field.message is not None:
            return self.message(field.message, raw, path)
        try:
            return _READERS[field.kind](raw, field)
        except (ValueError, OverflowError):
            self._wrong(path, f"TYPE_{field.kind.upper()}", raw)
            return None

    def _wrong(self, path: str, kind: str, raw: Any) -> None:
        self._violate(path, f"Invalid value at '{path}' ({kind}), {json.dumps(raw)[:100]}")

    def _violate(self, path: str, description: str) -> None:
        self._violations.append(Violation(path, description))


def _string(raw: Any, _: Field) -> str:
    if not isinstance(raw, str):
        raise ValueError(raw)  # noqa: TRY004 - every wrong value is reported alike
    raw.encode()  # a lone surrogate cannot be stored or sent
    return raw


def _timestamp(raw: Any, _: Field) -> str:
    if not isinstance(raw, str) or not _RFC3339.fullmatch(raw):
        raise ValueError(raw)
    datetime.fromisoformat(raw)
    return raw


def _boolean(raw: Any, _: Field) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(raw)  # noqa: TRY004 - every wrong value is reported alike
    return raw


def _integer(raw: Any, bits: int) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str) or "_" in str(raw):
        raise ValueError(raw)
    number = raw if isinstance(raw, float) else int(raw)
    if number != int(number) or not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise ValueError(raw)
    return int(number)


def _double(raw: Any, _: Field) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str) or not math.isfinite(float(raw)):
        raise ValueError(raw)
    return float(raw)


def _float(raw: Any, field: Field) -> float:
    return canonical_number(_double(raw, field))


def _map(raw: Any, field: Field) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        raise ValueError(raw)  # noqa: TRY004 - every wrong value is reported alike
    return {_string(key, field): _string(value, field) for key, value in raw.items()}


def _integers(raw: Any, field: Field) -> dict[str, int]:
    if not isinstance(raw, Mapping):
        raise ValueError(raw)  # noqa: TRY004 - every wrong value is reported alike
    return {_string(key, field): _integer(value, 32) for key, value in raw.items()}


def _enum(raw: Any, field: Field) -> str:
    name = field.enum[raw] if isinstance(raw, int) and 0 <= raw < len(field.enum) else raw
    if name not in field.enum:
        raise ValueError(raw)
    return "" if name == field.enum[0] else str(name)


_READERS: Mapping[str, Callable[[Any, Field], Any]] = {
    "string": _string,
    "int32": lambda raw, _: _integer(raw, 32),
    "int64": lambda raw, _: str(_integer(raw, 64)),
    "float": _float,
    "double": _double,
    "bool": _boolean,
    "timestamp": _timestamp,
    "enum": _enum,
    "map": _map,
    "integers": _integers,
}


def encode(message: Message, value: Mapping[str, Any], *, enum_numbers: bool = False) -> JsonObject:
    """Return the message as sent: its known fields, without those at their default."""
    encoded: JsonObject = {}
    for name, field in message.fields.items():
        element = value.get(name)
        if element is None or not (element or field.keeps_default):
            continue
        encoded[name] = _encode_field(field, element, enum_numbers=enum_numbers)
    return encoded


def _encode_field(field: Field, element: Any, *, enum_numbers: bool) -> Any:
    if field.message is None:
        return field.enum.index(element) if field.enum and enum_numbers else element
    if field.repeated:
        return [encode(field.message, message, enum_numbers=enum_numbers) for message in element]
    return encode(field.message, element, enum_numbers=enum_numbers)
