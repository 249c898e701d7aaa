"""The history of a manifest: its generations, and what changed from each one to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import pairwise, zip_longest
from typing import Literal, TypeAlias

from msgspec import Struct

from reconciler.domain.document import Record
from reconciler.domain.identity import same_value
from reconciler.domain.lock import Decision, LockedGeneration, LockedModel
from reconciler.domain.model import (
    HyperparameterValue,
    State,
    TrainingExample,
)
from reconciler.planning.datasets import ExampleChanges, compare, without_preamble

GenerationRole: TypeAlias = Literal["serving", "rejected", "held", ""]
"""``held`` generations failed their checks, and no newer generation was promoted since."""
Examples = Callable[[], Iterator[TrainingExample]]
"""Reads the examples of a data set from the start."""


class HyperparameterChange(Record, frozen=True):
    """One hyperparameter that differs: its effective value, or else the declared one."""

    name: str
    """The API field name."""
    before: HyperparameterValue | None = None
    """The value of the previous generation; omitted if unknown."""
    after: HyperparameterValue | None = None
    """The value of this generation; omitted if unknown."""


class Changes(Struct, frozen=True):
    """The differences from ``since``, the next older generation.

    ``available`` says whether the older and the newer data set can be read; ``examples`` are compared if both can. Data
    in Cloud Storage is not available.
    """

    since: LockedGeneration
    source: bool
    hyperparameters: tuple[HyperparameterChange, ...]
    dataset: bool
    preamble: bool
    examples: ExampleChanges | None = None
    available: tuple[bool, bool] = (False, False)


class HistoryEntry(Struct, frozen=True):
    """A generation in the history of its manifest; the oldest one has no ``changes``."""

    generation: LockedGeneration
    role: GenerationRole
    changes: Changes | None = None


def decisions_about(history: Iterable[Decision], names: Collection[str]) -> tuple[Decision, ...]:
    """Return the decisions about models of these names, and those about the whole lockfile; without names all."""
    shown = frozenset((*names, ""))
    return tuple(decision for decision in history if not names or decision.model in shown)


def list_history(model: LockedModel, examples: Mapping[str, Examples]) -> tuple[HistoryEntry, ...]:
    """Return all recorded generations, newest first; ``examples`` has the available data sets, by digest."""
    steps = (_changes(older, newer, examples) for newer, older in pairwise(model.generations))
    return tuple(
        HistoryEntry(generation, _role(model, position), changes)
        for position, (generation, changes) in enumerate(zip_longest(model.generations, steps))
    )


def _role(model: LockedModel, position: int) -> GenerationRole:
    generation = model.generations[position]
    if model.serves(generation.key):
        return "serving"
    if generation.key in model.rejected:
        return "rejected"
    superseded = any(model.serves(newer.key) for newer in model.generations[:position])
    failed = generation.state is State.ACTIVE and generation.checks is not None and generation.checks.failed > 0
    return "held" if failed and not superseded else ""


def _changes(older: LockedGeneration, newer: LockedGeneration, examples: Mapping[str, Examples]) -> Changes:
    differs = older.dataset.digest != newer.dataset.digest
    before, after = examples.get(older.dataset.digest), examples.get(newer.dataset.digest)
    compared = None
    if differs and before and after:
        compared = compare(without_preamble(before(), older.preamble), without_preamble(after(), newer.preamble))
    return Changes(
        since=older,
        source=newer.source.checkpoint != older.source.checkpoint or not newer.source.is_same(older.source),
        hyperparameters=tuple(_numbers(older, newer)),
        dataset=differs,
        preamble=older.preamble != newer.preamble,
        examples=compared,
        available=(before is not None, after is not None),
    )


def _numbers(older: LockedGeneration, newer: LockedGeneration) -> Iterator[HyperparameterChange]:
    old, new = older.hyperparameters, newer.hyperparameters
    declared = old.declared.keys() | new.declared.keys()
    for name in sorted(declared | (old.effective.keys() & new.effective.keys())):
        before = old.effective.get(name, old.declared.get(name))
        after = new.effective.get(name, new.declared.get(name))
        if before is None or after is None or not same_value(before, after):
            yield HyperparameterChange(name, before, after)
