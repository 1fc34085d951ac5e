"""The page "Inside": record a run or open one, and look at every step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.bundled import bundled_traces, find_bundled_trace
from webui.diffusion.request_values import request_from_values
from webui.diffusion.trace import Trace, open_trace
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.inside_checks import InsideChecks
from webui.pages.inside_desk import InsideDesk, InsideDesks
from webui.pages.inside_form import (
    InsideParts,
    RecordForm,
    build_parts,
    build_record_form,
    build_source,
    longest_word,
    recorded_key,
)
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import Sender, SentPicture, TabId
from webui.store.infotext import read_infotext, request_from_infotext
from webui.studio import Studio
from webui.tasks.inside import (
    TraceRequest,
    keep_trace,
    prepare_trace,
    record_run,
)
from webui.views.inside_payload import as_json, trace_payload
from webui.views.markup import element, text
from webui.views.run import RunPhase, RunView


@dataclass(frozen=True, slots=True)
class InsidePage(Page):
    """The page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: InsideDesks
    form: RecordForm
    parts: InsideParts
    checks: InsideChecks

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> InsidePage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        with gr.Row(elem_id="inside-source"):
            with gr.Column(elem_classes="card", scale=3):
                form, heads, record = build_record_form(page, studio.catalog, studio.samplers, studio.settings.limits)
            with gr.Column(elem_classes="card", scale=2):
                source = build_source(page)
        parts = build_parts(page, studio.samplers, heads, record, source)
        desks = InsideDesks()
        built = cls(studio, readers, desks, form, parts, InsideChecks(studio, readers, desks, parts))
        built._wire()
        return built

    def arrive(self, request: gr.Request) -> Updates:
        """Somebody comes to the tab: with nothing to look at yet, and none on its way, show the first shipped run."""
        names, desk = list(bundled_traces()), self.desks.of(session_of(request))
        if desk.trace is not None or desk.recording.view.phase.busy or not names:
            return unchanged()
        return {self.parts.bundled: gr.update(value=names[0])} | self._open_bundled(names[0], request)

    def arrive_outputs(self) -> list[Block]:
        """Everything that `arrive` changes."""
        return [self.parts.bundled, *self._shown_outputs()]

    def prepare(self, picture: SentPicture, request: gr.Request) -> None:
        """A picture is coming from another tab.

        The desk waits for its recording from here on, so that no shipped run opens with the tab. Raises UserError for
        a picture that does not say what it was drawn from.
        """
        request_from_infotext(read_infotext(picture.path))
        self.desks.change(session_of(request), recording=JobStep(RunView(RunPhase.WAITING)))

    def receive(self, picture: SentPicture, _: gr.Request) -> Iterator[Updates]:
        """Its exact request, seed and size into the form, to be recorded next."""
        yield self.form.filled(asdict(request_from_infotext(read_infotext(picture.path))))

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return list(self.form.by_name().values())

    def sender(self) -> Sender:
        """The way of the finished picture of the run looked at to the other tabs."""
        return Sender(TabId.INSIDE, self.parts.bar.presses, self.looked_at)

    def looked_at(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """The finished picture of the run looked at, with what draws it again; None for a run that was stopped."""
        return self.desks.of(session_of(request)).finished()

    def chosen_step(self, event: gr.EventData, request: gr.Request) -> tuple[Trace, int] | None:
        """The run looked at and the U-Net call, from 0, that the browser names; None where they do not fit."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        trace = self.desks.of(session_of(request)).trace
        call = sent.get("call") if isinstance(sent, Mapping) else None
        if trace is None or not isinstance(call, int) or not 0 <= call < len(trace.header.steps):
            return None
        return trace, call

    def record_on(self, listen: Callable[..., Any]) -> None:
        """Record what the form asks for on an event (`button.click`, or `then` of an earlier one).

        The run comes in an event of its own: Gradio goes through all that an output holds at every message.
        """
        listen(
            self._record,
            inputs=[self.parts.heads],
            inputs_kwargs=self.form.by_name(),
            outputs=self.parts.record.outputs(),
            preprocess=False,
            **FOLLOWED,
        ).then(self._show_recorded, outputs=self._shown_outputs(), **QUIET)

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language; the scripts say the rest again by themselves."""
        desk = self.desks.of(session_of(change.request))
        say = change.say
        problem: Updates = {self.parts.problem: _problem(desk, say)}
        return merged(self._record_bar(desk, say), self.checks.said_again(desk, say), problem)

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [*self.parts.record.outputs(), *self.checks.said_again_outputs(), self.parts.problem]

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.desks.forget(session_of(request))

    def _wire(self) -> None:
        parts = self.parts
        self.record_on(parts.record.start.click)
        form = self.form
        form.model.select(
            self._choose_model, inputs=[form.model, form.sampler],
            outputs=[form.sampler, form.guidance_scale, form.width, form.height],
            preprocess=False, **QUIET,  # which would hold the sampler against those of the model just left
        )  # fmt: skip
        parts.record.stop.click(self._stop, **QUIET)
        parts.bundled.select(self._open_bundled, inputs=[parts.bundled], outputs=self._shown_outputs(), **QUIET)
        parts.upload.upload(
            self._open_file, inputs=[parts.upload], outputs=self._shown_outputs(), preprocess=False, **QUIET
        )
        self.checks.wire()

    def _choose_model(self, model: str | None, sampler: str | None) -> Updates:
        """A model was chosen: its own samplers, guidance and size."""
        return self.form.for_model(self.studio.catalog, self.studio.samplers, model, sampler)

    def _record(self, heads: bool, request: gr.Request, **values: object) -> Iterator[Updates]:
        """Record what the form asks for; the run looked at stays until there is a new one."""
        session = session_of(request)
        try:
            asked = prepare_trace(self.studio, TraceRequest(request_from_values(values), bool(heads)))
        except UserError as error:
            desk = self.desks.change(session, recording=JobStep(RunView(RunPhase.FAILED, error=error)))
            yield self._record_bar(desk, self.readers.translator(request))
            return
        for step in follow_job(
            self.studio,
            lambda context: record_run(self.studio, asked, context),
            owner_of(request),
        ):
            say = self.readers.translator(request)
            if step.value is None:
                yield self._record_bar(self.desks.change(session, recording=step), say)
                continue
            saved, problem = self._kept(step.value.trace)
            view = replace(step.view, notices=step.value.notices)
            self.desks.change(session, recording=replace(step, view=view, value=None))
            yield self._record_bar(self._put(session, step.value.trace, saved, problem), say)

    def _show_recorded(self, request: gr.Request) -> Updates:
        desk = self.desks.of(session_of(request))
        if desk.recording.view.phase is not RunPhase.DONE:
            return unchanged()
        return self._shown(desk, self.readers.translator(request)) | {self.parts.bundled: gr.update(value=None)}

    def _kept(self, trace: Trace) -> tuple[Path | None, UserError | None]:
        """The file of a recording, for the download button; a recording that cannot be saved is still looked at."""
        try:
            return keep_trace(self.studio, trace), None
        except UserError as error:
            return None, error

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).recording, owner_of(request))

    def _open_bundled(self, name: str | None, request: gr.Request) -> Updates:
        return self._opened(lambda: open_trace(find_bundled_trace(name or "")), request)

    def _open_file(self, file: object, request: gr.Request) -> Updates:
        path = file.get("path") if isinstance(file, Mapping) else None
        return self._opened(lambda: open_trace(Path(str(path))), request)

    def _opened(self, opening: Any, request: gr.Request) -> Updates:
        session, say = session_of(request), self.readers.translator(request)
        try:
            desk = self._put(session, opening(), None, None)
        except UserError as error:
            desk = self.desks.change(session, problem=error)
            return {self.parts.problem: _problem(desk, say)}
        return self._shown(desk, say)

    def _put(self, session: str, trace: Trace, saved: Path | None, problem: UserError | None) -> InsideDesk:
        return self.desks.change(
            session, trace=trace, saved=saved, problem=problem, other=None, comparing=JobStep(), ablating=JobStep(),
            locking=JobStep(),
        )  # fmt: skip

    def _shown(self, desk: InsideDesk, say: Translator) -> Updates:
        """The run on the desk: its data, and a form for a second run like it."""
        parts, asked = self.parts, desk.drawn_from()
        if desk.trace is None or asked is None:
            return {}
        return {
            parts.viewer: as_json(trace_payload(desk.trace)),
            parts.save: gr.update(visible=desk.saved is not None, value=str(desk.saved) if desk.saved else None),
            parts.problem: _problem(desk, say),
            **parts.bar.shown(desk.trace.picture is not None),
            parts.compared: "",
            parts.ablated: "",
            parts.locked: "",
            parts.word: gr.update(
                choices=[(word, number) for number, word in enumerate(desk.trace.header.words)],
                value=longest_word(desk.trace),
            ),
            parts.other_bundled: gr.update(value=None),
            **self.checks.form_of(asked),
        }

    def _shown_outputs(self) -> list[Block]:
        parts = self.parts
        return [
            parts.viewer, parts.save, parts.problem, parts.compared, parts.other_bundled, parts.other_prompt,
            parts.other_seed, parts.other_guidance, parts.other_sampler, parts.bundled, parts.ablated, parts.locked,
            parts.word, parts.bar.row,
        ]  # fmt: skip

    def _record_bar(self, desk: InsideDesk, say: Translator) -> Updates:
        trace = desk.trace
        done = ""
        if trace is not None and desk.recording.view.phase is RunPhase.DONE:
            done = say.text(recorded_key(trace), calls=len(trace.header.steps), planned=trace.header.planned_calls)
        return self.parts.record.show(desk.recording.view, say, done)


def _problem(desk: InsideDesk, say: Translator) -> str:
    if desk.problem is None:
        return ""
    return element("div", text(say.error(desk.problem)), class_="status-failed", role="alert")
