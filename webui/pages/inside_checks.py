"""What is asked of the run looked at on the page "Inside": without a word, against rivals, beside a second run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.bundled import find_bundled_trace
from webui.diffusion.compare import compare_runs
from webui.diffusion.request import GenerateRequest
from webui.diffusion.request_values import request_from_values
from webui.diffusion.trace import Trace, open_trace
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.inside_desk import InsideDesk, InsideDesks
from webui.pages.inside_form import InsideParts, form_values
from webui.pages.localize import FOLLOWED, QUIET, Updates, merged, never_silent
from webui.pages.reader import Readers, owner_of, session_of
from webui.runtime.entries import CLIP
from webui.studio import Studio
from webui.tasks.inside import AblationRequest, LockInRequest, TraceRequest, leave_out_word, record_run, score_steps
from webui.views.inside_compare import ablation_payload, comparison_payload, lock_in_payload
from webui.views.inside_payload import as_json, trace_payload
from webui.views.run import RunPhase, RunView


@dataclass(frozen=True, slots=True)
class InsideChecks:
    """The handlers behind the page's lower half; the parts and the desks are the page's."""

    studio: Studio
    readers: Readers
    desks: InsideDesks
    parts: InsideParts

    def wire(self) -> None:
        """Connect the events."""
        parts = self.parts
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

    def said_again(self, desk: InsideDesk, say: Translator) -> Updates:
        """How far each is, in another language."""
        parts = self.parts
        steps = ((parts.ablate, desk.ablating), (parts.lock_in, desk.locking), (parts.compare, desk.comparing))
        return merged(*(bar.show(step.view, say) for bar, step in steps))

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        parts = self.parts
        return [*parts.compare.outputs(), *parts.ablate.outputs(), *parts.lock_in.outputs()]

    def form_of(self, asked: GenerateRequest) -> Updates:
        """The form for a second run, as the first was asked for."""
        parts = self.parts
        return {
            parts.other_prompt: asked.prompt,
            parts.other_seed: asked.seed,
            parts.other_guidance: asked.guidance_scale,
            parts.other_sampler: asked.sampler,
        }

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
            yield self.parts.compare.show(desk.comparing.view, self.readers.translator(request))
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
                yield self.parts.compare.show(self.desks.change(session, comparing=step).comparing.view, say)
                continue
            try:
                updates = self._compared(session, step.value.trace)
            except UserError as error:
                desk = self.desks.change(session, comparing=JobStep(RunView(RunPhase.FAILED, error=error)))
                yield self.parts.compare.show(desk.comparing.view, say)
                return
            desk = self.desks.change(session, comparing=replace(step, value=None))
            yield merged(self.parts.compare.show(desk.comparing.view, say), updates, self.form_of(asked))

    def _compare_bundled(self, name: str | None, request: gr.Request) -> Updates:
        session, say = session_of(request), self.readers.translator(request)
        try:
            updates = self._compared(session, open_trace(find_bundled_trace(name or "")))
        except UserError as error:
            desk = self.desks.change(session, comparing=JobStep(RunView(RunPhase.FAILED, error=error)))
            return self.parts.compare.show(desk.comparing.view, say)
        return updates | self.parts.compare.show(self.desks.change(session, comparing=JobStep()).comparing.view, say)

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
