"""A lockfile in a bucket through the command line, over a real port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from reconciler.providers.google.bucket_lockfile import LEASE_DURATION
from support.cli_world import Cli, Clock, Result
from support.git_repository import Repository
from support.vertex_world import SLOW, World

START = datetime(2026, 1, 1, tzinfo=UTC)
LOCK = "gs://acme-locks/prod.json"
_LOCK = "acme-locks/o/prod.json"
_LEASE = f"{_LOCK}.lease"


class SharedClock(Clock):
    """A clock that only the runs' own sleeping moves; a lockfile's thread, which renews the lease, sleeps on."""

    async def sleep(self, seconds: float) -> None:
        if threading.current_thread().name == "lockfile":
            await asyncio.Event().wait()
        else:
            await super().sleep(seconds)


class Bucket:
    """The objects of a service, as anybody can reach them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> Any:
        try:
            return self._send("GET", f"/storage/v1/b/{path}?alt=media")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def put(self, name: str, document: object) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self._send("POST", f"/upload/storage/v1/b/acme-locks/o?uploadType=media&name={name}", data)

    def models(self) -> list[Any]:
        return list(self._send("GET", "/v1beta3/tunedModels").get("tunedModels", []))

    def _send(self, method: str, path: str, data: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self._url}{path}", data, method=method)  # noqa: S310 - our own loopback service
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own loopback service
            return json.load(answer)


def aim(reconcile: Cli, url: str) -> None:
    """Point the default target at a service, and its lockfile into a bucket there."""
    target = reconcile.specs / "reconcile.yaml"
    fields = f"generativelanguage\n  project: my-project\n  endpoint: {url}\n  storageEndpoint: {url}\n  lock: {LOCK}"
    target.write_text(target.read_text().replace("embedded", fields, 1))
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.hush-hush"


@pytest.fixture
def bucket(served: World, reconcile: Cli) -> Bucket:
    """A service whose clock is the run's."""
    reconcile.clock = SharedClock(START, least=30)
    served.begin(reconcile.folder, lambda: reconcile.clock.now, SLOW)
    aim(reconcile, served.url)
    return Bucket(served.url)


@pytest.fixture
def real(served: World, reconcile: Cli) -> Bucket:
    """A service on the real clock."""
    served.begin(reconcile.folder, lambda: datetime.now(UTC), SLOW)
    aim(reconcile, served.url)
    return Bucket(served.url)


def lockfiles(reconcile: Cli) -> list[Path]:
    return list(reconcile.folder.rglob("*.lock.json"))


def test_the_whole_run_leaves_no_lockfile_on_disk(reconcile: Cli, bucket: Bucket) -> None:
    reconcile.manifest("adder")

    planned = reconcile("plan")
    assert planned.status == 0, planned.err
    assert bucket.get(_LOCK) is None
    applied = reconcile("apply", "--yes")
    assert applied.status == 0, applied.err
    locked = bucket.get(_LOCK)["models"]["adder"]
    assert locked["serving"] == locked["generations"][0]["key"]
    assert bucket.get(_LEASE) is None
    assert LOCK in reconcile("status").out
    assert reconcile("resolve", "adder").out == f"{locked['generations'][0]['remote']}\n"
    assert reconcile("apply", "--yes").out.startswith("No changes. 1 model matches its manifest; ")
    assert reconcile("validate", "--locked").status == 0
    assert lockfiles(reconcile) == []


