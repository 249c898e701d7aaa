"""The text of any document: what the command that made it prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from reconciler.render.change import change_text
from reconciler.render.check import check_text
from reconciler.render.doctor import doctor_text
from reconciler.render.documents import Document
from reconciler.render.drift import drift_text
from reconciler.render.graph import graph_text
from reconciler.render.history import history_text
from reconciler.render.layout import Style, plain
from reconciler.render.plan_text import plan_text
from reconciler.render.prompt import prompt_text
from reconciler.render.refresh import refresh_text
from reconciler.render.serving import serving_text
from reconciler.render.text import resolve_text, result_text, status_text, validation_text

_Verbose = Callable[[Document, int | None, Style, bool], str]

_TEXTS: Final[Mapping[str, _Verbose]] = {
    "Change": lambda document, width, style, _: change_text(document, width=width, style=style),
    "Check": lambda document, width, style, _: check_text(document, width=width, style=style),
    "Doctor": lambda document, width, style, _: doctor_text(document, width=width, style=style),
    "Drift": lambda document, width, style, full: drift_text(document, width=width, verbose=full, style=style),
    "Graph": lambda document, _, style, __: graph_text(document, style=style),
    "History": lambda document, width, style, full: history_text(document, width=width, verbose=full, style=style),
    "Plan": lambda document, width, style, full: plan_text(document, width=width, verbose=full, style=style),
    "Prompt": lambda document, _, __, ___: prompt_text(document),
    "Refresh": lambda document, width, style, _: refresh_text(document, width=width, style=style),
    "Resolve": lambda document, _, __, ___: resolve_text(document, bare=False),
    "Result": lambda document, width, style, _: result_text(document, width=width, style=style),
    "Serving": lambda document, width, style, _: serving_text(document, width=width, style=style),
    "Status": lambda document, width, style, _: status_text(document, width=width, style=style),
    "Validation": lambda document, _, style, __: validation_text(document, style=style),
}
KINDS: Final = tuple(_TEXTS)
"""The kinds of documents that have a text."""


def text_of(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """The text of a document of one of these kinds, folded to ``width`` columns; ``verbose`` says more where it can."""
    return _TEXTS[document["kind"]](document, width, style, verbose)
