from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.storage.test_routes_client import QUANTUM
from support.cases import each_row
from support.emulator_process import running
from support.emulator_vertex import Vertex

UPLOAD = "/upload/storage/v1/b/bucket/o"
CONTENT = random.Random(7).randbytes(2 * QUANTUM + 100)  # noqa: S311 - content, no secret
TOTAL = len(CONTENT)


class Upload:
    """A session and its world."""

    def __init__(self, world: Vertex, resource: dict[str, object] | None = None, **options: str) -> None:
        self.world = world
        headers = {name.replace("_", "-"): value for name, value in options.items() if name.startswith("x_")}
        query = {name: value for name, value in options.items() if not name.startswith("x_")}
        body = json.dumps({"name": "a/b", **(resource or {})}).encode()
        response = world.storage("POST", f"{UPLOAD}?uploadType=resumable", body, headers, **query)
        assert (response.status_code, response.content) == (200, b"")
        self.url = response.headers["location"]
        assert self.url.startswith(f"http://emulator{UPLOAD}?uploadType=resumable&upload_id=")

    def put(self, content: bytes = b"", spread: str = "", **headers: str) -> httpx.Response:
        named = {"Content-Range": f"bytes {spread}"} if spread else {}
        return self.world.storage("PUT", self.url, content, {**named, **headers})

    def stored(self) -> str | None:
        response = self.put(spread="*/*")
        assert (response.status_code, response.content) == (308, b"")
        return response.headers.get("range")

    def read(self) -> bytes:
        return self.world.storage("GET", "/storage/v1/b/bucket/o/a%2Fb?alt=media").content


