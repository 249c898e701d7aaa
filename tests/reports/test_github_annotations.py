"""Annotations that runners read as they are meant, and text in which they find no command."""

from __future__ import annotations

import io
import json

from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.commands._github_actions import Defused
from reconciler.domain.errors import Place, Problem
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.doctor import validation_report
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.github_annotations import Annotation, annotated, commands, defused
from support.cases import each_row
from support.github_runner import Command, commands_in
from support.render_values import CREATE, FAILED, LOCKFILE, SIMULATED, TARGET

HOSTILE = (
    "::error::x",
    "\n::add-mask::e",
    "  ::stop-commands::x",
    "\t::set-env name=PATH::x",
    "\u200d::error::x",
    ":\u00ad:error::x",
    "\r::error::x",
    "\u2028::warning::x",
    "##[error]x",
    "so ##[add-mask]e",
    "#\u200b#[error]x",
    "###[error]x",
    "#",
    ":",
    "::",
    "[error]x",
    "%0A::error::x",
    "%250A",
    ",line=9::",
    "\x1b[1m::error::x",
    "\ufeff::error::x",
)
hostile = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=6).map("".join)


@given(hostile)
@example("::error::x")
def test_no_text_holds_a_command(text: str) -> None:
    safe = defused(text)
    assert commands_in(safe) == []
    assert safe.replace("\\u003a", ":").replace("\\u005b", "[") == text.replace("\\u003a", ":").replace("\\u005b", "[")


@given(st.lists(hostile, max_size=4))
def test_a_stream_takes_no_command_in_pieces(pieces: list[str]) -> None:
    below = io.StringIO(newline="")
    stream = Defused(below)
    stream.writelines(pieces)
    assert commands_in(below.getvalue()) == []
    assert below.getvalue() == defused("".join(pieces))


@each_row("text", ["a: b::c", "std::string", "specs/a.yaml:3:5: x", "# heading", "#[x]", "C#[x]", "# #[x]"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert defused(text) == text


@given(hostile)
def test_a_defused_document_is_the_same_document(text: str) -> None:
    document = {"text": text, text: [text]}
    assert json.loads(defused(json.dumps(document, indent=2, ensure_ascii=False))) == document


@given(hostile, hostile, hostile)
def test_an_annotation_is_one_command_that_says_what_it_should(message: str, title: str, file: str) -> None:
    one = Annotation("error", message, f"t{title}", f"f{file}", 3, 5)
    lines = list(commands([one]))
    (found,) = commands_in("\n".join(lines))
    assert found.name == "error"
    shown = "\n".join(terminal_safe(line) for line in message.split("\n"))
    assert " ".join(found.data.split()) == " ".join(shown.translate(UNSEEN).split())
    assert found.properties["file"] == terminal_safe(one.file).translate(UNSEEN)
    assert found.properties["title"] == terminal_safe(" ".join(one.title.split())).translate(UNSEEN).strip()
    assert {**found.properties, "file": "", "title": ""} == {"file": "", "line": "3", "col": "5", "title": ""}


UNSEEN = dict.fromkeys(map(ord, "\u200c\u200d"))
"""What is left on purpose of what the runner does not see."""


def annotations_of(problems: list[Problem]) -> list[Command]:
    found = annotated(validation_report(problems, 1, 1), lambda file: f"models/{file}")
    return commands_in("\n".join(commands(found)))


def test_a_problem_stands_at_its_line() -> None:
    problem = Problem(Place("specs/a.yaml", 3, 5), "spec.dataset", "is missing, 100 %", "add it")
    assert annotations_of([problem]) == [
        Command(
            "error",
            "is missing, 100 %; add it",
            {"file": "models/specs/a.yaml", "line": "3", "col": "5", "title": "specs/a.yaml:3:5 spec.dataset error"},
        )
    ]


def test_what_comes_from_standard_input_stands_at_no_file() -> None:
    (command,) = annotations_of([Problem(Place("-", 3, 5), "spec", "is odd", severity="warning")])
    assert command == Command("warning", "is odd", {"title": "-:3:5 spec warning"})


def test_there_are_as_many_as_github_shows_and_the_rest_is_counted() -> None:
    errors = [Problem(Place("a.yaml", line), "", f"error {line}") for line in range(1, 13)]
    warnings = [Problem(Place("a.yaml", line), "", "warning", severity="warning") for line in range(1, 11)]
    found = annotations_of([*errors, *warnings])
    assert [one.name for one in found] == ["error"] * 10 + ["warning"] * 10
    assert found[8].data == "error 9"
    assert found[9] == Command("error", "3 further errors of this step; see the log", {"title": "reconcile"})


def test_a_plan_points_at_what_is_held_and_tells_its_notices() -> None:
    suspended = Action("paused", "p.yaml", Kind.HOLD, Reason.SUSPENDED, message="spec.lifecycle.suspend")
    places = {"letters": Place("specs/words.yaml", 4, 9)}
    plan = Plan((CREATE, FAILED, suspended), ("words is shared with everyone",))
    document = plan_report(plan, TARGET, SIMULATED, LOCKFILE, root="specs", places=places)
    found = commands_in("\n".join(commands(annotated(document, str))))
    assert [(one.name, one.properties.get("file"), one.properties.get("line")) for one in found] == [
        ("error", "specs/words.yaml", "4"),
        ("warning", "specs/p.yaml", None),
        ("warning", None, None),
    ]
    assert found[0].data.startswith("Failed: the training failed: out of quota;")
    assert found[0].properties["title"] == "letters held"
    assert found[2].data == "words is shared with everyone"
