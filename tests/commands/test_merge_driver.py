"""Two branches that each train something, brought together by real git: with the merge driver, and without it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cases import slow_except
from support.cli_world import Cli
from support.fork_server import forked
from support.git_repository import Repository
from support.render_values import held_to

SLOW = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "lockfile.md"
LOCK = "specs/reconcile.lock.json"
WAYS = (("merge", "--no-edit", "theirs"), ("rebase", "theirs"), ("cherry-pick", "theirs"))
STYLES = pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])


def documented(language: str, start: str) -> str:
    """The line that the page on the lockfile tells people to configure git with."""
    blocks = re.findall(rf"^```{language}\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (line,) = [block for block in blocks if block.startswith(start)]
    return str(line)


def trained(reconcile: Cli, *names: str, epochs: int = 2) -> None:
    for name in names:
        reconcile.manifest(name, epochs=epochs)
    answer = reconcile("apply", "--yes")
    assert answer.status == 0, answer.out + answer.err


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Repository]:
    """Two branches: both train the adder further, and each of them a model of its own; tests copy them.

    Ours is checked out. The service is one, and not in git.
    """
    reconcile = Cli(tmp_path_factory.mktemp("branches"))
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\nbin/\n")
    trained(reconcile, "adder", "mean")
    repository.commit()
    repository("switch", "--quiet", "--create", "theirs")
    trained(reconcile, "nose")
    trained(reconcile, "adder", epochs=3)
    repository.commit()
    repository("switch", "--quiet", "main")
    reconcile.clock.now = reconcile.clock.now.replace(hour=14)
    trained(reconcile, "lips", "adder", epochs=4)
    repository.commit()
    return reconcile, repository


@pytest.fixture
def repository(reconcile: Cli, branches: tuple[Cli, Repository]) -> Repository:
    before, repository = branches
    reconcile.clock.now = before.clock.now
    return repository.copy(reconcile.folder)


@pytest.fixture
def driver(reconcile: Cli, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The repository with the configuration that the documentation tells."""
    command = reconcile.folder / "bin" / "reconcile"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(forked("-m", "reconciler"))} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    (reconcile.folder / ".gitattributes").write_text(f"{documented('gitattributes', '')}\n")
    configured = documented("sh", "git config")
    subprocess.run(configured, shell=True, cwd=reconcile.folder, check=True)  # noqa: S602 - a line of our own page
    return repository


def bring_together(repository: Repository, way: tuple[str, ...]) -> bool:
    """Whether git brought the branches together by itself; only the manifest of the adder is in its way."""
    try:
        repository(*way)
    except subprocess.CalledProcessError:
        unmerged = set(repository("diff", "--name-only", "--diff-filter=U").split())
        assert "specs/adder.yaml" in unmerged
        return LOCK not in unmerged
    raise AssertionError("both branches changed the adder")


def models(reconcile: Cli) -> dict[str, Any]:
    whole = json.loads(reconcile.lock_file.read_text())
    held_to("lock", whole)
    return dict(whole["models"])


def everything_is_there(reconcile: Cli, repository: Repository) -> None:
    found = models(reconcile)
    assert {name: len(one["generations"]) for name, one in found.items()} == {
        "adder": 3,
        "lips": 1,
        "mean": 1,
        "nose": 1,
    }
    newest = found["adder"]["generations"][0]
    assert found["adder"]["serving"] == newest["key"]
    assert newest["hyperparameters"]["declared"]["epochCount"] == 4
    reconcile.manifest("adder", epochs=4)  # somebody decides
    repository("add", "--all")
    assert reconcile("refresh", "--check").status == 0
    assert reconcile("validate", "--locked").status == 0
    assert reconcile("apply", "--yes").out.startswith("No changes. 4 models match their manifests")


# with the driver


@pytest.mark.parametrize("way", [WAYS[0], *(pytest.param(way, marks=SLOW) for way in WAYS[1:])])
def test_the_driver_unites_both_sides(reconcile: Cli, driver: Repository, way: tuple[str, ...]) -> None:
    assert bring_together(driver, way)
    everything_is_there(reconcile, driver)


