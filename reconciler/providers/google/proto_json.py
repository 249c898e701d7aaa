"""Reading proto3 JSON from outside, liberally: defaults are left out, integers may come as strings or whole floats.

A time, number or text that is none counts as not told: it would spoil what is recorded, and decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from reconciler.domain.model import Failure, Number, Source
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client, Json

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MAX_INTEGER = 2**53 - 1  # RFC 8259, section 6


def number(value: Any) -> Number | None:
    """A finite number, whole ones as ``int`` where a float holds them exactly."""
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(found):
        return None
    return int(found) if found.is_integer() and abs(found) <= _MAX_INTEGER else found


def integer(value: Any) -> int | None:
    """An integer, a string or a whole float, within what a float holds exactly; ``None`` for everything else."""
    found = number(value)
    return found if isinstance(found, int) else None


def text(value: Any) -> str:
    """Text as a file can hold it: JSON can spell lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def time(value: Any) -> str:
    """A time as the service wrote it; one that is no RFC 3339 time with a zone is unknown."""
    found = text(value)
    if not _RFC3339.fullmatch(found):
        return ""
    try:
        datetime.fromisoformat(found)
    except ValueError:  # the 30th of February
        return ""
    return found


def resource_name(value: Any) -> str:
    """The name of a model; raises ValueError when it is none."""
    if name := text(value):
        return name
    raise ValueError("no name")


def read_source(base_model: Any, tuned_model: Any) -> Source | None:
    """What a model was tuned from: a base model, else the tuned model of that name; ``None`` where nothing is told."""
    base, parent = text(base_model), text(tuned_model)
    return Source(base_model=base, remote="" if base else parent) if base or parent else None


def read_failure(error: Mapping[str, Any]) -> Failure:
    """The google.rpc.Status of what failed."""
    return Failure(code=integer(error.get("code")) or 0, message=clean(text(error.get("message"))) or "no reason given")


_MAX_BARREN_PAGES = 100


class Listed(Protocol):
    """What a list is made of: a tuned model, a base model."""

    @property
    def remote(self) -> str:
        """Its full name."""
        ...


T = TypeVar("T")
L = TypeVar("L", bound=Listed)


async def list_models(client: Client, call: Call, read: Callable[[Json], tuple[tuple[L, ...], str]]) -> tuple[L, ...]:
    """Every model of a list, told apart by its name; see :func:`list_all`."""
    return await list_all(client, call, read, lambda model: model.remote)


async def list_all(
    client: Client, call: Call, read: Callable[[Json], tuple[tuple[T, ...], str]], name: Callable[[T], str]
) -> tuple[T, ...]:
    """Every entry of a list, in the service's order; one that moves between pages counts once, as seen last.

    Args:
        client: What the pages are asked of.
        call: The request of the first page.
        read: The entries of a page and the token of the next one, empty on the last.
        name: What tells entries apart.

    Raises:
        AccessError: As :meth:`Client.request`.
        ServiceError: The same, and when the pages lead nowhere.
    """
    found: dict[str, T] = {}
    tokens: set[str] = set()
    barren = 0
    while True:
        page, token = client.decode(call, read, await client.request(call))
        barren = 0 if any(name(entry) not in found for entry in page) else barren + 1
        found |= {name(entry): entry for entry in page}
        if not token:
            return tuple(found.values())
        if token in tokens or barren > _MAX_BARREN_PAGES:
            raise client.unintelligible(call, "a list that never ends: its page tokens lead nowhere new")
        tokens.add(token)
        call = replace(call, params={**call.params, "pageToken": token})
