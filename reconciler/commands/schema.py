"""``reconcile schema``: print JSON Schemas."""

from __future__ import annotations

import click

from reconciler.manifests.schema_validation import SCHEMA_KINDS, full_schema_text


@click.command("schema")
@click.argument("kind", required=False)
def command(kind: str | None) -> None:
    """Print the JSON Schema of a kind of document.

    Without KIND, lists the kinds. The schemas of Target and Lock include the providers of installed packages.
    """
    click.echo(full_schema_text(kind) if kind else "\n".join(SCHEMA_KINDS))
