"""``reconcile validate``: report every problem of the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of, targets_of
from reconciler.commands._project import CommandInput, CommandResult, Project, load_project, read_workspace
from reconciler.commands._targets import finish_targets
from reconciler.domain.errors import ExitStatus, InvalidInput, Problem, ReconcileError, UsageError
from reconciler.domain.model import Manifest
from reconciler.domain.text import join_names, suggest
from reconciler.environment import Environment
from reconciler.providers.registry import capabilities_of, catalog_of
from reconciler.reports.documents.doctor import (
    EffectiveManifest,
    OverriddenField,
    ValidationReport,
    validation_report,
)

if TYPE_CHECKING:
    from reconciler.manifests.workspace import Workspace


def validate(
    environment: Environment,
    command_input: CommandInput,
    *,
    locked: bool,
    base: str | None = None,
    allow_decisions: bool = False,
    verbose: bool = False,
    show: tuple[str, ...] = (),
) -> CommandResult[ValidationReport]:
    """Return every problem of the input; with ``locked``, also manifests without a ready recorded generation.

    ``show`` are the names of manifests that the result has as the target has them.

    With ``base``, a commit, also the changes of the lockfile since then that no manifest explains, and changed
    decisions; the latter are warnings with ``allow_decisions``. With ``verbose``, also the manifests that are not read.

    Raises:
        UsageError: when git has no commit ``base``.
        ReconcileError: when the commit or its lockfile cannot be read, or with ``locked`` when models are recorded and
            there is no manifest at all.
    """
    try:
        workspace = read_workspace(environment, command_input)
    except InvalidInput as error:
        return CommandResult(validation_report(error.problems, 0, 0), ExitStatus.ERROR)
    effective = tuple(_effective(workspace, name) for name in dict.fromkeys(show))
    if workspace.errors:
        count = len(workspace.manifests)
        document = validation_report(workspace.problems, workspace.files, count, effective=effective)
        return CommandResult(document, ExitStatus.ERROR)
    selected = command_input.selection.select(workspace.manifests, workspace.unselected)
    unready: Iterable[Problem] = ()
    if locked:
        from reconciler.planning.lock_review import verify_locked

        project = load_project(environment, workspace, command_input)
        project.require_manifests()
        unready = verify_locked(project.manifests, project.target.scope, project.lock, project.lockfile)
        if base is not None:
            unready = (*unready, *_lock_problems(project, base, allow_decisions=allow_decisions))
    unread: tuple[str, ...] = ()
    if verbose:
        from reconciler.manifests.unread import find_unread

        unread = find_unread(workspace, {}, environment.environ).files
    warnings = _catalog_warnings(environment, workspace, selected)
    problems = [*workspace.problems, *warnings, *unready]
    document = validation_report(problems, workspace.files, len(selected), unread, effective)
    return CommandResult(document, ExitStatus.OK if document.valid else ExitStatus.ERROR)


def _effective(workspace: Workspace, name: str) -> EffectiveManifest:
    """Return a manifest as the target has it; raise UsageError if the target selects no manifest of that name."""
    from reconciler.manifests.overlay import changed_fields
    from reconciler.planning.hidden_examples import hide_examples

    document = workspace.documents.get(name)
    if document is None and name in workspace.unselected:
        file = workspace.unselected[name].file
        raise UsageError(f"--show {name}: the target does not select the manifest in {file}", "name another target")
    if document is None:
        known = sorted(workspace.documents)
        remedy = suggest(name, known, otherwise=f"the manifests are: {join_names(known)}")
        raise UsageError(f"--show {name}: no manifest of that name", remedy)
    return EffectiveManifest(
        name=name,
        file=document.file,
        overridden=tuple(OverriddenField(path, str(place)) for path, place in changed_fields(document)),
        manifest=document.value if workspace.target.show_examples else hide_examples(document.value),
    )


def _catalog_warnings(
    environment: Environment, workspace: Workspace, manifests: Iterable[Manifest]
) -> Iterator[Problem]:
    """Yield the warnings about the base models of the manifests."""
    from reconciler.planning.model_catalog import CatalogContext, catalog_warnings

    target = workspace.target
    context = CatalogContext(
        catalog=catalog_of(target, workspace.root),
        today=environment.clock().date(),
        location=target.location,
        encrypted=capabilities_of(target).encrypted,
    )
    for manifest in manifests:
        yield from catalog_warnings(manifest, context)


def _lock_problems(project: Project, base: str, *, allow_decisions: bool) -> Iterator[Problem]:
    from reconciler.commands._lock_review import review_project
    from reconciler.manifests.git import IncomparableError

    try:
        return review_project(project, base).problems(allow_decisions=allow_decisions)
    except IncomparableError as error:
        raise ReconcileError(f"the lockfile cannot be compared with {base}: {error}", error.remedy) from error


@click.command(
    "validate",
    epilog=_options.examples(
        "validate", "validate specs --target dev --show adder", "validate specs --locked --base origin/main"
    ),
)
@_options.targets_options
@_options.output_options
@click.option("--locked", is_flag=True, help="Also fail if the lockfile lacks a ready generation for a manifest.")
@click.option(
    "--base",
    metavar="REF",
    help="With --locked, also fail if the lockfile differs from that of this git branch or commit in a way that no"
    " manifest change explains. The comparison is with the common ancestor of REF and HEAD.",
)
@click.option(
    "--allow-decisions",
    is_flag=True,
    help="With --base, allow changed decisions: serving, rejected, protected, adopted and removed generations.",
)
@click.option(
    "--show",
    multiple=True,
    metavar="NAME",
    help="Also print the manifest NAME with the overrides and variables of the target, as YAML. Repeatable.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    locked: bool,
    base: str | None,
    allow_decisions: bool,
    show: tuple[str, ...],
    **values: Any,
) -> int:
    """Check manifests, target and data sets. Offline.

    Reports every problem at once, and with -v the manifests below the root that are not read.
    """
    output, names = output_of(values), targets_of(values)
    if base is not None and not locked:
        raise UsageError("--base requires --locked", "add --locked")
    if allow_decisions and base is None:
        raise UsageError("--allow-decisions requires --base", "add --base REF")
    command_input = input_of(values)

    def run(command_input: CommandInput) -> CommandResult[ValidationReport]:
        return validate(
            environment,
            command_input,
            locked=locked,
            base=base,
            allow_decisions=allow_decisions,
            verbose=bool(output.verbose),
            show=show,
        )

    return finish_targets(environment, output, command_input, names, run, "validate")
