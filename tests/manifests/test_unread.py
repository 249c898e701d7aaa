"""Which files that a run does not read may declare a model, and which may not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.domain.plan import Unread
from reconciler.manifests.unread import declared_in, find_unread
from support.cases import each_row
from support.files_samples import DATA, TARGET, load_in, write
from support.git_repository import Repository

MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {name: NAME}
spec: {baseModel: models/gemini-3.5-flash, dataset: {path: data.csv}}
"""


def manifest(name: str) -> str:
    return MANIFEST.replace("NAME", name)


def root(folder: Path) -> Path:
    """A root with the manifest ``stay``; the manifest of ``adder`` is in the test's file."""
    write(folder, {"reconcile.yaml": TARGET, "data.csv": DATA, "stay.yaml": manifest("stay")})
    return folder


def search(folder: Path, **recorded: str) -> Unread:
    return find_unread(load_in(folder), recorded or {"adder": "adder.yaml"}, os.environ)


def commented(text: str, sign: str = "#") -> str:
    return "".join(f"{sign}{line}\n" for line in text.splitlines())


JSON = json.dumps(
    {"apiVersion": "tuning.reconcile/v1alpha1", "kind": "TunedModel", "metadata": {"name": "adder"}}, indent=1
)


@each_row(
    ("file", "text"),
    [
        ("adder.YAML", manifest("adder")),
        ("adder.Yml", manifest("adder")),
        ("adder.yaml.bak", manifest("adder")),
        ("adder.yml.orig", manifest("adder")),
        ("adder.yaml.disabled", manifest("adder")),
        ("adder.yaml.txt", manifest("adder")),
        ("adder.yaml~", manifest("adder")),
        (".adder.yaml", manifest("adder")),
        (".hidden/deep/adder.yaml", manifest("adder")),
        ("adder.json", JSON),
        ("adder.json.bak", JSON.replace("}", ",}", 1)),
        ("old.yaml.bak", commented(manifest("adder"), "# ")),
        ("adder.yaml", commented(manifest("adder"))),
        ("adder.yaml", commented(manifest("adder"), "  # ")),
        ("all.yaml", manifest("more") + "---\n" + commented(manifest("adder"))),
        ("all.yaml.bak", manifest("more") + "---\n" + manifest("adder")),
        ("other/reconcile.yaml", TARGET),
        ("adder.yaml.bak", manifest("adder").replace("{name: adder}", '\n  "name": "adder"  # the first')),
        ("new.yaml.bak", manifest("new").replace("{name: new}", "{name: new, formerly: [older, adder]}")),
        ("new.yaml.bak", manifest("new").replace("{name: new}", "\n  name: new\n  formerly:\n  - older\n  - adder")),
        ("adder.yaml.bak", manifest("adder").replace("\n", "\r\n")),
        ("list.yaml.bak", "apiVersion: v1\nkind: List\nitems:\n- " + manifest("adder").replace("\n", "\n  ")),
        ("adder.yaml", ""),
        ("adder.yaml", "# nothing\n---\n"),
    ],
)
def test_a_file_that_may_declare_a_model_keeps_it(tmp_path: Path, file: str, text: str) -> None:
    folder = root(tmp_path)
    write(folder, {file: text})
    if file == "other/reconcile.yaml":  # another root, whose manifests are not read here
        write(folder, {"other/adder.yaml": manifest("adder")})
    found = search(folder)
    assert found.reason("adder")
    assert not found.reason("another")


@each_row(
    ("file", "text"),
    [
        ("README.md", manifest("adder")),
        ("notes.txt", manifest("adder")),
        ("data.csv", DATA + '"' + manifest("adder") + '",1\n'),
        ("data.json", json.dumps([{"text_input": manifest("adder"), "output": manifest("adder")}])),
        ("data.jsonl", json.dumps({"text_input": manifest("adder"), "output": "1"})),
        ("report.json", json.dumps({"kind": "Plan", "version": 1, "actions": [{"name": "adder"}]})),
        ("plan.json", json.dumps({"apiVersion": "tuning.reconcile/v1alpha1", "kind": "Plan", "name": "adder"})),
        ("reconcile.prod.yaml.bak", manifest("adder").replace("TunedModel", "Target")),
        ("adder.yaml.bak", manifest("adder-two")),
        ("adder.yaml.bak", manifest("other") + "# name: adder is what it was called\n"),
        ("adder.yaml.bak", manifest("adder").replace("tuning.reconcile", "example.com")),
        ("ours.yaml", manifest("more") + "# adder was removed\n"),
        ("adder.yaml", manifest("more")),
        ("config.json", json.dumps({"name": "adder"})),
        ("sub/.git/adder.yaml", manifest("adder")),
    ],
)
def test_prose_data_and_reports_keep_nothing(tmp_path: Path, file: str, text: str) -> None:
    folder = root(tmp_path)
    write(folder, {file: text})
    assert search(folder).reason("adder") == ""


@each_row(
    ("name", "kept", "deleted"),
    [
        ("{{ .Release.Name }}-adder", "prod-adder", "adder-2"),
        ('"a-{{ .Values.name }}"', "a-dder", "adder"),
        ("adder", "adder", "other"),
        ("{% raw %}", "adder", ""),
        ("{{ .Values.a }}_b", "adder", ""),
        ("{{ .Values.a }}a" * 14 + "b", "a" * 14 + "b", "a" * 31),  # a regular expression takes minutes for these
    ],
)
def test_a_template_keeps_the_models_that_it_may_declare(tmp_path: Path, name: str, kept: str, deleted: str) -> None:
    text = manifest(name).replace("data.csv", "{{ .Values.data }}")
    for file, version in {"a.yaml": "tuning.reconcile/v1alpha1", "b.yaml": "{{ .Values.version }}"}.items():
        folder = write(root(tmp_path / file), {f"chart/{file}": text.replace("tuning.reconcile/v1alpha1", version)})
        unread = search(folder)
        assert f"chart/{file} is " in unread.reason(kept)
        assert not (deleted and unread.reason(deleted))
        assert unread.files == (f"chart/{file}",)


