"""rollback and promote on the command line: what moves, what does not, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse

from support.cases import in_turn
from support.cli_world import EXAMPLES, Cli, Snapshot
from support.render_values import held_to
from support.vertex_fronts import Front, Json, line_of
from support.vertex_runs import BASE, chosen, trainings
from support.vertex_world import World, fresh, lock_file, lock_of, resume

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

EVERY = in_turn("target", ("gl", "", "vertex"))
WHY = ("--reason", "it answers in French")
MODELS = "/v1beta/tunedModels"


def version(reconcile: Cli, epochs: int, target: str = "", more: str = "") -> str:
    """Train a version of the manifest, and give the key that serves then."""
    block = f"  vertex: {{baseModel: gemini-3.5-flash, hyperparameters: {{epochCount: {epochs}}}}}\n"
    reconcile.manifest("adder", base=BASE, epochs=epochs, more=block + more)
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 0, done.err
    return str(lock_of(reconcile, target)["adder"]["serving"])


def serving(reconcile: Cli, target: str = "") -> str | None:
    key: str | None = lock_of(reconcile, target)["adder"].get("serving")
    return key


def recorded(reconcile: Cli, key: str, target: str = "") -> Json:
    (one,) = [one for one in lock_of(reconcile, target)["adder"]["generations"] if one["key"] == key]
    return dict(one)


def refused(reconcile: Cli, *arguments: str, status: int = 1, target: str = "") -> str:
    """What is said when nothing moves: the lockfile is the same to the byte."""
    before = lock_file(reconcile, target).read_bytes()
    answer = reconcile(*arguments, *chosen(target))
    assert answer.status == status, answer.err
    assert answer.out == ""
    assert lock_file(reconcile, target).read_bytes() == before
    return answer.err


@pytest.fixture(scope="module")
def after_versions(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Two versions of the model adder on the embedded service and at the Generative Language API."""
    reconcile = Cli(tmp_path_factory.mktemp("versions"))
    fresh(served, reconcile)
    for epochs in (2, 3):
        for target in ("", "gl"):
            version(reconcile, epochs, target)
    return reconcile.snapshot()


@pytest.fixture
def world(served: World, reconcile: Cli, after_versions: Snapshot) -> World:
    """The services and the project after these versions."""
    return resume(served, reconcile, after_versions)


def versions(reconcile: Cli, target: str = "") -> list[str]:
    """The keys of the recorded generations, the oldest first."""
    return [one["key"] for one in lock_of(reconcile, target)["adder"]["generations"][::-1]]


# what moves


@EVERY
def test_a_rejected_generation_is_not_promoted_or_trained_until_promote_names_it(
    reconcile: Cli, world: World, target: str
) -> None:
    on = chosen(target)
    first, second = (version(reconcile, epochs, target) for epochs in (2, 3))

    rolled = reconcile("rollback", "adder", *WHY, *on)

    assert rolled.status == 0, rolled.err
    assert f"adder: {first} is now serving instead of {second}\n" in rolled.out
    assert f"  rejected    {second}: it answers in French\n" in rolled.out
    assert "  next apply  holds the manifest (RolledBack): " in rolled.out
    assert (serving(reconcile, target), lock_of(reconcile, target)["adder"]["rejected"]) == (first, [second])
    assert recorded(reconcile, second, target)["rejection"] == "it answers in French"
    moment = f"{reconcile.clock.now:%Y-%m-%dT%H:%M:%SZ}"
    assert recorded(reconcile, first, target)["promoteTime"] == moment
    held = reconcile("apply", "--yes", *on)
    assert (held.status, serving(reconcile, target)) == (0, first)
    assert "held (RolledBack)" in held.out

    promoted = reconcile("promote", "adder", *on)

    assert promoted.status == 0, promoted.err
    assert f"adder: {second} is now serving instead of {first}\n" in promoted.out
    assert promoted.out.endswith("  next apply  makes no change\n")
    assert serving(reconcile, target) == second
    assert "rejected" not in lock_of(reconcile, target)["adder"]
    assert "rejection" not in recorded(reconcile, second, target)
    assert reconcile("apply", "--yes", *on).out.startswith("No changes")
    assert trainings(world, reconcile, target) == 2


@pytest.mark.usefixtures("world")
def test_rollback_promotes_the_previous_or_the_named_generation(reconcile: Cli) -> None:
    third = version(reconcile, 4)
    first, second, _ = versions(reconcile)
    assert version(reconcile, 2) == first, "reverting a commit trains nothing"
    assert reconcile("rollback", "adder", *WHY).status == 0
    assert serving(reconcile) == third
    assert reconcile("rollback", "adder", "--to", second, *WHY).status == 0
    assert serving(reconcile) == second
    assert lock_of(reconcile, "")["adder"]["rejected"] == [first, third]


