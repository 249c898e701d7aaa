"""Draw a Graph report: as a tree of models and their parents, and as a flowchart for Mermaid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from reconciler.domain.model import State
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.graph import GraphNode, GraphReport, LineageGeneration
from reconciler.reports.text.format import Layout, report_heading

_STATES: Final[Mapping[State, str]] = {
    State.INTENDED: "is intended",
    State.CREATING: "is training",
    State.ACTIVE: "is ready",
    State.FAILED: "failed",
    State.CANCELLED: "was canceled",
    State.MISSING: "is missing",
    State.DELETING: "is being deleted",
    State.DELETED: "was deleted",
}


def graph_text(report: GraphReport, layout: Layout) -> str:
    """Return a Graph report as a tree."""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    if not report.nodes:
        lines.append("No model is declared or recorded.")
    return "\n".join([*lines, *_tree(report.nodes, layout)])


def _tree(nodes: Sequence[GraphNode], layout: Layout) -> Iterator[str]:
    """Yield a line for each node; parents precede their children."""
    last = {node.parent: node.id for node in nodes}
    margins: dict[str, str] = {}
    for node in nodes:
        if node.parent is None:
            margins[node.id] = ""
            yield _node_line(node, layout)
            continue
        margin = margins.get(node.parent, "")
        is_last = last[node.parent] == node.id
        margins[node.id] = margin + ("    " if is_last else "│   ")
        yield f"{margin}{'└── ' if is_last else '├── '}{_node_line(node, layout)}"


def _node_line(node: GraphNode, layout: Layout) -> str:
    name, text = terminal_safe(node.name), terminal_safe(", ".join(_phrases(node)))
    if node.kind != "model":
        name = layout.style("heading", name)
    if node.held:
        text = layout.style("hold", text)
    return f"{name}  {text}" if text else name


def _phrases(node: GraphNode) -> Iterator[str]:
    """Yield the state of a node in a few words each."""
    if node.kind == "remote":
        yield "no manifest"
    if node.kind != "model":
        return
    serving, newest = node.serving, node.newest
    if serving:
        state = "" if serving.state is State.ACTIVE else f", but {_STATES[serving.state]}"
        yield f"{serving.key} is serving{state}{_outdated(serving)}"
    if newest:
        yield f"{newest.key} {_STATES[newest.state]}{_outdated(newest)}"
    if not serving and not newest:
        yield "no generation is recorded"
    if node.held:
        yield f"held: {node.held.reason}"
    if node.rejected:
        yield f"rejected: {' '.join(node.rejected)}"
    if not node.declared:
        yield "orphaned" if node.file else "not declared here"


def _outdated(generation: LineageGeneration) -> str:
    return f" (tuned from {generation.parent}, which is not serving)" if generation.outdated else ""


def graph_mermaid(report: GraphReport) -> str:
    """Return a Graph report as a flowchart for Mermaid; a dotted line leads to a model that is not declared."""
    return "\n".join(["flowchart TD", *(f"    {line}" for node in report.nodes for line in _mermaid_lines(node))])


def _mermaid_lines(node: GraphNode) -> Iterator[str]:
    label = "<br/>".join(map(mermaid_safe, [node.name, *_phrases(node)]))
    before, after = ("[", "]") if node.kind == "model" else ("([", "])")
    yield f'{node.id}{before}"{label}"{after}'
    if node.parent:
        yield f"{node.parent} {'-->' if node.declared else '-.->'} {node.id}"


_UNSAFE: Final = re.compile(r"[-._/](?![^\W_])|(?<![^\W_])[-._/]|[^\w ./-]|(?<!\S) ")
"""Everything but letters, digits, single spaces between words, and signs that join two letters or digits.

Mermaid reads comments and directives before it parses, and Markdown and HTML afterwards. Entity codes (``#35;``) are
taken for none of these.
"""
_DECODED: Final = re.compile(r"(?<=:)(?=fa-)|(?<=\$)(?=\$)|(?<=\\)(?=n)|(?<=[\ufb02\xb6])(?=[\xb0\xdf])")
"""Where to break what Mermaid looks for in decoded text: icons, formulas, line breaks, and its spelling of codes."""


def mermaid_safe(text: str) -> str:
    """Return the text for a quoted label of Mermaid that shows it unchanged, with zero-width spaces as breaks.

    Syntax: https://mermaid.js.org/syntax/flowchart.html.
    """
    return _UNSAFE.sub(lambda found: f"#{ord(found[0])};", _DECODED.sub("\u200b", terminal_safe(text)))
