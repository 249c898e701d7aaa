"""The pull-request flow as ``init --ci github`` writes it, played with real branches and two pull requests at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from support.cli_world import Cli, Clock
from support.hub import SKIPPED, Hub, Pull, Ran
from support.vertex_world import PROJECT, World, serving, write_target

PULL, LOCKED, SETTLE, MERGED, DRIFT = (
    f"reconcile-{name}" for name in ("pull-request", "locked", "settle", "merged", "drift")
)
LOCK, POINTER = "specs/reconcile.lock.json", "specs/serving.json"
_FIRST = ("adder", "middle", "zeta")
CREATE = "POST /v1beta/tunedModels"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> Iterator[World]:
    """A port for the services of this module."""
    with serving() as world:
        yield world


class Team(Struct, dict=True):
    """People, their repository, and the service that all share."""

    hub: Hub
    world: World
    clock: Clock
    desk: Cli

    @property
    def trainings(self) -> int:
        """How many trainings the service was asked for."""
        return sum(line.startswith(CREATE) for line in self.world.lines)

    def lock(self, branch: str = "main") -> dict[str, Any]:
        """The models of the lockfile on a branch."""
        models: dict[str, Any] = json.loads(self.hub.file(LOCK, branch))["models"]
        return models

    def serving(self, name: str, branch: str = "main") -> str:
        return str(self.lock(branch)[name]["serving"])

    def published(self) -> dict[str, str]:
        document = json.loads(self.hub.file(POINTER))
        return {model["name"]: model["key"] for model in document["models"]}

    def change(self, branch: str, change: Callable[[Cli], object], *, fork: bool = False) -> Pull:
        """Somebody branches off the main branch, changes manifests, and opens a pull request."""
        self.push(branch, "main", change)
        return self.hub.open(branch, fork=fork)

    def push(self, branch: str, start: str, change: Callable[[Cli], object]) -> None:
        """Somebody changes manifests, beginning with what stands on another branch, or on this one."""
        self.hub.git(self.desk.folder, "fetch", "--quiet", "origin")
        self.hub.git(self.desk.folder, "checkout", "--quiet", "--detach", f"origin/{start}")
        change(self.desk)
        self.hub.commit(self.desk.folder, branch)

    def plan(self, pull: Pull) -> Ran:
        return self.hub.on_pull(pull, PULL, "plan")

    def train(self, pull: Pull, head: str = "", trains: str = "true") -> Ran:
        """The reviewers of the environment say yes to what was planned for a commit."""
        return self.hub.on_pull(pull, PULL, "train", head, plan={"outputs": {"trains": trains}})

    def locked(self, pull: Pull) -> bool:
        return self.hub.on_pull(pull, LOCKED, "locked").passed

    def settle(self) -> Ran:
        return self.hub.on_main(SETTLE, "settle")

    def merge(self, pull: Pull) -> Ran:
        """Merge, and play what the push to the main branch starts."""
        self.hub.merge(pull)
        return self.hub.on_main(MERGED, "apply")

    def drift(self) -> Ran:
        return self.hub.on_main(DRIFT, "drift")

    def comment(self, pull: Pull) -> str:
        """The one comment on a pull request."""
        (comment,) = (one for one in self.hub.comments if one["issue"] == pull.number)
        return str(comment["body"])

    def tamper(self, name: str, description: str) -> None:
        """Somebody else changes a model that serves, with a client of theirs."""
        model = f"/v1beta/{self.lock()[name]['generations'][0]['remote']}"
        body = json.dumps({"description": description}).encode()
        self.world.ask("PATCH", model, body, updateMask="description")

    def later(self) -> None:
        """Time passes, and what is in training ends."""
        self.clock.now = self.clock.now.replace(hour=self.clock.now.hour + 1)


@pytest.fixture
def team(port: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Team:
    """A repository with two models that serve, and the workflows."""
    hub = Hub(tmp_path)
    desk = Cli(hub.begin("desk"), capsys)
    port.begin(tmp_path, lambda: desk.clock.now)
    write_target(
        desk,
        "",
        f"  provider: generativelanguage\n  apiVersion: v1beta\n  project: {PROJECT}\n  endpoint: {port.url}\n"
        "  publish: serving.json\n",
    )
    desk.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.hush-hush"
    for name in _FIRST:
        _declare(desk, name, epochs=1)
    assert desk("init", "--ci", "github").status == 0
    (desk.folder / ".github" / "reconcile.txt").write_text("reconcile @ file:///somewhere\n")
    assert desk("apply", "--yes").status == 0
    hub.commit(desk.folder, "main")
    port.lines.clear()
    return Team(hub, port, desk.clock, desk)


def _declare(desk: Cli, name: str, epochs: int) -> None:
    desk.manifest(name, epochs=epochs, base="models/gemini-1.5-flash-001-tuning")


def _first(desk: Cli) -> None:
    _declare(desk, "zeta", 2)
    _declare(desk, "nine", 2)


def _second(desk: Cli) -> None:
    _declare(desk, "adder", 2)
    _declare(desk, "nova", 2)


def test_two_pull_requests_at_once(team: Team) -> None:
    before = {name: team.serving(name) for name in _FIRST}
    one, two = team.change("one", _first), team.change("two", _second)

    for pull, new in ((one, "nine"), (two, "nova")):
        planned = team.plan(pull)
        assert planned.passed, planned.log
        assert planned.outputs["trains"] == "true"
        assert f"{new}-" in team.comment(pull)
        assert not team.locked(pull)
    assert team.trainings == 0

    for pull in (one, two, one):  # somebody runs the first one twice
        trained = team.train(pull)
        assert trained.passed, trained.log
    assert team.trainings == 4
    assert not team.locked(one)
    assert team.settle().passed  # too early
    assert not team.locked(one)
    assert team.drift().passed
    assert team.hub.issues == [], "candidates of branches are no drift"

    team.later()
    settled = team.settle()
    assert settled.passed, settled.log
    assert team.locked(one), settled.log
    assert team.locked(two), settled.log
    assert {name: team.serving(name) for name in before} == before, "the main branch knows nothing of it"
    assert team.published() == before, "nor do applications"

    merged = team.merge(one)
    assert merged.passed, merged.log
    assert team.published() == before | {"nine": team.serving("nine"), "zeta": team.serving("zeta")}
    assert team.serving("zeta") != before["zeta"]

    assert not team.hub.mergeable(two), "both add to the same place of the lockfile"
    united = team.settle()
    assert united.passed, united.log
    planned = team.plan(two)
    assert planned.outputs["trains"] == "false", planned.log
    assert len(team.hub.comments) == 2, "the comment is kept up to date"
    assert team.locked(two)
    assert team.hub.in_queue(two, LOCKED, "locked").passed
    assert team.merge(two).passed

    assert team.trainings == 4, "nothing was trained twice, and nothing after a merge"
    assert sorted(team.published()) == ["adder", "middle", "nine", "nova", "zeta"]
    assert team.drift().passed
    assert team.hub.issues == []


def test_a_fork_has_no_credentials_and_needs_none(team: Team) -> None:
    pull = team.change("theirs", _first, fork=True)

    planned = team.plan(pull)

    assert planned.passed, planned.log
    assert "nine-" in planned.log
    assert "nine-" in planned.summary
    assert team.world.lines == []
    assert team.hub.comments == []
    assert team.train(pull, trains=planned.outputs["trains"]).log == SKIPPED
    assert not team.locked(pull)
    assert team.settle().passed
    assert len(team.hub.git(team.hub.origin, "rev-list", "main..theirs").splitlines()) == 1, "nobody commits there"


def test_only_the_approved_plan_is_trained(team: Team) -> None:
    pull = team.change("one", _first)
    approved = team.hub.head("one")
    team.push("one", "one", lambda desk: _declare(desk, "zeta", 9))

    late = team.train(pull, approved)

    assert not late.passed
    assert "the branch has new commits since this plan; approve the newest run instead" in late.log
    assert team.trainings == 0
    assert "lockfile" not in team.hub.git(team.hub.origin, "log", "--format=%s", "one")


def test_comments_of_other_users_are_not_changed(team: Team) -> None:
    pull = team.change("one", _second)
    team.hub.comment(pull.number, "mallory", "<!-- reconcile:plan:default -->\nNothing to see here.")

    assert team.plan(pull).passed

    other_comment, own_comment = team.hub.comments
    assert other_comment["body"].endswith("Nothing to see here.")
    assert (own_comment["user"]["login"], own_comment["body"].splitlines()[0]) == (
        "github-actions[bot]",
        "<!-- reconcile:plan:default -->",
    )


def test_drift_keeps_one_issue_open_until_it_is_fixed(team: Team) -> None:
    team.tamper("adder", "mine now")

    for _day in range(2):
        looked = team.drift()
        assert looked.passed, looked.log
        (issue,) = team.hub.issues
        assert (issue["state"], issue["title"]) == ("open", "The models of default have drifted")
        assert "Modified" in issue["body"]

    mended = team.hub.on_main(MERGED, "apply")
    assert mended.passed, mended.log
    assert team.drift().passed
    (issue,) = team.hub.issues
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    assert "Modified" not in issue["body"]
    assert team.trainings == 0


def test_a_failed_drift_check_fails_the_job_and_changes_no_issue(team: Team) -> None:
    team.tamper("adder", "mine now")
    assert team.drift().passed
    before = team.hub.issues
    team.push("main", "main", lambda desk: (desk.specs / "adder.yaml").write_text("a: [", encoding="utf-8"))

    assert not team.drift().passed
    assert team.hub.issues == before


def test_a_merge_without_a_ready_model_fails_without_training(team: Team) -> None:
    pull = team.change("one", _first)

    merged = team.merge(pull)

    assert not merged.passed
    assert "has no ready generation of nine with this content" in merged.log
    assert team.trainings == 0
