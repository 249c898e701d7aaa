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
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import Struct, convert
from starlette.responses import JSONResponse

from reconciler.emulator.app import create_app
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.writer import REPORT_FORMATS
from support.cli_world import EXAMPLES, GEMINI_API, Cli
from support.render_values import held_to
from support.vertex_fronts import Json, line_of
from support.vertex_runs import BASE, chosen, conversations
from support.vertex_world import BUCKET, JOBS, TARGETS, World, aim, fresh, lock_file, lock_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_AT_EMBEDDED, _AT_VERTEX = (pytest.param(target, marks=pytest.mark.slow) for target in ("", "vertex"))
EVERY = pytest.mark.parametrize("story", [_AT_EMBEDDED, "gl", _AT_VERTEX], indirect=True)
SHARED = pytest.mark.parametrize("story", [_AT_EMBEDDED, "gl"], indirect=True)
"""Another client can change or delete a model."""
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
    for one in document["findings"]:
        assert one["class"] == "InSync" or f" {one['class']}" in text.out
        assert one["class"] == "InSync" or one.get("remedy", "") in text.out
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
    return embedded_client(reconcile)


def embedded_client(reconcile: Cli) -> Callable[..., Any]:
    """Another client of the service that is embedded in a project."""
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


# A project of which every part has drifted in its own way; the tests read what drift reported about it.


class Story(Struct, frozen=True):
    """What drift reported at one target, and facts of that moment."""

    target: str
    document: Json
    text: str
    serving: dict[str, str]
    """The keys of the serving generations by model."""
    facts: dict[str, str]
    settled: Json
    """The document after the next apply."""

    def findings(self, name: str) -> list[Json]:
        return [one for one in self.document["findings"] if one.get("name") == name]

    def only(self, name: str, kind: str) -> Json:
        """The only finding about a model."""
        (one,) = self.findings(name)
        assert one["class"] == kind
        return one


ACCESS = "  access: [{role: reader, user: ada@example.com}]\n"


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, served: World, tmp_path_factory: pytest.TempPathFactory) -> Story:
    reconcile, target = Cli(tmp_path_factory.mktemp("drift")), str(request.param)
    world, shared = fresh(served, reconcile), target != "vertex"
    declare(reconcile, "degraded", more=CHECKS.format("8"))
    for name in ("adder", "branched", "orphan", "pinned", "words"):
        declare(reconcile, name)
    if shared:
        _declare_edited(reconcile)
    apply(reconcile, target)
    first = lock_of(reconcile, target)

    changed = ("branched", "pinned", *(("superseded",) if shared else ()))
    for name in changed:
        declare(reconcile, name, epochs=3)
    if shared:
        declare(reconcile, "diverging", rate=2)
    apply(reconcile, target, status=1 if shared else 0)
    facts = {name: serving(reconcile, target, name) for name in changed}
    assert reconcile("rollback", "pinned", "--reason", "it rhymes", *chosen(target)).status == 0
    facts["rollback"] = f"{reconcile.clock.now:%Y-%m-%dT%H:%M:%SZ}"
    declare(reconcile, "degraded", more=CHECKS.format("9"))
    assert reconcile("check", "degraded", *chosen(target)).status == 1

    # as if another branch had trained the second generation of branched, and words
    lock = json.loads(lock_file(reconcile, target).read_bytes())
    lock["models"]["branched"] = first["branched"]
    del lock["models"]["words"]
    lock_file(reconcile, target).write_text(json.dumps(lock))
    for name in ("orphan", "words"):
        (reconcile.specs / f"{name}.yaml").unlink()
    declare(reconcile, "branched")
    declare(reconcile, "never")

    reconcile.clock.now += timedelta(hours=1)
    facts["edit"] = f"{reconcile.clock.now:%Y-%m-%dT%H:%M:%S}"
    ask = other_client(reconcile, world, target)
    if shared:
        facts |= _edit(ask, lock["models"])
        ask("POST", MODELS, training(), tunedModelId="theirs")
        reconcile.clock.now += timedelta(minutes=5)  # until the imitation is trained
    else:
        world.put("theirs.jsonl", conversations())
        ask("POST", JOBS, JOB)
    declare(reconcile, "adder", epochs=3)

    document, text = drift(reconcile, target, "--unmanaged", "all")
    keys = {name: str(model["serving"]) for name, model in lock_of(reconcile, target).items()}
    if shared:
        ask("DELETE", f"{MODELS}/{keys['replaced']}")
        ask("PATCH", f"{MODELS}/{keys['forged']}", {"description": ""}, updateMask="description")
        apply(reconcile, target, "--replace", "imitated", status=1)
        facts["restored mark"] = ask("GET", f"{MODELS}/{keys['forged']}")["description"]
    else:
        apply(reconcile, target, "--only", "never")
    settled = reconcile("drift", *chosen(target), "--format", "json").document
    return Story(target, document, text, keys, facts, settled)


