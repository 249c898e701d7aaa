"""Options that several commands share, and their values."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from reconciler.commands._output import Output, check_reports
from reconciler.commands._project import CommandInput
from reconciler.commands._run_info import begin_run
from reconciler.domain.errors import UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.target_option import use_target
from reconciler.domain.text import STEERING, join_names, terminal_safe
from reconciler.environment import Environment
from reconciler.manifests.discovery import DEFAULT, STDIN, Selection
from reconciler.reports.writer import REPORT_FORMATS

if TYPE_CHECKING:
    from reconciler.commands._monitoring import Address, Monitoring
    from reconciler.domain.labels import LabelRequirement
    from reconciler.domain.plan import Request

_MAX_REASON_LENGTH: Final = 500

Command = TypeVar("Command", bound=Callable[..., Any])


def duration(text: str) -> timedelta:
    """Parse a duration as manifests write it: ``90s``, ``30m``, ``1h30m`` or ``0``."""
    match = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?|0", text)
    if not match or not text:
        raise click.BadParameter(f"invalid duration {text!r}: expected a value like 90s, 30m or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def interval(text: str) -> timedelta:
    """Parse a duration of at least a second."""
    parsed = duration(text)
    if parsed < timedelta(seconds=1):
        raise click.BadParameter(f"invalid interval {text!r}: expected at least 1s.")
    return parsed


def age(text: str) -> timedelta:
    """Parse an age above zero: ``14d``, ``36h``, ``90m`` or ``1d12h``."""
    match = re.fullmatch(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?", text)
    days, hours, minutes = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not (days or hours or minutes):
        raise click.BadParameter(f"invalid age {text!r}: expected a value like 14d, 36h or 1d12h.")
    return timedelta(days=days, hours=hours, minutes=minutes)


def reason_of(text: str) -> str:
    """Return a reason without whitespace around it, after checking that it is one line of text."""
    reason = text.strip()
    if not reason:
        raise click.BadParameter("the reason is blank; state it for readers of the lockfile.")
    if len(reason) > _MAX_REASON_LENGTH:
        raise click.BadParameter(f"the reason has {len(reason)} characters; use at most {_MAX_REASON_LENGTH}.")
    if STEERING.search(reason):
        raise click.BadParameter("the reason has line breaks, control or invisible characters; write it on one line.")
    return reason


def selector(text: str) -> tuple[LabelRequirement, ...]:
    """Parse a label selector, such as ``team=demo`` or ``tier in (gold, silver),!beta``."""
    from reconciler.domain.labels import parse_selector

    if text.startswith("="):
        raise click.BadParameter(f"invalid label selector {text!r}: write -l {text[1:]}, without =.")
    if re.fullmatch(r"ock(-timeout)?=(true|false|[0-9]+[a-z]*)", text):
        raise click.BadParameter(
            f"-l{text} is an option of Terraform; remove it: plan needs no lock, and a run that changes something takes"
            " its own."
        )
    try:
        return parse_selector(text)
    except ValueError:
        expected = "expected a selector like team=demo, tier!=gold, 'team in (nlp, search)', team or '!beta'."
        raise click.BadParameter(f"invalid label selector {text!r}: {expected}") from None


def address(text: str) -> str:
    """Parse an email address; return it in lower case, in which services compare addresses."""
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text):
        raise click.BadParameter(f"invalid email address {text!r}: expected a value like ada@example.com.")
    return text.lower()


def _metrics_file(context: click.Context, _parameter: click.Parameter, file: str | None) -> str:
    if file is None:
        return ""
    from reconciler.commands._monitoring import metrics_file

    return metrics_file(context, file)


def _addresses(context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[Address, ...]:
    if not names:
        return ()
    from reconciler.commands._monitoring import addresses

    return addresses(context, names)


def _monitoring_of(values: dict[str, Any], context: click.Context) -> Monitoring | None:
    """Take the options out of a command's values; ``None`` if neither was given."""
    file, to = values.pop("metrics", None) or "", values.pop("notify_env", None) or ()
    if not file and not to:
        return None
    from reconciler.commands._monitoring import monitoring

    return monitoring(context, file, to)


