"""A real `diffuscope serve` in a process of its own, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from tests.conftest import ROOT
from tests.e2e.driver import CreateDriver

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_START_SECONDS = 120


@dataclass(frozen=True)
class Served:
    """A running `diffuscope serve`: its address, and the folder where it saves pictures."""

    url: str
    outputs: Path
    process: subprocess.Popen[str]
    said: list[str]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def serve(data_dir: Path, models_dir: Path, port: int = 0, *flags: str) -> Served:
    """Start the command and wait for the line that says where the page is."""
    command = [sys.executable, "-m", "webui", "--data-dir", str(data_dir), "--models-dir", str(models_dir)]
    process = subprocess.Popen(
        [*command, "serve", "--port", str(port), *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    assert process.stdout is not None
    url = _read_address(process.stdout, said)
    threading.Thread(target=said.extend, args=(process.stdout,), daemon=True).start()
    return Served(url, data_dir / "outputs", process, said)


def _read_address(lines: IO[str], said: list[str]) -> str:
    for line in lines:
        said.append(line)
        if match := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return match[0]
    raise AssertionError("diffuscope serve ended: " + "".join(said))


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Path:
    """A models folder as a user may have it: one model of their own beside the bundled suite."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_pipeline_folder, folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("data"), models_dir)
    yield served
    assert served.stop() == 0, "".join(served.said)
    assert "Traceback" not in "".join(served.said)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = os.environ.get("DIFFUSCOPE_CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visitors:
    """Opens pages of separate people, and holds against them what a page must not do."""

    browser: Browser
    url: str
    complaints: list[str]
    contexts: list[BrowserContext]

    def visit(self, locale: str = "en-US", color_scheme: str = "light", width: int = 1280) -> CreateDriver:
        """A new person with a browser of their own opens the page."""
        context = self.browser.new_context(
            locale=locale, color_scheme=color_scheme, viewport={"width": width, "height": 900}
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.contexts.append(context)
        page = context.new_page()
        self._watch(page)
        driver = CreateDriver(page, self.url)
        driver.open()
        return driver

    def _watch(self, page: Page) -> None:
        page.on("request", self._check_request)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("console", lambda said: said.type == "error" and self.complaints.append(f"console: {said.text}"))

    def _check_request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")


@pytest.fixture
def visitors_of(browser: Browser) -> Iterator[Callable[[Served], Visitors]]:
    opened: list[Visitors] = []

    def make(served: Served) -> Visitors:
        opened.append(Visitors(browser, served.url, [], []))
        return opened[-1]

    yield make
    for visitors in opened:
        for context in visitors.contexts:
            context.close()
        assert not visitors.complaints


@pytest.fixture
def visitors(server: Served, visitors_of: Callable[[Served], Visitors]) -> Visitors:
    return visitors_of(server)


@pytest.fixture
def create(visitors: Visitors) -> CreateDriver:
    """The page as someone with an English browser sees it."""
    return visitors.visit()
