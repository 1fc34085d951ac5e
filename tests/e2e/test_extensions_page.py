"""Extensions in a real browser: the template from the docs beside broken ones, and the owner's switches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.served import Served, serve
from tests.extensions.test_docs import template

MANIFEST = 'id = "{id}"\nversion = "0.1"\napi = {api}\ntitle = {{ en = "{title}", th = "ส่วนขยาย {title}" }}\n'
BROKEN = {
    "raises": ("def register(api):\n    raise RuntimeError('it broke')", 1),
    "hangs": ("import time\ndef register(api):\n    time.sleep(10_000)", 1),
    "newer": ("def register(api): pass", 2),
    "twin": ("def register(api): pass", 1),
    "bad_tab": ("def register(api):\n    api.add_tab('x', {'en': 'Bad tab', 'th': 'แท็บเสีย'}, lambda tab: 1 / 0)", 1),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    for path, content in template().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    for name, (code, api) in BROKEN.items():
        target = folder / "extensions" / name
        target.mkdir()
        id_ = "hello" if name == "twin" else name
        (target / "extension.toml").write_text(MANIFEST.format(id=id_, api=api, title=name), encoding="utf-8")
        (target / "extension.py").write_text(code, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def extended(place: Path, models_dir: Path) -> Iterator[Served]:
    served = serve(place, models_dir)
    yield served
    assert served.stop() == 0, "".join(served.said)


def test_broken_extensions_stop_nothing_and_the_template_works(
    extended: Served, visitors_of: Callable[[Served], Visitors], place: Path
) -> None:
    visit = visitors_of(extended).visit()
    page = visit.page
    visit.open_tab("Hello")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your name").press("Enter")
    expect(page.get_by_label("Answer")).to_have_value("Hello, Ada!")

    visit.open_tab("Extensions")
    cards = page.locator("#extensions-list")
    for name, reason in (
        ("raises", "It failed (RuntimeError: it broke)"),
        ("hangs", "10 s"),
        ("newer", "version 2 of the extension API"),
        ("bad_tab", "ZeroDivisionError"),
    ):
        expect(cards.locator(f"[data-extension={name}]")).to_contain_text(reason)
    expect(cards.locator("[data-extension=hello]").filter(has_text="is taken by the extension in")).to_have_count(1)
    card = cards.locator("[data-extension=raises]")
    card.get_by_text("Traceback for its author").click()
    expect(card.locator("pre")).to_contain_text("raise RuntimeError('it broke')")

    switch = cards.get_by_role("button", name="Switch off raises")
    switch.click()
    expect(card).to_contain_text("Takes effect when the program is started again.")
    assert json.loads((place / "extensions.json").read_text()) == {"off": ["raises"]}
    visit.speak("ไทย")
    expect(card).to_contain_text("มีผลเมื่อเริ่มโปรแกรมใหม่")
    visit.open_tab("สวัสดี")

    said = "".join(extended.said)
    assert "Extension Hello 1.0: loaded in" in said
    assert "Extension hangs is off: It had not finished loading after 10 s" in said


def test_styles_and_wildcards_reach_the_picture(extended: Served, visitors_of: Callable[[Served], Visitors]) -> None:
    visit = visitors_of(extended).visit()
    page = visit.page
    visit.prompt.fill("a __animal__")
    page.get_by_role("button", name="Styles and wildcards").click()
    page.get_by_role("button", name="Show examples").click()
    expect(page.locator("#styles-samples li")).to_have_count(3)
    expect(page.locator("#styles-samples")).not_to_contain_text("__")
    page.locator("#styles-chosen input").click()
    page.get_by_role("option", name="Small").click()
    page.keyboard.press("Escape")
    page.locator("#styles-use").click()
    expect(visit.prompt).to_have_value("a small a __animal__")
    visit.set("steps", 2)
    visit.generate.click()
    visit.wait_until_done()
    expect(visit.parameters).to_contain_text("a small a ")
    expect(visit.parameters).not_to_contain_text("__animal__")


def test_a_grid_is_drawn_and_its_cells_are_looked_at(
    extended: Served, visitors_of: Callable[[Served], Visitors]
) -> None:
    visit = visitors_of(extended).visit()
    page = visit.page
    visit.open_tab("X/Y/Z")
    page.locator("#xyz-values-x textarea").fill("1, x")
    run = page.locator("#ext-xyz_plot-plot-run-run")
    run.click()
    expect(page.locator("#xyz-problem [role=alert]")).to_contain_text('"x" is no number')
    page.locator("#xyz-values-x textarea").fill("1, 2")
    page.locator("#xyz-values-y textarea").fill("5-6")
    run.click()
    expect(page.locator("#xyz-file a")).to_be_visible(timeout=120_000)
    cells = page.locator("#xyz-grid button[data-cell]")
    expect(cells).to_have_count(4)
    expect(page.locator("#xyz-problem [role=alert]")).to_have_count(0)
    cells.last.click()
    expect(page.locator("#xyz-chosen pre")).to_contain_text("Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras")
    expect(page.locator("#xyz-chosen pre")).to_contain_text("Seed: 6")
    visit.speak("ไทย")
    expect(page.locator("#xyz-grid caption")).to_contain_text("จำนวน step")
    expect(page.locator("#xyz-chosen p")).to_contain_text("ลากไฟล์")


def test_a_walk_becomes_an_animation(extended: Served, visitors_of: Callable[[Served], Visitors]) -> None:
    visit = visitors_of(extended).visit()
    page = visit.page
    visit.open_tab("Walk")
    page.locator("#walk-steps input").fill("2")
    page.locator("#walk-frames input").fill("4")
    page.locator("#ext-latent_walk-walk-run-run").click()
    save = page.locator("#walk-shown a[download='walk.webp']")
    expect(save).to_be_visible(timeout=120_000)
    expect(page.locator("#walk-shown")).to_contain_text("4 of 4 frames")
    assert page.locator("#walk-shown img").first.evaluate("(image) => image.naturalWidth") == 128
