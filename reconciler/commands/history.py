"""``reconcile history``: show the generations of a model and what changed between them. Reads files and git only."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project, open_recorded
from reconciler.domain.lock import LockedModel
from reconciler.environment import Environment
from reconciler.manifests.dataset_history import RecordedData, find_examples
from reconciler.planning.hidden_examples import redact_history
from reconciler.planning.history import list_history
from reconciler.providers.registry import is_installed
from reconciler.reports.documents.history import HistoryReport, history_report


def history(environment: Environment, command_input: CommandInput, name: str) -> CommandResult[HistoryReport]:
    """Return every recorded generation of a manifest, and what changed from each to the next.

    Raises:
        ReconcileError: when the name is neither declared nor recorded.
    """
    project = open_recorded(environment, command_input)
    manifest = None
    if is_installed(project.target.provider):
        project = open_project(environment, command_input, strict=False)
        manifest = project.manifest(name)
    declared = manifest.file if manifest else None
    model = project.lock.models.get(name) or (LockedModel(declared) if declared else None)
    if model is None:
        raise project.unknown_name(name)
    files = tuple(dict.fromkeys(file for file in (declared, model.manifest) if file))
    recorded = RecordedData(project.session.root, name, files, model.generations)
    with find_examples(recorded, environment.environ) as examples:
        generations = list_history(model, examples)
        if not project.target.show_examples:
            generations = tuple(map(redact_history, generations))
        report = history_report(
            name,
            declared or model.manifest,
            generations,
            project.target,
            project.capabilities,
            project.lockfile,
            root=project.root,
        )
    return CommandResult(report)


@click.command("history")
@click.argument("name")
@_options.model_options
@_options.environment
def command(environment: Environment, /, name: str, **values: Any) -> int:
    """Show the generations of NAME, and what changed. Offline.

    The newest generation comes first. Counts added, removed and changed examples if the files or the git history still
    have the old data set. With -v, shows some of these examples.
    """
    output = output_of(values)
    return output.finish(history(environment, input_of(values), name))
