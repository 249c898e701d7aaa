"""The pull-request flow as ``init --ci github`` writes it, played with real branches and two pull requests at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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
TOOLS = "reconcile @ file:///somewhere --hash=sha256:01"

slow = pytest.mark.slow
"""Whole flows of many jobs; one attack stays in the normal run."""


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

    def train(self, pull: Pull, planned: Ran | None = None, head: str = "") -> Ran:
        """Reviewers of the environment approve a plan of a commit, by default a new one of the newest commit."""
        planned = planned or self.plan(pull)
        return self.hub.on_pull(pull, PULL, "train", head, planned.at, plan={"outputs": planned.outputs})

    def locked(self, pull: Pull, *, queue: bool = False, approved: bool = False) -> bool:
        """Whether the required check passes; ``approved`` are changed decisions."""
        play = self.hub.in_queue if queue else self.hub.on_pull
        validated = play(pull, LOCKED, "validate")
        decides = validated.outputs["decisions"] == "true"
        needs = {
            "validate": {"result": "success" if validated.passed else "failure", "outputs": validated.outputs},
            "decisions": {"result": ("success" if approved else "failure") if decides else "skipped"},
        }
        return play(pull, LOCKED, "locked", **needs).passed

    def settle(self) -> Ran:
        return self.hub.on_main(SETTLE, "settle")

    def merge(self, pull: Pull) -> Ran:
        """Merge, and play what the push to the main branch starts."""
        before = self.hub.head()
        self.hub.merge(pull)
        return self.hub.on_main(MERGED, "apply", before=before)

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
def team(port: World, tmp_path: Path) -> Team:
    """A repository with three models that serve, and the workflows."""
    return _begin(port, tmp_path, lambda desk: [_declare(desk, name, epochs=1) for name in _FIRST])


def _begin(port: World, folder: Path, declare: Callable[[Cli], object], more: str = "") -> Team:
    """A repository with the workflows, and models that serve; ``more`` is added to the target."""
    hub = Hub(folder)
    desk = Cli(hub.begin("desk"))
    port.begin(folder, lambda: desk.clock.now)
    write_target(
        desk,
        "",
        f"  provider: generativelanguage\n  apiVersion: v1beta\n  project: {PROJECT}\n  endpoint: {port.url}\n"
        f"  publish: serving.json\n{more}",
    )
    desk.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.hush-hush"
    declare(desk)
    for platform in ("github", "gitlab"):
        assert desk("init", "--ci", platform).status == 0
        (desk.folder / f".{platform}" / "reconcile.txt").write_text(f"{TOOLS}\n")
    assert desk("apply", "--yes").status == 0
    hub.commit(desk.folder, "main")
    port.lines.clear()
    return Team(hub, port, desk.clock, desk)


def _declare(desk: Cli, name: str, epochs: int) -> None:
    desk.manifest(name, epochs=epochs)


def _first(desk: Cli) -> None:
    _declare(desk, "zeta", 2)
    _declare(desk, "nine", 2)


def _second(desk: Cli) -> None:
    _declare(desk, "adder", 2)
    _declare(desk, "nova", 2)


@slow
def test_two_pull_requests_at_once(team: Team) -> None:
    before = {name: team.serving(name) for name in _FIRST}
    one, two = team.change("one", _first), team.change("two", _second)

    plans = []
    for pull, new in ((one, "nine"), (two, "nova")):
        planned = team.plan(pull)
        plans.append((pull, planned))
        assert planned.passed, planned.log
        assert planned.outputs["trains"] == "true"
        assert f"{new}-" in team.comment(pull)
        assert not team.locked(pull)
    assert team.trainings == 0

    for pull, planned in plans:
        trained = team.train(pull, planned)
        assert trained.passed, trained.log
    assert team.train(one).log == SKIPPED, "a training that is in progress is not planned again"
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
    assert team.locked(two, queue=True)
    assert team.merge(two).passed

    assert team.trainings == 4, "nothing was trained twice, and nothing after a merge"
    assert sorted(team.published()) == ["adder", "middle", "nine", "nova", "zeta"]
    assert team.drift().passed
    assert team.hub.issues == []


@slow
def test_a_fork_has_no_credentials_and_needs_none(team: Team) -> None:
    pull = team.change("theirs", _first, fork=True)

    planned = team.plan(pull)

    assert planned.passed, planned.log
    assert "nine-" in planned.log
    assert "nine-" in planned.summary
    assert team.world.lines == []
    assert team.hub.comments == []
    assert team.train(pull, planned).log == SKIPPED
    assert not team.locked(pull)
    assert team.settle().passed
    assert len(team.hub.git(team.hub.origin, "rev-list", "main..theirs").splitlines()) == 1, "nobody commits there"


@slow
def test_only_the_approved_plan_is_trained(team: Team) -> None:
    pull = team.change("one", _first)
    approved, planned = team.hub.head("one"), team.plan(pull)
    team.push("one", "one", lambda desk: _declare(desk, "zeta", 9))

    late = team.train(pull, planned, approved)

    assert not late.passed
    assert "the branch has new commits since this plan; approve the newest run instead" in late.log
    assert team.trainings == 0
    assert "lockfile" not in team.hub.git(team.hub.origin, "log", "--format=%s", "one")


@slow
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


@slow
def test_the_comment_has_the_reason_of_a_failed_plan(team: Team) -> None:
    pull = team.change("one", _second)
    assert team.plan(pull).passed
    assert "Plan for target" in team.comment(pull)

    team.push("one", "one", lambda desk: desk.lock_file.write_text('{"version": 1'))
    assert not team.plan(pull).passed

    assert "### ❌ Plan for target `default`" in team.comment(pull)
    assert "truncated JSON" in team.comment(pull)


@slow
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


@slow
def test_a_failed_drift_check_fails_the_job_and_changes_no_issue(team: Team) -> None:
    team.tamper("adder", "mine now")
    assert team.drift().passed
    before = team.hub.issues
    team.push("main", "main", lambda desk: (desk.specs / "adder.yaml").write_text("- [ # TunedModel"))

    assert not team.drift().passed
    assert team.hub.issues == before


@slow
def test_a_merged_fact_that_no_manifest_explains_stops_the_job_after_the_merge(team: Team) -> None:
    def forge(desk: Cli) -> None:
        document = json.loads(desk.lock_file.read_text())
        document["models"]["adder"]["generations"][0]["finalLoss"] = 0.01
        desk.lock_file.write_text(json.dumps(document))

    before = team.hub.head()
    team.push("main", "main", forge)

    for merged in (team.hub.on_main(MERGED, "apply", before=before), _on_gitlab(team, before)):
        assert not merged.passed
        assert "models.adder.generations[0].finalLoss: changed fact" in merged.log
    assert team.hub.on_main(MERGED, "apply", before="0" * 40).passed, "the branch is new"


def _on_gitlab(team: Team, before: str) -> Ran:
    return team.hub.on_gitlab("reconcile-merged", CI_COMMIT_BEFORE_SHA=before)


@slow
def test_a_merge_without_a_ready_model_fails_without_training(team: Team) -> None:
    pull = team.change("one", _first)

    merged = team.merge(pull)

    assert not merged.passed
    assert "has no ready generation of nine with this content" in merged.log
    assert team.trainings == 0


def _hostile(desk: Cli) -> None:
    """Files that programs run, read as settings, or follow, all of them in one pull request."""
    _declare(desk, "zeta", 2)
    for name in ("json.py", "sitecustomize.py", "conftest.py", "reconciler/__init__.py", "pip/__main__.py"):
        file = desk.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"import pathlib\npathlib.Path({str(desk.folder / 'pwned')!r}).touch()\n")
    hook = desk.folder / ".githooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n[ -z \"$RECONCILE_ACCESS_TOKEN\" ] || touch '{desk.folder / 'pwned'}'\n")
    hook.chmod(0o755)
    (desk.folder / ".gitattributes").write_text("*.csv filter=lfs\n*.json merge=union\n")
    (desk.folder / ".gitignore").write_text("*\n")
    (desk.folder / "plan.md").symlink_to(desk.folder / "pwned")
    for platform in ("github", "gitlab"):
        (desk.folder / f".{platform}" / "reconcile.txt").write_text("reconcile @ file:///mine --hash=sha256:02\n")


@pytest.fixture
def runner(team: Team) -> Team:
    """Runners whose git has a filter and relative hooks, like a developer's machine or one with git-lfs."""
    settings = team.hub.folder / "gitconfig"
    settings.write_text('[core]\n\thooksPath = .githooks\n[filter "lfs"]\n\tclean = echo a pointer\n')
    team.hub.settings = str(settings)
    return team


