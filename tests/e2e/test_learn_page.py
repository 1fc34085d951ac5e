"""The tour in a browser: figures from one's own prompt, an answer after a guess, the quiz, and the way on and back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS

pytestmark = pytest.mark.usefixtures("emoji_suite")


def test_a_thai_prompt_is_followed_from_its_tokens_to_the_check_and_on(visitors: Visitors) -> None:
    visitor = visitors.visit("th-TH", width=1280)
    page = visitor.page
    visitor.open_tab("เรียนรู้")
    before = page.locator("[data-quiz=before]")
    page.locator("details", has=before).locator("summary").click()
    before.locator("fieldset").first.locator("input").nth(2).check()
    before.locator("[data-count]").click()
    expect(before.locator(".quiz-score")).to_contain_text("1 จาก 6")

    page.locator("#learn-prompt textarea").fill("แมว พื้นหลังสีน้ำเงิน")
    page.locator("#learn-run").click()
    expect(page.locator("#learn-status")).to_contain_text("ทัวร์พร้อมแล้ว", timeout=RUN_MS)
    for chapter, figure in (
        ("prompt", ":text(\"แมว\")"), ("text", "img.states"), ("cosine", "table.heatmap"), ("vit", "svg.patch-grid"),
        ("unet", "img"), ("words", "img"), ("vae", "img"), ("check", ":text(\"แมว\")"),
    ):  # fmt: skip
        expect(page.locator(f"#learn-{chapter} {figure}").first).to_be_visible()
    vit = page.locator("#learn-vit")
    expect(vit.locator(".reveal")).to_be_hidden()
    vit.locator("fieldset input").nth(0).check()
    expect(vit.locator(".verdict")).to_have_text("✗ ยังไม่ใช่")
    expect(vit.locator(".reveal")).to_contain_text("16 × 16 = 256")
    vit.locator("fieldset input").nth(2).check()
    expect(vit.locator(".verdict")).to_have_text("✓ ถูกต้อง")

    page.locator("#learn-vae-to-latents").click()
    expect(page.locator("#latents-channels img").first).to_be_visible(timeout=RUN_MS)
    page.locator("#way-back").click()
    expect(page.locator("#learn-vae img").first).to_be_visible()
    visitor.speak("English")
    expect(page.locator("#learn-vae")).to_contain_text("48 times fewer")

    after = page.locator("[data-quiz=after]")
    page.locator("details", has=after).locator("summary").click()
    for fieldset in after.locator("fieldset").all():
        fieldset.locator("input").nth(int(fieldset.get_attribute("data-answer") or 0)).check()
    after.locator("[data-count]").click()
    expect(after.locator(".quiz-score")).to_have_text(re.compile(r"6 of 6 right\..*Before the tour it was 1"))
    page.reload()
    assert page.evaluate("localStorage.getItem('diffuscope.quiz')") == '{"before":1,"after":6}'
