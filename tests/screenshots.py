"""`python -m tests.screenshots OUT_DIR` photographs the page in both languages, both themes, wide and narrow.

To be looked at by a person; the README shows one of them.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.driver import RUN_MS, CreateDriver, press_tab
from tests.e2e.served import launch_chromium, serve

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
    for tab, work in _TOUR.items():
        work(create)
        create.page.evaluate("() => scrollTo(0, 0)")
        shoot(tab)
        _press_first_tab(create)
    context.close()


def _press_first_tab(create: CreateDriver) -> None:
    create.page.locator("#tabs [role=tab]").first.click()
    expect(create.generate).to_be_visible()


def _gallery(create: CreateDriver) -> None:
    page = create.page
    page.locator("#tabs [role=tab]").nth(1).click()
    page.locator("#gallery-grid [data-open]").first.click()
    expect(page.locator("#gallery-full img")).to_be_visible()


def _learn(create: CreateDriver) -> None:
    """The tour of the ready prompt, one answer given."""
    page = create.page
    tabs = page.locator("#tabs")
    press_tab(page, "#tabs", "Learn" if tabs.get_by_text("Learn", exact=True).count() else "เรียนรู้")
    page.locator("#learn-run").click()
    expect(page.locator("#learn-vae img").first).to_be_visible(timeout=RUN_MS)
    page.locator("#learn-text .predict input").first.check()


def _score(create: CreateDriver) -> None:
    """The drawn picture against its prompt and two others."""
    page = create.page
    page.locator("#send-to-score").click()
    page.locator("#score-texts textarea").press_sequentially("\na dog\na car")
    page.locator("#score-run").click()
    expect(page.locator("#score-matrix table")).to_be_visible(timeout=RUN_MS)


def _inside(create: CreateDriver) -> None:
    """The drawn picture, recorded anew."""
    create.page.locator("#send-to-inside").click()
    expect(create.page.locator("#inside-record-run")).to_be_visible(timeout=RUN_MS)
    expect(create.page.locator("#inside-x0")).to_be_visible(timeout=RUN_MS)


def _latents(create: CreateDriver) -> None:
    create.page.locator("#send-to-latents").click()
    expect(create.page.locator("#latents-channels img").first).to_be_visible(timeout=RUN_MS)


def _vision(create: CreateDriver) -> None:
    create.page.locator("#send-to-vision").click()
    expect(create.page.locator("#vision-patches .patch").first).to_be_visible(timeout=RUN_MS)


def _prompt(create: CreateDriver) -> None:
    page = create.page
    page.locator("#send-to-prompt").click()
    page.locator("#bart-repair").click()
    expect(page.locator("#prompt-candidates .prompt-card").first).to_be_visible(timeout=RUN_MS)


_TOUR: dict[str, Callable[[CreateDriver], None]] = {
    "gallery": _gallery,
    "score": _score,
    "inside": _inside,
    "latents": _latents,
    "vision": _vision,
    "prompt": _prompt,
    "learn": _learn,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp()))