def _harmless(team: Team, pull: Pull) -> None:
    """The lockfile of the branch was recorded as it is, by the tools of the main branch, and nothing was run."""
    assert "lockfile" not in team.lock(pull.branch)
    assert len(team.lock(pull.branch)["zeta"]["generations"]) == 2
    assert team.hub.installed == [TOOLS]
    assert not (team.desk.folder / "pwned").exists()


def test_no_file_of_a_pull_request_is_run_or_followed(runner: Team) -> None:
    pull = runner.change("one", _hostile)

    planned = runner.plan(pull)
    assert planned.passed, planned.log
    trained = runner.train(pull, planned)

    assert trained.passed, trained.log
    _harmless(runner, pull)


@slow
def test_no_file_of_a_merge_request_is_run_or_followed(runner: Team) -> None:
    pull = runner.change("one", _hostile)

    planned = runner.hub.on_gitlab("reconcile-plan", pull)
    assert planned.passed, planned.log
    trained = runner.hub.on_gitlab("reconcile-train", pull)

    assert trained.passed, trained.log
    _harmless(runner, pull)
    assert "zeta-" in runner.hub.comments[0]["body"]


@slow
@pytest.mark.parametrize("name", ["tags/origin/main", "heads/refs/heads/one"])
def test_a_tag_or_branch_with_the_name_of_another_is_not_taken_for_it(team: Team, name: str) -> None:
    pull = team.change("one", _first)
    team.push("evil", "main", lambda desk: _declare(desk, "evil", 5))
    team.hub.git(team.hub.origin, "update-ref", f"refs/{name}", "refs/heads/evil")

    trained = team.train(pull)
    settled = team.settle()

    assert trained.passed, trained.log
    assert settled.passed, settled.log
    assert team.trainings == 2
    assert "evil" not in team.lock("one")
    assert "Record the trainings" in team.hub.git(team.hub.origin, "log", "--format=%s", "refs/heads/one")


