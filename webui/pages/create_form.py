"""The form of the txt2img page: what is drawn and how. Field names are those of `GenerateRequest`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.request import RANDOM_SEED, GenerateLimits, GenerateRequest
from webui.diffusion.samplers import Samplers
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.localize import Localizer, Updates
from webui.pages.model_list import build_model_list
from webui.runtime.catalog import Catalog
from webui.runtime.entries import TXT2IMG, CatalogEntry

SUGGESTIONS: Final = (
    "create.suggestion.cat",
    "create.suggestion.car",
    "create.suggestion.two",
    "create.suggestion.pizza",
    "create.suggestion.rocket",
)
"""Ready prompts, the first of which stands in the box when somebody opens the page for the first time."""


@dataclass(frozen=True, slots=True)
class CreateForm:
    """The components that hold a `GenerateRequest`, by its field names."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    model: gr.Dropdown
    sampler: gr.Dropdown
    steps: gr.Slider
    guidance_scale: gr.Slider
    width: gr.Number
    height: gr.Number
    seed: gr.Number
    batch_count: gr.Slider
    batch_size: gr.Slider
    translate: gr.Checkbox
    original_prompt: gr.Textbox
    vae: gr.Dropdown

    def by_name(self) -> dict[str, Block]:
        """The components under their field names, for `inputs_kwargs`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def components(self) -> list[Block]:
        """The components in the order of the fields, for `outputs`."""
        return list(self.by_name().values())

    def filled(self, values: Mapping[str, Any]) -> Updates:
        """The updates that put `values` (by field name) into the form; the other fields stay as they are."""
        components = self.by_name()
        return {components[name]: gr.update(value=value) for name, value in values.items()}


def default_request(catalog: Catalog, translator: Translator) -> GenerateRequest:
    """What the form shows to a newcomer: a prompt that is ready to draw, with the first model's own size."""
    request = GenerateRequest(prompt=translator.text(SUGGESTIONS[0]))
    entries = catalog.entries("txt2img")
    if not entries:
        return request
    entry = next((entry for entry in entries if entry.id == request.model), entries[0])
    return replace(request, model=entry.id, **own_settings(entry))


def own_settings(entry: CatalogEntry) -> dict[str, Any]:
    """What the model draws best with, by field name."""
    return {
        "width": entry.default_width,
        "height": entry.default_height,
        "guidance_scale": entry.guidance_scale,
    }


def offered_samplers(samplers: Samplers, entry: CatalogEntry, chosen: str | None) -> Any:
    """The update of the sampler list that goes with a model; `chosen` stays where the model has it."""
    names = samplers.names_for(entry.kind.training)
    usual = next((name for name in (chosen, GenerateRequest("").sampler) if name in names), names[0])
    return gr.update(choices=names, value=usual)


def suggestion_samples(translator: Translator) -> list[list[str]]:
    """The ready prompts as rows of a `gr.Dataset`."""
    return [[translator.text(key)] for key in SUGGESTIONS]


def translated_suggestion(prompt: str, before: Translator, say: Translator) -> str | None:
    """The ready prompt that `prompt` is, in the new language; None when somebody wrote it."""
    return next((say.text(key) for key in SUGGESTIONS if before.text(key) == prompt), None)


def build_prompts(page: Localizer, ready_prompt: str) -> tuple[gr.Textbox, gr.Textbox, gr.HTML, gr.Dataset]:
    """The prompt, the negative prompt, the token counter between them, and ready prompts to click."""
    prompt = page.make(
        gr.Textbox,
        {"label": "create.prompt", "placeholder": "create.prompt.placeholder", "info": "create.prompt.info"},
        value=ready_prompt,
        lines=3,
        max_lines=8,
        elem_id="prompt",
        autofocus=True,
    )
    tokens = gr.HTML(apply_default_css=False, elem_id="tokens")
    suggestions = page.make(
        gr.Dataset,
        {"label": "create.suggestions", "samples": suggestion_samples},
        components=[gr.Textbox(visible=False)],
        elem_id="suggestions",
        type="values",
    )
    negative_prompt = page.make(
        gr.Textbox,
        {"label": "create.negative_prompt", "placeholder": "create.negative_prompt.placeholder"},
        lines=1,
        max_lines=6,
        elem_id="negative-prompt",
    )
    return prompt, negative_prompt, tokens, suggestions


