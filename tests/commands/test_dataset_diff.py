"""plan --base: what a pull request changes in data sets, against real commits."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cases import slow_except
from support.cli_world import EXAMPLES, Cli
from support.git_repository import Repository
from support.render_values import held_to

CHANGED = [*EXAMPLES[2:19], ("19", "twenty"), *((str(number), str(number + 1)) for number in range(20, 34))]
"""EXAMPLES without the first two, with another output for one of them, and with 14 more."""
HELD_OUT = "  checks: [{name: unseen, dataset: {path: unseen.csv, metric: exactMatch, minimum: 0.5}}]\n"


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A project as a repository of one commit: the manifest of an adder and its data set."""
    reconcile = Cli(tmp_path_factory.mktemp("committed"))
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.manifest("adder")
    repository.commit()
    return repository


@pytest.fixture
def repository(reconcile: Cli, committed: Repository) -> Repository:
    return committed.copy(reconcile.folder)


def plan(reconcile: Cli, *arguments: str, base: str = "HEAD") -> dict[str, Any]:
    """The document of a plan without the service; in tests of the data alone, it has no live state."""
    answer = reconcile("plan", "--offline", "--base", base, "--format", "json", *arguments)
    assert answer.status in {0, 1}, answer.err  # 1 where data cannot be had offline
    return answer.document


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
    document = held_to("plan", plan(reconcile))
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
    assert changes(reconcile) == []
    assert "Data sets: same as in HEAD" in reconcile("plan", "--base", "HEAD").out


def test_several_files_are_compared_with_those_of_the_commit(reconcile: Cli, repository: Repository) -> None:
    file = reconcile.manifest("parts")
    file.write_text(file.read_text().replace("parts.csv", "parts-?.csv"))
    header, *rows = (reconcile.specs / "parts.csv").read_text().splitlines(keepends=True)
    (reconcile.specs / "parts-1.csv").write_text(header + "".join(rows[:9]))
    repository.commit()
    (reconcile.specs / "parts-2.csv").write_text(header + "".join(rows[9:]))

    (change,) = changes(reconcile)

    assert change["path"] == "parts-?.csv"
    assert (change["added"], change["removed"], change["changed"]) == (11, 0, 0)