@slow
@pytest.mark.parametrize(("workflow", "job"), [(MERGED, "apply"), (SETTLE, "settle"), (DRIFT, "drift")])
def test_a_tag_with_the_name_of_the_main_branch_runs_no_job_of_it(team: Team, workflow: str, job: str) -> None:
    assert team.hub.on_main(workflow, job, "refs/tags/main").log == SKIPPED


@slow
@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_nothing_is_trained_when_the_base_has_moved(team: Team, platform: str) -> None:
    pull = team.change("one", _first)
    planned = team.plan(pull) if platform == "github" else team.hub.on_gitlab("reconcile-plan", pull)
    team.push("main", "main", lambda desk: _declare(desk, "middle", 7))

    trained = team.train(pull, planned) if platform == "github" else team.hub.on_gitlab("reconcile-train", pull)

    assert not trained.passed
    assert "main has moved since this plan; " in trained.log
    assert team.trainings == 0
    assert "lockfile" not in team.hub.git(team.hub.origin, "log", "--format=%s", "one")
    again = team.train(pull) if platform == "github" else team.hub.on_gitlab("reconcile-plan", pull)
    assert again.passed, again.log


@slow
def test_another_plan_than_the_approved_one_is_not_carried_out(team: Team) -> None:
    pull = team.change("one", _first)
    planned = team.plan(pull)
    other = team.plan(team.change("two", _second))
    artifacts = team.hub.artifacts
    artifacts["reconcile-plan", planned.at] = artifacts["reconcile-plan", other.at]

    trained = team.train(pull, planned)

    assert not trained.passed
    assert "plan.json: FAILED" in trained.log
    assert team.trainings == 0


def _forged(team: Team, branch: str, entry: str) -> Pull:
    """A pull request whose tree has an entry, as git prints them, in place of one of the main branch."""
    git, origin = team.hub.git, team.hub.origin
    lines = git(origin, "ls-tree", "main").splitlines()
    kept = [line for line in lines if line.partition("\t")[2] != entry.partition("\t")[2]]
    tree = git(origin, "mktree", "--missing", stdin="\n".join([*kept, entry]))
    commit = git(origin, "commit-tree", tree, "-p", "main", "-m", "a change")
    git(origin, "update-ref", f"refs/heads/{branch}", commit)
    return team.hub.open(branch)


def _hidden(desk: Cli) -> None:
    _first(desk)
    desk.lock_file.unlink()
    (desk.folder / ".gitignore").write_text("*.json\n")


def _linked(desk: Cli) -> None:
    _first(desk)
    desk.lock_file.unlink()
    desk.lock_file.symlink_to("../.git")


