"""What all reports share: their first fields, and how numbers and places are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, convert

from reconciler.domain.document import Document as TypedDocument
from reconciler.domain.document import NonEmpty, Record, builtins_of
from reconciler.domain.errors import Place
from reconciler.domain.model import Capabilities, Target

DOCUMENT_VERSION: Final = 1
Document = dict[str, Any]
Places = Mapping[str, Place]
"""The place of each manifest, by its name."""


class TargetSummary(Record, frozen=True, kw_only=True):
    """The target of a report."""

    name: NonEmpty
    """The target's name, as in `--target NAME`."""
    provider: Annotated[NonEmpty, Meta(examples=["embedded"])]
    """The provider, as in the target file."""
    label: Annotated[NonEmpty, Meta(examples=["embedded service"])]
    """The display name of the service."""
    scope: NonEmpty
    """The scope: the owner of the models, and part of every key."""
    project: str = ""
    """The Google Cloud project."""
    location: str = ""
    """The location of the service."""
    root: str = ""
    """The directory of the target file, relative to the working directory if it is inside; manifest paths are relative
    to it. Omitted for the working directory."""


class TargetReport(TypedDocument, frozen=True, kw_only=True):
    """A report about a target."""

    simulated: bool
    """Whether the service simulates training; no real model is created."""
    target: TargetSummary
    """The target of this document."""


def target_summary(target: Target, capabilities: Capabilities, root: str) -> TargetSummary:
    """Return the summary of a target; ``root`` is its root's path as the user would write it."""
    return TargetSummary(
        name=target.name,
        provider=target.provider,
        label=capabilities.label,
        scope=target.scope,
        project=target.project or "",
        location=target.location or "",
        root=root,
    )


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


AnyDocument = Document | TypedDocument
"""A document whose kind may not have a type yet."""


def as_dictionary(document: AnyDocument) -> Document:
    """Return a document as the dictionaries that renderers of several kinds still take."""
    return document if isinstance(document, dict) else builtins_of(document)


def kind_of(document: AnyDocument) -> str:
    """Return the kind of a document."""
    return str(document["kind"] if isinstance(document, dict) else document.__struct_config__.tag)


def target_of(document: AnyDocument) -> TargetSummary | None:
    """Return the target of a document; ``None`` for a document without one."""
    if not isinstance(document, dict):
        found: TargetSummary | None = getattr(document, "target", None)
        return found
    if "target" not in document:
        return None
    fields = {name: value for name, value in document["target"].items() if name in TargetSummary.__struct_fields__}
    return convert(fields, TargetSummary)


def is_simulated(document: AnyDocument) -> bool:
    """Return whether the service of a document simulates training."""
    found = document.get("simulated") if isinstance(document, dict) else getattr(document, "simulated", False)
    return bool(found)


def notices_of(document: AnyDocument) -> tuple[str, ...]:
    """Return the notices of a document; empty for a document without any."""
    found = document.get("notices") if isinstance(document, dict) else getattr(document, "notices", ())
    return tuple(found or ())


def filled(document: Mapping[str, Any]) -> Document:
    """Return the document without fields that are unknown, empty or undeclared."""
    return {key: value for key, value in document.items() if value is not None and value not in ("", [], {})}


Loss = float | Literal["NaN", "Infinity", "-Infinity"]
"""A loss as JSON can hold it: infinite and undefined values under their proto3 names."""


def number(value: float | None) -> Loss | None:
    """Return a loss as JSON can hold it."""
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
