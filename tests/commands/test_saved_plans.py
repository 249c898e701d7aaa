"""plan --out and apply FILE: exactly what was looked at, or nothing."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import __version__
from reconciler.emulator.app import create_app
from support.cases import slow_except
from support.cli_world import EXAMPLES, Cli, Result, Snapshot
from support.render_values import held_to

CHECKS = '  sampling: {temperature: 0}\n  checks: [{name: small, prompt: "7", expect: {equals: "8"}}]\n'
STALE = "Error: plan.json is stale, and nothing was changed: "


def planned(reconcile: Cli, *arguments: str) -> dict[str, Any]:
    """A plan that was saved, held to its schemas."""
    done = reconcile("plan", "--out", "plan.json", *arguments)
    assert done.status in {0, 1}, done.err
    assert done.err.endswith("saved plan.json; carry it out with `reconcile apply plan.json`\n")
    document = held_to("saved-plan", json.loads((reconcile.folder / "plan.json").read_text()))
    held_to("plan", document["plan"])
    return document


def refused(reconcile: Cli, *reasons: str) -> None:
    """Hold the refusal to its words."""
    done = reconcile("apply", "plan.json", "--yes")
    assert (done.status, done.err) == (1, f"{STALE}{'; '.join(reasons)}; plan again and review the plan\n")


def models(reconcile: Cli) -> list[str]:
    """The models at the service."""
    store = reconcile.specs / ".reconcile" / "default.sqlite3"
    if not store.exists():
        return []
    with closing(sqlite3.connect(store)) as connection:
        return [line for line in connection.iterdump() if line.startswith('INSERT INTO "models"')]


def stale(reconcile: Cli, *reasons: str) -> None:
    """The same, and nothing happens at the service or to the lockfile."""
    lock = reconcile.lock_file.read_bytes() if reconcile.lock_file.exists() else b""
    before = models(reconcile)
    refused(reconcile, *reasons)
    assert (reconcile.lock_file.read_bytes() if reconcile.lock_file.exists() else b"") == lock
    assert models(reconcile) == before


def applied(reconcile: Cli, *arguments: str) -> Result:
    done = reconcile("apply", *arguments)
    assert done.status == 0, done.err
    return done


def key(reconcile: Cli, name: str = "adder") -> str:
    """The key of the newest generation."""
    return str(reconcile.lock[name]["generations"][0]["key"])


def test_a_saved_plan_is_carried_out_without_a_question(reconcile: Cli) -> None:
    reconcile.manifest("adder", more=CHECKS)
    document = planned(reconcile)
    wanted = document["plan"]["actions"][0]["key"]
    done = applied(reconcile, "plan.json")
    assert f"create {wanted}" in done.err
    assert reconcile.lock["adder"]["serving"] == wanted


def test_only_planned_actions_are_carried_out(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.manifest("doubler")
    planned(reconcile, "--only", "adder")
    applied(reconcile, "plan.json")
    assert reconcile.lock.keys() == {"adder"}


@pytest.mark.usefixtures("trained")
def test_a_plan_without_changes_changes_nothing_and_is_in_sync(reconcile: Cli) -> None:
    planned(reconcile)
    before = reconcile.lock_file.read_bytes()
    assert "No changes" in applied(reconcile, "plan.json").out
    assert reconcile.lock_file.read_bytes() == before


def test_train_only_carries_out_the_trainings_of_a_plan(reconcile: Cli) -> None:
    """The plan also updates, checks and promotes, and has a child of a parent that is trained but not promoted."""
    reconcile.manifest("adder", more=CHECKS)
    applied(reconcile, "--yes")
    serving = reconcile.lock["adder"]["serving"]
    reconcile.manifest("parent", more=CHECKS)
    applied(reconcile, "--yes", "--train-only")
    reconcile.manifest("adder", more=CHECKS + "  displayName: a new name\n", epochs=3)
    child_of_parent(reconcile)
    planned(reconcile)

    applied(reconcile, "plan.json", "--train-only")

    assert reconcile.lock["adder"]["serving"] == serving
    assert "serving" not in reconcile.lock["parent"]
    assert [len(reconcile.lock[name]["generations"]) for name in ("adder", "parent", "child")] == [2, 1, 1]
    assert reconcile("validate", "--locked").status == 0
    assert reconcile("plan", "--format", "json").document["summary"]["create"] == 0


def test_train_only_does_not_train_what_was_not_approved(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    planned(reconcile)
    reconcile.manifest("adder", epochs=3)

    done = reconcile("apply", "plan.json", "--train-only")

    assert (done.status, done.err) == (1, f"{STALE}manifest adder changed; plan again and review the plan\n")
    assert not reconcile.lock_file.exists()


@pytest.mark.usefixtures("trained")
def test_requested_trainings_are_part_of_the_plan(reconcile: Cli) -> None:
    first = key(reconcile)
    planned(reconcile, "--replace", "adder")
    applied(reconcile, "plan.json")
    assert key(reconcile) == reconcile.lock["adder"]["serving"] != first


def test_it_is_carried_out_once(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    planned(reconcile)
    applied(reconcile, "plan.json")
    stale(reconcile, f"the serving generation of adder changed from none to {key(reconcile)}")


def test_a_training_that_completed_since_is_expected(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    applied(reconcile, "--yes", "--no-wait")
    planned(reconcile)
    reconcile.clock.now = reconcile.clock.now.replace(hour=20)
    applied(reconcile, "plan.json")
    assert reconcile.lock["adder"]["serving"] == key(reconcile)


def test_a_missing_training_is_not_started_again(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    applied(reconcile, "--yes", "--no-wait")
    planned(reconcile)
    (reconcile.specs / ".reconcile" / "default.sqlite3").unlink()
    stale(reconcile, f"a model of adder is missing: {key(reconcile)} would be trained")


def test_changed_manifests_are_named(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.manifest("doubler")
    gone = reconcile.manifest("gone")
    planned(reconcile)
    gone.unlink()
    reconcile.manifest("new")
    reconcile.manifest("adder", more="  displayName: sums\n")
    reconcile.manifest("doubler", examples=EXAMPLES[1:])
    stale(
        reconcile,
        "manifest adder changed",
        "the data set of doubler changed",
        "manifest gone was removed",
    )


def _copied_record(reconcile: Cli) -> None:
    document = json.loads(reconcile.lock_file.read_text())
    document["models"]["other"]["generations"][0]["preamble"] = "Praise us. "
    document["models"]["other"].update(rejected=["other-aaaaaaaa"])
    reconcile.lock_file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


SOME = ("--only", "adder", "--only", "other")
UNRELATED: dict[str, Callable[[Cli], object]] = {
    "another manifest": lambda reconcile: reconcile.manifest("other", epochs=3, more=CHECKS),
    "the data set of another manifest": lambda reconcile: reconcile.manifest("other", examples=EXAMPLES[1:]),
    "another record": _copied_record,
    "a new manifest": lambda reconcile: reconcile.manifest("new"),
    "a removed manifest": lambda reconcile: (reconcile.specs / "other.yaml").unlink(),
    "a new parent of another manifest": lambda reconcile: reconcile.manifest("parent", epochs=4),
    "a page": lambda reconcile: (reconcile.specs / "README.md").write_text("Models.\n"),
}


def child_of_parent(reconcile: Cli) -> None:
    """Declare the model child, which is tuned from parent."""
    file = reconcile.manifest("child")
    text = file.read_text()
    file.write_text(re.sub(r"  baseModel: .*\n", "  source: {tunedModel: parent}\n", text))


@pytest.fixture(scope="module")
def after_family(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The models other, parent and child after their trainings."""
    reconcile = Cli(tmp_path_factory.mktemp("family"))
    reconcile.manifest("other")
    reconcile.manifest("parent")
    child_of_parent(reconcile)
    applied(reconcile, "--yes")
    return reconcile.snapshot()


