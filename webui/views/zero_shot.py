"""Zero-shot answers: for each picture the likeliest labels, and how many were right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.figures import percent
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.clip.zeroshot import Accuracy, Answers, ZeroShot


def render_zero_shot(
    result: ZeroShot, say: Translator, count: int = 5, answers: Answers | None = None, accuracy: Accuracy | None = None
) -> str:
    """A row a picture: the `count` likeliest labels with probabilities; with `answers`, a mark for right or wrong."""
    headings = [say.text("score.picture"), *(f"{place}." for place in range(1, min(count, len(result.labels)) + 1))]
    rows = [_row(result, picture, count, answers) for picture in range(len(result.names))]
    head = element("thead", element("tr", *(element("th", text(heading), scope="col") for heading in headings)))
    table = element("table", head, element("tbody", *rows), class_="numbers-table zero-shot")
    kind = say.text("score.zero_shot.softmax" if result.head.kind == "softmax" else "score.zero_shot.sigmoid")
    parts = [element("div", table, class_="heatmap-scroll"), element("p", text(kind), class_="score-hint")]
    if accuracy is not None:
        parts.append(element("p", text(_accuracy_words(accuracy, say)), class_="order"))
    if answers is not None and answers.unknown:
        unknown = say.text("score.zero_shot.unknown", answers=", ".join(answers.unknown))
        parts.append(element("p", text(unknown), class_="notice"))
    return element("div", *parts)


def render_nearest(texts: tuple[str, ...], nearest: tuple[tuple[tuple[str, float], ...], ...], say: Translator) -> str:
    """For each text the concepts nearest to it, with their cosines."""
    rows = [
        element(
            "tr",
            element("th", text(words), scope="row", dir="auto"),
            *(element("td", text(f"{label} {cosine:.3f}"), dir="auto") for label, cosine in found),
        )
        for words, found in zip(texts, nearest, strict=True)
    ]
    caption = element("caption", text(say.text("score.nearest")))
    return element(
        "div", element("table", caption, element("tbody", *rows), class_="numbers-table"), class_="heatmap-scroll"
    )


def _row(result: ZeroShot, picture: int, count: int, answers: Answers | None) -> str:
    right = answers.right[picture] if answers is not None else None
    cells = []
    for place, (label, probability) in enumerate(result.top(picture, count)):
        mark = "" if right is None or place else ("✓ " if label == result.labels[right] else "✗ ")
        cells.append(
            element("td", text(f"{mark}{label} {percent(probability)}"), dir="auto", class_="" if place else "best")
        )
    return element("tr", element("th", text(result.names[picture]), scope="row", dir="auto"), *cells)


def _accuracy_words(accuracy: Accuracy, say: Translator) -> str:
    return say.text(
        "score.zero_shot.accuracy",
        top1=accuracy.top1,
        topk=accuracy.topk,
        k=accuracy.k,
        counted=accuracy.counted,
        share=percent(accuracy.top1 / accuracy.counted) if accuracy.counted else "–",
    )
