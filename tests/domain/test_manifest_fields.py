"""The table of manifest fields covers the schema, and the planner follows it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import fields, replace

from reconciler.domain.model import FIELDS, MUTABLE_FIELDS, Dataset, FieldRole, Lifecycle, Manifest, Source, with_value
from reconciler.manifests.schema_validation import schema_text
from reconciler.planning.diff import mutable_changes
from reconciler.planning.generations import desired_content
from support.cases import each_row
from support.core_cases import CAPABILITIES, SCOPE, Made, live, manifest

SCHEMA = json.loads(schema_text("TunedModel"))["properties"]
MADE = Made()
OTHER: Mapping[str, Any] = {
    "name": "other",
    "formerly": ("before",),
    "labels": {"team": "a"},
    "adopted": "tunedModels/theirs",
    "source": Source(base_model="models/other"),
    "dataset": Dataset("sha256:b", "b.csv", 1),
    "hyperparameters": {"epochCount": 9},
    "validation": Dataset("sha256:c", "c.csv", 1),
    "last_checkpoint_only": True,
    "settings": {"outputUri": "gs://acme/weights"},
    "serve": "best",
    "display_name": "other",
    "description": "other",
    "sampling.temperature": 0.9,
    "sampling.top_p": 0.9,
    "sampling.top_k": 9,
    "access": (),
    "checks": (),
    "lifecycle": Lifecycle(protect=True),
    "ignore_drift": frozenset({"description"}),
}


def properties(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Return the paths of the schema's properties, down to those that have a row, without what Kubernetes writes."""
    for name, child in node["properties"].items():
        if child == {"$ref": "#/$defs/kubernetes"}:
            continue  # accepted and ignored
        here = f"{path}.{name}"
        if any(row.path.startswith(f"{here}.") for row in FIELDS):
            yield from properties(here, child)
        else:
            yield here


def test_each_property_of_the_schema_has_a_row() -> None:
    declared = [*properties("metadata", SCHEMA["metadata"]), *properties("spec", SCHEMA["spec"])]
    assert sorted(declared) == sorted(row.path for row in FIELDS)


def test_each_attribute_of_a_manifest_has_a_row() -> None:
    located = {"field_places", "longest_example", "training_bytes", "training_tokens", "validation_bytes"}
    observed = {"file", "place", "preamble", "dataset_error", "validation_error", *located}
    attributes = {row.attribute.partition(".")[0] for row in FIELDS} - {""}
    assert {field.name for field in fields(Manifest)} - observed == attributes


def test_drift_can_be_ignored_for_mutable_fields() -> None:
    names = {name for row in MUTABLE_FIELDS for name in (row.name, row.group)}
    assert set(SCHEMA["spec"]["properties"]["ignoreDrift"]["items"]["enum"]) == names


@each_row("row", [row for row in FIELDS if row.attribute], ids=lambda row: row.path)
def test_only_identity_fields_change_the_content_of_a_generation(row: Any) -> None:
    before = manifest(MADE)
    after = with_value(before, row.attribute, OTHER[row.attribute])
    changed = desired_content(after, SCOPE, 0) != desired_content(before, SCOPE, 0)
    assert changed == (row.role is FieldRole.IDENTITY)


@each_row("row", MUTABLE_FIELDS, ids=lambda row: row.path)
def test_mutable_fields_are_patched_unless_their_drift_is_ignored(row: Any) -> None:
    declared = with_value(manifest(MADE), row.attribute, OTHER[row.attribute])
    model = live(MADE)
    (change,) = mutable_changes(declared, model, CAPABILITIES.mutable)
    assert (change.field, change.declared) == (row.name, OTHER[row.attribute])
    for ignored in (row.name, row.group):
        ignoring = replace(declared, ignore_drift=frozenset({ignored}))
        assert mutable_changes(ignoring, model, CAPABILITIES.mutable) == ()
