"""The gallery: what was drawn is found, compared, deleted and brought back, packed, and sent on with a way back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, CreateDriver
from tests.e2e.served import Served

pytestmark = pytest.mark.usefixtures("emoji_suite")


def draw(create: CreateDriver, prompt: str) -> None:
    create.prompt.fill(prompt)
    create.set("steps", 3)
    create.set("seed", 7)
    create.generate.click()
    expect(create.parameters).to_contain_text(prompt, timeout=RUN_MS)


def cards(page: Page, kind: str) -> list[str]:
    return [str(each.get_attribute(f"data-{kind}")) for each in page.locator(f"#gallery-grid [data-{kind}]").all()]


def test_drawn_pictures_are_found_compared_deleted_brought_back_packed_and_sent_on(
    visitors: Visitors, server: Served, tmp_path: Path
) -> None:
    create = visitors.visit("en-US")
    draw(create, "a zebra by the sea")
    draw(create, "a zebra & <b>two</b> owls")
    page = create.page
    create.open_tab("Gallery")
    grid, count = page.locator("#gallery-grid"), page.locator("#gallery-count")
    expect(grid.locator("[data-open]")).not_to_have_count(0)
    newest = cards(page, "open")[0]
    expect(grid.locator("[data-open]").first).to_have_attribute(
        "aria-label", f"Open {newest}, prompt: a zebra & <b>two</b> owls"
    )
    words = page.locator("#gallery-words textarea, #gallery-words input").first
    words.fill("zebra SEA")
    words.press("Enter")
    expect(grid.locator("[data-open]")).to_have_count(1)
    words.fill("zebra")
    page.locator("#gallery-search").click()
    expect(grid.locator("[data-open]")).to_have_count(2)
    newest, oldest = cards(page, "open")

    grid.locator(f'[data-star="{oldest}"]').click()
    page.locator("#gallery-favourites input").check()
    expect(grid.locator("[data-open]")).to_have_count(1)
    expect(grid.locator(f'[data-star="{oldest}"]')).to_have_attribute("aria-pressed", "true")
    page.locator("#gallery-favourites input").uncheck()
    expect(grid.locator("[data-open]")).to_have_count(2)

    for picture in (newest, oldest):
        grid.locator(f'[data-pick="{picture}"]').click()
    expect(count).to_contain_text("2 picked")
    page.locator("#gallery-compare").click()
    compared = page.locator(".album-compare")
    expect(compared.locator("img")).to_have_count(2)
    compared.locator("input").fill("20")
    expect(compared).to_have_attribute("style", "--split: 20%;")

    page.locator("#gallery-zip").click()
    with page.expect_download() as download:
        page.locator("#gallery-zip-file").click(timeout=RUN_MS)
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: (server.outputs / name).read_bytes() for name in (newest, oldest)
        }

    page.locator("#gallery-delete").click()
    expect(grid.locator(f'[data-open="{newest}"]')).to_have_count(0)
    assert not (server.outputs / newest).exists()
    page.locator("#gallery-undo").click()
    expect(grid.locator("[data-open]")).to_have_count(2)
    assert (server.outputs / newest).is_file()

    grid.locator(f'[data-open="{oldest}"]').click()
    expect(page.locator("#gallery-full img")).to_have_js_property("naturalWidth", 128)
    expect(page.locator("#gallery-parameters")).to_contain_text("a zebra by the sea")
    page.locator("#gallery-to-score").click()
    expect(page.locator("#score-texts textarea")).to_have_value("a zebra by the sea")
    expect(page.locator("#score-tray img")).to_have_count(1)
    page.locator("#way-back").click()
    expect(page.locator("#gallery-full img")).to_be_visible()
    page.locator("#gallery-to-create").click()
    expect(create.prompt).to_have_value("a zebra by the sea")
    expect(create.number("seed")).to_have_value("7")
    page.locator("#way-back").click()
    page.locator("#gallery-to-search").click()
    expect(page.locator("#search-results button[data-place]").first).to_be_visible(timeout=RUN_MS)

    create.open_tab("Gallery")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#gallery-delete-this").click()
    page.locator("#gallery-bin > button, #gallery-bin .label-wrap").first.click()
    expect(page.locator("#gallery-bin-holds")).to_contain_text("1 deleted")
    page.locator("#gallery-empty-bin").click()
    expect(page.locator("#gallery-bin-holds")).to_contain_text("No picture")
    assert not list(server.outputs.rglob(Path(oldest).name))
    assert json.loads((server.outputs.parent / "favourites.json").read_text()) == []