def test_data_sets_are_compared_with_those_of_their_manifests(reconcile: Cli, repository: Repository) -> None:
    """One pull request with a change of each kind."""
    specs = reconcile.specs
    repeated = [*EXAMPLES, ("7", "8"), ("8", "eight")]

    def replace(name: str, old: str, new: str) -> None:
        file = specs / f"{name}.yaml"
        file.write_text(file.read_text().replace(old, new))

    def inline(*outputs: str) -> None:
        rows = ", ".join(f'{{input: "{number}", output: "{wanted}"}}' for number, wanted in enumerate(outputs))
        reconcile.manifest("inline")
        replace("inline", "{path: inline.csv}", f"{{examples: [{rows}]}}")

    for name in ("reordered", "prefaced", "elsewhere", "former", "other", "moved", "outside", "pointer"):
        reconcile.manifest(name)
    reconcile.manifest("repeated", examples=repeated)
    reconcile.manifest("invalid", epochs=-1)
    inline("1", "2", "3")
    (specs / "outside.csv").rename(reconcile.folder / "outside.csv")
    replace("outside", "outside.csv", "../outside.csv")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    (specs / "pointer.csv").write_text(pointer)
    commit = repository.commit()

    reconcile.manifest("reordered", examples=EXAMPLES[::-1])
    replace("prefaced", "prefaced.csv}", 'prefaced.csv, preamble: "Add. "}')
    (specs / "elsewhere.csv").rename(specs / "sums.csv")
    (specs / "sums.csv").write_text("\n".join((specs / "sums.csv").read_text().splitlines()[:-2]) + "\n")
    replace("elsewhere", "elsewhere.csv", "sums.csv")
    reconcile.manifest("former", examples=EXAMPLES[1:])
    replace("former", "{name: former}", "{name: renamed, formerly: [former]}")
    reconcile.manifest("other", examples=EXAMPLES[1:])
    replace("other", "{name: other}", "{name: unrelated}")
    moved = reconcile.manifest("moved", examples=EXAMPLES[1:])
    (specs / "folder").mkdir()
    for path in (moved, moved.with_suffix(".csv")):
        path.rename(specs / "folder" / path.name)
    (reconcile.folder / "outside.csv").write_text((reconcile.folder / "outside.csv").read_text() + "40,41\n")
    reconcile.manifest("pointer")
    reconcile.manifest("repeated", examples=[*repeated, ("40", "41")])
    reconcile.manifest("invalid")
    inline("1", "two", "3", "4")
    reconcile.manifest("doubler", examples=[*EXAMPLES, EXAMPLES[0]])

    found = {change.pop("name"): change for change in changes(reconcile)}
    for change in found.values():
        assert change.pop("use") == "training"
        change.pop("samples", None)
    none = {"added": 0, "removed": 0, "changed": 0}
    assert found == {
        "reordered": none | {"path": "reordered.csv", "note": "the same examples in another order"},
        "prefaced": none | {"path": "prefaced.csv", "note": "the preamble changed, and so does every input"},
        "elsewhere": none | {"path": "sums.csv", "removed": 2, "note": "at HEAD it was elsewhere.csv"},
        "renamed": none | {"path": "former.csv", "removed": 1},
        "unrelated": none
        | {
            "path": "other.csv",
            "removed": 1,
            "note": "no manifest had this name at HEAD; compared with the file at HEAD",
        },
        "moved": none | {"path": "folder/moved.csv", "removed": 1, "note": "at HEAD it was moved.csv"},
        "outside": none | {"path": "../outside.csv", "added": 1},
        "pointer": {
            "path": "pointer.csv",
            "note": "not compared: at HEAD, specs/pointer.csv is a Git LFS pointer, and this clone does not contain its"
            f" data; run `git lfs fetch origin {commit}`",
        },
        "repeated": none | {"path": "repeated.csv", "added": 1},
        "invalid": {"path": "invalid.csv", "note": found["invalid"]["note"]},
        "inline": none | {"added": 1, "changed": 1},
        "doubler": none | {"path": "doubler.csv", "added": 21, "duplicates": 1, "note": "new data set, 21 examples"},
    }
    assert found["invalid"]["note"].startswith("not compared: the manifest at HEAD is invalid: invalid.yaml:7:33: ")


@pytest.mark.usefixtures("repository")
def test_an_unknown_reference_is_a_usage_error(reconcile: Cli) -> None:
    for ref in ("nowhere", "--all", "HEAD~7", "HEAD:specs"):
        answer = reconcile("plan", "--base", ref)
        assert answer.status == 64
        assert answer.err == (
            f"Error: --base {ref}: no such commit in this repository; pass a branch, a tag or a commit, and fetch it"
            " first\n"
        )
    refused = reconcile("plan", "--base", "")
    assert (refused.status, refused.err) == (64, "Error: --base is empty; pass a branch, a tag or a commit\n")


def test_leakage_into_held_out_data_is_new_only_once(reconcile: Cli, repository: Repository) -> None:
    unseen = reconcile.specs / "unseen.csv"
    unseen.write_text("text_input,output\n40,41\n41,42\n5,6\n")
    reconcile.manifest("adder", more=HELD_OUT)
    training, new = held_to("plan", plan(reconcile))["dataChanges"]
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
    assert note(reconcile).endswith(": git is not installed; install git")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a repository to another user")
