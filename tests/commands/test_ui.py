"""reconcile ui: a page on loopback that follows files and trainings, and that nothing can be changed with."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from reconciler.commands._project import CommandInput
from reconciler.commands._run_logs import RunLog
from reconciler.commands._ui_server import Board, draw, ui_app
from reconciler.commands.ui import Watched
from reconciler.domain.errors import ExitStatus
from reconciler.environment import Environment
from reconciler.reports.documents.targets import TargetsReport
from reconciler.reports.html.front import Now, Training, now_part
from support.cases import each_row
from support.cli_world import Cli
from support.git_repository import Repository

PORT = 8090
OWN = {"host": f"127.0.0.1:{PORT}"}
EVIL = {"host": "evil.example"}
EMPTY = TargetsReport(exit_status=ExitStatus.OK, targets=())


def asked(method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """The answer of an application that watches nothing."""

    async def watch(_board: Board) -> None:
        await asyncio.sleep(0)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(ui_app(Board(draw(EMPTY)), watch))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@each_row(
    ("headers", "status"),
    [
        (OWN, 200),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"host": f"[::1]:{PORT}"}, 200),
        (OWN | {"origin": f"http://localhost:{PORT}"}, 200),
        (OWN | {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
        (OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        (EVIL, 403),
        ({"host": f"evil.example:{PORT}"}, 403),
        ({"host": f"127.0.0.1.evil.example:{PORT}"}, 403),
        ({"host": f"evil.localhost:{PORT}"}, 403),
        ({"host": f"user@127.0.0.1:{PORT}"}, 403),
        ({"host": f"127.0.0.1:{PORT}/x"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"host": "127.0.0.1:1"}, 403),
        ({"host": "127.0.0.1:99999"}, 403),
        ({"host": ""}, 403),
        (OWN | {"origin": "http://evil.example"}, 403),
        (OWN | {"origin": f"https://127.0.0.1:{PORT}"}, 403),
        (OWN | {"origin": "http://127.0.0.1:1"}, 403),
        (OWN | {"origin": "null"}, 403),
        (OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        (OWN | {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
    ],
)
def test_only_loopback_names_and_its_own_pages_are_answered(headers: dict[str, str], status: int) -> None:
    for path in ("/", "/now", "/absent") if headers in (OWN, EVIL) else ("/",):
        answer = asked("GET", path, headers)
        assert answer.status_code == (404 if path == "/absent" and status == 200 else status)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert ("Targets" in answer.text) == (path == "/" and status == 200)


@each_row(
    ("path", "method"),
    [
        (path, method)
        for path in ("/", "/now", "/events", "/x")
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X")
    ],
)
def test_every_method_that_could_write_is_refused(path: str, method: str) -> None:
    answer = asked(method, path, OWN)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_page_allows_its_own_scripts_only_and_has_nothing_to_send() -> None:
    answer = asked("GET", "/", OWN)
    policy = answer.headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy
    assert "form-action 'none'" in policy
    assert "connect-src 'self'" in policy
    assert asked("HEAD", "/events", OWN).text == ""
    assert '<form role="search" hidden>' in answer.text
    assert answer.text.count("<form") == 1


def test_another_host_is_refused(reconcile: Cli) -> None:
    done = reconcile("ui", "--host", "0.0.0.0")  # noqa: S104 - what must not be served
    assert done.status == ExitStatus.USAGE
    assert "the page has no login, so it is served on this machine only; pass a loopback address" in done.err


# What is watched


def watched(reconcile: Cli, *logs: Path, offline: bool = False) -> Watched:
    """The watch of the project's root, at its time."""
    environment = Environment(cwd=reconcile.folder, environ={}, clock=reconcile.clock, sleeper=reconcile.clock.sleep)
    read = tuple(RunLog(log, log.name) for log in logs)
    return Watched(environment, CommandInput(), read, offline)


def test_a_log_is_followed_line_by_line_and_begins_again_with_the_next_run(reconcile: Cli) -> None:
    log, growing = reconcile.folder / "run.jsonl", reconcile.folder / "growing.jsonl"
    reconcile.clock.least = 5
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes", "--events", log.name).status == 0
    text = log.read_bytes()
    follower = RunLog(growing, "growing.jsonl")
    follower.read()
    assert follower.run is None
    seen: list[Training] = []
    for end in range(0, len(text), 100):  # in pieces, as a run writes and a reader reads
        growing.write_bytes(text[:end])
        follower.read()
        seen += [training for training in follower.trainings if training not in seen]
    progress = [json.loads(line) for line in text.splitlines()[1:] if json.loads(line)["event"] == "progress"]
    points = tuple((line["completedSteps"], line["loss"]) for line in progress if line.get("completedSteps"))
    assert seen[-1].curve == points
    assert len(points) > 1
    assert (seen[-1].target, seen[-1].name, seen[-1].simulated) == ("default", "adder", True)
    growing.write_bytes(text)
    follower.read()
    assert follower.trainings == ()
    assert follower.run is not None
    assert follower.run.last == "ended with exit status 0"
    growing.write_bytes(
        text.splitlines(keepends=True)[0].replace(b"12:0", b"13:0") + b'{"event": "unknown"}\n{"event\n'
    )
    follower.read()
    assert (follower.run.last, follower.run.target) == ("began", "")


