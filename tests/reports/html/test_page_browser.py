"""Pages in a real browser: they work by keyboard, ask for nothing, and no text of others comes alive in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from reconciler.commands._ui_server import Board, draw, ui_app
from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import PHASES
from reconciler.reports.documents.targets import ListedModel, ListedTarget, ModelState, TargetsReport, model_counts
from reconciler.reports.html.front import NOTHING, Now, Training, front_page
from reconciler.reports.html.page import page
from support.browser import BACKSPACE, ENTER, SPACE, TAB, Browser, browser
from support.golden_world import GOLDEN
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
    assert len(shown_models(chromium)) == 4, "no state is chosen, and models in sync are folded"
    chromium.press(*[TAB] * 5, "WORDS.yaml")
    assert shown_models(chromium) == ["letters", "words"]
    assert shown_parts(chromium) == ["letters", "words"]
    chromium.press(ENTER)
    assert shown_models(chromium) == ["letters", "words"], "nothing was sent"
    chromium.press(*[BACKSPACE] * 10, "nowhere")
    assert shown_models(chromium) == []
    assert chromium.find("output").text == "0 of 6 shown"


BROKEN = """
const broken = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (!node.parentElement.checkVisibility() || node.parentElement.closest("svg, script")) continue;
  for (const { 0: word, index } of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
    range.setStart(node, index);
    range.setEnd(node, index + word.length);
    if (new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1) broken.push(word);
  }
}
return broken;
"""
"""The visible words that are on two lines."""


@pytest.mark.parametrize("name", [*PAGES, "drift.html", "plan.html"])
def test_no_word_is_broken(chromium: Browser, name: str) -> None:
    chromium.open(page(PAGES[name]()) if name in PAGES else (GOLDEN / name).read_text(encoding="utf-8"))
    chromium.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    for width in (1280, 375):
        chromium.size(width)
        assert chromium.driver.execute_script(BROKEN) == []
        assert chromium.run("document.documentElement.scrollWidth") <= width


def test_models_in_sync_unfold_when_they_are_searched_for(chromium: Browser) -> None:
    chromium.open(page(plan_page()))
    assert violations(chromium) == []
    assert chromium.find("details.folded summary").text == "2 models in sync"
    field = chromium.find("#filter")
    field.send_keys("capitals")
    assert shown_models(chromium) == ["capitals"]
    field.send_keys(BACKSPACE * 8)
    assert len(shown_models(chromium)) == 4


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
        assert len(shown_models(chromium)) == 4
        chromium.run("document.querySelector('details.folded').open = true")
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


# The front page


def front(models: int, *targets: str, text: str = "") -> TargetsReport:
    """A front page with this number of models in each target, of which the first ones need attention."""
    states: tuple[ModelState, ...] = ("failed", "held", "pending", "training", "orphaned", "unselected")
    listed = tuple(
        ListedModel(
            name=f"model-{number:04}",
            state=states[number] if number < len(states) else "inSync",
            serving=f"model-{number:04}-abcdefgh",
            stages={"production": f"model-{number:04}-22222222"} if number < len(states) else {},
            reason=f"ChecksFailed: {text}" if number == 1 else "",
        )
        for number in range(models)
    )
    return TargetsReport(
        exit_status=ExitStatus.OK,
        targets=tuple(
            ListedTarget(
                name=name,
                file=f"reconcile.{name}.yaml",
                state="held",
                label=f"embedded service{text}",
                simulated=True,
                stages=("staging", "production"),
                lockfile=f"reconcile.{name}.lock.json",
                last_change="2026-11-30T18:00:00Z",
                counts=model_counts(listed),
                models=listed,
            )
            for name in targets
        ),
    )


CURVE = tuple((step, 8 / (1 + step / 9)) for step in range(1, 40))
DURING = Now((Training("prod", "model-0003", "model-0003-abcdefgh", "step 40/100 (40 %), loss 1.80", CURVE),))


@contextmanager
def served(board: Board) -> Iterator[tuple[str, Callable[[str, Now], None]]]:
    """Serve a board on a free port; gives its address, and how to show something else on it."""
    import asyncio
    import socket

    import uvicorn

    started: Queue[asyncio.AbstractEventLoop] = Queue()

    async def watch(_board: Board) -> None:
        started.put(asyncio.get_running_loop())

    config = uvicorn.Config(
        ui_app(board, watch), log_config=None, log_level="critical", lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            loop = started.get(timeout=60)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            yield url, lambda frame, now: loop.call_soon_threadsafe(board.show, frame, now) and None
        finally:
            server.should_exit = True
            thread.join()


def violations(chromium: Browser) -> Any:
    """The mistakes in accessibility that axe-core finds, contrast among them."""
    package = pytest.importorskip("axe_core_python", reason="needs the package axe-core-python")
    chromium.driver.set_script_timeout(60)
    chromium.driver.execute_script(Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    # Without the elements that break no rule, and selectors of those that do, it takes two thirds of the time.
    return chromium.driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run({ resultTypes: ['violations'], selectors: false }).then("
        "({ violations }) => done(violations.map(({ id, nodes }) => [id, nodes.map(one => one.html)])))"
    )


def test_the_front_page_is_accessible_in_both_colours_and_complete_without_scripts(
    chromium: Browser, tmp_path: Path
) -> None:
    page = front_page(front(8, "dev", "prod", text=HOSTILE), DURING)
    for scheme in ("light", "dark"):
        address = chromium.open(page)
        chromium.media(scheme=scheme)
        assert violations(chromium) == []
        chromium.size(320)
        assert chromium.run("document.documentElement.scrollWidth") <= 320
        chromium.size(1280)
        (tmp_path / f"{scheme}.png").write_bytes(chromium.driver.get_screenshot_as_png())
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
    assert set(chromium.requests()) <= {address, "data:,"}
    assert chromium.complaints() == []
    assert chromium.find_all("img, main script") == []
    # The tree of the browser follows the page after a moment.
    named = {("table", "Models"), ("table", "Targets"), ("rowheader", "model-0000"), ("columnheader", "Target")}
    named.add(("image", "Loss of each generation of model-0003 by training step"))
    assert chromium.wait(lambda: named <= chromium.accessible())
    chromium.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page)
        assert len(shown_models(chromium)) == 16
        assert chromium.find_all("button") == []
    finally:
        chromium.devtools("Emulation.setScriptExecutionDisabled", value=False)


def laid_out(chromium: Browser) -> int:
    """The number of rows that the browser lays out and draws."""
    rows = "[...document.querySelectorAll('.overview tbody th')]"
    return int(chromium.run(f"{rows}.filter(row => row.checkVisibility({{contentVisibilityAuto: true}})).length"))


def test_of_5000_models_only_those_in_view_are_laid_out(chromium: Browser) -> None:
    chromium.open(front_page(front(2500, "dev", "prod")))
    last = "document.querySelector('.overview tbody tr:last-child th')"
    seen = f"{last}.checkVisibility({{contentVisibilityAuto: true}})"
    assert chromium.run("document.querySelectorAll('.overview tbody tr').length") == 5000
    assert laid_out(chromium) < 200
    assert not chromium.run(seen)
    chromium.run("scrollTo(0, document.body.scrollHeight)")
    assert chromium.wait(lambda: bool(chromium.run(seen)))
    assert 10 < laid_out(chromium) < 200
    # Rows that are laid out by themselves are still rows of a table.
    assert chromium.wait(lambda: chromium.presents("table", "Models") and chromium.presents("rowheader", "model-2499"))
    chromium.find("#filter").send_keys("model-0001")
    assert chromium.find("output").text == "2 of 5000 shown"
    assert chromium.wait(lambda: laid_out(chromium) == 2)


def test_the_front_page_follows_a_run_with_texts_of_others(chromium: Browser) -> None:
    board = Board(draw(front(8, "dev")))
    with served(board) as (url, show):
        chromium.complaints()
        chromium.driver.get(url)
        assert chromium.wait(lambda: chromium.find("#live").text == "· live")
        assert chromium.find_all("figure") == []
        chromium.find("#filter").send_keys("0001")
        chromium.find(".overview thead button").click()
        show(draw(front(8, "dev")), DURING)
        assert chromium.wait(lambda: len(chromium.find_all("figure")) == 1)
        show(draw(front(9, "dev", text=HOSTILE)), NOTHING)
        assert chromium.wait(lambda: HOSTILE in chromium.find("main").text)
        assert chromium.find_all("figure, img, main script") == []
        assert shown_models(chromium) == ["model-0001"], "the filter stays"
        assert len(chromium.find_all(".overview tbody tr")) == 9
        show(draw(front(1, "dev")), NOTHING)
        assert chromium.wait(lambda: len(chromium.find_all(".overview tbody tr")) == 1)
        assert visible(chromium, ".tallies li", ".count") == ["1"]
        assert chromium.complaints() == []
        assert violations(chromium) == []
    assert chromium.wait(lambda: chromium.find("#live").text == "· not connected")
    chromium.complaints()
