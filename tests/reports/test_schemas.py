"""The schemas themselves: strict, described; and the lockfile, which the core writes, is held to its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from jsonschema import Draft202012Validator

from reconciler.domain.lock import Lock
from reconciler.state.lockfile import dumps
from support.cases import each_row
from support.render_values import ACTIVE, held_to, locks, schema

SCHEMAS = Path(__file__).parents[2] / "schemas"
PUBLISHED = sorted(file.name.removesuffix(".schema.json") for file in SCHEMAS.glob("*.json"))
DECLARED = {"target", "tuned-model"}
"""Documents that people write, whose schemas have alternatives."""
NAMES = [name for name in PUBLISHED if name not in DECLARED]


def described(part: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for name, one in part.get("properties", {}).items():
            yield f"{where}.{name}", one
        for name, one in part.items():
            yield from described(one, f"{where}/{name}")
    elif isinstance(part, list):
        for one in part:
            yield from described(one, where)


@each_row("name", NAMES)
def test_a_schema_describes_every_property(name: str) -> None:
    assert [
        where for where, one in described(schema(name), name) if not (one.get("title") and one.get("description"))
    ] == []


def test_every_stage_and_commit_has_its_pattern() -> None:
    found = [(where, one) for name in NAMES for where, one in described(schema(name), name)]
    named = [
        (where, one)
        for where, one in found
        if where.endswith((".stage", "RunInfo.commit")) and "Decision" not in where  # decisions are only shown
    ]
    assert len(named) > 10
    assert [where for where, one in named if "pattern" not in one] == []


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield part
        for one in part.values():
            yield from objects(one)
    elif isinstance(part, list):
        for one in part:
            yield from objects(one)


@each_row("name", NAMES)
def test_no_object_takes_fields_that_it_does_not_name(name: str) -> None:
    assert [one["title"] for one in objects(schema(name)) if "additionalProperties" not in one] == []


@given(locks)
def test_every_lockfile_obeys_its_schema(lock: Lock) -> None:
    held_to("lock", json.loads(dumps(lock)))


def test_the_lock_schema_takes_what_only_some_services_record() -> None:
    document = {
        "version": 1,
        "target": {"name": "default", "provider": "vertex", "scope": "demo", "project": "p", "location": "l"},
        "models": {
            "words": {
                "manifest": "words.yaml",
                "protect": True,
                "rejected": ["words-22222222"],
                "generations": [
                    {
                        "key": "words-33333333",
                        "spec": ACTIVE.spec,
                        "attempt": 0,
                        "origin": "created",
                        "state": "INTENDED",
                        "source": {"baseModel": "gemini-3.5-flash"},
                        "dataset": {"digest": ACTIVE.dataset.digest},
                        "preamble": "",
                        "checks": {"digest": ACTIVE.spec, "passed": 3, "failed": 0},
                        "resources": {"job": "j", "model": "m", "endpoint": "e", "location": "l", "checkpoints": []},
                    }
                ],
            }
        },
    }
    held_to("lock", document)


@each_row(
    ("change", "complaint"),
    [
        ({"version": 2}, "1 was expected"),
        ({"models": {"Words": {"manifest": "w.yaml"}}}, "does not match"),
        ({"models": {"words": {"manifest": "w.yaml", "owner": "me"}}}, "'owner' was unexpected"),
        ({"models": {"words": {"serving": "words-22222222"}}}, "'manifest' is a required property"),
    ],
)
def test_the_lock_schema_refuses(change: dict[str, Any], complaint: str) -> None:
    document = {"version": 1, "target": {}, "models": {}, **change}
    messages = [error.message for error in Draft202012Validator(schema("lock")).iter_errors(document)]
    assert len(messages) == 1
    assert complaint in messages[0]