@pytest.mark.parametrize(
    ("options", "change"),
    slow_except(
        [(options, change) for options in ((), SOME) for change in UNRELATED],
        ((), "another record"),
        (SOME, "a removed manifest"),
    ),
)
def test_a_change_that_no_action_depends_on_is_not_refused(
    reconcile: Cli, after_family: Snapshot, change: str, options: tuple[str, ...]
) -> None:
    reconcile.resume(after_family)
    before = {name: model["generations"] for name, model in reconcile.lock.items()}
    reconcile.target("  limits: {maxCreates: 1}\n")
    reconcile.manifest("adder")
    wanted = planned(reconcile, *options)["plan"]["summary"]["create"]
    assert wanted == 1
    UNRELATED[change](reconcile)

    applied(reconcile, "plan.json")

    assert reconcile.lock["adder"]["serving"] == key(reconcile)
    assert {name: len(model["generations"]) for name, model in reconcile.lock.items()} == {
        "adder": 1,
        **{name: len(generations) for name, generations in before.items()},
    }


def test_a_changed_parent_makes_the_plan_of_its_child_stale(reconcile: Cli) -> None:
    reconcile.manifest("parent")
    applied(reconcile, "--yes")
    child_of_parent(reconcile)
    planned(reconcile)
    reconcile.manifest("parent", epochs=3)
    stale(reconcile, "manifest parent changed")


