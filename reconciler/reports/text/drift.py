"""Draw a Drift document: manifest files, their models, and how desired, live and recorded state differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from reconciler.domain.drift import DriftClass
from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Detail, Layout, Role, counted, minute, signed_head, value
from reconciler.reports.text.plan import notices_text, target_line, unchanged_models

_IN_SYNC: Final = str(DriftClass.IN_SYNC)
SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "drift": ("!", "hold"),
    "note": ("i", "muted"),
    _IN_SYNC: ("=", "muted"),
}
"""Sign and role of a finding, by its weight: its severity, or that the model is in sync."""


def drift_text(document: Document, layout: Layout) -> str:
    """Return a Drift document as a tree; a verbose layout includes models that are in sync."""
    shown = [finding for finding in document["findings"] if layout.verbose or finding["class"] != _IN_SYNC]
    lines = [target_line(document, layout)]
    explained: dict[str, str] = {}
    for file, findings in groupby(shown, key=lambda finding: finding.get("file", "")):
        lines.append(terminal_safe(_file_line(file, document)))
        for similar in similar_findings(findings):
            lines += _finding_lines(similar, explained, layout)
    if document["notices"]:
        lines.append(notices_text(document["notices"], layout))
    return "\n".join([*lines, *_closing(document, layout)])


def similar_findings(findings: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield groups of findings that differ only in their field: each group is shown as one finding."""
    shared = ("name", "class", "severity", "key", "remote", "since", "message", "remedy")
    for _, similar in groupby(findings, key=lambda finding: [finding.get(field) for field in shared]):
        yield list(similar)


def finding_weight(finding: Document) -> str:
    """Return the severity of a finding, or its class where the model is in sync."""
    return _IN_SYNC if finding["class"] == _IN_SYNC else str(finding["severity"])


def _file_line(file: str, document: Document) -> str:
    if file:
        return "standard input" if file == "-" else file
    return f"no manifest in {document['target'].get('root', '.')}"


def _finding_lines(similar: Sequence[Document], explained: dict[str, str], layout: Layout) -> Iterator[str]:
    finding = similar[0]
    sign, role = SIGNS[finding_weight(finding)]
    since = f" since {minute(finding['since'])}" if "since" in finding else ""
    head = signed_head(sign, finding.get("name") or finding.get("remote", ""))
    yield from layout.lines(head, f"{finding['class']}{since}", role)
    yield from layout.details(_details(similar, explained))


def _details(similar: Sequence[Document], explained: dict[str, str]) -> Iterator[Detail]:
    finding = similar[0]
    if finding["class"] == _IN_SYNC:
        return
    name, message = finding.get("name", ""), finding["message"]
    first = explained.setdefault(message, name) if "\n" in message else ""
    yield "why", message if first in {"", name} else f"same as {first}"
    if "key" in finding:
        yield "generation", finding["key"]
    for number, differing in enumerate(finding for finding in similar if "field" in finding):
        yield "" if number else "differs", f"{differing['field']}: {difference(differing)}"
    if "remedy" in finding:
        yield "remedy", finding["remedy"]


def difference(finding: Document) -> str:
    """Return the live and the declared value of the field that a finding is about."""
    declared = "" if finding["class"] == DriftClass.UNMANAGED else f", declared {value(finding.get('declared'))}"
    return f"live {value(finding.get('live'))}{declared}"


def _closing(document: Document, layout: Layout) -> Iterator[str]:
    yield from layout.sentences("muted", *unchanged_models(document.get("unmanaged", 0), document.get("candidates", 0)))
    in_sync = document["summary"].get(_IN_SYNC, 0)
    if in_sync and document["drifted"]:
        yield f"{counted(in_sync, 'model is', 'models are')} in sync."
    yield from layout.sentences("hold" if document["drifted"] else "good", drift_summary(document))


def drift_summary(document: Document) -> str:
    """Return the totals of a Drift document in one line, such as ``Drift: 1 Missing. Notes: 1 InProgress.``."""
    counts = {severity: _counts(document, severity) for severity in ("drift", "note")}
    notes = f" Notes: {counts['note']}." if counts["note"] else ""
    if counts["drift"]:
        return f"Drift: {counts['drift']}.{notes}"
    return f"No drift: {counted(document['summary'].get(_IN_SYNC, 0), 'model')} in sync.{notes}"


def _counts(document: Document, severity: str) -> str:
    """Return how many findings of a severity each class has, without models that are in sync."""
    found = Counter(finding["class"] for finding in document["findings"] if finding["severity"] == severity)
    return ", ".join(f"{found[kind]} {kind}" for kind in DriftClass if found[kind] and kind != DriftClass.IN_SYNC)
