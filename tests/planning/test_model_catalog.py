"""Warnings about base models, and what the catalogs of the providers have: a table of one manifest for each."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from msgspec.structs import replace

from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.errors import Place
from reconciler.domain.model import UNKNOWN_DATA, Dataset, FieldPlace, Lifecycle, Manifest, Source, Suspension
from reconciler.planning.migration import change_id, migration_of, unless_suspended
from reconciler.planning.model_catalog import CatalogContext, catalog_warnings
from reconciler.providers.registry import provider_spec
from support.cases import each_row

TODAY = date(2026, 11, 30)
MODEL = BaseModel(
    methods=("SFT",),
    locations=("europe-west4", "us-central1"),
    max_examples=100,
    max_bytes=1000,
    max_tokens=20,
    max_validation_examples=50,
    max_validation_bytes_share=0.25,
    adapter_sizes=(1, 4),
    max_epochs=9,
    cmek=False,
)
MANIFEST = Manifest(
    name="numbers",
    file="numbers.yaml",
    place=Place("numbers.yaml", 3, 9),
    source=Source("gemini"),
    dataset=Dataset("sha256:" + "0" * 64, "data.csv", 100),
    hyperparameters={"adapterSize": 4, "epochCount": 9},
    training_bytes=1000,
    longest_example=80,
    training_tokens=250,
    field_places={"baseModel": FieldPlace(Place("numbers.yaml", 5, 3), "spec.vertex.baseModel")},
)
CONTEXT = CatalogContext(ModelCatalog(date(2026, 11, 1), {"gemini": MODEL}), TODAY, "europe-west4")


def found(manifest: Manifest = MANIFEST, context: CatalogContext = CONTEXT, model: BaseModel = MODEL) -> list[str]:
    """The warnings about a manifest, without the place and the name of the catalog."""
    catalog = replace(context.catalog, models={"gemini": model})
    warnings = list(catalog_warnings(manifest, replace(context, catalog=catalog)))
    assert all(warning.severity == "warning" and warning.remedy for warning in warnings)
    known = " the model catalog of 2026-11-01"
    return [
        re.sub(r"^numbers.yaml:\d:\d: spec\.", "", str(warning))
        .replace(f", according to{known}", "")
        .replace(known, "")
        for warning in warnings
    ]


def validated(examples: int, size: int = 0) -> Manifest:
    return replace(MANIFEST, validation=replace(MANIFEST.dataset, examples=examples), validation_bytes=size)


def test_everything_within_the_limits_has_no_warning() -> None:
    assert found(validated(50, 250)) == []
    assert found(context=replace(CONTEXT, location=None)) == []
    assert list(catalog_warnings(MANIFEST, replace(CONTEXT, catalog=ModelCatalog()))) == []


def test_what_has_a_warning() -> None:
    assert found(context=replace(CONTEXT, location="asia-east1")) == [
        (
            "vertex.baseModel: gemini cannot be tuned in asia-east1; set spec.location of the target to"
            " one of europe-west4, us-central1"
        )
    ]
    assert found(context=replace(CONTEXT, encrypted=True)) == [
        (
            "vertex.baseModel: gemini does not support the KMS key of the target; remove kmsKeyName from the"
            " target, or use another base model"
        )
    ]
    many = {"adapterSize": 32, "epochCount": 10}
    assert found(replace(MANIFEST, hyperparameters=many)) == [
        "adapterSize: gemini has no adapter size 32; set one of 1, 4",
        "epochCount: 10 epochs, more than the 9 of gemini in; use fewer, or another base model",
    ]
    large = replace(MANIFEST, dataset=replace(MANIFEST.dataset, examples=101), training_bytes=1001)
    assert found(large) == [
        "dataset: 101 examples, more than the 100 of gemini in; use fewer, or another base model",
        "dataset: 1,001 bytes, more than the 1,000 of gemini in; use fewer, or another base model",
    ]
    assert found(replace(MANIFEST, longest_example=81)) == [
        (
            "dataset: the longest example has about 21 tokens, more than the 20 of gemini in; shorten it,"
            " or use another base model"
        )
    ]
    assert found(validated(51, 251)) == [
        "validationDataset: 51 validation examples, more than the 50 of gemini in; use fewer, or another base model",
        (
            "validationDataset: 251 bytes of validation data, more than the 250 of gemini in; use"
            " fewer, or another base model"
        ),
    ]
    assert found(model=replace(MODEL, methods=())) == [
        "vertex.baseModel: no tuning of gemini is documented; plan a change of spec.vertex.baseModel"
    ]


@each_row(("training", "validation", "allowed"), [(10_000, 3_001, 3_000), (2_000, 1_001, 1_000), (10**6, 5_001, 5_000)])
def test_the_share_of_validation_examples(training: int, validation: int, allowed: int) -> None:
    manifest = replace(validated(validation), dataset=replace(MANIFEST.dataset, examples=training))
    model = replace(MODEL, max_examples=None, max_validation_examples=5_000, max_validation_share=0.3)
    (warning,) = found(manifest, model=model)
    assert f"more than the {allowed:,} of gemini" in warning
    fewer = replace(manifest, validation=replace(MANIFEST.dataset, examples=allowed))
    assert found(fewer, model=model) == []


@each_row(
    ("days", "later", "text"),
    [
        (91, False, ""),
        (
            90,
            False,
            "the retirement date of gemini is 2027-02-28, in 90 days",
        ),
        (
            1,
            True,
            "the earliest retirement date of gemini is 2026-12-01, in 1 day",
        ),
        (0, False, "gemini was retired on 2026-11-30"),
        (
            -1,
            True,
            "gemini was retired on 2026-11-29 at the earliest",
        ),
    ],
)
def test_retirement(days: int, text: str, *, later: bool) -> None:
    model = replace(MODEL, retirement=TODAY + timedelta(days), retirement_can_be_later=later, successor="next")
    expected = [f"vertex.baseModel: {text}; set spec.vertex.baseModel to next"][: bool(text)]
    assert found(model=model) == expected
    listed = replace(CONTEXT, tunable=("gemini",))
    assert found(context=listed, model=model) == ([] if days <= 0 else expected)


def test_an_unknown_base_model_has_a_warning_unless_the_service_lists_it() -> None:
    unknown = replace(MANIFEST, source=Source("gemini-"))
    assert found(unknown) == ["vertex.baseModel: gemini- is not in; did you mean gemini?"]
    assert found(unknown, replace(CONTEXT, tunable=("gemini-",))) == []
    simulated = replace(CONTEXT, catalog=replace(CONTEXT.catalog, closed=False))
    assert found(unknown, simulated) == []
    assert found(replace(MANIFEST, source=Source(tuned_model="other"))) == []


VERTEX = provider_spec("vertex").catalog()


@each_row("name", VERTEX.models)
def test_each_base_model_of_vertex_in_each_location(name: str) -> None:
    model = VERTEX.models[name]
    assert model.source.startswith("https://")
    manifest = replace(
        MANIFEST, source=Source(name), hyperparameters={}, dataset=replace(MANIFEST.dataset, examples=20)
    )
    unsupported = [f"reconcile cannot train from {name} yet"] if not model.supported else []
    for location in model.locations:
        assert [
            warning.message for warning in catalog_warnings(manifest, CatalogContext(VERTEX, TODAY, location))
        ] == unsupported
    *_, warning = catalog_warnings(manifest, CatalogContext(VERTEX, TODAY, "me-west1"))
    if model.locations:
        assert warning.message.startswith(f"{name} cannot be tuned in me-west1")
        assert all(location in warning.remedy for location in model.locations)
    else:
        assert "was retired on" in warning.message or "no tuning of" in warning.message
        assert model.successor in VERTEX.tunable(TODAY)
        assert model.successor in warning.remedy


def test_nothing_can_be_tuned_at_the_generative_language_api() -> None:
    catalog = provider_spec("generativelanguage").catalog()
    assert catalog.tunable(TODAY) == ()
    assert all(model.advice for model in catalog.models.values())


def test_the_embedded_service_has_the_gemini_models_without_locations() -> None:
    catalog = provider_spec("embedded").catalog()
    assert set(catalog.tunable(TODAY)) == {
        f"models/{name}" for name in VERTEX.tunable(TODAY) if name.startswith("gemini-")
    }
    assert not any(model.locations for model in catalog.models.values())


_NEXT = BaseModel(methods=("SFT",), adapter_sizes=(1, 4), max_epochs=3, hyperparameters=("epochCount", "adapterSize"))
_GONE = BaseModel(methods=("SFT",), retirement=date(2026, 11, 1), successor="next")
_SOON = BaseModel(methods=("SFT",), retirement=TODAY + timedelta(days=60), successor="next")
_RANKED = replace(_NEXT, hyperparameters=("epochCount", "rank"), adapter_sizes=(), max_epochs=None)
_CATALOG = {
    "gemini": _SOON,
    "next": _NEXT,
    "plain": _NEXT,
    "lost": replace(_SOON, successor=""),
    "advised": replace(_SOON, successor="", advice="use another service"),
    "chain": replace(_GONE, successor="gone"),
    "gone": _GONE,
    "last": replace(_SOON, successor="soon"),
    "soon": replace(_SOON, successor=""),
    "dead": replace(_SOON, successor="buried"),
    "buried": replace(_GONE, successor=""),
    "ring": replace(_SOON, successor="round"),
    "round": replace(_SOON, successor="ring"),
    "self": replace(_SOON, successor="self"),
    "unlisted": replace(_SOON, successor="brand-new"),
    "ranked": replace(_SOON, successor="lora"),
    "lora": _RANKED,
}


@each_row(
    ("base", "declared", "expected"),
    [
        ("gemini", {}, "due next"),
        ("gemini", {"epochCount": 5, "adapterSize": 8}, "due next epochCount=3 adapterSize=4"),
        ("gemini", {"epochCount": 3, "adapterSize": 4}, "due next"),
        ("gemini", {"adapterSize": 2}, "due next adapterSize=1"),  # as near as 4: the lower one is cheaper
        ("ranked", {"adapterSize": 8, "epochCount": 9}, "due lora rank=8"),
        ("ranked", {"adapterSize": 8, "rank": 4}, "due lora | adapterSize: lora has no such hyperparameter"),
        ("gemini", {"warmup": 2}, "due next | warmup: next has no such hyperparameter"),
        ("chain", {}, "due next"),
        ("last", {}, "due soon | baseModel: the retirement date of soon is 2027-01-29, in 60 days"),
        ("unlisted", {}, "due brand-new | baseModel: brand-new is not in CATALOG"),
        ("plain", {}, "CATALOG names no successor of plain; add successor to"),
        ("other", {}, "CATALOG names no successor of other; add successor to"),
        ("lost", {}, "due CATALOG names no successor of lost; add successor to"),
        ("advised", {}, "due CATALOG names no successor of advised; use another service"),
        ("dead", {}, "due the successor buried of dead was retired, according to CATALOG; add successor to"),
        ("ring", {}, "due the successors of ring in CATALOG form a cycle; add successor to"),
        ("self", {}, "due the successors of self in CATALOG form a cycle; add successor to"),
    ],
)
def test_what_a_manifest_needs_for_the_successor(base: str, declared: dict[str, int], expected: str) -> None:
    manifest = replace(MANIFEST, source=Source(base), hyperparameters=declared, longest_example=0)
    context = replace(CONTEXT, catalog=ModelCatalog(date(2026, 11, 1), _CATALOG), location=None)
    migration = migration_of(manifest, context)
    edits = [f"{edit.renamed or edit.field}={edit.after}" for edit in migration.edits[1:]]
    outcome = " ".join([migration.successor, *edits])
    if migration.obstacle:
        outcome = f"{migration.obstacle}; {migration.remedy.partition(' [')[0]}"
    notes = [re.split(", according|; ", note.removeprefix("spec."))[0] for note in migration.notes]
    described = " | ".join([f"{'due ' if migration.is_due else ''}{outcome}", *notes])
    assert described.replace(CONTEXT.catalog.named, "CATALOG").replace("vertex.", "") == expected


def test_the_name_of_a_change_follows_from_its_edits_alone() -> None:
    context = replace(CONTEXT, catalog=ModelCatalog(date(2026, 11, 1), _CATALOG))
    one, two = (migration_of(replace(MANIFEST, name=name), context) for name in ("one", "two"))
    moved = migration_of(replace(MANIFEST, name="one", place=Place("other.yaml", 9, 9), file="other.yaml"), context)
    smaller = migration_of(replace(MANIFEST, name="one", hyperparameters={}), context)
    ids = [change_id("gemini", migrations) for migrations in ([one, two], [two, moved], [one], [smaller])]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    for base in ("models/Gemini..2;$(touch x)`\n", "…", "a" * 300, ".lock", "-"):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?/[a-z2-7]{8}", change_id(base, [one])), base


def test_children_suspended_manifests_and_unknown_data_are_not_moved() -> None:
    context = replace(CONTEXT, catalog=ModelCatalog(date(2026, 11, 1), _CATALOG))
    child = migration_of(replace(MANIFEST, source=Source(tuned_model="parent")), context)
    assert (child.is_due, child.is_needed, child.edits) == (False, False, ())
    assert "migrate parent" in child.remedy
    suspended = unless_suspended(
        migration_of(replace(MANIFEST, lifecycle=Lifecycle(suspend=Suspension())), context),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert (suspended.is_needed, suspended.edits, suspended.obstacle) == (False, (), "it is suspended")
    unknown = migration_of(replace(MANIFEST, dataset=Dataset(UNKNOWN_DATA)), context)
    assert (unknown.is_needed, unknown.edits) == (True, ())
