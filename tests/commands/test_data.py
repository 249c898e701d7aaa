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
    saved = json.loads((reconcile.folder / "report.json").read_text())
    assert document | {"run": {}} == saved | {"run": {}}
    assert (document["shape"], document["examples"], document["turns"], document["tokens"]) == (
        "input-output",
        3,
        3,
        22,
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
        ([".git"], 64, "Error: .git: is a directory without data files; name a file"),
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


def test_convert_prints_or_writes_and_never_overwrites_unasked(reconcile: Cli) -> None:
    (reconcile.folder / "orders.csv").write_text("id,question,answer\n1,a,b\n2,c,\u202ed\n")
    shown = reconcile("data", "convert", "orders.csv", "--to", "prompt-completion")
    assert shown.status == 0
    assert shown.out == '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "\\u202ed"}\n'
    assert shown.err == "warning: orders.csv: not converted: id\n"
    convert = "data", "convert", "orders.csv", "--to", "messages", "--out", "orders.jsonl"
    assert reconcile(*convert).out == "orders.jsonl: 2 examples as messages\n"
    again = reconcile(*convert)
    assert (again.status, again.err) == (
        64,
        "Error: orders.jsonl already exists, so nothing was written; name another file, or add --overwrite\n",
    )
    assert reconcile(*convert, "--overwrite").status == 0
    assert reconcile("data", "diff", "orders.csv", "orders.jsonl").out == "No differences: 2 examples.\n"


def test_a_refused_conversion_writes_nothing(reconcile: Cli) -> None:
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]
    (reconcile.folder / "chat.jsonl").write_text(json.dumps({"messages": messages}))
    for arguments in ([], ["--out", "chat.csv"]):
        refused = reconcile("data", "convert", "chat.jsonl", "--to", "csv", *arguments)
        assert (refused.status, refused.out) == (1, "")
        assert refused.err.startswith(
            "Error: chat.jsonl: 1 of 1 example would lose something as csv: line 1 has 2 turns"
        )
    assert not (reconcile.folder / "chat.csv").exists()


def test_convert_writes_through_no_link(reconcile: Cli) -> None:
    (reconcile.folder / "orders.csv").write_text("question,answer\na,b\nc,d\n")
    (reconcile.folder / "link.jsonl").symlink_to(reconcile.folder / "elsewhere.jsonl")
    done = reconcile("data", "convert", "orders.csv", "--to", "jsonl", "--out", "link.jsonl", "--overwrite")
    assert done.status == 1
    assert "link.jsonl cannot be written" in done.err
    assert not (reconcile.folder / "elsewhere.jsonl").exists()


@pytest.mark.parametrize(("amount", "held_out"), [("10%", 2), ("2.5 %", 1), ("7", 7)])
def test_split_names_both_files(reconcile: Cli, amount: str, held_out: int) -> None:
    (reconcile.folder / "data").mkdir()
    rows = "".join(f"question {number},{'yes' if number % 2 else 'no'}\n" for number in range(20))
    (reconcile.folder / "data/orders.csv").write_text(f"question,answer\n{rows}")
    done = reconcile("data", "split", "data/orders.csv", "--held-out", amount)
    assert done.status == 0
    train, held = done.out.splitlines()
    assert train.startswith(f"data/orders.train.csv: {20 - held_out} examples: ")
    assert held.startswith(f"data/orders.held-out.csv: {held_out} example")
    lines = (reconcile.folder / "data/orders.held-out.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("question,answer", held_out + 1)


@pytest.mark.parametrize("amount", ["0%", "100%", "0", "-1", "half", "1.5"])
def test_split_needs_an_amount(reconcile: Cli, amount: str) -> None:
    (reconcile.folder / "orders.csv").write_text(_DATA)
    done = reconcile("data", "split", "orders.csv", "--held-out", amount)
    assert done.status == 64
    assert f"invalid amount '{amount}': expected a share like 10% or a number of examples like 50" in done.err


def test_diff_shows_what_changed(reconcile: Cli) -> None:
    (reconcile.folder / "old.csv").write_text("question,answer\na,1\nb,2\nc,3\n")
    (reconcile.folder / "new.jsonl").write_text(
        "".join(json.dumps({"prompt": given, "completion": wanted}) + "\n" for given, wanted in ("c9", "a1", "d4"))
    )
    shown = reconcile("data", "diff", "old.csv", "new.jsonl")
    assert (shown.status, shown.out.splitlines()) == (
        0,
        [
            "+ new.jsonl:3  d → 4",
            "- old.csv:3  b → 2",
            "~ new.jsonl:1  c: 3 → 9",
            "Examples: 1 added, 1 removed, 1 changed, 1 unchanged.",
        ],
    )
    detailed = reconcile("data", "diff", "old.csv", "new.jsonl", "--detailed-exitcode", "--format", "json")
    document = held_to("data-diff", detailed.document)
    assert detailed.status == 2
    assert [document[kind] for kind in ("added", "removed", "changed", "unchanged")] == [1, 1, 1, 1]
    assert document["examples"][2] == {
        "kind": "changed",
        "line": 1,
        "oldLine": 4,
        "input": "c",
        "output": "9",
        "oldOutput": "3",
    }
    same = reconcile("data", "diff", "old.csv", "old.csv", "--detailed-exitcode")
    assert (same.status, same.out) == (0, "No differences: 3 examples.\n")


def test_an_error_of_a_subcommand_is_a_document_too(reconcile: Cli) -> None:
    done = reconcile("data", "inspect", "missing.csv", "--format", "json")
    assert done.status == 1
    assert done.document["command"] == "data inspect"
    assert done.document["problems"][0]["message"] == "missing.csv: no such file"
