"""The Prompt page as a person uses it, and the Thai way through the whole program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, press_tab
from webui.runtime.catalog import Catalog
from webui.runtime.entries import VIT
from webui.store.infotext import parse_infotext, read_infotext

TAB = {"en-US": "Prompt", "th-TH": "ปรับพรอมต์"}
THAI = "แมว พื้นหลังสีน้ำเงิน"
ENGLISH = "a cat on a blue background"

pytestmark = pytest.mark.usefixtures("emoji_suite")


def open_prompt(visitors: Visitors, locale: str = "en-US", width: int = 1280) -> Page:
    create = visitors.visit(locale, width=width)
    create.open_tab(TAB[locale])
    page = create.page
    expect(page.locator("#prompt-text")).to_be_visible()
    return page


def write(page: Page, words: str) -> None:
    page.locator("#prompt-text textarea").fill(words)
    expect(page.locator("#prompt-tokens")).to_contain_text("77")


def test_thai_is_translated_looked_into_and_used(visitors: Visitors) -> None:
    page = open_prompt(visitors, "th-TH", width=360)
    write(page, THAI)
    page.locator("#t5-translate").click()
    cards = page.locator("#prompt-candidates .prompt-card")
    expect(cards.first).to_contain_text(ENGLISH, timeout=RUN_MS)
    expect(page.locator(".prompt-original")).to_contain_text(THAI)
    expect(cards.first.locator(".prompt-scores")).to_contain_text(re.compile(r"0\.\d{3}"))
    cards.first.locator("[data-action=attend]").click()
    table = page.locator("#attention-table table")
    expect(table).to_contain_text("แมว", timeout=RUN_MS)
    shares = [[float(cell) for cell in row.locator("td").all_inner_texts()] for row in table.locator("tbody tr").all()]
    assert len(shares) == 7, "six words and the end"
    assert all(sum(row) == pytest.approx(1, abs=0.005 * len(row)) for row in shares)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    cards.first.locator("[data-action=use]").click()
    expect(page.locator("#prompt textarea")).to_have_value(ENGLISH)
    expect(page.locator("#original-prompt textarea")).to_have_value(THAI)
    expect(cards.first).to_contain_text(ENGLISH)
    expect(table).to_contain_text("แมว")


def send_all_the_way_round(page: Page) -> None:
    """A preview goes from tab to tab until a prompt comes back to where it began; twice the way back is taken."""
    card = page.locator("#prompt-candidates .prompt-card").first
    card.locator("[data-action=to_create]").click()
    expect(page.locator("#prompt textarea")).to_have_value(ENGLISH)
    expect(page.locator("#steps input[type=number]")).to_have_value("8")
    expect(page.locator("#seed input[type=number]")).to_have_value("7")
    page.locator("#way-back").click()
    card.locator("[data-action=to_latents]").click()
    page.locator("#latents-decoded-to-vision").click(timeout=RUN_MS)
    expect(page.locator("#vision-patches .patch").first).to_be_visible(timeout=RUN_MS)
    page.locator("#vision-to-score").click()
    expect(page.locator("#score-tray li")).to_have_count(1)
    page.locator("#score-texts textarea").fill("a cat and a dog")
    page.locator("#score-run").click()
    page.locator("#score-matrix button[data-picture]").first.click(timeout=RUN_MS)
    page.locator("#score-to-prompt").click(timeout=RUN_MS)
    expect(page.locator("#prompt-text textarea")).to_have_value("a cat and a dog")
    page.locator("#way-back").click()
    expect(page.locator("#score-worked")).to_be_visible()
    press_tab(page, "#tabs", TAB["en-US"])


def test_candidates_are_marked_previewed_sent_round_and_said_again(visitors: Visitors) -> None:
    page = open_prompt(visitors)
    write(page, "a cat on a bleu backgruond")
    page.locator("#bart-repair").click()
    first = page.locator("#prompt-candidates .prompt-card").first
    expect(first.locator(".prompt-candidate")).to_have_text(ENGLISH, timeout=RUN_MS)
    expect(first.locator("ins").first).to_contain_text("blue")
    expect(first.locator("del").first).to_contain_text("bleu")
    expect(page.locator("#prompt-text textarea")).to_have_value("a cat on a bleu backgruond")
    page.locator("#prompt-previews").click()
    expect(first.locator("img.prompt-preview")).to_be_visible(timeout=RUN_MS)
    expect(first.locator(".prompt-scores")).to_contain_text("CLIP: picture and this text")
    expect(first.locator(".prompt-scores")).to_contain_text(re.compile(r"ViT: “cat”.*[✓✗] [<>]?\d+\.\d %"))
    send_all_the_way_round(page)
    page.locator("#language").get_by_text("ไทย", exact=True).click()
    expect(page.locator(".prompt-original h3")).to_have_text("ข้อความเดิม")
    expect(first.locator("img.prompt-preview")).to_be_visible()


def test_mistakes_are_told_and_a_long_job_is_stopped(visitors: Visitors) -> None:
    page = open_prompt(visitors)
    page.locator("#t5-expand").click()
    alert = page.locator("#prompt-status [role=alert]")
    expect(alert).to_contain_text("The prompt is empty")
    write(page, "a big cat on a blue background, " * 1500)
    page.locator("#bart-repair").click()
    expect(alert).to_contain_text("shorten it first", timeout=RUN_MS)
    page.locator("#t5-shorten").click()
    expect(page.locator("#prompt-writing .prompt-line").first).to_be_visible(timeout=RUN_MS)
    page.locator("#prompt-stop").click()
    expect(page.locator("#prompt-stop")).to_be_hidden(timeout=RUN_MS)
    expect(page.locator("#t5-translate")).to_be_enabled()


def test_the_thai_way_from_words_to_a_checked_picture(
    visitors: Visitors, models_dir: Path, emoji_suite: Path, tmp_path: Path
) -> None:
    create = visitors.visit("th-TH")
    create.prompt.fill(THAI)
    create.set("seed", 7)
    create.page.locator("#translate input").check()
    create.generate.click()
    said = create.page.locator("#translation section")
    expect(said).to_contain_text(ENGLISH, timeout=RUN_MS)
    expect(said).to_contain_text(THAI)
    create.wait_until_done()
    expect(create.prompt).to_have_value(THAI)
    picture = create.download(tmp_path)
    found = parse_infotext(read_infotext(picture))
    assert (found.values["prompt"], found.values["original_prompt"]) == (ENGLISH, THAI)

    create.page.locator("#check-run").click()
    verdicts = create.page.locator("#check-found .verdicts")
    expect(verdicts.locator(".verdict-yes", has_text="น้ำเงิน")).to_have_count(1, timeout=RUN_MS)
    if any(entry.bundled for entry in Catalog(models_dir, emoji_suite.parent).entries(VIT)):
        expect(verdicts.locator(".verdict-yes", has_text="cat")).to_have_count(1)
        expect(verdicts.locator(".verdict-no")).to_have_count(0)

    create.prompt.fill("something else")
    expect(create.page.locator("#original-prompt")).to_be_hidden()
    create.drop(picture)
    expect(create.prompt).to_have_value(ENGLISH)
    expect(create.page.locator("#original-prompt textarea")).to_have_value(THAI)