def test_a_recorded_file_that_is_skipped_and_standard_input_keep_their_models(tmp_path: Path) -> None:
    folder = write(root(tmp_path), {"adder.yaml": "apiVersion: v1\n"})
    unread = search(folder, adder="adder.yaml", piped="-")
    assert unread.reason("adder") == "adder.yaml has no manifest"
    assert "standard input" in unread.reason("piped")


def test_one_of_several_documents_can_be_removed(tmp_path: Path) -> None:
    folder = root(tmp_path)
    write(folder, {"all.yaml": manifest("more")})
    assert search(folder, adder="all.yaml").reason("adder") == ""


def test_links_inside_the_repository_are_followed_and_others_are_not_read(tmp_path: Path) -> None:
    folder = root(tmp_path / "repository")
    outside = write(tmp_path / "outside", {"secret.yaml": manifest("adder")})
    Repository(folder)
    (folder / "away").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    write(folder, {"shared/deep/x.yaml.bak": manifest("linked")})
    (folder / "alias").symlink_to(folder / "shared")
    found = search(folder, gone="gone.yaml", moved="away/secret.yaml")
    assert found.reason("linked").endswith("x.yaml.bak is not read")
    assert found.reason("adder") == ""
    assert found.reason("moved") == "away/secret.yaml cannot be read"


@pytest.mark.parametrize("below", ["", "specs/"])
def test_a_removal_counts_after_it_is_committed(tmp_path: Path, below: str) -> None:
    folder = root(tmp_path / below)
    renamed = manifest("new").replace("{name: new}", "{name: new, formerly: [old]}")
    write(folder, {"adder.yaml": manifest("adder"), "renamed.yaml": renamed})
    repository = Repository(tmp_path)
    repository.commit()
    for name in ("adder", "renamed"):
        (folder / f"{name}.yaml").unlink()
    found = search(folder)
    assert "adder.yaml" in found.reason("adder")
    assert found.reason("old")
    repository("add", "-A")
    assert "HEAD declares it" in search(folder).reason("adder")
    repository.commit()
    assert search(folder).reason("adder") == ""


def test_what_head_declares_elsewhere_in_the_repository_is_wanted(tmp_path: Path) -> None:
    folder = root(tmp_path / "specs")
    write(tmp_path, {"elsewhere/adder.yaml": manifest("adder")})
    Repository(tmp_path).commit()
    assert search(folder).reason("adder") == "HEAD declares it in elsewhere/adder.yaml"


def test_a_sparse_checkout_and_a_missing_submodule_are_not_removals(tmp_path: Path) -> None:
    folder = root(tmp_path / "repository")
    write(folder, {"far/adder.yaml": manifest("adder").replace("data.csv", "../data.csv")})
    repository = Repository(folder)
    repository.commit()
    repository("sparse-checkout", "set", "--no-cone", "/*", "!/far/")
    assert not (folder / "far").exists()
    assert search(folder, adder="far/adder.yaml").reason("adder") == "far/adder.yaml is in git's index, and not on disk"

    head = repository("rev-parse", "HEAD").strip()
    repository("update-index", "--add", "--cacheinfo", f"160000,{head},module")
    found = search(folder, inside="module/inside.yaml", beside="module-two.yaml")
    assert found.reason("inside") == "the submodule module is not on disk"
    assert found.reason("beside") == ""


def test_without_git_or_its_objects_every_model_is_kept(tmp_path: Path) -> None:
    folder = root(tmp_path)
    write(folder, {".git/HEAD": "broken"})
    assert search(folder).reason("adder").startswith("git cannot read HEAD, which may declare it (")


def test_a_repository_without_a_commit_has_no_head(tmp_path: Path) -> None:
    folder = root(tmp_path)
    Repository(folder)
    assert search(folder) == Unread()


HOSTILE = {
    "names": lambda: "apiVersion: tuning.reconcile/v1\n" + "name: " * 60_000,
    "formerly": lambda: "apiVersion: tuning.reconcile/v1\n" + "formerly: [" * 30_000,
    "spaces": lambda: "apiVersion: tuning.reconcile/v1\n" + " \n" * 100_000 + " " * 100_000,
    "signs": lambda: "apiVersion: tuning.reconcile/v1\n" + "#" * 300_000,
    "documents": lambda: "apiVersion: tuning.reconcile/v1\n---\n" * 8_000,
    "nested": lambda: '{"apiVersion": "tuning.reconcile/v1", "a": ' + "[" * 150_000,
    "long name": lambda: "apiVersion: tuning.reconcile/v1\nname: " + "a" * 300_000,
}


@each_row("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_searched_in_linear_time(text: Callable[[], str]) -> None:
    began = time.process_time()
    declared_in(text())
    assert time.process_time() - began < 2


def test_a_huge_file_is_read_only_at_its_beginning(tmp_path: Path) -> None:
    folder = root(tmp_path)
    with (folder / "huge.yaml.bak").open("wb") as stream:
        stream.truncate(2**40)
    assert search(folder) == Unread()


def test_too_many_files_keep_every_model(tmp_path: Path) -> None:
    folder = root(tmp_path)
    write(folder, {f"many/{number}.yaml.bak": "" for number in range(10)})
    found = find_unread(load_in(folder), {}, os.environ, max_paths=5)
    assert found.reason("adder").endswith("has too many files to search for its manifest")
