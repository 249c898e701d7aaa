"""Vertex AI, Cloud Storage and the Generative Language API on a port of this process, with a front end before them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from reconciler.core.ports import Clock
from reconciler.emulator.app import create_app
from reconciler.emulator.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from support.cli_world import Cli

Json = dict[str, Any]
Front = Callable[["ASGIApp"], "ASGIApp"]

PROJECT, LOCATION, BUCKET = "my-project", "europe-west4", "acme-tuning"
JOBS = f"/v1/projects/{PROJECT}/locations/{LOCATION}/tuningJobs"
CREATE = f"POST {JOBS}"
OBJECTS = f"/storage/v1/b/{BUCKET}/o"
UPLOAD = f"/upload{OBJECTS}"
TARGETS = {
    "": "  provider: embedded\n  apiVersion: v1beta\n  embedded: {stepSeconds: 1}\n",
    "gl": f"  provider: generativelanguage\n  apiVersion: v1beta\n  project: {PROJECT}\n  endpoint: URL\n",
    "vertex": f"  provider: vertex\n  project: {PROJECT}\n  location: {LOCATION}\n  bucket: gs://{BUCKET}/data\n"
    "  endpoint: URL\n",
}
"""Three targets by name, the empty one being the default."""
QUICK = Settings(step_seconds=0.1, overhead_seconds=0.5)
"""So that a training of few steps is over at the second look."""
SLOW = Settings(step_seconds=1, overhead_seconds=10)
"""So that a training of ten steps takes twenty seconds."""


class World:
    """The services as anybody can reach them; ``front`` is what stands before them, ``lines`` what they were asked."""

    url = ""
    app: ASGIApp
    front: Front
    lines: list[str]

    def begin(self, folder: Path, clock: Clock, pace: Settings = QUICK) -> None:
        """Start anew with empty services, kept in ``folder``, at the time that ``clock`` tells."""
        self.lines = []
        self.front = lambda app: app
        self.app = create_app(
            store=folder / "service.sqlite3",
            clock=clock,
            random=random.Random(7),  # noqa: S311 - made-up ids, no secret
            settings=pace,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.lines.append(line_of(scope))
        await self.front(self.app)(scope, receive, send)

    def ask(self, method: str, path: str, content: bytes | None = None, **query: str) -> Any:
        """Somebody else's request, past whatever stands before the services."""
        front, self.front = self.front, lambda app: app
        try:
            answer = httpx.request(
                method, f"{self.url}{path}", content=content, params=query or None, trust_env=False, timeout=10
            )
        finally:
            self.front = front
        assert answer.is_success, answer.text
        return answer.json() if answer.content else {}

    def jobs(self, *states: str) -> list[Json]:
        """The tuning jobs, the oldest first; with ``states`` (``PENDING``) only those."""
        found = self.ask("GET", JOBS).get("tuningJobs", [])[::-1]
        return [job for job in found if not states or job["state"].removeprefix("JOB_STATE_") in states]

    def cancel(self, job: Json) -> None:
        self.ask("POST", f"/v1/{job['name']}:cancel", b"{}")

    def put(self, name: str, content: bytes) -> Json:
        """Write an object of the bucket, and give its resource."""
        resource: Json = self.ask("POST", UPLOAD, content, uploadType="media", name=name)
        return resource

    def delete(self, name: str) -> None:
        self.ask("DELETE", f"{OBJECTS}/{name}")

    def objects(self) -> list[str]:
        """The names of the bucket's objects."""
        return [one["name"] for one in self.ask("GET", OBJECTS).get("items", [])]

    def count(self, line: str) -> int:
        """How often the services were asked that."""
        return self.lines.count(line)


