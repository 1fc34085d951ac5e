"""The page that asks visitors of a shared server who they are."""

from __future__ import annotations

from importlib.resources import files

from webui.i18n import Translator
from webui.views.markup import element, text


def render_login(say: Translator, problem: str | None = None) -> str:
    """A whole HTML page; `problem` is a sentence on why the last try failed. No script is needed to log in."""
    other, its_name = ("en", "English") if say.language == "th" else ("th", "ไทย")
    form = element(
        "form",
        element("h1", text(say.text("app.name"))),
        element("p", text(say.text("login.why"))),
        element("p", text(problem), class_="problem", role="alert") if problem else "",
        _field(say.text("login.name"), "username", "text"),
        _field(say.text("login.password"), "password", "password"),
        element("button", text(say.text("login.enter")), type="submit"),
        element("a", text(its_name), href=f"?language={other}", lang=other, hreflang=other),
        method="post",
        action=f"login?language={say.language}",
    )
    head = "".join(
        (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            element("title", text(say.text("login.title"))),
            element("style", files("webui").joinpath("assets", "login.css").read_text(encoding="utf-8")),
        )
    )
    page = element("html", element("head", head), element("body", element("main", form)), lang=say.language)
    return f"<!doctype html>{page}"


def _field(label: str, name: str, kind: str) -> str:
    complete = "current-password" if kind == "password" else "username"
    box = f'<input name="{name}" type="{kind}" autocomplete="{complete}" autocapitalize="none" required>'
    return element("label", element("span", text(label)), box)
