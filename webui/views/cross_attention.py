"""Cross-attention as a table: written words down, words of the source across, each cell coloured by its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.colours import ink_on, sequential
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.prompts.attention import CrossAttention


def render_cross_attention(attention: CrossAttention, layer: int | None, say: Translator) -> str:
    """The mean over the heads of `layer`, or of all layers; the table is its own text alternative."""
    weights = attention.mean(layer)
    end = say.text("prompt.attention.end")
    source = [word or end for word in attention.source]
    target = [word or end for word in attention.target]
    rows = []
    for place, word in enumerate(target):
        cells = []
        for column, other in enumerate(source):
            weight = float(weights[place, column])
            colour = sequential(weight)
            said = say.text("prompt.attention.cell", target=word, source=other, weight=f"{weight:.2f}")
            style = f"background:{colour};color:{ink_on(colour)}"
            cells.append(element("td", text(f"{weight:.2f}"), style=style, title=said))
        rows.append(element("tr", element("th", text(word), scope="row", dir="auto"), *cells))
    heads = [element("th", text(word), scope="col", dir="auto") for word in source]
    table = element(
        "table",
        element("caption", text(say.text("prompt.attention")), class_="visually-hidden"),
        element("thead", element("tr", element("td", aria_hidden="true"), *heads)),
        element("tbody", *rows),
        class_="heatmap attention-table",
    )
    region = element(
        "div", table, class_="heatmap-scroll", tabindex="0", role="region", aria_label=say.text("prompt.attention")
    )
    explained = element("figcaption", text(say.text("prompt.attention.explain")), class_="score-hint")
    return element("figure", region, explained, class_="score-map")