def _declare_edited(reconcile: Cli) -> None:
    """Declare the models that another client can change or delete at the Generative Language API."""
    for name in ("deleted", "diverging", "forged", "imitated", "replaced", "superseded"):
        declare(reconcile, name)
    declare(reconcile, "edited", more=f"  displayName: counter\n  sampling: {{temperature: 0.5}}\n{ACCESS}")
    declare(reconcile, "ignoring", more="  displayName: counter\n  ignoreDrift: [displayName]\n")


def _edit(ask: Callable[..., Any], lock: Json) -> dict[str, str]:
    """Change models as another client, and return facts that a test needs."""
    path = {name: f"{MODELS}/{model['serving']}" for name, model in lock.items() if "serving" in model}
    ask("DELETE", path["deleted"])
    old = lock["superseded"]["generations"][1]["key"]
    ask("DELETE", f"{MODELS}/{old}")
    fields = {"displayName": "mine now", "description": "no mark", "temperature": 0.9}
    ask("PATCH", path["edited"], fields, updateMask="displayName,description,temperature")
    ask("POST", f"{path['edited']}/permissions", {"granteeType": "EVERYONE", "role": "READER"})
    ask("PATCH", path["ignoring"], {"displayName": "mine"}, updateMask="displayName")
    imitation = training(description=ask("GET", path["imitated"])["description"])
    for name, body in (("replaced", training()), ("imitated", imitation)):
        ask("DELETE", path[name])
        ask("POST", MODELS, body, tunedModelId=lock[name]["serving"])
    mark = ask("GET", path["forged"])["description"]
    forged = re.sub(r"spec=sha256:\w{64}", f"spec=sha256:{'0' * 64}", mark)
    ask("PATCH", path["forged"], {"description": forged}, updateMask="description")
    return {"old": old, "mark": mark}


@EVERY
def test_a_manifest_that_was_never_applied_is_missing(story: Story) -> None:
    one = story.only("never", "Missing")
    where = f" --target {story.target}" if story.target else ""
    assert (one["field"], one["remedy"]) == ("generation", f"reconcile apply{where}, which trains {one['declared']}")
    assert classes(story.settled, "never") == ["InSync"]


@EVERY
def test_the_report_of_each_format_has_every_class(story: Story) -> None:
    kinds = {one["class"] for one in story.document["findings"]}
    for suffix, face in REPORT_FORMATS.items():
        drawn = face(convert(story.document, DriftReport))
        words = {"InSync": "in sync"} if suffix == ".html" else {}
        assert [kind for kind in kinds if words.get(kind, kind) not in drawn] == [], suffix


@SHARED
def test_a_deleted_model_is_missing_until_it_is_trained_again(story: Story) -> None:
    one, key = story.only("deleted", "Missing"), story.serving["deleted"]
    assert (one["key"], one["declared"]) == (key, key)
    assert "live" not in one
    assert "why                the serving generation is gone from the service\n" in story.text
    assert f"differs            generation: live unset, declared {key}\n" in story.text
    assert classes(story.settled, "deleted") == ["InSync"]


@SHARED
def test_a_superseded_generation_is_missing_until_that_is_recorded(story: Story) -> None:
    one = story.only("superseded", "Missing")
    where = f" --target {story.target}" if story.target else ""
    assert (one["key"], one["remedy"]) == (story.facts["old"], f"reconcile apply{where}, which records that")
    assert classes(story.settled, "superseded") == ["InSync"]


