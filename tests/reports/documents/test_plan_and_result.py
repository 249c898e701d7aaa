"""Documents: what they hold, and that none escapes its schema."""

from __future__ import annotations

import math
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus, Place, Problem
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Sampling, Target
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.reports.documents.change import ResolvedModel, ResolveReport
from reconciler.reports.documents.doctor import validation_report
from reconciler.reports.documents.envelope import number, target_summary
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, result_report
from reconciler.reports.documents.targets import listed_models
from reconciler.reports.html.page import page
from reconciler.reports.summary import summarize
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import (
    CREATE,
    FAILED,
    IN_SYNC,
    KEY,
    LOCKFILE,
    REAL,
    REMOTE,
    SIMULATED,
    TARGET,
    capabilities,
    counts,
    held_to,
    losses,
    names,
    plans,
    some,
    targets,
    texts,
)

outcomes = st.lists(
    st.builds(
        ModelOutcome,
        name=names,
        state=st.sampled_from(Outcome),
        key=texts,
        remote=texts,
        steps=st.none() | counts,
        final_loss=st.none() | losses.map(number),
        message=texts,
    ),
    max_size=4,
)


def result(plan: Plan, *outcomes: ModelOutcome) -> dict[str, Any]:
    document = result_report(
        plan=plan,
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=outcomes,
        requests=3,
        seconds=1.23456,
        exit_status=ExitStatus.OK,
    )
    return held_to("result", document)