@SLOW
def test_the_driver_prints_its_notes_and_reads_no_target(reconcile: Cli, driver: Repository) -> None:
    (reconcile.specs / "reconcile.yaml").write_text("nonsense")
    driver.commit()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        driver("merge", "theirs")
    assert "note: adder: the sides promoted different generations, adder-" in caught.value.stdout + caught.value.stderr
    assert LOCK not in driver("diff", "--name-only", "--diff-filter=U")


@SLOW
def test_a_driver_that_cannot_merge_leaves_a_conflict_that_refresh_resolves(reconcile: Cli, driver: Repository) -> None:
    before = reconcile.lock_file.read_bytes()
    driver("config", "merge.reconcile.driver", "false")
    assert not bring_together(driver, ("merge", "theirs"))
    assert reconcile.lock_file.read_bytes() == before
    reconcile.manifest("adder", epochs=4)
    answer = reconcile("refresh")
    assert answer.status == 0, answer.err
    assert f"{LOCK} was merged; run git add {LOCK}." in answer.out
    everything_is_there(reconcile, driver)


@SLOW
def test_a_resolved_conflict_is_not_merged_again(reconcile: Cli, repository: Repository) -> None:
    assert not bring_together(repository, ("merge", "theirs"))
    repository("checkout", "--theirs", LOCK)
    theirs = reconcile.lock_file.read_bytes()
    reconcile.manifest("adder", epochs=3)
    answer = reconcile("refresh", "--dry-run", "--format", "json")
    assert answer.status == 0, answer.err
    assert answer.document["merged"] is False
    assert reconcile.lock_file.read_bytes() == theirs


# without


@pytest.mark.parametrize(
    ("way", "style"),
    slow_except(
        [*((way, "merge") for way in WAYS), (WAYS[0], "diff3"), (WAYS[0], "zdiff3")],
        (WAYS[0], "merge"),
    ),
)
def test_markers_are_resolved_by_refresh(
    reconcile: Cli, repository: Repository, way: tuple[str, ...], style: str
) -> None:
    repository("config", "merge.conflictStyle", style)
    assert not bring_together(repository, way)
    refused = reconcile("status", "specs/mean.yaml")
    assert refused.status == 1
    assert re.fullmatch(rf"{LOCK}:\d+:1: contains git conflict markers; run reconcile refresh.*\n", refused.err)
    reconcile.manifest("adder", epochs=4)

    looked = reconcile("refresh", "--check", "--format", "json")
    answer = reconcile("refresh")

    assert looked.status == 2, looked.err
    document = held_to("refresh", looked.document)
    assert (document["merged"], document["written"], document["models"]) == (True, False, [])
    assert answer.status == 0, answer.err
    assert f"{LOCK} was merged; run git add {LOCK}. 0 models changed since the merge.\n" in answer.out
    assert "note: adder: the sides promoted different generations, adder-" in answer.out
    everything_is_there(reconcile, repository)


@STYLES
@SLOW
def test_markers_are_read_without_git(
    reconcile: Cli, repository: Repository, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository("config", "merge.conflictStyle", style)
    assert not bring_together(repository, ("merge", "theirs"))
    repository("add", "--all")
    monkeypatch.setenv("PATH", "")
    reconcile.manifest("adder", epochs=4)
    answer = reconcile("refresh")
    assert answer.status == 0, answer.err
    unknown = "note: the common ancestor is unknown, so models that one side removed are restored\n"
    assert (unknown in answer.out) == (style != "diff3")
    assert set(models(reconcile)) == {"adder", "lips", "mean", "nose"}


@SLOW
def test_a_model_that_one_side_removed_stays_removed(reconcile: Cli, repository: Repository) -> None:
    whole = json.loads(reconcile.lock_file.read_text())
    del whole["models"]["mean"]
    reconcile.lock_file.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
    (reconcile.specs / "mean.yaml").unlink()
    repository.commit()
    assert not bring_together(repository, ("merge", "theirs"))
    reconcile.manifest("adder", epochs=4)
    assert reconcile("refresh").status == 0
    assert set(models(reconcile)) == {"adder", "lips", "nose"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("embedded", "vertex"),
            "the sides of this merge differ in the provider of their target: embedded and vertex; take",
        ),
        (('"version": 1', '"version": 2'), "this reconcile reads up to version 1; upgrade reconcile\n"),
        (('"models"', '"modles"'), ":1:1: not a lockfile; take one side (`git checkout --ours"),
    ],
)
@SLOW
def test_sides_that_cannot_be_merged_are_an_error(
    reconcile: Cli, repository: Repository, change: tuple[str, str], message: str
) -> None:
    repository("switch", "--quiet", "theirs")
    reconcile.lock_file.write_text(reconcile.lock_file.read_text().replace(*change))
    repository.commit()
    repository("switch", "--quiet", "main")
    assert not bring_together(repository, ("merge", "theirs"))
    before = reconcile.lock_file.read_bytes()
    answer = reconcile("refresh")
    assert answer.status == 1
    assert message in answer.err
    assert reconcile.lock_file.read_bytes() == before


