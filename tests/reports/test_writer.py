"""The form of a report follows from its file's name."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from reconciler.domain.document import builtins_of
from reconciler.domain.errors import UsageError
from reconciler.domain.plan import Plan
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.writer import REPORT_FORMATS, encode_report, report_renderer
from support.cases import each_row
from support.render_values import CREATE, LOCKFILE, SIMULATED, TARGET

DOCUMENT = plan_report(Plan((CREATE,)), TARGET, SIMULATED, LOCKFILE)


@each_row(
    ("name", "beginning"),
    [
        ("x.json", '{\n  "kind": "Plan",\n  "version": 1,'),
        ("x.md", "<!-- reconcile:plan:default -->\n"),
        ("x.HTML", "<!doctype html>\n"),
        ("folder.md/x.xml", '<?xml version="1.0" encoding="UTF-8"?>\n'),
    ],
)
def test_the_end_of_the_name_decides(name: str, beginning: str) -> None:
    assert report_renderer(name)(DOCUMENT).lower().startswith(beginning.lower())


def test_there_are_four() -> None:
    assert list(REPORT_FORMATS) == [".json", ".md", ".html", ".xml"]


@each_row("name", ["x.pdf", "x", ".json", "x.json.gz"])
def test_any_other_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        report_renderer(name)
    assert str(refused.value) == (
        f"--report {name}: unsupported format; name a file that ends in .json, .md, .html, .xml; .xml is JUnit"
    )


def test_half_of_a_surrogate_pair_survives_in_json() -> None:
    document = replace(DOCUMENT, notices=("\ud800 é",))
    content = encode_report(report_renderer("x.json")(document))
    assert json.loads(content) == builtins_of(document)
    assert "é".encode() in content
