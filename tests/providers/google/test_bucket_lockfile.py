"""A lockfile in Cloud Storage, over the embedded service's; and leases, in a time that passes when the test says so."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from reconciler.commands._session import EventLoop
from reconciler.domain.errors import (
    AccessError,
    LeaseHeld,
    LockConflict,
    ReconcileError,
    ServiceError,
    TimeoutReached,
    UsageError,
)
from reconciler.domain.ports import LockStore, Sleeper
from reconciler.emulator.app import create_app
from reconciler.environment import Deadline
from reconciler.providers.google.bucket_lockfile import CANCEL_GRACE, LEASE_DURATION, BucketLockfile, process_identity
from reconciler.providers.google.storage import Storage, connect
from reconciler.state.lockfile import loads
from support.provider_service import START, Time, error, script, settings_of
from support.provider_storage import DENIED, NO_BUCKET, NO_CONTENT, NO_OBJECT, UNMET, resource, storage_of, with_storage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = "gs://acme-data/locks/prod.json"
LEASE = f"{PATH}.lease"
BUSY = error(503, "UNAVAILABLE", "busy")


class Front:
    """Cloud Storage behind a line that loses the answers to so many uploads, or is down."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.lost = 0
        self.down = False
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        if self.down:
            await BUSY(scope, receive, send)
        elif self.lost and scope["method"] == "POST":
            self.lost -= 1
            await self.app(scope, receive, _nowhere)
            await BUSY(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def _nowhere(_: Message) -> None:
    """Loses what is sent."""


class Naps:
    """The sleeper of a background: each sleep ends when the test says so, and moves the clock then."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._begun: SimpleQueue[tuple[float, Callable[[], None]]] = SimpleQueue()
        self._current: tuple[float, Callable[[], None]] | None = None

    async def sleep(self, seconds: float) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._begun.put((seconds, lambda: _from_outside(loop, over)))
        await over.wait()

    def end(self) -> None:
        """End the sleep that is going on."""
        seconds, wake = self._current or self._begun.get(timeout=60)
        self._current = None
        self._time.now += timedelta(seconds=seconds)
        wake()

    def await_next(self) -> None:
        """Wait until what the last sleep was followed by is done, and the next sleep begins."""
        self._current = self._begun.get(timeout=60)


def _from_outside(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    loop.call_soon_threadsafe(over.set)


class Cloud:
    """One service, and the runs that keep a lockfile in it."""

    def __init__(self) -> None:
        self.time = Time()
        seeded = random.Random(1)  # noqa: S311 - made-up ids, no secret
        self.app: ASGIApp = create_app(store=None, clock=self.time.clock, random=seeded)
        self.front = Front(self.app)

    def lock(
        self,
        holder: str = "process 1 on build-7",
        app: ASGIApp | None = None,
        sleep: Sleeper | None = None,
        grace: float = CANCEL_GRACE,
        process: str = "",
    ) -> BucketLockfile:
        return BucketLockfile(
            PATH,
            lambda: storage_of(app or self.front, self.time),
            clock=self.time.clock,
            sleep=sleep or Naps(self.time).sleep,
            holder=holder,
            grace=grace,
            process=process,
        )

    def put(self, uri: str, data: bytes) -> None:
        """Somebody else's upload, whatever is there."""

        async def act(storage: Storage) -> None:
            found = await storage.read(uri)
            await storage.write(uri, data, generation=found[1] if found else 0)

        with_storage(self.app, act)

    def remove(self, uri: str) -> None:
        async def act(storage: Storage) -> None:
            found = await storage.read(uri)
            assert found is not None
            await storage.delete(uri, generation=found[1])

        with_storage(self.app, act)

    def content(self, uri: str) -> bytes | None:
        found = with_storage(self.app, lambda storage: storage.read(uri))
        return found[0] if found else None

    @property
    def lease(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.content(LEASE) or b"{}")
        return document


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def logged() -> Iterator[SimpleQueue[logging.LogRecord]]:
    """What is logged about leases, in whichever thread."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger, handler = logging.getLogger("reconciler.providers.google.bucket_lockfile"), QueueHandler(records)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def told(records: SimpleQueue[logging.LogRecord]) -> str:
    return records.get(timeout=60).getMessage()


def failure(act: Callable[[], object]) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        act()
    return caught.value


def held(data: bytes, generation: int = 7) -> Response:
    return Response(data, headers={"x-goog-generation": str(generation)})


def enter_lease(lock: BucketLockfile) -> None:
    with lock.lease():
        pass


# the text


def test_what_is_written_is_read_by_everybody(cloud: Cloud) -> None:
    lock: LockStore = cloud.lock()
    assert lock.path == PATH
    assert lock.read() is None
    assert lock.write("é\r\n")
    assert cloud.content(PATH) == "é\r\n".encode()
    assert cloud.lock().read() == "é\r\n"


def test_an_equal_text_is_not_written(cloud: Cloud) -> None:
    lock = cloud.lock()
    lock.write("a")
    before = cloud.front.requests
    assert not lock.write("a")
    assert cloud.front.requests == before
    assert lock.write("b")
    assert lock.write("a")


def test_of_two_runs_that_write_the_second_is_reported_and_may_write_what_it_read_again(cloud: Cloud) -> None:
    ours, theirs = cloud.lock(), cloud.lock()
    theirs.write("0")
    assert (ours.read(), theirs.read()) == ("0", "0")
    theirs.write("1")
    caught = failure(lambda: ours.write("2"))
    assert isinstance(caught, LockConflict)
    assert str(caught) == (
        f"another run has saved {PATH} in the meantime; run the command again; it finds the trainings that this run has"
        " started"
    )
    assert ours.read() == "1"
    assert ours.write("2")
    assert isinstance(failure(lambda: theirs.write("3")), LockConflict)


def test_of_two_first_writers_the_second_is_reported(cloud: Cloud) -> None:
    ours, theirs = cloud.lock(), cloud.lock()
    assert (ours.read(), theirs.read()) == (None, None)
    theirs.write("1")
    assert isinstance(failure(lambda: ours.write("2")), LockConflict)


def test_a_text_that_was_deleted_meanwhile_is_a_conflict_and_can_be_written_anew(cloud: Cloud) -> None:
    lock = cloud.lock()
    lock.write("a")
    cloud.remove(PATH)
    assert isinstance(failure(lambda: lock.write("b")), LockConflict)
    assert lock.read() is None
    assert lock.write("b")


def test_a_text_that_arrived_although_the_answer_was_lost_is_no_conflict(cloud: Cloud) -> None:
    lock = cloud.lock()
    lock.write("a")
    cloud.front.lost = 1
    assert lock.write("b")
    assert lock.write("c"), "the generation that was never answered is known"
    assert cloud.content(PATH) == b"c"


def test_a_text_that_arrived_although_every_answer_was_lost_is_found(cloud: Cloud) -> None:
    lock = cloud.lock()
    lock.write("a")
    cloud.front.lost = 6
    caught = failure(lambda: lock.write("b"))
    assert isinstance(caught, ServiceError)
    assert caught.code == "UNAVAILABLE"
    assert caught.message.startswith(f"cannot save the lockfile {PATH}: POST /upload/storage/v1/b/acme-data/o failed")
    assert lock.read() == "b"
    assert not lock.write("b")
    assert lock.write("c")


def test_a_readable_object_counts_as_writable(cloud: Cloud) -> None:
    lock = cloud.lock()
    lock.check_writable()
    lock.write("a")
    lock.check_writable()
    assert lock.write("b"), "looking does not change what was seen"


# what can be wrong with it

_OBJECT = "/storage/v1/b/acme-data/o/locks%2Fprod.json"
_NO_BUCKET = (
    "failed with 404 NOT_FOUND: The specified bucket does not exist; fix the name of the bucket, or create it:"
    " `gcloud storage buckets create gs://acme-data --location=LOCATION`"
)
_CALLS: dict[str, Callable[[BucketLockfile], object]] = {
    f"cannot read the lockfile {PATH}: GET {_OBJECT}": BucketLockfile.read,
    f"cannot save the lockfile {PATH}: POST /upload/storage/v1/b/acme-data/o": lambda lock: lock.write("a"),
    f"cannot check the lockfile {PATH}: GET {_OBJECT}": BucketLockfile.check_writable,
    f"cannot acquire the lease {LEASE}: POST /upload/storage/v1/b/acme-data/o": enter_lease,
}


@pytest.mark.parametrize("call", _CALLS)
def test_a_missing_bucket(cloud: Cloud, call: str) -> None:
    caught = failure(lambda: _CALLS[call](cloud.lock(app=script(NO_BUCKET))))
    assert str(caught) == f"{call} {_NO_BUCKET}"


@pytest.mark.parametrize("call", _CALLS)
def test_a_forbidden_bucket(cloud: Cloud, call: str) -> None:
    caught = failure(lambda: _CALLS[call](cloud.lock(app=script(DENIED))))
    assert isinstance(caught, AccessError)
    assert caught.message.startswith(f"{call} failed with 403 PERMISSION_DENIED: me@example.com does not have")
    assert caught.remedy.startswith("ask for roles/storage.objectUser on gs://acme-data for your account")


def test_bytes_that_are_no_text(cloud: Cloud) -> None:
    cloud.put(PATH, b"\xff")
    assert str(failure(cloud.lock().read)) == (
        f"{PATH}:1:1: not UTF-8 text: invalid byte 0xff; restore an earlier version of the object, or save it as UTF-8"
    )


def test_something_else_in_its_place(cloud: Cloud) -> None:
    cloud.put(PATH, b'{"rows": 3}')
    lock = cloud.lock()
    caught = failure(lambda: loads(lock.read() or "", lock.path))
    assert caught.message == f"{PATH}:1:1: not a lockfile"


def test_an_address_that_is_none() -> None:
    time = Time()
    app = script(NO_OBJECT)
    lock = BucketLockfile(
        "gs://acme-data/", lambda: storage_of(app, time), clock=time.clock, sleep=time.sleep, holder="me"
    )
    caught = failure(lock.read)
    assert isinstance(caught, UsageError)
    assert str(caught) == "invalid Cloud Storage address 'gs://acme-data/': expected gs://bucket/object"


# the thread that sends the requests


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lockfile"]


def test_it_can_be_used_inside_a_running_loop(cloud: Cloud) -> None:
    lock = cloud.lock()

    async def run() -> str | None:
        with lock.lease():
            lock.write("a")
            return lock.read()

    assert asyncio.run(run()) == "a"


def test_the_thread_comes_with_the_first_request_and_goes_with_the_lock(cloud: Cloud) -> None:
    gc.collect()
    lock = cloud.lock()
    assert threads() == []
    lock.read()
    assert len(threads()) == 1
    lock.write("a")
    assert len(threads()) == 1
    del lock
    gc.collect()
    assert threads() == []


def test_a_client_that_cannot_be_made_is_reported() -> None:
    time = Time()

    def no_client() -> Storage:
        return connect("http://127.0.0.1:99999", settings_of(time))

    lock = BucketLockfile(PATH, no_client, clock=time.clock, sleep=time.sleep, holder="me")
    caught = failure(lock.read)
    assert isinstance(caught, UsageError)
    assert caught.message == "invalid endpoint: Invalid port: 99999"


class Resolver:
    """Names that DNS does not answer until the end of a test, or 20 seconds."""

    def __init__(self) -> None:
        self.asked, self.answers, self.has_ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, *_arguments: object, **_options: object) -> list[object]:
        self.asked.set()
        self.answers.wait(20)
        self.has_ended.set()
        return []

    async def look_up(self) -> None:
        await asyncio.get_running_loop().getaddrinfo("storage.example", 443)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.answers.set()


def test_the_end_of_a_command_does_not_wait_for_a_name_that_is_not_resolved(resolver: Resolver) -> None:
    with EventLoop() as loop, pytest.raises(TimeoutError):
        loop.run(asyncio.wait_for(resolver.look_up(), 0.01))
    assert resolver.asked.wait(20)
    assert not resolver.has_ended.is_set()


def test_the_end_of_a_lockfile_does_not_wait_for_a_name_that_is_not_resolved(resolver: Resolver) -> None:
    async def unresolved(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await resolver.look_up()

    time, deadline = Time(), Deadline(timedelta(0), grace=timedelta(microseconds=1))
    lock = BucketLockfile(
        PATH, lambda: storage_of(unresolved, time), clock=time.clock, sleep=time.sleep, holder="me", deadline=deadline
    )
    assert isinstance(failure(lock.read), TimeoutReached)
    del lock  # which ends its thread
    gc.collect()
    assert not resolver.has_ended.is_set()


def test_a_deadline_ends_a_request_that_gets_no_response() -> None:
    async def hanging(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    time = Time()

    def tick() -> datetime:
        time.now += timedelta(seconds=2)
        return time.now

    deadline = Deadline(timedelta(seconds=9), tick)
    lock = BucketLockfile(
        PATH, lambda: storage_of(hanging, time), clock=time.clock, sleep=time.sleep, holder="me", deadline=deadline
    )
    caught = failure(lock.read)
    assert isinstance(caught, TimeoutReached)
    assert str(caught) == (
        f"cannot read the lockfile {PATH}: Cloud Storage did not respond within --timeout; run the command again"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_does_not_wait_for_a_service_that_does_not_answer(
    cloud: Cloud, number: signal.Signals
) -> None:
    async def hanging(_scope: Scope, _receive: Receive, _send: Send) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        await asyncio.Event().wait()

    lock = cloud.lock(app=hanging, grace=0)

    async def run() -> str | None:
        return lock.read()

    with EventLoop() as session, pytest.raises(ServiceError) as caught:
        session.run(run())
    assert str(caught.value) == (
        f"cannot read the lockfile {PATH}: interrupted, and Cloud Storage does not respond; "
        "run the command again; it finds the trainings that this run has started"
    )


def test_what_answers_after_all_is_read_although_the_run_is_interrupted(cloud: Cloud) -> None:
    cloud.put(PATH, b"a")

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await cloud.app(scope, receive, send)

    lock = cloud.lock(app=slow)
    texts: list[str | None] = []

    async def run() -> None:
        texts.append(lock.read())
        await asyncio.Event().wait()

    with EventLoop() as session, pytest.raises(KeyboardInterrupt):
        session.run(run())
    assert texts == ["a"]


def test_an_interrupted_request_is_taken_back_and_the_thread_ends(cloud: Cloud) -> None:
    ended = threading.Event()

    async def hanging(_scope: Scope, _receive: Receive, _send: Send) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    lock = cloud.lock(app=hanging)
    with pytest.raises(KeyboardInterrupt):
        lock.read()
    del lock
    gc.collect()
    assert ended.is_set()
    assert threads() == []


# the lease


def test_a_lease_says_who_until_when_and_is_gone_afterwards(cloud: Cloud) -> None:
    with cloud.lock().lease():
        lease = cloud.lease
        assert lease == {
            "holder": "process 1 on build-7",
            "acquired": f"{START:%Y-%m-%dT%H:%M:%SZ}",
            "expires": f"{START + LEASE_DURATION:%Y-%m-%dT%H:%M:%SZ}",
        }
    assert cloud.content(LEASE) is None


def test_a_run_that_fails_releases_its_lease(cloud: Cloud) -> None:
    with pytest.raises(ZeroDivisionError), cloud.lock().lease():
        _ = 1 / 0
    assert cloud.content(LEASE) is None


def test_a_lease_of_another_run_is_reported_with_holder_end_and_remedy(cloud: Cloud) -> None:
    with cloud.lock("process 7\x1b[31m on build-7").lease():
        caught = failure(lambda: enter_lease(cloud.lock("process 8 on build-7")))
        assert cloud.lease["holder"] == "process 7\x1b[31m on build-7"
    assert type(caught) is LeaseHeld
    assert str(caught) == (
        f"another run is in progress and has the lease {LEASE}, held by process 7 [31m on build-7 until 2026-01-01"
        " 00:05:00 UTC; wait until it has ended, and run the command again; if it has crashed, its lease expires at"
        " that time"
    )
    enter_lease(cloud.lock("process 8 on build-7"))


def test_a_lease_that_was_left_behind_is_replaced_once_it_has_ended(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord]
) -> None:
    dead = cloud.lock("process 7 on build-7").lease()
    dead.__enter__()
    cloud.time.now += LEASE_DURATION - timedelta(seconds=1)
    failure(lambda: enter_lease(cloud.lock("process 8 on build-7")))
    cloud.time.now += timedelta(seconds=1)
    with cloud.lock("process 8 on build-7").lease():
        assert cloud.lease["holder"] == "process 8 on build-7"
        assert told(logged) == (
            f"replacing the expired lease {LEASE}, held by process 7 on build-7 until 2026-01-01 00:05:00 UTC"
        )
        dead.__exit__(None, None, None)
        assert cloud.lease["holder"] == "process 8 on build-7", "whoever lost it leaves it alone"


def test_the_lease_of_a_process_of_this_machine_ends_with_it(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - the one of the system
        alive = process_identity(process.pid)
        dead = cloud.lock("process 7 on build-7", process=alive).lease()
        dead.__enter__()
        failure(lambda: enter_lease(cloud.lock("process 8 on build-7")))
        process.kill()
    with cloud.lock("process 8 on build-7").lease():
        assert cloud.lease["holder"] == "process 8 on build-7"
        assert told(logged).startswith(f"replacing the lease of an ended run, {LEASE}, held by process 7 on build-7")
        dead.__exit__(None, None, None)


@pytest.mark.parametrize("change", [lambda words: ["other", *words[1:]], lambda words: words[:3], lambda _: ["x"] * 4])
def test_the_end_of_a_process_elsewhere_is_not_known(cloud: Cloud, change: Callable[[list[str]], list[str]]) -> None:
    """Another machine, another release of this program, and nonsense."""
    boot, namespace, *_ = process_identity(os.getpid()).split()
    process = " ".join(change([boot, namespace, "4194305", "1"]))  # above the largest number of a process
    with cloud.lock("process 7 on build-7", process=process).lease():
        assert "another run is in progress" in str(failure(lambda: enter_lease(cloud.lock("process 8 on build-7"))))


def test_of_two_that_take_over_one_wins(cloud: Cloud) -> None:
    """Between looking at what was left behind and taking it over, another run was faster."""
    old, new = (
        json.dumps({"holder": holder, "acquired": START.isoformat(), "expires": expires.isoformat()}).encode()
        for holder, expires in (("dead", START), ("faster", START + LEASE_DURATION))
    )
    app = script(UNMET, held(old), UNMET, held(new, 8))
    caught = failure(lambda: enter_lease(cloud.lock(app=app)))
    assert ", held by faster until 2026-01-01 00:05:00 UTC" in caught.message
    assert [seen.query.get("ifGenerationMatch") for seen in app.seen] == ["0", None, "7", None]


def test_a_lease_that_was_released_meanwhile_is_taken(cloud: Cloud) -> None:
    app = script(UNMET, NO_CONTENT, NO_OBJECT, resource(b""), NO_CONTENT, NO_OBJECT)
    enter_lease(cloud.lock(app=app))
    assert [seen.query.get("ifGenerationMatch") for seen in app.seen if seen.method == "POST"] == ["0", "0"]


def test_a_lease_is_renewed_while_a_run_waits_for_long(cloud: Cloud) -> None:
    naps = Naps(cloud.time)
    rival = cloud.lock("rival")
    with cloud.lock(sleep=naps.sleep).lease():
        while cloud.time.now < START + 4 * LEASE_DURATION:
            naps.end()
            naps.await_next()
            assert datetime.fromisoformat(cloud.lease["expires"]) == cloud.time.now + LEASE_DURATION
        failure(lambda: enter_lease(rival))
    enter_lease(rival)


def test_a_renewal_that_fails_is_logged_and_the_next_comes_in_time(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord]
) -> None:
    naps = Naps(cloud.time)
    with cloud.lock(sleep=naps.sleep).lease():
        cloud.front.down = True
        naps.end()
        naps.await_next()
        assert told(logged).startswith(f"cannot renew the lease {LEASE}: GET /storage/v1/b/acme-data/o/locks")
        cloud.front.down = False
        naps.end()
        assert cloud.time.now < START + LEASE_DURATION
        naps.await_next()
        assert datetime.fromisoformat(cloud.lease["expires"]) == cloud.time.now + LEASE_DURATION
    assert logged.empty()


def test_a_renewal_that_arrived_although_every_answer_was_lost_loses_nothing(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord]
) -> None:
    naps = Naps(cloud.time)
    with cloud.lock(sleep=naps.sleep).lease():
        cloud.front.lost = 6
        naps.end()
        naps.await_next()
        assert "cannot renew" in told(logged)
        naps.end()
        naps.await_next()
        assert datetime.fromisoformat(cloud.lease["expires"]) == cloud.time.now + LEASE_DURATION
    assert cloud.content(LEASE) is None
    assert logged.empty()


@pytest.mark.parametrize("taken", [True, False])
def test_a_lost_lease_is_logged_and_the_run_continues(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord], *, taken: bool
) -> None:
    naps = Naps(cloud.time)
    ours = cloud.lock(sleep=naps.sleep)
    with ours.lease(), ExitStack() as rivals:
        if taken:
            cloud.time.now += LEASE_DURATION  # as when the machine slept
            rivals.enter_context(cloud.lock("rival").lease())
            told(logged)
        else:
            cloud.remove(LEASE)
        naps.end()
        assert told(logged) == (f"lost the lease {LEASE}; this run continues, and merges what other runs save")
        assert ours.write("a")
    assert logged.empty()


def test_a_lease_that_cannot_be_released_is_logged_and_ends_by_itself(
    cloud: Cloud, logged: SimpleQueue[logging.LogRecord]
) -> None:
    with cloud.lock().lease():
        cloud.front.down = True
    assert told(logged).startswith(f"cannot release the lease {LEASE}, which will expire: GET /storage/v1/b/acme")
    cloud.front.down = False
    cloud.time.now += LEASE_DURATION
    enter_lease(cloud.lock("rival"))


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"", b"[]", b"{}", b'{"holder": "me", "acquired": 1, "expires": 2}', b"[" * 100_000],
)
def test_something_else_in_the_place_of_the_lease(cloud: Cloud, content: bytes) -> None:
    cloud.put(LEASE, content)
    assert str(failure(lambda: enter_lease(cloud.lock()))) == (
        f"{LEASE} is not a lease; move it away (`gcloud storage mv {LEASE} {LEASE}.old`), or change spec.lock of the"
        " target"
    )
    assert cloud.content(LEASE) == content
