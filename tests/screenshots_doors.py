"""`python -m tests.screenshots_doors OUT_DIR` photographs what stands at the doors: login, shared page, extensions.

Both languages, both themes, wide and narrow, as `tests.screenshots` does for the other pages; for a person to look at.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.driver import RUN_MS, press_tab
from tests.e2e.served import launch_chromium
from webui.errors import UserError
from webui.server import RunningServer, running_server
from webui.settings import Settings
from webui.share.tunnel import ShareLink
from webui.studio import open_studio

_LOCALES = ("en-US", "th-TH")
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDTHS = (1280, 360)
_PASSWORD = "to be looked at"
_TABS = {"en-US": "Extensions", "th-TH": "ส่วนขยาย"}
_EXTENSIONS = {
    "raises": ("def register(api):\n    raise RuntimeError('it broke')", ""),
    "no_packages": ("def register(api): pass", '[needs]\npackages = ["no-such-package>=2"]\n'),
    "no_extension": ("def register(api): pass", '[needs]\nextensions = ["not_here"]\n'),
    "bad_tab": ("def register(api):\n    api.add_tab('x', {'en': 'Bad tab', 'th': 'แท็บเสีย'}, lambda tab: 1 / 0)", ""),
    "good": ("def register(api): pass", ""),
}


def main(out: Path) -> None:
    """Photograph every combination."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright.chromium)
        with _served(host="0.0.0.0", share_server="127.0.0.1:9", login_password=_PASSWORD) as server:
            for visit in _visits(browser, server.url, out, "shared"):
                _shared(*visit, server)
        with _served() as server:
            for visit in _visits(browser, server.url, out, "local"):
                _extensions(*visit)
        browser.close()


@contextmanager
def _served(**settings: object) -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory() as name:
        for id_, (code, needs) in _EXTENSIONS.items():
            folder = Path(name) / "extensions" / id_
            folder.mkdir(parents=True)
            about = 'about = { en = "What it does, in a line.", th = "สิ่งที่ทำ ในหนึ่งบรรทัด" }\n'
            title = f'title = {{ en = "{id_}", th = "ส่วนขยาย {id_}" }}\n'
            manifest = f'id = "{id_}"\nversion = "0.1"\napi = 1\n{title}{about}{needs}'
            (folder / "extension.toml").write_text(manifest, encoding="utf-8")
            (folder / "extension.py").write_text(code, encoding="utf-8")
        made = Settings(data_dir=Path(name), port=0, **settings)  # type: ignore[arg-type]
        with closing(open_studio(made)) as studio, running_server(studio) as server:
            yield server


Shoot = Callable[[str], None]


def _visits(browser: Browser, url: str, out: Path, name: str) -> Iterator[tuple[Page, Shoot, str]]:
    for locale, theme, width in itertools.product(_LOCALES, _THEMES, _WIDTHS):
        context = browser.new_context(locale=locale, color_scheme=theme, viewport={"width": width, "height": 860})
        page = context.new_page()
        page.goto(url.replace("0.0.0.0", "127.0.0.1"))

        def shoot(
            moment: str, page: Page = page, file: str = f"{name}-{locale[:2]}-{theme}-{width}", width: int = width
        ) -> None:
            page.wait_for_timeout(500)
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                print(f"{file}-{moment}: {wide} px wide")  # noqa: T201 - for the person who looks
            page.screenshot(path=out / f"{file}-{moment}.png", full_page=True)

        yield page, shoot, locale
        context.close()


def _shared(page: Page, shoot: Shoot, _locale: str, server: RunningServer) -> None:
    """The login and a wrong password; then the line above the tabs: no link, a link with its code, one that ended."""
    shoot("login")
    _log_in(page, "wrong")
    expect(page.locator("[role=alert]")).to_be_visible()
    shoot("wrong")
    server.share.link = None
    server.share.problem = UserError("error.share_no_network")
    _log_in(page, _PASSWORD)
    _unfold(page)
    shoot("no-link")
    process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, text=True)
    ends = datetime.now(UTC) + timedelta(days=7)
    server.share.link = ShareLink("https://0123456789abcdef01.gradio.live", ends, process)
    page.reload()
    _unfold(page)
    shoot("link")
    server.share.close()
    page.reload()
    _unfold(page)
    shoot("ended")


def _log_in(page: Page, password: str) -> None:
    page.locator("input[name=username]").fill("diffuscope")
    page.locator("input[name=password]").fill(password)
    page.locator("button").click()


def _unfold(page: Page) -> None:
    expect(page.locator("html.ready")).to_be_attached(timeout=RUN_MS)
    page.locator(".sharing summary").click()
    expect(page.locator(".sharing li").first).to_be_visible()


def _extensions(page: Page, shoot: Shoot, locale: str) -> None:
    """The list, with tracebacks unfolded and one extension switched."""
    expect(page.locator("html.ready")).to_be_attached(timeout=RUN_MS)
    press_tab(page, "#tabs", _TABS[locale])
    expect(page.locator("[data-extension=raises]")).to_be_visible()
    page.locator("[data-extension=good] button").click()
    expect(page.locator("[data-extension=good] [role=status]")).to_be_visible()
    shoot("extensions")
    for summary in page.locator("#extensions-list summary").all():
        summary.click()
    shoot("tracebacks")
    page.locator("[data-extension=good] button").click()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
