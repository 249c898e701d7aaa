"""Tables of cases of which most are slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import Any

import pytest


def slow_except(cases: Iterable[tuple[Any, ...]], *ordinary: tuple[Any, ...]) -> list[Any]:
    """Return the cases of a sweep; those that are not ``ordinary`` run only with ``pytest -m slow``."""
    every = list(cases)
    assert all(case in every for case in ordinary), "each ordinary case is one of the cases"
    return [pytest.param(*case, marks=() if case in ordinary else pytest.mark.slow) for case in every]


def in_turn(argument: str, values: Iterable[str]) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator for tests that run with one of the values each, in turn; with the others they are slow."""
    every: Sequence[str] = list(values)
    turns = cycle(every)

    def parametrized(test: Callable[..., None]) -> Any:
        ordinary = next(turns)
        marks = {value: () if value == ordinary else pytest.mark.slow for value in every}
        return pytest.mark.parametrize(argument, [pytest.param(value, marks=marks[value]) for value in every])(test)

    return parametrized
