"""apply and wait on the command line: what they do, what they print, how they exit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.cli_world import EXAMPLES, Cli, Terminal


def test_apply_trains_and_records_and_a_second_run_is_in_sync(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.manifest("other", epochs=3)

    first = reconcile("apply", "--yes")

    assert first.status == 0, first.err
    assert "adder  ready: tunedModels/adder-" in first.out
    assert "2 ready" in first.out
    assert "Training is simulated." in first.out
    for model in reconcile.lock.values():
        (generation,) = model["generations"]
        assert generation["state"] == "ACTIVE"
        assert model["serving"] == generation["key"]
    before = reconcile.lock_file.read_bytes()
    second = reconcile("apply", "--yes")
    assert second.status == 0
    assert second.out.startswith("No changes. 2 models match their manifests; 1 request, ")
    assert reconcile.lock_file.read_bytes() == before


def test_apply_shows_the_plan_and_wants_a_yes(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    answer = reconcile("apply")

    assert answer.status == 64
    assert "+ adder" in answer.err
    assert "stdin is not a terminal; pass --yes to approve" in answer.err
    assert answer.out == ""
    assert not reconcile.lock_file.exists()


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_plan_is_applied_after_a_yes_alone(
    reconcile: Cli, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    reconcile.manifest("adder")
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    result = reconcile("apply", "specs")
    assert (result.status, reconcile.lock_file.exists()) == (status, status == 0)
    assert "Apply this plan? [y/N]:" in result.err
    assert ("Error: not approved; nothing was changed\n" in result.err) is (status == 1)


def test_no_wait_then_wait(reconcile: Cli) -> None:
    reconcile.clock.least = 0
    reconcile.manifest("adder")

    started = reconcile("apply", "--yes", "--no-wait")
    assert started.status == 0
    assert reconcile.lock["adder"]["generations"][0]["state"] == "CREATING"
    assert "serving" not in reconcile.lock["adder"]

    looked = reconcile("wait", "--timeout", "0")
    assert looked.status == 4
    assert "run `reconcile wait` to wait for the result" in looked.out
    assert reconcile.clock.slept == []

    waited = reconcile("wait", "--timeout", "5s")
    assert waited.status == 4
    assert sum(reconcile.clock.slept) == pytest.approx(5)

    reconcile.clock.least = 30
    done = reconcile("wait")
    assert done.status == 0
    assert "(10 steps" in done.out
    assert "; not promoted; run reconcile apply\n" in done.out
    assert "serving" not in reconcile.lock["adder"]
    assert "adder  ready: " in reconcile("wait").out
    assert reconcile("apply", "--yes").status == 0
    assert reconcile.lock["adder"]["serving"] == reconcile.lock["adder"]["generations"][0]["key"]


def test_wait_resumes_without_a_lockfile(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile("apply", "--yes", "--no-wait")
    reconcile.lock_file.unlink()

    answer = reconcile("wait")

    assert answer.status == 0, answer.err
    (generation,) = reconcile.lock["adder"]["generations"]
    assert generation["origin"] == "adopted"
    assert generation["state"] == "ACTIVE"


def test_a_lost_lockfile_is_rebuilt_without_training(trained: Cli) -> None:
    before = trained.lock
    trained.lock_file.unlink()

    answer = trained("apply", "--yes")

    assert answer.status == 0
    (old,), (new,) = before["adder"].pop("generations"), (rebuilt := trained.lock)["adder"].pop("generations")
    assert rebuilt == before
    assert new.pop("origin") == "adopted"
    unknown = {"origin": "created", "operation": old["operation"]}
    assert {**new, **unknown} == old


def test_wait_creates_nothing(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    answer = reconcile("wait")

    assert answer.status == 1, "what is waited for will never come"
    assert "adder  not applied: not trained yet; run reconcile apply" in answer.out
    assert not reconcile.lock_file.exists()


def test_a_failed_training_is_held_and_retried_on_request(reconcile: Cli) -> None:
    reconcile.manifest("adder", rate=1.5)

    failed = reconcile("apply", "--yes")
    assert failed.status == 1
    assert "The effective learning rate 1.5 is too high" in failed.out
    assert reconcile.lock["adder"]["generations"][0]["error"]["message"].startswith("Tuning failed")

    held = reconcile("apply", "--yes")
    assert held.status == 1
    assert "held (Failed)" in held.out
    assert "--retry adder" in held.out
    assert len(reconcile.lock["adder"]["generations"]) == 1
    assert reconcile("plan").status == 1

    retried = reconcile("apply", "--yes", "--retry", "adder")
    assert retried.status == 1
    attempts = [generation["attempt"] for generation in reconcile.lock["adder"]["generations"]]
    assert attempts == [1, 0]

    reconcile.manifest("adder", rate=0.001)
    assert reconcile("apply", "--yes").status == 0


def test_a_failure_does_not_stop_the_others(reconcile: Cli) -> None:
    reconcile.manifest("bad", rate=1.5)
    reconcile.manifest("lost", base="models/nope-001")
    reconcile.manifest("good")

    answer = reconcile("apply", "--yes")

    assert answer.status == 1
    assert "lost  held (BaseModelUnavailable): no such base model: models/nope-001; set spec.baseModel" in answer.out
    assert "bad   failed: Tuning failed: " in answer.out
    assert reconcile.lock["good"]["serving"]


def test_a_changed_model_is_promoted_when_it_is_ready(trained: Cli) -> None:
    old = trained.lock["adder"]["serving"]
    trained.manifest("adder", examples=[*EXAMPLES, ("fifty", "fifty one")])

    trained("apply", "--yes", "--no-wait")
    assert trained.lock["adder"]["serving"] == old
    trained("wait")
    assert trained.lock["adder"]["serving"] == old
    trained("apply", "--yes")
    new = trained.lock["adder"]["serving"]
    assert new != old

    trained.manifest("adder")
    reverted = trained("apply", "--yes")
    assert reverted.status == 0
    assert trained.lock["adder"]["serving"] == old
    assert len(trained.lock["adder"]["generations"]) == 2


def test_replace_trains_a_ready_model_again(trained: Cli) -> None:
    old = trained.lock["adder"]["serving"]

    assert trained("apply", "--yes", "--replace", "adder", "--no-wait").status == 0
    assert trained.lock["adder"]["serving"] == old
    assert trained("apply", "--yes").status == 0
    assert trained.lock["adder"]["serving"] != old
    assert trained("apply", "--yes").out.startswith("No changes")


def test_only_exclude_and_labels_choose(reconcile: Cli) -> None:
    reconcile.manifest("a", metadata=", labels: {team: x}")
    reconcile.manifest("b")
    reconcile.manifest("c")

    def planned(*arguments: str) -> list[str]:
        return [one["name"] for one in reconcile("plan", "--format", "json", *arguments).document["actions"]]

    assert planned() == ["a", "b", "c"]
    assert planned("--only", "b") == ["b"]
    assert planned("--exclude", "b") == ["a", "c"]
    assert planned("-l", "team=x") == ["a"]
    misspelt = reconcile("plan", "--only", "zebra")
    assert misspelt.status == 64
    assert "--only zebra: no manifest of that name; the manifests are: a, b, c" in misspelt.err
    for command in (["plan"], ["apply", "--yes"], ["validate", "--locked"]):
        answer = reconcile(*command, "-l", "team=y")
        assert (answer.status, "no manifests match" in answer.err) == (64, True)


def test_locked_may_not_create(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    refused = reconcile("apply", "--locked", "--yes")
    assert refused.status == 1
    assert "specs/adder.yaml:3:" in refused.err
    assert "has no ready generation of adder with this content (none is recorded)" in refused.err

    reconcile("apply", "--yes")
    assert reconcile("apply", "--locked", "--yes").status == 0
    assert reconcile("validate", "--locked").status == 0
    reconcile.manifest("adder", epochs=5)
    assert reconcile("validate", "--locked").status == 1
    assert reconcile("apply", "--locked", "--yes").status == 1
    assert len(reconcile.lock["adder"]["generations"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apply", "--locked", "--retry", "adder"], "--locked excludes --retry and --replace"),
        (["apply", "--no-wait", "--timeout", "5m"], "--no-wait excludes --timeout"),
        (["drift", "--exit-zero", "--fail-on", "Missing"], "--exit-zero excludes --fail-on"),
        (["refresh", "--check", "--dry-run"], "--check excludes --dry-run"),
    ],
)
def test_options_that_exclude_each_other(reconcile: Cli, arguments: list[str], message: str) -> None:
    reconcile.manifest("adder")

    answer = reconcile(*arguments)

    assert answer.status == 64
    assert answer.err == f"Error: {message}; remove one of them\n"


def test_suspended_is_held_without_failing(reconcile: Cli) -> None:
    reconcile.manifest("adder", more="  lifecycle: {suspend: true}\n")

    answer = reconcile("apply", "--yes")

    assert answer.status == 0
    assert "held (Suspended)" in answer.out
    assert "create" in answer.out
    assert not reconcile.lock_file.exists()


def test_guarded_creates_nothing_at_all(reconcile: Cli) -> None:
    reconcile.target("  limits: {maxCreates: 1}\n")
    reconcile.manifest("a")
    reconcile.manifest("b")

    answer = reconcile("apply", "--yes")

    assert answer.status == 1
    limits = "models to create in this plan: 2, but limits.maxCreates of the target is 1, so nothing is created"
    assert limits in " ".join(answer.out.split())
    assert not reconcile.lock_file.exists()


def test_a_changed_target_is_announced_or_refused(trained: Cli) -> None:
    trained.target("  limits: {maxCreates: 500}\n")
    assert "specs/reconcile.yaml changes limits.maxCreates from 20 to 500" in trained("plan").out
    target = trained.specs / "reconcile.yaml"
    target.write_text(target.read_text().replace("scope: demo", "scope: other"))

    answer = trained("plan")

    assert answer.status == 1
    assert (
        'specs/reconcile.lock.json belongs to another scope: it records "demo", specs/reconcile.yaml has "other"'
        in (answer.err)
    )


def test_drift_is_patched(reconcile: Cli) -> None:
    reconcile.manifest("a", more="  description: old\n")
    reconcile("apply", "--yes")
    reconcile.manifest("a", more="  description: new\n  sampling: {temperature: 0.2}\n")

    planned = reconcile("plan", "--detailed-exitcode")
    assert planned.status == 2
    assert "description" in planned.out
    applied = reconcile("apply", "--yes")
    assert applied.status == 0
    assert "updated: description, sampling.temperature" in applied.out
    assert reconcile("plan", "--detailed-exitcode").status == 0


def test_events_are_plain_lines_without_a_terminal(reconcile: Cli) -> None:
    reconcile.clock.least = 1
    reconcile.manifest("adder")

    progress = reconcile("apply", "--yes").err.splitlines()

    lines = [line for line in progress if line.startswith("adder ")]
    assert lines[0].startswith("adder  simulated training started: adder-")
    assert any("50 %" in line for line in lines)
    assert lines[-1].startswith("adder  completed: adder-")
    assert not any("\x1b" in line for line in progress)


def test_a_report_is_the_document(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    report = reconcile.folder / "result.json"

    answer = reconcile("apply", "--yes", "--format", "json", "--report", str(report))

    assert report.read_text() == answer.out
    assert answer.document["models"][0]["state"] == "ready"


def test_a_report_of_an_unknown_kind_is_refused(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    answer = reconcile("apply", "--yes", "--report", "plan.pdf")

    assert answer.status == 64
    assert not reconcile.lock_file.exists()
    assert "--report plan.pdf: unsupported format; name a file that ends in .json, .md, .html, .xml" in answer.err


def test_a_report_writes_over_reports_alone(trained: Cli) -> None:
    reconcile = trained
    report, saved, data = (str(reconcile.folder / name) for name in ("x.json", "plan.json", "data.JSON"))
    for _ in range(2):
        assert reconcile("apply", "--yes", "--report", report).status == 0
    assert reconcile("plan", "--out", saved).status == 0
    Path(data).write_text('[{"text_input": "1", "output": "2"}]')
    for file in (str(reconcile.lock_file), saved, data):
        before = Path(file).read_bytes()
        answer = reconcile("drift", "--report", file)
        message = f"--report {file} would overwrite a file that is not a report; name another file"
        assert (answer.status, answer.err) == (64, f"Error: {message}\n")
        assert Path(file).read_bytes() == before


def test_two_reports_in_one_file_are_refused_before_the_training(
    reconcile: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reconcile.folder)
    reconcile.manifest("adder")

    answer = reconcile("apply", "--yes", "--report", "x.md", "--report", "specs/../x.md")

    assert answer.status == 64
    assert "--report x.md and --report specs/../x.md are the same file; name two files" in answer.err
    assert (reconcile.folder / "x.md").read_text().startswith("<!-- reconcile:result:default -->")
    assert not reconcile.lock_file.exists()


def test_several_reports_and_the_quiet_output_of_one_run_tell_the_same(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    files = {end: reconcile.folder / f"result.{end}" for end in ("json", "md", "xml")}
    reports = (part for file in files.values() for part in ("--report", str(file)))
    answer = reconcile("apply", "--yes", "--quiet", *reports)

    assert (answer.status, answer.err) == (0, ""), "quiet prints only the result"
    assert "1 ready" in answer.out
    key = json.loads(files["json"].read_text())["models"][0]["key"]
    assert key in answer.out
    assert files["md"].read_text().startswith("<!-- reconcile:result:default -->\n### ✅ Result for target `default`\n")
    assert [key in file.read_text() for file in files.values()] == [True, True, True]


def test_locked_fails_when_the_model_is_gone(trained: Cli) -> None:
    shutil.rmtree(trained.specs / ".reconcile")
    before = trained.lock_file.read_bytes()
    live = trained("status", "--live", "--format", "json").document
    assert live["models"][0]["generations"][0]["state"] == "MISSING"
    assert trained.lock_file.read_bytes() == before

    answer = trained("apply", "--locked", "--yes")

    assert answer.status == 1
    assert "not trained yet; run reconcile apply" in answer.out
    assert trained("resolve", "adder").status == 1
    assert "was recorded as MISSING" in trained("resolve", "adder").err


def test_records_of_another_run_are_kept(reconcile: Cli) -> None:
    reconcile.manifest("slow")
    reconcile.manifest("quick")
    reconcile("apply", "--yes", "--no-wait", "--only", "slow")
    stale = reconcile.lock_file.read_bytes()
    interrupted = []

    def race(_now: object) -> None:
        """Another run records its model while this one sleeps."""
        if not interrupted:
            interrupted.append(json.loads(reconcile.lock_file.read_text()))
            lock = json.loads(stale)
            lock["models"]["other"] = {"manifest": "other.yaml", "protect": True}
            reconcile.lock_file.write_text(json.dumps(lock))

    reconcile.clock.on_move = race
    assert reconcile("apply", "--yes").status == 0

    assert set(reconcile.lock) == {"quick", "slow", "other"}
    assert reconcile.lock["slow"]["serving"]
    assert reconcile.lock["other"]["protect"]


def test_without_a_yes_nothing_is_patched_after_the_waiting(reconcile: Cli) -> None:
    reconcile.manifest("adder", more="  description: old\n")
    reconcile("apply", "--yes", "--no-wait")
    reconcile.manifest("adder", more="  description: new\n")

    unapproved = reconcile("apply")
    assert unapproved.status == 1
    assert "ready but not serving; run reconcile apply" in unapproved.out
    assert "serving" not in reconcile.lock["adder"]
    assert reconcile("apply", "--yes").status == 0
    assert reconcile.lock["adder"]["serving"]


def test_an_unwritable_report_is_an_error_before_the_training(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    answer = reconcile("apply", "--yes", "--report", str(reconcile.folder / "nowhere" / "x.json"))

    assert answer.status == 64
    assert "cannot be written: No such file or directory; name a file in an existing, writable directory" in answer.err
    assert not reconcile.lock_file.exists()


def test_an_unwritable_lockfile_is_an_error_before_the_training(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.lock_file.mkdir()

    answer = reconcile("apply", "--yes")

    assert answer.status == 1
    assert "reconcile.lock.json" in answer.err
    assert "training started" not in answer.err


def test_only_makes_no_orphans(reconcile: Cli) -> None:
    reconcile.manifest("a")
    manifest = reconcile.manifest("b")
    reconcile("apply", "--yes")
    manifest.unlink()

    assert "Orphaned" in reconcile("plan", "--format", "json").out
    assert "Orphaned" not in reconcile("plan", "--format", "json", "--only", "a").out
