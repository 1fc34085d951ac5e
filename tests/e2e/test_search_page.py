"""The search page: add a folder, search it in both languages, go on from a result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, press_tab
from tests.search.conftest import Draw, draw_pictures
from webui.store.infotext import PNG_KEY

__all__ = ["draw_pictures"]

TAB = {"en-US": "Search", "th-TH": "ค้นหาภาพ"}
PROMPT = "a cat with <b>whiskers</b>"
COUNT = 60

pytestmark = pytest.mark.usefixtures("emoji_suite")


@pytest.fixture(scope="module")
def album(draw_pictures: Draw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty drawings of one thing each, the cat with a prompt; a smaller copy of the dog; a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures") / "album"
    cat, dog, *_ = draw_pictures(folder, COUNT)
    info = PngInfo()
    info.add_text(PNG_KEY, f"{PROMPT}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 128x128")
    with Image.open(cat) as image:
        image.save(cat, pnginfo=info)
    with Image.open(dog) as image:
        image.convert("RGB").resize((100, 100), Image.Resampling.LANCZOS).save(folder / "dog-small.jpg", quality=70)
    (folder / "notes.png").write_text("no picture")
    return folder


def open_search(visitors: Visitors, locale: str, width: int = 1280) -> Page:
    page = visitors.visit(locale, width=width).page
    press_tab(page, "#tabs", TAB[locale])
    expect(page.locator("#search-run")).to_be_visible()
    return page


def cards(page: Page) -> Locator:
    return page.locator("#search-results button[data-place]")


def only_in(page: Page, folder: Path, filters: str) -> None:
    """Open the filters and keep to one folder: pictures that other tests drew on this page may fit the words better."""
    page.get_by_role("button", name=filters).click()
    page.locator("#search-folder input").click()
    page.get_by_role("option", name=re.compile(folder.name)).click()


def ask(page: Page, words: str, best: str) -> None:
    """Search, and wait until a picture whose name begins so comes first."""
    page.locator("#search-query textarea").fill(words)
    page.locator("#search-run").click()
    expect(cards(page).first).to_have_attribute("aria-label", re.compile(rf"^{best}\b"), timeout=RUN_MS)


def test_a_folder_is_indexed_and_a_result_leads_on(visitors: Visitors, album: Path) -> None:
    page = open_search(visitors, "en-US")
    page.locator("#search-path input, #search-path textarea").first.fill(str(album / "nowhere"))
    page.locator("#search-add").click()
    expect(page.locator("#index-status [role=alert]")).to_contain_text("nowhere")
    page.locator("#search-path input, #search-path textarea").first.fill(str(album))
    page.locator("#search-add").click()
    expect(page.locator("#search-folders")).to_contain_text("album")
    status = page.locator("#index-status")
    expect(status).to_contain_text(f"{COUNT + 1} new", timeout=RUN_MS)
    expect(status).to_contain_text("1 unreadable")
    status.locator("summary").click()
    expect(status.locator("li")).to_contain_text("notes.png")
    only_in(page, album, "Filters")

    ask(page, "a cat", "cat-0.png")
    expect(page.locator("#search-results [role=status]")).to_contain_text("pictures searched")
    expect(page.locator("#search-results img").first).to_have_js_property("complete", True)
    ask(page, "a cat - 2 * a cat + 3 * a dog", "dog-")
    expect(page.locator("#search-terms li")).to_have_count(3)
    expect(page.locator("#search-terms")).to_contain_text("−2 a cat")
    expect(cards(page).first).to_contain_text("+1")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator("#search-results .pager")).to_contain_text(re.compile(r"2 of \d"))

    ask(page, "a cat", "cat-0.png")
    cards(page).first.click()
    chosen = page.locator("#search-chosen")
    expect(chosen).to_contain_text(PROMPT)
    expect(chosen).to_contain_text(str(album / "cat-0.png"))
    full = chosen.locator(".search-full img")
    expect(full).to_have_js_property("complete", True)
    assert full.evaluate("image => image.naturalWidth") > 0
    page.locator("#search-like").click()
    expect(cards(page).first).to_contain_text("1.000")
    cards(page).first.click()
    page.locator("#search-to-score").click()
    expect(page.locator(".tray li")).to_have_count(1)
    expect(page.locator(".tray li")).to_contain_text("cat-0.png")

    press_tab(page, "#tabs", "Search")
    page.locator("#search-use").click()
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)


def test_thai_on_a_narrow_screen_and_filters_that_leave_nothing(visitors: Visitors, album: Path) -> None:
    page = open_search(visitors, "th-TH", width=360)
    expect(page.locator("#search-empty")).to_be_visible()
    page.locator("#search-path input, #search-path textarea").first.fill(str(album))
    page.locator("#search-add").click()
    expect(page.locator("#index-status")).to_contain_text("อ่านไม่ได้ 1", timeout=RUN_MS)
    only_in(page, album, "ตัวกรอง")
    ask(page, "แมว", "cat-")
    expect(page.locator("#search-empty")).to_be_hidden()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.locator("#search-prompt textarea, #search-prompt input").first.fill("whiskers")
    page.locator("#search-run").click()
    expect(cards(page)).to_have_count(1)
    page.locator("#search-prompt textarea, #search-prompt input").first.fill("no such prompt")
    page.locator("#search-run").click()
    expect(page.locator("#search-results [role=status]")).to_contain_text("ไม่มีภาพที่ผ่านตัวกรอง")
    expect(cards(page)).to_have_count(0)
    page.locator("#language").get_by_text("English", exact=True).click()
    expect(page.locator("#search-results [role=status]")).to_contain_text("No picture passes the filters.")
