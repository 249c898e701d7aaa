"""Web pages, uploads and stores that attack the embedded service or the user's browser."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.cases import each_row
from support.cli_world import Cli
from support.emulator_process import Process, running
from support.emulator_world import World

LIST = "/v1beta3/tunedModels"
UPLOAD = "/upload/storage/v1/b/data/o?uploadType=media&name=page.html"
DOWNLOAD = "/download/storage/v1/b/data/o/page.html"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("service")) as process:
        yield process


def ask(service: Process, path: str = LIST, method: str = "GET", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, verify=False, timeout=60) as client:  # noqa: S501 - loopback has no TLS
        return client.request(method, f"{service.url}{path}", headers=headers)


@each_row("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "192.168.0.1", "[x"])
def test_a_name_that_resolves_to_this_machine_is_refused(service: Process, host: str) -> None:
    assert ask(service, host=host).status_code == 403


@each_row("host", ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:80", "My.localhost"])
def test_loopback_names_are_answered(service: Process, host: str) -> None:
    assert ask(service, host=host).status_code == 200


@each_row(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost:3000", 200),
    ],
)
def test_a_page_of_another_host_is_refused(service: Process, origin: str, status: int) -> None:
    assert ask(service, origin=origin).status_code == status
    assert (ask(service, UPLOAD, "POST", origin=origin).status_code == 200) == (status == 200)


def test_an_upload_is_not_shown_as_a_page(service: Process) -> None:
    assert ask(service, UPLOAD, "POST", **{"content-type": "text/html"}).status_code == 200
    for answer in (ask(service, DOWNLOAD), ask(service, "/storage/v1/b/data/o/page.html?alt=media")):
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask(service).headers["x-content-type-options"] == "nosniff"


@each_row("name", ["../secret", "/etc/hostname", "..", "link", "a/b", ""])
def test_a_store_that_names_another_file_as_an_object_reads_and_deletes_nothing(tmp_path: Path, name: str) -> None:
    store, secret = tmp_path / "store", tmp_path / "secret"
    secret.write_text("the user's own file")
    world = World(store)
    assert world.send("POST", UPLOAD, b"harmless").status_code == 200
    (tmp_path / "store-objects/link").symlink_to(secret)
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE objects SET file = ?", (name,))
    hostile = World(store)
    for method in ("GET", "DELETE"):
        answer = hostile.send(method, "/storage/v1/b/data/o/page.html?alt=media")
        assert answer.status_code == 503, answer.text
        assert "own file" not in answer.text
    assert secret.read_text() == "the user's own file"


@each_row("name", [".reconcile", ".reconcile/default.sqlite3", ".reconcile/default.sqlite3-objects"])
@each_row("to", [".git", "elsewhere"])
def test_the_store_of_a_target_is_not_written_through_a_link(tmp_path: Path, name: str, to: str) -> None:
    reconcile = Cli(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "elsewhere").mkdir()
    reconcile.manifest("adder")
    (reconcile.specs / name).parent.mkdir(exist_ok=True)
    (reconcile.specs / name).symlink_to(tmp_path / to)
    refused = reconcile("plan")
    assert refused.status == 1
    assert "cannot be written: it is a symbolic link" in refused.err
    assert [*(tmp_path / ".git").iterdir(), *(tmp_path / "elsewhere").iterdir()] == []


@each_row(
    ("damage", "message"),
    [
        (lambda _data: b"no database" * 500, "file is not a database"),
        (lambda data: data[: len(data) // 2], "database disk image is malformed"),
        (lambda data: data[:8192] + bytes(len(data) - 8192), "cannot use its store: database disk image is malformed"),
    ],
    ids=["other", "cut", "zeros"],
)
def test_the_remedy_for_a_damaged_store_works(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    reconcile = Cli(tmp_path)
    for name in ("adder", "doubler"):
        reconcile.manifest(name)
    assert reconcile("apply", "--yes").status == 0
    store = reconcile.specs / ".reconcile" / "default.sqlite3"
    store.write_bytes(damage(store.read_bytes()))

    answer = reconcile("plan")

    assert answer.status == 1
    assert message in answer.err
    assert "move it away, " in answer.err or "move away, " in answer.err
    store.rename(tmp_path / "damaged")
    reconcile.lock_file.rename(tmp_path / "old.lock.json")
    assert reconcile("apply", "--yes").status == 0
    assert "No changes" in reconcile("plan").out


@pytest.mark.parametrize(("host", "warned"), [("host.invalid", True), ("127.0.0.1", False)])
def test_listening_on_anything_but_loopback_is_warned_about(tmp_path: Path, host: str, *, warned: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = Cli(tmp_path)("emulator", "--host", host, "--port", str(taken.getsockname()[1])).err
    assert (f"warning: listening on {host}: every machine that reaches" in told) is warned
