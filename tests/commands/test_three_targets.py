"""One set of manifests on three services: embedded, Generative Language API and Vertex AI."""

from __future__ import annotations

import json

import pytest

from support.cases import in_turn
from support.cli_world import EXAMPLES, Cli
from support.vertex_runs import BASE, chosen, trainings
from support.vertex_world import (
    TARGETS,
    World,
    lock_file,
    lock_of,
)

EVERY = in_turn("target", TARGETS)
NAMES = ["adder", "greeter", "speller"]
VERTEX = "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 2, adapterSize: 4}}\n"
TRAINED_ELSEWHERE = (
    "already serves adder, greeter, speller; a tuned model cannot be moved to another service, so it is trained again"
)


def adder(reconcile: Cli, *, more: list[tuple[str, str]] | None = None) -> None:
    """A CSV file with labels, hyperparameters and a block for Vertex AI: 10 steps everywhere."""
    examples = [*EXAMPLES, *(more or [])]
    reconcile.manifest("adder", base=BASE, examples=examples, metadata=", labels: {team: demo}", more=VERTEX)


def three(reconcile: Cli) -> None:
    """CSV; JSON Lines with a preamble and other fields; examples in the manifest and no hyperparameters at all."""
    adder(reconcile)
    head = "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {name: NAME}\nspec:\n"
    words = [{"word": f"w{number}", "spelt": f"w-{number}"} for number in range(24)]
    (reconcile.specs / "words.jsonl").write_text("".join(f"{json.dumps(word)}\n" for word in words))
    (reconcile.specs / "speller.yaml").write_text(
        f"{head.replace('NAME', 'speller')}  baseModel: {BASE}\n"
        '  dataset: {path: words.jsonl, inputField: word, outputField: spelt, preamble: "Spell: "}\n'
        "  hyperparameters: {epochCount: 2}\n  sampling: {temperature: 0.2}\n  vertex: {baseModel: gemini-3.5-flash}\n"
    )
    inline = "".join(f"      - {{input: name {number}, output: hello {number}}}\n" for number in range(20))
    (reconcile.specs / "greeter.yaml").write_text(
        f"{head.replace('NAME', 'greeter')}  baseModel: {BASE}\n"
        f"  dataset:\n    examples:\n{inline}  vertex: {{baseModel: gemini-3.5-flash}}\n"
    )


def locks(reconcile: Cli) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in reconcile.specs.glob("*.lock.json")}


@EVERY
def test_every_command_agrees_on_one_target(reconcile: Cli, world: World, target: str) -> None:
    three(reconcile)
    on = chosen(target)

    assert "3 manifests are valid" in reconcile("validate", *on).out
    planned = reconcile("plan", *on, "--format", "json").document
    assert [(one["name"], one["action"]) for one in planned["actions"]] == [(name, "create") for name in NAMES]
    assert reconcile("plan", *on, "--detailed-exitcode").status == 2
    assert [
        one["name"] for one in reconcile("plan", *on, "-l", "team=demo", "--format", "json").document["actions"]
    ] == ["adder"]
    assert reconcile("validate", "--locked", *on).status == 1
    assert locks(reconcile) == {}

    applied = reconcile("apply", "--yes", *on)

    assert applied.status == 0, applied.err
    assert "Models: 3 ready; " in applied.out
    before = locks(reconcile)
    second = reconcile("apply", "--yes", *on)
    assert second.status == 0
    requests = "3 requests" if target == "vertex" else "1 request"  # jobs, and the models and endpoints that they made
    assert second.out.startswith(f"No changes. 3 models match their manifests; {requests}, ")
    for command in (["plan", "--detailed-exitcode"], ["plan", "--offline", "--detailed-exitcode"]):
        assert reconcile(*command, *on).status == 0, command
    for command in (["validate", "--locked"], ["apply", "--locked", "--yes"], ["wait"], ["status", "--live"]):
        assert reconcile(*command, *on).status == 0, command
    assert locks(reconcile) == before
    assert trainings(world, reconcile, target) == 3


