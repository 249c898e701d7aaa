"""Serve the front page on loopback: it can be read, and nothing can be changed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from reconciler.domain.endpoints import is_loopback
from reconciler.redaction import redact
from reconciler.reports.html.front import NOTHING, Now, front_page, now_part, page_policy, with_now

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reconciler.reports.documents.targets import TargetsReport

_KEEP_ALIVE: Final = 15.0
"""Seconds after which a stream without events sends a comment, which finds readers that are gone."""
_METHODS: Final = frozenset({"GET", "HEAD"})
_PORTS: Final = {"http": 80, "https": 443}
_HEADERS: Final = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Board:
    """What is shown now: the page without the part that changes while trainings run, and that part."""

    def __init__(self, frame: str) -> None:
        self._frame, self._part = frame, ""
        self._changed = asyncio.Event()
        self.revisions: Mapping[str, str] = {}
        self.show(frame, NOTHING)
        self.is_stale = False
        """Whether someone opened the page since it was last drawn."""

    @property
    def frame(self) -> str:
        """The page without the part that changes while trainings run."""
        return self._frame

    @property
    def page(self) -> str:
        """The whole page."""
        return with_now(self._frame, self._part, self.revisions)

    @property
    def part(self) -> str:
        """The part that changes while trainings run."""
        return self._part

    def show(self, frame: str, now: Now) -> None:
        """Show a page of :func:`draw`, and wake the readers if anything looks different."""
        self._frame, self._part = frame, redact(now_part(now))
        revisions = {"page": _digest(self._frame), "now": _digest(self._part)}
        if revisions != self.revisions:
            self.revisions = revisions
            self._changed.set()
            self._changed = asyncio.Event()

    async def events(self) -> AsyncIterator[str]:
        """Yield an event for each part that is new to the reader: its name, and its revision."""
        seen: Mapping[str, str] = {}
        while True:
            current = self.revisions
            for name, revision in current.items():
                if seen.get(name) != revision:
                    yield f"event: {name}\ndata: {revision}\n\n"
            seen = current
            try:
                await asyncio.wait_for(self._changed.wait(), _KEEP_ALIVE)
            except TimeoutError:
                yield ":\n\n"


def draw(report: TargetsReport) -> str:
    """Return the page of a report, which takes a moment if there are thousands of models."""
    return redact(front_page(report, NOTHING, live=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def ui_app(board: Board, watch: Callable[[Board], Awaitable[None]]) -> ASGIApp:
    """Return the application; ``watch`` keeps the board current while it runs."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.ensure_future(watch(board))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def page(request: Request) -> Response:
        # The script of an open page fetches it too, whenever it has changed.
        board.is_stale |= request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        return HTMLResponse(board.page.encode("utf-8", "backslashreplace"))

    async def part(_request: Request) -> Response:
        return HTMLResponse(board.part.encode("utf-8", "backslashreplace"))

    async def events(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(board.events(), media_type="text/event-stream")

    routes = [Route("/", page), Route("/now", part), Route("/events", events)]
    return _Guard(Starlette(routes=routes, lifespan=lifespan))


class _Guard:
    """Answers only requests that read, that are for a loopback name with the server's port, and from its own pages.

    Otherwise any web page could read it through the user's browser, with a name that resolves to a loopback address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the headers that a browser needs, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS | {"content-security-policy": page_policy()})
            await send(message)

        app = self._app
        if not _is_own(Headers(scope=scope), scope):
            app = PlainTextResponse("Requests for this host or from this origin are not allowed.\n", 403)
        elif scope["method"] not in _METHODS:
            app = PlainTextResponse("This server is read-only.\n", 405, {"allow": "GET, HEAD"})
        await app(scope, receive, send_guarded)


def _is_own(headers: Headers, scope: Mapping[str, Any]) -> bool:
    port = scope["server"][1]
    origin, mode = headers.get("origin"), headers.get("sec-fetch-mode", "navigate")
    if origin is not None and not (origin.startswith("http://") and _is_at(origin, port)):
        return False
    # Browsers send no origin with some requests of other pages, such as images.
    embedded = mode != "navigate" and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
    return not embedded and len(headers.getlist("host")) == 1 and _is_at(f"//{headers['host']}", port)


def _is_at(url: str, port: int) -> bool:
    """Return whether an address is at a loopback name and this port, and has nothing else."""
    try:
        parts = urlsplit(url)
        rest = parts.path or parts.query or parts.fragment or parts.username or parts.password
        return is_loopback(parts.hostname or "") and (parts.port or _PORTS["http"]) == port and not rest
    except ValueError:
        return False
