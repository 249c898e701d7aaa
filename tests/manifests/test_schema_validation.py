"""The schemas themselves, and that the fast test of them is never kinder than the real one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.domain.errors import UsageError
from reconciler.manifests.schema_validation import (
    SCHEMA_KINDS,
    explain,
    is_valid,
    schema_of,
    schema_text,
    strict_validator,
    validator,
)
from reconciler.manifests.yaml_parser import parse
from support.cases import each_row

_INPUTS = ["TunedModel", "Target"]


def _properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield f"{path}.{name}", part
        for key, part in schema.items():
            if key not in {"examples", "default", "enum", "const"}:
                yield from _properties(part, f"{path}.{key}")
    elif isinstance(schema, list):
        for part in schema:
            yield from _properties(part, path)


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    return root["$defs"][name] if name else schema


def test_the_kinds_are_named_after_the_files() -> None:
    assert SCHEMA_KINDS["TunedModel"].name == "tuned-model.schema.json"
    assert SCHEMA_KINDS["Target"].name == "target.schema.json"


def test_every_schema_is_valid_2020_12() -> None:
    """Definitions that several schemas have in common are checked once."""
    parts: dict[str, Any] = {}
    for kind in SCHEMA_KINDS:
        schema = json.loads(schema_text(kind))
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema", kind
        parts |= {json.dumps(part): part for part in (*schema.pop("$defs", {}).values(), schema)}
    Draft202012Validator.check_schema({"$defs": {str(number): part for number, part in enumerate(parts.values())}})


@pytest.mark.parametrize("kind", _INPUTS)
def test_an_editor_can_teach_every_field(kind: str) -> None:
    root = json.loads(schema_text(kind))
    fields = [(path, _resolved(part, root)) for path, part in _properties(root)]
    assert len(fields) > 20
    for path, field in fields:
        assert field.get("title"), path
        assert field.get("description", "").endswith("."), path
        assert field.keys() & {"examples", "default", "const", "properties"}, path


@pytest.mark.parametrize("kind", _INPUTS)
def test_no_mapping_takes_unknown_fields(kind: str) -> None:
    root = json.loads(schema_text(kind))
    assert all(
        "additionalProperties" in part
        for _, part in _properties({"properties": {"root": root}})
        if part.get("properties")
    )
    assert root["additionalProperties"] is False


@pytest.mark.parametrize("kind", _INPUTS)
def test_examples_and_defaults_are_valid(kind: str) -> None:
    root = json.loads(schema_text(kind))
    for path, part in _properties({"properties": {"root": root}}):
        field = _resolved(part, root)
        check = Draft202012Validator({**field, "$defs": root.get("$defs", {})})
        for value in [*field.get("examples", []), *([field["default"]] if "default" in field else [])]:
            assert check.is_valid(value), (path, value)


@pytest.mark.parametrize("kind", _INPUTS)
def test_every_pattern_says_what_is_allowed(kind: str) -> None:
    text = schema_text(kind)
    assert text.count('"pattern":') == text.count('"patternErrorMessage":')


def test_an_unknown_kind_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r'^unknown kind "TunedModle"; did you mean TunedModel\?$'):
        schema_text("TunedModle")
    with pytest.raises(UsageError, match=r"; choose one of .*TunedModel"):
        schema_text("x")


_SCALARS = (None, True, False, 0, 1, 3, -1, 3.0, 0.5, 1e39)
_TEXTS = ("", "a", "a\n", "4h", "h", "hold", "Models/x", "models/gemini-3.5-flash", "description")
_COLLECTIONS = ([], {}, ["description"] * 2, [1], {"a": 1}, {"a": "b"})
_LEAVES = st.sampled_from((*_SCALARS, *_TEXTS, *_COLLECTIONS)).map(copy.deepcopy)


def _full(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A valid value with every property there is; of those that exclude each other, the first."""
    field = _resolved(schema, root)
    if "properties" in field:
        choices = (*field.get("oneOf", [])[1:], *field.get("then", {}).get("oneOf", [])[1:])
        excluded = {choice["required"][0] for choice in choices}
        rules = [field, *field.get("then", {}).get("allOf", [])]
        excluded |= {name for rule in rules for name in rule.get("not", {}).get("required", [])[1:]}
        return {name: _full(part, root) for name, part in field["properties"].items() if name not in excluded}
    if "items" in field and "properties" in _resolved(field["items"], root):
        return [_full(field["items"], root)]
    return (field.get("examples") or [field.get("default", field.get("const"))])[0]


