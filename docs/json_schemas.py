"""Derive the JSON Schemas of the documents from their types."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec.inspect import EnumType, StructType, type_info

from reconciler.domain.document import END, Record
from reconciler.domain.lock import Lock
from reconciler.emulator.faults import Faults
from reconciler.reports.documents.change import ChangeReport, RefreshReport, ResolveReport, ServingReport
from reconciler.reports.documents.check import CheckReport, ExportReport, PromptReport
from reconciler.reports.documents.doctor import DoctorReport, ErrorReport, ValidationReport
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.documents.events import AnyLine, EventsHeader
from reconciler.reports.documents.graph import GraphReport
from reconciler.reports.documents.history import HistoryReport
from reconciler.reports.documents.inspection import DataDiffReport, InspectionReport
from reconciler.reports.documents.models import MigrationReport, ModelsReport
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.result import ResultReport
from reconciler.reports.documents.saved_plan import SavedPlan
from reconciler.reports.documents.status import StatusReport
from reconciler.reports.documents.targets import CombinedReport, TargetsReport

DOCUMENTS: tuple[type[Record], ...] = (
    ChangeReport,
    CheckReport,
    CombinedReport,
    DataDiffReport,
    DoctorReport,
    DriftReport,
    ErrorReport,
    ExportReport,
    Faults,
    GraphReport,
    HistoryReport,
    InspectionReport,
    Lock,
    MigrationReport,
    ModelsReport,
    PlanReport,
    PromptReport,
    RefreshReport,
    ResolveReport,
    ResultReport,
    SavedPlan,
    ServingReport,
    StatusReport,
    TargetsReport,
    ValidationReport,
)
"""The types whose schemas are derived."""
MAX_LINE = 120
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_TAGGED = {"kind": "this document", "event": "event"}
"""What the tag of a struct is the kind of, by the name of its field."""
_EVENTS = (
    "One line of the file that `--events FILE` writes: JSON Lines with a header first. New events and fields may "
    "appear in the same version; ignore those that you do not know."
)
_NESTED = ("items", "additionalProperties", "propertyNames")


def schemas() -> Mapping[str, str]:
    """Return the text of each schema by the name of its file, such as ``doctor.schema.json``."""
    documents = {f"{_file_name(kind)}.schema.json": document_schema(kind) for kind in DOCUMENTS}
    return {name: schema_file(schema) for name, schema in {**documents, "events.schema.json": events_schema()}.items()}


def events_schema() -> Schema:
    """Return the schema of one line of an event log: the header, or an event."""
    kinds = (EventsHeader, *get_args(AnyLine))
    references, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    types = {used.__name__: used for kind in kinds for used in _named_types(kind)}
    return {
        "$schema": DIALECT,
        "title": "Events",
        "description": _EVENTS,
        "oneOf": list(references),
        "$defs": {name: _described(schema, types[name]) for name, schema in definitions.items()},
    }


def document_schema(kind: type[Record]) -> Schema:
    """Return the schema of one kind of document, with a title and a description for every field."""
    (reference,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    types = {used.__name__: used for used in _named_types(kind)}
    described = {name: _described(schema, types[name]) for name, schema in definitions.items()}
    whole = {**described.pop(reference["$ref"].rpartition("/")[2]), "title": _kind(kind)}
    return {"$schema": DIALECT, **whole, **({"$defs": described} if described else {})}


def _described(schema: Schema, kind: type[msgspec.Struct | Enum]) -> Schema:
    """Return the schema of a type with the descriptions of its fields or values."""
    if issubclass(kind, Enum):
        meaning = (inspect.getdoc(kind) or "").partition("\n\n")[0]
        return {"title": _title(kind.__name__), "description": _prose(meaning), **_values(kind)}
    titles = {"title": _title(kind.__name__), "description": _prose(inspect.getdoc(kind) or "")}
    descriptions = _field_descriptions(kind)
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    written = {field.encode_name for field in msgspec.structs.fields(kind) if _is_always_written(field)}
    properties = {}
    for name, value in schema["properties"].items():
        tag = name == kind.__struct_config__.tag_field
        shown = _value(value)
        description = shown.pop("description", "")
        if tag or names[name] in descriptions:
            description = f"The kind of {_TAGGED[name]}." if tag else descriptions[names[name]]
        if name in written and {"type": "null"} in value.get("anyOf", ()):
            shown = {"anyOf": [shown, {"const": {}}]}  # what is always written is empty in place of null
        properties[name] = {"title": _title(name), "description": description, **shown}
    required = [name for name in properties if name in written or name == kind.__struct_config__.tag_field]
    return {**titles, "type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _is_always_written(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a field has no default, or a factory of a value that is written although it is the default."""
    return field.required or field.default_factory not in (msgspec.NODEFAULT, dict, list, set, tuple)


