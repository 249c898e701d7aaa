"""The plain progress: one line a real change."""

from __future__ import annotations

import io

from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.lock import record_target
from reconciler.domain.model import Failure, RemoteModel, State
from reconciler.planning.events import (
    Adopted,
    Checked,
    Checking,
    Completed,
    Declared,
    Disappeared,
    Event,
    Failed,
    Progressed,
    Promoted,
    Published,
    Refused,
    Rejected,
    Restored,
    Started,
    Targeted,
    Updated,
)
from reconciler.reports.text.format import ansi, checks_line
from reconciler.reports.text.progress import PlainProgress
from support.cases import each_row
from support.render_values import ACTIVE, CHECKS, KEY, REMOTE, TARGET, FixedClock, training_model

NAME = "number-generator"
STARTED = Started(NAME, "n.yaml", replace(ACTIVE, state=State.CREATING, final_loss=None))
COMPLETED = Completed(NAME, KEY, training_model(23, 7.21, 3.8, state=State.ACTIVE))


def told(*events: Event, simulated: bool = False) -> list[str]:
    stream = io.StringIO()
    with PlainProgress(stream, clock=FixedClock(), names=[NAME, "x"], simulated=simulated) as progress:
        for event in events:
            progress(event)
    return stream.getvalue().splitlines()


def test_a_training_is_told_by_quarters() -> None:
    stream, clock = io.StringIO(), FixedClock()
    with PlainProgress(stream, clock=clock) as progress:
        progress(STARTED)
        for done in range(23):
            clock.at(2 * done)
            progress(Progressed(NAME, KEY, training_model(done, 7.21, 7.21 - done / 10), 23))
        progress(COMPLETED)
        progress(Promoted(NAME, KEY, REMOTE))
    assert stream.getvalue().splitlines() == [
        f"{NAME}  training started: {KEY}, 23 steps",
        f"{NAME}  26 %: step 6/23, loss 6.61, about 34 s left",
        f"{NAME}  52 %: step 12/23, loss 6.01, about 22 s left",
        f"{NAME}  78 %: step 18/23, loss 5.41, about 10 s left",
        f"{NAME}  completed: {KEY}, 23 steps, final loss 3.80",
    ]


def test_the_first_look_at_a_training_of_an_earlier_run_tells_how_far_it_is() -> None:
    look = Progressed(NAME, KEY, training_model(16, 5.14), 23)
    assert told(look, look) == [f"{NAME}  70 %: step 16/23, loss 5.14, about 0 s left"]


@each_row(
    ("event", "line"),
    [
        (Adopted(NAME, "n.yaml", ACTIVE), f"adopted: {KEY}"),
        (Updated(NAME, KEY, ("displayName", "description")), "updated: displayName, description"),
        (Disappeared(NAME, KEY), f"missing: {KEY} no longer exists at the service"),
        (
            Failed(NAME, KEY, replace(training_model(3, state=State.FAILED), failure=Failure(8, "out of quota"))),
            "failed: out of quota",
        ),
        (Failed(NAME, KEY, training_model(3, state=State.FAILED)), "failed: the service reports no reason"),
        (
            Refused(NAME, ServiceError("no\x1b[2J model", "ask for it", code="NOT_FOUND")),
            r"refused: no\x1b[2J model; ask for it",
        ),
        (Rejected(NAME, KEY, "it is rude\nsometimes"), rf"rejected: {KEY}: it is rude\nsometimes"),
        (Restored(NAME, KEY), f"no longer rejected: {KEY}"),
    ],
)
def test_every_other_change_is_a_line(event: Event, line: str) -> None:
    assert told(event) == [f"{NAME}  {line}"]


def test_what_changes_nothing_is_not_told() -> None:
    unknown_length = Progressed(NAME, KEY, replace(training_model(9, 5.0), total_steps=None), None)
    started = Progressed(NAME, KEY, training_model(0), 23)
    silent = (Targeted(record_target(TARGET)), Declared(NAME, "n.yaml", protect=False), unknown_length, started)
    assert told(*silent, Promoted(NAME, KEY, REMOTE), Published(NAME, KEY)) == []


