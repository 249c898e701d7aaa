"""Each file that a command writes, in a repository whose author wants it to be written elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

import reconciler
from reconciler.domain.text import UNSEEN
from support.cli_world import Cli
from support.fork_server import forked
from support.git_repository import Repository

SECRET = "the user's own file\n"
OUTPUTS = {
    "report": ("plan.md", ["plan", "--report", "plan.md"]),
    "report in a folder": ("reports/plan.html", ["plan", "--report", "reports/plan.html"]),
    "saved plan": ("plan.json", ["plan", "--out", "plan.json"]),
    "event log": ("events.jsonl", ["apply", "--yes", "--events", "events.jsonl"]),
    "lockfile": ("specs/reconcile.lock.json", ["apply", "--yes"]),
    "pointer": ("specs/serving.json", ["apply", "--yes"]),
    "summary": ("summary.md", ["plan"]),
    "ignored files": (".gitignore", ["init"]),
    "workflow": (".github/workflows/reconcile-drift.yml", ["init", "--ci", "github"]),
    "manifest": ("specs/adopted.yaml", ["adopt", "adopted", "tunedModels/one"]),
}
"""A file of each kind, and the command that writes it."""
NEW = {"lockfile", "pointer"}
"""Files that are read before they are written; a link to a missing file makes the write create that file."""
EVERY = pytest.mark.parametrize("kind", OUTPUTS)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """An empty repository, which each test copies."""
    return Repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(autouse=True)
def _in_the_repository(reconcile: Cli, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.copy(reconcile.folder)
    monkeypatch.chdir(reconcile.folder)
    reconcile.manifest("adder")
    reconcile.target("  publish: serving.json\n  embedded: {world: world.json, stepSeconds: 0.001}\n")
    models = [{"name": "tunedModels/one", "state": "ACTIVE", "baseModel": "models/gemini-3.5-flash"}]
    (reconcile.specs / "world.json").write_text(json.dumps({"tunedModels": models}))
    reconcile.environ |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(reconcile.folder / "summary.md")}


def run(reconcile: Cli, kind: str) -> tuple[int, str]:
    if kind == "ignored files":
        for file in reconcile.specs.iterdir():
            file.unlink()
    done = reconcile(*OUTPUTS[kind][1])
    return done.status, done.out + done.err


@EVERY
def test_an_output_is_written(reconcile: Cli, kind: str) -> None:
    """Or else the refusals below would prove nothing."""
    file = reconcile.folder / OUTPUTS[kind][0]
    file.parent.mkdir(exist_ok=True, parents=True)
    before = os.umask(0o027)
    try:
        status, told = run(reconcile, kind)
    finally:
        os.umask(before)
    assert (status, file.is_file()) == (0, True), told
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path for path in reconcile.folder.rglob("*.tmp") if ".git" not in path.parts] == []


@EVERY
@pytest.mark.parametrize("inside", [True, False])
def test_no_output_is_written_through_a_link(reconcile: Cli, tmp_path: Path, kind: str, *, inside: bool) -> None:
    victim = (reconcile.folder if inside else tmp_path.parent) / f"victim-{tmp_path.name}.json"
    if kind not in NEW:
        victim.write_text(SECRET if kind != "event log" else "")
    before = victim.read_text() if victim.exists() else None
    file = reconcile.folder / OUTPUTS[kind][0]
    file.parent.mkdir(exist_ok=True, parents=True)
    file.symlink_to(victim)
    status, told = run(reconcile, kind)
    assert (victim.read_text() if victim.exists() else None) == before
    assert file.is_symlink()
    assert (status == 0) == (kind == "summary"), told
    reasons = ("link", "already exists", "outside the repository", "expected a mapping")
    assert any(reason in told for reason in reasons), told


@pytest.mark.parametrize("kind", ["report", "saved plan", "event log", "summary"])
def test_no_output_is_written_through_a_folder_that_leads_out_of_the_repository(
    reconcile: Cli, tmp_path: Path, kind: str
) -> None:
    file, command = OUTPUTS[kind]
    outside = tmp_path.parent / f"outside-{tmp_path.name}"
    (outside / ".git").mkdir(parents=True)
    arguments = [f"out/{file}" if argument == file else argument for argument in command]
    reconcile.environ["GITHUB_STEP_SUMMARY"] = str(reconcile.folder / "out/summary.md")
    (reconcile.folder / "out").symlink_to(outside)
    told = reconcile(*arguments).err
    assert [path.name for path in outside.iterdir()] == [".git"]
    assert "link" in told


@pytest.mark.parametrize("folder", [".git/hooks", ".GIT", "hooks"])
def test_nothing_is_written_into_the_directory_of_git(reconcile: Cli, folder: str) -> None:
    (reconcile.folder / ".GIT").mkdir(exist_ok=True)
    (reconcile.folder / "hooks").symlink_to(".git/hooks")
    (reconcile.folder / ".git/hooks").mkdir(exist_ok=True)
    reconcile.environ["GITHUB_STEP_SUMMARY"] = str(reconcile.folder / folder / "pre-push")
    for arguments in (
        ["plan", "--out", f"{folder}/pre-commit"],
        ["plan", "--report", f"{folder}/config.md"],
        ["apply", "--yes", "--events", f"{folder}/post-merge"],
    ):
        refused = reconcile(*arguments)
        assert refused.status == 64, arguments
        assert "it is in the directory of git; name a file outside of it" in refused.err
    assert "summary of this step cannot be written: it is in the directory of git" in reconcile("plan").err
    written = {"pre-commit", "config.md", "post-merge", "pre-push"}
    assert not [path for path in reconcile.folder.rglob("*") if path.name in written]


def test_the_published_pointer_is_not_written_into_the_directory_of_git(reconcile: Cli) -> None:
    for publish in ("../.git/serving.json", "../.GIT/serving.json", "hooks/serving.json"):
        (reconcile.folder / ".GIT").mkdir(exist_ok=True)
        if not (reconcile.specs / "hooks").exists():
            (reconcile.specs / "hooks").symlink_to("../.git")
        reconcile.target(f"  publish: {publish}\n")
        assert reconcile("apply", "--yes").status != 0
        assert not (reconcile.specs / publish).exists()


@pytest.mark.parametrize(
    ("output", "stream", "to_file"),
    [
        (["plan", "--out"], "/dev/stdout", True),
        (["plan", "--out"], "/dev/fd/1", False),
        (["check", "--events"], "/dev/stdout", False),
    ],
)
def test_a_stream_is_written_directly(reconcile: Cli, output: list[str], stream: str, *, to_file: bool) -> None:
    command = forked("-m", "reconciler", *output, stream)
    file = reconcile.folder / "redirected"
    with file.open("w") as target:
        done = subprocess.run(  # noqa: S603 - our own command
            command, stdout=target if to_file else subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True
        )
    assert done.returncode == 0, done.stderr
    assert '"version": 1' in (file.read_text() if to_file else done.stdout)


def test_what_a_killed_run_left_is_removed_by_the_next_one(reconcile: Cli) -> None:
    """The run is killed when the lockfile's new content is on disk, and not yet in its place."""
    program = (
        "import os, signal, sys, pathlib; from reconciler.commands.main import main\n"
        "def kill(event, arguments):\n"
        "    if event == 'os.rename' and 'reconcile.lock.json' in str(arguments[0]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(kill); main(['apply', '--yes'])"
    )
    killed = subprocess.run(forked("-c", program), check=False, capture_output=True)  # noqa: S603 - our own
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    def left() -> list[str]:
        return [path.name for path in reconcile.specs.iterdir() if path.name.startswith(".reconcile.lock.json.")]

    assert len(left()) == 1
    running = reconcile.process("apply", "--yes")
    running.communicate()
    assert (running.returncode, left()) == (0, [])


