"""plan --base: what a pull request changes in data sets, against real commits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.cli_world import EXAMPLES, Cli
from support.git_repository import Repository
from support.render_values import held_to

CHANGED = [*EXAMPLES[2:19], ("19", "twenty"), *((str(number), str(number + 1)) for number in range(20, 34))]
"""EXAMPLES without the first two, with another output for one of them, and with 14 more."""
HELD_OUT = "  checks: [{name: unseen, dataset: {path: unseen.csv, metric: exactMatch, minimum: 0.5}}]\n"


@pytest.fixture
def repository(reconcile: Cli) -> Repository:
    """The project as a repository of one commit: the manifest of an adder and its data set."""
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.manifest("adder")
    repository.commit()
    return repository


def plan(reconcile: Cli, *arguments: str, base: str = "HEAD") -> dict[str, Any]:
    """The plan's document, which its schema was held to."""
    answer = reconcile("plan", "--base", base, "--format", "json", *arguments)
    assert answer.status in {0, 1}, answer.err  # 1 where data cannot be had offline
    return held_to("plan", answer.document)


def changes(reconcile: Cli, *arguments: str, base: str = "HEAD") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plan(reconcile, *arguments, base=base)["dataChanges"]
    return found


@pytest.mark.usefixtures("repository")
def test_a_pull_request_shows_what_it_changes_in_a_data_set(reconcile: Cli) -> None:
    reconcile.manifest("adder", examples=CHANGED)
    answer = reconcile("plan", "--base", "HEAD")
    assert answer.status == 0, answer.err
    assert [line for line in answer.out.splitlines() if line.startswith(("Data", "    adder", "    " * 6))] == [
        "Data changes since HEAD:",
        "    adder                adder.csv: +14 −2 ~1 examples",  # noqa: RUF001 - as it is printed
        "                         + 20: 21",
        "                         + 21: 22",
        "                         + 22: 23",
        "                         − 0: 1",  # noqa: RUF001 - as it is printed
        "                         − 1: 2",  # noqa: RUF001 - as it is printed
        "                         ~ 19: 20 → twenty",
    ]


def test_the_document_names_the_commit_and_keeps_the_samples(reconcile: Cli, repository: Repository) -> None:
    reconcile.manifest("adder", examples=[*EXAMPLES, ("7", "8"), ("8", "eight")])
    document = plan(reconcile)
    assert document["base"] == {"ref": "HEAD", "commit": repository("rev-parse", "HEAD").strip()}
    assert document["dataChanges"] == [
        {
            "name": "adder",
            "use": "training",
            "path": "adder.csv",
            "added": 2,
            "removed": 0,
            "changed": 0,
            "duplicates": 1,
            "contradictions": 1,
            "samples": [
                {"change": "added", "input": "7", "output": "8"},
                {"change": "added", "input": "8", "output": "eight"},
                {"change": "duplicate", "input": "7", "output": "8"},
                {"change": "contradiction", "input": "8", "outputs": ["9", "eight"]},
            ],
        }
    ]


@pytest.mark.usefixtures("repository")
def test_unchanged_data_sets_are_reported(reconcile: Cli) -> None:
    reconcile.manifest("adder", epochs=3)
    assert changes(reconcile, "--offline") == []
    assert "Data sets: same as in HEAD" in reconcile("plan", "--base", "HEAD").out


def test_old_problems_are_not_reported_again(reconcile: Cli, repository: Repository) -> None:
    odd = [*EXAMPLES, ("7", "8"), ("8", "eight")]
    reconcile.manifest("adder", examples=odd)
    repository.commit()
    reconcile.manifest("adder", examples=[*odd, ("40", "41")])
    (change,) = changes(reconcile)
    assert (change["added"], "duplicates" in change, "contradictions" in change) == (1, False, False)


@pytest.mark.usefixtures("repository")
def test_a_new_data_set_of_a_new_manifest(reconcile: Cli) -> None:
    reconcile.manifest("doubler", examples=[*EXAMPLES, EXAMPLES[0]])
    (change,) = changes(reconcile)
    assert (change["name"], change["added"], change["removed"], change["duplicates"]) == ("doubler", 21, 0, 1)
    assert change["note"] == "new data set, 21 examples"


@pytest.mark.usefixtures("repository")
def test_another_order_or_preamble_trains_again(reconcile: Cli) -> None:
    reconcile.manifest("adder", examples=EXAMPLES[::-1])
    (change,) = changes(reconcile)
    assert (change["added"], change["note"]) == (0, "the same examples in another order")
    file = reconcile.manifest("adder")
    file.write_text(file.read_text().replace("adder.csv}", 'adder.csv, preamble: "Add. "}'))
    (change,) = changes(reconcile)
    assert (change["changed"], change["note"]) == (0, "the preamble changed, and so does every input")


