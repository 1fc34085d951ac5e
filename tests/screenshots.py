"""`python -m tests.screenshots OUT_DIR` photographs the page in both languages, both themes, wide and narrow.

To be looked at by a person; the README shows one of them. `tests.screenshots_doors` photographs the login,
the shared page and the extensions.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.driver import RUN_MS, CreateDriver
from tests.e2e.served import launch_chromium, serve
from tests.e2e.tour import TOUR, back_to_create

_PROMPTS = {"en-US": "a cat on a blue background", "th-TH": "แมว พื้นหลังสีน้ำเงิน"}
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDTHS = (1280, 390)
_SEED = 7


def main(out: Path, models_dir: Path) -> None:
    """Serve the page from a fresh folder and photograph every combination."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        served = serve(Path(data), models_dir)
        browser = launch_chromium(playwright.chromium)
        for locale, theme, width in itertools.product(_PROMPTS, _THEMES, _WIDTHS):
            photograph(browser, served.url, out, locale, theme, width)
        browser.close()
        served.stop()


def photograph(browser: Browser, url: str, out: Path, locale: str, theme: Literal["light", "dark"], width: int) -> None:
    """Photograph the page as it opens, while it draws, when it is done, with a mistake; and then the other pages."""
    context = browser.new_context(locale=locale, color_scheme=theme, viewport={"width": width, "height": 860})
    create = CreateDriver(context.new_page(), url)
    create.open()
    name = f"{locale[:2]}-{theme}-{width}"

    def shoot(moment: str) -> None:
        create.page.wait_for_timeout(700)
        create.page.mouse.move(0, 0)
        create.page.screenshot(path=out / f"{name}-{moment}.png", full_page=width < 1000)

    shoot("open")
    create.prompt.fill(_PROMPTS[locale])
    create.set("seed", _SEED)
    create.set("steps", 12)
    create.generate.click()
    expect(create.stop).to_be_visible(timeout=RUN_MS)
    shoot("running")
    create.wait_until_done()
    create.page.evaluate("() => scrollTo(0, 0)")
    shoot("done")
    create.set("width", 101)
    create.prompt.focus()
    create.page.keyboard.press("Control+Enter")
    expect(create.alert).to_be_visible(timeout=RUN_MS)
    shoot("mistake")
    create.set("width", 128)
    for tab, work in TOUR.items():
        work(create)
        create.page.evaluate("() => scrollTo(0, 0)")
        shoot(tab)
        back_to_create(create)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp()))
