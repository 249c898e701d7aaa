from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.cases import each_row
from support.emulator_vertex import Vertex
from support.provider_storage import crc32c_of, md5_of

if TYPE_CHECKING:
    import httpx

UPLOAD = "/upload/storage/v1/b/bucket/o"
OBJECT = "/storage/v1/b/bucket/o/a%2Fb"


@pytest.fixture
def world() -> Vertex:
    return Vertex()


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    assert error["code"] == response.status_code
    assert [(each["message"], each["domain"]) for each in error["errors"]] == [(error["message"], "global")]
    return response.status_code, error["errors"][0]["reason"], error["message"]


def test_an_object_is_described_and_read(world: Vertex) -> None:
    stored = world.put("gs://bucket/a/b", b"content")
    generation = stored["generation"]
    assert stored == {
        "kind": "storage#object",
        "id": f"bucket/a/b/{generation}",
        "selfLink": "http://emulator/storage/v1/b/bucket/o/a%2Fb",
        "mediaLink": f"http://emulator/download/storage/v1/b/bucket/o/a%2Fb?generation={generation}&alt=media",
        "etag": base64.b64encode(f"{generation}/1".encode()).decode(),
        "name": "a/b",
        "bucket": "bucket",
        "generation": generation,
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "size": "7",
        "storageClass": "STANDARD",
        "timeCreated": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
        "md5Hash": md5_of(b"content"),
        "crc32c": stored["crc32c"],
    }
    assert world.storage("GET", OBJECT).json() == stored
    for link in (f"{OBJECT}?alt=media", stored["mediaLink"].removeprefix("http://emulator")):
        response = world.storage("GET", link)
        assert (response.content, response.headers["content-type"]) == (b"content", "application/octet-stream")
        assert response.headers["x-goog-hash"] == f"crc32c={stored['crc32c']},md5={stored['md5Hash']}"
        assert response.headers["x-goog-generation"] == generation


def test_the_checksums_of_a_large_object_are_verified(world: Vertex) -> None:
    content = os.urandom(3 * 1024 * 1024 + 1)
    assert world.put("gs://bucket/large", content)["crc32c"] == crc32c_of(content)
    wrong = world.storage("POST", UPLOAD, content, {"x-goog-hash": "crc32c=AAAAAA=="}, uploadType="media", name="a/b")
    status, reason, message = refusal(wrong)
    assert (status, reason) == (400, "invalid")
    assert message.startswith('Provided crc32c "AAAAAA==" doesn\'t match calculated crc32c "')
    headers = {"x-goog-hash": f"crc32c={crc32c_of(content)},md5={md5_of(content)}"}
    right = world.storage("POST", UPLOAD, content, headers, uploadType="media", name="a/b")
    assert right.json()["crc32c"] == crc32c_of(content)
    assert world.storage("GET", OBJECT, alt="media").content == content


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    world = Vertex(tmp_path / "store")
    before = set((tmp_path / "store-objects").iterdir())
    headers = {"Content-MD5": md5_of(b"other")}
    refused = world.storage("POST", UPLOAD, b"content", headers, uploadType="media", name="a/b")
    calculated = md5_of(b"content")
    message = f'Provided md5Hash "{md5_of(b"other")}" doesn\'t match calculated md5Hash "{calculated}".'
    assert refusal(refused) == (400, "invalid", message)
    assert world.storage("GET", OBJECT).status_code == 404
    assert set((tmp_path / "store-objects").iterdir()) == before


def test_an_old_content_goes_with_its_object(tmp_path: Path) -> None:
    world = Vertex(tmp_path / "store")
    files = len(list((tmp_path / "store-objects").iterdir()))
    for content in (b"1", b"2"):
        world.put("gs://bucket/a/b", content)
        assert len(list((tmp_path / "store-objects").iterdir())) == files + 1
    assert Vertex(tmp_path / "store").storage("GET", OBJECT, alt="media").content == b"2"
    assert world.storage("DELETE", OBJECT).status_code == 204
    assert len(list((tmp_path / "store-objects").iterdir())) == files


def test_a_world_in_memory_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    world = Vertex()
    assert len(list(tmp_path.glob("*/*"))) == 1
    del world
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_takes_a_world_in_memory_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    world = Vertex()

    async def serve() -> None:
        async with world.app.router.lifespan_context(world.app):
            pass

    assert len(list(tmp_path.glob("*/*"))) == 1
    asyncio.run(serve())
    assert list(tmp_path.iterdir()) == []


def test_generations_grow_though_the_clock_stands_still(world: Vertex) -> None:
    first = int(world.put("gs://bucket/a/b", b"1")["generation"])
    assert int(world.put("gs://bucket/a/b", b"2")["generation"]) == first + 1
    world.storage("DELETE", OBJECT)
    assert int(world.put("gs://bucket/a/b", b"3")["generation"]) == first + 2


