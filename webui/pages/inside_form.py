"""The layout of the page "Inside": what is looked at on top, then the diagram, the scrubber and the panels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.bundled import bundled_traces
from webui.diffusion.request import GenerateLimits, GenerateRequest
from webui.diffusion.samplers import Samplers
from webui.diffusion.trace import Trace
from webui.i18n import Translator
from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.create_form import default_request, offered_samplers, own_settings
from webui.pages.localize import Localizer, Updates
from webui.pages.model_list import build_model_list
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.runtime.catalog import Catalog
from webui.runtime.entries import TXT2IMG
from webui.views.inside_words import inside_words

_ROOT: Final = '<div class="inside-root"></div>'


@dataclass(frozen=True, slots=True)
class RecordForm:
    """The components that hold the request of a recording, by the field names of `GenerateRequest`."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    model: gr.Dropdown
    sampler: gr.Dropdown
    steps: gr.Slider
    guidance_scale: gr.Slider
    width: gr.Number
    height: gr.Number
    seed: gr.Number

    def by_name(self) -> dict[str, Block]:
        """The components under their field names."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def filled(self, values: Mapping[str, Any]) -> Updates:
        """The updates that put `values` (by field name) into the form; what it has no field for is left out."""
        return {part: gr.update(value=values[name]) for name, part in self.by_name().items() if name in values}

    def for_model(self, catalog: Catalog, samplers: Samplers, model: str | None, sampler: str | None) -> Updates:
        """What goes with a model that was chosen: its own guidance and size, and its samplers."""
        entry = next((entry for entry in catalog.entries(TXT2IMG) if entry.id == model), None)
        if entry is None:
            return {}
        return self.filled(own_settings(entry)) | {self.sampler: offered_samplers(samplers, entry, sampler)}


@dataclass(frozen=True, slots=True)
class InsideParts:
    """Everything on the page beside the form."""

    heads: gr.Checkbox
    record: RunBar
    bundled: gr.Dropdown
    upload: gr.UploadButton
    save: gr.DownloadButton
    bar: SendBar
    problem: gr.HTML
    diagram: gr.HTML
    scrubber: gr.HTML
    viewer: gr.HTML
    other_prompt: gr.Textbox
    other_seed: gr.Number
    other_guidance: gr.Number
    other_sampler: gr.Dropdown
    compare: RunBar
    other_bundled: gr.Dropdown
    compared: gr.HTML
    word: gr.Dropdown
    ablate: RunBar
    ablated: gr.HTML
    rivals: gr.Textbox
    lock_in: RunBar
    locked: gr.HTML


def build_record_form(
    page: Localizer, catalog: Catalog, samplers: Samplers, limits: GenerateLimits
) -> tuple[RecordForm, gr.Checkbox, RunBar]:
    """What to record: a prompt and a button; the settings are folded away."""
    defaults = default_request(catalog, page.first_language)
    prompt = page.make(
        gr.Textbox, {"label": "create.prompt", "placeholder": "create.prompt.placeholder"}, value=defaults.prompt,
        lines=2, max_lines=6, elem_id="inside-prompt",
    )  # fmt: skip
    record = build_run_bar(page, "inside-record", "inside.record")
    with page.make(gr.Accordion, {"label": "inside.settings"}, open=False, elem_id="inside-settings"):
        negative = page.make(gr.Textbox, {"label": "create.negative_prompt"}, lines=1, elem_id="inside-negative")
        with gr.Row(elem_classes="pair"):
            model = build_model_list(page, catalog, TXT2IMG, first=defaults.model, elem_id="inside-model")
            sampler = page.make(
                gr.Dropdown, {"label": "create.sampler"}, choices=samplers.names(), value=defaults.sampler,
                elem_id="inside-sampler",
            )  # fmt: skip
        with gr.Row(elem_classes="pair"):
            steps = page.make(
                gr.Slider, {"label": "create.steps"}, minimum=1, maximum=limits.max_steps, step=1, buttons=[],
                value=defaults.steps, elem_id="inside-steps",
            )  # fmt: skip
            guidance = page.make(
                gr.Slider, {"label": "create.guidance_scale"}, minimum=0, maximum=limits.max_guidance_scale, step=0.5,
                buttons=[], value=defaults.guidance_scale, elem_id="inside-cfg",
            )  # fmt: skip
        with gr.Row(elem_classes="pair"):
            width = page.make(gr.Number, {"label": "create.width"}, value=defaults.width, step=8, min_width=90)
            height = page.make(gr.Number, {"label": "create.height"}, value=defaults.height, step=8, min_width=90)
            seed = page.make(
                gr.Number, {"label": "create.seed"}, value=defaults.seed, step=1, min_width=110, elem_id="inside-seed"
            )
        heads = page.make(
            gr.Checkbox, {"label": "inside.heads", "info": "inside.heads.info"}, value=True, elem_id="inside-heads"
        )
    form = RecordForm(prompt, negative, model, sampler, steps, guidance, width, height, seed)
    return form, heads, record


def build_parts(
    page: Localizer,
    samplers: Samplers,
    heads: gr.Checkbox,
    record: RunBar,
    source: tuple[gr.Dropdown, gr.UploadButton, gr.DownloadButton, SendBar, gr.HTML],
) -> InsideParts:
    """What is shown of a run. `source` is what `build_source` made."""
    diagram = _browser_part(page, "inside-diagram", "mountDiagram(element, props, watch)")
    with gr.Column(elem_id="inside-scrubber"):
        scrubber = _browser_part(page, "inside-scrubber-part", "mountScrubber(element, props, watch)")
    wishes = ", ".join(f'(wish) => trigger("{event}", wish)' for event in ("again", "resume"))
    viewer = _browser_part(page, "inside-viewer", f"mountViewer(element, props, watch, {wishes})")
    with page.make(gr.Accordion, {"label": "inside.ablation"}, open=True, elem_id="inside-ablation"):
        page.make(gr.Markdown, {"value": "inside.ablation.about"})
        word = page.make(gr.Dropdown, {"label": "inside.ablation.word"}, choices=[], elem_id="inside-word")
        ablate = build_run_bar(page, "inside-ablate", "inside.ablation.run")
        ablated = _browser_part(page, "inside-ablated", "mountAblation(element, props, watch)")
    with page.make(gr.Accordion, {"label": "inside.lockin"}, open=True, elem_id="inside-lockin"):
        page.make(gr.Markdown, {"value": "inside.lockin.about"})
        rivals = page.make(gr.Textbox, {"label": "inside.lockin.rivals"}, lines=2, elem_id="inside-rivals")
        lock_in = build_run_bar(page, "inside-lock", "inside.lockin.run")
        locked = _browser_part(page, "inside-locked", "mountLockIn(element, props, watch)")
    with page.make(gr.Accordion, {"label": "inside.compare"}, open=True, elem_id="inside-compare"):
        page.make(gr.Markdown, {"value": "inside.compare.about"})
        with gr.Row(elem_classes="pair"):
            prompt = page.make(gr.Textbox, {"label": "create.prompt"}, lines=1, elem_id="inside-other-prompt", scale=3)
            seed = page.make(gr.Number, {"label": "create.seed"}, step=1, min_width=100, elem_id="inside-other-seed")
            guidance = page.make(
                gr.Number, {"label": "create.guidance_scale"}, step=0.5, min_width=100, elem_id="inside-other-guidance"
            )
            sampler = page.make(
                gr.Dropdown, {"label": "create.sampler"}, choices=samplers.names(), value=None, min_width=140,
                elem_id="inside-other-sampler",
            )  # fmt: skip
        compare = build_run_bar(page, "inside-compare", "inside.compare.run")
        bundled = page.make(
            gr.Dropdown, {"label": "inside.compare.bundled", "choices": bundled_choices}, value=None,
            elem_id="inside-other-bundled",
        )  # fmt: skip
        compared = _browser_part(page, "inside-compared", "mountCompare(element, props, watch)")
    return InsideParts(
        heads, record, *source, diagram, scrubber, viewer, prompt, seed, guidance, sampler, compare, bundled, compared,
        word, ablate, ablated, rivals, lock_in, locked,
    )  # fmt: skip


def build_source(page: Localizer) -> tuple[gr.Dropdown, gr.UploadButton, gr.DownloadButton, SendBar, gr.HTML]:
    """Shipped runs and files; and of the run looked at its file, the ways of its picture, a problem."""
    bundled = page.make(
        gr.Dropdown, {"label": "inside.bundled", "choices": bundled_choices}, value=None, elem_id="inside-bundled"
    )
    with gr.Row(elem_classes="pair"):
        upload = page.make(
            gr.UploadButton, {"label": "inside.open"}, file_types=[".safetensors"], size="md", elem_id="inside-open"
        )
        save = page.make(gr.DownloadButton, {"label": "inside.save"}, size="md", visible=False, elem_id="inside-save")
    bar = build_send_bar(
        page, "inside", TabId.CREATE, TabId.SCORE, TabId.LATENTS, TabId.VISION, TabId.PROMPT, TabId.SEARCH,
        visible=False,
    )  # fmt: skip
    problem = gr.HTML(apply_default_css=False, elem_id="inside-problem", elem_classes="run-status")
    return bundled, upload, save, bar, problem


def bundled_choices(say: Translator) -> list[tuple[str, str]]:
    """The shipped traces, by what they show."""
    return [(say.text("inside.bundled.choice", name=name.replace("-", " ")), name) for name in bundled_traces()]


def form_values(request: GenerateRequest) -> dict[str, Any]:
    """The fields of the form from a request."""
    return {
        "prompt": request.prompt, "negative_prompt": request.negative_prompt, "model": request.model,
        "sampler": request.sampler, "steps": request.steps, "guidance_scale": request.guidance_scale,
        "width": request.width, "height": request.height, "seed": request.seed,
    }  # fmt: skip


def longest_word(trace: Trace) -> int | None:
    """The number of the longest word: most often what the prompt is about."""
    words = trace.header.words
    return max(range(len(words)), key=lambda number: len(words[number]), default=None)


def recorded_key(trace: Trace) -> str:
    """The message key for a recording that is done."""
    if trace.header.denoiser == "unet":
        return "inside.recorded.stopped" if trace.header.stopped else "inside.recorded"
    return "inside.recorded.stopped.transformer" if trace.header.stopped else "inside.recorded.transformer"


def _browser_part(page: Localizer, name: str, mount: str) -> gr.HTML:
    """A part that the browser draws, from JSON in its value and the words in the reader's language."""
    return page.make(
        gr.HTML, {"words": inside_words}, value="", html_template=_ROOT, apply_default_css=False, elem_id=name,
        js_on_load=f"window.diffuscopeInside.{mount};",
    )  # fmt: skip
