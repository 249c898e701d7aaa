"""A command line on a project of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli_world import Cli


@pytest.fixture
def reconcile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """``reconcile`` in an empty project with an embedded target."""
    return Cli(tmp_path, capsys)
