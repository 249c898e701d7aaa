"""A command line on a project of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_world import Cli, Snapshot
from support.vertex_runs import apply, manifest
from support.vertex_world import SLOW, World, fresh, resume, serving


@pytest.fixture
def reconcile(tmp_path: Path) -> Cli:
    """``reconcile`` in an empty project with an embedded target."""
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def after_training(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project with an embedded target after the first apply, which trained the model adder."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    reconcile.manifest("adder")
    done = reconcile("apply", "--yes")
    assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def trained(reconcile: Cli, after_training: Snapshot) -> Cli:
    """``reconcile`` in a copy of the project in which adder was trained."""
    reconcile.resume(after_training)
    return reconcile


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


@pytest.fixture(scope="module")
def after_vertex_training(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project after its first apply on Vertex AI, which trained the model adder."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    fresh(served, reconcile)
    manifest(reconcile)
    done = apply(reconcile)
    assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def trained_world(served: World, reconcile: Cli, after_vertex_training: Snapshot) -> World:
    """The services after this training, and a copy of the project."""
    return resume(served, reconcile, after_vertex_training)


@pytest.fixture(scope="module")
def after_gl_training(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project after its first apply on the Generative Language API, which trained the model adder."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    fresh(served, reconcile)
    manifest(reconcile)
    done = reconcile("apply", "--yes", "--target", "gl")
    assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def trained_gl(served: World, reconcile: Cli, after_gl_training: Snapshot) -> World:
    """The services after this training, and a copy of the project."""
    return resume(served, reconcile, after_gl_training)
