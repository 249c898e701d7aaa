"""Tables of cases: quick ones that are one test together, and ones of which most are slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import signature
from itertools import cycle
from typing import Any

import pytest

_ROW = type(pytest.param())
Test = Callable[..., None]
Ids = Sequence[object] | Callable[[Any], object]


def each_row(names: str | Sequence[str], rows: Iterable[Any], *, ids: Ids | None = None) -> Callable[[Test], Test]:
    """Return a decorator like ``pytest.mark.parametrize`` for quick cases, which are one test that runs them all.

    To collect and to report a test costs more than such a case. Every case that fails is reported with its row, and
    each has a ``tmp_path`` of its own.
    """
    single = isinstance(names, str)
    listed = (names,) if isinstance(names, str) else tuple(names)
    table = [row if isinstance(row, _ROW) else pytest.param(*((row,) if single else row)) for row in rows]
    labels = [row.id or repr(row.values) for row in table]
    if ids is not None:
        labels = [str(one) for one in (map(ids, (row.values[0] for row in table)) if callable(ids) else ids)]
    assert all(len(row.values) == len(listed) and not row.marks for row in table), "a row has a value for each name"

    def decorate(test: Test) -> Test:
        parameters = signature(test).parameters

        @wraps(test)
        def all_rows(**fixtures: Any) -> None:
            failures, skipped = [], []
            for number, row in enumerate(table):
                try:
                    test(**_own(fixtures, number), **dict(zip(listed, row.values, strict=True)))
                except pytest.skip.Exception as error:
                    skipped.append(error)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - raised below
                    error.add_note(f"in the row {labels[number]}")
                    failures.append(error)
            if failures:
                raise BaseExceptionGroup(f"{len(failures)} of {len(table)} rows failed", failures)
            if len(skipped) == len(table):
                raise skipped[0]

        shown = [parameter for name, parameter in parameters.items() if name not in listed]
        all_rows.__signature__ = signature(test).replace(parameters=shown)  # type: ignore[attr-defined] # what pytest reads
        del all_rows.__wrapped__  # type: ignore[attr-defined] # where pytest would read the signature instead
        return all_rows

    return decorate


def _own(fixtures: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    if "tmp_path" not in fixtures:
        return fixtures
    folder = fixtures["tmp_path"] / str(number)
    folder.mkdir()
    return {**fixtures, "tmp_path": folder}


def slow_except(cases: Iterable[tuple[Any, ...]], *ordinary: tuple[Any, ...]) -> list[Any]:
    """Return the cases of a sweep; those that are not ``ordinary`` run only with ``pytest -m slow``."""
    every = list(cases)
    assert all(case in every for case in ordinary), "each ordinary case is one of the cases"
    return [pytest.param(*case, marks=() if case in ordinary else pytest.mark.slow) for case in every]


def slow(cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return slow cases of one kind; the first is the one that the gate runs."""
    first, *others = cases
    gate = pytest.param(*first, marks=(pytest.mark.slow, pytest.mark.gate))
    return [gate, *(pytest.param(*case, marks=pytest.mark.slow) for case in others)]


def in_turn(argument: str, values: Iterable[str]) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator for tests that run with one of the values each, in turn; with the others they are slow."""
    every: Sequence[str] = list(values)
    turns = cycle(every)

    def parametrized(test: Callable[..., None]) -> Any:
        ordinary = next(turns)
        marks = {value: () if value == ordinary else pytest.mark.slow for value in every}
        return pytest.mark.parametrize(argument, [pytest.param(value, marks=marks[value]) for value in every])(test)

    return parametrized
