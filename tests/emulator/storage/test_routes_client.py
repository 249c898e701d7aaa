"""google-cloud-storage against the service on a port: write, read, compare and swap, list and delete."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials

from support.emulator_process import Process, running
from support.google_clients import storage
from support.provider_storage import crc32c_of, md5_of

QUANTUM = 256 * 1024
LARGE = random.Random(7).randbytes(5 * QUANTUM + 12345)  # noqa: S311 - content, no secret


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("storage")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Process) -> Any:
    return storage.Client(
        project="demo", credentials=AnonymousCredentials(), client_options={"api_endpoint": service.url}
    )


def test_a_small_object_is_written_read_and_deleted(client: Any) -> None:
    blob = client.bucket("small").blob("folder/ein Wörtchen?.jsonl")
    blob.metadata = {"sha256": "abc"}
    blob.upload_from_string(b"one\ntwo\n", content_type="application/jsonl")
    assert blob.download_as_bytes(start=2, end=4) == b"e\nt"
    found = client.bucket("small").get_blob("folder/ein Wörtchen?.jsonl")
    assert (found.size, found.content_type, found.metadata) == (8, "application/jsonl", {"sha256": "abc"})
    assert (found.md5_hash, found.crc32c) == (md5_of(b"one\ntwo\n"), crc32c_of(b"one\ntwo\n"))
    assert found.download_as_bytes() == b"one\ntwo\n"
    found.delete()
    assert client.bucket("small").get_blob("folder/ein Wörtchen?.jsonl") is None
    with pytest.raises(NotFound, match="No such object: small/folder/ein"):
        found.delete()


@pytest.mark.parametrize("checksum", ["crc32c", "md5"])
def test_a_large_object_goes_in_chunks(client: Any, checksum: str) -> None:
    blob = client.bucket("large").blob(f"data-{checksum}", chunk_size=QUANTUM)
    with blob.open("wb", checksum=checksum, ignore_flush=True) as file:
        file.write(LARGE)
    assert client.bucket("large").get_blob(blob.name).md5_hash == md5_of(LARGE)
    assert blob.download_as_bytes(checksum=checksum) == LARGE
    with blob.open("rb", chunk_size=QUANTUM) as file:
        assert file.read() == LARGE


def test_a_writer_that_comes_too_late_is_refused(client: Any) -> None:
    blob = client.bucket("swap").blob("lock.json")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed, match="At least one of the pre-conditions you specified did not hold"):
        blob.upload_from_string(b"2", if_generation_match=0)
    seen = blob.generation
    blob.upload_from_string(b"2", if_generation_match=seen)
    assert blob.generation > seen
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"3", if_generation_match=seen)
    with pytest.raises(NotFound, match="No such object: swap/lock"):
        client.bucket("swap").blob("lock.json", generation=seen).download_as_bytes()
    assert client.bucket("swap").blob("lock.json").download_as_bytes(if_generation_match=blob.generation) == b"2"
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=seen)


def test_a_checksum_that_does_not_fit_keeps_nothing(client: Any) -> None:
    blob = client.bucket("sums").blob("a")
    blob.md5_hash = md5_of(b"other")
    with pytest.raises(BadRequest, match="Provided md5Hash"):
        blob.upload_from_string(b"content", checksum=None)
    assert client.bucket("sums").get_blob("a") is None


def test_objects_are_listed_in_pages(client: Any) -> None:
    bucket = client.bucket("pages")
    for name in ("b/2", "a", "b/1", "b/3", "c"):
        bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in client.list_blobs("pages")] == ["a", "b/1", "b/2", "b/3", "c"]
    assert [blob.name for blob in client.list_blobs("pages", prefix="b/", page_size=2)] == ["b/1", "b/2", "b/3"]
    assert list(client.list_blobs("empty")) == []


def test_buckets_are_there_and_can_be_created_once(client: Any) -> None:
    assert client.get_bucket("anything").location == "US"
    created = client.create_bucket("mine", location="europe-west4")
    assert (created.location, client.get_bucket("mine").project_number) == ("EUROPE-WEST4", created.project_number)
    assert created.project_number != client.get_bucket("anything").project_number
    assert [bucket.name for bucket in client.list_buckets()] == ["mine"]
    with pytest.raises(Conflict, match="Your previous request to create the named bucket succeeded"):
        client.create_bucket("mine")
