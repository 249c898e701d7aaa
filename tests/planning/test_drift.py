"""Drift, case by case: facts in, findings out. The cases stand in ``drift_cases/``."""

from __future__ import annotations

import pytest

from reconciler.domain.drift import DriftClass, Finding
from reconciler.planning.drift import with_severities
from support.drift_cases import DriftCase, cases, facts

CASES = cases()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_case(case: DriftCase) -> None:
    found = case.findings()
    assert [facts(one) for one in found] == case.expected()
    for one, told in zip(found, case.found, strict=True):
        assert told.get("says", "") in one.message
        assert told.get("remedy", "") in one.remedy


def test_every_class_has_a_case() -> None:
    assert {one.kind for case in CASES.values() for one in case.findings()} == set(DriftClass)


def test_every_finding_says_what_it_is_about_and_what_to_do() -> None:
    for name, case in CASES.items():
        for one in case.findings():
            assert one.message
            assert not one.message.endswith("."), name
            assert one.name or one.kind is DriftClass.UNMANAGED
            assert one.remedy or one.kind.severity == "note", name


def test_findings_about_manifests_are_placed() -> None:
    for case in CASES.values():
        declared = {one["is"] for one in case.manifests}
        names = {case.made[alias].name for alias in declared}
        for one in case.findings():
            assert (one.place is not None) == (one.name in names)
            assert one.place is None or str(one.place) == f"{one.name}.yaml:1:1"


def test_every_manifest_is_told_of_and_notes_do_not_hide_that_it_is_in_sync() -> None:
    for name, case in CASES.items():
        told = {one.name for one in case.findings()}
        assert {case.made[one["is"]].name for one in case.manifests} <= told, name


def test_what_counts_can_be_chosen() -> None:
    found = CASES["standing: another branch's generation"].findings()
    assert with_severities(found, None) == found
    chosen = with_severities(found, frozenset({DriftClass.CANDIDATE}))
    assert [(one.kind, one.severity) for one in chosen] == [("Candidate", "drift"), ("InSync", "note")]
    gone = CASES["standing: what serves is gone"].findings()
    assert [one.severity for one in with_severities(gone, frozenset())] == ["note"]


def test_what_has_no_manifest_comes_last() -> None:
    findings = [
        Finding(DriftClass.UNMANAGED, "m", "note", remote="tunedModels/a"),
        Finding(DriftClass.MODIFIED, "m", "drift", name="b", file="b.yaml", field="displayName"),
        Finding(DriftClass.MISSING, "m", "drift", name="b", file="b.yaml"),
        Finding(DriftClass.ORPHANED, "m", "drift", name="a", file="a.yaml"),
    ]
    ordered = sorted(findings, key=Finding.sort_key)
    assert [finding.kind for finding in ordered] == [
        "Orphaned",
        "Missing",
        "Modified",
        "Unmanaged",
    ]
