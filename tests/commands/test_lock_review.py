"""What a pull request may change in a lockfile: each attack edits that file alone, on a branch of a clone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from reconciler.commands._lock_review import review_project
from reconciler.commands._project import CommandInput, load_project, read_workspace
from reconciler.domain.lock import Lock
from reconciler.environment import Environment
from support.cli_world import TARGET, Cli, Result
from support.git_repository import Repository
from support.render_values import held_to

FAILS = '  checks: [{name: known, prompt: "3", expect: {equals: wrong}}]\n'
BASE = ("validate", "--locked", "--base", "origin/main")
APPLY = ("apply", "--base", "origin/main", "--yes")


class PullRequest(Struct):
    """A clone of the project on a branch, whose author can write every file of it."""

    reconcile: Cli
    git: Repository

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Commit an edited lockfile, and nothing else."""
        file = self.reconcile.lock_file
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
        self.git.commit()

    def check(self, *options: str) -> Result:
        return self.reconcile(*BASE, *options)

    def copy(self, folder: Path) -> PullRequest:
        """Return a copy with the models of the service, at the same moment."""
        git = self.git.copy(folder)
        reconcile = Cli(git.folder, self.reconcile.environ)
        reconcile.clock.now = self.reconcile.clock.now
        return PullRequest(reconcile, git)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> PullRequest:
    """The main branch: two models, of which one was rolled back once, and a candidate that failed its checks."""
    reconcile = Cli(tmp_path_factory.mktemp("upstream"))
    reconcile.environ = {"PATH": os.environ["PATH"]}
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.manifest("adder")
    reconcile.manifest("doubler", examples=[(str(n), str(2 * n)) for n in range(20)])
    assert reconcile("apply", "--yes").status == 0
    reconcile.manifest("adder", epochs=3)
    assert reconcile("apply", "--yes").status == 0
    assert reconcile("rollback", "adder", "--reason", "wrong").status == 0
    reconcile.manifest("adder", epochs=4, more=FAILS)
    assert reconcile("apply", "--yes").status == 1
    repository.commit()
    return PullRequest(reconcile, repository)


@pytest.fixture(scope="module")
def branch(upstream: PullRequest, tmp_path_factory: pytest.TempPathFactory) -> PullRequest:
    """A clone with the models of the service as they are now, on a branch; each test copies it."""
    git = upstream.git.clone(tmp_path_factory.mktemp("branch") / "clone")
    git("checkout", "--quiet", "-b", "topic")
    shutil.copytree(upstream.reconcile.specs / ".reconcile", git.folder / "specs" / ".reconcile")
    return PullRequest(upstream.reconcile, git)


@pytest.fixture(scope="module")
def published_branch(branch: PullRequest, tmp_path_factory: pytest.TempPathFactory) -> PullRequest:
    """The same with a published pointer in the repository, also on the branch ``merged``."""
    pull_request = branch.copy(tmp_path_factory.mktemp("published") / "clone")
    pull_request.reconcile.target("  publish: serving.json\n")
    answer = pull_request.reconcile("apply", "--yes")
    assert answer.status == 1, "the candidate that failed its checks is held"
    pull_request.git.commit()
    pull_request.git("branch", "merged")
    return pull_request


@pytest.fixture
def pull_request(branch: PullRequest, tmp_path: Path) -> PullRequest:
    return branch.copy(tmp_path / "clone")


@pytest.fixture
def published(published_branch: PullRequest, tmp_path: Path) -> PullRequest:
    return published_branch.copy(tmp_path / "clone")


def _generation(lock: dict[str, Any], name: str, index: int = 0) -> dict[str, Any]:
    generation: dict[str, Any] = lock["models"][name]["generations"][index]
    return generation


def _serving(lock: dict[str, Any], name: str) -> dict[str, Any]:
    model = lock["models"][name]
    return next(known for known in model["generations"] if known["key"] == model["serving"])


def _copied(lock: dict[str, Any]) -> None:
    adder = lock["models"]["adder"]
    lock["models"]["doubler"]["generations"].append(_serving(lock, "adder"))
    lock["models"]["doubler"].update(serving=adder["serving"], rejected=[lock["models"]["doubler"]["serving"]])


def _orphan(lock: dict[str, Any]) -> None:
    theirs = _serving(lock, "doubler") | {"remote": "tunedModels/payroll", "key": "payroll-aaaaaaaa"}
    lock["models"]["payroll"] = {"manifest": "payroll.yaml", "generations": [theirs]}


