"""``reconcile models``: list the base models that can be tuned. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, RecordedProject, open_recorded
from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.ports import BaseModelList
from reconciler.environment import Environment
from reconciler.reports.documents.models import ModelsReport, models_report

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider


def models(environment: Environment, command_input: CommandInput, *, offline: bool) -> CommandResult[ModelsReport]:
    """Return the base models of the catalog, and unless ``offline`` those that the service lists as tunable.

    Raises:
        InvalidInput: with every problem of the target.
    """
    project = open_recorded(environment, command_input)
    listed, notices = (None, ()) if offline else _query(project)
    report = models_report(
        project.catalog,
        project.target,
        project.capabilities,
        environment.clock().date(),
        listed=listed,
        notices=notices,
        root=project.root,
    )
    return CommandResult(report)


def _query(project: RecordedProject) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return what the service lists as tunable, or why there is no list: the catalog is shown without it too."""
    label = project.capabilities.label

    async def work(service: ConnectedProvider) -> tuple[str, ...] | None:
        return await service.tunable() if isinstance(service, BaseModelList) else None

    try:
        listed = project.session.query(work)
    except (AccessError, ServiceError) as error:
        return None, (f"{label} was not queried for its base models: {error}",)
    if listed is None:
        return None, (f"{label} does not list which base models can be tuned; this is the catalog alone",)
    return listed, ()


@click.command("models", epilog=_options.examples("models", "models --target prod --offline", "models --format json"))
@_options.model_options
@click.option("--offline", is_flag=True, help="List the catalog, without contacting the service.")
@_options.environment
def command(environment: Environment, /, *, offline: bool, **values: Any) -> int:
    """List base models with locations, limits, price and retirement.

    The facts are from the dated catalog and, if credentials are available, from the service. With -v, also lists base
    models that cannot be tuned, and the source of the facts.
    """
    output = output_of(values)
    return output.finish(models(environment, input_of(values), offline=offline))
