"""The layout of the similarity page: what is asked on the left, what was found on the right, more tools below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gradio as gr

from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.localize import Localizer
from webui.pages.model_list import build_model_list
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.runtime.catalog import Catalog
from webui.runtime.entries import CLIP
from webui.views.score_parts import render_empty_score, render_tray

_CELL_JS: Final = """
element.addEventListener("click", (event) => {
  const cell = event.target.closest("button[data-picture]");
  if (!cell) return;
  for (const other of element.querySelectorAll("button[aria-pressed=true]"))
    other.setAttribute("aria-pressed", "false");
  cell.setAttribute("aria-pressed", "true");
  trigger("click", { picture: Number(cell.dataset.picture), text: Number(cell.dataset.text) });
});
"""
_RECENT_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-file]");
  if (button) trigger("click", { file: button.dataset.file });
});
"""
_TRAY_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-remove]");
  if (button) trigger("click", { place: Number(button.dataset.remove) });
});
"""


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """What is asked: pictures, texts, a model."""

    upload: gr.UploadButton
    camera: gr.Image
    clear: gr.Button
    tray: gr.HTML
    gallery: gr.Accordion
    recent: gr.HTML
    texts: gr.Textbox
    model: gr.Dropdown
    bar: RunBar
    example: gr.Button


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """What was found: the matrix with its figures, the cell looked at, rankings and the map."""

    empty: gr.HTML
    found: gr.Column
    remarks: gr.HTML
    measure: gr.Radio
    matrix: gr.HTML
    cell: gr.Column
    cell_status: gr.HTML
    bar: SendBar
    worked: gr.HTML
    explain: RunBar
    relevance: gr.HTML
    csv: gr.Button
    json: gr.Button
    payload: gr.JSON
    rankings: gr.HTML
    text_matrix: gr.HTML
    vector_map: gr.HTML


def build_form(page: Localizer, catalog: Catalog, *, with_gallery: bool) -> ScoreForm:
    """Lay out the left column."""
    with gr.Row(elem_classes="pair"):
        upload = page.make(
            gr.UploadButton, {"label": "score.upload"}, file_count="multiple", file_types=["image"],
            elem_id="score-upload", size="md",
        )  # fmt: skip
        clear = page.make(gr.Button, {"value": "score.clear"}, size="md", elem_id="score-clear")
    tray = page.make(
        gr.HTML, {"value": lambda say: render_tray((), say)}, apply_default_css=False, elem_id="score-tray",
        js_on_load=_TRAY_JS,
    )  # fmt: skip
    with page.make(
        gr.Accordion, {"label": "score.recent"}, open=False, visible=with_gallery, elem_id="score-gallery"
    ) as gallery:
        recent = gr.HTML(apply_default_css=False, elem_id="score-recent", js_on_load=_RECENT_JS)
    with page.make(gr.Accordion, {"label": "score.camera"}, open=False):
        camera = gr.Image(sources=["webcam"], type="filepath", show_label=False, elem_id="score-camera")
    texts = page.make(
        gr.Textbox, {"label": "score.texts", "placeholder": "score.texts.placeholder"}, lines=5, max_lines=14,
        elem_id="score-texts",
    )  # fmt: skip
    model = build_model_list(page, catalog, CLIP, elem_id="score-model")
    bar = build_run_bar(page, "score", "score.run")
    example = page.make(gr.Button, {"value": "score.example"}, size="md", elem_id="score-example")
    return ScoreForm(upload, camera, clear, tray, gallery, recent, texts, model, bar, example)


def build_stage(page: Localizer) -> ScoreStage:
    """Lay out the right column."""
    empty = page.make(gr.HTML, {"value": render_empty_score}, apply_default_css=False, elem_id="score-empty")
    with gr.Column(visible=False, elem_id="score-found", elem_classes="card") as found:
        remarks = gr.HTML(apply_default_css=False, elem_id="score-remarks")
        measure = page.make(gr.Radio, {"label": "score.measure"}, choices=[], elem_id="score-measure")
        matrix = gr.HTML(apply_default_css=False, elem_id="score-matrix", js_on_load=_CELL_JS)
        with gr.Row(elem_classes="pair"):
            csv = page.make(gr.Button, {"value": "score.download_csv"}, size="sm", elem_id="score-csv")
            json = page.make(gr.Button, {"value": "score.download_json"}, size="sm", elem_id="score-json")
        payload = gr.JSON(visible="hidden", elem_id="score-payload")
        cell_status = gr.HTML(apply_default_css=False, elem_id="cell-status", elem_classes="run-status")
        with gr.Column(visible=False, elem_id="score-cell") as cell:
            sending = build_send_bar(
                page, "score", TabId.CREATE, TabId.INSIDE, TabId.LATENTS, TabId.VISION, TabId.PROMPT, TabId.SEARCH
            )
            worked = gr.HTML(apply_default_css=False, elem_id="score-worked")
            explain = build_run_bar(page, "explain", "score.explain")
            relevance = gr.HTML(apply_default_css=False, elem_id="score-relevance")
        with page.make(gr.Accordion, {"label": "score.rankings"}, open=True):
            rankings = gr.HTML(apply_default_css=False, elem_id="score-rankings")
        with page.make(gr.Accordion, {"label": "score.text_matrix"}, open=False):
            text_matrix = gr.HTML(apply_default_css=False, elem_id="score-text-matrix")
        with page.make(gr.Accordion, {"label": "score.map.heading"}, open=False):
            vector_map = gr.HTML(apply_default_css=False, elem_id="score-map")
    return ScoreStage(
        empty, found, remarks, measure, matrix, cell, cell_status, sending, worked, explain, relevance, csv, json,
        payload, rankings, text_matrix, vector_map,
    )  # fmt: skip