@SHARED
def test_an_edited_model_is_modified(story: Story) -> None:
    edited = story.findings("edited")
    assert {one["class"] for one in edited} == {"Modified"}
    found = {one["field"]: (one.get("declared"), one.get("live"), one.get("since")) for one in edited}
    now = story.facts["edit"]
    assert {field: values[:2] for field, values in found.items()} == {
        "access.everyone": (None, "reader"),
        "displayName": ("counter", "mine now"),
        "ownership mark": ("present", "absent"),
        "sampling.temperature": (0.5, 0.9),
    }
    assert {values[2][: len(now)] for field, values in found.items() if not field.startswith("access")} == {now}
    assert found["access.everyone"][2] is None
    assert "  ! edited               Modified (out of band) since 2026-01-01 13:" in story.text
    assert '      differs            displayName: live "mine now", declared counter\n' in story.text
    assert "                         sampling.temperature: live 0.9, declared 0.5\n" in story.text
    assert "      differs            access.everyone: live reader, declared unset\n" in story.text
    assert classes(story.settled, "edited") == ["InSync"]


@SHARED
def test_ignored_fields_are_not_drift(story: Story) -> None:
    assert story.only("ignoring", "InSync")["severity"] == "note"


@SHARED
def test_another_model_with_the_same_name_is_replaced(story: Story) -> None:
    replaced = story.findings("replaced")
    assert {one["class"] for one in replaced} == {"Replaced"}
    found = {one["field"]: one for one in replaced}
    assert found.keys() == {"createTime", "hyperparameters.epochCount"}
    assert (found["hyperparameters.epochCount"]["declared"], found["hyperparameters.epochCount"]["live"]) == (2, 9)
    assert found["createTime"]["live"] > found["createTime"]["declared"]
    assert found["createTime"]["since"] == found["createTime"]["live"]
    assert "another model has the name of" in story.text
    assert "remedy             find out who created that model; " in story.text
    assert classes(story.settled, "replaced") == ["InSync"], "the other model was deleted"


@SHARED
def test_another_model_with_the_mark_is_replaced_until_it_is_recorded(story: Story) -> None:
    imitated = story.findings("imitated")
    assert {one["field"] for one in imitated} == {"createTime", "hyperparameters.epochCount"}
    assert {(one["class"], one["severity"]) for one in imitated} == {("Replaced", "drift")}
    again = [one for one in story.settled["findings"] if one.get("name") == "imitated"]
    assert {(one["class"], one["severity"]) for one in again} == {("Replaced", "note"), ("InSync", "note")}


@SHARED
def test_a_mark_of_another_content_is_reported(story: Story) -> None:
    one = story.only("forged", "Replaced")
    assert (one["field"], one["live"]) == ("ownership mark", f"sha256:{'0' * 64}")
    assert one["remedy"].startswith("remove the line managed-by=reconcile from its description, then reconcile apply")
    assert story.facts["restored mark"] == story.facts["mark"], "after that"


@EVERY
def test_a_changed_manifest_makes_the_serving_generation_outdated(story: Story) -> None:
    one = story.only("adder", "Outdated")
    assert (one["key"], one["field"]) == (story.serving["adder"], "hyperparameters.epochCount")
    assert (one["declared"], one["live"]) == (3, 2)
    assert "differs            hyperparameters.epochCount: live 2, declared 3\n" in story.text


@EVERY
def test_another_branchs_model_is_a_candidate(story: Story) -> None:
    assert sorted(one["class"] for one in story.findings("branched")) == ["Candidate", "InSync"]
    (own,) = (one for one in story.findings("branched") if one["class"] == "Candidate")
    assert (own["key"], own["severity"], own["file"]) == (story.facts["branched"], "note", "specs/branched.yaml")
    assert "file" not in story.only("words", "Candidate")
    assert "no manifest in specs\n" in story.text
    assert "  i words                Candidate since 2026-01-01 12:0" in story.text


