"""Which documents of a file concern us, and which are mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reconciler.core.model import API_GROUP, API_VERSION
from reconciler.core.problems import Place, Problem
from reconciler.files.explain import kind, shown, suggest
from reconciler.files.repository import fault
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, Parsed, parse

TUNED_MODEL = "TunedModel"
TARGET = "Target"
_KINDS = (TUNED_MODEL, TARGET)
_ALIKE = 0.85
"""How much another group resembles ours (difflib's ratio) when it is taken for a slip of the pen."""


def read(path: Path, shown_path: str, repository: Path) -> Parsed:
    """The documents of a file; one that cannot be read, or must not because it lies elsewhere, is a problem."""
    try:
        found = fault(path, repository)
        if not found:
            return parse(path.read_bytes(), shown_path)
    except OSError as error:
        found = f"cannot be read: {error.strerror}", "see to the file"
    return Parsed(shown_path, (), (Problem(Place(shown_path), "", *found),))


def expand_lists(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with those in a ``kind: List`` (as kubectl writes them) in its place."""
    for document in documents:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
            for index in range(len(value["items"])):
                yield document.child(["items", index])
        else:
            yield document


def is_foreign(document: Document) -> bool:
    """Whether the document is some other tool's: of another API group, and not by a slip of the pen."""
    version = _text(document, "apiVersion")
    group = version.partition("/")[0]
    if group == API_GROUP or not version or not _text(document, "kind"):
        return False
    return not difflib.get_close_matches(group, [API_GROUP], cutoff=_ALIKE)


def misfits(document: Document) -> list[Problem]:
    """What is wrong with a document that is not foreign, as far as its apiVersion and kind go."""
    if not isinstance(document.value, dict):
        message = f"the document is {kind(document.value)}, where a mapping is expected"
        return [Problem(document.place([]), "", message, f"begin it with apiVersion: {API_VERSION}")]
    found = [_misfit(document, "apiVersion", (API_VERSION,)), _misfit(document, "kind", _KINDS)]
    return [problem for problem in found if problem]


def foreign(document: Document) -> Problem:
    """The problem with a foreign document in a file that was named."""
    version = _text(document, "apiVersion")
    place = document.place(["apiVersion"])
    return Problem(
        place, "apiVersion", f"{shortened(version)} is not ours", f"name files with {API_VERSION} documents only"
    )


def _misfit(document: Document, field: str, allowed: tuple[str, ...]) -> Problem | None:
    value: Any = document.value.get(field)
    if field not in document.value:
        return Problem(document.place([]), field, "is missing", f"begin the document with {field}: {allowed[0]}")
    if not isinstance(value, str):
        return Problem(document.place([field]), field, f"must be a text, is {shown(value)}", f"write {allowed[0]}")
    if value not in allowed:
        return Problem(document.place([field]), field, f"{shortened(value)} is not known", suggest(value, allowed))
    return None


def _text(document: Document, field: str) -> str:
    value = document.value.get(field) if isinstance(document.value, dict) else None
    return value if isinstance(value, str) else ""