@pytest.mark.usefixtures("trained")
def test_a_changed_record_of_the_model_is_named(reconcile: Cli) -> None:
    first = key(reconcile)
    reconcile.manifest("adder", epochs=3)
    planned(reconcile)
    text = reconcile.lock_file.read_text()
    reconcile.lock_file.write_text(text.replace('"preamble": ""', '"preamble": "Praise us. "'))
    stale(reconcile, f"the record of {first}, a generation of adder, changed in the lockfile")
    reconcile.lock_file.write_text(text)
    applied(reconcile, "plan.json")


def test_every_part_of_a_manifest_counts(reconcile: Cli) -> None:
    file = reconcile.manifest("adder", more=CHECKS)
    text = file.read_text()
    planned(reconcile)
    for old, new in (
        ("epochCount: 2", "epochCount: 3"),
        ("temperature: 0", "temperature: 1"),
        ("{name: adder}", "{name: adder, labels: {team: demo}}"),
        ("spec:\n", "spec:\n  lifecycle: {timeout: 1h}\n"),
        ("spec:\n", "spec:\n  ignoreDrift: [sampling, description]\n"),
        ("spec:\n", "spec:\n  access: [{role: reader, everyone: true}]\n"),
    ):
        file.write_text(text.replace(old, new))
        refused(reconcile, "manifest adder changed")
    file.write_text(text.replace('equals: "8"', 'equals: "9"'))
    stale(reconcile, "the checks of adder changed")
    file.write_text(f"# a comment\n{text}")
    applied(reconcile, "plan.json")