def model(document: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = document["models"]
    return only


def test_a_plan_tells_what_would_be_done_and_how_much() -> None:
    report = plan_report(Plan((CREATE, IN_SYNC), unmanaged=5), TARGET, SIMULATED, LOCKFILE, root="specs")
    document = held_to("plan", report)
    assert document["kind"] == "Plan"
    assert document["simulated"] is True
    assert document["target"] == {
        "name": "default",
        "provider": "embedded",
        "label": "embedded service",
        "scope": "demo",
        "root": "specs",
    }
    assert document["changes"] is True
    assert {name: amount for name, amount in document["summary"].items() if amount} == {
        "create": 1,
        "noop": 1,
        "steps": 23,
        "seconds": 40.0,
    }
    assert document["actions"][0] == {
        "name": "number-generator",
        "file": "number-generator.yaml",
        "action": "create",
        "reason": "NotFound",
        "key": KEY,
        "attempt": 0,
        "baseModel": "models/gemini-3.5-flash",
        "dataset": "datasets/next-number.csv",
        "training": {"examples": 15, "epochs": 3, "batch": 2, "steps": 23, "estimated": False, "seconds": 40.0},
    }


@given(plans, targets, capabilities, texts)
def test_every_plan_obeys_its_schema(plan: Plan, target: Target, able: Capabilities, root: str) -> None:
    held_to("plan", plan_report(plan, target, able, LOCKFILE, root=root))


@given(plans, outcomes, counts, st.floats(0, 1e9), st.sampled_from(ExitStatus))
def test_every_result_obeys_its_schema(
    plan: Plan, done: list[ModelOutcome], requests: int, seconds: float, status: ExitStatus
) -> None:
    report = result_report(
        plan=plan,
        target=TARGET,
        capabilities=REAL,
        outcomes=done,
        requests=requests,
        seconds=seconds,
        exit_status=status,
    )
    document = held_to("result", report)
    told = {one.name for one in plan.actions} | {one.name for one in done}
    assert {one["name"] for one in document["models"]} == told
    assert sum(document["summary"].values()) == len(document["models"])


def test_problems_stand_in_the_order_of_the_files() -> None:
    late, early = Problem(Place("b.yaml", 1, 2), "spec", "is odd"), Problem(Place("a.yaml", 9), "", "is odd", "fix it")
    document = held_to("validation", validation_report([late, early], files=2, manifests=4))
    assert document["valid"] is False
    assert [(one["file"], one["line"], one.get("path")) for one in document["problems"]] == [
        ("a.yaml", 9, None),
        ("b.yaml", 1, "spec"),
    ]


def test_warnings_leave_the_input_valid() -> None:
    warning = Problem(Place("a.yaml"), "spec.dataset", "has few examples", severity="warning")
    document = held_to("validation", validation_report([warning], files=1, manifests=1))
    assert document["valid"] is True
    assert document["summary"] == {"errors": 0, "warnings": 1}


places = st.builds(Place, some, st.integers(1, 10**6), st.integers(1, 10**6))


@given(st.lists(st.builds(Problem, places, texts, some, texts, st.sampled_from(["error", "warning"])), max_size=5))
def test_every_validation_obeys_its_schema(problems: list[Problem]) -> None:
    held_to("validation", validation_report(problems, files=3, manifests=2))


def test_a_result_tells_of_every_model_even_without_an_outcome() -> None:
    orphan = Action(name="old", file="old.yaml", kind=Kind.NOOP, reason=Reason.ORPHANED)
    waiting = Action(name="slow", file="slow.yaml", kind=Kind.WAIT, reason=Reason.TRAINING, key="slow-22222222")
    document = result(Plan((IN_SYNC, orphan, FAILED, waiting, CREATE)))
    assert {one["name"]: one["state"] for one in document["models"]} == {
        "letters": "held",
        "number-generator": "pending",
        "old": "orphaned",
        "slow": "training",
        "words": "inSync",
    }
    assert document["seconds"] == 1.235


def test_an_outcome_stands_where_nothing_is_left_to_do() -> None:
    synced = Action(name="number-generator", file="n.yaml", kind=Kind.NOOP, reason=Reason.IN_SYNC, key=KEY)
    document = result(
        Plan((synced,)),
        ModelOutcome("number-generator", Outcome.READY, key=KEY, remote=REMOTE, steps=23, final_loss=3.8),
    )
    assert model(document) == {
        "name": "number-generator",
        "file": "n.yaml",
        "state": "ready",
        "key": KEY,
        "remote": REMOTE,
        "steps": 23,
        "finalLoss": 3.8,
    }


def test_plan_and_result_tell_where_each_manifest_stands() -> None:
    orphan = Action(name="old", file="old.yaml", kind=Kind.NOOP, reason=Reason.ORPHANED)
    places = {CREATE.name: Place("specs/number-generator.yaml", 4, 9)}
    planned = held_to("plan", plan_report(Plan((CREATE, orphan)), TARGET, SIMULATED, LOCKFILE, places=places))
    told = [(one["file"], one.get("line"), one.get("column")) for one in planned["actions"]]
    assert told == [("number-generator.yaml", 4, 9), ("old.yaml", None, None)]
    done = result_report(
        plan=Plan((CREATE, orphan)),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=[ModelOutcome(CREATE.name, Outcome.REFUSED)],
        requests=1,
        seconds=1,
        exit_status=ExitStatus.ERROR,
        places=places,
    )
    models = held_to("result", done)["models"]
    assert [(one["file"], one.get("line"), one.get("column")) for one in models] == told


def test_a_model_that_trained_and_may_not_serve_is_held() -> None:
    message = "the manifest has checks"
    hold = Action("words", "w.yaml", Kind.HOLD, Reason.CHECKS_NOT_RUN, key="words-22222222", message=message)
    document = result(
        Plan((hold,)), ModelOutcome("words", Outcome.READY, key="words-22222222", remote="tunedModels/w", steps=7)
    )
    assert model(document)["state"] == "held"
    assert model(document)["reason"] == "ChecksNotRun"
    assert model(document)["steps"] == 7


def test_what_was_updated_while_its_successor_trains_is_training() -> None:
    waiting = Action("words", "w.yaml", Kind.WAIT, Reason.TRAINING, key="words-33333333")
    document = result(
        Plan((waiting,)), ModelOutcome("words", Outcome.UPDATED, key="words-22222222", message="displayName")
    )
    assert model(document) == {
        "name": "words",
        "file": "w.yaml",
        "state": "training",
        "key": "words-33333333",
    }


def test_a_failure_is_told_with_its_remedy() -> None:
    document = result(Plan((FAILED,)), ModelOutcome("letters", Outcome.FAILED, key=FAILED.key, message="out of quota"))
    assert model(document)["state"] == "failed"
    assert model(document)["reason"] == "Failed"
    assert model(document)["message"].endswith("train it again with --retry letters")


def test_a_refusal_keeps_its_own_message() -> None:
    document = result(
        Plan((CREATE,)), ModelOutcome("number-generator", Outcome.REFUSED, message="no quota; ask for more")
    )
    assert model(document)["state"] == "refused"
    assert model(document)["message"] == "no quota; ask for more"


def test_resolve_tells_how_to_ask_each_model() -> None:
    models = (
        ResolvedModel(
            name="number-generator",
            key=KEY,
            remote=REMOTE,
            provider="generativelanguage",
            location="europe-west4",
            endpoint="https://example.com",
            url=f"https://example.com/v1beta3/{REMOTE}:generateText",
            preamble="Next: ",
            sampling=Sampling(temperature=0.0, top_k=40),
        ),
        ResolvedModel(name="words", key="words-22222222", remote="tunedModels/words-22222222", provider="embedded"),
    )
    report = ResolveReport(simulated=False, target=target_summary(TARGET, REAL, "specs"), verified=False, models=models)
    document = held_to("resolve", report)
    assert document["models"][0]["sampling"] == {"temperature": 0.0, "topK": 40}
    assert document["models"][1] == {
        "name": "words",
        "key": "words-22222222",
        "remote": "tunedModels/words-22222222",
        "provider": "embedded",
    }


@each_row(
    ("loss", "spelt"),
    [
        (None, None),
        (3.8, 3.8),
        (-1.1e-06, -1.1e-06),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_a_number_is_spelt_so_that_json_holds_it(loss: float | None, spelt: float | str | None) -> None:
    assert number(loss) == spelt


READY = ModelOutcome(IN_SYNC.name, Outcome.READY, key=KEY, remote=REMOTE)
HELD_STAGES: dict[str, tuple[ModelOutcome | None, list[Reason], Outcome, list[str], str]] = {
    # what happened to the model in the first stage, the reasons of the holds, and the outcome with the stages beside it
    "trained, not in stage": (READY, [Reason.NOT_IN_STAGE], Outcome.READY, ["production"], "failed"),
    "trained, rejected": (READY, [Reason.REJECTED_IN_STAGE], Outcome.READY, ["production"], "warning"),
    "trained, soaking": (READY, [Reason.SOAKING], Outcome.READY, ["production"], "warning"),
    "in sync": (None, [Reason.NOT_IN_STAGE], Outcome.HELD, [], "failed"),
    "in sync, two": (None, [Reason.SOAKING, Reason.NOT_IN_STAGE], Outcome.HELD, ["production"], "failed"),
}


@each_row(("done", "reasons", "state", "beside", "worst"), HELD_STAGES.values(), ids=tuple(HELD_STAGES))
def test_a_held_stage_does_not_hide_the_outcome_of_the_model(
    done: ModelOutcome | None, reasons: list[Reason], state: Outcome, beside: list[str], worst: str
) -> None:
    held = [
        replace(IN_SYNC, kind=Kind.HOLD, reason=reason, key="old-22222222", message="it waits", stage=stage)
        for reason, stage in zip(reasons, ("production", "eu"), strict=False)
    ]
    report = result_report(
        plan=Plan((IN_SYNC, *held)),
        target=TARGET,
        capabilities=REAL,
        outcomes=(done,) if done else (),
        requests=1,
        seconds=1,
        exit_status=Plan(tuple(held)).exit_status,
    )
    document = held_to("result", report)
    assert (model(document)["state"], document["summary"]) == (state, {state.value: 1})
    assert [stage["stage"] for stage in model(document).get("heldStages", [])] == beside
    assert [row.level for row in summarize(report).rows].count(cast("Any", worst)) == 1
    text, failed = render_text(report), worst == "failed"
    assert [reason.value in text for reason in reasons] == [True] * len(reasons)
    assert ("ready: " in text, "1 held in production" in text) == (state is Outcome.READY, beside == ["production"])
    assert report.exit_status == (ExitStatus.ERROR if failed else ExitStatus.OK)
    assert [reason.value in page(report) for reason in reasons] == [True] * len(reasons)


@each_row(
    ("reason", "state"),
    [
        (Reason.CHECKS_FAILED, "held"),
        (Reason.SUSPENDED, "held"),
        (Reason.FAILED, "failed"),
        (Reason.CANCELLED, "failed"),
    ],
)
def test_targets_has_the_word_of_the_plan_for_a_held_model(reason: Reason, state: str) -> None:
    (listed,) = listed_models(Plan((replace(IN_SYNC, kind=Kind.HOLD, reason=reason),)), Lock(), ())
    assert listed.state == state
