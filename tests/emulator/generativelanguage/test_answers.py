from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.emulator.generativelanguage.inference import (
    BLOCKED_ANSWER,
    BLOCKED_PROMPT,
    NO_ANSWER,
    GeneratedAnswer,
    SamplingParameters,
    reply_to,
)
from reconciler.emulator.store import with_inherited
from support.cases import each_row

NUMBERS = [("1", "2"), ("seven", "eight"), ("seventy", "seventy one"), ("two hundred", "two hundred one")]
CERTAIN = SamplingParameters(temperature=0, top_p=1, top_k=40, candidates=1)
WILD = SamplingParameters(temperature=2, top_p=1, top_k=40, candidates=1000)
UNTRAINED = "(simulated answer: this model has no training examples)"


def rows(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"textInput": asked, "output": told} for asked, told in pairs]


def say(
    prompt: str, sampling: SamplingParameters = CERTAIN, pairs: Any = NUMBERS, seed: int = 1
) -> tuple[GeneratedAnswer, ...]:
    return reply_to(prompt, rows(*pairs), sampling, random.Random(seed)).candidates  # noqa: S311 - no secret


def texts(prompt: str, sampling: SamplingParameters = CERTAIN, pairs: Any = NUMBERS, seed: int = 1) -> list[str | None]:
    return [candidate.text for candidate in say(prompt, sampling, pairs, seed)]


@each_row(
    ("prompt", "output"),
    [("seven", "eight"), ("sevn", "eight"), ("seventies", "seventy one"), ("two hundred ", "two hundred one")],
)
def test_the_most_similar_example_answers(prompt: str, output: str) -> None:
    assert texts(prompt) == [output]


def test_of_equally_similar_examples_the_first_answers() -> None:
    assert texts("x", pairs=[("b", "first"), ("a", "second")]) == ["first"]
    assert texts("same", pairs=[("same", "first"), ("same", "second")]) == ["first"]


@given(st.integers())
def test_no_temperature_or_one_choice_gives_the_best_answer_always(seed: int) -> None:
    five = replace(WILD, candidates=5)
    for sampling in (replace(five, temperature=0), replace(five, top_k=1), replace(five, top_p=0)):
        assert texts("sevn", sampling, seed=seed) == ["eight"] * 5


def test_equal_randomness_gives_equal_answers() -> None:
    assert texts("seventeen", WILD) == texts("seventeen", WILD)
    assert texts("seventeen", WILD) != texts("seventeen", WILD, seed=2)


def test_a_seed_gives_the_same_answers_to_everybody() -> None:
    seeded = replace(WILD, seed=0)
    assert texts("seventeen", seeded) == texts("seventeen", seeded, seed=2)
    assert texts("seventeen", seeded) != texts("seventeen", replace(WILD, seed=3))


def test_heat_makes_other_answers_likelier() -> None:
    heats = [replace(WILD, temperature=heat) for heat in (0.2, 1, 2)]
    misses = [sum(text != "eight" for text in texts("sevn", sampling)) for sampling in heats]
    assert misses[0] < misses[1] < misses[2]


def test_only_as_many_examples_as_top_k_are_drawn() -> None:
    hot = replace(WILD, temperature=100)
    found = [set(texts("sevn", replace(hot, top_k=top_k))) for top_k in (1, 2, 3, 4)]
    assert found[:2] == [{"eight"}, {"eight", "seventy one"}]
    assert [len(each) for each in found] == [1, 2, 3, 4]
    assert set(texts("seven", replace(hot, top_k=2))) == {"eight", "seventy one"}


def test_only_as_many_examples_are_drawn_as_top_p_takes() -> None:
    alike = [(letter, letter) for letter in "abcd"]
    found = [set(texts("x", replace(WILD, top_p=top_p), alike)) for top_p in (0, 0.25, 0.26, 0.5, 0.75, 0.8, 1)]
    assert [len(each) for each in found] == [1, 1, 2, 2, 3, 4, 4]


def test_as_many_answers_come_as_candidates_are_wanted() -> None:
    assert [len(say("x", replace(WILD, candidates=count))) for count in (1, 3, 8)] == [1, 3, 8]


def test_an_exact_example_answers_at_ordinary_temperatures() -> None:
    alike = [(f"Say the number after {number}.", str(number + 1)) for number in range(100)]
    warm = replace(WILD, temperature=0.7)
    assert set(texts("Say the number after 7.", warm, alike)) == {"8"}
    assert len(set(texts("Say the number after 700.", warm, alike))) > 1


