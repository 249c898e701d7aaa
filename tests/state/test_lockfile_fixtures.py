"""Lockfiles that earlier versions wrote: each is read and written again unchanged, apart from invisible characters.

``golden-world.lock.json`` is the lockfile of the golden files' world. The files are frozen: never regenerate them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from reconciler.domain.document import escape_unseen
from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import UNSEEN
from reconciler.state.lockfile import dumps, loads
from reconciler.state.merge import merge
from support.cases import each_row

ROOT = Path(__file__).parents[2]
LOCKFILES = ROOT / "tests" / "fixtures" / "lockfiles"
VALIDATOR = Draft202012Validator(json.loads((ROOT / "schemas" / "lock.schema.json").read_text(encoding="utf-8")))


@each_row("file", sorted(path.name for path in LOCKFILES.iterdir()))
def test_a_recorded_lockfile_is_read_and_written_again_byte_for_byte(file: str) -> None:
    recorded = (LOCKFILES / file).read_bytes()
    VALIDATOR.validate(json.loads(recorded))
    written = dumps(loads(recorded.decode(), file))
    assert written == escape_unseen(recorded.decode())
    assert loads(written, file) == loads(recorded, file)


def test_a_written_lockfile_has_invisible_characters_as_escapes_only() -> None:
    recorded = (LOCKFILES / "checks.lock.json").read_text(encoding="utf-8")
    assert {"\u2028", "\x7f"} <= set(recorded), "an earlier version wrote them as they are"
    written = dumps(loads(recorded, "x"))
    assert r"\u2028\u007f" in written
    assert not re.search(rf"(?!\n)[{UNSEEN}]", written)


def test_the_recorded_lockfiles_have_the_values_that_are_easily_changed() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in LOCKFILES.iterdir())
    for value in (
        "1e-05",
        "1e+16",
        "-2.5e-300",
        ": 0.0",
        '"totalSteps": 0',
        '"preamble": ""',
        "höflicher",
        "😀",
        "4.0",
    ):
        assert value in text
    assert not any(empty in text for empty in (": null", "[]", ": NaN", ": Infinity"))


def with_provider_data(value: str) -> str:
    """Return a recorded lockfile with what a provider recorded in its first generation."""
    text = (LOCKFILES / "checks.lock.json").read_text(encoding="utf-8")
    document = json.loads(text)
    model = next(model for _, model in sorted(document["models"].items()) if model.get("generations"))
    model["generations"][0]["providerData"] = json.loads(value)
    return escape_unseen(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


@each_row(
    "value",
    ['{"jobId": "42"}', '{"a": {}, "b": [], "c": [{}], "d": null}', '{"rate": 1e-05, "count": 1, "whole": 4.0}'],
)
def test_what_a_provider_recorded_is_written_again_unread(value: str) -> None:
    text = with_provider_data(value)
    assert dumps(loads(text, "x.json")) == text
    ours, theirs = loads(text, "x.json"), loads((LOCKFILES / "checks.lock.json").read_bytes(), "x.json")
    assert dumps(merge(theirs, ours, theirs).lock) == text


def test_what_a_provider_recorded_is_not_nested_without_a_limit() -> None:
    with pytest.raises(ReconcileError, match="more than 64 nested values"):
        loads(with_provider_data('{"a": ' + "[" * 64 + "]" * 64 + "}"), "x.json")
