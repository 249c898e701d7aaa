"""Pages in a real browser: they work by keyboard, ask for nothing, and no text of others comes alive in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.domain.model import PHASES
from reconciler.reports.html.page import page
from support.browser import BACKSPACE, ENTER, SPACE, TAB, Browser, browser
from support.render_pages import HOSTILE, PAGES, job_page, plan_page, poisoned, result_page, status_page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def visible(chromium: Browser, elements: str, names: str = "*") -> Any:
    """The texts of the visible elements, from the top; each is named by its first element that ``names`` selects."""
    return chromium.run(
        f"[...document.querySelectorAll('{elements}')].filter(element => element.checkVisibility())"
        f".map(element => (element.querySelector('{names}') ?? element).innerText)"
    )


def shown_models(chromium: Browser) -> Any:
    """The names in the visible rows of the first table."""
    return visible(chromium, ".overview tbody tr", "th")


def shown_parts(chromium: Browser) -> Any:
    """The names of the models whose parts are visible."""
    return visible(chromium, "h3")


def focused(chromium: Browser) -> str:
    return " ".join(chromium.run("document.activeElement.innerText").split())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_with_texts_of_others_asks_for_nothing_has_no_errors_and_fits_a_narrow_screen(
    chromium: Browser, name: str
) -> None:
    address = chromium.open(page(poisoned(PAGES[name](), HOSTILE)))
    heading = chromium.find("h1").text
    assert heading.endswith("default")
    assert chromium.driver.title.startswith(heading.split()[0])
    assert HOSTILE in chromium.run("document.querySelector('main').innerText")
    assert chromium.find_all("img, iframe, main script") == []
    assert set(chromium.requests()) <= {address, "data:,"}
    assert chromium.run("performance.getEntriesByType('resource').length") == 0
    assert chromium.complaints() == []
    chromium.size(320)
    assert chromium.run("document.documentElement.scrollWidth") <= 320


def test_states_are_chosen_and_text_is_searched_for_by_keyboard(chromium: Browser) -> None:
    chromium.open(page(plan_page()))
    chromium.press(TAB)
    assert focused(chromium) == "1 create"
    chromium.press(SPACE)
    assert shown_models(chromium) == ["number-generator"]
    assert shown_parts(chromium) == ["number-generator"]
    assert chromium.find("output").text == "1 of 6 shown"
    chromium.press(TAB, TAB, TAB, ENTER)
    assert shown_models(chromium) == ["number-generator", "letters"], "what is held, too"
    pressed = chromium.find_all('[aria-pressed="true"]')
    assert [one.text.split()[-1] for one in pressed] == ["create", "hold"]
    chromium.press(ENTER)
    assert shown_models(chromium) == ["number-generator"]
    chromium.find('[aria-pressed="true"]').click()
    assert len(shown_models(chromium)) == 6, "no state is chosen"
    chromium.press(*[TAB] * 5, "WORDS.yaml")
    assert shown_models(chromium) == ["letters", "words"]
    assert shown_parts(chromium) == ["letters", "words"]
    chromium.press(ENTER)
    assert shown_models(chromium) == ["letters", "words"], "nothing was sent"
    chromium.press(*[BACKSPACE] * 10, "nowhere")
    assert shown_models(chromium) == []
    assert chromium.find("output").text == "0 of 6 shown"


def test_rows_are_sorted_by_keyboard_with_what_is_unknown_last(chromium: Browser) -> None:
    chromium.open(page(status_page()))
    heads = chromium.find_all(".overview thead th[data-sort]")
    sortable = {head.text: head for head in heads}
    assert {head.get_attribute("aria-sort") for head in heads} == {"none"}
    loss = sortable["Final loss"]
    for _ in range(30):
        chromium.press(TAB)
        if focused(chromium) == "Final loss":
            break
    chromium.press(ENTER)
    assert shown_models(chromium) == ["number-generator", "words", "letters", "rhymes"]
    assert loss.get_attribute("aria-sort") == "ascending"
    chromium.press(ENTER)
    assert shown_models(chromium) == ["words", "number-generator", "letters", "rhymes"]
    assert loss.get_attribute("aria-sort") == "descending"
    chromium.press(TAB, TAB, ENTER)
    assert shown_models(chromium) == ["words", "number-generator", "rhymes", "letters"], "by their time"
    assert loss.get_attribute("aria-sort") == "none"


def test_each_phase_of_a_job_is_shown_with_its_epochs_dropped_examples_and_experiment(chromium: Browser) -> None:
    pictures = set()
    for phase in ("", *PHASES):
        chromium.open(page(job_page(phase)))
        notes = visible(chromium, "article .note")
        assert ": ".join(filter(None, [PHASES.get(phase, ""), "epoch 1/3 (33 %)"])) in notes
        dropped = f"the service dropped or truncated 2 examples: data.csv:4: too long {HOSTILE}; and 1 more"
        assert dropped in notes
        link = chromium.find('article a[href^="https:"]')
        assert link.text == "experiment"
        assert link.get_attribute("href") == (
            "https://console.cloud.google.com/vertex-ai/experiments/locations/us/experiments/e-1/runs?project=acme"
        )
        pictures.add(chromium.driver.get_screenshot_as_base64())
    assert len(pictures) == 1 + len(PHASES)


def test_without_scripts_everything_can_be_read_and_nothing_pretends_to_work(chromium: Browser) -> None:
    chromium.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page(plan_page()))
        assert len(shown_models(chromium)) == 6
        assert chromium.find_all("button") == []
        assert not chromium.find("form").is_displayed()
    finally:
        chromium.devtools("Emulation.setScriptExecutionDisabled", value=False)


def test_dark_is_dark_and_on_paper_everything_is_unfolded_light_and_without_controls(chromium: Browser) -> None:
    chromium.open(page(result_page()))
    light = chromium.run("getComputedStyle(document.body).backgroundColor")
    chromium.media(scheme="dark")
    dark = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(252, 252, 251)", "rgb(21, 23, 27)")
    answers = chromium.find("details table")
    assert not answers.is_displayed()
    chromium.media("print", scheme="dark")
    assert chromium.run("document.querySelector('details table').getBoundingClientRect().height") > 50
    assert not chromium.find("form").is_displayed()
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.devtools("Page.printToPDF")["data"].startswith("JVBERi0"), "a PDF in base64"


def test_who_listens_hears_what_pictures_tables_and_buttons_are(chromium: Browser) -> None:
    expected = {
        ("heading", "Actions"),
        ("table", "Actions"),
        ("columnheader", "Manifest"),
        ("rowheader", "number-generator"),
        ("button", "1 create"),
        ("search", ""),
        ("searchbox", "Filter"),
        ("image", "Loss of each generation of number-generator by training step"),
        ("list", "Timeline"),
    }
    chromium.devtools("Accessibility.enable")
    try:
        chromium.open(page(plan_page()))
        chromium.wait(lambda: chromium.accessible() >= expected)  # Chromium builds its tree after the page has loaded
        assert chromium.accessible() >= expected
    finally:
        chromium.devtools("Accessibility.disable")
