from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS
from webui.i18n import load_messages
from webui.runtime.catalog import VIT, Catalog

PROMPTS = {"en-US": "a cat on a blue background", "th-TH": "แมว พื้นหลังสีน้ำเงิน"}
BUTTON = {"en-US": "Check my picture", "th-TH": load_messages().text("th", "check.run")}
SEEN = {"en-US": ("cat", "is seen", "blue"), "th-TH": ("แมว", "พบ", "น้ำเงิน")}

_FORGOTTEN_WHILE_DRAWING = """
() => document.querySelector("#stop")?.checkVisibility() && !document.querySelector("#check-found .picture-check")
"""


@pytest.mark.usefixtures("emoji_suite")
@pytest.mark.parametrize("locale", ["en-US", "th-TH"])
def test_a_drawn_picture_is_checked_by_one_click_and_then_after_every_run(
    visitors: Visitors, models_dir: Path, emoji_suite: Path, locale: str
) -> None:
    create = visitors.visit(locale)
    create.prompt.fill(PROMPTS[locale])
    create.set("seed", 7)
    create.set("steps", 20)
    create.generate.click()
    create.wait_until_done()
    found = create.page.locator("#check-found .picture-check")
    expect(found).to_have_count(0)
    expect(create.page.locator("#check-run")).to_have_text(BUTTON[locale])
    create.page.locator("#check-run").click()
    expect(found.locator(".label-table tbody tr")).to_have_count(_labels(models_dir, emoji_suite), timeout=RUN_MS)
    noun, seen, colour = SEEN[locale]
    if locale == "en-US" or _suite_has_vit(models_dir, emoji_suite):  # the tiny one's labels are English
        expect(found.locator(".verdicts")).to_contain_text(noun)
    expect(found.locator(".verdicts")).to_contain_text(colour)
    expect(found.locator(".verdicts")).to_contain_text(re.compile(r"CLIP.*: -?0\.\d{3}"))
    if _suite_has_vit(models_dir, emoji_suite):
        expect(found.locator(".verdict-yes").first).to_contain_text(seen)
        expect(found.locator(".verdict-no")).to_have_count(0)

    create.page.locator("#check-always input").check()
    create.set("batch-size", 2)
    create.generate.click()
    create.page.wait_for_function(_FORGOTTEN_WHILE_DRAWING)
    expect(found.locator(".check-card")).to_have_count(2, timeout=RUN_MS)
    before = found.inner_text()
    create.speak("English" if locale == "th-TH" else "ไทย")
    expect(found).not_to_have_text(before)
    expect(found.locator(".check-card")).to_have_count(2)


def _suite_has_vit(models_dir: Path, suite: Path) -> bool:
    return any(entry.bundled for entry in Catalog(models_dir, suite.parent).entries(VIT))


def _labels(models_dir: Path, suite: Path) -> int:
    """How many labels the first ViT can show: the tiny one of the tests has three."""
    return 5 if _suite_has_vit(models_dir, suite) else 3
