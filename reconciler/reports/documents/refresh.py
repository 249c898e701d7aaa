"""Refresh reports: how a refresh changed the lockfile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from reconciler.domain.document import NonEmpty, Record
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import State
from reconciler.reports.documents.envelope import TargetReport
from reconciler.state.lockfile import dumps

RecordChange = Literal["added", "changed", "removed"]
_Block = Mapping[str, Any]
"""A model or a generation as the lockfile has it."""


class RefreshedGeneration(Record, frozen=True, kw_only=True):
    """One generation."""

    key: NonEmpty
    """The key."""
    change: RecordChange
    """The change of its record."""
    before: State | None = None
    """The previously recorded state; omitted if it is the same."""
    state: State | None = None
    """The newly recorded state; omitted if it is no longer recorded."""
    remote: str = ""
    """The remote name."""
    fields: tuple[NonEmpty, ...] = ()
    """The other fields of its record that differ."""


class RefreshedModel(Record, frozen=True, kw_only=True):
    """One model."""

    name: NonEmpty
    """The manifest's name."""
    change: RecordChange
    """The change of its block."""
    fields: tuple[NonEmpty, ...] = ()
    """The fields of its block that differ, without its generations."""
    generations: tuple[RefreshedGeneration, ...] = ()
    """The generations that differ."""


class RefreshReport(TargetReport, frozen=True, kw_only=True, tag="Refresh"):
    """What a refresh changed in the lockfile, or would change: the output of `reconcile refresh --format json`."""

    lockfile: NonEmpty
    """The path of the lockfile."""
    exit_status: ExitStatus
    """The exit status of the command: 2 if `--check` found something to write."""
    changed: bool
    """Whether the lockfile differs from the manifests and the live state."""
    written: bool
    """Whether it was written."""
    merged: bool
    """Whether it contained both sides of a merge, which were merged."""
    models: tuple[RefreshedModel, ...]
    """The differences in the lockfile, by model; after a merge, from both sides merged."""
    notices: tuple[NonEmpty, ...]
    """Notices: decisions, records that could not be recovered, and models that were skipped."""


def refreshed_models(before: Lock, after: Lock) -> tuple[RefreshedModel, ...]:
    """Return the models whose blocks in the lockfile differ, by name."""
    old_blocks, new_blocks = _recorded(before), _recorded(after)
    names = sorted(old_blocks.keys() | new_blocks.keys())
    sides = ((name, old_blocks.get(name), new_blocks.get(name)) for name in names)
    return tuple(
        RefreshedModel(
            name=name,
            change=_change(old, new),
            fields=_fields(old, new, "generations"),
            generations=tuple(_generations(_by_key(old), _by_key(new))),
        )
        for name, old, new in sides
        if old != new
    )


def _recorded(lock: Lock) -> dict[str, _Block]:
    """Return the models as the lockfile has them."""
    models: dict[str, _Block] = json.loads(dumps(lock))["models"]
    return models


def _by_key(model: _Block | None) -> dict[str, _Block]:
    return {generation["key"]: generation for generation in (model or {}).get("generations", [])}


def _change(old: _Block | None, new: _Block | None) -> RecordChange:
    if old is None:
        return "added"
    return "changed" if new else "removed"


def _fields(old: _Block | None, new: _Block | None, omitted: str) -> tuple[str, ...]:
    """Return the names of fields that differ; none if a side is missing."""
    if old is None or new is None:
        return ()
    names = (old.keys() | new.keys()) - {omitted}
    return tuple(sorted(name for name in names if old.get(name) != new.get(name)))


def _generations(before: Mapping[str, _Block], after: Mapping[str, _Block]) -> Iterator[RefreshedGeneration]:
    for key in (*after, *(key for key in before if key not in after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        states = [State(block["state"]) if block else None for block in (old, new)]
        yield RefreshedGeneration(
            key=key,
            change=_change(old, new),
            before=states[0] if states[0] is not states[1] else None,
            state=states[1],
            remote=(new or old or {}).get("remote", ""),
            fields=_fields(old, new, "state"),
        )
