"""The history of a manifest, as a document and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks, RecordedMiss
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Conversation, Dataset, Example, Failure, Source, State, TrainingExample
from reconciler.domain.text import terminal_safe
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from reconciler.planning.history import Examples, list_history
from reconciler.reports.documents.history import HistoryReport, history_report
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import (
    ACTIVE,
    DATA,
    LOCKFILE,
    SIMULATED,
    SPEC,
    TARGET,
    datasets,
    digests,
    generations,
    held_to,
    some,
    texts,
    uncoloured,
)

OLDEST = replace(ACTIVE, key="number-generator-aaaaaaaa", promote_time="2026-11-22T19:18:00Z")
PATH = "datasets/next-number.csv"
OTHER = "sha256:" + "c" * 64
AtHand = Mapping[str, Sequence[TrainingExample]]
EXAMPLES: AtHand = {
    DATA: [Example(str(n), str(n + 1)) for n in range(15)],
    OTHER: [Example(str(n), str(n + 1) if n else "one") for n in range(17)],
}


def document(*recorded: LockedGeneration, available: AtHand = EXAMPLES, **model: Any) -> HistoryReport:
    """The report of a model with these generations, held to its schema."""
    examples: dict[str, Examples] = {digest: there.__iter__ for digest, there in available.items()}
    entries = list_history(LockedModel("number-generator.yaml", generations=recorded, **model), examples)
    report = history_report(
        "number-generator", "number-generator.yaml", entries, TARGET, SIMULATED, LOCKFILE, root="specs"
    )
    assert convert(held_to("history", report), HistoryReport) == report
    return report


def newer(**fields: Any) -> LockedGeneration:
    """A later generation."""
    return replace(OLDEST, key="number-generator-bbbbbbbb", **{"promote_time": "", **fields})


def body(shown: HistoryReport, **how: Any) -> str:
    """The text without the target's line and the last one."""
    return "\n".join(render_text(shown, **how).splitlines()[1:-1])


def changed(older: LockedGeneration, later: LockedGeneration, available: AtHand = EXAMPLES) -> list[str]:
    """What the text says of what changed from one to the other."""
    lines = body(document(later, older, available=available)).splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("      changed"))
    end = next(at for at, line in enumerate(lines) if line.startswith("    number-generator-aaaaaaaa"))
    return [line[25:] for line in lines[first:end]]


def test_the_schema_is_found_by_its_kind() -> None:
    assert "History" in SCHEMA_KINDS


def test_each_generation_with_what_changed_since_the_one_before() -> None:
    failing = RecordedChecks(SPEC, 2, 1, {"held-out": 0.875}, (RecordedMiss("small", "8", "ten"),))
    newest = replace(
        newer(checks=failing, total_steps=26, final_loss=3.5, create_time="2026-11-23T08:00:00Z"),
        dataset=Dataset(OTHER, PATH, 17),
        hyperparameters=replace(OLDEST.hyperparameters, effective={"batchSize": 4, "epochCount": 3}),
    )
    shown = document(newest, OLDEST, serving=OLDEST.key)
    assert render_text(shown) == dedent(
        """\
        Target default: embedded service (simulated training), scope demo
        number-generator (specs/number-generator.yaml): 2 generations, newest first
          ! number-generator-bbbbbbbb  ACTIVE, held: checks failed
              created            2026-11-23 08:00
              training           26 steps, final loss 3.50
              checks             2 of 3 passed; held-out 87.5 %
                                 small: 8 → ten
              changed            batchSize 2 → 4
                                 data set datasets/next-number.csv: 15 → 17 examples; +2 −0 ~1
          > number-generator-aaaaaaaa  ACTIVE, serving since 2026-11-22 19:18
              created            2026-11-22 19:16
              training           23 steps, final loss 3.80
              inputs             base model models/gemini-3.5-flash
                                 data set datasets/next-number.csv, 15 examples
                                 batchSize 2, epochCount 3
        Recorded state of specs/reconcile.lock.json; the service was not queried."""  # noqa: RUF001 - as it is printed
    )
    verbose = body(shown, verbose=True).splitlines()
    assert verbose[8:11] == [
        "                           + 15: 16",
        "                           + 16: 17",
        "                           ~ 0: 1 → one",
    ]