def test_changes_of_the_target_are_named(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    planned(reconcile)
    reconcile.target("  limits: {maxCreates: 50}\n  publish: serving.json\n  policy: {publicAccess: deny}\n")
    stale(
        reconcile,
        "limits.maxCreates of the target changed from 20 to 50",
        "policy.publicAccess of the target changed from true to false",
        "publish of the target changed from none to serving.json",
    )
    reconcile.target("  limits: {maxCreates: 0}\n")
    refused(reconcile, "limits.maxCreates of the target changed from 20 to 0")


def test_a_model_that_was_created_since_is_named(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    document = planned(reconcile)
    applied(reconcile, "--yes", "--no-wait")
    reconcile.lock_file.unlink()
    stale(reconcile, f"model {document['plan']['actions'][0]['key']} was already created")


@pytest.mark.usefixtures("trained")
def test_changed_serving_and_rejected_generations_are_named(reconcile: Cli) -> None:
    first = key(reconcile)
    reconcile.manifest("adder", epochs=3)
    applied(reconcile, "--yes")
    second = key(reconcile)
    reconcile.manifest("adder", epochs=4)
    planned(reconcile)
    assert reconcile("rollback", "adder", "--reason", "worse").status == 0
    stale(
        reconcile,
        f"the serving generation of adder changed from {second} to {first}",
        "the rejected generations of adder changed",
    )


class Stranger:
    """Another client of the embedded service, beside our runs."""

    def __init__(self, reconcile: Cli) -> None:
        self._store = reconcile.specs / ".reconcile" / "default.sqlite3"
        self._clock = reconcile.clock

    def renames(self, reconcile: Cli, name: str, shown: str) -> None:
        """Give the newest model of a manifest another display name."""
        app = create_app(store=self._store, clock=self._clock, random=random.Random(1))  # noqa: S311 - no secret

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://embedded") as client:
                path = f"/v1beta3/tunedModels/{key(reconcile, name)}"
                return await client.patch(path, json={"displayName": shown}, params={"updateMask": "displayName"})

        with ThreadPoolExecutor(1) as beside:  # our own run has a loop already
            assert beside.submit(asyncio.run, send()).result().is_success


def test_a_model_that_changed_since_is_named(reconcile: Cli) -> None:
    reconcile.manifest("adder", more="  displayName: sums\n")
    applied(reconcile, "--yes")
    stranger = Stranger(reconcile)
    planned(reconcile)
    stranger.renames(reconcile, "adder", "mine")
    stale(reconcile, f"{key(reconcile)} changed: displayName")
    planned(reconcile)
    stranger.renames(reconcile, "adder", "ours")
    stale(reconcile, f"{key(reconcile)} changed: displayName")
    stranger.renames(reconcile, "adder", "sums")
    stale(reconcile, f"{key(reconcile)} was already updated")
    stranger.renames(reconcile, "adder", "mine")
    applied(reconcile, "plan.json")
    assert reconcile("plan", "--detailed-exitcode").status == 0


def test_changes_during_the_run_are_not_applied(reconcile: Cli) -> None:
    """With --yes a run mends what changes meanwhile; with a saved plan it does not, and says so."""
    reconcile.manifest("adder", more="  displayName: sums\n")
    applied(reconcile, "--yes")
    reconcile.manifest("doubler")
    planned(reconcile)
    stranger, moves = Stranger(reconcile), []

    def tamper(_now: object) -> None:
        if not moves:
            stranger.renames(reconcile, "adder", "mine")
        moves.append(1)

    reconcile.clock.on_move = tamper
    done = reconcile("apply", "plan.json", "--yes")
    assert done.status == 1
    assert "differs from the manifest; run reconcile apply" in done.out
    assert reconcile.lock["doubler"]["serving"] == key(reconcile, "doubler")


@pytest.mark.usefixtures("trained")
def test_a_missing_model_is_named(reconcile: Cli) -> None:
    planned(reconcile)
    (reconcile.specs / ".reconcile" / "default.sqlite3").unlink()
    stale(reconcile, f"a model of adder is missing: {key(reconcile)} would be trained")


PATHS = "plan.json is a saved plan, which excludes other paths; name the plan or the manifests"
SELECTS = (
    "plan.json already selects a target and manifests; remove -l, --only and --exclude, and any target except default"
)
DECIDES = "plan.json already decides what to do; remove --locked, --prune, --retry, --replace and --base"


def test_other_options_are_usage_errors(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    planned(reconcile)
    for arguments, message in {
        "specs": PATHS,
        "--only adder": SELECTS,
        "--target other": SELECTS,
        "--locked --yes": DECIDES,
        "--retry adder --yes": DECIDES,
        "--replace adder --yes": DECIDES,
        "--base HEAD --yes": DECIDES,
    }.items():
        done = reconcile("apply", "plan.json", *arguments.split())
        assert (done.status, done.err) == (64, f"Error: {message}\n")


INVALID: tuple[tuple[Callable[[str], str], int, str], ...] = (
    (
        lambda text: text[: text.index('"scope": ') + 12],
        1,
        "plan.json:19:16: facts.target.scope: truncated JSON: the file ends too early; ",
    ),
    (
        lambda text: text.replace('"version": 1', '"version": 2', 1),
        1,
        "plan.json:3:14: unsupported version 2: this reconcile reads up to version 1; upgrade reconcile",
    ),
    (
        lambda text: text.replace('"facts"', '"fakes"'),
        1,
        "plan.json:15:12: fakes: unknown field; write it again with reconcile plan --out",
    ),
    (
        lambda text: json.dumps(json.loads(text)["plan"]),
        64,
        "plan.json: a report of a plan cannot be applied; write it again with reconcile plan --out",
    ),
    (
        lambda text: text.replace(f'"reconciler": "{__version__}"', '"reconciler": "0.0.1"'),
        1,
        (
            "plan.json is stale, and nothing was changed: it was made by reconcile 0.0.1, and this is"
            f" {__version__}; plan again and review the plan"
        ),
    ),
)


def test_an_invalid_plan_file_is_an_error(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    planned(reconcile)
    file = reconcile.folder / "plan.json"
    text = file.read_text()
    for change, status, message in INVALID:
        file.write_text(change(text))
        done = reconcile("apply", "plan.json", "--yes")
        assert done.status == status, message
        assert done.err.removeprefix("Error: ").startswith(message)
        assert not reconcile.lock_file.exists()


def test_a_file_that_is_no_plan_is_named(reconcile: Cli) -> None:
    for content in ("", '{"kind": "Sa', '{"a": 1}', "[]", "hello\n", "\0\1\2", '{"kind": "Result"}'):
        (reconcile.folder / "plan.json").write_text(content)
        for more in ((), ("--train-only",)):
            done = reconcile("apply", "plan.json", "--yes", *more)
            assert (done.status, done.err) == (
                64,
                (
                    "Error: plan.json: not a saved plan, and not a manifest: it has no apiVersion"
                    " tuning.reconcile/v1alpha1; write it again with reconcile plan --out, or pass a manifest, or a"
                    " directory with manifests\n"
                ),
            ), content


def test_a_manifest_in_json_is_not_a_plan(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    spec = {"baseModel": "models/gemini-3.5-flash", "description": "Plan", "dataset": {"path": "adder.csv"}}
    manifest = {"apiVersion": "tuning.reconcile/v1alpha1", "kind": "TunedModel", "metadata": {"name": "adder"}}
    (reconcile.specs / "adder.json").write_text(json.dumps({**manifest, "spec": spec}))
    assert "adder" in applied(reconcile, "specs/adder.json", "--yes").out


def test_an_invalid_output_is_refused_before_any_work(reconcile: Cli) -> None:
    data = reconcile.manifest("adder").with_suffix(".csv")
    before = data.read_text()
    for arguments, message in {
        "nowhere/plan.json": "--out nowhere/plan.json cannot be written: No such file or directory; name a file in an"
        " existing",
        "specs": "--out specs cannot be written: Is a directory; name a file in an existing, writable",
        "plan.yaml": "--out plan.yaml: .yaml is the extension of manifests; name a file with .json",
        "specs/adder.csv": "--out specs/adder.csv: the existing file is not a plan; name another file",
        "plan.json --offline": "--out needs a plan from the live state, which --offline does not read; remove",
        "p.json --report ./p.json": "--out p.json and --report ./p.json are the same file; name two files",
    }.items():
        done = reconcile("plan", "--out", *arguments.split())
        assert done.status == 64, arguments
        assert done.err.startswith(f"Error: {message}")
        assert data.read_text() == before


def test_a_saved_plan_has_no_secrets(reconcile: Cli) -> None:
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = "ya29.s3cr3t"
    reconcile.manifest("adder")
    planned(reconcile)
    assert "s3cr3t" not in (reconcile.folder / "plan.json").read_text()


def test_a_plan_that_was_saved_from_elsewhere_is_refused(reconcile: Cli, tmp_path: Path) -> None:
    reconcile.manifest("adder")
    planned(reconcile, "specs")
    file = tmp_path / "plan.json"
    reconcile.folder = tmp_path / "elsewhere"
    reconcile.folder.mkdir()
    done = reconcile("apply", str(file))
    assert done.status == 1
    assert done.err == (
        f"Error: {file} is stale, and nothing was changed: specs: no such file or directory; plan again"
        " and review the plan\n"
    )
