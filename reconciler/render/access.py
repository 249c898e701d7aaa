"""What somebody can reach, as a part of the status document and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reconciler.core.access import Permission
from reconciler.core.reaching import Reached
from reconciler.render.documents import Document
from reconciler.render.layout import Style, told
from reconciler.render.safe import terminal_safe


@dataclass(frozen=True, slots=True)
class Shared:
    """A generation whose permissions were asked for."""

    name: str
    key: str
    remote: str
    serving: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What an address may do with each generation; ``None`` stands for one that is gone."""

    address: str
    found: tuple[tuple[Shared, Reached | None], ...]


def access_document(reach: Reach) -> Document:
    """The part ``access`` of a Status document."""
    there = [(shared, reached) for shared, reached in reach.found if reached]
    return {
        "address": reach.address,
        "asked": len(there),
        "models": [_entry(shared, reached.certain) for shared, reached in there if reached.certain],
        "perhaps": [_entry(shared, one) for shared, reached in there for one in reached.perhaps],
        "gone": [_shared(shared) for shared, reached in reach.found if reached is None],
    }


def _entry(shared: Shared, permission: Permission) -> Document:
    return {**_shared(shared), "role": permission.role, "through": str(permission.grantee)}


def _shared(shared: Shared) -> Document:
    return {"name": shared.name, "key": shared.key, "remote": shared.remote, "serving": shared.serving}


def access_lines(access: Document, style: Style, width: int | None = None) -> Iterator[str]:
    """The part ``access`` of a Status document, a line a model: what is sure, what depends on a group, what is gone."""
    yield style("heading", terminal_safe(f"{access['address']} can reach {_amount(access)}"))
    yield from _lines(access["models"], "as", width)
    if access["perhaps"]:
        yield style("heading", "Perhaps more, as the service does not tell who belongs to what:")
        yield from _lines(access["perhaps"], "through", width)
    for one in access["gone"]:
        gone = f"{one['key']} is gone from the service, so nobody can reach it; run reconcile apply"
        yield from (style("warning", head) + line for head, line in told("warning: ", gone, width))


def _amount(access: Document) -> str:
    reached = len(access["models"])
    return f"{reached or 'none'} of {access['asked']} ready models{':' if reached else '.'}"


def _lines(entries: Iterable[Document], how: str, width: int | None) -> Iterator[str]:
    for one in entries:
        serves = " (serves)" if one["serving"] else ""
        text = f"{one['key']}{serves}: {one['role']} {how} {one['through']}"
        yield from ((head + line).rstrip() for head, line in told(f"  {terminal_safe(one['name'])}  ", text, width))
