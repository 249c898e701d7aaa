"""Build Graph documents: models and what they are tuned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Manifest, Source, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.envelope import Document, envelope, filled

NodeKind = Literal["baseModel", "remote", "model"]
_KINDS: Final[tuple[NodeKind, ...]] = ("baseModel", "remote", "model")
"""In the order in which roots are shown."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """What is declared, what was recorded of it, and by name what holds it; ``lockfile`` is the lockfile's path."""

    manifests: tuple[Manifest, ...]
    lock: Lock
    lockfile: str
    holds: Mapping[str, Action] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class _GraphNode:
    rank: int
    name: str

    @property
    def kind(self) -> NodeKind:
        return _KINDS[self.rank]


def graph_document(lineage: GraphInput, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
    """Every model below what it is tuned from, parents first (schema: graph).

    A model that is recorded and no longer declared stands below what its last generation was tuned from.
    """
    declared = {manifest.name: manifest for manifest in lineage.manifests}
    parents = _parents(declared, lineage.lock)
    ids: dict[_GraphNode, str] = {}
    nodes = []
    for node in _parents_first(parents):
        ids[node] = f"n{len(ids) + 1}"
        parent = parents.get(node)
        told = _told(node, declared.get(node.name), lineage) if node.kind == "model" else {}
        origin = {"parent": ids[parent]} if parent else {}
        nodes.append({"id": ids[node], "kind": node.kind, "name": node.name, **origin, **told})
    return {**envelope("Graph", target, capabilities, root), "lockfile": lineage.lockfile, "nodes": nodes}


def _parents(declared: Mapping[str, Manifest], lock: Lock) -> dict[_GraphNode, _GraphNode | None]:
    """What each model is tuned from, as far as that is known."""
    recorded = {name: shown.source for name, model in lock.models.items() if (shown := _shown(model))}
    sources = {**recorded, **{name: manifest.source for name, manifest in declared.items()}}
    names = {*declared, *lock.models}
    parents = {_model(name): _origin(sources.get(name, Source())) for name in names}
    for node in sorted(parents):
        if node in _ancestors(node, parents):  # validation allows none, but people can edit lockfiles
            parents[node] = None
    return parents


def _shown(model: LockedModel) -> LockedGeneration | None:
    """The generation that tells where a model comes from: the serving one, else the newest."""
    return model.generation(model.serving) or next(iter(model.generations), None)


def _origin(source: Source) -> _GraphNode | None:
    if source.tuned_model:
        return _model(source.tuned_model)
    if source.base_model:
        return _GraphNode(_KINDS.index("baseModel"), source.base_model)
    return _GraphNode(_KINDS.index("remote"), source.remote) if source.remote else None


def _model(name: str) -> _GraphNode:
    return _GraphNode(_KINDS.index("model"), name)


def _ancestors(node: _GraphNode, parents: Mapping[_GraphNode, _GraphNode | None]) -> set[_GraphNode]:
    found: set[_GraphNode] = set()
    at = parents.get(node)
    while at and at not in found:
        found.add(at)
        at = parents.get(at)
    return found


def _parents_first(parents: Mapping[_GraphNode, _GraphNode | None]) -> Iterator[_GraphNode]:
    """Every node and then what is below it, roots and siblings in order."""
    children: dict[_GraphNode | None, set[_GraphNode]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, set()).add(node)
        if parent and parent not in parents:
            children.setdefault(None, set()).add(parent)
    left = sorted(children.get(None, ()), reverse=True)
    while left:
        node = left.pop()
        yield node
        left += sorted(children.get(node, ()), reverse=True)


def _told(node: _GraphNode, manifest: Manifest | None, lineage: GraphInput) -> Document:
    """What is to be said of a model of ours."""
    model = lineage.lock.models.get(node.name)
    hold = lineage.holds.get(node.name)
    return filled(
        {
            "declared": manifest is not None,
            "file": manifest.file if manifest else model.manifest if model else "",
            **(_recorded(model, lineage.lock) if model else {}),
            "held": {"reason": hold.reason.value, "message": hold.message} if hold else None,
        }
    )


def _recorded(model: LockedModel, lock: Lock) -> Document:
    serving = model.generation(model.serving)
    newest = next(iter(model.generations), None)
    return {
        "serving": _generation(serving, lock) if serving else None,
        "newest": _generation(newest, lock) if newest and newest is not serving else None,
        "rejected": list(model.rejected),
    }


def _generation(one: LockedGeneration, lock: Lock) -> Document:
    parent = lock.models.get(one.source.tuned_model)
    return filled(
        {
            "key": one.key,
            "state": one.state.value,
            "from": one.source.key,
            "outdated": True if one.source.key and parent and parent.serving != one.source.key else None,
        }
    )