def show_the_serving_generation(reconcile: Cli, world: World, target: str) -> None:
    """Hold status and resolve to what is recorded."""
    on, recorded = chosen(target), lock_of(reconcile, target)

    rows = [line.split() for line in reconcile("status", *on).out.splitlines()[2:5]]
    assert [row[:3] for row in rows] == [[name, recorded[name]["serving"], "ACTIVE"] for name in NAMES]
    answer = reconcile("resolve", *on, "--format", "json").document["models"]
    assert [(one["name"], one["key"]) for one in answer] == [(name, recorded[name]["serving"]) for name in NAMES]
    for one in answer:
        result = reconcile("resolve", one["name"], *on)
        assert result.status == 0
        assert result.out == f"{one['remote']}\n"
    assert answer[2]["preamble"] == "Spell: "
    assert answer[2]["sampling"] == {"temperature": 0.2}
    resources = recorded["adder"]["generations"][0].get("resources", {})
    urls = {
        "": None,
        "gl": f"{world.url}/v1beta/{answer[0]['remote']}",
        "vertex": f"{world.url}/v1/{resources.get('endpoint')}",
    }
    assert answer[0].get("url") == urls[target]
    if target == "vertex":
        assert answer[0]["resources"] == resources
        assert answer[0]["remote"] == resources["endpoint"]
        assert world.ask("GET", f"/v1/{resources['endpoint']}")["deployedModels"]
        prompt = json.dumps({"contents": [{"role": "user", "parts": [{"text": "7"}]}]}).encode()
        said = world.ask("POST", f"/v1/{resources['endpoint']}:generateContent", prompt)
        assert said["candidates"][0]["content"]["parts"] == [{"text": "8"}]


def test_all_targets_end_in_the_same_state_and_leave_each_other_alone(reconcile: Cli, world: World) -> None:
    three(reconcile)
    moved = {"": [], "gl": ["default (embedded)"], "vertex": ["gl (generativelanguage)", "default (embedded)"]}

    for target, others in moved.items():
        before = locks(reconcile)
        planned = reconcile("plan", *chosen(target))
        assert planned.status == 0
        notes = [line for line in planned.out.splitlines() if line.startswith("Note: ")]
        assert sorted(notes) == sorted(f"Note: target {other} {TRAINED_ELSEWHERE}" for other in others)
        assert locks(reconcile) == before
        assert reconcile("apply", "--yes", *chosen(target)).status == 0
        after = locks(reconcile)
        assert after.keys() - before.keys() == {lock_file(reconcile, target).name}
        assert {name: after[name] for name in before} == before

    ends = [
        {
            name: [(one["state"], one["key"] == model["serving"], one["dataset"]) for one in model["generations"]]
            for name, model in lock_of(reconcile, target).items()
        }
        for target in TARGETS
    ]
    assert list(ends[0]) == NAMES
    assert all(generations[0][:2] == ("ACTIVE", True) for end in ends for generations in end.values())
    assert ends[0] == ends[1] == ends[2]
    for target in TARGETS:
        assert reconcile("apply", "--yes", *chosen(target)).out.startswith(
            "No changes. 3 models match their manifests; "
        )
        assert trainings(world, reconcile, target) == 3
        show_the_serving_generation(reconcile, world, target)


@pytest.mark.slow  # at the embedded service: test_apply.py
@pytest.mark.parametrize("target", TARGETS)
def test_a_changed_data_set_trains_again_and_a_reverted_one_does_not(reconcile: Cli, world: World, target: str) -> None:
    on = chosen(target)
    adder(reconcile)
    reconcile("apply", "--yes", *on)
    old = lock_of(reconcile, target)["adder"]["serving"]

    adder(reconcile, more=[("fifty", "fifty one")])
    planned = reconcile("plan", *on)
    assert "the content changed; the current generation keeps serving until this one is ready" in planned.out
    assert "dataset: sha256:" in planned.out
    assert reconcile("apply", "--yes", "--no-wait", *on).status == 0
    assert lock_of(reconcile, target)["adder"]["serving"] == old
    assert reconcile("wait", *on).status == 0
    assert lock_of(reconcile, target)["adder"]["serving"] == old
    assert reconcile("apply", "--yes", *on).status == 0
    new = lock_of(reconcile, target)["adder"]["serving"]
    assert new != old
    assert trainings(world, reconcile, target) == 2

    adder(reconcile)
    reverted = reconcile("apply", "--yes", *on)
    assert reverted.status == 0
    assert "training started" not in reverted.err
    assert lock_of(reconcile, target)["adder"]["serving"] == old
    assert trainings(world, reconcile, target) == 2
    assert reconcile("plan", "--detailed-exitcode", *on).status == 0