def test_the_document_holds_what_is_recorded() -> None:
    rejected = newer(rejection="too wordy", attempt=1, origin="adopted", preamble="Say: ")
    shown = document(rejected, OLDEST, rejected=(rejected.key,))
    first, last = held_to("history", shown)["generations"]
    assert (first["role"], first["rejection"], first["attempt"], first["origin"]) == (
        "rejected",
        "too wordy",
        1,
        "adopted",
    )
    assert first["changes"] == {"since": OLDEST.key, "preamble": {"before": "", "after": "Say: "}}
    assert "changes" not in last
    assert last["dataset"] == {"path": PATH, "digest": DATA, "examples": 15}
    assert last["promoteTime"] == "2026-11-22T19:18:00Z"


def test_nothing_recorded_is_said() -> None:
    assert body(document()) == "No generation of number-generator is recorded; run reconcile apply first."


@each_row(
    ("recorded", "model", "state"),
    [
        (newer(rejection="too wordy"), {"rejected": ("number-generator-bbbbbbbb",)}, "x|ACTIVE, rejected: too wordy"),
        (newer(), {"rejected": ("number-generator-bbbbbbbb",)}, "x|ACTIVE, rejected"),
        (newer(), {"serving": "number-generator-bbbbbbbb"}, ">|ACTIVE, serving"),
        (newer(state=State.DELETED), {}, " |DELETED"),
        (newer(state=State.MISSING), {"serving": "number-generator-bbbbbbbb"}, ">|MISSING, serving"),
    ],
)
def test_what_a_generation_is(recorded: LockedGeneration, model: dict[str, Any], state: str) -> None:
    sign, words = state.split("|")
    assert body(document(recorded, **model)).splitlines()[1] == f"  {sign} number-generator-bbbbbbbb  {words}"


def test_origin_attempt_promotion_and_failure_are_told() -> None:
    failed = newer(
        state=State.FAILED,
        failure=Failure(8, "out of quota"),
        origin="adopted",
        attempt=2,
        total_steps=None,
        final_loss=None,
        create_time="",
        promote_time="2026-11-22T19:18:00Z",
    )
    lines = body(document(failed)).splitlines()[2:4]
    assert lines == [
        "      adopted            at an unknown time, last promoted 2026-11-22 19:18, attempt 2",
        "      error              out of quota",
    ]
    assert "the service reports no reason" in body(document(replace(failed, failure=Failure(13, ""))))


def test_sources_preambles_and_repetitions_are_told() -> None:
    child = Source(tuned_model="parent", key="parent-aaaaaaaa", remote="tunedModels/parent-aaaaaaaa")
    assert changed(OLDEST, newer(source=child)) == ["base model models/gemini-3.5-flash → tuned model parent-aaaaaaaa"]
    assert changed(OLDEST, newer(source=Source(remote="tunedModels/theirs"))) == [
        "base model models/gemini-3.5-flash → tuned model tunedModels/theirs"
    ]
    assert changed(OLDEST, newer(preamble="Say it:")) == ['preamble unset → "Say it:"']
    assert changed(replace(OLDEST, preamble="Say:"), newer()) == ["preamble Say: → unset"]
    assert changed(OLDEST, newer(attempt=1)) == ["only the attempt: the same inputs were trained again"]


@each_row(
    ("available", "why"),
    [
        ((OTHER,), "the earlier data set is not available"),
        ((DATA,), "this data set is not available"),
        ((), "neither data set is available"),
    ],
)
def test_what_is_not_at_hand_is_said(available: tuple[str, ...], why: str) -> None:
    later = newer(dataset=Dataset(OTHER, PATH, 17))
    there = {digest: EXAMPLES[digest] for digest in available}
    assert changed(OLDEST, later, there) == [f"data set {PATH}: 15 → 17 examples; examples not compared: {why}"]


