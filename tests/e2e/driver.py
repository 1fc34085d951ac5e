"""What a person does on the txt2img page, and what they see there."""

from __future__ import annotations

import base64
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

RUN_MS = 120_000
"""A first run imports torch and loads a model, on a machine that may be busy."""

_WATCH_STEPS = """
() => {
  window.seen = { steps: [], previews: [] };
  const note = (list, value) => { if (value && list.at(-1) !== value) list.push(value); };
  new MutationObserver(() => {
    note(window.seen.steps, document.querySelector("#status .status-count")?.textContent.match(/^\\d+(?=\\/)/)?.[0]);
    note(window.seen.previews, document.querySelector("#preview img")?.src);
  }).observe(document.body, { childList: true, subtree: true, attributes: true });
}
"""
_TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_DROP = """
({ bytes, name, type }) => {
  const data = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([data], name, { type }));
  for (const kind of ["dragover", "drop"])
    document.querySelector("#stage").dispatchEvent(
      new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
}
"""


class CreateDriver:
    """One open txt2img page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.prompt = page.locator("#prompt textarea")
        self.negative_prompt = page.locator("#negative-prompt textarea")
        self.generate = page.locator("#generate")
        self.stop = page.locator("#stop")
        self.status = page.locator("#status")
        self.alert = page.locator("#problem [role=alert]")
        self.notice = page.locator("#notice [role]")
        self.parameters = page.locator("#parameters")
        self.tokens = page.locator("#tokens")

    def open(self) -> None:
        self.page.goto(self.url)
        expect(self.page.locator("html.ready")).to_be_attached(timeout=60_000)

    def open_tab(self, name: str) -> None:
        """Press a tab of the page; on a narrow screen Gradio folds the last ones into a menu."""
        press_tab(self.page, "#tabs", name)

    def number(self, name: str) -> Locator:
        """The box of a numeric field, by its id: "steps", "seed", "batch-count"."""
        return self.page.locator(f"#{name} input[type=number]")

    def set(self, name: str, value: object) -> None:
        self.number(name).fill(str(value))

    def watch_steps(self) -> None:
        """From now on remember every step count and every preview that is shown."""
        self.page.evaluate(_WATCH_STEPS)

    def steps_seen(self) -> tuple[list[int], list[str]]:
        seen = self.page.evaluate("() => window.seen")
        return [int(value) for value in seen["steps"]], seen["previews"]

    def wait_until_done(self) -> None:
        expect(self.page.locator("#actions")).to_be_visible(timeout=RUN_MS)

    def expect_pictures(self, count: int) -> None:
        """That many pictures are, or soon will be, in the gallery."""
        expect(self.page.locator("#pictures .grid-container img")).to_have_count(count)

    def download(self, folder: Path) -> Path:
        """Press the download button; the file as the browser saved it."""
        with self.page.expect_download() as waiting:
            self.page.locator("#download").click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def drop(self, path: Path, mime_type: str = "image/png") -> None:
        """Let a file fall somewhere on the page."""
        content = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(_DROP, {"bytes": content, "name": path.name, "type": mime_type})

    def speak(self, language: str) -> None:
        """Press the language switch: "English" or "ไทย"."""
        self.page.locator("#language").get_by_text(language, exact=True).click()


def press_tab(page: Page, tabs: str, name: str) -> None:
    """Press one of the tabs in `tabs` once Gradio has laid them out: each is seen, or folded into a menu."""
    tab = page.locator(tabs).get_by_role("tab", name=name, exact=True)
    menu = page.locator(f"{tabs} .overflow-menu > button").first
    expect(tab.or_(menu).filter(visible=True).first).to_be_visible()
    if not tab.is_visible():
        menu.click()
        tab = page.locator(f"{tabs} .overflow-dropdown").get_by_text(name, exact=True).first
    tab.click()
    _let_settle(page)


def unfold(page: Page, accordion: str) -> None:
    """Open the accordion found by the selector `accordion`."""
    page.locator(accordion).get_by_role("button").first.click()
    _let_settle(page)


def _let_settle(page: Page) -> None:
    """Wait until Gradio has filled what it shows for the first time.

    It puts each field's first value in a second time one frame after it appears, so what is typed within that frame
    is lost. A person cannot be so fast.
    """
    page.evaluate(_TWO_FRAMES)
