"""Graph reports: models and what they are tuned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from reconciler.domain.document import END, Key, LockfilePath, NonEmpty, Record
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Manifest, Source, State, Target
from reconciler.domain.plan import Action, Reason
from reconciler.reports.documents.envelope import TargetReport, target_summary

NodeKind = Literal["baseModel", "remote", "model"]
_KINDS: Final[tuple[NodeKind, ...]] = ("baseModel", "remote", "model")
"""In the order in which roots are shown."""
NodeId = Annotated[str, Meta(pattern=f"^n[1-9][0-9]*{END}", extra={"expected": "the ID of a node, such as n1"})]


class LineageGeneration(Record, frozen=True, kw_only=True):
    """A generation and the generation of the parent that it was tuned from."""

    key: Key
    state: State
    """The recorded state."""
    parent: str = msgspec.field(name="from", default="")
    """The key of the parent generation."""
    outdated: bool = False
    """Whether its parent generation is not the serving one; omitted if it is."""


class NodeHold(Record, frozen=True):
    """Why a model is held."""

    reason: Reason
    """The reason of the hold, as in plans."""
    message: str
    """The reason as a sentence, and the remedy."""


class GraphNode(Record, frozen=True, kw_only=True):
    """One model."""

    id: NodeId
    """The ID of the node in this document."""
    kind: NodeKind
    """A base model, an unmanaged tuned model, or the model of a manifest."""
    name: NonEmpty
    """The base model, the remote name, or the manifest's metadata.name."""
    parent: NodeId | None = None
    """The ID of the parent; omitted for roots."""
    declared: bool | None = None
    """Whether a manifest declares the model; only for models."""
    file: str = ""
    """The path of the manifest relative to the root, even if the file no longer exists; `-` is standard input."""
    serving: LineageGeneration | None = None
    """The serving generation; omitted if there is none."""
    newest: LineageGeneration | None = None
    """The newest generation, if it is not the serving one."""
    rejected: tuple[NonEmpty, ...] = ()
    """The keys of the rejected generations."""
    held: NodeHold | None = None
    """Why the model is held, according to an offline plan."""


class GraphReport(TargetReport, frozen=True, kw_only=True, tag="Graph"):
    """The lineage of models and their states: the output of `reconcile graph --format json`."""

    verified: Literal[False] = msgspec.field(default_factory=lambda: False)  # a plain default would be omitted
    """The service is not queried: the document contains what the lockfile records."""
    lockfile: LockfilePath
    nodes: tuple[GraphNode, ...]
    """Base models, unmanaged parents and the models that are tuned from them; parents come before their children."""


class GraphInput(Struct, frozen=True):
    """The manifests, their record, and the actions that hold manifests, by name."""

    manifests: tuple[Manifest, ...]
    lock: Lock
    lockfile: str
    holds: Mapping[str, Action] = {}


class _LineageNode(Struct, frozen=True, order=True):
    rank: int
    name: str

    @property
    def kind(self) -> NodeKind:
        return _KINDS[self.rank]


def graph_report(graph: GraphInput, target: Target, capabilities: Capabilities, *, root: str = "") -> GraphReport:
    """Return the report of every model after its parent.

    A recorded model that is not declared has the parent of its last generation.
    """
    declared = {manifest.name: manifest for manifest in graph.manifests}
    parents = _parents(declared, graph.lock)
    ids: dict[_LineageNode, str] = {}
    nodes = []
    for model in _parents_first(parents):
        ids[model] = f"n{len(ids) + 1}"
        parent = parents.get(model)
        node = GraphNode(id=ids[model], kind=model.kind, name=model.name, parent=ids[parent] if parent else None)
        nodes.append(_described(node, declared.get(node.name), graph) if node.kind == "model" else node)
    return GraphReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        lockfile=graph.lockfile,
        nodes=tuple(nodes),
    )


def _parents(declared: Mapping[str, Manifest], lock: Lock) -> dict[_LineageNode, _LineageNode | None]:
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
    return model.serving_generation or next(iter(model.generations), None)


def _origin(source: Source) -> _LineageNode | None:
    if source.tuned_model:
        return _model(source.tuned_model)
    if source.base_model:
        return _LineageNode(_KINDS.index("baseModel"), source.base_model)
    return _LineageNode(_KINDS.index("remote"), source.remote) if source.remote else None


def _model(name: str) -> _LineageNode:
    return _LineageNode(_KINDS.index("model"), name)


def _ancestors(node: _LineageNode, parents: Mapping[_LineageNode, _LineageNode | None]) -> set[_LineageNode]:
    found: set[_LineageNode] = set()
    ancestor = parents.get(node)
    while ancestor and ancestor not in found:
        found.add(ancestor)
        ancestor = parents.get(ancestor)
    return found


def _parents_first(parents: Mapping[_LineageNode, _LineageNode | None]) -> Iterator[_LineageNode]:
    """Yield every node before its children, siblings in order."""
    children: dict[_LineageNode | None, set[_LineageNode]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, set()).add(node)
        if parent and parent not in parents:
            children.setdefault(None, set()).add(parent)
    left = sorted(children.get(None, ()), reverse=True)
    while left:
        node = left.pop()
        yield node
        left += sorted(children.get(node, ()), reverse=True)


def _described(node: GraphNode, manifest: Manifest | None, graph: GraphInput) -> GraphNode:
    """Return the node of a model of this project with its manifest, its generations and its hold."""
    model, hold = graph.lock.models.get(node.name), graph.holds.get(node.name)
    serving = model.serving_generation if model else None
    newest = next(iter(model.generations), None) if model else None
    return replace(
        node,
        declared=manifest is not None,
        file=manifest.file if manifest else model.manifest if model else "",
        serving=_generation(serving, graph.lock) if serving else None,
        newest=_generation(newest, graph.lock) if newest and newest is not serving else None,
        rejected=model.rejected if model else (),
        held=NodeHold(hold.reason, hold.message) if hold else None,
    )


def _generation(generation: LockedGeneration, lock: Lock) -> LineageGeneration:
    parent = lock.models.get(generation.source.tuned_model)
    return LineageGeneration(
        key=generation.key,
        state=generation.state,
        parent=generation.source.key,
        outdated=bool(generation.source.key and parent and not parent.serves(generation.source.key)),
    )
