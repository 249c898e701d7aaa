"""``reconcile schema``: print JSON Schemas, and the configuration for kustomize."""

from __future__ import annotations

import click

from reconciler.commands._options import require_compatible
from reconciler.manifests.schema_validation import SCHEMA_KINDS, full_schema_text, kustomize_configuration


@click.command("schema")
@click.argument("kind", required=False)
@click.option(
    "--kustomize",
    is_flag=True,
    help="Print a configuration for kustomize, with which namePrefix and nameSuffix change references too.",
)
def command(kind: str | None, *, kustomize: bool) -> None:
    """Print the JSON Schema of a kind of document.

    Without KIND, lists the kinds. The schemas of Target and Lock include the providers of installed packages.
    """
    if kustomize:
        require_compatible((kind is not None, "--kustomize", "KIND"))
        click.echo(kustomize_configuration().rstrip())
        return
    click.echo(full_schema_text(kind) if kind else "\n".join(SCHEMA_KINDS))
