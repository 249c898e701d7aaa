"""A process that asks a service once, in an environment of its own, and a proxy on loopback that writes down."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

from support.fork_server import forked

_PROGRAM = """
import asyncio, os, sys, warnings
from datetime import UTC, datetime
from reconciler.domain.errors import ReconcileError
from reconciler.providers.generativelanguage.wire import SERVICE
from reconciler.providers.google.auth import google_auth
from reconciler.providers.google.http import Client, ClientSettings, HttpRequest

warnings.simplefilter("error")

async def rest(seconds):
    pass

async def ask():
    auth = google_auth(access_token=os.environ.get("RECONCILE_ACCESS_TOKEN"), environ=os.environ, project=None)
    client = Client(sys.argv[1], SERVICE, ClientSettings(lambda: datetime.now(UTC), rest, lambda: 0.0, auth))
    try:
        await client.request(HttpRequest("GET", "/v1beta3/tunedModels"))
        return "answered"
    finally:
        await client.aclose()

try:
    print(asyncio.run(ask()))
except ReconcileError as error:
    print(f"{type(error).__name__}: {error}")
except KeyboardInterrupt:
    print("interrupted")
"""


def start_asking(endpoint: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the process; its only line says ``answered``, ``interrupted``, or which error it was."""
    command = forked("-c", _PROGRAM, endpoint)
    return subprocess.Popen(  # noqa: S603 - our own program
        command, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ask_alone(endpoint: str, environ: Mapping[str, str]) -> str:
    """What the process says, a traceback included."""
    with start_asking(endpoint, environ) as process:
        said, _ = process.communicate(timeout=60)
    return said.strip()


class Proxy(ThreadingTCPServer):
    """Writes the first line of every request down and hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FirstLine)
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _FirstLine(StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        self.server.lines.append(self.rfile.readline().decode().strip())


@contextmanager
def proxy_on_loopback() -> Iterator[Proxy]:
    with Proxy() as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
