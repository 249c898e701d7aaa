"""The API of the Hugging Face Hub for data sets and models, on loopback, for the real huggingface_hub client."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct, field

if TYPE_CHECKING:
    import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
Files = Mapping[str, bytes | str]
_WRITTEN = ("/api/validate-yaml", "/api/repos/create", "/api/models/")
"""The beginnings of the addresses of POST requests for models."""


class Repository(Struct):
    """A data set: the files of each commit, its branches, and the token that it needs."""

    commits: Mapping[str, Files]
    branches: Mapping[str, str] = field(default_factory=lambda: {"main": COMMIT})
    gated: str = ""
    large: frozenset[str] = frozenset()
    """The files that are redirected to the other server, as those of LFS are."""
    sizes: Mapping[str, int] = {}
    """The sizes of files, where they are not those of their contents."""


class Commit(Struct, frozen=True):
    """A commit of a model: its id, its message, and all files."""

    oid: str
    message: str
    files: Mapping[str, bytes]


class Model(Struct):
    """A model repository with its commits, of which the last is the newest."""

    private: bool
    commits: list[Commit]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def commit(self, message: str, files: Mapping[str, bytes]) -> Commit:
        """Add a commit with these files."""
        oid = hashlib.sha1(f"{len(self.commits)} {message}".encode(), usedforsecurity=False).hexdigest()
        self.commits.append(Commit(oid, message, dict(files)))
        return self.head


class Request(Struct, frozen=True):
    """A request that a server got: its address, the method, the path, and the token with it."""

    host: str
    method: str
    path: str
    authorization: str | None


class DatasetHub(Struct, dict=True):
    """The server: its data sets by their names, and the requests so far. ``other`` is the server of large files.

    With ``status``, it answers every request with it. ``models`` are the model repositories, and ``objects`` the large
    files by their digests. Without the token ``writer``, nothing is written; in the organization ``other`` never.
    ``meanwhile`` is called before each commit.
    """

    models: dict[str, Model] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    writer: str = ""
    meanwhile: Callable[[], object] | None = None
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    address: str = ""
    other: str = ""
    status: int = 0

    def add(self, name: str, files: Files, **settings: object) -> str:
        """Add a data set of one commit; returns its address, without a path."""
        self.repositories[name] = Repository({COMMIT: files}, **settings)  # type: ignore[arg-type]  # by their names
        return f"hf://datasets/{name}@{COMMIT}"

    def add_model(self, name: str, files: Files, *, private: bool = True) -> Model:
        """Add a model repository, which has the file of a new one and these."""
        model = self.models[name] = Model(private, [])
        model.commit("initial commit", {".gitattributes": b"*.safetensors filter=lfs"})
        if files:
            model.commit("files", {**model.head.files, **{path: _bytes(content) for path, content in files.items()}})
        return model

    def downloads(self) -> list[str]:
        """Return the paths of the files that were downloaded, and forget all requests."""
        found = [request.path for request in self.requests if request.method == "GET" and "/resolve/" in request.path]
        self.requests.clear()
        return [path.partition("/resolve/")[2].partition("/")[2] for path in found]


def without_certificates(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the client of each test load no certificates: that takes 30 ms of CPU, and loopback has no TLS."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))


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

    def do_PUT(self) -> None:
        self._respond()

    def _respond(self) -> None:
        here = f"http://{self.headers['Host']}"
        self.served.requests.append(Request(here, self.command, self.path, self.headers.get("Authorization")))
        if self.served.status:
            self._send(self.served.status, {})
            return
        path = unquote(urlsplit(self.path).path)
        if self.command == "PUT" or (self.command == "POST" and (path.startswith(_WRITTEN) or ".git/" in path)):
            self._write(path, self._body())
            return
        if path.startswith("/api/models/") or path.split("/")[3:4] == ["resolve"]:
            self._read_model(path)
            return
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

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        blocks = []
        while size := int(self.rfile.readline(), 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(blocks)

    def _read_model(self, path: str) -> None:
        name = path.removeprefix("/api/models/").strip("/")
        model = self.served.models.get("/".join(name.split("/")[:2]))
        if model is None:
            self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif path.startswith("/api/"):
            siblings = [{"rfilename": file, **_blob(file, content)} for file, content in model.head.files.items()]
            self._send_json({"id": name, "sha": model.head.oid, "private": model.private, "siblings": siblings})
        else:
            content = model.head.files[path.split("/", 5)[-1]]
            described = {"ETag": f'"{_described(content)["oid"]}"', "X-Repo-Commit": model.head.oid}
            self._send(200, described, content)

    def _write(self, path: str, body: bytes) -> None:
        if self.command == "PUT":
            self.served.objects[path.rpartition("/")[2]] = body
            self._send(200, {})
        elif self.headers.get("Authorization") != f"Bearer {self.served.writer}":
            self._send(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path == "/api/validate-yaml":
            self._send_json({"warnings": [], "errors": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self._send_json(
                {"transfer": "basic", "objects": [self._upload(found) for found in json.loads(body)["objects"]]}
            )
        elif "/preupload/" in path:
            modes = {True: "lfs", False: "regular"}
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": modes[_is_large(name)], "shouldIgnore": False} for name in names]
            self._send_json({"files": files})
        else:
            self._commit("/".join(path.split("/")[3:5]), [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] == "other":
            message = "You don't have the rights to create a model under the namespace"
            self._send(403, {"X-Error-Message": message})
        elif name in self.served.models or name == "acme/hidden":
            self._send(409, {"X-Error-Message": "You already created this model repo"})
        else:
            self.served.add_model(name, {}, private=wanted.get("visibility") == "private")
            self._send_json({"url": f"{self.served.address}/{name}"})

    def _upload(self, wanted: dict[str, object]) -> dict[str, object]:
        if wanted["oid"] in self.served.objects:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.served.other}/{wanted['oid']}?signature=secret"}}}

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        if self.served.meanwhile:
            self.served.meanwhile()
        model, (header, *changes) = self.served.models[name], lines
        if header["value"]["parentCommit"] != model.head.oid:
            self._send(412, {"X-Error-Message": "A commit has happened since"})
            return
        files = dict(model.head.files)
        for change in changes:
            value, path = change["value"], change["value"]["path"]
            match str(change["key"]):
                case "file":
                    files[path] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[path] = self.served.objects[value["oid"]]
                case _:
                    del files[path]
        oid = model.commit(header["value"]["summary"], files).oid
        self._send_json({"success": True, "commitOid": oid, "commitUrl": f"{self.served.address}/{name}/commit/{oid}"})

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


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def _blob(name: str, content: bytes) -> dict[str, object]:
    """Return how the API describes a file of a model: by the digest of git, or by that of a large file."""
    size = len(content)
    blob = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
    large = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}
    return {"blobId": blob, "size": size} | ({"lfs": large} if _is_large(name) else {})


def _described(content: bytes | str) -> dict[str, object]:
    data = _bytes(content)
    return {"oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(), "size": len(data)}
