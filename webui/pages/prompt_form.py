"""The layout of the Prompt page: the text and the models' buttons on the left, the candidates on the right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.i18n import Translator
from webui.pages.localize import Localizer
from webui.pages.model_list import build_model_list
from webui.pages.sending import TabId
from webui.prompts.request import PromptTask, WritingSettings
from webui.runtime.catalog import Catalog
from webui.runtime.entries import BART, T5
from webui.views.prompt import PREVIEWS_GO_TO, render_empty_prompt

BUTTONS: Final[Mapping[str, tuple[PromptTask, ...]]] = {
    T5: (PromptTask.TRANSLATE, PromptTask.SHORTEN, PromptTask.EXPAND, PromptTask.FILL),
    BART: (PromptTask.REPAIR, PromptTask.FILL, PromptTask.SHORTEN),
}
"""What a model of each family may have been trained for; a button that the chosen model cannot do is off."""

_LABELS: Final[Mapping[PromptTask, str]] = {
    PromptTask.TRANSLATE: "prompt.task.translate",
    PromptTask.SHORTEN: "prompt.task.shorten",
    PromptTask.EXPAND: "prompt.task.expand",
    PromptTask.REPAIR: "prompt.task.repair",
    PromptTask.FILL: "prompt.task.fill",
}
_FAMILY_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    T5: ("prompt.t5", "prompt.model.t5"),
    BART: ("prompt.bart", "prompt.model.bart"),
}
_ACTION_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const sent = [SENT];
  const { action, place } = button.dataset;
  trigger(sent.includes(action) ? action : "click", { action, place: Number(place) });
});
""".replace("SENT", ", ".join(f'"to_{tab}"' for tab, _ in PREVIEWS_GO_TO))
"""A press that sends a preview to a tab is an event of its own, `to_score` and so on; Gradio reads the names here."""


@dataclass(frozen=True, slots=True)
class FamilyPanel:
    """One family's model, what it was trained for, and its buttons."""

    family: str
    model: gr.Dropdown
    abilities: gr.HTML
    buttons: Mapping[PromptTask, gr.Button]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """What is asked; `settings` by the fields of `WritingSettings`."""

    text: gr.Textbox
    tokens: gr.HTML
    panels: Mapping[str, FamilyPanel]
    direction: gr.Dropdown
    settings: Mapping[str, Block]
    stop: gr.Button
    status: gr.HTML


@dataclass(frozen=True, slots=True)
class PromptStage:
    """What was written, and where the words came from."""

    empty: gr.HTML
    writing: gr.HTML
    candidates: gr.HTML
    preview: gr.Button
    attention: gr.Column
    layer: gr.Dropdown
    table: gr.HTML

    @property
    def presses(self) -> dict[TabId, Callable[..., Any]]:
        """What listens to the buttons that send a candidate's preview to a tab."""
        return {TabId(tab): getattr(self.candidates, f"to_{tab}") for tab, _ in PREVIEWS_GO_TO}


def build_prompt_form(page: Localizer, catalog: Catalog) -> PromptForm:
    """Lay out the left column."""
    text = page.make(
        gr.Textbox, {"label": "prompt.text", "placeholder": "prompt.text.placeholder"}, lines=4, max_lines=12,
        elem_id="prompt-text",
    )  # fmt: skip
    tokens = gr.HTML(apply_default_css=False, elem_id="prompt-tokens")
    panels = {family: _build_panel(page, family, catalog) for family in (T5, BART)}
    direction = page.make(gr.Dropdown, {"label": "prompt.direction"}, choices=[], visible=False, elem_id="direction")
    stop = page.make(gr.Button, {"value": "create.stop"}, variant="stop", visible=False, elem_id="prompt-stop")
    status = gr.HTML(apply_default_css=False, elem_id="prompt-status", elem_classes="run-status")
    with page.make(gr.Accordion, {"label": "prompt.settings"}, open=False, elem_id="prompt-settings"):
        settings = _build_settings(page)
    return PromptForm(text, tokens, panels, direction, settings, stop, status)


def build_prompt_stage(page: Localizer) -> PromptStage:
    """Lay out the right column."""
    empty = page.make(gr.HTML, {"value": render_empty_prompt}, apply_default_css=False, elem_id="prompt-empty")
    writing = gr.HTML(apply_default_css=False, elem_id="prompt-writing")
    candidates = gr.HTML(apply_default_css=False, elem_id="prompt-candidates", js_on_load=_ACTION_JS)
    preview = page.make(gr.Button, {"value": "prompt.preview"}, size="md", visible=False, elem_id="prompt-previews")
    with gr.Column(visible=False, elem_id="prompt-attention", elem_classes="card") as attention:
        layer = page.make(gr.Dropdown, {"label": "prompt.attention.layer"}, choices=[], elem_id="attention-layer")
        table = gr.HTML(apply_default_css=False, elem_id="attention-table")
    return PromptStage(empty, writing, candidates, preview, attention, layer, table)


def _build_panel(page: Localizer, family: str, catalog: Catalog) -> FamilyPanel:
    heading, label = _FAMILY_WORDS[family]
    with gr.Column(elem_classes="prompt-family", elem_id=f"family-{family}"):
        page.make(gr.HTML, {"value": lambda say: f"<h3>{say.text(heading)}</h3>"}, apply_default_css=False)
        model = build_model_list(page, catalog, family, label=label, elem_id=f"{family}-model")
        abilities = gr.HTML(apply_default_css=False, elem_id=f"{family}-abilities")
        with gr.Row(elem_classes="prompt-tasks"):
            buttons = {
                task: page.make(
                    gr.Button, {"value": _LABELS[task]}, size="md", elem_id=f"{family}-{task}", min_width=90,
                    variant="primary" if task in (PromptTask.TRANSLATE, PromptTask.REPAIR) else "secondary",
                )
                for task in BUTTONS[family]
            }  # fmt: skip
    return FamilyPanel(family, model, abilities, buttons)


def _build_settings(page: Localizer) -> dict[str, Block]:
    usual = WritingSettings()
    plain: dict[str, Any] = {"buttons": []}
    method = page.make(
        gr.Radio, {"label": "prompt.settings.method", "choices": _methods}, value=usual.method, elem_id="writing-method"
    )
    candidates = page.make(
        gr.Slider, {"label": "prompt.settings.candidates"}, minimum=1, maximum=8, step=1, value=usual.candidates,
        elem_id="writing-candidates", **plain,
    )  # fmt: skip
    beams = page.make(
        gr.Slider, {"label": "prompt.settings.beams"}, minimum=1, maximum=16, step=1, value=usual.beams, **plain
    )
    temperature = page.make(
        gr.Slider, {"label": "prompt.settings.temperature"}, minimum=0.1, maximum=2, step=0.1,
        value=usual.temperature, **plain,
    )  # fmt: skip
    top_p = page.make(
        gr.Slider, {"label": "prompt.settings.top_p"}, minimum=0.05, maximum=1, step=0.05, value=usual.top_p, **plain
    )
    longest = page.make(
        gr.Slider, {"label": "prompt.settings.max_new_tokens"}, minimum=1, maximum=256, step=1,
        value=usual.max_new_tokens, **plain,
    )  # fmt: skip
    seed = page.make(gr.Number, {"label": "prompt.settings.seed"}, value=usual.seed, step=1, elem_id="writing-seed")
    return {
        "method": method,
        "candidates": candidates,
        "beams": beams,
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": longest,
        "seed": seed,
    }


def _methods(say: Translator) -> list[tuple[str, str]]:
    return [(say.text("prompt.settings.method.beam"), "beam"), (say.text("prompt.settings.method.sample"), "sample")]