# the driver by hand


def versions(reconcile: Cli, repository: Repository) -> tuple[Path, Path, Path]:
    """The lockfile of the common ancestor, of ours and of theirs, as git hands them to a driver."""
    base = repository("merge-base", "main", "theirs").strip()
    files = reconcile.folder / "base", reconcile.folder / "ours", reconcile.folder / "theirs"
    for file, commit in zip(files, (base, "main", "theirs"), strict=True):
        file.write_text(repository("show", f"{commit}:{LOCK}"))
    return files


@SLOW
def test_the_driver_merges_three_files(reconcile: Cli, repository: Repository) -> None:
    base, ours, theirs = versions(reconcile, repository)
    base.write_text("")  # as git has it where both sides added the file
    answer = reconcile("refresh", "--merge", str(base), str(ours), str(theirs))
    assert (answer.status, answer.out) == (0, "")
    assert answer.err.startswith("note: adder: the sides promoted different generations, ")
    assert set(json.loads(ours.read_text())["models"]) == {"adder", "lips", "mean", "nose"}
    assert reconcile("refresh", "-q", "--merge", str(base), str(ours), str(theirs)).err == ""


@pytest.mark.parametrize(
    ("broken", "change", "message"),
    [
        (
            2,
            ("embedded", "vertex"),
            "the sides of this merge differ in the provider of their target: embedded and vertex; ",
        ),
        (
            2,
            ('"version": 1', '"version": 2'),
            "the other version:{line}:14: unsupported version 2: this reconcile reads up to version 1; upgrade",
        ),
        (1, ('"models"', ""), "the current version:2:3: invalid JSON: expected "),
        (0, ('"models"', '"modles"'), "the common ancestor:1:1: not a lockfile; take one side"),
    ],
)
@SLOW
def test_files_that_cannot_be_merged_are_an_error(
    reconcile: Cli, repository: Repository, broken: int, change: tuple[str, str], message: str
) -> None:
    files = versions(reconcile, repository)
    files[broken].write_text(files[broken].read_text().replace(*change))
    before = [file.read_bytes() for file in files]
    line = before[broken].partition(b'"version"')[0].count(b"\n") + 1
    answer = reconcile("refresh", "--merge", *map(str, files))
    assert (answer.status, answer.out) == (1, "")
    assert message.format(line=line) in answer.err
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("more", [["specs"], ["--check"], ["--dry-run"]])
@SLOW
def test_a_driver_takes_nothing_else(reconcile: Cli, more: list[str]) -> None:
    file = str(reconcile.specs / "reconcile.yaml")
    answer = reconcile("refresh", "--merge", file, file, file, *more)
    assert answer.status == 64
    assert "--merge excludes --check, --dry-run, --accept-missing and PATHS; remove them" in answer.err


@SLOW
def test_a_file_that_is_not_there_is_wrong_usage(reconcile: Cli) -> None:
    answer = reconcile("refresh", "--merge", "a", "b", "c")
    assert answer.status == 64
    assert "File 'a' does not exist" in answer.err
