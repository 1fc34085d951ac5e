"""Who suits whom best: the texts of each picture and the pictures of each text, in order, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.figures import data_url, measure_name, written
from webui.views.markup import clamped, element, text

if TYPE_CHECKING:
    from webui.clip.score import ScoreResult

SHOWN = 5


def render_rankings(result: ScoreResult, measure: str, say: Translator) -> str:
    """Both rankings by one figure, the first `SHOWN` places each, the best marked."""
    texts = [
        _ranking(
            f'<img src="{data_url(picture.facts.thumbnail, "jpeg")}" alt="">' + clamped(picture.name),
            [
                (result.texts[j], written(float(result.similarity.measures[measure][i, j]), measure))
                for j in result.ranked_texts(i, measure)[:SHOWN]
            ],
        )
        for i, picture in enumerate(result.pictures)
        if result.texts
    ]
    pictures = [
        _ranking(
            clamped(words),
            [
                (result.pictures[i].name, written(float(result.similarity.measures[measure][i, j]), measure))
                for i in result.ranked_pictures(j, measure)[:SHOWN]
            ],
        )
        for j, words in enumerate(result.texts)
        if result.pictures
    ]
    name = measure_name(measure, say)
    return element(
        "div",
        _side(say.text("score.ranking.texts", measure=name), texts),
        _side(say.text("score.ranking.pictures", measure=name), pictures),
        class_="rankings",
    )


def render_remarks(result: ScoreResult, say: Translator) -> str:
    """`remarks` as a list; "" when there is nothing to say."""
    lines = remarks(result, say)
    if not lines:
        return ""
    return element("ul", *(element("li", text(line), dir="auto") for line in lines), class_="remarks", role="status")


def remarks(result: ScoreResult, say: Translator) -> list[str]:
    """All that was refused, changed, cut or dropped on the way, one line each."""
    lines = [say.error(refused.error) for refused in result.refused]
    lines += [
        f"{picture.name}: {say.text(note.key, **note.values)}"
        for picture in result.pictures
        for note in picture.facts.notes
    ]
    lines += [
        say.text(
            "score.text_cut",
            text=_short(tokens.text),
            used=tokens.used,
            limit=tokens.limit,
            cut=_short(tokens.cut_text),
        )
        for tokens in result.tokens
        if tokens.is_cut
    ]
    lines += [say.text("score.duplicate", text=_short(duplicate)) for duplicate in result.text_list.duplicates]
    return lines


def _side(heading: str, rankings: list[str]) -> str:
    return element("section", element("h4", text(heading)), element("div", *rankings, class_="cards"))


def _ranking(heading: str, places: list[tuple[str, str]]) -> str:
    items = [
        element(
            "li",
            clamped(name),
            element("output", text(figure)),
            class_="best" if place == 0 else "",
        )
        for place, (name, figure) in enumerate(places)
    ]
    return element("div", element("div", heading, class_="ranked"), element("ol", *items), class_="ranking")


def _short(words: str, limit: int = 80) -> str:
    return words if len(words) <= limit else words[:limit] + "…"
