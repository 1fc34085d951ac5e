"""What somebody does on each page with the picture they have just drawn, so that the page has something to show."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.e2e.driver import RUN_MS, CreateDriver, press_tab


def back_to_create(create: CreateDriver) -> None:
    """Press the first tab."""
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
    """The drawn picture, recorded anew, as the page suggests to newcomers."""
    create.page.locator("#next-steps [data-press='#send-to-inside']").click()
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


TOUR: dict[str, Callable[[CreateDriver], None]] = {
    "gallery": _gallery,
    "score": _score,
    "inside": _inside,
    "latents": _latents,
    "vision": _vision,
    "prompt": _prompt,
    "learn": _learn,
}
