"""Tables of cases of which most are slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(cases: Iterable[tuple[Any, ...]], *ordinary: tuple[Any, ...]) -> list[Any]:
    """Return the cases of a sweep; those that are not ``ordinary`` run only with ``pytest -m slow``."""
    every = list(cases)
    assert all(case in every for case in ordinary), "each ordinary case is one of the cases"
    return [pytest.param(*case, marks=() if case in ordinary else pytest.mark.slow) for case in every]
