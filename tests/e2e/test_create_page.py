from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS, CreateDriver
from tests.e2e.served import Served, serve
from webui.store.infotext import read_infotext

SLOW_STEPS = 150
MANY = 16
"""Pictures in a run that a test stops: on a busy machine a press may take half a minute to arrive."""


@pytest.mark.usefixtures("emoji_suite")
def test_a_prompt_becomes_a_picture_that_gives_the_form_back(
    visitors: Visitors, server: Served, tmp_path: Path
) -> None:
    prompt = "หมา พื้นหลังสีเหลือง"
    create = visitors.visit("th-TH")
    create.prompt.fill(prompt)
    create.set("steps", 60)  # a browser on a busy machine shows only some of them
    create.watch_steps()
    create.page.get_by_role("button", name="สร้างภาพ", exact=True).click()
    create.wait_until_done()

    steps, previews = create.steps_seen()
    assert steps == sorted(steps)
    assert len(set(steps)) >= 4, "progress must be seen to advance"
    assert len(set(previews)) >= 4, "the preview must be seen to change"
    assert all(source.startswith("data:image/jpeg;base64,") for source in previews)

    picture = create.download(tmp_path)
    saved = list(server.outputs.rglob(picture.name))
    assert [path.read_bytes() for path in saved] == [picture.read_bytes()], "the file must arrive as it was saved"
    infotext = read_infotext(picture)
    assert infotext.startswith(prompt)
    with Image.open(picture) as image:
        assert image.size == (128, 128)

    seed = re.search(r"Seed: (\d+)", infotext)[1]
    expect(create.parameters).to_contain_text(seed)
    create.prompt.fill("something else")
    create.set("steps", 3)
    create.drop(picture)
    expect(create.prompt).to_have_value(prompt)
    expect(create.number("steps")).to_have_value("60")
    expect(create.number("seed")).to_have_value(seed)
    expect(create.notice).to_contain_text(picture.name)


def test_ctrl_enter_starts_and_escape_stops_while_the_prompt_has_the_focus(create: CreateDriver) -> None:
    create.set("steps", SLOW_STEPS)
    create.prompt.click()
    create.page.keyboard.press("Control+Enter")
    expect(create.stop).to_be_visible()
    expect(create.page.locator("#preview img").first).to_be_attached(timeout=RUN_MS)
    expect(create.page).to_have_title(re.compile(r"^\d+% · Diffuscope$"))
    create.page.keyboard.press("Escape")
    expect(create.status).to_contain_text("Stopped; 0 of 1", timeout=RUN_MS)
    expect(create.generate).to_be_visible()


def test_stop_keeps_what_is_finished(create: CreateDriver, server: Served) -> None:
    before = set(server.outputs.rglob("*.png"))
    create.set("steps", 60)
    create.set("batch-count", MANY)
    create.generate.click()
    expect(create.status).to_contain_text(f"1 of {MANY} pictures", timeout=RUN_MS)
    create.stop.click()
    expect(create.status).to_contain_text("Stopped", timeout=RUN_MS)
    kept = len(set(server.outputs.rglob("*.png")) - before)
    assert 1 <= kept < MANY
    expect(create.status).to_contain_text(f"{kept} of {MANY}")
    create.expect_pictures(kept)
    expect(create.page.locator("#download")).to_be_visible()


def test_one_persons_stop_does_not_touch_anothers_run(visitors: Visitors) -> None:
    first, second = visitors.visit(), visitors.visit()
    first.set("steps", 60)
    first.set("batch-count", MANY)
    first.generate.click()
    expect(first.page.locator("#preview img").first).to_be_attached(timeout=RUN_MS)
    second.generate.click()
    expect(second.status).to_contain_text("ahead of you")
    second.stop.click()
    expect(second.status).to_contain_text("Stopped", timeout=RUN_MS)
    going_on = re.compile(rf"(\d+) of {MANY} pictures")
    finished = int(going_on.search(first.status.inner_text())[1])
    expect(first.status).to_contain_text(f"{finished + 1} of {MANY} pictures", timeout=RUN_MS)
    first.stop.click()
    expect(first.status).to_contain_text("Stopped", timeout=RUN_MS)


