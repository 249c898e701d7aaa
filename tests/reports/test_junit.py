"""JUnit XML as CI systems take it: well formed, of the usual shape, and true to the document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from reconciler.domain.document import Document
from reconciler.domain.drift import Finding
from reconciler.domain.errors import ExitStatus, Place, Problem, UsageError
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.reports.documents.check import CheckedModel, check_report
from reconciler.reports.documents.doctor import doctor_report, validation_report
from reconciler.reports.documents.drift import DriftReport, drift_report
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, result_report
from reconciler.reports.junit import junit, xml_safe
from support.render_values import CHECKS, CREATE, FAILED, IN_SYNC, KEY, LOCKFILE, REMOTE, SIMULATED, TARGET, plans

SHAPE: Mapping[str, tuple[set[str], tuple[str, ...]]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, ("testsuite",)),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, ("testcase", "system-out")),
    "testcase": ({"name", "classname", "time"}, ("skipped", "failure", "system-out")),
    "skipped": ({"message"}, ()),
    "failure": ({"message", "type"}, ()),
    "system-out": (set(), ()),
}
"""Of each element the attributes that it has, and what may be in it, in that order."""


def parsed(document: Document) -> ET.Element:
    """The report, after its shape was found to be the usual one."""
    whole = ET.fromstring(junit(document).encode())  # noqa: S314 - our own text
    for element in whole.iter():
        attributes, children = SHAPE[element.tag]
        assert set(element.keys()) == attributes
        order = [children.index(child.tag) for child in element]
        assert order == sorted(order)
    for suite in whole:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == int(whole.attrib["tests"]) == len(cases)
        for name, tag in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == sum(case.find(tag) is not None for case in cases)
    return whole


def endings(document: Document) -> dict[str, str]:
    """How each case ended."""
    cases = parsed(document).iter("testcase")
    return {
        case.attrib["name"]: next((end for end in ("failure", "skipped") if case.find(end) is not None), "passed")
        for case in cases
    }


def test_a_hold_of_a_plan_is_a_failure_unless_somebody_asked_for_it() -> None:
    suspended = Action("paused", "p.yaml", Kind.HOLD, Reason.SUSPENDED, message="spec.lifecycle.suspend")
    document = plan_report(Plan((CREATE, FAILED, IN_SYNC, suspended)), TARGET, SIMULATED, LOCKFILE, root="specs")
    assert endings(document) == {
        "letters": "failure",
        "number-generator": "passed",
        "paused": "skipped",
        "words": "passed",
    }
    failed = parsed(document).find(".//failure")
    assert failed is not None
    assert failed.attrib["message"].startswith("held: Failed: the training failed: out of quota;")
    assert failed.attrib["type"] == "held"
    assert "at: specs/words.yaml" in str(failed.text)


def test_several_actions_of_a_model_are_one_case() -> None:
    more = [Action("words", "w.yaml", kind, Reason.READY, key="words-22222222") for kind in (Kind.ADOPT, Kind.PROMOTE)]
    case = parsed(plan_report(Plan(tuple(more)), TARGET, SIMULATED, LOCKFILE)).find(".//testcase/system-out")
    assert case is not None
    assert re.findall(r"^(adopt|promote): Ready", str(case.text), re.MULTILINE) == ["adopt", "promote"]


def test_a_result() -> None:
    document = result_report(
        plan=Plan((FAILED, CREATE)),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=[
            ModelOutcome("letters", Outcome.FAILED, key=FAILED.key, message="out of quota"),
            ModelOutcome("new", Outcome.READY, key=KEY, remote=REMOTE),
        ],
        requests=3,
        seconds=2,
        exit_status=ExitStatus.ERROR,
    )
    assert endings(document) == {"letters": "failure", "number-generator": "skipped", "new": "passed"}


def test_each_check_is_a_case() -> None:
    model = CheckedModel(name="words", key=KEY, remote=REMOTE, serving=True, regressed=False, checks=CHECKS)
    target = target_summary(TARGET, SIMULATED, "")
    report = check_report([(model, ExitStatus.ERROR)], ["idle"], target, simulated=True)
    assert endings(report) == {
        "small": "failure",
        "large": "passed",
        "roman": "failure",
        "unseen": "passed",
        "idle": "skipped",
    }
    small = parsed(report).find(".//testcase[@name='small']")
    assert small is not None
    assert small.attrib["classname"] == "default.words"
    assert "wrong: 8 → 10: expected 9" in str(small.findtext("failure"))


def drift(*findings: dict[str, Any]) -> DriftReport:
    common = {"severity": "drift", "file": "specs/w.yaml", "name": "words", "message": "it changed"}
    placed = convert([{**common, **one} for one in findings], tuple[Finding, ...])
    return drift_report(placed, TARGET, SIMULATED, LOCKFILE, unmanaged=None)


def test_drift_is_one_case_a_manifest() -> None:
    document = drift(
        {"class": "Modified", "field": "description", "declared": "a", "live": "b", "line": 3, "column": 1},
        {"class": "Outdated", "message": "the data changed", "remedy": "run reconcile apply"},
        {"class": "InProgress", "severity": "note", "name": "numbers", "file": "specs/n.yaml"},
    )
    assert endings(document) == {"words": "failure", "numbers": "passed"}
    failure = parsed(document).find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "Modified: it changed; Outdated: the data changed; run reconcile apply"
    assert "description: live b, declared a" in str(failure.text)
    assert "at: specs/w.yaml:3:1" in str(failure.text)


def test_a_problem_of_the_input_is_a_case() -> None:
    problems = [Problem(Place("a.yaml", 3, 5), "spec.dataset", "is missing", "add it")]
    problems += [Problem(Place("a.yaml", 9), "", "has few examples", severity="warning")]
    report = validation_report(problems, 1, 1)
    assert endings(report) == {
        "spec.dataset": "failure",
        "a.yaml:9:1": "skipped",
    }


@given(plans)
def test_every_plan_is_well_formed(plan: Plan) -> None:
    parsed(plan_report(plan, TARGET, SIMULATED, LOCKFILE))


@given(st.text())
def test_what_xml_cannot_hold_is_replaced_and_the_rest_is_kept(text: str) -> None:
    kept = xml_safe(text)
    root = ET.Element("a", {"b": kept})
    root.text = kept
    read = ET.fromstring(ET.tostring(root))  # noqa: S314 - our own text
    assert read.text == (kept or None)
    assert read.attrib["b"] == kept
    if text.isprintable():
        assert kept == text


def test_characters_that_hide_are_written_out() -> None:
    assert xml_safe("a\x00b\u202e\ud800\ufffe\nc") == "a\\x00b\\u202e\\ud800\ufffd\nc"


def test_a_document_without_such_a_face_is_refused() -> None:
    with pytest.raises(UsageError, match="unsupported kind of document Doctor"):
        junit(doctor_report(None, [], ExitStatus.OK))
