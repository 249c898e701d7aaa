from __future__ import annotations

import asyncio
import gzip
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest
from msgspec import structs
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError, UsageError
from reconciler.providers.generativelanguage.wire import SERVICE
from reconciler.providers.google.http import DEADLINE, MAX_BODY, Client, HttpRequest
from reconciler.providers.google.retry import ATTEMPTS
from support.cases import each_row
from support.provider_service import START, Answer, Script, Time, client_of, error, script, settings_of

LIST = HttpRequest("GET", "/v1beta3/tunedModels")
OK = JSONResponse({"fine": True})


def ask(app: Script, time: Time, *, jitter: float = 0) -> object:
    return asyncio.run(client_of(app, time, jitter=jitter).request(LIST))


def failure(app: Script, time: Time) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        ask(app, time)
    return caught.value


@each_row("status", [408, 429, 500, 502, 503, 504])
def test_transient_errors_are_retried(status: int) -> None:
    app, time = script(HTMLResponse("<h1>busy</h1>", status), OK), Time()
    assert ask(app, time) == {"fine": True}
    assert time.naps == [0.5]


@each_row("status", [400, 401, 403, 404, 409, 412, 501])
def test_permanent_errors_are_not_retried(status: int) -> None:
    app = script(error(status, "SOME_STATUS", "no"))
    failure(app, Time())
    assert len(app.seen) == 1


def test_pauses_double_up_to_a_cap_and_attempts_end() -> None:
    app, time = script(error(500, "INTERNAL", "Boom.")), Time()
    caught = failure(app, time)
    assert len(app.seen) == ATTEMPTS == 6
    assert time.naps == [0.5, 1, 2, 4, 8]
    assert caught.message == "GET /v1beta3/tunedModels failed with 500 INTERNAL: Boom"


def test_jitter_stretches_the_pauses_at_most_twofold() -> None:
    time = Time()
    ask(script(error(500, "INTERNAL", "no"), error(500, "INTERNAL", "no"), OK), time, jitter=0.5)
    assert time.naps == [0.75, 1.5]


def retry_info(delay: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@each_row(
    ("answer", "nap"),
    [
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_after="17"), 17),
        (error(503, "UNAVAILABLE", "no", retry_after=format_datetime(START.replace(second=42), usegmt=True)), 42),
        (error(503, "UNAVAILABLE", "no", retry_after="Wed, 31 Dec 2025 23:00:00 GMT"), 0),
        (error(503, "UNAVAILABLE", "no", retry_after="Thu, 01 Jan 2026 00:00:09 -0000"), 9),
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_info("30s")), 30),
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_info("3.5s"), retry_after="1"), 3.5),
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_info("soon"), retry_after="tomorrow"), 0.5),
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_info("-3s"), retry_after="nan"), 0.5),
        (error(429, "RESOURCE_EXHAUSTED", "no", retry_after=f"Thu, 01 Jan {'9' * 20} 00:00:09 GMT"), 0.5),
    ],
)
def test_the_service_says_how_long_to_wait(answer: Response, nap: float) -> None:
    time = Time()
    ask(script(answer, OK), time)
    assert time.naps == [nap]


def test_a_service_that_asks_for_too_long_ends_the_run() -> None:
    app, time = script(error(429, "RESOURCE_EXHAUSTED", "Daily quota.", retry_after="86400"), OK), Time()
    caught = failure(app, time)
    assert time.naps == []
    assert caught.message == (
        "GET /v1beta3/tunedModels failed with 429 RESOURCE_EXHAUSTED and a requested delay of 86400 s: Daily quota"
    )


def test_a_retry_is_logged_without_a_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="reconciler")
    ask(script(error(500, "INTERNAL", "Boom."), OK), Time())
    assert "retrying in 0.5 s: GET /v1beta3/tunedModels failed with 500 INTERNAL: Boom" in caplog.text


