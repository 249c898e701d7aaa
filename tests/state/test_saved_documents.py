"""Saved documents: what can be wrong with a file is told as what it is, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.domain.plan import Plan
from reconciler.reports.documents.plan_and_result import plan_document
from reconciler.state.saved_documents import read_document
from support.render_values import CREATE, LOCKFILE, SIMULATED, TARGET

PLAN = plan_document(Plan((CREATE,)), TARGET, SIMULATED, LOCKFILE)
TEXT = json.dumps(PLAN, indent=2)
ORIGIN = "name a file that --report x.json or --format json wrote"
AGAIN = "write it anew with --report x.json"


def read(folder: Path, content: str | bytes) -> dict[str, Any]:
    file = folder / "plan.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(file, "plan.json", ("Plan", "Status"))


@pytest.mark.parametrize("content", [TEXT, "\ufeff" + TEXT, TEXT + "\n\n", TEXT.encode()])
def test_a_document_is_read_as_it_was_written(tmp_path: Path, content: str | bytes) -> None:
    assert read(tmp_path, content) == PLAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", f"plan.json is empty; {AGAIN}"),
        (TEXT[:400], f"plan.json ends in the middle of its JSON; {AGAIN}"),
        (TEXT[:-2], f"plan.json ends in the middle of its JSON; {AGAIN}"),
        (TEXT[: TEXT.index("embedded") + 3], f"plan.json ends in the middle of its JSON; {AGAIN}"),
        ("kind: Plan\n", f"plan.json is no JSON (Expecting value: line 1, column 1); {ORIGIN}"),
        ("[" * 100_000, f"plan.json is no JSON that can be read (*); {ORIGIN}"),
        ('{"a": ' + "9" * 5_000 + "}", f"plan.json is no JSON that can be read (*); {ORIGIN}"),
        (b"\xff\xfe\x00", f"plan.json is no text in UTF-8; {ORIGIN}"),
        ("[1]", f"plan.json is JSON, and no document of reconcile; {ORIGIN}"),
        ('{"name": "x"}', f"plan.json is JSON, and no document of reconcile; {ORIGIN}"),
        ('{"kind": "Plan"}', f"plan.json is JSON, and no document of reconcile; {ORIGIN}"),
        (
            '{"version": 1, "target": {}, "models": {}}',
            "plan.json is a lockfile; reconcile status shows what it records",
        ),
        (
            json.dumps({**PLAN, "version": 2}),
            "plan.json has version 2, and this reconcile reads up to 1; upgrade reconcile",
        ),
        (
            '{"version": 1, "kind": "Target"}',
            "plan.json is of the kind Target; the kinds are Plan, SavedPlan, Status",
        ),
        (
            json.dumps({**PLAN, "kind": "Status"}),
            f"plan.json is no Status as reconcile writes it: $ is odd; {AGAIN}",
        ),
        (
            json.dumps({**PLAN, "unmanaged": -1}),
            f"plan.json is no Plan as reconcile writes it: $.unmanaged is odd; {AGAIN}",
        ),
        (
            json.dumps({**PLAN, "unmanaged": float("nan")}),
            f"plan.json is no Plan as reconcile writes it: $.unmanaged is odd; {AGAIN}",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ReconcileError) as refused:
        read(tmp_path, content)
    before, _, after = message.partition("*")
    assert str(refused.value).startswith(before)
    assert str(refused.value).endswith(after)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError) as refused:
        read_document(tmp_path / "x.json", "x.json", ("Plan",))
    assert str(refused.value) == f"x.json cannot be read: No such file or directory; {ORIGIN}"
