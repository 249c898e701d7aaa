"""Vertex AI, Cloud Storage and the Generative Language API on a port of this process, with a front end before them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_server
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from reconciler.domain.ports import Clock
from reconciler.emulator.app import create_app
from reconciler.emulator.training import TrainingPace
from reconciler.providers.vertex.spec import SPEC
from support.vertex_fronts import Front, Json, line_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from support.cli_world import Cli, Snapshot

PROJECT, LOCATION, BUCKET = "my-project", "europe-west4", "acme-tuning"
JOBS = f"/v1beta1/projects/{PROJECT}/locations/{LOCATION}/tuningJobs"
ENDPOINTS = f"/v1/projects/{PROJECT}/locations/eu/endpoints"
"""Where models that were tuned in the location are served."""
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
TOKEN = "ya29.hush-hush"
QUICK = TrainingPace(step_seconds=0.1, overhead_seconds=0.5)
"""So that a training of few steps is over at the second look."""
SLOW = TrainingPace(step_seconds=1, overhead_seconds=10)
"""So that a training of ten steps takes twenty seconds."""


class World:
    """The services as anybody can reach them; ``front`` is what stands before them, ``lines`` what they were asked."""

    url = ""
    app: ASGIApp
    front: Front
    lines: list[str]

    def __init__(self, http: httpx.Client) -> None:
        """``http`` carries the requests of somebody else."""
        self._http = http

    def begin(self, folder: Path, clock: Clock, pace: TrainingPace = QUICK, seed: int = 7) -> None:
        """Start with the services kept in ``folder``, empty ones if it is, at the time of ``clock``.

        ``seed`` decides the ids that the services choose.
        """
        self.lines = []
        self.front = lambda app: app
        self.app = create_app(
            store=folder / "service.sqlite3",
            clock=clock,
            random=random.Random(seed),  # noqa: S311 - made-up ids, no secret
            settings=pace,
            base_models=SPEC.catalog(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.lines.append(line_of(scope))
        await self.front(self.app)(scope, receive, send)

    def ask(self, method: str, path: str, content: bytes | None = None, **query: str) -> Any:
        """What somebody else's request brings, past whatever stands before the services."""
        answer = self._send(method, path, content, query)
        return json.loads(answer) if answer else {}

    def read(self, path: str) -> bytes:
        """The content of an object."""
        return self._send("GET", path, None, {"alt": "media"})

    def _send(self, method: str, path: str, content: bytes | None, query: Mapping[str, str]) -> bytes:
        front, self.front = self.front, lambda app: app
        asked = len(self.lines)
        try:
            answer = self._http.request(method, f"{self.url}{path}", content=content, params=query or None)
        finally:
            self.front = front
            del self.lines[asked:]
        assert answer.is_success, answer.text
        return answer.content

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
        """The names of the bucket's objects, apart from the metrics of jobs."""
        names = (resource["name"] for resource in self.ask("GET", OBJECTS).get("items", []))
        return [name for name in names if not name.startswith("tuning-metrics/")]

    def count(self, line: str) -> int:
        """How often the services were asked that."""
        return self.lines.count(line)


@contextmanager
def serving() -> Iterator[World]:
    """A port of this process, where nothing is until :meth:`World.begin`."""
    with httpx.Client(trust_env=False, verify=False, timeout=60) as http:  # noqa: S501 - loopback has no TLS
        world = World(http)
        config = uvicorn.Config(world, log_level="critical", lifespan="off", ws="none", date_header=False)
        server, socket = uvicorn.Server(config), create_server(("127.0.0.1", 0))
        socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # else each answer waits for a delayed acknowledgement
        world.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        thread = Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield world
        finally:
            server.should_exit = True
            thread.join()
            socket.close()


def fresh(world: World, reconcile: Cli, pace: TrainingPace = QUICK) -> World:
    """Empty services at the time of the command line, and three targets there."""
    folder = reconcile.folder / "service"
    folder.mkdir()
    world.begin(folder, lambda: reconcile.clock.now, pace)
    aim(reconcile, world.url)
    return world


def resume(world: World, reconcile: Cli, before: Snapshot, pace: TrainingPace = QUICK) -> World:
    """Continue with a copy of a project and of its services, whose targets name the port of ``world``."""
    reconcile.resume(before)
    world.begin(reconcile.folder / "service", lambda: reconcile.clock.now, pace, seed=8)
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    return world


def aim(reconcile: Cli, url: str, *, location: str = LOCATION, more: str = "") -> None:
    """Write the three targets, ``more`` being further fields of Vertex AI's, and let requests be authorised."""
    for name, fields in TARGETS.items():
        text = fields.replace("URL", url).replace(LOCATION, location) + (more if name == "vertex" else "")
        write_target(reconcile, name, text)
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN


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
