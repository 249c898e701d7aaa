"""Check the references between manifests: parents (``spec.source.tunedModel``) and former names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from reconciler.domain.errors import Place, Problem
from reconciler.domain.text import shorten, suggest
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted

_PARENT_FIELD = "spec.source.tunedModel"


class FormerName(Struct, frozen=True):
    """A former name of the manifest that is now called ``manifest``, and where it is declared."""

    name: str
    manifest: str
    place: Place
    path: str


class Parent(Struct, frozen=True):
    """The name of the manifest whose model is tuned further, and where it is declared."""

    name: str
    place: Place


class ReferenceFault(Struct, frozen=True):
    """An error in a reference, and the names of the manifests that cannot be used because of it."""

    names: frozenset[str]
    problem: Problem


def former_names(document: YamlDocument, found: Iterable[Problem]) -> Iterator[FormerName]:
    """Yield the former names of a document, except those with a problem in ``found``."""
    metadata = mapping(document.value.get("metadata"))
    name, names = metadata.get("name"), metadata.get("formerly")
    problems = tuple(found)
    if not isinstance(name, str) or not isinstance(names, list):
        return
    for index, former in enumerate(names):
        path: FieldPath = ("metadata", "formerly", index)
        if isinstance(former, str) and not has_problem(dotted(path), problems):
            yield FormerName(former, name, document.place(path), dotted(path))


def renaming_faults(formers: Iterable[FormerName], known: Mapping[str, Place]) -> Iterator[ReferenceFault]:
    """Yield the errors in former names, given the places of the current names of all manifests."""
    first_use: dict[str, FormerName] = {}
    for former in formers:
        shown = f'"{shorten(former.name)}"'
        first = first_use.setdefault(former.name, former)
        if former.name == former.manifest:
            yield _former_fault(former, f"former name {shown} is the current name", "remove it")
        elif former.name in known:
            message = f"former name {shown} is used by another manifest, at {known[former.name]}"
            yield _former_fault(former, message, "delete that manifest if it was renamed, else remove this line")
        elif first.manifest != former.manifest:
            message = f'former name {shown} is also declared by "{shorten(first.manifest)}", at {first.place}'
            yield _former_fault(former, message, "keep it in the manifest that was renamed")


def _former_fault(former: FormerName, message: str, remedy: str) -> ReferenceFault:
    return ReferenceFault(frozenset({former.manifest}), Problem(former.place, former.path, message, remedy))


def lineage_faults(
    parents: Mapping[str, Parent],
    known: Collection[str],
    *,
    complete: bool,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[ReferenceFault]:
    """Yield the errors in these parents, by the name of the child; each cycle is reported once.

    ``known`` are the names of all manifests that were read, with or without errors. Unless the root was read
    ``complete``, a parent that is not among them may exist. ``renamed`` has the current names by former ones.
    """
    for cycle in cycles({name: parent.name for name, parent in parents.items()}):
        message = f"cycle of sources: {' → '.join((*cycle, cycle[0]))}"
        remedy = "set baseModel, or another source, in one of these manifests"
        problem = Problem(parents[cycle[0]].place, _PARENT_FIELD, message, remedy)
        yield ReferenceFault(frozenset(cycle), problem)
    for name, parent in sorted(parents.items()) if complete else ():
        if parent.name not in known:
            candidates = [candidate for candidate in known if candidate != name]
            yield ReferenceFault(frozenset({name}), _unknown_parent(parent, candidates, renamed.get(parent.name, "")))


def cycles(parents: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield the cycles among names from child to parent, each starting with its first name in the alphabet."""
    visited: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        name = start
        while name in parents and name not in visited and name not in path:
            path[name] = None
            name = parents[name]
        if name in path:
            names = list(path)
            cycle = names[names.index(name) :]
            first = cycle.index(min(cycle))
            yield (*cycle[first:], *cycle[:first])
        visited.update(path)


def _unknown_parent(parent: Parent, known: Collection[str], renamed: str) -> Problem:
    similar = f"did you mean {renamed}?" if renamed else suggest(parent.name, known)
    restore = "restore it, or set source: {remote: NAME} with the remote name from the lockfile"
    remedy = f"{similar} Otherwise {restore}" if similar else restore
    return Problem(parent.place, _PARENT_FIELD, f'no manifest is named "{shorten(parent.name)}"', remedy)