def told_over(minutes: int, *models: RemoteModel) -> list[str]:
    """What is written while each model in turn is looked at every 30 seconds for so many minutes."""
    stream, clock = io.StringIO(), FixedClock()
    with PlainProgress(stream, clock=clock) as progress:
        progress(STARTED)
        for look in range(1, 2 * minutes * len(models) + 1):
            clock.at(30 * look)
            progress(Progressed(NAME, KEY, models[(look - 1) // (2 * minutes)], 50))
    return [line.removeprefix(f"{NAME}  ") for line in stream.getvalue().splitlines()[1:]]


def test_a_training_that_tells_no_progress_gives_a_sign_of_life_every_five_minutes() -> None:
    silent = replace(training_model(0), completed_steps=None)
    assert told_over(12, silent) == ["still training: 5 min elapsed", "still training: 10 min elapsed"]
    assert told_over(5, replace(silent, start_time="", create_time="")) == ["still training"]


def test_a_change_counts_as_a_sign_of_life() -> None:
    silent = replace(training_model(0), completed_steps=None)
    queued = replace(silent, start_time="", phase="QUEUED\x1b[2J")
    assert told_over(7, queued, silent) == [
        r"service phase: QUEUED\x1b[2J",
        r"still QUEUED\x1b[2J: 6 min elapsed",
        f"training is running: {KEY}",
        "still training: 12 min elapsed",
    ]


def test_long_quarters_are_not_silent_either() -> None:
    assert told_over(6, training_model(1, 7.0)) == ["still training: 5 min elapsed"]


def test_checks_are_told_when_they_begin_and_when_they_end() -> None:
    looks = [Checking(NAME, KEY, done, 12, 3) for done in range(13)]
    assert told(*looks, Checked(NAME, KEY, CHECKS)) == [
        f"{NAME}  checking {KEY}: 3 checks, 12 prompts",
        f"{NAME}  {checks_line(CHECKS)}",
    ]


def test_many_prompts_are_told_by_quarters() -> None:
    """Whatever the training of the same generation told."""
    training = [Progressed(NAME, KEY, training_model(done), 23) for done in range(23)]
    looks = [Checking(NAME, KEY, done, 50, 1) for done in range(51)]
    assert [line.removeprefix(f"{NAME}  ") for line in told(*training, *looks)[3:]] == [
        f"checking {KEY}: 1 check, 50 prompts",
        "26 %: 13 of 50 prompts",
        "50 %: 25 of 50 prompts",
        "76 %: 38 of 50 prompts",
    ]


def test_slow_checks_give_a_sign_of_life() -> None:
    stream, clock = io.StringIO(), FixedClock()
    with PlainProgress(stream, clock=clock) as progress:
        for done in range(4):
            clock.at(200 * done)
            progress(Checking(NAME, KEY, done, 12, 3))
    assert stream.getvalue().splitlines()[1:] == [f"{NAME}  still checking: 2 of 12 prompts"]


def test_names_align() -> None:
    assert told(STARTED, Refused("x", ReconcileError("no"))) == [
        f"{NAME}  training started: {KEY}, 23 steps",
        "x                 refused: no",
    ]


def test_a_simulated_training_is_called_one() -> None:
    assert told(STARTED, simulated=True) == [f"{NAME}  simulated training started: {KEY}, 23 steps"]


def test_a_stream_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with PlainProgress(stream, clock=FixedClock()) as progress:
        progress(Refused("x", ReconcileError("a → b数")))
    assert raw.getvalue() == rb"x  refused: a -> b\u6570" + b"\n"


def test_a_style_colours_the_words() -> None:
    stream = io.StringIO()
    with PlainProgress(stream, clock=FixedClock(), style=ansi) as progress:
        progress(Updated("x", KEY, ("description",)))
    assert stream.getvalue() == "x  \x1b[33mupdated: description\x1b[0m\n"