@pytest.mark.parametrize("kind", _INPUTS)
def test_every_field_at_once_is_valid(kind: str) -> None:
    root = json.loads(schema_text(kind))
    document = _full(root, root)
    assert validator(kind).is_valid(document)


@st.composite
def _documents(draw: st.DrawFn) -> tuple[str, Any]:
    """A document with everything in it, cut and bent in a few places."""
    kind = draw(st.sampled_from(_INPUTS))
    root = json.loads(schema_text(kind))
    document = _full(root, root)
    for _ in range(draw(st.integers(0, 4))):
        place = document
        while isinstance(place, dict) and place:
            name = draw(st.sampled_from([*sorted(place), "unknown"]))
            if name in place and isinstance(place[name], dict) and draw(st.integers(0, 4)):
                place = place[name]
            else:
                _bend(draw, place, name)
                break
    return kind, document


def _bend(draw: st.DrawFn, place: dict[str, Any], name: str) -> None:
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = draw(_LEAVES)


@given(_documents())
def test_whatever_is_wrong_is_explained_and_nothing_else(case: tuple[str, Any]) -> None:
    kind, value = case
    (document,) = parse(json.dumps(value).encode(), "x.yaml").documents
    assert bool(explain(document, kind)) != validator(kind).is_valid(document.value)


@given(_documents())
def test_a_document_passes_the_quick_check_only_if_jsonschema_finds_no_error(case: tuple[str, Any]) -> None:
    kind, value = case
    assert is_valid(schema_of(kind), value) == validator(kind).is_valid(value)


_SCHEMAS = st.recursive(
    st.sampled_from(
        (
            *({"type": name} for name in ("object", "array", "string", "boolean", "integer", "number")),
            {"enum": ["a", 1, True]},
            {"enum": [None, 0, 3.0]},
            {"const": "description"},
            {"const": False},
            {"pattern": "^[a-z]*$"},
            {"minLength": 1},
            {"maxLength": 2},
            {"minItems": 1},
            {"uniqueItems": True},
            {"minimum": 1},
            {"maximum": 0.5},
            {"exclusiveMinimum": 0},
            {"required": ["a"]},
            {"required": ["b"]},
            {"propertyNames": {"pattern": "^a$"}},
            {"properties": {"a": {"type": "string"}}, "additionalProperties": False},
            {"properties": {"b": {}}, "additionalProperties": {"type": "integer"}},
            {"$ref": "#/$defs/text"},
        )
    ),
    lambda schemas: st.one_of(
        st.fixed_dictionaries({"oneOf": st.lists(schemas, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(schemas, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": schemas}),
        st.fixed_dictionaries({"items": schemas}),
        st.fixed_dictionaries({"properties": st.fixed_dictionaries({"a": schemas})}),
        st.fixed_dictionaries({"if": schemas, "then": schemas, "else": schemas}),
        st.fixed_dictionaries({"if": schemas, "else": schemas}),
    ),
    max_leaves=4,
)
_VALUES = st.recursive(
    _LEAVES | st.sampled_from((math.inf, math.nan, -0.0, 10**400)),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=5,
)


@given(_SCHEMAS, _VALUES)
def test_every_keyword_means_what_it_means_to_jsonschema(schema: dict[str, Any], value: Any) -> None:
    schema = {**schema, "$defs": {"text": {"type": "string"}}}
    if is_valid(schema, value):
        assert strict_validator(schema).is_valid(value)


@each_row(
    "schema",
    [
        {"patternProperties": {"a": True}},
        {"type": ["string", "any"]},
        {"not": {"format": "date"}},
        {"$ref": "https://example.com/schema"},
        {"enum": [{}]},
    ],
)
def test_the_quick_check_leaves_other_keywords_to_jsonschema(schema: dict[str, Any]) -> None:
    assert not is_valid(schema, "a")


@pytest.mark.parametrize("kind", _INPUTS)
def test_the_quick_check_supports_every_keyword_of_manifests_and_targets(kind: str) -> None:
    document = _full(schema_of(kind), schema_of(kind))
    assert is_valid(schema_of(kind), document)


def test_a_pattern_holds_to_the_very_end_of_a_text() -> None:
    document = {
        "apiVersion": "tuning.reconcile/v1alpha1",
        "kind": "TunedModel",
        "metadata": {"name": "a\n"},
        "spec": {"baseModel": "models/x", "dataset": {"path": "x.csv"}},
    }
    assert not validator("TunedModel").is_valid(document)
