"""Build Graph documents: models and what they are tuned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Manifest, Source, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.envelope import Document, envelope, filled

NodeKind = Literal["baseModel", "remote", "model"]
_KINDS: Final[tuple[NodeKind, ...]] = ("baseModel", "remote", "model")
"""In the order in which roots are shown."""


class GraphInput(Struct, frozen=True):
    """The manifests, their record, and the actions that hold manifests, by name."""

    manifests: tuple[Manifest, ...]
    lock: Lock
    lockfile: str
    holds: Mapping[str, Action] = {}


class _GraphNode(Struct, frozen=True, order=True):
    rank: int
    name: str

    @property
    def kind(self) -> NodeKind:
        return _KINDS[self.rank]


def graph_document(graph: GraphInput, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
    """Return a Graph document: every model after its parent (schema: graph).

    A recorded model that is not declared has the parent of its last generation.
    """
    declared = {manifest.name: manifest for manifest in graph.manifests}
    parents = _parents(declared, graph.lock)
    ids: dict[_GraphNode, str] = {}
    nodes = []
    for node in _parents_first(parents):
        ids[node] = f"n{len(ids) + 1}"
        parent = parents.get(node)
        fields = _model_fields(node, declared.get(node.name), graph) if node.kind == "model" else {}
        origin = {"parent": ids[parent]} if parent else {}
        nodes.append({"id": ids[node], "kind": node.kind, "name": node.name, **origin, **fields})
    return {**envelope("Graph", target, capabilities, root), "lockfile": graph.lockfile, "nodes": nodes}


def _parents(declared: Mapping[str, Manifest], lock: Lock) -> dict[_GraphNode, _GraphNode | None]:
    """Return the parent of each model; ``None`` if it is unknown."""
    recorded = {name: shown.source for name, model in lock.models.items() if (shown := _shown_generation(model))}
    sources = {**recorded, **{name: manifest.source for name, manifest in declared.items()}}
    names = {*declared, *lock.models}
    parents = {_model(name): _origin(sources.get(name, Source())) for name in names}
    for node in sorted(parents):
        if node in _ancestors(node, parents):  # manifests cannot have cycles, but lockfiles can be edited by hand
            parents[node] = None
    return parents


def _shown_generation(model: LockedModel) -> LockedGeneration | None:
    """Return the generation whose source is shown: the serving one, or the newest if none is serving."""
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
    ancestor = parents.get(node)
    while ancestor and ancestor not in found:
        found.add(ancestor)
        ancestor = parents.get(ancestor)
    return found


def _parents_first(parents: Mapping[_GraphNode, _GraphNode | None]) -> Iterator[_GraphNode]:
    """Yield every node before its children, siblings in order."""
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


def _model_fields(node: _GraphNode, manifest: Manifest | None, graph: GraphInput) -> Document:
    """Return the fields of a model of this project."""
    model = graph.lock.models.get(node.name)
    hold = graph.holds.get(node.name)
    return filled(
        {
            "declared": manifest is not None,
            "file": manifest.file if manifest else model.manifest if model else "",
            **(_recorded(model, graph.lock) if model else {}),
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


def _generation(generation: LockedGeneration, lock: Lock) -> Document:
    parent = lock.models.get(generation.source.tuned_model)
    return filled(
        {
            "key": generation.key,
            "state": generation.state.value,
            "from": generation.source.key,
            "outdated": True if generation.source.key and parent and parent.serving != generation.source.key else None,
        }
    )
