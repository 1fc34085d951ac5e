"""The txt2img page: a prompt, a large button, the picture as it takes shape, and what it was drawn from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.request import RANDOM_SEED
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages import create_form as form_parts
from webui.pages.create_files import FilesPart, build_vae
from webui.pages.create_form import CreateForm
from webui.pages.create_run import Run, follow_run
from webui.pages.create_stage import Stage, build_controls, build_stage, drawn_from, selected_picture
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.picture_check import PictureCheckPart
from webui.pages.reader import Readers, owner_of
from webui.pages.saved_form import usable_values
from webui.pages.sending import SentPicture
from webui.runtime.entries import CatalogEntry
from webui.store.infotext import carries_infotext, parse_infotext, read_infotext
from webui.studio import Studio
from webui.tasks.files import other_files, usable_files
from webui.tasks.translate import thai_translator
from webui.tasks.txt2img import count_prompt_tokens
from webui.views.model import render_model
from webui.views.notice import PictureNotice, render_notice
from webui.views.tokens import render_tokens

_STORAGE_KEY: Final = "diffuscope.create"
_STORAGE_SECRET: Final = "the form is no secret; a fixed value keeps it readable after a restart"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Kept:
    """What a session keeps of this page while its language changes."""

    run: Run
    selected: int
    notice: PictureNotice | None
    prompt: str
    model: str | None


@dataclass(frozen=True, slots=True)
class CreatePage(Page):
    """The txt2img page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    form: CreateForm
    stage: Stage
    tokens: gr.HTML
    suggestions: gr.Dataset
    about_model: gr.HTML
    notice: gr.HTML
    last_notice: gr.State
    random_seed: gr.Button
    last_seed: gr.Button
    from_picture: gr.UploadButton
    send_prompt: gr.Button
    saved: gr.BrowserState
    check: PictureCheckPart
    panels: gr.Column
    files: FilesPart

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> CreatePage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        defaults = form_parts.default_request(studio.catalog, page.first_language)
        limits = studio.settings.limits
        with gr.Row(elem_id="create"):
            with gr.Column(elem_id="ask", elem_classes="card"):
                prompt, negative_prompt, tokens, suggestions = form_parts.build_prompts(page, defaults.prompt)
                translate, original = form_parts.build_translation(page, partial(_no_translator, studio))
                send_prompt = page.make(
                    gr.Button, {"value": "create.send_to_prompt"}, size="sm", elem_id="send-to-prompt"
                )
                files = FilesPart.build(page, studio.catalog)
                controls = build_controls(page)
                notice = gr.HTML(apply_default_css=False, elem_id="notice")
                panels = gr.Column(elem_id="extension-panels")  # the frame fills it with what extensions add
            with gr.Column(elem_id="stage"):
                stage = build_stage(page, controls)
                check = PictureCheckPart.build(studio, readers, page, stage)
            with gr.Column(elem_id="knobs", elem_classes="card"):
                sampling = form_parts.build_sampling(page, studio.catalog, studio.samplers, defaults, limits)
                model, about, sampler, steps, guidance = sampling
                vae = build_vae(page, studio.catalog)
                width, height = form_parts.build_size(page, defaults)
                seed, random_seed, last_seed = form_parts.build_seed(page)
                batch_count, batch_size = form_parts.build_batch(page, limits)
                from_picture = page.make(
                    gr.UploadButton, {"label": "create.from_picture"}, size="sm", elem_id="from-picture"
                )
        form = CreateForm(
            prompt, negative_prompt, model, sampler, steps, guidance, width, height, seed, batch_count, batch_size,
            translate, original, vae,
        )  # fmt: skip
        saved = gr.BrowserState(None, storage_key=_STORAGE_KEY, secret=_STORAGE_SECRET)
        built = cls(
            studio, readers, form, stage, tokens, suggestions, about, notice, gr.State(None), random_seed, last_seed,
            from_picture, send_prompt, saved, check, panels, files,
        )  # fmt: skip
        built._wire_run()
        built._wire_form()
        return built

    def remembered(self) -> list[Block]:
        """The form of last time."""
        return [self.saved]

    def opening(self, remembered: Sequence[Any], say: Translator) -> Updates:
        """What a page that has just opened shows: the form as it was left, or ready for a first picture."""
        (saved,) = remembered
        defaults = form_parts.default_request(self.studio.catalog, say)
        known = {"prompt": defaults.prompt, "model": defaults.model} | usable_values(saved, self.studio)
        able = _no_translator(self.studio) is None
        switch: Updates = {
            self.form.translate: gr.update(value=able and known.get("translate") is True, interactive=able)
        }
        return merged(self.form.filled(known), switch, self._beside_form(known["prompt"], known["model"], say))

    def opening_outputs(self) -> list[Block]:
        """Everything that `opening` changes."""
        return [*self.form.components(), self.tokens, self.about_model, self.suggestions]

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language; a ready prompt that nobody has touched is translated too."""
        kept, say = Kept(*change.kept), change.say
        translated = form_parts.translated_suggestion(kept.prompt, change.before, say)
        return merged(
            self.stage.said_again(kept.run, kept.selected, say),
            self._beside_form(translated or kept.prompt, kept.model, say),
            {self.notice: render_notice(kept.notice, say)},
            {self.form.prompt: gr.update(value=translated)} if translated else {},
        )

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        stage = self.stage
        beside = [self.tokens, self.about_model, self.suggestions, self.notice, self.form.prompt]
        shown = [stage.status, stage.translation, stage.preview, stage.parameters, stage.controls.problem]
        return [*shown, *beside]

    def kept(self) -> list[Block]:
        """The components that hold the fields of `Kept`, in their order."""
        return [self.stage.run, self.stage.selected, self.last_notice, self.form.prompt, self.form.model]

    def leave(self, request: gr.Request) -> None:
        """The page has closed: nobody waits for its pictures any more."""
        self.studio.jobs.cancel_owner(owner_of(request))

    def with_prompt(self, words: str, original: str = "") -> Updates:
        """Put a prompt into the form; `original` is what it was translated from, if it was."""
        return self.form.filled({"prompt": words, "original_prompt": original})

    def prompt_outputs(self) -> list[Block]:
        """Everything that `with_prompt` changes."""
        return [self.form.prompt, self.form.original_prompt]

    def read_picture(self, path: Path, name: str, say: Translator) -> Updates:
        """Fill the form from the infotext in a PNG file called `name`, and say what of it was not used."""
        notice, values = _read_settings(path, name, self.studio)
        return merged(
            self.form.filled(values),
            {self.about_model: render_model(self._entry(values["model"]), say)} if "model" in values else {},
            {self.notice: render_notice(notice, say), self.last_notice: notice},
        )

    def receive(self, picture: SentPicture, request: gr.Request) -> Iterator[Updates]:
        """A picture from another tab: its settings into the form; without any, the words that came along."""
        if picture.words and not carries_infotext(picture.path):
            yield self.with_prompt(picture.words) | {self.notice: "", self.last_notice: None}
            return
        yield self.read_picture(picture.path, picture.file.name, self.readers.translator(request))

    def picture_outputs(self) -> list[Block]:
        """Everything that `read_picture` changes."""
        return [*self.form.components(), self.about_model, self.notice, self.last_notice]

    def _wire_run(self) -> None:
        stage = self.stage
        self.check.wire_forgetting()
        drawing = stage.controls.generate.click(
            self._draw,
            inputs=[stage.run],
            inputs_kwargs=self.form.by_name(),
            outputs=stage.outputs(),
            preprocess=False,  # `request_from_values` checks everything, in the reader's language
            **FOLLOWED,
        )
        self.check.wire(drawing)
        stage.controls.stop.click(self._stop, outputs=[stage.controls.stop], **QUIET)
        stage.pictures.select(
            self._select, inputs=[stage.run], outputs=[stage.parameters, stage.download, stage.selected], **QUIET
        )
        stage.reuse.click(self._reuse, inputs=[stage.run, stage.selected], outputs=self.form.components(), **QUIET)
        self.last_seed.click(self._reuse_seed, inputs=[stage.run, stage.selected], outputs=[self.form.seed], **QUIET)

    def _wire_form(self) -> None:
        form = self.form
        self.random_seed.click(None, js=f"() => [{RANDOM_SEED}]", outputs=[form.seed], **QUIET)
        self.suggestions.click(self._suggest, inputs=[self.suggestions], outputs=self.prompt_outputs(), **QUIET)
        form.prompt.input(None, js="() => ['']", outputs=[form.original_prompt], **QUIET)
        form.prompt.change(
            self._count, inputs=[form.prompt, form.model], outputs=[self.tokens], trigger_mode="always_last", **QUIET
        )
        form.model.select(
            self._choose_model,
            inputs=[form.prompt, form.model, form.sampler],
            outputs=[form.sampler, form.width, form.height, form.guidance_scale, *self._beside()],
            preprocess=False,  # which would hold the sampler against those of the model just left
            **QUIET,
        )
        self.files.wire(form.prompt, form.negative_prompt)
        self.from_picture.upload(
            self._read_picture,
            inputs=[self.from_picture],
            outputs=self.picture_outputs(),
            preprocess=False,
            **QUIET,
        )
        components = form.components()
        gr.on(
            [getattr(component, "change") for component in components],  # noqa: B009 - events are added at run time
            None,
            inputs=[self.saved, *components],
            outputs=[self.saved],
            js=_keep_form_js(list(form.by_name())),
            **QUIET,
        )

    def _draw(self, shown: Run, request: gr.Request, **values: object) -> Iterator[Updates]:
        """Draw what the form asks for and show every step."""
        before: Run | None = None
        for run in follow_run(self.studio, values, owner_of(request), shown.pictures):
            yield self.stage.show(run, before, self.readers.translator(request))
            before = run

    def _stop(self, request: gr.Request) -> Any:
        """Stop what this page draws; nobody else's run is touched."""
        self.studio.jobs.cancel_owner(owner_of(request))
        return gr.update(interactive=False)

    def _select(self, run: Run, event: gr.SelectData, request: gr.Request) -> Updates:
        return self.stage.show_selected(run, event.index, self.readers.translator(request))

    def _reuse(self, run: Run, selected: int) -> Updates:
        """Put the parameters of the picture looked at back into the form, its seed among them.

        The switch for translating stays: what was drawn is English already, and the next prompt may not be.
        """
        picture = selected_picture(run, selected)
        if picture is None:
            return unchanged()
        values = asdict(drawn_from(picture))
        del values["translate"]
        del values["loras"]  # they stand in the prompt
        return self.form.filled(values)

    def _reuse_seed(self, run: Run, selected: int) -> Updates:
        picture = selected_picture(run, selected)
        return unchanged() if picture is None else self.form.filled({"seed": picture.seed})

    def _suggest(self, sample: list[str]) -> Updates:
        return self.with_prompt(sample[0])

    def _count(self, prompt: str, model: str | None, request: gr.Request) -> str:
        return self._tokens_of(prompt, model, self.readers.translator(request))

    def _choose_model(self, prompt: str, model: str | None, sampler: str | None, request: gr.Request) -> Updates:
        """A model was chosen: what is known of it, its samplers, its own size, and how its tokenizer counts."""
        entry = self._entry(model)
        own = {} if entry is None else form_parts.own_settings(entry)
        offered: Updates = {}
        if entry is not None:
            offered[self.form.sampler] = form_parts.offered_samplers(self.studio.samplers, entry, sampler)
        return merged(
            self.form.filled(own), offered, self._beside_form(prompt, model, self.readers.translator(request))
        )

    def _read_picture(self, file: Mapping[str, Any], request: gr.Request) -> Updates:
        """A picture was dropped on the page, or chosen."""
        say = self.readers.translator(request)
        return self.read_picture(Path(file["path"]), str(file.get("orig_name") or ""), say)

    def _beside_form(self, prompt: str, model: str | None, say: Translator) -> Updates:
        """What stands beside the form and follows from it."""
        entry = self._entry(model)
        return {
            self.tokens: self._tokens_of(prompt, model, say),
            self.about_model: render_model(entry, say),
            self.suggestions: gr.update(visible=entry is not None and entry.bundled),
        }

    def _beside(self) -> list[Block]:
        """What `_beside_form` changes."""
        return [self.tokens, self.about_model, self.suggestions]

    def _tokens_of(self, prompt: str, model: str | None, say: Translator) -> str:
        """The token counter; nothing without a usable model, whose problem stands beside the model list."""
        try:
            return render_tokens(count_prompt_tokens(self.studio, model or "", prompt), say)
        except UserError:
            return ""

    def _entry(self, model: str | None) -> CatalogEntry | None:
        return next((entry for entry in self.studio.catalog.entries("txt2img") if entry.id == model), None)


def _no_translator(studio: Studio) -> UserError | None:
    """Why no prompt can be translated here; None when one can."""
    try:
        thai_translator(studio)
    except UserError as error:
        return error
    return None


def _keep_form_js(names: list[str]) -> str:
    """Keeps the form in the browser at every change, without asking the server; not before it was restored."""
    return (
        "(saved, ...values) => [document.documentElement.classList.contains('ready')"
        f" ? Object.fromEntries({json.dumps(names)}.map((name, i) => [name, values[i]])) : saved]"
    )


def _read_settings(path: Path, name: str, studio: Studio) -> tuple[PictureNotice, dict[str, Any]]:
    """What to say about an uploaded picture, and the form's values from it; an unknown model is one thing ignored."""
    try:
        found = parse_infotext(read_infotext(path), studio.settings.limits, studio.samplers)
    except UserError as error:
        return PictureNotice(name, error=error), {}
    values = {"original_prompt": "", "vae": "", **usable_files(studio, found.values)}
    ignored = (*found.ignored, *other_files(studio, found))
    if "model" in values:
        try:
            studio.catalog.find(values["model"], "txt2img")
        except UserError as error:
            del values["model"]
            ignored = (*ignored, error)
    return PictureNotice(name, ignored), values
