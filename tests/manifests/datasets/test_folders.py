"""Data sets of several files: those in a folder that a user names, and those of a pattern in a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Example
from reconciler.manifests.datasets.folders import expand_patterns, find_files, open_folder
from reconciler.manifests.scaffold import DataFile, init
from support.files_samples import load_in, write

README = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'd/*'}\n---\n"
CSV = "question,answer\n"


@pytest.mark.parametrize(
    ("names", "readme", "pattern"),
    [
        (["data/train-0.csv", "data/train-1.csv", "data/test-0.csv"], "", "data/train-*.csv"),
        (["d/x.csv", "d/y.csv", "e/train.csv"], README, "d/*.csv"),
        (["train/data-00000-of-00001.arrow", "train/state.json", "dataset_dict.json"], "", None),
        (["data-0.arrow", "data-1.arrow", "state.json", "dataset_info.json"], "", "data-*.arrow"),
        (["train.csv", "test.csv"], "", "train.csv"),
    ],
)
def test_a_folder_stands_for_its_files_for_training(
    tmp_path: Path, names: list[str], readme: str, pattern: str | None
) -> None:
    write(tmp_path / "set", dict.fromkeys(names, "") | ({"README.md": readme} if readme else {}))
    found = open_folder(tmp_path, "set")
    assert found is not None
    assert found.declared.path == (pattern or names[0])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes.txt"], "set: is a directory without data files; name a file"),
        (["a.csv", "b.csv"], "set has 2 data files: set/a.csv, set/b.csv; name one of them, such as set/a.csv, or"),
        (["train-1.csv", "train-2.jsonl"], "set has files of several formats; name one of them, such as set/train-1."),
        (["a/train-1.csv", "b/train-2.csv"], "set has 2 data files: set/a/train-1.csv, set/b/train-2.csv; name one"),
    ],
)
def test_files_that_are_not_one_data_set_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    write(tmp_path / "set", dict.fromkeys(names, ""))
    with pytest.raises(ReconcileError) as caught:
        open_folder(tmp_path, "set")
    assert message in str(caught.value)


def test_a_manifest_reads_all_files_of_a_pattern(tmp_path: Path) -> None:
    outside, project = tmp_path / "set", tmp_path / "project"
    write(outside, {"train-1.csv": f"{CSV}a,b\n", "train-2.csv": f"{CSV}c,d\n", "test-1.csv": f"{CSV}e,f\n"})
    project.mkdir()
    found = open_folder(project, "../set")
    assert found is not None
    init(project, data=DataFile(next(iter(found.files.values())), str(found.declared), several=found), name="m")

    declared = yaml.safe_load((project / "specs/m.yaml").read_text())["spec"]["dataset"]
    assert declared == {"path": "datasets/set/train-*.csv", "inputField": "question", "outputField": "answer"}
    workspace = load_in(project, "specs")
    assert not workspace.errors
    assert list(workspace.training(workspace.manifests[0])) == [Example("a", "b"), Example("c", "d")]
    write(project, {"specs/datasets/set/train-2.csv": f"{CSV}c,\n"})
    (error,) = load_in(project, "specs").errors
    assert str(error).startswith("specs/datasets/set/train-2.csv:2:1: ")


def test_a_pattern_does_not_leave_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {"secret/1.csv": CSV, "repo/a[1].csv": CSV, "repo/in/1.csv": CSV, "repo/in/.2.csv": CSV})
    repository = tmp_path / "repo"
    (repository / "out").symlink_to(tmp_path / "secret")
    (repository / "in/3.csv").symlink_to(tmp_path / "secret/1.csv")
    for path in ("../secret/*.csv", "out/*.csv", "/*.csv", "in/*.csv"):
        with pytest.raises(ReconcileError):
            find_files(path, repository, repository)
    with pytest.raises(ReconcileError, match=r"none/\*.csv: no data file matches"):
        find_files("none/*.csv", repository, repository)
    (repository / "in/3.csv").unlink()
    assert list(find_files("**/*.csv", repository, repository)) == ["a[1].csv", "in/1.csv"]


def test_patterns_are_expanded_to_what_they_match() -> None:
    listed = ["d/2.csv", "d/1.csv", "d/.3.csv", "e.csv"]
    assert expand_patterns(["d/*.csv", "e.csv", "f/*"], listed) == ["d/1.csv", "d/2.csv", "e.csv", "f/*"]
