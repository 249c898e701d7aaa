"""The API of the Hugging Face Hub for data sets, on loopback, for the real huggingface_hub client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct, field

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
Files = Mapping[str, bytes | str]


class Repository(Struct):
    """A data set: the files of each commit, its branches, and the token that it needs."""

    commits: Mapping[str, Files]
    branches: Mapping[str, str] = field(default_factory=lambda: {"main": COMMIT})
    gated: str = ""
    large: frozenset[str] = frozenset()
    """The files that are redirected to the other server, as those of LFS are."""
    sizes: Mapping[str, int] = {}
    """The sizes of files, where they are not those of their contents."""


class Request(Struct, frozen=True):
    """A request that a server got: its address, the method, the path, and the token with it."""

    host: str
    method: str
    path: str
    authorization: str | None


class DatasetHub(Struct, dict=True):
    """The server: its data sets by their names, and the requests so far. ``other`` is the server of large files.

    With ``status``, it answers every request with it.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    address: str = ""
    other: str = ""
    status: int = 0

    def add(self, name: str, files: Files, **settings: object) -> str:
        """Add a data set of one commit; returns its address, without a path."""
        self.repositories[name] = Repository({COMMIT: files}, **settings)  # type: ignore[arg-type]  # by their names
        return f"hf://datasets/{name}@{COMMIT}"

    def downloads(self) -> list[str]:
        """Return the paths of the files that were downloaded, and forget all requests."""
        found = [request.path for request in self.requests if request.method == "GET" and "/resolve/" in request.path]
        self.requests.clear()
        return [path.partition("/resolve/")[2].partition("/")[2] for path in found]


@contextmanager
def dataset_hub() -> Iterator[DatasetHub]:
    """Serve a hub, and large files from another address."""
    hub = DatasetHub()
    with _served(hub) as hub.address, _served(hub) as hub.other:
        yield hub


@contextmanager
def _served(hub: DatasetHub) -> Iterator[str]:
    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: DatasetHub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        here = f"http://{self.headers['Host']}"
        self.served.requests.append(Request(here, self.command, self.path, self.headers.get("Authorization")))
        if self.served.status:
            self._send(self.served.status, {})
            return
        path = unquote(urlsplit(self.path).path)
        parts = path.removeprefix("/api").split("/")[1:]
        name, (kind, revision, *rest) = "/".join(parts[1:3]), (*parts[3:], "", "")[: max(2, len(parts) - 3)]
        repository = self.served.repositories.get(name)
        if repository is None:
            self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return
        commit = repository.branches.get(revision, revision)
        files = repository.commits.get(commit)
        if files is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif kind == "revision":
            self._send_json({"id": name, "sha": commit, "siblings": [], "tags": [], "private": False})
        elif kind == "tree":
            self._send_json([described for _, described in _listing(files, repository.sizes)])
        elif kind == "paths-info":
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            self._send_json([described for path, described in _listing(files, repository.sizes) if path in asked])
        else:
            self._send_file(repository, commit, "/".join(rest), files)

    def _send_file(self, repository: Repository, commit: str, path: str, files: Files) -> None:
        if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.gated}":
            self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to dataset is restricted"})
            return
        if path not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = _bytes(files[path])
        described = _described(content)
        headers = {"ETag": f'"{described["oid"]}"', "X-Repo-Commit": commit}
        here = f"http://{self.headers['Host']}"
        if path in repository.large and here != self.served.other:
            large = {"Location": self.served.other + self.path, "X-Linked-Size": str(len(content))}
            self._send(302, headers | large | {"X-Linked-Etag": headers["ETag"]})
        else:
            self._send(200, headers, content)

    def _send_json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _listing(files: Files, sizes: Mapping[str, int]) -> Iterator[tuple[str, dict[str, object]]]:
    for path, content in files.items():
        described = _described(content)
        yield path, {"type": "file", "path": path, **described, "size": sizes.get(path, described["size"])}


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _described(content: bytes | str) -> dict[str, object]:
    data = _bytes(content)
    return {"oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(), "size": len(data)}