@pytest.mark.parametrize("scope", ["--global", "--system"])
def test_a_repository_of_another_user_is_named_with_the_command_that_works(
    reconcile: Cli, repository: Repository, tmp_path_factory: pytest.TempPathFactory, scope: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    system = {"GIT_CONFIG_SYSTEM": str(home / "gitconfig")}
    reconcile.environ |= {
        "PATH": os.environ["PATH"],
        "HOME": str(home if scope == "--global" else "/nowhere"),
        **system,
    }
    for path in (reconcile.folder, *reconcile.folder.rglob("*")):
        os.chown(path, 12345, 12345)
    command = f"git config {scope} --add safe.directory {repository.folder}"
    assert note(reconcile).endswith(
        ": git cannot read this repository: detected dubious ownership in repository at"
        f" '{repository.folder}'; if you trust its owner, run `{command}`"
    )
    subprocess.run(shlex.split(command), env=reconcile.environ, check=True)  # noqa: S603 - the remedy
    assert changes(reconcile) == []


@pytest.mark.parametrize(
    ("setting", "reason", "remedy"),
    [
        ("[core]\n\trepositoryformatversion = 99\n", "xpected git repo version <= 1, found 99", "newer version of git"),
        ("[core\n", "bad config line 1 in file", "status` and fix what git reports"),
        ("", "not a git repository: /nowhere/worktrees/one", "make the directory that .git names available too"),
    ],
)
@pytest.mark.usefixtures("repository")
def test_git_gives_its_own_reason(reconcile: Cli, setting: str, reason: str, remedy: str) -> None:
    git = reconcile.folder / ".git"
    if setting:
        (git / "config").write_text(setting)
    else:
        git.rename(reconcile.folder / "elsewhere")
        git.write_text("gitdir: /nowhere/worktrees/one\n")
    shown = note(reconcile)
    assert reason in shown
    assert remedy in shown.partition("; ")[2]


def test_a_shallow_clone_names_what_to_fetch(
    reconcile: Cli, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = repository("rev-parse", "HEAD").strip()
    reconcile.manifest("adder", examples=CHANGED)
    repository.commit()
    folder = tmp_path_factory.mktemp("clone")
    clone = repository.clone(folder, "--depth", "1")
    shallow = Cli(folder)
    shallow.environ["PATH"] = os.environ["PATH"]
    assert note(shallow, first) == (
        f"the lockfile and the data sets are not compared with {first}: this clone is shallow and does not contain"
        f" {first}; fetch it: `git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'` (actions/checkout:"
        " fetch-depth: 0)"
    )
    assert changes(shallow) == []
    empty = shallow("plan", "--base", "")  # what git merge-base prints there
    assert empty.status == 64
    assert "`git merge-base` prints nothing in a shallow clone: fetch it: `git fetch --unshallow" in empty.err
    clone("fetch", "--quiet", "--unshallow", "origin", "+refs/heads/*:refs/remotes/origin/*")
    assert changes(shallow, base=first) != []


def test_the_remedy_for_a_partial_clone_works(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    (repository.folder / "specs" / "adder.csv").write_text("text_input,output\n1,2\n")
    repository.commit()
    repository("config", "uploadpack.allowFilter", "true")
    clone = repository.clone(tmp_path_factory.mktemp("clone"), "--filter=blob:none")
    partial = Cli(clone.folder)
    partial.environ["PATH"] = os.environ["PATH"]
    clone("checkout", "--quiet", "--", ".")
    (shown,) = plan(partial, base="HEAD~1")["notices"]
    assert shown.endswith("fetch them, in a partial clone with `git fetch --refetch --no-filter`")
    clone("fetch", "--quiet", "--refetch", "--no-filter")
    assert changes(partial, base="HEAD~1") != []


def test_data_in_git_lfs_is_compared_where_the_clone_has_it(reconcile: Cli, repository: Repository) -> None:
    data = reconcile.specs / "adder.csv"
    whole = data.read_bytes()
    oid = hashlib.sha256(whole).hexdigest()
    data.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(whole)}\n")
    repository.commit()
    data.write_bytes(whole)
    assert changes(reconcile) == [], "the file of today is the one of then"
    objects = reconcile.folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    objects.mkdir(parents=True)
    data.write_bytes(whole + b"40,41\n")
    (objects / oid).write_bytes(whole.replace(b"1", b"2"))
    (tampered,) = changes(reconcile)
    assert "added" not in tampered
    assert "not compared" in tampered["note"]
    (objects / oid).write_bytes(whole)
    (change,) = changes(reconcile)
    assert change["added"] == 1
    assert "not compared" not in change.get("note", "")


def test_data_in_a_submodule_is_named(
    reconcile: Cli, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = Repository(tmp_path_factory.mktemp("data"))
    (reconcile.specs / "adder.csv").rename(data.folder / "adder.csv")
    data.commit()
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("adder.csv", "data/adder.csv"))
    allowed = ("-c", "protocol.file.allow=always")
    repository(*allowed, "submodule", "--quiet", "add", data.folder.as_uri(), "specs/data")
    repository.commit()
    (reconcile.specs / "data" / "adder.csv").write_text("text_input,output\n1,2\n")
    (change,) = changes(reconcile)
    assert change["note"] == (
        "not compared: at HEAD, specs/data/adder.csv is in the submodule specs/data, whose files this repository does"
        " not contain"
    )
    clone = repository.clone(tmp_path_factory.mktemp("clone"))
    without = Cli(clone.folder)
    assert without("validate").out.startswith(
        "specs/adder.yaml:6:19: spec.dataset.path: data/adder.csv: no such file: the submodule specs/data is empty; run"
        " `git submodule update --init specs/data`\n"
    )
    clone(*allowed, "submodule", "--quiet", "update", "--init", "specs/data")
    assert without("validate").status == 0


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("declared", "on_disk"),
    slow_except([(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], (COMPOSED, DECOMPOSED)),
)
def test_a_file_name_in_another_normalization_is_found(
    reconcile: Cli, repository: Repository, declared: str, on_disk: str
) -> None:
    file = reconcile.manifest("adder")
    (reconcile.specs / on_disk).mkdir()
    data = reconcile.specs / on_disk / f"{on_disk}.csv"
    (reconcile.specs / "adder.csv").rename(data)
    file.write_text(file.read_text().replace("adder.csv", f"{declared}/{declared}.csv"))
    assert reconcile("validate").status == 0
    repository.commit()
    assert changes(reconcile) == []
    data.write_text(data.read_text() + "40,41\n")
    (change,) = changes(reconcile)
    assert change["added"] == 1
    manifest = reconcile.specs / f"{on_disk}.yaml"
    file.rename(manifest)
    assert reconcile("validate", f"specs/{declared}.yaml").status == 0


def test_a_text_in_another_normalization_is_warned_of(reconcile: Cli, repository: Repository) -> None:
    examples = [*EXAMPLES, ("coffee", COMPOSED), ("bar", f"a {COMPOSED}")]
    reconcile.manifest("adder", examples=examples)
    assert "normalization" not in reconcile("validate").out
    repository.commit()
    reconcile.manifest("adder", examples=[*EXAMPLES, ("coffee", DECOMPOSED), ("bar", f"a {DECOMPOSED}")])
    warned = reconcile("validate").out
    assert (
        "specs/adder.csv:22:1: warning: spec.dataset.path: this and 1 more have text that is not in Unicode"
        " normalization form C (NFC); convert it to NFC before the first training"
    ) in warned
    (change,) = changes(reconcile)
    assert change["note"] == "2 examples differing only in Unicode normalization"


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
    block = "  vertex:\n    baseModel: gemini-3.5-flash\n    hyperparameters: {epochCount: 2}\n"
    more = f"{block}    validationDataset: {{path: validation.csv}}\n"
    file = reconcile.manifest("adder", more=more)
    text = file.read_text()
    repository.commit()

    def cloud() -> list[dict[str, Any]]:
        return changes(reconcile, "--target", "cloud")

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
