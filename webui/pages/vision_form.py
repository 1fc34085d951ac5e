"""The layout of the Vision page: a picture and a model on the left, the stations on the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.localize import Localizer
from webui.pages.model_list import build_model_list
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.runtime.catalog import Catalog
from webui.runtime.entries import VIT
from webui.views.vision_stations import render_empty_vision

_PIPELINE_JS: Final = "window.diffuscopePipeline(element);"
_PATCHES_JS: Final = "window.diffuscopePatches(element, trigger);"
_ATTENTION_JS: Final = "window.diffuscopeAttention(element, trigger);"


@dataclass(frozen=True, slots=True)
class VisionForm:
    """What is asked: a picture from anywhere, and a model."""

    picture: gr.Image
    last: gr.Button
    gallery: gr.Gallery
    model: gr.Dropdown
    bar: RunBar
    sending: SendBar


@dataclass(frozen=True, slots=True)
class VisionStage:
    """The stations. All of them are there at once; the browser shows the one that is looked at."""

    empty: gr.HTML
    found: gr.Column
    pipeline: gr.HTML
    patches: gr.HTML
    embedding: gr.HTML
    tokens: gr.HTML
    attention: gr.HTML
    work: gr.HTML
    worked: gr.HTML
    rollout: gr.HTML
    label: gr.Dropdown
    explain: RunBar
    relevance: gr.HTML
    classes: gr.HTML


def build_form(page: Localizer, catalog: Catalog) -> VisionForm:
    """Lay out the left column."""
    picture = page.make(
        gr.Image, {"label": "vision.picture"}, sources=["upload", "webcam", "clipboard"], type="filepath",
        format="png", height=260, elem_id="vision-picture",
    )  # fmt: skip
    last = page.make(gr.Button, {"value": "vision.last"}, size="md", elem_id="vision-last")
    with page.make(gr.Accordion, {"label": "vision.gallery"}, open=False, elem_id="vision-recent"):
        gallery = gr.Gallery(
            columns=4, height=220, object_fit="contain", interactive=False, show_label=False, allow_preview=False,
            format="png", buttons=[], elem_id="vision-gallery",
        )  # fmt: skip
    model = build_model_list(page, catalog, VIT, elem_id="vision-model")
    bar = build_run_bar(page, "vision", "vision.run")
    sending = build_send_bar(
        page, "vision", TabId.CREATE, TabId.SCORE, TabId.INSIDE, TabId.LATENTS, TabId.PROMPT, TabId.SEARCH,
        visible=False,
    )  # fmt: skip
    return VisionForm(picture, last, gallery, model, bar, sending)


def build_stage(page: Localizer, able: Callable[[], bool]) -> VisionStage:
    """Lay out the right column; `able` says whether there is a model that can look."""

    def station(name: str, script: str | None = None) -> gr.HTML:
        options: dict[str, Any] = {"js_on_load": script} if script else {}
        return gr.HTML(
            apply_default_css=False, elem_id=f"vision-{name}", elem_classes=["vision-station", f"at-{name}"], **options
        )

    empty = page.make(
        gr.HTML,
        {"value": lambda say: render_empty_vision(say, able())},
        apply_default_css=False,
        elem_id="vision-empty",
    )
    with gr.Column(visible=False, elem_id="vision-found", elem_classes="card") as found:
        pipeline = gr.HTML(apply_default_css=False, elem_id="vision-pipeline", js_on_load=_PIPELINE_JS)
        patches, embedding, tokens = station("patches", _PATCHES_JS), station("embedding"), station("tokens")
        attention = station("attention", _ATTENTION_JS)
        with gr.Column(elem_classes=["vision-station", "at-attention"]):
            work = gr.HTML(apply_default_css=False, elem_id="vision-work-status", elem_classes="run-status")
            worked = gr.HTML(apply_default_css=False, elem_id="vision-worked")
        with gr.Column(elem_classes=["vision-station", "at-relevance"]):
            rollout = gr.HTML(apply_default_css=False, elem_id="vision-rollout")
            label = page.make(
                gr.Dropdown, {"label": "vision.label"}, choices=[], filterable=True, elem_id="vision-label"
            )
            explain = build_run_bar(page, "vision-explain", "vision.explain")
            relevance = gr.HTML(apply_default_css=False, elem_id="vision-relevance")
        classes = station("classes")
    return VisionStage(
        empty, found, pipeline, patches, embedding, tokens, attention, work, worked, rollout, label, explain,
        relevance, classes,
    )  # fmt: skip
