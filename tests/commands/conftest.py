"""A command line on a project of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_world import Cli
from support.vertex_world import SLOW, World, fresh, serving


@pytest.fixture
def reconcile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """``reconcile`` in an empty project with an embedded target."""
    return Cli(tmp_path, capsys)


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    """Vertex AI, Cloud Storage and the Generative Language API on a port, for the tests of one module."""
    with serving() as world:
        yield world


@pytest.fixture
def world(served: World, reconcile: Cli) -> World:
    """The services as if they had just started, and targets that name them."""
    return fresh(served, reconcile)


@pytest.fixture
def slow(served: World, reconcile: Cli) -> World:
    """As ``world``, and a training takes 20 seconds."""
    return fresh(served, reconcile, SLOW)
