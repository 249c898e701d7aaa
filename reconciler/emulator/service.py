"""What all API methods share: the state of the service, requests, the table of methods, pages, and partial responses.

The ``fields`` query parameter of Google's REST APIs selects a part of the response: ``a,b(c,d/e),f/*``.
"""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.ports import Clock
from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.proto import EMPTY, Message
from reconciler.emulator.store import Store
from reconciler.emulator.training import TrainingPace

Selection = Mapping[str, "Selection | None"]
"""The selected fields by JSON name with the selection inside each; ``None`` selects everything."""

_FIELD_TOKEN = re.compile(r"[(),/*]|@?[A-Za-z][A-Za-z0-9_]*")
_MAX_FIELDS_LENGTH = 4000


def parse_fields(text: str, message: Message) -> Selection | None:
    """Return the selection of a ``fields`` parameter for a response message; an empty one selects everything.

    Raises ApiError for a malformed parameter and for unknown fields.
    """
    if not text:
        return None
    tokens = _FIELD_TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()) or len(text) > _MAX_FIELDS_LENGTH:
        raise _invalid_fields(text)
    reader = iter([*tokens, ""])
    selection, end = _read_selection(reader, message, text)
    if end:
        raise _invalid_fields(text)
    return selection


def _read_selection(tokens: Iterator[str], message: Message, text: str) -> tuple[Selection | None, str]:
    """Read ``a,b/c,d(e)`` up to a closing bracket or the end, which is also returned."""
    selected: dict[str, Selection | None] = {}
    end = ","
    while end == ",":
        name, inner, end = _read_path(tokens, message, text)
        for field in message.fields if name == "*" else (name,):
            selected[field] = _merge_selections(selected[field], inner) if field in selected else inner
    return selected, end


def _read_path(tokens: Iterator[str], message: Message, text: str) -> tuple[str, Selection | None, str]:
    """Read ``a``, ``a/b/c`` or ``a(…)``: a name, the selection inside, and the token that follows."""
    spelling = next(tokens)
    name = "*" if spelling == "*" else message.json_names.get(spelling)
    if name is None:
        raise _invalid_fields(spelling or text)
    end = next(tokens)
    if end not in ("/", "("):
        return name, None, end
    inside = None if name == "*" else message.fields[name].message
    if inside is None:
        raise _invalid_fields(text)
    if end == "(":
        selection, end = _read_selection(tokens, inside, text)
        if end != ")":
            raise _invalid_fields(text)
        return name, selection, next(tokens)
    child, selection, end = _read_path(tokens, inside, text)
    return name, dict.fromkeys(inside.fields, selection) if child == "*" else {child: selection}, end


def _merge_selections(left: Selection | None, right: Selection | None) -> Selection | None:
    if left is None or right is None:
        return None
    merged = {**left, **right}
    merged.update({name: _merge_selections(left[name], right[name]) for name in left if name in right})
    return merged


def _invalid_fields(path: str) -> ApiError:
    description = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'."
    return ApiError(
        Code.INVALID_ARGUMENT,
        f"Request contains an invalid argument. {description}",
        [Violation("fields", description)],
    )


def includes(selection: Selection | None, *path: str) -> bool:
    """Return whether any part of the field at this path is selected."""
    for name in path:
        if selection is None:
            return True
        if name not in selection:
            return False
        selection = selection[name]
    return True


def select(value: Any, selection: Selection | None) -> Any:
    """Return the selected part of a message, or of each message of a list."""
    if selection is None:
        return value
    if isinstance(value, list):
        return [select(message, selection) for message in value]
    return {name: select(value[name], inside) for name, inside in selection.items() if name in value}


PAGE_SIZE = 10
MAX_PAGE_SIZE = 1000
_TAIL = string.ascii_lowercase + string.digits


class Service(Struct, frozen=True):
    """The state of the service between requests. ``base_models`` can be tuned on Vertex AI; without any, all can."""

    store: Store
    objects: ObjectStore
    clock: Clock
    random: random.Random
    settings: TrainingPace
    base_models: ModelCatalog = ModelCatalog()

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
    """One API method.

    ``root`` is the path of the body in the request message. ``split`` is of a method that streams: it returns the
    messages of the stream, given the whole response.
    """

    verb: str
    path: str
    handler: Callable[[Service, ApiCall], JsonObject]
    response: Shape
    query: Shape = EMPTY
    body: Shape = EMPTY
    root: str = ""
    apis: tuple[Api, ...] = ()
    split: Callable[[JsonObject], list[JsonObject]] | None = None
