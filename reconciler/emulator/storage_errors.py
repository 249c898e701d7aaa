"""Refusals in the words of the Cloud Storage JSON API."""

from __future__ import annotations

from reconciler.emulator.errors import JsonObject


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


def not_found(message: str) -> StorageError:
    """The refusal of a request for what is not there."""
    return StorageError(404, "notFound", message)


def condition_not_met() -> StorageError:
    """The refusal of a request whose preconditions do not hold."""
    return StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
