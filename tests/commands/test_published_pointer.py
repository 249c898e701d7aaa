"""The published pointer through the command line: in a file, and in a bucket over a real port."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.cli_world import Cli, Snapshot
from support.render_values import held_to
from support.vertex_fronts import Holding, refusal, refusing
from support.vertex_runs import apply, manifest, on
from support.vertex_world import BUCKET, OBJECTS, World, aim, fresh, lock_of, resume

WHY = ("--reason", "it answers in French")
ADDRESS = f"gs://{BUCKET}/serving.json"


@pytest.fixture
def pointer(reconcile: Cli) -> Path:
    """Where the default target publishes."""
    reconcile.target("  publish: serving.json\n")
    return reconcile.specs / "serving.json"


def read(pointer: Path) -> Any:
    return json.loads(pointer.read_text(encoding="utf-8"))


def keys(document: Any) -> dict[str, str]:
    return {model["name"]: model["key"] for model in document["models"]}


def version(reconcile: Cli, epochs: int, name: str = "adder") -> str:
    """Train a version of a manifest, and give the key that serves then."""
    reconcile.manifest(name, epochs=epochs)
    done = reconcile("apply", "--yes")
    assert done.status == 0, done.err
    return str(reconcile.lock[name]["serving"])


@pytest.fixture(scope="module")
def after_versions(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Two versions of the model adder, of which the second one is published."""
    reconcile = Cli(tmp_path_factory.mktemp("versions"))
    reconcile.target("  publish: serving.json\n")
    version(reconcile, 2)
    version(reconcile, 3)
    return reconcile.snapshot()


@pytest.fixture
def versions(reconcile: Cli, after_versions: Snapshot) -> tuple[str, str]:
    """The keys of both versions."""
    reconcile.resume(after_versions)
    second, first = (generation["key"] for generation in reconcile.lock["adder"]["generations"])
    return first, second


def test_the_pointer_equals_the_resolve_document(reconcile: Cli, versions: tuple[str, str], pointer: Path) -> None:
    first, second = versions
    version(reconcile, 2, "other")
    assert reconcile.lock["adder"]["published"] == second
    for command, key in ((["rollback", "adder", *WHY], first), (["promote", "adder"], second)):
        moved = reconcile(*command, "--format", "json")
        assert moved.document["published"] == "specs/serving.json"
        assert keys(read(pointer))["adder"] == reconcile.lock["adder"]["published"] == key
        resolved = reconcile("resolve", "--live", "--format", "json").document
        del resolved["target"]["root"], resolved["run"]
        assert held_to("resolve", read(pointer)) == resolved
    assert "  published   specs/serving.json\n" in reconcile("rollback", "adder", *WHY).out


def test_an_equivalent_path_is_the_same_pointer(reconcile: Cli, versions: tuple[str, str]) -> None:
    first, _second = versions
    reconcile.target("  publish: nowhere/../serving.json\n")
    rolled = reconcile("rollback", "adder", *WHY)
    assert rolled.status == 0, rolled.err
    assert "  published   specs/serving.json\n" in rolled.out
    assert keys(read(reconcile.specs / "serving.json")) == {"adder": first}
    (reconcile.specs / "serving.json").write_text("{}")
    assert "not a published pointer" in reconcile("promote", "adder").err


@pytest.mark.usefixtures("versions")
def test_a_run_without_changes_does_not_write_the_pointer(reconcile: Cli, pointer: Path) -> None:
    before = pointer.stat()
    assert reconcile("apply", "--yes").out.startswith("No changes")
    after = pointer.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_pointer_stops_a_rollback(reconcile: Cli, versions: tuple[str, str], pointer: Path) -> None:
    first, second = versions
    theirs = pointer.read_text(encoding="utf-8").replace(second, "adder-22222222")
    pointer.write_text(theirs, encoding="utf-8")
    before = reconcile.lock_file.read_bytes()

    answer = reconcile("rollback", "adder", *WHY)

    assert (answer.status, answer.out) == (1, "")
    assert answer.err == (
        "Error: specs/serving.json: changed out-of-band, not overwritten: adder has adder-22222222 (last written was "
        f"{second}, {first} is serving); find out what changed it, then move it away: the next apply "
        "writes a new one\n"
    )
    assert reconcile.lock_file.read_bytes() == before
    assert pointer.read_text(encoding="utf-8") == theirs
    pointer.unlink()
    assert reconcile("rollback", "adder", *WHY).status == 0
    assert keys(read(pointer)) == {"adder": first}


