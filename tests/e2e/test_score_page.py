from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from models.recipes.concepts import load_concepts
from models.recipes.draw import DEBIAN_FONT, SpriteSheet, draw
from models.recipes.scenes import single
from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, press_tab
from tests.e2e.served import Served
from webui.store.gallery import Gallery

WORDS = ("แมว", "หมา", "รถ")
TAB = {"en-US": "Score", "th-TH": "วัดความเหมือน"}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A cat and a dog as PNG, a car as JPEG, drawn with a jitter that no training picture had."""
    if not DEBIAN_FONT.is_file():
        pytest.skip("Debian's package fonts-noto-color-emoji is not installed")
    folder = tmp_path_factory.mktemp("drawings")
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, DEBIAN_FONT)
    places = {concept.id: place for place, concept in enumerate(concepts)}
    paths = []
    for number, name in enumerate(("cat.png", "dog.png", "car.jpg")):
        pixels = draw(single(places[name[:3]], number, "normal"), sheet, np.random.default_rng(10_000 + number))
        paths.append(folder / name)
        Image.fromarray(pixels).save(paths[-1])
    return paths


def open_score(visitors: Visitors, locale: str, width: int = 1280) -> Page:
    page = visitors.visit(locale, width=width).page
    press_tab(page, "#tabs", TAB[locale])
    expect(page.locator("#score-run")).to_be_visible()
    return page


def upload(page: Page, paths: list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#score-upload").click()
    chooser.value.set_files(paths)
    expect(page.locator(".tray li")).to_have_count(len(paths))


@pytest.mark.usefixtures("emoji_suite")
def test_three_pictures_are_scored_and_every_number_is_the_models(
    visitors: Visitors, drawings: list[Path], emoji_suite: Path
) -> None:
    page = open_score(visitors, "th-TH")
    upload(page, drawings)
    page.locator("#score-texts textarea").fill("\n".join(WORDS))
    page.locator("#score-run").click()
    cells = page.locator("#score-matrix button[data-picture]")
    expect(cells).to_have_count(9, timeout=RUN_MS)

    cosine, logits = expected(emoji_suite, drawings, WORDS)
    shown = [float(re.match(r"-?[\d.]+", words)[0]) for words in cells.all_inner_texts()]
    assert shown == pytest.approx(cosine.flatten(), abs=6e-4)
    assert list(np.argsort(-cosine[0])) == [0, 1, 2], "cat, dog, car is the order for a cat"

    cells.nth(1).click()
    expect(page.locator("#score-worked .check.passed")).to_contain_text(f"{logits[0, 1]:.3f}"[:-1], timeout=RUN_MS)
    worked = page.locator("#score-worked").inner_text()
    logit = float(re.findall(r"logit = exp\(logit_scale\).* = (-?[\d.]+)", worked)[0])
    assert logit == pytest.approx(logits[0, 1], abs=1e-4)

    with page.expect_download() as download:
        page.locator("#score-json").click()
    exported = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert np.array(exported["logit"]) == pytest.approx(logits, abs=1e-4)
    page.locator("#score-measure label").nth(2).click()
    expect(page.locator("#score-matrix table")).to_have_attribute("data-measure", "softmax_texts")


def expected(suite: Path, paths: list[Path], words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and logits (3, 3) by the stock classes alone."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(suite / "clip", dtype=torch.float32).eval()
    processor = CLIPProcessor.from_pretrained(suite / "clip")
    images = [Image.open(path).convert("RGB") for path in paths]
    inputs = processor(text=list(words), images=images, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
        return (logits / model.logit_scale.exp()).numpy(), logits.numpy()


@pytest.mark.usefixtures("emoji_suite")
def test_a_drawn_picture_comes_along_with_its_prompt(visitors: Visitors) -> None:
    create = visitors.visit()
    create.prompt.fill("a dog on a yellow background")
    create.set("steps", 4)
    create.generate.click()
    create.wait_until_done()
    create.page.locator("#send-to-score").click()
    expect(create.page.locator("#score-texts textarea")).to_have_value("a dog on a yellow background")
    expect(create.page.locator(".tray li")).to_have_count(1)
    create.page.locator(".tray button").click()
    expect(create.page.locator(".tray li")).to_have_count(0)


def test_mistakes_are_one_sentence_and_the_language_changes_in_place(visitors: Visitors) -> None:
    page = open_score(visitors, "en-US", width=390)
    page.locator("#score-run").click()
    expect(page.locator("#score-status [role=alert]")).to_have_text(
        "There is nothing to score; add a picture or a text."
    )
    page.get_by_role("button", name=re.compile("Calculator")).click()
    page.locator("#vector-3").locator("input, textarea").fill("0 0 0 0")
    expect(page.locator("#calculation .notice")).to_contain_text("all zeros")
    page.locator("#language").get_by_text("ไทย", exact=True).click()
    expect(page.locator("#score-run")).to_have_text("วัดความเหมือน")
    expect(page.locator("#score-status [role=alert]")).not_to_contain_text("nothing to score")
    expect(page.locator("#calculation .notice")).not_to_contain_text("all zeros")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


@pytest.mark.usefixtures("emoji_suite")
def test_files_that_are_no_pictures_are_named_while_the_rest_is_scored(
    visitors: Visitors, drawings: list[Path], tmp_path: Path
) -> None:
    """Beside them words that are hard to lay out; then one of the cells is explained."""
    names = ("notes.png", "empty.jpg", "logo.svg", "half.png")
    contents = (b"hello", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", drawings[0].read_bytes()[:2000])
    bad = [tmp_path / name for name in names]
    for path, content in zip(bad, contents, strict=True):
        path.write_bytes(content)
    page = open_score(visitors, "th-TH", width=360)
    upload(page, [*bad, *drawings[:1]])
    page.locator("#score-texts textarea").fill("\n".join(["แมว", "قطة صغيرة", "🐱🚗", "แมวน้ำเงิน " * 90, "แมว", ""]))
    page.locator("#score-run").click()
    expect(page.locator("#score-matrix button[data-picture]")).to_have_count(4, timeout=RUN_MS)
    remarks = page.locator("#score-remarks").inner_text()
    assert all(name in remarks for name in names)
    assert remarks.count("แมวน้ำเงิน") >= 2, "what is cut is shown"
    page.locator("#score-matrix button[data-picture]").first.click()
    expect(page.locator("#score-worked .check.passed")).to_be_visible(timeout=RUN_MS)
    page.locator("#explain-run").click()
    expect(page.locator("#score-relevance .check")).to_contain_text("พื้นที่ใต้กราฟ", timeout=RUN_MS)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.usefixtures("emoji_suite")
def test_pictures_come_from_the_gallery_the_clipboard_the_desktop_and_the_camera(
    visitors: Visitors, server: Served, drawings: list[Path]
) -> None:
    Gallery(server.outputs).save(Image.open(drawings[0]), "a cat that was drawn\nSteps: 2, Seed: 5", seed=5)
    page = open_score(visitors, "en-US")
    page.get_by_role("button", name=re.compile("From the gallery")).click()
    page.locator("#score-recent button").first.click()
    expect(page.locator(".tray li")).to_have_count(1)
    for number, (kind, field) in enumerate((("paste", "clipboardData"), ("drop", "dataTransfer"))):
        page.evaluate(_GIVE, [list(drawings[number].read_bytes()), drawings[number].name, kind, field])
        expect(page.locator(".tray li")).to_have_count(number + 2)
    page.get_by_role("button", name="Camera").click()
    page.locator("#score-camera").get_by_text("Click to Access Webcam").click()
    page.wait_for_function("() => document.querySelector('#score-camera video')?.currentTime > 0")
    page.locator("#score-camera").get_by_role("button", name=re.compile("capture", re.IGNORECASE)).click()
    expect(page.locator(".tray li")).to_have_count(4)
    expect(page.locator(".tray li").last).to_contain_text("camera-4")


@pytest.mark.usefixtures("emoji_suite")
def test_a_long_scoring_shows_how_far_it_is_and_can_be_stopped(visitors: Visitors, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4000, 3000), (number, 90, 200)).save(path, quality=30)
    page = open_score(visitors, "en-US")
    upload(page, paths)
    page.locator("#score-texts textarea").fill("a cat")
    page.locator("#score-run").click()
    expect(page.locator("#score-status [role=progressbar]")).to_be_visible(timeout=RUN_MS)
    page.locator("#score-stop").click()
    expect(page.locator("#score-status")).to_contain_text("Stopped", timeout=RUN_MS)
    expect(page.locator("#score-run")).to_be_visible()
    expect(page.locator("#score-matrix button")).to_have_count(0)


_GIVE = """
([bytes, name, kind, field]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const event = kind === "paste" ? new ClipboardEvent(kind, { bubbles: true, cancelable: true, [field]: data })
                                 : new DragEvent(kind, { bubbles: true, cancelable: true, [field]: data });
  document.body.dispatchEvent(event);
}
"""