def test_data_sets_elsewhere_inline_or_in_another_order() -> None:
    remote = newer(dataset=Dataset(OTHER, "gs://bucket/x.jsonl", 0, generation="2"))
    assert changed(OLDEST, remote, {}) == [
        f"data set {PATH} → gs://bucket/x.jsonl: changed; data in Cloud Storage is not compared"
    ]
    turned = {DATA: EXAMPLES[DATA], OTHER: EXAMPLES[DATA][::-1]}
    assert changed(OLDEST, newer(dataset=Dataset(OTHER, "", 15)), turned) == [
        f"data set {PATH} → inline: the same 15 examples in a different order"
    ]
    told = {DATA: EXAMPLES[DATA], OTHER: [Example(f"Say: {n}", str(n + 1)) for n in range(15)]}
    assert changed(OLDEST, newer(dataset=Dataset(OTHER, PATH, 15), preamble="Say: "), told) == [
        'preamble unset → "Say: "',
        f"data set {PATH}: the same 15 examples",
    ]


def test_samples_are_cut_and_conversations_shown() -> None:
    there = {DATA: EXAMPLES[DATA], OTHER: [Conversation("{}" * 1000)]}
    shown = document(newer(dataset=Dataset(OTHER, PATH, 1)), OLDEST, available=there)
    samples = held_to("history", shown)["generations"][0]["changes"]["dataset"]["examples"]["samples"]
    assert samples[0] == {"change": "added", "conversation": "{}" * 250 + "…"}
    assert [sample["change"] for sample in samples[1:]] == ["removed"] * 3
    assert f"  + {'{}' * 60}…\n" in render_text(shown, verbose=True)


def test_lines_are_folded_and_hostile_text_does_nothing() -> None:
    hostile = newer(
        rejection="\x1b[2J one two three four five six seven\nAs if\u202e",
        dataset=Dataset(OTHER, "\x07.csv", 1),
        preamble="\x1b",
    )
    shown = document(replace(hostile, key="\x1b[31m"), OLDEST, rejected=("\x1b[31m",))
    lines = render_text(shown, width=60).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("  x "))
    assert lines[first : first + 3] == [
        r"  x \x1b[31m             ACTIVE, rejected: \x1b[2J one two",
        "                         three four five six seven",
        r"                         As if\u202e",
    ]
    assert max(map(len, lines)) <= 60
    assert [line for line in lines if terminal_safe(line) != line] == []


@pytest.mark.parametrize("width", [None, 60])
def test_colour_adds_nothing_but_colour(width: int | None) -> None:
    shown = document(newer(dataset=Dataset(OTHER, PATH, 17)), OLDEST, serving=OLDEST.key)
    coloured = render_text(shown, width=width, style=ansi)
    assert "\x1b[36m  > number-generator-aaaaaaaa  \x1b[0m" in coloured
    assert uncoloured(coloured) == render_text(shown, width=width)


checked = st.builds(
    RecordedChecks,
    digests,
    st.integers(0, 9),
    st.integers(0, 9),
    st.dictionaries(some, st.floats(0, 1), max_size=2),
    st.lists(st.builds(RecordedMiss, some, texts, texts), max_size=2).map(tuple),
)
sources = st.builds(Source, some) | st.builds(Source, st.just(""), some, some, texts) | st.builds(Source, remote=some)
recorded = st.builds(
    replace,
    generations,
    source=sources,
    checks=st.none() | checked,
    rejection=texts,
    promote_time=texts,
    dataset=st.builds(replace, datasets, digest=st.sampled_from([DATA, OTHER, SPEC])),
)


@given(
    models=st.lists(recorded, max_size=3, unique_by=lambda one: one.key),
    there=st.sets(st.sampled_from([DATA, OTHER])),
    width=st.none() | st.integers(1, 200),
    verbose=st.booleans(),
)
def test_everything_can_be_drawn(
    models: list[LockedGeneration], there: set[str], width: int | None, *, verbose: bool
) -> None:
    keys = tuple(one.key for one in models)
    available = {digest: EXAMPLES[digest] for digest in there}
    shown = document(*models, available=available, serving=keys[0] if keys else None, rejected=keys[1:2])
    text = render_text(shown, width=width, verbose=verbose)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
