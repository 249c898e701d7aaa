"""``reconcile emulator``: serve the embedded service on a port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.commands import _options
from reconciler.commands._output import Output
from reconciler.domain.endpoints import is_loopback
from reconciler.environment import Environment
from reconciler.providers.embedded import ServerOptions, serve

if TYPE_CHECKING:
    from reconciler.emulator.faults import Faults


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 selects a free port.")
@click.option("--store", type=click.Path(path_type=Path), metavar="FILE", help="Store the models in this SQLite file.")
@click.option(
    "--world",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Start with the models of this file, a saved tunedModels list.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Answer some requests wrongly, as the rules in FILE state.",
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Duration of a simulated training step.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Accept requests for this host name too. Default: loopback names and --host.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    host: str,
    port: int,
    store: Path | None,
    world: Path | None,
    faults: Path | None,
    step_seconds: float | None,
    allow_host: tuple[str, ...],
) -> None:
    """Serve the embedded service on a port.

    Any client can connect. Trainings are simulated. Without --store, the models are in memory and lost at the end.
    """
    rules = _read_faults(environment, faults) if faults else None
    if not is_loopback(host):
        Output().warning(f"listening on {host}: every machine that reaches this address can read and change the models")
    serve(
        environment,
        ServerOptions(store=store, world=world, step_seconds=step_seconds, hosts=allow_host, faults=rules),
        host=host,
        port=port,
        started=lambda url: click.echo(f"Embedded service (simulated training) on {url}"),
    )


def _read_faults(environment: Environment, path: Path) -> Faults:
    from reconciler.emulator.faults import Faults
    from reconciler.state.document_files import read_faults

    return read_faults(environment.cwd / path, str(path), Faults)
