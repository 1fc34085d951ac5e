"""The Vision page: a picture's way through a Vision Transformer, from pixels to the probabilities of its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import SentPicture
from webui.pages.vision_desk import VisionDesk, VisionDesks
from webui.pages.vision_form import VisionForm, VisionStage, build_form, build_stage
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.tasks.vision import explain_label, has_vit, label_set, read_attention, see_picture, work_out_row
from webui.views.attention import render_attention, render_worked_attention
from webui.views.class_relevance import render_class_relevance, render_rollout
from webui.views.job import render_job
from webui.views.vision_stations import (
    render_classes,
    render_embedding,
    render_empty_vision,
    render_patches,
    render_pipeline,
    render_tokens,
)
from webui.vision.pictures import PictureFile
from webui.vision.request import AttentionRequest, ExplainRequest, SeeRequest

_RECENT: Final = 12


@dataclass(frozen=True, slots=True)
class VisionPage(Page):
    """The Vision page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: VisionDesks
    form: VisionForm
    stage: VisionStage

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> VisionPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        with gr.Row(elem_id="vision-page"):
            with gr.Column(elem_classes="card"):
                form = build_form(page, studio.catalog)
            with gr.Column():
                stage = build_stage(page, partial(has_vit, studio))
        built = cls(studio, readers, VisionDesks(), form, stage)
        built._wire()
        return built

    def wire_recent(self, tab: gr.Tab) -> None:
        """Show the newest pictures of the outputs folder whenever the tab is opened."""
        tab.select(self._recent, outputs=[self.form.gallery], **QUIET)

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        desk = self.desks.of(session_of(change.request))
        bar = self.form.bar.show(desk.seeing.view, change.say)
        return merged(bar, self._found(desk, change.say))

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [*self.form.bar.outputs(), *self._found_outputs()]

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.desks.forget(session_of(request))

    def receive(self, picture: SentPicture, _: gr.Request) -> Iterator[Updates]:
        """A picture from another tab, which is looked at as soon as it is there."""
        yield {self.form.picture: str(picture.path)}

    def looked_at(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """The picture looked at, to be sent to another tab."""
        picture = self.desks.of(session_of(request)).picture
        return None if picture is None else SentPicture(picture)

    def _wire(self) -> None:
        form, stage = self.form, self.stage
        outputs = [*form.bar.outputs(), *self._found_outputs()]
        look = {"inputs": [form.picture, form.model], "outputs": outputs, "preprocess": False, **FOLLOWED}
        form.picture.change(self._look, trigger_mode="always_last", **look)
        form.model.select(self._look, trigger_mode="always_last", **look)
        form.bar.start.click(self._look, **look)
        form.bar.stop.click(self._stop, **QUIET)
        form.last.click(self._last, outputs=[form.picture], **QUIET)
        form.gallery.select(self._choose, outputs=[form.picture], **QUIET)
        stage.patches.click(self._choose_patch, outputs=[stage.embedding, stage.tokens], **QUIET)
        stage.attention.click(
            self._attend, outputs=[stage.attention, stage.work, stage.worked], trigger_mode="multiple", **FOLLOWED
        )
        stage.explain.start.click(
            self._explain, inputs=[stage.label], outputs=[*stage.explain.outputs(), stage.relevance], **FOLLOWED
        )
        stage.explain.stop.click(self._stop_explaining, **QUIET)

    def _recent(self) -> list[str]:
        """The newest pictures; nothing to strangers, for the outputs folder is everybody's."""
        if not may(self.studio.settings, Deed.SEE_OTHERS_PICTURES):
            return []
        return [str(picture.path) for picture in self.studio.gallery.recent(_RECENT)]

    def _last(self) -> Any:
        """The newest picture of the outputs folder; nothing when there is none."""
        newest = self._recent()[:1]
        return newest[0] if newest else gr.update()

    def _choose(self, event: gr.SelectData) -> Any:
        recent = self._recent()
        return recent[event.index] if isinstance(event.index, int) and event.index < len(recent) else gr.update()

    @never_silent
    def _look(self, picture: object, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """Send the picture through the model."""
        session = session_of(request)
        stop_job(self.studio, self.desks.of(session).seeing, owner_of(request))
        if not isinstance(picture, Mapping) or not picture.get("path"):
            desk = self.desks.change(session, picture=None, seeing=JobStep())
            say = self.readers.translator(request)
            yield merged(self.form.bar.show(desk.seeing.view, say), self._found(desk, say))
            return
        path = Path(str(picture["path"]))
        file = PictureFile(str(picture.get("orig_name") or path.name), path)
        asked = SeeRequest(file, model or "")
        before = self.desks.change(session, picture=file, model=asked.model).seeing.value
        for step in follow_job(
            self.studio, lambda context: see_picture(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).picture is not file:
                return
            say = self.readers.translator(request)
            if step.value is None:
                self.desks.change(session, seeing=JobStep(step.view, before, step.job))
                yield self.form.bar.show(step.view, say)
                continue
            desk = self.desks.change(
                session,
                seeing=step,
                labels=label_set(self.studio, asked.model),
                patch=step.value.grid.count // 2 + step.value.grid.columns // 2,
                rows=step.value.rows,
                layer=step.value.layers - 1,
                head=-1,
                token=0,
                working=JobStep(),
                explaining=JobStep(),
            )
            yield merged(self.form.bar.show(step.view, say), self._found(desk, say))

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).seeing, owner_of(request))

    def _choose_patch(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Another patch's vectors."""
        desk = self.desks.of(session_of(request))
        seen = desk.seeing.value
        patch = _number(event, "patch", 0, seen.grid.count) if seen is not None else None
        if patch is None:
            return unchanged()
        desk = self.desks.change(session_of(request), patch=patch)
        return self._vectors(desk, self.readers.translator(request))

    @never_silent
    def _attend(self, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """Another query's rows, of a model too large to send all at once; or one row worked out in numbers."""
        session = session_of(request)
        desk = self.desks.of(session)
        seen = desk.seeing.value
        if seen is None or desk.picture is None:
            return
        places = (
            _number(event, "layer", 0, seen.layers),
            _number(event, "head", -1, seen.heads),
            _number(event, "token", 0, seen.grid.count + 1),
        )
        layer, head, token = places
        if layer is None or head is None or token is None:
            return
        self.desks.change(session, layer=layer, head=head, token=token)
        asked = AttentionRequest(desk.picture, layer, max(head, 0), token, desk.model)
        if _action(event) == "row":
            yield from self._fetch_rows(asked, request)
        elif head >= 0:
            yield from self._work_out(asked, request)

    def _fetch_rows(self, asked: AttentionRequest, request: gr.Request) -> Iterator[Updates]:
        session = session_of(request)
        for step in follow_job(
            self.studio, lambda context: read_attention(self.studio, asked, context), owner_of(request)
        ):
            say = self.readers.translator(request)
            if step.value is None:
                yield {self.stage.work: render_job(step.view, say)}
            elif (desk := self.desks.of(session)).picture is asked.picture:
                desk = self.desks.change(session, rows=step.value)
                yield self._attention(desk, say) | {self.stage.work: ""}

    def _work_out(self, asked: AttentionRequest, request: gr.Request) -> Iterator[Updates]:
        session = session_of(request)
        for step in follow_job(
            self.studio, lambda context: work_out_row(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).picture is not asked.picture:
                return
            desk = self.desks.change(session, working=step)
            yield self._worked(desk, self.readers.translator(request))

    @never_silent
    def _explain(self, label: object, request: gr.Request) -> Iterator[Updates]:
        """Where the chosen label's probability comes from."""
        session = session_of(request)
        desk = self.desks.of(session)
        if desk.picture is None or desk.seeing.value is None:
            return
        picture = desk.picture
        asked = ExplainRequest(picture, label if isinstance(label, int) else None, desk.model)
        for step in follow_job(
            self.studio, lambda context: explain_label(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).picture is not picture:
                return
            desk = self.desks.change(session, explaining=step)
            yield self._explained(desk, self.readers.translator(request))

    def _stop_explaining(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).explaining, owner_of(request))

    def _found(self, desk: VisionDesk, say: Translator) -> Updates:
        """All stations, or the words that stand there before."""
        stage, seen, labels = self.stage, desk.seeing.value, desk.labels
        if seen is None or labels is None:
            return {
                stage.empty: gr.update(value=render_empty_vision(say, has_vit(self.studio)), visible=True),
                stage.found: gr.update(visible=False),
                self.form.sending.row: gr.update(visible=False),
            }
        ranked = seen.classified.top(len(labels.names))
        return merged(
            {
                stage.empty: gr.update(visible=False),
                stage.found: gr.update(visible=True),
                self.form.sending.row: gr.update(visible=True),
                stage.pipeline: render_pipeline(seen, labels, say),
                stage.patches: render_patches(seen, say),
                stage.rollout: render_rollout(seen, say),
                stage.label: gr.update(
                    choices=[(labels.name(index, say.language), index) for index, _ in ranked],
                    value=desk.explaining.value.label if desk.explaining.value else ranked[0][0],
                ),
                stage.classes: render_classes(seen, labels, say),
            },
            self._vectors(desk, say),
            self._attention(desk, say),
            self._worked(desk, say),
            self._explained(desk, say),
        )

    def _vectors(self, desk: VisionDesk, say: Translator) -> Updates:
        seen = desk.seeing.value
        if seen is None:
            return {}
        return {
            self.stage.embedding: render_embedding(seen, desk.patch, say),
            self.stage.tokens: render_tokens(seen, desk.patch, say),
        }

    def _attention(self, desk: VisionDesk, say: Translator) -> Updates:
        seen, rows = desk.seeing.value, desk.rows
        if seen is None or rows is None:
            return {}
        token = desk.token if desk.token in rows.queries else rows.queries[0]
        return {self.stage.attention: render_attention(seen, rows, say, desk.layer, desk.head, token)}

    def _worked(self, desk: VisionDesk, say: Translator) -> Updates:
        worked = desk.working.value
        return {
            self.stage.work: render_job(desk.working.view, say),
            self.stage.worked: render_worked_attention(worked, say) if worked is not None else "",
        }

    def _explained(self, desk: VisionDesk, say: Translator) -> Updates:
        explained, seen, labels = desk.explaining.value, desk.seeing.value, desk.labels
        shown = ""
        if explained is not None and seen is not None and labels is not None:
            shown = render_class_relevance(explained, seen, labels, say)
        return self.stage.explain.show(desk.explaining.view, say) | {self.stage.relevance: shown}

    def _found_outputs(self) -> list[Block]:
        stage = self.stage
        return [
            stage.empty, stage.found, stage.pipeline, stage.patches, stage.embedding, stage.tokens, stage.attention,
            stage.work, stage.worked, stage.rollout, stage.label, *stage.explain.outputs(), stage.relevance,
            stage.classes, self.form.sending.row,
        ]  # fmt: skip


def _number(event: gr.EventData, name: str, low: int, count: int) -> int | None:
    """A whole number from `low` to below `count` that a browser sent; None for anything else it may have sent."""
    sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
    value = sent.get(name) if isinstance(sent, Mapping) else None
    return value if isinstance(value, int) and low <= value < count else None


def _action(event: gr.EventData) -> object:
    sent = event._data  # noqa: SLF001
    return sent.get("action") if isinstance(sent, Mapping) else None
