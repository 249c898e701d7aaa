"""Markdown for pull requests: text from outside stays text, and what is too long is left out whole and counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus, Place, UsageError
from reconciler.domain.plan import Action, FieldChange, Kind, Plan, Reason
from reconciler.domain.text import terminal_safe
from reconciler.redaction import secrets_of
from reconciler.reports.documents.doctor import doctor_report
from reconciler.reports.documents.plan import DataBase, DataChange, DataSample, PlanReport, plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, result_report
from reconciler.reports.markdown import COMMENT, Limit, code, markdown, marker, prose, utf8_bytes, utf16_units
from reconciler.reports.summary import summarize
from support.cases import each_row
from support.render_values import CREATE, FAILED, IN_SYNC, LOCKFILE, SIMULATED, TARGET, names, plans, texts

if TYPE_CHECKING:
    from markdown_it.token import Token

GITHUB = 65_536
RESULT: dict[str, Any] = {
    "plan": Plan(()),
    "target": TARGET,
    "capabilities": SIMULATED,
    "requests": 1,
    "seconds": 1,
    "exit_status": ExitStatus.ERROR,
}
HOSTILE = (
    "@octocat",
    "(@acme/team)",
    "#123",
    "acme/models#7",
    "GH-26",
    "TICKET-abc",
    "0123456789abcdef0123456789abcdef01234567",
    "deadbeef",
    "https://evil.example/x",
    "www.evil.example",
    "ada@evil.example",
    "<https://evil.example>",
    "[a](https://evil.example)",
    "![a](https://evil.example/x.png)",
    "[a]: https://evil.example",
    "<img src=x onerror=alert(1)>",
    "<!-- reconcile:plan:other -->",
    "-->",
    "<details><summary>all is well</summary>",
    "</details>",
    "a | b |",
    "\\|",
    "\\",
    "`",
    "``` `` `",
    "`|`",
    "**bold** _it_ ~~no~~ *x*",
    "$x$ $$y$$",
    ":shipit:",
    "&lt;b&gt; &#64;octocat",
    "# heading",
    "- [ ] task",
    "1. one",
    "> quote",
    "---",
    "===",
    "    indented",
    "line\n\n| a | b |\n|---|---|\n| c | d |",
    "\r\n```\nfence",
    "\u202eesrever\u202c",
    "\x1b[31m::error::x",
    "\ud800",
)
hostile = st.lists(st.sampled_from(HOSTILE) | texts, max_size=5).map(" ".join)
parser = MarkdownIt("gfm-like", {"html": True})
parser.linkify.set({"fuzzy_link": True, "fuzzy_email": True, "fuzzy_ip": True})

REFERENCES = re.compile(
    r"""@[\w/-]+ | \#\d+ | \bGH-\d+ | \b[A-Z]+-\w+ | \b[0-9a-f]{7,}\b | ://\S | \bwww\. | \w@\w | :\w+:""", re.VERBOSE
)
"""What GitHub looks for in text that is not code."""
MARKUP = frozenset({"text", "code_inline", "softbreak", "strong_open", "strong_close"})
TAGS = re.compile(r"<!-- reconcile:[\w:%.~-]+ -->|</?details>|</?summary>|</?code>|<br>")
BREAK = "<br>"


