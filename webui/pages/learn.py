"""The guided tour: one prompt through every model, in chapters that lead on to the other tabs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.i18n.glossary import load_glossary
from webui.pages.clip_run import JobStep, RunBar, build_run_bar, follow_job, stop_job
from webui.pages.create_form import default_request
from webui.pages.create_stage import drawn_from
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged
from webui.pages.model_list import build_model_list
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import SendBar, Sender, SentPicture, TabId, build_send_bar
from webui.pages.session_desks import SessionDesks
from webui.runtime.entries import TXT2IMG
from webui.studio import Studio
from webui.tasks.tour import TOUR, Tour, TourRequest, check_tour, take_tour
from webui.views.learn import CHAPTERS, render_chapter, render_glossary, render_quiz, render_references
from webui.views.markup import element, text
from webui.views.run import RunPhase, RunView
from webui.vision.pictures import PictureFile

_MAX_DESKS: Final = 16
"""A tour of a full-size model holds some tens of MiB."""

_LEADS_TO: Final[Mapping[str, TabId]] = MappingProxyType(
    {
        "text": TabId.SCORE,
        "cosine": TabId.SCORE,
        "vit": TabId.VISION,
        "unet": TabId.INSIDE,
        "words": TabId.INSIDE,
        "vae": TabId.LATENTS,
        "check": TabId.CREATE,
    }
)
"""Where a chapter's own picture can be looked at further."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnDesk:
    """The tour of one open page."""

    taking: JobStep[Tour] = field(default_factory=JobStep)


@dataclass(frozen=True, slots=True)
class LearnPage(Page):
    """The tour of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: SessionDesks[LearnDesk]
    prompt: gr.Textbox
    model: gr.Dropdown
    bar: RunBar
    chapters: Mapping[str, gr.HTML]
    bars: Mapping[str, SendBar]

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> LearnPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        chapters, bars = {}, {}
        with gr.Column(elem_id="learn-page"):
            page.make(gr.HTML, {"value": _introduction}, apply_default_css=False)
            page.make(gr.HTML, {"value": partial(render_quiz, "before")}, apply_default_css=False)
            with gr.Column(elem_classes="card"):
                prompt = page.make(
                    gr.Textbox, {"label": "create.prompt"}, lines=1, max_lines=4, elem_id="learn-prompt",
                    value=default_request(studio.catalog, page.first_language).prompt,
                )  # fmt: skip
                model = build_model_list(page, studio.catalog, TXT2IMG, elem_id="learn-model")
                bar = build_run_bar(page, "learn", "learn.run")
            for chapter in CHAPTERS.values():
                with gr.Column(elem_classes="card"):
                    chapters[chapter.id] = page.make(
                        gr.HTML, {"value": partial(render_chapter, chapter, None)}, apply_default_css=False,
                        elem_id=f"learn-{chapter.id}",
                    )  # fmt: skip
                    if tab := _LEADS_TO.get(chapter.id):
                        bars[chapter.id] = build_send_bar(page, f"learn-{chapter.id}", tab, visible=False)
            page.make(gr.HTML, {"value": partial(render_quiz, "after")}, apply_default_css=False)
            page.make(gr.HTML, {"value": partial(render_glossary, load_glossary())}, apply_default_css=False)
            page.make(gr.HTML, {"value": render_references}, apply_default_css=False)
        built = cls(studio, readers, SessionDesks(LearnDesk, _MAX_DESKS), prompt, model, bar, chapters, bars)
        built._wire()
        return built

    def senders(self) -> list[Sender]:
        """Each chapter's way to the tab where its picture can be looked at further."""
        return [Sender(TabId.LEARN, bar.presses, self.picture) for bar in self.bars.values()]

    def picture(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """The picture of the tour and its prompt, on their way to another tab."""
        tour = self.desks.of(session_of(request)).taking.value
        if tour is None:
            return None
        saved = tour.picture
        return SentPicture(PictureFile(saved.path.name, saved.path), drawn_from(saved).prompt)

    def said_again(self, change: LanguageChange) -> Updates:
        """The chapters in another language."""
        return self._shown(self.desks.of(session_of(change.request)), change.say)

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return self._outputs()

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.desks.forget(session_of(request))

    def _wire(self) -> None:
        for start in (self.bar.start.click, self.prompt.submit):
            start(self._take, inputs=[self.prompt, self.model], outputs=self._outputs(), **FOLLOWED)
        self.bar.stop.click(self._stop, **QUIET)

    def _take(self, prompt: str | None, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """Make the tour of a prompt, and show it chapter by chapter."""
        session, asked = session_of(request), TourRequest((prompt or "").strip(), model or "")
        before = self.desks.of(session).taking.value
        try:
            check_tour(self.studio, asked)
        except UserError as error:
            step = JobStep(RunView(RunPhase.FAILED, error=error), before)
            yield self._shown(self.desks.change(session, taking=step), self.readers.translator(request))
            return
        for step in follow_job(
            self.studio, lambda context: take_tour(self.studio, asked, context), owner_of(request), TOUR
        ):
            say = self.readers.translator(request)
            if step.value is None:  # the tour of last time stays until there is a new one
                self.desks.change(session, taking=JobStep(step.view, before, step.job))
                yield self.bar.show(step.view, say)
                continue
            yield self._shown(self.desks.change(session, taking=step), say)

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).taking, owner_of(request))

    def _shown(self, desk: LearnDesk, say: Translator) -> Updates:
        tour = desk.taking.value
        chapters: Updates = {
            self.chapters[chapter.id]: render_chapter(chapter, tour, say) for chapter in CHAPTERS.values()
        }
        bars: Updates = {bar.row: gr.update(visible=tour is not None) for bar in self.bars.values()}
        return merged(self.bar.show(desk.taking.view, say, say.text("learn.done")), chapters, bars)

    def _outputs(self) -> list[Block]:
        return [*self.bar.outputs(), *self.chapters.values(), *(bar.row for bar in self.bars.values())]


def _introduction(say: Translator) -> str:
    title = element("h2", text(say.text("learn.title")), class_="stage-title")
    return element("div", title, element("p", text(say.text("learn.intro"))), class_="learn-intro")
