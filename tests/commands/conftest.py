"""A command line on a project of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_world import Cli, Snapshot
from support.local_world import LOCAL_TARGET, make_base, train
from support.vertex_runs import chosen, manifest
from support.vertex_world import SLOW, TARGETS, World, fresh, resume, serving


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


@pytest.fixture(scope="session")
def after_local_training(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project on this machine after the training of the model adder, which was applied."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    (reconcile.specs / "reconcile.yaml").write_text(LOCAL_TARGET, encoding="utf-8")
    reconcile.manifest("adder", base=make_base(reconcile.specs))
    train(reconcile, "adder", reconcile.clock, reconcile.clock.sleep)
    done = reconcile("apply", "--yes", "specs")
    assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def local(tmp_path: Path, after_local_training: Snapshot) -> Cli:
    """``reconcile`` in a copy of the project in which adder was trained on this machine."""
    copied = Cli(tmp_path)
    copied.resume(after_local_training)
    return copied


@pytest.fixture(scope="session")
def served() -> Iterator[World]:
    """Vertex AI, Cloud Storage and the Generative Language API on a port, where each test starts its own services."""
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


@pytest.fixture(scope="session")
def after_trainings(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project after its first apply on each of three targets, which trained the model adder."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    fresh(served, reconcile)
    manifest(reconcile)
    for target in TARGETS:
        done = reconcile("apply", "--yes", *chosen(target))
        assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def trained_world(served: World, reconcile: Cli, after_trainings: Snapshot) -> World:
    """The services after these trainings, and a copy of the project."""
    return resume(served, reconcile, after_trainings)