@EVERY
def test_a_rolled_back_generation_is_pinned(story: Story) -> None:
    one, key = story.only("pinned", "Pinned"), story.facts["pinned"]
    assert (one["declared"], one["live"]) == (key, story.serving["pinned"])
    assert one["message"] == f"{key} was rolled back: it rhymes"
    assert one["since"] == story.facts["rollback"]
    where = f" --target {story.target}" if story.target else ""
    assert one["remedy"] == f"reconcile promote pinned --to {key}{where}, or change the manifest"


@SHARED
def test_a_training_that_diverges_has_failed(story: Story) -> None:
    assert "the mean loss is not a number" in story.only("diverging", "Failed")["message"]
    assert f"or reconcile apply --retry diverging{' --target gl' if story.target else ''}" in story.text


@EVERY
def test_a_generation_that_fails_its_checks_is_degraded(story: Story) -> None:
    one = story.only("degraded", "Degraded")
    assert one["key"] == story.serving["degraded"]
    assert one["message"] == "the serving generation fails its checks: 0 of 1 checks passed (small: '7' → '8')"


@EVERY
def test_a_model_that_is_no_longer_declared_is_orphaned(story: Story) -> None:
    one = story.only("orphan", "Orphaned")
    assert (one["file"], one["key"]) == ("specs/orphan.yaml", story.serving["orphan"])
    assert one["message"] == "no manifest declares it; 1 of its generations still exists"


@EVERY
def test_unmanaged_models_can_be_listed(story: Story) -> None:
    names = {"theirs"} if story.target == "vertex" else {"theirs", story.serving["replaced"]}
    assert story.document["unmanaged"] == story.document["summary"]["Unmanaged"] == len(names)
    listed = of_class(story.document, "Unmanaged")
    assert len(listed) == len(names)
    one = next(one for one in listed if one["message"] == "theirs is not managed by this project")
    assert one["live"] == ("gemini-3.5-flash" if story.target == "vertex" else BASE)
    assert one["since"].startswith("2026-01-01T13:")
    assert "name" not in one


# what else is found


def test_a_project_in_sync(trained: Cli) -> None:
    """Also with an unmanaged model, new checks, some of the manifests only, and without a lockfile."""
    theirs = training(GEMINI_API)
    embedded_client(trained)("POST", "/v1beta3/tunedModels", theirs, tunedModelId="theirs")
    document, text = drift(trained, "", status=0)
    (one,) = document["findings"]
    assert (one["class"], one["severity"], one["key"]) == ("InSync", "note", serving(trained, ""))
    assert (one["file"], one["line"], one["column"]) == ("specs/adder.yaml", 3, 18)
    assert one["since"] == lock_of(trained, "")["adder"]["generations"][0]["promoteTime"]
    assert (document["drifted"], document["summary"], document["unmanaged"]) == (False, {"InSync": 1}, 1)
    assert text.endswith("1 unmanaged model is not changed.\nNo drift: 1 model in sync.\n")
    assert "specs/adder.yaml" not in text
    loud = trained("drift", "-v", "--unmanaged", "none").out
    assert "specs/adder.yaml\n  = adder                InSync since 2026-01-01 12:00\n" in loud
    assert "unmanaged" not in loud

    trained.manifest("adder", more=CHECKS.format("8"))
    assert classes(trained("drift", "--format", "json").document) == ["Unverifiable"], "these checks were not run yet"

    trained.manifest("words")
    assert trained("drift").out.endswith("Drift: 1 Missing. Pending: 1 model. Notes: 1 Unverifiable.\n")
    trained.lock_file.unlink()
    document, _ = drift(trained, "", "specs/adder.yaml", status=0)
    (one,) = document["findings"]
    assert one["class"] == "Unverifiable"
    assert "the lockfile records no serving generation" in one["message"]
    assert not trained.lock_file.exists()
    (notice,) = document["notices"]
    assert notice.startswith("only some of the manifests were read, so orphans and candidates are not reported")


