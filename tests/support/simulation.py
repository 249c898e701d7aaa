"""Runs of the command line as processes that a schedule controls, with services, time and files of one world.

A run is a forked process, and so is a trainer that it starts. It stops before each request, after each request, at each
file operation and at each pause, and continues when the schedule says so: one run at a time, in an order that a seed
repeats. At each of these points a run can be killed or interrupted. Its requests are carried by a pipe to the services,
which are in the process of the schedule, as is the time: it moves when every run pauses.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
from msgspec import Struct

import reconciler
from reconciler.commands.main import main
from reconciler.emulator.app import create_app
from reconciler.emulator.faults import FaultInjector, Faults
from reconciler.environment import Environment
from reconciler.providers.google.bucket_lockfile import LEASE_DURATION
from reconciler.trainer import run_files
from support.simulated_trainer import run_trainer, simulate_processes
from support.vertex_world import BUCKET, JOBS, QUICK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEAST_SLEEP = 5.0
"""A run that waits for a training moves the clock by at least this many seconds: it polls a few times."""
MAX_POINTS = 20_000
"""More points of one run are a wait without end."""
_SILENCE = 60.0
"""The longest real time between two points of a run, in seconds."""
_STUCK = "wedged:"
_CLIENT_TIMEOUT = 60.0
_CLIENT_DEADLINE = 120.0
"""When the HTTP client gives up, in seconds: without a byte, and without the whole response."""
_OF_OTHERS = {signal.SIGTERM}
"""Signals that a run can send to a trainer."""
_PROCESS = re.compile(rb'"process":\s*\d+')
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LATE = (
    "anyio._backends._asyncio",
    "anyio.streams.tls",
    "encodings.utf_8_sig",
    "google.auth.transport.requests",
    "google_crc32c",
    "httpcore",
    "re2",
    "rich.progress",
    "yaml",
)
"""What libraries import at their first use."""
_FILE_EVENTS = frozenset(
    {"os.rename", "os.remove", "os.link", "os.chmod", "os.mkdir", "os.truncate", "os.rmdir", "fcntl.flock"}
)
"""Audit events of operations that change files or locks; opening for writing is one more."""
Json = dict[str, Any]
Plant = Callable[[], None]


class Result(Struct, frozen=True):
    """How a run ended; the status is negative for a signal."""

    arguments: tuple[str, ...]
    status: int
    err: str = ""
    out: str = ""

    @property
    def killed(self) -> bool:
        """Whether a signal ended it, so that it printed nothing."""
        return self.status < 0

    @property
    def stuck(self) -> bool:
        """Whether the schedule had to end it."""
        return self.err.startswith(_STUCK)

    def __str__(self) -> str:
        return f"reconcile {' '.join(self.arguments)} -> {self.status}: {self.err.strip()[-600:]}\n{self.out[-600:]}"


class Point(Struct, frozen=True):
    """Where a run stops: what it is about to do, or a request that it has sent."""

    kind: str
    detail: str = ""
    payload: Any = None

    @property
    def can_end(self) -> bool:
        """Whether it is a point at which runs are killed: a request, a file operation or the start of a trainer."""
        return self.kind in {"request", "response", "file", "launch"}

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}"


def preload() -> None:
    """Import what runs use, and keep it out of garbage collection: a forked process starts with all of it."""
    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.startswith(("reconciler.__main__", "reconciler.trainer.")):  # most of it needs PyTorch
            import_module(module.name)
    for name in _LATE:
        import_module(name)
    gc.collect()
    gc.freeze()


# the process of a run


class _Process:
    """The side of a forked process."""

    def __init__(self, pipe: Connection, folder: Path, now: datetime) -> None:
        self._pipe = pipe
        self._folder = f"{folder}{os.sep}"
        self._now = now
        self._turn = threading.RLock()
        self._inside = False

    def stop(self, point: Point, descriptors: Sequence[int] = ()) -> Any:
        """Tell the schedule about a point, wait for it, and return its answer."""
        with self._turn:
            self._inside = True
            signal.pthread_sigmask(signal.SIG_BLOCK, _OF_OTHERS)  # a handler must not run in the middle of this
            try:
                self._pipe.send((point.kind, point.detail, point.payload))
                for descriptor in descriptors:
                    send_handle(self._pipe, descriptor, None)
                self._now, number, answer = self._pipe.recv()
            except (EOFError, OSError):
                os._exit(1)  # the process of the schedule has ended
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_OTHERS)
                self._inside = False
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        if number:
            os.kill(os.getpid(), number)
        return answer

    def launch(self, run: Path, held: Sequence[int]) -> None:
        """Let the schedule start a trainer, which keeps these locks."""
        self.stop(Point("launch", run.name, (str(run), len(held))), held)

    def clock(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if (
            seconds == (LEASE_DURATION / 3).total_seconds()
            and threading.current_thread() is not threading.main_thread()
        ):
            await asyncio.Event().wait()  # the renewal of a lease, beside the run
        self.stop(Point("sleep", payload=max(seconds, LEAST_SLEEP)))
        await asyncio.sleep(0)

    def pause(self, seconds: float) -> None:
        self.stop(Point("sleep", payload=seconds))

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Stop at the operations on files of the project; pipes and other files of Python are none."""
        if self._inside:
            return
        if event == "open":
            path, flags = arguments[0], arguments[2]
            if isinstance(flags, int) and flags & _WRITING and self._is_ours(path):
                self.stop(Point("file", f"open {Path(os.fsdecode(path)).name}"))
        elif event == "fcntl.flock":
            self.stop(Point("file", "flock"))
        elif event in _FILE_EVENTS and self._is_ours(arguments[0]):
            self.stop(Point("file", f"{event.removeprefix('os.')} {Path(os.fsdecode(arguments[0])).name}"))

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self._folder)

    async def carry(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the services of the schedule."""
        shown = f"{request.method} {request.url.path}"
        content = await request.aread()
        self.stop(Point("request", shown))
        await asyncio.sleep(0)  # where a canceled request ends
        answer = self.stop(Point("response", shown, (request.method, str(request.url), dict(request.headers), content)))
        await asyncio.sleep(0)
        if isinstance(answer, str):
            raise {"timeout": httpx.ReadTimeout, "reset": httpx.ReadError}[answer](answer, request=request)
        status, headers, body = answer
        return httpx.Response(status, headers=headers, content=body)


def _live(process: _Process, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> tuple[Any, ...]:
    """Run the command in this forked process, and return its status and output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(3))
    out, err = sys.stdout.buffer, sys.stderr.buffer
    os.chdir(folder)
    os.environ.update(environ)  # click reads variables of options there
    simulate_processes(process.launch)
    time.sleep = process.pause  # a run that waits for the lock of another one
    httpx.AsyncHTTPTransport.handle_async_request = lambda _self, request: process.carry(request)  # type: ignore[method-assign]
    sys.addaudithook(process.audit)
    environment = Environment(
        cwd=folder,
        environ=environ,
        stdin=io.BytesIO(),
        clock=process.clock,
        sleeper=process.sleep,
        rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
    )
    try:
        status = int(main(arguments, environment))
    except BaseException:  # noqa: BLE001 - what a user would see as a traceback
        traceback.print_exc(file=sys.stderr)
        status = 1
    return status, *(stream.getvalue().decode() for stream in (err, out))  # type: ignore[attr-defined]  # BytesIO


