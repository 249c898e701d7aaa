"""What is tuned from what, and how each model stands: as a document, as a tree, and for Mermaid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Manifest, Source, State, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Style, plain
from reconciler.reports.text.plan import target_line

NodeKind = Literal["baseModel", "remote", "model"]
_KINDS: Final[tuple[NodeKind, ...]] = ("baseModel", "remote", "model")
"""In the order in which roots are shown."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is declared, what was recorded of it, and by name what holds it; ``lockfile`` is the lockfile's path."""

    manifests: tuple[Manifest, ...]
    lock: Lock
    lockfile: str
    holds: Mapping[str, Action] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class _Node:
    rank: int
    name: str

    @property
    def kind(self) -> NodeKind:
        return _KINDS[self.rank]


def graph_document(lineage: Lineage, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
    """Every model below what it is tuned from, parents first (schema: graph).

    A model that is recorded and no longer declared stands below what its last generation was tuned from.
    """
    declared = {manifest.name: manifest for manifest in lineage.manifests}
    parents = _parents(declared, lineage.lock)
    ids: dict[_Node, str] = {}
    nodes = []
    for node in _parents_first(parents):
        ids[node] = f"n{len(ids) + 1}"
        parent = parents.get(node)
        told = _told(node, declared.get(node.name), lineage) if node.kind == "model" else {}
        origin = {"parent": ids[parent]} if parent else {}
        nodes.append({"id": ids[node], "kind": node.kind, "name": node.name, **origin, **told})
    return {**envelope("Graph", target, capabilities, root), "lockfile": lineage.lockfile, "nodes": nodes}


def _parents(declared: Mapping[str, Manifest], lock: Lock) -> dict[_Node, _Node | None]:
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


def _origin(source: Source) -> _Node | None:
    if source.tuned_model:
        return _model(source.tuned_model)
    if source.base_model:
        return _Node(_KINDS.index("baseModel"), source.base_model)
    return _Node(_KINDS.index("remote"), source.remote) if source.remote else None


def _model(name: str) -> _Node:
    return _Node(_KINDS.index("model"), name)


def _ancestors(node: _Node, parents: Mapping[_Node, _Node | None]) -> set[_Node]:
    found: set[_Node] = set()
    at = parents.get(node)
    while at and at not in found:
        found.add(at)
        at = parents.get(at)
    return found


def _parents_first(parents: Mapping[_Node, _Node | None]) -> Iterator[_Node]:
    """Every node and then what is below it, roots and siblings in order."""
    children: dict[_Node | None, set[_Node]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, set()).add(node)
        if parent and parent not in parents:
            children.setdefault(None, set()).add(parent)
    left = sorted(children.get(None, ()), reverse=True)
    while left:
        node = left.pop()
        yield node
        left += sorted(children.get(node, ()), reverse=True)


def _told(node: _Node, manifest: Manifest | None, lineage: Lineage) -> Document:
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


def graph_text(document: Document, *, style: Style = plain) -> str:
    """A Graph document as a tree."""
    lines = [target_line(document, style)]
    if not document["nodes"]:
        lines.append("No model is declared or recorded.")
    return "\n".join([*lines, *_tree(document["nodes"], style)])


def _tree(nodes: Iterable[Document], style: Style) -> Iterator[str]:
    """A line a node; parents come before what is below them, and siblings in order."""
    nodes = list(nodes)
    last = {node.get("parent"): node["id"] for node in nodes}
    margins: dict[str, str] = {}
    for node in nodes:
        if "parent" not in node:
            margins[node["id"]] = ""
            yield _line(node, style)
            continue
        margin = margins[node["parent"]]
        ends = last[node["parent"]] == node["id"]
        margins[node["id"]] = margin + ("    " if ends else "│   ")
        yield f"{margin}{'└── ' if ends else '├── '}{_line(node, style)}"


def _line(node: Document, style: Style) -> str:
    name, told = terminal_safe(node["name"]), terminal_safe(", ".join(_phrases(node)))
    if node["kind"] != "model":
        name = style("heading", name)
    if "held" in node:
        told = style("hold", told)
    return f"{name}  {told}" if told else name


_WORDS: Final[Mapping[str, str]] = {
    State.INTENDED: "is intended",
    State.CREATING: "trains",
    State.ACTIVE: "is ready",
    State.FAILED: "failed",
    State.CANCELLED: "was cancelled",
    State.MISSING: "is gone",
    State.DELETED: "was deleted",
}


def _phrases(node: Document) -> Iterator[str]:
    """What is to be said of a node, in few words each."""
    if node["kind"] == "remote":
        yield "no manifest's"
    if node["kind"] != "model":
        return
    serving, newest = node.get("serving"), node.get("newest")
    if serving:
        plight = "" if serving["state"] == State.ACTIVE else f", and {_WORDS[serving['state']]}"
        yield f"{serving['key']} serves{plight}{_stale(serving)}"
    if newest:
        yield f"{newest['key']} {_WORDS[newest['state']]}{_stale(newest)}"
    if not serving and not newest:
        yield "nothing is recorded"
    if "held" in node:
        yield f"held: {node['held']['reason']}"
    if "rejected" in node:
        yield f"rejected: {' '.join(node['rejected'])}"
    if not node["declared"]:
        yield "no longer declared" if "file" in node else "not declared here"


def _stale(generation: Document) -> str:
    return f" (tuned from {generation['from']}, which does not serve)" if "outdated" in generation else ""


def graph_mermaid(document: Document) -> str:
    """A Graph document as a flowchart for Mermaid; what is no longer declared hangs on a dotted line."""
    return "\n".join(["flowchart TD", *(f"    {line}" for node in document["nodes"] for line in _drawn(node))])


def _drawn(node: Document) -> Iterator[str]:
    label = "<br/>".join(map(mermaid_safe, [node["name"], *_phrases(node)]))
    before, after = ("[", "]") if node["kind"] == "model" else ("([", "])")
    yield f'{node["id"]}{before}"{label}"{after}'
    if "parent" in node:
        arrow = "-->" if node["declared"] else "-.->"
        yield f"{node['parent']} {arrow} {node['id']}"


_UNCLEAR: Final = re.compile(r"[-._/](?![^\W_])|(?<![^\W_])[-._/]|[^\w ./-]|(?<!\S) ")
"""Everything but letters, digits, single spaces between words, and the signs that join names between two of those.

Mermaid takes text apart as comments and directives before it is parsed, as Markdown and as HTML after it. What it never
takes for any of these it is given as an entity code (#35;).
"""
_LATE: Final = re.compile(r"(?<=:)(?=fa-)|(?<=\$)(?=\$)|(?<=\\)(?=n)|(?<=[\ufb02\xb6])(?=[\xb0\xdf])")
"""Where to break what Mermaid looks for once entity codes are text again: icons, formulas, line breaks, and its own
spelling of entity codes."""


def mermaid_safe(text: str) -> str:
    """A text for a quoted label of Mermaid that shows as exactly that: see https://mermaid.js.org/syntax/flowchart.html.

    A break is a zero width space.
    """
    return _UNCLEAR.sub(lambda found: f"#{ord(found[0])};", _LATE.sub("\u200b", terminal_safe(text)))
