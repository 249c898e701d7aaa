"""prune on Vertex AI: endpoints, models and checkpoints, with runs that end in the middle."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from support.cases import slow_except
from support.cli_world import Cli, Result, Snapshot
from support.vertex_fronts import Holding, dated, emptied, refusal, refusing
from support.vertex_runs import apply, manifest, on, states
from support.vertex_world import (
    BUCKET,
    ENDPOINTS,
    JOBS,
    TARGETS,
    World,
    fresh,
    lock_file,
    lock_of,
    resume,
    write_target,
)

MODELS = JOBS.replace("/tuningJobs", "/models").replace("/v1beta1/", "/v1/")


def trained(reconcile: Cli, *multipliers: float, name: str = "adder") -> None:
    for multiplier in multipliers:
        manifest(reconcile, name, multiplier=multiplier)
        assert apply(reconcile).status == 0


def there(world: World) -> tuple[int, int]:
    """How many models and endpoints the service has."""
    found = [world.ask("GET", path).get(path.rpartition("/")[2], []) for path in (MODELS, ENDPOINTS)]
    return len(found[0]), len(found[1])


def prune(reconcile: Cli, *arguments: str) -> Result:
    return on(reconcile, "prune", *arguments)


def removed(reconcile: Cli, name: str = "adder") -> None:
    for suffix in ("yaml", "csv"):
        (reconcile.specs / f"{name}.{suffix}").unlink()


@pytest.fixture(scope="module")
def after_three(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Three trained generations of the model adder, each with the endpoints of two checkpoints."""
    reconcile = Cli(tmp_path_factory.mktemp("three"))
    world = fresh(served, reconcile)
    trained(reconcile, 1, 0.5, 0.25)
    assert there(world) == (3, 6)
    return reconcile.snapshot()


@pytest.fixture
def three(served: World, reconcile: Cli, after_three: Snapshot) -> World:
    """Services with these generations, recorded in the lockfile."""
    return resume(served, reconcile, after_three)


def test_the_endpoints_of_all_checkpoints_go_with_the_model_and_the_job_stays(reconcile: Cli, three: World) -> None:
    shown = prune(reconcile, "--dry-run")
    assert (
        "frees              the model that was trained on 20 examples, and 2 checkpoints with endpoints\n" in shown.out
    )
    assert prune(reconcile, "--yes").status == 0
    assert (there(three), len(three.jobs("SUCCEEDED"))) == ((2, 4), 3)
    assert states(reconcile) == ["ACTIVE", "ACTIVE", "DELETED"]
    writes = [line for line in three.lines if f"{ENDPOINTS}/" in line or f"{MODELS}/" in line]
    writes = [re.sub(r" /.*(/\w+/)\d+", r" \1N", line) for line in writes if not line.startswith("GET")]
    assert writes == ["POST /endpoints/N:undeployModel", "DELETE /endpoints/N"] * 2 + ["DELETE /models/N"]
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
    assert prune(reconcile, "--yes").out == "Nothing was deleted.\n"

    trained(reconcile, 1)  # a deleted generation is trained again when it is declared again
    assert len(three.jobs("SUCCEEDED")) == 4
    newest = lock_of(reconcile, "vertex")["adder"]["generations"][0]
    assert (newest["attempt"], newest["state"]) == (1, "ACTIVE")
    assert on(reconcile, "prompt", "adder", "3").status == 0


def test_a_failed_job_still_holds_its_manifest_after_deletion(reconcile: Cli, world: World) -> None:
    manifest(reconcile, multiplier=10_000)
    assert apply(reconcile).status == 1
    assert prune(reconcile, "--yes").status == 0
    assert (states(reconcile), there(world)) == (["DELETED"], (0, 0))
    held = on(reconcile, "plan")
    assert (held.status, "held: Failed" in held.out) == (1, True)
    assert prune(reconcile, "--yes", "--older-than", "1m").out == "Nothing was deleted.\n"


def test_a_local_clock_that_is_ahead_makes_no_model_old(reconcile: Cli, three: World) -> None:
    three.front = dated(reconcile.clock.now)
    reconcile.clock.now += timedelta(days=30)

    assert prune(reconcile, "--yes", "--older-than", "14d").out == "Nothing was deleted.\n"
    assert there(three) == (3, 6)

    three.front = dated(reconcile.clock.now)
    assert prune(reconcile, "--yes", "--older-than", "14d").status == 0
    assert there(three) == (2, 4)


