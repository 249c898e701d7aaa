"""``reconcile history``: show the generations of a model and what changed between them. Reads files and git only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, RecordedProject, open_project, open_recorded
from reconciler.commands._targets import finish_models
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.lock import Decision, LockedModel
from reconciler.environment import Environment
from reconciler.manifests.dataset_history import RecordedData, find_examples
from reconciler.planning.hidden_examples import redact_history
from reconciler.planning.history import HistoryEntry, decisions_about, list_history
from reconciler.providers.registry import is_installed
from reconciler.reports.documents.history import HistoryReport, history_report


def history(environment: Environment, command_input: CommandInput, name: str) -> CommandResult[HistoryReport]:
    """Return every recorded generation of a manifest, what changed from each to the next, and who decided what.

    Without a name, return the decisions about all models.

    Raises:
        ReconcileError: when the name is neither declared nor recorded.
    """
    project = open_recorded(environment, command_input)
    if not name:
        return CommandResult(_report(project, "", "", (), project.lock.history))
    manifest = None
    if is_installed(project.target.provider):
        project = open_project(environment, command_input, strict=False)
        manifest = project.manifest(name)
    declared = manifest.file if manifest else None
    model = project.lock.models.get(name) or (LockedModel(declared) if declared else None)
    decisions = decisions_about(project.lock.history, manifest.names if manifest else (name,))
    if model is None and any(decision.model == name for decision in decisions):  # it is no longer managed
        return CommandResult(_report(project, name, "", (), decisions))
    if model is None:
        raise project.unknown_name(name)
    files = tuple(dict.fromkeys(file for file in (declared, model.manifest) if file))
    recorded = RecordedData(project.session.root, name, files, model.generations)
    with find_examples(recorded, environment.environ) as examples:
        generations = list_history(model, examples)
        if not project.target.show_examples:
            generations = tuple(map(redact_history, generations))
        report = _report(project, name, declared or model.manifest, generations, decisions)
    return CommandResult(report)


def _report(
    project: RecordedProject,
    name: str,
    manifest: str,
    generations: Sequence[HistoryEntry],
    decisions: tuple[Decision, ...],
) -> HistoryReport:
    return history_report(
        name,
        manifest,
        generations,
        project.target,
        project.capabilities,
        project.lockfile,
        root=project.root,
        decisions=decisions,
        lock=project.lock,
    )


@click.command("history", epilog=_options.examples("history adder", "history adder words", "history"))
@_options.optional_model_options
@_options.environment
def command(environment: Environment, /, **values: Any) -> int:
    """Show the generations of NAMES, what changed, and who decided what. Offline.

    The newest generation comes first. Counts added, removed and changed examples if the files or the git history still
    have the old data set. With -v, shows some of these examples. Then come the decisions that the lockfile records:
    who promoted, rolled back, adopted, forgot or pruned, when and why. Without NAME, shows the decisions about all
    models; an argument that cannot be a name, such as ./specs, is a path.
    """
    output = output_of(values)
    names: tuple[str, ...] = ("",)
    if values["paths"] and re.fullmatch(NAME_PATTERN, values["paths"][0]):
        names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    given = input_of(values)
    return finish_models(output, given, names, lambda name: history(environment, given, name), "history")