def test_an_exact_example_answers_however_many_there_are() -> None:
    many = [(str(number), str(number + 1)) for number in range(5000)]
    assert texts("4999", pairs=many) == ["5000"]
    assert texts("four 998", pairs=many) == ["999"]


def test_contradicting_examples_answer_in_turn() -> None:
    assert set(texts("a", WILD, [("a", "1"), ("b", "2"), ("a", "3")])) >= {"1", "3"}


def test_what_all_inputs_begin_with_is_not_compared() -> None:
    preamble = "You are a clerk who counts, and tells what comes next. " * 40
    prefixed = [(preamble + asked, told) for asked, told in NUMBERS]
    warm = replace(WILD, temperature=0.7)
    assert Counter(texts(f"{preamble}sevn", warm, prefixed)) == Counter(texts("sevn", warm))


@pytest.mark.parametrize("length", [10, 35_000])
def test_long_texts_are_compared_at_once(length: int) -> None:
    long = [(f"{number} {'long ' * (length // 5)}", str(number)) for number in range(600)]
    assert texts(f"77 {'long ' * (length // 5)}!", pairs=long) == ["77"]


@pytest.mark.parametrize("sampling", [CERTAIN, WILD])
def test_a_model_without_examples_says_so(sampling: SamplingParameters) -> None:
    assert set(texts("1", sampling, [])) == {UNTRAINED}


@each_row(
    ("output", "limit", "said", "finish"),
    [
        ("one two three", None, "one two three", "STOP"),
        ("one two three", 4, "one two three", "STOP"),
        ("one two three ", 3, "one two three ", "STOP"),
        ("one two three", 2, "one two", "MAX_TOKENS"),
        (" one\n two", 1, " one", "MAX_TOKENS"),
        ("one", 1, "one", "STOP"),
        ("", 1, "", "STOP"),
    ],
)
def test_an_answer_is_cut_after_as_many_words(output: str, limit: int | None, said: str, finish: Any) -> None:
    assert say("a", replace(CERTAIN, max_tokens=limit), [("a", output)]) == (GeneratedAnswer(said, finish),)


@each_row(
    ("stops", "limit", "said", "finish"),
    [
        (("two",), None, "one ", "STOP"),
        (("three", "tw", "x"), None, "one ", "STOP"),
        (("One", ""), None, "one two three", "STOP"),
        (("one",), 1, "", "STOP"),
        (("two",), 1, "one ", "STOP"),
        (("three",), 1, "one", "MAX_TOKENS"),
    ],
)
def test_an_answer_ends_before_the_first_stop(
    stops: tuple[str, ...], limit: int | None, said: str, finish: Any
) -> None:
    sampling = replace(CERTAIN, stops=stops, max_tokens=limit)
    assert say("a", sampling, [("a", "one two three")]) == (GeneratedAnswer(said, finish),)


def test_a_marker_in_the_prompt_withholds_the_answers() -> None:
    two = replace(CERTAIN, candidates=2)
    assert say(f"seven {BLOCKED_PROMPT}", two) == ()
    assert say(f"{BLOCKED_ANSWER} seven", two) == (GeneratedAnswer(None, "SAFETY"),) * 2
    assert say(NO_ANSWER, two) == (GeneratedAnswer(None, "OTHER"),) * 2


def test_own_examples_come_first_and_hide_inherited_ones() -> None:
    own, inherited = rows(("a", "mine"), ("b", "mine")), rows(("b", "theirs"), ("c", "theirs"))
    assert with_inherited(own, inherited) == rows(("a", "mine"), ("b", "mine"), ("c", "theirs"))
    assert with_inherited(own, []) == own


inputs = st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=1, max_size=6)


@given(
    pairs=inputs,
    prompt=st.text(max_size=6),
    sampling=st.builds(
        SamplingParameters,
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1),
        top_k=st.integers(1, 2**31 - 1),
        candidates=st.integers(1, 8),
    ),
)
def test_every_answer_is_an_output_and_without_temperature_that_of_an_equal_input(
    pairs: list[tuple[str, str]], prompt: str, sampling: SamplingParameters
) -> None:
    said = texts(prompt, sampling, pairs)
    assert len(said) == sampling.candidates
    assert set(said) <= {output for _, output in pairs}
    equal = next((output for asked, output in pairs if asked == prompt), None)
    assert equal in {None, texts(prompt, replace(sampling, temperature=0), pairs)[0]}
