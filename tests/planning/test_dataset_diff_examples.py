"""How two data sets differ, example by example."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.model import Conversation, Example, TrainingExample
from reconciler.planning.datasets import (
    SAMPLES,
    ChangedExample,
    ExampleChanges,
    compare,
    without_preamble,
)
from support.core_strategies import texts

few = st.sampled_from(["", "1", "2", "3\n", "3\r\n"])
"""So few texts that repetitions, changes and other line ends are likely."""
examples = st.lists(st.builds(Example, few, few) | st.builds(Conversation, few), max_size=12)


def pairs(*given: str) -> list[TrainingExample]:
    """Examples written as ``input:output``."""
    return [Example(*one.split(":")) for one in given]


def test_added_removed_and_changed_are_told_apart() -> None:
    changes = compare(pairs("1:2", "3:4", "5:6"), pairs("3:four", "5:6", "7:8", "9:10"))
    assert changes == ExampleChanges(
        added=2,
        removed=1,
        changed=1,
        some_added=(Example("7", "8"), Example("9", "10")),
        some_removed=(Example("1", "2"),),
        some_changed=(ChangedExample("3", "4", "four"),),
    )


def test_what_stands_twice_counts_twice() -> None:
    changes = compare(pairs("1:2", "1:2"), pairs("1:2", "1:2", "1:2", "1:3"))
    assert (changes.added, changes.removed, changes.changed) == (2, 0, 0)
    assert compare(pairs("1:2", "1:2", "1:3"), pairs("1:2", "1:4", "1:5")).changed == 2


def test_a_conversation_is_added_or_removed_as_a_whole() -> None:
    changes = compare([Conversation("a"), Conversation("b")], [Conversation("b"), Conversation("c")])
    assert changes == ExampleChanges(1, 1, 0, (Conversation("c"),), (Conversation("a"),))


def test_the_order_and_the_kind_of_line_ends_do_not_count() -> None:
    assert compare(pairs("1:a\r\nb", "2:3"), pairs("2:3", "1:a\nb")) == ExampleChanges()


def test_only_a_few_are_kept() -> None:
    old = pairs(*(f"{n}:old" for n in range(100)))
    new = pairs(*(f"{n}:new" for n in range(50)), *(f"{n}:new" for n in range(200, 240)))
    changes = compare(old, new)
    assert (changes.added, changes.removed, changes.changed) == (40, 50, 50)
    assert [*map(len, (changes.some_added, changes.some_removed, changes.some_changed))] == [SAMPLES] * 3


def test_a_preamble_is_taken_off_where_it_stands() -> None:
    given = [Example("Say: 1", "2"), Example("1", "2"), Conversation("Say: 1")]
    assert list(without_preamble(given, "Say: ")) == [Example("1", "2"), Example("1", "2"), Conversation("Say: 1")]


@given(examples)
def test_nothing_differs_from_itself(some: list[TrainingExample]) -> None:
    assert compare(some, some) == compare(some, some[::-1]) == ExampleChanges()


@given(examples, examples)
def test_the_other_way_round_it_is_the_other_way_round(old: list[TrainingExample], new: list[TrainingExample]) -> None:
    there, back = compare(old, new), compare(new, old)
    assert (there.added, there.removed, there.changed) == (back.removed, back.added, back.changed)


@given(examples, examples)
def test_the_counts_add_up(old: list[TrainingExample], new: list[TrainingExample]) -> None:
    changes = compare(old, new)
    kept = len(old) - changes.removed - changes.changed
    assert kept >= 0
    assert len(new) == kept + changes.added + changes.changed
    kinds = (changes.some_added, changes.added), (changes.some_removed, changes.removed)
    assert [len(some) for some, _ in kinds] == [min(count, SAMPLES) for _, count in kinds]


@given(st.lists(st.builds(Example, texts(), texts())), texts())
def test_a_preamble_alone_changes_no_example(some: list[Example], preamble: str) -> None:
    told = [Example(preamble + one.input, one.output) for one in some]
    assert compare(some, without_preamble(told, preamble)) == ExampleChanges()
