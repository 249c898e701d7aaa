"""What all API methods share: the state of the service, the request, the table of methods, and paging."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from reconciler.domain.ports import Clock
from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.partial import Selection, includes
from reconciler.emulator.proto import EMPTY, Message
from reconciler.emulator.store import Store
from reconciler.emulator.training import TrainingPace

PAGE_SIZE = 10
MAX_PAGE_SIZE = 1000
_TAIL = string.ascii_lowercase + string.digits


class Service(Struct, frozen=True):
    """The state of the service between requests."""

    store: Store
    objects: ObjectStore
    clock: Clock
    random: random.Random
    settings: TrainingPace

    def number(self) -> str:
        """Return a number of 19 digits that fits 63 bits, the form of Vertex AI's resource IDs."""
        return str(self.random.randrange(10**18, 2**63))

    def tail(self) -> str:
        """Return twelve random characters, which the real service appends to the IDs that it assigns."""
        return "".join(self.random.choices(_TAIL, k=12))


class ApiCall(Struct, frozen=True):
    """One request, decoded and validated against its messages."""

    api: Api
    path: Mapping[str, str]
    query: JsonObject
    body: JsonObject
    selection: Selection | None

    @property
    def model(self) -> str:
        """The name of the tuned model in the path."""
        return f"tunedModels/{self.path['model']}"

    def wants(self, *path: str) -> bool:
        """Return whether the caller requests this field of the response."""
        return includes(self.selection, *path)


class Page(Struct, frozen=True):
    """The requested part of a list: at most ``size`` entries after position ``after``."""

    after: int
    size: int


def read_page(query: Mapping[str, Any], default: int = PAGE_SIZE) -> Page:
    """Return the page that a query requests; raises ApiError for a negative size or an invalid token."""
    size = query.get("pageSize") or default
    if size < 0:
        raise invalid("ListRequest", [Violation("page_size", f"must not be negative, but is {size}")])
    token = query.get("pageToken", "")
    try:
        after = int(base64.urlsafe_b64decode(token).decode().removeprefix("after:")) if token else 0
    except ValueError:
        raise invalid("ListRequest", [Violation("page_token", f'"{token}" is not a token of this service')]) from None
    return Page(after, min(size, MAX_PAGE_SIZE))


def next_page(position: int) -> str:
    """Return the token of the page that follows a position."""
    return base64.urlsafe_b64encode(f"after:{position}".encode()).decode()


def refuse_unless(ready: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise FAILED_PRECONDITION unless ready."""
    if not ready:
        raise ApiError(Code.FAILED_PRECONDITION, message)


class Api(Struct, frozen=True):
    """One version of an API.

    ``tuned_model`` is the message that starts a training, ``tuned_models`` a page of them, and ``operation`` the
    operation of a training. ``defaults`` are the hyperparameters that the service chooses, ``query`` is the query of
    lists, ``root`` is between version and method in a path, and ``package`` is the proto package without version.
    """

    version: str
    tuned_model: Message
    defaults: Mapping[str, Any]
    mutable: frozenset[str]
    query: Message
    models: Mapping[str, JsonObject] = {}
    root: str = ""
    package: str = "google.ai.generativelanguage"
    tuned_models: Message = EMPTY
    operation: Message = EMPTY

    def type_url(self, name: str) -> str:
        """Return the ``@type`` of a message of this version in an Any."""
        return f"type.googleapis.com/{self.package}.{self.version}.{name}"


Shape = Message | Callable[[Api], Message]
"""The request or response message of a method, which may differ between API versions."""


def message_of(shape: Shape, api: Api) -> Message:
    """Return the message of a method in an API version."""
    return shape if isinstance(shape, Message) else shape(api)


class Method(Struct, frozen=True):
    """One API method. ``root`` is the path of the body in the request message."""

    verb: str
    path: str
    handler: Callable[[Service, ApiCall], JsonObject]
    response: Shape
    query: Shape = EMPTY
    body: Shape = EMPTY
    root: str = ""
    apis: tuple[Api, ...] = ()
