"""Counting what commands send to a service."""

from __future__ import annotations

import shutil
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_PIECE = 2**16


class Relay:
    """Listens at ``address``, hands everything on to a service, and counts the bytes on the way there."""

    def __init__(self, endpoint: str) -> None:
        self._service = urlsplit(endpoint)
        self._count = 0
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay.carry(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def carry(self, client: socket.socket) -> None:
        """One connection, until the client ends it."""
        with socket.create_connection((self._service.hostname, self._service.port)) as service:
            back = threading.Thread(target=_pump, args=(service, client), daemon=True)
            back.start()
            while piece := client.recv(_PIECE):
                self._count += len(piece)
                service.sendall(piece)
            service.shutdown(socket.SHUT_WR)
            back.join()

    def taken(self) -> int:
        """The bytes that have been sent to the service since the last call."""
        count, self._count = self._count, 0
        return count


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with source.makefile("rb", 0) as reading, sink.makefile("wb", 0) as writing:
        shutil.copyfileobj(reading, writing, _PIECE)
