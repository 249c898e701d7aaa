"""Errors in the format and wording of the real service: google.rpc.Status in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any

from msgspec import Struct
from starlette.responses import Response

JsonObject = dict[str, Any]


class Code(IntEnum):
    """The google.rpc codes of this service."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    FAILED_PRECONDITION = 9
    UNAVAILABLE = 14
    DATA_LOSS = 15


HTTP_STATUS = {
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Violation(Struct, frozen=True):
    """One invalid field of a request: its path in snake_case, and the problem."""

    field: str
    description: str


class ApiError(Exception):
    """An error that becomes the body of a response."""

    def __init__(self, code: Code, message: str, violations: Iterable[Violation] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = tuple(violations)

    @property
    def http_status(self) -> int:
        """The HTTP status of the code."""
        return HTTP_STATUS[self.code].value

    def body(self) -> JsonObject:
        """The JSON body of the error response."""
        error: JsonObject = {"code": self.http_status, "message": self.message, "status": self.code.name}
        if self.violations:
            fields = [{"field": violation.field, "description": violation.description} for violation in self.violations]
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields}]
        return {"error": error}


def malformed(violations: Iterable[Violation]) -> ApiError:
    """Return the error for a request that does not match its message, with one line for each violation."""
    violations = tuple(violations)
    return ApiError(Code.INVALID_ARGUMENT, "\n".join(violation.description for violation in violations), violations)


def invalid(request: str, violations: Iterable[Violation]) -> ApiError:
    """Return the error for a well-formed request with invalid values, with one line for each violation."""
    violations = tuple(violations)
    lines = (f"* {request}.{violation.field}: {violation.description}" for violation in violations)
    return ApiError(Code.INVALID_ARGUMENT, "\n".join(lines), violations)


def not_found(name: str) -> ApiError:
    """Return the error for a resource that does not exist."""
    return ApiError(Code.NOT_FOUND, f"Requested entity was not found: {name}")


SERVER = "reconcile-emulator (simulated training)"
HEADERS = {"server": SERVER, "x-content-type-options": "nosniff"}


def json_response(content: JsonObject | list[JsonObject], status: int = 200) -> Response:
    """A JSON body as Google's services send it."""
    return Response(_dump(content), status, HEADERS, "application/json; charset=UTF-8")


def event_response(messages: Iterable[JsonObject]) -> Response:
    """Messages as server-sent events, the form of ``alt=sse``."""
    events = "".join(f"data: {_dump(message)}\r\n\r\n" for message in messages)
    return Response(events, 200, HEADERS, "text/event-stream")


def _dump(content: JsonObject | list[JsonObject]) -> str:
    return json.dumps(content, separators=(",", ":"))


Rule = tuple[Callable[[Any], bool], str]


def find_violations(fields: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> list[Violation]:
    """Return a violation for each field that breaks its rule."""
    return [
        Violation(f"{prefix}{snake_case(name)}", f"{rule}, but is {describe_value(fields[name])}")
        for name, (holds, rule) in rules.items()
        if name in fields and not holds(fields[name])
    ]


def describe_value(value: Any) -> str:
    """Return a value as messages show it, with the length of texts and lists instead of their content."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{len(value)} characters long" if isinstance(value, str) else str(value)


def snake_case(json_name: str) -> str:
    """Return the proto name of a field, given its JSON name."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", json_name)