def test_apply_reports_a_changed_pointer_and_writes_a_missing_one(reconcile: Cli, pointer: Path) -> None:
    first = version(reconcile, 2)
    theirs = pointer.read_text(encoding="utf-8").replace(first, "adder-22222222")
    pointer.write_text(theirs, encoding="utf-8")
    reconcile.manifest("adder", epochs=3)

    answer = reconcile("apply", "--yes")

    assert answer.status == 1
    output = answer.out + answer.err
    assert "specs/serving.json: changed out-of-band, not overwritten: adder has adder-22222222" in output
    second = reconcile.lock["adder"]["serving"]
    assert second != first
    assert reconcile.lock["adder"]["published"] == first
    assert pointer.read_text(encoding="utf-8") == theirs
    pointer.rename(pointer.with_suffix(".theirs"))
    assert reconcile("apply", "--yes").status == 0
    assert keys(read(pointer)) == {"adder": second}
    assert reconcile.lock["adder"]["published"] == second


def test_another_file_in_the_place_of_the_pointer_is_reported(reconcile: Cli, pointer: Path) -> None:
    pointer.write_text('{"rows": 3}', encoding="utf-8")
    reconcile.manifest("adder")
    answer = reconcile("apply", "--yes")
    assert answer.status == 1
    assert "specs/serving.json:1:1: not a published pointer, not overwritten: other JSON" in (answer.out + answer.err)
    assert pointer.read_text(encoding="utf-8") == '{"rows": 3}'
    assert reconcile.lock["adder"]["serving"], "it serves all the same"


def test_a_lost_lockfile_is_rebuilt_beside_its_pointer(reconcile: Cli, pointer: Path) -> None:
    for name in ("adder", "other", "third"):
        reconcile.manifest(name)
    assert reconcile("apply", "--yes").status == 0
    before = pointer.read_bytes()
    reconcile.lock_file.unlink()
    again = reconcile("apply", "--yes")
    assert again.status == 0, again.out + again.err
    assert pointer.read_bytes() == before
    assert reconcile.lock["other"]["published"] == reconcile.lock["other"]["serving"]


def test_an_older_checkout_does_not_overwrite_a_newer_pointer(reconcile: Cli, pointer: Path) -> None:
    version(reconcile, 2)
    old = reconcile.lock_file.read_bytes()
    second = version(reconcile, 3)
    reconcile.lock_file.write_bytes(old)
    reconcile.manifest("adder", epochs=2)
    answer = reconcile("apply", "--yes")
    assert answer.status == 1
    assert f"adder has {second} (" in answer.out + answer.err
    assert keys(read(pointer)) == {"adder": second}


def test_a_selection_keeps_the_other_models_in_the_pointer(reconcile: Cli, world: World) -> None:
    """How they are sampled stays in the pointer, although their manifests are not read."""
    aim(reconcile, world.url, more="  publish: serving.json\n")
    manifest(reconcile, more="  sampling: {temperature: 0.5}\n")
    manifest(reconcile, "other")
    assert apply(reconcile).status == 0
    manifest(reconcile, "other", multiplier=2)
    assert on(reconcile, "apply", "--yes", "specs/other.yaml").status == 0
    models = read(reconcile.specs / "serving.json")["models"]
    assert [one["name"] for one in models] == ["adder", "other"]
    assert models[0]["sampling"] == {"temperature": 0.5}
    assert models[1]["key"] == lock_of(reconcile, "vertex")["other"]["serving"]
    assert models[1]["url"].startswith(f"{world.url}/v1/projects/")
    assert "/locations/eu/endpoints/" in models[1]["remote"]


# in a bucket


def stored(world: World) -> Any:
    return json.loads(world.read(f"{OBJECTS}/serving.json"))


