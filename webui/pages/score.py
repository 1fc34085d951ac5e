"""The similarity page: pictures times texts, every figure, and the way to each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.clip.projection import project
from webui.clip.request import ScoreRequest
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.score_desk import Desk, Desks
from webui.pages.score_form import ScoreForm, ScoreStage, build_form, build_stage
from webui.pages.score_tools import ScoreTools
from webui.pages.score_tray import ScoreTray, place_of
from webui.pages.sending import Sender, SentPicture, TabId
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.tasks.clip import check_score, explain_score, score_pictures, work_out
from webui.tasks.txt2img import draw_pictures
from webui.views.figures import measure_name
from webui.views.heatmap import render_heatmap
from webui.views.rankings import render_rankings, render_remarks
from webui.views.relevance import render_relevance
from webui.views.run import RunPhase, RunView
from webui.views.score_parts import render_empty_score, render_text_matrix
from webui.views.vector_map import render_vector_map
from webui.views.worked_cosine import render_worked_example
from webui.vision.pictures import PictureFile

_EXAMPLE_TEXTS: Final = ("score.example.cat", "score.example.dog", "score.example.car")
_EXAMPLE_SEED: Final = 7
_SHOW_CELL_JS: Final = "() => { window.diffuscopeShow('#score-cell'); return []; }"
_SAVE_JS: Final = "(file) => { if (file) window.diffuscopeSave(file); return []; }"


@dataclass(frozen=True, slots=True)
class ScorePage(Page):
    """The similarity page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: Desks
    form: ScoreForm
    stage: ScoreStage
    tray: ScoreTray
    tools: ScoreTools

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> ScorePage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        desks = Desks()
        with gr.Row(elem_id="score-page"):
            with gr.Column(elem_classes="card"):
                form = build_form(page, studio.catalog, with_gallery=may(studio.settings, Deed.SEE_OTHERS_PICTURES))
            with gr.Column():
                stage = build_stage(page)
                tools = ScoreTools.build(studio, readers, desks, page, form)
        tray = ScoreTray(studio, readers, desks, form)
        built = cls(studio, readers, desks, form, stage, tray, tools)
        tray.wire()
        built._wire_form()
        built._wire_stage()
        tools.wire(FOLLOWED)
        return built

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        desk, say = self.desks.of(session_of(change.request)), change.say
        return merged(
            self.tray.show(desk, say),
            self.form.bar.show(desk.scoring.view, say, _summary(desk, say)),
            self._found(desk, say),
            self._cell(desk, say),
            self.tools.said_again(desk, say),
        )

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [
            self.form.tray, *self.form.bar.outputs(), *self._found_outputs(), *self._cell_outputs(),
            *self.tools.said_again_outputs(),
        ]  # fmt: skip

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.desks.forget(session_of(request))

    def sender(self) -> Sender:
        """The way of the chosen cell to the other tabs."""
        return Sender(TabId.SCORE, self.stage.bar.presses, self.looked_at)

    def looked_at(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """The picture and the text of the chosen cell."""
        asked = self.desks.of(session_of(request)).cell_request()
        return None if asked is None else SentPicture(asked.picture, asked.text)

    def _wire_form(self) -> None:
        form = self.form
        outputs = [*form.bar.outputs(), *self._found_outputs(), *self._cell_outputs()]
        form.bar.start.click(self._score, inputs=[form.texts, form.model], outputs=outputs, **FOLLOWED)
        form.bar.stop.click(self._stop, **QUIET)
        form.example.click(
            self._example, inputs=[form.model], outputs=[*outputs, form.tray, form.texts], **FOLLOWED
        )  # fmt: skip

    def _wire_stage(self) -> None:
        stage = self.stage
        stage.measure.input(
            self._measure, inputs=[stage.measure], outputs=[stage.matrix, stage.rankings, stage.measure], **QUIET
        )
        chosen = stage.matrix.click(self._choose, outputs=self._cell_outputs(), trigger_mode="multiple", **FOLLOWED)
        chosen.then(None, js=_SHOW_CELL_JS, **QUIET)
        stage.explain.start.click(self._explain, outputs=self._cell_outputs(), **FOLLOWED)
        stage.explain.stop.click(self._stop_explaining, **QUIET)
        for button, export in ((stage.csv, self._csv), (stage.json, self._json)):
            exported = button.click(export, outputs=[stage.payload], **QUIET)
            exported.then(None, inputs=[stage.payload], js=_SAVE_JS, **QUIET)

    def _score(self, texts: str, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """Score the pictures on the desk against the texts."""
        yield from self._follow_score(self._asked(texts, model or "", request), request)

    def _asked(self, texts: str, model: str, request: gr.Request) -> ScoreRequest:
        lines = tuple(line for line in (texts or "").splitlines() if line.strip())
        return ScoreRequest(self.desks.of(session_of(request)).pictures, lines, model)

    def _follow_score(self, asked: ScoreRequest, request: gr.Request) -> Iterator[Updates]:
        session = session_of(request)
        before = self.desks.of(session).scoring
        try:
            check_score(self.studio, asked)
        except UserError as error:
            failed = replace(before, view=RunView(RunPhase.FAILED, error=error))
            desk = self.desks.change(session, scoring=failed)
            yield self.form.bar.show(desk.scoring.view, self.readers.translator(request))
            return
        for step in follow_job(
            self.studio, lambda context: score_pictures(self.studio, asked, context), owner_of(request)
        ):
            say = self.readers.translator(request)
            if step.value is None:  # the results of last time stay until there are new ones
                desk = self.desks.change(session, scoring=replace(step, value=before.value))
                yield self.form.bar.show(step.view, say)
                continue
            measures = step.value.similarity.measures
            measure = desk.measure if (desk := self.desks.of(session)).measure in measures else "cosine"
            desk = self.desks.change(
                session,
                scoring=step,
                request=asked,
                measure=measure,
                cell=None,
                working=JobStep(),
                explaining=JobStep(),
            )
            bar = self.form.bar.show(step.view, say, _summary(desk, say))
            yield merged(bar, self._found(desk, say), self._cell(desk, say))

    def _example(self, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """For a first visit: draw a cat, and score it against three words."""
        session, say = session_of(request), self.readers.translator(request)
        texts = "\n".join(say.text(key) for key in _EXAMPLE_TEXTS)

        def draw(context: JobContext) -> PictureFile:
            entries = self.studio.catalog.entries(TXT2IMG)
            drawer = entries[0].id if entries else ""
            asked = GenerateRequest(say.text("create.suggestion.cat"), model=drawer, seed=_EXAMPLE_SEED)
            drawn = draw_pictures(self.studio, asked, context)
            context.check()
            return PictureFile(drawn.pictures[0].path.name, drawn.pictures[0].path)

        picture: PictureFile | None = None
        for step in follow_job(self.studio, draw, owner_of(request)):
            kept = self.desks.of(session).scoring.value
            self.desks.change(session, scoring=JobStep(step.view, kept, step.job))
            picture = step.value
            if picture is None:
                yield self.form.bar.show(step.view, self.readers.translator(request))
        if picture is not None:
            desk = self.tray.add(request, [picture])
            yield self.tray.show(desk, self.readers.translator(request)) | {self.form.texts: texts}
            yield from self._follow_score(self._asked(texts, model or "", request), request)

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).scoring, owner_of(request))

    def _measure(self, measure: str, request: gr.Request) -> Updates:
        """Show another of the figures."""
        say = self.readers.translator(request)
        desk = self.desks.of(session_of(request))
        if desk.result is None or measure not in desk.result.similarity.measures:
            return unchanged()
        desk = self.desks.change(session_of(request), measure=measure)
        return {key: value for key, value in self._found(desk, say).items() if key in self._measured()}

    def _measured(self) -> list[Block]:
        return [self.stage.matrix, self.stage.rankings, self.stage.measure]

    @never_silent
    def _choose(self, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """A cell was chosen: work it out with all its numbers."""
        session = session_of(request)
        desk = self.desks.of(session)
        if desk.result is None:
            return
        picture = place_of(event, "picture", len(desk.result.pictures))
        words = place_of(event, "text", len(desk.result.texts))
        if picture is None or words is None:
            return
        stop_job(self.studio, desk.working, owner_of(request))
        stop_job(self.studio, desk.explaining, owner_of(request))
        cell = (picture, words)
        desk = self.desks.change(session, cell=cell, working=JobStep(), explaining=JobStep())
        asked = desk.cell_request()
        if asked is None:
            return
        for work in follow_job(self.studio, lambda context: work_out(self.studio, asked, context), owner_of(request)):
            if self.desks.of(session).cell != cell:
                return
            desk = self.desks.change(session, working=work)
            yield self._cell(desk, self.readers.translator(request))

    @never_silent
    def _explain(self, request: gr.Request) -> Iterator[Updates]:
        """Why the chosen cell has its score."""
        session = session_of(request)
        desk = self.desks.of(session)
        cell, asked = desk.cell, desk.cell_request()
        if asked is None:
            return
        for step in follow_job(
            self.studio, lambda context: explain_score(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).cell != cell:
                return
            desk = self.desks.change(session, explaining=step)
            yield self._explained(desk, self.readers.translator(request))

    def _stop_explaining(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).explaining, owner_of(request))

    def _csv(self, request: gr.Request) -> dict[str, str] | None:
        from webui.clip.score import score_as_csv

        result = self.desks.of(session_of(request)).result
        # The mark at the start tells spreadsheets that it is UTF-8.
        content = "\ufeff" + score_as_csv(result) if result is not None else ""
        return {"name": "scores.csv", "type": "text/csv", "text": content} if content else None

    def _json(self, request: gr.Request) -> dict[str, str] | None:
        from webui.clip.score import score_as_dict

        result = self.desks.of(session_of(request)).result
        if result is None:
            return None
        content = json.dumps(score_as_dict(result), ensure_ascii=False, indent=2)
        return {"name": "scores.json", "type": "application/json", "text": content}

    def _found(self, desk: Desk, say: Translator) -> Updates:
        """The matrix and what goes with it, or the words that stand there before."""
        stage, result = self.stage, desk.result
        if result is None:
            return {stage.empty: gr.update(value=render_empty_score(say), visible=True)}
        choices = [(measure_name(name, say), name) for name in result.similarity.measures]
        found = project(result.picture_vectors, result.text_vectors)
        return {
            stage.empty: gr.update(visible=False),
            stage.found: gr.update(visible=True),
            stage.remarks: render_remarks(result, say),
            stage.measure: gr.update(choices=choices, value=desk.measure),
            stage.matrix: render_heatmap(result, desk.measure, say, desk.cell),
            stage.rankings: render_rankings(result, desk.measure, say),
            stage.text_matrix: render_text_matrix(result.texts, result.text_vectors, say),
            stage.vector_map: render_vector_map(found, result.pictures, result.texts, say),
            self.form.example: gr.update(visible=False),
        }

    def _found_outputs(self) -> list[Block]:
        stage = self.stage
        return [
            stage.empty, stage.found, stage.remarks, stage.measure, stage.matrix, stage.rankings, stage.text_matrix,
            stage.vector_map, self.form.example,
        ]  # fmt: skip

    def _cell(self, desk: Desk, say: Translator) -> Updates:
        """The worked example of the chosen cell."""
        worked = desk.working.value
        return {
            self.stage.cell: gr.update(visible=worked is not None),
            self.stage.cell_status: self.form.bar.show(desk.working.view, say)[self.form.bar.status],
            self.stage.worked: render_worked_example(worked, say) if worked is not None else "",
        } | self._explained(desk, say)

    def _explained(self, desk: Desk, say: Translator) -> Updates:
        why = desk.explaining.value
        relevance = render_relevance(why.relevance, why.model_view, why.curve, say) if why is not None else ""
        return self.stage.explain.show(desk.explaining.view, say) | {self.stage.relevance: relevance}

    def _cell_outputs(self) -> list[Block]:
        stage = self.stage
        return [stage.cell, stage.cell_status, stage.worked, *stage.explain.outputs(), stage.relevance]


def _summary(desk: Desk, say: Translator) -> str:
    """What was scored, and how much of it had to be computed."""
    result = desk.result
    if result is None:
        return ""
    return say.text(
        "score.done",
        pictures=len(result.pictures),
        texts=len(result.texts),
        seconds=f"{result.seconds:.1f}",
        encoded_pictures=result.encoded_pictures,
        encoded_texts=result.encoded_texts,
    )
