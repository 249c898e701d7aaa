"""The command line of a process of ``fork_server``: it hands over what it was started with, and ends as that ends.

``python -IS fork_client.py SOCKET ARGUMENT...``. It imports nothing that takes time: it is what a start costs.
"""

import _signal
import _socket
import posix
import sys

SIGNALS = (_signal.SIGINT, _signal.SIGTERM)


def start(connection: _socket.socket) -> None:
    """Send the arguments, the working directory, the environment and the standard streams."""
    arguments = [argument.encode("utf-8", "surrogateescape") for argument in sys.argv[2:]]
    environ = [name + b"=" + value for name, value in posix.environ.items()]
    body = b"\0".join([posix.getcwdb(), b"%d" % len(arguments), *arguments, *environ])
    streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
    connection.sendmsg([len(body).to_bytes(4, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    connection.sendall(body)


def number(connection: _socket.socket) -> int:
    """Receive a number, which the server sends whole."""
    data = connection.recv(4)
    if len(data) < 4:
        sys.exit("the server of forked processes has ended")
    return int.from_bytes(data, "little", signed=True)


def main() -> None:
    """Start the process, pass signals on to it, and end with its status or its signal."""
    connection = _socket.socket(_socket.AF_UNIX)
    connection.connect(sys.argv[1])
    start(connection)
    pid = number(connection)
    for one in SIGNALS:
        _signal.signal(one, lambda received, _frame: posix.kill(pid, received))
    status = number(connection)
    for one in SIGNALS:
        _signal.signal(one, _signal.SIG_DFL)
    if status < 0:
        posix.kill(posix.getpid(), -status)
    posix._exit(status)


if __name__ == "__main__":
    main()