def _train(process: _Process, run: Path) -> tuple[Any, ...]:
    """Run the trainer in this forked process, and return its status and output."""
    os.setsid()  # as the real one: signals for its group are not for the schedule
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(3))
    out, err = sys.stdout.buffer, sys.stderr.buffer
    sys.addaudithook(process.audit)
    try:
        status = run_trainer(run, lambda: process.clock().timestamp(), process.pause)
    except Exception:  # noqa: BLE001 - it is shown
        traceback.print_exc(file=sys.stderr)
        status = 1
    return status, *(stream.getvalue().decode() for stream in (err, out))  # type: ignore[attr-defined]  # BytesIO


Act = Callable[[_Process], tuple[Any, ...]]
"""What a forked process does; it returns its status and output."""


class Run:
    """A run as the schedule sees it: the point where it waits, or its result. A trainer is one too."""

    def __init__(self, world: World, arguments: Sequence[str], act: Act, held: Sequence[int] = ()) -> None:
        """``held`` are descriptors that the process of the run keeps, of all that wait for their trainers."""
        self.arguments = tuple(arguments)
        self.result: Result | None = None
        self.points: list[Point] = []
        self.wakes = world.now
        self._world = world
        self._held: list[int] = []
        self._pipe, other = Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            for run in (self, *world.live):
                run._pipe.close()  # so that each run ends with the process of the schedule
                run._close_held(held)
            self._be(other, act)
        other.close()
        world.live.add(self)
        self._receive()

    def _be(self, pipe: Connection, act: Act) -> NoReturn:
        try:
            ended = act(_Process(pipe, self._world.folder, self._world.now))
            pipe.send(("end", "", ended))
        finally:
            os._exit(0)

    @property
    def is_trainer(self) -> bool:
        return self in self._world.trainers

    @property
    def point(self) -> Point:
        """The point where the run waits."""
        return self.points[-1]

    def go_on(self, number: int = 0) -> None:
        """Let the run go on to its next point, with a signal if ``number`` is not 0; SIGKILL ends it here.

        If ``number`` is negative, the operation fails with this error.
        """
        answer = self._world.answer(*self.point.payload) if self.point.kind == "response" else None
        if number == signal.SIGKILL:
            self.end(number)
            return
        if self.point.kind == "launch":
            self._world.launch(Path(self.point.payload[0]), self._held)
            self._close_held()
        self._pipe.send((self._world.now, number, answer))
        self._receive()

    def _receive(self) -> None:
        try:
            if len(self.points) > MAX_POINTS or not self._pipe.poll(_SILENCE):
                self.end(signal.SIGKILL)
                self.result = Result(self.arguments, 1, f"{_STUCK} no end after {len(self.points)} points")
                return
            kind, detail, payload = self._pipe.recv()
        except EOFError:
            status = self.end(signal.SIGKILL)
            err = "" if status < 0 else f"{_STUCK} the process ended without a result"
            self.result = Result(self.arguments, status, err)
            return
        if kind == "launch":
            self._held = [recv_handle(self._pipe) for _ in range(payload[1])]
        if kind == "end":
            self.end(0)
            self.result = Result(self.arguments, *payload)
            return
        self.points.append(Point(kind, detail, payload))
        self.wakes = self._world.now + timedelta(seconds=payload if kind == "sleep" else 0)

    def end(self, number: int) -> int:
        """End the process, by a signal if ``number`` is not 0, and return its status."""
        if number:
            os.kill(self._pid, number)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._world.live.remove(self)
        self._pipe.close()
        self._close_held()
        self.result = Result(self.arguments, -number)
        return status

    def _close_held(self, kept: Sequence[int] = ()) -> None:
        for descriptor in set(self._held) - set(kept):
            os.close(descriptor)
        self._held = []