def leaves(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from leaves(token.children) if token.children else [token]


def judged(text: str) -> list[Token]:
    """The inline tokens of a text, of which none is a link, an image, HTML, emphasis or a reference."""
    inline = [token for token in leaves(parser.parse(text)) if token.type != "inline" and not token.block]
    for token in inline:
        assert token.type in MARKUP or token.content == BREAK, (token.type, token.content, text)
        if token.type == "text":
            assert not REFERENCES.search(token.content), token.content
    return inline


def shown(text: str) -> str:
    """What a reader sees of it, line breaks as spaces."""
    return "".join(" " if one.type == "softbreak" or one.content == BREAK else one.content for one in judged(text))


def cells(text: str) -> list[list[Token]]:
    """The cells of the second row of a table."""
    rows: list[list[Token]] = []
    found = parser.parse(text)
    for before, token in pairwise(found):
        if before.type == "td_open":
            rows.append(token.children or [])
    return rows


@given(hostile)
@example("`|`")
def test_code_shows_a_text_as_it_is(text: str) -> None:
    drawn = code(text)
    assert "\n" not in drawn
    assert shown(f"x{drawn}x").strip("x") == terminal_safe(text).strip("x")


@given(hostile)
def test_prose_shows_the_words_of_a_text(text: str) -> None:
    drawn = prose(text)
    assert "\n" not in drawn
    wanted = " ".join(terminal_safe(" ".join(text.split("\n"))).split())
    assert " ".join(shown(f"x {drawn} x")[1:-1].split()) == wanted


@given(
    st.lists(hostile.map(lambda text: text.replace("\n", " ")), min_size=1, max_size=4), st.sampled_from([code, prose])
)
def test_no_text_breaks_a_cell_of_a_table(contents: list[str], escape: Any) -> None:
    row = " | ".join(escape(text) for text in contents)
    table = f"|{' x |' * len(contents)}\n|{'---|' * len(contents)}\n| {row} |\n"
    found = cells(table)
    assert len(found) == len(contents)
    for text, tokens in zip(contents, found, strict=True):
        told = "".join(token.content for token in tokens)
        assert " ".join(told.split()) == " ".join(terminal_safe(text).split())
    judged(table)


@each_row(
    ("text", "drawn"),
    [
        ("the training failed: out of quota; ask for more", "the training failed: out of quota; ask for more"),
        ("see https://x.example, or ask @me", "see `https://x.example`, or ask `@me`"),
        ("run reconcile apply --retry words (again)", "run reconcile apply `--retry` words (again)"),
        ('description: "" → "Says it."', 'description: "" → "Says it."'),
        ("3 epochs × batch 2 = 23 steps, 0.5 %", "3 epochs × batch 2 = 23 steps, 0.5 %"),  # noqa: RUF001 - our sign
        ("1. one", "`1`. one"),
        ("4 steps (loss 3.98), step 4. Done", "4 steps (loss 3.98), step 4. Done"),
        ("difference -0.25 [-0.70, 0.28], at least 0", "difference `-0.25 [-0.70, 0.28]`, at least 0"),
        ("a|b c|d", "`a`&#124;`b c`&#124;`d`"),
        ("", ""),
        ("one\ntwo", "one<br>two"),
    ],
)
def test_prose_reads_well(text: str, drawn: str) -> None:
    assert prose(text) == drawn


@given(hostile)
def test_a_marker_is_one_comment_that_nothing_ends(name: str) -> None:
    drawn = marker("Plan", name)
    assert re.fullmatch(r"<!-- [\w:%.~-]+ -->", drawn, re.ASCII)
    assert "--" not in drawn[len("<!--") : -len("-->")]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_each_target_has_a_marker_of_its_own(one: str, other: str) -> None:
    assert (marker("Plan", one) == marker("Plan", other)) == (one == other)


def test_the_marker_that_workflows_look_for() -> None:
    assert marker("Plan", "production") == "<!-- reconcile:plan:production -->"


def drawn_plan(*actions: Action, notices: tuple[str, ...] = ()) -> str:
    places = {CREATE.name: Place("specs/number-generator.yaml", 4, 9)}
    plan = Plan(actions, notices, unmanaged=2)
    return markdown(plan_report(plan, TARGET, SIMULATED, LOCKFILE, root="specs", places=places))


def test_a_plan() -> None:
    assert drawn_plan(CREATE, FAILED, IN_SYNC, notices=("words is shared with everyone",)) == (
        "<!-- reconcile:plan:default -->\n"
        "### ❌ Plan for target `default`\n\n"
        "**1 to create, 0 to update, 0 to delete. 23 training steps. 1 held.**\n\n"
        "service `embedded service (simulated training)` · scope `demo`\n\n"
        "- ⚠️ words is shared with everyone\n\n"
        "| | model | details | manifest |\n"
        "|---|---|---|---|\n"
        "| 🔷 create | `number-generator` | NotFound | `specs/number-generator.yaml:4` |\n"
        "| ❌ held | `letters` | Failed: the training failed: out of quota; change the inputs, or train it again with"
        " `--retry` letters | `specs/words.yaml` |\n\n"
        "- 2 unmanaged models are not changed.\n"
        "- ✅ 1 model in sync: `words`\n\n"
        "<details>\n"
        "<summary>🔷 <code>number-generator</code> create</summary>\n\n"
        "- generation: `number-generator-3kq7w2ma`\n"
        "- base model: `models/gemini-3.5-flash`\n"
        "- data set: `datasets/next-number.csv`, 15 examples\n"
        "- training: 3 epochs × batch 2 = 23 steps, about 40 s\n\n"  # noqa: RUF001 - our sign
        "</details>\n\n"
        "<details>\n"
        "<summary>❌ <code>letters</code> held</summary>\n\n"
        "- generation: `letters-22222222`\n\n"
        "</details>\n"
    )


def test_where_data_goes_is_in_sight() -> None:
    document = plan_report(Plan((IN_SYNC,)), TARGET, SIMULATED, LOCKFILE)
    document = replace(document, target=replace(document.target, bucket="gs://acme-data/`x`|y"))
    assert "\n- data set bucket: `` gs://acme-data/`x` ``&#124;`y`\n" in markdown(document)


@given(plans)
def test_a_plan_with_any_text_is_what_it_says_and_no_more(plan: Plan) -> None:
    sound(markdown(plan_report(plan, TARGET, SIMULATED, LOCKFILE)))


def sound(text: str) -> None:
    """Nothing in a whole report comes from outside but text."""
    assert text.count("<!--") == 1
    tokens = parser.parse(text)
    folds = "".join(token.content for token in tokens if token.type == "html_block")
    assert folds.count("<details>") == folds.count("</details>") == folds.count("<summary>")
    assert {token.tag for token in tokens} <= {"", "h3", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    for token in tokens:
        if token.type == "html_block":
            assert not re.sub(r"<code>[^<]*</code>", "", TAGS.sub("", token.content)).strip("❌⚠️🔷💬✅ \n").count("<")
    widths = [sum(one.type == "td_open" for one in row) for row in rows_of(tokens)]
    assert set(widths) <= {0, 4}
    for token in leaves(tokens):
        if token.type == "text":
            assert not REFERENCES.search(token.content), token.content
        assert token.type not in {"link_open", "image", "em_open", "s_open"}
        assert token.type != "html_inline" or token.content == BREAK


def rows_of(tokens: list[Token]) -> Iterator[list[Token]]:
    row: list[Token] = []
    for token in tokens:
        row = [] if token.type == "tr_open" else [*row, token]
        if token.type == "tr_close":
            yield row


@given(st.lists(st.tuples(names, hostile, hostile), min_size=1, max_size=4), hostile)
def test_hostile_text_stays_text_wherever_it_stands(found: list[tuple[str, str, str]], target: str) -> None:
    document = plan_report(
        Plan(tuple(hostile_action(*one) for one in found), (found[0][1],)), TARGET, SIMULATED, LOCKFILE
    )
    fields = dict.fromkeys(("name", "label", "scope", "project", "root", "bucket", "endpoint"), target or "x")
    sound(markdown(replace(document, target=replace(document.target, **fields))))


def hostile_action(name: str, one: str, other: str) -> Action:
    return Action(
        name=name,
        file=one or "x",
        kind=Kind.UPDATE,
        reason=Reason.DRIFTED,
        key=other or "x",
        message=one,
        changes=(FieldChange(other or "x", one, other), FieldChange("labels.x", None, other)),
    )


def test_a_result_shows_what_was_wrong_and_where() -> None:
    document = result_report(
        plan=Plan((FAILED,)),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=[ModelOutcome("letters", Outcome.FAILED, key=FAILED.key, message="out of quota")],
        requests=3,
        seconds=2,
        exit_status=ExitStatus.ERROR,
        unpublished="gs://x/y.json belongs to somebody else",
    )
    text = markdown(document)
    assert text.startswith("<!-- reconcile:result:default -->\n### ❌ Result for target `default`\n")
    assert "- ⚠️ Not published: `gs://x/y.json` belongs to somebody else" in text
    assert "| ❌ failed | `letters` | Failed: the training failed:" in text


MANY = [
    Action(f"model-{number:05}", "many.yaml", Kind.HOLD, Reason.FAILED, f"model-{number:05}-22222222", message="x" * 90)
    if number % 100 == 0
    else Action(f"model-{number:05}", "many.yaml", Kind.CREATE, Reason.NOT_FOUND, f"model-{number:05}-22222222")
    for number in range(2_000)
]


def many() -> PlanReport:
    return plan_report(Plan(tuple(MANY), ("one 🌈 is shared with everyone",)), TARGET, SIMULATED, LOCKFILE)


def test_a_long_plan_is_cut_to_what_a_comment_holds_and_says_what_is_left_out() -> None:
    text = markdown(many())
    assert len(text) <= utf16_units(text) <= COMMENT.size <= GITHUB
    assert COMMENT.size - utf16_units(text) < 9_000
    sound(text)
    assert text.count("| ❌ held | `model-") == 20
    assert "- ⚠️ one `🌈` is shared with everyone" in text
    creates = text.count("| 🔷 create | `model-")
    assert creates > 100
    said = re.search(r"\*\*Omitted, because a comment is full:\*\* (\d+) of 2000 rows \((\d+) create: `model-", text)
    assert said
    assert int(said[1]) == int(said[2]) == 1_980 - creates
    details = text.count("<details>")
    assert re.search(rf"; {2_000 - details} of 2000 details \(", text)
    assert text.endswith(". A report in JSON is complete.\n")


def test_a_summary_counts_bytes() -> None:
    limit = Limit(20_000, utf8_bytes, "a summary")
    text = markdown(many(), limit)
    assert utf8_bytes(text) <= limit.size
    assert "because a summary is full" in text


@given(plans, st.integers(3_000, 20_000))
def test_no_plan_is_longer_than_the_limit(plan: Plan, size: int) -> None:
    text = markdown(plan_report(plan, TARGET, SIMULATED, LOCKFILE), Limit(size, utf16_units, "it"))
    assert utf16_units(text) <= size
    sound(text)


def test_the_worst_text_at_the_greatest_length_keeps_to_the_limit() -> None:
    worst = "`|\U000e0001" * 2_000
    actions = tuple(hostile_action(f"model-{number}", worst, worst) for number in range(15))
    document = plan_report(Plan(actions, (worst,) * 10), TARGET, SIMULATED, LOCKFILE)
    names = ("name", "label", "scope", "project", "location", "bucket", "endpoint", "lock", "publish", "kms_key_name")
    text = markdown(replace(document, target=replace(document.target, **dict.fromkeys(names, worst))))
    assert utf16_units(text) <= GITHUB
    sound(text)
    assert "Omitted, because a comment is full" in text


def test_changes_of_data_stand_in_the_table_and_samples_below() -> None:
    document = plan_report(Plan((CREATE,)), TARGET, SIMULATED, LOCKFILE, root="specs")
    change = DataChange(
        name=CREATE.name,
        use="training",
        path="next.csv",
        added=14,
        removed=2,
        changed=3,
        leaked=1,
        samples=(DataSample(change="added", input="@a", output="|"),),
    )
    text = markdown(replace(document, base=DataBase("main", "0" * 40), data_changes=(change,)))
    sound(text)
    assert (
        "| ⚠️ data | `number-generator` | `next.csv`: `+14 −2 ~3` examples; 1 held-out input is in the training data |"  # noqa: RUF001 - our sign
    ) in text
    assert "- example: `+ @a`: &#124;\n" in text


@each_row(
    ("action", "data", "shown"),
    [
        (
            Action(
                "numbers",
                "n.yaml",
                Kind.CREATE,
                Reason.CONTENT_CHANGED,
                key="numbers-b",
                serving="numbers-a",
                changes=(
                    FieldChange("hyperparameters.epochCount", 2, 3),
                    FieldChange("dataset.examples", 20, 29),
                    FieldChange("dataset", "sha256:a", "sha256:b"),
                ),
            ),
            DataChange(name="numbers", use="training", path="n.csv", added=12, removed=3, changed=0),
            "numbers-a → numbers-b; epochCount 2 → 3; data +12 −3 examples; ContentChanged",  # noqa: RUF001 - our sign
        ),
        (
            Action(
                "numbers",
                "n.yaml",
                Kind.CREATE,
                Reason.CONTENT_CHANGED,
                key="numbers-b",
                changes=(FieldChange("dataset.examples", 20, 29),),
            ),
            None,
            "data 20 → 29 examples; ContentChanged",
        ),
        (
            Action(
                "numbers",
                "n.yaml",
                Kind.UPDATE,
                Reason.DRIFTED,
                key="numbers-a",
                serving="numbers-a",
                changes=(FieldChange("sampling.temperature", 0.2, 0.7),),
            ),
            None,
            "temperature 0.2 → 0.7; Drifted",
        ),
        (
            Action("numbers", "n.yaml", Kind.PROMOTE, Reason.READY, key="numbers-b", serving="numbers-a"),
            None,
            "numbers-a → numbers-b; Ready",
        ),
        (
            Action(
                "numbers",
                "n.yaml",
                Kind.UPDATE,
                Reason.DRIFTED,
                changes=tuple([FieldChange(f"access.user:{n}@x.y", None, "reader") for n in range(9)]),
            ),
            None,
            f"{'; '.join(f'access.user:{n}@x.y unset → reader' for n in range(5))}; 4 more fields; Drifted",
        ),
    ],
)
def test_the_table_has_what_changes_from_what_to_what(action: Action, data: DataChange | None, shown: str) -> None:
    document = plan_report(Plan((action,)), TARGET, SIMULATED, LOCKFILE, root="specs")
    (row,) = summarize(replace(document, data_changes=(data,) if data else None)).rows[:1]
    assert row.why.startswith(shown)


def test_a_document_without_such_a_face_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UsageError) as refused:
        markdown(doctor_report(None, [], ExitStatus.OK))
    assert str(refused.value) == (
        "unsupported kind of document Doctor: expected Check, Combined, DataDiff, Drift, Error, History, Inspection,"
        " Migration, Plan, Result, Status, Targets, Validation; write the report as JSON (.json)"
    )


SECRETS = ("pass|word|with|pipes", "two words and | more", "a<!--b<!--c<!--d", "first line\nsecond line")


@each_row("secret", SECRETS)
def test_a_secret_is_hidden_before_it_is_split(secret: str) -> None:
    failed = ModelOutcome("numbers", Outcome.FAILED, message=f"the service answered {secret}; {'x' * 300}")
    with secrets_of({"API_TOKEN": secret}):
        drawn = [code(secret), prose(f"it is {secret}."), markdown(result_report(**RESULT, outcomes=(failed,)))]
    shown = unescape("".join(drawn)).replace("`", "")
    assert [piece for piece in re.split(r"[|\n]|<!--", secret) if piece.strip() in shown and len(piece) > 1] == []
    assert shown.count("[secret]") >= len(drawn)


def test_what_hides_is_written_out() -> None:
    assert unescape(code("a\u202eb")) == "`a\\u202eb`"
