"""Status, validation, results and resolved names as people and shells read them."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.document import json_text
from reconciler.domain.errors import ExitStatus, Place, Problem
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedStage, record_target
from reconciler.domain.model import Capabilities, DroppedExample, DroppedExamples, Failure, RemoteModel, Stage, State
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.change import ResolvedModel, ResolveReport
from reconciler.reports.documents.doctor import validation_report
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.documents.result import ModelOutcome, Outcome, ResultReport, result_report
from reconciler.reports.documents.status import status_report
from reconciler.reports.html.page import page
from reconciler.reports.junit import junit
from reconciler.reports.summary import summarize
from reconciler.reports.text.change import resolve_text
from reconciler.reports.text.format import Layout, ansi
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import (
    ACTIVE,
    FAILED,
    IN_SYNC,
    KEY,
    LOCKFILE,
    REAL,
    REMOTE,
    SIMULATED,
    TARGET,
    locks,
    names,
    plans,
    training_model,
    uncoloured,
)

DIGEST = f"sha256:{'0' * 64}"
HEAD = "Target default: embedded service (simulated training), scope demo\n"


def lines(text: str) -> str:
    return dedent(text).strip("\n")


def status(*generations: LockedGeneration, serving: str | None = None, live: tuple[RemoteModel, ...] = ()) -> str:
    model = LockedModel("n.yaml", serving=serving, generations=generations)
    document = status_report(
        Lock(models={"number-generator": model}),
        TARGET,
        SIMULATED,
        LOCKFILE,
        live={one.remote: one for one in live},
    )
    return render_text(document)


def test_status_is_a_table() -> None:
    assert status(ACTIVE, serving=KEY) == HEAD + lines(
        """
        NAME              SERVING                    STATE   STEPS  FINAL LOSS  CHECKS  SINCE
        number-generator  number-generator-3kq7w2ma  ACTIVE     23        3.80       -  2026-11-22 19:17
        """
    )


def test_status_shows_the_successor_that_trains_under_the_one_that_serves() -> None:
    older = replace(ACTIVE, key="number-generator-22222222", remote="tunedModels/older")
    younger = replace(ACTIVE, state=State.CREATING)
    text = status(younger, older, serving=older.key, live=(training_model(16, 7.21, 5.14),))
    assert text.splitlines()[2:] == [
        "number-generator  number-generator-22222222  ACTIVE     23        3.80       -  2026-11-22 19:17",
        "  training  number-generator-3kq7w2ma: step 16/23 (70 %), loss 5.14",
    ]


def test_status_shows_what_a_training_does_recorded_and_live() -> None:
    recorded = replace(ACTIVE, state=State.CREATING, phase="WAITING_FOR_CAPACITY", completed_epochs=1)
    assert status(recorded).splitlines()[3] == f"  training  {KEY}, waiting for capacity: epoch 1/3 (33 %)"
    counting = replace(
        training_model(0), completed_steps=None, completed_epochs=2, phase="NEW_ONE", hyperparameters={"epochCount": 4}
    )
    assert status(recorded, live=(counting,)).splitlines()[3] == f"  training  {KEY}, NEW_ONE: epoch 2/4 (50 %)"
    tuning = replace(counting, phase="")
    assert status(recorded, live=(tuning,)).splitlines()[3] == f"  training  {KEY}: epoch 2/4 (50 %)"


def test_status_warns_of_dropped_examples() -> None:
    sample = (DroppedExample(2, "too long", "data.csv:3"), DroppedExample(7, "\x1b[2Jempty"))
    dropped = replace(ACTIVE, dropped_examples=DroppedExamples(9, sample))
    assert "\n".join(status(dropped, serving=KEY).splitlines()[3:]) == (
        f"  warning   {KEY}: the service dropped or truncated 9 examples: data.csv:3: too long; example 7:"
        r" \x1b[2Jempty; and 7 more"
    )


def test_status_tells_why_a_training_failed() -> None:
    failed = replace(ACTIVE, state=State.FAILED, failure=Failure(8, "out of \x1b[31mquota"), final_loss=None)
    assert status(failed).splitlines()[2:] == [
        "number-generator  -        FAILED     23           -       -  2026-11-22 19:17",
        r"  failed    number-generator-3kq7w2ma: out of \x1b[31mquota",
    ]


@each_row(
    ("fields", "rejected", "line"),
    [
        ({"checks": RecordedChecks(DIGEST, 1, 2)}, (), f"  held      {KEY}: 1/3 checks passed"),
        ({"rejection": "too slow"}, (KEY,), f"  rejected  {KEY}: too slow"),
        ({}, (), f"  ready     {KEY}: not serving; run reconcile plan to see why"),
    ],
    ids=["failed checks", "rolled back", "neither"],
)
def test_status_tells_why_the_newest_does_not_serve(
    fields: dict[str, Any], rejected: tuple[str, ...], line: str
) -> None:
    older = replace(ACTIVE, key="number-generator-22222222", checks=RecordedChecks(DIGEST, 3, 0))
    model = LockedModel("n.yaml", older.key, rejected, generations=(replace(ACTIVE, **fields), older))
    text = render_text(status_report(Lock(models={"number-generator": model}), TARGET, REAL, LOCKFILE))
    assert text.splitlines()[2:4] == [
        "number-generator  number-generator-22222222  ACTIVE     23        3.80     3/3  2026-11-22 19:17",
        line,
    ]


def test_status_without_asking_the_service_says_so() -> None:
    document = status_report(Lock(), TARGET, REAL, LOCKFILE)
    assert render_text(document) == lines(
        """
        Target default: Generative Language API v1beta3, scope demo
        No models are recorded.
        Recorded state of specs/reconcile.lock.json; the service was not queried.
        """
    )


@each_row(
    ("stage", "why", "level"),
    [
        (LockedStage(serving=KEY), f"serving: {KEY} in staging, production", "good"),
        (
            LockedStage(requested=KEY),
            f"serving: {KEY} in staging\nrequested: {KEY} for production; reconcile plan shows what it waits for",
            "note",
        ),
        (
            LockedStage(requested="old-22222222"),
            (
                f"serving: {KEY} in staging\nheld: old-22222222 for production (NotInStage): old-22222222 is"
                f" requested, and {KEY} is serving in staging; request it with reconcile promote number-generator"
                " --stage production"
            ),
            "warning",
        ),
        (
            LockedStage(requested="bad-22222222"),
            (
                f"serving: {KEY} in staging\nheld: bad-22222222 for production (RejectedInStage): bad-22222222 was"
                " rejected in staging; the request is removed; promote another generation"
            ),
            "warning",
        ),
    ],
    ids=["serving", "requested", "no longer in the stage before", "rejected in the stage before"],
)
def test_a_report_has_the_stages_of_a_model(stage: LockedStage, why: str, level: str) -> None:
    older = tuple(
        replace(ACTIVE, key=key, promote_time="2026-01-01T00:00:00Z") for key in ("old-22222222", "bad-22222222")
    )
    model = LockedModel("n.yaml", KEY, ("bad-22222222",), generations=(ACTIVE, *older), stages={"production": stage})
    target = replace(TARGET, stages=(Stage("staging"), Stage("production", "staging")))
    lock = Lock(record_target(target), {"number-generator": model})
    document = status_report(lock, target, SIMULATED, LOCKFILE)
    (row,) = summarize(document).rows
    assert (row.why, row.level) == (why, level)
    drawn = [render_text(document), page(document), junit(document), json_text(document)]
    reasons = [name for name in ("NotInStage", "RejectedInStage") if name in why]
    assert [name for name in reasons for text in drawn if name not in text] == []


@given(locks)
def test_every_status_can_be_drawn(lock: Lock) -> None:
    text = render_text(status_report(lock, TARGET, SIMULATED, LOCKFILE), width=60)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []


ERROR = Problem(Place("a.yaml", 3, 5), "spec.epochs", "is no field", "did you mean epochCount?")
WARNING = Problem(Place("a.yaml", 9, 1), "spec.dataset", "has 3 examples", severity="warning")


def test_validation_reads_like_a_compiler() -> None:
    document = validation_report([ERROR, WARNING, replace(ERROR, place=Place("b.yaml"), path="")], 7, 9)
    assert render_text(document) == lines(
        """
        a.yaml:3:5: spec.epochs: is no field; did you mean epochCount?
        a.yaml:9:1: warning: spec.dataset: has 3 examples
        b.yaml:1:1: is no field; did you mean epochCount?
        2 errors in 2 files, 1 warning
        """
    )


@each_row(
    ("problems", "manifests", "verdict"),
    [
        ([], 4, "4 manifests are valid"),
        ([], 1, "1 manifest is valid"),
        ([WARNING, WARNING], 2, "2 manifests are valid, 2 warnings"),
        ([ERROR], 2, "1 error in 1 file"),
    ],
)
def test_validation_ends_with_a_verdict(problems: list[Problem], manifests: int, verdict: str) -> None:
    assert render_text(validation_report(problems, 2, manifests)).splitlines()[-1] == verdict


def test_a_hostile_problem_stays_on_its_line() -> None:
    hostile = Problem(Place("a\n.yaml"), "spec\x1b[2J", "odd\r", "go\u202e")
    first = render_text(validation_report([hostile], 1, 1)).splitlines()[0]
    assert first == r"a\n.yaml:1:1: spec\x1b[2J: odd\r; go\u202e"


def result(
    plan: Plan,
    *outcomes: ModelOutcome,
    able: Capabilities = SIMULATED,
    status: ExitStatus = ExitStatus.OK,
) -> ResultReport:
    return result_report(
        plan=plan,
        target=TARGET,
        capabilities=able,
        outcomes=outcomes,
        requests=1,
        seconds=0.2,
        exit_status=status,
    )


READY = ModelOutcome("number-generator", Outcome.READY, key=KEY, remote=REMOTE, steps=23, final_loss=3.8)


def test_nothing_to_do_is_one_line() -> None:
    assert render_text(result(Plan((IN_SYNC,)))) == "No changes. 1 model matches its manifest; 1 request, 0.2 s."


def test_what_became_ready_is_named_and_the_simulation_admitted() -> None:
    assert render_text(result(Plan((IN_SYNC,)), READY)) == lines(
        """
        number-generator  ready: tunedModels/number-generator-3kq7w2ma (23 steps, final loss 3.80)
        Models: 1 ready, 1 in sync; 1 request, 0.2 s. Training is simulated.
        """
    )


def test_a_real_training_is_not_called_simulated() -> None:
    text = render_text(result(Plan(()), READY, able=REAL))
    assert text.splitlines()[-1] == "Models: 1 ready; 1 request, 0.2 s."


def test_a_message_of_several_lines_is_told_once_and_indented() -> None:
    hold = Action("a", "a.yaml", Kind.HOLD, Reason.BASE_MODEL_UNAVAILABLE, message="none can be tuned:\n  kind: Target")
    text = render_text(result(Plan((hold, replace(hold, name="b")))))
    assert text == lines(
        """
        a  held (BaseModelUnavailable): none can be tuned:
                                          kind: Target
        b  held (BaseModelUnavailable): same as a
        Models: 2 held; 1 request, 0.2 s.
        """
    )


def test_every_other_end_is_told_with_its_reason() -> None:
    wait = Action("slow", "s.yaml", Kind.WAIT, Reason.TRAINING, key="slow-22222222")
    suspended = Action("idle", "i.yaml", Kind.HOLD, Reason.SUSPENDED, message="spec.lifecycle.suspend is set")
    refused = ModelOutcome("taken", Outcome.REFUSED, message="the service said no; ask it")
    updated = ModelOutcome("words", Outcome.UPDATED, message="displayName, description")
    unstarted = Action("new", "n.yaml", Kind.CREATE, Reason.NOT_FOUND, key="new-22222222")
    failed = ModelOutcome("letters", Outcome.FAILED, message="out of quota")
    plan = Plan((wait, suspended, FAILED, unstarted))
    text = render_text(result(plan, refused, updated, failed, status=ExitStatus.STILL_TRAINING))
    assert text == lines(
        """
        idle     held (Suspended): spec.lifecycle.suspend is set
        letters  failed: the training failed: out of quota; change the inputs, or train it again with --retry letters
        new      not applied: not trained yet; run reconcile apply
        slow     still training: slow-22222222
        taken    refused: the service said no; ask it
        words    updated: displayName, description
        Models: 1 updated, 1 still training, 1 failed, 1 held, 1 refused, 1 not applied; 1 request, 0.2 s. Training is simulated.
        Training continues; run `reconcile wait` to wait for the result.
        """  # noqa: E501 - the line as it is printed
    )


def test_a_child_whose_parent_was_refused_sends_to_its_parent() -> None:
    refused = ModelOutcome("parent", Outcome.REFUSED, message="the service said no; ask it")
    child = Action("child", "n.yaml", Kind.CREATE, Reason.NOT_FOUND, key="child-22222222", after="parent-33333333")
    assert render_text(result(Plan((child,)), refused)).splitlines()[0] == (
        "child   not applied: tuned from parent-33333333, which is not serving yet; fix its parent, then run"
        " reconcile apply"
    )


def test_a_long_reason_is_folded_beside_its_model() -> None:
    assert render_text(result(Plan((FAILED,))), width=60).splitlines()[:3] == [
        "letters  held (Failed): the training failed: out of quota;",
        "                        change the inputs, or train it again",
        "                        with --retry letters",
    ]


def test_an_interrupted_run_says_that_the_next_one_resumes() -> None:
    text = render_text(result(Plan(()), READY, status=ExitStatus.INTERRUPTED))
    assert text.splitlines()[-1] == "Interrupted. The lockfile is valid, and the next run continues."


def test_colour_adds_nothing_but_colour() -> None:
    document = result(Plan((FAILED, IN_SYNC)), READY)
    coloured = render_text(document, style=ansi)
    assert "\x1b[32mready\x1b[0m" in coloured
    assert uncoloured(coloured) == render_text(document)


@given(plans, st.sampled_from(ExitStatus))
def test_every_result_can_be_drawn(plan: Plan, status: ExitStatus) -> None:
    text = render_text(result(plan, status=status), width=70)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []


def test_resolve_prints_what_a_shell_wants() -> None:
    numbers = ResolvedModel(name="number-generator", key=KEY, remote=REMOTE, provider="embedded")
    words = ResolvedModel(name="words", key="words-22222222", remote="tunedModels/w", provider="embedded")
    target = target_summary(TARGET, SIMULATED, "")
    report = ResolveReport(simulated=True, target=target, verified=False, models=(numbers, words))
    assert resolve_text(report, Layout(), bare=False) == (
        f"number-generator  {REMOTE}\nwords             tunedModels/w"
    )
    assert resolve_text(replace(report, models=(numbers,)), Layout(), bare=True) == REMOTE


def test_a_narrow_terminal_gets_a_row_below_each_name() -> None:
    long = replace(TARGET, project="my-project-with-a-long-name", scope="acme/nlp-models-of-the-whole-company")
    model = LockedModel("words.yaml", serving=KEY, generations=(ACTIVE,))
    document = status_report(Lock(models={"number-generator": model}), long, REAL, LOCKFILE)
    assert render_text(document, width=60) == lines(
        """
        Target default: Generative Language API v1beta3, project
               my-project-with-a-long-name, scope
               acme/nlp-models-of-the-whole-company
        number-generator
          serving   number-generator-3kq7w2ma
                    state ACTIVE, steps 23, final loss 3.80, since
                    2026-11-22 19:17
        Recorded state of specs/reconcile.lock.json; the service was
        not queried.
        """
    )


@given(st.lists(names, min_size=1, max_size=3, unique=True), st.integers(80, 200))
def test_a_status_fits_the_terminal(found: list[str], width: int) -> None:
    lock = Lock(models={one: LockedModel("words.yaml", serving=KEY, generations=(ACTIVE,)) for one in found})
    text = render_text(status_report(lock, TARGET, REAL, LOCKFILE), width=width)
    assert max(map(len, text.splitlines())) <= width


@given(names, st.integers(80, 120))
def test_a_result_fits_the_terminal(name: str, width: int) -> None:
    held = Action(name, "w.yaml", Kind.HOLD, Reason.CHECKS_NOT_RUN, key=f"{name}-22222222", message="words " * 40)
    ready = ModelOutcome(
        f"{name}2",
        Outcome.READY,
        key=f"{name}2-22222222",
        remote=f"tunedModels/{name}2-22222222",
        steps=7,
        final_loss=1,
    )
    document = result_report(
        plan=Plan((held,)),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=[ready],
        requests=1,
        seconds=1,
        exit_status=ExitStatus.ERROR,
    )
    assert max(map(len, render_text(document, width=width).splitlines())) <= width
