"""Manifests are KRM-shaped: a real kubectl composes them, and reconcile reads its output."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.cli_world import EXAMPLES, Cli

KUBECTL = shutil.which("kubectl")


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
def test_an_overlay_is_planned_from_standard_input(reconcile: Cli) -> None:
    folder = reconcile.folder
    manifest = reconcile.manifest("adder")
    _write(folder / "base", "adder.yaml", manifest.read_text())
    _write(folder / "base", "kustomization.yaml", "resources: [adder.yaml]\n")
    _write(
        folder / "overlays" / "prod",
        "kustomization.yaml",
        "resources: [../../base]\nnamePrefix: prod-\npatches:\n"
        "- target: {kind: TunedModel}\n"
        "  patch: |-\n    - {op: replace, path: /spec/hyperparameters/epochCount, value: 7}\n",
    )
    shutil.move(reconcile.specs / "reconcile.yaml", folder / "reconcile.yaml")
    shutil.move(reconcile.specs / "adder.csv", folder / "adder.csv")
    assert KUBECTL is not None
    composed = subprocess.run(  # noqa: S603 - the kubectl that is there
        [KUBECTL, "kustomize", "overlays/prod"], cwd=folder, check=True, capture_output=True
    ).stdout

    answer = reconcile("plan", "-", "--format", "json", stdin=composed)

    assert answer.status == 0, answer.err
    (action,) = answer.document["actions"]
    assert action["name"] == "prod-adder"
    assert action["training"]["epochs"] == 7
    assert action["training"]["examples"] == len(EXAMPLES)