@slow
@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_a_hostile_pull_request_does_not_block_the_others(team: Team, platform: str) -> None:
    team.change("hidden", _hidden)
    good = team.change("good", _first)
    assert team.train(good).passed
    blob = team.hub.git(team.hub.origin, "hash-object", "-w", "--stdin", stdin="gitdir: /tmp\n")
    slow = team.change("slow", _first)
    hostile = [
        team.change("link", _linked),
        _forged(team, "git-file", f"100644 blob {blob}\t.git"),
        _forged(team, "submodule", f"160000 commit {'1' * 40}\tspecs"),
        team.hub.open("gone"),
        slow,
    ]
    team.hub.environ["HUB_SLOW"] = str(slow.number)
    refused = team.change("refused", _first)  # and with it, by some servers, the push of all branches
    assert team.train(refused).passed
    hook = team.hub.origin / "hooks" / "pre-receive"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nwhile read _ _ ref; do [ $ref != refs/heads/refused ] || exit 1; done\n")
    hook.chmod(0o755)
    hostile.append(refused)
    before = {pull.branch: team.hub.git(team.hub.origin, "rev-parse", pull.branch, strict=False) for pull in hostile}
    team.later()

    settled = team.settle() if platform == "github" else team.hub.on_gitlab("reconcile-settle")

    assert settled.passed, settled.log
    assert team.locked(good), settled.log
    assert "nine" in team.lock("hidden")
    for pull in hostile:
        assert team.hub.git(team.hub.origin, "rev-parse", pull.branch, strict=False) == before[pull.branch]
    assert f"{slow.number} (exit status 124)" in settled.log


@slow
def test_runs_of_several_targets_record_on_the_same_branch(team: Team) -> None:
    pull = team.change("one", _first)
    assert team.train(pull).passed
    team.later()
    assert team.settle().passed
    team.hub.merge(pull)
    merged = team.hub.head()
    team.push("main", "main", lambda desk: (desk.specs / "reconcile.prod.lock.json").write_text("{}\n"))

    recorded = team.hub.on_main(MERGED, "apply", at=merged)

    assert recorded.passed, recorded.log
    assert team.serving("nine") in team.published().values()
    assert team.hub.file("specs/reconcile.prod.lock.json") == "{}"


def _rollback(desk: Cli) -> None:
    assert desk("rollback", "adder", "--reason", "worse").status == 0


@slow
def test_a_changed_decision_needs_an_approval_and_a_pull_request_of_its_own(team: Team) -> None:
    def improve(desk: Cli) -> None:
        _declare(desk, "adder", 2)
        assert desk("apply", "--yes").status == 0

    def both(desk: Cli) -> None:
        _rollback(desk)
        (desk.folder / "README.md").write_text("more\n")

    team.push("main", "main", improve)
    former = team.published()["adder"]
    alone, mixed = team.change("alone", _rollback), team.change("mixed", both)

    assert not team.locked(alone)
    assert team.locked(alone, approved=True)
    assert not team.locked(alone, queue=True)
    assert not team.locked(mixed, approved=True)
    decided = team.hub.on_gitlab("reconcile-decisions", alone)
    assert decided.passed, decided.log
    assert not team.hub.on_gitlab("reconcile-decisions", mixed).passed
    assert not team.hub.on_gitlab("reconcile-locked", alone).passed
    # In a merge train with fast-forward merges, the commits of a merge request follow one by one.
    longer = team.change("two-commits", _rollback)
    team.push("two-commits", "two-commits", lambda desk: (desk.folder / "README.md").write_text("more\n"))
    train = team.hub.on_gitlab("reconcile-locked", longer, CI_MERGE_REQUEST_EVENT_TYPE="merge_train")
    assert not train.passed
    assert "changed decision" in train.log

    merged = team.merge(alone)
    assert merged.passed, merged.log
    assert team.published()["adder"] == team.serving("adder") != former


@pytest.mark.parametrize("platform", ["github", pytest.param("gitlab", marks=slow)])
def test_a_lockfile_that_is_gone_fails(team: Team, platform: str) -> None:
    def move(desk: Cli) -> None:
        for name in ("reconcile.yaml", "reconcile.lock.json"):
            (desk.specs / name).rename(desk.folder / name)

    moved = team.change("moved", move)
    before = team.hub.head()
    if platform == "github":
        runs = [team.hub.on_pull(moved, LOCKED, "validate")]
    else:
        runs = [team.hub.on_gitlab(job, moved) for job in ("reconcile-locked", "reconcile-decisions")]
    team.hub.merge(moved)
    runs += [team.hub.on_main(MERGED, "apply", before=before) if platform == "github" else _on_gitlab(team, before)]
    for ran in runs:
        assert not ran.passed
        assert "specs/reconcile.lock.json is gone; restore it" in ran.log


_OLD, _NEW = "models/gemini-3.5-flash", "models/gemini-3.1-flash-lite"


@pytest.fixture
def retiring(port: World, tmp_path: Path) -> Team:
    """A repository whose base model is retired in 60 days; a check compares new generations with the serving one."""
    return _begin(port, tmp_path, _declare_retiring, "  models: models.toml\n")


