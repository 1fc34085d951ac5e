"""The token counter under the prompt: how much of CLIP's window is used, and what falls out of it."""

from __future__ import annotations

from webui.diffusion.prompt import TokenCount
from webui.i18n import Translator
from webui.views.markup import element, text

SHOWN_CHARACTERS = 400
"""How much of a cut is quoted; a prompt of thousands of words must not push the page away."""


def render_tokens(count: TokenCount, say: Translator) -> str:
    """The count, start and end tokens included; for a long prompt also the words that the model never sees."""
    words = say.text("create.tokens", used=count.used, limit=count.limit)
    if count.weighted:
        words = f"{words} · {say.text('create.tokens.weighted', count=count.weighted)}"
    if not count.cut_text:
        return element("div", text(words), class_="tokens")
    cut = count.cut_text if len(count.cut_text) <= SHOWN_CHARACTERS else count.cut_text[:SHOWN_CHARACTERS] + "…"
    return element(
        "div",
        element("strong", text(words)),
        " ",
        text(say.text("create.tokens.cut")),
        " ",
        element("del", text(cut)),
        class_="tokens tokens-over",
    )
