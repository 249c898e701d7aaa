"""GitHub as far as the workflows see it: a bare repository, pull requests, a runner of jobs, and a ``gh`` that records.

Jobs are played from the text of the workflows: their ``run`` blocks by the real bash, with the real git and reconcile.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from reconciler.manifests.yaml_parser import parse
from support.fork_server import forked

Json = dict[str, Any]
REPOSITORY = "acme/nlp-models"
TOKEN = "ya29.hush-hush"
SKIPPED = "the job is skipped"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_WORD = re.compile(r"\s*(&&|\|\||==|!=|!|\(|\)|'[^']*'|[A-Za-z_][\w.-]*)")


class Expression:
    """GitHub's expressions, as far as the workflows use them: paths, texts, comparisons, and, or, not, calls."""

    def __init__(self, text: str, contexts: Mapping[str, Any]) -> None:
        self._words = _WORD.findall(text)
        if "".join(self._words) != re.sub(r"\s+", "", text):
            raise ValueError(text)
        self._contexts = contexts

    def value(self) -> Any:
        """What it comes to."""
        found = self._either()
        if self._words:
            raise ValueError(self._words)
        return found

    def _either(self) -> Any:
        found = self._both()
        while self._took("||"):
            other = self._both()
            found = found or other
        return found

    def _both(self) -> Any:
        found = self._compared()
        while self._took("&&"):
            other = self._compared()
            found = found and other
        return found

    def _compared(self) -> Any:
        found = self._one()
        if self._took("=="):
            return found == self._one()
        return found != self._one() if self._took("!=") else found

    def _one(self) -> Any:
        word = self._words.pop(0)
        if word == "!":
            return not self._one()
        if word == "(":
            return self._closed(self._either())
        if word.startswith("'"):
            return word[1:-1]
        if self._took("("):
            return self._closed({"cancelled": False, "always": True}[word])
        found: Any = self._contexts
        for part in word.split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        return found

    def _closed(self, found: Any) -> Any:
        if not self._took(")"):
            raise ValueError(self._words)
        return found

    def _took(self, word: str) -> bool:
        if self._words[:1] == [word]:
            self._words.pop(0)
            return True
        return False


def expanded(text: Any, contexts: Mapping[str, Any]) -> str:
    """A text of a workflow with the values of its expressions."""

    def value(found: re.Match[str]) -> str:
        return shown(Expression(found[1], contexts).value())

    def shown(result: Any) -> str:
        return json.dumps(result) if isinstance(result, bool) else str(result)

    return _EXPRESSION.sub(value, shown(text))


def holds(condition: Any, contexts: Mapping[str, Any]) -> bool:
    """Whether an ``if`` is met."""
    text = str(condition)
    whole = _EXPRESSION.fullmatch(text)
    return bool(Expression(whole[1] if whole else text, contexts).value())


class Ran(Struct, frozen=True):
    """How a job ended: whether it passed, its outputs, what its steps printed, and what they wrote to the summary.

    ``at`` is the commit that was checked out.
    """

    passed: bool
    outputs: Mapping[str, str]
    log: str
    summary: str = ""
    at: str = ""


class Pull(Struct, frozen=True):
    """A pull request."""

    number: int
    branch: str
    fork: bool = False


