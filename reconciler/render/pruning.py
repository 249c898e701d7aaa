"""What prune did, for people."""

from __future__ import annotations

from reconciler.render.documents import Document
from reconciler.render.layout import Style, plain
from reconciler.render.plan_text import notices_text
from reconciler.render.text import result_text


def pruned_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Result document of prune: a line a model of which something was deleted or not, and what is to be noted."""
    told = result_text(document, width=width, style=style) if document["models"] else "Nothing was deleted."
    return "\n".join(filter(None, [told, notices_text(document, width=width, style=style)]))
