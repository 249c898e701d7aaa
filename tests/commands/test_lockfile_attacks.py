"""A pull request that edits nothing but the lockfile decides neither what serves nor what is deleted.

Each field of a lockfile is forged in front of the planner: ``tests/planning/test_live_proof.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from support.adopted_world import MODELS, THEIRS, adopt, foreign
from support.cases import in_turn, slow_except
from support.cli_world import Cli, Result, Snapshot
from support.vertex_runs import BASE, chosen, manifest
from support.vertex_world import JOBS, World, fresh, lock_file, lock_of, resume

Json = dict[str, Any]
ON_PORTS = in_turn("target", ["gl", "vertex"])
WRITES = ("POST", "PATCH", "PUT", "DELETE")
VERTEX = "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 3}}\n"
CHECKS = '  checks:\n    - {name: small, prompt: "7", expect: {equals: "8"}}\n'
FAILS = CHECKS.replace('"8"', '"9"')


@pytest.fixture(scope="module")
def after_publications(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The models adder and other, trained and published by two targets, and the model of another user."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    world = fresh(served, reconcile)
    manifest(reconcile, more=CHECKS)
    manifest(reconcile, "other", multiplier=3)
    for target in ("gl", "vertex"):
        file = reconcile.specs / f"reconcile.{target}.yaml"
        file.write_text(f"{file.read_text()}  publish: {target}.json\n")
        done = reconcile("apply", "--yes", *chosen(target))
        assert done.status == 0, done.err
    foreign(reconcile, world)
    return reconcile.snapshot()


@pytest.fixture
def world(served: World, reconcile: Cli, after_publications: Snapshot) -> World:
    """The services and the project after these trainings."""
    return resume(served, reconcile, after_publications)


def record_of(reconcile: Cli, target: str, name: str = "adder") -> Json:
    """The newest record of a model."""
    record: Json = lock_of(reconcile, target)[name]["generations"][0]
    return record


def retrain(reconcile: Cli, target: str, *arguments: str, more: str = "") -> str:
    """Change the model adder, apply, which may fail, and return the key of the candidate."""
    reconcile.manifest("adder", epochs=3, base=BASE, more=more)
    before = record_of(reconcile, target)["key"]
    reconcile("apply", "--yes", *arguments, *chosen(target))
    key: str = record_of(reconcile, target)["key"]
    assert key != before
    return key


def forge(record: Json, field: str, value: object) -> None:
    """Set a field of a record."""
    *objects, last = field.split(".")
    for name in objects:
        record = record.setdefault(name, {})
    record[last] = value


def pointers(reconcile: Cli, target: str) -> dict[str, Json]:
    """The models of the published pointer by name."""
    models: list[Json] = json.loads((reconcile.specs / f"{target}.json").read_text())["models"]
    return {model["name"]: model for model in models}


def edit(reconcile: Cli, target: str, change: Callable[[Json], object]) -> str:
    """Change the models of a lockfile as a pull request does, and return its text."""
    file = lock_file(reconcile, target)
    document = json.loads(file.read_text())
    change(document["models"])
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return file.read_text()


def refused(reconcile: Cli, world: World, target: str, name: str, field: str) -> Result:
    """Apply, which must fail, name the model and the field, and change nothing at the service."""
    before = len(world.lines)
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 1, done.out + done.err
    assert f"{name}  held (RecordMismatch): the lockfile does not match" in done.out
    assert f": {field} of " in done.out
    assert [line for line in world.lines[before:] if line.startswith(WRITES)] == []
    return done


def test_the_model_of_another_project_does_not_serve(reconcile: Cli, world: World) -> None:
    record = record_of(reconcile, "vertex")
    job = world.jobs()[0]
    theirs = {name: job[name] for name in ("baseModel", "supervisedTuningSpec", "labels", "tunedModelDisplayName")}
    other = world.ask("POST", JOBS.replace("my-project", "4711"), json.dumps(theirs).encode())["name"]
    assert other.startswith("projects/4711/")
    unknown = [record["remote"].replace("my-project", project) for project in ("theirs", "my-project/../theirs")]
    for remote in (*unknown, other):
        edit(reconcile, "vertex", lambda models, remote=remote: models["adder"]["generations"][0].update(remote=remote))
        refused(reconcile, world, "vertex", "adder", "remote")

    assert not [line for line in world.lines if "theirs" in line]
    assert record_of(reconcile, "vertex")["key"] == record["key"]
    drifted = reconcile("drift", "--target", "vertex")
    assert drifted.status == 2
    assert "Replaced" in drifted.out


def test_an_unmarked_model_does_not_serve_and_gets_no_mark(reconcile: Cli, world: World) -> None:
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")
    forged = {"remote": THEIRS, "createTime": theirs["createTime"]}
    for more in ({}, {"origin": "adopted"}):
        edit(reconcile, "gl", lambda models, more=more: models["adder"]["generations"][0].update(forged | more))
        refused(reconcile, world, "gl", "adder", "remote")

    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs
    assert reconcile("drift", "--target", "gl").status == 2


@ON_PORTS
def test_the_record_of_another_manifest_or_content_does_not_serve(reconcile: Cli, world: World, target: str) -> None:
    honest = lock_file(reconcile, target).read_text()

    def copy(models: Json) -> None:
        (other,) = models["other"]["generations"]
        models["adder"]["generations"].append(other)
        models["adder"]["serving"] = other["key"]
        models["adder"]["rejected"] = [models["adder"]["generations"][0]["key"]]

    def rename(models: Json) -> None:
        models["adder"]["generations"][0]["key"] = models["adder"]["serving"] = "adder-aaaaaaaa"

    for change, field in ((copy, "remote"), (rename, "key")):
        lock_file(reconcile, target).write_text(honest)
        edit(reconcile, target, change)
        refused(reconcile, world, target, "adder", field)


def test_data_that_a_model_was_not_trained_on_is_not_claimed(reconcile: Cli, world: World) -> None:
    before = lock_file(reconcile, "gl").read_text()
    (reconcile.specs / "adder.csv").write_text("text_input,output\n" + "1,2\n" * 20)
    reconcile("apply", "--yes", "--target", "gl")
    digest = record_of(reconcile, "gl")["dataset"]["digest"]
    assert digest not in before
    lock_file(reconcile, "gl").write_text(before)
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0]["dataset"].update(digest=digest))

    refused(reconcile, world, "gl", "adder", "dataset.digest")


def test_prune_does_not_delete_the_model_of_an_invented_orphan(reconcile: Cli, world: World) -> None:
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")

    def invent(models: Json, origin: str) -> None:
        record = {**models["adder"]["generations"][0], "remote": THEIRS, "createTime": theirs["createTime"]}
        models["theirs"] = {"manifest": "theirs.yaml", "generations": [{**record, "origin": origin}]}

    before = len(world.lines)
    for origin in ("created", "adopted"):
        edit(reconcile, "gl", lambda models, origin=origin: invent(models, origin))
        pruned = reconcile("prune", "--yes", "--target", "gl")
        assert pruned.status == 1, pruned.out + pruned.err
        assert "RecordMismatch" in pruned.out
    assert reconcile("apply", "--yes", "--prune", "--target", "gl").status == 1
    assert [line for line in world.lines[before:] if line.startswith(WRITES)] == []
    assert THEIRS in [model["name"] for model in world.ask("GET", MODELS)["tunedModels"]]
    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs


def test_a_model_whose_mark_was_edited_away_keeps_serving_and_gets_it_back(reconcile: Cli, world: World) -> None:
    record = record_of(reconcile, "gl")
    remote = f"/v1beta/{record['remote']}"
    marked = world.ask("GET", remote)
    world.ask("PATCH", remote, json.dumps({"description": "mine"}).encode(), updateMask="description")

    assert "ownership mark" in reconcile("plan", "--target", "gl").out
    assert reconcile("apply", "--yes", "--target", "gl").status == 0

    assert world.ask("GET", remote)["description"].endswith(marked["description"])
    assert lock_of(reconcile, "gl")["adder"]["serving"] == record["key"]


def test_the_endpoint_comes_from_the_live_job(reconcile: Cli, world: World) -> None:
    record = record_of(reconcile, "vertex")
    published, before = pointers(reconcile, "vertex"), lock_of(reconcile, "vertex")
    theirs = record["resources"]["endpoint"][:-1] + "666"
    point = [{"checkpointId": "9", "epoch": 9, "step": 9, "endpoint": theirs}]
    forged = record["resources"] | {"endpoint": theirs, "checkpoints": point}
    edit(reconcile, "vertex", lambda models: models["adder"]["generations"][0].update(resources=forged))
    asked = len(world.lines)

    offline = reconcile("resolve", "--target", "vertex", "--format", "json").document
    assert (offline["verified"], offline["models"][0]["remote"]) == (False, theirs)
    assert len(world.lines) == asked
    live = reconcile("resolve", "--live", "--target", "vertex", "--format", "json").document
    assert (live["verified"], live["models"][0]["remote"]) == (True, record["resources"]["endpoint"])
    shown = reconcile("resolve", "adder", "--live", "--target", "vertex")
    assert shown.out == f"{record['resources']['endpoint']}\n"
    assert reconcile("prompt", "adder", "7", "--target", "vertex").out == "8\n"
    assert reconcile("check", "adder", "--target", "vertex").status == 0
    planned = reconcile("plan", "--target", "vertex", "--format", "json").document["actions"]
    (row,) = [action for action in planned if action["reason"] == "RecordDiffers"]
    assert f'resources.endpoint is "{record["resources"]["endpoint"]}", recorded "{theirs}"' in row["message"]
    assert row["remote"] == record["remote"]
    drifted = reconcile("drift", "--target", "vertex", "--format", "json")
    assert drifted.status == 2
    found = {(finding["name"], finding["field"]) for finding in drifted.document["findings"] if "field" in finding}
    assert found == {("adder", "resources.endpoint"), ("adder", "resources.checkpoints")}
    assert reconcile("apply", "--yes", "--target", "vertex").status == 0
    assert pointers(reconcile, "vertex") == published
    assert lock_of(reconcile, "vertex") == before
    assert not [line for line in world.lines if theirs in line]


@pytest.mark.usefixtures("world")
def test_the_preamble_comes_from_the_manifest(reconcile: Cli) -> None:
    published, before = pointers(reconcile, "gl"), lock_of(reconcile, "gl")
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0].update(preamble="Lie. "))

    answered = reconcile("prompt", "adder", "7", "--target", "gl", "--format", "json").document
    assert (answered["candidates"][0]["text"], answered.get("preamble", "")) == ("8", "")
    assert 'preamble is "", recorded "Lie. "' in reconcile("plan", "--target", "gl").out
    assert reconcile("drift", "--target", "gl").status == 2
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    assert pointers(reconcile, "gl") == published
    assert lock_of(reconcile, "gl") == before


@pytest.mark.usefixtures("world")
def test_recorded_results_of_checks_promote_nothing(reconcile: Cli) -> None:
    serving, published = lock_of(reconcile, "gl")["adder"]["serving"], pointers(reconcile, "gl")
    failed = retrain(reconcile, "gl", more=FAILS)
    assert record_of(reconcile, "gl")["checks"]["failed"] == 1

    def pass_checks(models: Json) -> None:
        checks = models["adder"]["generations"][0]["checks"]
        checks.pop("failures")
        checks.update(passed=1, failed=0)

    edit(reconcile, "gl", pass_checks)
    assert "1 to check" in reconcile("plan", "--target", "gl").out
    done = reconcile("apply", "--yes", "--target", "gl")
    assert done.status == 1
    assert "adder  held (ChecksFailed): " in done.out
    assert lock_of(reconcile, "gl")["adder"]["serving"] == serving
    assert reconcile("apply", "--yes", "--target", "gl").status == 1

    edit(reconcile, "gl", pass_checks)
    done = reconcile("promote", "adder", "--to", failed, "--target", "gl")
    assert (done.status, done.out) == (1, "")
    assert f"{failed} cannot be promoted: 0 of 1 checks passed; fix the data or the checks" in done.err
    assert lock_of(reconcile, "gl")["adder"]["serving"] == serving
    assert record_of(reconcile, "gl")["checks"]["failed"] == 1
    assert pointers(reconcile, "gl") == published


ELSEWHERE = (
    ("vertex", "remote", "projects/theirs/locations/europe-west4/tuningJobs/1"),
    ("vertex", "remote", "projects/my-project/locations/us-central1/tuningJobs/1"),
    ("vertex", "resources.endpoint", "projects/theirs/locations/europe-west4/endpoints/1"),
    ("vertex", "resources.endpoint", "https://evil.example/v1"),
    ("gl", "resources.endpoint", "tunedModels/theirs"),
    ("gl", "remote", "projects/4711/locations/europe-west4/endpoints/1"),
)


def test_resolve_prints_no_name_of_another_place(reconcile: Cli, world: World) -> None:
    honest = {target: lock_file(reconcile, target).read_text() for target in ("gl", "vertex")}
    before = len(world.lines)
    for target, field, value in ELSEWHERE:
        lock_file(reconcile, target).write_text(honest[target])
        text = edit(
            reconcile,
            target,
            lambda models, field=field, value=value: forge(models["adder"]["generations"][0], field, value),
        )
        line = next(number for number, shown in enumerate(text.splitlines(), 1) if f'"{value}"' in shown)
        for arguments in (("resolve", "adder"), ("resolve",), ("resolve", "--format", "json")):
            done = reconcile(*arguments, "--target", target)
            assert done.status == 1, value
            assert done.document["kind"] == "Error" if "json" in arguments else not done.out
            assert f"specs/reconcile.{target}.lock.json:{line}:" in done.err
            assert f"models.adder.generations[0].{field}: {value} is not in the project and location" in done.err
    assert len(world.lines) == before


def test_resolve_live_fails_at_the_line_that_is_not_proved(reconcile: Cli, world: World) -> None:
    for target, field, value in (("vertex", "attempt", 3), ("gl", "spec", f"sha256:{'0' * 64}")):
        edit(
            reconcile,
            target,
            lambda models, field=field, value=value: forge(models["adder"]["generations"][0], field, value),
        )
        for arguments in (("resolve", "adder", "--live"), ("prompt", "adder", "7"), ("resolve", "--live")):
            done = reconcile(*arguments, "--target", target)
            assert (done.status, done.out) == (1, "")
            assert f"specs/reconcile.{target}.lock.json:" in done.err
            assert f"models.adder.generations[0].{field}: " in done.err
    assert not [line for line in world.lines if ":generateContent" in line]


@pytest.mark.usefixtures("world")
def test_resolve_live_fails_for_a_model_that_is_not_ready(reconcile: Cli) -> None:
    manifest(reconcile, "later")
    assert reconcile("apply", "--yes", "--no-wait", *chosen("gl")).status == 0

    def claim(models: Json) -> None:
        generation = models["later"]["generations"][0]
        generation["state"] = "ACTIVE"
        models["later"]["serving"] = generation["key"]

    edit(reconcile, "gl", claim)
    for arguments in (("resolve", "later", "--live"), ("resolve", "--live")):
        done = reconcile(*arguments, "--target", "gl")
        assert (done.status, done.out) == (1, "")
        assert "models.later.generations[0].state: the service reports it as CREATING; run reconcile plan" in done.err
    promoted = reconcile("promote", "later", "--target", "gl")
    assert promoted.status == 1
    assert "cannot be promoted: " in promoted.err
    assert "the service reports it as CREATING" in promoted.err


def test_resolve_live_fails_for_a_model_that_is_gone(reconcile: Cli, world: World) -> None:
    world.ask("DELETE", f"/v1beta/{record_of(reconcile, 'gl')['remote']}")
    done = reconcile("resolve", "adder", "--live", "--target", "gl")
    assert (done.status, done.out) == (1, "")
    assert "models.adder.generations[0].remote: the service has no model of this name; run reconcile plan" in done.err


def test_a_document_states_that_the_service_was_not_queried(reconcile: Cli, world: World) -> None:
    for command in ("status", "history adder", "plan --offline", "resolve adder"):
        assert reconcile(*command.split(), "--target", "gl", "--format", "json").document["verified"] is False, command
    assert world.lines == []


@pytest.mark.parametrize(
    ("target", "answer"), slow_except(product(("gl", "vertex"), ("8", "9")), ("vertex", "8"), ("gl", "9"))
)
@pytest.mark.usefixtures("world")
def test_a_generation_that_was_not_published_is_checked_before_it_serves(
    reconcile: Cli, target: str, answer: str
) -> None:
    """The candidate is proved, and its checks are recorded as passed; only the lockfile claims that it serves."""
    before = record_of(reconcile, target)["key"]
    retrain(reconcile, target, "--train-only", more=VERTEX + CHECKS.replace('"8"', f'"{answer}"'))
    candidate = record_of(reconcile, target)

    def serve(models: Json) -> None:
        checks = candidate["checks"] | {"passed": 1, "failed": 0}
        checks.pop("failures", None)
        models["adder"]["generations"][0] |= {"checks": checks, "promoteTime": "2026-01-01T13:00:00Z"}
        models["adder"]["serving"] = candidate["key"]

    edit(reconcile, target, serve)
    planned = reconcile("plan", "--only", "adder", *chosen(target), "--format", "json").document["actions"]
    assert [(action["action"], action["key"]) for action in planned] == [("check", candidate["key"])]
    assert reconcile("drift", *chosen(target)).status == 2
    done = reconcile("apply", "--yes", *chosen(target))
    kept = candidate["key"] if answer == "8" else before
    assert done.status == (0 if answer == "8" else 1), done.out + done.err
    assert pointers(reconcile, target)["adder"]["key"] == kept
    assert lock_of(reconcile, target)["adder"]["serving"] == kept


@pytest.mark.usefixtures("world")
def test_a_generation_that_is_published_is_not_taken_out_of_service(reconcile: Cli) -> None:
    before, honest = pointers(reconcile, "gl"), lock_file(reconcile, "gl").read_text()

    def demote(models: Json, fields: Json) -> None:
        models["adder"].pop("serving")
        models["adder"].update(fields)

    for fields in ({}, {"published": "words-22222222"}, {"generations": []}):
        lock_file(reconcile, "gl").write_text(honest)
        edit(reconcile, "gl", lambda models, fields=fields: demote(models, fields))
        reconcile("apply", "--yes", "--target", "gl")
        assert pointers(reconcile, "gl") == before, fields


@pytest.mark.usefixtures("world")
def test_a_rollback_needs_a_proof_and_is_warned_by_failing_checks(reconcile: Cli) -> None:
    first = record_of(reconcile, "gl")["key"]
    retrain(reconcile, "gl")
    reconcile.manifest("adder", epochs=3, base=BASE, more=FAILS)
    honest = lock_file(reconcile, "gl").read_text()
    text = edit(reconcile, "gl", lambda models: forge(models["adder"]["generations"][1], "attempt", 3))

    refused = reconcile("rollback", "adder", "--to", first, "--reason", "worse", "--target", "gl")
    assert refused.status == 1
    assert "models.adder.generations[1].attempt: its ownership mark has 0" in refused.err
    assert lock_file(reconcile, "gl").read_text() == text

    lock_file(reconcile, "gl").write_text(honest)
    done = reconcile("rollback", "adder", "--reason", "worse", "--target", "gl", "--format", "json")
    assert done.status == 0, done.err
    assert done.document["warning"].startswith("its checks fail: 0 of 1 checks passed (small: ")
    assert pointers(reconcile, "gl")["adder"]["key"] == lock_of(reconcile, "gl")["adder"]["serving"] == first


@pytest.mark.usefixtures("world")
def test_a_promotion_by_hand_publishes_what_the_live_model_shows(reconcile: Cli) -> None:
    """The forged record of another model does not reach the pointer either."""
    theirs = record_of(reconcile, "vertex")["resources"]["endpoint"][:-1] + "666"
    retrain(reconcile, "vertex", more=VERTEX)
    reconcile.manifest("adder", epochs=2, base=BASE, more=VERTEX)

    def point(models: Json) -> None:
        for model in models.values():
            for generation in model["generations"]:
                generation["resources"]["endpoint"] = theirs

    for command in (("rollback", "adder", "--reason", "worse"), ("promote", "adder")):
        before = {name: model["remote"] for name, model in pointers(reconcile, "vertex").items()}
        edit(reconcile, "vertex", point)
        done = reconcile(*command, "--target", "vertex")
        after = {name: model["remote"] for name, model in pointers(reconcile, "vertex").items()}
        assert theirs not in after.values()
        assert after["other"] == before["other"]
        assert done.status == 0 or after == before


@pytest.fixture(scope="module")
def after_adoption(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A model of another user that a manifest adopted."""
    reconcile = Cli(tmp_path_factory.mktemp("adopted"))
    foreign(reconcile, fresh(served, reconcile))
    adopt(reconcile, THEIRS, "gl")
    return reconcile.snapshot()