def _value(schema: Schema) -> Schema:
    """Return the schema of a value without ``null`` and defaults, which stand for an omitted field."""
    schema = {name: _value(part) if name in _NESTED and part else part for name, part in schema.items()}
    schema.pop("default", None)
    schema.pop("discriminator", None)  # a keyword of OpenAPI
    if "enum" in schema and len(schema["enum"]) == 1:
        return {"const": schema["enum"][0]}
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    if {"type": "number"} in choices:
        choices = [choice for choice in choices if choice != {"type": "integer"}]
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        schema["additionalProperties"] = True  # a map of anything, which the type states on purpose
    if len(choices) == 1:
        return {**schema, **_value(choices[0])}
    return {**schema, "anyOf": choices} if choices else schema


def _values(kind: type[Enum]) -> Schema:
    """Return the values of an enumeration, with their meanings if it is a table."""
    if all(hasattr(member, "meaning") for member in kind):
        return {"oneOf": [{"const": member.value, "description": member.meaning} for member in kind]}
    return {"enum": [member.value for member in kind]}


def _named_types(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct | Enum]]:
    """Yield the structs and enumerations that a document consists of, each once."""
    seen: set[type] = set()
    pending = [type_info(kind)]
    while pending:
        info = pending.pop()
        if isinstance(info, StructType | EnumType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            yield info.cls
            pending += [field.type for field in info.fields] if isinstance(info, StructType) else []
            continue
        for name in ("type", "item_type", "key_type", "value_type"):
            nested = getattr(info, name, None)
            if isinstance(nested, msgspec.inspect.Type):
                pending.append(nested)
        pending += getattr(info, "types", ()) or getattr(info, "item_types", ())


def _field_descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the string below each field of a struct and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= _strings_below(base.__module__).get(base.__qualname__, {})
    return found


@cache
def _strings_below(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return the string below each field, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {
        node.name: {
            field.target.id: _prose(text.value.value)
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in classes
    }


def _kind(kind: type[Record]) -> str:
    """Return the kind of a document; the lockfile has none."""
    return str(kind.__struct_config__.tag or kind.__name__)


def _file_name(kind: type[Record]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", _kind(kind)).lower()


def _title(name: str) -> str:
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower().replace("dataset", "data set")
    return words[:1].upper() + words[1:]


def _prose(text: str) -> str:
    return " ".join(text.split())


def schema_file(schema: Schema) -> str:
    """Return the text of the file of a schema: JSON with an indent of two spaces, and short values on one line."""
    return "".join(_written(schema, "")).replace(json.dumps(END)[1:-1], "$") + "\n"


def _written(value: Any, indent: str, head: str = "") -> Iterator[str]:
    """Yield the parts of the JSON of a value; ``head`` is the name before it."""
    line = f"{head}{json.dumps(value, ensure_ascii=False)}"
    if not isinstance(value, dict | list) or (_is_flat(value) and len(indent) + len(line) <= MAX_LINE):
        yield line
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    nested = value.items() if isinstance(value, dict) else ((None, part) for part in value)
    yield f"{head}{opening}"
    for position, (name, part) in enumerate(nested):
        yield f"{',' if position else ''}\n{indent}  "
        yield from _written(part, f"{indent}  ", f"{json.dumps(name)}: " if name is not None else "")
    yield f"\n{indent}{closing}"


def _is_flat(value: Any) -> bool:
    """Return whether a value describes no field, as lists of names and examples do."""
    if isinstance(value, dict):
        return "title" not in value and all(map(_is_flat, value.values()))
    return not isinstance(value, list) or all(map(_is_flat, value))
