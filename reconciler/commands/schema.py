"""``reconcile schema``: print JSON Schemas."""

from __future__ import annotations

import json
from typing import Final

import click

from reconciler.manifests.schema_validation import SCHEMA_KINDS, schema_text, with_providers, with_records

_WITH_PROVIDERS: Final = {"Target": with_providers, "Lock": with_records}


def printed_schema(kind: str) -> str:
    """Return the JSON Schema of a kind as text; Target and Lock have the types of installed providers."""
    if kind not in _WITH_PROVIDERS:
        return schema_text(kind).rstrip()
    from reconciler.providers.registry import provider_names, provider_spec

    schema = _WITH_PROVIDERS[kind](json.loads(schema_text(kind)), map(provider_spec, provider_names()))
    return json.dumps(schema, indent=2, ensure_ascii=False)


@click.command("schema")
@click.argument("kind", required=False)
def command(kind: str | None) -> None:
    """Print the JSON Schema of a kind of document.

    Without KIND, lists the kinds. The schemas of Target and Lock include the providers of installed packages.
    """
    click.echo(printed_schema(kind) if kind else "\n".join(SCHEMA_KINDS))
