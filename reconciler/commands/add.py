"""``reconcile add``: write a manifest for a data set into an existing project."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._new_manifest import (
    base_model_option,
    choose_base_model,
    data_file,
    data_options,
    default_path,
    show,
    with_fields,
)
from reconciler.commands._session import display_path
from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.domain.model import Target
from reconciler.environment import Environment
from reconciler.manifests.discovery import (
    DEFAULT,
    Root,
    discover,
    expand_lists,
    find_root,
    manifest_name,
    read,
    target_file_name,
)
from reconciler.manifests.scaffold import DataFile, Scaffold
from reconciler.manifests.scaffold import add as write_manifest
from reconciler.manifests.target import read_target
from reconciler.paths import repository_of
from reconciler.providers.registry import catalog_of


class Project:
    """An existing project: its root, its target, and where its manifests are.

    Raises:
        InvalidInput: with the problems of the target.
        UsageError: when there is no such target.
    """

    def __init__(self, environment: Environment, target: str) -> None:
        self.root: Root = find_root(default_path(environment), target, environment.cwd)
        shown = display_path(self.root.folder / target_file_name(target), environment.cwd)
        result = read_target(self.root, shown, environment.environ)
        if result.target is None:
            raise InvalidInput(result.problems)
        self.target: Target = result.target
        self.declared: dict[str, Path] = {}
        repository = repository_of(self.root.folder)
        for file in discover([str(self.root.folder)], environment.cwd, target_file_name(target)):
            for document in expand_lists(read(file.path, file.shown, repository).documents):
                if name := manifest_name(document):
                    self.declared[name] = file.path

    @property
    def folder(self) -> Path:
        """The folder with most of the manifests, the first one in alphabetical order; the root without manifests."""
        folders = Counter(sorted(file.parent for file in self.declared.values()))
        return folders.most_common(1)[0][0] if folders else self.root.folder


def add(environment: Environment, project: Project, name: str, *, data: DataFile, base_model: str) -> Scaffold:
    """Write a manifest for a data set beside the manifests of the project; overwrite nothing.

    Raises:
        AmbiguousFieldsError: when it is ambiguous which fields of the data set are inputs and outputs.
        InvalidInput: for problems of the data set.
        ReconcileError: when a manifest of that name exists, or its file cannot be written.
        UsageError: when the name is invalid.
    """
    if name in project.declared:
        shown = display_path(project.declared[name], environment.cwd)
        raise ReconcileError(f"{shown} already declares {name}, so nothing was written", "choose another name")
    return write_manifest(
        environment.cwd,
        root=project.root.folder,
        folder=project.folder,
        target=project.target,
        name=name,
        data=data,
        base_model=base_model,
    )


@click.command(
    "add", epilog=_options.examples("add faq --from faq.csv", "add faq --from faq.csv --input question --output answer")
)
@click.argument("name")
@click.option(
    "--from",
    "data",
    required=True,
    metavar="FILE",
    help="Data set: a file, a folder with files for training, or hf://datasets/OWNER/NAME."
    " Its format and fields are recognized, and written into the"
    " manifest.",
)
@data_options
@base_model_option
@_options.target
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    name: str,
    data: str,
    input_field: str | None,
    output_field: str | None,
    header: bool | None,
    base_model: str | None,
    target: str | None,
) -> None:
    """Write a manifest for NAME, which is trained on FILE.

    The manifest is written beside the existing ones. FILE is used where it is; if it is outside the repository, it is
    copied. Prints how it is read, with the first example. Overwrites nothing.
    """
    file = data_file(environment, data, (input_field, output_field), header=header)
    if file is None:
        raise UsageError("a manifest needs a data set", "add --from FILE")
    project = Project(environment, target or DEFAULT)
    catalog = catalog_of(project.target, project.root.folder)
    chosen, notes = choose_base_model(environment, catalog, project.target, base_model)
    made = with_fields(
        file.fields,
        lambda fields: add(environment, project, name, data=replace(file, fields=fields), base_model=chosen),
    )
    show(made, notes)
