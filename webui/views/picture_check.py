"""What two judges found in drawn pictures: the labels ViT sees, the prompt's nouns, the background, CLIP's score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.figures import percent
from webui.views.markup import element, text
from webui.vision.check import TOP, background_matches

if TYPE_CHECKING:
    from webui.vision.check import CheckedPicture, NounVerdict, PictureCheck
    from webui.vision.labels import LabelSet
    from webui.vision.vit import ClassifiedPicture


def render_picture_check(check: PictureCheck, say: Translator) -> str:
    """A card a picture, the best first, and under them what the check cannot know."""
    several = len(check.pictures) > 1
    rule = say.text("check.ranked.clip" if check.clip else "check.ranked.nouns")
    cards = [_card(check, picture, place, say) for place, picture in enumerate(check.ranked, start=1)]
    refused = [element("li", text(say.error(refused.error))) for refused in check.refused]
    return element(
        "section",
        element("h3", text(say.text("check.heading"))),
        element("p", text(rule), class_="check-note") if several else "",
        element("ol" if several else "div", *cards, class_="check-cards"),
        element("ul", *refused, class_="remarks") if refused else "",
        element("p", text(_limits(check, say)), class_="check-note"),
        class_="picture-check",
        aria_label=say.text("check.heading"),
    )


def render_top_labels(
    labels: LabelSet, picture: ClassifiedPicture, count: int, say: Translator, marked: frozenset[int] = frozenset()
) -> str:
    """The likeliest labels as a table whose rows carry a bar; the `marked` labels are those looked for."""
    rows = []
    for index, probability in picture.top(count):
        name = " ".join(part for part in (labels.emoji(index), labels.name(index, say.language)) if part)
        fill = element("span", class_="label-bar", style=f"width:{100 * probability:.1f}%", aria_hidden="true")
        mark = " ✓" if index in marked else ""
        rows.append(
            element(
                "tr",
                element("th", text(name + mark), scope="row", dir="auto"),
                element("td", element("span", fill, class_="label-track")),
                element("td", text(percent(probability)), class_="label-share"),
                class_="wanted" if index in marked else "",
            )
        )
    caption = element("caption", text(say.text("check.top", count=len(rows))))
    return element("table", caption, element("tbody", *rows), class_="label-table")


def _card(check: PictureCheck, picture: CheckedPicture, place: int, say: Translator) -> str:
    several = len(check.pictures) > 1
    heading = say.text("check.place", place=place, picture=picture.place + 1) if several else ""
    wanted = frozenset().union(*(noun.labels for noun in check.nouns.found)) if check.nouns.found else frozenset()
    verdicts = [_noun(verdict, say) for verdict in picture.verdicts]
    if not verdicts:
        verdicts.append(element("li", text(say.text("check.no_nouns"))))
    verdicts.append(_background(check, picture, say))
    if picture.cosine is not None:
        score = say.text("check.clip_score", score=f"{picture.cosine:.3f}", model=check.clip or "")
        verdicts.append(element("li", text(score)))
    verdicts += [
        element("li", text(say.text("extension.score", title=one.title[say.language], value=f"{one.value:.4g}")))
        for one in picture.extra
    ]
    return element(
        "li" if several else "div",
        element("h4", text(heading)) if heading else "",
        render_top_labels(check.labels, picture.classified, TOP, say, wanted),
        element("ul", *verdicts, class_="verdicts"),
        class_="check-card",
        data_picture=str(picture.place),
    )


def _noun(verdict: NounVerdict, say: Translator) -> str:
    values = {"noun": verdict.noun.written, "rank": verdict.rank, "share": percent(verdict.probability)}
    if verdict.seen:
        return element("li", "✓ ", text(say.text("check.noun_seen", **values)), class_="verdict-yes")
    return element("li", "✗ ", text(say.text("check.noun_missing", **values)), class_="verdict-no")


def _background(check: PictureCheck, picture: CheckedPicture, say: Translator) -> str:
    rim, wanted = picture.rim, check.nouns.background
    measured = rim.colour.name(say.language)
    share = percent(rim.share)
    matches = background_matches(wanted, rim)
    if wanted is None or matches is None:
        return element("li", text(say.text("check.background", measured=measured, share=share)))
    if matches:
        words = say.text("check.background_right", measured=measured, share=share)
        return element("li", "✓ ", text(words), class_="verdict-yes")
    words = say.text("check.background_wrong", wanted=wanted.name(say.language), measured=measured, share=share)
    return element("li", "✗ ", text(words), class_="verdict-no")


def _limits(check: PictureCheck, say: Translator) -> str:
    said = [say.text("check.label_set", model=check.vit, count=len(check.labels.names))]
    if not check.labels.speaks_thai:
        said.append(say.text("check.english_only"))
    if check.nouns.unknown:
        said.append(say.text("check.unknown", words=", ".join(check.nouns.unknown[:20])))
    return " ".join(said)
