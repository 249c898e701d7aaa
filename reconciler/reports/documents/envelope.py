"""What all JSON documents share: their first fields, omitted values, and how numbers and places are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from reconciler.domain.errors import Place
from reconciler.domain.model import Capabilities, Target

DOCUMENT_VERSION: Final = 1
Document = dict[str, Any]
Places = Mapping[str, Place]
"""The place of each manifest, by its name."""


def envelope(kind: str, target: Target, capabilities: Capabilities, root: str) -> Document:
    """Return the first fields of every document about a target; ``root`` is its path as the user would write it."""
    return {
        "version": DOCUMENT_VERSION,
        "kind": kind,
        "simulated": capabilities.simulated,
        "target": filled(
            {
                "name": target.name,
                "provider": target.provider,
                "label": capabilities.label,
                "scope": target.scope,
                "project": target.project,
                "location": target.location,
                "root": root,
            }
        ),
    }


def filled(document: Mapping[str, Any]) -> Document:
    """Return the document without fields that are unknown, empty or undeclared."""
    return {key: value for key, value in document.items() if value is not None and value not in ("", [], {})}


def number(value: float | None) -> float | str | None:
    """Return the value as JSON can hold it: infinite and undefined values under their proto3 names."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def place_fields(name: str, places: Places) -> Document:
    """Return line and column of a manifest."""
    place = places.get(name)
    return {"line": place.line, "column": place.column} if place else {}


def display_path(file: str, root: str) -> str:
    """Return a manifest's path as the user would write it, from its path relative to the root."""
    if file == "-":
        return "standard input"
    return file if root in {"", "."} else f"{root.rstrip('/')}/{file}"
