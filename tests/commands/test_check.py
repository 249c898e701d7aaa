"""Checks at any time, by hand."""

from __future__ import annotations

import json

import pytest

from support.cli_world import Cli, Snapshot

CHECKS = '  sampling: {temperature: 0}\n  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n'
WRONG = CHECKS.replace('equals: "8"', 'equals: "9"')


@pytest.fixture(scope="module")
def after_checks(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project in which a model was trained and passed its check."""
    reconcile = Cli(tmp_path_factory.mktemp("served"))
    reconcile.manifest("adder", more=CHECKS)
    assert reconcile("apply", "--yes").status == 0
    return reconcile.snapshot()


@pytest.fixture
def served(reconcile: Cli, after_checks: Snapshot) -> Cli:
    reconcile.resume(after_checks)
    return reconcile


def test_serving_generations_are_checked_and_recorded(served: Cli) -> None:
    served.manifest("other")
    served.manifest("later", more=CHECKS)
    file = served.folder / "check.json"
    done = served("check", "--report", str(file))
    assert done.status == 0
    assert "adder  1 of 1 checks passed: adder-" in done.out
    assert "later  not checked: no serving generation" in done.out
    assert "other" not in done.out
    report = json.loads(file.read_text())
    assert (report["kind"], report["exitStatus"]) == ("Check", 0)


def test_a_failure_shows_prompt_and_answer_and_is_recorded(served: Cli) -> None:
    served.manifest("adder", more=WRONG)
    done = served("check", "adder")
    assert done.status == 1
    assert "    7 → 8: expected 9" in done.out
    recorded = served.lock["adder"]["generations"][0]["checks"]
    assert (recorded["passed"], recorded["failed"]) == (0, 1)
    assert recorded["failures"] == [{"answer": "8", "check": "small", "prompt": "7"}]
    assert "held: ChecksFailed" in served("plan").out


UNTAUGHT = "(simulated answer: this model has no training examples)"
"""What the base models of the embedded service answer."""
COMPARED = (
    "  sampling: {temperature: 0}\n"
    "  checks:\n"
    "    - name: unseen\n"
    "      dataset: {path: unseen.csv, minimum: 0, sample: 10}\n"
    "      betterThan: {base: true}\n"
    "      noWorseThan: {serving: true, margin: 0.02}\n"
)


def test_a_training_that_taught_nothing_does_not_serve(reconcile: Cli) -> None:
    """A model that answers as the base model does, with which every run compares it on held-out rows."""
    rows = "".join(f"{number},{number + 1}\n" for number in range(1, 13))
    (reconcile.specs / "unseen.csv").write_text(f"text_input,output\n{rows}")
    reconcile.manifest("adder", more=COMPARED)
    done = reconcile("apply", "--yes")
    assert done.status == 0
    better = "base 0.00, tuned 1.00, difference 1.00 [0.61, 1.00]"
    assert f"{better}; not compared with serving: no generation is serving" in " ".join(done.err.split())
    serving = reconcile.lock["adder"]["serving"]
    (recorded,) = reconcile.lock["adder"]["generations"][0]["checks"]["comparisons"]["unseen"]
    assert (recorded["with"], recorded["model"], recorded["difference"]) == ("base", "models/gemini-3.5-flash", 1)

    reconcile.manifest("adder", examples=[(str(number), UNTAUGHT) for number in range(20)], more=COMPARED)
    done = reconcile("apply", "--yes")
    assert done.status == 1
    same = "base 0.00, tuned 0.00, difference 0.00 [-0.28, 0.28], interval above 0 required"
    worse = "serving 1.00, this generation 0.00, difference -1.00 [-1.00, -0.61], at least -0.02 required"
    assert f"0 of 1 checks passed, unseen 0.00 ({same}; {worse})" in " ".join(done.out.split())
    assert "add rows to the data set of a check whose interval is wide" in " ".join(done.out.split())
    newest = reconcile.lock["adder"]["generations"][0]
    assert reconcile.lock["adder"]["serving"] == serving != newest["key"]
    assert [one["passed"] for one in newest["checks"]["comparisons"]["unseen"]] == [False, False]

    refused = reconcile("promote", "adder", "--to", newest["key"])
    assert refused.status == 1
    assert f"cannot be promoted: 0 of 1 checks passed, unseen 0.00 ({same}; {worse});" in " ".join(refused.err.split())

    files = [reconcile.folder / f"check.{suffix}" for suffix in ("json", "md", "html", "xml")]
    reports = [argument for file in files for argument in ("--report", str(file))]
    done = reconcile("check", "adder", "--generation", newest["key"], *reports)
    assert done.status == 1
    for text in (done.out, *(file.read_text() for file in files[1:])):
        assert same.partition(" [")[0] in " ".join(text.split())
    for text in (done.out, files[1].read_text()):
        assert "10 rows were answered correctly by some of the models only" in " ".join(text.split())
    assert 'base "(simulated answer' in done.out
    assert '<th scope="col">This generation</th>' in files[2].read_text()
    (model,) = json.loads(files[0].read_text())["models"]
    base, before = model["checks"]["results"][0]["comparisons"]
    sides = [
        [(answer["model"], answer["passed"]) for answer in row["answers"]]
        for row in model["checks"]["results"][0]["rows"]
    ]
    assert sides == [[("base", False), ("serving", True), ("generation", False)]] * 10
    assert (base["better"], base["worse"], base["required"]) == (0, 0, "better")
    assert (before["model"], before["better"], before["worse"], before["margin"]) == (serving, 0, 10, 0.02)


def test_another_generation_is_checked_without_serving(served: Cli) -> None:
    served.manifest("adder", epochs=3, more=WRONG)
    served("apply", "--yes")
    newest, serving = (one["key"] for one in served.lock["adder"]["generations"])
    served.manifest("adder", epochs=3, more=CHECKS)
    done = served("check", "adder", "--generation", newest)
    assert done.status == 0
    assert f"adder  1 of 1 checks passed: {newest} (not serving)" in done.out
    assert served.lock["adder"]["serving"] == serving


def test_what_cannot_be_checked(served: Cli) -> None:
    for name in ("plain", "gone"):
        served.manifest(name)
    assert served("apply", "--yes").status == 0
    (served.specs / "gone.yaml").unlink()
    served.manifest("later", more=CHECKS)
    for arguments, status, message in (
        (["addr"], 1, "Error: addr not found: no manifest and no model in specs/reconcile.lock.json has this name; "),
        (["plain"], 1, "Error: plain has no checks; add some under spec.checks"),
        (["later"], 1, "Error: later has no serving generation: it was never applied; run reconcile apply"),
        (["gone"], 1, "Error: no manifest declares gone, so it has no checks; name a declared model"),
        (["adder", "--generation", "adder-x"], 64, "Error: adder has no recorded generation adder-x; "),
        (["--generation", "adder-x"], 64, "Error: --generation needs NAME; add the name of its manifest"),
    ):
        done = served("check", *arguments)
        assert done.status == status
        assert message in done.err


def test_a_generation_that_is_not_ready_is_an_error(served: Cli) -> None:
    text = served.lock_file.read_text().replace('"state": "ACTIVE"', '"state": "MISSING"')
    served.lock_file.write_text(text)
    done = served("check", "adder")
    assert done.status == 1
    assert "is not ready: it was recorded as MISSING; run reconcile apply, or name another generation" in done.err


def test_a_deleted_serving_generation_is_an_error_and_stays_recorded(served: Cli) -> None:
    (served.specs / ".reconcile" / "default.sqlite3").unlink()
    before = served.lock_file.read_bytes()
    done = served("check")
    assert done.status == 1
    assert " is gone from the service; run reconcile apply" in done.out
    assert served.lock_file.read_bytes() == before


def test_no_checks_anywhere(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    done = reconcile("check")
    assert (done.status, done.out.splitlines()[-1]) == (0, "No manifest declares checks.")
