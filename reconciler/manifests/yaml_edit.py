"""Replace scalars of manifests in the text of their file; everything else stays as it is, byte by byte.

A scalar is replaced at its position, in its own style. Then the new text is parsed: its values must be the old ones
with the edits.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import yaml
from msgspec import Struct

from reconciler.domain.errors import Place, Problem
from reconciler.domain.text import quote_escaped
from reconciler.manifests.discovery import expand_lists, manifest_name
from reconciler.manifests.yaml_parser import (
    FieldPath,
    Parsed,
    Positions,
    Scalar,
    dotted,
    parse,
    parse_scalar,
    scan,
)

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]*")
"""A text without characters that mean something in YAML."""


class Edit(Struct, frozen=True):
    """A new value, and with ``key`` a new name, of the field at ``path`` in the manifest ``name``."""

    name: str
    path: FieldPath
    after: Scalar
    key: str = ""


class ImpossibleEdit(Exception):  # noqa: N818 - the name of its content
    """A field that cannot be edited in place; ``problem`` has its place and what to do."""

    def __init__(self, name: str, problem: Problem) -> None:
        super().__init__(str(problem))
        self.name, self.problem = name, problem


def edited(data: bytes, file: str, edits: Sequence[Edit]) -> bytes:
    """Return a file of manifests with the edits; messages call it ``file``.

    A value that manifests share through an anchor is replaced where the anchor is, if all of them are edited in the
    same way. Otherwise an alias is replaced by the new value.

    Raises:
        ImpossibleEdit: if an edit would change another field, or needs more than the replacement of a scalar.
    """
    text = data.decode("utf-8-sig")
    before = parse(data, file)
    editor = _Editor(text, before)
    for edit in edits:
        editor.add(edit, edits)
    changed = codecs.BOM_UTF8 * data.startswith(codecs.BOM_UTF8) + editor.text().encode()
    if _values(parse(changed, file)) != _expected(before, edits):
        raise editor.impossible(edits[0], "it cannot be replaced without another change of the file", _BY_HAND)
    return changed


_BY_HAND: Final = "set it to {} in an editor"
_VALUES: Final = (
    yaml.AnchorToken,
    yaml.TagToken,
    yaml.ScalarToken,
    yaml.AliasToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
"""The tokens that begin a value without nested block collections."""
_User = tuple[str, tuple[str | int, ...]]
"""A field: the name of its manifest, and its path."""


class _Editor:
    """Collects the replacements in a text."""

    def __init__(self, text: str, parsed: Parsed) -> None:
        self._text, self._file = text, parsed.file
        self._documents = {manifest_name(document): document for document in expand_lists(parsed.documents)}
        self._tokens = [token for token in scan(text) if isinstance(token, _VALUES)]
        self._numbers = {token.start_mark.index: number for number, token in enumerate(self._tokens)}
        self._users: dict[int, set[_User]] = {}
        for name, document in self._documents.items():
            for path, positions in _walk(document.positions):
                for mark in (positions.key, None if positions.children else positions.mark):
                    if mark and mark.index in self._numbers:  # an omitted value has no token
                        start = self._token(mark.index).start_mark.index
                        self._users.setdefault(start, set()).add((name, path))
        self._replacements: dict[int, tuple[int, str]] = {}

    def add(self, edit: Edit, edits: Sequence[Edit]) -> None:
        """Add one of these edits."""
        positions = self._documents[edit.name].positions
        for step in edit.path:
            positions = positions.children[step]
        agreeing = (other for other in edits if other.after == edit.after)
        self._replace(edit, positions.mark.index, edit.after, agreeing)
        if edit.key and positions.key:
            agreeing = (other for other in edits if other.key == edit.key)
            self._replace(edit, positions.key.index, edit.key, agreeing)

    def _replace(self, edit: Edit, start: int, value: Scalar, agreeing: Iterable[Edit]) -> None:
        token = self._token(start)
        others = self._users[token.start_mark.index] - {(edit.name, tuple(edit.path))}
        if others:  # few values have an anchor, and a file can have thousands of edits
            others = others.difference((other.name, tuple(other.path)) for other in agreeing)
        own = self._tokens[self._numbers[start]]
        if others and isinstance(own, yaml.AliasToken):
            token = own
        elif others:
            name, path = min(others, key=str)
            place = self._alias_place(name, path) or self._alias_place(edit.name, edit.path)
            message = (
                f"its value is shared with {dotted(path)} of {name or 'another document'} through the alias at {place}"
            )
            also = f"migrate {name} too, or " if path == tuple(edit.path) else ""
            raise self.impossible(edit, message, f"{also}write the value out in place of the alias")
        if "${" in str(getattr(token, "value", "")):
            raise self.impossible(
                edit, "its value has a variable of the target", "change spec.variables, or write it out"
            )
        written = _written(token, value)
        if not written:
            raise self.impossible(edit, "its value spans several lines", "write it on the line of its key")
        self._replacements[token.start_mark.index] = token.end_mark.index, written

    def _token(self, start: int) -> Any:
        """Return the token of the scalar that begins at an index, after its anchor and tag; an alias is followed."""
        number = self._numbers[start]
        while isinstance(self._tokens[number], yaml.AnchorToken | yaml.TagToken):
            number += 1
        token = self._tokens[number]
        if not isinstance(token, yaml.AliasToken):
            return token
        earlier = reversed(self._tokens[:number])
        anchor = next(other for other in earlier if isinstance(other, yaml.AnchorToken) and other.value == token.value)
        return self._token(anchor.start_mark.index)

    def _alias_place(self, name: str, path: FieldPath) -> Place | None:
        """Return the place of the alias in the path of a field, if there is one."""
        positions = self._documents[name].positions
        for step in path:
            positions = positions.children[step]
            if self._text[positions.mark.index] == "*":
                return Place(self._file, positions.mark.line + 1, positions.mark.column + 1)
        return None

    def impossible(self, edit: Edit, message: str, remedy: str) -> ImpossibleEdit:
        """Return the error of an edit."""
        place = self._documents[edit.name].place(edit.path)
        return ImpossibleEdit(edit.name, Problem(place, dotted(edit.path), message, remedy.format(edit.after)))

    def text(self) -> str:
        """Return the text with all replacements."""
        parts, position = [], 0
        for start, (end, written) in sorted(self._replacements.items()):
            parts += [self._text[position:start], written]
            position = end
        return "".join([*parts, self._text[position:]])


def _written(token: Any, value: Scalar) -> str:
    """Return a scalar in the style of a token; empty if the style has no room for it."""
    style = getattr(token, "style", None) or ""
    if style in {"|", ">"} or token.start_mark.line != token.end_mark.line:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and value.isascii() and value.isprintable():
        return "'{}'".format(value.replace("'", "''"))
    return value if not style and _PLAIN.fullmatch(value) and parse_scalar(value) == value else quote_escaped(value)


def _walk(positions: Positions, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Positions]]:
    """Yield the paths and positions of all values in a document; those behind an alias are the values of its anchor."""
    for step, child in positions.children.items():
        yield (*path, step), child
        yield from _walk(child, (*path, step))


def _values(parsed: Parsed) -> list[tuple[str, str]]:
    """Return the names and contents of the documents of a file without errors, in order."""
    documents = () if parsed.problems else expand_lists(parsed.documents)
    return [(manifest_name(document), _content(document.value)) for document in documents]


def _expected(parsed: Parsed, edits: Sequence[Edit]) -> list[tuple[str, str]]:
    """Return what :func:`_values` must be after the edits."""
    values = [(name, json.loads(content)) for name, content in _values(parsed)]
    by_name = dict(reversed(values))  # of several with one name the first
    for edit in edits:
        value = by_name[edit.name]
        *steps, last = edit.path
        for step in steps:
            value = value[step]
        del value[last]
        value[edit.key or last] = edit.after
    return [(name, _content(value)) for name, value in values]


def _content(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
