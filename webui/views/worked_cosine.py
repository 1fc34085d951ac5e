"""The worked example: every station between a picture, a sentence and their score, with the real numbers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from webui.i18n import Translator
from webui.views.charts import Bar, bar_chart
from webui.views.colours import NEGATIVE, POSITIVE
from webui.views.figures import data_url
from webui.views.markup import clamped, element, text
from webui.views.token_strip import render_token_strip

if TYPE_CHECKING:
    from webui.clip.worked import WorkedExample

SHOWN_TERMS = 8


def render_worked_example(worked: WorkedExample, say: Translator) -> str:
    """The stations in order: pieces, text transformer, patches, two vectors, dot product, division, check line."""
    stations = [
        (say.text("score.worked.tokens"), render_token_strip(worked.tokens, say)),
        (say.text("score.worked.text_tower"), render_text_tower(worked, say)),
        (say.text("score.worked.patches"), _patches(worked, say)),
        (say.text("score.worked.vectors"), _vectors(worked, say)),
        (say.text("score.worked.dot"), _dot(worked, say)),
        (say.text("score.worked.division"), render_division(worked)),
        (say.text("score.worked.check"), render_check(worked, say)),
    ]
    items = [element("li", element("h4", text(heading)), body) for heading, body in stations]
    heading = say.text("score.worked.heading", picture=worked.name, text=worked.tokens.text)
    return element("h3", clamped(heading), class_="worked-heading") + element("ol", *items, class_="worked")


def render_text_tower(worked: WorkedExample, say: Translator) -> str:
    """What the text transformer makes of all positions, and which of it Stable Diffusion reads."""
    positions, width = worked.text_states.shape
    alt = say.text("score.worked.states", positions=positions, width=width, pooled=worked.pooled_position)
    picture = f'<img class="states" src="{data_url(_states_png(worked), "png")}" alt="">'
    return element(
        "div",
        element("figure", picture, element("figcaption", text(alt))),
        element("p", text(say.text("score.worked.stable_diffusion", positions=positions, width=width)), class_="aside"),
    )


def _patches(worked: WorkedExample, say: Translator) -> str:
    grid = worked.patches
    lines = [
        element("line", x1=str(x), x2=str(x), y1="0", y2=str(grid.height))
        for x in range(0, grid.width + 1, grid.patch_size)
    ]
    lines += [
        element("line", y1=str(y), y2=str(y), x1="0", x2=str(grid.width))
        for y in range(0, grid.height + 1, grid.patch_size)
    ]
    image = element("image", href=data_url(worked.model_view, "png"), width=str(grid.width), height=str(grid.height))
    counted = say.text(
        "score.worked.patch_count",
        width=grid.width,
        height=grid.height,
        patch=grid.patch_size,
        columns=grid.columns,
        rows=grid.rows,
        count=grid.count,
    )
    cut = element(
        "svg",
        image,
        *lines,
        viewBox=f"0 0 {grid.width} {grid.height}",
        class_="patches",
        role="img",
        aria_label=counted,
    )
    if worked.image_pooling == "cls":
        pooling = say.text("score.worked.class_token", tokens=worked.image_tokens, width=worked.image_width)
    else:
        pooling = say.text("score.worked.attention_pool", tokens=worked.image_tokens, width=worked.image_width)
    return element("div", cut, element("p", text(counted)), element("p", text(pooling)))


def _vectors(worked: WorkedExample, say: Translator) -> str:
    rows = [
        (say.text("score.worked.image_vector"), worked.image_vector, worked.image_norm, "‖v‖"),
        (say.text("score.worked.text_vector"), worked.text_vector, worked.text_norm, "‖t‖"),
    ]
    body = [
        element(
            "tr",
            element("th", text(name), scope="row"),
            element("td", text(str(len(vector)))),
            element("td", text(_some(vector)), class_="numbers"),
            element("td", text(f"{symbol} = {norm:.6f}")),
        )
        for name, vector, norm, symbol in rows
    ]
    head = [
        say.text("score.worked.vector"),
        say.text("score.worked.components"),
        say.text("score.worked.values"),
        say.text("score.worked.norm"),
    ]
    return element("div", _table(head, body), class_="heatmap-scroll")


def _dot(worked: WorkedExample, say: Translator) -> str:
    shown = [int(index) for index in worked.largest_terms(SHOWN_TERMS)]
    bars = [Bar(f"v{i} · t{i}", float(worked.terms[i]), f"{worked.terms[i]:+.4f}") for i in shown]
    rest = worked.dot - float(sum(worked.terms[i] for i in shown))
    title = say.text("score.worked.terms", shown=len(shown), count=len(worked.terms))
    total = say.text(
        "score.worked.dot_sum", shown=f"{worked.dot - rest:+.6f}", rest=f"{rest:+.6f}", dot=f"{worked.dot:.6f}"
    )
    rows = [
        element(
            "tr",
            element("th", text(str(i)), scope="row"),
            *(
                element("td", text(f"{value:+.6f}"))
                for value in (worked.image_vector[i], worked.text_vector[i], worked.terms[i])
            ),
        )
        for i in range(len(worked.terms))
    ]
    table = _table([say.text("score.worked.component"), "v", "t", "v · t"], rows)
    details = element(
        "details",
        element("summary", text(say.text("score.worked.all_terms", count=len(worked.terms)))),
        element("div", table, class_="heatmap-scroll tall"),
    )
    return element("div", element("p", text(title)), bar_chart(bars, title), element("p", text(total)), details)


def render_division(worked: WorkedExample) -> str:
    """From the dot product and the norms to the cosine and the logit."""
    head = worked.head
    product = worked.image_norm * worked.text_norm
    lines = [
        f"cos = (v · t) / (‖v‖ ‖t‖) = {worked.dot:.6f} / ({worked.image_norm:.6f} × {worked.text_norm:.6f})"
        f" = {worked.dot:.6f} / {product:.6f} = {worked.cosine:.6f}",
    ]
    if head.kind == "softmax":
        lines.append(f"logit = exp(logit_scale) × cos = {head.scale:.4f} × {worked.cosine:.6f} = {worked.logit:.6f}")
    else:
        lines.append(
            f"logit = exp(logit_scale) × cos + logit_bias = {head.scale:.4f} × {worked.cosine:.6f} + ({head.bias:.4f})"
            f" = {worked.logit:.6f}"
        )
        lines.append(f"sigmoid(logit) = 1 / (1 + exp(−logit)) = {0.5 * (1 + np.tanh(worked.logit / 2)):.6f}")
    return element("div", *(element("p", element("code", text(line))) for line in lines), class_="formulas")


def render_check(worked: WorkedExample, say: Translator) -> str:
    """Whether that is the score the model itself gives."""
    check = worked.check
    values = {
        "ours": f"{check.ours:.6f}",
        "model": f"{check.model:.6f}",
        "difference": f"{check.difference:.1e}",
        "allowed": f"{check.allowed:.1e}",
    }
    if check.passed:
        return element("p", "✓ ", text(say.text("score.worked.check_passed", **values)), class_="check passed")
    return element(
        "p", "✗ ", text(say.text("score.worked.check_failed", **values)), class_="check failed", role="alert"
    )


def _states_png(worked: WorkedExample) -> bytes:
    """The (positions, width) states as pixels: blue above zero, orange below, white at zero; the pooled row framed."""
    states = worked.text_states
    strength = np.clip(np.abs(states) / (np.quantile(np.abs(states), 0.99) or 1.0), 0, 1)[..., None]
    ends = np.where(states[..., None] >= 0, _channels(POSITIVE), _channels(NEGATIVE))
    colours = (255 * (1 - strength) + ends * strength).astype(np.uint8)
    scaled = np.repeat(colours, 3, axis=0)
    top = worked.pooled_position * 3
    scaled[[max(top - 1, 0), min(top + 3, len(scaled) - 1)]] = 0
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, "PNG")
    return buffer.getvalue()


def _channels(colour: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def _some(vector: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    shown = ", ".join(f"{value:+.4f}" for value in vector[:6])
    return f"({shown}, …)" if len(vector) > 6 else f"({shown})"


def _table(headings: list[str], rows: list[str]) -> str:
    head = element("thead", element("tr", *(element("th", text(heading), scope="col") for heading in headings)))
    return element("table", head, element("tbody", *rows), class_="numbers-table")