@pytest.fixture
def adopted(served: World, reconcile: Cli, after_adoption: Snapshot) -> World:
    return resume(served, reconcile, after_adoption)


@pytest.mark.parametrize(
    ("origin", "orphan"),
    slow_except(
        [("adopted", True), ("adopted", False), ("created", True), ("created", False)],
        ("adopted", True),
        ("created", False),
    ),
)
def test_prune_deletes_an_adopted_model_only_if_it_is_named(
    reconcile: Cli, adopted: World, origin: str, *, orphan: bool
) -> None:
    """The origin in the lockfile does not decide it."""
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    assert adopted.ask("GET", f"/v1beta/{THEIRS}")["description"].startswith("adds: one")
    if orphan:
        reconcile.manifest("other", base=BASE)
        (reconcile.specs / "adder.yaml").unlink()
    else:
        reconcile.manifest("adder", epochs=4, base=BASE, more="  lifecycle: {retain: 1}\n")
        assert reconcile("apply", "--yes", "--target", "gl").status == 0
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][-1].update(origin=origin))

    for command in (("prune", "--yes"), ("apply", "--yes", "--prune")):
        reconcile(*command, "--target", "gl")
        assert THEIRS in [model["name"] for model in adopted.ask("GET", MODELS)["tunedModels"]]
    assert reconcile("prune", "--yes", "--delete-adopted", "tunedModels/other", "--target", "gl").status == 64
    named = reconcile("prune", "--yes", "--delete-adopted", THEIRS, "--target", "gl")
    left = [model["name"] for model in adopted.ask("GET", MODELS).get("tunedModels", [])]
    assert (THEIRS in left) == (origin == "created"), named.out  # a record that is not proved is kept