def _declare_retiring(desk: Cli) -> None:
    day = datetime.now(UTC).date() + timedelta(days=60)  # the jobs are processes, on the clock of this machine
    (desk.specs / "models.toml").write_text(
        f'date = {day}\n[models."{_OLD}"]\nretirement = {day}\nsuccessor = "{_NEW}"\n[models."{_NEW}"]\nmaxEpochs = 1\n'
    )
    (desk.specs / "unseen.csv").write_text("text_input,output\n0,1\n00,no\n")
    compared = "{name: unseen, dataset: {path: unseen.csv, minimum: 0.5}, noWorseThan: {serving: true}}"
    desk.manifest("adder", epochs=2, more=f"  checks: [{compared}] # kept\n")


def test_a_base_model_that_is_retired_soon_becomes_a_pull_request(retiring: Team) -> None:
    team = retiring
    written = team.hub.file("specs/adder.yaml")
    migrated = team.hub.on_main(DRIFT, "migrate")
    assert migrated.passed, migrated.log
    (opened,) = team.hub.opened
    assert opened["title"] == f"Tune from {_NEW} instead of {_OLD}"
    assert opened["body"].startswith("<!-- reconcile:migration:default -->\n### ✅ Migration for target `default`")
    assert "epochCount: 2 → 1" in opened["body"]
    assert team.world.lines == [], "the job contacts no service"
    changed = written.replace(_OLD, _NEW).replace("epochCount: 2", "epochCount: 1")
    assert team.hub.file("specs/adder.yaml", opened["head"]) == changed


@slow
def test_the_pull_request_of_a_migration_trains_compares_and_is_merged(retiring: Team) -> None:
    team, former = retiring, retiring.serving("adder")
    team.hub.on_main(DRIFT, "migrate")
    pull = team.hub.open(team.hub.opened[0]["head"])
    trained = team.train(pull)
    assert trained.passed, trained.log
    assert team.trainings == 1
    team.later()
    settled = team.settle()
    assert settled.passed, settled.log
    assert team.plan(pull).outputs["trains"] == "false"
    compared = team.comment(pull)
    for shown in ("recorded earlier", "serving 0.50, this generation 0.50, difference 0.00", f"{former} is serving"):
        assert shown in compared.replace("`", ""), compared
    assert team.serving("adder") == former

    merged = team.merge(pull)
    assert merged.passed, merged.log
    assert team.published()["adder"] == team.serving("adder") != former
    assert former in {generation["key"] for generation in team.lock()["adder"]["generations"]}


@slow
@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_each_change_of_a_base_model_is_proposed_once(retiring: Team, platform: str) -> None:
    team, hub = retiring, retiring.hub

    def migrate() -> Ran:
        return hub.on_main(DRIFT, "migrate") if platform == "github" else hub.on_gitlab("reconcile-migrate")

    def proposed(ran: Ran, count: int, *, passed: bool = True) -> None:
        assert (ran.passed, len(hub.opened)) == (passed, count), ran.log

    proposed(migrate(), 1)
    first = hub.opened[0]["head"]
    head = hub.head(first)
    proposed(migrate(), 1)  # also if it was closed
    hub.forget(first)
    proposed(migrate(), 1)  # the branch was pushed, but no pull request could be opened
    assert hub.head(first) == head

    pull = hub.open(first)
    team.push("main", "main", lambda desk: desk.manifest("second"))
    proposed(migrate(), 1)  # the other change of the same base model is open
    hub.close(pull)
    proposed(migrate(), 2)
    assert hub.opened[1]["head"].rpartition("/")[0] == first.rpartition("/")[0]

    team.push("main", "main", lambda desk: _other_base(desk, ">-\n    "))
    broken = migrate()
    proposed(broken, 2, passed=False)
    assert "specs/third.yaml:5:14: spec.baseModel: its value spans several lines" in broken.log
    team.push("main", "main", lambda desk: _other_base(desk, ""))
    proposed(migrate(), 3)


def _other_base(desk: Cli, before: str) -> None:
    """Another base model is retired soon, and its manifest is written in another way."""
    base = "models/gemini-3.5-flash-lite"
    desk.manifest("third", base=f"{before}{base}")
    catalog = (desk.specs / "models.toml").read_text().partition(f'[models."{base}"]')[0]
    day = datetime.now(UTC).date()
    (desk.specs / "models.toml").write_text(f'{catalog}[models."{base}"]\nretirement = {day}\nsuccessor = "{_NEW}"\n')
