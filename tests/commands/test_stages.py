"""Stages as their users see them: trained once, then promoted from stage to stage by reviewed requests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.cases import each_row
from support.cli_world import Cli
from support.git_repository import Repository

STAGES = """\
  stages:
    - name: dev
      publish: dev.json
      checks: [{name: answers, prompt: "3", expect: {matches: "^[0-9]+$"}}]
    - {name: staging, after: dev, publish: staging.json}
    - name: production
      after: staging
      soak: 24h
      publish: production.json
      checks: [{name: answers, prompt: "3", expect: {matches: "^[0-9]+$"}}]
"""


class Team:
    """A repository whose branch main is deployed by ``apply``; each commit has the time of the clock."""

    def __init__(self, folder: Path) -> None:
        self.git = Repository(folder)
        self.reconcile = Cli(folder, {"PATH": os.environ["PATH"]})
        self.reconcile.target(STAGES)
        self.reconcile.manifest("adder")
        (folder / ".gitignore").write_text(".reconcile/\n")
        self.git.clock = self.reconcile.clock
        self.git.commit()

    def deploy(self) -> str:
        """Apply what was merged since the last deployment, as the workflow does, and commit what it wrote."""
        answer = self.reconcile("apply", "--base", self.deployed, "--yes")
        assert answer.status == 0, answer.out + answer.err
        if self.git("status", "--porcelain"):
            self.git.commit()
        self.deployed = self.git("rev-parse", "HEAD").strip()
        return answer.out + answer.err

    deployed = "HEAD"

    def request(self, stage: str) -> str:
        """Merge a pull request that requests a promotion."""
        self.git("checkout", "-q", "-B", f"promote-{stage}")
        answer = self.reconcile("promote", "--all", "--stage", stage, "--reason", f"{stage} needs it")
        assert answer.status == 0, answer.out + answer.err
        self.git.commit()
        self.git("checkout", "-q", "main")
        self.git("merge", "-q", "--no-ff", "-m", "merge", f"promote-{stage}")
        return answer.out

    def published_nothing(self, model: dict[str, Any], *options: str) -> str:
        """Deploy a lockfile with this record of the model, and return what the run reports; undo it afterwards."""
        pointers = [self.reconcile.specs / f"{stage}.json" for stage in ("dev", "staging", "production")]
        before = [pointer.read_text() for pointer in pointers]
        document = json.loads(self.reconcile.lock_file.read_text())
        document["models"]["adder"] = model
        self.reconcile.lock_file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
        answer = self.reconcile("apply", *options, "--yes")
        after = [pointer.read_text() for pointer in pointers]
        self.git("checkout", "-q", ".")
        assert after == before
        return answer.out + answer.err

    def serving(self) -> Iterator[str]:
        model = self.reconcile.lock["adder"]
        yield from filter(
            None, (model.get("serving"), *(one.get("serving") for one in model.get("stages", {}).values()))
        )


def in_production(team: Team, key: str) -> None:
    assert list(team.serving()) == [key, key, key]
    decisions = team.reconcile("history", "adder", "--format", "json").document["decisions"]
    assert [(one["action"], one["stage"], one["generation"], one["reason"]) for one in decisions] == [
        (action, stage, key, f"{stage} needs it")
        for stage in ("production", "staging")
        for action in ("promote", "request")
    ]
    history = team.reconcile("history", "adder").out
    assert f"{key} for production" in history
    assert f"{key} to production" in history


def test_dev_staging_and_production_train_once(tmp_path: Path) -> None:
    team = Team(tmp_path)
    first = team.deploy()
    (key,) = team.serving()
    assert f"checking {key}: 1 check" in first, "the first stage has checks of its own too"
    assert "1 of 1 checks passed" in team.reconcile("check").out
    unserved = team.reconcile("resolve", "--stage", "staging").err
    assert "serving in staging; run reconcile apply" in unserved
    assert "promote them with reconcile promote --all --stage staging" in unserved
    assert "nothing" not in team.request("staging")
    (listed,) = team.reconcile("targets", "--format", "json").document["targets"]
    assert listed["models"][0]["state"] == "pending", "the service was not queried"
    assert f"promote {key} to staging" in team.deploy()
    assert "not promoted to production yet" in team.request("production")
    held = team.deploy()
    assert "held in production: Soaking" in held
    assert list(team.serving()) == [key, key]
    team.reconcile.clock.now += timedelta(hours=24)
    promoted = team.deploy()
    assert promoted.index(f"check {key} for production: 1 check") < promoted.index(f"promoted to production: {key}")
    in_production(team, key)
    (generation,) = team.reconcile.lock["adder"]["generations"]
    assert generation["attempt"] == 0, "trained once"
    for stage in ("dev", "staging", "production"):
        assert team.reconcile("resolve", "adder", "--stage", stage).out == f"{generation['remote']}\n"
        assert key in (team.reconcile.specs / f"{stage}.json").read_text()
    again = team.reconcile("promote", "--all", "--stage", "production")
    assert (again.status, "is serving in production already" in again.out) == (0, True)

    team.reconcile.manifest("adder", epochs=3)
    team.git.commit()
    assert "create adder-" in team.deploy()
    team.request("staging")
    team.deploy()
    new, last, middle = team.serving()
    assert (new == middle, last) == (True, key)
    rejected = team.reconcile("rollback", "adder", "--stage", "staging", "--reason", "too long")
    assert "published   specs/staging.json\n" in rejected.out
    assert (rejected.status, f"{key} is now serving in staging instead of {new}" in rejected.out) == (0, True)
    assert list(team.serving()) == [new, key, key]
    assert key in (team.reconcile.specs / "staging.json").read_text()
    team.git.commit()
    team.deploy()
    assert list(team.serving()) == [new, key, key], "a committed rollback to what was serving before is no request"

    document = json.loads(team.reconcile.lock_file.read_text())
    document["models"]["adder"]["stages"]["production"] |= {"serving": new, "promoteTime": "2020-01-01T00:00:00Z"}
    team.reconcile.lock_file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    team.git.commit()
    forged = team.reconcile("apply", "--base", team.deployed, "--yes")
    assert f"stages.production.serving: {key} → {new}" in forged.err
    assert "held in production: RejectedInStage" in forged.err, "an edited pointer is a request, which staging bars"
    assert list(team.serving()) == [new, key, key]
    assert new not in (team.reconcile.specs / "production.json").read_text()


def test_a_saved_plan_promotes_exactly_what_it_contains(tmp_path: Path) -> None:
    team = Team(tmp_path)
    team.deploy()
    plan, (key,) = ("plan", "--base", team.deployed, "--out", "plan.json"), team.serving()
    assert team.reconcile(*plan).status == 0
    team.request("staging")
    assert f"{key} would be promoted" in team.reconcile("apply", "plan.json").err, "the plan has no promotion"
    assert list(team.serving()) == [key]
    assert f"promote {key} to staging" in team.reconcile(*plan).out
    target = team.reconcile.specs / "reconcile.yaml"
    text = target.read_text()
    target.write_text(text.replace("staging.json", "other.json"))
    stale = team.reconcile("apply", "plan.json").err
    assert "stages.staging.publish of the target changed from staging.json to other.json" in stale
    moved = team.reconcile("plan", "--base", team.deployed).out
    assert "stages.staging.publish: staging.json → other.json" in moved, "a changed address is a row of the plan"
    target.write_text(text)
    applied = team.reconcile("apply", "plan.json")
    assert (applied.status, list(team.serving())) == (0, [key, key]), applied.err
    assert key in (team.reconcile.specs / "staging.json").read_text()
    assert "plan.json is stale" in team.reconcile("apply", "plan.json").err
    team.git.commit()
    team.deploy()

    team.request("production")
    team.reconcile.manifest("adder", epochs=3, more="  lifecycle: {suspend: true}\n")
    team.git.commit()
    team.reconcile.clock.now += timedelta(hours=25)
    held = "(Suspended): spec.lifecycle.suspend is set and holds back: create, promote to production"
    assert held in " ".join(team.deploy().split())
    assert list(team.serving()) == [key, key]
    again = team.reconcile("promote", "--all", "--stage", "production")
    assert "not promoted to production yet: adder is suspended" in again.out
    assert "adder is suspended" in team.reconcile("rollback", "adder", "--stage", "staging", "--reason", "x").err


def test_errors_of_requests(tmp_path: Path) -> None:
    team = Team(tmp_path)
    team.deploy()
    for more, status, message in (
        (("adder", "--stage", "prod"), 64, "no stage prod"),
        (("adder", "--stage", "production"), 1, "adder has no serving generation in staging"),
        (("adder", "--stage", "production", "--to", "x"), 64, "remove --to"),
        (("--all",), 64, "--all needs --stage"),
        (("--all", "--stage", "dev"), 64, "dev is the first stage"),
        (("--stage", "production"), 64, "no model is named"),
    ):
        answer = team.reconcile("promote", *more)
        assert (answer.status, message in answer.err) == (status, True), answer.err


Forge = Callable[[dict[str, Any], dict[str, Any]], None]


def _stage(model: dict[str, Any], name: str, **fields: Any) -> None:
    model["stages"][name] |= fields


def _copy(model: dict[str, Any], other: dict[str, Any]) -> str:
    """Record the generation of another model as one of this model, and return its key."""
    model["generations"].insert(0, other["generations"][0])
    return str(other["generations"][0]["key"])


def _elsewhere(model: dict[str, Any], **fields: Any) -> None:
    model["generations"][0]["remote"] = "projects/other/locations/eu/tuningJobs/7"
    _stage(model, "staging", **fields)


NOTHING = "adder-aaaaaaaa"
FORGED: Mapping[str, tuple[Forge, str]] = {
    "another model's": (lambda model, other: _stage(model, "staging", serving=other["serving"]), "NotInStage"),
    "another model's, requested": (
        lambda model, other: _stage(model, "staging", requested=other["serving"]),
        "NotInStage",
    ),
    "another model's record": (
        lambda model, other: _stage(model, "staging", serving=_copy(model, other)),
        "NotInStage",
    ),
    "another model's record, requested": (
        lambda model, other: _stage(model, "staging", requested=_copy(model, other)),
        "NotInStage",
    ),
    "another model's record everywhere": (
        lambda model, other: (
            model.update(serving=_copy(model, other)),
            _stage(model, "staging", serving=model["serving"], requested=model["serving"]),
        )[1],
        "RecordMismatch",
    ),
    "another project's": (
        lambda model, _: _elsewhere(model, requested=model["serving"]),
        "RecordMismatch",
    ),
    "a missing one": (lambda model, _: _stage(model, "staging", serving=NOTHING), "NotInStage"),
    "a missing one, requested": (lambda model, _: _stage(model, "staging", requested=NOTHING), "NotInStage"),
    "never in the stage before": (
        lambda model, _: _stage(model, "production", serving=model["serving"]),
        "NotInStage",
    ),
    "requested, and never in the stage before": (
        lambda model, _: _stage(model, "production", requested=model["serving"]),
        "NotInStage",
    ),
    "rejected": (
        lambda model, _: _stage(model, "staging", serving=model["serving"], rejected=[model["serving"]]),
        "RejectedInStage",
    ),
    "none": (lambda model, _: model["stages"]["production"].pop("serving"), "stages.production.serving: "),
}


@pytest.fixture(scope="module")
def two_generations(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A model whose new generation is in dev, and whose old one is everywhere else."""
    team = Team(tmp_path_factory.mktemp("team"))
    team.reconcile.manifest("doubler")
    team.git.commit()
    team.deploy()
    team.request("staging")
    team.deploy()
    team.request("production")
    team.reconcile.clock.now += timedelta(hours=25)
    team.deploy()
    team.reconcile.manifest("adder", epochs=3)
    team.git.commit()
    team.deploy()
    first, *later = team.serving()
    assert later == [later[0]] * 2 != [first, first]
    return team


@each_row(("forge", "reason"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_stage_publishes_nothing(two_generations: Team, forge: Forge, reason: str) -> None:
    team = two_generations
    model, other = (team.reconcile.lock[name] for name in ("adder", "doubler"))
    recorded = json.dumps(model["generations"])
    forge(model, other)
    is_fact = json.dumps(model["generations"]) != recorded
    told = team.published_nothing(model, *(() if is_fact else ("--base", team.deployed)))
    assert reason in told
    if is_fact:
        assert "changed fact" in team.published_nothing(model, "--base", team.deployed), "refused before anything else"


def test_a_pointer_of_the_stage_before_that_was_changed_publishes_nothing(two_generations: Team) -> None:
    team, staging = two_generations, two_generations.reconcile.specs / "staging.json"
    new, old, _ = team.serving()
    staging.write_text(staging.read_text().replace(old, new))
    model = team.reconcile.lock["adder"]
    model["stages"]["production"]["requested"] = new
    assert "changed out-of-band, not overwritten" in team.published_nothing(model)