def test_a_mark_is_written_on_an_adopted_model_as_a_row_of_the_plan(reconcile: Cli, adopted: World) -> None:
    theirs = adopted.ask("GET", f"/v1beta/{THEIRS}")
    rows = reconcile("plan", "--target", "gl", "--format", "json").document["actions"]
    assert next((row["action"], row.get("remote"), row.get("changes")) for row in rows) == (
        "update",
        THEIRS,
        [{"field": "ownership mark", "live": "absent", "declared": "present"}],
    )
    assert adopted.ask("GET", f"/v1beta/{THEIRS}") == theirs


@pytest.mark.usefixtures("world")
def test_the_rows_of_a_promotion_and_a_deletion_name_the_remote_in_every_report(reconcile: Cli) -> None:
    old = record_of(reconcile, "gl")["remote"]
    retrain(reconcile, "gl", "--train-only", more="  lifecycle: {retain: 1}\n")
    new = record_of(reconcile, "gl")["remote"]
    files = [reconcile.folder / f"plan.{form}" for form in ("txt", "json", "md", "html", "xml")]
    for remote, command in ((new, ("plan",)), (old, ("prune", "--dry-run"))):
        reports = [f"--report={file}" for file in files[1:]]
        files[0].write_text(reconcile(*command, "--target", "gl", *reports).out)
        assert [file.name for file in files if remote not in file.read_text()] == []
        assert reconcile("apply", "--yes", "--target", "gl").status == 0


@pytest.mark.usefixtures("world")
def test_what_no_manifest_declares_stays_as_it_was_published(reconcile: Cli) -> None:
    (reconcile.specs / "adder.yaml").unlink()
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    before = pointers(reconcile, "gl")

    def forge_orphan(models: Json) -> None:
        models["adder"]["generations"][0]["preamble"] = "Lie. "
        models["adder"]["sampling"] = {"temperature": 2}

    edit(reconcile, "gl", forge_orphan)
    reconcile("apply", "--yes", "--target", "gl")

    assert pointers(reconcile, "gl") == before
