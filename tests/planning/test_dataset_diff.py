"""Repetitions, contradictions and leaks that a change of data brings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.model import Conversation, Example
from reconciler.planning.datasets import (
    Contradiction,
    DatasetChange,
    Exposure,
    Leak,
    Samples,
    collect_samples,
    compare,
    new_leaks,
    repetitions,
)

examples = st.lists(st.builds(Example, st.sampled_from("abc"), st.sampled_from("xyz")), max_size=12)


def test_the_first_few_are_kept_and_all_are_counted() -> None:
    assert collect_samples("abcde") == Samples(5, ("a", "b", "c"))
    assert collect_samples("") == Samples()


def test_what_stands_there_more_often_than_before_is_a_duplicate() -> None:
    one, other = Example("a", "x"), Example("b", "x")
    assert repetitions([one], [one, one, other]) == (Samples(1, (one,)), Samples())
    assert repetitions([one, one], [one, one, other, other]) == (Samples(1, (other,)), Samples())
    assert repetitions([one, one], [one, one, one])[0] == Samples(1, (one,))


def test_line_ends_do_not_tell_examples_apart() -> None:
    assert repetitions([], [Example("a\r\n", "x"), Example("a\n", "x")])[0] == Samples(1, (Example("a\n", "x"),))


def test_another_output_for_a_known_input_is_a_contradiction() -> None:
    old = [Example("a", "x")]
    assert repetitions(old, [*old, Example("a", "y")])[1] == Samples(1, (Contradiction("a", ("x", "y")),))
    assert repetitions([*old, Example("a", "y")], [*old, Example("a", "y")])[1] == Samples()
    assert repetitions(old, [Example("a", "z")])[1] == Samples()


def test_conversations_are_compared_whole() -> None:
    one = Conversation("{}")
    assert repetitions([one], [one, one]) == (Samples(1, (one,)), Samples())


@given(examples)
def test_what_did_not_change_brings_nothing(rows: list[Example]) -> None:
    assert repetitions(rows, reversed(rows)) == (Samples(), Samples())


@given(examples, examples)
def test_counts_survive_without_samples(old: list[Example], new: list[Example]) -> None:
    duplicates, contradictions = repetitions(old, new)
    whole = DatasetChange("a", "training", "a.csv", "", compare(old, new), duplicates, contradictions)
    bare = whole.without_samples
    assert whole.changes
    assert bare.changes
    assert (bare.duplicates.count, bare.contradictions.count) == (duplicates.count, contradictions.count)
    assert (bare.changes.added, bare.changes.removed) == (whole.changes.added, whole.changes.removed)
    assert not any((bare.duplicates.samples, bare.contradictions.samples, bare.changes.some_added))


def exposure(training: str, held_out: str) -> Exposure:
    return Exposure(lambda: training, lambda: held_out)


def test_a_leak_is_new_unless_it_was_one_before() -> None:
    def leaks(before: Exposure | None, after: Exposure) -> str:
        return "".join(leak.input for leak in new_leaks("unseen", before, after))

    assert list(new_leaks("unseen", None, exposure("ab", "b"))) == [Leak("unseen", "b")]
    assert leaks(None, exposure("abc", "bbcx")) == "bc"
    assert leaks(exposure("abc", "b"), exposure("abc", "bc")) == "c"
    assert leaks(exposure("a", "bc"), exposure("ab", "bc")) == "b"
    assert leaks(exposure("ab", "bc"), exposure("ab", "bc")) == ""
    assert leaks(exposure("", ""), exposure("a", "b")) == ""