@contextmanager
def serving() -> Iterator[World]:
    """A port of this process, where nothing is until :meth:`World.begin`."""
    world = World()
    config = uvicorn.Config(world, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server, socket = uvicorn.Server(config), config.bind_socket()
    thread = Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        world.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        yield world
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


def line_of(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"


def refusal(status: int, code: str, message: str, *details: Json, **headers: str) -> Response:
    """An error as Google's services tell it."""
    body = {"error": {"code": status, "message": message, "status": code, "details": list(details)}}
    return Response(json.dumps(body), status, {name.replace("_", "-"): value for name, value in headers.items()})


def refusing(response: Response, *lines: str, times: int = 1_000_000) -> Front:
    """A front end that answers requests which begin with one of ``lines`` so, the first ``times`` of them."""
    left = [response] * min(times, 1_000)

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            refused = left and line_of(scope).startswith(lines)
            await (left.pop() if refused else app)(scope, receive, send)

        return answer

    return front


def altering(alter: Callable[[Json], Json]) -> Front:
    """A front end that changes each tuning job that is shown."""

    def changed(body: bytes) -> bytes:
        document = json.loads(body)
        if "tuningJobs" in document:
            document["tuningJobs"] = [alter(job) for job in document["tuningJobs"]]
        elif "name" in document:
            document = alter(document)
        return json.dumps(document).encode()

    def front(app: ASGIApp) -> ASGIApp:
        async def altered(scope: Scope, receive: Receive, send: Send) -> None:
            start: Message = {}

            async def rewrite(message: Message) -> None:
                if message["type"] == "http.response.start":
                    start.update(message)
                    return
                body = changed(message["body"])
                headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({**message, "body": body})

            shown = scope["path"].startswith(JOBS) and not scope["path"].endswith(":cancel")
            await app(scope, receive, rewrite if shown else send)

        return altered

    return front


class Holding:
    """A front end that leaves the first request which begins with ``line`` without an answer.

    With ``carried_out`` the service gets it all the same.
    """

    def __init__(self, line: str, *, carried_out: bool = False) -> None:
        self.reached = Event()
        self._line = line
        self._carried_out = carried_out

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def hold(scope: Scope, receive: Receive, send: Send) -> None:
            if self.reached.is_set() or not line_of(scope).startswith(self._line):
                await app(scope, receive, send)
                return
            if self._carried_out:
                await app(scope, receive, _nowhere)
            self.reached.set()
            while (await receive())["type"] != "http.disconnect":
                pass

        return hold


class Meeting:
    """A front end that lets requests which begin with ``line`` through when so many have come."""

    def __init__(self, line: str, count: int) -> None:
        self._line = line
        self._missing = count
        self._met = asyncio.Event()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def meet(scope: Scope, receive: Receive, send: Send) -> None:
            if line_of(scope).startswith(self._line):
                self._missing -= 1
                if self._missing <= 0:
                    self._met.set()
                await asyncio.wait_for(self._met.wait(), 20)
            await app(scope, receive, send)

        return meet


async def _nowhere(_message: Message) -> None:
    pass


class Cutting:
    """A front end that cuts off uploads: of each of the first ``times`` parts only ``size`` bytes arrive."""

    def __init__(self, size: int, times: int) -> None:
        self.spans: list[str] = []
        self._size = size
        self._left = times

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def cut(scope: Scope, receive: Receive, send: Send) -> None:
            span = Request(scope).headers.get("content-range", "")
            part = scope["method"] == "PUT" and "*/" not in span
            self.spans += [span] if scope["method"] == "PUT" else []
            if not part or not self._left:
                await app(scope, receive, send)
                return
            self._left -= 1
            await app(scope, _first(self._size, receive), _nowhere)
            await refusal(503, "UNAVAILABLE", "The connection was lost.")(scope, receive, send)

        return cut


def _first(size: int, receive: Receive) -> Receive:
    """What a connection brings that breaks after so many bytes."""
    left = size

    async def partial() -> Message:
        nonlocal left
        if left <= 0:
            return {"type": "http.disconnect"}
        message = await receive()
        body = message.get("body", b"")[:left]
        left -= len(body)
        return {**message, "body": body, "more_body": True}

    return partial


def fresh(world: World, reconcile: Cli, pace: Settings = QUICK) -> World:
    """Empty services at the time of the command line, and three targets there."""
    folder = reconcile.folder / "service"
    folder.mkdir()
    world.begin(folder, lambda: reconcile.clock.now, pace)
    aim(reconcile, world.url)
    return world


def aim(reconcile: Cli, url: str, *, location: str = LOCATION, more: str = "") -> None:
    """Write the three targets, ``more`` being further fields of Vertex AI's, and let requests be authorised."""
    for name, fields in TARGETS.items():
        text = fields.replace("URL", url).replace(LOCATION, location) + (more if name == "vertex" else "")
        write_target(reconcile, name, text)
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.hush-hush"


def write_target(reconcile: Cli, name: str, fields: str) -> None:
    (reconcile.specs / (f"reconcile.{name}.yaml" if name else "reconcile.yaml")).write_text(
        "apiVersion: tuning.reconcile/v1alpha1\nkind: Target\n"
        f"metadata: {{name: {name or 'default'}}}\nspec:\n  scope: acme/nlp\n{fields}"
    )


def lock_file(reconcile: Cli, target: str) -> Path:
    return reconcile.specs / (f"reconcile.{target}.lock.json" if target else "reconcile.lock.json")


def lock_of(reconcile: Cli, target: str) -> Json:
    """The models of a target's lockfile."""
    models: Json = json.loads(lock_file(reconcile, target).read_text(encoding="utf-8"))["models"]
    return models