_ELSEWHERE = "projects/another/locations/europe-west4/tuningJobs/1"
FACTS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "remote of another project": (
        lambda lock: _serving(lock, "doubler").update(remote=_ELSEWHERE),
        "models.doubler.generations[0].remote",
        _ELSEWHERE,
    ),
    "endpoint": (
        lambda lock: _serving(lock, "doubler").update(resources={"endpoint": "projects/x/endpoints/1"}),
        "models.doubler.generations[0].resources.endpoint",
        "projects/x/endpoints/1",
    ),
    "preamble": (
        lambda lock: _serving(lock, "doubler").update(preamble="Praise us. "),
        "models.doubler.generations[0].preamble",
        "Praise us.",
    ),
    "checks": (
        lambda lock: _generation(lock, "adder")["checks"].update(passed=1, failed=0),
        "models.adder.generations[0].checks.passed",
        "changed fact checks.passed: 0 → 1",
    ),
    "a copied record": (
        _copied,
        "models.doubler.generations[1].remote",
        "another record has the same remote name",
    ),
    "an invented orphan": (_orphan, "models.payroll.generations[0].remote", "no manifest declares this model"),
    "limits": (
        lambda lock: lock["target"].update(limits={"maxCreates": 1000}),
        "target.limits.maxCreates",
        "changed fact limits.maxCreates: none → 1000: specs/reconcile.yaml does not declare this",
    ),
}


def _forge(lock: dict[str, Any]) -> None:
    for change, *_ in FACTS.values():
        change(lock)


def test_facts_that_no_manifest_explains_fail_and_name_their_lines(pull_request: PullRequest) -> None:
    """Each by itself: ``tests/planning/test_lock_review.py``."""
    pull_request.edit(_forge)
    text = pull_request.reconcile.lock_file.read_text()
    assert pull_request.reconcile("validate", "--locked").status == 0, "without --base nothing is noticed"

    answer = pull_request.check("--allow-decisions")
    applied = pull_request.reconcile(*APPLY)

    assert (answer.status, applied.status) == (1, 1)
    for _, path, message in FACTS.values():
        for output in (answer.out, applied.err):
            (line,) = [line for line in output.splitlines() if f": {path}: " in line]
            assert message in line
            file, number, column, *_ = line.removeprefix("Error: ").strip().split(":")
            assert file == "specs/reconcile.lock.json"
            assert f'"{path.rpartition(".")[2]}": ' in text.splitlines()[int(number) - 1][: int(column)]
    assert pull_request.reconcile.lock_file.read_text() == text, "apply changes nothing"


DECISIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "rejected removed": (
        lambda lock: lock["models"]["adder"].pop("rejected"),
        "models.adder.rejected: changed decision rejected: ",
    ),
    "serving": (
        lambda lock: lock["models"]["adder"].update(serving=_generation(lock, "adder")["key"]),
        "models.adder.serving: changed decision serving: ",
    ),
    "protect": (
        lambda lock: lock["models"]["doubler"].update(protect=True),
        "models.doubler.protect: changed decision protect: false → true",
    ),
    "published": (
        lambda lock: lock["models"]["doubler"].update(published="doubler-aaaaaaaa"),
        'models.doubler.published: changed decision published: none → "doubler-aaaaaaaa"',
    ),
    "a removed record": (
        lambda lock: lock["models"]["adder"]["generations"].pop(2),
        "models.adder.generations: changed decision generations: ",
    ),
    "soaked for years": (
        lambda lock: _serving(lock, "doubler").update(promoteTime="2020-01-01T00:00:00Z"),
        "models.doubler.generations[0].promoteTime: changed decision promoteTime: ",
    ),
    "deleted": (
        lambda lock: _generation(lock, "adder", 1).update(state="DELETED"),
        'models.adder.generations[1].state: changed decision state: "ACTIVE" → "DELETED"',
    ),
}


def test_changed_decisions_fail_unless_they_are_allowed(pull_request: PullRequest) -> None:
    def decide(lock: dict[str, Any]) -> None:
        for change, _ in DECISIONS.values():
            change(lock)

    pull_request.edit(decide)
    assert pull_request.reconcile("validate", "--locked").status == 0, "without --base nothing is noticed"

    answer = pull_request.check()
    allowed = pull_request.check("--allow-decisions")

    assert (answer.status, allowed.status) == (1, 0)
    assert [message for _, message in DECISIONS.values() if message not in answer.out] == []
    assert [message for _, message in DECISIONS.values() if f"warning: {message}" not in allowed.out] == []