class Hub(Struct, dict=True):
    """One repository; ``folder`` is where everything of it is, ``settings`` are those of the runners' git."""

    folder: Path
    jobs: int = 0
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    settings: str = os.devnull
    pulls: dict[int, Pull] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.origin = self.folder / "origin.git"
        self._bin = self.folder / "bin"
        self._state = self.folder / "hub.json"
        self._write({"pulls": [], "opened": [], "comments": [], "issues": []})
        self._bin.mkdir()
        reconcile = f'#!/bin/sh\nexec {shlex.join(forked("-m", "reconciler"))} "$@"\n'
        for name, text in (("reconcile", reconcile), *_PROGRAMS.items()):
            (self._bin / name).write_text(text.replace("PYTHON", sys.executable))
            (self._bin / name).chmod(0o755)
        self.environ = {
            "PATH": f"{self._bin}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HUB_ORIGIN": str(self.origin),
            "HUB_INSTALLED": str(self.folder / "installed"),
            "HUB_SLOW": "",  # the number of a pull request that exceeds its time limit
        }
        self.git(self.folder, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(self.origin))

    def git(self, folder: Path, *arguments: str, strict: bool = True, stdin: str = "") -> str:
        """Run git in a folder as somebody who has a name; what it prints."""
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(  # noqa: S603 - git, on a folder of the test
            ["git", "-C", str(folder), *who, *arguments],  # noqa: S607 - the git that there is
            env=self.environ,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or not strict, done.stderr
        return done.stdout.strip() if done.returncode == 0 else ""

    def begin(self, name: str) -> Path:
        """A checkout of an empty repository."""
        folder = self.folder / name
        self.git(self.folder, "init", "--quiet", "--template=", "--initial-branch=main", str(folder))
        self.git(folder, "remote", "add", "origin", str(self.origin))
        return folder

    def commit(self, folder: Path, branch: str) -> None:
        """Commit what stands there, and push it to a branch."""
        self.git(folder, "add", "--all", "--force")
        self.git(folder, "commit", "--quiet", "--message", "a change")
        self.git(folder, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")

    def head(self, branch: str = "main") -> str:
        """The commit at the top of a branch."""
        return self.git(self.origin, "rev-parse", f"refs/heads/{branch}")

    def file(self, path: str, at: str = "main") -> str:
        """What a file says in a commit; empty where there is none."""
        return self.git(self.origin, "show", f"{at}:{path}", strict=False)

    def open(self, branch: str, *, fork: bool = False) -> Pull:
        """Open a pull request; that of a fork is from a branch that stands for the fork's."""
        pull = Pull(len(self.pulls) + 1, branch, fork)
        self.pulls[pull.number] = pull
        self._write_pulls()
        return pull

    def mergeable(self, pull: Pull) -> str:
        """The merge that GitHub offers, as ``refs/pull/N/merge``; empty where it is in conflict."""
        place = self.folder / "merging"
        shutil.rmtree(place, ignore_errors=True)
        self.git(self.folder, "clone", "--quiet", str(self.origin), str(place))
        merged = self.git(place, "merge", "--quiet", "--no-ff", "--no-edit", f"origin/{pull.branch}", strict=False)
        if not merged and self.git(place, "status", "--porcelain"):
            return ""
        self.git(place, "push", "--quiet", "--force", "origin", f"HEAD:refs/pull/{pull.number}/merge")
        return self.git(place, "rev-parse", "HEAD")

    def merge(self, pull: Pull) -> None:
        """Merge a pull request."""
        merged = self.mergeable(pull)
        assert merged, "in conflict"
        self.git(self.origin, "update-ref", "refs/heads/main", merged)
        self.close(pull)

    def close(self, pull: Pull) -> None:
        """A pull request is closed or merged."""
        del self.pulls[pull.number]
        self._write_pulls()

    def forget(self, branch: str) -> None:
        """No pull request was opened for a branch."""
        state = json.loads(self._state.read_text(encoding="utf-8"))
        state["opened"] = [one for one in state["opened"] if one["head"] != branch]
        self._write(state)

    @property
    def installed(self) -> list[str]:
        """The requirements that the last job installed from, without comments."""
        text = (self.folder / "installed").read_text(encoding="utf-8")
        return [line for line in text.splitlines() if not line.startswith("#")]

    @property
    def comments(self) -> list[Json]:
        """The comments on pull requests."""
        comments: list[Json] = json.loads(self._state.read_text(encoding="utf-8"))["comments"]
        return comments

    @property
    def opened(self) -> list[Json]:
        """The pull requests that a job opened: their branches, titles and descriptions."""
        opened: list[Json] = json.loads(self._state.read_text(encoding="utf-8"))["opened"]
        return opened

    @property
    def issues(self) -> list[Json]:
        """The issues."""
        issues: list[Json] = json.loads(self._state.read_text(encoding="utf-8"))["issues"]
        return issues

    def comment(self, number: int, login: str, body: str) -> None:
        """Somebody comments on a pull request."""
        state = json.loads(self._state.read_text(encoding="utf-8"))
        state["comments"].append({"id": 1, "issue": number, "user": {"login": login}, "body": body})
        self._write(state)

    def _write_pulls(self) -> None:
        state = json.loads(self._state.read_text(encoding="utf-8"))
        state["pulls"] = [[one.number, one.branch, one.fork] for one in self.pulls.values()]
        self._write(state)

    def _write(self, state: Json) -> None:
        self._state.write_text(json.dumps(state), encoding="utf-8")

    def on_pull(self, pull: Pull, workflow: str, job: str, head: str = "", at: str = "", **needs: Json) -> Ran:
        """Play a job of a pull request's workflow; the workflow is the one of the merge that GitHub offers.

        ``head`` is the commit that the run is about; by default the one at the top of the branch. ``at`` is its merge.
        """
        at = at or self.mergeable(pull)
        assert at, "GitHub runs nothing for a pull request that is in conflict"
        event = {
            "pull_request": {
                "number": pull.number,
                "head": {
                    "sha": head or self.head(pull.branch),
                    "repo": {"full_name": "stranger/nlp-models" if pull.fork else REPOSITORY},
                },
            },
        }
        github = {"event": event, "base_ref": "main", "head_ref": pull.branch, "ref": f"refs/pull/{pull.number}/merge"}
        return self._job(workflow, job, at, github, needs, trusted=not pull.fork)

    def on_main(self, workflow: str, job: str, ref: str = "main", before: str = "", at: str = "") -> Ran:
        """Play a job that is scheduled, or that a push to the main branch starts; ``before`` is its previous head.

        ``at`` is the commit that was pushed, by default the newest.
        """
        ref = ref if "/" in ref else f"refs/heads/{ref}"
        github = {"ref": ref, "ref_name": ref.rsplit("/", 1)[-1], "event": {"before": before}}
        return self._job(workflow, job, at or self.head(), github, {}, trusted=True)

    def on_gitlab(self, name: str, pull: Pull | None = None, **variables: str) -> Ran:
        """Play a job of the pipeline of GitLab: of a merge request, else of the main branch."""
        return _GitLabJob(self, name, pull, variables).play()

    def in_queue(self, pull: Pull, workflow: str, job: str, **needs: Json) -> Ran:
        """Play a job in the merge queue."""
        at = self.mergeable(pull)
        event = {"merge_group": {"base_sha": self.head()}}
        github = {"ref": "refs/heads/gh-readonly-queue/main/pr-1", "event": event}
        return self._job(workflow, job, at, github, needs, trusted=True)

    def _job(self, workflow: str, name: str, at: str, github: Json, needs: Mapping[str, Json], *, trusted: bool) -> Ran:
        (document,) = parse(self.file(f".github/workflows/{workflow}.yml", at).encode(), workflow).documents
        job = document.value["jobs"][name]
        contexts = {
            "github": {**github, "repository": REPOSITORY, "token": "ghs_token"},
            "vars": {"WORKLOAD_IDENTITY_PROVIDER": "projects/1/github"} if trusted else {},
            "secrets": {"RECONCILE_DEPLOY_KEY": "a key"} if trusted else {},
            "needs": needs,
            "steps": {},
            "runner": {},
        }
        if not holds(job.get("if", "always()"), contexts):
            return Ran(passed=True, outputs={}, log=SKIPPED)
        return _Job(self, document.value, job, at, contexts).play()

    def place(self) -> Path:
        """A folder of its own for one more job."""
        self.jobs += 1
        folder = self.folder / f"job-{self.jobs}"
        (folder / "temp").mkdir(parents=True)
        return folder

    def environment(self, place: Path) -> dict[str, str]:
        """What a runner hands to each step."""
        return {
            **self.environ,
            "GIT_CONFIG_GLOBAL": self.settings,
            "HUB_STATE": str(self._state),
            "RUNNER_TEMP": str(place / "temp"),
            "TMPDIR": str(place / "temp"),
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_OUTPUT": str(place / "output"),
            "GITHUB_STEP_SUMMARY": str(place / "summary"),
            "GITHUB_WORKSPACE": str(place / "checkout"),
        }


class _Job:
    """One job on a machine of its own."""

    def __init__(self, hub: Hub, workflow: Json, job: Json, at: str, contexts: Json) -> None:
        self._hub, self._job, self._at, self._contexts = hub, job, at, contexts
        self._place = hub.place()
        self._checkout = self._place / "checkout"
        self._environ = hub.environment(self._place)
        self._contexts["runner"]["temp"] = str(self._place / "temp")
        self._folder = job.get("defaults", workflow["defaults"])["run"].get("working-directory", ".")
        self._environ |= {"GITHUB_SHA": at}
        self._environ |= self._expanded(workflow["env"]) | self._expanded(job.get("env", {}))
        self._log: list[str] = []

    def play(self) -> Ran:
        self._checkout.mkdir()
        (self._place / "output").touch()
        (self._place / "summary").touch()
        passed = True
        for step in self._job["steps"]:
            passed = self._step(step, failed=not passed) and passed
        outputs = {name: expanded(text, self._contexts) for name, text in self._job.get("outputs", {}).items()}
        return Ran(passed, outputs, "".join(self._log), (self._place / "summary").read_text(encoding="utf-8"), self._at)

    def _step(self, step: Json, *, failed: bool) -> bool:
        """Whether the step passed, or was left out. After a failure only those run that say so."""
        condition = step.get("if", "always()")
        told_so = "always()" in str(step.get("if", "")) or "cancelled()" in str(step.get("if", ""))
        wanted = holds(condition, self._contexts) and (told_so or not failed)
        act = self._action(step["uses"].partition("@")[0]) if "uses" in step else self._run
        passed = act(step) if wanted else True
        if "id" in step:
            outcome = ("success" if passed else "failure") if wanted else "skipped"
            self._contexts["steps"][step["id"]] = {"outcome": outcome, "outputs": self._outputs()}
        return passed

    def _outputs(self) -> dict[str, str]:
        lines = (self._place / "output").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _expanded(self, values: Json) -> dict[str, str]:
        return {name: expanded(text, self._contexts) for name, text in values.items()}

    def _run(self, step: Json) -> bool:
        done = subprocess.run(  # noqa: S603 - a block of our own workflow
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],  # noqa: S607 - the bash that there is
            cwd=self._checkout / self._folder,
            env=self._environ | self._expanded(step.get("env", {})),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._log.append(done.stdout)
        return done.returncode == 0

    def _action(self, name: str) -> Callable[[Json], bool]:
        return {
            "actions/checkout": self._check_out,
            "actions/setup-python": lambda _step: True,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
            "google-github-actions/auth": self._log_in,
        }[name]

    def _log_in(self, step: Json) -> bool:
        assert self._job["permissions"]["id-token"] == "write"
        assert self._expanded(step["with"])["workload_identity_provider"] == "projects/1/github"
        self._environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
        return True

    def _upload(self, step: Json) -> bool:
        given = self._expanded(step["with"])
        self._hub.artifacts[given["name"], self._at] = Path(given["path"]).read_bytes()
        return True

    def _download(self, step: Json) -> bool:
        given = self._expanded(step["with"])
        Path(given["path"]).mkdir()
        (Path(given["path"]) / "plan.json").write_bytes(self._hub.artifacts[given["name"], self._at])
        return True

    def _check_out(self, step: Json) -> bool:
        """As actions/checkout: the ref that is asked for, as deep as that, and able to push only with the key."""
        git, given = self._hub.git, self._expanded(step.get("with", {}))
        at, folder = given.get("ref") or self._at, self._checkout / given.get("path", ".")
        folder.mkdir(exist_ok=True)
        git(folder, "init", "--quiet", "--template=")
        git(folder, "remote", "add", "origin", self._hub.origin.as_uri())
        if given.get("fetch-depth", "1") == "0":
            git(folder, "fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
            git(folder, "fetch", "--quiet", "origin", at)
        else:
            git(folder, "fetch", "--quiet", "--depth", given.get("fetch-depth", "1"), "origin", at)
        git(folder, "checkout", "--quiet", "--detach", at)
        if given.get("persist-credentials") == "false" or not given.get("ssh-key"):
            git(folder, "config", "remote.origin.pushurl", str(self._place / "no-credentials"))
        return True


class _GitLabJob:
    """One job of GitLab: the runner checks out the commit, and runs all scripts in one shell."""

    def __init__(self, hub: Hub, name: str, pull: Pull | None, variables: Mapping[str, str]) -> None:
        at = hub.head(pull.branch if pull else "main")
        (document,) = parse(hub.file(".gitlab/reconcile.yml", at).encode(), name).documents
        self._job = _extended(document.value, name)
        self._hub, self._pull, self._at, self._place = hub, pull, at, hub.place()
        self._checkout = self._place / "checkout"
        runner = hub.environment(self._place)
        self._environ = {name: text for name, text in runner.items() if not name.startswith("GITHUB_")} | {
            "CI_PROJECT_DIR": str(self._checkout),
            "CI_PROJECT_URL": self._hub.origin.as_uri().removesuffix(".git"),
            "CI_PROJECT_ID": "1",
            "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
            "CI_SERVER_HOST": "gitlab.example.com",
            "CI_DEFAULT_BRANCH": "main",
            "CI_COMMIT_SHA": at,
            "CI_COMMIT_BEFORE_SHA": "0" * 40,
            "RECONCILE_TOKEN": TOKEN,
            "RECONCILE_COMMENT_TOKEN": TOKEN,
            "RECONCILE_ACCESS_TOKEN": TOKEN,
        }
        if pull:
            self._environ |= {
                "CI_MERGE_REQUEST_IID": str(pull.number),
                "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": pull.branch,
                "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
                "CI_MERGE_REQUEST_DIFF_BASE_SHA": hub.git(hub.origin, "merge-base", "main", at),
            }
        else:
            self._environ |= {"CI_COMMIT_BRANCH": "main"}
        self._environ |= {key: _substituted(text, self._environ) for key, text in self._job["variables"].items()}
        self._environ |= variables

    def play(self) -> Ran:
        git, origin = self._hub.git, self._hub.origin.as_uri()
        git(self._place, "clone", "--quiet", "--no-checkout", origin, str(self._checkout))
        if self._environ.get("GIT_CHECKOUT") != "false":
            git(self._checkout, "checkout", "--quiet", "--detach", self._at)
        if "needs" in self._job:
            shutil.copytree(self._artifacts, self._checkout, dirs_exist_ok=True)
            lines = (self._artifacts / "reconcile-plan/plan.env").read_text(encoding="utf-8").splitlines()
            self._environ |= dict(line.split("=", 1) for line in lines)
        done = subprocess.run(  # noqa: S603 - scripts of our own pipeline
            ["bash", "-eo", "pipefail", "-c", "\n".join([*self._job["before_script"], *self._job["script"]])],  # noqa: S607
            cwd=self._checkout,
            env=self._environ,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for path in self._job.get("artifacts", {}).get("paths", ()):
            if (self._checkout / path).is_dir():
                shutil.rmtree(self._artifacts, ignore_errors=True)
                shutil.copytree(self._checkout / path, self._artifacts / path)
        return Ran(done.returncode == 0, {}, done.stdout, at=self._at)

    @property
    def _artifacts(self) -> Path:
        return self._hub.folder / "artifacts"


def _extended(pipeline: Json, name: str) -> Json:
    job = pipeline[name]
    parent = _extended(pipeline, job["extends"]) if "extends" in job else {"variables": {}}
    return {**parent, **job, "variables": parent["variables"] | job.get("variables", {})}


def _substituted(text: str, environ: Mapping[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda found: environ.get(found[1], ""), text)


_PIP = """#!PYTHON -IS
import os, pathlib, sys
options, (flag, file) = sys.argv[1:-2], sys.argv[-2:]
assert flag == "--requirement", sys.argv
assert "GITHUB_ACTIONS" not in os.environ or "RECONCILE_ACCESS_TOKEN" not in os.environ, "credentials beside pip"
pathlib.Path(os.environ["HUB_INSTALLED"]).write_text(pathlib.Path(file).read_text())
"""
_PYTHON = """#!/bin/bash
if [ "$1 $2 $3" = "-I -m pip" ]; then
  shift 3
  exec pip "$@"
fi
exec PYTHON "$@"
"""
_SSH_AGENT = """#!/bin/bash
if [ "$1" = -s ]; then echo "SSH_AUTH_SOCK=$(mktemp -u); export SSH_AUTH_SOCK;"; else rm -f "$SSH_AUTH_SOCK"; fi
"""
_SSH_ADD = """#!/bin/bash
[ "$*" = "-q -" ] && cat > "$SSH_AUTH_SOCK"
"""
_TIMEOUT = """#!/bin/bash
case " $* " in *" settle $HUB_SLOW "*) set -- --kill-after=10s 0.01s "${@:3}" ;; esac
exec /usr/bin/timeout "$@"
"""
_CURL = """#!PYTHON -IS
import json, os, pathlib, sys
url = next(word for word in sys.argv if word.startswith("https://"))
state = json.loads(pathlib.Path(os.environ["HUB_STATE"]).read_text())
if "/merge_requests?source_branch=" in url:
    found = [one for one in state["opened"] if url.endswith("=" + one["head"])]
    print(json.dumps([{"source_branch": one["head"], "source_project_id": 1, "target_project_id": 1} for one in found]))
elif "/merge_requests?" in url:
    print(json.dumps([
        {"iid": number, "source_branch": branch, "source_project_id": 2 if fork else 1, "target_project_id": 1}
        for number, branch, fork in state["pulls"]
    ]))
elif url.endswith("/user"):
    print(json.dumps({"id": 7}))
elif "?" in url:
    print("[]")
else:
    assert "--request" in sys.argv, sys.argv
    (text,) = (word.partition("@")[2] for word in sys.argv if word.startswith(("body@", "description@")))
    body = pathlib.Path(text).read_text()
    if url.endswith("/merge_requests"):
        given = dict(word.split("=", 1) for word in sys.argv if word.startswith(("source_branch=", "title=")))
        state["opened"].append({"head": given["source_branch"], "title": given["title"], "body": body})
    else:
        state["comments"].append({"url": url, "body": body})
    pathlib.Path(os.environ["HUB_STATE"]).write_text(json.dumps(state))
"""
_SSH = """#!PYTHON -IS
import os, pathlib, subprocess, sys
options = [word.partition("=")[2] for word in sys.argv if word.startswith("UserKnownHostsFile=")]
assert pathlib.Path(options[0]).read_text().startswith("github.com ssh-ed25519 "), "an unknown host"
assert pathlib.Path(os.environ["SSH_AUTH_SOCK"]).read_text() == "a key\\n", "no key"
assert "StrictHostKeyChecking=yes" in sys.argv and "DEPLOY_KEY" not in os.environ
program, _, path = sys.argv[-1].partition(" ")
assert sys.argv[-2] == "git@github.com" and path == "'acme/nlp-models.git'", sys.argv
sys.exit(subprocess.run([program, os.environ["HUB_ORIGIN"]]).returncode)
"""
_GH = """#!PYTHON -IS
import json, os, pathlib, sys

place = pathlib.Path(os.environ["HUB_STATE"])
state = json.loads(place.read_text())
assert os.environ["GH_TOKEN"] == "ghs_token"
command, *rest = sys.argv[1:]
options, flags, fields, words = {}, set(), {}, []
while rest:
    word = rest.pop(0)
    if word in {"--paginate", "--silent"}:
        flags.add(word)
    elif word == "--field":
        name, _, text = rest.pop(0).partition("=")
        fields[name] = pathlib.Path(text[1:]).read_text() if text.startswith("@") else text
    elif word == "--raw-field":
        name, _, text = rest.pop(0).partition("=")
        fields[name] = text
    elif word.startswith("--"):
        options[word] = rest.pop(0)
    else:
        words.append(word)
assert command == "api", sys.argv
(path,) = words
if path == "meta":
    print("github.com ssh-ed25519 AAAA")
    sys.exit()
kind, _, rest = path.removeprefix("repos/" + os.environ["GITHUB_REPOSITORY"] + "/").partition("/")
method = options.get("--method", "GET")
if kind == "pulls" and "head" in fields:
    if method == "POST":
        assert fields["base"] == "main" and len(fields["body"]) < 65536
        state["opened"].append({name: fields[name] for name in ("head", "title", "body")})
        place.write_text(json.dumps(state))
    else:
        assert method == "GET" and fields["state"] == "all" and options["--jq"] == ".[].number", sys.argv
        known = [one["head"] for one in state["opened"]]
        for number, head in enumerate(known, 1):
            if fields["head"] == f"acme:{head}":
                print(number)
    sys.exit()
if (method, kind) == ("GET", "pulls"):
    assert "--paginate" in flags and fields == {"state": "open", "base": "main", "per_page": "100"}, sys.argv
    assert "select(.head.repo.full_name == .base.repo.full_name)" in options["--jq"]
    for number, branch, fork in state["pulls"]:
        if not fork:
            print(number, branch, sep="\\t")
    sys.exit()
own = lambda one: one["user"]["login"] == "github-actions[bot]" and one["body"].startswith(os.environ["MARKER"])
body = fields.get("body", "")
assert len(body) < 65536
if method == "GET" and kind == "issues" and rest.endswith("/comments"):
    number = int(rest.split("/")[0])
    for one in state["comments"]:
        if one["issue"] == number and own(one):
            print(one["id"])
elif method == "GET" and kind == "issues?state=open&creator=github-actions%5Bbot%5D":
    for one in state["issues"]:
        if one["state"] == "open" and own(one):
            print(one["number"])
elif method == "POST" and rest.endswith("/comments"):
    new = {"id": len(state["comments"]) + 100, "issue": int(rest.split("/")[0]), "body": body}
    state["comments"].append({**new, "user": {"login": "github-actions[bot]"}})
elif method == "PATCH" and rest.startswith("comments/"):
    (one,) = (one for one in state["comments"] if one["id"] == int(rest.split("/")[1]))
    one.update(fields)
elif method == "POST" and kind == "issues" and not rest:
    new = {"number": len(state["issues"]) + 1, "state": "open", **fields}
    state["issues"].append({**new, "user": {"login": "github-actions[bot]"}})
elif method == "PATCH" and kind == "issues":
    (one,) = (one for one in state["issues"] if one["number"] == int(rest))
    one.update(fields)
else:
    sys.exit("gh: no such thing: " + " ".join(sys.argv))
place.write_text(json.dumps(state))
"""
_PROGRAMS = {
    "gh": _GH,
    "pip": _PIP,
    "python": _PYTHON,
    "ssh-agent": _SSH_AGENT,
    "ssh-add": _SSH_ADD,
    "ssh": _SSH,
    "timeout": _TIMEOUT,
    "curl": _CURL,
}
"""The programs of a runner that are not those of this machine."""
