"""``reconcile init``: write a project, and the pull-request workflow for CI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import click
from click.core import ParameterSource
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._new_manifest import (
    base_model_option,
    choose_service,
    data_file,
    data_options,
    default_path,
    show,
    with_fields,
)
from reconciler.commands._targets import target_names
from reconciler.domain.errors import InvalidInput, UsageError
from reconciler.domain.model import Target
from reconciler.environment import Environment
from reconciler.manifests.ci_workflows import Platform, Workflows, create_workflows
from reconciler.manifests.discovery import ALL_TARGETS, Root, find_root, target_file_name
from reconciler.manifests.scaffold import DataFile, Scaffold, Service, init, init_workflows
from reconciler.manifests.target import read_target
from reconciler.providers.registry import BUILT_IN

_FIELDS: Final = ("project", "location", "bucket")
_UNSHARED: Final = frozenset({"embedded", "local"})
"""The providers whose models are on one machine: jobs of CI do not share them."""


def scaffold(
    environment: Environment, *, data: DataFile | None, name: str | None, service: Service | None = None
) -> Scaffold:
    """Write a target and a first manifest into the working directory; overwrite nothing.

    Raises:
        AmbiguousFieldsError: when it is ambiguous which fields of the data set are inputs and outputs.
        InvalidInput: for problems of the data set.
        ReconcileError: when a file exists or cannot be written.
        UsageError: when ``name`` is invalid.
    """
    return init(environment.cwd, data=data, name=name, service=service or Service())


def scaffold_flow(
    environment: Environment, platform: Platform, *, targets: Sequence[str], project: Scaffold | None
) -> Scaffold:
    """Write the pull-request workflow for existing targets, or for the ``project`` that was written before.

    Without ``targets`` it is for every target of the root, except that models of the embedded service and of this
    machine need none if another target has a service that jobs share.

    Raises:
        InvalidInput: for problems of the target file.
        ReconcileError: when a file exists or cannot be written.
        UsageError: when there is no such target, or its lockfile is in a bucket.
    """
    flow = init_workflows(environment.cwd, _flow(environment, platform, targets))
    if project is None:
        return flow
    return replace(project, created=(*project.created, *flow.created), steps=flow.steps)


def _has_target(environment: Environment) -> bool:
    try:
        target_names(environment, ())
    except UsageError:
        return False
    return True


def _flow(environment: Environment, platform: Platform, names: Sequence[str]) -> Workflows:
    path = default_path(environment)
    known = target_names(environment, ())[1] if not names or ALL_TARGETS in names else tuple(dict.fromkeys(names))
    roots = [find_root(path, name, environment.cwd) for name in known]
    targets = [_target(environment, root, name) for root, name in zip(roots, known, strict=True)]
    shared = [target for target in targets if target.provider not in _UNSHARED]
    return create_workflows(platform, roots[0], targets if names or not shared else shared, environment.cwd)


def _target(environment: Environment, root: Root, name: str) -> Target:
    file = os.path.relpath(root.folder / target_file_name(name), environment.cwd)
    result = read_target(root, file, environment.environ)
    if result.target is None:
        raise InvalidInput(result.problems)
    return result.target


@click.command(
    "init",
    epilog=_options.examples(
        "init --from capitals.csv", "init --ci github", "init --ci github --target stage --target prod"
    ),
)
@click.option(
    "--from",
    "data",
    envvar="RECONCILE_INIT_FROM",
    metavar="FILE",
    help="Data set: a file, a folder with files for training, or hf://datasets/OWNER/NAME."
    " Its format and fields are recognized, and written into the"
    " manifest. Default: write a sample.",
)
@data_options
@click.option("--name", metavar="NAME", help="Name of the model. Default: the name of the data set.")
@click.option(
    "--provider",
    type=click.Choice(list(BUILT_IN)),
    help="Service that trains. Default: one that credentials are found for, otherwise the embedded service.",
)
@click.option("--project", metavar="PROJECT", help="Google Cloud project of the target, for Vertex AI.")
@click.option("--location", metavar="LOCATION", help="Region for tuning, for Vertex AI.")
@click.option("--bucket", metavar="gs://BUCKET", help="Bucket for the upload of data sets, for Vertex AI.")
@base_model_option
@click.option(
    "--ci",
    "platform",
    envvar="RECONCILE_INIT_CI",
    type=click.Choice(["github", "gitlab"]),
    help="Write the pull-request workflow for this platform: to a new project, or for an existing target.",
)
@click.option(
    "--target",
    envvar="RECONCILE_TARGET",
    multiple=True,
    metavar="NAME",
    help="With --ci: write the workflows of this target, or of all. Repeatable. Default: each target whose service jobs"
    " share.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    data: str | None,
    input_field: str | None,
    output_field: str | None,
    header: bool | None,
    name: str | None,
    provider: str | None,
    base_model: str | None,
    platform: Any,
    target: tuple[str, ...],
    **values: str | None,
) -> None:
    """Write a target and a first manifest here.

    Prints how the data set is read, the reasons for the provider and the base model, and the next steps. On a terminal,
    what the options leave open is a question. Overwrites nothing.
    """
    if not platform and click.get_current_context().get_parameter_source("target") is ParameterSource.COMMANDLINE:
        raise UsageError("--target needs --ci", "remove it, or add --ci github or --ci gitlab")
    fields = {field: value for field in _FIELDS if (value := values[field])}
    file = data_file(environment, data, (input_field, output_field), header=header)
    project: Scaffold | None = None
    notes: tuple[str, ...] = ()
    if not platform or (not target and not _has_target(environment)):
        chosen = choose_service(environment, provider=provider, fields=fields, base_model=base_model)
        notes = chosen.notes
        project = with_fields(
            (input_field, output_field),
            lambda fields: scaffold(
                environment,
                data=replace(file, fields=fields) if file else None,
                name=name,
                service=chosen.service,
            ),
        )
    elif file or name or provider or base_model or fields:
        raise UsageError("--from and --name need a new project, but a target exists", "remove them")
    result = scaffold_flow(environment, platform, targets=target, project=project) if platform else project
    if result:
        show(result, notes)