def test_what_was_deleted_is_no_ghost_and_the_same_content_is_a_new_attempt(
    reconcile: Cli, trained_world: World
) -> None:
    world = trained_world
    trained(reconcile, 1, name="other")
    removed(reconcile)
    assert prune(reconcile, "--yes").status == 0
    assert (list(lock_of(reconcile, "vertex")), there(world)) == (["other"], (1, 2))
    assert on(reconcile, "drift").status == 0
    shown = on(reconcile, "plan", "--format", "json").document
    assert ([action["reason"] for action in shown["actions"]], shown.get("candidates", 0)) == (["InSync"], 0)

    manifest(reconcile)
    planned = on(reconcile, "plan", "--format", "json").document
    assert [(action["action"], action.get("attempt", 0)) for action in planned["actions"]] == [
        ("create", 1),
        ("noop", 0),
    ]


def test_a_list_that_lags_makes_no_second_attempt_of_an_existing_model(reconcile: Cli, trained_world: World) -> None:
    """A checkout without a lockfile sees the job, and not its model yet."""
    lock_file(reconcile, "vertex").unlink()
    trained_world.front = emptied("models", "endpoints")
    shown = on(reconcile, "plan", "--format", "json").document
    assert [action["action"] for action in shown["actions"]] == ["adopt", "promote"]


def test_denied_deletions_name_the_role_and_can_be_repeated(reconcile: Cli, three: World) -> None:
    denied = refusal(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.delete' denied")
    three.front = refusing(denied, f"DELETE {ENDPOINTS}")
    refused = prune(reconcile, "--yes")
    assert refused.status == 3
    assert "ask for roles/aiplatform.user" in refused.out
    assert states(reconcile) == ["ACTIVE"] * 3
    three.front = lambda app: app
    assert prune(reconcile, "--yes").status == 0
    assert there(three) == (2, 4)


def test_models_in_a_lockfile_in_a_bucket_are_kept(reconcile: Cli, three: World) -> None:
    oldest = lock_of(reconcile, "vertex")["adder"]["generations"][-1]["key"]
    document = json.loads(lock_file(reconcile, "vertex").read_text())
    document["models"]["adder"]["serving"] = oldest
    document["target"]["name"] = "prod"
    fields = TARGETS["vertex"].replace("URL", three.url) + f"  lock: gs://{BUCKET}/prod.lock.json\n"
    write_target(reconcile, "prod", fields)
    prod = reconcile.specs / "reconcile.prod.yaml"
    prod.write_text(prod.read_text().replace("scope: acme/nlp", "scope: acme/prod"))

    three.put("prod.lock.json", json.dumps(document).encode())
    shown = prune(reconcile, "--dry-run", "-v")
    assert f"{oldest} of adder is kept: the lockfile of target prod records it as serving" in shown.out
    assert "Nothing to delete. 3 generations are kept." in shown.out

    three.put("prod.lock.json", b"{")
    refused = prune(reconcile, "--yes")
    assert refused.status == 1
    assert "nothing is deleted, because the models that it relies on are unknown" in refused.err
    three.delete("prod.lock.json")
    assert prune(reconcile, "--yes").status == 0
    assert states(reconcile)[-1] == "DELETED"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What still runs when the test is over is ended."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


DELETION = (f"POST {ENDPOINTS}", f"DELETE {ENDPOINTS}", f"DELETE {MODELS}")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "line", "carried_out"),
    slow_except(
        product((signal.SIGKILL, signal.SIGINT), DELETION, (False, True)),
        (signal.SIGINT, DELETION[2], False),
    ),
)
def test_a_process_that_ends_in_the_middle_is_gone_on_with(
    reconcile: Cli,
    three: World,
    processes: list[subprocess.Popen[str]],
    number: signal.Signals,
    line: str,
    *,
    carried_out: bool,
) -> None:
    three.front = holding = Holding(line, carried_out=carried_out)
    process = reconcile.process("prune", "--yes", "--target", "vertex")
    processes.append(process)
    assert holding.reached.wait(60)

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == (-number if number is signal.SIGKILL else 130), err
    assert "Traceback" not in err
    assert states(reconcile) == ["ACTIVE", "ACTIVE", "DELETING"], "it is deleted only when all of it is"

    three.front = lambda app: app
    reconcile.clock.now = datetime.now(UTC)
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
    again = prune(reconcile, "--yes")
    assert again.status == 0, again.err
    assert (there(three), states(reconcile)) == ((2, 4), ["ACTIVE", "ACTIVE", "DELETED"])
    assert prune(reconcile, "--yes").out == "Nothing was deleted.\n"
