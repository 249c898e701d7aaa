"""Base models of the hub: a hub on this machine answers the real client of the hub's library."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from support.tiny_model import write_tiny_model

if os.environ.get("REQUIRE_LOCAL") != "1":
    pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # the training libraries warn about each other

COMMIT = "a" * 40
CONNECT = "connect to the network and unset HF_HUB_OFFLINE, or use a local copy as the base model"
REFUSALS = {
    "gated": (403, "GatedRepo"),
    "missing": (401, "RepoNotFound"),
    "moved": (404, "RevisionNotFound"),
}
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from reconciler.domain.errors import ReconcileError
from reconciler.trainer.run_files import BaseModel
from reconciler.trainer.weights import find_weights, load_config, load_model, load_tokenizer

for name in sys.argv[1:]:
    base, run, found = BaseModel(hub=f"org/{name}", revision="a" * 40), Path(), []
    try:
        found.append(find_weights(base, run).present)
        found.append(load_tokenizer(base, run).bos_token)
        found.append(load_config(base, run).hidden_size)
        found.append(load_model(base, run, torch.float32).num_parameters())
        found.append(find_weights(base, run).present)
    except ReconcileError as error:
        found.append(str(error))
    print(json.dumps(found))
"""


class Hub(BaseHTTPRequestHandler):
    """A hub with one model; requests are answered as the real hub answers them."""

    model: Path
    tokens: set[str | None]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of the standard library
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.tokens.add(self.headers.get("authorization"))
        path = self.path.partition("?")[0].strip("/").split("/")
        name = path[3] if path[:2] == ["api", "models"] else path[1]
        file = self.model / path[-1]
        if name in REFUSALS:
            self._refuse(*REFUSALS[name])
        elif path[-2:] == ["revision", COMMIT]:
            files = [{"rfilename": each.name, "size": each.stat().st_size} for each in self.model.iterdir()]
            self._send(json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": files}).encode(), body=body)
        elif file.is_file():
            self._send(file.read_bytes(), body=body)
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    Hub.model, Hub.tokens = write_tiny_model(tmp_path / "model"), set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_models_of_the_hub_are_loaded_or_refused_with_their_reason(hub: str, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", SCRIPT, "tiny", *REFUSALS],
        env={**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    tiny, gated, missing, moved = map(json.loads, ran.stdout.splitlines())
    assert tiny == [False, "<s>", 16, 8592, True]
    page = "https://huggingface.co/org"
    private = f"check {page}/missing, and set HF_TOKEN if the model is private"
    assert gated == [
        f"base: org/gated is gated; accept its license at {page}/gated, then set HF_TOKEN to a token of your account"
    ]
    assert missing == [f"base: org/missing was not found on the hub, or you have no access; {private}"]
    assert moved == [f"base: org/moved has no commit {COMMIT}; choose one of {page}/moved/commits"]
    assert Hub.tokens == {"Bearer hf_secret"}


def test_a_model_is_not_downloaded_offline(hub: str, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", SCRIPT, "tiny"],
        env={**os.environ, **settings},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(ran.stdout) == [
        False,
        f"base: org/tiny is not in the cache, and the hub cannot be reached; {CONNECT}",
    ]
    assert Hub.tokens == set()
