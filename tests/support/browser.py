"""A real Chromium without a window that opens pages from files, and tells what they asked for and what went wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""No window, no profile of anybody's, and no traffic of the browser's own."""
TAB, ENTER, SPACE, BACKSPACE = "\ue004", "\ue007", "\ue00d", "\ue003"
"""Keys of the WebDriver protocol."""
PATIENCE = 20
"""Seconds that a busy machine may take for what Chromium does on its own time."""


class Browser:
    """One window, and what it logged since a page was opened."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        self._folder = folder
        self._opened = 0

    def open(self, page: str) -> str:
        """Show a page from a file, in its light colours and on a screen; gives its address."""
        self.media()
        self.size(1280)
        self._opened += 1  # a new address each time, by which the page differs from the one before it
        file = self._folder / f"page-{self._opened}.html"
        file.write_text(page, encoding="utf-8")
        address = file.as_uri()
        self.complaints()
        self.requests()
        self.driver.get(address)
        loaded = f"document.URL === {json.dumps(address)} && document.readyState === 'complete'"
        assert self.wait(lambda: self.run(loaded))
        return address

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        """Show pages as on paper, or in dark colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=kind, features=features)
        assert self.wait(lambda: self.run(f"matchMedia('{kind} and (prefers-color-scheme: {scheme})').matches"))

    def size(self, width: int) -> None:
        """Make the window that wide, in CSS pixels."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert self.wait(lambda: self.run("innerWidth") == width)

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition is true, and return whether that happened in time."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        with suppress(TimeoutException):
            return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())
        return False

    def accessible(self) -> set[tuple[str, str]]:
        """The role and the name of each part of the page that a screen reader presents."""
        nodes = self.devtools("Accessibility.getFullAXTree")["nodes"]
        return {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}

    def presents(self, role: str, name: str) -> bool:
        """Whether a screen reader presents a part with this role and name; quicker than the whole of a large page."""
        root = self.devtools("DOM.getDocument", depth=0)["root"]["backendNodeId"]
        query = {"backendNodeId": root, "role": role, "accessibleName": name}
        return any(not node["ignored"] for node in self.devtools("Accessibility.queryAXTree", **query)["nodes"])

    def devtools(self, method: str, **parameters: Any) -> Any:
        """A call of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, script: str) -> Any:
        """The value of a script in the page; it is no script of the page's, so its policy does not apply."""
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def find(self, selector: str) -> WebElement:
        """The first element that a CSS selector selects."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """The elements that a CSS selector selects."""
        return self.driver.find_elements("css selector", selector)

    def complaints(self) -> list[str]:
        """What the console says since the last time: errors of scripts, and what the page's policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last time."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]


def _programs() -> tuple[str, str] | None:
    """Chromium and the driver of the same version."""
    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose files are in this folder; skips the tests where there is none, unless it is required."""
    from selenium import webdriver  # takes a third of a second, in each process that collects the tests
    from selenium.webdriver.chrome.service import Service

    found = _programs()
    if found is None:
        reason = "there is no chromium with its chromedriver here (Debian: apt-get install chromium chromium-driver)"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    try:
        driver.get("about:blank")  # leaves the browser's own first page, whose requests would count as a report's
        yield Browser(driver, folder)
    finally:
        driver.quit()
