"""Choosing manifests by name and label; a name that is not there is never passed over."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import UsageError
from reconciler.domain.labels import parse_selector
from reconciler.manifests.discovery import Selection, check_names
from support.cases import each_row
from support.core_cases import Made, manifest

MANIFESTS = [
    replace(manifest(Made(name="numbers")), labels={"team": "demo", "tier": "gold"}),
    replace(manifest(Made(name="words")), labels={"team": "demo"}),
    manifest(Made(name="letters")),
]


@each_row(
    ("selection", "names"),
    [
        (Selection(), ["numbers", "words", "letters"]),
        (Selection(labels=parse_selector("team=demo")), ["numbers", "words"]),
        (Selection(labels=parse_selector("team=demo,tier=gold")), ["numbers"]),
        (Selection(only=frozenset({"words", "letters"})), ["words", "letters"]),
        (Selection(exclude=frozenset({"words"})), ["numbers", "letters"]),
        (Selection(parse_selector("team=demo"), frozenset({"numbers", "words"}), frozenset({"words"})), ["numbers"]),
    ],
)
def test_what_is_chosen_bears_every_label_and_is_named(selection: Selection, names: list[str]) -> None:
    assert [one.name for one in selection.select(MANIFESTS)] == names
    assert [one.name for one in MANIFESTS if selection.matches(one.name, one.labels)] == names
    assert selection.selects_all is (len(names) == len(MANIFESTS))


@each_row(
    ("selector", "names"),
    [
        ("team==demo, tier!=gold", ["words"]),
        ("tier!=gold", ["words", "letters"]),
        ("team in (demo, other),tier", ["numbers"]),
        ("tier notin (gold,silver)", ["words", "letters"]),
        ("!team", ["letters"]),
        ("team , ! tier", ["words"]),
        ("tier in ()", []),
        ("tier=", []),
    ],
)
def test_a_selector_means_what_it_means_to_kubernetes(selector: str, names: list[str]) -> None:
    selection = Selection(labels=parse_selector(selector))
    assert [one.name for one in MANIFESTS if selection.matches(one.name, one.labels)] == names


def test_an_invalid_selector_is_refused() -> None:
    for text in (
        "",
        ",",
        "team=a,",
        "=a",
        "team in",
        "team in a",
        "team in (a",
        "team=a b",
        "in (a)",
        "!",
        "team=a=b",
        "a!b",
        f"a in ({' ,' * 40}",  # exponential if spaces belong to either side of a value
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            parse_selector(text)


@each_row(
    ("selection", "message"),
    [
        (
            Selection(labels=parse_selector("team=other")),
            "no manifests match; check metadata.labels, --only and --exclude",
        ),
        (Selection(only=frozenset({"number"})), "--only number: no manifest of that name; did you mean numbers?"),
        (
            Selection(exclude=frozenset({"zzz"})),
            "--exclude zzz: no manifest of that name; the manifests are: letters, numbers, words",
        ),
    ],
)
def test_a_name_that_is_not_there_is_refused(selection: Selection, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        selection.select(MANIFESTS)
    assert str(caught.value) == message


def test_without_any_manifest_the_message_says_so() -> None:
    with pytest.raises(UsageError, match=r"^--retry x: no manifest of that name; the manifests are: none$"):
        check_names("--retry", ["x"], [])
