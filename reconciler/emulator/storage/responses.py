"""Refusals in the words of the Cloud Storage JSON API."""

from __future__ import annotations

import re

from reconciler.emulator.errors import JsonObject

_INT64 = re.compile(r"[0-9]{1,19}")


class StorageError(Exception):
    """A refusal that becomes an error body of Cloud Storage; ``reason`` is one of its own."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    def body(self) -> JsonObject:
        """The JSON body of the error response."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [entry]}}


def invalid(message: str) -> StorageError:
    """The refusal of a request that cannot be carried out as it stands."""
    return StorageError(400, "invalid", message)


def whole_number(name: str, text: str) -> int:
    """The number (an int64 that is not negative) that a parameter or header holds; raises StorageError."""
    if not _INT64.fullmatch(text):
        raise invalid(f"Invalid value for {name}: '{text[:100]}'")
    return int(text)


def not_found(message: str) -> StorageError:
    """The refusal of a request for what is not there."""
    return StorageError(404, "notFound", message)


def condition_not_met() -> StorageError:
    """The refusal of a request whose preconditions do not hold."""
    return StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
