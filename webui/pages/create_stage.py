"""The right half of the txt2img page: what is being drawn, the finished pictures, and what they were drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.request import GenerateRequest
from webui.i18n import Translator
from webui.pages.create_run import Run
from webui.pages.localize import Localizer, Updates
from webui.pages.sending import SendBar, SentPicture, TabId, build_send_bar
from webui.store.gallery import SavedPicture
from webui.store.infotext import request_from_infotext
from webui.views.next_steps import render_next_steps
from webui.views.parameters import render_parameters
from webui.views.run import render_preview, render_problem, render_status
from webui.views.translation import render_translation
from webui.vision.pictures import PictureFile


@dataclass(frozen=True, slots=True)
class RunControls:
    """What stands under the prompt and follows the run: one of the two buttons, and why a run failed."""

    generate: gr.Button
    stop: gr.Button
    problem: gr.HTML


@dataclass(frozen=True, slots=True)
class Stage:
    """The components of the stage. `run` keeps the newest `Run` of the session, `selected` the picture looked at."""

    preview: gr.HTML
    pictures: gr.Gallery
    status: gr.HTML
    translation: gr.HTML
    actions: gr.Row
    download: gr.DownloadButton
    reuse: gr.Button
    bar: SendBar
    next_steps: gr.HTML
    parameters: gr.HTML
    controls: RunControls
    run: gr.State
    selected: gr.State

    def outputs(self) -> list[Block]:
        """Everything that a run changes."""
        return [
            self.preview, self.pictures, self.status, self.translation, self.actions, self.bar.row, self.next_steps,
            self.download, self.parameters, self.controls.generate, self.controls.stop, self.controls.problem,
            self.run, self.selected,
        ]  # fmt: skip

    def show(self, run: Run, before: Run | None, say: Translator) -> Updates:
        """What changes on the stage from `before` (None: unknown) to `run`."""
        view = run.view
        updates: Updates = {
            self.run: run,
            self.status: render_status(view, say),
            self.translation: render_translation(run.translation, say),
            self.controls.problem: render_problem(view, say),
            self.preview: gr.update(value=render_preview(view, say), visible=view.phase.busy or not run.pictures),
        }
        if before is None or before.view.phase.busy != view.phase.busy:
            updates |= self._switch(run, say)
        return updates

    def show_selected(self, run: Run, selected: int, say: Translator) -> Updates:
        """The parameters of the picture looked at, and its file behind the download button."""
        picture = selected_picture(run, selected)
        if picture is None:
            return {self.parameters: "", self.selected: 0}
        return {
            self.parameters: render_parameters(drawn_from(picture), picture.infotext, say),
            self.download: gr.update(value=str(picture.path)),
            self.selected: selected,
        }

    def said_again(self, run: Run, selected: int, say: Translator) -> Updates:
        """The words on the stage, in another language; pictures stay as they are."""
        picture = selected_picture(run, selected)
        updates: Updates = {
            self.status: render_status(run.view, say),
            self.translation: render_translation(run.translation, say),
            self.controls.problem: render_problem(run.view, say),
            self.preview: render_preview(run.view, say),
        }
        if picture is not None and not run.view.phase.busy:
            updates[self.parameters] = render_parameters(drawn_from(picture), picture.infotext, say)
        return updates

    def _switch(self, run: Run, say: Translator) -> Updates:
        """From the form to the run or back: which button there is, and whether pictures are looked at."""
        busy, finished = run.view.phase.busy, bool(run.pictures) and not run.view.phase.busy
        updates: Updates = {
            self.controls.generate: gr.update(visible=not busy),
            self.controls.stop: gr.update(visible=busy, interactive=True),
            self.actions: gr.update(visible=finished),
            self.bar.row: gr.update(visible=finished),
            self.next_steps: gr.update(visible=finished),
            self.pictures: gr.update(visible=finished),
        }
        if busy:
            return updates | {self.parameters: ""}
        paths = [str(picture.path) for picture in run.pictures]
        updates[self.pictures] = gr.update(value=paths, visible=finished, selected_index=0 if finished else None)
        return updates | self.show_selected(run, 0, say)


def selected_picture(run: Run, selected: int) -> SavedPicture | None:
    """The picture of `run` that is looked at, if there is one."""
    return run.pictures[selected] if 0 <= selected < len(run.pictures) else None


def sent_picture(_: gr.EventData, __: gr.Request, run: Run, selected: int) -> SentPicture | None:
    """The picture of `run` that is looked at and its prompt, on their way to another tab."""
    picture = selected_picture(run, selected)
    if picture is None:
        return None
    return SentPicture(PictureFile(picture.path.name, picture.path), drawn_from(picture).prompt)


def drawn_from(picture: SavedPicture) -> GenerateRequest:
    """The request that draws this very picture again, read from its infotext."""
    return request_from_infotext(picture.infotext)


def build_controls(page: Localizer) -> RunControls:
    """Lay out the buttons and the place for a failure."""
    return RunControls(
        generate=page.make(gr.Button, {"value": "create.generate"}, variant="primary", elem_id="generate"),
        stop=page.make(gr.Button, {"value": "create.stop"}, variant="stop", visible=False, elem_id="stop"),
        problem=gr.HTML(apply_default_css=False, elem_id="problem"),
    )


def build_stage(page: Localizer, controls: RunControls) -> Stage:
    """Lay out the stage, which a run started by `controls` plays on."""
    preview = page.make(
        gr.HTML, {"value": lambda say: render_preview(Run().view, say)}, apply_default_css=False, elem_id="preview"
    )
    pictures = page.make(
        gr.Gallery,
        {"label": "create.results"},
        format="png",
        preview=True,
        object_fit="contain",
        visible=False,
        interactive=False,
        show_label=False,
        buttons=["fullscreen"],
        elem_id="pictures",
    )
    status = gr.HTML(apply_default_css=False, elem_id="status")
    translation = gr.HTML(apply_default_css=False, elem_id="translation")
    with gr.Row(visible=False, elem_id="actions") as actions:
        download = page.make(gr.DownloadButton, {"label": "create.download"}, size="md", elem_id="download")
        reuse = page.make(gr.Button, {"value": "create.reuse"}, size="md", elem_id="reuse")
    bar = build_send_bar(
        page, "send", TabId.SCORE, TabId.INSIDE, TabId.LATENTS, TabId.VISION, TabId.SEARCH, visible=False
    )
    next_steps = page.make(
        gr.HTML, {"value": render_next_steps}, apply_default_css=False, visible=False, elem_id="next-steps"
    )
    parameters = gr.HTML(apply_default_css=False, elem_id="parameters")
    return Stage(
        preview,
        pictures,
        status,
        translation,
        actions,
        download,
        reuse,
        bar,
        next_steps,
        parameters,
        controls,
        gr.State(Run()),
        gr.State(0),
    )