@pytest.mark.usefixtures("world")
def test_a_new_generation_takes_over_as_usual(reconcile: Cli) -> None:
    first, second = versions(reconcile)
    assert reconcile("rollback", "adder", *WHY).status == 0
    assert version(reconcile, 4) not in {first, second}
    assert lock_of(reconcile, "")["adder"]["rejected"] == [second]


@pytest.mark.usefixtures("world")
def test_the_documents_obey_their_schema(reconcile: Cli) -> None:
    first, second = versions(reconcile)
    rolled = held_to("serving", reconcile("rollback", "adder", *WHY, "--format", "json").document)
    fields = {name: rolled[name] for name in ("changed", "before", "reason", "serving", "rejected", "lockfile")}
    assert fields == {
        "changed": True,
        "before": second,
        "reason": "it answers in French",
        "serving": {"key": first, "remote": f"tunedModels/{first}"},
        "rejected": [{"key": second, "reason": "it answers in French"}],
        "lockfile": "specs/reconcile.lock.json",
    }
    assert [(one["action"], one["reason"], one["key"]) for one in rolled["next"]] == [("hold", "RolledBack", second)]
    promoted = held_to("serving", reconcile("promote", "adder", "--format", "json").document)
    assert (promoted["serving"]["key"], promoted["before"], promoted["rejected"]) == (second, first, [])
    assert "reason" not in promoted


@pytest.mark.usefixtures("world")
def test_promoting_the_serving_generation_changes_nothing(reconcile: Cli) -> None:
    _, key = versions(reconcile)
    before = reconcile.lock_file.read_bytes()
    for arguments in (["--to", key], []):
        answer = reconcile("promote", "adder", *arguments)
        assert answer.status == 0
        assert f"adder: {key} is already serving; nothing was changed\n" in answer.out
    assert reconcile.lock_file.read_bytes() == before


@pytest.mark.usefixtures("world")
def test_an_orphan_can_be_rolled_back_and_promoted(reconcile: Cli) -> None:
    first, second = versions(reconcile)
    (reconcile.specs / "adder.yaml").unlink()
    refused = reconcile("rollback", "adder", *WHY)
    assert (refused.status, serving(reconcile)) == (1, second)
    assert refused.err.startswith(
        "Error: no manifest found in specs, although specs/reconcile.lock.json records 1 model;"
    )
    reconcile.manifest("words")
    rolled = reconcile("rollback", "adder", *WHY)
    assert (rolled.status, serving(reconcile)) == (0, first), rolled.err
    assert rolled.out.endswith(
        "  next apply  makes no change: no manifest declares it; it is kept; run reconcile forget adder, or reconcile"
        " prune --dry-run adder\n"
    )
    assert (reconcile("promote", "adder").status, serving(reconcile)) == (0, second)


@pytest.mark.usefixtures("world")
def test_a_broken_neighbour_stops_no_rollback(reconcile: Cli) -> None:
    first, _second = versions(reconcile)
    (reconcile.specs / "other.yaml").write_text("kind: TunedModel\n")
    assert (reconcile("rollback", "adder", *WHY).status, serving(reconcile)) == (0, first)


def test_a_generation_is_shared_before_it_is_promoted(reconcile: Cli, world: World) -> None:
    first, second = versions(reconcile, "gl")
    access = "  access: [{role: reader, user: ada@example.com}]\n"
    block = "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 3}}\n"
    reconcile.manifest("adder", base=BASE, epochs=3, more=block + access)

    def readers(key: str) -> list[Any]:
        found = world.ask("GET", f"{MODELS}/{key}/permissions").get("permissions", [])
        return [one.get("emailAddress") for one in found if one["role"] == "READER"]

    assert readers(first) == []
    rolled = reconcile("rollback", "adder", *WHY, "--target", "gl")
    assert rolled.status == 0, rolled.err
    assert (serving(reconcile, "gl"), readers(first), readers(second)) == (first, ["ada@example.com"], [])
    again = reconcile("promote", "adder", "--target", "gl")
    assert again.status == 0, again.err
    assert readers(second) == ["ada@example.com"]


# what does not move