def combine(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine decorators into one, the first of them outermost."""
    return lambda command: reduce(lambda wrapped, decorate: decorate(wrapped), reversed(decorators), command)


def examples(*commands: str) -> str:
    """Return the end of a help text: example commands, which click prints as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  reconcile {command}" for command in commands)


def _use_target(_context: click.Context, _parameter: click.Parameter, target: str | None) -> str | None:
    use_target(target)
    return target


def _use_targets(_context: click.Context, _parameter: click.Parameter, targets: tuple[str, ...]) -> tuple[str, ...]:
    use_target(targets[0] if len(targets) == 1 else None)
    return targets


environment = click.make_pass_decorator(Environment, ensure=True)
"""Passes the command its environment: by default that of the process."""
paths = click.argument("paths", nargs=-1, metavar="[PATHS]...")
target = click.option(
    "--target",
    callback=_use_target,
    envvar="RECONCILE_TARGET",
    metavar="NAME",
    help="Target to use, from reconcile.NAME.yaml. Default: the target in reconcile.yaml.",
)
targets = click.option(
    "--target",
    callback=_use_targets,
    envvar="RECONCILE_TARGET",
    multiple=True,
    metavar="NAME",
    help="Target to use, from reconcile.NAME.yaml, or all for every target of the root. Repeatable. Default: the target"
    " in reconcile.yaml.",
)
labels = click.option(
    "-l",
    "--label",
    type=selector,
    multiple=True,
    metavar="SELECTOR",
    help="Select manifests by labels: team=demo, tier!=gold, 'team in (nlp, search)', 'team notin (nlp)', team, or"
    " '!beta'. Separated by commas or repeated: all must match.",
)
format_option = click.option(
    "--format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)
allow_endpoint = click.option(
    "--allow-endpoint",
    envvar="RECONCILE_ALLOW_ENDPOINT",
    multiple=True,
    metavar="HOST",
    help="Allow sending credentials to HOST, in addition to *.googleapis.com and this machine. Repeatable.",
)
allow_folder = click.option(
    "--allow-folder",
    envvar="RECONCILE_ALLOW_FOLDER",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FOLDER",
    help="Allow models of the provider local in FOLDER, outside of the repository. Repeatable.",
)
trust_options = combine(allow_endpoint, allow_folder)
"""Hosts and folders that files of a repository may not choose."""
only = click.option("--only", multiple=True, metavar="NAME", help="Select the manifest NAME. Repeatable.")
exclude = click.option("--exclude", multiple=True, metavar="NAME", help="Skip the manifest NAME. Repeatable.")
retry = click.option(
    "--retry", multiple=True, metavar="NAME", help="Train NAME again after a failed or canceled training. Repeatable."
)
replace = click.option(
    "--replace", multiple=True, metavar="NAME", help="Train NAME again even though it is up to date. Repeatable."
)
yes = click.option("--yes", is_flag=True, help="Approve without a prompt. Required when stdin is not a terminal.")
stage = click.option(
    "--stage", metavar="NAME", help="Stage of the target. Default: the first one. Only for targets with spec.stages."
)
reason = click.option(
    "--reason",
    type=reason_of,
    metavar="TEXT",
    help="Reason, on one line. The history in the lockfile records it.",
)
timeout = click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    help="Longest time for the run, like 90s, 30m or 1h30m. 0 checks once, without waiting.",
)

color = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to use color. auto respects NO_COLOR and FORCE_COLOR.",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Print the result and errors only.")
verbose = click.option(
    "-v",
    "--verbose",
    count=True,
    help="Print more detail, including models that are in sync. -vv: also time, commit and user.",
)
reports = click.option(
    "--report",
    multiple=True,
    metavar="FILE",
    help=f"Write a report to FILE, in the format of its ending: {', '.join(REPORT_FORMATS)}. Repeatable.",
)
metrics = click.option(
    "--metrics",
    metavar="FILE",
    callback=_metrics_file,
    help="Write metrics to FILE, which ends in .prom, in Prometheus' text format.",
)
notify_env = click.option(
    "--notify-env",
    multiple=True,
    metavar="VARIABLE",
    callback=_addresses,
    is_eager=True,  # read before errors in other options, which are sent too
    help="Send a summary to the address in this environment variable: Slack, Teams, mail or a webhook. Repeatable.",
)
monitoring = combine(metrics, notify_env)

