"""Names that are made of content. Version 1 never changes, so its keys are written down and derived a second time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.identity import (
    NAME_PATTERN,
    Content,
    canonical_number,
    dataset_digest,
    key_of,
    object_digest,
    round_to_float32,
    same_value,
    split_mark,
    with_mark,
)
from reconciler.domain.model import Conversation, Example, Mark, Source
from support.cases import each_row
from support.core_strategies import FLOAT32_MAX, contents, examples, marks, rates, texts

GOLDEN = json.loads((Path(__file__).parent / "golden" / "keys.v1.json").read_text(encoding="utf-8"))["keys"]
DIGESTS = json.loads((Path(__file__).parent / "golden" / "digests.v1.json").read_text(encoding="utf-8"))
LEGAL_ID = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"


def content_of(vector: Mapping[str, Any]) -> Content:
    rows = [Example(vector["preamble"] + one, other) for one, other in vector["examples"]]
    return Content(
        scope=vector["scope"],
        name=vector["name"],
        source=Source(vector.get("baseModel", ""), key=vector.get("parent", ""), remote=vector.get("remote", "")),
        hyperparameters=vector["hyperparameters"],
        data=dataset_digest(rows),
        attempt=vector["attempt"],
    )


@each_row("vector", GOLDEN, ids=lambda vector: vector["what"])
def test_keys_of_version_1_never_change(vector: dict[str, Any]) -> None:
    content = content_of(vector)
    assert content.data == vector["data"]
    assert content.canonical().decode() == vector["canonical"]
    assert content.mark().spec == f"sha256:{vector['sha256']}"
    assert key_of(content.mark()) == vector["key"]


@each_row("vector", GOLDEN, ids=lambda vector: vector["what"])
def test_the_golden_keys_follow_from_first_principles(vector: dict[str, Any]) -> None:
    def plain(text: str) -> str:
        return json.dumps(text.replace("\r\n", "\n").replace("\r", "\n"), ensure_ascii=False)

    lines = "".join(f"[{plain(vector['preamble'] + one)},{plain(other)}]\n" for one, other in vector["examples"])
    data = "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    for name, written in vector["numbers"].items():
        assert struct.pack("<f", float(written)) == struct.pack("<f", vector["hyperparameters"][name])
    numbers = ",".join(f'"{name}":{written}' for name, written in sorted(vector["numbers"].items()))
    source = next(vector[kind] for kind in ("baseModel", "parent", "remote") if kind in vector)
    canonical = (
        f'{{"attempt":{vector["attempt"]},"data":"{data}","hyperparameters":{{{numbers}}},'
        f'"name":"{vector["name"]}","scope":"{vector["scope"]}","source":"{source}","v":1}}'
    )
    digest = hashlib.sha256(canonical.encode())
    assert canonical == vector["canonical"]
    assert digest.hexdigest() == vector["sha256"]
    assert vector["key"] == f"{vector['name']}-{base64.b32encode(digest.digest()).decode()[:8].lower()}"


@pytest.mark.parametrize("vector", DIGESTS["objects"], ids=lambda vector: vector["uri"])
def test_digests_of_objects_of_version_1_never_change(vector: dict[str, str]) -> None:
    assert object_digest(vector["uri"], vector["generation"], vector["checksum"]) == vector["digest"]
    assert vector["digest"] == "sha256:" + hashlib.sha256(vector["canonical"].encode()).hexdigest()
    assert json.loads(vector["canonical"]) == [vector["uri"], vector["generation"], vector["checksum"]]


@pytest.mark.parametrize("vector", DIGESTS["conversations"], ids=["one", "two with an instruction"])
def test_digests_of_conversations_of_version_1_never_change(vector: dict[str, Any]) -> None:
    assert dataset_digest(map(Conversation, vector["lines"])) == vector["digest"]
    text = "".join(f"{line}\n" for line in vector["lines"])
    assert vector["digest"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_every_part_of_an_objects_pin_counts() -> None:
    pins = [("gs://a/b", "1", "c"), ("gs://a/x", "1", "c"), ("gs://a/b", "2", "c"), ("gs://a/b", "1", "d")]
    assert len({object_digest(*pin) for pin in pins}) == len(pins)


def test_a_conversation_is_another_data_set_than_the_pair_it_was_made_of() -> None:
    pair = Example("1", "2")
    line = '{"contents":[{"parts":[{"text":"1"}],"role":"user"},{"parts":[{"text":"2"}],"role":"model"}]}'
    assert dataset_digest([pair]) != dataset_digest([Conversation(line)])
    assert dataset_digest([pair, Conversation(line)]) != dataset_digest([Conversation(line), pair])


@given(contents())
def test_every_key_is_a_legal_id(content: Content) -> None:
    assert re.fullmatch(NAME_PATTERN, content.name)
    assert re.fullmatch(LEGAL_ID, key_of(content.mark()))


@given(contents(), st.randoms(use_true_random=False))
def test_a_key_does_not_depend_on_the_order_of_hyperparameters(content: Content, random: Any) -> None:
    shuffled = list(content.hyperparameters.items())
    random.shuffle(shuffled)
    assert replace(content, hyperparameters=dict(shuffled)).mark() == content.mark()


@given(contents(), contents())
def test_a_key_is_changed_by_every_immutable_input(content: Content, other: Content) -> None:
    for field in ("scope", "name", "source", "data", "attempt"):
        changed = replace(content, **{field: getattr(other, field)})
        same = getattr(content, field) == getattr(other, field)
        assert (changed.mark().spec == content.mark().spec) is same, field


@given(contents(), st.sampled_from(["epochCount", "batchSize", "learningRate"]), rates())
def test_a_key_is_changed_by_every_hyperparameter_and_by_leaving_one_out(
    content: Content, name: str, value: float
) -> None:
    spec = content.mark().spec
    others = {key: number for key, number in content.hyperparameters.items() if key != name}
    before = content.hyperparameters.get(name)
    assert (replace(content, hyperparameters=others).mark().spec == spec) is (before is None)
    same = before is not None and round_to_float32(before) == round_to_float32(value)
    assert (replace(content, hyperparameters={**others, name: value}).mark().spec == spec) is same


@given(rates())
def test_a_canonical_number_is_the_same_float32_and_stays_what_it_is(value: float) -> None:
    canonical = canonical_number(value)
    assert round_to_float32(canonical) == round_to_float32(value)
    assert canonical_number(canonical) == canonical
    assert type(canonical_number(canonical)) is type(canonical)
    assert canonical_number(round_to_float32(value)) == canonical


@each_row(
    ("value", "canonical"),
    [(3, "3"), (3.0, "3"), (0.1, "0.1"), (1e-05, "1e-05"), (0.0, "0"), (-0.0, "0"), (2.0**60, "1.1529215e+18")],
)
def test_whole_numbers_are_integers_as_far_as_json_can_hold_them(value: float, canonical: str) -> None:
    assert repr(canonical_number(value)) == canonical


@each_row("value", [FLOAT32_MAX, 3.4028e38, 10**20, 1e16])
def test_very_large_numbers_still_make_a_key(value: float) -> None:
    content = Content("demo", "numbers", Source("models/m"), {"learningRate": value}, "sha256:" + "0" * 64)
    assert re.fullmatch(LEGAL_ID, key_of(content.mark()))


def test_beyond_a_float32_there_is_no_canonical_number() -> None:
    with pytest.raises(OverflowError):
        canonical_number(1e39)


@given(rates())
def test_a_number_is_the_same_after_a_trip_over_the_wire(value: float) -> None:
    assert same_value(value, value)
    assert same_value(value, round_to_float32(value))


@each_row(
    ("declared", "effective"),
    [
        (0.001, 0.0011),
        (3, 4),
        (1e-7, 2e-7),
        (1, float("inf")),
        (1, float("nan")),
        (1e300, 1e301),
        (3, 1e300),
        (0, 1e-9),
    ],
)
def test_other_numbers_are_not_the_same(declared: float, effective: float) -> None:
    assert not same_value(declared, effective)


@given(examples(), st.data())
def test_one_changed_character_changes_the_digest(rows: list[Example], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(["input", "output"]))
    text = getattr(rows[position], field)
    at = data.draw(st.integers(0, len(text)))
    added = data.draw(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))
    changed = replace(rows[position], **{field: text[:at] + added + text[at:]})
    assert dataset_digest([*rows[:position], changed, *rows[position + 1 :]]) != dataset_digest(rows)


@given(examples(), examples())
def test_the_order_of_examples_matters(rows: list[Example], others: list[Example]) -> None:
    assert (dataset_digest(rows + others) == dataset_digest(others + rows)) is (
        normalised(rows + others) == normalised(others + rows)
    )


def normalised(rows: list[Example]) -> list[tuple[str, str]]:
    lines = [(one.input, one.output) for one in rows]
    return [(re.sub("\r\n?", "\n", one), re.sub("\r\n?", "\n", other)) for one, other in lines]


@given(st.lists(texts(), min_size=2, max_size=4))
def test_line_ends_of_all_kinds_are_one(lines: list[str]) -> None:
    parts = [re.sub("[\r\n]", "", line) for line in lines]
    digests = {dataset_digest([Example(end.join(parts), end.join(parts))]) for end in ("\n", "\r\n", "\r")}
    assert len(digests) == 1


def test_where_one_text_ends_and_the_next_begins_matters() -> None:
    assert dataset_digest([Example("ab", "c")]) != dataset_digest([Example("a", "bc")])
    assert dataset_digest([Example("a", "b"), Example("c", "d")]) != dataset_digest([Example("a", 'b"]\n["c","d')])
    assert dataset_digest([]) != dataset_digest([Example("", "")])


@given(texts(), marks())
def test_a_mark_and_the_human_part_of_a_description_come_apart_again(human: str, mark: Mark) -> None:
    assert split_mark(with_mark(human, mark)) == (human, mark)


@given(texts(), marks(), marks())
def test_a_human_part_that_looks_like_a_mark_comes_back_as_it_was(human: str, inner: Mark, mark: Mark) -> None:
    for tricky in (with_mark(human, inner), with_mark("", inner), f"{with_mark(human, inner)}\n"):
        assert split_mark(with_mark(tricky, mark)) == (tricky, mark)


@given(texts())
def test_a_description_without_a_mark_is_left_as_it_is(text: str) -> None:
    assert split_mark(text) == (text, None)


@each_row(
    "change",
    [
        ("managed-by=reconcile", "managed-by=other"),
        ("attempt=0", "attempt=-1"),
        ("attempt=0", "attempt=0 more=1"),
        ("spec=sha256:", "spec=sha1:"),
        ("name=", "name= "),
        ("scope=demo", "scope="),
    ],
    ids=lambda change: f"{change[0]} -> {change[1]}",
)
def test_what_only_resembles_a_mark_is_none(change: tuple[str, str]) -> None:
    text = with_mark("human", Mark("demo", "numbers", "sha256:" + "a" * 64, "sha256:" + "b" * 64))
    assert split_mark(text)[1] is not None
    assert split_mark(text.replace(*change)) == (text.replace(*change), None)


def test_a_checkpoint_is_part_of_the_content_only_if_it_is_declared() -> None:
    parent = Source(tuned_model="parent", key="parent-22222222", remote="models/1@1")
    second = replace(parent, checkpoint="2")
    assert (parent.identity, second.identity) == ("parent-22222222", "parent-22222222#2")
    assert Source(checkpoint="2").identity == ""
    assert second.is_same(second)
    assert parent.is_same(second), "the service returns the checkpoint that it chose"
    assert not second.is_same(parent)
    assert not second.is_same(replace(parent, checkpoint="3"))
