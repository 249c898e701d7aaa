"""Writing lockfiles atomically, and reporting why a file cannot be read or written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import MAX_DECISIONS, MAX_GENERATIONS, MAX_LOCKFILE_BYTES, MAX_MODELS, MAX_STAGES
from reconciler.state.lockfile import LockFile, loads
from support.cases import each_row

_PERMISSIONS = "check the permissions of the file and its folder"
_FOLDER = "name a file in an existing, writable directory"
_GENERAL = f"{_PERMISSIONS}, and the free disk space"
_LINK = "remove the link, or name another file"


def files(folder: Path) -> list[str]:
    """The files of a folder, without the one whose lock runs hold, which stays."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock.json.lock")


def test_a_written_text_is_read_again(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    assert lock.read() is None
    assert lock.write("é\r\n")
    assert lock.read() == "é\r\n"
    assert files(tmp_path) == ["lock.json"]


def test_an_equal_text_is_not_written(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.write("a")
    before = lock.path.stat()
    assert not lock.write("a")
    assert lock.path.stat() == before
    assert lock.write("b")


def test_a_file_that_is_too_large_is_neither_read_nor_written(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.path.touch()
    os.truncate(lock.path, MAX_LOCKFILE_BYTES + 1)  # a sparse file
    with pytest.raises(ReconcileError) as caught:
        lock.read()
    assert str(caught.value) == (
        f"{lock.path}: larger than 67108864 bytes, the limit for lockfiles and pointers;"
        " restore an earlier version of the file"
    )
    lock.write("a")
    with pytest.raises(ReconcileError) as caught:
        lock.write("b" * (MAX_LOCKFILE_BYTES + 1))
    assert str(caught.value) == (
        f"{lock.path}: not saved, because the new content has 67108865 bytes, and the limit is 67108864;"
        " move manifests to another target, or review superseded generations with reconcile prune --dry-run"
    )
    assert lock.read() == "a"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"models": {}, "history": [{}] * (MAX_DECISIONS + 1)},
            "1:41: history: 1001 decisions: expected at most 1000",
        ),
        (
            {"models": {f"m{number}": {"manifest": "m.yaml"} for number in range(MAX_MODELS + 1)}},
            "1:26: models: 20001 models: expected at most 20000",
        ),
        (
            {"models": {"m": {"manifest": "m.yaml", "generations": [{}] * (MAX_GENERATIONS + 1)}}},
            "1:70: models.m.generations: 1001 generations: expected at most 1000",
        ),
        (
            {"models": {"m": {"manifest": "m.yaml", "stages": {f"s{number}": {} for number in range(MAX_STAGES + 1)}}}},
            "1:65: models.m.stages: 101 stages: expected at most 100",
        ),
    ],
)
def test_a_lockfile_with_too_many_records_is_refused(fields: dict[str, object], problem: str) -> None:
    text = json.dumps({"version": 1, **fields})
    with pytest.raises(ReconcileError) as caught:
        loads(text, "x.lock.json")
    assert str(caught.value) == f"x.lock.json:{problem}; restore it from git"


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.write("a")
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o644
    lock.path.chmod(0o640)
    with lock.path.open() as reader:
        lock.write("b")
        assert reader.read() == "a"
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o640


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("b")
    lock = LockFile(tmp_path / "lock.json")
    lock.path.symlink_to("real.json")
    with pytest.raises(ReconcileError) as caught:
        lock.write("a")
    assert str(caught.value) == f"{lock.path} cannot be written: it is a symbolic link; {_LINK}"
    assert (tmp_path / "real.json").read_text() == "b"


def test_a_folder_is_not_a_lockfile(tmp_path: Path) -> None:
    lock = LockFile(tmp_path)
    with pytest.raises(ReconcileError) as caught:
        lock.read()
    assert str(caught.value) == f"{tmp_path} cannot be read: Is a directory; {_PERMISSIONS}"
    with pytest.raises(ReconcileError, match="cannot be written: Is a directory"):
        lock.write("a")


def test_a_missing_folder(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "nowhere" / "lock.json")
    with pytest.raises(ReconcileError) as caught:
        lock.write("a")
    assert str(caught.value) == f"{lock.path} cannot be written: No such file or directory; {_FOLDER}"


