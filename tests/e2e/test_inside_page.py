from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, press_tab, unfold
from webui.diffusion.bundled import bundled_traces, find_bundled_trace
from webui.diffusion.trace import open_trace

TAB = {"en-US": "Inside", "th-TH": "ข้างในการรัน"}
FRAME = "(canvas) => canvas.toDataURL()"

pytestmark = pytest.mark.usefixtures("emoji_suite")


def open_inside(visitors: Visitors, locale: str = "en-US", width: int = 1280) -> Page:
    """The tab as somebody finds it: with a shipped run already open."""
    page = visitors.visit(locale, width=width).page
    press_tab(page, "#tabs", TAB[locale])
    expect(page.locator("#inside-scrub")).to_be_visible(timeout=RUN_MS)
    expect(page.locator("#inside-x0")).to_be_visible()
    return page


def record(page: Page, steps: int, seed: int = 3) -> None:
    unfold(page, "#inside-settings")
    page.locator("#inside-steps input[type=number]").fill(str(steps))
    page.locator("#inside-seed input").fill(str(seed))
    page.locator("#inside-record-run").click()
    expect(page.locator("#inside-record-status")).to_contain_text(f"Recorded {steps} U-Net calls", timeout=RUN_MS)
    expect(page.locator("#inside-scrub")).to_have_attribute("max", str(steps))


def frame(page: Page, name: str) -> str:
    return page.locator(f"#inside-{name}").evaluate(FRAME)


def test_the_scrubber_is_a_labelled_range_that_the_keyboard_moves_and_every_panel_follows(visitors: Visitors) -> None:
    page = open_inside(visitors)
    scrubber = page.get_by_label("Step of the run")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    scrubber.focus()
    page.keyboard.press("Home")
    expect(scrubber).to_have_attribute("aria-valuetext", re.compile(r"^step 1 of 12, timestep 999, sigma \d"))
    first = {name: frame(page, name) for name in ("xt", "x0", "guidance-map")}
    norms = page.locator("#inside-norms").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(scrubber).to_have_attribute("aria-valuetext", re.compile(r"^step 3 of 12"))
    assert all(frame(page, name) != drawn for name, drawn in first.items()), "every panel must follow"
    expect(page.locator("#inside-norms")).not_to_have_text(norms)
    page.keyboard.press("End")
    expect(scrubber).to_have_attribute("aria-valuetext", re.compile(r"^step 12 of 12"))
    page.locator("#inside-play").click()
    expect(scrubber).to_have_attribute("aria-valuetext", re.compile(r"^step [2-9] of 12"))
    page.locator("#inside-play").click()
    assert not [url for url in requests if not url.startswith(("data:", "blob:")) and "heartbeat" not in url]


def test_a_word_shows_its_map_and_a_pixel_its_words(visitors: Visitors) -> None:
    page = open_inside(visitors)
    overlay = page.locator("#inside-map")
    page.locator(".inside-chip").get_by_text("cat", exact=True).click()
    expect(page.locator(".inside-chip[aria-pressed=true]")).to_have_text("cat")
    expect(overlay).to_have_attribute("aria-label", re.compile(r"^“cat”: peak 0\.\d+ at the .*left"))
    cat = page.locator("#inside-map canvas.inside-overlay").evaluate(FRAME)
    page.locator(".inside-chip").get_by_text("car", exact=True).click()
    expect(overlay).to_have_attribute("aria-label", re.compile(r"^“car”: peak"))
    assert page.locator("#inside-map canvas.inside-overlay").evaluate(FRAME) != cat

    overlay.scroll_into_view_if_needed()
    box = overlay.bounding_box()
    assert box is not None
    overlay.click(position={"x": box["width"] * 0.22, "y": box["height"] * 0.53})
    expect(page.locator("#inside-ranking")).to_contain_text("At row 9, column 4")
    expect(page.locator("#inside-ranking li")).to_have_count(5)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#inside-ranking")).to_contain_text("At row 9, column 5")
    expect(page.get_by_label("Start, end and padding too")).to_be_disabled()
    competing = page.locator("#inside-map canvas.inside-overlay").evaluate(FRAME)
    page.get_by_label("Attention as it is (DAAM)").check()
    expect(page.locator("#inside-reading-about")).to_contain_text("Tang et al. 2022")
    assert page.locator("#inside-map canvas.inside-overlay").evaluate(FRAME) != competing
    page.get_by_label("Start, end and padding too").check()
    expect(page.locator("#inside-ranking li")).to_have_count(8)
    expect(page.locator("#inside-ranking li").first).to_contain_text(re.compile("start|end|padding"))


