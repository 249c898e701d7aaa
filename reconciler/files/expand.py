"""``${RECONCILE_VAR_X}`` in the texts of a Target, the only expansion there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.core.problems import Problem
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, Path, dotted

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_ALLOWED = re.compile(r"RECONCILE_VAR_[A-Za-z0-9_]+")


def expand(document: Document, environ: Mapping[str, str]) -> tuple[Document, list[Problem]]:
    """The document with its references replaced, and a problem for each that cannot be."""
    expansion = _Expansion(document, environ)
    return replace(document, value=expansion.value(document.value, [])), expansion.problems


@dataclass(frozen=True, slots=True)
class _Expansion:
    document: Document
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def value(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {name: self.value(part, [*path, name]) for name, part in value.items()}
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: Path) -> str:
        for name in dict.fromkeys(_REFERENCE.findall(text)):
            if not _ALLOWED.fullmatch(name):
                remedy = "name a variable RECONCILE_VAR_…, or write the value out"
                self._report(path, f"${{{shortened(name)}}} is not expanded", remedy)
            elif name not in self.environ:
                self._report(path, f"the variable {shortened(name)} is not set", "set it, or write the value out")
        return _REFERENCE.sub(
            lambda found: self.environ.get(found[1], found[0]) if _is_allowed(found) else found[0], text
        )

    def _report(self, path: Path, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.document.place(path), dotted(path), message, remedy))


def _is_allowed(found: re.Match[str]) -> bool:
    return _ALLOWED.fullmatch(found[1]) is not None
