"""The matrix of pictures and texts: a table whose cells are coloured, so that its text alternative is itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.colours import ink_on, sequential, sequential_stops
from webui.views.figures import data_url, is_probability, measure_meaning, measure_name, written
from webui.views.markup import clamped, element, text

if TYPE_CHECKING:
    from webui.clip.embed import EmbeddedPicture
    from webui.clip.score import ScoreResult

BEST_TEXT = "★"
BEST_PICTURE = "◆"


def render_heatmap(result: ScoreResult, measure: str, say: Translator, chosen: tuple[int, int] | None = None) -> str:
    """One figure ("cosine", ...) of every picture and text. `chosen` is the (picture, text) whose cell is marked.

    Each cell is a button with `data-picture` and `data-text`, for a page that opens the worked example of one.
    """
    if not result.pictures or not result.texts:
        return element("p", text(say.text("score.needs_both")), class_="score-hint")
    values = result.similarity.measures[measure]
    low, high = (0.0, 1.0) if is_probability(measure) else (float(values.min()), float(values.max()))
    rows = [
        element(
            "tr",
            _picture_heading(picture),
            *(_cell(result, measure, (i, j), (low, high), say, chosen) for j in range(len(result.texts))),
        )
        for i, picture in enumerate(result.pictures)
    ]
    headings = [element("th", clamped(words), scope="col") for words in result.texts]
    corner = element("td", aria_hidden="true")
    table = element(
        "table",
        element("caption", text(measure_name(measure, say)), class_="visually-hidden"),
        element("thead", element("tr", corner, *headings)),
        element("tbody", *rows),
        class_="heatmap",
        data_measure=measure,
    )
    head = element(
        "figcaption", element("strong", text(measure_name(measure, say))), " ", text(measure_meaning(measure, say))
    )
    marks = element(
        "p", text(say.text("score.marks", best_text=BEST_TEXT, best_picture=BEST_PICTURE)), class_="score-hint"
    )
    scroll = element(
        "div", table, class_="heatmap-scroll", tabindex="0", role="region", aria_label=measure_name(measure, say)
    )
    return element(
        "figure", head, scroll, legend(written(low, measure), written(high, measure)), marks, class_="score-map"
    )


def _picture_heading(picture: EmbeddedPicture) -> str:
    thumbnail = f'<img src="{data_url(picture.facts.thumbnail, "jpeg")}" alt="" loading="lazy">'
    return element("th", thumbnail, clamped(picture.name), scope="row")


def _cell(
    result: ScoreResult,
    measure: str,
    place: tuple[int, int],
    bounds: tuple[float, float],
    say: Translator,
    chosen: tuple[int, int] | None,
) -> str:
    picture, column = place
    values = result.similarity.measures[measure]
    value, (low, high) = float(values[place]), bounds
    colour = sequential((value - low) / (high - low) if high > low else 0.5)
    best_text = len(result.texts) > 1 and column == result.ranked_texts(picture, measure)[0]
    best_picture = len(result.pictures) > 1 and picture == result.ranked_pictures(column, measure)[0]
    said = [result.pictures[picture].name, result.texts[column], written(value, measure)]
    said += [say.text("score.best_text")] if best_text else []
    said += [say.text("score.best_picture")] if best_picture else []
    marks = (BEST_TEXT if best_text else "") + (BEST_PICTURE if best_picture else "")
    button = element(
        "button",
        text(written(value, measure)),
        element("span", text(marks), class_="mark") if marks else "",
        type="button",
        data_picture=str(picture),
        data_text=str(column),
        aria_label=", ".join(said),
        aria_pressed="true" if chosen == place else "false",
        style=f"background:{colour};color:{ink_on(colour)}",
    )
    return element("td", button)


def legend(low: str, high: str) -> str:
    """The colours of the scale between what its two ends mean."""
    gradient = ", ".join(sequential_stops())
    return element(
        "div",
        element("span", text(low)),
        element("span", class_="scale", style=f"background:linear-gradient(90deg, {gradient})", aria_hidden="true"),
        element("span", text(high)),
        class_="legend",
    )
