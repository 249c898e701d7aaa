"""Recognizable secrets in every variable, header and answer, and a search for them in everything that is left."""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from support.cli_world import Cli, Result
from support.vertex_runs import manifest
from support.vertex_world import World

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from support.vertex_fronts import Front

TOKEN = "ya29.a0Qz7hvUpLxWz3k+9TtRbY2//mNcKdQ0vFgHj8s"
REFRESH = "1//0gPz4Vt8mWqXyAbCdEfGh-IjKl_MnOpQrStUv"
CLIENT = "GOCSPX-u8Hc2LmYq0RtWsXzVbNk"
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDZ"
PASSWORD = "hunter2-Kq8vT1zXw"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"
KEY_FILE = json.dumps(
    {
        "type": "authorized_user",
        "client_id": "me.apps.googleusercontent.com",
        "client_secret": CLIENT,
        "refresh_token": REFRESH,
        "private_key": PRIVATE_KEY,
    }
)
SECRETS = {"token": TOKEN, "refresh": REFRESH, "client": CLIENT, "key": KEY, "password": PASSWORD}
SHOWN = 16
"""The characters of a secret that are too many to be shown."""


def forms(secret: str) -> Iterator[str]:
    """A secret as it may be found in a text."""
    for text in (secret, posixpath.normpath(secret), quote(secret, safe=""), quote(secret), secret.lower()):
        yield text
        yield from (text[start : start + SHOWN] for start in range(len(text) - SHOWN + 1))
    for before in ("", "a", "ab"):
        whole = base64.b64encode((before + secret).encode()).decode()
        yield whole[4:20]
        yield whole[4:20].translate(str.maketrans("+/", "-_"))


FORMS = {name: frozenset(forms(secret)) for name, secret in SECRETS.items()}


def leaks(text: str) -> list[str]:
    """The names of the secrets in a text, in any of their forms."""
    return [name for name, found in FORMS.items() if any(form in text for form in found)]


VALUES = {
    "key file": KEY_FILE,
    "token": TOKEN,
    "refresh token": REFRESH,
    "quoted token": f'"{TOKEN}"',
    "key": PRIVATE_KEY,
    "proxy": f"http://user:{PASSWORD}@127.0.0.1:1",
}
VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "RECONCILE_ACCESS_TOKEN",
    "CLOUDSDK_CONFIG",
    "GCE_METADATA_HOST",
    "HOME",
    "RECONCILE_TARGET",
    "RECONCILE_ALLOW_ENDPOINT",
    "RECONCILE_VAR_PROJECT",
    "GITHUB_STEP_SUMMARY",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
    "NO_PROXY",
)
COMMANDS = {
    "doctor": ("doctor",),
    "validate": ("validate",),
    "plan": ("plan", "--report", "r.md", "--report", "r.html", "--report", "r.json", "--report", "r.xml"),
    "saved plan": ("plan", "--out", "p.json"),
    "apply": ("apply", "--yes", "--events", "e.jsonl", "--report", "r.json"),
    "wait": ("wait", "--events", "e.jsonl"),
    "status": ("status", "--live", "--report", "r.md"),
    "drift": ("drift", "--report", "r.xml"),
    "resolve": ("resolve",),
    "prompt": ("prompt", "adder", "7"),
    "check": ("check", "--events", "e.jsonl"),
    "history": ("history", "adder"),
    "graph": ("graph",),
    "refresh": ("refresh",),
    "prune": ("prune", "--yes"),
    "rollback": ("rollback", "adder"),
    "promote": ("promote", "adder"),
    "forget": ("forget", "adder"),
    "cancel": ("cancel", "adder"),
    "adopt": ("adopt", "other", "projects/my-project/locations/europe-west4/models/1"),
}
VERBOSITIES = {"": (), "verbose": ("-v",), "quiet": ("-q",), "json": ("--format", "json")}


def echo(text: str, status: int) -> Response:
    return JSONResponse({"error": {"code": status, "message": text, "status": "INVALID_ARGUMENT"}}, status)


def echoes(request: Request) -> str:
    """What a service or a proxy may repeat of a request, in a message of its own."""
    header = request.headers.get("authorization", "")
    token = header.removeprefix("Bearer ")
    encoded = base64.b64encode(header.encode()).decode()
    return f"Invalid header {header}; {quote(token, safe='')}; {posixpath.normpath(token)}; {encoded}"


FAULTS = {
    "none": None,
    "bad request": lambda request: echo(echoes(request), 400),
    "unauthenticated": lambda request: echo(echoes(request), 401),
    "forbidden": lambda request: echo(echoes(request), 403),
    "not found": lambda request: echo(echoes(request), 404),
    "unavailable": lambda request: echo(echoes(request), 503),
    "no JSON": lambda request: PlainTextResponse(echoes(request)),
    "other JSON": lambda request: JSONResponse({"tunedModels": echoes(request), "tuningJobs": [{"name": TOKEN}]}),
    "redirect": lambda request: RedirectResponse(f"https://{TOKEN[5:20]}.example/?t={quote(echoes(request))}"),
}


def faulty(fault: str) -> Front:
    answer = FAULTS[fault]

    def front(app: ASGIApp) -> ASGIApp:
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            await (answer(Request(scope)) if answer else app)(scope, receive, send)

        return respond

    return front


