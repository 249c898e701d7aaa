"""drift on the command line: every class out of a real sequence of commands, with somebody else's hands in between."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import convert
from starlette.responses import JSONResponse

from reconciler.emulator.app import create_app
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.writer import REPORT_FORMATS
from support.cases import in_turn
from support.cli_world import EXAMPLES, Cli
from support.render_values import held_to
from support.vertex_fronts import Json, line_of
from support.vertex_runs import BASE, chosen, conversations
from support.vertex_world import BUCKET, JOBS, TARGETS, World, aim, lock_file, lock_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

EVERY = in_turn("target", TARGETS)
SHARED = in_turn("target", ["", "gl"])
MODELS = "/v1beta/tunedModels"
JOB = {
    "baseModel": "gemini-3.5-flash",
    "supervisedTuningSpec": {"trainingDatasetUri": f"gs://{BUCKET}/theirs.jsonl"},
    "tunedModelDisplayName": "theirs",
}
CHECKS = '  checks: [{{name: small, prompt: "7", expect: {{equals: "{}"}}}}]\n'


def declare(reconcile: Cli, name: str = "adder", *, epochs: int = 2, rate: float = 0.001, more: str = "") -> Path:
    """A manifest for each of the services."""
    block = f"  vertex: {{baseModel: gemini-3.5-flash, hyperparameters: {{epochCount: {epochs}}}}}\n"
    return reconcile.manifest(name, base=BASE, epochs=epochs, rate=rate, more=block + more)


def apply(reconcile: Cli, target: str, *options: str, status: int = 0) -> None:
    done = reconcile("apply", "--yes", *options, *chosen(target))
    assert done.status == status, done.out + done.err


def serving(reconcile: Cli, target: str, name: str = "adder") -> str:
    return str(lock_of(reconcile, target)[name]["serving"])


def drift(reconcile: Cli, target: str, *options: str, status: int = 2) -> tuple[Json, str]:
    """What drift tells, as the document and as text, which agree; nothing changes by telling it."""
    lock = lock_file(reconcile, target)
    before = lock.read_bytes() if lock.is_file() else b""
    result = reconcile("drift", *options, *chosen(target), "--format", "json")
    text = reconcile("drift", *options, *chosen(target))
    assert (result.status, text.status) == (status, status), result.out + result.err
    document = held_to("drift", result.document)
    assert document["exitStatus"] == status
    assert (lock.read_bytes() if lock.is_file() else b"") == before
    kinds = {one["class"] for one in document["findings"]}
    for one in document["findings"]:
        assert one["class"] == "InSync" or f" {one['class']}" in text.out
        assert one["class"] == "InSync" or one.get("remedy", "") in text.out
    for suffix, face in REPORT_FORMATS.items():
        drawn = face(convert(document, DriftReport))
        assert [kind for kind in kinds if kind not in drawn] == [], suffix
    return document, text.out


def classes(document: Json, name: str = "adder") -> list[str]:
    return sorted({one["class"] for one in document["findings"] if one.get("name") == name})


def of_class(document: Json, kind: str) -> list[Json]:
    return [one for one in document["findings"] if one["class"] == kind]


# somebody else


def other_client(reconcile: Cli, world: World, target: str) -> Callable[..., Any]:
    """Another client: over the port, or at the world of the embedded service in the project."""
    if target:
        return lambda method, path, body=None, **query: world.ask(
            method, path, json.dumps(body).encode() if body is not None else None, **query
        )
    app = create_app(
        store=reconcile.specs / ".reconcile" / "default.sqlite3",
        clock=lambda: reconcile.clock.now,
        random=random.Random(9),  # noqa: S311 - made-up ids, no secret
    )

    async def send(method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://embedded.localhost") as http:
            answer = await http.request(method, path, json=body, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    return lambda method, path, body=None, **query: asyncio.run(send(method, path, body, query))


def training(base: str = BASE, **fields: Any) -> Json:
    rows = [{"textInput": given, "output": wanted} for given, wanted in EXAMPLES]
    task = {"trainingData": {"examples": {"examples": rows}}, "hyperparameters": {"epochCount": 9, "batchSize": 4}}
    return {"displayName": "theirs", "baseModel": base, "tuningTask": task, **fields}


# what is found


@EVERY
def test_an_unchanged_model_is_in_sync(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, target)
    document, text = drift(reconcile, target, status=0)
    (one,) = document["findings"]
    assert (one["class"], one["severity"], one["key"]) == ("InSync", "note", serving(reconcile, target))
    assert (one["file"], one["line"], one["column"]) == ("specs/adder.yaml", 3, 18)
    assert one["since"] == lock_of(reconcile, target)["adder"]["generations"][0]["promoteTime"]
    assert (document["drifted"], document["summary"], document["unmanaged"]) == (False, {"InSync": 1}, 0)
    assert text.endswith("No drift: 1 model in sync.\n")
    assert "specs/adder.yaml" not in text
    loud = reconcile("drift", "-v", *chosen(target)).out
    assert "specs/adder.yaml\n  = adder                InSync since 2026-01-01 12:00\n" in loud


@EVERY
def test_a_manifest_that_was_never_applied_is_missing(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    document, text = drift(reconcile, target)
    (one,) = document["findings"]
    where = f" --target {target}" if target else ""
    assert (one["class"], one["field"], one["remedy"]) == (
        "Missing",
        "generation",
        f"reconcile apply{where}, which trains {one['declared']}",
    )
    assert text.endswith("Drift: 1 Missing.\n")
    apply(reconcile, target)
    assert classes(drift(reconcile, target, status=0)[0]) == ["InSync"]


@SHARED
def test_a_deleted_model_is_missing_until_it_is_trained_again(reconcile: Cli, world: World, target: str) -> None:
    declare(reconcile)
    apply(reconcile, target)
    key = serving(reconcile, target)
    other_client(reconcile, world, target)("DELETE", f"{MODELS}/{key}")
    document, text = drift(reconcile, target)
    (one,) = document["findings"]
    assert (one["class"], one["key"], one["declared"]) == ("Missing", key, key)
    assert "live" not in one
    assert "why                the serving generation is gone from the service\n" in text
    assert f"differs            generation: live unset, declared {key}\n" in text
    apply(reconcile, target)
    assert classes(drift(reconcile, target, status=0)[0]) == ["InSync"]


def test_a_superseded_generation_is_missing_until_that_is_recorded(reconcile: Cli, world: World) -> None:
    for epochs in (2, 3):
        declare(reconcile, epochs=epochs)
        apply(reconcile, "gl")
    old = lock_of(reconcile, "gl")["adder"]["generations"][1]["key"]
    other_client(reconcile, world, "gl")("DELETE", f"{MODELS}/{old}")
    (one,) = drift(reconcile, "gl")[0]["findings"]
    assert (one["class"], one["key"], one["remedy"]) == (
        "Missing",
        old,
        "reconcile apply --target gl, which records that",
    )
    apply(reconcile, "gl")
    assert classes(drift(reconcile, "gl", status=0)[0]) == ["InSync"]


@SHARED
def test_an_edited_model_is_modified(reconcile: Cli, world: World, target: str) -> None:
    access = "  access: [{role: reader, user: ada@example.com}]\n"
    declare(reconcile, more=f"  displayName: counter\n  sampling: {{temperature: 0.5}}\n{access}")
    apply(reconcile, target)
    key = serving(reconcile, target)
    ask = other_client(reconcile, world, target)
    promoted = reconcile.clock.now
    asyncio.run(reconcile.clock.sleep(3600))
    fields = {"displayName": "mine now", "description": "no mark", "temperature": 0.9}
    ask("PATCH", f"{MODELS}/{key}", fields, updateMask="displayName,description,temperature")
    ask("POST", f"{MODELS}/{key}/permissions", {"granteeType": "EVERYONE", "role": "READER"})

    document, text = drift(reconcile, target)

    assert classes(document) == ["Modified"]
    found = {one["field"]: (one.get("declared"), one.get("live"), one.get("since")) for one in document["findings"]}
    now = f"{promoted.replace(hour=13):%Y-%m-%dT%H:%M:%S}"
    assert {field: values[:2] for field, values in found.items()} == {
        "access.everyone": (None, "reader"),
        "displayName": ("counter", "mine now"),
        "ownership mark": ("present", "absent"),
        "sampling.temperature": (0.5, 0.9),
    }
    assert {values[2][: len(now)] for field, values in found.items() if not field.startswith("access")} == {now}
    assert found["access.everyone"][2] is None
    assert "  ! adder                Modified since 2026-01-01 13:" in text
    assert '      differs            displayName: live "mine now", declared counter\n' in text
    assert "                         sampling.temperature: live 0.9, declared 0.5\n" in text
    assert "      differs            access.everyone: live reader, declared unset\n" in text
    apply(reconcile, target)
    assert classes(drift(reconcile, target, status=0)[0]) == ["InSync"]


def test_ignored_fields_are_not_drift(reconcile: Cli, world: World) -> None:
    declare(reconcile, more="  displayName: counter\n  ignoreDrift: [displayName]\n")
    apply(reconcile, "gl")
    path = f"{MODELS}/{serving(reconcile, 'gl')}"
    other_client(reconcile, world, "gl")("PATCH", path, {"displayName": "mine"}, updateMask="displayName")
    assert classes(drift(reconcile, "gl", status=0)[0]) == ["InSync"]


@SHARED
def test_another_model_with_the_same_name_is_replaced(reconcile: Cli, world: World, target: str) -> None:
    declare(reconcile)
    apply(reconcile, target)
    key = serving(reconcile, target)
    ask = other_client(reconcile, world, target)
    asyncio.run(reconcile.clock.sleep(3600))
    ask("DELETE", f"{MODELS}/{key}")
    ask("POST", MODELS, training(), tunedModelId=key)
    document, text = drift(reconcile, target)
    assert classes(document) == ["Replaced"]
    found = {one["field"]: one for one in document["findings"]}
    assert found.keys() == {"createTime", "hyperparameters.epochCount"}
    assert (found["hyperparameters.epochCount"]["declared"], found["hyperparameters.epochCount"]["live"]) == (2, 9)
    assert found["createTime"]["live"] > found["createTime"]["declared"]
    assert found["createTime"]["since"] == found["createTime"]["live"]
    assert "another model has the name of" in text
    assert "remedy             find out who created that model; " in text
    assert document["unmanaged"] == 1
    ask("DELETE", f"{MODELS}/{key}")
    apply(reconcile, target)
    assert classes(drift(reconcile, target, status=0)[0]) == ["InSync"]


def test_another_model_with_the_mark_is_replaced_until_it_is_recorded(reconcile: Cli, world: World) -> None:
    declare(reconcile)
    apply(reconcile, "gl")
    key = serving(reconcile, "gl")
    ask = other_client(reconcile, world, "gl")
    marked = ask("GET", f"{MODELS}/{key}")["description"]
    asyncio.run(reconcile.clock.sleep(3600))
    ask("DELETE", f"{MODELS}/{key}")
    ask("POST", MODELS, training(description=marked), tunedModelId=key)
    asyncio.run(reconcile.clock.sleep(3600))
    document, _ = drift(reconcile, "gl")
    assert {one["field"] for one in of_class(document, "Replaced")} == {"createTime", "hyperparameters.epochCount"}
    assert {one["severity"] for one in document["findings"]} == {"drift"}
    apply(reconcile, "gl", "--replace", "adder")
    again, _ = drift(reconcile, "gl", status=0)
    assert {(one["class"], one["severity"]) for one in again["findings"]} == {("Replaced", "note"), ("InSync", "note")}


def test_a_mark_of_another_content_is_reported(reconcile: Cli, world: World) -> None:
    declare(reconcile)
    apply(reconcile, "gl")
    path = f"{MODELS}/{serving(reconcile, 'gl')}"
    ask = other_client(reconcile, world, "gl")
    marked = ask("GET", path)["description"]
    forged = re.sub(r"spec=sha256:\w{64}", f"spec=sha256:{'0' * 64}", marked)
    ask("PATCH", path, {"description": forged}, updateMask="description")
    (one,) = drift(reconcile, "gl")[0]["findings"]
    assert (one["class"], one["field"], one["live"]) == ("Replaced", "ownership mark", f"sha256:{'0' * 64}")
    assert one["remedy"].startswith("remove the line managed-by=reconcile from its description, then reconcile apply")
    ask("PATCH", path, {"description": ""}, updateMask="description")
    assert classes(drift(reconcile, "gl")[0]) == ["Modified"]
    apply(reconcile, "gl")
    assert ask("GET", path)["description"] == marked


@EVERY
def test_a_changed_manifest_makes_the_serving_generation_outdated(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, target)
    declare(reconcile, epochs=3)
    document, text = drift(reconcile, target)
    (one,) = document["findings"]
    assert (one["class"], one["key"], one["field"]) == (
        "Outdated",
        serving(reconcile, target),
        "hyperparameters.epochCount",
    )
    assert (one["declared"], one["live"]) == (3, 2)
    assert "differs            hyperparameters.epochCount: live 2, declared 3\n" in text


@EVERY
def test_a_training_is_in_progress(reconcile: Cli, slow: World, target: str) -> None:
    assert slow
    declare(reconcile)
    apply(reconcile, target, "--no-wait")
    document, text = drift(reconcile, target, status=0)
    assert classes(document) == ["InProgress"]
    (one,) = document["findings"]
    assert one["since"].startswith("2026-01-01T12:00")
    assert text.endswith("No drift: 0 models in sync. Notes: 1 InProgress.\n")


@EVERY
def test_another_branchs_model_is_a_candidate(reconcile: Cli, world: World, target: str) -> None:
    assert world
    manifest = declare(reconcile)
    apply(reconcile, target)
    contents = {path: path.read_bytes() for path in (manifest, lock_file(reconcile, target))}
    declare(reconcile, epochs=3)
    declare(reconcile, "words")
    apply(reconcile, target)
    theirs = serving(reconcile, target)
    (reconcile.specs / "words.yaml").unlink()
    for path, content in contents.items():
        path.write_bytes(content)
    document, text = drift(reconcile, target, status=0)
    assert (classes(document), classes(document, "words")) == (["Candidate", "InSync"], ["Candidate"])
    own = next(one for one in of_class(document, "Candidate") if one["name"] == "adder")
    assert (own["key"], own["severity"], own["file"]) == (theirs, "note", "specs/adder.yaml")
    (other,) = (one for one in of_class(document, "Candidate") if one["name"] == "words")
    assert "file" not in other
    assert "no manifest in specs\n  i words                Candidate since 2026-01-01 12:00\n" in text


@EVERY
def test_a_rolled_back_generation_is_pinned(reconcile: Cli, world: World, target: str) -> None:
    assert world
    keys = []
    for epochs in (2, 3):
        declare(reconcile, epochs=epochs)
        apply(reconcile, target)
        keys.append(serving(reconcile, target))
    assert reconcile("rollback", "adder", "--reason", "it rhymes", *chosen(target)).status == 0
    document, _ = drift(reconcile, target, status=0)
    (one,) = document["findings"]
    assert (one["class"], one["declared"], one["live"]) == ("Pinned", keys[1], keys[0])
    assert one["message"] == f"{keys[1]} was rolled back: it rhymes"
    assert one["since"] == f"{reconcile.clock.now:%Y-%m-%dT%H:%M:%SZ}"
    where = f" --target {target}" if target else ""
    assert one["remedy"] == f"reconcile promote adder --to {keys[1]}{where}, or change the manifest"


@SHARED
def test_a_training_that_diverges_has_failed(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, target)
    declare(reconcile, rate=2)
    apply(reconcile, target, status=1)
    document, text = drift(reconcile, target)
    assert classes(document) == ["Failed"]
    (one,) = document["findings"]
    assert "the mean loss is not a number" in one["message"]
    assert f"or reconcile apply --retry adder{' --target gl' if target else ''}" in text


def test_a_canceled_job_is_failed(reconcile: Cli, slow: World) -> None:
    declare(reconcile)
    apply(reconcile, "vertex", "--no-wait")
    slow.cancel(slow.jobs()[0])
    document, _ = drift(reconcile, "vertex")
    assert classes(document) == ["Failed"]
    assert document["findings"][0]["message"].startswith("the training was canceled at the service")


@EVERY
def test_a_generation_that_fails_its_checks_is_degraded(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile, more=CHECKS.format("8"))
    apply(reconcile, target)
    declare(reconcile, more=CHECKS.format("9"))
    assert classes(drift(reconcile, target, status=0)[0]) == ["Unverifiable"], "these checks were not run yet"
    assert reconcile("check", *chosen(target)).status == 1
    document, _ = drift(reconcile, target)
    (one,) = document["findings"]
    assert (one["class"], one["key"]) == ("Degraded", serving(reconcile, target))
    assert one["message"] == "the serving generation fails its checks: 0 of 1 checks passed (small: '7' → '8')"


@EVERY
def test_a_model_that_is_no_longer_declared_is_orphaned(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    declare(reconcile, "words")
    apply(reconcile, target)
    (reconcile.specs / "words.yaml").unlink()
    document, text = drift(reconcile, target)
    (one,) = of_class(document, "Orphaned")
    assert (one["name"], one["file"], one["key"]) == ("words", "specs/words.yaml", serving(reconcile, target, "words"))
    assert one["message"] == "no manifest declares it; 1 of its generations still exists"
    assert text.endswith("1 model is in sync.\nDrift: 1 Orphaned.\n")
    part, _ = drift(reconcile, target, "specs/adder.yaml", status=0)
    assert [one["class"] for one in part["findings"]] == ["InSync"]
    (notice,) = part["notices"]
    assert notice.startswith("only some of the manifests were read, so orphans and candidates are not reported")


@EVERY
def test_unmanaged_models_are_counted_listed_or_omitted(reconcile: Cli, world: World, target: str) -> None:
    declare(reconcile)
    apply(reconcile, target)
    if target == "vertex":
        world.put("theirs.jsonl", conversations())
        other_client(reconcile, world, target)("POST", JOBS, JOB)
    else:
        other_client(reconcile, world, target)("POST", MODELS, training(), tunedModelId="theirs")
    counted, text = drift(reconcile, target, status=0)
    assert (counted["unmanaged"], classes(counted)) == (1, ["InSync"])
    assert "1 unmanaged model is not changed.\n" in text
    listed, text = drift(reconcile, target, "--unmanaged", "all", status=0)
    (one,) = of_class(listed, "Unmanaged")
    assert one["live"] == ("gemini-3.5-flash" if target == "vertex" else BASE)
    assert one["since"].startswith("2026-01-01T12:00")
    assert one["message"] == "theirs is not managed by this project"
    assert "name" not in one
    assert listed["summary"] == {"Unmanaged": 1, "InSync": 1}
    silent, text = drift(reconcile, target, "--unmanaged", "none", status=0)
    assert "unmanaged" not in silent
    assert "foreign" not in text


def without_tuning(path: str) -> Callable[[ASGIApp], ASGIApp]:
    """A front end behind which no base model can be tuned any more."""

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            listed = {"models": [{"name": BASE, "supportedGenerationMethods": ["generateContent"]}]}
            await (JSONResponse(listed) if line_of(scope) == f"GET {path}" else app)(scope, receive, send)

        return answer

    return front


def test_a_base_model_that_is_retired_is_noted_and_is_drift_where_it_is_needed(reconcile: Cli, world: World) -> None:
    declare(reconcile)
    apply(reconcile, "gl")
    world.front = without_tuning("/v1beta/models")
    document, text = drift(reconcile, "gl", status=0)
    assert classes(document) == ["BaseModelRetired", "InSync"]
    (one,) = of_class(document, "BaseModelRetired")
    assert (one["severity"], one["declared"], one["live"]) == ("note", BASE, BASE)
    assert "Google retired the last one of this API" in one["message"]
    assert text.endswith("No drift: 1 model in sync. Notes: 1 BaseModelRetired.\n")
    declare(reconcile, epochs=3)
    document, _ = drift(reconcile, "gl")
    assert {one["class"]: one["severity"] for one in document["findings"]} == {
        "Outdated": "drift",
        "BaseModelRetired": "drift",
    }


@EVERY
def test_without_a_lockfile_the_serving_generation_is_unknown(reconcile: Cli, world: World, target: str) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, target)
    lock_file(reconcile, target).unlink()
    document, _ = drift(reconcile, target, status=0)
    (one,) = document["findings"]
    assert one["class"] == "Unverifiable"
    assert "the lockfile records no serving generation" in one["message"]
    assert not lock_file(reconcile, target).exists()


def test_an_adopted_model_cannot_be_verified(reconcile: Cli, world: World) -> None:
    other_client(reconcile, world, "gl")("POST", MODELS, training(), tunedModelId="theirs")
    asyncio.run(reconcile.clock.sleep(3600))
    adopted = reconcile("adopt", "words", "tunedModels/theirs", "--target", "gl")
    assert adopted.status == 0, adopted.err
    apply(reconcile, "gl")
    document, text = drift(reconcile, "gl", status=0)
    assert classes(document, "words") == ["Unverifiable"]
    assert "it was adopted, and its training data is unknown" in text
    assert "differs" not in text


def test_many_missing_models_are_not_trusted(reconcile: Cli, world: World) -> None:
    ask = other_client(reconcile, world, "gl")
    for name in ("adder", "words", "poems"):
        declare(reconcile, name)
    apply(reconcile, "gl")
    for name in ("adder", "words"):
        ask("DELETE", f"{MODELS}/{serving(reconcile, 'gl', name)}")
    for options in ((), ("--exit-zero",), ("--format", "json")):
        result = reconcile("drift", "--target", "gl", *options)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith("Error: 2 recorded models are gone at once (tunedModels/adder-")
        assert "which looks like a wrong project or wrong credentials" in result.err


# how it is told


def test_the_failing_classes_can_be_selected(reconcile: Cli, world: World) -> None:
    assert world
    declare(reconcile)
    document, _ = drift(reconcile, "", "--exit-zero", status=0)
    assert (document["drifted"], document["findings"][0]["severity"]) == (True, "drift")
    document, _ = drift(reconcile, "", "--fail-on", "Modified,failed", status=0)
    assert (document["drifted"], document["findings"][0]["severity"]) == (False, "note")
    assert drift(reconcile, "", "--fail-on", "Modified", "--fail-on", "Missing")[0]["drifted"]
    apply(reconcile, "", "--no-wait")
    drift(reconcile, "", status=0)
    assert drift(reconcile, "", "--fail-on", "InProgress")[1].endswith("Drift: 1 InProgress.\n")


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("Modifed", "did you mean Modified?"),
        ("Missing,orphans", "did you mean Orphaned?"),
        (
            "",
            "expected one of Missing, Replaced, Failed, Degraded, Outdated, Modified, Orphaned, Pinned, InProgress, ",
        ),
        ("InSync", "expected one of "),
    ],
)
def test_an_unknown_class_is_refused_before_any_request(reconcile: Cli, given: str, remedy: str) -> None:
    result = reconcile("drift", "--fail-on", given)
    assert (result.status, result.out) == (64, "")
    assert "unknown drift class; " in result.err
    assert remedy in result.err


def test_remedies_name_the_paths_and_the_target(reconcile: Cli, world: World) -> None:
    assert world
    declare(reconcile)
    document, _ = drift(reconcile, "gl", "specs/adder.yaml")
    assert document["findings"][0]["remedy"].startswith("reconcile apply specs/adder.yaml --target gl, which trains ")


def test_without_credentials_it_is_3(reconcile: Cli, world: World) -> None:
    assert world
    declare(reconcile)
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    assert reconcile("drift", "--target", "gl", "--exit-zero").status == 3


def test_problems_of_the_input_are_reported(reconcile: Cli) -> None:
    declare(reconcile).write_text("kind: Nonsense\n")
    result = reconcile("drift")
    assert (result.status, result.out) == (1, "")
    assert "specs/adder.yaml:1:1: " in result.err


# what it leaves alone


def contents(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every file with what it holds; of a database its rows, as opening it may move its pages."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".sqlite3":
            with closing(sqlite3.connect(path)) as store:
                yield str(path), list(store.iterdump())
        elif path.is_file() and ".sqlite3" not in path.name:
            yield str(path), path.read_bytes()


@pytest.mark.parametrize("target", [*(pytest.param(name, marks=pytest.mark.slow) for name in TARGETS), "bucket"])
def test_it_only_reads(reconcile: Cli, world: World, target: str, caplog: pytest.LogCaptureFixture) -> None:
    """A bit of everything: in sync, ahead, failed, edited, shared, orphaned, training, another branch's, taken over."""
    name = "vertex" if target == "bucket" else target
    if target == "bucket":
        aim(reconcile, world.url, more=f"  lock: gs://{BUCKET}/drift.lock.json\n")
    shared = "" if name == "vertex" else "  access: [{role: reader, user: ada@example.com}]\n"
    for one in ("adder", "ahead", "orphan", "poems"):
        declare(reconcile, one, more=(shared if one == "adder" else "") + CHECKS.format("8"))
    apply(reconcile, name)
    declare(reconcile, "ahead", epochs=3)
    (reconcile.specs / "orphan.yaml").unlink()
    declare(reconcile, "late")
    apply(reconcile, name, "--no-wait", "--only", "late")
    reports = [str(reconcile.folder / f"drift.{suffix}") for suffix in ("json", "md", "html", "xml")]
    before, kept = dict(contents(reconcile.folder)), world.objects()
    world.lines.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO, "httpx"):
        options = [word for report in reports for word in ("--report", report)]
        result = reconcile("drift", *chosen(name), *options, "--unmanaged", "all")

    assert result.status == 2, result.err
    sent = [record.getMessage() for record in caplog.records if record.name == "httpx"]
    assert sent
    assert [line for line in sent if not line.startswith("HTTP Request: GET ")] == []
    assert [line for line in world.lines if not line.startswith("GET ")] == []
    assert bool(world.lines) == bool(name)
    after = dict(contents(reconcile.folder))
    assert {path: content for path, content in after.items() if path not in reports} == before
    assert set(reports) <= after.keys()
    assert world.objects() == kept


