"""Three tabs of the page on latents: between two pictures or seeds, adding noise, resuming a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.blocks import Block

from webui.diffusion.animation import ANIMATION_FORMATS, animate
from webui.diffusion.forward_diffusion import add_noise, noise_point, seeded_noise
from webui.diffusion.latent_edits import EditHistory
from webui.diffusion.trace import Trace
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, RunBar, follow_job, stop_job
from webui.pages.latents_desk import LatentDesk, LatentDesks, Subject
from webui.pages.latents_form import (
    BetweenForm,
    NoiseForm,
    ResumeForm,
    SourceForm,
    build_between,
    build_noise,
    build_resume,
)
from webui.pages.localize import QUIET, Localizer, Updates, merged, unchanged
from webui.pages.reader import Readers, owner_of, session_of
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.latent_walks import Interpolation, interpolate_latents, interpolate_seeds
from webui.tasks.latents import guess_x0, request_to_draw
from webui.tasks.recordings import Recording, open_recording, record, recording_of_trace, resume
from webui.views.figures import data_url
from webui.views.latents import (
    render_edited,
    render_guess,
    render_noise,
    render_run_picture,
    render_run_strip,
    render_strip,
)
from webui.views.run import RunPhase, RunView

_SEED_STEPS = 20
_SEED_SAMPLER = "DPM++ 2M Karras"


@dataclass(frozen=True, slots=True)
class LatentTools:
    """The three tabs' components and handlers."""

    studio: Studio
    readers: Readers
    desks: LatentDesks
    form: SourceForm
    tabs: gr.Tabs
    between: BetweenForm
    noise: NoiseForm
    run: ResumeForm

    @classmethod
    def build(
        cls, studio: Studio, readers: Readers, desks: LatentDesks, page: Localizer, form: SourceForm, tabs: gr.Tabs
    ) -> LatentTools:
        """Lay the tabs out."""
        with page.make(gr.Tab, {"label": "latents.tab.between"}, id="between"):
            between = build_between(page)
        with page.make(gr.Tab, {"label": "latents.tab.noise"}, id="noise"):
            noise = build_noise(page)
        with page.make(gr.Tab, {"label": "latents.tab.resume"}, id="resume"):
            run = build_resume(page, studio.samplers)
        return cls(studio, readers, desks, form, tabs, between, noise, run)

    def wire(
        self, followed: dict[str, Any], editor: Callable[[LatentDesk, Translator], Updates], editor_outputs: list[Block]
    ) -> None:
        """Wire the events; `editor` says what the editor shows once a step of a run has been taken there."""
        between, noise, run = self.between, self.noise, self.run
        between.bar.start.click(
            self._interpolate,
            inputs=[between.what, between.prompt, between.seed, between.other_seed, between.frames, self.form.model],
            outputs=[*between.bar.outputs(), between.strip],
            **followed,
        )
        between.format.input(self._format, inputs=[between.format], outputs=[between.strip], **QUIET)
        noise.timestep.change(
            self._noise, inputs=[noise.timestep, noise.seed], outputs=[noise.closed_form], trigger_mode="always_last",
            **QUIET,
        )  # fmt: skip
        noise.seed.input(self._noise, inputs=[noise.timestep, noise.seed], outputs=[noise.closed_form], **QUIET)
        noise.bar.start.click(
            self._guess, inputs=[noise.prompt], outputs=[*noise.bar.outputs(), noise.guess], **followed
        )
        run.record.start.click(
            self._record,
            inputs=[run.prompt, run.seed, run.steps, run.sampler, self.form.model],
            outputs=self.receive_outputs(),
            **followed,
        )
        run.file.upload(
            self._open, inputs=[run.file], outputs=self.receive_outputs(), preprocess=False,
            **followed,
        )  # fmt: skip
        run.call.select(self._choose, inputs=[run.call], outputs=[run.strip], **QUIET)

        def take(request: gr.Request) -> Updates:
            desk = self._take(request)
            return editor(desk, self.readers.translator(request)) | {self.tabs: gr.update(selected="edit")}

        run.take.click(take, outputs=[*editor_outputs, self.tabs], **QUIET)
        run.resume.start.click(self._resume, outputs=[*run.resume.outputs(), run.result], **followed)
        for bar, job in (
            (between.bar, lambda desk: desk.between),
            (noise.bar, lambda desk: desk.guessing),
            (run.record, lambda desk: desk.recording),
            (run.resume, lambda desk: desk.resuming),
        ):
            bar.stop.click(self._stops(job), **QUIET)

    def encoded(self, desk: LatentDesk, say: Translator) -> Updates:
        """A new picture: its noise, and nothing guessed yet."""
        return {self.noise.closed_form: self._closed_form(desk, say), self.noise.guess: ""}

    def encoded_outputs(self) -> list[Block]:
        """Everything that `encoded` changes."""
        return [self.noise.closed_form, self.noise.guess]

    def said_again(self, desk: LatentDesk, say: Translator) -> Updates:
        """What Python made, in another language."""
        guess = render_guess(desk.guessing.value, desk.encoded, say) if desk.guessing.value and desk.encoded else ""
        bars = (
            (self.between.bar, desk.between), (self.noise.bar, desk.guessing), (self.run.record, desk.recording),
            (self.run.resume, desk.resuming),
        )  # fmt: skip
        return merged(
            *(bar.show(step.view, say) for bar, step in bars),
            {self.between.strip: _strip(desk, say), self.noise.guess: guess, self.run.result: self._resumed(desk, say)},
            {self.noise.closed_form: self._closed_form(desk, say)},
            self._recorded(desk, say),
        )

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        bars = (self.between.bar, self.noise.bar, self.run.record, self.run.resume)
        return [
            *(block for bar in bars for block in bar.outputs()), self.between.strip, *self.encoded_outputs(),
            *self._run_outputs(),
        ]  # fmt: skip

    def _interpolate(
        self, what: str, prompt: str, seed: float, other_seed: float, frames: float, model: str | None,
        request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        """Draw the strip between the two pictures, or between two seeds of one prompt."""
        bar, desk = self.between.bar, self.desks.of(session_of(request))
        try:
            if what == "pictures":
                found = desk.encoded
                if found is None or found.other is None:
                    raise UserError("error.two_pictures_wanted")
                start, end = found.latent, found.other

                def work(context: JobContext) -> Interpolation:
                    return interpolate_latents(self.studio, found.model, start, end, int(frames), context)
            else:
                asked = request_to_draw(
                    self.studio, prompt or "", model or "", int(seed or 0), _SEED_SAMPLER, _SEED_STEPS
                )

                def work(context: JobContext) -> Interpolation:
                    return interpolate_seeds(self.studio, asked, int(other_seed or 0), int(frames), context)
        except UserError as error:
            yield self._failed(bar, error, request)
            return
        for step in follow_job(self.studio, work, owner_of(request)):
            desk = self.desks.change(session_of(request), between=step)
            say = self.readers.translator(request)
            updates = bar.show(step.view, say)
            yield updates | {self.between.strip: _strip(desk, say)} if step.value is not None else updates

    def _format(self, kind: str, request: gr.Request) -> Updates:
        known = kind if kind in ANIMATION_FORMATS else "webp"
        desk = self.desks.change(session_of(request), format=known)
        return {self.between.strip: _strip(desk, self.readers.translator(request))}

    def _noise(self, timestep: float, seed: float | None, request: gr.Request) -> Updates:
        """Another amount of noise: the closed form answers at once, without a model."""
        desk = self.desks.change(
            session_of(request), timestep=min(max(int(timestep or 0), 0), 999), noise_seed=abs(int(seed or 0))
        )
        return {self.noise.closed_form: self._closed_form(desk, self.readers.translator(request))}

    def _closed_form(self, desk: LatentDesk, say: Translator) -> str:
        found = desk.encoded
        if found is None:
            return ""
        point = noise_point(found.alphas_cumprod, min(desk.timestep, len(found.alphas_cumprod) - 1))
        noise = seeded_noise(found.latent.shape, desk.noise_seed)
        return render_noise(found, noise, add_noise(found.latent, noise, point), point, say)

    def _guess(self, prompt: str, request: gr.Request) -> Iterator[Updates]:
        """Ask the model what lies behind the noise."""
        bar, desk = self.noise.bar, self.desks.of(session_of(request))
        found = desk.encoded
        try:
            if found is None:
                raise UserError("error.no_picture_to_encode")
            asked = request_to_draw(self.studio, prompt or "", found.model, 0, "DDIM", 1)
        except UserError as error:
            yield self._failed(bar, error, request)
            return
        point = noise_point(found.alphas_cumprod, min(desk.timestep, len(found.alphas_cumprod) - 1))
        sample = add_noise(found.latent, seeded_noise(found.latent.shape, desk.noise_seed), point)
        for step in follow_job(
            self.studio,
            lambda context: guess_x0(self.studio, asked, found.latent, sample, point.timestep, context),
            owner_of(request),
        ):
            if self.desks.of(session_of(request)).encoded is not found:
                return
            self.desks.change(session_of(request), guessing=step)
            say = self.readers.translator(request)
            updates = bar.show(step.view, say)
            yield updates | {self.noise.guess: render_guess(step.value, found, say)} if step.value else updates

    def _record(
        self, prompt: str, seed: float | None, steps: float, sampler: str, model: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Draw a picture and keep each of its steps."""
        bar = self.run.record
        try:
            asked = request_to_draw(
                self.studio, prompt or "", model or "", None if seed is None else int(seed), sampler, int(steps)
            )
        except UserError as error:
            yield self._failed(bar, error, request)
            return
        yield from self._follow_recording(lambda context: record(self.studio, asked, context), request)

    def _open(self, file: object, request: gr.Request) -> Iterator[Updates]:
        """Take a run from a trace file."""
        listed = file[0] if isinstance(file, list) and file else file
        if isinstance(listed, Mapping) and listed.get("path"):
            path = Path(str(listed["path"]))
            yield from self._follow_recording(lambda context: open_recording(self.studio, path, context), request)

    def receive(self, trace: Trace, call: int, request: gr.Request) -> Iterator[Updates]:
        """A recorded run from another page, and which of its U-Net calls (from 0) to go on from."""
        yield from self._follow_recording(
            lambda context: recording_of_trace(self.studio, trace, context), request, wanted=call
        )

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return [*self.run.record.outputs(), *self._run_outputs()]

    def _follow_recording(
        self, work: Callable[[JobContext], Recording], request: gr.Request, wanted: int | None = None
    ) -> Iterator[Updates]:
        """Show the run when it is there, at the call `wanted` or the last before it that can be gone on from."""
        bar, session = self.run.record, session_of(request)
        for step in follow_job(self.studio, work, owner_of(request)):
            say = self.readers.translator(request)
            if step.value is None:
                kept = self.desks.of(session).recording.value
                self.desks.change(session, recording=JobStep(step.view, kept, step.job))
                yield bar.show(step.view, say)
                continue
            known = step.value.run.steps
            call = known[len(known) // 2] if wanted is None else max(each for each in known if each <= wanted)
            desk = self.desks.change(session, recording=step, call=call, resuming=JobStep())
            yield merged(bar.show(step.view, say, _about(step.value, say)), self._recorded(desk, say))

    def _choose(self, call: object, request: gr.Request) -> Updates:
        desk = self.desks.of(session_of(request))
        recording = desk.recording.value
        if recording is None or call not in recording.run.steps:
            return unchanged()
        desk = self.desks.change(session_of(request), call=call)
        say = self.readers.translator(request)
        return {self.run.strip: self._recorded(desk, say)[self.run.strip]}

    def _take(self, request: gr.Request) -> LatentDesk:
        """Put x_t of the chosen step into the editor."""
        desk = self.desks.of(session_of(request))
        recording = desk.recording.value
        if recording is None:
            return desk
        other = desk.encoded.latent if desk.encoded is not None else None
        sample = recording.run.samples[desk.call]
        region = desk.region
        if region.x + region.width > sample.shape[2] or region.y + region.height > sample.shape[1]:
            region = type(region)(0, 0, 1, 1)
        subject = Subject(sample, recording.colours, desk.call, other)
        return self.desks.change(
            session_of(request), subject=subject, edits=EditHistory(), refused=None, decoding=JobStep(), region=region
        )

    def _resume(self, request: gr.Request) -> Iterator[Updates]:
        """Go on from the chosen step, with the editor's latent when it is that step's."""
        bar, session = self.run.resume, session_of(request)
        desk = self.desks.of(session)
        recording = desk.recording.value
        if recording is None:
            yield self._failed(bar, UserError("error.no_run_to_resume"), request)
            return
        of_step = desk.subject is not None and desk.subject.call == desk.call and bool(desk.edits.done)
        sample = desk.edited() if of_step else None
        for step in follow_job(
            self.studio,
            lambda context: resume(self.studio, recording, desk.call, sample, context),
            owner_of(request),
        ):
            now = self.desks.change(session, resuming=step)
            say = self.readers.translator(request)
            updates = bar.show(step.view, say, say.text(_outcome(of_step, recording)))
            yield updates | {self.run.result: self._resumed(now, say)} if step.value is not None else updates

    def _recorded(self, desk: LatentDesk, say: Translator) -> Updates:
        run, recording = self.run, desk.recording.value
        if recording is None:
            return {}
        found = recording.run
        choices = [(say.text("latents.run.step_of", call=call + 1, t=f"{found.timesteps[call]:.0f}"), call)
                   for call in found.steps]  # fmt: skip
        return {
            run.picture: render_run_picture(found.picture, found.request.seed, say),
            run.call: gr.update(choices=choices, value=desk.call),
            run.strip: render_run_strip(found.samples, recording.colours, found.steps, desk.call, say),
            run.result: self._resumed(desk, say),
        }

    def _run_outputs(self) -> list[Block]:
        return [self.run.picture, self.run.call, self.run.strip, self.run.result]

    def _resumed(self, desk: LatentDesk, say: Translator) -> str:
        picture, recording = desk.resuming.value, desk.recording.value
        if picture is None or recording is None:
            return ""
        return render_edited(recording.run.picture, picture, say, ("latents.run.original", "latents.run.resumed"))

    def _failed(self, bar: RunBar, error: UserError, request: gr.Request) -> Updates:
        return bar.show(RunView(RunPhase.FAILED, error=error), self.readers.translator(request))

    def _stops(self, job: Callable[[LatentDesk], JobStep[Any]]) -> Callable[[gr.Request], None]:
        def stop(request: gr.Request) -> None:
            stop_job(self.studio, job(self.desks.of(session_of(request))), owner_of(request))

        return stop


def _outcome(edited: bool, recording: Recording) -> str:
    """The message key of what was resumed."""
    if edited:
        return "latents.run.edited"
    return "latents.run.rounded" if recording.rounded else "latents.run.unedited"


def _about(recording: Recording, say: Translator) -> str:
    return say.text("latents.run.rounded") if recording.rounded else ""


def _strip(desk: LatentDesk, say: Translator) -> str:
    """The strip, with both ways side by side in one animation."""
    found = desk.between.value
    if found is None:
        return ""
    frames = [np.concatenate(pair, axis=1) for pair in zip(found.slerp, found.lerp, strict=True)]
    kind = ANIMATION_FORMATS[desk.format].partition("/")[2]
    return render_strip(found, data_url(animate(frames, desk.format), kind), desk.format, say)