@each_row(
    ("answer", "complaint"),
    [
        (HTMLResponse("<h1>Sign in</h1>"), "returned 200 without JSON (text/html; charset=utf-8)"),
        (
            Response(b'{"tunedModels": [', media_type="application/json"),
            "returned 200 without JSON (application/json)",
        ),
        (Response(b"\xff\xfe"), "returned 200 without JSON (no content type)"),
        (Response(b"[" * 100_000), "returned 200 without JSON (no content type)"),
        (JSONResponse([1]), "returned 200 with JSON that is not an object"),
        (
            Response(b"no gzip", headers={"content-encoding": "gzip"}),
            "returned a body that cannot be decompressed",
        ),
        (
            lambda _: Response(gzip.compress(b" " * (MAX_BODY + 1), 1), headers={"content-encoding": "gzip"}),
            "returned more than 64 MiB",
        ),
    ],
)
def test_an_unexpected_response_is_described(answer: Answer, complaint: str) -> None:
    caught = failure(script(answer), Time())
    assert isinstance(caught, ServiceError)
    assert caught.code == "UNKNOWN"
    assert str(caught) == (
        f"GET /v1beta3/tunedModels {complaint}; check spec.endpoint of the target: another kind of service responded"
    )


def test_an_empty_answer_is_fine_for_a_deletion_alone() -> None:
    app = script(Response(status_code=204))
    assert asyncio.run(client_of(app, Time()).request(HttpRequest("DELETE", "/v1beta3/tunedModels/m"))) == {}
    assert "returned 204 without JSON (no content type)" in str(failure(app, Time()))


@each_row(
    ("answer", "host"),
    [
        (RedirectResponse("https://evil.example/v1?x=SECRET"), "evil.example"),
        (RedirectResponse("/elsewhere", 302), "127.0.0.1"),
        (Response(status_code=304), "an unnamed address"),
    ],
)
def test_a_redirect_is_an_error_that_names_the_host(answer: Response, host: str) -> None:
    app = script(answer)
    caught = failure(app, Time())
    assert caught.message == (f"GET /v1beta3/tunedModels returned a redirect to {host}, and redirects are not followed")
    assert len(app.seen) == 1


def test_the_rate_limit_holds_for_every_request_that_is_sent() -> None:
    app, time = script(error(500, "INTERNAL", "no"), OK), Time()
    client = client_of(app, time, requests_per_minute=2)

    async def run() -> None:
        await client.request(LIST)
        await client.request(LIST)

    asyncio.run(run())
    assert client.requests == len(app.seen) == 3
    assert time.naps == [0.5, 29.5]


def test_a_path_in_the_endpoint_is_kept() -> None:
    app, time = script(OK), Time()

    async def run() -> None:
        client = Client("http://127.0.0.1/proxy/", SERVICE, settings_of(time, httpx.ASGITransport(app)))
        await client.request(LIST)

    asyncio.run(run())
    assert app.lines == ["GET /proxy/v1beta3/tunedModels"]


def network_client(endpoint: str, time: Time, deadline: timedelta = DEADLINE) -> Client:
    return Client(endpoint, SERVICE, structs.replace(settings_of(time), deadline=deadline))


async def request_once(endpoint: str, time: Time, deadline: timedelta = DEADLINE) -> None:
    client = network_client(endpoint, time, deadline)
    try:
        await client.request(LIST)
    finally:
        await client.aclose()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(handler: Handler, time: Time, deadline: timedelta = DEADLINE) -> ServiceError:
    """Ask a raw TCP server on a free port, which must make the request fail."""

    async def run() -> None:
        tasks = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.current_task())
            await handler(reader, writer)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            try:
                await request_once(f"http://{host}:{port}", time, deadline)
            finally:
                await asyncio.gather(*filter(None, tasks))

    with pytest.raises(ServiceError) as caught:
        asyncio.run(run())
    return caught.value


def test_a_cut_connection_is_tried_again_and_then_reported() -> None:
    connections = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    time = Time()
    caught = against(cut, time)
    assert connections == ATTEMPTS
    assert caught.code == "UNREACHABLE"
    assert re.fullmatch(
        r"GET /v1beta3/tunedModels got no response from 127\.0\.0\.1:\d+: Server disconnected without sending a"
        r" response; check spec\.endpoint of the target, the network and the proxy settings",
        str(caught),
    )


