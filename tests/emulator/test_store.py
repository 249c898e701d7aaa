from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.emulator.objects import ObjectStore
from reconciler.emulator.store import MAX_STORE_BYTES, Store
from support.cases import each_row
from support.emulator_world import REQUEST, World
from support.fork_server import forked

REMEDY = "make the file and its folder writable, and end processes that keep the file locked"
MOVE_AWAY = (
    "restore the file from a backup, or move it away, and with it the lockfile that records its models; the next apply"
    " trains them again"
)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(ReconcileError) as caught:
        Store(file)
    assert str(caught.value) == (f"{file}: not a store of the embedded service: file is not a database; {MOVE_AWAY}")


@each_row(
    ("statement", "problem"),
    [
        (
            "CREATE TRIGGER models AFTER INSERT ON models BEGIN DELETE FROM models; END",
            "trigger models was not created by the embedded service",
        ),
        ("CREATE VIEW names AS SELECT name FROM models", "view names was not created by the embedded service"),
        ("CREATE TABLE other (x)", "table other was not created by the embedded service"),
        ("CREATE INDEX other ON models (api)", "index other was not created by the embedded service"),
        ("ALTER TABLE models ADD COLUMN other TEXT", "table models has other columns"),
        (
            "DROP TABLE buckets; CREATE VIEW buckets AS SELECT name, document FROM models",
            "view buckets was not created by the embedded service",
        ),
    ],
)
def test_a_store_with_statements_of_another_author_is_refused(tmp_path: Path, statement: str, problem: str) -> None:
    file = tmp_path / "store"
    Store(file).insert({"name": "tunedModels/a"}, api="v1beta3")
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(statement)
    before = file.read_bytes()
    with pytest.raises(ReconcileError) as caught:
        Store(file)
    assert str(caught.value) == f"{file}: not a store of the embedded service: {problem}; {MOVE_AWAY}"
    assert file.read_bytes() == before


def test_a_store_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store"
    Store(file)
    os.truncate(file, MAX_STORE_BYTES + 1)  # a sparse file
    with pytest.raises(ReconcileError, match=f"the store has {MAX_STORE_BYTES + 1} bytes: expected at most "):
        Store(file)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ReconcileError, match=f"the embedded service cannot store its models here: .*; {REMEDY}"):
        Store(tmp_path / "file" / "store")


def _insert_and_fail(store: Store) -> None:
    with store.transaction():
        store.insert({"name": "tunedModels/a"}, api="v1beta3")
        raise ZeroDivisionError


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ZeroDivisionError):
        _insert_and_fail(store)
    assert store.models(0, 10) == []
    with store.transaction():
        assert store.insert({"name": "tunedModels/a"}, api="v1beta3") == 1
    assert [model.name for model in Store(tmp_path / "store").models(0, 10)] == ["tunedModels/a"]


def test_a_store_that_breaks_is_unavailable_and_no_traceback(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    other = sqlite3.connect(tmp_path / "store")
    other.execute("DROP TABLE contents")
    other.close()
    status, code, message = world.refused("POST", "/v1beta3/tunedModels", REQUEST, tunedModelId="m")
    assert (status, code) == (503, "UNAVAILABLE")
    assert message.startswith("The embedded service cannot use its store: no such table: ")
    assert world.names() == []


_CREATE = """
import sys
from pathlib import Path
from support.emulator_world import REQUEST, World

print("ready", flush=True)
input()
print(World(Path(sys.argv[1])).send("POST", "/v1beta3/tunedModels?tunedModelId=m", REQUEST).status_code)
"""


def test_processes_that_open_a_new_file_and_create_one_id_at_once_end_with_one_model(tmp_path: Path) -> None:
    command = forked("-c", _CREATE, str(tmp_path / "store"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]  # noqa: S603 - our own program
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(int(process.communicate(timeout=60)[0]) for process in processes) == [200, 409, 409]
    assert World(tmp_path / "store").names() == ["m"]


HOLD = (
    "import os, sys; from pathlib import Path; from reconciler.emulator.objects import ObjectStore\n"
    "from reconciler.emulator.store import Store\n"
    "objects = ObjectStore(Store(None), None); objects.new_content(); print(flush=True); sys.stdin.read()"
)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_the_temporary_files_of_a_killed_process_are_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (held,) = tmp_path.iterdir()
        first = ObjectStore(Store(None), None)
        first.new_content()
        assert held.exists(), "it is in use"
        first.close()
        assert list(tmp_path.iterdir()) == [held]
        holder.kill()
        holder.wait()
        second = ObjectStore(Store(None), None)
        second.new_content()
        assert not held.exists()
        second.close()
    assert list(tmp_path.iterdir()) == []
