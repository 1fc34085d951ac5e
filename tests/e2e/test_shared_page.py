"""What visitors of a shared page see, and that the page keeps its own Content-Security-Policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import PATIENCE_MS, Visitors
from tests.e2e.driver import CreateDriver
from tests.e2e.served import Served, serve


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("shared"), models_dir, 0, "--host", "0.0.0.0")
    yield served
    assert served.stop() == 0, "".join(served.said)


def made_up_login(served: Served) -> tuple[str, str]:
    for line in list(served.said):
        if match := re.search(r"Log in as (\S+) with the password (\S+)", line):
            return match[1], match[2]
    raise AssertionError("no login was printed: " + "".join(served.said))


@pytest.mark.parametrize("locale", ["en-US", "th-TH"])
def test_a_visitor_logs_in_and_reads_what_is_not_for_them(browser: Browser, shared: Served, locale: str) -> None:
    context = browser.new_context(locale=locale, viewport={"width": 360, "height": 800})
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(shared.url)
        name, password = made_up_login(shared)
        page.locator("input[name=username]").fill(name)
        page.locator("input[name=password]").fill("wrong")
        page.locator("button").click()
        expect(page.locator("[role=alert]")).to_be_visible()
        page.locator("input[name=username]").fill(name)
        page.locator("input[name=password]").fill(password)
        page.locator("button").click()
        expect(page.locator("html.ready")).to_be_attached(timeout=PATIENCE_MS)
        page.locator(".sharing summary").click()
        expect(page.locator(".sharing li").first).to_be_visible()
        expect(page.locator(".sharing li")).to_have_count(11)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    finally:
        context.close()


def test_every_tab_works_under_the_policy_and_a_prompt_stays_text(create: CreateDriver) -> None:
    """The fixture holds every message in the console against the page, a refused script too."""
    page = create.page
    page.evaluate("window.ran = 0")
    create.prompt.fill("<img src=x onerror='window.ran = 1'> <script>window.ran = 1</script>")
    create.set("steps", 1)
    create.generate.click()
    create.wait_until_done()
    expect(create.parameters).to_contain_text("<img src=x onerror=")
    for tab in page.locator("#tabs > .tab-wrapper").first.get_by_role("tab").all_inner_texts():
        create.open_tab(tab)
    assert page.evaluate("window.ran") == 0


def test_markup_that_slips_into_the_page_does_not_run(
    server: Served, visitors_of: Callable[[Served], Visitors]
) -> None:
    visitors = visitors_of(server)
    page = visitors.visit().page
    page.evaluate(
        """() => {
          window.ran = 0;
          window.refused = [];
          addEventListener("securitypolicyviolation", (event) => window.refused.push(event.violatedDirective));
          const place = document.createElement("div");
          document.body.append(place);
          place.innerHTML = "<img src='data:,' onerror='window.ran = 1'>";
        }"""
    )
    page.wait_for_function("window.refused.length > 0")
    assert page.evaluate("window.ran") == 0
    assert visitors.complaints, "the browser says so in its console"
    visitors.complaints.clear()