@pytest.mark.usefixtures("repository")
def test_a_renamed_data_set_is_followed_by_the_manifest(reconcile: Cli) -> None:
    file = reconcile.manifest("adder", examples=EXAMPLES[:18])
    (reconcile.specs / "adder.csv").rename(reconcile.specs / "sums.csv")
    file.write_text(file.read_text().replace("adder.csv", "sums.csv"))
    (change,) = changes(reconcile)
    assert (change["path"], change["removed"], change["note"]) == ("sums.csv", 2, "at HEAD it was adder.csv")


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("formerly", ["", ", formerly: [adder]"])
def test_a_renamed_manifest_is_compared_with_its_file(reconcile: Cli, formerly: str) -> None:
    file = reconcile.manifest("adder", examples=EXAMPLES[1:])
    file.write_text(file.read_text().replace("{name: adder}", f"{{name: sums{formerly}}}"))
    (change,) = changes(reconcile)
    assert (change["name"], change["added"], change["removed"]) == ("sums", 0, 1)
    expected = "" if formerly else "no manifest had this name at HEAD; compared with the file at HEAD"
    assert change.get("note", "") == expected


@pytest.mark.usefixtures("repository")
def test_a_manifest_that_moved_is_found_in_its_old_file(reconcile: Cli) -> None:
    file = reconcile.manifest("adder", examples=EXAMPLES[1:])
    moved = reconcile.specs / "sums"
    moved.mkdir()
    for path in (file, file.with_suffix(".csv")):
        path.rename(moved / path.name)
    (change,) = changes(reconcile)
    assert (change["path"], change["removed"], change["note"]) == ("sums/adder.csv", 1, "at HEAD it was adder.csv")


def test_inline_examples_are_compared_too(reconcile: Cli, repository: Repository) -> None:
    def write(*outputs: str) -> None:
        rows = ", ".join(f'{{input: "{number}", output: "{wanted}"}}' for number, wanted in enumerate(outputs))
        file = reconcile.manifest("adder")
        file.write_text(file.read_text().replace("{path: adder.csv}", f"{{examples: [{rows}]}}"))

    write("1", "2", "3")
    repository.commit()
    write("1", "two", "3", "4")
    (change,) = changes(reconcile)
    assert "path" not in change
    assert (change["added"], change["changed"]) == (1, 1)


def test_leakage_into_held_out_data_is_new_only_once(reconcile: Cli, repository: Repository) -> None:
    unseen = reconcile.specs / "unseen.csv"
    unseen.write_text("text_input,output\n40,41\n41,42\n5,6\n")
    reconcile.manifest("adder", more=HELD_OUT)
    training, new = changes(reconcile)
    assert (training["added"], training["leaked"]) == (0, 1)
    assert (new["use"], new["check"], new["note"]) == ("check", "unseen", "new data set, 3 examples")
    repository.commit()
    reconcile.manifest("adder", examples=[*EXAMPLES, ("41", "42")], more=HELD_OUT)
    (change,) = changes(reconcile)
    assert (change["added"], change["leaked"]) == (1, 1)
    assert change["samples"][-1] == {"change": "leaked", "check": "unseen", "input": "41"}
    assert "1 held-out input is in the training data" in reconcile("plan", "--base", "HEAD").out
    reconcile.manifest("adder", more=HELD_OUT)
    unseen.write_text(unseen.read_text() + "6,7\n")
    training, held_out = changes(reconcile)
    assert (training["use"], training["leaked"]) == ("training", 1)
    assert (held_out["use"], held_out["added"]) == ("check", 1)


@pytest.mark.usefixtures("repository")
def test_where_examples_are_not_shown_the_counts_remain(reconcile: Cli) -> None:
    reconcile.target("  policy: {showExamples: false}\n")
    reconcile.manifest("adder", examples=[*EXAMPLES[:19], ("19", "twenty"), ("7", "8")])
    assert changes(reconcile) == [
        {
            "name": "adder",
            "use": "training",
            "path": "adder.csv",
            "added": 1,
            "removed": 0,
            "changed": 1,
            "duplicates": 1,
        }
    ]


def test_a_manifest_that_was_not_valid_then_is_not_compared(reconcile: Cli, repository: Repository) -> None:
    reconcile.manifest("adder", epochs=-1)
    repository.commit()
    reconcile.manifest("adder")
    (change,) = changes(reconcile)
    assert "added" not in change
    assert change["note"].startswith("not compared: the manifest at HEAD is invalid: adder.yaml:7:33: ")


@pytest.mark.usefixtures("repository")
def test_an_unknown_reference_is_wrong_usage(reconcile: Cli) -> None:
    for ref in ("nowhere", "--all", "HEAD~7", "HEAD:specs", ""):
        answer = reconcile("plan", "--base", ref)
        assert answer.status == 64
        assert answer.err == (
            f"Error: --base {ref}: no such commit in this repository; pass a branch, a tag or a commit, and fetch it"
            " first\n"
        )