def test_an_unmerged_branch_does_not_change_the_lockfile(reconcile: Cli, bucket: Bucket) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes", "--no-wait").status == 0
    before = bucket.get(_LOCK)
    target = reconcile.specs / "reconcile.yaml"
    in_bucket = target.read_text()
    in_pull_request = "reconcile wait in a pull request"
    for arguments, environ, run in (
        (("apply", "--yes", "--train-only"), {}, "--train-only"),
        (("wait",), {"GITHUB_HEAD_REF": "topic"}, in_pull_request),
        (("wait",), {"CI_MERGE_REQUEST_IID": "7"}, in_pull_request),
        (("wait",), {"RECONCILE_UNMERGED": "1"}, in_pull_request),
    ):
        ordinary = dict(reconcile.environ)
        reconcile.environ.update(environ)
        refused = reconcile(*arguments)
        assert (refused.status, refused.err) == (
            1,
            (
                f"Error: {LOCK}: a lockfile in a bucket has no branches, so {run} would change the lockfile of the"
                " deployed branch; run reconcile apply on the deployed branch, or copy the object to"
                " reconcile.lock.json beside specs/reconcile.yaml, remove spec.lock there, and commit both\n"
            ),
        )
        assert bucket.get(_LOCK) == before
        reconcile.lock_file.write_text(json.dumps(before))
        target.write_text(in_bucket.replace(f"\n  lock: {LOCK}", ""))
        assert reconcile(*arguments).status == 0, "the remedy works"
        assert bucket.get(_LOCK) == before
        reconcile.lock_file.unlink()
        target.write_text(in_bucket)
        reconcile.environ.clear()
        reconcile.environ.update(ordinary)


