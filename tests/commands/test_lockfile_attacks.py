"""A pull request that edits nothing but the lockfile decides neither what serves nor what is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.adopted_world import MODELS, THEIRS, adopt, foreign
from support.cases import in_turn
from support.cli_world import Cli, Result
from support.vertex_runs import BASE, chosen, manifest
from support.vertex_world import JOBS, World, lock_file, lock_of

Json = dict[str, Any]
ON_PORTS = in_turn("target", ["gl", "vertex"])
WRITES = ("POST", "PATCH", "PUT", "DELETE")


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


def applied(reconcile: Cli, target: str, *, more: str = "") -> Json:
    """Train the model adder, and return its record."""
    manifest(reconcile, more=more)
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 0, done.err
    record: Json = lock_of(reconcile, target)["adder"]["generations"][0]
    return record


def test_a_job_of_another_project_does_not_serve(reconcile: Cli, world: World) -> None:
    record = applied(reconcile, "vertex")
    (job,) = world.jobs()
    theirs = {name: job[name] for name in ("baseModel", "supervisedTuningSpec", "labels", "tunedModelDisplayName")}
    other = world.ask("POST", JOBS.replace("my-project", "4711"), json.dumps(theirs).encode())["name"]
    assert other.startswith("projects/4711/")
    edit(reconcile, "vertex", lambda models: models["adder"]["generations"][0].update(remote=other))

    refused(reconcile, world, "vertex", "adder", "remote")

    assert lock_of(reconcile, "vertex")["adder"]["generations"][0]["key"] == record["key"]
    drifted = reconcile("drift", "--target", "vertex")
    assert drifted.status == 2
    assert "Replaced" in drifted.out


@pytest.mark.parametrize("project", ["theirs", "my-project/../theirs"])
def test_a_job_of_another_project_is_not_requested(reconcile: Cli, world: World, project: str) -> None:
    record = applied(reconcile, "vertex")
    other = record["remote"].replace("my-project", project)
    edit(reconcile, "vertex", lambda models: models["adder"]["generations"][0].update(remote=other))

    refused(reconcile, world, "vertex", "adder", "remote")

    assert not [line for line in world.lines if "theirs" in line]


def test_an_unmarked_model_does_not_serve_and_gets_no_mark(reconcile: Cli, world: World) -> None:
    applied(reconcile, "gl")
    foreign(reconcile, world)
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")
    forged = {"remote": THEIRS, "createTime": theirs["createTime"]}
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0].update(forged))

    refused(reconcile, world, "gl", "adder", "remote")

    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs
    assert reconcile("drift", "--target", "gl").status == 2


def test_a_forged_adoption_does_not_serve(reconcile: Cli, world: World) -> None:
    applied(reconcile, "gl")
    foreign(reconcile, world)
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")
    forged = {"remote": THEIRS, "createTime": theirs["createTime"], "origin": "adopted"}
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0].update(forged))

    refused(reconcile, world, "gl", "adder", "remote")

    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs


@ON_PORTS
def test_the_record_of_another_manifest_does_not_serve(reconcile: Cli, world: World, target: str) -> None:
    applied(reconcile, target)
    manifest(reconcile, "worse", multiplier=2)
    assert reconcile("apply", "--yes", *chosen(target)).status == 0

    def copy(models: Json) -> None:
        (worse,) = models["worse"]["generations"]
        models["adder"]["generations"].append(worse)
        models["adder"]["serving"] = worse["key"]
        models["adder"]["rejected"] = [models["adder"]["generations"][0]["key"]]

    edit(reconcile, target, copy)
    refused(reconcile, world, target, "adder", "remote")


@pytest.mark.parametrize(
    ("field", "value"),
    [("spec", f"sha256:{'0' * 64}"), ("attempt", 3), ("key", "adder-aaaaaaaa")],
)
@ON_PORTS
def test_a_record_that_claims_other_content_does_not_serve(
    reconcile: Cli, world: World, target: str, field: str, value: object
) -> None:
    applied(reconcile, target)

    def forge(models: Json) -> None:
        models["adder"]["generations"][0][field] = value
        models["adder"]["serving"] = models["adder"]["generations"][0]["key"]

    edit(reconcile, target, forge)
    refused(reconcile, world, target, "adder", field)


def test_data_that_a_model_was_not_trained_on_is_not_claimed(reconcile: Cli, world: World) -> None:
    applied(reconcile, "gl")
    before = lock_file(reconcile, "gl").read_text()
    (reconcile.specs / "adder.csv").write_text("text_input,output\n" + "1,2\n" * 20)
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    digest = lock_of(reconcile, "gl")["adder"]["generations"][0]["dataset"]["digest"]
    lock_file(reconcile, "gl").write_text(before)
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0]["dataset"].update(digest=digest))

    refused(reconcile, world, "gl", "adder", "dataset.digest")


@pytest.mark.parametrize("origin", ["created", "adopted"])
def test_prune_does_not_delete_the_model_of_an_invented_orphan(reconcile: Cli, world: World, origin: str) -> None:
    applied(reconcile, "gl")
    foreign(reconcile, world)
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")

    def invent(models: Json) -> None:
        record = {**models["adder"]["generations"][0], "remote": THEIRS, "createTime": theirs["createTime"]}
        models["theirs"] = {"manifest": "theirs.yaml", "generations": [{**record, "origin": origin}]}

    edit(reconcile, "gl", invent)
    before = len(world.lines)
    pruned = reconcile("prune", "--yes", "--target", "gl")

    assert pruned.status == 1, pruned.out + pruned.err
    assert "RecordMismatch" in pruned.out
    assert [line for line in world.lines[before:] if line.startswith(WRITES)] == []
    assert THEIRS in [model["name"] for model in world.ask("GET", MODELS)["tunedModels"]]
    assert reconcile("apply", "--yes", "--prune", "--target", "gl").status == 1
    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs


def test_a_model_whose_mark_was_edited_away_keeps_serving_and_gets_it_back(reconcile: Cli, world: World) -> None:
    record = applied(reconcile, "gl")
    remote = f"/v1beta/{record['remote']}"
    marked = world.ask("GET", remote)
    world.ask("PATCH", remote, json.dumps({"description": "mine"}).encode(), updateMask="description")

    assert "ownership mark" in reconcile("plan", "--target", "gl").out
    assert reconcile("apply", "--yes", "--target", "gl").status == 0

    assert world.ask("GET", remote)["description"].endswith(marked["description"])
    assert lock_of(reconcile, "gl")["adder"]["serving"] == record["key"]


VERTEX = "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 3}}\n"
POINTER = "  publish: serving.json\n"
CHECKS = '  checks:\n    - {name: small, prompt: "7", expect: {equals: "8"}}\n'


def publishing(reconcile: Cli, target: str) -> None:
    """Let a target publish a pointer."""
    file = reconcile.specs / f"reconcile.{target}.yaml"
    file.write_text(file.read_text() + POINTER)


def pointers(reconcile: Cli) -> list[Json]:
    """The models of the published pointer."""
    models: list[Json] = json.loads((reconcile.specs / "serving.json").read_text())["models"]
    return models


def pointer(reconcile: Cli) -> Json:
    """The only model of the published pointer."""
    (model,) = pointers(reconcile)
    return model


def test_the_endpoint_comes_from_the_live_job(reconcile: Cli, world: World) -> None:
    publishing(reconcile, "vertex")
    record = applied(reconcile, "vertex", more=CHECKS)
    published, before = pointer(reconcile), lock_of(reconcile, "vertex")
    theirs = record["resources"]["endpoint"][:-1] + "666"
    point = [{"checkpointId": "9", "epoch": 9, "step": 9, "endpoint": theirs}]
    forged = record["resources"] | {"endpoint": theirs, "checkpoints": point}
    edit(reconcile, "vertex", lambda models: models["adder"]["generations"][0].update(resources=forged))

    assert reconcile("prompt", "adder", "7", "--target", "vertex").out == "8\n"
    assert reconcile("check", "adder", "--target", "vertex").status == 0
    planned = reconcile("plan", "--target", "vertex", "--format", "json").document["actions"]
    (row,) = [action for action in planned if action["reason"] == "RecordDiffers"]
    assert f'resources.endpoint is "{record["resources"]["endpoint"]}", recorded "{theirs}"' in row["message"]
    assert row["remote"] == record["remote"]
    drifted = reconcile("drift", "--target", "vertex", "--format", "json")
    assert drifted.status == 2
    assert {found["field"] for found in drifted.document["findings"]} == {"resources.endpoint", "resources.checkpoints"}
    assert reconcile("apply", "--yes", "--target", "vertex").status == 0
    assert pointer(reconcile) == published
    assert lock_of(reconcile, "vertex") == before
    assert not [line for line in world.lines if theirs in line]


def test_the_preamble_comes_from_the_manifest(reconcile: Cli, world: World) -> None:
    assert world
    publishing(reconcile, "gl")
    applied(reconcile, "gl", more=CHECKS)
    published, before = pointer(reconcile), lock_of(reconcile, "gl")
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][0].update(preamble="Lie. "))

    answered = reconcile("prompt", "adder", "7", "--target", "gl", "--format", "json").document
    assert (answered["candidates"][0]["text"], answered.get("preamble", "")) == ("8", "")
    assert 'preamble is "", recorded "Lie. "' in reconcile("plan", "--target", "gl").out
    assert reconcile("drift", "--target", "gl").status == 2
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    assert pointer(reconcile) == published
    assert lock_of(reconcile, "gl") == before


def test_recorded_results_of_checks_promote_nothing(reconcile: Cli, world: World) -> None:
    assert world
    applied(reconcile, "gl")
    more = '  checks:\n    - {name: small, prompt: "7", expect: {equals: "9"}}\n'
    reconcile.manifest("adder", epochs=3, more=more)
    assert reconcile("apply", "--yes", "--target", "gl").status == 1
    serving = lock_of(reconcile, "gl")["adder"]["serving"]

    def forge(models: Json) -> None:
        checks = models["adder"]["generations"][0]["checks"]
        checks.pop("failures")
        checks.update(passed=1, failed=0)

    edit(reconcile, "gl", forge)
    assert "1 to check" in reconcile("plan", "--target", "gl").out
    done = reconcile("apply", "--yes", "--target", "gl")

    assert done.status == 1
    assert "adder  held (ChecksFailed): " in done.out
    assert lock_of(reconcile, "gl")["adder"]["serving"] == serving
    assert reconcile("apply", "--yes", "--target", "gl").status == 1


@pytest.mark.parametrize(
    ("target", "field", "value"),
    [
        ("vertex", "remote", "projects/theirs/locations/europe-west4/tuningJobs/1"),
        ("vertex", "remote", "projects/my-project/locations/us-central1/tuningJobs/1"),
        ("vertex", "resources.endpoint", "projects/theirs/locations/europe-west4/endpoints/1"),
        ("vertex", "resources.endpoint", "https://evil.example/v1"),
        ("gl", "resources.endpoint", "tunedModels/theirs"),
        ("gl", "remote", "projects/4711/locations/europe-west4/endpoints/1"),
    ],
)
def test_resolve_prints_no_name_of_another_place(
    reconcile: Cli, world: World, target: str, field: str, value: str
) -> None:
    applied(reconcile, target)
    edit(reconcile, target, lambda models: forge(models["adder"]["generations"][0], field, value))
    before = len(world.lines)

    for arguments in (("resolve", "adder"), ("resolve",), ("resolve", "--format", "json")):
        done = reconcile(*arguments, "--target", target)
        assert done.status == 1
        assert done.document["kind"] == "Error" if "json" in arguments else not done.out
        line = next(
            number
            for number, text in enumerate(lock_file(reconcile, target).read_text().splitlines(), 1)
            if f'"{value}"' in text
        )
        assert f"specs/reconcile.{target}.lock.json:{line}:" in done.err
        assert f"models.adder.generations[0].{field}: {value} is not in the project and location" in done.err
    assert len(world.lines) == before


def forge(record: Json, field: str, value: object) -> None:
    """Set a field of a record."""
    *objects, last = field.split(".")
    for name in objects:
        record = record.setdefault(name, {})
    record[last] = value


def test_resolve_states_what_was_verified(reconcile: Cli, world: World) -> None:
    record = applied(reconcile, "vertex")
    endpoint = record["resources"]["endpoint"]
    theirs = endpoint[:-1] + "666"
    edit(reconcile, "vertex", lambda models: forge(models["adder"]["generations"][0], "resources.endpoint", theirs))
    before = len(world.lines)

    offline = reconcile("resolve", "--target", "vertex", "--format", "json").document
    assert (offline["verified"], offline["models"][0]["remote"]) == (False, theirs)
    assert len(world.lines) == before
    live = reconcile("resolve", "--live", "--target", "vertex", "--format", "json").document
    assert (live["verified"], live["models"][0]["remote"]) == (True, endpoint)
    assert reconcile("resolve", "adder", "--live", "--target", "vertex").out == f"{endpoint}\n"


@pytest.mark.parametrize(
    ("target", "field", "value"),
    [("vertex", "attempt", 3), ("gl", "spec", f"sha256:{'0' * 64}"), ("gl", "attempt", 5)],
)
def test_resolve_live_fails_at_the_line_that_is_not_proved(
    reconcile: Cli, world: World, target: str, field: str, value: object
) -> None:
    applied(reconcile, target)
    foreign(reconcile, world)
    edit(reconcile, target, lambda models: forge(models["adder"]["generations"][0], field, value))

    for arguments in (("resolve", "adder", "--live"), ("prompt", "adder", "7"), ("resolve", "--live")):
        done = reconcile(*arguments, "--target", target)
        assert (done.status, done.out) == (1, "")
        assert f"specs/reconcile.{target}.lock.json:" in done.err
        assert f"models.adder.generations[0].{field}: " in done.err


def test_resolve_live_fails_for_a_model_that_is_not_ready(reconcile: Cli, world: World) -> None:
    assert world
    manifest(reconcile)
    assert reconcile("apply", "--yes", "--no-wait", *chosen("gl")).status == 0

    def claim(models: Json) -> None:
        generation = models["adder"]["generations"][0]
        generation["state"] = "ACTIVE"
        models["adder"]["serving"] = generation["key"]

    edit(reconcile, "gl", claim)
    for arguments in (("resolve", "adder", "--live"), ("resolve", "--live")):
        done = reconcile(*arguments, "--target", "gl")
        assert (done.status, done.out) == (1, "")
        assert "models.adder.generations[0].state: the service reports it as CREATING; run reconcile plan" in done.err
    promoted = reconcile("promote", "adder", "--target", "gl")
    assert promoted.status == 1
    assert "cannot be promoted: " in promoted.err
    assert "the service reports it as CREATING" in promoted.err


def test_resolve_live_fails_for_a_model_that_is_gone(reconcile: Cli, world: World) -> None:
    record = applied(reconcile, "gl")
    world.ask("DELETE", f"/v1beta/{record['remote']}")
    done = reconcile("resolve", "adder", "--live", "--target", "gl")
    assert (done.status, done.out) == (1, "")
    assert "models.adder.generations[0].remote: the service has no model of this name; run reconcile plan" in done.err


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("history", "adder"), ("plan", "--offline"), ("resolve", "adder")],
    ids=lambda one: one[0],
)
def test_a_document_states_that_the_service_was_not_queried(
    reconcile: Cli, world: World, arguments: tuple[str, ...]
) -> None:
    applied(reconcile, "gl")
    before = len(world.lines)
    assert reconcile(*arguments, "--target", "gl", "--format", "json").document["verified"] is False
    assert len(world.lines) == before


@pytest.mark.parametrize("answer", ["8", "9"], ids=["passes", "fails"])
@ON_PORTS
def test_a_generation_that_was_not_published_is_checked_before_it_serves(
    reconcile: Cli, world: World, target: str, answer: str
) -> None:
    """The candidate is proved, and its checks are recorded as passed; only the lockfile claims that it serves."""
    assert world
    publishing(reconcile, target)
    before = applied(reconcile, target)["key"]
    reconcile.manifest("adder", epochs=3, base=BASE, more=VERTEX + CHECKS.replace('"8"', f'"{answer}"'))
    assert reconcile("apply", "--yes", "--train-only", *chosen(target)).status == (0 if answer == "8" else 1)
    candidate = lock_of(reconcile, target)["adder"]["generations"][0]
    assert candidate["key"] != before

    def serve(models: Json) -> None:
        checks = candidate["checks"] | {"passed": 1, "failed": 0}
        checks.pop("failures", None)
        models["adder"]["generations"][0] |= {"checks": checks, "promoteTime": "2026-01-01T13:00:00Z"}
        models["adder"]["serving"] = candidate["key"]

    edit(reconcile, target, serve)
    planned = reconcile("plan", *chosen(target), "--format", "json").document["actions"]
    assert [(action["action"], action["key"]) for action in planned] == [("check", candidate["key"])]
    assert reconcile("drift", *chosen(target)).status == 2
    done = reconcile("apply", "--yes", *chosen(target))
    kept = candidate["key"] if answer == "8" else before
    assert done.status == (0 if answer == "8" else 1), done.out + done.err
    assert pointer(reconcile)["key"] == kept
    assert lock_of(reconcile, target)["adder"]["serving"] == kept


@pytest.mark.parametrize("fields", [{}, {"published": "words-22222222"}, {"generations": []}])
def test_a_generation_that_is_published_is_not_taken_out_of_service(reconcile: Cli, world: World, fields: Json) -> None:
    assert world
    publishing(reconcile, "gl")
    applied(reconcile, "gl")
    before = pointer(reconcile)
    edit(reconcile, "gl", lambda models: (models["adder"].pop("serving"), models["adder"].update(fields)))

    reconcile("apply", "--yes", "--target", "gl")

    assert pointer(reconcile) == before


def pass_checks(record: Json) -> None:
    """Forge results of checks that failed."""
    record["checks"].pop("failures", None)
    record["checks"] |= {"passed": 1, "failed": 0}


def test_promote_runs_the_checks_that_are_recorded_as_passed(reconcile: Cli, world: World) -> None:
    assert world
    publishing(reconcile, "gl")
    before = applied(reconcile, "gl")["key"]
    reconcile.manifest("adder", epochs=3, base=BASE, more=CHECKS.replace('"8"', '"9"'))
    assert reconcile("apply", "--yes", "--target", "gl").status == 1
    failed = lock_of(reconcile, "gl")["adder"]["generations"][0]["key"]
    edit(reconcile, "gl", lambda models: pass_checks(models["adder"]["generations"][0]))

    done = reconcile("promote", "adder", "--to", failed, "--target", "gl")

    assert (done.status, done.out) == (1, "")
    assert f"{failed} cannot be promoted: 1 of 1 checks failed; fix the data or the checks" in done.err
    assert pointer(reconcile)["key"] == lock_of(reconcile, "gl")["adder"]["serving"] == before
    assert lock_of(reconcile, "gl")["adder"]["generations"][0]["checks"]["failed"] == 1


def test_a_rollback_is_warned_by_failing_checks_and_not_held(reconcile: Cli, world: World) -> None:
    assert world
    publishing(reconcile, "gl")
    first = applied(reconcile, "gl")["key"]
    reconcile.manifest("adder", epochs=3, base=BASE)
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    reconcile.manifest("adder", epochs=3, base=BASE, more=CHECKS.replace('"8"', '"9"'))

    done = reconcile("rollback", "adder", "--reason", "worse", "--target", "gl", "--format", "json")

    assert done.status == 0, done.err
    assert done.document["warning"].startswith("its checks fail: 0 of 1 checks passed (small: ")
    assert pointer(reconcile)["key"] == lock_of(reconcile, "gl")["adder"]["serving"] == first


@pytest.mark.parametrize("command", [("rollback", "--reason", "worse"), ("promote",)], ids=["rollback", "promote"])
def test_a_promotion_by_hand_publishes_what_the_live_model_shows(
    reconcile: Cli, world: World, command: tuple[str, ...]
) -> None:
    """The forged record of another model does not reach the pointer either."""
    assert world
    publishing(reconcile, "vertex")
    manifest(reconcile, "other", multiplier=3)
    record = applied(reconcile, "vertex")
    reconcile.manifest("adder", epochs=3, base=BASE, more=VERTEX)
    assert reconcile("apply", "--yes", "--target", "vertex").status == 0
    if command[0] == "promote":
        assert reconcile("rollback", "adder", "--reason", "worse", "--target", "vertex").status == 0
    reconcile.manifest("adder", epochs=2, base=BASE, more=VERTEX)
    before = {model["name"]: model["remote"] for model in pointers(reconcile)}
    theirs = record["resources"]["endpoint"][:-1] + "666"

    def point(models: Json) -> None:
        for model in models.values():
            for generation in model["generations"]:
                generation["resources"]["endpoint"] = theirs

    edit(reconcile, "vertex", point)
    done = reconcile(command[0], "adder", *command[1:], "--target", "vertex")

    after = {model["name"]: model["remote"] for model in pointers(reconcile)}
    assert theirs not in after.values()
    assert after["other"] == before["other"]
    assert done.status == 0 or after == before


def test_a_rollback_to_a_record_that_is_not_proved_is_refused(reconcile: Cli, world: World) -> None:
    assert world
    first = applied(reconcile, "gl")
    reconcile.manifest("adder", epochs=3, base=BASE)
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    text = edit(reconcile, "gl", lambda models: forge(models["adder"]["generations"][1], "attempt", 3))

    done = reconcile("rollback", "adder", "--to", first["key"], "--reason", "worse", "--target", "gl")

    assert done.status == 1
    assert "models.adder.generations[1].attempt: its ownership mark has 0" in done.err
    assert lock_file(reconcile, "gl").read_text() == text


@pytest.mark.parametrize("orphan", [True, False], ids=["orphan", "superseded"])
@pytest.mark.parametrize("origin", ["adopted", "created"])
def test_prune_deletes_an_adopted_model_only_if_it_is_named(
    reconcile: Cli, world: World, origin: str, *, orphan: bool
) -> None:
    """The origin in the lockfile does not decide it."""
    foreign(reconcile, world)
    adopt(reconcile, THEIRS, "gl")
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    assert world.ask("GET", f"/v1beta/{THEIRS}")["description"].startswith("adds: one")
    if orphan:
        reconcile.manifest("other", base=BASE)
        (reconcile.specs / "adder.yaml").unlink()
    else:
        reconcile.manifest("adder", epochs=4, base=BASE, more="  lifecycle: {retain: 1}\n")
        assert reconcile("apply", "--yes", "--target", "gl").status == 0
    edit(reconcile, "gl", lambda models: models["adder"]["generations"][-1].update(origin=origin))

    for command in (("prune", "--yes"), ("apply", "--yes", "--prune")):
        reconcile(*command, "--target", "gl")
        assert THEIRS in [model["name"] for model in world.ask("GET", MODELS)["tunedModels"]]
    assert reconcile("prune", "--yes", "--delete-adopted", "tunedModels/other", "--target", "gl").status == 64
    named = reconcile("prune", "--yes", "--delete-adopted", THEIRS, "--target", "gl")
    left = [model["name"] for model in world.ask("GET", MODELS).get("tunedModels", [])]
    assert (THEIRS in left) == (origin == "created"), named.out  # a record that is not proved is kept


def test_a_mark_is_written_on_an_adopted_model_as_a_row_of_the_plan(reconcile: Cli, world: World) -> None:
    foreign(reconcile, world)
    adopt(reconcile, THEIRS, "gl")
    theirs = world.ask("GET", f"/v1beta/{THEIRS}")
    rows = reconcile("plan", "--target", "gl", "--format", "json").document["actions"]
    assert next((row["action"], row.get("remote"), row.get("changes")) for row in rows) == (
        "update",
        THEIRS,
        [{"field": "ownership mark", "live": "absent", "declared": "present"}],
    )
    assert world.ask("GET", f"/v1beta/{THEIRS}") == theirs


def test_the_rows_of_a_promotion_and_a_deletion_name_the_remote_in_every_report(reconcile: Cli, world: World) -> None:
    assert world
    old = applied(reconcile, "gl")["remote"]
    reconcile.manifest("adder", epochs=3, base=BASE, more="  lifecycle: {retain: 1}\n")
    assert reconcile("apply", "--yes", "--train-only", "--target", "gl").status == 0
    new = lock_of(reconcile, "gl")["adder"]["generations"][0]["remote"]
    files = [reconcile.folder / f"plan.{form}" for form in ("txt", "json", "md", "html", "xml")]
    for remote, command in ((new, ("plan",)), (old, ("prune", "--dry-run"))):
        reports = [f"--report={file}" for file in files[1:]]
        files[0].write_text(reconcile(*command, "--target", "gl", *reports).out)
        assert [file.name for file in files if remote not in file.read_text()] == []
        assert reconcile("apply", "--yes", "--target", "gl").status == 0


def test_what_no_manifest_declares_stays_as_it_was_published(reconcile: Cli, world: World) -> None:
    assert world
    publishing(reconcile, "gl")
    reconcile.manifest("other", base=BASE)
    applied(reconcile, "gl")
    (reconcile.specs / "adder.yaml").unlink()
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    before = pointers(reconcile)

    def forge_orphan(models: Json) -> None:
        models["adder"]["generations"][0]["preamble"] = "Lie. "
        models["adder"]["sampling"] = {"temperature": 2}

    edit(reconcile, "gl", forge_orphan)
    reconcile("apply", "--yes", "--target", "gl")

    assert pointers(reconcile) == before
