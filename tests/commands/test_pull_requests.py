"""What a pull request from a stranger may hold: nothing in it makes a run tell of, or touch, what lies elsewhere."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from support.cli_world import Cli

_SECRET = "https://user:ghp_0123456789abcdef@example.com"


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody's, outside the repository, with a secret."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "credentials").write_text(_SECRET)
    return folder


@pytest.fixture
def pull_request(reconcile: Cli) -> Cli:
    """A repository with a target and a manifest."""
    (reconcile.folder / ".git").mkdir()
    reconcile.manifest("adder")
    return reconcile


@pytest.mark.parametrize("name", ["evil.yaml", "reconcile.yaml"])
def test_a_link_to_a_secret_is_not_read(pull_request: Cli, elsewhere: Path, name: str) -> None:
    (pull_request.specs / name).unlink(missing_ok=True)
    (pull_request.specs / name).symlink_to(elsewhere / "credentials")

    answer = pull_request("validate")

    assert answer.status == 1
    assert f"specs/{name}:1:1: outside the repository; move the file into" in answer.out + answer.err
    assert "ghp" not in answer.out + answer.err


def test_a_secret_in_the_repository_is_not_quoted(pull_request: Cli) -> None:
    (pull_request.specs / "evil.yaml").write_text(_SECRET)

    named, answer = pull_request("validate", "specs/evil.yaml"), pull_request("validate")

    assert "specs/evil.yaml:1:1: invalid document: expected a mapping, not a string" in named.out
    assert "specs/evil.yaml:1:1: note: 1 YAML file is skipped" in answer.out
    assert "ghp" not in named.out + answer.out


@pytest.mark.parametrize("command", [["plan"], ["apply", "--yes"], ["status"]])
@pytest.mark.parametrize("name", ["credentials", "nothing-yet"])
def test_a_lockfile_elsewhere_is_refused(pull_request: Cli, elsewhere: Path, command: list[str], name: str) -> None:
    pull_request.lock_file.symlink_to(elsewhere / name)

    answer = pull_request(*command)

    assert answer.status == 1
    assert "specs/reconcile.lock.json: outside the repository; remove the link, or point it into" in answer.err
    assert [file.name for file in elsewhere.iterdir()] == ["credentials"]
    assert (elsewhere / "credentials").read_text() == _SECRET


@pytest.mark.parametrize("link", [".reconcile", ".reconcile/default.sqlite3", ".reconcile/default.sqlite3-journal"])
def test_a_world_elsewhere_is_refused(pull_request: Cli, elsewhere: Path, link: str) -> None:
    path = pull_request.specs / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere if link == ".reconcile" else elsewhere / "nothing-yet")

    answer = pull_request("apply", "--yes")

    assert answer.status == 1
    reason = "outside the repository" if link == ".reconcile" else "it is a symbolic link"
    assert re.search(rf"specs/{re.escape(link)}( cannot be written)?: {reason}; remove the link", answer.err)
    assert [file.name for file in elsewhere.iterdir()] == ["credentials"]


def test_a_pipe_does_not_hang_a_run(pull_request: Cli) -> None:
    os.mkfifo(pull_request.specs / "pipe.yaml")

    answer = pull_request("validate")

    assert answer.status == 1
    assert "specs/pipe.yaml:1:1: not a regular file; set the path of a regular file" in answer.out


def test_aliases_upon_aliases_are_a_problem(pull_request: Cli) -> None:
    names = [f"n{number}" for number in range(18)]
    lines = (f"{one}: &{one} {'[' * 60}*{before}{']' * 60}\n" for before, one in pairwise(names))
    (pull_request.specs / "deep.yaml").write_text(f"# TunedModel\nn0: &n0 [x]\n{''.join(lines)}")

    answer = pull_request("validate")

    assert answer.status == 1
    assert "nested more than 64 levels deep; reduce the nesting" in answer.out
    assert "Traceback" not in answer.err


def test_a_folder_without_a_target_is_an_error(pull_request: Cli) -> None:
    (pull_request.specs / "reconcile.yaml").unlink()
    os.mkfifo(pull_request.specs / "pipe.yaml")

    answer = pull_request("plan", ".")

    assert answer.status == 64
    assert 'target "default" not found: no reconcile.yaml in . or a directory above it' in answer.err


_ELSEWHERE = "https://tokens.example.com"
_VERTEX = (
    "vertex\n  project: my-project-id\n  location: europe-west4\n  bucket: gs://acme-tuning\n"
    "  endpoint: http://127.0.0.1:9\n"
)


@pytest.fixture
def to_vertex(pull_request: Cli) -> Cli:
    """A pull request with a target of Vertex AI, and a token in the run's environment."""
    target, manifest = pull_request.specs / "reconcile.yaml", pull_request.specs / "adder.yaml"
    target.write_text(target.read_text().replace("embedded\n", _VERTEX))
    manifest.write_text(f"{manifest.read_text()}  vertex: {{baseModel: gemini-3.5-flash, hyperparameters: {{}}}}\n")
    pull_request.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.hush-hush"
    return pull_request


