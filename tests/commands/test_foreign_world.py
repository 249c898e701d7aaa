"""The quickstart's five real models: foreign here, so they are counted, and never touched."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

from support.cli_world import Cli

FIXTURE = Path(__file__).parents[1] / "fixtures" / "legacy" / "list_tuned_models.v1beta3.json"


def test_unmanaged_models_are_counted_and_not_changed(reconcile: Cli) -> None:
    shutil.copy(FIXTURE, reconcile.specs / "world.json")
    reconcile.target("  embedded: {world: world.json, stepSeconds: 1.65}\n")
    reconcile.manifest("adder")

    planned = reconcile("plan")
    assert "5 unmanaged models" in planned.out
    before = _models(reconcile)
    assert len(before) == 5

    assert reconcile("apply", "--yes").status == 0
    assert reconcile("apply", "--yes", "--format", "json").document["unmanaged"] == 5

    after = _models(reconcile)
    assert {name: after[name] for name in before} == before
    assert len(after) == 6


def _models(reconcile: Cli) -> dict[str, str]:
    """Every stored row of every model, as the embedded service keeps it."""
    store = sqlite3.connect(reconcile.specs / ".reconcile" / "default.sqlite3")
    try:
        store.row_factory = sqlite3.Row
        return {row["name"]: json.dumps(dict(row), default=repr) for row in store.execute("SELECT * FROM models")}
    finally:
        store.close()