@pytest.mark.parametrize(
    ("condition", "there", "status"),
    [
        ({"ifGenerationMatch": "0"}, False, 200),
        ({"ifGenerationMatch": "0"}, True, 412),
        ({"ifGenerationMatch": "1"}, True, 412),
        ({"ifGenerationMatch": "{generation}"}, True, 200),
        ({"ifGenerationMatch": "1"}, False, 412),
        ({"ifGenerationNotMatch": "0"}, True, 200),
        ({"ifGenerationNotMatch": "{generation}"}, True, 412),
        ({"ifMetagenerationMatch": "1"}, True, 200),
        ({"ifMetagenerationNotMatch": "1"}, True, 412),
        ({"ifGenerationMatch": "x"}, True, 400),
        ({"ifGenerationMatch": "9" * 5000}, True, 400),
    ],
)
def test_preconditions_guard_every_way_to_write(
    world: Vertex, condition: dict[str, str], status: int, *, there: bool
) -> None:
    generation = world.put("gs://bucket/a/b", b"1")["generation"] if there else ""
    query = {name: value.replace("{generation}", generation) for name, value in condition.items()}
    started = world.storage("POST", UPLOAD, b"{}", uploadType="resumable", name="a/b", **query)
    assert started.status_code == status
    response = world.storage("POST", UPLOAD, b"2", uploadType="media", name="a/b", **query)
    assert response.status_code == status
    if status != 200:
        assert refusal(response)[1] == {412: "conditionNotMet", 400: "invalid"}[status]
    kept = world.storage("GET", OBJECT, alt="media")
    assert kept.content == (b"2" if status == 200 else b"1") or not there


def test_reading_and_deleting_have_preconditions_too(world: Vertex) -> None:
    generation = world.put("gs://bucket/a/b", b"1")["generation"]
    assert world.storage("GET", OBJECT, ifGenerationMatch=generation).status_code == 200
    for method in ("GET", "DELETE"):
        message = "At least one of the pre-conditions you specified did not hold."
        response = world.storage(method, OBJECT, ifGenerationMatch="1")
        assert refusal(response) == (412, "conditionNotMet", message)
        response = world.storage(method, OBJECT, generation="1")
        assert refusal(response) == (404, "notFound", "No such object: bucket/a/b")
    assert world.storage("DELETE", OBJECT, generation=generation).status_code == 204


