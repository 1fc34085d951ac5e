"""Where a label's probability comes from: relevance and rollout over the picture, and the deletion check of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.charts import Line, line_chart
from webui.views.figures import percent
from webui.views.markup import element, text
from webui.views.relevance import render_overlay

if TYPE_CHECKING:
    from webui.vision.attention import SeenPicture
    from webui.vision.labels import LabelSet
    from webui.vision.saliency import ExplainedClass


def render_rollout(seen: SeenPicture, say: Translator) -> str:
    """Attention rollout, which needs no label and no gradient."""
    share = percent(float(seen.rollout[0, 0]))
    return element(
        "div",
        element("h4", text(say.text("vision.rollout"))),
        element("p", text(say.text("vision.rollout.explain", share=share))),
        render_overlay(seen.rollout_patches, seen.model_view, say),
        class_="relevance",
    )


def render_class_relevance(explained: ExplainedClass, seen: SeenPicture, labels: LabelSet, say: Translator) -> str:
    """Gradient relevance for the label, and the probability as patches are painted over in four orders."""
    name = labels.name(explained.label, say.language)
    curve = explained.curve
    shares = [float(share) for share in curve.shares]
    tracks = [
        (say.text("vision.deletion.relevance"), curve.relevant),
        (say.text("vision.deletion.random"), curve.random.mean(axis=0)),
        (say.text("vision.deletion.rollout"), curve.others[0]),
    ]
    lines = [
        Line(label, tuple(zip(shares, map(float, values), strict=True)), dashed=place == 1)
        for place, (label, values) in enumerate(tracks)
    ]
    title = say.text("vision.deletion", name=name)
    chart = line_chart(lines, title, say.text("score.relevance.removed"), say.text("vision.probability"))
    areas = {
        "relevant": f"{curve.relevant_area:.4f}",
        "random": f"{curve.random_area:.4f}",
        "rollout": f"{curve.area(curve.others[0]):.4f}",
    }
    verdict = say.text("vision.deletion.holds" if curve.holds else "vision.deletion.fails", **areas)
    rows = [
        element(
            "tr",
            element("th", text(percent(share)), scope="row"),
            *(element("td", text(f"{float(values[place]):.4f}")) for _, values in tracks),
        )
        for place, share in enumerate(shares)
    ]
    headings = [say.text("score.relevance.removed"), *(line.name for line in lines)]
    head = element("thead", element("tr", *(element("th", text(heading), scope="col") for heading in headings)))
    table = element("table", head, element("tbody", *rows), class_="numbers-table")
    heading = say.text("vision.relevance", name=name, share=percent(explained.probability))
    return element(
        "div",
        element("h4", text(heading)),
        render_overlay(explained.relevance, seen.model_view, say),
        element("h4", text(title)),
        chart,
        element("p", text(verdict), class_="check passed" if curve.holds else "check failed"),
        element(
            "details",
            element("summary", text(say.text("score.as_table"))),
            element("div", table, class_="heatmap-scroll tall"),
        ),
        class_="relevance",
    )