def test_a_project_without_a_world_is_left_without_a_lockfile(reconcile: Cli) -> None:
    declare(reconcile)
    reconcile.target("  apiVersion: v1beta\n")
    assert reconcile("drift").status == 2
    assert not reconcile.lock_file.exists()


def test_reports_have_model_details_with_curves(reconcile: Cli, world: World) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, "gl")
    file = reconcile.folder / "drift.json"
    assert reconcile("drift", "--target", "gl", "--report", str(file)).status == 0
    report = held_to("drift", json.loads(file.read_text()))
    (one,) = report["modelDetails"]
    (generation,) = one["generations"]
    assert (one["name"], one["serving"], generation["key"]) == ("adder", generation["key"], serving(reconcile, "gl"))
    assert len(generation["curve"]) == 10
    assert generation["curve"][-1] == [10, generation["finalLoss"]]
    assert "modelDetails" not in reconcile("drift", "--target", "gl", "--format", "json").document


@pytest.mark.parametrize("command", [("plan",), ("plan", "--offline"), ("apply", "--yes"), ("wait",)])
def test_other_reports_have_model_details_too(reconcile: Cli, world: World, command: tuple[str, ...]) -> None:
    assert world
    declare(reconcile)
    apply(reconcile, "gl")
    file = reconcile.folder / "report.json"
    done = reconcile(*command, "--target", "gl", "--report", str(file))
    assert done.status == 0, done.err
    report = json.loads(file.read_text())
    held_to(report["kind"].lower(), report)
    (generation,) = report["modelDetails"][0]["generations"]
    assert generation["key"] == serving(reconcile, "gl")
    assert ("curve" in generation) is ("--offline" not in command)
    assert "modelDetails" not in reconcile(*command, "--target", "gl", "--format", "json").document


def test_a_run_that_trains_reports_the_curve_of_what_it_trained(reconcile: Cli, world: World) -> None:
    assert world
    declare(reconcile)
    file = reconcile.folder / "report.json"
    apply(reconcile, "gl", "--report", str(file))
    report = held_to("result", json.loads(file.read_text()))
    (generation,) = report["modelDetails"][0]["generations"]
    assert (generation["state"], len(generation["curve"])) == ("ACTIVE", 10)
