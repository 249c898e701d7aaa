"""Pages: well formed, usable without eyes or a mouse, drawn from the document alone, safe against every text in it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus, InterruptedRun, UsageError
from reconciler.domain.lock import Lock, LockedHyperparameters, LockedModel
from reconciler.domain.model import Capabilities, RemoteModel, State, Target
from reconciler.domain.plan import Plan
from reconciler.reports.documents.doctor import doctor_report
from reconciler.reports.documents.envelope import number
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, result_report
from reconciler.reports.documents.status import model_details, status_report
from reconciler.reports.documents.targets import TargetResult, combined_report, failed_target
from reconciler.reports.html.models import model_sections
from reconciler.reports.html.page import page
from support.cases import each_row
from support.html_tree import Element, parsed
from support.render_pages import (
    CODES,
    HOSTILE,
    PAGES,
    TIMES,
    drift_page,
    history_page,
    plan_page,
    poisoned,
    recorded_page,
    result_page,
    status_page,
)
from support.render_values import (
    ACTIVE,
    CHECKS,
    LOCKFILE,
    REAL,
    SIMULATED,
    TARGET,
    capabilities,
    counts,
    held_to,
    locks,
    losses,
    names,
    plans,
    remote_models,
    targets,
    texts,
)

every_page = each_row("name", PAGES)


@cache
def drawn(name: str) -> Element:
    """The tree of a page, which no test changes."""
    return parsed(page(PAGES[name]()))


def words(element: Element) -> str:
    """The text with white space as a browser shows it."""
    return " ".join(element.text.split())


DIFFERING = {"class": "overview", "aria-labelledby": "overview"}
IN_SYNC = {"class": "overview", "aria-label": "Models in sync"}


def rows(table: Element) -> list[list[str]]:
    """The words of each cell in the table's body."""
    return [
        [words(cell) for cell in row.all("th", "td")] for body in table.all("tbody") for row in body.all("tr") if row
    ]


# What is there


def test_a_plan_says_what_would_be_done_and_why() -> None:
    root = drawn("plan")
    assert words(root.one("h1")) == "Plan for target default"
    assert words(root.one("p", **{"class": "verdict error"})).startswith("1 to create, 1 to update, 0 to delete.")
    overview = rows(root.one("table", **DIFFERING))
    assert [row[:2] for row in overview] == [
        ["number-generator", "+ createNotFound"],
        ["rhymes", "… waitTraining"],
        ["letters", "! holdFailed"],
        ["words", "~ updateDrifted"],
    ]
    folded = root.one("details", **{"class": "folded"})
    assert words(folded.one("summary")) == "2 models in sync"
    assert [row[:2] for row in rows(folded.one("table"))] == [["capitals", "= in sync"], ["months", "= in sync"]]
    assert 'description: "Says the next word, and only that." → unset' in overview[3][2]
    assert "2 unmanaged models are not changed." in words(root)
    assert "gs://acme-tuning-data" in words(root.one("dl", **{"class": "facts"}))
    assert "limits.maxSteps is 200000 now" in words(root.one("ul", **{"class": "notices"}))


def test_a_result_says_what_became_of_each_model_and_of_its_checks() -> None:
    root = drawn("result")
    overview = rows(root.one("table", **DIFFERING))
    assert [row[:2] for row in overview] == [
        ["letters", "failedFailed"],
        ["number-generator", "ready"],
        ["rhymes", "still training"],
    ]
    assert [row[:2] for row in rows(root.one("table", **IN_SYNC))] == [["capitals", "in sync"], ["months", "in sync"]]
    assert overview[1][3:5] == ["40", "3.10"]
    assert "Not published: gs://acme-tuning-data/serving.json cannot be written" in words(root)
    assert "46 of 50 answers correct, 80 % required; 81 to 97 % with 95 % confidence" in words(root)
    assert "2 examples also in the training data" in words(root)


@each_row("name", ["result", "check", "status"])
def test_comparisons_of_this_run_and_of_the_lockfile_are_shown(name: str) -> None:
    assert "base 0.10, tuned 0.92, difference 0.82 [0.66, 0.89]" in words(drawn(name))


