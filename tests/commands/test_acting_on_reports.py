"""Who made a report and from which commit, who decided what and why, and what is pending or was changed elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.commands._run_info import Run
from reconciler.emulator.app import create_app
from reconciler.emulator.training import TrainingPace
from reconciler.environment import Environment
from reconciler.redaction import redact_arguments, secrets_of
from support.cases import each_row
from support.cli_world import Cli, Clock
from support.git_repository import Repository
from support.render_values import held_to

HOSTILE = "::error::<b>|`x`\x1b[31m\u202e @octocat"
"""What tries to be a workflow command, HTML, a cell, code, a color, text from right to left and a mention."""
SHA = "0123456789abcdef0123456789abcdef01234567"
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": SHA,
    "GITHUB_REF_NAME": "12/merge",
    "GITHUB_HEAD_REF": "topic",
    "GITHUB_ACTOR": "ada",
    "USER": "runner",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": SHA,
    "CI_COMMIT_REF_NAME": "topic",
    "GITLAB_USER_LOGIN": "ada",
    "USER": "root",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("git"))
    (repository.folder / "file").write_text("text")
    repository("config", "user.name", HOSTILE)
    repository.commit()
    return repository


def run_of(folder: Path, environ: dict[str, str], *arguments: str) -> tuple[str, str, str]:
    info = Run(Environment(cwd=folder, environ=environ, clock=Clock()), arguments).info
    assert info.time == "2026-01-01T12:00:00Z"
    return info.commit, info.branch, info.actor


@each_row(
    ("environ", "expected"),
    [
        (GITHUB, (SHA, "topic", "ada")),
        ({**GITHUB, "GITHUB_HEAD_REF": "", "GITHUB_TRIGGERING_ACTOR": "eve"}, (SHA, "12/merge", "eve")),
        (GITLAB, (SHA, "topic", "ada")),
        ({**GITLAB, "GITLAB_CI": "no"}, ("", "", "root")),
        ({**GITHUB, "GITHUB_SHA": "$(reboot)"}, ("", "topic", "ada")),
        (
            {**GITHUB, "GITHUB_HEAD_REF": HOSTILE, "GITHUB_ACTOR": "a\nb"},
            (SHA, r"::error::<b>|`x`\x1b[31m\u202e @octocat", "a b"),
        ),
        ({**GITHUB, "GITHUB_HEAD_REF": "x" * 999}, (SHA, "x" * 199 + "…", "ada")),
        ({"LOGNAME": "ada"}, ("", "", "ada")),
        ({}, ("", "", "")),
    ],
)
def test_commit_branch_and_user_come_from_the_environment(
    tmp_path: Path, environ: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert run_of(tmp_path, environ) == expected


def test_without_ci_they_come_from_git(repository: Repository, tmp_path: Path) -> None:
    head, path = repository("rev-parse", "HEAD").strip(), {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull}
    shown = r"::error::<b>|`x`\x1b[31m\u202e @octocat"
    assert run_of(repository.folder, path) == (head, "main", shown)
    assert run_of(repository.folder, {"PATH": os.devnull, "USER": "ada"}) == (head, "main", "ada"), (
        "git is not installed"
    )
    copy = repository.copy(tmp_path / "copy")
    copy("pack-refs", "--all")
    copy("worktree", "add", "--quiet", "-b", "wip/<b>", str(tmp_path / "linked"))
    assert run_of(copy.folder, path) == (head, "main", shown)
    assert run_of(tmp_path / "linked", path) == (head, "wip/<b>", shown)
    without_git, new = {"PATH": os.devnull, "USER": "ada"}, tmp_path / "new"
    new.mkdir()
    assert run_of(copy.folder, without_git) == (head, "main", "ada"), "a packed branch is read without git, too"
    assert run_of(Repository(new).folder, path)[:2] == ("", "main"), "before the first commit"
    copy("checkout", "--quiet", "--detach")
    assert run_of(copy.folder, path)[:2] == (head, "")


@each_row(
    ("argument", "shown"),
    [
        ("--only=adder", "--only=adder"),
        ("API_TOKEN=abc", "API_TOKEN=[secret]"),
        ("--notify-env=SLACK_TOKEN", "--notify-env=SLACK_TOKEN"),
        ("https://ada:pass@example.com/x", "https://[secret]@example.com/x"),
        ("https://example.com/x?X-Goog-Signature=abc&page=2", "https://example.com/x?X-Goog-Signature=[secret]&page=2"),
        ("ghp_0123456789abcdefghij", "[secret]"),
    ],
)
def test_a_command_line_has_no_secrets(argument: str, shown: str) -> None:
    assert redact_arguments(["plan", argument]) == ["plan", shown]
    with secrets_of({"MY_PASSWORD": "swordfish-1"}):
        environment = Environment(cwd=Path("/"), environ={}, clock=Clock())
        command = Run(environment, ("prompt", "adder", "swordfish-1")).info.command
    assert command == "reconcile prompt adder '[secret]'"


def changed_at_the_service(reconcile: Cli, body: dict[str, Any]) -> None:
    """Let another user change the model on the embedded service."""
    store = reconcile.specs / ".reconcile" / "default.sqlite3"
    noise = random.Random(8)  # noqa: S311 - reproducible, and no secret
    app = create_app(store=store, clock=reconcile.clock, random=noise, settings=TrainingPace(step_seconds=1.65))
    remote = reconcile.lock["adder"]["generations"][0]["remote"]

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.patch(f"/v1beta3/{remote}", params={"updateMask": ",".join(body)}, json=body)

    assert asyncio.run(send()).status_code == 200


def told(reconcile: Cli, *arguments: str, status: int = 0) -> str:
    answer = reconcile(*arguments)
    assert answer.status == status, answer.err
    return answer.out


def test_a_story_of_reports_that_people_act_on(reconcile: Cli) -> None:
    repository, folder = Repository(reconcile.folder), reconcile.folder
    repository("config", "user.name", HOSTILE)
    reconcile.environ |= {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull}
    (folder / ".gitignore").write_text(".reconcile/\n*.md\n*.html\n*.xml\n*.json\n!*.lock.json\n")
    reconcile.manifest("adder", more="  displayName: adds\n")
    told(reconcile, "apply", "--yes")
    first = repository.commit()

    # the manifest is ahead, and another user changed what it had declared
    changed_at_the_service(reconcile, {"description": "edited"})
    reconcile.manifest("adder", more="  displayName: adds one\n  description: ''\n")
    told(reconcile, "apply", "--yes")
    changed_at_the_service(reconcile, {"displayName": "mine"})
    reconcile.manifest("adder", epochs=3, more="  displayName: adds one\n  description: sums\n")
    reports = [str(folder / f"drift.{face}") for face in ("json", "md", "html", "xml")]
    told(reconcile, "drift", *(part for report in reports for part in ("--report", report)), status=2)
    drift = held_to("drift", json.loads(Path(reports[0]).read_text()))
    causes = {finding["field"]: finding["cause"] for finding in drift["findings"]}
    assert causes == {"hyperparameters.epochCount": "pending", "displayName": "outOfBand", "description": "pending"}
    assert (drift["summary"], drift["pending"], drift["outOfBand"]) == ({"Outdated": 1, "Modified": 1}, 1, 1)
    shown = r"::error::<b>|`x`\x1b[31m\u202e @octocat"
    run = drift["run"]
    assert (run["commit"], run["branch"], run["actor"]) == (first, "main", shown)
    for report in reports[1:]:
        text = Path(report).read_text()
        assert first in text
        assert not {"\x1b", "\u202e"} & set(text)
        assert "<b>" not in text.replace("`::error::<b>`", "")  # GitHub shows it as code

    told(reconcile, "plan", "--report", str(folder / "plan.md"))
    before = reconcile.lock["adder"]["serving"]
    row = next(line for line in (folder / "plan.md").read_text().splitlines() if line.startswith("| 🔷 create"))
    assert f"`{before}` → " in row
    assert "epochCount 2 → 3; " in row.replace("`", "")

    # people decide, and the lockfile keeps who, when, at which commit and why
    told(reconcile, "apply", "--yes")
    second, after = repository.commit(), reconcile.lock["adder"]["serving"]
    told(reconcile, "rollback", "adder", "--reason", "answers in French")
    told(reconcile, "promote", "adder", "--reason", "it was English | <b>")
    (reconcile.specs / "adder.yaml").unlink()
    repository.commit()
    assert "orphaned  no manifest declares it; run reconcile forget adder" in told(reconcile, "status")
    assert "warning: no manifest declares adder; run reconcile prune --dry-run" in reconcile("list").err
    assert told(reconcile, "targets").count("run reconcile") == 1
    told(reconcile, "forget", "adder", "--yes", "--reason", "moved")
    history = held_to("history", json.loads(told(reconcile, "history", "--format", "json")))
    decided = [
        (one["action"], one.get("before"), one.get("generation"), one["commit"] == second, one["reason"])
        for one in history["decisions"]
    ]
    assert decided == [
        ("forget", after, None, False, "moved"),
        ("promote", before, after, True, "it was English | <b>"),
        ("rollback", after, before, True, "answers in French"),
    ]
    assert {one["actor"] for one in history["decisions"]} == {shown}
    lines = told(reconcile, "history", "adder").splitlines()
    assert f"  rollback  {after} → {before} by {shown} at {second[:12]}: answers in French" in lines[-2]