@pytest.mark.parametrize(("option", "name"), [("--out", "plan.json"), ("--report", "plan.md")])
def test_a_full_disk_is_one_clear_message(reconcile: Cli, option: str, name: str) -> None:
    program = (
        "import resource, signal, sys; from reconciler.commands.main import main\n"
        "def fill(event, arguments):\n"
        f"    if event == 'open' and {name!r} in str(arguments[0]):\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"sys.addaudithook(fill); sys.exit(main({['plan', option, name]!r}))"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        forked("-c", program), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        f"Error: {option} {name} cannot be written: File too large; free disk space, then run the command again\n"
    )
    assert sorted(path.name for path in reconcile.folder.iterdir() if path.name.startswith(".plan")) == []


def test_two_signals_while_the_lockfile_is_saved_lose_nothing(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    program = (
        "import os, signal, sys; from reconciler.commands.main import main\n"
        "def kill(event, arguments):\n"
        "    if event == 'os.rename' and 'reconcile.lock.json' in str(arguments[0]):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.addaudithook(kill); sys.exit(main(['apply', '--yes']))"
    )
    ended = subprocess.run(  # noqa: S603 - our own
        forked("-c", program), check=False, capture_output=True, text=True, cwd=reconcile.folder
    )
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert (
        "Error: interrupted; the lockfile is saved, and trainings continue; run the same command again" in ended.stderr
    )
    (generation,) = reconcile.lock["adder"]["generations"]
    assert generation["state"] == "CREATING"
    assert not list(reconcile.specs.glob(".*.tmp"))


def test_the_output_of_a_command_has_none_of_them(reconcile: Cli) -> None:
    manifest = reconcile.specs / "adder.yaml"
    manifest.rename(manifest.with_name("x\u202e\x9b31my.yaml"))
    done = reconcile("plan", "--format", "json", "--report", str(reconcile.folder / "r.json"))
    assert done.status == 0, done.err
    for text in (done.out, (reconcile.folder / "r.json").read_text()):
        assert not re.search(rf"(?!\n)[{UNSEEN}]", text)
        assert "x\\u202e\\u009b31my" in text


WRITING = re.compile(
    r"\.(write_text|write_bytes|touch|hardlink_to)\(|open\([^)]*[\"'][rbt+]*[wax]|os\.(open|replace|rename)\(|mkstemp|NamedTemp"
)
WRITERS = {
    "files.py": "the writer",
    "commands/main.py": "the null device",
    "emulator/objects.py": "the contents of objects, in the folder of the store",
    "providers/local/hosts.py": "locks the folders of models that are being written",
    "trainer/__main__.py": "the traceback of a bug, in the run folder",
    "trainer/checkpoints.py": "checkpoints and results, in the run folder",
    "trainer/progress.py": "the measurements, in the run folder",
    "trainer/run_files.py": "reads locks",
    "trainer/training.py": "checkpoints, in the run folder",
    "manifests/git.py": "files of a commit, in a temporary folder",
}


def test_no_other_module_writes_files() -> None:
    package = Path(reconciler.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if WRITING.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(WRITERS)


def test_a_summary_that_is_not_an_absolute_path_is_not_created(reconcile: Cli) -> None:
    reconcile.environ["GITHUB_STEP_SUMMARY"] = "a-secret-by-mistake"
    told = reconcile("plan").err
    assert "cannot be written: GITHUB_STEP_SUMMARY is not an absolute path" in told
    assert "a-secret-by-mistake" not in told
    assert not (reconcile.folder / "a-secret-by-mistake").exists()
