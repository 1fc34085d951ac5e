"""The layout of the page on latents: the pictures on the left, five tabs of what can be done with them on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gradio as gr

from webui.diffusion.samplers import Samplers
from webui.i18n import Translator
from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.localize import Localizer
from webui.pages.model_list import build_model_list
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.runtime.catalog import Catalog
from webui.runtime.entries import TXT2IMG
from webui.views.latents import render_empty

_CANVAS_JS: Final = "window.diffuscopeMarkCells(element, trigger);"
_CHANNELS: Final = tuple(range(1, 5))
_REGION: Final = (("latents.region.x", 0), ("latents.region.y", 0), ("latents.region.w", 4), ("latents.region.h", 4))


@dataclass(frozen=True, slots=True)
class SourceForm:
    """Which pictures are encoded, and with what."""

    picture: gr.UploadButton
    other: gr.UploadButton
    chosen: gr.HTML
    model: gr.Dropdown
    keep_size: gr.Checkbox
    bar: RunBar
    empty: gr.HTML


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The picture's way through the VAE."""

    encoding: gr.HTML
    bar: SendBar
    channels: gr.HTML
    colours: gr.HTML


@dataclass(frozen=True, slots=True)
class Editor:
    """The canvas, the tools, the list, and what comes of it."""

    subject: gr.HTML
    view: gr.Radio
    canvas: gr.HTML
    region: tuple[gr.Number, gr.Number, gr.Number, gr.Number]
    from_x: gr.Number
    from_y: gr.Number
    noise_seed: gr.Number
    strength: gr.Number
    zero_region: gr.Button
    noise_region: gr.Button
    paste: gr.Button
    channel: gr.Dropdown
    gain: gr.Number
    offset: gr.Number
    second: gr.Dropdown
    scale: gr.Button
    zero_channel: gr.Button
    swap: gr.Button
    bits: gr.Slider
    round: gr.Button
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    edits: gr.HTML
    status: gr.HTML
    result: gr.HTML
    bar: SendBar
    channels: gr.HTML


@dataclass(frozen=True, slots=True)
class BetweenForm:
    """Two pictures or two seeds, and the strip between them."""

    what: gr.Radio
    prompt: gr.Textbox
    seed: gr.Number
    other_seed: gr.Number
    frames: gr.Slider
    bar: RunBar
    format: gr.Radio
    strip: gr.HTML


@dataclass(frozen=True, slots=True)
class NoiseForm:
    """The amount of noise, and the question to the model."""

    timestep: gr.Slider
    seed: gr.Number
    closed_form: gr.HTML
    prompt: gr.Textbox
    bar: RunBar
    guess: gr.HTML


@dataclass(frozen=True, slots=True)
class ResumeForm:
    """A recorded run, the step to go on from, and the two pictures."""

    prompt: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    sampler: gr.Dropdown
    record: RunBar
    file: gr.UploadButton
    picture: gr.HTML
    call: gr.Dropdown
    strip: gr.HTML
    take: gr.Button
    resume: RunBar
    result: gr.HTML
    bar: SendBar


def build_source(page: Localizer, catalog: Catalog) -> SourceForm:
    """Lay out the left column."""
    picture = page.make(gr.UploadButton, {"label": "latents.choose"}, file_types=["image"], elem_id="latents-picture")
    other = page.make(gr.UploadButton, {"label": "latents.choose_other"}, file_types=["image"], elem_id="latents-other")
    chosen = gr.HTML(apply_default_css=False, elem_id="latents-chosen")
    model = build_model_list(page, catalog, TXT2IMG, elem_id="latents-model")
    keep_size = page.make(gr.Checkbox, {"label": "latents.keep_size", "info": "latents.keep_size.info"})
    bar = build_run_bar(page, "latents-encode", "latents.encode")
    empty = page.make(gr.HTML, {"value": render_empty}, apply_default_css=False, elem_id="latents-empty")
    return SourceForm(picture, other, chosen, model, keep_size, bar, empty)


def build_anatomy(page: Localizer) -> Anatomy:
    """What is shown of an encoded picture."""
    encoding = gr.HTML(apply_default_css=False, elem_id="latents-encoding")
    bar = _send_bar(page, "latents-decoded")
    with page.make(gr.Accordion, {"label": "latents.channels"}, open=True):
        channels = gr.HTML(apply_default_css=False, elem_id="latents-channels")
    with page.make(gr.Accordion, {"label": "latents.colours"}, open=True):
        colours = gr.HTML(apply_default_css=False, elem_id="latents-colours")
    return Anatomy(encoding, bar, channels, colours)