def showing(key: str, change: Callable[[Json], Json | None]) -> Front:
    """A front end behind which one model is what ``change`` makes of it, or gone."""

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if line_of(scope) != f"GET {MODELS}/{key}":
                await app(scope, receive, send)
                return
            found = change({"name": f"tunedModels/{key}", "baseModel": BASE, "createTime": "2026-01-01T12:00:00Z"})
            gone = {"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}
            await JSONResponse(found or gone, 200 if found else 404)(scope, receive, send)

        return answer

    return front


ANOTHER = "models.adder.generations[1].createTime: it has no ownership mark, and was created at 2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("change", "cause", "state"),
    [
        (lambda _model: None, "the service no longer has it, which is now recorded", "MISSING"),
        (lambda model: {**model, "state": "ACTIVE", "createTime": "2026-01-02T00:00:00Z"}, ANOTHER, "ACTIVE"),
    ],
    ids=["deleted", "another model under its name"],
)
def test_a_missing_generation_is_recorded_and_the_others_named(
    reconcile: Cli, world: World, change: Callable[[Json], Json | None], cause: str, state: str
) -> None:
    third = version(reconcile, 4, "gl")
    first, second, _ = versions(reconcile, "gl")
    world.front = showing(second, change)

    answer = reconcile("rollback", "adder", *WHY, "--target", "gl")

    assert answer.status == 1
    assert answer.err.startswith(f"Error: {second} cannot be promoted: ")
    assert cause in answer.err
    assert answer.err.endswith(f"; pass another one with --to: {first}\n")
    assert serving(reconcile, "gl") == third
    assert recorded(reconcile, second, "gl")["state"] == state
    assert "rejected" not in lock_of(reconcile, "gl")["adder"]
    assert reconcile("rollback", "adder", *WHY, "--to", first, "--target", "gl").status == 0
    assert serving(reconcile, "gl") == first


def test_a_serving_generation_that_was_deleted_by_hand_can_be_left(reconcile: Cli, world: World) -> None:
    first, second = versions(reconcile, "gl")
    world.ask("DELETE", f"{MODELS}/{second}")
    assert reconcile("rollback", "adder", *WHY, "--target", "gl").status == 0
    assert serving(reconcile, "gl") == first


def test_a_missing_serving_generation_is_reported(reconcile: Cli, world: World) -> None:
    first, second = versions(reconcile, "gl")
    world.ask("DELETE", f"{MODELS}/{second}")
    for arguments in ([], ["--to", second]):
        answer = reconcile("promote", "adder", *arguments, "--target", "gl")
        assert (answer.status, answer.out) == (1, "")
        assert answer.err == (
            f"Error: {second} cannot be promoted: the service no longer has it, which is now recorded; pass "
            "another one with"
            f" --to: {first}\n"
        )
        assert recorded(reconcile, second, "gl")["state"] == "MISSING"
    assert serving(reconcile, "gl") == second


def test_a_generation_that_is_not_ready_is_not_promoted(reconcile: Cli, world: World) -> None:
    first, _second = versions(reconcile, "gl")
    created = recorded(reconcile, first, "gl")["createTime"]
    world.front = showing(first, lambda model: {**model, "state": "FAILED", "createTime": created})
    assert refused(reconcile, "rollback", "adder", *WHY, target="gl") == (
        f"Error: {first} cannot be promoted: the service reports it as FAILED; no other generation can "
        "be promoted; change the manifest"
        " and run reconcile apply --target gl\n"
    )


@pytest.mark.usefixtures("world")
def test_without_credentials_it_is_3(reconcile: Cli) -> None:
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    said = refused(reconcile, "rollback", "adder", *WHY, target="gl", status=3)
    assert "GOOGLE_APPLICATION_CREDENTIALS names" in said
    assert "unset GOOGLE_APPLICATION_CREDENTIALS to use the login of gcloud" in said


@pytest.mark.usefixtures("world")
def test_a_suspended_manifest_stays_as_it_is(reconcile: Cli) -> None:
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text() + "  lifecycle: {suspend: true}\n")
    for command in (["rollback", "adder", *WHY], ["promote", "adder"]):
        assert refused(reconcile, *command) == (
            "Error: adder is suspended, and its serving generation is not changed; remove spec.lifecycle.suspend in "
            "specs/adder.yaml\n"
        )


@pytest.mark.usefixtures("world")
def test_an_invalid_manifest_of_the_model_is_reported(reconcile: Cli) -> None:
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("baseModel: models", "baseModle: models"))
    assert "did you mean baseModel?" in refused(reconcile, "rollback", "adder", *WHY)


@pytest.mark.usefixtures("world")
def test_paths_that_may_not_be_all_there_is_are_not_enough_for_an_orphan(reconcile: Cli) -> None:
    reconcile.manifest("other")
    assert refused(reconcile, "rollback", "adder", "specs/other.yaml", *WHY, status=64) == (
        "Error: no manifest adder in these paths; other paths may have one; add the path of its manifest, or, if "
        "it has none, name the whole root specs\n"
    )


