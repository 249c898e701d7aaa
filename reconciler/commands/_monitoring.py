"""``--metrics FILE`` and ``--notify-env VARIABLE``: what a command reports at its end to monitoring and to people.

Nothing of it changes the exit status, except a file of metrics that cannot be written, as with any report.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from reconciler.domain.errors import ExitStatus, UsageError
from reconciler.environment import Environment
from reconciler.files import check_writable, write_errors, write_file
from reconciler.redaction import redact, remember

if TYPE_CHECKING:
    import click

    from reconciler.commands._project import RecordedProject
    from reconciler.domain.document import Document
    from reconciler.reports.notification import Notification

_SECONDS: Final = 20
"""The longest time for all notifications of a command, which it then ends without."""
_CHATS: Final = (
    "apprise discord gchat gotify matrix mmost msteams ntfy opsgenie pagerduty rocket slack tgram webex workflow"
    " wxteams zulip"
)
_WEB: Final = {"http": "json", "https": "jsons"}
"""The schemes of plain addresses, and those under which the library posts JSON to them."""
_SECURE: Final = ("", "s")
"""The ends of the schemes of a service without and with TLS."""
_SCHEMES: Final = frozenset(
    {*_WEB, *(f"{name}{end}" for name in (*_CHATS.split(), "form", "json", "mailto", "xml") for end in _SECURE)}
)
"""Services and protocols that send over the network; the library has others, which show windows or write logs."""
_LIBRARY: Final = "apprise"
_HEADER: Final = b"# HELP reconcile_"
_SECRET_LENGTH: Final = 8


class Address(Struct, frozen=True):
    """The name of an environment variable, and the address that it holds, which is a secret."""

    variable: str
    value: str

    def __repr__(self) -> str:
        return f"Address({self.variable!r})"


class Monitoring(Struct, frozen=True):
    """Where a command reports its end: a file of metrics, empty for none, and addresses."""

    environment: Environment
    command: str
    metrics: str = ""
    addresses: tuple[Address, ...] = ()

    def ended(
        self, document: Document, status: ExitStatus, projects: Sequence[RecordedProject], target: str = ""
    ) -> Iterator[str]:
        """Write the metrics, send the notifications, and yield why a notification was not sent.

        ``target`` is the name of the target if the document has none.
        """
        if self.addresses:
            yield from self._notify(document, status)
        if self.metrics:
            self._write(document, status, projects, target)

    def _write(self, document: Document, status: ExitStatus, projects: Sequence[RecordedProject], target: str) -> None:
        from reconciler.reports.metrics import Recorded, Run, metrics

        run = Run(self.command, target, self.environment.clock(), status)
        recorded = {project.target.name: Recorded(project.lock, project.catalog) for project in projects}
        with write_errors(f"--metrics {self.metrics}"):
            write_file(Path(self.metrics), redact(metrics(document, run, recorded)).encode())

    def _notify(self, document: Document, status: ExitStatus) -> Iterator[str]:
        from reconciler.reports.notification import notification

        message = notification(document, self.command, status, run_link(self.environment.environ))
        for address, problem in zip(self.addresses, _send_all(self.addresses, message), strict=True):
            if problem:
                yield f"--notify-env {address.variable}: no notification was sent: {problem}"


def run_link(environ: Mapping[str, str]) -> str:
    """Return the address of the CI run that the process is part of; empty if there is none."""
    parts = [environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    github = "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""
    links = (github, environ.get("CI_JOB_URL", ""), environ.get("BUILD_URL", ""))
    return next((link for link in links if re.fullmatch(r"https?://[!-~]+", link)), "")


def _send_all(addresses: Sequence[Address], message: Notification) -> list[str]:
    """Send a message to all addresses at the same time; return why each failed, empty for one that got it."""
    import time
    from contextlib import suppress
    from contextvars import copy_context
    from threading import Thread

    senders = [_sender(address.value) for address in addresses]
    problems = [sender if isinstance(sender, str) else f"no answer within {_SECONDS} seconds" for sender in senders]

    def send(position: int, sender: Any) -> None:
        problems[position] = _send(sender, message)

    # Daemon threads, because a library that waits for a service must not keep the command from its end.
    threads = [
        Thread(target=copy_context().run, args=(send, position, sender), daemon=True)
        for position, sender in enumerate(senders)
        if not isinstance(sender, str)
    ]
    end = time.monotonic() + _SECONDS
    for thread in threads:
        thread.start()
    with suppress(KeyboardInterrupt):  # the command has its result, and ends without an answer
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    return list(problems)


def _sender(value: str) -> Any:
    """Return the library's sender to an address, or else, as a text, why there is none."""
    if not value.strip():
        return "the variable is not set, or empty"
    scheme = value.strip().partition("://")[0].lower()
    if scheme not in _SCHEMES:
        return "the variable holds no supported address; set it to one like https://…, slack://… or mailtos://…"
    import logging

    import apprise

    logging.getLogger(_LIBRARY).disabled = True  # its messages repeat parts of addresses
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="reconcile", app_desc="reconcile", app_url=""))
    try:
        known = sender.add(value.strip()) or (scheme in _WEB and sender.add(_as_json(value)))
    except ValueError:  # no URL, or not text
        known = False
    for service in sender:
        service.socket_connect_timeout = max(service.socket_connect_timeout, _SECONDS / 2)
        service.socket_read_timeout = max(service.socket_read_timeout, _SECONDS / 2)
    return sender if known else "the address in the variable is invalid"


