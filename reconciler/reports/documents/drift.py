"""Drift: the document of what has changed and where manifests are ahead, and its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, folded, minute, plain, told, value
from reconciler.reports.text.plan import display_path, target_line

_NAME_WIDTH: Final = 19
"""Columns of a name, and of the labels below it, with the space after them."""
_SIGNS: Final[Mapping[str, tuple[str, Role]]] = {"drift": ("!", "hold"), "note": ("i", "muted")}
_SYNCED: Final[tuple[str, Role]] = ("=", "muted")
_ORDER: Final = {str(one): position for position, one in enumerate(DriftClass)}
_SHARED: Final = ("name", "class", "severity", "key", "remote", "since", "message", "remedy")
"""What findings have in common that are told as one, with a line for each field that differs."""


def drift_document(
    findings: Sequence[Finding],
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    unmanaged: int | None,
    notices: Sequence[str] = (),
    exit_zero: bool = False,
    root: str = "",
) -> Document:
    """What is found (schema: drift); ``unmanaged`` counts foreign models, ``None`` where nobody wants to know.

    ``exit_zero`` says that the command does not tell drift by its exit status.
    """
    drifted = any(one.severity == "drift" for one in findings)
    status = ExitStatus.CHANGES if drifted and not exit_zero else ExitStatus.OK
    counts = Counter(one.kind for one in findings)
    return {
        **envelope("Drift", target, capabilities, root),
        "lockfile": lockfile,
        "exitStatus": int(status),
        "drifted": drifted,
        "summary": {str(kind): counts[kind] for kind in DriftClass if counts[kind]},
        "findings": [_finding(one, root) for one in findings],
        "notices": list(notices),
        **({} if unmanaged is None else {"unmanaged": unmanaged}),
    }


def _finding(one: Finding, root: str) -> Document:
    place = one.place
    told_values = {name: found for name, found in (("declared", one.declared), ("live", one.live)) if found is not None}
    return {
        "class": str(one.kind),
        "severity": one.severity,
        **filled(
            {
                "name": one.name,
                "file": place.file if place else display_path(one.file, root) if one.file else "",
                "line": place.line if place else None,
                "column": place.column if place else None,
                "key": one.key,
                "remote": one.remote,
                "field": one.field,
            }
        ),
        **told_values,
        **filled({"since": one.since}),
        "message": one.message,
        **filled({"remedy": one.remedy}),
    }


def drift_text(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """A Drift document as a tree, folded to ``width`` columns; ``verbose`` lists the models in sync too."""
    shown = [one for one in document["findings"] if verbose or one["class"] != DriftClass.IN_SYNC]
    lines = [target_line(document, style, width)]
    explained: dict[str, str] = {}
    for file, findings in groupby(shown, key=lambda one: one.get("file", "")):
        lines.append(terminal_safe(_heading(file, document)))
        for _, alike in groupby(findings, key=lambda one: [one.get(name) for name in _SHARED]):
            lines += _told(list(alike), explained, width, style)
    for notice in document["notices"]:
        lines += [style("warning", margin) + line for margin, line in folded("Note: ", terminal_safe(notice), width)]
    return "\n".join([*lines, *_closing(document, width, style)])


def _heading(file: str, document: Document) -> str:
    if file:
        return "standard input" if file == "-" else file
    return f"without a manifest in {document['target'].get('root', '.')}"


def _told(alike: Sequence[Document], explained: dict[str, str], width: int | None, style: Style) -> Iterator[str]:
    """One finding, or several that differ in their fields alone."""
    one = alike[0]
    sign, role = _SYNCED if one["class"] == DriftClass.IN_SYNC else _SIGNS[one["severity"]]
    name = one.get("name") or one.get("remote", "")
    head = terminal_safe(f"  {sign} {name:<{_NAME_WIDTH}}  ")
    since = f" since {minute(one['since'])}" if "since" in one else ""
    for margin, line in folded(head, terminal_safe(f"{one['class']}{since}"), width):
        yield f"{style(role, margin)}{line}".rstrip()
    for label, text in _details(alike, explained):
        for margin, line in told(f"      {label:<{_NAME_WIDTH}}", text, width):
            yield f"{style('muted', margin)}{line}".rstrip()


def _details(alike: Sequence[Document], explained: dict[str, str]) -> Iterator[tuple[str, str]]:
    one = alike[0]
    if one["class"] == DriftClass.IN_SYNC:
        return
    first = explained.setdefault(one["message"], one.get("name", "")) if "\n" in one["message"] else ""
    yield "why", one["message"] if first in {"", one.get("name")} else f"the same as {first}"
    if "key" in one:
        yield "generation", one["key"]
    for number, differing in enumerate(one for one in alike if "field" in one):
        yield "" if number else "differs", _difference(differing)
    if "remedy" in one:
        yield "remedy", one["remedy"]


def _difference(one: Document) -> str:
    declared = "" if one["class"] == DriftClass.UNMANAGED else f", declared {value(one.get('declared'))}"
    return f"{one['field']}: {value(one.get('live'))}{declared}"


def _closing(document: Document, width: int | None, style: Style) -> Iterator[str]:
    unmanaged = document.get("unmanaged", 0)
    if unmanaged:
        verbs = "is unmanaged and stays" if unmanaged == 1 else "are unmanaged and stay"
        yield style("muted", f"{counted(unmanaged, 'foreign model')} {verbs} untouched.")
    synced = document["summary"].get(str(DriftClass.IN_SYNC), 0)
    if synced and document["drifted"]:
        yield f"{counted(synced, 'model is', 'models are')} in sync."
    role: Role = "hold" if document["drifted"] else "good"
    for line in _lines(drift_summary(document), width):
        yield style(role, line)


def _lines(text: str, width: int | None) -> Iterator[str]:
    yield from (margin + line for margin, line in folded("", text, width))


def drift_summary(document: Document) -> str:
    """What a Drift document comes to, as in ``Drift: 1 Missing, 2 Modified. Noted: 1 InProgress.``, in one line."""
    counts = {severity: _counts(document, severity) for severity in ("drift", "note")}
    noted = f" Noted: {counts['note']}." if counts["note"] else ""
    if counts["drift"]:
        return f"Drift: {counts['drift']}.{noted}"
    synced = document["summary"].get(str(DriftClass.IN_SYNC), 0)
    return f"No drift: {counted(synced, 'model is', 'models are')} in sync.{noted}"


def _counts(document: Document, severity: str) -> str:
    """How many findings of that severity there are of each class; models in sync are counted elsewhere."""
    found = Counter(one["class"] for one in document["findings"] if one["severity"] == severity)
    return ", ".join(f"{found[kind]} {kind}" for kind in _ORDER if found[kind] and kind != DriftClass.IN_SYNC)
