"""Options that several commands share, and what they mean to the app."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from functools import reduce
from typing import Any, TypeVar

import click

from reconciler.commands._output import Output, check_reports
from reconciler.commands._project import CommandInput
from reconciler.domain.plan import Request
from reconciler.environment import Environment
from reconciler.planning.selection import Selection
from reconciler.reports.text.escape import terminal_safe

Command = TypeVar("Command", bound=Callable[..., Any])


def duration(text: str) -> timedelta:
    """A duration as manifests write it: ``90s``, ``30m``, ``1h30m``, or ``0``; what is none is a usage error."""
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?|0", text)
    if not found or not text:
        raise click.BadParameter(f"{text!r} is no duration; write it like 90s, 30m or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def age(text: str) -> timedelta:
    """An age: ``14d``, ``36h``, ``90m`` or ``1d12h``; what is none is a usage error, and so is nothing."""
    found = re.fullmatch(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?", text)
    days, hours, minutes = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if not (days or hours or minutes):
        raise click.BadParameter(f"{text!r} is no age; write it like 14d, 36h or 1d12h.")
    return timedelta(days=days, hours=hours, minutes=minutes)


def label(text: str) -> tuple[str, str]:
    """A label and its value, ``team=demo``; what is none is a usage error."""
    name, equals, wanted = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is no label; write it like team=demo.")
    return name, wanted


def address(text: str) -> str:
    """An e-mail address in lower case, as services compare them; what is none is a usage error."""
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text):
        raise click.BadParameter(f"{text!r} is no e-mail address; write it like ada@example.com.")
    return text.lower()


def combine(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several decorators as one, the first of them outermost."""
    return lambda command: reduce(lambda wrapped, one: one(wrapped), reversed(decorators), command)


environment = click.make_pass_decorator(Environment, ensure=True)
"""Hands a command the environment that the process was started in, unless the caller gave another one."""
paths = click.argument("paths", nargs=-1, metavar="[PATHS]...")
target = click.option(
    "--target",
    envvar="RECONCILE_TARGET",
    metavar="NAME",
    help="The target: reconcile.NAME.yaml, or reconcile.yaml by default.",
)
labels = click.option(
    "-l",
    "--label",
    type=label,
    multiple=True,
    metavar="LABEL=VALUE",
    help="Only manifests with this label.",
)
format_option = click.option(
    "--format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print."
)
allow_endpoint = click.option(
    "--allow-endpoint",
    envvar="RECONCILE_ALLOW_ENDPOINT",
    multiple=True,
    metavar="HOST",
    help="A further host that credentials may be sent to; beside *.googleapis.com and this machine.",
)
only = click.option("--only", multiple=True, metavar="NAME", help="Only the manifest of that name; repeatable.")
exclude = click.option(
    "--exclude", multiple=True, metavar="NAME", help="All but the manifest of that name; repeatable."
)
retry = click.option("--retry", multiple=True, metavar="NAME", help="Train once more what failed; repeatable.")
replace = click.option("--replace", multiple=True, metavar="NAME", help="Train once more what is healthy; repeatable.")
yes = click.option("--yes", is_flag=True, help="Approve without a prompt. Required when stdin is not a terminal.")
timeout = click.option(
    "--timeout", type=duration, metavar="DURATION", help="Wait at most so long, like 90s, 30m or 1h30m; 0 looks once."
)

color = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to use color; auto respects NO_COLOR and FORCE_COLOR.",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors.")
verbose = click.option("-v", "--verbose", count=True, help="Say more: also what is in sync.")
reports = click.option(
    "--report",
    multiple=True,
    metavar="FILE",
    help="Also write a report to FILE, which ends in .json, .md, .html or .xml (JUnit); repeatable.",
)

output_options = combine(color, quiet, verbose)
"""What every command takes that prints something."""
manifest_options = combine(paths, target, labels, allow_endpoint, format_option)
"""What every command that reads manifests takes."""
model_options = combine(paths, target, allow_endpoint, format_option, output_options)
"""What every command about one model takes."""
run_options = combine(manifest_options, output_options, reports, only, exclude)
"""What plan, apply and wait take."""
training_options = combine(retry, replace)
"""What plan and apply take."""


def input_of(values: dict[str, Any]) -> CommandInput:
    """What the shared options say, taken out of a command's values."""
    selection = Selection(
        labels=tuple(values.pop("label", ())),
        only=frozenset(values.pop("only", ())),
        exclude=frozenset(values.pop("exclude", ())),
    )
    return CommandInput(
        paths=tuple(values.pop("paths")),
        target=values.pop("target"),
        selection=selection,
        allow_endpoints=frozenset(values.pop("allow_endpoint", ())),
    )


def output_of(values: dict[str, Any], out: str | None = None) -> Output:
    """How to speak, taken out of a command's values; ``out`` is another file that the command writes."""
    output = Output(
        form=values.pop("format"),
        color=values.pop("color"),
        quiet=values.pop("quiet"),
        verbose=values.pop("verbose"),
        reports=check_reports(values.pop("report", ()), {"--events": values.get("events"), "--out": out}),
    )
    if not output.quiet:
        _log_to_stderr()
    return output


class _ToStderr(logging.Handler):
    """Writes to what standard error is at the moment: a live display takes its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(terminal_safe(self.format(record)), err=True)


def _log_to_stderr() -> None:
    """Show our own log alone, such as what is tried again: the HTTP library would log addresses with their queries."""
    handler = _ToStderr()
    logger = logging.getLogger("reconciler")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    click.get_current_context().call_on_close(lambda: logger.removeHandler(handler))


def request_of(values: dict[str, Any]) -> Request:
    """The trainings that somebody asked for, taken out of a command's values."""
    return Request(retry=frozenset(values.pop("retry", ())), replace=frozenset(values.pop("replace", ())))