def test_a_recorded_run_is_saved_opened_again_and_compared_at_another_guidance(
    visitors: Visitors, tmp_path: Path
) -> None:
    page = open_inside(visitors)
    record(page, steps=4)
    drawn = frame(page, "x0")
    with page.expect_download() as download:
        page.locator("#inside-save").click()
    saved = tmp_path / "run.safetensors"
    download.value.save_as(saved)
    trace = open_trace(saved)
    assert (len(trace.header.steps), trace.header.seed) == (4, 3)

    page.locator("#inside-other-cfg").fill("6")
    page.locator("#inside-again").click()
    expect(page.locator("#inside-difference")).to_be_visible(timeout=RUN_MS)
    expect(page.locator("#inside-parting")).to_contain_text(re.compile(r"U-Net call \d"))
    other = frame(page, "other-x0")
    page.locator("#inside-scrub").focus()
    page.keyboard.press("Home")
    assert frame(page, "other-x0") != other, "the second run must follow the same scrubber"
    page.locator("#inside-epsilon").focus()
    page.keyboard.press("End")
    expect(page.locator("#inside-parting")).to_contain_text("never part by more than ε = 2.00")

    page = open_inside(visitors)
    with page.expect_file_chooser() as chooser:
        page.locator("#inside-open").click()
    chooser.value.set_files(saved)
    expect(page.locator("#inside-scrub")).to_have_attribute("max", "4")
    assert frame(page, "x0") == drawn, "a run that is opened again must look as it did"


def test_a_stopped_recording_opens_and_a_foreign_file_is_refused_in_words(visitors: Visitors, tmp_path: Path) -> None:
    page = open_inside(visitors)
    unfold(page, "#inside-settings")
    page.locator("#inside-steps input[type=number]").fill("150")
    page.locator("#inside-record-run").click()
    expect(page.locator("#inside-record-status .status-count")).to_contain_text("/150", timeout=RUN_MS)
    page.locator("#inside-record-stop").click()
    expect(page.locator("#inside-record-status")).to_contain_text(
        re.compile(r"Stopped; the \d+ of 150"), timeout=RUN_MS
    )
    expect(page.locator("#inside-panel-denoise")).to_contain_text("there is no finished picture")

    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no trace")
    with page.expect_file_chooser() as chooser:
        page.locator("#inside-open").click()
    chooser.value.set_files(foreign)
    expect(page.locator("#inside-problem [role=alert]")).to_contain_text("foreign.safetensors")


def test_a_word_is_left_out_and_the_prompt_is_scored_against_rivals(visitors: Visitors) -> None:
    page = open_inside(visitors)
    page.locator("#inside-ablate-run").click()
    expect(page.locator("#inside-ablation-numbers")).to_have_text(
        re.compile(r"^Correlation of the two maps -?\d\.\d+; overlap \(IoU\) above 40 % of their peaks \d"),
        timeout=RUN_MS,
    )
    expect(page.locator("#inside-ablated canvas.inside-pixels")).to_have_count(2)
    pictures = page.locator("#inside-ablated img")
    expect(pictures).to_have_count(2)
    assert pictures.nth(0).get_attribute("src") != pictures.nth(1).get_attribute("src"), (
        "the word must have drawn something"
    )

    page.locator("#inside-rivals textarea").fill("a dog\na red flower")
    page.locator("#inside-lock-run").click()
    rows = page.locator("#inside-locked tbody tr")
    expect(rows).to_have_count(3, timeout=RUN_MS)
    expect(rows.nth(1)).to_contain_text("a dog")
    expect(page.locator("#inside-locked polyline")).to_have_count(3)
    expect(page.locator("#inside-locked .inside-note")).to_contain_text(re.compile("ahead|never", re.IGNORECASE))


def test_a_runs_picture_is_sent_on_and_its_step_goes_to_the_page_on_latents(visitors: Visitors) -> None:
    page = open_inside(visitors)
    shown = open_trace(find_bundled_trace(next(iter(bundled_traces())))).header
    page.locator("#inside-to-create").click()
    expect(page.locator("#prompt textarea")).to_have_value(shown.request.prompt)
    expect(page.locator("#seed input[type=number]")).to_have_value(str(shown.seed))
    page.locator("#way-back").click()
    expect(page.locator("#inside-scrub")).to_be_visible()
    page.locator("#inside-scrub").focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.locator("#inside-resume").click()
    expect(page.locator("#latents-call input")).to_have_value(re.compile(r"^step 5 \(t = \d+\)$"), timeout=RUN_MS)
    page.locator("#latents-take").click()
    expect(page.locator("#latents-subject")).to_contain_text("x_t of step 5")


def test_a_drawn_picture_is_looked_into_and_the_page_changes_its_language_in_place(visitors: Visitors) -> None:
    create = visitors.visit(width=390)
    page = create.page
    create.prompt.fill("a dog")
    create.set("steps", 3)
    create.set("seed", 11)
    create.generate.click()
    create.wait_until_done()
    page.locator("#send-to-inside").click()
    expect(page.locator("#inside-record-status")).to_contain_text("Recorded 3 U-Net calls", timeout=RUN_MS)
    expect(page.locator("#inside-panel-run")).to_contain_text("11", use_inner_text=False)
    expect(page.locator(".inside-chip.word")).to_have_text(["a", "dog"])
    page.locator("#language").get_by_text("ไทย", exact=True).click()
    expect(page.locator("#inside-record-status")).to_contain_text("บันทึกการเรียก U-Net 3 ครั้งแล้ว")
    expect(page.locator("#inside-scrub")).to_have_attribute("aria-valuetext", re.compile("^ขั้นที่ 3 จาก 3"))
    expect(page.locator("#inside-panel-words > summary")).to_have_text("คำไหนวาดตรงไหน")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
