"""Read catalogs of base models: those that providers ship, and the file that a target adds to them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from msgspec import ValidationError, convert

from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.document import builtins_of
from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError
from reconciler.domain.money import parse_money
from reconciler.domain.text import decode_utf8, invalid, quote, shorten, suggest
from reconciler.paths import find_file, repository_of

FILE: Final = "models.toml"
_MAX_BYTES: Final = 2**20
_MAX_MODELS: Final = 1000
_REMEDY: Final = "write it as in docs/models.md"
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NAME: Final = re.compile(r"[!-~]+")
_NUMBER, _SHARE, _LOCATIONS = "a whole number, 1 or more", "a number from 0 to 1", "a list of locations"
_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "methods": 'a list of "SFT" and "DPO"',
        "locations": _LOCATIONS,
        "servingLocations": _LOCATIONS,
        "maxTokens": _NUMBER,
        "maxExamples": _NUMBER,
        "maxBytes": _NUMBER,
        "maxValidationExamples": _NUMBER,
        "maxValidationShare": _SHARE,
        "maxValidationBytesShare": _SHARE,
        "adapterSizes": "a list of whole numbers",
        "hyperparameters": "a list of names",
        "maxEpochs": _NUMBER,
        "cmek": "true or false",
        "price": 'an amount, as in "9.06 USD"',
        "retirement": "a date, as in 2027-05-19",
        "retirementCanBeLater": "true or false",
        "successor": "the name of a base model",
        "supported": "true or false",
        "advice": "a text",
        "source": "an address",
        "verified": "true or false",
    }
)
"""What each field of an entry must be."""
_FIELDS: Final = tuple(BaseModel.__struct_encode_fields__)


@cache
def built_in(module: str) -> ModelCatalog:
    """Return the catalog in ``models.toml`` beside the file of a module."""
    path = Path(module).with_name(FILE)
    return parse(path.read_bytes(), str(path))


def extended(catalog: ModelCatalog, declared: str, directory: Path, shown: str) -> ModelCatalog:
    """Return a catalog with the entries of the file that a target in ``directory`` declares.

    A field in the file replaces that of the catalog. ``shown`` is the path of the target file in messages.

    Raises:
        ReconcileError: if there is no such file in the repository.
        InvalidInput: if it is not a catalog.
    """
    file = find_file(declared, directory, repository_of(directory))
    path = str(Path(shown).parent / declared)
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ReconcileError(f"cannot read {path}: {error.strerror}", "check its permissions") from error
    return parse(data, path, catalog)


def parse(data: bytes, shown: str, base: ModelCatalog | None = None) -> ModelCatalog:
    """Return the catalog in a TOML file, which messages call ``shown``, added to ``base``; raises InvalidInput."""
    base = base or ModelCatalog()
    if len(data) > _MAX_BYTES:
        raise _invalid(Place(shown), "", f"larger than {_MAX_BYTES:,} bytes", "remove entries")
    text = decode_utf8(data, shown, "save the file as UTF-8")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error), shown, text) from error
    except RecursionError as error:
        raise _invalid(Place(shown), "", "nested too deeply", _REMEDY) from error
    found = _Reader(shown, text)
    for name in table.keys() - {"date", "models"}:
        raise found.error(
            name, "", f"unknown field {quote(name)}", suggest(name, ("date", "models"), otherwise=_REMEDY)
        )
    dated = table.get("date", base.as_of)
    if dated is not None and type(dated) is not date:
        raise found.error(
            "date", "", f"invalid value {quote(str(dated))}: expected a date", "write a date, as in 2026-11-29"
        )
    models = table.get("models", {})
    if not isinstance(models, dict) or len(models) > _MAX_MODELS:
        raise found.error("models", "", f"expected at most {_MAX_MODELS:,} tables", _REMEDY)
    read = {name: found.model(name, declared, base.models.get(name)) for name, declared in models.items()}
    return ModelCatalog(dated, {**base.models, **read}, base.closed)


class _Reader:
    """The file of a catalog, and where its entries are."""

    def __init__(self, shown: str, text: str) -> None:
        self._shown = shown
        self._lines = text.splitlines()

    def model(self, name: str, table: Any, base: BaseModel | None) -> BaseModel:
        if not isinstance(table, dict):
            raise self.error("", name, invalid(str(table), "a table"), _REMEDY)
        if not _NAME.fullmatch(name):
            raise self.error("", name, "invalid name of a base model", "write the name that the service has")
        for field in table:
            if field not in _FIELDS:
                remedy = suggest(field, _FIELDS, otherwise=_REMEDY)
                raise self.error(field, name, f"unknown field {quote(field)}", remedy)
        merged: Mapping[str, Any] = {**(builtins_of(base) if base else {}), **table}
        if "price" in table:
            merged = {**merged, "price": self._price(table["price"], name)}
        if "retirement" in table and "retirementCanBeLater" not in table:
            merged = {**merged, "retirementCanBeLater": False}
        if not _NAME.fullmatch(str(table.get("successor") or name)):
            raise self.error("successor", name, invalid(str(table["successor"]), _EXPECTED["successor"]), _REMEDY)
        try:
            return convert(merged, BaseModel)
        except ValidationError as error:
            field = re.split(r"[`\[.]", str(error).partition(" - at `$.")[2])[0]
            value = table[field] if isinstance(table[field], str | int | float) else str(table[field])
            raise self.error(field, name, invalid(value, _EXPECTED[field]), _REMEDY) from error

    def _price(self, declared: Any, name: str) -> dict[str, Any]:
        try:
            return builtins_of(parse_money(declared if isinstance(declared, str) else ""))
        except ValueError:
            raise self.error("price", name, invalid(str(declared), _EXPECTED["price"]), _REMEDY) from None

    def error(self, field: str, name: str, message: str, remedy: str) -> InvalidInput:
        path = f'models."{shorten(name)}".{field}'.rstrip(".") if name else field
        return _invalid(self._place(field, name), path, message, remedy)

    def _place(self, field: str, name: str) -> Place:
        """Return the line of a field, of the table that has it, or the file."""
        start = 0
        if name:
            start = next(
                (n for n, line in enumerate(self._lines, 1) if line.lstrip().startswith("[") and name in line), 0
            )
        for number, line in enumerate(self._lines[start:], start + 1):
            if line.lstrip().startswith("[") and name:
                break
            if re.match(rf'\s*"?{re.escape(field)}"?\s*[=.]', line):
                return Place(self._shown, number)
        return Place(self._shown, start) if start else Place(self._shown)


def _syntax(error: str, shown: str, text: str) -> InvalidInput:
    position = _POSITION.search(error)
    message = _POSITION.sub("", error)
    line = int(position[1]) if position and position[1] else text.count("\n") + 1
    column = int(position[2]) if position and position[2] else 1
    return _invalid(Place(shown, line, column), "", f"invalid TOML: {message[:1].lower()}{message[1:]}", _REMEDY)


def _invalid(place: Place, path: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput((Problem(place, path, message, remedy),))
