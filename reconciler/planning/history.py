"""The generations of a manifest one after the other, and what changed from each to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Literal, TypeAlias

from reconciler.domain.identity import same_number
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Number, State, TrainingExample
from reconciler.planning.dataset_diff import ExampleChanges, compare, without_preamble

GenerationRole: TypeAlias = Literal["serving", "rejected", "held", ""]
"""What a generation is to those who ask which one serves; ``held`` are those whose checks failed, until one serves."""
Examples = Callable[[], Iterator[TrainingExample]]
"""Reads the examples of a data set afresh."""


@dataclass(frozen=True, slots=True)
class NumberChange:
    """A hyperparameter that differs: the effective value, where that is not known the declared one, or ``None``."""

    name: str
    before: Number | None
    after: Number | None


@dataclass(frozen=True, slots=True)
class Changes:
    """In what a generation differs from ``since``, the next older one.

    ``examples`` are counted where both data sets are ``at_hand``, which says so for the older and the newer one; data
    in Cloud Storage never is.
    """

    since: LockedGeneration
    source: bool
    hyperparameters: tuple[NumberChange, ...]
    dataset: bool
    preamble: bool
    examples: ExampleChanges | None = None
    at_hand: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A generation in the history of its manifest; the oldest one has no ``changes``."""

    generation: LockedGeneration
    role: GenerationRole
    changes: Changes | None = None


def history_of(model: LockedModel, examples: Mapping[str, Examples]) -> tuple[HistoryEntry, ...]:
    """All recorded generations, newest first; ``examples`` are those of the data sets at hand, by digest."""
    steps = (_changes(older, newer, examples) for newer, older in pairwise(model.generations))
    return tuple(
        HistoryEntry(one, _role(model, position), changes)
        for position, (one, changes) in enumerate(zip_longest(model.generations, steps))
    )


def _role(model: LockedModel, position: int) -> GenerationRole:
    one = model.generations[position]
    if one.key == model.serving:
        return "serving"
    if one.key in model.rejected:
        return "rejected"
    superseded = any(newer.key == model.serving for newer in model.generations[:position])
    failed = one.state is State.ACTIVE and one.checks is not None and one.checks.failed > 0
    return "held" if failed and not superseded else ""


def _changes(older: LockedGeneration, newer: LockedGeneration, examples: Mapping[str, Examples]) -> Changes:
    differs = older.dataset.digest != newer.dataset.digest
    before, after = examples.get(older.dataset.digest), examples.get(newer.dataset.digest)
    return Changes(
        since=older,
        source=not newer.source.is_same(older.source),
        hyperparameters=tuple(_numbers(older, newer)),
        dataset=differs,
        preamble=older.preamble != newer.preamble,
        examples=_compared(older, before, newer, after) if differs and before and after else None,
        at_hand=(before is not None, after is not None),
    )


def _numbers(older: LockedGeneration, newer: LockedGeneration) -> Iterator[NumberChange]:
    declared = older.declared.keys() | newer.declared.keys()
    for name in sorted(declared | (older.effective.keys() & newer.effective.keys())):
        before = older.effective.get(name, older.declared.get(name))
        after = newer.effective.get(name, newer.declared.get(name))
        if before is None or after is None or not same_number(before, after):
            yield NumberChange(name, before, after)


def _compared(older: LockedGeneration, before: Examples, newer: LockedGeneration, after: Examples) -> ExampleChanges:
    return compare(without_preamble(before(), older.preamble), without_preamble(after(), newer.preamble))
