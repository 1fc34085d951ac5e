"""Why a score: relevance over the picture and over the words, and the deletion curve that backs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from webui.clip.tokens import joined_pieces
from webui.i18n import Translator
from webui.views.charts import Line, line_chart
from webui.views.colours import ink_on, sequential
from webui.views.figures import data_url, percent
from webui.views.heatmap import legend
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.clip.relevance import Relevance
    from webui.clip.similarity import Matrix
    from webui.vision.deletion import DeletionCurve

SIDE = 320  # user units of the overlay


def render_relevance(relevance: Relevance, model_view: bytes, curve: DeletionCurve, say: Translator) -> str:
    """The picture as the model saw it (`model_view`, PNG) under its relevance, the words, and the deletion curve."""
    return element(
        "div",
        element("p", text(say.text("score.relevance.how")), class_="score-hint"),
        render_overlay(relevance.patches, model_view, say),
        _words(relevance, say),
        _deletion(curve, say),
        _patch_table(relevance.patches, say),
        class_="relevance",
    )


def render_overlay(patches: Matrix, model_view: bytes, say: Translator) -> str:
    """The picture in grey under `patches` (rows, columns), at least 0, whose strongest is the end of the scale."""
    rows, columns = patches.shape
    width, height = SIDE / columns, SIDE / rows
    strongest = float(patches.max()) or 1.0
    squares = []
    for row in range(rows):
        for column in range(columns):
            share = float(patches[row, column]) / strongest
            title = element("title", text(f"{share:.2f}"))
            squares.append(
                element(
                    "rect",
                    title,
                    x=f"{column * width:g}",
                    y=f"{row * height:g}",
                    width=f"{width:g}",
                    height=f"{height:g}",
                    fill=sequential(share),
                    fill_opacity=f"{0.15 + 0.6 * share:.2f}",
                )
            )
    top, left = np.unravel_index(int(patches.argmax()), patches.shape)
    alt = say.text("score.relevance.peak", row=int(top) + 1, column=int(left) + 1, rows=rows, columns=columns)
    image = element("image", href=data_url(model_view, "png"), width=str(SIDE), height=str(SIDE), filter="grayscale(1)")
    drawn = element("svg", image, *squares, viewBox=f"0 0 {SIDE} {SIDE}", role="img", aria_label=alt, class_="overlay")
    scale = element("p", text(say.text("score.relevance.scale")), class_="score-hint")
    return element("figure", drawn, legend("0", "1"), scale, element("figcaption", text(alt)))


def _words(relevance: Relevance, say: Translator) -> str:
    tokens = relevance.tokens
    groups = [group for group in joined_pieces(tokens) if not tokens.pieces[group[0]].is_special]
    values = [float(sum(relevance.pieces[i] for i in group)) for group in groups]
    strongest = max(values, default=0.0) or 1.0
    chips = []
    for group, value in zip(groups, values, strict=True):
        start, end = tokens.pieces[group[0]].start, max(tokens.pieces[i].end for i in group)
        words = "".join(letter.character for letter in tokens.letters[start:end])
        colour = sequential(value / strongest)
        chips.append(
            element(
                "span", text(words), " ", element("small", text(f"{value / strongest:.2f}")),
                style=f"background:{colour};color:{ink_on(colour)}", dir="auto",
            )
        )  # fmt: skip
    return element("p", element("strong", text(say.text("score.relevance.words"))), " ", *chips, class_="word-chips")


def _deletion(curve: DeletionCurve, say: Translator) -> str:
    shares = [float(share) for share in curve.shares]
    mean = curve.random.mean(axis=0)
    lines = [
        Line(say.text("score.relevance.first"), tuple(zip(shares, map(float, curve.relevant), strict=True))),
        Line(say.text("score.relevance.random"), tuple(zip(shares, map(float, mean), strict=True)), dashed=True),
    ]
    chart = line_chart(
        lines, say.text("score.relevance.curve"), say.text("score.relevance.removed"), say.text("score.cosine")
    )
    areas = {"relevant": f"{curve.relevant_area:.4f}", "random": f"{curve.random_area:.4f}"}
    verdict = say.text("score.relevance.holds" if curve.holds else "score.relevance.fails", **areas)
    rows = [
        element(
            "tr", element("th", text(percent(share)), scope="row"), *(element("td", text(f"{v:.4f}")) for v in pair)
        )
        for share, *pair in zip(shares, map(float, curve.relevant), map(float, mean), strict=True)
    ]
    headings = [say.text("score.relevance.removed"), lines[0].name, lines[1].name]
    return element(
        "section",
        element("h4", text(say.text("score.relevance.curve"))),
        chart,
        element("p", text(verdict), class_="check passed" if curve.holds else "check failed"),
        _details(say.text("score.as_table"), headings, rows),
    )


def _patch_table(patches: Matrix, say: Translator) -> str:
    strongest = float(patches.max()) or 1.0
    rows = [
        element(
            "tr",
            element("th", text(str(i + 1)), scope="row"),
            *(element("td", text(f"{v / strongest:.2f}")) for v in row),
        )
        for i, row in enumerate(patches)
    ]
    return _details(say.text("score.relevance.table"), ["", *(str(i + 1) for i in range(patches.shape[1]))], rows)


def _details(summary: str, headings: list[str], rows: list[str]) -> str:
    head = element("thead", element("tr", *(element("th", text(heading), scope="col") for heading in headings)))
    table = element("table", head, element("tbody", *rows), class_="numbers-table")
    return element("details", element("summary", text(summary)), element("div", table, class_="heatmap-scroll tall"))
