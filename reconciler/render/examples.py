"""Examples in documents, cut short, and in lines of text."""

from __future__ import annotations

from typing import Final

from reconciler.core.example_diff import ChangedExample
from reconciler.core.model import Conversation, TrainingExample
from reconciler.render.documents import Document
from reconciler.render.words import value

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
