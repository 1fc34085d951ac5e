"""Pressing "Generate": from the form's values to a job, and from the job's events to what the page shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from webui.diffusion.request_values import request_from_values
from webui.errors import UserError
from webui.runtime.jobs import Job, JobCancelled, JobEvent, JobState, Progress, Published, StateChange
from webui.store.gallery import SavedPicture
from webui.studio import Studio
from webui.tasks.translate import Translation
from webui.tasks.txt2img import DrawnPictures, PreviewFrame, draw_pictures, prepare_request
from webui.views.run import RunPhase, RunView

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """One press of "Generate" as far as it has come: what the stage shows, and the pictures that are finished.

    `translation` is what is drawn instead of the prompt, where that was asked for.
    """

    view: RunView = field(default_factory=RunView)
    pictures: tuple[SavedPicture, ...] = ()
    translation: Translation | None = None


def follow_run(
    studio: Studio, values: Mapping[str, object], owner: str, shown: tuple[SavedPicture, ...] = ()
) -> Iterator[Run]:
    """Start a job for the form's values and yield the run anew for everything that happens to it.

    Ends with a run that is done, stopped or failed; a request that is refused leaves the pictures that are `shown`.
    However the iteration ends (a closed page closes the generator), the job is cancelled and waited for, so that
    nothing goes on drawing for nobody.
    """
    try:
        request = prepare_request(studio, request_from_values(values))
        job = studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner=owner, kind="txt2img")
    except UserError as error:
        yield Run(RunView(RunPhase.FAILED, error=error), shown)
        return
    run = Run(RunView(RunPhase.WAITING, wanted=request.batch_count * request.batch_size))
    try:
        for event in job.events():
            run = _after(run, event, job)
            yield run
        yield _ended(run, job)
    finally:
        if not job.state.ended:
            studio.jobs.cancel(job.id, owner)
            _wait_for(job)


def _after(run: Run, event: JobEvent, job: Job[DrawnPictures]) -> Run:
    """The run once `event` has happened."""
    view = replace(run.view, stopping=job.stopping)
    match event:
        case StateChange(state=JobState.QUEUED, position=position):
            view = replace(view, phase=RunPhase.WAITING, position=position)
        case StateChange(state=JobState.RUNNING):
            view = replace(view, phase=RunPhase.RUNNING)
        case Progress():
            view = replace(view, progress=event)
        case Published(value=PreviewFrame(jpegs=jpegs)):
            view = replace(view, previews=jpegs)
        case Published(value=SavedPicture() as picture):
            run = replace(run, pictures=(*run.pictures, picture))
            view = replace(view, finished=len(run.pictures))
        case Published(value=Translation() as translation):
            run = replace(run, translation=translation)
    return replace(run, view=view)


def _ended(run: Run, job: Job[DrawnPictures]) -> Run:
    """The run after the job's last event, from what the job returned or raised."""
    view = replace(run.view, previews=(), progress=None, stopping=False)
    try:
        drawn = job.result()
    except JobCancelled:
        return replace(run, view=replace(view, phase=RunPhase.STOPPED))
    except UserError as error:
        return replace(run, view=replace(view, phase=RunPhase.FAILED, error=error))
    # The job has logged the traceback; the page says one sentence and goes on.
    except Exception:  # noqa: BLE001
        return replace(run, view=replace(view, phase=RunPhase.FAILED))
    phase = RunPhase.STOPPED if drawn.stopped else RunPhase.DONE
    view = replace(view, phase=phase, finished=len(drawn.pictures), seconds=drawn.seconds, notices=drawn.notices)
    return replace(run, view=view, pictures=drawn.pictures)


def _wait_for(job: Job[DrawnPictures]) -> None:
    """Return when the job has ended; nobody is left to hear how."""
    try:
        job.result()
    except JobCancelled:
        return
    except Exception:  # noqa: BLE001 - logged by the job itself
        _log.debug("job %s failed after its page had gone", job.id)
