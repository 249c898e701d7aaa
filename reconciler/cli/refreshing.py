"""refresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconciler.app import refreshing
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.core.problems import ExitStatus, UsageError
from reconciler.render.refresh import refresh_text
from reconciler.render.safe import terminal_safe

_VERSION = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@options.paths
@options.target
@options.allow_endpoint
@options.document_format
@options.voice
@click.option("--check", is_flag=True, help="Write nothing, and exit with 2 when something would be written.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and show what would be.")
@click.option(
    "--merge",
    nargs=3,
    type=_VERSION,
    metavar="BASE OURS THEIRS",
    help="Be git's merge driver (%O %A %B): unite three versions of a lockfile, and write the result over OURS.",
)
@options.environment
def refresh(
    env: Environment, /, *, check: bool, dry_run: bool, merge: tuple[Path, Path, Path] | None, **values: Any
) -> int:
    """Rebuild the lockfile from manifests and service, and unite both sides of a merge that git left in it.

    What is recorded is brought up to date, generations of ours are taken up by their marks, and what is gone becomes
    MISSING; what serves stays. Changes the lockfile alone.
    """
    output = output_of(values)
    if merge:
        if check or dry_run or values["paths"]:
            raise UsageError("--merge takes three files and nothing else", "leave --check, --dry-run and PATHS out")
        notes = refreshing.merge_files(*merge).notes
        output.say(lambda style, _: "\n".join(f"{style('warning', 'note:')} {terminal_safe(note)}" for note in notes))
        return ExitStatus.OK
    answer = refreshing.refresh(env, input_of(values), check=check, write=not (check or dry_run))
    output.warn(answer.warnings)
    output.result(answer.document, lambda style, width: refresh_text(answer.document, width=width, style=style))
    return answer.exit_status