@each_row(
    ("asked", "status", "content"),
    [
        ("bytes=2-3", 206, b"23"),
        ("bytes=8-", 206, b"89"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=-3", 200, b"0123456789"),
        ("lines=1", 200, b"0123456789"),
    ],
)
def test_a_part_can_be_read(world: Vertex, asked: str, status: int, content: bytes) -> None:
    world.put("gs://bucket/a/b", b"0123456789")
    response = world.storage("GET", OBJECT, headers={"Range": asked}, alt="media")
    assert (response.status_code, response.content) == (status, content)
    assert response.headers["content-length"] == str(len(content))


def test_a_part_behind_the_end_is_refused(world: Vertex) -> None:
    world.put("gs://bucket/a/b", b"0123456789")
    response = world.storage("GET", OBJECT, headers={"Range": "bytes=10-"}, alt="media")
    assert refusal(response) == (416, "requestedRangeNotSatisfiable", "Request range not satisfiable")


@pytest.mark.parametrize("name", ["", "x" * 1025, "a\nb"])
def test_a_name_that_no_object_can_have_is_refused(world: Vertex, name: str) -> None:
    response = world.storage("POST", UPLOAD, b"1", uploadType="media", name=name)
    status, reason, message = refusal(response)
    assert (status, reason) == (400, "invalid")
    assert message.startswith("Invalid object name: ")


@pytest.mark.parametrize("bucket", ["ab", "Upper", "a" * 223, "-a-"])
def test_a_bucket_name_that_is_none_is_refused(world: Vertex, bucket: str) -> None:
    message = f"Invalid bucket name: '{bucket[:100]}'"
    for method, path in (
        ("GET", f"/storage/v1/b/{bucket}"),
        ("GET", f"/storage/v1/b/{bucket}/o"),
        ("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a"),
        ("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=a"),
    ):
        assert refusal(world.storage(method, path)) == (400, "invalid", message)
    created = world.storage("POST", "/storage/v1/b?project=p", f'{{"name": "{bucket}"}}'.encode())
    assert refusal(created) == (400, "invalid", message)


@pytest.mark.parametrize("field", ["name", "location"])
def test_text_that_nothing_can_hold_is_refused(world: Vertex, field: str) -> None:
    body = json.dumps({"name": "bucket", field: "half of a pair: \ud800"}).encode()
    for path in (f"{UPLOAD}?uploadType=resumable", "/storage/v1/b?project=p"):
        status, reason, message = refusal(world.storage("POST", path, body))
        assert (status, reason) == (400, "parseError")
        assert message.startswith("Parse Error: ")


@pytest.mark.parametrize("body", [b'{"name": 1}', b'{"name": "bucket", "location": 1}'])
def test_a_bucket_that_is_none_is_refused(world: Vertex, body: bytes) -> None:
    expected = "Required: a project in the query, a name in the resource, and a location that is a string."
    assert refusal(world.storage("POST", "/storage/v1/b?project=p", body)) == (400, "invalid", expected)


def test_every_permission_on_a_bucket_is_held(world: Vertex) -> None:
    wanted = ["storage.objects.create", "storage.objects.get"]
    path = "/storage/v1/b/bucket/iam/testPermissions?permissions=storage.objects.create&permissions=storage.objects.get"
    answer = world.storage("GET", path).json()
    assert answer == {"kind": "storage#testIamPermissionsResponse", "permissions": wanted}


def multipart(*parts: bytes, end: bytes = b"--") -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut" + end
    return body, {"Content-Type": 'multipart/related; boundary="cut"'}


def test_resource_and_content_come_in_one_body(world: Vertex) -> None:
    resource = b'Content-Type: application/json\r\n\r\n{"name": "a/b", "metadata": {"k": "v"}}'
    body, headers = multipart(resource, b"Content-Type: text/x-rows\r\n\r\n\r\n--a\r\n\r\n\xff")
    stored = world.storage("POST", UPLOAD, body, headers, uploadType="multipart").json()
    assert (stored["contentType"], stored["metadata"]) == ("text/x-rows", {"k": "v"})
    assert world.storage("GET", OBJECT, alt="media").content == b"\r\n--a\r\n\r\n\xff"


TWO_PARTS = "Malformed multipart body: it must have two parts, the resource and the media."


@each_row(
    ("parts", "end", "message"),
    [
        ([], b"--", TWO_PARTS),
        ([b"\r\n\r\n{}"], b"--", TWO_PARTS),
        ([b"\r\n\r\n{}", b"\r\n\r\n1"], b"", TWO_PARTS),
        ([b"\r\n\r\n{", b"\r\n\r\n1"], b"--", "Parse Error: Expecting property name"),
        ([b"\r\n\r\n[]", b"\r\n\r\n1"], b"--", "Parse Error: the resource must be a JSON object"),
        ([b"\r\n\r\n{}", b"\r\n\r\n1"], b"--", "Invalid object name: ''"),
        ([b'\r\n\r\n{"name": 5}', b"\r\n\r\n1"], b"--", "Invalid object name: '5'"),
        ([b'\r\n\r\n{"name": "a", "contentType": 5}', b"\r\n\r\n1"], b"--", "Invalid value for contentType"),
        ([b'\r\n\r\n{"name": "a", "metadata": {"a": 5}}', b"\r\n\r\n1"], b"--", "Invalid value for metadata"),
    ],
)
def test_a_multipart_body_that_is_none_is_refused(world: Vertex, parts: list[bytes], end: bytes, message: str) -> None:
    body, headers = multipart(*parts, end=end)
    response = world.storage("POST", UPLOAD, body, headers, uploadType="multipart")
    status, _, told = refusal(response)
    assert status == 400
    assert told.startswith(message)


def test_a_multipart_body_is_held_in_memory_so_it_is_limited(world: Vertex) -> None:
    body, headers = multipart(b"\r\n\r\n{}", b"\r\n\r\n" + bytes(20 * 1024 * 1024))
    response = world.storage("POST", UPLOAD, body, headers, uploadType="multipart")
    message = "The body is larger than 20971520 bytes; use a resumable upload."
    assert refusal(response) == (413, "uploadTooLarge", message)


def test_another_kind_of_upload_is_refused(world: Vertex) -> None:
    message = "uploadType must be one of media, multipart, resumable, but is 'x'"
    assert refusal(world.storage("POST", UPLOAD, uploadType="x")) == (400, "invalid", message)


@pytest.mark.parametrize(("name", "value"), [("maxResults", "0"), ("maxResults", "9" * 20), ("pageToken", "x")])
def test_a_page_that_is_none_is_refused(world: Vertex, name: str, value: str) -> None:
    response = world.storage("GET", "/storage/v1/b/bucket/o", **{name: value})
    assert refusal(response) == (400, "invalid", f"Invalid value for {name}: '{value}'")


def test_a_listing_by_folders_is_refused(world: Vertex) -> None:
    response = world.storage("GET", "/storage/v1/b/bucket/o", delimiter="/", versions="true")
    message = "delimiter, versions: not supported by this service; list by prefix"
    assert refusal(response) == (400, "invalid", message)


def test_contents_that_cannot_be_kept_are_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store-objects").write_text("in the way", encoding="utf-8")
    with pytest.raises(AssertionError, match="The embedded service cannot store the content of objects: File exists"):
        Vertex(tmp_path / "store")


def test_a_content_that_is_lost_is_unavailable(tmp_path: Path) -> None:
    world: Any = Vertex(tmp_path / "store")
    world.put("gs://bucket/a/b", b"1")
    for file in (tmp_path / "store-objects").iterdir():
        file.unlink()
    message = "The embedded service cannot store the content of objects: No such file or directory"
    assert refusal(world.storage("GET", OBJECT, alt="media")) == (503, "backendError", message)