def _change(reconcile: Cli, old: str, new: str) -> None:
    target = reconcile.specs / "reconcile.yaml"
    assert old in target.read_text()
    target.write_text(target.read_text().replace(old, new))


@pytest.mark.parametrize("provider", ["vertex", "generativelanguage"])
@pytest.mark.parametrize("command", [["plan"], ["apply", "--yes"], ["status", "--live"], ["wait"]])
def test_a_service_elsewhere_gets_no_token(to_vertex: Cli, provider: str, command: list[str]) -> None:
    _change(to_vertex, "http://127.0.0.1:9", _ELSEWHERE)
    if provider != "vertex":
        _change(to_vertex, "vertex\n", f"{provider}\n")
        _change(to_vertex, "  bucket: gs://acme-tuning\n", "")

    answer = to_vertex(*command)

    assert answer.status == 3
    assert f"no token is sent to {_ELSEWHERE}: " in answer.err
    assert answer.err.endswith("pass --allow-endpoint tokens.example.com if you trust this host with your token\n")


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--offline"],
        ["apply", "--yes"],
        ["status"],
        ["wait"],
        ["resolve", "adder"],
        ["validate", "--locked"],
    ],
)
def test_a_lockfile_in_a_storage_elsewhere_gets_no_token(to_vertex: Cli, command: list[str]) -> None:
    _change(to_vertex, "  endpoint", f"  lock: gs://acme-locks/x.json\n  storageEndpoint: {_ELSEWHERE}\n  endpoint")

    answer = to_vertex(*command)

    assert answer.status == 3
    assert answer.err.startswith(
        f"Error: cannot read the lockfile gs://acme-locks/x.json: no token is sent to {_ELSEWHERE}: "
    )
    assert answer.err.endswith("pass --allow-endpoint tokens.example.com if you trust this host with your token\n")


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("gs://acme-tuning", "gs://tokens-and-data", "  data set bucket        gs://tokens-and-data\n"),
        ("http://127.0.0.1:9", _ELSEWHERE, f"  service endpoint       {_ELSEWHERE}\n"),
        (
            "  bucket",
            f"  storageEndpoint: {_ELSEWHERE}\n  bucket",
            f"  storage endpoint       {_ELSEWHERE}\n",
        ),
        (
            "  bucket",
            "  vertex: {serviceAccount: me@example.com}\n  bucket",
            "  service account        me@example.com\n",
        ),
    ],
    ids=["bucket", "endpoint", "storageEndpoint", "serviceAccount"],
)
def test_a_plan_shows_where_data_would_go(to_vertex: Cli, old: str, new: str, shown: str) -> None:
    before = to_vertex("plan", "--offline")
    _change(to_vertex, old, new)

    after = to_vertex("plan", "--offline")

    assert (before.status, after.status) == (0, 0)
    assert shown not in before.out
    assert shown in after.out
