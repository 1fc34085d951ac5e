"""Under the stage of the txt2img page, "Check my picture": one click, or after every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from webui.i18n import Translator
from webui.pages.clip_run import JobStep, RunBar, build_run_bar, follow_job, stop_job
from webui.pages.create_run import Run
from webui.pages.create_stage import Stage, drawn_from
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, never_silent
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of
from webui.studio import Studio
from webui.tasks.vision import check_pictures, has_vit
from webui.views.picture_check import render_picture_check
from webui.vision.check import PictureCheck
from webui.vision.pictures import PictureFile
from webui.vision.request import CheckRequest

_STORAGE_KEY: Final = "diffuscope.check"
_STORAGE_SECRET: Final = "the choice is no secret; a fixed value keeps it readable after a restart"  # noqa: S105


@dataclass(frozen=True, slots=True)
class PictureCheckPart(Page):
    """The button, the choice to check every run, and what was found. `step` keeps the session's newest check."""

    studio: Studio
    readers: Readers
    stage: Stage
    place: gr.Column
    bar: RunBar
    always: gr.Checkbox
    found: gr.HTML
    step: gr.State
    saved: gr.BrowserState

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer, stage: Stage) -> PictureCheckPart:
        """Lay it out inside the current column; nothing is shown where there is no ViT to ask."""
        with gr.Column(visible=has_vit(studio), elem_id="picture-check") as place:
            with gr.Row(elem_classes="pair"):
                bar = build_run_bar(page, "check", "check.run")
                always = page.make(
                    gr.Checkbox, {"label": "check.always"}, value=False, container=False, elem_id="check-always"
                )
            found = gr.HTML(apply_default_css=False, elem_id="check-found")
        saved = gr.BrowserState(False, storage_key=_STORAGE_KEY, secret=_STORAGE_SECRET)
        return cls(studio, readers, stage, place, bar, always, found, gr.State(JobStep()), saved)

    def wire_forgetting(self) -> None:
        """Let go of what was found when a run starts.

        To be called before the run itself is wired: Gradio's page calls the listeners of one click one after the
        other, each when the one before has ended, and what was found of the new pictures would be forgotten.
        """
        self.stage.controls.generate.click(self._forget, inputs=[self.step], outputs=self._outputs(), **QUIET)

    def wire(self, drawing: Dependency) -> None:
        """Connect the events; `drawing` is the run of the page, after which the check may follow."""
        inputs, outputs = [self.stage.run, self.step], self._outputs()
        drawing.then(self._check_if_wanted, inputs=[self.always, *inputs], outputs=outputs, **FOLLOWED)
        self.bar.start.click(self._check, inputs=inputs, outputs=outputs, **FOLLOWED)
        self.bar.stop.click(self._stop, inputs=[self.step], **QUIET)
        self.always.input(None, inputs=[self.always], outputs=[self.saved], js="(value) => value", **QUIET)

    def remembered(self) -> list[Block]:
        """Whether every run is checked."""
        return [self.saved]

    def opening(self, remembered: Sequence[Any], say: Translator) -> Updates:  # noqa: ARG002
        """The choice as it was left; a ViT that was put there since the program started is asked too."""
        return {
            self.place: gr.update(visible=has_vit(self.studio)),
            self.always: gr.update(value=remembered[0] is True),
        }

    def opening_outputs(self) -> list[Block]:
        """The choice, and whether there is one."""
        return [self.place, self.always]

    def kept(self) -> list[Block]:
        """The newest check."""
        return [self.step]

    def said_again(self, change: LanguageChange) -> Updates:
        """What was found, in another language."""
        (step,) = change.kept
        return self._shown(step, change.say)

    def said_again_outputs(self) -> list[Block]:
        """Everything that a check changes."""
        return self._outputs()

    @never_silent
    def _check_if_wanted(
        self, always: bool, run: Run, step: JobStep[PictureCheck], request: gr.Request
    ) -> Iterator[Updates]:
        """After a run: nothing is asked, and no model loaded, unless the reader wants every run checked."""
        if always and run.pictures:
            yield from self._check(run, step, request)

    @never_silent
    def _check(self, run: Run, step: JobStep[PictureCheck], request: gr.Request) -> Iterator[Updates]:
        """Ask the judges about the run's pictures."""
        if step.view.phase.busy or not run.pictures:
            return
        prompt = drawn_from(run.pictures[0]).prompt
        files = tuple(PictureFile(picture.path.name, picture.path) for picture in run.pictures)
        asked = CheckRequest(files, prompt)
        for now in follow_job(
            self.studio, lambda context: check_pictures(self.studio, asked, context), owner_of(request)
        ):
            yield self._shown(now, self.readers.translator(request))

    def _forget(self, step: JobStep[PictureCheck], request: gr.Request) -> Updates:
        """New pictures are coming: what was said of the old ones goes."""
        stop_job(self.studio, step, owner_of(request))
        return self._shown(JobStep(), self.readers.translator(request))

    def _outputs(self) -> list[Block]:
        return [*self.bar.outputs(), self.found, self.step]

    def _stop(self, step: JobStep[PictureCheck], request: gr.Request) -> None:
        stop_job(self.studio, step, owner_of(request))

    def _shown(self, step: JobStep[PictureCheck], say: Translator) -> Updates:
        found = render_picture_check(step.value, say) if step.value is not None else ""
        return self.bar.show(step.view, say) | {self.found: found, self.step: step}
