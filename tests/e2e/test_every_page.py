"""One visit to every page: each can be read and used by everyone, and nothing is looked up in the network meanwhile."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import CreateDriver
from tests.e2e.served import launch_chromium, serve
from tests.e2e.tour import TOUR, back_to_create

AUDIT = """
import os, sys
def note(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sethostname"):
        with open(os.environ["LOOKED_UP"], "a") as file:
            print(arguments[0], file=file)
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open(os.environ["LOOKED_UP"], "a") as file:
            print(arguments[1][0], file=file)
sys.addaudithook(note)
"""
"""Python reads it when the server and whatever it starts begin; the hook cannot be taken away again."""


CHROMIUMS_OWN = frozenset({"content-autofill.googleapis.com"})
"""What Chromium asks its makers about the fields of any page; the page itself has no part in it."""


def is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("localhost", "None", "")


def hosts_in(log: Path) -> set[str]:
    """The hosts for which Chromium's resolver was asked on behalf of the page, by its own log.

    What a Chromium asks its makers for of its own accord carries the key of no page, or of theirs.
    """
    noted = json.loads(log.read_text(encoding="utf-8"))
    names = {number: name for name, number in noted["constants"]["logEventTypes"].items()}
    asked = [event.get("params", {}) for event in noted["events"] if names[event["type"]].startswith("HOST_RESOLVER")]
    ours = [one["host"] for one in asked if "127.0.0.1" in one.get("network_anonymization_key", "")]
    return {urlsplit(host if "//" in host else f"//{host}").hostname or "" for host in ours} - CHROMIUMS_OWN


SETTLED = """
() => Promise.all(document.getAnimations()
  .filter((each) => each.effect.getComputedTiming().iterations !== Infinity)
  .map((each) => each.finished.catch(() => 0)))
"""
"""A colour on its way from one to another is neither."""


PUT_AWAY = """
() => { window.putAway = [...document.querySelectorAll("#tabs [role=tabpanel]")]
  .filter((panel) => !panel.checkVisibility())
  .map((panel) => [panel, document.createDocumentFragment()]);
  window.putAway.forEach(([panel, aside]) => aside.append(...panel.childNodes)); }
"""
PUT_BACK = "() => window.putAway.forEach(([panel, aside]) => panel.append(aside))"
"""Unseen tabs, whose contents axe would walk through at every look, are aside while it looks."""


GRADIOS_ENGLISH = "[aria-label^='number input for '], [aria-label^='range slider for '], [title=Fullscreen]"


def barriers(page: Page) -> list[str]:
    """What keeps people from reading or using what is shown: serious and critical, by axe-core.

    Only contrast depends on the theme, so the dark one is asked for nothing else; and nothing is asked again of the
    pages that were looked at before, which are unseen now.
    """
    found = []
    page.evaluate(PUT_AWAY)
    for theme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        page.evaluate(SETTLED)
        for violation in Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                places = [f"{node['html'][:160]}: {node['failureSummary'][:240]}" for node in violation["nodes"][:3]]
                found.append(f"{theme}, {violation['id']}: {places}")
    page.evaluate(PUT_BACK)
    return found


def press_tab_until(page: Page, target: Locator) -> None:
    """Go on by the Tab key alone, as somebody without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            outline = target.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none", "where the focus is can be seen"
            return
    raise AssertionError(f"the Tab key does not come to {target}")


def draw_by_keyboard(create: CreateDriver) -> None:
    """The main job without a mouse: another prompt, two steps, the button, and the picture saved."""
    page = create.page
    expect(create.prompt).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("a dog on a green background")
    press_tab_until(page, create.number("steps"))
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    press_tab_until(page, create.generate)
    page.keyboard.press("Enter")
    create.wait_until_done()
    press_tab_until(page, page.locator("#download"))
    with page.expect_download():
        page.keyboard.press("Enter")


def test_every_page_is_for_everyone_and_nothing_is_looked_up(
    tmp_path: Path, models_dir: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AUDIT, encoding="utf-8")
    by_python, by_chromium = tmp_path / "looked-up", tmp_path / "net-log.json"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("LOOKED_UP", str(by_python))
    served = serve(tmp_path / "data", models_dir)
    chromium = launch_chromium(browser.browser_type, f"--log-net-log={by_chromium}")
    barred: dict[str, list[str]] = {}
    try:
        visitors = Visitors(chromium, served.url, [], [])
        create = visitors.visit()
        draw_by_keyboard(create)
        barred["create"] = barriers(create.page)
        for name, work in TOUR.items():
            work(create)
            barred[name] = barriers(create.page)
            back_to_create(create)
        for name in ("Search", "Models", "Extensions", "X/Y/Z", "Walk"):
            create.open_tab(name)
            barred[name] = barriers(create.page)
        create.speak("ไทย")
        expect(create.page.locator("html[lang=th]")).to_be_attached()
        expect(create.page.locator(GRADIOS_ENGLISH)).to_have_count(0)
        expect(create.page.locator("[aria-label^='ช่องตัวเลขของ ']")).not_to_have_count(0)
        barred["Thai"] = barriers(create.page)
    finally:
        chromium.close()
        assert served.stop() == 0, "".join(served.said)
    assert not visitors.complaints
    assert {name: found for name, found in barred.items() if found} == {}
    python_asked = set(by_python.read_text(encoding="utf-8").split())
    chromium_asked = hosts_in(by_chromium)
    assert "127.0.0.1" in python_asked & chromium_asked, "both were watched"
    assert [host for host in python_asked | chromium_asked if not is_this_machine(host)] == []