def test_settings_survive_a_reload_and_a_restart_of_the_server(
    models_dir: Path, tmp_path: Path, free_port: Callable[[], int], visitors_of: Callable[[Served], Visitors]
) -> None:
    port = free_port()
    served = serve(tmp_path, models_dir, port)
    create = visitors_of(served).visit()
    create.prompt.fill("two owls")
    create.negative_prompt.fill("blue")
    create.set("steps", 11)
    create.set("seed", 42)
    create.page.locator("#sampler input").click()
    create.page.get_by_role("option", name="Euler a", exact=True).click()

    def check() -> None:
        create.open()
        expect(create.prompt).to_have_value("two owls")
        expect(create.negative_prompt).to_have_value("blue")
        expect(create.number("steps")).to_have_value("11")
        expect(create.number("seed")).to_have_value("42")
        expect(create.page.locator("#sampler input")).to_have_value("Euler a")

    check()
    create.page.goto("about:blank")
    assert served.stop() == 0
    served = serve(tmp_path, models_dir, port)
    check()
    create.page.goto("about:blank")
    assert served.stop() == 0


def test_the_language_switch_says_everything_again_in_place_and_is_remembered(create: CreateDriver) -> None:
    create.set("steps", 2)
    create.prompt.fill("a cat")
    create.generate.click()
    create.wait_until_done()
    picture = create.page.locator("#pictures [data-testid=detailed-image]").get_attribute("src")

    create.speak("ไทย")
    expect(create.generate).to_have_text("สร้างภาพ")
    expect(create.status).to_contain_text("เสร็จใน")
    expect(create.tokens).to_contain_text("โทเค็น")
    expect(create.parameters).to_contain_text("ค่า seed ที่ใช้")
    expect(create.page.locator("html")).to_have_attribute("lang", "th")
    expect(create.prompt).to_have_value("a cat")
    expect(create.negative_prompt).to_have_attribute("placeholder", "ไม่อยากให้มีอะไรในภาพ")
    assert create.page.locator("#pictures [data-testid=detailed-image]").get_attribute("src") == picture
    assert english_left(create) == []

    create.open()
    expect(create.generate).to_have_text("สร้างภาพ")
    create.speak("English")
    expect(create.generate).to_have_text("Generate")
    expect(create.page.locator("html")).to_have_attribute("lang", "en")


def english_left(create: CreateDriver) -> list[str]:
    """English words that are still to be seen, other than names, licences and field terms."""
    models = create.page.request.get(f"{create.url}api/v1/models").json()["models"]
    text: str = create.page.locator("body").inner_text()
    for model in models:
        for name in (model["title"], *model["licence"].splitlines(), model["id"]):
            text = text.replace(name, "")
    allowed = re.compile(
        r"Diffuscope|Stable Diffusion|English|Sampler|PNG|guidance|CFG|seed|steps|Negative prompt|A1111|Ctrl\+Enter|Esc"
        r"|DPM\+\+ 2M Karras|a cat|CLIP|ViT|Vision|Transformer|T5|BART|latents?|prompt|VAE|[Ii]nside|Latents|Prompt"
        r"|wildcard|LoRA|textual inversion|noise|patch"
    )
    return re.findall(r"[A-Za-z]{3,}", allowed.sub("", text))


BAD_INPUT: list[tuple[str, object, str]] = [
    ("steps", 0, "The number of steps is 0; choose 1 to 150."),
    ("steps", 10_000, "The number of steps is 10000; choose 1 to 150."),
    ("width", 101, "A side of 101 px is not possible with this model"),
    ("height", 100_000, "A side of 100000 px is not possible with this model"),
    ("seed", 2**32, "The seed is 4294967296; choose 0 to 4294967295, or -1 for a new one."),
    ("prompt", "word " * 10_000, "The prompt has 50000 characters; shorten it"),
    ("prompt", "a\u0007cat", "The prompt has the control character U+0007 at position 2; delete it."),
]


