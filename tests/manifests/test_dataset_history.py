"""Old data sets found again, in real repositories; and what a hostile lockfile or repository cannot do."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.identity import dataset_digest
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Conversation, Dataset, Example, TrainingExample
from reconciler.manifests.dataset_history import RecordedData, find_examples
from support.core_strategies import generation
from support.files_samples import MANIFEST, TARGET, write
from support.git_repository import Repository

OLD = [Example("1", "2"), Example("3", "4")]
NEW = [Example("1", "two"), Example("3", "4"), Example("5", "6")]
OLD_CSV = "text_input,output\n1,2\n3,4\n"
NEW_CSV = "text_input,output\n1,two\n3,4\n5,6\n"
FILE = "m.yaml"


def trained_on(
    examples: list[TrainingExample] | list[Example], path: str = "data.csv", preamble: str = ""
) -> LockedGeneration:
    """A recorded generation with that data set."""
    return generation(dataset=Dataset(dataset_digest(examples), path, len(examples)), preamble=preamble)


def found(
    root: Path,
    *generations: LockedGeneration,
    files: tuple[str, ...] = (FILE,),
    environ: Mapping[str, str] = os.environ,
) -> list[list[TrainingExample] | None]:
    """The examples of each generation, ``None`` where they are not at hand."""
    recorded = RecordedData(root, "number-generator", files, generations)
    with find_examples(recorded, environ) as examples:
        available = [examples.get(one.dataset.digest) for one in generations]
        return [list(read()) if read else None for read in available]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a root ``specs``, in which the data set was committed, and changed in a second commit."""
    repository = Repository(tmp_path_factory.mktemp("template"))
    write(repository.folder / "specs", {"reconcile.yaml": TARGET, FILE: MANIFEST, "data.csv": OLD_CSV})
    repository.commit()
    write(repository.folder / "specs", {"data.csv": NEW_CSV})
    repository.commit()
    return repository


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """A copy of that repository."""
    return template.copy(tmp_path / "repo")


@pytest.fixture
def root(repository: Repository) -> Path:
    """The root in that repository."""
    return repository.folder / "specs"


def test_what_stands_in_the_files_needs_no_git(root: Path) -> None:
    assert found(root, trained_on(NEW), environ={"PATH": ""}) == [NEW]


def test_what_was_changed_stands_in_the_history(root: Path) -> None:
    write(root, {"data.csv": "text_input,output\nnot,committed\n"})
    uncommitted = trained_on([Example("not", "committed")])
    assert found(root, uncommitted, trained_on(NEW), trained_on(OLD)) == [[Example("not", "committed")], NEW, OLD]


def test_what_was_never_committed_is_not_known(root: Path) -> None:
    assert found(root, trained_on([Example("7", "8")])) == [None]


def test_the_manifest_counts_as_it_was_then(repository: Repository, root: Path) -> None:
    named = MANIFEST + "    inputField: question\n    outputField: answer\n    preamble: 'Say: '\n"
    write(root, {FILE: named, "data.csv": "question,answer\n1,2\n"})
    repository.commit()
    write(root, {FILE: MANIFEST, "data.csv": NEW_CSV})
    repository.commit()
    told = [Example("Say: 1", "2")]
    assert found(root, trained_on(told, preamble="Say: ")) == [told]


def test_inline_examples_stand_in_the_manifest(repository: Repository, root: Path) -> None:
    inline = MANIFEST.replace("path: data.csv", 'examples: [{input: "a", output: "b"}]')
    write(root, {FILE: inline})
    repository.commit()
    write(root, {FILE: MANIFEST})
    repository.commit()
    assert found(root, trained_on([Example("a", "b")], path="")) == [[Example("a", "b")]]


def test_conversations_are_found_too(repository: Repository, root: Path) -> None:
    line = '{"contents":[{"parts":[{"text":"1"}],"role":"user"},{"parts":[{"text":"2"}],"role":"model"}]}'
    write(root, {FILE: MANIFEST.replace("data.csv", "chat.jsonl"), "chat.jsonl": f"{line}\n"})
    repository.commit()
    write(root, {"chat.jsonl": f"{line}\n{line}\n"})
    assert found(root, trained_on([Conversation(line)], "chat.jsonl")) == [[Conversation(line)]]


def test_several_files_stand_in_the_history(repository: Repository, root: Path) -> None:
    write(root, {FILE: MANIFEST.replace("data.csv", "'parts/*.csv'"), "parts/1.csv": OLD_CSV, "parts/2.csv": NEW_CSV})
    repository.commit()
    write(root, {"parts/1.csv": NEW_CSV})
    both = [*OLD, *NEW]
    assert found(root, trained_on(both, "parts/*.csv")) == [both]


def test_a_renamed_data_set_is_found_under_its_old_name(repository: Repository, root: Path) -> None:
    (root / "data.csv").unlink()
    write(root, {FILE: MANIFEST.replace("data.csv", "numbers.tsv"), "numbers.tsv": "text_input\toutput\n9\t10\n"})
    repository.commit()
    generations = trained_on([Example("9", "10")], "numbers.tsv"), trained_on(NEW), trained_on(OLD)
    assert found(root, *generations) == [[Example("9", "10")], NEW, OLD]


