"""Which manifests tune further what others make: circles, and parents that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reconciler.domain.errors import Place, Problem
from reconciler.domain.text import shorten
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import is_told
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted


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
        where: FieldPath = ("metadata", "formerly", index)
        if isinstance(former, str) and not is_told(dotted(where), told):
            yield Former(former, name, document.place(where), dotted(where))


def renaming_faults(formers: Iterable[Former], known: Mapping[str, Place]) -> Iterator[Fault]:
    """What is wrong with former names, given the places of all ``known`` names that manifests have now."""
    claimed: dict[str, Former] = {}
    for former in formers:
        shown = shorten(former.name)
        first = claimed.setdefault(former.name, former)
        if former.name == former.manifest:
            yield _fault(former, f"{shown} is the name that it has now", "delete it")
        elif former.name in known:
            message = f"{shown} is the name of another manifest, at {known[former.name]}"
            yield _fault(former, message, "delete that manifest if it was renamed, or delete this line if it was not")
        elif first.manifest != former.manifest:
            message = f"{shown} is claimed by {shorten(first.manifest)} too, at {first.place}"
            yield _fault(former, message, "keep it in the one that was renamed")


def _fault(former: Former, message: str, remedy: str) -> Fault:
    return Fault(frozenset({former.manifest}), Problem(former.place, former.path, message, remedy))


_FIELD = "spec.source.tunedModel"


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose model a manifest tunes further, and where it says so."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with where models come from, and the manifests that cannot be tuned because of it."""

    names: frozenset[str]
    problem: Problem


def lineage_faults(
    parents: Mapping[str, Parent],
    known: Collection[str],
    *,
    complete: bool,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Fault]:
    """Everything that is wrong with these parents, by the name of the child; circles are told once each.

    ``known`` are the names of all manifests that were read, those with errors too. Where these are not ``complete``, a
    parent that is not among them may stand elsewhere. ``renamed`` are the present names by the former ones.
    """
    for circle in circles({name: parent.name for name, parent in parents.items()}):
        told = " → ".join((*circle, circle[0]))
        message = f"{shorten(circle[0])} is tuned from itself in the end: {told}"
        problem = Problem(
            parents[circle[0]].place, _FIELD, message, "write a baseModel, or another source, in one of them"
        )
        yield Fault(frozenset(circle), problem)
    for name, parent in sorted(parents.items()) if complete else ():
        if parent.name not in known:
            likely = renamed.get(parent.name, "")
            yield Fault(frozenset({name}), _missing(parent, [other for other in known if other != name], likely))


def circles(parents: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The circles among names, each from its first name on, from child to parent."""
    settled: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        name = start
        while name in parents and name not in settled and name not in path:
            path[name] = None
            name = parents[name]
        if name in path:
            names = list(path)
            circle = names[names.index(name) :]
            first = circle.index(min(circle))
            yield (*circle[first:], *circle[:first])
        settled.update(path)


def _missing(parent: Parent, known: Collection[str], renamed: str) -> Problem:
    near = [renamed] if renamed else difflib.get_close_matches(parent.name, known, n=1)
    meant = f"did you mean {near[0]}? Else " if near else ""
    remedy = f"{meant}restore it, or write source: {{remote: …}} with the model's remote name, which the lockfile keeps"
    return Problem(parent.place, _FIELD, f"no manifest is called {shorten(parent.name)}", remedy)