def test_bad_input_is_one_sentence_and_the_page_goes_on(create: CreateDriver) -> None:
    good = {name: create.number(name).input_value() for name in ("steps", "width", "height", "seed")}
    for field, value, sentence in BAD_INPUT:
        if field == "prompt":
            create.prompt.evaluate(
                "(box, text) => { box.value = text; box.dispatchEvent(new Event('input', { bubbles: true })); }", value
            )
        else:
            create.set(field, value)
        create.page.keyboard.press("Control+Enter")
        expect(create.alert).to_contain_text(sentence)
        expect(create.generate).to_be_visible()
        if field != "prompt":
            create.set(field, good[field])
    create.speak("ไทย")
    expect(create.alert).to_contain_text("U+0007")
    expect(create.alert).not_to_contain_text("control character")
    create.set("steps", 10_000)
    create.open()
    assert create.number("steps").input_value() != "10000", "what is impossible is not put back"


def test_a_prompt_beyond_the_window_says_what_is_cut(create: CreateDriver) -> None:
    create.prompt.fill("cat " * 90 + "zebra")
    expect(create.tokens.locator("del")).to_contain_text("zebra")
    create.prompt.fill("cat")
    expect(create.tokens.locator("del")).to_have_count(0)


def test_files_that_are_no_pictures_of_ours_are_refused_in_one_sentence(create: CreateDriver, tmp_path: Path) -> None:
    prompt = create.prompt.input_value()
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    for name, content, sentence in (
        ("plain.png", plain.getvalue(), "carries no generation parameters"),
        ("text.png", b"not a picture", "not a PNG"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        create.drop(path)
        expect(create.notice).to_be_visible()
        expect(create.notice).to_contain_text(re.compile(sentence, re.IGNORECASE))
    expect(create.prompt).to_have_value(prompt)


def test_the_theme_follows_the_system_until_it_is_switched(visitors: Visitors) -> None:
    create = visitors.visit(color_scheme="dark")
    body = create.page.locator("body")
    expect(body).to_have_class(re.compile("dark"))
    create.page.locator("#theme").click()
    expect(body).not_to_have_class(re.compile("dark"))
    create.open()
    expect(body).not_to_have_class(re.compile("dark"))


def test_the_seed_buttons_and_reuse_fill_the_form(create: CreateDriver) -> None:
    create.set("steps", 2)
    create.prompt.fill("a duck")
    create.generate.click()
    create.wait_until_done()
    seed = create.page.locator("#parameters .value-seed dd").inner_text()
    create.page.locator("#last-seed").click()
    expect(create.number("seed")).to_have_value(seed)
    create.page.locator("#random-seed").click()
    expect(create.number("seed")).to_have_value("-1")
    create.prompt.fill("something else")
    create.page.locator("#reuse").click()
    expect(create.prompt).to_have_value("a duck")
    expect(create.number("seed")).to_have_value(seed)
    create.set("width", 17)
    create.page.keyboard.press("Control+Enter")
    expect(create.alert).to_be_visible()
    create.expect_pictures(1)
    create.page.locator("[data-copy]").click()
    copied: str = create.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith("a duck\nSteps: 2, ")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("locale", ["en-US", "th-TH"])
def test_nothing_is_wider_than_the_window(visitors: Visitors, width: int, locale: str) -> None:
    create = visitors.visit(locale, width=width)
    assert create.page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_leaving_the_page_stops_its_run(visitors: Visitors) -> None:
    left, stays = visitors.visit(), visitors.visit()
    left.set("steps", SLOW_STEPS)
    left.set("batch-count", 16)
    left.generate.click()
    expect(left.page.locator("#preview img").first).to_be_attached(timeout=RUN_MS)
    left.page.close()
    stays.set("steps", 1)
    stays.generate.click()
    stays.wait_until_done()
