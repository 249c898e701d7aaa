"""The files of the pull-request flow: valid, pinned, of least privilege, and made of commands that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reconciler.commands.main import cli
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.model import Target
from reconciler.manifests.ci_workflows import Platform, create_workflows
from reconciler.manifests.discovery import find_root
from reconciler.manifests.scaffold import init, init_workflows
from reconciler.manifests.target import read_target
from support.cases import each_row
from support.files_samples import write
from support.pipelines import commands, read, scripts, steps

GITHUB = [
    ".github/workflows/reconcile-drift.yml",
    ".github/workflows/reconcile-locked.yml",
    ".github/workflows/reconcile-merged.yml",
    ".github/workflows/reconcile-pull-request.yml",
    ".github/workflows/reconcile-settle.yml",
]
GITLAB = [".gitlab/reconcile.yml"]


def _written(folder: Path, platform: Platform, target: str = "default") -> tuple[str, ...]:
    """Write the flow for a project that is there."""
    root = find_root("specs", target, folder)
    read = read_target(root, "specs/reconcile.yaml", {})
    assert isinstance(read.target, Target), read.problems
    return init_workflows(folder, create_workflows(platform, root, [read.target], folder)).created


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the flow for both platforms."""
    folder = tmp_path_factory.mktemp("project")
    write(folder, {".git/config": ""})
    init(folder, data=None, name=None)
    assert _written(folder, "github") == (".github/reconcile.txt", *GITHUB)
    assert _written(folder, "gitlab") == (".gitlab/reconcile.txt", *GITLAB)
    return folder


@pytest.mark.parametrize(("schema", "names"), [("github-workflows", GITHUB), ("gitlab-ci", GITLAB)])
def test_they_fit_the_schema_of_their_platform(project: Path, schema: str, names: list[str]) -> None:
    from check_jsonschema.cli.main_command import main  # takes half a second

    files = [str(project / name) for name in names]
    done = CliRunner().invoke(main, ["--builtin-schema", f"vendor.{schema}", *files])
    assert done.exit_code == 0, done.output


