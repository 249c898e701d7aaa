"""history on the command line: generations of real runs, and what git still has of their data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.cli_world import EXAMPLES, Cli
from support.git_repository import Repository
from support.render_values import held_to

CHANGED = [*EXAMPLES[2:19], ("19", "twenty"), *((str(number), str(number + 1)) for number in range(20, 34))]
"""EXAMPLES without the first two, with another output for one of them, and with 14 more."""


def history_of(reconcile: Cli, *arguments: str) -> list[dict[str, Any]]:
    """The generations of the adder, from a document that its schema was held to."""
    answer = reconcile("history", "adder", *arguments, "--format", "json")
    assert answer.status == 0, answer.err
    generations: list[dict[str, Any]] = held_to("history", answer.document)["generations"]
    return generations


def counts(generation: dict[str, Any]) -> tuple[int, int, int] | None:
    """How many examples were added, removed and changed, if that is known."""
    found = generation["changes"]["dataset"].get("examples")
    return (found["added"], found["removed"], found["changed"]) if found else None


def applied(reconcile: Cli) -> None:
    answer = reconcile("apply", "--yes")
    assert answer.status == 0, answer.err


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Repository]:
    """A repository in which two generations were trained, each committed with its lockfile; tests copy it."""
    reconcile = Cli(tmp_path_factory.mktemp("committed"))
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.manifest("adder")
    applied(reconcile)
    repository.commit()
    reconcile.manifest("adder", epochs=3, examples=CHANGED)
    applied(reconcile)
    repository.commit()
    return reconcile, repository


@pytest.fixture
def repository(reconcile: Cli, committed: tuple[Cli, Repository]) -> Repository:
    before, repository = committed
    reconcile.clock.now = before.clock.now
    return repository.copy(reconcile.folder)


def test_generations_with_what_changed_between_them(reconcile: Cli, repository: Repository) -> None:
    shutil.rmtree(reconcile.specs / ".reconcile")  # no service is asked

    answer = reconcile("history", "adder")

    assert answer.status == 0, answer.err
    newest, oldest = (one["key"] for one in reconcile.lock["adder"]["generations"])
    lines = answer.out.splitlines()
    assert lines[:2] == [
        "Target default: embedded service (simulated training), scope demo",
        "adder (specs/adder.yaml): 2 generations, newest first",
    ]
    assert lines[2].startswith(f"  > {newest}       ACTIVE, serving since 2026-01-01 12:0")
    assert lines[5:7] == [
        "      changed            epochCount 2 → 3",
        "                         data set adder.csv: 20 → 32 examples; +14 −2 ~1",  # noqa: RUF001 - as it is printed
    ]
    assert lines[7].startswith(f"    {oldest}       ACTIVE")
    assert lines[-1] == "Recorded state of specs/reconcile.lock.json; the service was not queried."
    assert "~ 19: 20 → twenty" in reconcile("history", "adder", "-v").out

    (reconcile.specs / "adder.yaml").unlink()
    (reconcile.specs / "adder.csv").unlink()
    repository.commit()
    assert [counts(one) for one in history_of(reconcile)[:1]] == [(14, 2, 1)], "without the manifest"


def test_a_revert_and_an_uncommitted_training_are_shown(reconcile: Cli, repository: Repository) -> None:
    reconcile.manifest("adder", epochs=3, examples=EXAMPLES[:10])
    applied(reconcile)

    newest, middle, oldest = history_of(reconcile)

    assert (counts(newest), counts(middle)) == ((2, 24, 0), (14, 2, 1))
    assert "changes" not in oldest
    repository("checkout", "--quiet", "HEAD~1", "--", "specs/adder.csv", "specs/adder.yaml")
    applied(reconcile)
    assert [one.get("role") for one in history_of(reconcile)] == [None, None, "serving"]


def test_a_renamed_data_set_file(reconcile: Cli, repository: Repository) -> None:
    manifest = reconcile.specs / "adder.yaml"
    (reconcile.specs / "adder.csv").unlink()
    (reconcile.specs / "numbers.jsonl").write_text('{"text_input": "1", "output": "2"}\n' * 20)
    manifest.write_text(manifest.read_text().replace("adder.csv", "numbers.jsonl"))
    applied(reconcile)
    repository.commit()

    newest, middle, _ = history_of(reconcile)

    assert [newest["changes"]["dataset"][side]["path"] for side in ("before", "after")] == [
        "adder.csv",
        "numbers.jsonl",
    ]
    assert (counts(newest), counts(middle)) == ((20, 32, 0), (14, 2, 1))
    assert "data set adder.csv → numbers.jsonl: 32 → 20 examples; " in reconcile("history", "adder").out


@pytest.mark.usefixtures("repository")
def test_without_git_the_old_data_set_is_missing(reconcile: Cli) -> None:
    reconcile.environ["PATH"] = ""
    where = "examples not compared: the earlier data set is not available"
    assert f"data set adder.csv: 20 → 32 examples; {where}" in reconcile("history", "adder").out
    assert history_of(reconcile)[0]["changes"]["dataset"]["missing"] == ["before"]
    shutil.rmtree(reconcile.folder / ".git")
    (reconcile.specs / "adder.csv").unlink()
    assert "neither data set is available" in reconcile("history", "adder").out


def test_a_shallow_clone(repository: Repository, tmp_path: Path) -> None:
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    generations = history_of(Cli(clone.folder))
    assert (len(generations), counts(generations[0])) == (2, None)
    clone("fetch", "--quiet", "--unshallow")
    assert counts(history_of(Cli(clone.folder))[0]) == (14, 2, 1)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_hostile_lockfile_leads_nowhere(
    reconcile: Cli, repository: Repository, tmp_path: Path, *, everywhere: bool
) -> None:
    if everywhere:
        (reconcile.specs / "adder.yaml").unlink()
    before = sorted(tmp_path.rglob("*"))
    for path in ("../../etc/passwd", "--output=x", "/etc/passwd", ":/", "a\nb", "\0"):
        lock = json.loads(reconcile.lock_file.read_text())
        lock["models"]["adder"]["generations"][1]["dataset"]["path"] = path
        lock["models"]["adder"]["manifest"] = path if everywhere else "adder.yaml"
        reconcile.lock_file.write_text(json.dumps(lock))

        # While the manifest names the true path, the old data is found whatever the lockfile says.
        shown = reconcile("history", "adder", "--format", "json")
        assert (shown.status, shown.err) == (0, "")
        assert counts(shown.document["generations"][0]) == (None if everywhere else (14, 2, 1))
    assert reconcile("history", "adder").status == 0
    reconcile.lock_file.write_text(reconcile.lock_file.read_text().replace("\\u0000", "\\ud800"))
    refused = reconcile("history", "adder")
    assert (refused.status, refused.out) == (1, "")
    assert "half of a surrogate pair; run `git -C specs restore --source=HEAD -- " in refused.err
    assert sorted(tmp_path.rglob("*")) == before
    assert repository("status", "--porcelain").split()[-1].endswith("reconcile.lock.json")


def test_an_unknown_name_and_one_without_generations(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    unknown = reconcile("history", "addr")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err == (
        "Error: addr not found: no manifest and no model in specs/reconcile.lock.json has this name;"
        " did you mean adder?\n"
    )
    assert "known names: adder" in reconcile("history", "words").err
    assert "No generation of adder is recorded; run reconcile apply first." in reconcile("history", "adder").out
    assert history_of(reconcile, "specs") == []
    assert "No decision is recorded.\n" in reconcile("history").out


def test_a_repetition_that_is_under_way(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    applied(reconcile)
    answer = reconcile("apply", "--yes", "--no-wait", "--replace", "adder")
    assert answer.status == 0, answer.err

    newest, _ = history_of(reconcile)

    assert (newest["state"], newest["attempt"]) == ("CREATING", 1)
    assert "only the attempt: the same inputs were trained again" in reconcile("history", "adder").out


@pytest.mark.usefixtures("repository")
def test_a_rollback_is_shown_with_its_reason(reconcile: Cli) -> None:
    answer = reconcile("rollback", "adder", "--reason", "says twenty")
    assert answer.status == 0, answer.err

    newest, oldest = history_of(reconcile)

    assert (newest["role"], newest["rejection"], oldest["role"]) == ("rejected", "says twenty", "serving")
    assert "ACTIVE, rejected: says twenty" in reconcile("history", "adder").out