def test_a_status_has_the_states_of_all_generations() -> None:
    overview = rows(drawn("status").one("table", **{"class": "overview"}))
    assert [row[:2] for row in overview] == [
        ["letters", "not serving"],
        ["number-generator", "serving"],
        ["rhymes", "not serving"],
        ["words", "serving"],
    ]
    assert "rhymes-abcdefgh: step 16/23 (70 %), loss 5.04" in overview[2][2]


def test_a_status_of_the_record_alone_says_so() -> None:
    root = drawn("recorded")
    assert f"Recorded state of {LOCKFILE}; the service was not queried." in words(root)
    assert not root.all("figure"), "no curve is known"


def test_drift_tells_findings_before_notes_with_place_values_and_remedy() -> None:
    root = drawn("drift")
    overview = rows(root.one("table", **{"class": "overview"}))
    assert [row[0] for row in overview] == ["! Modifieddrift", "! Faileddrift", "i InProgressnote", "i Unmanagednote"]
    verdict = root.one("p", **{"class": "verdict hold"})
    assert words(verdict) == "1 Failed, 1 Modified. Notes: 1 InProgress, 1 Unmanaged."
    modified = overview[0]
    assert 'declared "Says the next word.", live "changed by hand"' in modified[2]
    assert "run reconcile apply, or declare what is there" in modified[2]
    assert modified[3:] == ["2026-11-23 10:00", "specs/words.yaml:4:3"]


def test_models_in_sync_are_folded_in_drift_and_are_no_notes() -> None:
    synced = Finding(kind=DriftClass.IN_SYNC, severity="note", name="capitals", message="it is as declared")
    report = drift_page()
    root = parsed(page(replace(report, findings=(synced, *report.findings))))
    assert [row[:3] for row in rows(root.one("table", **IN_SYNC))] == [["= in sync", "capitals", "it is as declared"]]


def test_models_in_sync_are_folded_in_a_report_on_several_targets() -> None:
    interrupted = failed_target("plan", "prod", InterruptedRun("interrupted", "run it again"))
    planned = TargetResult(target="dev", exit_status=ExitStatus.OK, report=plan_page())
    root = parsed(page(combined_report("plan", [planned, interrupted])))
    assert [row[1] for row in rows(root.one("table", **IN_SYNC))] == ["capitals", "months"]
    assert "capitals" not in [row[1] for row in rows(root.one("table", **DIFFERING))]
    assert "2 targets: 1 interrupted (prod), 1 succeeded." in words(root)


def test_events_of_one_second_keep_their_order() -> None:
    """The lockfile has whole seconds, and the service has fractions."""
    report = history_page()
    newest, serving, rejected = report.generations
    times = {"create_time": "2026-10-02T09:31:39.1Z", "complete_time": "2026-10-02T09:31:40.7Z"}
    serving = replace(serving, promote_time="2026-10-02T09:31:40Z", **times)
    (section,) = model_sections(replace(report, generations=(newest, serving, rejected)))
    own = [event for _, event, _, key, _ in section.timeline if key == serving.key]
    assert own == ["promoted", "completed", "created"]


def test_decisions_keep_their_order() -> None:
    page = drawn("history")
    entries = page.one("section", **{"aria-labelledby": "decisions"}).all("li")
    keys, who = ("number-generator-aaaaaaaa", "number-generator-5xkq2wab"), f"by ada at {'c' * 12}"
    assert [words(entry) for entry in entries] == [
        f"2026-10-02 09:31:40 promote number-generator {keys[0]} → {keys[1]} {who}",
        f"2026-10-02 09:31:40 rollback number-generator {keys[1]} → {keys[0]} {who}: it is slow",
    ]
    facts = words(page.one("dl", **{"class": "facts run"}))
    assert all(fact in facts for fact in ("topic/longer-curves", "ada", "reconcile 1.2.3", "2026-11-22 19:15:00 UTC"))


def test_a_plan_tells_what_became_of_data_sets() -> None:
    changed, unknown = rows(drawn("plan").one("section", **{"aria-labelledby": "data"}))
    assert changed[:2] == ["number-generator", "datasets/next-number.csvtraining"]
    assert changed[2].startswith("+14 \N{MINUS SIGN}2 ~1 examples 1 new contradiction (same input, different output)")
    assert "added thirty: thirty-one" in changed[2]
    assert "leaked 41 (check unseen)" in changed[2]
    assert unknown == ["words", "held-out.csvheld out for unseen", "the old one is not in git"]


