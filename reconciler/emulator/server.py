"""Serve the application on a port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from reconciler.domain.errors import ReconcileError

if TYPE_CHECKING:
    from starlette.applications import Starlette


_GRACE_SECONDS = 1


def serve(app: Starlette, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve until SIGINT, which raises KeyboardInterrupt, or SIGTERM. Port 0 selects a free one.

    ``started`` is called once with the base URL, when the server accepts requests. Raises ReconcileError if the address
    is not available.
    """
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        _Server(config, lambda: started(f"http://{name}:{listener.getsockname()[1]}")).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise responses wait for acknowledgements
        return listener  # noqa: TRY300 - both calls fail for the same reasons
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the rest repeats the address
        raise ReconcileError(
            f"cannot listen on {host} port {port}: {reason}", "choose another host or port; port 0 selects a free one"
        ) from error


class _Server(uvicorn.Server):
    """Calls back when it is listening."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()
