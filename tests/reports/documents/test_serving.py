"""What serves after it was moved by hand, as a document and for people."""

from __future__ import annotations

from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.lock import LockedModel
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.change import (
    RejectedGeneration,
    ServingGeneration,
    ServingReport,
    next_actions,
    rejected_generations,
)
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.render_values import (
    ACTIVE,
    CREATE,
    IN_SYNC,
    KEY,
    LOCKFILE,
    REMOTE,
    SIMULATED,
    TARGET,
    actions,
    held_to,
    some,
    texts,
    uncoloured,
)

OTHER = replace(ACTIVE, key="number-generator-22222222", rejection="It answers in French.")
HELD = Action(
    name="number-generator",
    file="number-generator.yaml",
    kind=Kind.HOLD,
    reason=Reason.ROLLED_BACK,
    key=OTHER.key,
    message="the generation that satisfies this manifest was rolled back, and is not trained again",
)
MODEL = LockedModel("number-generator.yaml", serving=KEY, rejected=(OTHER.key, "gone"), generations=(OTHER, ACTIVE))
ROLLED_BACK = ServingReport(
    simulated=True,
    target=target_summary(TARGET, SIMULATED, "specs"),
    name="number-generator",
    changed=True,
    before=OTHER.key,
    reason="It answers in French.",
    published="specs/serving.json",
    serving=ServingGeneration(key=KEY, remote=REMOTE),
    rejected=rejected_generations(MODEL),
    lockfile=LOCKFILE,
    next=next_actions([HELD], "number-generator"),
)
ALREADY = replace(
    ROLLED_BACK,
    before="",
    changed=False,
    reason="",
    next=next_actions([replace(IN_SYNC, name="number-generator", key=KEY)], "number-generator"),
)

everything = st.builds(
    ServingReport,
    simulated=st.booleans(),
    target=st.just(ROLLED_BACK.target),
    name=some,
    changed=st.booleans(),
    before=texts,
    reason=texts,
    published=texts,
    serving=st.builds(ServingGeneration, key=some, remote=some),
    rejected=st.lists(st.builds(RejectedGeneration, key=some, reason=texts), max_size=2).map(tuple),
    lockfile=some,
    next=st.lists(actions, max_size=2).map(lambda some: next_actions(some, "words")),
)


def test_the_document_holds_what_serves_what_is_rejected_and_what_comes_next() -> None:
    document = held_to("serving", ROLLED_BACK)
    assert {name: document[name] for name in document if name not in {"version", "target"}} == {
        "kind": "Serving",
        "simulated": True,
        "name": "number-generator",
        "changed": True,
        "before": OTHER.key,
        "reason": "It answers in French.",
        "published": "specs/serving.json",
        "serving": {"key": KEY, "remote": REMOTE},
        "rejected": [{"key": OTHER.key, "reason": "It answers in French."}, {"key": "gone"}],
        "lockfile": LOCKFILE,
        "next": [{"action": "hold", "reason": "RolledBack", "key": OTHER.key, "message": HELD.message}],
    }


def test_people_are_told_all_of_it() -> None:
    assert render_text(ROLLED_BACK) == dedent(f"""\
        Target default: embedded service (simulated training), scope demo
        number-generator: {KEY} is now serving instead of {OTHER.key}
          remote      {REMOTE}
          rejected    {OTHER.key}: It answers in French.
          rejected    gone
          recorded    {LOCKFILE}
          published   specs/serving.json
          next apply  holds the manifest (RolledBack): {HELD.message}""")


def test_what_served_already_is_no_change() -> None:
    lines = render_text(ALREADY).splitlines()
    assert lines[1] == f"number-generator: {KEY} is already serving; nothing was changed"
    assert lines[-1] == "  next apply  makes no change"
    assert not any(line.startswith(("  recorded", "  published")) for line in lines)


def test_what_comes_next_is_told_in_words() -> None:
    def told(action: Action) -> str:
        report = replace(ROLLED_BACK, before="", next=next_actions([action], "number-generator"))
        return render_text(report).splitlines()[-1].removeprefix("  next apply  ")

    orphan = replace(
        IN_SYNC,
        name="number-generator",
        reason=Reason.ORPHANED,
        message="no manifest declares it; it is kept",
    )
    assert told(CREATE) == f"trains {KEY}"
    assert told(replace(CREATE, kind=Kind.WAIT)) == f"waits for {KEY}, which is training"
    assert told(replace(CREATE, kind=Kind.PROMOTE, message="m")) == f"promotes {KEY}: m"
    assert told(orphan) == "makes no change: no manifest declares it; it is kept"
    assert told(replace(HELD, key="", message="")) == "holds the manifest (RolledBack)"
    assert told(replace(CREATE, name="child", kind=Kind.PROMOTE, message="")) == f"child: promotes {KEY}"


def test_long_reasons_are_folded_and_colour_adds_nothing_but_colour() -> None:
    assert (
        "              generation that satisfies this manifest was" in render_text(ROLLED_BACK, width=60).splitlines()
    )
    coloured = render_text(ROLLED_BACK, style=ansi)
    assert "\x1b[2m  remote      \x1b[0m" in coloured
    assert uncoloured(coloured) == render_text(ROLLED_BACK)


@given(everything)
def test_everything_obeys_the_schema_and_can_be_drawn(report: ServingReport) -> None:
    held_to("serving", report)
    text = render_text(report, width=70)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