@pytest.fixture(scope="module")
def after_bucket_versions(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Two versions of the model adder on Vertex AI, whose target publishes to an object."""
    reconcile = Cli(tmp_path_factory.mktemp("bucket"))
    aim(reconcile, fresh(served, reconcile).url, more=f"  publish: {ADDRESS}\n")
    for multiplier in (1, 2):
        manifest(reconcile, multiplier=multiplier)
        done = apply(reconcile)
        assert done.status == 0, done.err
    return reconcile.snapshot()


@pytest.fixture
def bucket(served: World, reconcile: Cli, after_bucket_versions: Snapshot) -> World:
    """The services after these versions."""
    return resume(served, reconcile, after_bucket_versions)


def trained(reconcile: Cli) -> tuple[str, str]:
    """The keys of both versions."""
    second, first = (generation["key"] for generation in lock_of(reconcile, "vertex")["adder"]["generations"])
    return first, second


def test_an_object_has_the_serving_generations(reconcile: Cli, bucket: World) -> None:
    first, second = trained(reconcile)
    assert keys(stored(bucket)) == {"adder": second}
    assert on(reconcile, "rollback", "adder", *WHY).status == 0
    assert keys(stored(bucket)) == {"adder": first}
    assert on(reconcile, "promote", "adder").status == 0
    assert keys(stored(bucket)) == {"adder": second}
    bucket.lines.clear()
    assert apply(reconcile).status == 0
    assert bucket.count(f"POST /upload/storage/v1/b/{BUCKET}/o") == 0


def test_a_changed_object_is_not_overwritten(reconcile: Cli, bucket: World) -> None:
    _first, second = trained(reconcile)
    theirs = json.dumps(stored(bucket)).replace(second, "adder-22222222").encode()
    bucket.put("serving.json", theirs)
    before = lock_of(reconcile, "vertex")
    answer = on(reconcile, "rollback", "adder", *WHY)
    assert answer.status == 1
    assert f"{ADDRESS}: changed out-of-band, not overwritten: adder has adder-22222222" in answer.err
    assert bucket.read(f"{OBJECTS}/serving.json") == theirs
    assert lock_of(reconcile, "vertex") == before


def test_an_unwritable_bucket_is_reported_after_the_promotion(reconcile: Cli, bucket: World) -> None:
    first, second = trained(reconcile)
    denied = refusal(403, "PERMISSION_DENIED", "no storage.objects.create access")
    bucket.front = refusing(denied, f"POST /upload/storage/v1/b/{BUCKET}/o")

    answer = on(reconcile, "rollback", "adder", *WHY)

    assert answer.status == 3
    assert f"Error: cannot save the published pointer {ADDRESS}: " in answer.err
    assert answer.err.endswith(f"; the lockfile records {first} as serving, and the next apply publishes it\n")
    assert lock_of(reconcile, "vertex")["adder"]["serving"] == first
    assert keys(stored(bucket)) == {"adder": second}
    bucket.front = lambda app: app
    assert apply(reconcile).status == 0
    assert keys(stored(bucket)) == {"adder": first}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interruption_while_publishing_names_the_serving_generation(
    reconcile: Cli, bucket: World, number: signal.Signals
) -> None:
    first, _second = trained(reconcile)
    holding = Holding(f"POST /upload/storage/v1/b/{BUCKET}/o")
    bucket.front = holding
    process = reconcile.process("rollback", "adder", *WHY, "--target", "vertex")
    assert holding.reached.wait(60)
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith(
        f"Error: interrupted; specs/reconcile.vertex.lock.json may already record {first} as the serving"
        " generation of adder; see reconcile resolve --target vertex adder; the next apply"
        " publishes the serving generation\n"
    )
    assert lock_of(reconcile, "vertex")["adder"]["serving"] == first
    bucket.front = lambda app: app
    assert apply(reconcile).status == 0
    assert keys(stored(bucket)) == {"adder": first}


@contextmanager
def no_space() -> Iterator[None]:
    """As if the disk were full: files cannot grow."""
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_changes_nothing_and_the_next_run_succeeds(
    reconcile: Cli, versions: tuple[str, str], pointer: Path
) -> None:
    remote = reconcile.lock["adder"]["generations"][0]["remote"]
    for command, name, serving in (
        (("rollback", "adder", *WHY), "reconcile.lock.json", versions[0]),
        (("promote", "adder"), "reconcile.lock.json", versions[1]),
        (("adopt", "other", remote), "other.yaml", ""),
    ):
        if not serving:
            (reconcile.specs / "adder.yaml").unlink()
            assert reconcile("forget", "adder", "--yes").status == 0
        before, files = reconcile.lock_file.read_bytes(), sorted(reconcile.folder.rglob("*"))
        with no_space():
            answer = reconcile(*command)
        assert answer.status == 1
        assert f"{name} cannot be written: {os.strerror(errno.EFBIG)}" in answer.err
        assert (reconcile.lock_file.read_bytes(), sorted(reconcile.folder.rglob("*"))) == (before, files), command
        done = reconcile(*command)
        assert done.status == 0, done.err
        assert not serving or keys(read(pointer)) == {"adder": serving}


STAGES = """\
  stages:
    - {name: staging, publish: serving.json}
    - name: production
      after: staging
      publish: production.json
      checks: [{name: odd, prompt: "1", expect: {equals: odd}}]
"""


def test_each_stage_has_a_pointer_and_is_resolved(reconcile: Cli, versions: tuple[str, str], pointer: Path) -> None:
    first, second = versions
    reconcile.target(STAGES)
    document = read(reconcile.lock_file)
    document["target"]["stages"] = ["staging", "production"]
    document["models"]["adder"]["stages"] = {"production": {"serving": first, "sampling": {"temperature": 0.5}}}
    reconcile.lock_file.write_text(json.dumps(document), encoding="utf-8")
    production = pointer.with_name("production.json")

    done = reconcile("apply", "--yes")
    assert done.status == 0, done.err
    assert {name: keys(read(file)) for name, file in (("staging", pointer), ("production", production))} == {
        "staging": {"adder": second},
        "production": {"adder": first},
    }
    assert (read(production)["stage"], read(pointer)["stage"]) == ("production", "staging")
    assert reconcile.lock["adder"]["published"] == second
    assert reconcile.lock["adder"]["stages"]["production"]["published"] == first

    for stage, key in (((), second), (("--stage", "staging"), second), (("--stage", "production"), first)):
        for live in ((), ("--live",)):
            (model,) = reconcile("resolve", "adder", *stage, *live, "--format", "json").document["models"]
            assert model["key"] == key
    assert model["sampling"] == {"temperature": 0.5}
    asked = reconcile("prompt", "adder", "1", "--stage", "production", "--format", "json").document
    assert asked["key"] == first
    unknown = reconcile("resolve", "adder", "--stage", "producton")
    assert (unknown.status, "has no stage producton" in unknown.err) == (64, True)
    assert "did you mean production" in unknown.err.lower()

    before = reconcile.lock_file.read_bytes()
    checked = reconcile("check", "adder", "--stage", "production", "--format", "json")
    (found,) = checked.document["models"]
    assert (checked.status, found["key"], found["serving"]) == (1, first, True)
    assert [result["name"] for result in found["checks"]["results"]] == ["odd"]
    assert "adder has no checks" in reconcile("check", "adder").err
    assert reconcile.lock_file.read_bytes() == before

    uses = {
        generation["key"]: [(use["stage"], use["use"]) for use in generation["stages"]]
        for generation in reconcile("history", "adder", "--format", "json").document["generations"]
    }
    assert uses == {second: [("staging", "serving")], first: [("production", "serving")]}
    assert f"serving   {first} in production" in reconcile("status").out
    assert "serving in staging since" in reconcile("history", "adder").out
    page = reconcile.folder / "status.html"
    reconcile("status", "--report", str(page))
    assert all(f"serving in {stage}" in page.read_text(encoding="utf-8") for stage in ("staging", "production"))

    production.write_bytes(pointer.read_bytes())
    swapped = reconcile("apply", "--yes")
    assert swapped.status == 1
    assert "production.json: belongs to the stage staging, not overwritten" in swapped.out
    the_pointer_is_reported(reconcile)
    production.unlink()
    assert "specs/serving.json, specs/production.json can be written" in reconcile("doctor").out
    drop_production(reconcile, first)


def the_pointer_is_reported(reconcile: Cli) -> None:
    """Drift and doctor name the pointer that is that of another stage."""
    page = reconcile.folder / "drift.html"
    drifted = reconcile("drift", "--format", "json", "--report", str(page))
    (changed,) = [found for found in drifted.document["findings"] if found["severity"] == "drift"]
    assert (drifted.status, changed["class"], changed["cause"]) == (2, "Modified", "outOfBand")
    assert "belongs to the stage staging" in changed["message"]
    assert "belongs to the stage staging" in page.read_text(encoding="utf-8")
    assert "belongs to the stage staging" in reconcile("drift").out
    findings = {found["check"]: found for found in reconcile("doctor", "--format", "json").document["findings"]}
    assert findings["pointers"]["status"] == "failed"
    assert "belongs to the stage staging" in findings["pointers"]["message"]


def drop_production(reconcile: Cli, first: str) -> None:
    """Remove the stage from the target, then drop its record by name."""
    kept = reconcile("forget", "--stage", "production", "--yes")
    assert (kept.status, "declares the stage production; remove it from" in kept.err) == (1, True)
    reconcile.target("  stages: [{name: staging, publish: serving.json}]\n")
    dropped = reconcile("forget", "--stage", "production", "--yes", "--reason", "one stage is enough")
    assert (dropped.status, dropped.out.count("was dropped")) == (0, 1)
    assert f"{first} was serving in production" in dropped.out
    assert "stages" not in reconcile.lock["adder"]
    assert "one stage is enough" in reconcile("history").out
    again = reconcile("forget", "--stage", "production", "--yes")
    assert (again.status, "records no stage production" in again.err) == (64, True)
