"""Reading saved documents, and the errors for files that are not valid documents."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.domain.document import Document, builtins_of, json_text
from reconciler.domain.errors import ReconcileError
from reconciler.domain.plan import Plan
from reconciler.reports.documents.plan import PlanReport, plan_report
from reconciler.reports.documents.saved_plan import SavedPlan
from reconciler.reports.writer import type_of
from reconciler.state.document_files import read_document, read_saved_plan
from support.cases import each_row
from support.render_values import CREATE, LOCKFILE, SIMULATED, TARGET

PLAN = plan_report(Plan((CREATE,)), TARGET, SIMULATED, LOCKFILE)
JSON = builtins_of(PLAN)
TEXT = json_text(PLAN)
NAME = "pass a file written by --report FILE.json, --format json or plan --out"
AGAIN = "write it again with --report x.json"


def read(folder: Path, content: str | bytes) -> Document | dict[str, Any]:
    file = folder / "plan.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(file, "plan.json", ("Plan", "SavedPlan", "Status"), type_of)


@each_row("content", [TEXT, "\ufeff" + TEXT, TEXT + "\n\n", TEXT.encode()])
def test_a_document_is_read_as_it_was_written(tmp_path: Path, content: str | bytes) -> None:
    assert read(tmp_path, content) == PLAN


@each_row(
    ("content", "message"),
    [
        ("", f"plan.json:1:1: empty file; {AGAIN}"),
        (TEXT[:400], f"plan.json:*: truncated JSON: the file ends too early; {AGAIN}"),
        (TEXT[:-2], f"plan.json:*: truncated JSON: the file ends too early; {AGAIN}"),
        (
            TEXT[: TEXT.index("embedded") + 3],
            f"plan.json:*: target.provider: truncated JSON: the file ends too early; {AGAIN}",
        ),
        ("kind: Plan\n", f"plan.json:1:1: invalid JSON: expected a value; {AGAIN}"),
        ("[" * 100_000, f"plan.json:1:65: more than 64 nested values; {AGAIN}"),
        ('{"a": ' + "9" * 5_000 + "}", f"plan.json:1:7: a: number out of range; {AGAIN}"),
        ('{"a": "\\ud800"}', f"plan.json:1:7: a: invalid text: half of a surrogate pair; {AGAIN}"),
        (b'{\n "\xff\xfe\x00', f"plan.json:2:3: not UTF-8 text: invalid byte 0xff; {AGAIN}"),
        ("[1]", f"plan.json:1:1: not a document of reconcile; {NAME}"),
        ('{"name": "x"}', f"plan.json:1:1: not a document of reconcile; {NAME}"),
        ('{"kind": "Plan"}', f"plan.json:1:1: not a document of reconcile; {NAME}"),
        (
            '{"version": 1, "target": {}, "models": {}}',
            "plan.json:1:1: is a lockfile; run reconcile status to show its records",
        ),
        (
            json.dumps({**JSON, "version": 2}),
            "plan.json:1:*: unsupported version 2: this reconcile reads up to version 1; upgrade reconcile",
        ),
        (
            '{"version": 1, "kind": "Target"}',
            f"plan.json:1:24: kind: invalid kind Target: expected one of Plan, SavedPlan, Status; {NAME}",
        ),
        (
            json.dumps({**JSON, "kind": "Status"}),
            f"plan.json:1:224: changes: unknown field; {AGAIN}",
        ),
        (
            json.dumps({**JSON, "unmanaged": -1}),
            f"plan.json:1:*: unmanaged: expected a whole number, 0 or more; {AGAIN}",
        ),
        (
            json.dumps({**JSON, "unmanaged": float("nan")}),
            f"plan.json:1:*: unmanaged: invalid JSON: expected a value; {AGAIN}",
        ),
    ],
)
def test_invalid_files_are_errors(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ReconcileError) as caught:
        read(tmp_path, content)
    before, _, after = message.partition("*")
    assert str(caught.value).startswith(before)
    assert str(caught.value).endswith(after)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError) as caught:
        read_document(tmp_path / "x.json", "x.json", ("Plan",), type_of)
    assert str(caught.value) == f"x.json cannot be read: No such file or directory; {NAME}"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A plan with some of its bytes replaced by others."""
    content = TEXT.encode()
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=8)) + content[start + draw(st.integers(0, 8)) :]


@given(content=st.binary(max_size=200) | damaged())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_document_or_one_error(tmp_path: Path, content: bytes) -> None:
    with suppress(ReconcileError):
        assert isinstance(read(tmp_path, content), PlanReport)
    with suppress(ReconcileError):
        read_saved_plan(tmp_path / "plan.json", "plan.json", SavedPlan)


@each_row("field", ["name", "reason", "\ud800"])
def test_half_of_a_surrogate_pair_is_text_or_one_error(tmp_path: Path, field: str) -> None:
    action = {"name": "a", "file": "a.yaml", "action": "noop", "reason": "InSync", "attempt": 0}
    text = json.dumps({**JSON, "actions": [{**action, field: "\ud800"}]})
    with suppress(ReconcileError):
        read(tmp_path, text)
