"""Reading a list that comes in pages, however a service numbers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from reconciler.providers.http import Call, Client, Json

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