@pytest.mark.skipif(not shutil.which("actionlint"), reason="needs actionlint, which not every machine can install")
def test_actionlint_has_nothing_to_say(project: Path) -> None:
    done = subprocess.run(  # noqa: S603 - a tool of the tests, on files of the test
        ["actionlint", *GITHUB],  # noqa: S607 - wherever it is
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_shellcheck_has_nothing_to_say_of_their_scripts(project: Path, tmp_path: Path) -> None:
    files = []
    for name in (*GITHUB, *GITLAB):
        checked = scripts(project / name)
        assert checked, name
        for number, script in enumerate(checked):
            files.append(tmp_path / f"{name.replace('/', '_')}-{number}")
            files[-1].write_text(script)
    done = subprocess.run(  # noqa: S603 - a tool of the tests, on files of the test
        [str(Path(sys.executable).with_name("shellcheck")), "--shell=bash", "--exclude=SC2154,SC2016", *files],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@each_row("name", [*GITHUB, *GITLAB])
def test_their_commands_are_there_with_those_options(project: Path, name: str) -> None:
    context = click.Context(cli)
    called = [command for script in scripts(project / name) for command in commands(script)]
    assert called
    for command, *arguments in called:
        known = cli.get_command(context, command)
        assert known is not None, command
        options = {option for parameter in known.params for option in parameter.opts}
        assert {one for one in arguments if one.startswith("-")} <= options, [command, *arguments]


@each_row("name", [*GITHUB, *GITLAB])
def test_their_python_compiles(project: Path, name: str) -> None:
    for script in scripts(project / name):
        programs = re.findall(r"python -I -c '(.*?)'", script, re.DOTALL)
        assert len(programs) == script.count(" -c '") - script.count("bash -euo pipefail -c '")
        for program in programs:
            compile(program, name, "exec")


def test_the_flow_calls_what_it_is_made_of(project: Path) -> None:
    called = {
        (command, frozenset(one for one in arguments if one.startswith("-") and one != "--report"))
        for name in GITHUB
        for script in scripts(project / name)
        for command, *arguments in commands(script)
    }
    assert called == {
        ("validate", frozenset()),
        ("validate", frozenset({"--locked", "--base"})),
        ("validate", frozenset({"--locked", "--base", "--allow-decisions"})),
        ("validate", frozenset({"--locked", "--quiet"})),
        ("plan", frozenset({"--base", "--out"})),
        ("plan", frozenset({"--base", "--offline"})),
        ("apply", frozenset({"--no-wait", "--train-only"})),
        ("apply", frozenset({"--yes", "--locked"})),
        ("wait", frozenset({"--timeout"})),
        ("drift", frozenset()),
        ("refresh", frozenset({"--merge"})),
        ("migrate", frozenset({"--dry-run", "--format"})),
        ("migrate", frozenset()),
        ("render", frozenset()),
    }


@each_row("name", GITHUB)
def test_what_others_chose_reaches_no_script_but_through_its_environment(project: Path, name: str) -> None:
    assert not [script for script in scripts(project / name) if "${{" in script]
    assert "pull_request_target" not in (project / name).read_text(encoding="utf-8")


@each_row("name", GITHUB)
def test_actions_are_pinned_to_commits(project: Path, name: str) -> None:
    text = (project / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in used)
    assert "-latest" not in text


@each_row("name", GITHUB)
def test_jobs_have_little_leave_and_little_time(project: Path, name: str) -> None:
    workflow = read(project / name)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert job["concurrency"]["group"].startswith("reconcile-")
        written = {name for name, leave in job["permissions"].items() if leave == "write"}
        assert written <= {"id-token", "pull-requests", "issues"}


def test_zizmor_has_nothing_to_say(project: Path) -> None:
    """Among others: no key is kept on disk by a checkout, and each permission has its reason beside it."""
    done = subprocess.run(  # noqa: S603 - a tool of the tests, on files of the test
        [
            str(Path(sys.executable).with_name("zizmor")),
            *("--offline", "--no-config", "--no-progress", "--color=never", "--persona", "pedantic", *GITHUB),
        ],
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "No findings to report. Good job!\n"), done.stdout


@each_row("name", GITHUB)
def test_a_key_is_beside_no_file_of_a_pull_request_and_no_other_step(project: Path, name: str) -> None:
    """Secrets are given to the step that pushes, which reads commits and no files, and tokens to steps that call gh."""
    for job in read(project / name)["jobs"].values():
        assert "secrets." not in json.dumps({key: value for key, value in job.items() if key != "steps"})
        for step in job["steps"]:
            text, script = json.dumps(step), step.get("run", "")
            assert ("secrets." in text) == ("push" in script.split()), step
            assert ("github.token" in text) == ("gh " in script), step
            assert "secrets." not in text or "reconcile " not in script
            assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False


@each_row("name", [*GITHUB, *GITLAB])
def test_what_is_installed_has_hashes_and_is_of_the_base_commit(project: Path, name: str) -> None:
    for script in scripts(project / name):
        installs = re.findall(r".*\bpip install.*", script)
        assert len(installs) == script.count('git cat-file blob "$trusted:')
        assert all("python -I -m pip install --quiet --require-hashes --only-binary :all: " in one for one in installs)
    order = [step.get("uses", step.get("name", "")).partition("@")[0] for step in steps(read(project / GITHUB[3]))]
    assert order.index("Install") < order.index("google-github-actions/auth")


@each_row("name", [*GITHUB, *GITLAB])
def test_refs_are_full_names_or_hashes(project: Path, name: str) -> None:
    """A short name such as ``origin/main`` can be that of a tag."""
    text = (project / name).read_text(encoding="utf-8")
    assert not re.findall(r"(?<!refs/remotes/)(?<![\w+:.-])origin/(?!\*)", text)
    assert "ref_name" not in text
    assert "FETCH_HEAD" not in text
    for script in scripts(project / name):
        pushed = re.findall(r"\S+:refs/heads/\S+", script)
        assert set(pushed) <= {"'refs/reconcile/*:refs/heads/*'", '"$ref:refs/heads/${ref#refs/reconcile/}"'}
        assert ("push -" in script) == bool(pushed)


@each_row("name", [*GITHUB, *GITLAB])
def test_reports_are_written_to_new_folders_outside_of_the_checkout(project: Path, name: str) -> None:
    for script in scripts(project / name):
        written = re.findall(r"--(?:report|out) (\S+)", script)
        assert all(one.startswith('"$out/') for one in written)
        assert not written or "out=$(mktemp -d" in script


@each_row("name", [*GITHUB, *GITLAB])
def test_decisions_are_allowed_behind_an_environment_alone(project: Path, name: str) -> None:
    document = read(project / name)
    for key, job in document.get("jobs", document).items():
        if "--allow-decisions" in json.dumps(job):
            approving = document["jobs"]["decisions"] if "jobs" in document else job
            assert approving["environment"] == "reconcile-decisions", key


@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_targets_share_no_group_environment_or_account(tmp_path: Path, platform: Platform) -> None:
    write(tmp_path, {".git/config": ""})
    init(tmp_path, data=None, name=None)
    _written(tmp_path, platform)
    target = (tmp_path / "specs/reconcile.yaml").read_text(encoding="utf-8").replace("name: default", "name: eu-prod")
    write(tmp_path, {"specs/reconcile.eu-prod.yaml": target})
    _written(tmp_path, platform, "eu-prod")
    names: list[set[str]] = [set(), set()]
    for file in (tmp_path / f".{platform}").rglob("*.yml"):
        text = file.read_text(encoding="utf-8")
        found = re.findall(
            r"^ *(?:group|environment|resource_group|name): (?:&\w+ )?(reconcile\S*)", text, re.MULTILINE
        )
        found += re.findall(r"(?:WORKLOAD_IDENTITY_PROVIDER|PLAN_ACCOUNT|APPLY_ACCOUNT)\w*", text)
        found += re.findall(r"^[.]?reconcile\S*(?=:$)", text, re.MULTILINE)
        names["eu-prod" in file.name] |= set(found)
    assert len(names[0]) == len(names[1]) > 10
    assert not names[0] & names[1]


def test_only_the_jobs_of_environments_change_models(project: Path) -> None:
    changing = {
        job["environment"]
        for name in GITHUB
        for job in read(project / name)["jobs"].values()
        if "vars.APPLY_ACCOUNT" in json.dumps(job)
    }
    assert changing == {"reconcile-train", "reconcile"}


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq, whose language gh speaks")
@pytest.mark.parametrize(
    ("name", "number", "found"),
    [("reconcile-pull-request", 0, ["7"]), ("reconcile-drift", 0, ["17"]), ("reconcile-settle", 0, ["1\tmy branch"])],
)
def test_what_gh_is_asked_to_pick(project: Path, name: str, number: int, found: list[str]) -> None:
    """Ours alone, whatever others wrote."""
    script = "\n".join(scripts(project / f".github/workflows/{name}.yml"))
    picked = re.findall(r"--jq \\\n\s*'(.*)'", script)[number]
    marker = "<!-- reconcile:plan:default -->"
    head, base = {"repo": {"full_name": "mallory/models"}}, {"repo": {"full_name": "acme/models"}}
    fork = {"head": head, "base": base}
    bot, other = {"login": "github-actions[bot]"}, {"login": "mallory"}
    things = [
        {"id": 5, "number": 15, "user": other, "body": f"{marker}\nmine", **fork},
        {"id": 6, "number": 16, "user": bot, "body": None, "pull_request": None, **fork},
        {"id": 7, "number": 17, "user": bot, "body": f"{marker}\nours", **fork},
        {"id": 8, "number": 18, "user": bot, "body": marker.replace("default", "p"), **fork},
    ]
    if name == "reconcile-pull-request":
        things = [one for one in things if one["body"] is not None]  # a comment has one
    if name == "reconcile-settle":
        things.append({"number": 1, "head": {**base, "ref": "my branch"}, "base": base})
        things.append({"number": 2, "head": {"repo": None, "ref": "deleted fork"}, "base": base})
    if name == "reconcile-drift":
        things = [one for one in things if one["user"] is bot]  # as the query asks
    done = subprocess.run(  # noqa: S603 - a tool of the tests, on a filter of ours
        ["jq", "--raw-output", picked],  # noqa: S607 - wherever it is
        input=json.dumps(things),
        env={"MARKER": marker},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == found


@pytest.mark.parametrize("name", [GITHUB[4], *GITLAB])
def test_the_job_that_settles_says_that_nothing_is_merged(project: Path, name: str) -> None:
    """Or else it would write a lockfile in a bucket, from which applications are served."""
    settling = [script for script in scripts(project / name) if "reconcile wait" in script]
    assert settling
    for script in settling:
        assert script.index("export RECONCILE_UNMERGED=1") < script.index("reconcile wait")


def test_they_name_what_is_there(project: Path) -> None:
    workflow = read(project / GITHUB[2])
    assert workflow["on"]["push"] == {"branches": ["main"]}
    assert workflow["env"] == {
        "PYTHONSAFEPATH": "1",
        "RECONCILE_TARGET": "default",
        "SPECS": "specs",
        "LOCKFILE": "specs/reconcile.lock.json",
        "POINTERS": "",
    }


def test_another_target_branch_and_folder(tmp_path: Path) -> None:
    write(tmp_path, {".git/refs/remotes/origin/HEAD": "ref: refs/remotes/origin/trunk\n"})
    folder = tmp_path / "models of ours"
    init(folder, data=None, name=None)
    target = (folder / "specs" / "reconcile.yaml").read_text(encoding="utf-8")
    prod = (
        target.replace("default", "prod").replace("embedded #", "generativelanguage #") + "  publish: ../serving.json\n"
    )
    write(folder, {"specs/reconcile.prod.yaml": prod + "  project: my-project-id\n"})

    made = _written(folder, "github", "prod")

    assert made[0] == "../.github/reconcile.txt"
    assert "../.github/workflows/reconcile-locked-prod.yml" in made
    workflow = read(tmp_path / ".github/workflows/reconcile-merged-prod.yml")
    assert workflow["on"]["push"] == {"branches": ["trunk"]}
    job = workflow["jobs"]["apply"]
    assert job["if"] == "github.ref == 'refs/heads/trunk'"
    assert (job["environment"], job["concurrency"]["group"]) == ("reconcile-prod", "reconcile-merged-prod")
    assert "vars.APPLY_ACCOUNT_PROD" in json.dumps(job)
    assert workflow["env"] == {
        "PYTHONSAFEPATH": "1",
        "RECONCILE_TARGET": "prod",
        "SPECS": "models of ours/specs",
        "LOCKFILE": "models of ours/specs/reconcile.prod.lock.json",
        "POINTERS": "models of ours/serving.json",
    }
    assert "../.github/reconcile.txt" not in _written(folder, "github"), "targets share it"


def test_the_pointers_of_all_stages_are_committed_and_a_schedule_promotes(tmp_path: Path) -> None:
    init(tmp_path, data=None, name=None)
    file = tmp_path / "specs" / "reconcile.yaml"
    stages = (
        "  stages:\n    - {name: staging, publish: serving.json}\n"
        "    - {name: production, after: staging, soak: 24h, publish: live/serving.json}\n"
        "    - {name: edge, after: production, publish: 'gs://acme-models/edge.json'}\n"
    )
    write(tmp_path, {"specs/reconcile.yaml": file.read_text(encoding="utf-8") + stages})
    (tmp_path / "specs" / "live").mkdir()
    _written(tmp_path, "github")
    workflow = read(tmp_path / ".github/workflows/reconcile-merged.yml")
    assert workflow["env"]["POINTERS"] == "specs/serving.json\nspecs/live/serving.json"
    assert workflow["on"]["schedule"] == [{"cron": "37 * * * *"}]
    _written(tmp_path, "gitlab")
    text = (tmp_path / ".gitlab/reconcile.yml").read_text(encoding="utf-8")
    assert '$RECONCILE_JOB == "promote"' in text


@each_row("text", ["ref: refs/heads/main", "ref: refs/remotes/origin/it's\n", b"\xff"])
def test_a_default_branch_that_cannot_be_told_is_main(tmp_path: Path, text: str | bytes) -> None:
    write(tmp_path, {".git/refs/remotes/origin/HEAD": text})
    init(tmp_path, data=None, name=None)
    _written(tmp_path, "github")
    assert read(tmp_path / GITHUB[2])["on"]["push"] == {"branches": ["main"]}


@pytest.mark.parametrize(("platform", "name"), [("github", GITHUB[4]), ("gitlab", GITLAB[0])])
def test_nothing_is_overwritten(tmp_path: Path, platform: Platform, name: str) -> None:
    write(tmp_path, {".git/config": "", name: "mine"})
    init(tmp_path, data=None, name=None)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ReconcileError) as caught:
        _written(tmp_path, platform)
    assert str(caught.value) == (
        f"{tmp_path / name} already exists, so nothing was written; keep using it, or move it away first"
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_lockfile_in_a_bucket_travels_in_no_pull_request(tmp_path: Path) -> None:
    init(tmp_path, data=None, name=None)
    target = tmp_path / "specs" / "reconcile.yaml"
    text = target.read_text(encoding="utf-8").replace("embedded #", "generativelanguage #")
    target.write_text(f"{text}  project: my-project-id\n  lock: gs://acme-locks/x.json\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        _written(tmp_path, "github")
    assert str(caught.value) == (
        "pull requests cannot contain the lockfile of target default, which is in a bucket; remove"
        " spec.lock, or train after the merge as described in docs/ci.md"
    )


def test_a_path_that_ci_would_take_for_a_variable(tmp_path: Path) -> None:
    write(tmp_path, {".git/config": ""})
    init(tmp_path / "$HOME", data=None, name=None)
    with pytest.raises(UsageError, match=r"CI expands the \$ as a variable; rename the file"):
        _written(tmp_path / "$HOME", "gitlab")


def test_a_link_leads_nothing_out_of_the_repository(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "repository"
    write(folder, {".git/config": ""})
    init(folder, data=None, name=None)
    (folder / ".github").symlink_to(elsewhere)
    with pytest.raises(ReconcileError, match=r"outside the repository; remove the link"):
        _written(folder, "github")
    assert not list(elsewhere.iterdir())
