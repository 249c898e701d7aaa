"""Names that manifests had before: whose they are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.problems import Place, Problem
from reconciler.files.effective import mapping
from reconciler.files.explain import is_told
from reconciler.files.lineage import Fault
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, Path, dotted


@dataclass(frozen=True, slots=True)
class Former:
    """A name that a manifest had, by the name that it has now, and where it says so."""

    name: str
    manifest: str
    place: Place
    path: str


def former_names(document: Document, found: Iterable[Problem]) -> Iterator[Former]:
    """The former names of one document that fit its schema, which is what ``found`` tells."""
    metadata = mapping(document.value.get("metadata"))
    name, names = metadata.get("name"), metadata.get("formerly")
    told = tuple(found)
    if not isinstance(name, str) or not isinstance(names, list):
        return
    for index, former in enumerate(names):
        where: Path = ("metadata", "formerly", index)
        if isinstance(former, str) and not is_told(dotted(where), told):
            yield Former(former, name, document.place(where), dotted(where))


def renaming_faults(formers: Iterable[Former], known: Mapping[str, Place]) -> Iterator[Fault]:
    """What is wrong with former names, given the places of all ``known`` names that manifests have now."""
    claimed: dict[str, Former] = {}
    for former in formers:
        shown = shortened(former.name)
        first = claimed.setdefault(former.name, former)
        if former.name == former.manifest:
            yield _fault(former, f"{shown} is the name that it has now", "delete it")
        elif former.name in known:
            message = f"{shown} is the name of another manifest, at {known[former.name]}"
            yield _fault(former, message, "delete that manifest if it was renamed, or delete this line if it was not")
        elif first.manifest != former.manifest:
            message = f"{shown} is claimed by {shortened(first.manifest)} too, at {first.place}"
            yield _fault(former, message, "keep it in the one that was renamed")


def _fault(former: Former, message: str, remedy: str) -> Fault:
    return Fault(frozenset({former.manifest}), Problem(former.place, former.path, message, remedy))