def test_a_plan_that_compared_no_data_says_nothing_of_it() -> None:
    document = plan_page()
    assert "The data sets did not change." in page(replace(document, data_changes=()))
    assert "Data changes" not in page(replace(document, base=None, data_changes=None))


def test_a_check_tells_scores_and_what_could_not_be_checked() -> None:
    root = drawn("check")
    overview = rows(root.one("table", **{"class": "overview"}))
    assert [row[:3] for row in overview] == [
        ["number-generator", "small", "failedthe same checks passed last time"],
        ["number-generator", "large", "passed"],
        ["number-generator", "roman", "failedthe same checks passed last time"],
        ["number-generator", "unseen", "passed"],
        ["words", "", "not checked whya; b"],
        ["letters", "", "no serving generation"],
    ]
    assert "blocked: SAFETY" in words(root.one("details"))


def test_a_history_has_generations_and_no_table_above_them() -> None:
    root = drawn("history")
    assert not [table for table in root.all("table") if table.attributes.get("class") == "overview"]
    assert "answers with Roman numerals" in words(root)


def article(root: Element, name: str) -> Element:
    return root.one("article", **{"data-model": name})


def test_a_model_has_its_curves_laid_over_each_other_and_told_in_words() -> None:
    figure = article(drawn("plan"), "number-generator").one("svg", role="img")
    ranks = [one.attributes["class"] for one in figure.all("g") if one.attributes["class"].startswith("line ")]
    assert ranks == ["line rank-2", "line rank-1", "line rank-0"], "the newest is drawn last, over the others"
    assert "number-generator-3kq7w2ma: loss 7.80 at step 1, 3.10 at step 40." in words(figure.one("desc"))
    assert figure.attributes["aria-labelledby"] == figure.one("title").attributes["id"]
    assert figure.attributes["aria-describedby"] == figure.one("desc").attributes["id"]


def test_what_changed_between_generations_is_told_side_by_side() -> None:
    generations = article(drawn("status"), "number-generator").all("table")[0]
    newest, serving, oldest = (row[-1] for row in rows(generations))
    assert newest == (
        "since 5xkq2wab learningRate0.001 →became 0.0005 "
        "data set15 examples, sha256:bbbbbbbb… →became 27 examples, sha256:dddddddd…"
    )
    assert "tuned from models/gemini-3.5-flash" in oldest.replace("from", "from ").replace("  ", " ")
    assert "batchSize4 →became 2" in serving


@every_page
def test_what_one_document_tells_of_a_change_another_does_not_contradict(name: str) -> None:
    text = words(drawn(name))
    if name in {"plan", "result", "status", "drift", "history"}:
        assert "learningRate0.001 →became 0.0005" in text
    else:
        assert "became" not in text


def test_a_timeline_is_told_latest_first_and_what_has_no_time_last() -> None:
    items = [words(item) for item in article(drawn("plan"), "number-generator").one("ol").all("li")]
    assert items == [
        "2026-11-22 19:17 completed 3kq7w2ma after 90.1 s",
        "2026-11-22 19:16 created 3kq7w2ma",
        "2026-10-02 09:31 promoted 5xkq2wab",
        "2026-10-02 09:31 completed 5xkq2wab after 70.0 s",
        "2026-10-02 09:30 created 5xkq2wab",
        "2026-09-14 12:01 promoted aaaaaaaa",
        "2026-09-14 12:01 completed aaaaaaaa after 60.0 s",
        "2026-09-14 12:00 created aaaaaaaa",
        "unknown time rejected aaaaaaaa answers with Roman numerals",
    ]


