"""Who looks at whom: attention over the picture, switched in the browser, and one row of it in numbers."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import numpy as np

from webui.i18n import Translator
from webui.views.colours import sequential_stops
from webui.views.markup import element, text
from webui.views.vision_stations import render_grid

if TYPE_CHECKING:
    from webui.vision.attention import AttentionRows, SeenPicture, WorkedAttention

LEVELS: Final = 65535
"""Weights travel as 16-bit whole numbers: what the browser shows is rounded to 1/65535, the worked row is exact."""

_WORKED_ROWS: Final = 8


def render_attention(
    seen: SeenPicture, rows: AttentionRows, say: Translator, layer: int = 0, head: int = -1, token: int = 0
) -> str:
    """The explorer: controls for layer and head (-1 is their mean), the picture under one query's weights, an atlas.

    `window.diffuscopeAttention` (assets/vision.js) fills it in and switches without asking the server.
    """
    packed = np.round(np.clip(rows.weights, 0, 1) * LEVELS).astype("<u2").tobytes()
    said = say.text("vision.attention.said")
    heads = [element("option", text(say.text("vision.attention.mean")), value="-1")]
    heads += [element("option", text(str(n + 1)), value=str(n)) for n in range(seen.heads)]
    layers = [element("option", text(str(n + 1)), value=str(n)) for n in range(seen.layers)]
    controls = element(
        "div",
        element("label", text(say.text("vision.attention.layer")), element("select", *layers, data_control="layer")),
        element("label", text(say.text("vision.attention.head")), element("select", *heads, data_control="head")),
        element("button", text(say.text("vision.attention.class")), type="button", data_query="0"),
        class_="attention-controls",
    )
    canvas = element("canvas", class_="attention-atlas", role="img", tabindex="0", aria_label=_atlas_name(seen, say))
    table = element("details", element("summary", text(say.text("vision.attention.table"))), element("div"))
    explain = say.text("vision.attention.explain", layers=seen.layers, heads=seen.heads, tokens=seen.grid.count + 1)
    gradient = ", ".join(sequential_stops())
    legend = element(
        "div", element("span", text("0")),
        element("span", class_="scale", style=f"background:linear-gradient(90deg, {gradient})", aria_hidden="true"),
        element("output", class_="attention-most"), class_="legend",
    )  # fmt: skip
    return element(
        "div",
        element("p", text(explain)),
        controls,
        element(
            "div",
            element("div", render_grid(seen, ""), legend, element("p", aria_live="polite", class_="attention-said")),
            element("figure", canvas, element("figcaption", text(_atlas_name(seen, say)))),
            class_="attention-views",
        ),
        table,
        element("button", text(say.text("vision.attention.work")), type="button", data_work=True, class_="work"),
        class_="attention",
        data_weights=base64.b64encode(packed).decode("ascii"),
        data_queries=json.dumps(rows.queries),
        data_shape=json.dumps([seen.layers, seen.heads, len(rows.queries), seen.grid.count + 1]),
        data_grid=json.dumps([seen.grid.rows, seen.grid.columns]),
        data_state=json.dumps([layer, head, token]),
        data_scale=json.dumps(sequential_stops()),
        data_said=said,
        data_patch_name=say.text("vision.attention.patch_name"),
        data_mean=say.text("vision.attention.mean"),
    )


def render_worked_attention(worked: WorkedAttention, say: Translator) -> str:
    """q, k and v, the products, the scaling, the softmax and the weighted sum of one row, and the check line."""
    width = len(worked.query)
    name = _token_name(worked, worked.token, say)
    heading = say.text("vision.worked", layer=worked.layer + 1, head=worked.head + 1, name=name)
    order = np.argsort(-worked.weights, kind="stable")
    shown = [int(place) for place in order[:_WORKED_ROWS]]
    rest = 1.0 - float(worked.weights[shown].sum())
    headings = [
        say.text("vision.worked.key"), "k", "q · k", f"q · k / √{width}", say.text("vision.worked.weight"), "v",
    ]  # fmt: skip
    everything = element(
        "details",
        element("summary", text(say.text("vision.worked.all", count=len(worked.weights)))),
        element("div", _table(worked, [int(p) for p in order], headings, say), class_="heatmap-scroll tall"),
    )
    best = shown[0]
    first_product = f"{worked.query[0]:+.4f}·{worked.keys[best, 0]:+.4f} + … = {worked.dots[best]:+.4f}"
    values = {"difference": f"{worked.difference:.1e}"}
    passed = worked.passed
    verdict = say.text("vision.worked.passed" if passed else "vision.worked.failed", **values)
    return element(
        "section",
        element("h4", text(heading)),
        element("p", element("code", text(f"q = {_numbers(worked.query)}")), class_="formula"),
        element("p", element("code", text(f"q · k = {first_product}")), class_="formula"),
        element("p", text(say.text("vision.worked.rows", shown=len(shown), rest=f"{rest:.4f}"))),
        element("div", _table(worked, shown, headings, say), class_="heatmap-scroll"),
        everything,
        element("p", element("code", text(f"Σ weight = {worked.weights.sum():.6f}")), class_="formula"),
        element("p", element("code", text(f"Σ weight · v = {_numbers(worked.output)}")), class_="formula"),
        element("p", "✓ " if passed else "✗ ", text(verdict), class_=f"check {'passed' if passed else 'failed'}"),
        class_="worked-attention",
    )


def _table(worked: WorkedAttention, places: list[int], headings: list[str], say: Translator) -> str:
    rows = [
        element(
            "tr",
            element("th", text(_token_name(worked, place, say)), scope="row"),
            *(
                element("td", text(cell))
                for cell in (
                    _numbers(worked.keys[place], 3),
                    f"{worked.dots[place]:+.4f}",
                    f"{worked.scaled[place]:+.4f}",
                    f"{worked.weights[place]:.6f}",
                    _numbers(worked.values[place], 3),
                )
            ),
        )
        for place in places
    ]
    head = element("thead", element("tr", *(element("th", text(heading), scope="col") for heading in headings)))
    return element("table", head, element("tbody", *rows), class_="numbers-table")


def _token_name(worked: WorkedAttention, token: int, say: Translator) -> str:
    columns = worked.grid.columns
    if token == 0:
        return "[CLS]"
    row, column = divmod(token - 1, columns)
    return say.text("vision.patch", number=token, row=row + 1, column=column + 1)


def _numbers(vector: np.ndarray, shown: int = 6) -> str:
    first = ", ".join(f"{value:+.4f}" for value in vector[:shown])
    return f"({first}, …)" if len(vector) > shown else f"({first})"


def _atlas_name(seen: SeenPicture, say: Translator) -> str:
    return say.text("vision.attention.atlas", layers=seen.layers, heads=seen.heads)
