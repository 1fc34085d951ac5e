from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, press_tab

TAB = {"en-US": "Latents", "th-TH": "ภายใน latent"}

pytestmark = pytest.mark.usefixtures("emoji_suite")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photographs in miniature: a disc on a gradient, transparent outside; a wide one with stripes."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[0:160, 0:160]
    disc = (x - 80) ** 2 + (y - 80) ** 2 < 50**2
    pixels = np.stack([x, np.where(disc, 220, y), 200 - x // 2, np.where(x + y < 40, 0, 255)], axis=-1)
    stripes = np.zeros((96, 200, 3), np.uint8)
    stripes[:, ::20] = stripes[:, 1::20] = (250, 200, 0)
    paths = [folder / "disc.png", folder / "stripes.png"]
    for path, content in zip(paths, (pixels.astype(np.uint8), stripes), strict=True):
        Image.fromarray(content).save(path)
    return paths


def open_latents(visitors: Visitors, locale: str = "en-US", width: int = 1280) -> Page:
    page = visitors.visit(locale, width=width).page
    open_tab(page, TAB[locale], "#tabs")
    expect(page.locator("#latents-encode-run")).to_be_visible()
    return page


def choose(page: Page, button: str, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(path)
    expect(page.locator("#latents-chosen")).to_contain_text(path.name)


def source(page: Page, place: str, number: int = 0) -> str:
    return page.locator(f"{place} img").nth(number).get_attribute("src") or ""


def open_tab(page: Page, name: str, tabs: str = "#latents-tabs") -> None:
    """On a narrow screen Gradio folds the last tabs into a menu; the outer tabs' menu stands before the inner one's."""
    press_tab(page, tabs, name)


def test_a_latent_is_edited_and_the_picture_changes(visitors: Visitors, pictures: list[Path]) -> None:
    page = open_latents(visitors, "th-TH")
    choose(page, "#latents-picture", pictures[0])
    choose(page, "#latents-other", pictures[1])
    page.locator("#latents-encode-run").click()
    encoding = page.locator("#latents-encoding")
    expect(encoding).to_contain_text("16 × 16 × 4", timeout=RUN_MS)
    expect(encoding).to_contain_text("49,152")
    expect(encoding).to_contain_text("48.0")
    assert re.search(r"PSNR \d\d\.\d\d dB · SSIM 0\.\d{3}", encoding.inner_text())
    expect(page.locator("#latents-channels img")).to_have_count(4)

    open_tab(page, "แก้ไข")
    canvas = page.locator("#latents-canvas .latent-canvas")
    before = source(page, "#latents-canvas")
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    for name, value in (("x", "2"), ("y", "1"), ("w", "5"), ("h", "4")):
        expect(page.locator(f"#latents-{name} input")).to_have_value(value)
    page.locator("#latents-zero-region").click()
    expect(page.locator("#latents-edits li")).to_have_count(1)
    edited = page.locator("#latents-edited img")
    expect(edited).to_have_count(3, timeout=RUN_MS)
    assert source(page, "#latents-canvas") != before
    assert source(page, "#latents-edited", 0) == source(page, "#latents-encoding", 1), "what it is compared to"
    assert source(page, "#latents-edited", 1) != source(page, "#latents-edited", 0)

    first = source(page, "#latents-edited", 1)
    page.locator("#latents-paste").click()
    expect(page.locator("#latents-edits li")).to_have_count(2)
    expect(edited.nth(1)).not_to_have_attribute("src", first, timeout=RUN_MS)
    page.locator("#latents-undo").click()
    expect(edited.nth(1)).to_have_attribute("src", first, timeout=RUN_MS)
    page.locator("#latents-reset").click()
    expect(page.locator("#latents-edits li")).to_have_count(0)
    assert source(page, "#latents-canvas") == before


def test_a_drawn_picture_comes_along_and_every_tab_works_on_it(visitors: Visitors) -> None:
    create = visitors.visit()
    create.set("steps", 4)
    create.prompt.fill("a cat")
    create.generate.click()
    create.wait_until_done()
    page = create.page
    page.locator("#send-to-latents").click()
    expect(page.locator("#latents-encoding")).to_contain_text("16 × 16 × 4", timeout=RUN_MS)

    open_tab(page, "Add noise")
    formula = page.locator("#latents-closed-form .formula")
    numbers = [float(n) for n in re.findall(r"= (-?[\d.]+) · (-?[\d.]+) \+ (-?[\d.]+) · (-?[\d.]+) = (-?[\d.]+)",
                                            formula.inner_text())[0]]  # fmt: skip
    assert numbers[0] * numbers[1] + numbers[2] * numbers[3] == pytest.approx(numbers[4], abs=2e-3)
    page.locator("#latents-timestep input[type=number]").fill("700")
    expect(page.locator("#latents-closed-form")).to_contain_text("t = 700")
    page.locator("#latents-guess-prompt").locator("input, textarea").fill("a cat")
    page.locator("#latents-guess-run").click()
    expect(page.locator("#latents-guessed img")).to_have_count(3, timeout=RUN_MS)

    open_tab(page, "Interpolate")
    page.locator("#latents-between-run").click()
    expect(page.locator("#latents-between-status [role=alert]")).to_contain_text("two encoded pictures")
    page.locator("#latents-what").get_by_text("Two seeds of one prompt").click()
    page.locator("#latents-frames input[type=number]").fill("3")
    page.locator("#latents-between-prompt").locator("input, textarea").fill("a dog")
    page.locator("#latents-between-run").click()
    expect(page.locator("#latents-strip .strip img")).to_have_count(6, timeout=RUN_MS)
    with page.expect_download() as download:
        page.locator("#latents-strip a[download]").click()
    with Image.open(download.value.path()) as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("WEBP", 4, (256, 128))


def test_a_run_is_resumed_as_it_was_and_with_an_edited_step(visitors: Visitors) -> None:
    page = open_latents(visitors, width=390)
    open_tab(page, "Resume a run")
    page.locator("#latents-run-prompt").locator("input, textarea").fill("a cat")
    page.locator("#latents-run-steps input[type=number]").fill("6")
    page.locator("#latents-record-run").click()
    expect(page.locator("#latents-run-strip img")).to_have_count(6, timeout=RUN_MS)
    page.locator("#latents-resume-run").click()
    expect(page.locator("#latents-resumed")).to_contain_text("equal in every pixel", timeout=RUN_MS)

    page.locator("#latents-take").click()
    expect(page.locator("#latents-subject")).to_contain_text("step 4")
    page.locator("#latents-zero-channel").click()
    expect(page.locator("#latents-edits li")).to_have_count(1)
    open_tab(page, "Resume a run")
    page.locator("#latents-resume-run").click()
    expect(page.locator("#latents-resumed")).to_contain_text("PSNR", timeout=RUN_MS)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