output_options = combine(color, quiet, verbose)
"""Options of every command that prints a result."""
stdin_root = click.option(
    "--root",
    metavar="FOLDER",
    help="With manifests from stdin (-): paths in them are relative to FOLDER, and the target is in it or above it.",
)
_input_options = combine(stdin_root, labels, only, exclude, trust_options, format_option)
_selection_options = combine(target, _input_options)
manifest_options = combine(paths, _selection_options)
"""Options of every command that reads manifests and connects to the service."""
targets_options = combine(paths, targets, _input_options)
"""Options of every command that reads manifests and works on several targets: see :func:`targets_of`."""
model_options = combine(paths, target, trust_options, format_option, output_options)
"""Options of every command that may connect to the service, but selects no manifests by label."""
_model_options = combine(target, trust_options, format_option, output_options)
optional_model_options = combine(click.argument("paths", nargs=-1, metavar="[NAMES]... [PATHS]..."), _model_options)
"""Options of history."""
named_model_options = combine(
    click.argument("paths", nargs=-1, required=True, metavar="NAME... [PATHS]..."), _model_options
)
"""Options of commands for one or several models."""
forget_options = combine(click.argument("paths", nargs=-1, metavar="[NAME]... [PATHS]..."), _model_options)
"""Options of forget."""
adopt_options = combine(
    click.argument("paths", nargs=-1, required=True, metavar="NAME REMOTE [NAME REMOTE]... [PATHS]..."), _model_options
)
"""Options of adopt."""
run_options = combine(manifest_options, output_options, reports, monitoring)
"""Options of plan, apply and wait."""
named_run_options = combine(
    click.argument("paths", nargs=-1, metavar="[NAMES]... [PATHS]..."), _selection_options, output_options, reports
)
"""Options of prune."""
training_options = combine(retry, replace)
"""Options of plan and apply."""


def input_of(values: dict[str, Any], *, model_details: bool = False) -> CommandInput:
    """Take the options that select manifests out of a command's values."""
    by_name = "only" in values
    selection = Selection(
        labels=tuple(chain.from_iterable(values.pop("label", ()))),
        only=frozenset(values.pop("only", ())),
        exclude=frozenset(values.pop("exclude", ())),
    )
    paths, stdin_folder = tuple(values.pop("paths")), values.pop("root", None)
    if stdin_folder and STDIN not in paths:
        raise UsageError("--root requires manifests from stdin", "pass - to read stdin, or the path of the root alone")
    return CommandInput(
        paths=paths,
        target=values.pop("target"),
        selection=selection,
        by_name=by_name,
        allow_endpoints=frozenset(values.pop("allow_endpoint", ())),
        allow_folders=frozenset(map(Path.absolute, values.pop("allow_folder", ()))),
        model_details=model_details,
        stdin_folder=stdin_folder,
    )


def targets_of(values: dict[str, Any]) -> tuple[str, ...]:
    """Take the names of the targets out of a command's values; empty for the default target."""
    named: tuple[str, ...] | str | None = values["target"]
    values["target"] = None
    return named if isinstance(named, tuple) else (named,) if named else ()


