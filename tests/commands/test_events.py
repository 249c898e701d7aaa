"""--events: a line for everything that happens, written while it happens and held to its schema."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.domain.document import builtins_of
from reconciler.reports.documents.events import AnyLine, EventsHeader
from support.cli_world import EXAMPLES, Cli
from support.render_values import held_to, schema

CHECKS = '  sampling: {temperature: 0}\n  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n'
WRITABLE = "name a file in an existing, writable directory"
WRONG = CHECKS.replace('equals: "8"', 'equals: "9"')


def lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a log, each of which its schema and its type were held to."""
    return _lines(file.read_text())


@cache  # a test reads the same lines several times
def _lines(text: str) -> list[dict[str, Any]]:
    header, *rest = text.splitlines()
    typed = [msgspec.json.decode(header, type=EventsHeader), *(msgspec.json.decode(one, type=AnyLine) for one in rest)]
    assert [builtins_of(line) for line in typed] == [json.loads(line) for line in (header, *rest)]
    return [held_to("events", line) for line in typed]


def words(file: Path) -> list[str]:
    """What happened, without the header; progress once."""
    events = [line["event"] for line in lines(file)[1:]]
    return [word for at, word in enumerate(events) if word != "progress" or events[at - 1] != "progress"]


@pytest.fixture
def log(reconcile: Cli) -> Path:
    return reconcile.folder / "events.jsonl"


def test_the_log_has_a_whole_run_from_plan_to_summary(reconcile: Cli, log: Path) -> None:
    reconcile.clock.least = 5
    reconcile.manifest("adder", more=CHECKS)
    done = reconcile("apply", "--yes", "--events", "events.jsonl")
    assert done.status == 0, done.err
    header, planned, started, *rest = lines(log)
    assert (header["version"], header["kind"], header["command"]) == (1, "Events", "apply")
    assert (planned["actions"][0]["action"], planned["summary"]["create"]) == ("create", 1)
    assert (started["event"], started["totalSteps"]) == ("started", 10)
    key = started["key"]
    assert planned["actions"][0]["key"] == key == reconcile.lock["adder"]["serving"]
    assert words(log) == [
        *("planned", "started", "progress", "completed", "checking", "checking", "check", "promoted", "summary"),
    ]
    progress = [line for line in rest if line["event"] == "progress"]
    shares = [line["percent"] for line in progress if "percent" in line]
    assert 0 < shares[0] < shares[-1] <= 100
    assert {line["key"] for line in progress} == {key}
    assert [line["report"]["passed"] for line in rest if line["event"] == "check"] == [1]
    assert (rest[-1]["exitStatus"], rest[-1]["summary"]) == (0, {"ready": 1})
    times = [line["time"] for line in lines(log)]
    assert times == sorted(times)
    assert times[0] < times[-1]


def test_lines_are_written_during_the_run(reconcile: Cli, log: Path) -> None:
    reconcile.clock.least = 5
    reconcile.manifest("adder")
    seen = []
    reconcile.clock.on_move = lambda _now: seen.append(len(log.read_text().splitlines()))
    assert reconcile("apply", "--yes", "--events", str(log)).status == 0
    assert seen == sorted(seen)
    assert seen[0] == 3  # header, planned, started
    assert seen[-1] > seen[0]


def test_failures_updates_and_adoptions(reconcile: Cli, log: Path) -> None:
    reconcile.manifest("adder", more=WRONG)
    assert reconcile("apply", "--yes", "--events", str(log)).status == 1
    assert words(log)[-2:] == ["check", "summary"]
    assert lines(log)[-1]["summary"] == {"held": 1}
    reconcile.lock_file.unlink()
    reconcile.manifest("adder", more=f"{CHECKS}  displayName: sums\n")
    assert reconcile("apply", "--yes", "--events", str(log)).status == 0
    assert words(log) == ["planned", "updated", "adopted", "checking", "checking", "check", "promoted", "summary"]
    assert next(line for line in lines(log)[1:] if line["event"] == "updated")["fields"] == ["displayName"]


def test_wait_and_check_tell_too(reconcile: Cli, log: Path) -> None:
    reconcile.manifest("adder", more=CHECKS)
    assert reconcile("apply", "--yes", "--no-wait").status == 0
    assert reconcile("wait", "--events", str(log)).status == 0
    assert (lines(log)[0]["command"], words(log)[:2]) == ("wait", ["planned", "progress"])
    assert reconcile("apply", "--yes").status == 0
    assert reconcile("check", "--events", str(log)).status == 0
    assert (lines(log)[0]["command"], words(log)) == ("check", ["checking", "checking", "check", "summary"])


