"""The stage of the txt2img page: what is being drawn, how far it is, and what went wrong. Data in, HTML out."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from enum import StrEnum

from webui.errors import UserError
from webui.i18n import Translator
from webui.runtime.jobs import Progress
from webui.views.markup import element, text


class RunPhase(StrEnum):
    """What the stage is about."""

    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether a job is queued or running, so that there is something to stop."""
        return self in (RunPhase.WAITING, RunPhase.RUNNING)


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything the stage says, free of any language, so that it can be said again in another one.

    `position` counts the jobs ahead in the queue; `previews` are JPEGs of the predicted x0, one
    for each picture that is being drawn; `finished` of `wanted`
    pictures are saved; `error` is None for a failure that is a defect of ours; `notices` are message keys that say
    what was done to fit the run into the memory.
    """

    phase: RunPhase = RunPhase.IDLE
    position: int = 0
    progress: Progress | None = None
    previews: tuple[bytes, ...] = ()
    finished: int = 0
    wanted: int = 0
    seconds: float = 0.0
    stopping: bool = False
    error: UserError | None = None
    notices: tuple[str, ...] = ()


def render_preview(view: RunView, say: Translator) -> str:
    """The picture as the model expects it at this step, or an invitation while there is nothing to see."""
    if view.previews:
        return _figure(view.previews, say)
    if view.phase.busy:
        return element("div", element("div", class_="shimmer", aria_hidden="true"), class_="stage-empty")
    lines = (
        element("p", text(say.text("create.empty.title")), class_="stage-title"),
        element("p", text(say.text("create.empty.keys")), class_="stage-hint"),
        element("p", text(say.text("create.empty.drop")), class_="stage-hint"),
    )
    return element("div", *lines, class_="stage-empty")


def render_problem(view: RunView, say: Translator) -> str:
    """Why a run failed, in one sentence that screen readers announce; nothing for any other run."""
    if view.phase is not RunPhase.FAILED:
        return ""
    sentence = say.error(view.error) if view.error is not None else say.text("create.unexpected")
    return element("div", text(sentence), class_="status-failed", role="alert")


def render_status(view: RunView, say: Translator) -> str:
    """One line on where the run is, with a progress bar while it runs; a failure is `render_problem`'s."""
    if view.phase in (RunPhase.IDLE, RunPhase.FAILED):
        return ""
    if not view.phase.busy:
        return render_outcome(view, _outcome(view, say), say)
    fraction = _fraction(view.progress)
    bar = element(
        "div",
        element("div", class_="bar-fill", style=f"width:{100 * fraction:.1f}%"),
        class_="bar",
        role="progressbar",
        aria_valuemin="0",
        aria_valuemax="100",
        aria_valuenow=f"{100 * fraction:.0f}",
        aria_label=say.text("create.progress"),
    )
    return element("div", element("div", *_busy_words(view, say), class_="status-words"), bar, class_="status")


def render_outcome(view: RunView, words: str, say: Translator) -> str:
    """How a run ended, in `words`, and what was done to fit it into the memory."""
    said = " ".join([words, *map(say.text, view.notices)])
    return element("div", text(said), class_="status", role="status") if words else ""


def _figure(jpegs: tuple[bytes, ...], say: Translator) -> str:
    images = [f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode("ascii")}" alt="">' for jpeg in jpegs]
    columns = math.ceil(math.sqrt(len(jpegs)))
    grid = element("div", *images, class_="preview-grid", style=f"grid-template-columns:repeat({columns},1fr)")
    return element("figure", grid, element("figcaption", text(say.text("create.preview"))), class_="stage-preview")


def _outcome(view: RunView, say: Translator) -> str:
    if view.phase is RunPhase.STOPPED:
        return say.text("create.stopped", finished=view.finished, wanted=view.wanted)
    return say.text("create.done", finished=view.finished, seconds=f"{view.seconds:.1f}")


def _busy_words(view: RunView, say: Translator) -> list[str]:
    """The phase on the left, the count and the time left on the right."""
    if view.stopping:
        return [element("span", text(say.text("create.stopping")))]
    if view.phase is RunPhase.WAITING:
        return [element("span", text(say.text("create.waiting", position=view.position)))]
    if view.progress is None:
        return [element("span", text(say.text("create.starting")))]
    words = [element("span", text(say.text(view.progress.phase)))]
    if view.wanted > 1:
        so_far = say.text("create.pictures_so_far", finished=view.finished, wanted=view.wanted)
        words.append(element("span", text(so_far)))
    words.append(element("span", text(_count(view.progress, say)), class_="status-count"))
    return words


def _count(progress: Progress, say: Translator) -> str:
    """Steps while denoising; of everything else, whose unit means nothing to a reader, how much is done."""
    if progress.phase != "phase.denoising":
        return f"{100 * _fraction(progress):.0f} %" if progress.total else ""
    if progress.eta_seconds is None:
        return f"{progress.step}/{progress.total}"
    return say.text("create.step_count", step=progress.step, total=progress.total, eta=_duration(progress.eta_seconds))


def _fraction(progress: Progress | None) -> float:
    return progress.step / progress.total if progress is not None and progress.total else 0.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