def test_a_read_only_folder(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.write("a")
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user can write everywhere")
    with pytest.raises(ReconcileError, match="cannot be written: Permission denied"):
        lock.write("b")
    assert lock.read() == "a"


def test_a_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from reconciler.state.lockfile import LockFile;"
        " signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10));"
        " lock = LockFile(Path(sys.argv[1])); lock.read(); lock.write('b' * 100)"
    )
    lock = LockFile(tmp_path / "lock.json")
    lock.write("a")
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-c", script, str(lock.path)], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith(
        f"ReconcileError: {lock.path} cannot be written: File too large; free disk space, then run the command again\n"
    )
    assert lock.read() == "a"
    assert files(tmp_path) == ["lock.json"]


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.path.write_bytes(b"\xff")
    with pytest.raises(ReconcileError) as caught:
        lock.read()
    assert str(caught.value) == (
        f"{lock.path}:1:1: not UTF-8 text: invalid byte 0xff; restore it from git, or save it as UTF-8"
    )


def test_check_writable_writes_nothing(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    lock.check_writable()
    lock.write("a")
    lock.check_writable()
    assert files(tmp_path) == ["lock.json"]
    assert lock.read() == "a"


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(ReconcileError) as caught:
        action()
    return str(caught.value)


@each_row(
    ("name", "reason", "remedy"),
    [
        ("folder", "Is a directory", _FOLDER),
        ("file/lock.json", "Not a directory", _FOLDER),
        ("file/deeper/lock.json", "Not a directory", _FOLDER),
        ("nowhere/lock.json", "No such file or directory", _FOLDER),
        ("link", "it is a symbolic link", _LINK),
        ("pipe", "Not a regular file", _GENERAL),
    ],
)
def test_check_writable_raises_the_error_of_write(tmp_path: Path, name: str, reason: str, remedy: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere/lock.json")
    os.mkfifo(tmp_path / "pipe")
    lock = LockFile(tmp_path / name)
    assert error_of(lock.check_writable) == f"{lock.path} cannot be written: {reason}; {remedy}"
    assert error_of(lambda: lock.write("a")) == error_of(lock.check_writable)


def test_check_writable_reports_a_read_only_folder(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user can write everywhere")
    assert error_of(lock.check_writable) == f"{lock.path} cannot be written: Permission denied; {_PERMISSIONS}"


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock.json")
    os.mkfifo(lock.path)
    assert error_of(lock.read) == f"{lock.path} cannot be read: Not a regular file; {_PERMISSIONS}"


_MODEL = {
    "manifest": "m.yaml",
    "generations": [
        {
            "key": "m-aaaaaaaa",
            "remote": "tunedModels/m-aaaaaaaa",
            "spec": f"sha256:{'0' * 64}",
            "attempt": 0,
            "origin": "created",
            "state": "ACTIVE",
            "source": {"baseModel": "models/b"},
            "dataset": {"digest": f"sha256:{'0' * 64}"},
            "preamble": "",
        }
    ],
}
_TARGET = {"name": "default", "provider": "embedded", "scope": "demo"}


def _lockfile(name: str = "m", version: object = 1, **changed: object) -> str:
    generation = {**_MODEL["generations"][0], **changed}  # type: ignore[dict-item] - the list has objects
    models = {name: {**_MODEL, "generations": [generation]}}
    return json.dumps({"models": models, "target": _TARGET, "version": version})


@each_row(
    ("text", "message"),
    [
        (_lockfile("m\n"), r"models.m\n: expected a name of up to 31 lowercase letters, digits and hyphens, which"),
        (_lockfile("Big"), "models.Big: expected a name of up to 31 lowercase letters, digits and hyphens, which"),
        (_lockfile(spec=f"sha256:{'0' * 64}\n"), "models.m.generations[0].spec: expected a sha256 digest; "),
        (_lockfile(version=2**63), "unsupported version 9223372036854775808: this reconcile reads up to version 1; "),
        (_lockfile(version=10**60), f"unsupported version 1{'0' * 38}…: this reconcile reads up to version 1; upgrade"),
        (_lockfile(attempt=2**63), "models.m.generations[0].attempt: number out of range; "),
    ],
)
def test_an_invalid_value_has_a_message_in_plain_words(text: str, message: str) -> None:
    assert loads(_lockfile(), "x.lock.json").models["m"].generations
    with pytest.raises(ReconcileError) as caught:
        loads(text, "x.lock.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "regex" not in str(caught.value)