def test_a_training_of_which_only_the_end_is_recorded_has_a_row_and_an_event() -> None:
    ended = replace(ACTIVE, state=State.CANCELLED, hyperparameters=LockedHyperparameters(), create_time="")
    lock = Lock(models={"number-generator": LockedModel("n.yaml", generations=(replace(ended, complete_time=""),))})
    told = status_report(lock, TARGET, SIMULATED, LOCKFILE, model_details=model_details(lock, {}, SIMULATED))
    shown = article(parsed(page(told)), "number-generator")
    assert [words(item) for item in shown.one("ol").all("li")] == ["unknown time cancelled 3kq7w2ma"]
    assert rows(shown.one("table"))[0][:2] == ["number-generator-3kq7w2ma", "cancelled"]


def test_a_model_that_is_not_in_the_document_has_no_part_and_no_link() -> None:
    root = parsed(page(replace(plan_page(), model_details=())))
    assert not root.all("article", "figure")
    assert not root.all("a")


@pytest.mark.parametrize(("service", "said"), [(SIMULATED, True), (REAL, False)])
def test_a_page_says_that_training_is_simulated_where_it_is(service: Capabilities, *, said: bool) -> None:
    assert ("The training is simulated" in page(plan_page(service))) is said


def test_a_document_without_a_page_says_which_ones_have_one() -> None:
    with pytest.raises(
        UsageError,
        match=r"unsupported kind of document Doctor for HTML: expected Check, Combined, Drift, .*, Migration, Plan",
    ):
        page(doctor_report(None, [], ExitStatus.OK))


@every_page
def test_a_page_is_always_the_same(name: str) -> None:
    assert page(PAGES[name]()) == page(PAGES[name]())


# Usable


@every_page
def test_ids_are_unique_and_what_refers_to_one_finds_it(name: str) -> None:
    elements = list(drawn(name).walk())
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    wanted = {
        reference
        for one in elements
        for attribute in ("aria-labelledby", "aria-describedby", "for")
        for reference in one.attributes.get(attribute, "").split()
    }
    anchors = {one.attributes["href"].removeprefix("#") for one in elements if one.tag == "a"}
    assert wanted | anchors <= set(ids)