def test_a_log_that_no_run_wrote_stops_nothing(tmp_path: Path) -> None:
    log, follower = tmp_path / "run.jsonl", RunLog(tmp_path / "run.jsonl", "run.jsonl")
    head = {"kind": "Events", "version": 1, "time": "2026-01-01T12:00:00Z", "command": "apply", "reconciler": "1"}
    line = {"event": "progress", "time": "2026-01-01T12:00:00Z", "remote": "tunedModels/x", "loss": 1.0}
    lines = [{**line, "name": "huge", "key": "huge", "completedSteps": steps} for steps in (10**400, 2)]
    lines += [{**line, "name": f"m{count}", "key": f"m{count}"} for count in range(20_000)]  # quadratic: 10 s
    log.write_text("".join(f"{json.dumps(each)}\n" for each in (head, *lines)))
    started = time.process_time()
    follower.read()
    assert time.process_time() - started < 3
    assert len(follower.trainings) == 20_001
    part = now_part(Now(follower.trainings))
    assert part.count("<article") == 100
    assert "Only 100 of 20,001 trainings are shown." in part


def test_the_curve_of_a_training_comes_from_the_service_unless_offline(reconcile: Cli) -> None:
    reconcile.clock.least = 5
    reconcile.manifest("adder", epochs=20)
    assert reconcile("apply", "--yes", "--no-wait").status == 0
    asyncio.run(reconcile.clock.sleep(30))
    watch = watched(reconcile)
    before = reconcile.lock_file.read_bytes()
    report = watch.report()
    observed = watch.observe(report)
    (training,) = watch.now(observed, report).trainings
    assert (training.name, training.target) == ("adder", "default")
    assert training.text.startswith("step ")
    assert len(training.curve) > 3
    assert reconcile.lock_file.read_bytes() == before
    assert reconcile("wait").status == 0
    assert watch.now(observed, watch.report()).trainings == (), "it has ended since the service was queried"


def test_files_that_cannot_be_read_are_noted_until_they_can(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    watch = watched(reconcile, offline=True)
    report, page = watch.drawn()
    board = Board(page)
    file, gone = reconcile.specs / "reconcile.yaml", reconcile.specs / "gone"

    async def follow() -> None:
        events = board.events()

        async def shown(text: str, *, expected: bool = True) -> None:
            while (text in board.page) != expected:
                await anext(events)

        task = asyncio.ensure_future(watch.keep_current(board, report))
        file.rename(gone)
        await shown("The targets are shown as they were before: ")
        assert "adder" in board.page
        reconcile.manifest("second")
        gone.rename(file)
        await shown("The targets are shown as they were before: ", expected=False)
        assert "second" in board.page
        task.cancel()

    asyncio.run(asyncio.wait_for(follow(), timeout=60))


class _Server(Struct):
    """A running server."""

    url: str
    end: Any


@pytest.fixture
def story(tmp_path: Path) -> Iterator[tuple[Cli, _Server]]:
    """From an empty folder: a repository with one target, and the server that shows it."""
    repository = Repository(tmp_path)
    reconcile = Cli(tmp_path)
    reconcile.manifest("adder")
    repository.commit()
    process = reconcile.process("ui", "specs", "--port", "0", "--events", "run.jsonl", "--offline")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Targets on http://127.0.0.1:")
        yield reconcile, _Server(line.split()[2].rstrip(","), process)
    finally:
        process.kill()
        process.communicate()


def test_a_whole_run_is_seen_in_one_look(story: tuple[Cli, _Server]) -> None:
    reconcile, server = story
    with httpx.Client(base_url=server.url, timeout=60) as client, client.stream("GET", "/events") as events:
        lines = events.iter_lines()

        def next_event(name: str) -> None:
            while next(lines) != f"event: {name}":
                continue

        next_event("page")
        next_event("now")
        page = client.get("/").text
        assert "1 target" in page
        assert ">pending<" in page
        done = reconcile(
            "apply", "specs", "--yes", "--events", "run.jsonl", "--metrics", str(reconcile.folder / "apply.prom")
        )
        assert done.status == 0
        while "ended with exit status 0" not in client.get("/now").text:
            next_event("now")
        while ">pending<" in client.get("/").text.split("<tbody>")[-1]:
            next_event("page")
        key = reconcile.lock["adder"]["serving"]
        assert f"<code>{key}</code>" in client.get("/").text
    assert (
        'reconcile_last_run_exit_status{command="apply",target="default"} 0'
        in (reconcile.folder / "apply.prom").read_text()
    )
    report = reconcile.folder / "targets.html"
    assert reconcile("targets", "specs", "--report", str(report)).status == 0
    assert f"<code>{key}</code>" in report.read_text()
    assert '<dl class="facts run">' in report.read_text()
    server.end.send_signal(signal.SIGINT)
    out, err = server.end.communicate(timeout=60)
    assert (server.end.returncode, out, err) == (0, "", "")