def split_names(arguments: Sequence[str], cwd: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of models and the paths among arguments; what exists below ``cwd`` is a path."""
    names = frozenset(
        argument
        for argument in arguments
        if re.fullmatch(NAME_PATTERN, argument) and not os.path.lexists(cwd / argument)
    )
    return names, tuple(argument for argument in arguments if argument not in names)


def leading_names(arguments: Sequence[str], cwd: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of models and the paths among arguments; the first is a name even if it exists as a path."""
    names, paths = split_names(arguments[1:], cwd)
    return tuple(dict.fromkeys((arguments[0], *(name for name in arguments[1:] if name in names)))), paths


def one_name(names: Sequence[str], option: str) -> None:
    """Raise UsageError if an option that is about one model is given for several ``names``."""
    if len(names) > 1:
        raise UsageError(f"{option} is about one model, not {join_names(names)}", f"pass one NAME with {option}")


def leading_models(arguments: Sequence[str], cwd: Path) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return pairs of a name and a remote name, and the paths among arguments; the first two are always a pair."""
    name, *left = arguments
    if not left:
        raise UsageError(f"no model is given for {name}", "pass NAME REMOTE, as in adder tunedModels/my-model")
    models = [(name, left.pop(0))]
    while len(left) > 1 and not any(os.path.lexists(cwd / argument) for argument in left[:2]):
        models.append((left.pop(0), left.pop(0)))
    return models, tuple(left)


def require_compatible(*pairs: tuple[bool, str, str]) -> None:
    """Raise UsageError if two options were given that exclude each other; each pair says whether, and names both."""
    for given, option, other in pairs:
        if given:
            raise UsageError(f"{option} excludes {other}", "remove one of them")


def output_of(values: dict[str, Any], out: str | None = None) -> Output:
    """Take the output options out of a command's values; ``out`` is another file that the command writes."""
    output = Output(
        form=values.pop("format"),
        color=values.pop("color"),
        quiet=values.pop("quiet"),
        verbose=values.pop("verbose"),
        reports=check_reports(values.pop("report", ()), _other_files(values, out)),
        monitoring=_monitoring_of(values, click.get_current_context()),
        run=begin_run(click.get_current_context().find_object(Environment)),
    )
    if not output.quiet:
        _log_to_stderr()
    return output


def requested_output(command: click.Command, arguments: Sequence[str], parent: click.Context) -> tuple[Output, str]:
    """Return the output that the arguments of a failed command ask for, and the target's name, empty without one.

    Arguments that are invalid are skipped, and reports that must not be written.
    """
    context = command.make_context(
        command.name,
        [*arguments],
        parent,
        resilient_parsing=True,
        ignore_unknown_options=True,
        allow_extra_args=True,
    )
    values = context.params
    reports: tuple[str, ...] = ()
    for report in dict.fromkeys(values.get("report") or ()):
        with suppress(UsageError):
            reports = check_reports([*reports, report], _other_files(values, values.get("out")))
    named = values.get("target")
    name = ",".join(named) if isinstance(named, tuple) else named
    target = (name or DEFAULT) if "target" in values else ""
    form: Literal["text", "json"] = "json" if values.get("format") == "json" else "text"
    return Output(form=form, reports=reports, monitoring=_monitoring_of(values, context), run=begin_run()), target


def _other_files(values: dict[str, Any], out: str | None) -> dict[str, str | None]:
    """Return the files that a command writes besides its reports, by option."""
    return {"--events": values.get("events"), "--metrics": values.get("metrics"), "--out": out}


def request_of(values: dict[str, Any]) -> Request:
    """Take the requested trainings out of a command's values."""
    from reconciler.domain.plan import Request

    return Request(retry=frozenset(values.pop("retry", ())), replace=frozenset(values.pop("replace", ())))


class _StderrHandler(logging.Handler):
    """Writes to the current standard error, which a live display replaces for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(terminal_safe(self.format(record)), err=True)


def _log_to_stderr() -> None:
    """Print this package's log, such as retries; the HTTP library's log would print addresses with their queries."""
    handler = _StderrHandler()
    logger = logging.getLogger("reconciler")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    click.get_current_context().call_on_close(lambda: logger.removeHandler(handler))
