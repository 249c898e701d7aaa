"""The command that draws a document which an earlier run saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.app.commands import Answer
from reconciler.files.saved import read_document
from reconciler.render.texts import KINDS

if TYPE_CHECKING:
    from reconciler.app.environment import Environment


def render(env: Environment, file: str) -> Answer:
    """The document in a file, which has the shape that its schema says; of a saved plan, the plan.

    Raises:
        ReconcileError: when it cannot be read, or is none of reconcile's.
    """
    return Answer(read_document(env.cwd / file, file, KINDS))