def build_translation(page: Localizer, refusal: Callable[[], UserError | None]) -> tuple[gr.Checkbox, gr.Textbox]:
    """The switch that has a Thai prompt translated before it is drawn, and what a translated prompt was before.

    `refusal` says why no model here can translate, None when one can; then the switch is off and says so.
    """
    original = page.make(
        gr.Textbox, {"label": "create.translated_from", "placeholder": "create.translated_from.none"}, lines=1,
        max_lines=4, interactive=False, elem_id="original-prompt",
    )  # fmt: skip
    translate = page.make(
        gr.Checkbox, {"label": "create.translate", "info": lambda say: translation_info(refusal(), say)}, value=False,
        interactive=refusal() is None, container=False, elem_id="translate",
    )  # fmt: skip
    return translate, original


def translation_info(refusal: UserError | None, say: Translator) -> str:
    """What the switch does, or why it is off."""
    return say.text("create.translate.info") if refusal is None else say.error(refusal)


def build_sampling(
    page: Localizer, catalog: Catalog, samplers: Samplers, defaults: GenerateRequest, limits: GenerateLimits
) -> tuple[gr.Dropdown, gr.HTML, gr.Dropdown, gr.Slider, gr.Slider]:
    """Model, what is known of it, sampler, steps and guidance."""
    model = build_model_list(page, catalog, TXT2IMG, first=defaults.model, elem_id="model")
    about = gr.HTML(apply_default_css=False, elem_id="about-model")
    sampler = page.make(
        gr.Dropdown, {"label": "create.sampler"}, choices=samplers.names(), value=defaults.sampler, elem_id="sampler"
    )
    steps = page.make(
        gr.Slider,
        {"label": "create.steps", "info": "create.steps.info"},
        minimum=1,
        maximum=limits.max_steps,
        step=1,
        buttons=[],
        value=defaults.steps,
        elem_id="steps",
    )
    guidance_scale = page.make(
        gr.Slider,
        {"label": "create.guidance_scale", "info": "create.guidance_scale.info"},
        minimum=0,
        maximum=limits.max_guidance_scale,
        step=0.5,
        buttons=[],
        value=defaults.guidance_scale,
        elem_id="guidance-scale",
    )
    return model, about, sampler, steps, guidance_scale


def build_size(page: Localizer, defaults: GenerateRequest) -> tuple[gr.Number, gr.Number]:
    """Width and height in pixels."""
    with gr.Row(elem_classes="pair"):
        width = page.make(
            gr.Number, {"label": "create.width"}, value=defaults.width, step=8, min_width=120, elem_id="width"
        )
        height = page.make(
            gr.Number, {"label": "create.height"}, value=defaults.height, step=8, min_width=120, elem_id="height"
        )
    return width, height


def build_seed(page: Localizer) -> tuple[gr.Number, gr.Button, gr.Button]:
    """The seed, a button for a new one each time, and a button for the one used last."""
    with gr.Row(elem_classes="seed-row"):
        seed = page.make(
            gr.Number,
            {"label": "create.seed", "info": "create.seed.info"},
            value=RANDOM_SEED,
            step=1,
            min_width=140,
            scale=2,
            elem_id="seed",
        )
        with gr.Column(min_width=110, scale=1, elem_classes="seed-buttons"):
            random_seed = page.make(gr.Button, {"value": "create.seed.random"}, size="sm", elem_id="random-seed")
            last_seed = page.make(gr.Button, {"value": "create.seed.last"}, size="sm", elem_id="last-seed")
    return seed, random_seed, last_seed


def build_batch(page: Localizer, limits: GenerateLimits) -> tuple[gr.Slider, gr.Slider]:
    """How many pictures: runs one after another, and pictures drawn together in a run."""
    with gr.Row(elem_classes="pair"):
        count, size = (
            page.make(
                gr.Slider, {"label": label}, minimum=1, maximum=maximum, step=1, buttons=[], value=1, min_width=140,
                elem_id=elem_id,
            )
            for label, maximum, elem_id in (
                ("create.batch_count", limits.max_batch_count, "batch-count"),
                ("create.batch_size", limits.max_batch_size, "batch-size"),
            )
        )  # fmt: skip
    return count, size
