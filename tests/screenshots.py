"""`python -m tests.screenshots OUT_DIR` photographs every page in both languages, both themes, wide and narrow.

To be looked at by a person, one by one. With `--docs` behind it the pictures of README.md and docs/ are made anew from
the same visit. `tests.screenshots_doors` photographs the login, the shared page and the extensions.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.driver import RUN_MS, CreateDriver, press_tab
from tests.e2e.served import ROOT, launch_chromium, serve
from tests.e2e.tour import TOUR, back_to_create

_PROMPTS: Final = {"en-US": "a cat on a blue background", "th-TH": "แมว พื้นหลังสีน้ำเงิน"}
_LOOKS: Final[tuple[tuple[Literal["light", "dark"], int], ...]] = (
    ("light", 1280),
    ("dark", 1280),
    ("light", 360),
    ("dark", 360),
    ("light", 1920),
)
_HEIGHT: Final = 860
_SEED: Final = 7
_OTHER_TABS: Final = {
    "search": {"en-US": "Search", "th-TH": "ค้นหาภาพ"},
    "models": {"en-US": "Models", "th-TH": "โมเดล"},
    "walk": {"en-US": "Walk", "th-TH": "เดินใน latent"},
    "xyz": {"en-US": "X/Y/Z", "th-TH": "X/Y/Z"},
    "extensions": {"en-US": "Extensions", "th-TH": "ส่วนขยาย"},
}
_IN_DOCS: Final = {
    "en-done-light-1280": "page.webp",
    "th-done-dark-1280": "page.th.webp",
    "en-inside-light-1280": "inside.webp",
}
"""What README.md and docs/ show, by the name of the screenshot."""


@dataclass(frozen=True)
class Camera:
    """Photographs one page at every moment in every look; the page itself is visited once."""

    page: Page
    language: str
    out: Path
    docs: Path | None

    def shoot(self, moment: str) -> None:
        """All of the page, in every look; and its first screenful where the docs show that."""
        page = self.page
        page.mouse.move(0, 0)
        for theme, width in _LOOKS:
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": _HEIGHT})
            page.evaluate("() => scrollTo(0, 0)")
            page.wait_for_timeout(400)
            name = f"{self.language}-{moment}-{theme}-{width}"
            wide = page.evaluate("() => document.documentElement.scrollWidth")
            if wide > width:
                print(f"{name}: {wide} px wide")  # noqa: T201 - for the person who looks
            page.screenshot(path=self.out / f"{name}.png", full_page=True)
            if self.docs is not None and name in _IN_DOCS:
                Image.open(io.BytesIO(page.screenshot())).save(self.docs / _IN_DOCS[name], quality=82, method=6)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": _HEIGHT})

    def shoot_now(self, moment: str) -> None:
        """What will not wait, as it is."""
        self.page.screenshot(path=self.out / f"{self.language}-{moment}.png")


def main(out: Path, docs: Path | None = None) -> None:
    """Serve the page from a fresh folder and photograph everything."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        served = serve(Path(data), Path(data) / "models")
        browser = launch_chromium(playwright.chromium)
        try:
            for locale in _PROMPTS:
                photograph(browser, served.url, locale, out, docs)
        finally:
            browser.close()
            served.stop()


def photograph(browser: Browser, url: str, locale: str, out: Path, docs: Path | None) -> None:
    """The page as it opens, while it draws, when it is done, with a mistake; and then the other pages."""
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": _HEIGHT})
    create = CreateDriver(context.new_page(), url)
    create.open()
    camera = Camera(create.page, locale[:2], out, docs)
    camera.shoot("open")
    create.prompt.fill(_PROMPTS[locale])
    create.set("seed", _SEED)
    create.set("steps", 12)
    if locale == "th-TH":
        create.page.locator("#translate input").check()
    create.generate.click()
    expect(create.stop).to_be_visible(timeout=RUN_MS)
    camera.shoot_now("running")
    create.wait_until_done()
    camera.shoot("done")
    create.set("width", 101)
    create.prompt.focus()
    create.page.keyboard.press("Control+Enter")
    expect(create.alert).to_be_visible(timeout=RUN_MS)
    camera.shoot("mistake")
    create.set("width", 128)
    for moment, names in _OTHER_TABS.items():
        press_tab(create.page, "#tabs", names[locale])
        _further(create.page, moment)
        camera.shoot(moment)
    back_to_create(create)
    for tab, work in TOUR.items():
        work(create)
        _further(create.page, tab)
        camera.shoot(tab)
        back_to_create(create)
    context.close()


def _further(page: Page, tab: str) -> None:
    """What a page shows at the second press: the worked cell of a score, previews of prompts, a walk, a grid."""
    if tab == "score":
        page.locator("#score-matrix button[data-picture]").first.click()
        expect(page.locator("#score-worked .check.passed")).to_be_visible(timeout=RUN_MS)
    elif tab == "prompt":
        page.locator("#prompt-previews").click()
        expect(page.locator("img.prompt-preview").first).to_be_visible(timeout=RUN_MS)
    elif tab == "walk":
        page.locator("#walk-steps input").fill("6")
        page.locator("#walk-frames input").fill("4")
        page.locator("#ext-latent_walk-walk-run-run").click()
        expect(page.locator("#walk-shown a[download='walk.webp']")).to_be_visible(timeout=RUN_MS)
    elif tab == "xyz":
        page.locator("#xyz-values-x textarea").fill("4, 8")
        page.locator("#xyz-values-y textarea").fill("7-8")
        page.locator("#ext-xyz_plot-plot-run-run").click()
        expect(page.locator("#xyz-file a")).to_be_visible(timeout=RUN_MS)
        page.locator("#xyz-grid button[data-cell]").first.click()


if __name__ == "__main__":
    main(Path(sys.argv[1]), ROOT / "docs" if "--docs" in sys.argv[2:] else None)
