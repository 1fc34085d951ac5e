"""A real `diffuscope serve` in a process of its own, and a real Chromium that looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests.e2e.driver import CreateDriver
from tests.e2e.served import Served, launch_chromium, serve
from tests.tiny import save_tiny_vit

PATIENCE_MS = 60_000
"""How long a page may take to answer before a test calls it broken: a busy machine is no failure."""
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker does all browser tests: two browsers and two servers on two cores mostly wait for each other."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Path:
    """A models folder as a user may have it: models of their own beside the bundled suite."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_pipeline_folder, folder / "tiny")
    save_tiny_vit(folder / "tiny-vit")
    return folder


@pytest.fixture(scope="package")  # gone, with its memory, before the other tests of its worker
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("data"), models_dir)
    yield served
    assert served.stop() == 0, "".join(served.said)
    assert "Traceback" not in "".join(served.said)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright.chromium)
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
        context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
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