def test_many_prompts_are_a_line_a_percent_at_most(reconcile: Cli, log: Path) -> None:
    rows = [f"{number},{number + 1}" for number in range(110)]
    (reconcile.specs / "unseen.csv").write_text("\n".join(["text_input,output", *rows]) + "\n")
    check = "{name: unseen, dataset: {path: unseen.csv, metric: exactMatch, minimum: 0.01}}"
    reconcile.manifest("adder", more=f"  sampling: {{temperature: 0}}\n  checks: [{check}]\n")
    assert reconcile("apply", "--yes", "--events", str(log)).status == 0
    events = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    checks = [line["checks"] for line in events if line["event"] == "checking"]
    assert len(checks) == 101
    assert checks[-1] == {"declared": 1, "prompts": 110, "answered": 110}


def test_the_last_line_of_a_failed_run_has_the_error(reconcile: Cli, log: Path) -> None:
    reconcile.manifest("adder")
    done = reconcile("apply", "--events", str(log))
    assert done.status == 64
    assert words(log) == ["planned", "summary"]
    assert lines(log)[-1]["exitStatus"] == 64
    assert lines(log)[-1]["message"] == "stdin is not a terminal; pass --yes to approve"
    reconcile.manifest("adder", examples=EXAMPLES[:0])
    assert reconcile("apply", "--yes", "--events", str(log)).status == 1
    assert "has no examples" in lines(log)[-1]["message"]


def test_the_last_line_of_an_interrupted_run_has_the_interruption(reconcile: Cli, log: Path) -> None:
    def interrupt(_now: object) -> None:
        raise KeyboardInterrupt

    reconcile.manifest("adder")
    reconcile.clock.on_move = interrupt
    assert reconcile("apply", "--yes", "--events", str(log)).status == 130
    assert lines(log)[-1]["exitStatus"] == 130


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("-", "--events - is not supported: standard output has the result; name a file, or a pipe such as /dev/fd/3"),
        (
            "nowhere/events.jsonl",
            f"--events nowhere/events.jsonl cannot be written: {os.strerror(2)}; {WRITABLE}",
        ),
        (
            "specs",
            "--events specs cannot be written: Is a directory; name a file in an existing, writable directory",
        ),
        (
            "specs/adder.yaml",
            "--events specs/adder.yaml would overwrite a file that is not an event log; name another file",
        ),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_else(reconcile: Cli, file: str, message: str) -> None:
    manifest = reconcile.manifest("adder").read_text()
    for command in (["apply", "--yes"], ["wait"], ["check"]):
        done = reconcile(*command, "--events", file)
        assert (done.status, done.err) == (64, f"Error: {message}\n")
    assert (reconcile.specs / "adder.yaml").read_text() == manifest
    assert not reconcile.lock_file.exists()


def test_a_report_in_the_file_of_the_events_is_refused_before_anything_else(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    for command in (["apply", "--yes"], ["wait"], ["check"]):
        done = reconcile(*command, "--events", "x.json", "--report", "specs/../x.json")
        message = "--events x.json and --report specs/../x.json are the same file; name two files"
        assert (done.status, done.err) == (64, f"Error: {message}\n")
    assert not (reconcile.folder / "x.json").exists()
    assert not reconcile.lock_file.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_reported_once_and_ends_nothing(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    done = reconcile("apply", "--yes", "--events", "/dev/full")
    assert done.status == 0, done.err
    warnings = [line for line in done.err.splitlines() if "--events" in line]
    assert warnings == [
        f"warning: --events /dev/full cannot be written: {os.strerror(28)}; the run continues without it"
    ]


def test_the_schema_and_the_page_know_every_word() -> None:
    text = (Path(__file__).parents[2] / "docs" / "plans.md").read_text(encoding="utf-8")
    page = text.partition("## Events")[2].partition("\n## ")[0]
    emitted = {
        word for row in re.findall(r"^\| (`.+`) \| .+ \|$", page, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)
    }
    whole = schema("events")
    known = {
        whole["$defs"][line["$ref"].rpartition("/")[2]]["properties"]["event"]["const"] for line in whole["oneOf"][1:]
    }
    assert emitted == known