def build_editor(page: Localizer) -> Editor:
    """The editor's tab."""
    subject = gr.HTML(apply_default_css=False, elem_id="latents-subject")
    view = page.make(gr.Radio, {"label": "latents.view", "choices": _views}, value="colours", elem_id="latents-view")
    canvas = gr.HTML(apply_default_css=False, elem_id="latents-canvas", js_on_load=_CANVAS_JS)
    with gr.Row(elem_classes="latent-tools"):
        x, y, w, h = (_whole(page, label, value, f"latents-{label[-1]}") for label, value in _REGION)
    with gr.Row(elem_classes="latent-tools"):
        zero_region = _button(page, "latents.do.zero_region", "latents-zero-region")
        noise_region = _button(page, "latents.do.noise_region", "latents-noise-region")
        noise_seed = _whole(page, "create.seed", 0, "latents-region-seed")
        strength = _number(page, "latents.strength", 1.0, "latents-strength")
    with gr.Row(elem_classes="latent-tools"):
        paste = _button(page, "latents.do.paste", "latents-paste")
        from_x = _whole(page, "latents.from_x", 0, "latents-from-x")
        from_y = _whole(page, "latents.from_y", 0, "latents-from-y")
    with gr.Row(elem_classes="latent-tools"):
        channel = page.make(gr.Dropdown, {"label": "latents.fact.channel"}, choices=_CHANNELS, value=1,
                            elem_id="latents-channel")  # fmt: skip
        gain = _number(page, "latents.gain", 1.0, "latents-gain")
        offset = _number(page, "latents.offset", 0.0, "latents-offset")
        scale = _button(page, "latents.do.scale", "latents-scale")
        zero_channel = _button(page, "latents.do.zero_channel", "latents-zero-channel")
    with gr.Row(elem_classes="latent-tools"):
        second = page.make(gr.Dropdown, {"label": "latents.second"}, choices=_CHANNELS, value=2,
                           elem_id="latents-second")  # fmt: skip
        swap = _button(page, "latents.do.swap", "latents-swap")
        bits = page.make(gr.Slider, {"label": "latents.bits"}, minimum=1, maximum=12, step=1, value=4, buttons=[],
                         elem_id="latents-bits")  # fmt: skip
        rounding = _button(page, "latents.do.round", "latents-round")
    with gr.Row(elem_classes="latent-tools"):
        undo = _button(page, "latents.undo", "latents-undo")
        redo = _button(page, "latents.redo", "latents-redo")
        reset = _button(page, "latents.reset", "latents-reset")
    edits = gr.HTML(apply_default_css=False, elem_id="latents-edits")
    status = gr.HTML(apply_default_css=False, elem_id="latents-edit-status", elem_classes="run-status")
    result = gr.HTML(apply_default_css=False, elem_id="latents-edited")
    bar = _send_bar(page, "latents-edited")
    channels = gr.HTML(apply_default_css=False, elem_id="latents-edited-channels")
    return Editor(
        subject, view, canvas, (x, y, w, h), from_x, from_y, noise_seed, strength, zero_region, noise_region, paste,
        channel, gain, offset, second, scale, zero_channel, swap, bits, rounding, undo, redo, reset, edits, status,
        result, bar, channels,
    )  # fmt: skip


def build_between(page: Localizer) -> BetweenForm:
    """The interpolation's tab."""
    what = page.make(gr.Radio, {"label": "latents.between.what", "choices": _between_choices}, value="pictures",
                     elem_id="latents-what")  # fmt: skip
    prompt = page.make(gr.Textbox, {"label": "create.prompt"}, lines=1, elem_id="latents-between-prompt")
    with gr.Row(elem_classes="latent-tools"):
        seed = _whole(page, "latents.seed_a", 1, "latents-seed-a")
        other_seed = _whole(page, "latents.seed_b", 2, "latents-seed-b")
        frames = page.make(gr.Slider, {"label": "latents.frames"}, minimum=2, maximum=24, step=1, value=7, buttons=[],
                           elem_id="latents-frames")  # fmt: skip
    bar = build_run_bar(page, "latents-between", "latents.between.run")
    kinds = [("WebP", "webp"), ("GIF", "gif"), ("APNG", "png")]
    kind = page.make(gr.Radio, {"label": "latents.format"}, choices=kinds, value="webp", elem_id="latents-format")
    strip = gr.HTML(apply_default_css=False, elem_id="latents-strip")
    return BetweenForm(what, prompt, seed, other_seed, frames, bar, kind, strip)


