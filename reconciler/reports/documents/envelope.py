"""What all reports share: their first fields, and how numbers and places are written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Literal, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from reconciler.domain.document import Document, NonEmpty, Record, Report, RunInfo
from reconciler.domain.errors import Place
from reconciler.domain.model import Capabilities, Target

_Document = TypeVar("_Document", bound=Document)

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
    """The directory of the target file, relative to the working directory, or absolute if that is shorter; manifest
    paths are relative to it. Omitted for the working directory."""


class TargetReport(Report, frozen=True, kw_only=True):
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


def kind_of(document: Document) -> str:
    """Return the kind of a document."""
    return str(document.__struct_config__.tag)


def target_of(document: Document) -> TargetSummary | None:
    """Return the target of a document; ``None`` for a document without one."""
    target: TargetSummary | None = getattr(document, "target", None)
    return target


def run_of(document: Document) -> RunInfo | None:
    """Return which command made a document; ``None`` if that is unknown."""
    return document.run if isinstance(document, Report) else None


def run_details(run: RunInfo) -> Iterator[tuple[str, str]]:
    """Yield label and text of what is known about a run."""
    yield "time", f"{run.time[:10]} {run.time[11:19]} UTC"
    yield from ((label, text) for label in ("commit", "branch", "actor") if (text := getattr(run, label)))
    yield "version", f"reconcile {run.reconciler}"
    if run.command:
        yield "command", run.command


def is_simulated(document: Document) -> bool:
    """Return whether the service of a document simulates training."""
    return bool(getattr(document, "simulated", False))


def notices_of(document: Document) -> tuple[str, ...]:
    """Return the notices of a document; empty for a document without any."""
    notices: tuple[str, ...] = getattr(document, "notices", ())
    return notices


Loss = float | Literal["NaN", "Infinity", "-Infinity"]
"""A loss as JSON can hold it: infinite and undefined values under their proto3 names."""


def number(value: float | None) -> Loss | None:
    """Return a loss as JSON can hold it."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def display_path(file: str, root: str) -> str:
    """Return a manifest's path as the user would write it, from its path relative to the root."""
    if file == "-":
        return "standard input"
    return file if root in {"", "."} else f"{root.rstrip('/')}/{file}"


def without_notices(document: _Document, shown: Collection[str]) -> _Document:
    """Return a document without the notices ``shown``."""
    if not shown or not notices_of(document):
        return document
    return replace(document, notices=tuple(notice for notice in notices_of(document) if notice not in shown))