class Searched:
    """Commands, and a search of all that they print and write."""

    def __init__(self, reconcile: Cli, planted: tuple[Path, ...] = ()) -> None:
        self._reconcile = reconcile
        self._planted = set(planted)

    def __call__(self, command: str, verbosity: str = "", target: str = "vertex", **environ: str) -> Result:
        arguments = [*COMMANDS[command], *VERBOSITIES[verbosity]]
        if "RECONCILE_TARGET" not in environ:
            arguments += ["--target", target]
        before = self._reconcile.environ
        self._reconcile.environ = {**before, **environ}
        try:
            done = self._reconcile(*arguments)
        finally:
            self._reconcile.environ = before
        where = f"{command} {verbosity} {sorted(environ)}"
        for name, text in (("out", done.out), ("err", done.err), *self._files()):
            assert leaks(text) == [], f"{where}: {name}: {text}"
        assert "Traceback" not in done.err, done.err
        return done

    def _files(self) -> Iterator[tuple[str, str]]:
        for path in self._reconcile.folder.rglob("*"):
            if path.is_file() and path not in self._planted and "service" not in path.parts:
                yield str(path), path.read_bytes().decode("utf-8", "replace")


@pytest.fixture
def searched(reconcile: Cli, world: World, monkeypatch: pytest.MonkeyPatch) -> Searched:
    monkeypatch.chdir(reconcile.folder)
    assert world.url
    manifest(reconcile)
    reconcile.environ |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(reconcile.folder / "summary.md")}
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    return Searched(reconcile)


def run_with_variable(searched: Searched, command: str, verbosity: str, variable: str, value: str) -> None:
    environ = {variable: VALUES[value]}
    if variable not in {"RECONCILE_ACCESS_TOKEN", "RECONCILE_TARGET"}:
        environ |= {"RECONCILE_ACCESS_TOKEN": ""}
    searched(command, verbosity, **environ)


def test_the_content_of_a_key_file_in_place_of_its_path_is_not_shown(searched: Searched) -> None:
    values = ["key file", "token", "refresh token", "quoted token", "key"]
    for command, value in (("plan", "key file"), *(("doctor", value) for value in values)):
        told = searched(command, RECONCILE_ACCESS_TOKEN="", GOOGLE_APPLICATION_CREDENTIALS=VALUES[value])
        assert told.status == 3
        assert "expected the path of a credentials file" in told.out + told.err


def test_a_quoted_token_is_refused_and_not_shown(searched: Searched) -> None:
    told = searched("plan", RECONCILE_ACCESS_TOKEN=f'"{TOKEN}"')
    assert (told.status, "invalid RECONCILE_ACCESS_TOKEN: it contains quotes" in told.err) == (3, True)


def test_a_secret_in_a_variable_is_not_shown(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        with monkeypatch.context() as patched:
            if variable in {"HTTPS_PROXY", "SSL_CERT_FILE", "NO_PROXY"}:  # the HTTP library reads those of the process
                patched.setenv(variable, TOKEN)
            run_with_variable(searched, "doctor", "verbose", variable, "token")


def test_a_token_that_a_service_repeats_is_not_shown(searched: Searched, world: World) -> None:
    for fault in (
        "bad request",
        "unauthenticated",
        "no JSON",
        "other JSON",
        "redirect",
        "none",
    ):  # others are slow tests
        world.front = faulty(fault)
        world.lines.clear()
        for command in ("apply", "plan", "status") if fault in {"unauthenticated", "none"} else ("apply",):
            searched(command, "verbose")
        assert world.lines, fault


def test_a_token_in_the_answer_of_a_model_and_in_an_error_of_a_training_is_not_written(
    searched: Searched, reconcile: Cli
) -> None:
    """A manifest that diverges, and whose data repeat the token."""
    reconcile.manifest("adder", examples=[(str(number), TOKEN) for number in range(20)])
    planted = tuple(reconcile.specs.glob("*.csv"))
    searched = Searched(reconcile, planted)
    for command in ("apply", "prompt", "check", "history"):
        searched(command, target="gl")


def test_a_traceback_is_searched_too(searched: Searched, reconcile: Cli) -> None:
    assert searched

    class Broken(dict[str, str]):
        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # a bug
            if name == "RECONCILE_ACCESS_TOKEN":
                raise LookupError(f"no {self[name]}, {quote(self[name])}, {base64.b64encode(self[name].encode())!r}")
            return super().get(name, default)

    reconcile.environ = Broken(reconcile.environ)
    done = reconcile("plan", "--target", "vertex")
    assert done.status == 1
    assert "Traceback" in done.err
    assert "LookupError: no [secret], [secret], b'[secret]" in done.err
    assert leaks(done.out + done.err) == []


@pytest.mark.slow
@pytest.mark.parametrize("verbosity", VERBOSITIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_with_every_fault(searched: Searched, world: World, command: str, verbosity: str) -> None:
    searched("apply")
    for fault in FAULTS:
        world.front = faulty(fault)
        for target in ("vertex", "gl"):
            searched(command, verbosity, target)


@pytest.mark.slow
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("value", VALUES)
def test_every_command_with_a_secret_in_every_variable(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    if variable in {"HTTPS_PROXY", "SSL_CERT_FILE", "NO_PROXY"}:
        monkeypatch.setenv(variable, VALUES[value])
    for command in COMMANDS:
        run_with_variable(searched, command, "verbose", variable, value)
