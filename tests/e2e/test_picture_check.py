from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS
from webui.i18n import load_messages

_FORGOTTEN_WHILE_DRAWING = """
() => document.querySelector("#stop")?.checkVisibility() && !document.querySelector("#check-found .picture-check")
"""


@pytest.mark.usefixtures("emoji_suite")
def test_a_drawn_picture_is_checked_by_one_click_and_then_after_every_run(visitors: Visitors) -> None:
    create = visitors.visit("th-TH")
    create.prompt.fill("แมว พื้นหลังสีน้ำเงิน")
    create.set("seed", 7)
    create.set("steps", 20)
    create.generate.click()
    create.wait_until_done()
    found = create.page.locator("#check-found .picture-check")
    expect(found).to_have_count(0)
    expect(create.page.locator("#check-run")).to_have_text(load_messages().text("th", "check.run"))
    create.page.locator("#check-run").click()
    expect(found.locator(".label-table tbody tr")).to_have_count(5, timeout=RUN_MS)
    expect(found.locator(".verdicts")).to_contain_text("แมว")
    expect(found.locator(".verdicts")).to_contain_text("น้ำเงิน")
    expect(found.locator(".verdicts")).to_contain_text(re.compile(r"CLIP.*: -?0\.\d{3}"))
    expect(found.locator(".verdict-yes").first).to_contain_text("พบ")
    expect(found.locator(".verdict-no")).to_have_count(0)

    create.page.locator("#check-always input").check()
    create.set("batch-size", 2)
    create.generate.click()
    create.page.wait_for_function(_FORGOTTEN_WHILE_DRAWING)
    expect(found.locator(".check-card")).to_have_count(2, timeout=RUN_MS)
    create.speak("English")
    expect(found.locator(".verdicts").first).to_contain_text("is seen")
    expect(found.locator(".verdicts").first).to_contain_text("blue")
    expect(found.locator(".check-card")).to_have_count(2)