# the world


class _Inline(ThreadPoolExecutor):
    """Runs functions where they are submitted: a process with threads must not fork."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Kept(Struct, frozen=True):
    """A world as it was."""

    folder: Path
    now: datetime
    starts: int


class World:
    """The services, their time, and the folders of the checkouts, all below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "RECONCILE_ACCESS_TOKEN": "ya29.hush-hush",
            "HOME": str(folder),
            "RECONCILE_ALLOW_FOLDER": str(folder),
        }
        self.now = START
        self.lines: list[str] = []
        """The requests that the services carried out."""
        self.live: set[Run] = set()
        """The runs and trainers that have not ended."""
        self.trainers: list[Run] = []
        """All trainers that runs have started; they run with the runs that follow."""
        self.faults: list[str] = []
        """What is wrong with the start of a trainer."""
        self.disturb: Callable[[Run], int] = lambda _run: 0
        self._starts = 0
        self._parent = os.getppid()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Inline())
        self._begin()

    def close(self) -> None:
        """End what is left of a schedule that failed."""
        self._end_runs()
        self._loop.close()

    def _end_runs(self) -> None:
        for run in list(self.live):
            run.end(signal.SIGKILL)
        self.trainers, self.faults = [], []

    def _begin(self) -> None:
        (self.folder / "service").mkdir(parents=True, exist_ok=True)
        self._starts += 1
        self.app: ASGIApp = create_app(
            store=self.folder / "service" / "store.sqlite3",
            clock=lambda: self.now,
            random=random.Random(f"{self.now}{self._starts}"),  # noqa: S311 - made-up ids, no secret
            settings=QUICK,
        )
        self.front: FaultInjector | None = None

    @property
    def project(self) -> Path:
        """The folder of the first checkout."""
        return self.folder / "project"

    def save(self, aside: Path) -> Kept:
        """Copy all folders to another one, for :meth:`restore`."""
        shutil.copytree(self.folder, aside)
        return Kept(aside, self.now, self._starts)

    def restore(self, kept: Kept) -> None:
        """Return to what was saved."""
        self._end_runs()
        shutil.rmtree(self.folder)
        shutil.copytree(kept.folder, self.folder)
        self.now, self._starts, self.lines = kept.now, kept.starts, []
        self._begin()

    def digest(self) -> str:
        """Return a digest of all folders, trainers and the time; holders of locks are not part of it."""
        running = sorted(trainer.arguments for trainer in self.trainers if trainer.result is None)
        found = hashlib.sha256(f"{self.now} {running}".encode())
        for file in sorted(self.folder.rglob("*")):
            if file.is_file() and file.suffix != ".lock":
                found.update(f"{file.relative_to(self.folder)} {file.stat().st_mode} {file.stat().st_size}\n".encode())
                found.update(_PROCESS.sub(b"", file.read_bytes()))
        return found.hexdigest()

    def storm(self, faults: Faults) -> FaultInjector:
        """Put faults before the services, until :meth:`calm`."""
        self.front = FaultInjector(self.app, faults, clock=lambda: self.now, sleep=self._dribble)
        return self.front

    def calm(self) -> None:
        """End all faults."""
        self.front, self.disturb = None, lambda _run: 0

    async def _dribble(self, seconds: float) -> None:
        self._dribbled += seconds
        if self._dribbled > _CLIENT_DEADLINE:
            raise TimeoutError

    def answer(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Any:
        """Return status, headers and body of a response, or ``timeout`` or ``reset``."""
        self._dribbled = 0.0
        return self._loop.run_until_complete(self._answer(self.front or self._record, method, url, headers, content))

    async def _record(self, scope: Scope, receive: Any, send: Any) -> None:
        self.lines.append(f"{scope['method']} {scope['path']}")
        await self.app(scope, receive, send)

    async def _answer(self, app: ASGIApp, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Any:
        address, messages, received = httpx.URL(url), [], [{"type": "http.request", "body": content}]
        path, _, query = address.raw_path.partition(b"?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
            "scheme": address.scheme,
            "path": address.path,
            "raw_path": path,
            "query_string": query,
            "server": (address.host, address.port),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }

        async def receive() -> Message:
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.append(message)

        try:
            await app(scope, receive, send)
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            messages.clear()
        if not messages:
            self.now += timedelta(seconds=_CLIENT_TIMEOUT)
            return "timeout"
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return messages[0]["status"], [(n.decode(), v.decode()) for n, v in messages[0]["headers"]], body

    def ask(self, method: str, path: str, content: bytes = b"", **query: str) -> Any:
        """Return the response of the services to somebody else."""
        front, self.front = self.front, None
        url = httpx.URL(f"http://127.0.0.1:1{path}", params=query)
        status, _, body = self.answer(method, str(url), {"host": "127.0.0.1:1"}, content)
        self.front = front
        del self.lines[-1:]
        assert status < 400, (method, path, status, body)
        return json.loads(body) if body else {}

    def models(self) -> list[Json]:
        """The tuned models of the Generative Language API."""
        return list(self.ask("GET", "/v1beta/tunedModels", pageSize="1000").get("tunedModels", []))

    def jobs(self) -> list[Json]:
        """The tuning jobs of Vertex AI."""
        return list(self.ask("GET", JOBS, pageSize="1000").get("tuningJobs", []))

    def objects(self) -> list[str]:
        """The names of the objects in the bucket."""
        return [one["name"] for one in self.ask("GET", f"/storage/v1/b/{BUCKET}/o").get("items", [])]

    def start(self, *arguments: str, folder: Path | None = None, plant: Plant | None = None) -> Run:
        """Start a run, which waits at its first point."""
        if os.getppid() != self._parent:
            os._exit(1)  # the sweep has ended

        def act(process: _Process) -> tuple[Any, ...]:
            if plant:
                plant()
            return _live(process, arguments, folder or self.project, self.environ)

        return Run(self, arguments, act)

    def launch(self, run: Path, held: Sequence[int]) -> None:
        """Start a trainer, which has these locks as long as it lives."""
        name = f"trainer of {run.name}"
        if run_files.complete_adapter(run):
            self.faults.append(f"{name} is started although the model is ready")
        if any(trainer.result is None for trainer in self.trainers):
            self.faults.append(f"{name} is started although the only slot is taken")

        def act(process: _Process) -> tuple[Any, ...]:
            return _train(process, run)

        self.trainers.append(Run(self, (name,), act, held))

    def run(self, *arguments: str, folder: Path | None = None, plant: Plant | None = None) -> Result:
        """Run a command from start to end."""
        return self.play([self.start(*arguments, folder=folder, plant=plant)])[0]

    def play(
        self,
        runs: Sequence[Run],
        choose: Callable[[Sequence[Run]], Run] = lambda ready: ready[0],
        interrupt: Callable[[Run], int] | None = None,
    ) -> list[Result]:
        """Let runs continue in the chosen order until all have ended; ``interrupt`` returns the signal for a point."""
        interrupt = interrupt or self.disturb
        while live := [run for run in runs if run.result is None]:  # ``choose`` may add runs
            live = [*(trainer for trainer in self.trainers if trainer.result is None), *live]
            self.now = max(self.now, min(run.wakes for run in live))
            chosen = choose([run for run in live if run.wakes <= self.now])
            chosen.go_on(interrupt(chosen))
        return [run.result for run in runs if run.result]

    def cut(self, index: int, number: int, *arguments: str, plant: Plant | None = None) -> tuple[Result, Point | None]:
        """Run a command, and send a signal at its point of this index; return the result and that point."""
        reached: list[Point] = []
        left = index

        def interrupt(run: Run) -> int:
            nonlocal left
            if reached or not run.point.can_end:
                return 0
            left -= 1
            if left >= 0:
                return 0
            reached.append(run.point)
            return number

        (result,) = self.play([self.start(*arguments, plant=plant)], interrupt=interrupt)
        return result, next(iter(reached), None)


def ending_points(points: Iterable[Point]) -> int:
    """Return at how many points a run can be ended."""
    return sum(point.can_end for point in points)
