"""A service on a port of this process, with a front end that answers some requests itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn

from reconciler.emulator.app import create_app
from support.engine_world import answering
from support.provider_service import Time

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Answer = Callable[["Request"], "Response | None"]


@contextmanager
def fronted(folder: Path, answer: Answer = lambda _request: None) -> Iterator[str]:
    """The embedded service behind ``answer``; gives its URL, without the scheme's default port."""
    app = create_app(
        store=folder / "service.sqlite3",
        clock=Time().clock,
        random=random.Random(7),  # noqa: S311 - made-up ids, no secret
    )
    config = uvicorn.Config(answering(answer)(app), log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    socket = create_server(("127.0.0.1", 0))  # listens at once: a request may come before the thread runs
    thread = Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        socket.close()
