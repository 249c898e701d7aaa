"""Drift as people read it, and what its document holds."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import Place
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.drift import DriftReport, drift_report
from reconciler.reports.text.drift import drift_summary
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import (
    KEY,
    LOCKFILE,
    REMOTE,
    SIMULATED,
    TARGET,
    capabilities,
    counts,
    held_to,
    some,
    targets,
    texts,
    uncoloured,
    values,
)

HEAD = "Target default: embedded service (simulated training), scope demo\n"
PLACE = Place("specs/numbers.yaml", 3, 9)
HOSTILE = "\x1b[31mred\x1b[0m\u202ereversed\nsecond line\r"
ABOUT: dict[str, Any] = {"name": "numbers", "file": "numbers.yaml", "key": KEY, "remote": REMOTE}


def modified(field: str, declared: object, live: object, **fields: Any) -> Finding:
    told = {"since": "2026-01-01T13:00:00Z", "remedy": "reconcile apply", **ABOUT, **fields}
    message = f"{KEY} differs from the manifest"
    return Finding(
        kind=DriftClass.MODIFIED, message=message, severity="drift", field=field, declared=declared, live=live, **told
    )


IN_SYNC = Finding(
    kind=DriftClass.IN_SYNC, message="it is as declared", severity="note", since="2026-01-01T12:00:00Z", **ABOUT
)
ORPHANED = Finding(
    kind=DriftClass.ORPHANED,
    message="no manifest declares it; none of its generations still exists",
    severity="drift",
    name="words",
    file="words.yaml",
    remedy="reconcile forget words",
)
FOREIGN = Finding(
    kind=DriftClass.UNMANAGED,
    message="Poems is not managed by this project",
    severity="note",
    remote="tunedModels/poems",
    field="baseModel",
    live="models/gemini-3.5-flash",
    since="2026-01-01T11:00:00Z",
)


def told(*findings: Finding, unmanaged: int | None = 0, root: str = "specs", **more: Any) -> DriftReport:
    places = {"numbers": PLACE, "piped": Place("-", 1, 1), HOSTILE: Place(HOSTILE)}
    return drift_report(findings, TARGET, SIMULATED, LOCKFILE, unmanaged=unmanaged, places=places, root=root, **more)


def lines(text: str) -> str:
    return HEAD + dedent(text).strip("\n")


def test_findings_that_differ_in_their_fields_alone_are_told_as_one() -> None:
    document = told(
        modified("displayName", "counter", "not mine"),
        modified("sampling.topK", 40, None),
        ORPHANED,
        FOREIGN,
        unmanaged=1,
        notices=["the data is gone"],
    )
    assert render_text(document) == lines(
        """
        specs/numbers.yaml
          ! numbers              Modified since 2026-01-01 13:00
              why                number-generator-3kq7w2ma differs from the manifest
              generation         number-generator-3kq7w2ma
              differs            displayName: live "not mine", declared counter
                                 sampling.topK: live unset, declared 40
              remedy             reconcile apply
        specs/words.yaml
          ! words                Orphaned
              why                no manifest declares it; none of its generations still exists
              remedy             reconcile forget words
        no manifest in specs
          i tunedModels/poems    Unmanaged since 2026-01-01 11:00
              why                Poems is not managed by this project
              differs            baseModel: live models/gemini-3.5-flash
        Note: the data is gone
        1 unmanaged model is not changed.
        Drift: 1 Modified, 1 Orphaned. Notes: 1 Unmanaged.
        """
    )


def test_what_is_in_sync_is_counted_and_listed_on_demand() -> None:
    document = told(IN_SYNC)
    assert render_text(document) == lines("No drift: 1 model in sync.")
    assert render_text(document, verbose=True) == lines(
        """
        specs/numbers.yaml
          = numbers              InSync since 2026-01-01 12:00
        No drift: 1 model in sync.
        """
    )
    assert render_text(told(IN_SYNC, ORPHANED)).endswith("\n1 model is in sync.\nDrift: 1 Orphaned.")


def test_nothing_at_all() -> None:
    assert render_text(told()) == lines("No drift: 0 models in sync.")


def test_the_document_says_where_and_whether_it_counts() -> None:
    document = held_to("drift", told(modified("displayName", "counter", "mine"), IN_SYNC))
    assert document["findings"][0] == {
        "class": "Modified",
        "severity": "drift",
        "name": "numbers",
        "file": "specs/numbers.yaml",
        "line": 3,
        "column": 9,
        "key": KEY,
        "remote": REMOTE,
        "field": "displayName",
        "declared": "counter",
        "live": "mine",
        "since": "2026-01-01T13:00:00Z",
        "message": f"{KEY} differs from the manifest",
        "remedy": "reconcile apply",
    }
    assert (document["exitStatus"], document["drifted"]) == (2, True)
    assert document["summary"] == {"Modified": 1, "InSync": 1}
    excused = told(modified("displayName", "counter", "mine"), exit_zero=True)
    assert (excused.exit_status, excused.drifted) == (0, True)
    assert told(IN_SYNC).exit_status == 0


def test_an_empty_value_is_a_value() -> None:
    document = told(modified("description", "", "guesses"), modified("sampling.topK", 0, 40))
    assert [one["declared"] for one in held_to("drift", document)["findings"]] == ["", 0]
    assert 'description: live guesses, declared ""\n' in render_text(document)


@each_row(("unmanaged", "said"), [(None, False), (0, False), (3, True)])
def test_foreign_models_are_counted_when_somebody_wants_to_know(*, unmanaged: int | None, said: bool) -> None:
    document = told(IN_SYNC, unmanaged=unmanaged)
    assert held_to("drift", document).get("unmanaged") == unmanaged
    assert ("3 unmanaged models are not changed." in render_text(document)) is said


def test_standard_input_and_the_working_folder_have_names() -> None:
    piped = Finding(
        kind=DriftClass.MISSING,
        message="nothing",
        severity="drift",
        name="piped",
        file="-",
        remedy="reconcile apply",
    )
    text = render_text(told(piped, ORPHANED, FOREIGN, root=""))
    assert "\nstandard input\n" in text
    assert "\nwords.yaml\n" in text
    assert "\nno manifest in .\n" in text


def test_reasons_of_several_lines_are_told_once() -> None:
    why = "no base model can be tuned\nname another one:\n    spec: {}"
    both = [
        Finding(
            kind=DriftClass.BASE_MODEL_RETIRED,
            message=why,
            severity="note",
            name=name,
            file="a.yaml",
            field="baseModel",
            live="m",
        )
        for name in ("one", "two")
    ]
    text = render_text(told(*both))
    assert text.count("no base model can be tuned") == 1
    assert "\n                             spec: {}\n" in text
    assert "why                same as one\n" in text


def test_lines_fit_a_terminal_of_80_columns() -> None:
    long = "the service says that " + "this went on and on, " * 12 + "and ended"
    document = told(
        Finding(
            kind=DriftClass.FAILED,
            message=long,
            severity="drift",
            remedy="change the inputs and reconcile apply, or " * 3,
            **ABOUT,
        ),
        modified("description", "word " * 20, "other " * 20),
        notices=["a sentence " * 20],
    )
    assert max(map(len, render_text(document, width=80).splitlines())) <= 80
    assert any(len(line) > 80 for line in render_text(document).splitlines())


def test_colour_carries_no_meaning_alone() -> None:
    document = told(modified("displayName", "counter", "mine"), IN_SYNC, FOREIGN, unmanaged=1, notices=["a note"])
    for verbose in (True, False):
        text = render_text(document, verbose=verbose)
        coloured = render_text(document, verbose=verbose, style=ansi)
        assert uncoloured(coloured) == text
        assert coloured != text


def test_hostile_text_steers_no_terminal() -> None:
    finding = Finding(
        kind=DriftClass.MODIFIED,
        message=HOSTILE,
        severity="drift",
        name=HOSTILE,
        file=HOSTILE,
        key=HOSTILE,
        remote=HOSTILE,
        field=HOSTILE,
        declared=HOSTILE,
        live=HOSTILE,
        since=HOSTILE,
        remedy=HOSTILE,
    )
    text = render_text(told(finding, notices=[HOSTILE]))
    assert all(terminal_safe(line) == line for line in text.splitlines())


findings = st.builds(
    Finding,
    kind=st.sampled_from(DriftClass),
    message=some,
    severity=st.sampled_from(["drift", "note"]),
    name=texts,
    file=texts,
    key=texts,
    remote=texts,
    field=texts,
    declared=values,
    live=values,
    since=texts,
    remedy=texts,
)


@given(
    found=st.lists(findings, max_size=5),
    unmanaged=st.none() | counts,
    target=targets,
    able=capabilities,
    excused=st.booleans(),
)
def test_every_document_obeys_its_schema_and_can_be_drawn(
    found: list[Finding], unmanaged: int | None, target: Target, able: Capabilities, *, excused: bool
) -> None:
    places = {one.name: Place(one.message, 2, 5) for one in found[::2]}
    report = drift_report(found, target, able, LOCKFILE, unmanaged=unmanaged, exit_zero=excused, places=places)
    assert convert(held_to("drift", report), DriftReport) == report
    assert report.drifted is any(one.severity == "drift" for one in found)
    models = {(one.kind, one.name or one.remote) for one in found}
    assert sum(report.summary.values()) == len(models)
    text = render_text(report, width=80, verbose=True)
    assert all(terminal_safe(line) == line for line in text.split("\n"))
    assert drift_summary(report).endswith(".")
