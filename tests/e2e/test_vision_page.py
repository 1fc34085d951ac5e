from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS

TAB = {"en-US": "Vision", "th-TH": "ดูด้วย ViT"}
TOKENS = 17
"""Of the tiny model that lies beside the suite: 4 x 4 patches of a 32 px picture, and [CLS]."""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vision") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)).save(path)
    return path


def open_vision(visitors: Visitors, locale: str, width: int = 1280) -> Page:
    create = visitors.visit(locale, width=width)
    create.open_tab(TAB[locale])
    page = create.page
    expect(page.locator("#vision-run")).to_be_visible()
    return page


def choose_tiny(page: Page) -> None:
    page.locator("#vision-model input").click()
    page.get_by_role("option", name="tiny-vit").click()


def test_a_picture_goes_through_every_station(visitors: Visitors, photo: Path, models_dir: Path) -> None:
    page = open_vision(visitors, "th-TH")
    choose_tiny(page)
    page.locator("#vision-picture input[type=file]").set_input_files(photo)
    stations = page.locator("#vision-pipeline [data-station]")
    expect(stations).to_have_count(6, timeout=RUN_MS)
    expect(stations.nth(0)).to_contain_text("4 × 4 = 16")
    expect(page.locator("#vision-patches .patch")).to_have_count(16)
    page.locator("#vision-patches .patch").nth(5).click()
    page.locator("[data-step='1']").click()
    expect(page.locator("#vision-embedding")).to_contain_text("192", timeout=RUN_MS)
    expect(page.locator("#vision-embedding")).to_contain_text("patch 6")
    expect(page.locator("#vision-patches")).to_be_hidden()

    stations.nth(3).click()
    said = page.locator(".attention-said")
    expect(said).to_contain_text("[CLS]")
    first = said.inner_text()
    page.locator("[data-control=layer]").select_option("0")
    page.locator("[data-control=head]").select_option("2")
    expect(said).not_to_have_text(first)
    page.locator("#vision-attention .patch").nth(6).click()
    expect(said).to_contain_text("patch 7")
    page.locator("[data-work]").click()
    worked = page.locator("#vision-worked")
    expect(worked.locator(".check.passed")).to_be_visible(timeout=RUN_MS)
    weights = [float(w) for w in worked.locator("details tbody tr td:nth-child(5)").all_text_contents()]
    assert len(weights) == TOKENS
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    largest = float(re.findall(r"[\d.]+(?= %)", said.inner_text())[0])
    assert largest == pytest.approx(100 * max(weights), abs=0.06)

    stations.nth(4).click()
    page.locator("#vision-explain-run").click()
    expect(page.locator("#vision-relevance .line-chart")).to_be_visible(timeout=RUN_MS)

    stations.nth(5).click()
    shown = page.locator("#vision-classes .label-table")
    expect(shown.locator("tbody tr")).to_have_count(3)
    shares = [float(s.removesuffix(" %")) / 100 for s in shown.locator(".label-share").all_inner_texts()]
    assert shares == pytest.approx(stock(models_dir / "tiny-vit", photo), abs=6e-4)
    page.locator("#language").get_by_text("English", exact=True).click()
    expect(page.locator("#vision-run")).to_have_text("Look at it")
    expect(shown).to_be_visible()


def stock(folder: Path, photo: Path) -> list[float]:
    """The probabilities by the stock classes alone, the largest first."""
    import torch
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = ViTImageProcessorPil.from_pretrained(folder)(Image.open(photo), return_tensors="pt")
    with torch.no_grad():
        return sorted(model(**inputs).logits.softmax(-1)[0].tolist(), reverse=True)


def test_what_is_no_picture_is_refused_in_words_on_a_narrow_page(visitors: Visitors, tmp_path: Path) -> None:
    page = open_vision(visitors, "en-US", width=360)
    expect(page.locator("#vision-empty")).to_contain_text("Vision Transformer")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.locator("#vision-picture input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.locator("#vision-status [role=alert]")).to_contain_text("broken.png", timeout=RUN_MS)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
