"""Preference pairs, in the forms of TRL's documentation, of hh-rlhf and of UltraFeedback."""

from __future__ import annotations

from typing import Any

from reconciler.manifests.datasets.conversations import ExampleText, example_text, preference_value, single_turn
from reconciler.manifests.datasets.records import ConversationRow, Fault, ReadOptions, Row
from reconciler.manifests.datasets.shapes import read_object
from support.cases import each_row

PAIRS = ReadOptions(shape="preference")
SYSTEM = {"role": "system", "content": "Be brief."}
Value = dict[str, Any]


def user(text: str) -> Value:
    return {"role": "user", "content": text}


def answer(text: str) -> Value:
    return {"role": "assistant", "content": text}


def contents(*texts: str) -> list[Value]:
    """Turns of user and model."""
    return [{"role": "model" if number % 2 else "user", "parts": [{"text": text}]} for number, text in enumerate(texts)]


def hh(*texts: str) -> str:
    """A transcript of hh-rlhf."""
    return "".join(f"\n\n{'Assistant' if number % 2 else 'Human'}: {text}" for number, text in enumerate(texts))


TURNS = [user("Hi"), answer("Hello."), user("2+2?")]


@each_row(
    ("value", "prompt"),
    [
        ({"chosen": hh("2+2?", "4"), "rejected": hh("2+2?", "5")}, ["2+2?"]),
        (
            {"chosen": hh("Hi", "Hello.", "2+2?", "4"), "rejected": hh("Hi", "Hello.", "2+2?", "5")},
            ["Hi", "Hello.", "2+2?"],
        ),
        ({"prompt": hh("2+2?", ""), "chosen": hh("2+2?", "4"), "rejected": hh("2+2?", "5")}, ["2+2?"]),
        ({"chosen": [user("2+2?"), answer("4")], "rejected": [user("2+2?"), answer("5")]}, ["2+2?"]),
        ({"prompt": [user("2+2?")], "chosen": [answer("4")], "rejected": [answer("5")]}, ["2+2?"]),
        ({"prompt": TURNS, "chosen": [answer("4")], "rejected": [answer("5")]}, ["Hi", "Hello.", "2+2?"]),
        ({"prompt": [user("2+2?")], "chosen": "4", "rejected": "5"}, ["2+2?"]),
        ({"prompt": "2+2?", "chosen": [answer("4")], "rejected": [answer("5")]}, ["2+2?"]),
        ({"prompt": "2+2?", "chosen": [user("2+2?"), answer("4")], "rejected": [user("2+2?"), answer("5")]}, ["2+2?"]),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, ["2+2?"]),
        ({"instruction": "Add.", "input": "2+2?", "chosen": "4", "rejected": "5"}, ["Add.\n\n2+2?"]),
        ({"text_input": "2+2?", "chosen": "4", "rejected": "5"}, ["2+2?"]),
        ({"chosen": "The sum is 4", "rejected": "The sum is 5"}, ["The sum is"]),
        (
            {
                "conversations": [{"from": "human", "value": "2+2?"}],
                "chosen": {"from": "gpt", "value": "4"},
                "rejected": {"from": "gpt", "value": "5"},
            },
            ["2+2?"],
        ),
        ({"chosen": "It is 42", "rejected": "It is 43"}, ["It is"]),
    ],
)
def test_every_form_is_a_prompt_and_two_answers(value: Value, prompt: list[str]) -> None:
    record = read_object(1, value, PAIRS)
    assert isinstance(record, Row | ConversationRow)
    chosen, rejected = ("42", "43") if "42" in str(value) else ("4", "5")
    assert preference_value(record) == {
        "contents": contents(*prompt),
        "completions": [
            {"score": 1, "completion": {"role": "model", "parts": [{"text": chosen}]}},
            {"score": 0, "completion": {"role": "model", "parts": [{"text": rejected}]}},
        ],
    }
    assert example_text(record).output == chosen


def test_what_was_trained_before_is_the_same_example() -> None:
    value = {"prompt": "2+2?", "chosen": "4", "rejected": "5", "score": 1}
    before = read_object(1, value, ReadOptions(input="prompt", output="chosen"))
    now = read_object(1, value, PAIRS)
    assert (before, now) == (Row(1, "2+2?", "4"), Row(1, "2+2?", "4", "5"))
    answers = {"chosen": [answer("4")], "rejected": [answer("5")]}
    texts, transcripts = {"chosen": "4", "rejected": "5"}, {"chosen": hh("2+2?", "4"), "rejected": hh("2+2?", "5")}
    repeated = {"chosen": [user("2+2?"), answer("4")], "rejected": [user("2+2?"), answer("5")]}
    system = {"system": "Be brief.", "prompt": "2+2?"}
    for pair in (
        {"prompt": [SYSTEM, user("2+2?")]} | answers,
        system | answers,
        system | texts,
        system | repeated,
        system | transcripts,
    ):
        chat = read_object(1, pair, PAIRS)
        assert isinstance(chat, ConversationRow)
        assert single_turn(chat) == Row(1, "Be brief.\n\n2+2?", "4", "5")
        assert preference_value(chat)["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert example_text(now) == ExampleText("2+2?", "4")


@each_row(
    ("value", "message"),
    [
        ({"prompt": "a", "chosen": "4", "rejected": "4"}, "chosen and rejected are the same: neither is preferred"),
        ({"chosen": hh("a", "4"), "rejected": hh("a", "4")}, "chosen and rejected are the same: neither is preferred"),
        ({"chosen": hh("a", "4"), "rejected": hh("b", "5")}, "chosen and rejected have no common beginning"),
        ({"chosen": "Yes", "rejected": "No"}, "chosen and rejected have no common beginning"),
        ({"chosen": [answer("4")], "rejected": [answer("5")]}, "chosen and rejected have no common beginning"),
        ({"chosen": hh("a"), "rejected": hh("a", "5")}, "chosen does not end with an answer"),
        (
            {"chosen": [user("a"), answer("4")], "rejected": [user("a"), user("b")]},
            "rejected does not end with an answer",
        ),
        ({"prompt": TURNS, "chosen": [], "rejected": [answer("5")]}, "chosen does not end with an answer"),
        ({"chosen": hh("a", "4", "b", "6"), "rejected": hh("a", "5")}, "chosen has 3 turns after the common beginning"),
        ({"prompt": "a", "chosen": "4", "rejected": " "}, "rejected is empty"),
        ({"chosen": hh("a", "4"), "rejected": hh("a", "")}, "rejected is empty"),
        ({"prompt": [user("a")], "chosen": [answer("4")], "rejected": [answer("")]}, "rejected is empty"),
        ({"chosen": hh("a", ""), "rejected": hh("a", "5")}, "chosen is empty"),
        ({"prompt": "a", "chosen": None, "rejected": "5"}, "empty chosen: expected a string"),
        ({"prompt": "a", "chosen": [answer("4")], "rejected": "5"}, 'invalid rejected "5": expected a list of objects'),
        ({"prompt": 7, "chosen": "4", "rejected": "5"}, "invalid prompt 7: expected a string"),
        ({"prompt": "a", "chosen": "4"}, 'missing member "rejected"'),
    ],
)
def test_what_is_no_pair(value: Value, message: str) -> None:
    fault = read_object(7, value, PAIRS)
    assert isinstance(fault, Fault)
    assert fault.number == 7
    assert message in fault.message


def test_an_empty_prompt_is_not_guessed_from_the_answers() -> None:
    assert read_object(1, {"prompt": "", "chosen": "It is 4", "rejected": "It is 5"}, PAIRS) == Row(
        1, "", "It is 4", "It is 5"
    )
