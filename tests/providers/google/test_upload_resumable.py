from __future__ import annotations

import asyncio
import logging
import random
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.emulator.app import create_app
from reconciler.providers.google.http import HttpRequest
from reconciler.providers.google.retry import ATTEMPTS
from reconciler.providers.google.storage import ObjectInfo, Storage
from reconciler.providers.google.upload import CHUNK as USUAL_CHUNK
from support.cases import each_row
from support.provider_service import Time, script
from support.provider_storage import (
    CHUNK,
    NO_BUCKET,
    NO_OBJECT,
    SESSION,
    UNMET,
    UPLOAD,
    URI,
    Fault,
    Faulty,
    busy,
    cut,
    forgotten,
    incomplete,
    interrupted,
    md5_of,
    opened,
    refusal,
    resource,
    storage_over,
    unanswered,
    unsent,
    upload,
    with_storage,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LINE = bytes(range(11, 256)) * 4096
LINES = (LINE,) * 9
DATA = (LINE + b"\n") * 9
SIZE = len(DATA)
MD5 = md5_of(DATA)
LAST = f"{2 * CHUNK}-{SIZE - 1}/{SIZE}"
FIRST, SECOND = (f"{number * CHUNK}-{(number + 1) * CHUNK - 1}/{SIZE}" for number in range(2))
WHERE = f"*/{SIZE}"
PUT = f"PUT {UPLOAD}"


@dataclass
class Service:
    """A service, the embedded one unless another is given, behind a faulty network."""

    faults: dict[int, Fault] = field(default_factory=dict)
    app: ASGIApp | None = None
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        seeded = random.Random(1)  # noqa: S311 - made-up ids, no secret
        app = self.app or create_app(store=None, clock=self.time.clock, random=seeded)
        self.network = Faulty(app, self.faults)

    def run(self, act: Callable[[Storage], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with storage_over(self.network, self.time) as storage:
                return await act(storage)

        return asyncio.run(run())

    def upload(self) -> ObjectInfo:
        found = self.run(lambda storage: upload(storage, LINES))
        assert isinstance(found, ObjectInfo)
        return found


def test_a_large_data_set_goes_in_chunks() -> None:
    service = Service()
    assert (service.upload().size, service.upload().md5) == (SIZE, MD5)
    assert service.network.ranges == [FIRST, SECOND, LAST]
    assert service.time.naps == []


@each_row(
    ("fault", "goes_on_at"),
    [(unsent, CHUNK), (busy, CHUNK), (unanswered, 2 * CHUNK), (cut, CHUNK + CHUNK // 2)],
)
def test_an_upload_that_is_cut_off_continues_where_the_service_is(fault: Fault, goes_on_at: int) -> None:
    service = Service({1: fault})
    assert service.upload().md5 == MD5
    end = min(goes_on_at + CHUNK, SIZE)
    assert service.network.ranges[:4] == [FIRST, SECOND, WHERE, f"{goes_on_at}-{end - 1}/{SIZE}"]
    assert service.time.naps == [0.5]


def test_a_long_upload_gives_signs_of_life(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="reconciler")
    Service({}).upload()
    told = [record.getMessage() for record in caplog.records]
    assert told
    assert all(line.startswith("uploading a data set: ") and line.endswith(" MB") for line in told)


def test_an_end_whose_answer_was_lost_is_an_end() -> None:
    service = Service({2: unanswered})
    assert service.upload().md5 == MD5
    assert service.network.ranges == [FIRST, SECOND, LAST, WHERE]


def test_a_session_that_is_forgotten_is_replaced_by_another() -> None:
    service = Service({1: forgotten})
    assert service.upload().md5 == MD5
    assert service.network.ranges == [FIRST, SECOND, FIRST, SECOND, LAST]


def test_an_upload_that_fails_again_and_again_says_so() -> None:
    service = Service(dict.fromkeys(range(1, 20), unsent), script(NO_OBJECT, opened(), incomplete(CHUNK)))
    with pytest.raises(ServiceError) as caught:
        service.upload()
    assert str(caught.value) == (
        f"{PUT} got no response from 127.0.0.1: Connection reset by peer;"
        " check spec.storageEndpoint of the target, the network and the proxy settings"
    )
    assert len(service.time.naps) == ATTEMPTS - 1


def test_a_service_that_forgets_every_session_is_reported() -> None:
    service = Service(dict.fromkeys(range(20), forgotten))
    with pytest.raises(ServiceError) as caught:
        service.upload()
    assert (
        str(caught.value)
        == f"{PUT}: the service ended the upload session (404); run the command again; the upload restarts"
    )
    assert len(service.network.ranges) == ATTEMPTS


def test_every_chunk_that_arrives_renews_the_patience() -> None:
    faults = {number: unsent for number in range(12) if number % 4}
    service = Service(faults)
    assert service.upload().md5 == MD5
    assert max(service.time.naps) == 2


def test_a_run_that_was_interrupted_is_made_good_by_the_next() -> None:
    service = Service({1: interrupted})
    with pytest.raises(KeyboardInterrupt):
        service.upload()
    assert service.run(lambda storage: storage.stat(URI)) is None
    assert service.upload().md5 == MD5
    assert service.network.ranges == [FIRST, SECOND, FIRST, SECOND, LAST]


def test_memory_does_not_grow_with_the_data() -> None:
    def lines() -> Iterator[bytes]:
        yield from repeat(LINE, 34)

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        response = answers.pop(0)
        await response(_scope, receive, send)

    answers = [NO_OBJECT, opened(), incomplete(USUAL_CHUNK), incomplete(2 * USUAL_CHUNK), resource((LINE + b"\n") * 34)]
    tracemalloc.start()
    with_storage(answer, lambda storage: upload(storage, lines()), chunk=USUAL_CHUNK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20


# against scripted answers


def failure(*answers: Response) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        with_storage(script(NO_OBJECT, *answers), lambda storage: upload(storage, LINES))
    return caught.value


def test_a_session_is_opened_with_precondition_and_checksum() -> None:
    app = script(NO_OBJECT, opened(), incomplete(CHUNK), incomplete(2 * CHUNK), resource(DATA))
    with_storage(app, lambda storage: upload(storage, LINES))
    opening, first = app.seen[1:3]
    assert (opening.line, opening.query) == (
        f"POST {UPLOAD}",
        {"uploadType": "resumable", "name": "reconcile/a b.jsonl", "ifGenerationMatch": "0"},
    )
    assert opening.json() == {
        "name": "reconcile/a b.jsonl",
        "contentType": "application/octet-stream",
        "md5Hash": MD5,
    }
    assert opening.headers["x-upload-content-length"] == str(SIZE)
    assert (first.line, first.query) == (PUT, {"uploadType": "resumable", "upload_id": "SECRET"})
    assert (first.headers["content-range"], first.headers["content-length"]) == (f"bytes {FIRST}", str(CHUNK))
    assert first.body == DATA[:CHUNK]


@pytest.mark.parametrize("answers", [(UNMET,), (opened(), incomplete(CHUNK), incomplete(2 * CHUNK), UNMET)])
def test_an_object_that_another_run_uploaded_first_is_compared(answers: tuple[Response, ...]) -> None:
    app = script(NO_OBJECT, *answers, resource(DATA))
    assert with_storage(app, lambda storage: upload(storage, LINES)).md5 == MD5
    assert str(failure(*answers, resource(b"other"))).startswith(f"{URI} has 5 bytes with MD5 ")


def test_what_was_damaged_on_the_way_is_reported() -> None:
    message = 'Provided MD5 hash "x" doesn\'t match calculated MD5 hash "y".'
    caught = failure(opened(), incomplete(CHUNK), incomplete(2 * CHUNK), refusal(400, message))
    assert caught.message.startswith(f"{PUT} failed with 400 INVALID_ARGUMENT: Provided MD5 hash")
    assert str(failure(opened(), resource(b"other"))).endswith(
        f"move it away and run the command again: `gcloud storage mv {URI} {URI}.damaged`"
    )


@each_row(
    ("location", "shown"),
    [
        ("https://evil.example/upload?upload_id=SECRET", "evil.example"),
        ("http://127.0.0.1:81/upload?upload_id=SECRET", "127.0.0.1"),
        ("/upload?upload_id=SECRET", "no address"),
        ("", "no address"),
        ("http://127.0.0.1:port", "no address"),
    ],
)
def test_a_session_elsewhere_is_never_followed(location: str, shown: str) -> None:
    app = script(NO_OBJECT, opened(location))
    with pytest.raises(ServiceError) as caught:
        with_storage(app, lambda storage: upload(storage, LINES))
    assert str(caught.value) == (
        f"POST {UPLOAD} returned an upload session at {shown}, which is not the endpoint's host;"
        " check spec.storageEndpoint of the target: another kind of service responded"
    )
    assert len(app.seen) == 2


@each_row("told", ["bytes=0-99999999999", "bytes=5-10", "everything"])
def test_a_range_that_cannot_be_is_reported(told: str) -> None:
    odd = Response(status_code=308, headers={"range": told})
    assert failure(opened(), odd).message.endswith("returned a range outside this upload")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [(incomplete(0), "accepted no bytes"), (incomplete(SIZE), "has the whole file and does not complete the upload")],
)
def test_a_service_that_makes_no_progress_is_reported(answer: Response, complaint: str) -> None:
    assert failure(opened(), answer).message == f"{PUT}: the service {complaint}"


def test_a_service_that_stays_busy_does_not_promise_that_the_upload_continues() -> None:
    assert failure(opened(), refusal(503, "Busy.")).remedy == "run the command again; the upload restarts"


def test_a_missing_bucket_is_reported_when_the_session_is_opened() -> None:
    assert failure(NO_BUCKET).remedy.startswith("fix the name of the bucket, or create it:")


@pytest.mark.parametrize("answer", [refusal(403, "No."), refusal(503, "Busy."), refusal(404, "Gone."), Response(b"<")])
def test_the_session_shows_in_no_error_and_no_log(answer: Response, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="reconciler")
    error: BaseException | None = failure(opened(), answer)
    assert "SECRET" not in caplog.text
    while error:
        assert "SECRET" not in f"{error} {error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


def test_a_request_to_the_session_does_not_show_it() -> None:
    call = HttpRequest("PUT", SESSION, shown=f"PUT {UPLOAD}")
    assert "SECRET" not in f"{call} {call!r}"


def test_a_lost_connection_hangs_no_session_on_the_error() -> None:
    service = Service(dict.fromkeys(range(20), unsent), script(NO_OBJECT, opened(), incomplete(0)))
    with pytest.raises(ServiceError) as caught:
        service.upload()
    error: BaseException | None = caught.value
    while error:
        assert "SECRET" not in f"{error} {error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__