@pytest.mark.usefixtures("world")
def test_checks_hold_for_what_is_promoted_by_hand(reconcile: Cli) -> None:
    first = version(reconcile, 2, more='  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n')
    wrong = [(given, given) for given, _ in EXAMPLES]
    reconcile.manifest(
        "adder", base=BASE, examples=wrong, more='  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n'
    )
    assert reconcile("apply", "--yes").status == 1
    failed = next(one["key"] for one in lock_of(reconcile, "")["adder"]["generations"] if one["key"] != first)
    assert refused(reconcile, "promote", "adder", "--to", failed) == (
        f"Error: {failed} cannot be promoted: 0 of 1 checks passed; fix the data or the checks, or set "
        "spec.lifecycle.onFailedChecks to serve\n"
    )


@pytest.mark.usefixtures("world")
def test_invalid_rollbacks_and_promotions_are_errors(reconcile: Cli) -> None:
    reconcile.manifest("other", base=BASE)
    for command in (["rollback", *WHY], ["promote"]):
        assert "other has no recorded generations: it was never applied; run reconcile apply" in refused(
            reconcile, *command, "other"
        )
        assert "has this name; did you mean adder?" in refused(reconcile, *command, "ader")
        assert "adder has no recorded generation adder-x; pass one with --to; recorded generations: " in refused(
            reconcile, *command, "adder", "--to", "adder-x", status=64
        )
    assert reconcile("rollback", "adder", *WHY).status == 0
    assert "there is no generation to roll back to from adder-" in refused(reconcile, "rollback", "adder", *WHY)


def test_a_reason_is_one_line(reconcile: Cli) -> None:
    blank = "the reason is blank; state it for readers of the lockfile."
    several = "the reason has line breaks, control or invisible characters"
    for reason, message in {
        "": blank,
        "  ": blank,
        "x" * 501: "the reason has 501 characters; use at most 500.",
        "one\ntwo": f"{several}; write it on one line.",
        "one\u2028two": several,
        "\x1b[31mred": several,
        "left \u202e right": several,
        "half \udc80": several,
    }.items():
        answer = reconcile("rollback", "adder", "--reason", reason)
        assert answer.status == 64
        assert f"Invalid value for '--reason': {message}" in answer.err


@pytest.mark.usefixtures("world")
def test_a_reason_is_needed_and_trimmed(reconcile: Cli) -> None:
    assert "Missing option '--reason'" in reconcile("rollback", "adder").err
    assert reconcile("rollback", "adder").status == 64
    _first, second = versions(reconcile)
    assert reconcile("rollback", "adder", "--reason", f" {'é' * 500} ").status == 0
    assert recorded(reconcile, second)["rejection"] == "é" * 500
    assert json.loads(reconcile.lock_file.read_text(encoding="utf-8"))


def test_children_are_named_as_well(reconcile: Cli) -> None:
    reconcile.manifest("top")
    child = reconcile.manifest("leaf")
    child.write_text(child.read_text().replace("baseModel: models/gemini-3.5-flash", "source: {tunedModel: top}"))
    assert reconcile("apply", "--yes").status == 0
    before = reconcile.lock["leaf"]["serving"]
    reconcile.manifest("top", epochs=3)
    assert reconcile("apply", "--yes").status == 0
    done = reconcile("rollback", "top", "--reason", "it is worse")
    assert done.status == 0, done.err
    assert f"  next apply  leaf: promotes {before}" in done.out


def test_a_rollback_whose_generation_vanished_fails_every_run_and_offers_what_works(
    reconcile: Cli, world: World
) -> None:
    version(reconcile, 4, "gl")
    oldest, before, after = versions(reconcile, "gl")
    target = chosen("gl")
    reconcile("rollback", "adder", *WHY, *target)
    assert serving(reconcile, "gl") == before
    gone = recorded(reconcile, before, "gl")["remote"]
    world.ask("DELETE", f"/v1beta/{gone}")

    for _ in range(2):
        answer = reconcile("apply", "--yes", *target)
        assert answer.status == 1
        assert f"held (NothingServes): nothing is serving: {before} is gone; " in answer.out
    promote = "reconcile promote --target gl adder"
    options = f"promote it again with {promote} or {oldest} with {promote} --to {oldest}"
    assert options in answer.out
    assert options in reconcile("drift", *target).out
    assert reconcile("validate", "--locked", *target).status == 1

    assert reconcile("promote", "adder", "--to", oldest, *target).status == 0
    assert serving(reconcile, "gl") == oldest
    assert reconcile("promote", "adder", *target).status == 0
    assert (serving(reconcile, "gl"), reconcile("apply", "--yes", *target).status) == (after, 0)


@pytest.mark.usefixtures("world")
def test_what_was_rolled_back_is_trained_again_on_request(reconcile: Cli) -> None:
    before, after = versions(reconcile)
    reconcile("rollback", "adder", *WHY)

    assert reconcile("apply", "--replace", "adder", "--yes").status == 0
    assert serving(reconcile) not in {before, after}
