"""prune and apply --prune on the command line, on the embedded service."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from support.cli_world import Cli, Snapshot, Terminal
from support.git_repository import Repository
from support.render_values import held_to


def trained(reconcile: Cli, *epochs: int, name: str = "adder", more: str = "") -> list[str]:
    """Generations with so many epochs each, one after the other; their keys, the oldest first."""
    for count in epochs:
        reconcile.manifest(name, epochs=count, more=more)
        assert reconcile("apply", "--yes").status == 0
    return keys(reconcile, name)


def keys(reconcile: Cli, name: str = "adder", *states: str) -> list[str]:
    """The recorded generations in these states, or in any, the oldest first."""
    recorded = reconcile.lock.get(name, {}).get("generations", [])[::-1]
    return [one["key"] for one in recorded if not states or one["state"] in states]


def removed(reconcile: Cli, name: str = "adder") -> None:
    for suffix in ("yaml", "csv"):
        (reconcile.specs / f"{name}.{suffix}").unlink()


@pytest.fixture(scope="module")
def after_three(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    reconcile = Cli(tmp_path_factory.mktemp("three"))
    trained(reconcile, 1, 2, 3)
    return reconcile.snapshot()


@pytest.fixture
def three(reconcile: Cli, after_three: Snapshot) -> list[str]:
    """The keys of three trained generations of adder, the oldest first."""
    reconcile.resume(after_three)
    return keys(reconcile)


@pytest.fixture(scope="module")
def after_both(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    reconcile = Cli(tmp_path_factory.mktemp("both"))
    reconcile.manifest("adder", epochs=1)
    trained(reconcile, 1, name="words")
    return reconcile.snapshot()


@pytest.fixture
def both(reconcile: Cli, after_both: Snapshot) -> Cli:
    """The models adder and words, each with one generation."""
    reconcile.resume(after_both)
    return reconcile


def test_a_dry_run_shows_the_deletions(reconcile: Cli, three: list[str]) -> None:
    first, second, third, fourth = trained(reconcile, 4)
    assert three == [first, second, third]
    before = reconcile.lock_file.read_bytes()
    shown = reconcile("prune", "--dry-run", "-v")
    assert (shown.status, reconcile.lock_file.read_bytes()) == (0, before)
    _, file, head, why, remote, created, served, *_ = shown.out.splitlines()
    assert (file, head) == ("specs/adder.yaml", f"  - adder                delete {min(first, second)}")
    assert why == "      why                spec.lifecycle.retain keeps 2 ready generations, and others come first"
    assert remote == f"      remote name        tunedModels/{min(first, second)}"
    assert created.startswith("      created            2026-01-01 12:0")
    assert served.startswith("      served             from 2026-01-01 12:0")
    assert shown.out.count("frees              the model that was trained on 20 examples\n") == 2
    assert f"{fourth} of adder is kept: it is serving; it matches the manifest\n" in shown.out
    assert (
        f"{third} of adder is kept: spec.lifecycle.retain keeps 2 ready generations, and it is one of them" in shown.out
    )
    assert shown.out.endswith("Plan: 2 to delete.\n")

    document = reconcile("prune", "--dry-run", "--format", "json").document
    held_to("plan", document)
    assert {one["key"] for one in document["actions"]} == {first, second}
    assert {one["key"] for one in document["kept"]} == {third, fourth}
    (action, _) = document["actions"]
    assert action["deletion"].keys() == {"createTime", "ageSeconds", "servedFrom", "servedUntil", "examples"}


def test_superseded_generations_are_deleted(reconcile: Cli, three: list[str]) -> None:
    first, second, third = three
    before = reconcile.lock_file.read_bytes()
    refused = reconcile("prune")
    assert refused.status == 64
    assert refused.err.endswith("Error: stdin is not a terminal; pass --yes to approve\n")
    assert reconcile.lock_file.read_bytes() == before

    report, log = (reconcile.folder / name for name in ("report.md", "events.jsonl"))
    ran = reconcile("prune", "--yes", "--report", str(report), "--events", str(log))
    assert ran.status == 0
    assert ran.out.splitlines()[0] == f"adder  deleted: {first}"
    assert ran.err.endswith(f"\nadder  deleting: {first}\n")
    assert "deleted:" not in ran.err
    assert (keys(reconcile, "adder", "DELETED"), keys(reconcile, "adder", "ACTIVE")) == ([first], [second, third])
    assert first in report.read_text()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one.get("event") for one in events] == [None, "planned", "deleted", "summary"]
    again = reconcile("prune", "--yes")
    assert (again.status, again.out) == (0, "Nothing was deleted.\n")
    assert reconcile("plan", "--detailed-exitcode").status == 0


def test_the_result_of_prune_is_a_document(reconcile: Cli, three: list[str]) -> None:
    ran = reconcile("prune", "--yes", "--format", "json")
    held_to("result", ran.document)
    assert ran.document["models"] == [{"name": "adder", "state": "deleted", "deleted": three[:1]}]
    assert ran.document["summary"] == {"deleted": 1}


@pytest.mark.usefixtures("both")
def test_an_orphan_goes_whole_when_the_whole_root_was_read(reconcile: Cli) -> None:
    trained(reconcile, 2)
    (other,) = keys(reconcile, "words")
    removed(reconcile)
    for partly in (["specs/words.yaml"], ["--only", "words"], ["--exclude", "words"], ["-l", "team=x"]):
        ran = reconcile("prune", "--dry-run", "--format", "json", *partly)
        if partly[0] in {"specs/words.yaml", "--only"}:
            assert (ran.status, ran.document["actions"]) == (0, []), partly
        else:
            assert ran.status == 64, partly
    stdin = (reconcile.specs / "words.yaml").read_text().replace("path: words.csv", "path: specs/words.csv").encode()
    piped = reconcile("prune", "--dry-run", "--format", "json", "--target", "embedded", "-", stdin=stdin)
    assert piped.document["actions"] == []

    ran = reconcile("prune", "--yes")
    assert ran.status == 0, ran.err
    assert "adder  no longer serving: " in ran.err
    assert list(reconcile.lock) == ["words"]
    assert keys(reconcile, "words", "ACTIVE") == [other]


def test_the_pointer_is_published_before_a_serving_orphan_is_deleted(reconcile: Cli) -> None:
    reconcile.target("  publish: serving.json\n")
    trained(reconcile, 1)
    pointer = reconcile.specs / "serving.json"
    assert [one["name"] for one in json.loads(pointer.read_text())["models"]] == ["adder"]
    removed(reconcile)

    text = pointer.read_text()
    pointer.write_text(text.replace("adder-", "adder-x"))
    refused = reconcile("prune", "adder", "--yes")
    assert refused.status == 1
    assert "changed out-of-band" in refused.out
    assert keys(reconcile, "adder", "ACTIVE")

    pointer.write_text(text)
    none = reconcile("prune", "--yes")
    assert (none.status, "no manifest found in specs, although" in none.err) == (1, True)
    assert reconcile("prune", "adder", "--yes").status == 0
    assert json.loads(pointer.read_text())["models"] == []
    assert reconcile.lock == {}


DAMAGED: dict[str, Callable[[str], str]] = {
    "serving.json: belongs to another target": lambda text: text.replace('"scope": "', '"scope": "other-'),
    "unsupported version 9": lambda text: text.replace('"version": 1', '"version": 9'),
    "serving.json:": lambda text: text[:-9],
}


def test_nothing_is_deleted_while_the_pointer_cannot_be_read(reconcile: Cli) -> None:
    reconcile.target("  publish: serving.json\n")
    trained(reconcile, 1, 2)
    pointer = reconcile.specs / "serving.json"
    text = pointer.read_text()
    before = keys(reconcile, "adder", "ACTIVE")

    def refuse(cause: str, *arguments: str) -> None:
        done = reconcile(*arguments)
        assert (done.status, done.out, cause in done.err) == (1, "", True), done.err

    for cause, damage in DAMAGED.items():
        assert damage(text) != text
        pointer.write_text(damage(text))
        refuse(cause, "prune", "--yes")
    refuse(cause, "prune", "--dry-run")
    refuse(cause, "apply", "--prune", "--yes")
    assert keys(reconcile, "adder", "ACTIVE") == before


def test_protection_outlives_the_manifest_until_it_is_lifted(reconcile: Cli) -> None:
    trained(reconcile, 1, more="  lifecycle: {protect: true}\n")
    still = reconcile("prune", "--unprotect", "adder", "--yes")
    assert still.status == 64
    assert still.err.startswith("Error: --unprotect adder: spec.lifecycle.protect of the manifest at specs/adder.yaml:")

    trained(reconcile, 1, name="words")
    removed(reconcile)
    partial = reconcile("prune", "specs/words.yaml", "--unprotect", "adder")
    assert (partial.status, partial.err) == (
        64,
        "Error: --unprotect adder: a manifest outside these paths may protect it; name the whole root specs\n",
    )
    kept = reconcile("prune", "--yes", "-v")
    assert (kept.status, kept.out) == (0, "Nothing was deleted.\n")
    assert kept.err.count("Note: adder is kept: adder is recorded as protected\n") == 1
    shown = reconcile("prune", "--dry-run", "--unprotect", "adder")
    assert "Note: adder is no longer protected\n" in shown.out
    assert reconcile.lock["adder"]["protect"] is True

    ran = reconcile("prune", "--unprotect", "adder", "--yes")
    assert ran.status == 0
    assert (ran.out + ran.err).count("Note: adder is no longer protected\n") == 1
    assert list(reconcile.lock) == ["words"]


def test_lifting_a_protection_is_recorded_also_where_nothing_is_to_be_deleted(reconcile: Cli) -> None:
    trained(reconcile, 1, more="  lifecycle: {protect: true}\n")
    reconcile.manifest("adder", epochs=1)
    ran = reconcile("prune", "--unprotect", "adder", "--yes")
    assert (ran.status, ran.out) == (0, "Nothing was deleted.\n")
    assert "Note: adder is no longer protected\n" in ran.err
    assert "protect" not in reconcile.lock["adder"]


def test_only_what_is_protected_can_be_unprotected(both: Cli) -> None:
    for name, message in {
        "ader": "not found in specs/reconcile.lock.json; did you mean adder?",
        "nothing": "not found in specs/reconcile.lock.json; run reconcile status to list the recorded models",
        "adder": "specs/reconcile.lock.json does not record it as protected; remove the option",
    }.items():
        refused = both("prune", "--unprotect", name, "--yes")
        assert (refused.status, refused.err) == (64, f"Error: --unprotect {name}: {message}\n")


def test_models_of_an_invalid_manifest_are_not_deleted(both: Cli) -> None:
    (both.specs / "adder.yaml").write_text("apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\n")
    assert both("prune", "--yes").status == 1
    assert len(keys(both, "adder", "ACTIVE")) == 1


@pytest.mark.usefixtures("three")
def test_only_what_is_old_enough_is_deleted(reconcile: Cli) -> None:
    reconcile.clock.now += timedelta(hours=1)

    def deleted(age: str) -> int:
        return len(reconcile("prune", "--dry-run", "--older-than", age, "--format", "json").document["actions"])

    assert {age: deleted(age) for age in ("59m", "1h5m", "14d")} == {"59m": 1, "1h5m": 0, "14d": 0}


def test_an_age_is_written_in_days_hours_and_minutes(reconcile: Cli) -> None:
    for age in ("", "0d", "5", "2w", "30s", "1h2d"):
        refused = reconcile("prune", "--older-than", age)
        assert refused.status == 64
        assert f"invalid age {age!r}: expected a value like 14d, 36h or 1d12h." in refused.err


@pytest.mark.usefixtures("both")
def test_of_another_branchs_candidates_only_old_ones_go(reconcile: Cli) -> None:
    lock = reconcile.lock_file.read_bytes()
    (_, candidate) = trained(reconcile, 2)
    reconcile.lock_file.write_bytes(lock)
    reconcile.manifest("adder", epochs=1)
    shown = reconcile("prune", "--dry-run", "-v")
    assert f"{candidate} of adder is kept: this lockfile does not record it: another branch may need it" in shown.out
    reconcile.clock.now += timedelta(days=15)
    ran = reconcile("prune", "--older-than", "14d", "--yes")
    assert (ran.status, ran.out.splitlines()[0]) == (0, f"adder  deleted: {candidate}")
    assert "Abandoned" not in reconcile("prune", "--dry-run", "--older-than", "14d", "--format", "json").out


def other_lock(reconcile: Cli, name: str, **fields: Any) -> str:
    """A lockfile that another target of the root has left, which says the same as ours but for ``fields``."""
    document = json.loads(reconcile.lock_file.read_text())
    document["target"]["name"] = name
    document["models"]["adder"] |= fields
    text = json.dumps(document)
    (reconcile.specs / f"reconcile.{name}.lock.json").write_text(text)
    return text


def test_models_in_another_lockfile_of_the_root_are_kept(reconcile: Cli, three: list[str]) -> None:
    first, *_ = three
    other_lock(reconcile, "old", serving=first)
    shown = reconcile("prune", "--dry-run", "-v")
    assert "Nothing to delete. 3 generations are kept." in shown.out
    assert f"{first} of adder is kept: the lockfile of target old records it as serving" in shown.out


def test_a_file_of_the_root_that_cannot_be_read_stops_everything(reconcile: Cli, three: list[str]) -> None:
    unreadable = reconcile.specs / "reconcile.old.lock.json"
    unreadable.write_text("{")
    for command in (["prune", "--yes"], ["apply", "--prune", "--yes"]):
        refused = reconcile(*command)
        assert refused.status == 1
        assert "reconcile.old.lock.json:1:2: truncated JSON" in refused.err
        assert refused.err.endswith("; nothing is deleted, because the models that it relies on are unknown\n")
    assert keys(reconcile, "adder", "ACTIVE") == three

    unreadable.unlink()
    reconcile.target("  nonsense: true\n", "prod")
    prod = reconcile.specs / "reconcile.prod.yaml"
    prod.write_text(prod.read_text().replace("scope: demo", "scope: prod"))
    refused = reconcile("prune", "--yes")
    assert refused.status == 1
    assert "reconcile.prod.yaml:" in refused.err
    assert "fix the target file: nothing is deleted, because the models that it relies on are unknown" in refused.err


def test_too_much_at_once_is_nothing_at_all(reconcile: Cli) -> None:
    for number in range(5):
        reconcile.manifest(f"m{number}", epochs=1)
    assert reconcile("apply", "--yes").status == 0
    for number in range(4):
        removed(reconcile, f"m{number}")
    refused = reconcile("prune", "--yes")
    assert refused.status == 1
    assert (
        "m0  held (Guarded): 4 of 5 managed models would be deleted, over the target's limits.maxDeletes of 3 and"
        " limits.maxDeletePercent of 30, so none is"
    ) in refused.out
    reports = [reconcile.folder / name for name in ("r.md", "r.html", "r.xml", "r.json")]
    applied = reconcile("apply", "--prune", "--yes", *(f"--report={report}" for report in reports))
    assert applied.status == 1
    assert "m0  held (Guarded): 4 of 5 managed models would be deleted" in applied.out
    assert "No changes" not in applied.out
    assert [report.name for report in reports if "limits.maxDeletes" not in report.read_text()] == []
    document = held_to("result", json.loads(reports[-1].read_text()))
    assert document["summary"] == {"held": 4, "inSync": 1}
    assert {one["reason"] for one in document["models"] if one["state"] == "held"} == {"Guarded"}
    assert len(reconcile.lock) == 5
    assert reconcile("prune", "--dry-run").status == 1

    reconcile.target("  limits: {maxDeletePercent: 80}\n")
    shown = reconcile("prune", "--dry-run")
    assert "Note: specs/reconcile.yaml changes limits.maxDeletePercent from 30 to 80\n" in shown.out
    assert reconcile("prune", "--yes").status == 0
    assert len(reconcile.lock) == 1


def test_apply_shows_and_deletes_too(reconcile: Cli, three: list[str]) -> None:
    first, *_ = three
    (words,) = trained(reconcile, 1, name="words")
    removed(reconcile, "words")
    assert "delete" not in reconcile("plan").out.replace("0 to delete", "")
    ran = reconcile("apply", "--prune", "--yes", "--format", "json")
    assert ran.status == 0
    assert f"  - adder                delete {first}\n" in ran.err
    held_to("result", ran.document)
    assert {one["name"]: one.get("deleted") for one in ran.document["models"]} == {"adder": [first], "words": [words]}
    assert list(reconcile.lock) == ["adder"]


def test_apply_reports_deletions_beside_ready_models(reconcile: Cli, three: list[str]) -> None:
    reconcile.manifest("adder", epochs=4)
    ran = reconcile("apply", "--prune", "--yes")
    assert ran.status == 0
    assert ran.out.splitlines()[0].endswith(f"; deleted: {three[0]}")


def test_apply_deletes_nothing_in_a_run_that_only_trains(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    refused = reconcile("apply", "--prune", "--train-only", "--yes")
    assert (refused.status, refused.err) == (
        64,
        "Error: --train-only excludes --prune; remove one of them\n",
    )


# manifests that exist and are not read


@pytest.mark.usefixtures("both")
def test_a_model_whose_manifest_is_not_read_is_kept_until_it_is_named(reconcile: Cli) -> None:
    file = reconcile.specs / "adder.yaml"
    text = file.read_text()
    (serving,) = keys(reconcile, "adder", "ACTIVE")
    ways = {
        "adder.YAML": text,
        "adder.yaml.bak": text,
        ".adder.yaml": text,
        ".off/adder.yml~": text,
        "adder.json": json.dumps(
            {"apiVersion": "tuning.reconcile/v1alpha1", "kind": "TunedModel", "metadata": {"name": "adder"}}
        ),
        "adder.yaml": "".join(f"#{line}\n" for line in text.splitlines()),
    }
    (reconcile.specs / ".off").mkdir()

    def kept(name: str, *command: str) -> None:
        ran = reconcile(*command, "--yes")
        assert (ran.status, keys(reconcile, "adder", "ACTIVE")) == (0, [serving]), (name, ran.err)
        assert "adder is kept: a manifest may declare it: " in ran.out + ran.err, name

    file.unlink()
    for name, content in (*ways.items(), ("adder.yaml", "")):
        other = reconcile.specs / name
        other.write_text(content)
        kept(name, "prune")
        other.unlink()
    for name, content in ways.items():
        (reconcile.specs / name).write_text(content)
    kept("all of them", "apply", "--prune")
    listed = reconcile("validate", "-v").out
    assert [name for name in ways if f"not read: {name}\n" not in listed] == []
    for name in ways.keys() - {"adder.yaml.bak"}:
        (reconcile.specs / name).unlink()

    planned = reconcile("plan")
    assert "adder is recorded, and a manifest may declare it: specs/adder.yaml.bak is not read" in planned.out
    assert "prune" not in planned.out
    shown = reconcile("prune", "--dry-run", "adder")
    assert "Note: not read, although they contain manifests or commented ones: specs/adder.yaml.bak\n" in shown.out
    assert reconcile("prune", "adder", "--yes").status == 0
    assert list(reconcile.lock) == ["words"]


@pytest.mark.usefixtures("both")
def test_a_removal_that_is_not_committed_deletes_nothing(reconcile: Cli) -> None:
    repository = Repository(reconcile.folder)
    repository.commit()
    removed(reconcile)
    ran = reconcile("prune", "--yes")
    assert (ran.status, list(reconcile.lock)) == (0, ["adder", "words"])
    assert "adder is kept: a manifest may declare it: specs/adder.yaml is in git's index, and not on disk" in ran.err
    repository.commit()
    assert reconcile("prune", "--yes").status == 0
    assert list(reconcile.lock) == ["words"]


@pytest.mark.usefixtures("both")
def test_without_any_manifest_only_what_is_named_is_changed(reconcile: Cli) -> None:
    for name in ("adder", "words"):
        (reconcile.specs / f"{name}.yaml").rename(reconcile.specs / f"{name}.YAML")
    before = reconcile.lock_file.read_bytes()
    for command in (
        ["apply", "--yes"],
        ["apply", "--prune", "--yes"],
        ["apply", "--train-only", "--yes"],
        ["wait"],
        ["prune", "--yes"],
        ["prune", "--older-than", "1d", "--yes"],
        ["rollback", "adder", "--reason", "no"],
        ["promote", "adder"],
        ["cancel", "adder", "--yes"],
        ["check"],
        ["adopt", "more", "tunedModels/more"],
        ["validate", "--locked"],
    ):
        refused = reconcile(*command)
        assert refused.status == 1, command
        assert refused.err.startswith(
            "Error: no manifest found in specs, although specs/reconcile.lock.json records 2 models; not read, although"
            " they contain manifests or commented ones: specs/adder.YAML, specs/words.YAML; restore the manifests"
        ), command
    assert reconcile.lock_file.read_bytes() == before
    assert reconcile("refresh").status == 0
    assert reconcile("forget", "adder", "--yes").status == 0
    assert reconcile("prune", "words", "--yes").status == 0
    assert reconcile.lock == {}


def test_names_limit_a_prune(reconcile: Cli, three: list[str]) -> None:
    first, *_ = three
    trained(reconcile, 1, 2, name="words", more="  lifecycle: {retain: 1}\n")
    assert reconcile("prune", "adder", "--yes").status == 0
    assert keys(reconcile, "adder", "DELETED") == [first]
    assert keys(reconcile, "words", "DELETED") == []
    unknown = reconcile("prune", "ader", "--yes")
    assert (unknown.status, "did you mean adder?" in unknown.err) == (1, True)
    removed(reconcile)
    partial = reconcile("prune", "adder", "specs/words.yaml", "--yes")
    assert (partial.status, "name the whole root specs" in partial.err) == (64, True)


def test_the_record_of_an_orphan_without_models_is_removed(reconcile: Cli, after_training: Snapshot) -> None:
    """A canceled training leaves a record, and on this service no model."""
    reconcile.resume(after_training)
    reconcile.manifest("words", epochs=9)
    assert reconcile("apply", "--yes", "--no-wait").status == 0
    assert reconcile("cancel", "words", "--yes").status == 0
    removed(reconcile, "words")
    assert reconcile.lock["words"]["generations"][0]["state"] == "CANCELLED"
    shown = reconcile("prune", "--dry-run")
    assert "no manifest declares words, and none of its models exists; its record is removed" in shown.out
    assert reconcile("prune", "--yes").status == 0
    assert list(reconcile.lock) == ["adder"]


def test_destroy_deletes_what_is_selected_and_asks_for_the_target(both: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    both.manifest("words", epochs=1, more="  lifecycle: {protect: true}\n")
    both.manifest("child")
    (both.specs / "child.yaml").write_text(
        "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {name: child}\n"
        "spec: {source: {tunedModel: adder}, dataset: {path: child.csv}}\n"
    )
    before = both.lock_file.read_bytes()
    kept = both("destroy", "--dry-run")
    assert "the manifest child is tuned from it" not in kept.out, "it is destroyed too"
    assert "  - adder                delete adder-" in kept.out
    assert "adder is destroyed on request; it is recorded as serving, and is taken out of service first" in kept.out
    assert "words is kept: spec.lifecycle.protect is set" in kept.out
    assert "adder is kept: the manifest child is tuned from it" in both("destroy", "adder", "--dry-run").out
    for arguments, message in {
        (): "stdin is not a terminal; pass --confirm with the name of the target to approve",
        ("--confirm", "prod"): '--confirm "prod": the target is "default"; check --target and --confirm',
        ("--yes",): "no such option --yes; see --confirm in `reconcile help destroy`",
        ("bogus", "--confirm", "default"): "bogus not found: no manifest and no model in",
    }.items():
        assert message in both("destroy", *arguments).err
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    declined = both("destroy")
    assert "Type the name of the target, default, to approve: " in declined.err
    assert (declined.status, both.lock_file.read_bytes()) == (1, before)
    monkeypatch.setattr("sys.stdin", Terminal("default\n"))
    done = both("destroy")
    assert (done.status, both("list", "-o", "name").out) == (0, "words\n")
    assert held_to("plan", both("destroy", "--dry-run", "--format", "json").document)["summary"]["delete"] == 0
    assert "words" in both("status", "--live").out
    assert "  destroy  adder  " in both("history").out


def test_destroy_of_a_selection_reads_the_other_manifests_too(both: Cli) -> None:
    both.manifest("words", epochs=1, metadata=", labels: {team: texts}")
    both.manifest("gone", epochs=1)
    shown = both("destroy", "-l", "team=texts", "--dry-run", "--format", "json").document
    assert [action["name"] for action in shown["actions"]] == ["words"]
    for other in (["-l", "team=texts"], ["--only", "words"], ["--exclude", "adder"], ["specs/words.yaml"]):
        refused = both("destroy", "adder", *other, "--confirm", "default")
        assert (refused.status, "a manifest that is not selected may declare adder" in refused.err) == (64, True), other
    assert both("destroy", "specs/adder.yaml", "--confirm", "default").status == 0
    assert both("list", "-o", "name").out == "words\n"
    assert "adder                create adder-" in both("plan").out