def test_an_old_file_that_still_stands_there_needs_no_git(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("data.csv", "data-2.csv")
    write(tmp_path, {"reconcile.yaml": TARGET, FILE: manifest, "data.csv": OLD_CSV, "data-2.csv": NEW_CSV})
    assert found(tmp_path, trained_on(NEW, "data-2.csv"), trained_on(OLD)) == [NEW, OLD]


@pytest.mark.parametrize("files", [(FILE,), ("moved.yaml",), ("-",)])
def test_a_manifest_that_is_gone_or_moved_does_not_matter(
    repository: Repository, root: Path, files: tuple[str, ...]
) -> None:
    fields = "    inputField: q\n    outputField: a\n"
    write(root, {FILE: MANIFEST + fields, "data.csv": "q,a\n1,2\n"})
    repository.commit()
    (root / FILE).unlink()
    if files == ("moved.yaml",):
        write(root, {"moved.yaml": MANIFEST + fields})
    write(root, {"data.csv": "q,a\n"})
    repository.commit()
    expected = None if files == ("-",) else [Example("1", "2")]  # nobody knows the names of its columns any more
    assert found(root, trained_on([Example("1", "2")]), trained_on(OLD), files=files) == [expected, OLD]


def test_one_document_of_many_is_the_manifest(root: Path) -> None:
    other = MANIFEST.replace("number-generator", "other").replace("data.csv", "other.csv")
    foreign = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: number-generator}\n"
    broken = "kind: TunedModel\nmetadata: 3\n"
    write(root, {FILE: f"{other}---\n{foreign}---\n{broken}---\n- 1\n---\n{MANIFEST}", "other.csv": NEW_CSV})
    assert found(root, trained_on(OLD)) == [OLD]
    write(root, {FILE: MANIFEST.replace("path: data.csv", "path: [data.csv]")})
    assert found(root, trained_on(OLD)) == [OLD]


def test_a_change_on_a_branch_that_was_merged_is_history(repository: Repository, root: Path) -> None:
    repository("checkout", "--quiet", "-b", "side", "HEAD~1")
    write(root, {"data.csv": "text_input,output\n7,8\n"})
    repository.commit()
    repository("checkout", "--quiet", "main")
    repository("merge", "--quiet", "--strategy=ours", "--no-edit", "side")
    assert found(root, trained_on([Example("7", "8")]), trained_on(OLD)) == [[Example("7", "8")], OLD]


