"""A prompt and its answers: as a document, as the answers alone, and what people are told besides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Capabilities, Sampling
from reconciler.domain.ports import Answer, Reply
from reconciler.domain.text import terminal_safe
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from reconciler.reports.documents.check import PromptReport, missing_answer
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.text.check import prompt_notes
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import KEY, REAL, REMOTE, SIMULATED, TARGET, held_to, texts


def answered(*answers: Answer, blocked: str = "", capabilities: Capabilities = REAL) -> PromptReport:
    message = missing_answer(Reply(answers, blocked))
    report = PromptReport(
        simulated=capabilities.simulated,
        target=target_summary(TARGET, capabilities, "specs"),
        exit_status=ExitStatus.ERROR if message else ExitStatus.OK,
        name="number-generator",
        key=KEY,
        remote=REMOTE,
        preamble="Say: ",
        text="seven",
        sampling=Sampling(0.5, top_k=3),
        max_tokens=100,
        candidates=answers,
        blocked=blocked,
        message=message,
    )
    held_to("prompt", report)
    return report


def test_the_document_holds_what_was_asked_and_answered() -> None:
    document = held_to("prompt", answered(Answer("eight"), Answer("ei", "MAX_TOKENS")))
    del document["target"]
    assert document == {
        "version": 1,
        "kind": "Prompt",
        "simulated": False,
        "exitStatus": 0,
        "name": "number-generator",
        "key": KEY,
        "remote": REMOTE,
        "preamble": "Say: ",
        "text": "seven",
        "sampling": {"temperature": 0.5, "topK": 3},
        "maxTokens": 100,
        "candidates": [{"text": "eight"}, {"text": "ei", "finish": "MAX_TOKENS"}],
    }
    assert "Prompt" in SCHEMA_KINDS


@each_row(
    ("answers", "blocked", "said"),
    [
        ([], "SAFETY", "the service blocked the prompt: SAFETY"),
        ([Answer("", "SAFETY")], "", "the service withheld the answer: SAFETY"),
        ([Answer("", "SAFETY"), Answer("", "OTHER")], "", "the service withheld the answer: OTHER, SAFETY"),
        ([Answer("", "MAX_TOKENS")], "", "the service withheld the answer: MAX_TOKENS; increase --max-tokens"),
        ([Answer("")], "", "the answer is empty, and the service reports no reason"),
        ([], "", "the answer is empty, and the service reports no reason"),
    ],
)
def test_why_there_is_no_answer(answers: list[Answer], blocked: str, said: str) -> None:
    report = answered(*answers, blocked=blocked, capabilities=SIMULATED)
    assert report.message == said
    assert render_text(report) == ""
    assert prompt_notes(report) == ""


@each_row(
    ("answers", "said"),
    [
        ([Answer("eight")], ""),
        ([Answer("ei", "MAX_TOKENS")], "note: the answer is cut short: MAX_TOKENS; increase --max-tokens"),
        ([Answer("a"), Answer("b", "RECITATION")], "note: answer 2 ended early: RECITATION"),
        ([Answer("a"), Answer("", "SAFETY")], "note: answer 2 is empty: SAFETY"),
        ([Answer(""), Answer("b")], "note: answer 1 is empty: the service reports no reason"),
        ([Answer("a", "\x1b[2J")], r"note: the answer ended early: \x1b[2J"),
    ],
)
def test_what_is_to_be_known_about_an_answer(answers: list[Answer], said: str) -> None:
    assert prompt_notes(answered(*answers)) == said


def test_simulated_answers_are_called_so() -> None:
    document = answered(Answer("eight"), capabilities=SIMULATED)
    assert prompt_notes(document) == "The answer is simulated: it is taken from the training examples."


@each_row(
    ("answers", "shown"),
    [
        (["eight"], "eight"),
        (["eight", "nine\nten", ""], "eight\n---\nnine\nten"),
        (["one\r\ntwo\tthree\n"], "one\ntwo\tthree\n"),
        (["\x1b[2Jgone\u202e\r"], r"\x1b[2Jgone\u202e\r"),
    ],
)
def test_the_answers_alone(answers: list[str], shown: str) -> None:
    assert render_text(answered(*map(Answer, answers))) == shown


@given(st.lists(st.builds(Answer, texts, texts), max_size=4), texts, st.booleans())
def test_everything_can_be_drawn(answers: list[Answer], blocked: str, simulated: bool) -> None:  # noqa: FBT001 - hypothesis hands it in
    document = answered(*answers, blocked=blocked, capabilities=SIMULATED if simulated else REAL)
    for text in (render_text(document), prompt_notes(document)):
        pieces = [piece for line in text.split("\n") for piece in line.split("\t")]
        assert [piece for piece in pieces if terminal_safe(piece) != piece] == []
