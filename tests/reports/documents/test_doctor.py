"""The findings of doctor, as a document and for people."""

from __future__ import annotations

from textwrap import dedent
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.domain.errors import ExitStatus
from reconciler.domain.text import terminal_safe
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from reconciler.reports.documents.doctor import DoctorFinding, DoctorTarget, Status, doctor_report
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.render_values import REAL, SIMULATED, TARGET, held_to, schema, some, texts, uncoloured

CHECKS = [
    "target",
    "manifests",
    "credentials",
    "service",
    "list",
    "baseModels",
    "region",
    "locationPolicy",
    "bucket",
    "lockfile",
]
HERE = DoctorTarget(TARGET, SIMULATED, "specs")
FINDINGS = (
    DoctorFinding("target", "ok", "specs/reconcile.yaml is valid"),
    DoctorFinding("manifests", "warning", "2 problems found", "run reconcile validate"),
    DoctorFinding("list", "failed", "GET /v1/tunedModels was refused", "log in"),
    DoctorFinding("baseModels", "skipped", "not looked at"),
)
everything = st.lists(st.builds(DoctorFinding, st.sampled_from(CHECKS), st.sampled_from(get_args(Status)), some, texts))


def test_the_document_holds_what_was_found() -> None:
    document = held_to("doctor", doctor_report(HERE, FINDINGS, ExitStatus.ACCESS))
    assert document["kind"] == "Doctor"
    assert document["target"]["root"] == "specs"
    assert document["exitStatus"] == 3
    assert document["summary"] == {"ok": 1, "warning": 1, "failed": 1, "skipped": 1}
    assert document["findings"][1:] == [
        {
            "check": "manifests",
            "status": "warning",
            "message": "2 problems found",
            "remedy": "run reconcile validate",
        },
        {"check": "list", "status": "failed", "message": "GET /v1/tunedModels was refused", "remedy": "log in"},
        {"check": "baseModels", "status": "skipped", "message": "not looked at"},
    ]


def test_without_a_target_the_document_has_none() -> None:
    report = doctor_report(None, FINDINGS[2:3], ExitStatus.ERROR)
    assert "target" not in held_to("doctor", report)
    assert render_text(report).splitlines()[0].startswith("x failed   list")


def test_the_schema_is_legal_strict_and_described() -> None:
    whole = schema("doctor")
    Draft202012Validator.check_schema(whole)
    assert whole["$defs"]["DoctorFinding"]["properties"]["check"]["examples"] == CHECKS
    assert "Doctor" in SCHEMA_KINDS


def test_a_line_a_check_with_what_to_do_below() -> None:
    document = doctor_report(HERE, FINDINGS, ExitStatus.ACCESS)
    assert render_text(document) == dedent(
        """\
        Target default: embedded service (simulated training), scope demo
        + ok       target       specs/reconcile.yaml is valid
        ! warning  manifests    2 problems found
                                remedy: run reconcile validate
        x failed   list         GET /v1/tunedModels was refused
                                remedy: log in
        - skipped  base models  not looked at
        Not ready: 1 ok, 1 warning, 1 failed, 1 skipped."""
    )


def test_nothing_failed_is_ready() -> None:
    document = doctor_report(DoctorTarget(TARGET, REAL), FINDINGS[:2], ExitStatus.OK)
    assert render_text(document).splitlines()[-1] == "Ready: 1 ok, 1 warning."


def test_lines_are_kept_folded_and_indented() -> None:
    finding = DoctorFinding("baseModels", "failed", "none can be tuned", "write this target:\n  kind: Target")
    assert render_text(doctor_report(HERE, [finding], ExitStatus.ERROR), width=46).splitlines()[2:-1] == [
        "x failed   base models  none can be tuned",
        "                        remedy: write this target:",
        "                                  kind: Target",
    ]


def test_hostile_text_does_nothing() -> None:
    finding = DoctorFinding("list", "failed", "\x1b[2Jfine\nReady: 9 ok.", "\u202e")
    lines = render_text(doctor_report(HERE, [finding], ExitStatus.ERROR)).splitlines()
    assert lines[1:-1] == [
        r"x failed   list         \x1b[2Jfine",
        "                        Ready: 9 ok.",
        r"                        remedy: \u202e",
    ]


@pytest.mark.parametrize("width", [None, 60])
def test_colour_adds_nothing_but_colour(width: int | None) -> None:
    document = doctor_report(HERE, FINDINGS, ExitStatus.ACCESS)
    coloured = render_text(document, width=width, style=ansi)
    assert "\x1b[31mx failed \x1b[0m" in coloured
    assert uncoloured(coloured) == render_text(document, width=width)


@given(everything, st.none() | st.integers(1, 200))
def test_everything_can_be_drawn(findings: list[DoctorFinding], width: int | None) -> None:
    report = doctor_report(HERE, findings, ExitStatus.OK)
    held_to("doctor", report)
    text = render_text(report, width=width)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
