"""``reconcile migrate``: move manifests to the successors of their base models. Changes manifests only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._session import display_path
from reconciler.domain.errors import ExitStatus, Problem, ReconcileError
from reconciler.domain.model import FieldPlace, Target
from reconciler.environment import Environment
from reconciler.files import check_writable, write_errors, write_file
from reconciler.manifests.discovery import STDIN, check_names
from reconciler.manifests.yaml_edit import Edit, ImpossibleEdit, edited
from reconciler.planning.migration import Migration, change_id, migration_of, unless_suspended
from reconciler.planning.model_catalog import CatalogContext
from reconciler.reports.documents.models import (
    BaseModelChange,
    EditedField,
    EditedFile,
    MigrationReport,
    ModelMigration,
)


class _Rewrite(Struct, frozen=True):
    """A file of manifests, before and after its edits, without those of manifests that are refused, by name."""

    path: Path
    before: bytes
    after: bytes
    refused: Mapping[str, str] = {}


def migrate(
    environment: Environment, command_input: CommandInput, names: Collection[str], *, write: bool
) -> CommandResult[MigrationReport]:
    """Set the successors of base models in manifests, and the hyperparameters that these support.

    Without ``names``, it takes the manifests whose base model is retired or is retired within 90 days, according to the
    catalog. If one manifest cannot be changed, nothing is written. The service is not contacted.

    Raises:
        InvalidInput: for problems of the manifests.
        UsageError: when no manifest has one of the names.
        ReconcileError: when a file cannot be read or written.
    """
    project = open_project(environment, command_input)
    check_names("migrate", names, project.manifests)
    named = command_input.selection.only | set(names)
    context = CatalogContext(
        project.catalog, environment.clock().date(), project.target.location, project.capabilities.encrypted
    )
    found = [migration_of(manifest, context) for manifest in project.manifests]
    chosen = [migration for migration in found if migration.manifest.name in named]
    if not named:
        chosen = [
            _without_need(unless_suspended(migration, environment.clock())) for migration in found if migration.is_due
        ]
    rewrites = [_rewrite(project, list(group)) for _, group in groupby(sorted(chosen, key=_file_of), key=_file_of)]
    changed = [rewrite for rewrite in rewrites if rewrite.after != rewrite.before]
    refused = {name: why for rewrite in rewrites for name, why in rewrite.refused.items()}
    if write and not refused:
        _write(changed, environment.cwd)
    report = MigrationReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        as_of=project.catalog.as_of,
        exit_status=ExitStatus.ERROR if refused else ExitStatus.OK,
        written=write and not refused and bool(changed),
        models=tuple(_model(migration, refused.get(migration.manifest.name, "")) for migration in chosen),
        changes=tuple(_changes(chosen, refused)),
        files=tuple(_edited_file(rewrite, environment.cwd, project.target) for rewrite in changed),
    )
    return CommandResult(report, report.exit_status, project.workspace.problems)


def _without_need(migration: Migration) -> Migration:
    """Return the migration of a manifest that was not named: the catalog need not have a successor."""
    return replace(migration, is_needed=migration.is_needed and not migration.obstacle)


def _file_of(migration: Migration) -> str:
    return migration.manifest.file


def _rewrite(project: Project, migrations: Sequence[Migration]) -> _Rewrite:
    """Return the manifests of one file with their edits, without those that are refused."""
    file, shown = migrations[0].manifest.file, migrations[0].manifest.place.file
    path = project.workspace.root / file
    refused = {
        migration.manifest.name: str(_obstacle(migration))
        for migration in migrations
        if migration.obstacle and migration.is_needed
    }
    left = {migration.manifest.name: _edits_of(migration) for migration in migrations if migration.edits}
    overridden = {migration.manifest.name: problem for migration in migrations for problem in _set_by_target(migration)}
    refused |= {name: str(problem) for name, problem in overridden.items()}
    left = {name: edits for name, edits in left.items() if name not in overridden}
    if file == STDIN:
        refused |= dict.fromkeys(left, "standard input cannot be changed; pass the file of the manifest")
        return _Rewrite(path, b"", b"", refused)
    try:
        before = path.read_bytes()
    except OSError as error:
        raise ReconcileError(f"cannot read {shown}: {error.strerror}", "check its permissions") from error
    while left:
        try:
            after = edited(before, shown, [edit for edits in left.values() for edit in edits])
            return _Rewrite(path, before, after, refused)
        except ImpossibleEdit as error:
            refused[error.name] = str(error.problem)
            del left[error.name]
    return _Rewrite(path, before, before, refused)


def _obstacle(migration: Migration) -> Problem:
    manifest = migration.manifest
    location = manifest.field_places.get("baseModel") or FieldPlace(manifest.place, "spec")
    return Problem(location.place, location.path, migration.obstacle, migration.remedy)


def _set_by_target(migration: Migration) -> Iterator[Problem]:
    """Yield an error for each edit of a field that the target sets: the manifest does not have its value."""
    for edit in migration.edits:
        place, path = migration.manifest.field_places[edit.field].place, _path_of(migration, edit.field)
        if place.file != migration.manifest.place.file:
            yield Problem(place, path, "the target sets this field", f"set it to {edit.after} there")


def _edits_of(migration: Migration) -> list[Edit]:
    return [
        Edit(migration.manifest.name, tuple(_path_of(migration, edit.field).split(".")), edit.after, edit.renamed)
        for edit in migration.edits
    ]


def _path_of(migration: Migration, field: str) -> str:
    return migration.manifest.field_places[field].path


def _write(rewrites: Sequence[_Rewrite], cwd: Path) -> None:
    """Write all files, or none: those that were written are restored if another one cannot be written."""
    for rewrite in rewrites:
        with write_errors(display_path(rewrite.path, cwd)):
            check_writable(rewrite.path)
    for position, rewrite in enumerate(rewrites):
        try:
            with write_errors(display_path(rewrite.path, cwd)):
                write_file(rewrite.path, rewrite.after)
        except ReconcileError:
            for written in rewrites[:position]:
                with suppress(OSError):  # the first error has the reason
                    write_file(written.path, written.before)
            raise


def _model(migration: Migration, refusal: str) -> ModelMigration:
    manifest = migration.manifest
    outcome: Literal["changed", "unchanged", "refused"] = "changed" if migration.edits else "unchanged"
    message = f"{migration.obstacle}; {migration.remedy}" if migration.obstacle else ""
    return ModelMigration(
        name=manifest.name,
        manifest=manifest.file,
        line=manifest.place.line,
        outcome="refused" if refusal else outcome,
        base_model=migration.base_model,
        successor=migration.successor,
        retirement=migration.retirement,
        edits=tuple(
            EditedField(
                field=manifest.field_places[edit.field].path,
                line=manifest.field_places[edit.field].place.line,
                before=edit.before,
                after=edit.after,
                renamed=edit.renamed,
            )
            for edit in migration.edits
        ),
        message=refusal or message,
        notes=migration.notes,
    )


def _changes(migrations: Sequence[Migration], refused: Collection[str]) -> Iterator[BaseModelChange]:
    """Yield the changes of base models, without those of which a manifest is refused."""
    ordered = sorted(
        (migration for migration in migrations if migration.edits), key=lambda migration: migration.base_model
    )
    for base_model, group in groupby(ordered, key=lambda migration: migration.base_model):
        members = list(group)
        names = tuple(migration.manifest.name for migration in members)
        if not set(names) & set(refused):
            yield BaseModelChange(
                id=change_id(base_model, members), base_model=base_model, successor=members[0].successor, names=names
            )


def _edited_file(rewrite: _Rewrite, cwd: Path, target: Target) -> EditedFile:
    """Return the differences of a file, unless they may contain examples that must not be shown."""
    shown = display_path(rewrite.path, cwd)
    if not target.show_examples:
        return EditedFile(file=shown)
    before, after = (
        data.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
        for data in (rewrite.before, rewrite.after)
    )
    return EditedFile(file=shown, diff="\n".join(unified_diff(before, after, f"a/{shown}", f"b/{shown}", lineterm="")))


@click.command("migrate", epilog=_options.examples("migrate --dry-run", "migrate number-generator"))
@_options.named_run_options
@click.option("--dry-run", is_flag=True, help="Write nothing. Show what would be changed.")
@_options.environment
def command(environment: Environment, /, *, dry_run: bool, **values: Any) -> int:
    """Move manifests to the successors of their base models.

    Writes the successor that the model catalog names into each manifest, and the nearest values of hyperparameters that
    it supports. Without NAMES, takes the manifests whose base model is retired, or is retired within 90 days. An
    argument that exists as a path is a path. If one manifest cannot be changed, nothing is written.

    Changes nothing but these values, and does not contact the service. The next plan trains a new generation beside the
    serving one.
    """
    output = output_of(values)
    names, values["paths"] = _options.split_names(values["paths"], environment.cwd)
    return output.finish(migrate(environment, input_of(values), names, write=not dry_run))