@pytest.fixture
def world() -> Vertex:
    return Vertex()


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_an_object_goes_in_chunks(world: Vertex) -> None:
    upload = Upload(world, {"metadata": {"k": "v"}}, x_upload_content_type="text/x-rows", ifGenerationMatch="0")
    assert upload.stored() is None
    first = upload.put(CONTENT[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    assert upload.stored() == f"bytes=0-{QUANTUM - 1}"
    assert world.storage("GET", "/storage/v1/b/bucket/o/a%2Fb").status_code == 404
    done = upload.put(CONTENT[QUANTUM:], f"{QUANTUM}-{TOTAL - 1}/{TOTAL}")
    assert done.status_code == 200
    resource = done.json()
    assert (resource["name"], resource["size"], resource["contentType"], resource["metadata"]) == (
        "a/b",
        str(TOTAL),
        "text/x-rows",
        {"k": "v"},
    )
    assert upload.read() == CONTENT
    assert upload.put(spread=f"*/{TOTAL}").json() == resource
    assert world.storage("GET", "/storage/v1/b/bucket/o/a%2Fb").json() == resource


@pytest.mark.parametrize("options", [{}, {"x_upload_content_length": str(TOTAL)}])
def test_an_object_goes_in_one_request(world: Vertex, options: dict[str, str]) -> None:
    upload = Upload(world, **options)
    assert upload.put(CONTENT).json()["size"] == str(TOTAL)
    assert upload.read() == CONTENT


def test_a_length_told_at_the_start_ends_the_upload(world: Vertex) -> None:
    upload = Upload(world, x_upload_content_length=str(QUANTUM))
    assert upload.put(CONTENT[:QUANTUM], f"0-{QUANTUM - 1}/*").status_code == 200


def test_an_empty_object_needs_no_chunk(world: Vertex) -> None:
    assert Upload(world).put(spread="*/0").json()["size"] == "0"


def test_only_whole_quanta_are_kept_before_the_end(world: Vertex) -> None:
    upload = Upload(world)
    response = upload.put(CONTENT[: QUANTUM + 5], f"0-{QUANTUM + 4}/*")
    assert response.headers["range"] == f"bytes=0-{QUANTUM - 1}"
    assert upload.put(CONTENT[:5], "0-4/*").headers["range"] == f"bytes=0-{QUANTUM - 1}"


def test_what_is_stored_already_is_skipped(world: Vertex) -> None:
    upload = Upload(world)
    upload.put(CONTENT[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert upload.put(CONTENT[100:], f"100-{TOTAL - 1}/{TOTAL}").status_code == 200
    assert upload.read() == CONTENT


@given(st.lists(st.integers(0, TOTAL), max_size=5))
def test_however_it_is_cut_the_object_is_whole(cuts: list[int]) -> None:
    upload = Upload(Vertex())
    stored = 0
    for cut in sorted(cuts):
        if cut > stored:
            told = upload.put(CONTENT[stored:cut], f"{stored}-{cut - 1}/*").headers.get("range", "bytes=0--1")
            stored = int(told.removeprefix("bytes=0-")) + 1
    if stored < TOTAL:
        assert upload.put(CONTENT[stored:], f"{stored}-{TOTAL - 1}/{TOTAL}").status_code == 200
        assert upload.read() == CONTENT


@each_row(
    ("spread", "message"),
    [
        ("5-14/*", "The chunk begins at byte 5, but only 0 bytes are stored."),
        ("x", "Failed to parse Content-Range header: bytes x"),
        (f"0-9/{'9' * 20}", f"Failed to parse Content-Range header: bytes 0-9/{'9' * 20}"),
        ("0-2/3", "Content-Range declares 3 bytes, but the body has 10."),
        ("0-9/3", "The upload has more bytes than the declared 3."),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(world: Vertex, spread: str, message: str) -> None:
    assert refusal(Upload(world).put(b"0123456789", spread)) == (400, message)


GONE = "No such upload: it was canceled or refused, or the service was restarted."


def test_a_cancelled_upload_is_forgotten(tmp_path: Path) -> None:
    world = Vertex(tmp_path / "store")
    files = len(list((tmp_path / "store-objects").iterdir()))
    upload = Upload(world)
    upload.put(CONTENT[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert world.storage("DELETE", upload.url).status_code == 499
    assert len(list((tmp_path / "store-objects").iterdir())) == files
    assert refusal(upload.put(CONTENT)) == (404, GONE)
    assert refusal(world.storage("DELETE", upload.url)) == (404, GONE)


def test_cancelling_what_is_done_changes_nothing(world: Vertex) -> None:
    upload = Upload(world)
    upload.put(CONTENT)
    assert world.storage("DELETE", upload.url).status_code == 499
    assert upload.read() == CONTENT


@pytest.mark.parametrize("where", ["resource", "header"])
def test_a_checksum_that_does_not_fit_refuses_the_upload(world: Vertex, where: str) -> None:
    upload = Upload(world, {"md5Hash": "AAAA"} if where == "resource" else {})
    headers = {"x-goog-hash": "md5=AAAA"} if where == "header" else {}
    status, message = refusal(upload.put(CONTENT, **headers))
    assert status == 400
    assert message.startswith('Provided md5Hash "AAAA" doesn\'t match calculated md5Hash "')
    assert refusal(upload.put(CONTENT)) == (404, GONE)
    assert world.storage("GET", "/storage/v1/b/bucket/o/a%2Fb").status_code == 404


def test_the_slower_of_two_uploads_is_refused(world: Vertex) -> None:
    uploads = [Upload(world, ifGenerationMatch="0") for _ in range(2)]
    assert uploads[1].put(b"fast").status_code == 200
    assert refusal(uploads[0].put(b"slow")) == (
        412,
        "At least one of the pre-conditions you specified did not hold.",
    )
    assert uploads[0].read() == b"fast"


def test_a_resource_that_is_none_opens_no_session(world: Vertex) -> None:
    response = world.storage("POST", f"{UPLOAD}?uploadType=resumable", b"{}")
    assert refusal(response) == (400, "Invalid object name: ''; it has 1 to 1024 bytes and no line ends.")


def test_what_arrived_before_a_connection_broke_is_kept(tmp_path: Path) -> None:
    content = CONTENT * 8
    total, sent = len(content), 12 * QUANTUM + 100
    with running(tmp_path) as service, httpx.Client(base_url=service.url, verify=False, timeout=60) as client:  # noqa: S501
        started = client.post(f"{UPLOAD}?uploadType=resumable&name=a")
        url = httpx.URL(started.headers["location"])
        with socket.create_connection((url.host, url.port or 80)) as connection:
            head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Length: {total}\r\n"
            spread = f"Content-Range: bytes 0-{total - 1}/{total}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(f"{head}{spread}".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # from here on the session is taken
            connection.sendall(content[:sent])
        asked = client.put(url, headers={"Content-Range": f"bytes */{total}"})
        assert asked.status_code == 308
        stored = int(asked.headers["range"].removeprefix("bytes=0-")) + 1
        assert QUANTUM <= stored <= sent  # what the server had not handed on when the connection broke is lost
        assert stored % QUANTUM == 0
        rest = {"Content-Range": f"bytes {stored}-{total - 1}/{total}"}
        assert client.put(url, content=content[stored:], headers=rest).json()["size"] == str(total)
        assert client.get("/storage/v1/b/bucket/o/a", params={"alt": "media"}).content == content
