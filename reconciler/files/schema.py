"""The JSON Schemas of every document, and validators for them."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.core.problems import UsageError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_SUFFIX = ".schema.json"


def _folder() -> Path:
    packaged = Path(__file__).parent.parent / "schemas"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def _kind(file: Path) -> str:
    return "".join(word.capitalize() for word in file.name.removesuffix(_SUFFIX).split("-"))


SCHEMA_KINDS: Mapping[str, Path] = {_kind(file): file for file in sorted(_folder().glob(f"*{_SUFFIX}"))}
"""The schema file of each kind of document: ``tuned-model.schema.json`` is that of TunedModel."""


def schema_text(kind: str) -> str:
    """The JSON Schema (2020-12) of a kind of document, as text; raises UsageError for a kind that is not known."""
    if kind not in SCHEMA_KINDS:
        near = difflib.get_close_matches(kind, SCHEMA_KINDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the kinds are {', '.join(SCHEMA_KINDS)}"
        raise UsageError(f"there is no schema of the kind {kind}", remedy)
    return SCHEMA_KINDS[kind].read_text(encoding="utf-8")


@cache
def validator(kind: str) -> Validator:
    """A validator that names every error; numbers are finite, and ``$`` is the very end of a text, as in ECMA-262."""
    # Here, because importing jsonschema takes longer than most commands that check nothing.
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, expression: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not matches(expression)(value):
            yield ValidationError(f"{value!r} does not match {expression!r}")

    numbers = Draft202012Validator.TYPE_CHECKER.redefine("number", lambda _checker, value: _is_number(value))
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call] # the stubs leave the function untyped
        Draft202012Validator, {"pattern": pattern}, type_checker=numbers
    )
    return strict(json.loads(schema_text(kind)))


@cache
def matches(pattern: str) -> Callable[[str], object]:
    """Search for an ECMA-262 pattern of the kind that our schemas use."""
    return re.compile(re.sub(r"\$$", r"\\Z", pattern)).search


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