def test_a_root_that_is_the_repository_itself(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    write(
        tmp_path,
        {"reconcile.yaml": TARGET, "a b/m.yaml": MANIFEST.replace("data.csv", "ü ö.csv"), "a b/ü ö.csv": OLD_CSV},
    )
    repository.commit()
    write(tmp_path, {"a b/ü ö.csv": NEW_CSV})
    assert found(tmp_path, trained_on(OLD, "a b/ü ö.csv"), files=("a b/m.yaml",)) == [OLD]


def test_a_worktree_and_a_link_to_the_root(repository: Repository, root: Path, tmp_path: Path) -> None:
    repository("worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert found(tmp_path / "tree/specs", trained_on(OLD)) == [OLD]
    (repository.folder / "link").symlink_to("specs")
    assert found(repository.folder / "link", trained_on(OLD)) == [OLD]
    (tmp_path / "outside").symlink_to(root)
    assert found(tmp_path / "outside", trained_on(NEW), trained_on(OLD)) == [NEW, None]


def test_a_shallow_clone_has_no_past(repository: Repository, tmp_path: Path) -> None:
    repository.clone(tmp_path / "shallow", "--depth=1")
    assert found(tmp_path / "shallow/specs", trained_on(NEW), trained_on(OLD)) == [NEW, None]


def test_a_partial_clone_fetches_nothing(repository: Repository, tmp_path: Path) -> None:
    repository("config", "uploadpack.allowFilter", "true")
    clone = repository.clone(tmp_path / "partial", "--filter=blob:none")
    before = sorted(str(file) for file in (clone.folder / ".git/objects").rglob("*"))
    assert found(clone.folder / "specs", trained_on(NEW), trained_on(OLD)) == [NEW, None]
    assert sorted(str(file) for file in (clone.folder / ".git/objects").rglob("*")) == before


def test_a_pointer_of_git_lfs_is_no_data(repository: Repository, root: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    write(root, {"data.csv": pointer})
    repository.commit()
    write(root, {"data.csv": NEW_CSV})
    assert found(root, trained_on([Example("7", "8")]), trained_on(OLD)) == [None, OLD]


def test_data_in_cloud_storage_is_never_at_hand(root: Path) -> None:
    remote = generation(dataset=Dataset(dataset_digest(OLD), "gs://bucket/data.jsonl", 0))
    assert found(root, remote) == [None]


def test_without_commits_or_with_a_broken_repository_only_the_files_count(tmp_path: Path) -> None:
    write(tmp_path, {"reconcile.yaml": TARGET, FILE: MANIFEST, "data.csv": NEW_CSV})
    Repository(tmp_path)
    assert found(tmp_path, trained_on(NEW), trained_on(OLD)) == [NEW, None]
    (tmp_path / ".git/HEAD").unlink()
    assert found(tmp_path, trained_on(NEW), trained_on(OLD)) == [NEW, None]


def test_no_other_repository_above_is_asked(root: Path) -> None:
    (root / ".git").mkdir()
    assert found(root, trained_on(NEW), trained_on(OLD)) == [NEW, None]


def test_where_git_fails_only_the_files_count(root: Path) -> None:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": str(root)}  # a folder is no configuration
    assert found(root, trained_on(NEW), trained_on(OLD), environ=environ) == [NEW, None]


HOSTILE = [
    "../../etc/passwd",
    "../../../../../../../../etc/passwd",
    "/etc/passwd",
    "--output=x",
    "--output=x.csv",
    "-",
    "..",
    ".",
    "",
    ":(glob)**",
    ":!x",
    "x\ny.csv",
    "x\0.csv",
    "\ud800.csv",
    "C:\\x.csv",
    "x" * 5000 + ".csv",
    ".git/config",
    "data.csv/x.csv",
]


def test_hostile_paths_lead_nowhere_and_hide_nothing(root: Path, tmp_path: Path) -> None:
    write(tmp_path, {"etc/passwd": OLD_CSV})
    before = sorted(tmp_path.rglob("*"))
    for path in HOSTILE:
        hostile = trained_on([Example("7", "8")], path)
        assert found(root, hostile, trained_on(OLD), files=(path, FILE)) == [None, OLD], repr(path)
        without = replace(hostile, dataset=Dataset(hostile.dataset.digest, "", 1))
        assert found(root, without, files=(path,)) == [None], repr(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_file_outside_is_a_data_set_even_when_its_content_is_known(root: Path, tmp_path: Path) -> None:
    write(tmp_path, {"secret.csv": "text_input,output\n7,8\n"})
    (root / "link.csv").symlink_to("../../secret.csv")
    for path in ("../../secret.csv", str(tmp_path / "secret.csv"), "link.csv"):
        assert found(root, trained_on([Example("7", "8")], path)) == [None]
        write(root, {FILE: MANIFEST.replace("data.csv", path)})
        assert found(root, trained_on([Example("7", "8")], path)) == [None]


def test_a_link_in_the_history_is_not_followed(repository: Repository, root: Path, tmp_path: Path) -> None:
    write(tmp_path, {"secret.csv": "text_input,output\n7,8\n"})
    (root / "data.csv").unlink()
    (root / "data.csv").symlink_to("../../secret.csv")
    repository.commit()
    (root / "data.csv").unlink()
    assert found(root, trained_on([Example("7", "8")]), trained_on(NEW)) == [None, NEW]


def test_nothing_that_a_repository_configures_is_executed(repository: Repository, root: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path / 'executed'}\n")
    evil.chmod(evil.stat().st_mode | stat.S_IXUSR)
    names = ["core.pager", "pager.rev-list", "pager.cat-file", "core.fsmonitor", "diff.external", "core.sshCommand"]
    names += ["diff.evil.textconv", "diff.evil.command", "filter.evil.smudge", "filter.evil.clean", "gpg.program"]
    for name in names:
        repository("config", name, str(evil))
    repository("config", "log.showSignature", "true")
    repository("config", "core.hooksPath", str(tmp_path))
    write(root, {".gitattributes": "* diff=evil filter=evil\n"})
    assert found(root, trained_on(OLD)) == [OLD]
    assert not (tmp_path / "executed").exists()


def test_git_sees_no_secrets_and_heeds_no_variables(root: Path, tmp_path: Path) -> None:
    git = tmp_path / "bin/git"
    write(tmp_path, {"bin/git": f"#!/bin/sh\nenv > {tmp_path / 'seen'}\nexit 1\n"})
    git.chmod(0o755)
    environ = {"PATH": f"{git.parent}:/usr/bin:/bin", "RECONCILE_ACCESS_TOKEN": "ya29.token", "GIT_DIR": "/elsewhere"}
    assert found(root, trained_on(OLD), environ=environ) == [None]
    seen = (tmp_path / "seen").read_text()
    assert "ya29" not in seen
    assert "GIT_DIR" not in seen
    assert "GIT_TERMINAL_PROMPT=0" in seen


def test_no_version_is_read_twice_and_nothing_stays_behind(
    repository: Repository, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epochs in range(1, 5):
        write(root, {FILE: f"{MANIFEST}  hyperparameters: {{epochCount: {epochs}}}\n"})
        repository.commit()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with find_examples(RecordedData(root, "number-generator", (FILE,), (trained_on(OLD),)), os.environ) as examples:
        (read,) = examples.values()
        assert list(read()) == list(read()) == OLD
        assert len(list((tmp_path / "temporary").glob("*/" + "?" * 40))) == 7  # five manifests and two data sets
    assert not list((tmp_path / "temporary").iterdir())