@every_page
def test_headings_have_an_order_and_landmarks_are_there(name: str) -> None:
    root = drawn(name)
    levels = [int(one.tag[1]) for one in root.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(root.one(tag) for tag in ("header", "main", "footer"))
    assert root.one("html").attributes["lang"] == "en"


@every_page
def test_tables_pictures_and_fields_are_named(name: str) -> None:
    root = drawn(name)
    for table in root.all("table"):
        assert all(one.attributes.get("scope") in {"row", "col"} for one in table.all("th"))
        widths = {len(row.all("th", "td")) for row in table.all("tr")}
        assert len(widths) == 1
    for picture in root.all("svg"):
        assert picture.attributes.get("aria-hidden") == "true" or picture.attributes.get("role") == "img"
    for field in root.all("input"):
        assert words(root.one("label", **{"for": field.attributes["id"]}))


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> list[dict[str, str]]:
    """The colours of the light and the dark page by their names."""
    css = asset("page.css")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    return [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in blocks]


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart_from_their_background(which: int) -> None:
    palette = palettes()[which]
    for name in ("text", "muted", "accent", "green", "amber", "teal", "red"):
        assert contrast(palette[name], palette["back"]) >= 4.5, name
        assert contrast(palette[name], palette["tint"]) >= 4.5, name
    for name in ("earlier", "older"):
        assert contrast(palette[name], palette["back"]) >= 3, name


# Safe


def asset(name: str) -> str:
    return resources.files("reconciler.reports.html").joinpath("templates", name).read_text("utf-8")


@every_page
def test_nothing_can_be_loaded_and_no_other_script_can_run(name: str) -> None:
    text = page(PAGES[name]())
    root = parsed(text)
    policy = root.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind, tag in (("style", "style"), ("script", "script")):
        digest = b64encode(hashlib.sha256(root.one(tag).text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    targets = [
        one.attributes[name] for one in root.walk() for name in ("src", "href", "action") if name in one.attributes
    ]
    assert all(target == "data:," or re.fullmatch(r"#model-\d+", target) for target in targets)
    assert not re.search(r"@import|url\(|https?:", asset("page.css") + asset("page.js"))
    assert not [one for one in root.walk() if "style" in one.attributes]


def structure(root: Element) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and the names of their attributes, in order."""
    return [(one.tag, tuple(one.attributes)) for one in root.walk()]


hostile = st.sampled_from(
    [
        HOSTILE,
        "<!--",
        "]]>",
        "&lt;script&gt;",
        "<svg onload=x>",
        "\x00\x0b",
        "\ud800",
        "\u202e",
        "{% raw %}",
        "a\nb",
        "\r\n",
    ]
) | st.text(max_size=20)


@pytest.mark.parametrize("name", PAGES)
@settings(max_examples=settings.default.max_examples // 2)  # for each page
@given(text=hostile)
def test_no_text_changes_what_a_page_is_made_of(name: str, text: str) -> None:
    document = PAGES[name]()
    told = parsed(page(poisoned(document, text, CODES | TIMES)))
    assert structure(told) == structure(drawn(name))
    assert told.one("script").text == asset("page.js")
    assert told.one("style").text == asset("page.css")


@given(name=st.sampled_from(sorted(PAGES)), text=hostile)
def test_times_of_others_are_texts_like_any_other(name: str, text: str) -> None:
    root = parsed(page(poisoned(PAGES[name](), text)))
    assert {one.tag for one in root.walk()} == {one.tag for one in drawn(name).walk()}


def test_hostile_text_is_shown_as_it_is() -> None:
    document = replace(plan_page(), notices=(HOSTILE,))
    assert HOSTILE in parsed(page(document)).one("ul", **{"class": "notices"}).text


def test_what_hides_or_reorders_is_written_out_and_lines_stay_lines() -> None:
    document = replace(plan_page(), notices=("one\x1b[31m\ntwo \u202eevil \ud800",))
    shown = parsed(page(document)).one("ul", **{"class": "notices"}).text.strip()
    assert shown == "one\\x1b[31m\ntwo \\u202eevil \\ud800"
    page(document).encode("utf-8")


# Whatever is known


outcomes = st.builds(
    ModelOutcome,
    name=names,
    state=st.sampled_from([Outcome.READY, Outcome.CHECKED, Outcome.UPDATED, Outcome.FAILED, Outcome.REFUSED]),
    key=texts,
    remote=texts,
    steps=st.none() | counts,
    final_loss=st.none() | losses.map(number),
    message=texts,
    checks=st.none() | st.just(CHECKS),
)


@given(plans, targets, capabilities, locks, st.lists(remote_models, max_size=3))
def test_every_plan_can_be_drawn(
    plan: Plan, target: Target, service: Capabilities, lock: Lock, live: list[RemoteModel]
) -> None:
    details = model_details(lock, {one.remote: one for one in live}, SIMULATED)
    parsed(page(replace(plan_report(plan, target, service, "lock.json"), model_details=details)))


@given(locks, targets, capabilities, st.data())
def test_every_status_can_be_drawn(lock: Lock, target: Target, service: Capabilities, data: st.DataObject) -> None:
    recorded = [one.remote for model in lock.models.values() for one in model.generations]
    live = {remote: replace(data.draw(remote_models), remote=remote) for remote in recorded}
    shown = data.draw(st.sampled_from([None, live]))
    details = data.draw(st.sampled_from([(), model_details(lock, live, SIMULATED)]))
    report = status_report(lock, target, service, "lock.json", live=shown, model_details=details)
    root = parsed(page(report))
    assert len(root.all("article")) == len(lock.models)


@given(plans, st.lists(outcomes, max_size=4), st.sampled_from(ExitStatus))
def test_every_result_can_be_drawn(plan: Plan, became: list[ModelOutcome], status: ExitStatus) -> None:
    document = result_report(
        plan=plan,
        target=TARGET,
        capabilities=REAL,
        outcomes=became,
        requests=1,
        seconds=0.1,
        exit_status=status,
    )
    parsed(page(document))


@each_row(
    ("name", "document"),
    [
        ("plan", plan_page),
        ("result", result_page),
        ("status", status_page),
        ("status", recorded_page),
        ("drift", drift_page),
    ],
)
def test_the_documents_of_these_tests_are_documents(name: str, document: Any) -> None:
    held_to(name, document())


def test_nothing_to_show_is_said() -> None:
    root = parsed(page(replace(recorded_page(), models=())))
    assert "No models are recorded." in words(root)
    assert not root.all("table", "article", "form")
