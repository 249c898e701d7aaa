"""What became of data sets: as a part of a Plan document, and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from reconciler.domain.model import Conversation, TrainingExample
from reconciler.planning.dataset_diff import ChangedExample, DataChange, DataChanges
from reconciler.reports.documents.plan_and_result import Document, filled
from reconciler.reports.text.format import Role, Style, counted, plain, told, value

_LONGEST: Final = 500
"""Characters of a sample's texts that a document keeps; an example may be as long as a book."""


def example_document(one: TrainingExample) -> Document:
    """An example: ``input`` and ``output``, or ``conversation``."""
    if isinstance(one, Conversation):
        return {"conversation": cut(one.line)}
    return {"input": cut(one.input), "output": cut(one.output)}


def changed_document(one: ChangedExample) -> Document:
    """An example that has another output: ``input``, ``before`` and ``after``."""
    return {"input": cut(one.input), "before": cut(one.old), "after": cut(one.new)}


def cut(text: str) -> str:
    """The text, as far as a document keeps it."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def example_text(one: Document) -> str:
    """An example of a document, on one line."""
    return value(one["conversation"]) if "conversation" in one else f"{value(one['input'])}: {value(one['output'])}"


def changed_text(one: Document) -> str:
    """An example of a document that has another output, on one line."""
    return f"{value(one['input'])}: {value(one['before'])} → {value(one['after'])}"


_MINUS: Final = "\N{MINUS SIGN}"
_NAME_WIDTH: Final = 21


def with_data_changes(document: Document, found: DataChanges) -> Document:
    """A Plan document with what became of the data sets; why nothing could be compared is one of its notices."""
    return {
        **document,
        "notices": [*document["notices"], *filter(None, [found.note])],
        "base": filled({"ref": found.ref, "commit": found.commit}),
        "dataChanges": [_change(one) for one in found.changes],
    }


def _change(one: DataChange) -> Document:
    found = one.changes
    counts = {"added": found.added, "removed": found.removed, "changed": found.changed} if found else {}
    named = filled({"name": one.name, "use": one.use, "check": one.check, "path": one.path})
    further = filled(
        {
            "duplicates": one.duplicates.count or None,
            "contradictions": one.contradictions.count or None,
            "leaked": one.leaks.count or None,
            "samples": list(_samples(one)),
            "note": one.note,
        }
    )
    return named | counts | further


def _samples(one: DataChange) -> Iterator[Document]:
    if one.changes:
        yield from ({"change": "added", **example_document(each)} for each in one.changes.some_added)
        yield from ({"change": "removed", **example_document(each)} for each in one.changes.some_removed)
        yield from ({"change": "changed", **changed_document(each)} for each in one.changes.some_changed)
    yield from ({"change": "duplicate", **example_document(each)} for each in one.duplicates.samples)
    for contradiction in one.contradictions.samples:
        outputs = [cut(output) for output in contradiction.outputs[:_MOST_OUTPUTS]]
        yield {"change": "contradiction", "input": cut(contradiction.input), "outputs": outputs}
    yield from ({"change": "leaked", "check": each.check, "input": cut(each.input)} for each in one.leaks.samples)


_MOST_OUTPUTS: Final = 5
"""Outputs of one contradiction that a document keeps."""


def counts_line(one: Document) -> str:
    """``+14 −2 ~3 examples`` of a data change in a document; empty where they could not be compared."""  # noqa: RUF002 - as it is printed
    if "added" not in one or not (one["added"] or one["removed"] or one["changed"]):
        return ""
    return f"+{one['added']} {_MINUS}{one['removed']} ~{one['changed']} examples"


def remarks(one: Document) -> Iterator[str]:
    """What else is to be said of a data change in a document: new repetitions, leaks, and the note."""
    for field, singular, plural in _FINDINGS:
        if field in one:
            yield f"{counted(one[field], singular, plural)}"
    if "note" in one:
        yield one["note"]


_FINDINGS: Final = (
    ("duplicates", "new duplicate", ""),
    ("contradictions", "new contradiction (same input, other output)", "new contradictions (same input, other output)"),
    ("leaked", "held-out input is trained on now", "held-out inputs are trained on now"),
)
_SIGNS: Final[Mapping[str, tuple[str, Role, Callable[[Document], str]]]] = {
    "added": ("+", "create", example_text),
    "removed": (_MINUS, "delete", example_text),
    "changed": ("~", "update", changed_text),
    "duplicate": ("=", "warning", example_text),
    "contradiction": ("!", "warning", lambda one: f"{value(one['input'])}: {' or '.join(map(value, one['outputs']))}"),
    "leaked": ("?", "warning", lambda one: f"{value(one['input'])} (check {one['check']})"),
}


def sample_line(one: Document) -> tuple[str, str]:
    """The sign and the words of a sample in a document."""
    sign, _, words = _SIGNS[one["change"]]
    return sign, words(one)


def data_changes_lines(document: Document, *, width: int | None = None, style: Style = plain) -> Iterator[str]:
    """What became of the data sets in a Plan document; nothing where nobody asked for it."""
    if "commit" not in document.get("base", {}):
        return
    ref, changes = document["base"]["ref"], document["dataChanges"]
    if not changes:
        yield from _line("Data sets: ", f"as in {ref}", width, style, "heading")
        return
    yield from _line("Data changes since ", f"{ref}:", width, style, "heading")
    for one in changes:
        yield from _lines(one, width, style)


def _lines(one: Document, width: int | None, style: Style) -> Iterator[str]:
    used = {"training": "", "validation": " (validation)", "check": f" (check {one.get('check', '')})"}[one["use"]]
    words = "; ".join(filter(None, [counts_line(one), *remarks(one)]))
    text = f"{one.get('path', 'inline examples')}{used}: {words}"
    yield from _line(f"    {one['name']:<{_NAME_WIDTH - 2}}  ", text, width, style, "muted")
    for sample in one.get("samples", ()):
        sign, shown = sample_line(sample)
        yield from _line(" " * (_NAME_WIDTH + 4) + f"{sign} ", shown, width, style, _SIGNS[sample["change"]][1])


def _line(head: str, text: str, width: int | None, style: Style, role: Role) -> Iterator[str]:
    return (f"{style(role, margin)}{line}".rstrip() for margin, line in told(head, text, width))