@pytest.mark.usefixtures("bucket")
def test_a_lockfile_without_a_base_is_an_error_whose_remedy_works(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes").status == 0
    repository = Repository(reconcile.folder)
    reconcile.environ["PATH"] = os.environ["PATH"]
    repository.commit()
    for arguments in (("apply", "--yes"), ("validate", "--locked")):
        refused = reconcile(*arguments, "--base", "HEAD")
        assert refused.status == 1
        assert refused.err == "Error: the lockfile cannot be compared with HEAD: it is in a bucket; remove --base\n"
        assert reconcile(*arguments).status == 0


def test_a_waiting_run_does_not_hold_the_lease(reconcile: Cli, bucket: Bucket) -> None:
    reconcile.manifest("adder", epochs=20)
    held: list[object] = []
    reconcile.clock.on_move = lambda _now: held.append(bucket.get(_LEASE))

    applied = reconcile("apply", "--yes")

    assert applied.status == 0, applied.err
    assert len(held) > 2
    assert not any(held)
    assert bucket.get(_LOCK)["models"]["adder"]["serving"]


def test_a_run_that_waited_for_its_training_waits_for_the_lease_too(reconcile: Cli, bucket: Bucket) -> None:
    """It has waited for hours: another run that begins just then must not end it."""
    reconcile.clock.least = 60
    reconcile.manifest("adder")

    def take(now: datetime) -> None:
        reconcile.clock.on_move = lambda _now: None
        expires = now + LEASE_DURATION
        lease = {"holder": "process 7 on build-7", "acquired": now.isoformat(), "expires": expires.isoformat()}
        bucket.put("prod.json.lease", lease)

    reconcile.clock.on_move = take
    timed_out = reconcile("apply", "--yes", "--timeout", "2m")
    assert timed_out.status == 4
    assert f"waiting: another run is in progress and has the lease {LOCK}.lease" in timed_out.err
    assert "serving" not in bucket.get(_LOCK)["models"]["adder"]

    reconcile.clock.now += LEASE_DURATION
    reconcile.manifest("words")
    reconcile.clock.on_move = take
    applied = reconcile("apply", "--yes")
    assert applied.status == 0, applied.err
    assert all(model["serving"] for model in bucket.get(_LOCK)["models"].values())


def test_a_lease_of_another_run_stops_what_changes_things_and_nothing_else(reconcile: Cli, bucket: Bucket) -> None:
    now = reconcile.clock.now
    expires = now + LEASE_DURATION
    lease = {"holder": "process 7 on build-7", "acquired": now.isoformat(), "expires": expires.isoformat()}
    bucket.put("prod.json.lease", lease)
    reconcile.manifest("adder")

    refused = reconcile("apply", "--yes")

    assert refused.status == 1
    assert refused.err.endswith(
        f"Error: another run is in progress and has the lease {LOCK}.lease, held by process 7 on build-7 until"
        " 2026-01-01 00:05:00 UTC; wait until it has ended, and run the command again; if it has crashed, its lease"
        " expires at that time\n"
    )
    assert bucket.models() == []
    assert bucket.get(_LOCK) is None
    assert bucket.get(_LEASE) == lease
    examined = reconcile("doctor")
    assert examined.status == 0
    assert f"warning  lockfile     another run is in progress and has the lease {LOCK}.lease" in examined.out
    assert reconcile("plan").status == 0
    assert reconcile("status").status == 0

    reconcile.clock.now = expires
    applied = reconcile("apply", "--yes")
    assert applied.status == 0, applied.err
    assert f"replacing the expired lease {LOCK}.lease, held by process 7 on build-7" in applied.err
    assert bucket.get(_LEASE) is None


def test_a_refresh_brings_a_lockfile_back_under_the_lease(reconcile: Cli, bucket: Bucket) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes").status == 0
    key = bucket.get(_LOCK)["models"]["adder"]["serving"]
    bucket.put("prod.json", {"version": 1, "models": {}})
    now = reconcile.clock.now
    lease = {"holder": "build-7", "acquired": now.isoformat(), "expires": (now + LEASE_DURATION).isoformat()}
    bucket.put("prod.json.lease", lease)

    looked = reconcile("refresh", "--check")
    refused = reconcile("refresh")

    assert looked.status == 2, looked.err
    assert f"{LOCK} would be written: 1 model changed\n  + adder\n" in looked.out
    assert refused.status == 1
    assert f"another run is in progress and has the lease {LOCK}.lease, held by build-7 until" in refused.err
    assert bucket.get(_LOCK)["models"] == {}
    reconcile.clock.now = now + LEASE_DURATION
    done = reconcile("refresh")
    assert done.status == 0, done.err
    assert [one["key"] for one in bucket.get(_LOCK)["models"]["adder"]["generations"]] == [key]
    assert bucket.get(_LEASE) is None
    assert len(bucket.models()) == 1
    assert lockfiles(reconcile) == []


def test_an_object_that_is_not_a_lockfile_is_an_error(reconcile: Cli, bucket: Bucket) -> None:
    reconcile.manifest("adder")
    bucket.put("prod.json", {"rows": 3})
    answer = reconcile("apply", "--yes")
    assert answer.status == 1
    assert f"{LOCK}:1:1: not a lockfile; " in answer.err
    bucket.put("prod.json", b"\xff")
    answer = reconcile("plan")
    assert answer.status == 1
    assert f"{LOCK}:1:1: not UTF-8 text: " in answer.err


@pytest.mark.usefixtures("bucket")
def test_without_credentials_it_is_3(reconcile: Cli) -> None:
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    reconcile.manifest("adder")

    answer = reconcile("status")

    assert answer.status == 3
    assert f"Error: cannot read the lockfile {LOCK}: GOOGLE_APPLICATION_CREDENTIALS names " in answer.err
    assert "; fix the path, or unset GOOGLE_APPLICATION_CREDENTIALS" in answer.err


def test_two_runs_at_once_end_with_one_model_and_one_lockfile(reconcile: Cli, bucket: Bucket) -> None:
    """The second begins and ends while the first waits for its training."""
    reconcile.manifest("adder")
    seconds: list[Result] = []

    def begin_another(_now: datetime) -> None:
        reconcile.clock.on_move = lambda _now: None
        with ThreadPoolExecutor(1) as beside:  # the first run has the event loop of this thread
            seconds.append(beside.submit(reconcile, "apply", "--yes").result())

    reconcile.clock.on_move = begin_another
    first = reconcile("apply", "--yes")

    (second,) = seconds
    assert second.status == 0, second.err
    assert first.status == 0, first.err
    third = reconcile("apply", "--yes")
    assert third.status == 0, third.err
    assert third.out.startswith("No changes. 1 model matches its manifest; ")
    assert len(bucket.models()) == 1
    assert lockfiles(reconcile) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_the_lockfile_and_releases_the_lease(
    reconcile: Cli, real: Bucket, number: signal.Signals
) -> None:
    reconcile.manifest("adder", epochs=1000)
    process = reconcile.process("apply", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if "training started" in line:
            break

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "interrupted; the lockfile is saved, and trainings continue" in err
    assert "Traceback" not in err
    assert real.get(_LOCK)["models"]["adder"]["generations"][0]["state"] == "CREATING"
    assert real.get(_LEASE) is None
