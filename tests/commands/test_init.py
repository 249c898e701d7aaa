"""init --ci: what it writes beside a new project or into an old one, and what it says is left to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.cli_world import Cli


@pytest.fixture
def empty(reconcile: Cli) -> Cli:
    """A folder without any target."""
    (reconcile.specs / "reconcile.yaml").unlink()
    reconcile.specs.rmdir()
    return reconcile


def _files(folder: Path) -> dict[str, bytes]:
    return {os.path.relpath(file, folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_new_project_gets_both(empty: Cli) -> None:
    made = empty("init", "--ci", "github", "--name", "support")

    assert made.status == 0, made.err
    assert "wrote specs/support.yaml\n" in made.out
    assert "wrote .github/workflows/reconcile-pull-request.yml\nwrote" in made.out
    assert "\nNext: reconcile plan specs\n" in made.out
    assert empty("validate").status == 0


def test_a_project_that_is_there_gets_the_workflows_alone(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.target("", "prod")
    before = _files(reconcile.folder)

    made = reconcile("init", "--ci", "github")
    more = reconcile("init", "--ci", "github", "--target", "prod")

    assert (made.status, more.status) == (0, 0), made.err + more.err
    added = _files(reconcile.folder).keys() - before.keys()
    names = ("pull-request", "locked", "settle", "merged", "drift")
    workflows = {f".github/workflows/reconcile-{name}{end}.yml" for name in names for end in ("", "-prod")}
    assert added == workflows | {".github/reconcile.txt"}
    assert {name: _files(reconcile.folder)[name] for name in before} == before
    assert made.out.endswith(
        "To set up, see docs/ci.md of reconcile:\n"
        "1. Write into .github/reconcile.txt what pip is to install reconcile from, pinned.\n"
        "2. Make the environment reconcile-train, with the reviewers who approve spending.\n"
        "3. Make the environment reconcile, for the branch main alone.\n"
        "4. Add a deploy key that may write; its private half is both environments' secret RECONCILE_DEPLOY_KEY.\n"
        "5. Let Google Cloud trust the repository: variables WORKLOAD_IDENTITY_PROVIDER, PLAN_ACCOUNT, APPLY_ACCOUNT.\n"
        "6. Have a ruleset of main require the check reconcile-locked; deploy keys bypass the ruleset.\n"
        "7. Switch the merge queue on, if you want one.\n"
        "8. Choose a service that jobs share: this target simulates, and what one job trains, no other sees.\n"
    )
    assert "the check reconcile-locked-prod;" in more.out
    assert "Next:" not in made.out


def test_gitlab(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    made = reconcile("init", "--ci", "gitlab")

    assert made.status == 0, made.err
    assert made.out.startswith("wrote .gitlab/reconcile.txt\nwrote .gitlab/reconcile.yml\n")
    assert "1. Include the file in .gitlab-ci.yml: include: [{local: .gitlab/reconcile.yml}].\n" in made.out


def test_the_manifests_may_stand_in_the_working_folder(reconcile: Cli) -> None:
    (reconcile.folder / ".git").mkdir()
    (reconcile.specs / "reconcile.yaml").rename(reconcile.folder / "reconcile.yaml")
    reconcile.specs.rmdir()

    assert reconcile("init", "--ci", "github").status == 0

    text = (reconcile.folder / ".github" / "workflows" / "reconcile-settle.yml").read_text(encoding="utf-8")
    assert 'SPECS: "."\n  LOCKFILE: "reconcile.lock.json"\n' in text


_NO_PROD = "there is no target prod: neither specs nor a folder above it holds reconcile.prod.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ci", "github", "--name", "x"],
            "--from and --name need a new project, but a target exists; remove them",
        ),
        (["--target", "prod"], "--target needs --ci; remove it, or add --ci github or --ci gitlab"),
        (["--ci", "github", "--target", "prod"], f"{_NO_PROD}; choose one that is there with --target: default"),
    ],
)
def test_invalid_arguments_are_usage_errors(reconcile: Cli, arguments: list[str], message: str) -> None:
    before = _files(reconcile.folder)

    answer = reconcile("init", *arguments)

    assert (answer.status, answer.err) == (64, f"Error: {message}\n")
    assert _files(reconcile.folder) == before


def test_a_target_with_problems(reconcile: Cli) -> None:
    reconcile.target("  lcok: x\n")

    answer = reconcile("init", "--ci", "github")

    assert answer.status == 1
    assert answer.err == "specs/reconcile.yaml:7:3: spec.lcok: is an unknown field; did you mean lock?\n"
