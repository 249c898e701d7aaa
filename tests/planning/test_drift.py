"""The findings of each case in ``drift_cases/``."""

from __future__ import annotations

from reconciler.domain.drift import DriftClass, Finding
from reconciler.planning.drift import with_severities
from support.cases import each_row
from support.drift_cases import DriftCase, cases, facts

CASES = cases()


@each_row("case", CASES.values(), ids=CASES.keys())
def test_a_case(case: DriftCase) -> None:
    found = case.findings()
    assert [facts(finding) for finding in found] == case.expected()
    for finding, expected in zip(found, case.found, strict=True):
        assert expected.get("cause", finding.cause) == finding.cause
        assert expected.get("says", "") in finding.message
        assert expected.get("remedy", "") in finding.remedy


def test_every_class_has_a_case() -> None:
    assert {finding.kind for case in CASES.values() for finding in case.findings()} == set(DriftClass)


def test_every_finding_has_a_model_a_message_and_a_remedy() -> None:
    for name, case in CASES.items():
        for finding in case.findings():
            assert finding.message
            assert not finding.message.endswith("."), name
            assert finding.name or finding.kind is DriftClass.UNMANAGED
            assert finding.remedy or finding.kind.severity == "note", name


def test_findings_of_manifests_have_their_file() -> None:
    for case in CASES.values():
        declared = {manifest["is"] for manifest in case.manifests}
        names = {case.made[alias].name for alias in declared}
        for finding in case.findings():
            if finding.name in names:
                assert finding.file == f"{finding.name}.yaml"


def test_every_manifest_has_a_finding() -> None:
    for name, case in CASES.items():
        names = {finding.name for finding in case.findings()}
        assert {case.made[manifest["is"]].name for manifest in case.manifests} <= names, name


def test_fail_on_sets_the_severities() -> None:
    found = CASES["states: a candidate"].findings()
    assert with_severities(found, None) == found
    chosen = with_severities(found, frozenset({DriftClass.CANDIDATE}))
    assert [(finding.kind, finding.severity) for finding in chosen] == [("Candidate", "drift"), ("InSync", "note")]
    gone = CASES["states: the serving generation is gone"].findings()
    assert [finding.severity for finding in with_severities(gone, frozenset())] == ["note"]


def test_findings_without_a_manifest_are_last() -> None:
    findings = [
        Finding(kind=DriftClass.UNMANAGED, message="m", severity="note", remote="tunedModels/a"),
        Finding(kind=DriftClass.MODIFIED, message="m", severity="drift", name="b", file="b.yaml", field="displayName"),
        Finding(kind=DriftClass.MISSING, message="m", severity="drift", name="b", file="b.yaml"),
        Finding(kind=DriftClass.ORPHANED, message="m", severity="drift", name="a", file="a.yaml"),
    ]
    ordered = sorted(findings, key=Finding.sort_key)
    assert [finding.kind for finding in ordered] == [
        "Orphaned",
        "Missing",
        "Modified",
        "Unmanaged",
    ]
