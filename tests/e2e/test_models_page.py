"""The Models page: a model is looked up, downloaded from a hub on this machine, loaded and let go again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS
from tests.e2e.served import Served, serve
from tests.hub_server import Hub, serve_hub

TAB = {"en-US": "Models", "th-TH": "โมเดล"}


@pytest.fixture(scope="module")
def hub(tiny_clip_folder: Path) -> Iterator[Hub]:
    with serve_hub() as served:
        served.put("maker/clip", tiny_clip_folder, pytorch_model__bin=b"pickle")
        yield served


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, hub: Hub) -> Iterator[Served]:
    """A page whose Hub is this machine; its owner has not forbidden downloads."""
    data = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment(data / "hf" / "hub").items():
            patch.setenv(name, value)
        patch.delenv("HF_HUB_OFFLINE")
        served = serve(data, models_dir)
    yield served
    assert served.stop() == 0, "".join(served.said)
    assert "Traceback" not in "".join(served.said)


@pytest.fixture
def customers(shop: Served, visitors_of: Callable[[Served], Visitors]) -> Visitors:
    return visitors_of(shop)


def open_models(visitors: Visitors, locale: str, width: int = 1280) -> Page:
    create = visitors.visit(locale, width=width)
    create.open_tab(TAB[locale])
    expect(create.page.locator("#models-list li").first).to_be_visible()
    return create.page


def card(page: Page, where: str, words: str) -> Locator:
    return page.locator(f"{where} .model-list > li").filter(has_text=words)


def look_up(page: Page, model: str) -> None:
    page.locator("#models-typed input, #models-typed textarea").first.fill(model)
    page.locator("#models-look").click()


def test_a_model_is_looked_up_downloaded_loaded_and_let_go(customers: Visitors, hub: Hub) -> None:
    page = open_models(customers, "en-US")
    expect(card(page, "#models-list", "stabilityai/sd-turbo")).to_contain_text("no commercial use")
    expect(card(page, "#models-list", "PixArt-Sigma XL 1024").locator("button")).to_have_count(1)
    expect(page.locator("#models-loaded")).to_contain_text("No model is loaded")
    look = page.locator("#models-look")
    page.locator("#models-typed input, #models-typed textarea").first.fill("/some/folder")
    expect(look).to_have_text("List the model at this path")
    page.locator("#language").get_by_text("ไทย", exact=True).click()
    expect(look).to_have_text("เพิ่มโมเดลจากพาธนี้ลงในรายการ")
    page.locator("#language").get_by_text("English", exact=True).click()
    expect(look).to_have_text("List the model at this path")
    page.locator("#models-typed input, #models-typed textarea").first.fill("maker/clip")
    expect(look).to_have_text("Look up its size")
    assert not hub.asked, "nothing is asked without a click"

    look_up(page, "maker/nothing")
    expect(page.locator("#models-plan [role=alert]")).to_contain_text("maker/nothing")
    look_up(page, "maker/clip")
    expect(page.locator("#models-plan .notice")).to_contain_text("still to download")
    assert not hub.file_requests("model.safetensors"), "nothing large is downloaded without a click"

    hub.faults.pause = 2.0  # slow enough to be stopped on a busy machine too
    page.locator("#models-download").click()
    begun = card(page, "#models-downloads", "maker/clip")
    expect(begun.locator("[role=progressbar]")).to_be_visible()
    begun.get_by_role("button", name="Stop").click()
    expect(begun).to_contain_text("stopped")
    hub.faults.pause = 0.0
    begun.get_by_role("button", name="Try again").click()
    expect(page.locator("#models-plan .notice")).to_contain_text("maker/clip")
    page.locator("#models-download").click()
    expect(begun).to_contain_text("downloaded")

    here = card(page, "#models-list", "maker/clip")
    expect(here).to_contain_text("from the Hugging Face Hub")
    here.get_by_role("button", name="Load: maker/clip").click()
    loaded = card(page, "#models-loaded", "maker/clip")
    expect(loaded).to_contain_text("RAM", timeout=RUN_MS)
    expect(page.locator("#models-status")).to_contain_text("maker/clip is in memory", timeout=RUN_MS)
    loaded.get_by_role("button", name="Unload").click()
    expect(page.locator("#models-loaded")).to_contain_text("No model is loaded")


def test_thai_on_a_narrow_screen_and_one_task_at_a_time(customers: Visitors) -> None:
    page = open_models(customers, "th-TH", width=360)
    expect(card(page, "#models-list", "stabilityai/sd-turbo")).to_contain_text("ห้ามใช้เชิงพาณิชย์")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.locator("#models-task input").click()
    page.get_by_role("option", name="ดูว่าภาพมีอะไร (ViT)").click()
    expect(page.locator("#models-list section")).to_have_count(1)
    expect(card(page, "#models-list", "google/vit-base-patch16-224")).to_be_visible()
    page.locator("#language").get_by_text("English", exact=True).click()
    expect(page.locator("#models-list h3")).to_have_text("Recognising (ViT)")
