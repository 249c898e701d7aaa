"""What was published to a stage according to git."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.domain.errors import ReconcileError
from reconciler.planning.lock_review import Served
from reconciler.planning.soak import PublicationHistory, Sighting
from reconciler.state.publication_history import committed_history
from support.git_repository import Repository

NOW = datetime(2026, 11, 30, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def parse(text: str) -> Mapping[str, Served]:
    if not text.startswith("{"):
        raise ReconcileError("no JSON")
    return {name: Served(key) for name, key in json.loads(text).items()}


def published(**keys: str) -> str:
    return json.dumps(keys)


def commit(number: int, when: datetime, text: str | None, branch: str = "main", merged: int = 0) -> str:
    """Return a commit in the format of git fast-import; ``None`` removes the file."""
    change = "D specs/p.json" if text is None else f"M 644 inline specs/p.json\ndata {len(text)}\n{text}"
    committer = f"Ada <ada@example.com> {int(when.timestamp())} +0000"
    merge = f"merge :{merged}\n" if merged else ""
    return f"commit refs/heads/{branch}\nmark :{number}\ncommitter {committer}\ndata 0\n{merge}{change}\n\n"


def repository(folder: Path, *commits: str) -> Path:
    """Return the file in a new repository with these commits, checked out."""
    folder.mkdir(exist_ok=True)
    git = Repository(folder)
    environ = {"PATH": os.environ["PATH"]}
    arguments = ["git", "-C", str(folder), "fast-import", "--quiet"]
    subprocess.run(arguments, input="".join(commits).encode(), check=True, env=environ)  # noqa: S603 - git, on a folder of the test
    git("reset", "--quiet", "--hard")
    return folder / "specs" / "p.json"


def history(file: Path, enough: datetime = LONG_AGO) -> PublicationHistory:
    return committed_history(file, os.environ, parse, now=NOW, enough=enough)


def times(found: PublicationHistory, key: str) -> list[datetime]:
    """Return the moments at which a key was published, newest first."""
    return [sighting.time for sighting in found.sightings if sighting.published == {"words": Served(key)}]


def sightings(found: PublicationHistory) -> list[tuple[datetime, str]]:
    return [(seen.time, seen.published["words"].key if seen.published else "") for seen in found.sightings]


def test_the_first_parents_of_head_are_the_history(tmp_path: Path) -> None:
    one, two = published(words="K1"), published(words="K2")
    file = repository(
        tmp_path,
        commit(1, ago(9), one),
        commit(2, ago(8), None),
        commit(3, ago(7), one),
        commit(4, ago(20), two, "side"),  # a branch, which is merged later
        commit(5, ago(5), "<<<<<<<"),
        commit(6, ago(4), two, merged=4),
        commit(7, ago(30), two),  # a forged time
    )
    expected = [(NOW, "K2"), (ago(4), "K2"), (ago(4), "K2"), (ago(5), ""), (ago(7), "K1"), (ago(8), "")]
    assert sightings(history(file)) == expected, "what was published before the file was removed does not matter"
    assert sightings(history(file, enough=ago(6))) == expected[:5]
    assert history(file).problem == ""
    file.write_text(one, encoding="utf-8")
    assert sightings(history(file))[:2] == [(NOW, "K1"), (ago(4), "K2")]
    file.unlink()
    assert sightings(history(file))[:2] == [(NOW, ""), (ago(4), "K2")]


def test_what_git_does_not_have_is_unknown(tmp_path: Path) -> None:
    one = published(words="K1")
    file = repository(
        tmp_path / "clone", commit(1, ago(9), published()), commit(2, ago(3), one), commit(3, ago(2), one)
    )
    git = tmp_path / "clone" / ".git"
    other = history(file.with_name("q.json"))
    assert (other.sightings, other.problem) == ((), "specs/q.json is not in the commit that is checked out")
    parent = next(git.glob("refs/heads/main")).read_text(encoding="ascii")
    (git / "HEAD").write_text(parent, encoding="ascii")
    assert history(file).problem == "", "pipelines of GitLab check out a commit without its branch"
    (git / "shallow").write_text(parent, encoding="ascii")
    shallow = history(file)
    assert shallow.problem == "this clone is shallow, without earlier commits"
    assert "fetch-depth: 0" in shallow.remedy
    assert times(shallow, "K1") == [NOW, ago(2)]
    outside = history(tmp_path / "p.json")
    assert outside == PublicationHistory(problem=outside.problem, remedy=outside.remedy)
    assert "is not in a git repository" in outside.problem
    assert "gs://" in outside.remedy


def test_a_partial_clone_has_only_some_contents(tmp_path: Path) -> None:
    old, new = published(words="K1", more="K0"), published(words="K1")
    file = repository(tmp_path, commit(1, ago(9), old), commit(2, ago(3), new))
    name = Repository(tmp_path)("rev-parse", "HEAD~:specs/p.json").strip()
    blob = tmp_path / ".git" / "objects" / name[:2] / name[2:]
    blob.unlink()
    found = history(file)
    assert found.sightings == (Sighting(NOW, {"words": Served("K1")}), Sighting(ago(3), {"words": Served("K1")}))
    assert found.problem == "this clone does not contain all files of earlier commits"
