"""The lockfile's text: round trips, and messages for what cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import asdict, replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import (
    Lock,
    LockedHyperparameters,
    LockedModel,
    LockedTarget,
    check_owner,
    check_same_owner,
    parse_time,
    record_target,
)
from reconciler.domain.model import Checkpoint, Dataset, Failure, Limits, RemoteModel, Resources, State, Target
from reconciler.state.lockfile import LockWriter, dumps, loads
from support.cases import each_row
from support.core_strategies import generation, locks

SCHEMA = Path(__file__).parents[2] / "schemas" / "lock.schema.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
FILE = "specs/reconcile.lock.json"
RESTORE = "restore it from git"
FULL = Lock(
    LockedTarget("default", "embedded", "acme/nlp", "p", None, {"maxCreates": 5}),
    {
        "numbers": LockedModel(
            "numbers.yaml",
            "numbers-aaaaaaaa",
            ("numbers-bbbbbbbb",),
            protect=True,
            generations=(
                generation(
                    hyperparameters=LockedHyperparameters({"batchSize": 2}, {"batchSize": 2, "learningRate": 0.0002}),
                    operation="tunedModels/numbers-aaaaaaaa/operations/x",
                    total_steps=23,
                    final_loss=3.8,
                    create_time="2026-01-01T00:00:00.092786Z",
                ),
                generation("numbers-bbbbbbbb", state=State.FAILED, failure=Failure(3, "no"), attempt=1),
            ),
        )
    },
)


def a_lock_survives_being_written_and_read(lock: Lock) -> None:
    text = dumps(lock)
    assert loads(text, FILE) == lock
    assert dumps(loads(text, FILE)) == text
    VALIDATOR.validate(json.loads(text))


def equal_locks_have_equal_texts(lock: Lock, random: Any) -> None:
    shuffled = list(lock.models.items())
    random.shuffle(shuffled)
    assert dumps(replace(lock, models=dict(shuffled))) == dumps(lock)


def a_writer_writes_each_lock_as_if_it_were_the_first(written: list[Lock]) -> None:
    writer = LockWriter()
    merged = [*written, *(replace(lock, models={**written[0].models, **lock.models}) for lock in written)]
    assert [writer.dumps(lock) for lock in merged] == [dumps(lock) for lock in merged]


@given(st.lists(locks(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_what_holds_of_every_lock(written: list[Lock], random: Any) -> None:
    a_lock_survives_being_written_and_read(written[0])
    equal_locks_have_equal_texts(written[-1], random)
    a_writer_writes_each_lock_as_if_it_were_the_first(written)


def test_empty_keys_are_left_out_and_the_rest_is_sorted() -> None:
    text = dumps(Lock(models={"b": LockedModel("b.yaml"), "a": LockedModel("a.yaml", generations=(generation(),))}))
    digest = "sha256:" + "0" * 64
    assert text == (
        f"""{{
  "models": {{
    "a": {{
      "generations": [
        {{
          "attempt": 0,
          "dataset": {{
            "digest": "{digest}",
            "examples": 15,
            "path": "data.csv"
          }},
          "key": "numbers-aaaaaaaa",
          "origin": "created",
          "preamble": "",
          "remote": "tunedModels/numbers-aaaaaaaa",
          "source": {{
            "baseModel": "models/gemini-3.5-flash"
          }},
          "spec": "{digest}",
          "state": "ACTIVE"
        }}
      ],
      "manifest": "a.yaml"
    }},
    "b": {{
      "manifest": "b.yaml"
    }}
  }},
  "target": {{}},
  "version": 1
}}
"""
    )


def test_what_is_only_intended_has_no_remote_name_and_what_was_made_has_its_resources() -> None:
    pinned = Dataset("sha256:" + "1" * 64, "gs://acme/data.jsonl", 0, "17", "AAAAAA==", 1000)
    made = Resources("jobs/1", "models/1@1", "endpoints/1", "us-central1", (Checkpoint("1", 0, 7, "endpoints/2"),))
    generations = (
        generation("numbers-bbbbbbbb", remote="", state=State.INTENDED, dataset=pinned),
        generation(resources=made, dataset=pinned),
    )
    document = json.loads(dumps(Lock(FULL.target, {"numbers": LockedModel("n.yaml", generations=generations)})))
    intended, ready = document["models"]["numbers"]["generations"]
    assert not intended.keys() & {"remote", "resources", "createTime"}
    assert ready["dataset"] == {
        "path": "gs://acme/data.jsonl",
        "digest": "sha256:" + "1" * 64,
        "generation": "17",
        "checksum": "AAAAAA==",
        "bytes": 1000,
    }
    assert ready["resources"] == {
        "job": "jobs/1",
        "model": "models/1@1",
        "endpoint": "endpoints/1",
        "location": "us-central1",
        "checkpoints": [{"checkpointId": "1", "epoch": 0, "step": 7, "endpoint": "endpoints/2"}],
    }


def edited(edit: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(dumps(FULL))
    edit(document)
    return json.dumps(document)


def put(*path: str | int, value: Any) -> str:
    """The full lock's text with one value put at a path."""

    def edit(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return edited(edit)


def drop(*path: str | int) -> str:
    def edit(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        del document[path[-1]]

    return edited(edit)


def stage(**fields: Any) -> str:
    return put("models", "numbers", "stages", value={"eu": fields})


def recorded_first() -> str:
    def edit(document: Any) -> None:
        document["target"]["stages"] = ["eu"]
        document["models"]["numbers"]["stages"] = {"eu": {"serving": "x"}}

    return edited(edit)


def forged(**fields: object) -> str:
    """The full lock's text with a decision in its history."""
    return put("history", value=[{"time": "2026-01-01T00:00:00Z", "action": "promote", "model": "numbers", **fields}])


ONE = ("models", "numbers", "generations", 0)
AT = "models.numbers.generations[0]"
UNREADABLE = {
    "truncated": (
        dumps(FULL)[:200],
        ":9:23: models.numbers.generations[0].dataset.digest: truncated JSON: the file ends too early",
    ),
    "empty": (" \n", ":2:1: empty file"),
    "deeply nested": ("[" * 100_000, ":1:65: more than 64 nested values"),
    "not a number of JSON": (
        put(*ONE, "finalLoss", value=float("nan")),
        f": {AT}.finalLoss: invalid JSON: expected a value",
    ),
    "a list": ("[]", ": not a lockfile"),
    "another tool's": ('{"lockfileVersion": 3, "packages": {}}', ": not a lockfile"),
    "models of another kind": ('{"version": 1, "models": []}', ": not a lockfile"),
    "a version that is none": ('{"version": true, "models": {}}', ": not a lockfile"),
    "version zero": ('{"version": 0, "models": {}}', ": not a lockfile"),
    "missing field": (drop(*ONE, "remote"), f": {AT}.remote: missing"),
    "missing digest": (drop(*ONE, "dataset"), f": {AT}.dataset: missing"),
    "null": (put(*ONE, "key", value=None), f":1:366: {AT}.key: expected a string"),
    "no manifest": (drop("models", "numbers", "manifest"), ": models.numbers.manifest: missing"),
    "no scope": (drop("target", "scope"), ": target.scope: missing"),
    "target of another type": (put("target", value=7), ": target: expected an object"),
    "model of another type": (put("models", "numbers", value=[]), ": models.numbers: expected an object"),
    "generations of another type": (put("models", "numbers", "generations", value={}), "generations: expected a list"),
    "generation of another type": (put(*ONE, value="x"), f": {AT}: expected an object"),
    "rejected of another type": (
        put("models", "numbers", "rejected", value=[1]),
        ": models.numbers.rejected[0]: expected a string",
    ),
    "protect of another type": (
        put("models", "numbers", "protect", value="no"),
        "models.numbers.protect: expected a boolean",
    ),
    "attempt of another type": (put(*ONE, "attempt", value="0"), f": {AT}.attempt: expected an integer"),
    "a boolean for a number": (put(*ONE, "attempt", value=True), f": {AT}.attempt: expected an integer"),
    "odd state": (
        put(*ONE, "state", value="DONE"),
        f": {AT}.state: expected one of INTENDED, CREATING, ACTIVE, FAILED, CANCELLED, MISSING, DELETING, DELETED",
    ),
    "odd digest": (put(*ONE, "spec", value="sha256:xyz"), f": {AT}.spec: expected a sha256 digest"),
    "odd time": (
        put(*ONE, "createTime", value="yesterday"),
        f": {AT}.createTime: expected an RFC 3339 time",
    ),
    "time without zone": (
        put(*ONE, "createTime", value="2026-01-01T00:00:00"),
        f": {AT}.createTime: expected an RFC 3339 time",
    ),
    "odd hyperparameter": (
        put(*ONE, "hyperparameters", "declared", "batchSize", value=["2"]),
        f": {AT}.hyperparameters.declared.batchSize: expected a number or a string",
    ),
    "a number beyond all floats": (put(*ONE, "finalLoss", value=10**400), f": {AT}.finalLoss: number out of range"),
    "an infinite number": (
        put(*ONE, "finalLoss", value="").replace('"finalLoss": ""', '"finalLoss": 1e999'),
        f": {AT}.finalLoss: number out of range",
    ),
    "no remote although it was begun": (
        put(*ONE, "remote", value=""),
        f":1:491: {AT}.remote: missing",
    ),
    "checkpoint without id": (
        put(*ONE, "resources", value={"checkpoints": [{"epoch": 1}]}),
        f": {AT}.resources.checkpoints[0].checkpointId: missing",
    ),
    "odd resource": (put(*ONE, "resources", value={"job": 7}), f": {AT}.resources.job: expected a string"),
    "odd size of a data set": (put(*ONE, "dataset", "bytes", value="7"), f": {AT}.dataset.bytes: expected an integer"),
    "odd error": (put(*ONE, "error", value={"code": 3}), f": {AT}.error.message: missing"),
    "a stage with an unknown field": (stage(servin="x"), ": models.numbers.stages.eu.servin: unknown field"),
    "a stage with another time": (stage(promoteTime="now"), ".stages.eu.promoteTime: expected an RFC 3339 time"),
    "a stage with another digest": (stage(fields="abc"), ".stages.eu.fields: invalid value"),
    "a stage of another type": (put("models", "numbers", "stages", value={"eu": "x"}), "stages.eu: expected an object"),
    "a stage with another name": (
        put("models", "numbers", "stages", value={"EU": {}}),
        "models.numbers.stages.EU: expected the name of a stage",
    ),
    "a stage that is named twice": (
        put("target", "stages", value=["eu", "eu"]),
        ".stages: a stage is named twice",
    ),
    "a record of the first stage": (
        recorded_first(),
        "models.numbers.stages.eu: the first stage has no record of its own",
    ),
    "a decision that does not exist": (
        forged(action="grant"),
        (
            ": history[0].action: expected one of request, promote, rollback, adopt, forget, refresh, prune, destroy,"
            " unprotect,"
        ),
    ),
    "a decision at an odd time": (forged(time="tomorrow"), ": history[0].time: expected a time in UTC"),
    "a decision with a long reason": (forged(reason="x" * 501), ": history[0].reason: expected a text of at most 500"),
    "a decision with more": (forged(approved=True), ": history[0].approved: unknown field"),
    "a history of another type": (put("history", value={}), ": history: expected a list"),
    "odd limit": (put("target", "limits", "maxCreates", value=""), ": target.limits.maxCreates: "),
}


@each_row(("text", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_errors_name_the_field_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ReconcileError) as caught:
        loads(text, FILE)
    assert re.match(rf"{FILE}:\d+:\d+: ", caught.value.message)
    assert message in caught.value.message
    assert caught.value.remedy == RESTORE


def test_conflict_markers_are_reported() -> None:
    text = dumps(FULL).replace('  "target"', '<<<<<<< HEAD\n  "target"')
    with pytest.raises(ReconcileError) as caught:
        loads(text, FILE)
    assert str(caught.value) == (
        f"{FILE}:65:1: contains git conflict markers; run reconcile refresh to merge both sides"
    )


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(ReconcileError) as caught:
        loads('{"version": 2, "models": {}}', FILE)
    assert (
        str(caught.value)
        == f"{FILE}:1:13: unsupported version 2: this reconcile reads up to version 1; upgrade reconcile"
    )


TARGET = Target("default", "specs/reconcile.yaml", "generativelanguage", "acme/nlp", project="p")


@each_row(
    ("field", "recorded", "message"),
    [
        ("provider", "embedded", 'it records "embedded", specs/reconcile.yaml has "generativelanguage"'),
        ("project", None, 'it records none, specs/reconcile.yaml has "p"'),
        ("location", "europe-west4", 'it records "europe-west4", specs/reconcile.yaml has none'),
        ("scope", "acme", 'it records "acme", specs/reconcile.yaml has "acme/nlp"'),
    ],
)
def test_a_lockfile_of_something_else_is_refused(field: str, recorded: str | None, message: str) -> None:
    lock = Lock(LockedTarget(**{**asdict(record_target(TARGET)), field: recorded}))
    with pytest.raises(ReconcileError) as caught:
        check_owner(lock, TARGET, FILE)
    assert str(caught.value) == (
        f"{FILE} belongs to another {field}: {message}; "
        f"restore the old {field}, or describe the new one in a target file with another name, which gets its own"
        " lockfile"
    )


def test_a_lockfile_of_this_target_is_taken_whatever_its_limits() -> None:
    check_owner(Lock(), TARGET, FILE)
    check_owner(Lock(record_target(TARGET)), replace(TARGET, name="other", limits=Limits(max_creates=1)), FILE)


def test_of_the_limits_those_that_differ_from_the_defaults_are_recorded() -> None:
    limits = Limits(max_creates=7, requests_per_minute=60)
    assert record_target(replace(TARGET, limits=limits)).limits == {"maxCreates": 7, "requestsPerMinute": 60}
    assert record_target(TARGET).limits == {}


def test_a_model_is_the_recorded_one_when_it_was_created_at_the_same_moment() -> None:
    one = generation(create_time="2026-01-01T00:00:00.5Z")
    live = RemoteModel(one.remote, State.ACTIVE)
    assert one.is_same(replace(live, create_time="2026-01-01T00:00:00.500Z"))
    assert one.is_same(replace(live, create_time="2026-01-01T01:00:00.500+01:00"))
    assert not one.is_same(replace(live, create_time="2026-01-01T00:00:01Z"))
    assert not one.is_same(live)
    assert not replace(one, create_time="").is_same(live)


def test_nanoseconds_are_cut() -> None:
    assert parse_time("2023-09-18T11:06:39.461814784Z") == parse_time("2023-09-18T11:06:39.461814Z")
    assert parse_time("") is None


def test_another_run_with_another_scope_is_an_error() -> None:
    own = Lock(record_target(TARGET))
    check_same_owner(own, own, "f")
    check_same_owner(own, Lock(), "f")
    other = Lock(record_target(replace(TARGET, scope="other")))
    with pytest.raises(ReconcileError, match=r"^f was overwritten by a run with another scope"):
        check_same_owner(other, own, "f")
