"""The way through many pages of pictures."""

from __future__ import annotations

from webui.i18n import Translator
from webui.views.markup import element, text


def render_pager(pages: int, page: int, say: Translator) -> str:
    """Buttons to the page before and after page `page` (from 0); nothing where there is one page."""
    if pages < 2:
        return ""
    back = element(
        "button", "‹", type="button", data_page=str(page - 1), disabled=page == 0, aria_label=say.text("pager.back")
    )
    on = element(
        "button", "›", type="button", data_page=str(page + 1), disabled=page >= pages - 1,
        aria_label=say.text("pager.on"),
    )  # fmt: skip
    where = element("span", text(say.text("pager.where", page=page + 1, pages=pages)))
    return element("nav", back, where, on, class_="pager", aria_label=say.text("pager.pages"))
