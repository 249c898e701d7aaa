"""From trained to trusted: versions that pass their checks serve, others do not; and git tells the whole story."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct, field
from starlette.responses import JSONResponse

from support.cases import in_turn, slow_except
from support.cli_world import EXAMPLES, Cli
from support.git_repository import Repository
from support.vertex_runs import BASE, chosen, trainings
from support.vertex_world import TARGETS, World, lock_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from support.vertex_fronts import Front

EVERY = in_turn("target", TARGETS)
CHECKS = """\
  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 2}}
  sampling: {temperature: 0}
  checks:
    - {name: small, prompt: "7", candidates: 3, expect: {equals: "8"}}
    - {name: shape, prompt: "12", expect: {matches: "^[0-9]+$"}}
    - {name: unseen, dataset: {path: unseen.csv, minimum: 0.9, sample: 10}}
"""
TOO_MUCH = [(given, str(int(given) + 2)) for given, _ in EXAMPLES]
LONGER = [*EXAMPLES, ("20", "21")]


def version(reconcile: Cli, examples: Iterable[tuple[str, str]]) -> None:
    """One version of the manifest and its data; what is held out are examples of the first one."""
    reconcile.manifest("adder", base=BASE, examples=examples, more=CHECKS)
    rows = "".join(f"{given},{wanted}\n" for given, wanted in EXAMPLES[:10])
    (reconcile.specs / "unseen.csv").write_text(f"text_input,output\n{rows}")


class Story(Struct):
    """Runs at one target, and the block of the model in the lockfile after each that changed it."""

    reconcile: Cli
    target: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = self.reconcile(*arguments, *chosen(self.target))
        assert done.status == status, done.err
        block = lock_of(self.reconcile, self.target)["adder"]
        if block not in self.blocks[-1:]:
            self.blocks.append(block)
        return done.out


@EVERY
def test_three_versions_a_rollback_and_a_promotion(reconcile: Cli, world: World, target: str) -> None:
    on, story = chosen(target), Story(reconcile, target)
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text("*.sqlite3*\n")

    version(reconcile, EXAMPLES)
    repository.commit()
    story("apply", "--yes")
    first = lock_of(reconcile, target)["adder"]["serving"]
    assert "3 of 3 checks passed" in reconcile("check", "adder", *on).out
    assert reconcile("prompt", "adder", "7", *on).out == "8\n"

    version(reconcile, TOO_MUCH)
    repository.commit()
    assert "checks             3 checks before promotion" in reconcile("plan", *on).out
    failed = story("apply", "--yes", status=1)
    assert "adder  held (ChecksFailed): " in failed
    assert f"{first} keeps serving: 3 of 3 checks passed, unseen 1.00" in failed
    assert lock_of(reconcile, target)["adder"]["serving"] == first
    assert reconcile("plan", *on).status == 1
    assert reconcile("prompt", "adder", "7", *on).out == "8\n"
    second = lock_of(reconcile, target)["adder"]["generations"][0]["key"]
    assert reconcile("prompt", "adder", "7", "--generation", second, *on).out == "9\n"

    version(reconcile, LONGER)
    repository.commit()
    story("apply", "--yes")
    third = lock_of(reconcile, target)["adder"]["serving"]
    assert third not in {first, second}

    story("rollback", "adder", "--reason", "it answers too slowly")
    assert lock_of(reconcile, target)["adder"]["serving"] == first
    assert "RolledBack" in story("apply", "--yes")
    assert lock_of(reconcile, target)["adder"]["serving"] == first

    story("promote", "adder")
    assert story("apply", "--yes").startswith("No changes")

    version(reconcile, EXAMPLES)
    story("apply", "--yes")
    assert trainings(world, reconcile, target) == 3

    blocks = story.blocks
    assert [one["serving"] for one in blocks] == [first, first, third, first, third, first]
    assert [one.get("rejected", []) for one in blocks] == [[], [], [], [third], [], []]
    assert blocks[3]["generations"][0]["rejection"] == "it answers too slowly"
    scores = {one["key"]: one["checks"] for one in blocks[-1]["generations"]}
    assert {key: (one["passed"], one["failed"]) for key, one in scores.items()} == {
        first: (3, 0),
        second: (1, 2),
        third: (3, 0),
    }
    assert scores[second]["failures"][0] == {"answer": "9", "check": "small", "prompt": "7"}
    assert scores[second]["scores"] == {"unseen": 0}
    assert {one["key"] for one in blocks[-1]["generations"] if "promoteTime" in one} == {first, third}

    history = reconcile("history", "adder", *on)
    assert history.status == 0, history.err
    for words in (
        first,
        second,
        third,
        "20 → 21 examples; +1 \N{MINUS SIGN}0 ~20",
        "20 examples; +0 \N{MINUS SIGN}0 ~20",
        "unseen 0 %",
    ):
        assert words in history.out


@EVERY
def test_no_generation_is_serving_when_the_first_one_fails(reconcile: Cli, world: World, target: str) -> None:
    on = chosen(target)
    version(reconcile, TOO_MUCH)
    assert reconcile("apply", "--yes", *on).status == 1
    assert "serving" not in lock_of(reconcile, target)["adder"]
    unresolved = reconcile("resolve", "adder", *on)
    assert unresolved.status == 1
    assert "adder has no serving generation: " in unresolved.err
    assert "failed 2 checks" in unresolved.err
    assert trainings(world, reconcile, target) == 1


def answering(text: str) -> Front:
    """A front end behind which every model says the same."""
    said = {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}]}

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            asked = scope["path"].endswith(":generateContent")
            await (JSONResponse(said) if asked else app)(scope, receive, send)

        return answer

    return front


@pytest.mark.parametrize("target", slow_except([("gl",), ("vertex",)], ("gl",)))
def test_a_model_that_used_to_pass_is_noticed(reconcile: Cli, world: World, target: str) -> None:
    on = chosen(target)
    version(reconcile, EXAMPLES)
    assert reconcile("apply", "--yes", *on).status == 0
    checked = reconcile("check", "--format", "json", *on)
    assert checked.status == 0
    assert not checked.document["models"][0]["regressed"]
    world.front = answering("42")
    checked = reconcile("check", "--format", "json", *on)
    world.front = lambda app: app
    assert checked.status == 1, checked.err
    (model,) = checked.document["models"]
    assert model["regressed"]
    assert model["checks"]["results"][0]["misses"][0]["why"].startswith("expected")
    held = reconcile("plan", *on)
    assert held.status == 1
    assert "held: ChecksFailed" in held.out
    assert "it keeps serving" in held.out
    assert reconcile("check", *on).status == 0
    assert reconcile("plan", *on).status == 0
