"""``reconcile data`` on files of a user, without a target, and on the data set of a manifest."""

from __future__ import annotations

import json
from html import unescape

import pytest

from support.cli_world import Cli
from support.render_values import held_to

_DATA = "question,answer\nWhere is it?,at home\nmail ada@example.com,done\nWhere is it?,\x1b[31mat work\n"


def test_inspect_shows_the_same_in_every_format(reconcile: Cli) -> None:
    (reconcile.folder / "orders.csv").write_text(_DATA)
    reports = [f"report.{suffix}" for suffix in ("html", "md", "xml", "json")]
    options = [option for report in reports for option in ("--report", str(reconcile.folder / report))]
    shown = reconcile("data", "inspect", "orders.csv", *options)
    assert (shown.status, shown.err) == (0, "")
    assert "\x1b" not in shown.out
    document = held_to("inspection", reconcile("data", "inspect", "orders.csv", "--format", "json").document)
    assert document == json.loads((reconcile.folder / "report.json").read_text())
    assert (document["shape"], document["examples"], document["turns"], document["tokens"]) == (
        "input-output",
        3,
        3,
        19,
    )
    assert document["readAs"] == {
        "format": "csv",
        "compression": "none",
        "encoding": "utf-8",
        "inputField": "question",
        "outputField": "answer",
    }
    kinds = [finding["kind"] for finding in document["findings"]]
    assert kinds == ["contradiction", "personalData", "brokenText"]
    assert "orders.csv:4:1 (example 3), like example 1 on line 2" in shown.out
    for finding in document["findings"]:
        assert finding["message"] in shown.out
        for report in reports:
            text = (reconcile.folder / report).read_text()
            assert finding["message"] in unescape(text)


def test_inspect_of_a_manifest_compares_its_checks(reconcile: Cli) -> None:
    reconcile.manifest("adder", more='  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n')
    shown = reconcile("data", "inspect", "adder")
    assert shown.status == 0
    assert '1 example has an input that is held out for the check "small"' in shown.out
    assert "specs/adder.csv:9:1 (example 8)" in shown.out


def test_inspect_hides_examples_where_the_target_does(reconcile: Cli) -> None:
    reconcile.target("  showExamples: false\n")
    reconcile.manifest("adder", examples=[(str(number), "even" if number % 2 else "odd") for number in range(20)])
    assert "even" not in reconcile("data", "inspect", "adder").out
    assert "even" in reconcile("data", "inspect", "specs/adder.csv").out


def test_inspect_fails_for_invalid_examples(reconcile: Cli) -> None:
    (reconcile.folder / "orders.csv").write_text("question,answer\na,b\nc,\n")
    shown = reconcile("data", "inspect", "orders.csv")
    assert shown.status == 1
    assert "x the output is empty; fill it in, or delete the example\n      orders.csv:3:1\n" in shown.out
    assert shown.out.endswith("1 example: 1 error.\n")


def test_inspect_finds_what_another_file_holds_out(reconcile: Cli) -> None:
    (reconcile.folder / "orders.csv").write_text(_DATA)
    held_out = '{"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "here"}]}\n'
    (reconcile.folder / "held.jsonl").write_text(held_out)
    shown = reconcile("data", "inspect", "orders.csv", "--checks", "held.jsonl")
    assert '2 examples have an input that is held out for the check "held.jsonl"' in shown.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["ordrs.csv"], 1, "Error: ordrs.csv: no such file; did you mean orders.csv?"),
        (["specs/"], 1, "Error: specs/: is a directory; name a file in it"),
        (
            ["outside.csv"],
            1,
            "Error: outside.csv: outside the repository: outside.csv is a symbolic link; remove the link",
        ),
        (["orders.csv", "--input", "id"], 64, 'Error: orders.csv has no field "id"; choose one of'),
        (["orders.csv", "specs"], 64, "Error: orders.csv is a file, which needs no PATHS and no --target; remove them"),
        (["adder", "--checks", "x.csv"], 64, "Error: no file adder: --checks, --input and --output are for files"),
        (
            ["nothing"],
            1,
            "Error: nothing not found: no manifest and no model in specs/reconcile.lock.json has this name",
        ),
    ],
)
def test_inspect_refuses(reconcile: Cli, arguments: list[str], status: int, message: str) -> None:
    (reconcile.folder / ".git").mkdir()
    reconcile.manifest("adder")
    (reconcile.folder / "orders.csv").write_text(_DATA)
    (reconcile.folder / "outside.csv").symlink_to("/etc/passwd")
    done = reconcile("data", "inspect", *arguments)
    assert done.status == status
    assert done.err.startswith(message)
