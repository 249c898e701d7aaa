"""The command that tells what became of a manifest over time. It reads files and git, and asks no service."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project, unknown_name
from reconciler.domain.lock import LockedModel
from reconciler.environment import Environment
from reconciler.manifests.git.dataset_history import Recorded, examples_at_hand
from reconciler.planning.history import history_of
from reconciler.planning.redaction import discreet_entry
from reconciler.reports.documents.history import History, history_document, history_text


def history(env: Environment, what: CommandInput, name: str) -> CommandResult:
    """Every recorded generation of a manifest, and what changed from each to the next.

    Raises:
        ReconcileError: when neither a manifest nor the lockfile knows that name.
    """
    project = open_project(env, what, strict=False)
    declared = next((one.file for one in project.manifests if one.name == name), None)
    model = project.lock.models.get(name) or (LockedModel(declared) if declared else None)
    if model is None:
        raise unknown_name(project, name, f"{name} has no history")
    files = tuple(dict.fromkeys(file for file in (declared, model.manifest) if file))
    recorded = Recorded(project.workspace.root, name, files, model.generations)
    with examples_at_hand(recorded, env.environ) as examples:
        entries = history_of(model, examples)
        shown = entries if project.target.show_examples else tuple(map(discreet_entry, entries))
        told = History(name, declared or model.manifest, shown)
    return CommandResult(
        history_document(told, project.target, project.capabilities, project.lockfile, root=project.root)
    )


@click.command("history")
@click.argument("name")
@_options.paths
@_options.target
@_options.allow_endpoint
@_options.format_option
@_options.output_options
@_options.environment
def command(env: Environment, /, name: str, **values: Any) -> int:
    """Show the generations of NAME, newest first, and what changed between them. Asks no service.

    Examples that were added, removed and changed are counted where the old data set still stands in the files or in the
    git history; -v shows some of them.
    """
    output = output_of(values)
    answer = history(env, input_of(values), name)
    output.result(
        answer.document,
        lambda style, width: history_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status
