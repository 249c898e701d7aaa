"""The live display, on a terminal that writes into memory."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import record_target
from reconciler.domain.model import Failure, RemoteModel, State
from reconciler.planning.events import (
    Adopted,
    Checked,
    Checking,
    Completed,
    Event,
    Failed,
    Progressed,
    Promoted,
    Refused,
    Started,
    Targeted,
    Updated,
)
from reconciler.reports.text.live import LiveProgress
from support.cases import each_row
from support.render_values import ACTIVE, CHECKS, KEY, REMOTE, TARGET, FixedClock, training_model, uncoloured

NAME = "number-generator"
STARTED = Started(NAME, "n.yaml", replace(ACTIVE, state=State.CREATING, final_loss=None))
AT_16 = Progressed(NAME, KEY, training_model(16, 7.21, 6.5, 5.14), 23)
COMPLETED = Completed(NAME, KEY, training_model(23, 7.21, 3.8, state=State.ACTIVE))
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def watched(*events: Event, width: int = 80, height: int = 25, seconds: float = 0.0) -> str:
    """Everything that a terminal was sent, without colour."""
    screen, clock = io.StringIO(), FixedClock()
    console = Console(file=screen, force_terminal=True, width=width, height=height)
    with LiveProgress(console, clock=clock, names=[NAME]) as progress:
        for event in events:
            clock.at(seconds)
            progress(event)
    return uncoloured(screen.getvalue())


def last_frame(text: str) -> list[str]:
    """The lines of the last drawing."""
    frame = re.split(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*|\x1b\[\?25[hl]", text.removesuffix(SHOW_CURSOR))[-1]
    return frame.rstrip("\n").split("\n")


def test_a_training_is_one_line_with_all_there_is_to_know() -> None:
    (line,) = last_frame(watched(STARTED, AT_16, width=120, seconds=32))
    assert re.fullmatch(r"number-generator  [━╸╺]{24}  70 %  step 16/23  epoch 2  loss 7\.21 → 5\.14  █▆▁  0:14", line)


@each_row(
    ("width", "kept", "dropped"),
    [
        (80, ["70 %", "step 16/23", "loss 7.21 → 5.14", "█▆▁", "0:14"], ["epoch"]),
        (66, ["70 %", "step 16/23", "0:14"], ["epoch", "█▆▁"]),
        (40, ["70 %"], ["epoch", "loss"]),
    ],
)
def test_a_narrow_terminal_loses_the_least_first(width: int, kept: list[str], dropped: list[str]) -> None:
    (line,) = last_frame(watched(STARTED, AT_16, width=width, seconds=32))
    assert len(line) <= width
    assert [text for text in kept if text not in line] == []
    assert [text for text in dropped if text in line] == []


def test_several_trainings_align() -> None:
    other = Progressed("x", "x-22222222", replace(training_model(2, 11.5), remote="tunedModels/x"), 1000)
    one, two = last_frame(watched(AT_16, other, seconds=32))
    assert one.index(" 70 %") + len(" 70 %") == two.index(" 0 %") + len(" 0 %")
    assert one.index("step") == two.index("step")
    assert two.startswith("x                 ")


def test_more_trainings_than_lines_are_counted() -> None:
    looks = [Progressed(f"m{at}", f"m{at}-22222222", training_model(at), 23) for at in range(10)]
    frame = last_frame(watched(*looks, height=6))
    assert [line.split()[0] for line in frame] == ["m0", "m1", "m2", "m3", "and"]
    assert frame[-1] == "and 6 more in progress"


def test_the_end_of_a_training_stays_on_the_screen() -> None:
    text = watched(STARTED, AT_16, COMPLETED, Promoted(NAME, KEY, REMOTE))
    assert f"{NAME}  completed: {KEY}, 23 steps, final loss 3.80\n" in text
    assert f"{NAME}  completed: {KEY}, 23 steps, final loss 3.80\n" in text
    assert "step" not in text[text.index("completed:") :].replace("23 steps", "")
    assert text.rstrip("\r").endswith(SHOW_CURSOR)


def test_a_failure_says_why_and_steers_nothing() -> None:
    failure = Failure(8, "out of\x1b[2J [red]quota[/red]")
    failed = Failed(NAME, KEY, replace(training_model(16, state=State.FAILED), failure=failure))
    assert rf"{NAME}  failed: out of\x1b[2J [red]quota[/red]" + "\n" in watched(STARTED, AT_16, failed)


def test_a_training_of_an_earlier_run_has_its_line_once_it_is_adopted() -> None:
    text = watched(Adopted(NAME, "n.yaml", replace(ACTIVE, state=State.CREATING)))
    assert f"{NAME}  adopted: {KEY}\n" in text
    assert "step 0/23" in last_frame(text)[0]


def test_a_ready_model_that_is_adopted_or_updated_trains_nothing() -> None:
    text = watched(
        Targeted(record_target(TARGET)), Adopted(NAME, "n.yaml", ACTIVE), Updated(NAME, KEY, ("description",))
    )
    assert "step" not in text
    assert f"{NAME}  updated: description\n" in text


def test_a_training_of_unknown_length_claims_no_share() -> None:
    endless = Progressed(NAME, KEY, replace(training_model(5, 7.0), total_steps=None), None)
    (line,) = last_frame(watched(endless))
    assert line.rstrip().endswith("step 5  epoch 0  loss 7.00  ▁")
    assert "%" not in line


def test_checks_under_way_have_a_line_like_a_training() -> None:
    text = watched(COMPLETED, *(Checking(NAME, KEY, done, 12, 3) for done in range(4)))
    (line,) = last_frame(text)
    assert re.fullmatch(r"number-generator  [━╸╺]{24}  checking  25 %  prompt 3/12 *", line)
    assert "3 checks" not in text


def test_the_result_of_checks_stays_on_the_screen() -> None:
    text = watched(Checking(NAME, KEY, 12, 12, 3), Checked(NAME, KEY, CHECKS))
    assert f"{NAME}  checks failed: 2 of 4: small (expected 9, got 10)" in text
    assert "prompt" not in text[text.index("checks failed") :]


def test_checks_that_break_off_leave_no_line_and_the_next_training_goes_on() -> None:
    other = Progressed(NAME, "number-generator-22222222", training_model(3), 23)
    broken = Refused(NAME, ReconcileError("the endpoint is gone"))
    text = watched(Checking("x", "x-1", 2, 4, 1), Checking(NAME, KEY, 3, 12, 3), other, broken)
    frame = last_frame(text)
    assert f"{NAME}  refused: the endpoint is gone\n" in text
    assert [(line.split()[0], "prompt" in line) for line in frame] == [("x", True), (NAME, False)]


SILENT = replace(training_model(0), completed_steps=None)


@each_row(
    ("model", "total", "said"),
    [
        (SILENT, 50, "training  0:12:05  50 steps"),
        (SILENT, None, "training  0:12:05"),
        (replace(SILENT, start_time="", phase="QUEUED"), 50, "QUEUED  0:12:05  50 steps"),
        (replace(SILENT, start_time="", create_time=""), 50, "training  50 steps"),
    ],
)
def test_a_training_that_tells_no_progress_shows_the_time_and_claims_nothing(
    model: RemoteModel, total: int | None, said: str
) -> None:
    (line,) = last_frame(watched(STARTED, Progressed(NAME, KEY, model, total), seconds=725))
    assert re.fullmatch(rf"number-generator  ━{{24}}  {said} *", line)


def test_the_time_goes_on_between_two_looks() -> None:
    screen, clock = io.StringIO(), FixedClock()
    console = Console(file=screen, force_terminal=True, width=80)
    with LiveProgress(console, clock=clock, names=[NAME]) as progress:
        progress(Progressed(NAME, KEY, SILENT, 50))
        clock.at(3725)
    assert "training  1:02:05  50 steps" in last_frame(uncoloured(screen.getvalue()))[0]


def interrupt(progress: LiveProgress) -> None:
    with progress:
        progress(STARTED)
        raise KeyboardInterrupt


def test_an_interrupt_leaves_the_terminal_clean() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with pytest.raises(KeyboardInterrupt):
        interrupt(LiveProgress(console, clock=FixedClock(), names=[NAME]))
    text = uncoloured(screen.getvalue())
    assert HIDE_CURSOR in text
    assert text.endswith("step 0/23\n" + SHOW_CURSOR)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    screen = io.TextIOWrapper(raw, encoding="ascii")
    clock = FixedClock()
    with LiveProgress(Console(file=screen, force_terminal=True, width=120), clock=clock) as progress:
        clock.at(32)
        progress(AT_16)
    screen.flush()
    line = last_frame(uncoloured(raw.getvalue().decode("ascii")))[-1]
    assert re.fullmatch(r"number-generator  -+ -+  70 %  step 16/23  epoch 2  loss 7\.21 -> 5\.14  0:14", line)