def test_a_body_that_is_cut_short_is_tried_again_and_then_reported() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()

    time = Time()
    caught = against(cut, time)
    assert len(time.naps) == ATTEMPTS - 1
    assert caught.message.startswith("GET /v1beta3/tunedModels got no response from 127.0.0.1:")
    assert "peer closed connection without sending" in caught.message


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"], ids=["hung", "dribbling"])
def test_a_response_has_a_total_deadline(reply: bytes) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the deadline of a busy machine passes before the request
            await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        while not (reader.at_eof() or writer.is_closing()):  # a reset connection is lost, and has no end
            writer.write(reply[-1:])
            await asyncio.sleep(0.01)
        writer.close()

    time = Time()
    caught = against(trickle, time, timedelta(seconds=0.05))
    assert len(time.naps) == ATTEMPTS - 1
    assert caught.code == "UNREACHABLE"
    assert "the response is incomplete after 0.05 s; check spec.endpoint" in str(caught)


def test_the_rate_limit_does_not_count_towards_the_deadline() -> None:
    async def brief(_seconds: float) -> None:
        await asyncio.sleep(0.1)

    app = script(OK)
    settings = structs.replace(
        settings_of(Time(), httpx.ASGITransport(app)),
        requests_per_minute=1,
        sleep=brief,
        deadline=timedelta(seconds=0.05),
    )
    client = Client("http://127.0.0.1", SERVICE, settings)

    async def run() -> None:
        await client.request(LIST)
        await client.request(LIST)

    asyncio.run(run())
    assert len(app.seen) == 2


@each_row(
    ("answers", "unknown"),
    [([error(status, "", "no")], False) for status in (400, 401, 403, 404, 409, 412, 429, 501)]
    + [([error(status, "", "no")], True) for status in (408, 500, 502, 503, 504, 505, 520)]
    + [
        ([error(503, "", "no", retry_after="9999")], True),
        ([error(503, "", "no"), error(401, "", "no")], True),
        ([error(503, "", "no"), error(400, "", "no")], True),
        ([error(429, "", "no"), error(403, "", "no")], False),
        ([HTMLResponse("<h1>Sign in</h1>")], True),
        ([Response(b'{"name": "a')], True),
        ([RedirectResponse("/elsewhere", 302)], False),
    ],
)
@each_row("idempotent", [True, False])
def test_an_error_states_whether_the_request_may_have_been_carried_out(
    *, answers: list[Response], unknown: bool, idempotent: bool
) -> None:
    client = client_of(script(*answers), Time())
    request = HttpRequest("POST", "/v1beta3/tunedModels", body={}, idempotent=idempotent)
    with pytest.raises(ReconcileError) as caught:
        asyncio.run(client.request(request))
    assert caught.value.outcome_unknown is (unknown and not idempotent)


@each_row("answer", [HTMLResponse("<h1>Sign in</h1>"), Response(b'{"tunedModels": ['), JSONResponse([1])])
def test_one_page_of_a_front_end_ends_no_run(answer: Response) -> None:
    app, time = script(answer, OK), Time()
    assert ask(app, time) == {"fine": True}
    assert time.naps == [0.5]


def test_no_server_is_reported() -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()
        await request_once(f"http://{host}:{port}", Time())

    with pytest.raises(
        ServiceError,
        match=r"^GET /v1beta3/tunedModels got no response from 127.0.0.1:\d+: connection refused \(All conn",
    ):
        asyncio.run(run())


def test_an_endpoint_of_another_scheme_is_reported_at_once() -> None:
    time = Time()
    with pytest.raises(
        ServiceError, match=r"got no response from 127.0.0.1: Request URL has an unsupported protocol 'ftp://'; check"
    ):
        asyncio.run(request_once("ftp://127.0.0.1", time))
    assert time.naps == []


def test_an_endpoint_that_is_no_url_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"^invalid endpoint: .*; fix spec\.endpoint of the target$"):
        network_client("http://127.0.0.1:port", Time())


def test_access_errors_are_not_tried_again() -> None:
    app = script(error(401, "UNAUTHENTICATED", "no"))
    assert isinstance(failure(app, Time()), AccessError)
    assert len(app.seen) == 1
