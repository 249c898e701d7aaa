"""render: documents that earlier runs saved, drawn again."""

from __future__ import annotations

import json

import pytest

from support.cli_world import Cli


def test_a_saved_plan_reads_as_the_run_printed_it(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    saved, drawn, cases = (reconcile.folder / f"plan.{end}" for end in ("json", "md", "xml"))
    printed = reconcile("plan", "--report", str(saved)).out

    answer = reconcile("render", "plan.json", "--report", str(drawn), "--report", str(cases))

    run, _, text = answer.out.partition("\n\n")
    assert (answer.status, text) == (0, printed)
    assert run.startswith("time ")
    assert "command            reconcile plan --report " in run
    assert drawn.read_text().startswith("<!-- reconcile:plan:default -->\n")
    assert '<testcase classname="default.specs/adder.yaml" name="adder"' in cases.read_text()


def test_a_saved_plan_is_drawn_as_the_plan_that_it_holds(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    printed = reconcile("plan", "--out", str(reconcile.folder / "saved.json")).out

    answer = reconcile("render", "saved.json")

    assert (answer.status, answer.out.partition("\n\n")[2]) == (0, printed)


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate",),
        ("plan",),
        ("apply", "--yes"),
        ("status",),
        ("resolve",),
        ("graph",),
        ("doctor",),
        ("history", "adder"),
        ("drift",),
        ("check",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_result_can_be_drawn_again(trained: Cli, arguments: tuple[str, ...]) -> None:
    reconcile = trained
    saved = reconcile(*arguments, "--format", "json").out
    (reconcile.folder / "saved.json").write_text(saved)

    answer = reconcile("render", "saved.json", "--format", "json")

    assert answer.status == 0
    assert answer.out == saved
    assert reconcile("render", "saved.json").out


def test_a_document_without_such_a_report_is_an_error(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    (reconcile.folder / "graph.json").write_text(reconcile("graph", "--format", "json").out)

    answer = reconcile("render", "graph.json", "--report", str(reconcile.folder / "graph.md"))

    assert answer.status == 64
    assert "unsupported kind of document Graph: expected Check, Combined, DataDiff, Drift," in answer.err


def test_a_file_that_is_not_a_document_is_refused(reconcile: Cli) -> None:
    (reconcile.folder / "x.json").write_text(json.dumps({"a": 1}))

    answer = reconcile("render", "x.json")

    assert answer.status == 1
    assert answer.err == (
        "x.json:1:1: not a document of reconcile;"
        " pass a file written by --report FILE.json, --format json or plan --out\n"
    )
    assert answer.out == ""


def test_reports_are_checked_before_the_file_is_read(reconcile: Cli) -> None:
    assert (
        "unsupported format; name a file that ends in .json, .md, .html, .xml"
        in reconcile("render", "x.json", "--report", "x.pdf").err
    )
