"""A real Chromium without a window that opens pages from files, and tells what they asked for and what went wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

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


class Browser:
    """One window, and what it logged since a page was opened."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        self._folder = folder

    def open(self, page: str) -> str:
        """Show a page from a file, in its light colours and on a screen; gives its address."""
        self.media()
        self.size(1280)
        file = self._folder / "page.html"
        file.write_text(page, encoding="utf-8")
        self.complaints()
        self.requests()
        self.driver.get(file.as_uri())
        return file.as_uri()

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        """Show pages as on paper, or in dark colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=kind, features=features)

    def size(self, width: int) -> None:
        """Make the window that wide, in CSS pixels."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def devtools(self, method: str, **parameters: Any) -> Any:
        """A call of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, script: str) -> Any:
        """The value of a script in the page; it is no script of the page's, so its policy does not apply."""
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

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