def note(reconcile: Cli, base: str = "HEAD") -> str:
    """Why nothing was compared; the plan is made all the same."""
    document = plan(reconcile, base=base)
    assert (document["base"], document["dataChanges"], document["changes"]) == ({"ref": base}, [], True)
    (notice,) = document["notices"]
    assert isinstance(notice, str)
    return notice


def test_a_plan_without_git_has_a_notice(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    assert (
        note(reconcile)
        == f"the lockfile and the data sets are not compared with HEAD: {reconcile.specs} is not in a git repository;"
        " use a clone, or remove --base"
    )
    Repository(reconcile.folder)
    reconcile.environ["PATH"] = str(reconcile.folder)
    assert note(reconcile).endswith(
        "git is not installed, or cannot read this repository; install git, and check the permissions of .git"
    )


def test_a_shallow_clone_names_what_to_fetch(
    reconcile: Cli, repository: Repository, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    first = repository("rev-parse", "HEAD").strip()
    reconcile.manifest("adder", examples=CHANGED)
    repository.commit()
    folder = tmp_path_factory.mktemp("clone")
    repository.clone(folder, "--depth", "1")
    shallow = Cli(folder, capsys)
    shallow.environ["PATH"] = os.environ["PATH"]
    assert note(shallow, first) == (
        f"the lockfile and the data sets are not compared with {first}: this clone is shallow and does not contain"
        f" {first}; fetch it (actions/checkout: fetch-depth: 0)"
    )
    assert changes(shallow) == []


def test_a_pointer_of_git_lfs_is_reported(reconcile: Cli, repository: Repository) -> None:
    data = reconcile.specs / "adder.csv"
    whole = data.read_text()
    data.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n")
    repository.commit()
    data.write_text(whole)
    (change,) = changes(reconcile)
    assert "Git LFS" in change["note"]


def test_a_data_set_outside_the_root_is_found(reconcile: Cli, repository: Repository) -> None:
    file = reconcile.manifest("adder")
    data = reconcile.folder / "data.csv"
    (reconcile.specs / "adder.csv").rename(data)
    file.write_text(file.read_text().replace("adder.csv", "../data.csv"))
    repository.commit()
    data.write_text(data.read_text() + "40,41\n")
    (change,) = changes(reconcile)
    assert (change["path"], change["added"]) == ("../data.csv", 1)


def test_manifests_on_standard_input_are_compared_with_their_files(reconcile: Cli, repository: Repository) -> None:
    file = reconcile.manifest("adder", examples=EXAMPLES[1:])
    text = file.read_text().replace("adder.csv", "specs/adder.csv").replace("name: adder", "name: built")
    file.unlink()
    repository("checkout", "HEAD", "--", "specs/adder.yaml")
    Path(reconcile.specs / "reconcile.yaml").rename(reconcile.folder / "reconcile.yaml")
    answer = reconcile("plan", "-", "--base", "HEAD", "--format", "json", stdin=text.encode())
    assert answer.status == 0, answer.err
    (change,) = answer.document["dataChanges"]
    assert (change["name"], change["removed"]) == ("built", 1)


VERTEX = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: cloud}
spec: {provider: vertex, scope: demo, project: my-project, location: europe-west4, bucket: gs://acme-data}
"""


def test_data_in_cloud_storage_are_not_compared_and_validation_data_are(reconcile: Cli, repository: Repository) -> None:
    (reconcile.specs / "reconcile.cloud.yaml").write_text(VERTEX)
    validation = reconcile.specs / "validation.csv"
    validation.write_text("text_input,output\n40,41\n")
    block = "  vertex:\n    baseModel: gemini-2.5-flash\n    hyperparameters: {epochCount: 2}\n"
    more = f"{block}    validationDataset: {{path: validation.csv}}\n"
    file = reconcile.manifest("adder", more=more)
    text = file.read_text()
    repository.commit()

    def cloud() -> list[dict[str, Any]]:
        return changes(reconcile, "--offline", "--target", "cloud")

    assert cloud() == []
    validation.write_text("text_input,output\n40,41\n41,42\n")
    file.write_text(text.replace("adder.csv", "gs://acme-data/adder.jsonl"))
    training, measured = cloud()
    assert training == {
        "name": "adder",
        "use": "training",
        "path": "gs://acme-data/adder.jsonl",
        "note": "data sets in Cloud Storage are not compared; at HEAD it was adder.csv",
    }
    assert (measured["use"], measured["path"], measured["added"]) == ("validation", "validation.csv", 1)
    repository.commit()
    assert cloud() == []
    file.write_text(text)
    (back,) = cloud()
    assert back["note"] == "data sets in Cloud Storage are not compared; at HEAD it was gs://acme-data/adder.jsonl"
