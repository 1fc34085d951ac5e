"""From a piece of CLIP work to a job, and from the job's events to what a page shows of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.localize import Localizer, Updates
from webui.runtime.jobs import Job, JobCancelled, JobContext, JobEvent, JobState, Progress, Published, StateChange
from webui.studio import Studio
from webui.views.job import render_job
from webui.views.run import RunPhase, RunView

_log = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class JobStep(Generic[T]):
    """A job as far as it has come: what is said of it, its result once it is done, and its id once it has one.

    `shown` is the newest value that its work has published.
    """

    view: RunView = field(default_factory=RunView)
    value: T | None = None
    job: str | None = None
    shown: object = None


def follow_job(studio: Studio, work: Callable[[JobContext], T], owner: str, kind: str = "clip") -> Iterator[JobStep[T]]:
    """Submit `work` and yield a step when something happens to it; the last one is done, stopped or failed.

    How far it is, is said twice a second at most: a job may report a thousand times a second, and a page that has to
    show them all answers to no click, not even on Stop. A closed page closes the iterator: then the job is cancelled
    and waited for.
    """
    try:
        job = studio.jobs.submit(work, owner=owner, kind=kind)
    except UserError as error:
        yield JobStep(RunView(RunPhase.FAILED, error=error))
        return
    view = RunView(RunPhase.WAITING)
    shown: object = None
    said = -math.inf
    try:
        for event in job.events():
            view = _after(view, event, stopping=job.stopping)
            shown = event.value if isinstance(event, Published) else shown
            if not isinstance(event, StateChange) and time.monotonic() - said < _PAUSE_SECONDS:
                continue
            said = time.monotonic()
            yield JobStep(view, job=job.id, shown=shown)
        yield replace(_ended(view, job), shown=shown)
    finally:
        if not job.state.ended:
            studio.jobs.cancel(job.id, owner)
            _ended(view, job)


def stop_job(studio: Studio, step: JobStep[T], owner: str) -> None:
    """Ask a job that is followed to end; one that has ended already is left alone."""
    if step.job is not None and step.view.phase.busy:
        try:
            studio.jobs.cancel(step.job, owner)
        except UserError:
            _log.debug("job %s had been forgotten", step.job)


@dataclass(frozen=True, slots=True)
class RunBar:
    """A button that starts a job, the one that stops it, and where it is said how far it is."""

    start: gr.Button
    stop: gr.Button
    status: gr.HTML

    def outputs(self) -> list[Block]:
        """Everything that `show` changes."""
        return [self.start, self.stop, self.status]

    def show(self, view: RunView, say: Translator, done: str = "") -> Updates:
        """One of the two buttons, and one line; `done` is said of a job that has ended well."""
        busy = view.phase.busy
        return {
            self.start: gr.update(visible=not busy),
            self.stop: gr.update(visible=busy),
            self.status: render_job(view, say, done),
        }


def build_run_bar(page: Localizer, name: str, start: str) -> RunBar:
    """Lay out a bar; `name` begins the elements' ids, `start` is the message key on the button."""
    return RunBar(
        start=page.make(gr.Button, {"value": start}, variant="primary", elem_id=f"{name}-run"),
        stop=page.make(gr.Button, {"value": "create.stop"}, variant="stop", visible=False, elem_id=f"{name}-stop"),
        status=gr.HTML(apply_default_css=False, elem_id=f"{name}-status", elem_classes="run-status"),
    )


def _after(view: RunView, event: JobEvent, *, stopping: bool) -> RunView:
    view = replace(view, stopping=stopping)
    match event:
        case StateChange(state=JobState.QUEUED, position=position):
            return replace(view, phase=RunPhase.WAITING, position=position)
        case StateChange(state=JobState.RUNNING):
            return replace(view, phase=RunPhase.RUNNING)
        case Progress():
            return replace(view, progress=event)
        case _:
            return view


def _ended(view: RunView, job: Job[T]) -> JobStep[T]:
    """What became of the job; waits for it."""
    view = replace(view, progress=None, stopping=False)
    try:
        value = job.result()
    except JobCancelled:
        return JobStep(replace(view, phase=RunPhase.STOPPED))
    except UserError as error:
        return JobStep(replace(view, phase=RunPhase.FAILED, error=error))
    # The job has logged the traceback; the page says one sentence and goes on.
    except Exception:  # noqa: BLE001
        return JobStep(replace(view, phase=RunPhase.FAILED))
    return JobStep(replace(view, phase=RunPhase.DONE), value, job.id)
