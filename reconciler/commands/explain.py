"""``reconcile explain``: describe a field of a manifest or of a target, from the schemas."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any, Final

import click
from msgspec import Struct

from reconciler.commands import _options
from reconciler.commands._output import width_of
from reconciler.domain.errors import UsageError
from reconciler.domain.text import join_names, one_of, suggest
from reconciler.manifests.schema_validation import full_schema_text

Schema = Mapping[str, Any]
_KINDS: Final[Mapping[str, str]] = {"target": "Target", "tunedmodel": "TunedModel", "tunedmodels": "TunedModel"}
_PREFIXES: Final[Mapping[str, str]] = {"TunedModel": "", "Target": "target."}
"""What the paths of each kind begin with on the command line."""
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "minLength": "characters: at least {}",
    "maxLength": "characters: at most {}",
    "minItems": "items: at least {}",
    "maxItems": "items: at most {}",
    "pattern": "matches {}",
}


class _Field(Struct, frozen=True):
    """A field: its path, its node in the schema, and the whole schema, which has the definitions."""

    path: str
    node: Schema
    schema: Schema
    required: bool = False

    def children(self) -> Iterator[_Field]:
        node = self._resolved(self.node["items"]) if "items" in self.node else self.node
        for name, child in node.get("properties", {}).items():
            path = f"{self.path}.{name}" if self.path else name
            yield _Field(path, self._resolved(child), self.schema, name in node.get("required", ()))

    def below(self) -> Iterator[_Field]:
        """Yield the field and all fields below it."""
        yield self
        for child in self.children():
            yield from child.below()

    def _resolved(self, node: Schema) -> Schema:
        name = node.get("$ref", "").removeprefix("#/$defs/")
        return {**self.schema["$defs"][name], **node} if name else node

    @property
    def type(self) -> str:
        """The type as kubectl writes it, such as ``[]object``."""
        node = self.node
        if "const" in node:
            return json.dumps(node["const"])
        if "enum" in node:
            return {str: "string", bool: "boolean"}.get(type(node["enum"][0]), "number")
        if "items" in node:
            return f"[]{_Field('', self._resolved(node['items']), self.schema).type}"
        kinds = node.get("type", "any")
        if kinds == "object" and isinstance(node.get("additionalProperties"), dict):
            return "map"
        return kinds if isinstance(kinds, str) else one_of(kinds)


def explain(kind: str, path: str) -> str:
    """Return the description of a field of a kind of document; an empty path is the whole document.

    Raises:
        UsageError: when there is no such field; it names the most similar one.
    """
    found = _root(kind)
    for name in filter(None, re.sub(r"\[\w*\]", "", path).split(".")):
        children = {child.path.rpartition(".")[2]: child for child in found.children()}
        if name not in children:
            raise UsageError(f"unknown field {path} of {kind}", _suggestion(kind, found, path, name))
        found = children[name]
    return "\n".join(_lines(kind, found, width_of(sys.stdout)))


def _root(kind: str) -> _Field:
    schema = json.loads(full_schema_text(kind))
    return _Field("", schema, schema)


def _suggestion(kind: str, parent: _Field, path: str, name: str) -> str:
    """Return the remedy: the field of that name elsewhere, the most similar field, or those that exist there."""
    for other in sorted(_PREFIXES, key=lambda other: other != kind):
        elsewhere = [field.path for field in _root(other).below() if field.path.endswith(f".{name}")]
        if elsewhere:
            return f"did you mean {_PREFIXES[other]}{min(elsewhere, key=len)}?"
    prefix = _PREFIXES[kind]
    names = [child.path for child in parent.children()]
    listed = (
        f"its fields are: {join_names([known.rpartition('.')[2] for known in names])}" if names else "it has no fields"
    )
    return suggest(
        f"{parent.path}.{name}".lstrip("."),
        names,
        prefix=prefix,
        otherwise=suggest(path, (field.path for field in _root(kind).below()), prefix=prefix, otherwise=listed),
    )


def _lines(kind: str, field: _Field, width: int | None) -> Iterator[str]:
    yield f"KIND:     {kind}"
    if field.path:
        yield f"FIELD:    {field.path} <{field.type}>{' -required-' if field.required else ''}"
    yield from ("", "DESCRIPTION:", _folded(field.node.get("description", ""), "    ", width))
    values = list(_values(field.node))
    if values:
        yield from ("", "VALUES:", *(f"    {value}" for value in values))
    if field.node.get("examples") and "properties" not in field.node:
        yield from (
            "",
            "EXAMPLES:",
            *(f"    {json.dumps(value, ensure_ascii=False)}" for value in field.node["examples"]),
        )
    children = list(field.children())
    if children:
        yield from ("", "FIELDS:")
    for child in children:
        name = child.path.rpartition(".")[2]
        yield f"  {name} <{child.type}>{' -required-' if child.required else ''}"
        yield _folded(child.node.get("description", ""), "    ", width)


def _values(node: Schema) -> Iterator[str]:
    if node.get("default") not in (None, {}, [], ""):
        yield f"default: {json.dumps(node['default'], ensure_ascii=False)}"
    if "enum" in node:
        yield f"one of: {join_names([json.dumps(value, ensure_ascii=False) for value in node['enum']])}"
    for keyword, text in _BOUNDS.items():
        if keyword in node:
            yield text.format(node[keyword])


def _folded(text: str, indent: str, width: int | None) -> str:
    if width is None:
        return f"{indent}{text}"
    return fill(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


@click.command(
    "explain", epilog=_options.examples("explain spec.dataset", "explain target.spec.limits", "explain tunedmodel")
)
@click.argument("field", default="tunedmodel")
def command(field: str) -> None:
    """Describe a field of a manifest or of a target.

    Prints its type, its default, the allowed values, examples, and the fields below it. FIELD is a path such as
    spec.dataset.path. The fields of a target begin with target, as in target.spec.limits.
    """
    first, _, rest = field.partition(".")
    kind = _KINDS.get(first.lower())
    click.echo(explain(kind or "TunedModel", rest if kind else field))
