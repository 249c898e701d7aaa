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


def test_a_directory_with_a_target_is_not_changed(empty: Cli) -> None:
    (empty.folder / "reconcile.yaml").write_text("kind: Target\n")
    answer = empty("init")
    assert answer.status == 64
    assert "reconcile.yaml: this directory already has a target" in answer.err
    assert not (empty.folder / "specs").exists()


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
        "1. Write the requirements for pip to install reconcile, with hashes, into .github/reconcile.txt.\n"
        "2. Create the environment reconcile-train, with the reviewers who approve spending.\n"
        "3. Create the environment reconcile-decisions, with the reviewers who approve rollbacks.\n"
        "4. Create the environment reconcile, restricted to the branch main.\n"
        "5. Add a deploy key with write access, and set its private key as RECONCILE_DEPLOY_KEY in the environments "
        "reconcile-train and reconcile.\n"
        "6. Set up workload identity federation, and set the variables WORKLOAD_IDENTITY_PROVIDER, PLAN_ACCOUNT and "
        "APPLY_ACCOUNT.\n"
        "7. Require the check reconcile-locked in a ruleset of main that deploy keys bypass.\n"
        "8. Restrict what actions may do in the settings of the repository.\n"
        "9. Optional: enable the merge queue.\n"
        "10. Use a target of a real service: models on the embedded service are not shared between jobs.\n"
    )
    assert "the check reconcile-locked-prod in a ruleset" in more.out
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


_NO_PROD = 'target "prod" not found: no reconcile.prod.yaml in specs or a directory above it'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ci", "github", "--name", "x"],
            "--from and --name need a new project, but a target exists; remove them",
        ),
        (["--target", "prod"], "--target needs --ci; remove it, or add --ci github or --ci gitlab"),
        (["--ci", "github", "--target", "prod"], f"{_NO_PROD}; set --target to one of: default"),
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
    assert answer.err == 'specs/reconcile.yaml:7:3: spec.lcok: unknown field "lcok"; did you mean lock?\n'