def build_noise(page: Localizer) -> NoiseForm:
    """The tab of forward diffusion."""
    timestep = page.make(
        gr.Slider, {"label": "latents.timestep", "info": "latents.timestep.info"}, minimum=0, maximum=999, step=1,
        value=300, buttons=[], elem_id="latents-timestep",
    )  # fmt: skip
    seed = _whole(page, "latents.noise.seed", 0, "latents-noise-seed")
    closed_form = gr.HTML(apply_default_css=False, elem_id="latents-closed-form")
    prompt = page.make(gr.Textbox, {"label": "latents.noise.prompt"}, lines=1, elem_id="latents-guess-prompt")
    bar = build_run_bar(page, "latents-guess", "latents.noise.run")
    guess = gr.HTML(apply_default_css=False, elem_id="latents-guessed")
    return NoiseForm(timestep, seed, closed_form, prompt, bar, guess)


def build_resume(page: Localizer, samplers: Samplers) -> ResumeForm:
    """The tab of recorded runs."""
    prompt = page.make(gr.Textbox, {"label": "create.prompt"}, lines=1, elem_id="latents-run-prompt")
    with gr.Row(elem_classes="latent-tools"):
        seed = _whole(page, "create.seed", 7, "latents-run-seed")
        steps = page.make(gr.Slider, {"label": "create.steps"}, minimum=1, maximum=60, step=1, value=12, buttons=[],
                          elem_id="latents-run-steps")  # fmt: skip
        sampler = page.make(
            gr.Dropdown, {"label": "create.sampler"}, choices=samplers.names_for("noise"), value="DPM++ 2M Karras",
            elem_id="latents-run-sampler",
        )  # fmt: skip
    bar = build_run_bar(page, "latents-record", "latents.run.record")
    file = page.make(gr.UploadButton, {"label": "latents.run.open"}, file_types=[".safetensors"], size="md",
                     elem_id="latents-run-file")  # fmt: skip
    picture = gr.HTML(apply_default_css=False, elem_id="latents-run-picture")
    call = page.make(gr.Dropdown, {"label": "latents.run.call"}, choices=[], value=None, elem_id="latents-call")
    strip = gr.HTML(apply_default_css=False, elem_id="latents-run-strip")
    take = page.make(gr.Button, {"value": "latents.run.take"}, elem_id="latents-take")
    resume = build_run_bar(page, "latents-resume", "latents.run.resume")
    result = gr.HTML(apply_default_css=False, elem_id="latents-resumed")
    sending = _send_bar(page, "latents-resumed")
    return ResumeForm(prompt, seed, steps, sampler, bar, file, picture, call, strip, take, resume, result, sending)


def _send_bar(page: Localizer, name: str) -> SendBar:
    """The ways of the decoded picture above; unseen without one (latents.css). None leads inside: no run drew it so."""
    return build_send_bar(page, name, TabId.CREATE, TabId.SCORE, TabId.VISION, TabId.PROMPT, TabId.SEARCH)


def _views(say: Translator) -> list[tuple[str, str]]:
    channels = [(say.text("latents.channel", number=number), str(number - 1)) for number in _CHANNELS]
    return [(say.text("latents.view.colours"), "colours"), *channels]


def _between_choices(say: Translator) -> list[tuple[str, str]]:
    return [(say.text("latents.between.pictures"), "pictures"), (say.text("latents.between.seeds"), "seeds")]


def _whole(page: Localizer, label: str, value: int, elem_id: str) -> gr.Number:
    return page.make(gr.Number, {"label": label}, value=value, precision=0, elem_id=elem_id, min_width=80)


def _number(page: Localizer, label: str, value: float, elem_id: str) -> gr.Number:
    return page.make(gr.Number, {"label": label}, value=value, step=0.1, elem_id=elem_id, min_width=80)


def _button(page: Localizer, words: str, elem_id: str) -> gr.Button:
    return page.make(gr.Button, {"value": words}, size="md", elem_id=elem_id, min_width=80)
