"""The file that a target adds to the catalog of base models: untrusted input."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.errors import ReconcileError
from reconciler.manifests.provider_fields import base_model_faults
from reconciler.providers.catalog import built_in, extended, parse
from reconciler.providers.vertex import spec
from reconciler.providers.vertex.manifests import is_open
from support.cases import each_row
from support.provider_vertex import TARGET

KNOWN = BaseModel(methods=("SFT",), locations=("a",), retirement=date(2027, 1, 1), retirement_can_be_later=True)
REMEDY = "write it as in docs/models.md"


def test_a_manifest_can_name_every_base_model_that_can_be_tuned() -> None:
    names = list(built_in(spec.__file__).tunable(date(2026, 11, 30)))
    assert "google/gemma-3-27b-it" in names
    assert [fault for name in names for fault in base_model_faults(name, spec.capabilities_of(TARGET))] == []
    assert {name for name in names if is_open(name)} == {name for name in names if "/" in name}
    assert not is_open("models/gemini-3.5-flash")


def test_a_field_of_the_file_replaces_that_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        'date = 2026-12-01\n[models."x/y@z"]\nretirement = 2027-06-01\n[models.new]\nmethods = ["DPO"]\n'
    )
    catalog = ModelCatalog(date(2026, 11, 1), {"x/y@z": KNOWN, "other": KNOWN}, closed=False)
    found = extended(catalog, "models.toml", tmp_path, "specs/reconcile.yaml")
    changed = BaseModel(methods=("SFT",), locations=("a",), retirement=date(2027, 6, 1))
    assert found == ModelCatalog(
        date(2026, 12, 1), {"x/y@z": changed, "other": KNOWN, "new": BaseModel(methods=("DPO",))}, closed=False
    )


@each_row(
    ("text", "message"),
    [
        ("x = 1", f'm.toml:1:1: x: unknown field "x"; {REMEDY}'),
        ("\nmodels = 3", f"m.toml:2:1: models: expected at most 1,000 tables; {REMEDY}"),
        ("date = 3", 'm.toml:1:1: date: invalid value "3": expected a date; write a date, as in 2026-11-29'),
        ("[models]\na = 1", f'm.toml:1:1: models."a": invalid value "1": expected a table; {REMEDY}'),
        ("[models.a]\nb = [", f"m.toml:2:1: invalid TOML: invalid value; {REMEDY}"),
        ("[models.a]\nb = 1\nb = 2", f"m.toml:3:1: invalid TOML: cannot overwrite a value; {REMEDY}"),
        (
            "[models.a]\n\nlocation = 3",
            'm.toml:3:1: models."a".location: unknown field "location"; did you mean locations?',
        ),
        (
            '[models."a.b"]\nmethods = ["RFT"]',
            'm.toml:2:1: models."a.b".methods: invalid value "[\'RFT\']": expected a list of "SFT" and "DPO"; '
            + REMEDY,
        ),
        (
            "[models.a]\nmaxTokens = 0",
            f'm.toml:2:1: models."a".maxTokens: invalid value 0: expected a whole number, 1 or more; {REMEDY}',
        ),
        (
            "[models.a]\nretirement = 2027-01-01T00:00:00",
            (
                'm.toml:2:1: models."a".retirement: invalid value "2027-01-01 00:00:00": expected a date, as in'
                f" 2027-05-19; {REMEDY}"
            ),
        ),
        (
            '[models."a b"]\n',
            'm.toml:1:1: models."a b": invalid name of a base model; write the name that the service has',
        ),
        (
            '[models.a]\nsuccessor = "b\\t\\n::error::"',
            (
                'm.toml:2:1: models."a".successor: invalid value "b ::error::": expected the name of a base model;'
                f" {REMEDY}"
            ),
        ),
        ("a = " + "[" * 5000, f"m.toml:1:1: nested too deeply; {REMEDY}"),
        ("#" * (2**20 + 1), "m.toml:1:1: larger than 1,048,576 bytes; remove entries"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, message: str) -> None:
    with pytest.raises(ReconcileError) as caught:
        parse(text.encode(), "m.toml")
    assert str(caught.value) == message


def test_bytes_that_are_not_text() -> None:
    with pytest.raises(ReconcileError, match=r"m.toml:2:1: not UTF-8 text: invalid byte 0xff; save the file as UTF-8"):
        parse(b"\n\xff", "m.toml")


@each_row("declared", ["../outside.toml", "/etc/passwd", "missing.toml", ".", "link.toml"])
def test_paths_that_are_no_files_of_the_repository(tmp_path: Path, declared: str) -> None:
    (tmp_path / "outside.toml").write_text("")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.toml").symlink_to(tmp_path / "outside.toml")
    with pytest.raises(ReconcileError) as caught:
        extended(ModelCatalog(), declared, root, "reconcile.yaml")
    assert caught.value.remedy
