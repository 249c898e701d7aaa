"""adopt on the command line: a model that somebody else trained, on every service, and what becomes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.adopted_world import THEIRS, adopt, declared, foreign, job_of, manifest_of
from support.cases import in_turn, slow_except
from support.cli_world import EXAMPLES, Cli
from support.git_repository import Repository
from support.render_values import held_to
from support.vertex_runs import BASE, chosen, trainings
from support.vertex_world import World, lock_file, lock_of

if TYPE_CHECKING:
    from support.vertex_fronts import Json

ON_PORTS = in_turn("target", ["gl", "vertex"])


def contents(reconcile: Cli) -> dict[Path, bytes]:
    """Every file of the project, without those that runs lock, which stay."""
    files = (file for file in reconcile.specs.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {file: file.read_bytes() for file in files}


def refused(reconcile: Cli, name: str, remote: str, *arguments: str, target: str = "gl", status: int = 1) -> str:
    """What is said when nothing is taken over: no file is written or changed."""
    before = contents(reconcile)
    answer = reconcile("adopt", name, remote, *arguments, *chosen(target))
    assert answer.status == status, answer.err
    assert answer.out == ""
    assert contents(reconcile) == before
    return answer.err


def recorded(reconcile: Cli, target: str) -> Json:
    (one,) = lock_of(reconcile, target)["adder"]["generations"]
    return dict(one)


# what is taken over


@ON_PORTS
def test_an_adopted_model_is_promoted_by_the_next_apply(reconcile: Cli, world: World, target: str) -> None:
    """A run of adopt that was killed at its end can be repeated, also after that apply has written the mark."""
    remote = foreign(reconcile, world, target)

    taken = adopt(reconcile, remote, target)

    assert "adder: adopted; nothing was trained\n" in taken.out
    assert "  manifest    specs/adder.yaml\n" in taken.out
    one = recorded(reconcile, target)
    assert (one["remote"], one["origin"], one["state"]) == (remote, "adopted", "ACTIVE")
    assert one["dataset"]["unknown"] is True
    assert re.fullmatch(r"adder-[a-z2-7]{8}", one["key"])
    assert reconcile("validate", *chosen(target)).status == 0
    adopt_again(reconcile, remote, target)
    for command in (["history", "adder"], ["graph"], ["status"]):
        assert reconcile(*command, *chosen(target)).status == 0
    marked = "ownership mark: absent → present" in reconcile("plan", *chosen(target)).out
    assert marked is (target == "gl")
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 0, done.err
    assert reconcile("resolve", "adder", *chosen(target)).out.strip() in {remote, job_of(world, remote)}
    adopt_again(reconcile, remote, target)
    assert reconcile("apply", "--yes", *chosen(target)).out.startswith("No changes. 1 model matches its manifest")
    assert reconcile("validate", "--locked", *chosen(target)).status == 0
    assert trainings(world, reconcile, target) == 1


def adopt_again(reconcile: Cli, remote: str, target: str) -> None:
    """Adopt a model that is adopted already, which changes nothing."""
    before = lock_file(reconcile, target).read_bytes()
    again = reconcile("adopt", "adder", remote, *chosen(target))
    assert (again.status, "already adopted; nothing was changed" in again.out) == (0, True), again.err
    assert lock_file(reconcile, target).read_bytes() == before


def test_the_manifest_has_the_values_of_the_live_model(reconcile: Cli, world: World) -> None:
    adopt(reconcile, foreign(reconcile, world, description="no\n12:30 “ü”\n"), "gl")
    assert (reconcile.specs / "adder.yaml").read_text() == (
        "# Adopted from tunedModels/theirs. All fields: `reconcile schema TunedModel`.\n"
        "apiVersion: tuning.reconcile/v1alpha1\n"
        "kind: TunedModel\n"
        "metadata:\n"
        "  name: adder\n"
        "spec:\n"
        f"  baseModel: {BASE}\n"
        "  displayName: Their adder\n"
        "  description: |\n"
        "    no\n"
        "    12:30 “ü”\n"
        "  dataset:\n"
        "    unknown: true # replace this with the training data; it is recorded, and nothing is trained\n"
        "  adopted: tunedModels/theirs\n"
        "  sampling:\n"
        "    temperature: 0.5\n"
        "    topP: 0.95\n"
        "    topK: 64\n"
        "  # Reported by the service. Declaring them trains nothing; changing them later does.\n"
        "  # hyperparameters: {epochCount: 3, batchSize: 4, learningRate: 0.001}\n"
    )


def test_every_display_name_is_read_back(reconcile: Cli, world: World) -> None:
    names = ["no", "1e-3", "0o14", "12:30", "null", " a ", "- b", "#c", "tab\there", "bell \a", "é😀"]
    pairs = []
    for number, said in enumerate(names):
        remote = foreign(reconcile, world, called=f"theirs-{number}", description=said, displayName=said)
        pairs += [f"m{number}", remote]
    adopted = reconcile("adopt", *pairs, *chosen("gl"))
    assert adopted.status == 0, adopted.err
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    for number, said in enumerate(names):
        live = world.ask("GET", f"/v1beta/tunedModels/theirs-{number}")
        assert live["displayName"] == said
        assert live["description"].startswith(f"{said}\nmanaged-by=reconcile scope=acme/nlp name=m{number} ")


def test_reported_hyperparameters_can_be_declared_and_changed(reconcile: Cli, world: World) -> None:
    adopt(reconcile, foreign(reconcile, world), "gl")
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("  # hyper", "  hyper"))
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    file.write_text(file.read_text().replace("epochCount: 3", "epochCount: 4"))
    held = reconcile("apply", "--yes", *chosen("gl"))
    assert held.status == 1
    assert "held (DataUnknown): nothing can be trained because spec.dataset.unknown is set" in held.out
    assert trainings(world, reconcile, "gl") == 1


def test_the_lockfile_can_be_lost_after_the_mark_was_written(reconcile: Cli, world: World) -> None:
    adopt(reconcile, foreign(reconcile, world), "gl")
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    before = lock_of(reconcile, "gl")["adder"]["serving"]
    lock_file(reconcile, "gl").unlink()
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    assert lock_of(reconcile, "gl")["adder"]["serving"] == before
    assert recorded(reconcile, "gl")["dataset"]["unknown"] is True
    assert trainings(world, reconcile, "gl") == 1

    manifest_of(reconcile, "adder", EXAMPLES)
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    digest = recorded(reconcile, "gl")["dataset"]["digest"]
    assert f" data={digest} " in world.ask("GET", f"/v1beta/{THEIRS}")["description"], "a claim outlives it too"
    lock_file(reconcile, "gl").unlink()
    manifest_of(reconcile, "adder", [*EXAMPLES, ("20", "21")])
    assert "+ adder" in reconcile("plan", *chosen("gl")).out


def test_a_lost_lockfile_is_rebuilt_without_marks(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world, "vertex")
    adopt(reconcile, remote, "vertex")
    before = recorded(reconcile, "vertex")
    lock_file(reconcile, "vertex").unlink()
    held = reconcile("apply", "--yes", *chosen("vertex"))
    assert held.status == 1
    assert "adopt a model with reconcile adopt --target vertex adder REMOTE" in held.out
    again = adopt(reconcile, remote, "vertex")
    assert "manifest" not in again.out
    assert recorded(reconcile, "vertex") == before
    assert reconcile("apply", "--yes", *chosen("vertex")).status == 0


def test_a_manifest_of_another_model_is_refused(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    declared(reconcile, "{unknown: true}", hyperparameters="{epochCount: 5}")
    assert refused(reconcile, "adder", remote) == (
        "Error: tunedModels/theirs does not match adder at specs/adder.yaml:3:18; set spec.baseModel, "
        "spec.source and spec.hyperparameters to the values that it was trained with\n"
    )
    declared(reconcile, "{unknown: true}")
    assert refused(reconcile, "adder", remote) == (
        "Error: adder at specs/adder.yaml:3:18 does not name tunedModels/theirs; add spec.adopted: tunedModels/theirs"
        " to it\n"
    )


def test_an_adopted_child_keeps_its_parent(reconcile: Cli, world: World) -> None:
    foreign(reconcile, world)
    remote = foreign(reconcile, world, called="child", baseModel=None, tunedModelSource={"tunedModel": THEIRS})
    adopt(reconcile, remote, "gl")
    assert f"  source:\n    remote: {THEIRS}\n" in (reconcile.specs / "adder.yaml").read_text()
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0


def test_the_file_can_be_named_and_the_document_obeys_its_schema(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    (reconcile.specs / "old").mkdir()
    answer = adopt(reconcile, remote, "gl", "--file", "specs/old/theirs.yml", "--format", "json")
    document = held_to("change", answer.document)
    assert (document["command"], document["outcome"], document["manifest"]) == ("adopt", "done", "specs/old/theirs.yml")
    assert [(one["action"], one["reason"]) for one in document["next"]] == [("update", "Drifted"), ("promote", "Ready")]
    assert lock_of(reconcile, "gl")["adder"]["manifest"] == "old/theirs.yml"


# what becomes of its data


@pytest.mark.parametrize("target", slow_except([("gl",), ("vertex",)], ("gl",)))
def test_the_first_data_set_is_a_claim_and_later_ones_are_changes(reconcile: Cli, world: World, target: str) -> None:
    adopt(reconcile, foreign(reconcile, world, target), target)
    assert reconcile("apply", "--yes", *chosen(target)).status == 0
    first = lock_of(reconcile, target)["adder"]["serving"]

    manifest_of(reconcile, "adder", EXAMPLES)
    plan = reconcile("plan", *chosen(target))
    assert "its training data is unknown: adder.csv is recorded as a claim, nothing is trained" in plan.out
    assert "0 to create" in plan.out
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 0, done.err
    assert f"claimed: {first} is recorded as trained on adder.csv" in done.err
    assert lock_of(reconcile, target)["adder"]["serving"] == first
    dataset = recorded(reconcile, target)["dataset"]
    assert (dataset["path"], dataset["examples"], dataset["claimed"]) == ("adder.csv", 20, True)
    assert reconcile("apply", "--yes", *chosen(target)).out.startswith("No changes")
    assert trainings(world, reconcile, target) == 1

    manifest_of(reconcile, "adder", [*EXAMPLES, ("20", "21")])
    assert reconcile("apply", "--yes", *chosen(target)).status == 0
    assert lock_of(reconcile, target)["adder"]["serving"] != first
    assert trainings(world, reconcile, target) == 2


def test_the_data_set_is_claimed_although_something_else_changes_with_it(reconcile: Cli, world: World) -> None:
    adopt(reconcile, foreign(reconcile, world), "gl")
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    manifest_of(reconcile, "adder", EXAMPLES, more="  hyperparameters: {epochCount: 5}\n")
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    made, taken = lock_of(reconcile, "gl")["adder"]["generations"]
    assert (taken["dataset"]["claimed"], taken["dataset"]["digest"]) == (True, made["dataset"]["digest"])
    assert "claimed" not in made["dataset"]


def test_a_preamble_is_claimed_too_and_put_before_prompts(reconcile: Cli, world: World) -> None:
    adopt(reconcile, foreign(reconcile, world), "gl")
    file = reconcile.specs / "adder.yaml"
    file.write_text(re.sub(r"    unknown: true.*", '    unknown: true\n    preamble: "1"', file.read_text()))
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    assert recorded(reconcile, "gl")["preamble"] == "1"
    assert reconcile("prompt", "adder", "2", *chosen("gl")).out == "13\n"


def test_a_removed_data_set_changes_nothing(reconcile: Cli, world: World) -> None:
    assert world
    declared(reconcile, f"{{examples: {json.dumps([{'input': a, 'output': b} for a, b in EXAMPLES])}}}")
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    declared(reconcile, "{unknown: true}")
    assert reconcile("apply", "--yes", *chosen("gl")).out.startswith("No changes")
    assert reconcile("plan", "--replace", "adder", *chosen("gl")).status == 1


# what is not taken over


def test_a_name_in_use_is_refused(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    reconcile.manifest("adder", base=BASE, metadata=", formerly: [summer]")
    assert refused(reconcile, "adder", remote) == (
        "Error: adder is the name of a manifest, at specs/adder.yaml:3:18; choose another name\n"
    )
    assert refused(reconcile, "summer", remote) == (
        "Error: summer is a former name of adder, at specs/adder.yaml:3:18; choose another name\n"
    )
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    reconcile.manifest("words", base=BASE)
    (reconcile.specs / "adder.yaml").unlink()
    assert refused(reconcile, "adder", remote) == (
        "Error: specs/reconcile.gl.lock.json already records generations of adder; choose another name, or run "
        "reconcile forget --target gl adder first\n"
    )


def test_a_name_that_is_invalid_or_not_there_is_refused(reconcile: Cli, world: World) -> None:
    assert world
    region = "projects/my-project/locations"
    cases = {
        ("gl", "adder", "tunedModels/nobodys", 1): "tunedModels/nobodys not found, or you do not have access; check",
        ("vertex", "adder", f"{region}/europe-west4/tuningJobs/7", 1): f"{region}/europe-west4/tuningJobs/7 not found,"
        " or you do not have access",
        ("gl", "adder", "theirs", 64): "invalid model 'theirs' of Generative Language API v1beta; write it like"
        " tunedModels/nu",
        ("gl", "Adder", THEIRS, 64): "invalid name 'Adder': expected 1 to 31 lower-case letters",
        (
            "vertex",
            "adder",
            f"{region}/europe-west4/models/1@1",
            64,
        ): f"invalid model '{region}/europe-west4/models/1@1' of Vertex AI; write",
        ("vertex", "adder", f"{region}/us-central1/tuningJobs/1", 64): f"invalid model"
        f" '{region}/us-central1/tuningJobs/1' of Vertex AI; write",
    }
    for (target, name, remote, status), message in cases.items():
        assert refused(reconcile, name, remote, target=target, status=status).startswith(f"Error: {message}")


def test_a_model_that_is_not_ready_is_refused(reconcile: Cli, slow: World) -> None:
    remote = foreign(reconcile, slow, ready=False)
    assert refused(reconcile, "adder", remote) == (
        "Error: tunedModels/theirs cannot be adopted: its state is CREATING; wait until it is ready\n"
    )


def test_a_managed_or_marked_model_is_refused(reconcile: Cli, world: World) -> None:
    assert world
    reconcile.manifest("mine", base=BASE)
    assert reconcile("apply", "--yes", *chosen("gl")).status == 0
    (one,) = lock_of(reconcile, "gl")["mine"]["generations"]
    assert refused(reconcile, "adder", one["remote"]) == (
        f"Error: {one['remote']} is already managed: the lockfile records it as a generation of mine; to use "
        "another name, rename that manifest and add metadata.formerly: [mine]\n"
    )
    lock_file(reconcile, "gl").unlink()
    assert refused(reconcile, "adder", one["remote"]).startswith(
        f"Error: {one['remote']} is already managed: it has the mark of mine in this scope; run"
        " reconcile apply --target gl with a"
    )
    target = reconcile.specs / "reconcile.gl.yaml"
    target.write_text(target.read_text().replace("scope: acme/nlp", "scope: acme/vision"))
    assert refused(reconcile, "adder", one["remote"]).startswith(
        f"Error: {one['remote']} is managed in the scope acme/nlp: it has the mark of mine; ask the owners"
    )


def test_a_model_adopted_by_another_target_is_refused(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world, "vertex")
    adopt(reconcile, remote, "vertex")
    target = reconcile.specs / "reconcile.vertex.yaml"
    other = target.read_text().replace("scope: acme/nlp", "scope: acme/vision").replace("name: vertex", "name: other")
    (reconcile.specs / "reconcile.other.yaml").write_text(other)
    assert refused(reconcile, "summer", remote, target="other").startswith(
        f"Error: {remote} is already managed: the lockfile of target vertex records it as a generation of adder"
    )


def test_where_no_manifest_can_go_none_is_written(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    (reconcile.specs / "taken.yaml").write_text("")
    (reconcile.specs / "other").mkdir()
    (reconcile.specs / "other" / "reconcile.gl.yaml").write_text("")
    for file, message, status in (
        ("elsewhere.yaml", "elsewhere.yaml: outside the directory of the target file; pass a .yaml file in", 64),
        ("specs/adder.txt", "specs/adder.txt: not a file name for a manifest", 64),
        ("specs/reconcile.new.yaml", "specs/reconcile.new.yaml: not a file name for a manifest", 64),
        ("specs/.adder.yaml", "specs/.adder.yaml: hidden files are not read", 64),
        ("specs/new/adder.yaml", "specs/new/adder.yaml: no such directory; create the directory", 64),
        ("specs/other/adder.yaml", "specs/other/adder.yaml: in the root of another target file", 64),
        ("specs/taken.yaml", "specs/taken.yaml already exists; pass another path with --file", 1),
    ):
        assert refused(reconcile, "adder", remote, "--file", file, status=status).startswith(f"Error: {message}")


def test_a_link_out_of_the_repository_takes_no_manifest(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    Repository(reconcile.specs)
    (reconcile.specs / "out").symlink_to(reconcile.folder)
    assert "outside the repository" in refused(reconcile, "adder", remote, "--file", "specs/out/adder.yaml")


def test_all_manifests_must_be_known_and_right(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world)
    reconcile.manifest("other", base=BASE)
    assert refused(reconcile, "adder", remote, "specs/other.yaml", status=64) == (
        "Error: a manifest outside these paths may have the name adder; name the whole root specs\n"
    )
    (reconcile.specs / "other.yaml").write_text("kind: TunedModel\n")
    assert "specs/other.yaml:1:1: apiVersion: missing required field" in refused(reconcile, "adder", remote)