def test_a_removed_block_fails_even_if_decisions_are_allowed(pull_request: PullRequest) -> None:
    pull_request.edit(lambda lock: lock["models"].pop("adder"))
    allowed = pull_request.check("--allow-decisions")
    assert "warning: models.adder: changed decision generations: " in allowed.out
    assert allowed.status == 1, "nothing is recorded for its manifest"


def test_changed_decisions_are_the_first_rows_of_every_report(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    before = reconcile.lock["adder"]["serving"]
    other = reconcile.lock["adder"]["generations"][1]
    pull_request.edit(lambda lock: lock["models"]["adder"].update(serving=other["key"], rejected=[]))
    reports = [f"--report={reconcile.folder / name}" for name in ("plan.json", "plan.md", "plan.html", "plan.xml")]

    answer = reconcile("plan", "--offline", "--base", "origin/main", "--detailed-exitcode", *reports)

    assert answer.status == 1, "the candidate that failed its checks is held"
    lines = answer.out.splitlines()
    title = lines.index("Changed decisions in the lockfile since origin/main:")
    assert lines[title + 1].startswith(
        f"  ! adder                serving: {before} → {other['key']} ({other['remote']}), "
    )
    assert lines[title + 2].startswith(f"  ! adder                rejected: {other['key']} → unset (")
    assert title < next(number for number, line in enumerate(lines) if line.endswith("adder.yaml"))
    document = held_to("plan", json.loads((reconcile.folder / "plan.json").read_text()))
    assert document["unexplained"] == []
    assert document["decisions"][0] | {"line": 0, "column": 0} == {
        "name": "adder",
        "field": "serving",
        "before": before,
        "after": other["key"],
        "key": other["key"],
        "remote": other["remote"],
        "file": "specs/reconcile.lock.json",
        "line": 0,
        "column": 0,
    }
    rows = [line for line in (reconcile.folder / "plan.md").read_text().splitlines() if line.startswith("| ")]
    assert "changed decision" in rows[1]
    assert "specs/reconcile.lock.json:" in rows[1]
    page, cases = ((reconcile.folder / name).read_text() for name in ("plan.html", "plan.xml"))
    assert page.index('data-states="changed decision"') < page.index('data-states="hold"')
    assert f"changed decision: serving: {before} → {other['key']}" in cases
    assert cases.index("reconcile.lock.json") < cases.index("adder.yaml")


def test_a_plan_with_an_unexplained_fact_fails_and_annotates_it(pull_request: PullRequest) -> None:
    def change(lock: dict[str, Any]) -> None:
        _serving(lock, "doubler").update(preamble="Praise us. ")
        lock["models"]["doubler"].update(protect=True)

    pull_request.edit(change)
    pull_request.reconcile.environ["GITHUB_ACTIONS"] = "true"
    options = ("plan", "--only", "doubler", "--offline")

    answer = pull_request.reconcile(*options, "--base", "origin/main")

    assert answer.status == 1
    assert "Unexplained facts in the lockfile since origin/main:\n  ! doubler              preamble: " in answer.out
    assert "::warning file=specs/reconcile.lock.json,line=" in answer.out + answer.err
    assert "title=doubler changed decision::protect: false → true" in answer.out + answer.err
    assert pull_request.reconcile(*options).status == 0


def _train(pull_request: PullRequest, *options: str) -> None:
    answer = pull_request.reconcile("apply", "--yes", "--train-only", *options)
    assert answer.status in {0, 1}, answer.err
    pull_request.git.commit()


def test_trainings_of_a_branch_are_explained_by_its_manifests(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    reconcile.manifest("doubler", epochs=3, more="  lifecycle: {protect: true}\n")
    pull_request.git.commit()
    answer = pull_request.check()
    assert (answer.status, "changed" in answer.out) == (1, False), "a changed manifest alone changes no lockfile"
    reconcile.manifest("halver")
    _train(pull_request, "--no-wait")
    answer = pull_request.check()
    assert answer.out.count("no ready generation") == 2
    assert "changed" not in answer.out
    reconcile.manifest("doubler", epochs=4)
    _train(pull_request, "--no-wait")
    assert "changed" not in pull_request.check().out


def test_results_that_train_only_and_wait_record_are_facts(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    before = reconcile.lock["adder"]["generations"][0]["checks"]["digest"]
    reconcile.manifest("adder", epochs=4, more=FAILS.replace("wrong", "wrong too"))
    reconcile.manifest("halver")
    _train(pull_request)
    assert reconcile.lock["adder"]["generations"][0]["checks"]["digest"] != before
    reconcile.manifest("doubler", epochs=3)
    _train(pull_request, "--no-wait")
    assert reconcile("wait", "--only", "doubler").status == 0
    pull_request.git.commit()
    answer = pull_request.check()
    assert answer.status == 0, answer.out


def test_a_new_record_that_is_not_a_training_of_the_manifest_is_reported(pull_request: PullRequest) -> None:
    pull_request.reconcile.manifest("doubler", epochs=3)
    _train(pull_request, "--no-wait")
    pull_request.edit(lambda lock: _generation(lock, "doubler").update(remote="tunedModels/payroll"))
    key = pull_request.reconcile.lock["doubler"]["generations"][0]["key"]
    answer = pull_request.check()
    assert 'changed fact remote: none → "tunedModels/payroll"' in answer.out
    assert f"the id of this model would be {key}" in answer.out


def test_a_renamed_manifest_explains_the_moved_records(pull_request: PullRequest) -> None:
    file = pull_request.reconcile.specs / "doubler.yaml"
    file.write_text(file.read_text().replace("{name: doubler}", "{name: twice, formerly: [doubler]}"))
    answer = pull_request.check()
    assert answer.status == 0, answer.out
    _train(pull_request)
    assert "twice" in pull_request.reconcile.lock
    answer = pull_request.check()
    assert answer.status == 0, answer.out


def test_the_main_branch_may_be_merged_meanwhile(
    pull_request: PullRequest, upstream: PullRequest, tmp_path: Path
) -> None:
    main = upstream.git.copy(tmp_path / "main")
    lock = main.folder / "specs" / "reconcile.lock.json"
    document = json.loads(lock.read_text())
    document["models"]["adder"]["rejected"] = []
    lock.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    head = main.commit()
    pull_request.git("fetch", "--quiet", str(main.folder), "+HEAD:refs/remotes/origin/main")
    assert pull_request.check().status == 0, "the base is the common ancestor"
    pull_request.git("merge", "--quiet", "--no-edit", head)
    assert pull_request.check().status == 0


def test_base_needs_locked_and_decisions_need_base(pull_request: PullRequest) -> None:
    for options, message in (
        (["--base", "origin/main"], "--base requires --locked; add --locked"),
        (["--locked", "--allow-decisions"], "--allow-decisions requires --base; add --base REF"),
        (["--locked", "--base", "nowhere"], "--base nowhere: no such commit in this repository; pass a branch"),
    ):
        answer = pull_request.reconcile("validate", *options)
        assert (answer.status, message in answer.err) == (64, True)


def test_a_tag_with_the_name_of_the_base_is_not_taken_for_it(pull_request: PullRequest) -> None:
    """Otherwise the author of a tag chooses what a reviewer compares with."""
    pull_request.edit(lambda document: document["models"]["adder"].pop("serving"))
    pull_request.git("tag", "origin/main")
    names = "refs/tags/origin/main and refs/remotes/origin/main"

    for options in (["validate", "--locked"], ["plan"], ["apply", "--yes"]):
        answer = pull_request.reconcile(*options, "--base", "origin/main")
        error = f"ambiguous: {names} exist; pass a full name or hash, such as refs/remotes/origin/main"
        assert (answer.status, answer.err) == (64, f"Error: --base origin/main: {error}\n")
    answer = pull_request.reconcile("validate", "--locked", "--base", "refs/remotes/origin/main")
    assert "changed decision serving" in answer.out


def test_a_tag_with_the_name_of_an_abbreviated_hash_is_not_taken_for_it(pull_request: PullRequest) -> None:
    pull_request.edit(lambda document: document["models"]["adder"].pop("serving"))
    base = pull_request.git("rev-parse", "refs/remotes/origin/main").strip()
    pull_request.git("tag", base[:10])

    answer = pull_request.reconcile("validate", "--locked", "--base", base[:10])
    assert answer.status == 64
    assert f"ambiguous: refs/tags/{base[:10]} and {base} exist; pass a full name or hash, such as {base}" in answer.err
    assert "changed decision serving" in pull_request.reconcile("validate", "--locked", "--base", base).out


def test_a_file_that_git_converts_is_refused(pull_request: PullRequest) -> None:
    """A pull request could commit one text for its reviewers, and another one for reconcile."""
    attributes = {
        "reconcile.lock.json": "working-tree-encoding=KSC5636",
        "reconcile.yaml": "filter=decrypt",
        "adder.yaml": "ident",
    }
    lines = [f"{file} {attribute}\n" for file, attribute in attributes.items()]
    (pull_request.reconcile.folder / ".gitattributes").write_text("".join(lines))
    pull_request.git.commit()

    refused = pull_request.check("--allow-decisions")

    assert refused.status == 1
    for file, attribute in attributes.items():
        cause = attribute.partition("=")[0]
        refusal = f'changed fact file: none → "{cause}": reviewers see another text of this file'
        assert f"specs/{file}:1:1: file: {refusal}" in refused.out
    assert "; remove the attribute from .gitattributes, or the link" in refused.out


def test_a_lockfile_that_is_a_link_is_refused(pull_request: PullRequest) -> None:
    """It would pass, and every later pull request would be compared with the text of the link."""
    lockfile = pull_request.reconcile.lock_file
    (pull_request.reconcile.folder / "x").mkdir()
    moved = lockfile.rename(pull_request.reconcile.folder / "x" / lockfile.name)
    lockfile.symlink_to(f"../x/{moved.name}")
    pull_request.git.commit()

    refused = pull_request.check()

    assert refused.status == 1
    assert 'specs/reconcile.lock.json:1:1: file: changed fact file: none → "a symbolic link"' in refused.out


def test_a_replaced_object_is_not_read(pull_request: PullRequest) -> None:
    def forge(lock: dict[str, Any]) -> None:
        lock["adder"]["rejected"] = []

    pull_request.edit(lambda document: forge(document["models"]))
    git, path = pull_request.git, "specs/reconcile.lock.json"
    git("replace", git("rev-parse", f"origin/main:{path}").strip(), git("rev-parse", f"HEAD:{path}").strip())
    assert pull_request.check().status == 1


def test_a_shallow_clone_is_an_error_that_names_what_to_fetch(pull_request: PullRequest, tmp_path: Path) -> None:
    first = pull_request.git("rev-parse", "HEAD").strip()
    (pull_request.git.folder / "note").write_text("new")
    pull_request.git.commit()
    shallow = pull_request.git.clone(tmp_path / "shallow", "--depth", "1")
    reconcile = Cli(shallow.folder)
    reconcile.environ["PATH"] = os.environ["PATH"]
    answer = reconcile("validate", "--locked", "--base", first)
    assert answer.status == 1
    assert answer.err.startswith(
        f"Error: the lockfile cannot be compared with {first}: this clone is shallow and does not contain {first};"
    )


def _serve(key: str) -> Callable[[dict[str, Any]], object]:
    """Edit a lockfile so that this generation of the adder serves and none is rejected."""
    return lambda lock: lock["models"]["adder"].update(serving=key, rejected=[])


def test_apply_checks_what_a_merged_lockfile_serves_and_keeps_the_generation_before(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    adder = reconcile.lock["adder"]
    before, other = adder["serving"], adder["generations"][1]
    assert adder["rejected"] == [other["key"]]
    reconcile.target("  publish: serving.json\n")
    pull_request.edit(_serve(other["key"]))
    reports = [f"--report={reconcile.folder / name}" for name in ("result.json", "result.md", "result.html", "r.xml")]

    planned = reconcile("plan", "--base", "origin/main")
    answer = reconcile(*APPLY, *reports)

    assert answer.status == 1
    for shown in (planned.out, answer.err):
        lines = shown.splitlines()
        title = lines.index("Changed decisions in the lockfile since origin/main:")
        assert lines[title + 1].startswith(
            f"  ! adder                serving: {before} → {other['key']} ({other['remote']}), "
        )
        assert any(line.startswith(f"  ? adder                check {other['key']}: 1 check") for line in lines)
        assert title < lines.index("specs/adder.yaml")
    assert f"adder  held (ChecksFailed): {other['key']}: 0 of 1 checks passed" in answer.out
    assert reconcile.lock["adder"]["serving"] == before
    published = json.loads((reconcile.specs / "serving.json").read_text())["models"]
    assert [model["key"] for model in published if model["name"] == "adder"] == [before]
    document = held_to("result", json.loads((reconcile.folder / "result.json").read_text()))
    assert [(row["field"], row.get("after")) for row in document["decisions"]] == [
        ("serving", other["key"]),
        ("rejected", None),
        ("publish", "serving.json"),
    ]
    markdown, page, cases = ((reconcile.folder / name).read_text() for name in ("result.md", "result.html", "r.xml"))
    assert "changed decision" in [line for line in markdown.splitlines() if line.startswith("| ")][1]
    assert page.index('data-states="changed decision"') < page.index('data-states="held"')
    assert f"changed decision: serving: {before} → {other['key']}" in cases


def test_apply_promotes_what_a_merged_lockfile_serves_after_its_checks(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    passes = FAILS.replace("wrong", '"4"')
    reconcile.manifest("adder", epochs=5, more=passes)
    _train(pull_request)
    trained = reconcile.lock["adder"]["generations"][0]
    pull_request.edit(_serve(trained["key"]))

    answer = reconcile(*APPLY)

    assert answer.status == 0, answer.out + answer.err
    assert f"  ? adder                check {trained['key']}: 1 check" in answer.err
    adder = reconcile.lock["adder"]
    assert adder["serving"] == trained["key"]
    assert adder["generations"][0]["promoteTime"]
    pull_request.git.commit()
    assert reconcile("apply", "--base", "HEAD", "--yes").out.startswith("No changes.")


def test_apply_checks_a_merged_rollback_and_does_not_hold_it(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    failed = reconcile.lock["adder"]["generations"][0]["key"]
    refused = reconcile("rollback", "adder", "--to", failed, "--reason", "worse")
    assert (refused.status, "stdin is not a terminal; pass --yes" in refused.err) == (64, True)
    assert f"warning: the checks of {failed} failed: 0 of 1 checks passed" in refused.err
    assert reconcile("rollback", "adder", "--to", failed, "--reason", "worse", "--yes").status == 0
    pull_request.git.commit()

    answer = reconcile(*APPLY, "--format", "json")

    assert answer.status == 0, answer.out + answer.err
    assert f"  ? adder                check {failed}: 1 check" in answer.err
    assert answer.document["notices"] == ["adder is serving although its checks fail: 0 of 1 checks passed"]
    assert reconcile.lock["adder"]["serving"] == failed


def test_the_base_of_a_saved_plan_is_that_of_its_apply(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    before, other = reconcile.lock["adder"]["serving"], reconcile.lock["adder"]["generations"][1]["key"]
    pull_request.edit(_serve(other))
    assert reconcile("plan", "--base", "origin/main", "--out", "plan.json").status == 1

    answer = reconcile("apply", "plan.json")

    assert "Changed decisions in the lockfile since " in answer.err
    assert "adder  held (ChecksFailed)" in answer.out
    assert (answer.status, reconcile.lock["adder"]["serving"]) == (1, before)


def test_apply_with_a_base_needs_every_manifest(pull_request: PullRequest) -> None:
    answer = pull_request.reconcile(*APPLY, "--only", "doubler")
    assert answer.status == 64
    assert "--base needs all manifests of the target" in answer.err
    assert pull_request.reconcile("apply", "--base", "nowhere", "--yes").status == 64


POINTERS: dict[str, Callable[[str], str | None]] = {
    "another model": lambda text: text.replace("tunedModels/doubler", "tunedModels/payroll"),
    "another layout": lambda text: text.replace("\n", "\n\n", 1),
    "removed": lambda _text: None,
}


def test_a_pull_request_does_not_change_a_pointer(published: PullRequest) -> None:
    reconcile, git = published.reconcile, published.git
    pointer = reconcile.specs / "serving.json"
    text = pointer.read_text()
    check = ("validate", "--locked", "--base", "merged")
    for attack, change in POINTERS.items():
        changed = change(text)
        pointer.unlink() if changed is None else pointer.write_text(changed)
        git.commit()
        checked = reconcile(*check, "--allow-decisions")
        assert checked.status == 1, attack
        assert "specs/serving.json:1:1: pointer: changed fact pointer: " in checked.out, attack
        assert "reconcile apply writes it after the merge; restore the file of merged" in checked.out, attack

    planned = reconcile("plan", "--offline", "--base", "merged")
    applied = reconcile("apply", "--yes", "--base", "merged")

    assert (planned.status, applied.status) == (1, 1)
    assert "specs/serving.json:1:1: pointer: changed fact pointer: " in applied.err
    assert "reconcile apply writes it after the merge; restore the file of merged" in applied.err
    assert "Unexplained facts in the lockfile since merged:\n  ! (target)             pointer: " in planned.out
    assert reconcile(*check).status == 1


def test_a_committed_rollback_may_change_the_pointer_with_the_lockfile(published: PullRequest) -> None:
    reconcile, git = published.reconcile, published.git
    failed = reconcile.lock["adder"]["generations"][0]["key"]
    assert reconcile("rollback", "adder", "--to", failed, "--reason", "worse", "--yes").status == 0
    git.commit()

    refused = reconcile("validate", "--locked", "--base", "merged")
    assert (refused.status, "pointer: changed" in refused.out) == (1, False)
    assert "models.adder.published: changed decision published: " in refused.out
    assert reconcile("validate", "--locked", "--base", "merged", "--allow-decisions").status == 0


def test_a_committed_rollback_keeps_what_is_published_of_an_orphan(published: PullRequest) -> None:
    reconcile, git = published.reconcile, published.git
    reconcile.manifest("doubler", examples=[(str(n), str(2 * n)) for n in range(20)], more="  sampling: {topK: 7}\n")
    pointer = reconcile.specs / "serving.json"
    assert reconcile("apply", "--yes").status == 1, "the candidate that failed its checks is held"
    (reconcile.specs / "doubler.yaml").unlink()
    edited = json.loads(reconcile.lock_file.read_text())
    edited["models"]["doubler"].pop("sampling", None)
    reconcile.lock_file.write_text(json.dumps(edited, indent=2, sort_keys=True) + "\n")
    git.commit()
    git("branch", "--force", "merged")
    failed = reconcile.lock["adder"]["generations"][0]["key"]
    assert reconcile("rollback", "adder", "--to", failed, "--reason", "worse", "--yes").status == 0
    assert "topK" in pointer.read_text()
    git.commit()

    checked = reconcile("validate", "--locked", "--base", "merged", "--allow-decisions")

    assert (checked.status, "pointer: changed" in checked.out) == (0, False), checked.out


def test_a_changed_address_of_the_pointer_is_a_row(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    line = TARGET.count("\n") + 1
    reconcile.target("  publish: theirs.json\n")
    pull_request.git.commit()
    planned = reconcile("plan", "--offline", "--base", "origin/main")
    assert f"  ! (target)             publish: unset → theirs.json, specs/reconcile.yaml:{line}\n" in planned.out
    checked = pull_request.check()
    assert checked.status == 1
    assert (
        'spec.publish: changed decision publish: none → "theirs.json"; restore the value of origin/main' in checked.out
    )
    assert pull_request.check("--allow-decisions").status == 0


def test_a_lockfile_that_moves_to_a_bucket_is_a_row(pull_request: PullRequest) -> None:
    """Reading the bucket needs a service, so its lockfile is replaced by an empty one."""
    reconcile = pull_request.reconcile
    reconcile.lock_file.unlink()
    file = reconcile.specs / "reconcile.yaml"
    text = file.read_text().replace("provider: embedded", "provider: generativelanguage")
    file.write_text(text)
    pull_request.git.commit()
    pull_request.git("branch", "merged")
    file.write_text(text + "  lock: gs://theirs/lock.json\n")
    environment, given = Environment(cwd=reconcile.folder, environ=reconcile.environ), CommandInput(paths=("specs",))
    project = load_project(environment, read_workspace(environment, given), given, read=lambda *_: Lock())
    (row,) = review_project(project, "merged").rows("decision")
    assert (row.field, row.before, row.after) == ("lock", None, "gs://theirs/lock.json")
    assert (row.file, row.line) == ("specs/reconcile.yaml", text.count("\n") + 1)


def _renamed_root(pull_request: PullRequest) -> tuple[str, str]:
    pull_request.git("mv", "specs", "models")
    return "specs", "models"


def _root_above(pull_request: PullRequest) -> tuple[str, str]:
    for file in ("reconcile.yaml", "reconcile.lock.json"):
        pull_request.git("mv", f"specs/{file}", file)
    shutil.move(pull_request.reconcile.specs / ".reconcile", pull_request.reconcile.folder)
    return "specs", "."


def _root_below(pull_request: PullRequest) -> tuple[str, str]:
    """The manifests get a copy of the target file and the lockfile, which are nearer to them."""
    specs = pull_request.reconcile.specs
    (specs / "models").mkdir()
    for file in (*specs.glob("*.*"), specs / "reconcile.lock.json"):
        if file.is_file():
            shutil.copy(file, specs / "models")
    shutil.copytree(specs / ".reconcile", specs / "models" / ".reconcile")
    return "specs", "specs/models"


def _linked_root(pull_request: PullRequest) -> tuple[str, str]:
    pull_request.git("mv", "specs", "models")
    pull_request.reconcile.specs.symlink_to("models")
    return "specs", "models"


def _left_lockfile(pull_request: PullRequest) -> tuple[str, str]:
    """The lockfile of before stays where it was."""
    lockfile = pull_request.reconcile.lock_file
    text = lockfile.read_text()
    moved = _root_above(pull_request)
    lockfile.write_text(text)
    return moved


MOVES: dict[str, tuple[Callable[[PullRequest], tuple[str, str]], str]] = {
    "renamed": (_renamed_root, "models"),
    "above": (_root_above, "specs"),
    "above, without the lockfile": (_left_lockfile, "specs"),
    "below": (_root_below, "specs/models"),
    "linked": (_linked_root, "specs"),
}


@pytest.mark.parametrize("attack", MOVES)
def test_a_target_that_moves_is_compared_with_its_lockfile_before(pull_request: PullRequest, attack: str) -> None:
    """Otherwise every decision of the new lockfile would be that of a new target."""
    reconcile = pull_request.reconcile
    change, path = MOVES[attack]
    rejected = reconcile.lock["adder"]["rejected"][-1]
    before, after = change(pull_request)
    file = reconcile.folder / after / "reconcile.lock.json"
    document = json.loads(file.read_text())
    document["models"]["adder"].update(serving=rejected, rejected=[])
    _serving(document, "doubler").update(preamble="Praise us. ")
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    pull_request.git.commit()

    checked = reconcile("validate", path, "--locked", "--base", "origin/main", "--allow-decisions")

    target = (Path(after) / "reconcile.yaml").as_posix()
    assert checked.status == 1
    assert (
        f'root: changed decision root: "{before}" → "{after}": the target file moved from {before}/reconcile.yaml to '
        f"{target}; move it back, or pass --allow-decisions after a review" in checked.out
    )
    assert "models.adder.rejected: changed decision rejected: " in checked.out
    assert "models.adder.serving: changed decision serving: " in checked.out
    assert ".preamble: changed fact preamble: " in checked.out


def test_a_target_that_moves_alone_is_the_only_decision(published: PullRequest) -> None:
    git, reconcile = published.git, published.reconcile
    git("mv", "specs", "models")
    git.commit()
    base = ("validate", "models", "--locked", "--base", "merged")
    refused = reconcile(*base)
    assert (refused.status, refused.out.count("changed ")) == (1, 1)
    planned = reconcile("plan", "models", "--offline", "--base", "merged")
    assert "  ! (target)             root: specs → models: the target file moved from " in planned.out
    assert reconcile(*base, "--allow-decisions").status == 0
    pointer = reconcile.folder / "models" / "serving.json"
    pointer.write_text(pointer.read_text().replace("tunedModels/doubler", "tunedModels/payroll"))
    git.commit()
    assert "pointer: changed fact pointer: " in reconcile(*base, "--allow-decisions").out


def test_targets_that_move_together_are_ambiguous(pull_request: PullRequest) -> None:
    git, reconcile = pull_request.git, pull_request.reconcile
    shutil.copytree(reconcile.specs, reconcile.folder / "others")
    git.commit()
    git("branch", "merged")
    git("mv", "specs", "models")
    git("mv", "others", "more")
    git.commit()
    refused = reconcile("validate", "models", "--locked", "--base", "merged")
    assert refused.status == 1
    assert (
        "the lockfile cannot be compared with merged: models/reconcile.yaml is new, and others/reconcile.yaml and"
        " specs/reconcile.yaml are gone; move or remove one of them in each pull request" in refused.err
    )
    git("mv", "more", "others")
    git.commit()
    assert reconcile("validate", "models", "--locked", "--base", "merged", "--allow-decisions").status == 0


def test_a_new_target_is_not_a_move(pull_request: PullRequest) -> None:
    reconcile = pull_request.reconcile
    shutil.copytree(reconcile.specs, reconcile.folder / "others")
    pull_request.git.commit()
    assert "root" not in reconcile("validate", "others", "--locked", "--base", "origin/main").out
