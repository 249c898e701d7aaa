"""Python processes for the price of a fork: they come from one process that has imported the package.

``forked`` returns a command line in place of one with ``sys.executable``. The process has the environment, the working
directory and the standard streams of the caller; signals are passed on to it, and it is killed when the command is.
It imports what the test run can import. A test of what a start does or imports needs a real one.

Run as a script this is the server: ``fork_server.py SOCKET``. It ends with its standard input.
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

CLIENT = Path(__file__).with_name("fork_client.py")
IMPORTED = (
    "google_crc32c",
    "google.oauth2.credentials",
    "google.oauth2.service_account",
    "httpx",
    "jsonschema",
    "reconciler.commands.apply",
    "reconciler.commands.main",
    "reconciler.commands.plan",
    "reconciler.commands.status",
    "reconciler.commands.validate",
    "reconciler.emulator.app",
    "reconciler.manifests.workspace",
    "reconciler.providers.embedded",
    "reconciler.providers.generativelanguage.provider",
    "reconciler.providers.vertex.provider",
    "reconciler.reports.text.plan",
    "rich.progress",
    "uvicorn",
    "yaml",
)
"""What most of these processes use."""


def forked(*arguments: str) -> list[str]:
    """Return the command that runs Python with ``-c PROGRAM``, ``-m MODULE`` or ``FILE``, each with its arguments."""
    return [sys.executable, "-IS", str(CLIENT), _address(), *arguments]


@cache
def _address() -> str:
    """Start the server of this test run, and return its socket."""
    folder = tempfile.mkdtemp(prefix="fork-")  # a short path: the address of a socket has about a hundred characters
    address = f"{folder}/socket"
    server = subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, __file__, address],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    assert server.stdout.readline() == b"ready\n"
    return address


def serve(address: str) -> None:
    """Fork a process for each connection, until the standard input ends."""
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted test run ends this server by its standard input
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(100)
        print("ready", flush=True)  # noqa: T201 - its report
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while all(key.fileobj is listener for key, _ in selector.select()):
            connection, _ = listener.accept()
            if os.fork() == 0:
                selector.close()
                listener.close()
                _start(connection)
                return
            connection.close()


def _reap(_signal: int, _frame: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(connection: socket.socket) -> None:
    """Fork the process that was asked for, which returns; the other one watches it and does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size, body = int.from_bytes(data, "little"), b""
    while len(body) < size:
        body += connection.recv(size - len(body))
    pid = os.fork()
    if pid:
        _watch(connection, pid, streams)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    folder, count, *words = body.split(b"\0")
    os.chdir(folder)
    environ = dict(word.split(b"=", 1) for word in words[int(count) :])
    os.environb.clear()
    os.environb.update(environ)
    _run([os.fsdecode(word) for word in words[: int(count)]])


def _watch(connection: socket.socket, pid: int, streams: list[int]) -> NoReturn:
    """Report the process and its status; kill it when the command that started it is gone."""
    for stream in (0, 1, 2, *streams):
        os.close(stream)  # a reader waits until the last writer is gone
    connection.sendall(pid.to_bytes(4, "little"))

    def kill_without_client() -> None:
        connection.recv(1)
        os.kill(pid, signal.SIGKILL)

    Thread(target=kill_without_client, daemon=True).start()
    _, status = os.waitpid(pid, 0)
    try:
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
    finally:
        os._exit(0)


def _run(arguments: list[str]) -> None:
    """Run what an interpreter with these arguments runs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - the streams of the process
        for number, mode in enumerate("rww")
    )
    sys.path[0] = ""
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kind, *rest = arguments
    if kind == "-c":
        sys.argv = [kind, *rest[1:]]
        program: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(rest[0], "<string>", "exec"), program)  # noqa: S102 - a program of a test
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
