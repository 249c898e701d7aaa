"""``reconcile schema``: print JSON Schemas."""

from __future__ import annotations

import json
from typing import Final

import click

from reconciler.manifests.schema_validation import SCHEMA_KINDS, schema_text, with_providers

_TARGET: Final = "Target"


def printed_schema(kind: str) -> str:
    """Return the JSON Schema of a kind as text; that of targets has the settings of every installed provider."""
    if kind != _TARGET:
        return schema_text(kind).rstrip()
    from reconciler.providers.registry import provider_names, provider_spec

    schema = with_providers(json.loads(schema_text(kind)), map(provider_spec, provider_names()))
    return json.dumps(schema, indent=2, ensure_ascii=False)


@click.command("schema")
@click.argument("kind", required=False)
def command(kind: str | None) -> None:
    """Print the JSON Schema of a kind of document.

    Without KIND, lists the kinds. The schema of Target includes the providers of installed packages.
    """
    click.echo(printed_schema(kind) if kind else "\n".join(SCHEMA_KINDS))
