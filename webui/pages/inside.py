"""The page "Inside": record a run or open one, and look at every step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.bundled import bundled_traces, find_bundled_trace
from webui.diffusion.compare import compare_runs
from webui.diffusion.request import GenerateRequest
from webui.diffusion.request_values import request_from_values
from webui.diffusion.trace import Trace, open_trace
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.inside_desk import InsideDesk, InsideDesks
from webui.pages.inside_form import (
    InsideParts,
    RecordForm,
    build_parts,
    build_record_form,
    build_source,
    form_values,
    longest_word,
    recorded_key,
)
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import SentPicture
from webui.runtime.entries import CLIP
from webui.store.infotext import read_infotext, request_from_infotext
from webui.studio import Studio
from webui.tasks.inside import (
    AblationRequest,
    LockInRequest,
    TraceRequest,
    keep_trace,
    leave_out_word,
    prepare_trace,
    record_run,
    score_steps,
)
from webui.views.inside_compare import ablation_payload, comparison_payload, lock_in_payload
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

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> InsidePage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        with gr.Row(elem_id="inside-source"):
            with gr.Column(elem_classes="card", scale=3):
                form, heads, record = build_record_form(page, studio.catalog, studio.samplers, studio.settings.limits)
            with gr.Column(elem_classes="card", scale=2):
                source = build_source(page)
        parts = build_parts(page, studio.samplers, heads, record, source)
        built = cls(studio, readers, InsideDesks(), form, parts)
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

    def receive(self, picture: SentPicture, request: gr.Request) -> Iterator[Updates]:
        """A picture from another tab: its exact request, seed and size into the form, to be recorded next.

        The desk waits for that recording from here on: a shipped run that opened meanwhile could come after it.
        Raises gr.Error for a picture that does not say what it was drawn from.
        """
        try:
            asked = request_from_infotext(read_infotext(picture.path))
        except UserError as error:
            raise gr.Error(self.readers.translator(request).error(error), print_exception=False) from error
        self.desks.change(session_of(request), recording=JobStep(RunView(RunPhase.WAITING)))
        yield self.form.filled(asdict(asked))

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return list(self.form.by_name().values())

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
        asked = self.parts.ablate.show(desk.ablating.view, say) | self.parts.lock_in.show(desk.locking.view, say)
        return merged(self._record_bar(desk, say), self._compare_bar(desk, say), asked, problem)

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [
            *self.parts.record.outputs(), *self.parts.compare.outputs(), *self.parts.ablate.outputs(),
            *self.parts.lock_in.outputs(), self.parts.problem,
        ]  # fmt: skip

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
        parts.record.stop.click(self._stops(lambda desk: desk.recording), **QUIET)
        parts.bundled.select(self._open_bundled, inputs=[parts.bundled], outputs=self._shown_outputs(), **QUIET)
        parts.upload.upload(
            self._open_file, inputs=[parts.upload], outputs=self._shown_outputs(), preprocess=False, **QUIET
        )
        others = [parts.other_prompt, parts.other_seed, parts.other_guidance, parts.other_sampler]
        outputs = [*parts.compare.outputs(), parts.compared, *others]
        parts.compare.start.click(self._compare, inputs=others, outputs=outputs, **FOLLOWED)
        parts.viewer.again(self._again, outputs=outputs, **FOLLOWED)
        parts.compare.stop.click(self._stops(lambda desk: desk.comparing), **QUIET)
        parts.ablate.start.click(
            self._ablate, inputs=[parts.word], outputs=[*parts.ablate.outputs(), parts.ablated], **FOLLOWED
        )
        parts.ablate.stop.click(self._stops(lambda desk: desk.ablating), **QUIET)
        parts.lock_in.start.click(
            self._lock_in, inputs=[parts.rivals], outputs=[*parts.lock_in.outputs(), parts.locked], **FOLLOWED
        )
        parts.lock_in.stop.click(self._stops(lambda desk: desk.locking), **QUIET)
        parts.other_bundled.select(
            self._compare_bundled, inputs=[parts.other_bundled], outputs=[parts.compared, *parts.compare.outputs()],
            **QUIET,
        )  # fmt: skip

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

    def _stops(self, job: Callable[[InsideDesk], JobStep[Any]]) -> Callable[[gr.Request], None]:
        def stop(request: gr.Request) -> None:
            stop_job(self.studio, job(self.desks.of(session_of(request))), owner_of(request))

        return stop

    @never_silent
    def _ablate(self, word: int | None, request: gr.Request) -> Iterator[Updates]:
        """Draw the run again without one word."""
        session, trace = session_of(request), self.desks.of(session_of(request)).trace
        if trace is None:
            return
        asked = AblationRequest(trace, -1 if word is None else int(word))
        for step in follow_job(
            self.studio, lambda context: leave_out_word(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).trace is not trace:  # another run is looked at by now
                return
            self.desks.change(session, ablating=replace(step, value=None))
            shown = {} if step.value is None else {self.parts.ablated: as_json(ablation_payload(trace, step.value))}
            yield self.parts.ablate.show(step.view, self.readers.translator(request)) | shown

    @never_silent
    def _lock_in(self, rivals: str | None, request: gr.Request) -> Iterator[Updates]:
        """Score each step's x0 against the prompt and the rival texts, one a line."""
        session, trace = session_of(request), self.desks.of(session_of(request)).trace
        entries = self.studio.catalog.entries(CLIP)
        if trace is None:
            return
        texts = tuple(line.strip() for line in (rivals or "").splitlines() if line.strip())
        asked = LockInRequest(trace, texts, entries[0].id if entries else "")
        for step in follow_job(
            self.studio, lambda context: score_steps(self.studio, asked, context), owner_of(request)
        ):
            if self.desks.of(session).trace is not trace:
                return
            self.desks.change(session, locking=replace(step, value=None))
            found = step.value
            shown = (
                {self.parts.locked: as_json(lock_in_payload(found.texts, found.scores, found.call))} if found else {}
            )
            yield self.parts.lock_in.show(step.view, self.readers.translator(request)) | shown

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
            parts.compared: "",
            parts.ablated: "",
            parts.locked: "",
            parts.word: gr.update(
                choices=[(word, number) for number, word in enumerate(desk.trace.header.words)],
                value=longest_word(desk.trace),
            ),
            parts.other_bundled: gr.update(value=None),
            **self._other_form(asked),
        }

    def _shown_outputs(self) -> list[Block]:
        parts = self.parts
        return [
            parts.viewer, parts.save, parts.problem, parts.compared, parts.other_bundled, parts.other_prompt,
            parts.other_seed, parts.other_guidance, parts.other_sampler, parts.bundled, parts.ablated, parts.locked,
            parts.word,
        ]  # fmt: skip

    def _other_form(self, asked: GenerateRequest) -> Updates:
        parts = self.parts
        return {
            parts.other_prompt: asked.prompt,
            parts.other_seed: asked.seed,
            parts.other_guidance: asked.guidance_scale,
            parts.other_sampler: asked.sampler,
        }

    @never_silent
    def _again(self, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """The same seed at another guidance scale, one click away from the guidance meter."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        asked = self.desks.of(session_of(request)).drawn_from()
        if asked is None or not isinstance(sent, Mapping) or not isinstance(sent.get("cfg"), int | float):
            return
        yield from self._follow_compare(replace(asked, guidance_scale=float(sent["cfg"])), request)

    @never_silent
    def _compare(
        self, prompt: str, seed: float | None, guidance: float | None, sampler: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Record a second run and put it beside the first."""
        asked = self.desks.of(session_of(request)).drawn_from()
        if asked is None:
            return
        values = form_values(asked) | {
            "prompt": prompt or "", "seed": asked.seed if seed is None else seed, "guidance_scale": guidance,
            "sampler": sampler or asked.sampler,
        }  # fmt: skip
        try:
            wanted = request_from_values(values)
        except UserError as error:
            desk = self.desks.change(session_of(request), comparing=JobStep(RunView(RunPhase.FAILED, error=error)))
            yield self._compare_bar(desk, self.readers.translator(request))
            return
        yield from self._follow_compare(wanted, request)

    def _follow_compare(self, asked: GenerateRequest, request: gr.Request) -> Iterator[Updates]:
        session = session_of(request)
        first = self.desks.of(session).trace
        for step in follow_job(
            self.studio, lambda context: record_run(self.studio, TraceRequest(asked), context), owner_of(request)
        ):
            if self.desks.of(session).trace is not first:  # another run is looked at by now
                return
            say = self.readers.translator(request)
            if step.value is None:
                yield self._compare_bar(self.desks.change(session, comparing=step), say)
                continue
            try:
                updates = self._compared(session, step.value.trace)
            except UserError as error:
                desk = self.desks.change(session, comparing=JobStep(RunView(RunPhase.FAILED, error=error)))
                yield self._compare_bar(desk, say)
                return
            desk = self.desks.change(session, comparing=replace(step, value=None))
            yield merged(self._compare_bar(desk, say), updates, self._other_form(asked))

    def _compare_bundled(self, name: str | None, request: gr.Request) -> Updates:
        session, say = session_of(request), self.readers.translator(request)
        try:
            updates = self._compared(session, open_trace(find_bundled_trace(name or "")))
        except UserError as error:
            desk = self.desks.change(session, comparing=JobStep(RunView(RunPhase.FAILED, error=error)))
            return self._compare_bar(desk, say)
        return updates | self._compare_bar(self.desks.change(session, comparing=JobStep()), say)

    def _compared(self, session: str, other: Trace) -> Updates:
        """Both runs for the browser. Raises UserError for two that cannot be compared."""
        first = self.desks.of(session).trace
        if first is None:
            return {}
        payload = {
            "found": comparison_payload(len(first.header.steps), compare_runs(first, other)),
            "other": trace_payload(other),
        }
        self.desks.change(session, other=other)
        return {self.parts.compared: as_json(payload)}

    def _record_bar(self, desk: InsideDesk, say: Translator) -> Updates:
        trace = desk.trace
        done = ""
        if trace is not None and desk.recording.view.phase is RunPhase.DONE:
            done = say.text(recorded_key(trace), calls=len(trace.header.steps), planned=trace.header.planned_calls)
        return self.parts.record.show(desk.recording.view, say, done)

    def _compare_bar(self, desk: InsideDesk, say: Translator) -> Updates:
        return self.parts.compare.show(desk.comparing.view, say)


def _problem(desk: InsideDesk, say: Translator) -> str:
    if desk.problem is None:
        return ""
    return element("div", text(say.error(desk.problem)), class_="status-failed", role="alert")