def test_a_training_is_in_progress_until_its_job_is_canceled(reconcile: Cli, slow: World) -> None:
    declare(reconcile)
    apply(reconcile, "vertex", "--no-wait")
    document, text = drift(reconcile, "vertex", status=0)
    (one,) = document["findings"]
    assert one["class"] == "InProgress"
    assert one["since"].startswith("2026-01-01T12:00")
    assert text.endswith("No drift: 0 models in sync. Notes: 1 InProgress.\n")
    slow.cancel(slow.jobs()[0])
    document, _ = drift(reconcile, "vertex")
    assert classes(document) == ["Failed"]
    assert document["findings"][0]["message"].startswith("the training was canceled at the service")


def without_tuning(path: str) -> Callable[[ASGIApp], ASGIApp]:
    """A front end behind which no base model can be tuned any more."""

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            listed = {"models": [{"name": BASE, "supportedGenerationMethods": ["generateContent"]}]}
            await (JSONResponse(listed) if line_of(scope) == f"GET {path}" else app)(scope, receive, send)

        return answer

    return front


def test_a_base_model_that_is_retired_is_noted_and_is_drift_where_it_is_needed(
    reconcile: Cli, trained_world: World
) -> None:
    trained_world.front = without_tuning("/v1beta/models")
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


def test_many_missing_models_are_not_trusted(reconcile: Cli, trained_world: World) -> None:
    ask = other_client(reconcile, trained_world, "gl")
    for name in ("words", "poems"):
        declare(reconcile, name)
    apply(reconcile, "gl")
    for name in ("adder", "words"):
        ask("DELETE", f"{MODELS}/{serving(reconcile, 'gl', name)}")
    for options in ((), ("--exit-zero",)):
        result = reconcile("drift", "--target", "gl", *options)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith("Error: 2 recorded models are gone at once (tunedModels/adder-")
        assert "which looks like a wrong project or wrong credentials" in result.err
    result = reconcile("drift", "--target", "gl", "--format", "json")
    (problem,) = result.document["problems"]
    assert (result.status, result.document["kind"]) == (1, "Error")
    assert problem["message"].startswith("2 recorded models are gone at once (tunedModels/adder-")


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
    declare(reconcile).write_text("kind: TunedModel\n")
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
    """A bit of everything: outdated, checked, shared, orphaned, and in training."""
    name = "vertex" if target == "bucket" else target
    if target == "bucket":
        aim(reconcile, world.url, more=f"  lock: gs://{BUCKET}/drift.lock.json\n")
    shared = "" if name == "vertex" else "  access: [{role: reader, user: ada@example.com}]\n"
    declare(reconcile, "adder", more=shared + CHECKS.format("8"))
    declare(reconcile, "orphan")
    apply(reconcile, name)
    declare(reconcile, "adder", epochs=3, more=shared + CHECKS.format("8"))
    (reconcile.specs / "orphan.yaml").unlink()
    declare(reconcile, "late")
    apply(reconcile, name, "--no-wait", "--only", "late")
    reports = [str(reconcile.folder / f"drift.{suffix}") for suffix in ("json", "md", "html", "xml")]
    world.jobs()  # a job that is read has its metrics written; renewing the lease has moved the clock
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


def test_reports_have_model_details_with_curves(reconcile: Cli) -> None:
    """Reports of the run that trains and of each command that observes; without a report, the JSON output has none."""
    reconcile.manifest("adder")
    file = reconcile.folder / "report.json"
    for command in (("apply", "--yes"), ("plan",), ("plan", "--offline"), ("wait",), ("apply", "--yes"), ("drift",)):
        done = reconcile(*command, "--report", str(file))
        assert done.status == 0, done.err
        report = json.loads(file.read_text())
        held_to(report["kind"].lower(), report)
        (one,) = report["modelDetails"]
        (generation,) = one["generations"]
        assert one["name"] == "adder"
        assert (generation["key"], generation["state"]) == (serving(reconcile, ""), "ACTIVE")
        assert ("curve" in generation) is ("--offline" not in command), command
        if "curve" in generation:
            assert len(generation["curve"]) == 10
            assert generation["curve"][-1] == [10, generation["finalLoss"]]
    for command in (("plan",), ("apply", "--yes"), ("drift",)):
        assert "modelDetails" not in reconcile(*command, "--format", "json").document