def _send(sender: Any, message: Notification) -> str:
    import apprise

    try:
        kind = apprise.NotifyType.SUCCESS if message.good else apprise.NotifyType.WARNING
        text = apprise.NotifyFormat.TEXT
        sent = sender.notify(redact(message.body), redact(message.title), notify_type=kind, body_format=text)
    except Exception as error:  # noqa: BLE001 - more than 100 services, none of which may end the command
        return type(error).__name__
    return "" if sent else "the service did not accept it, or cannot be reached"


def _as_json(value: str) -> str:
    """Return a plain address as one under which the library posts JSON; it marks parameters of a request with ``-``."""
    parts = urlsplit(value.strip())
    query = urlencode([(f"-{name}", text) for name, text in parse_qsl(parts.query, keep_blank_values=True)])
    return parts._replace(scheme=_WEB[parts.scheme.lower()], query=query).geturl()


def metrics_file(context: click.Context, file: str) -> str:
    """Check the value of ``--metrics``, and return it as an absolute path.

    Raises:
        UsageError: when the file cannot be written, or has other content.
    """
    path = _environment(context).cwd / file
    if path.suffix != ".prom":
        raise UsageError(
            f"--metrics {file}: unsupported format", "name a file that ends in .prom, which node exporter reads"
        )
    with write_errors(f"--metrics {file}", UsageError):
        check_writable(path)
        head = path.read_bytes()[: len(_HEADER)] if path.is_file() else b""
    if head not in {b"", _HEADER}:
        raise UsageError(f"--metrics {file} would overwrite a file that has other content", "name another file")
    return str(path)


def addresses(context: click.Context, names: Sequence[str]) -> tuple[Address, ...]:
    """Return the addresses in the variables of ``--notify-env``, which are secrets from now on.

    Raises:
        UsageError: when a name is not that of a variable, or the library is not installed.
    """
    environ = _environment(context).environ
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            _remember(name)
            raise UsageError(
                "--notify-env: expected the name of an environment variable",
                "set a variable to the address, which is a secret, and pass the name of the variable",
            )
    found = tuple(Address(name, environ.get(name, "")) for name in dict.fromkeys(names))
    for address in found:
        _remember(address.value)
    if importlib.util.find_spec(_LIBRARY) is None:
        raise UsageError("--notify-env needs the package apprise", "run pip install 'tuned-model-reconciler[notify]'")
    return found


def _remember(address: str) -> None:
    """Remove an address from the output, and the parts of it that can be a token or a password."""
    remember(address)
    try:
        parts = urlsplit(address)
        pieces = [parts.password or "", parts.username or "", *parts.path.split("/")]
        pieces += [text for _, text in parse_qsl(parts.query)] + ([] if "." in parts.netloc else [parts.netloc])
    except ValueError:
        return
    for piece in pieces:
        if len(piece) >= _SECRET_LENGTH and (piece == parts.password or any(map(str.isdigit, piece))):
            remember(piece)


def _environment(context: click.Context) -> Environment:
    return context.find_object(Environment) or Environment()


def monitoring(context: click.Context, file: str, to: tuple[Address, ...]) -> Monitoring:
    """Return where the command of this context reports its end."""
    return Monitoring(_environment(context), context.command.name or "", file, to)
