"""One piece of work: where it is, what it tells while it runs, and what became of it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, Generic, NoReturn, TypeVar, cast

from webui.errors import UserError

_log = logging.getLogger(__name__)

T = TypeVar("T")

STEP_SMOOTHING: Final = 0.3
"""Weight of the newest step in the exponential moving average of seconds a step."""


class JobCancelled(Exception):  # noqa: N818 - it is what happened, not an error
    """Raised inside a job's work when its owner has cancelled it, and by `Job.result` of such a job."""


class JobState(StrEnum):
    """Where a job is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `total` is done; `phase` is a message key; `eta_seconds` is None until a step has been timed."""

    step: int
    total: int
    phase: str
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """The job's new state; `position` is the number of jobs ahead of it (0 once it runs)."""

    state: JobState
    position: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A value from the work: a finished part (all are delivered) or a preview (a slow listener gets the newest)."""

    value: object


JobEvent = StateChange | Progress | Published


class JobContext:
    """What a job's work sees of its job: whether to stop, and where to say how far it is.

    `send(event, kept)` receives every event; a kept event is delivered to each listener, another may be superseded.
    """

    def __init__(
        self,
        device: str,
        cancelled: threading.Event,
        send: Callable[[JobEvent, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self.cancelled = cancelled
        self._send = send
        self._timer = _StepTimer(clock)

    def check(self) -> None:
        """Raise JobCancelled once the owner has cancelled; call it at every step."""
        if self.cancelled.is_set():
            raise JobCancelled

    def progress(self, step: int, total: int, phase: str) -> None:
        """Say that `step` of `total` is done in `phase` (a message key such as "phase.denoising")."""
        self._send(Progress(step, total, phase, self._timer.eta(step, total)), False)

    def publish(self, value: object) -> None:
        """Hand out a part that is finished; every listener gets it, also one that comes late."""
        self._send(Published(value), True)

    def preview(self, value: object) -> None:
        """Hand out a glimpse that the next one supersedes; nobody is made to wait for a slow listener."""
        self._send(Published(value), False)


class _StepTimer:
    """Seconds to the end from an exponential moving average of the seconds a step took."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds_per_step: float | None = None
        self._last: tuple[int, int, float] | None = None

    def eta(self, step: int, total: int) -> float | None:
        now = self._clock()
        if self._last is None or step < self._last[0] or total != self._last[1]:
            self._seconds_per_step = None
            self._last = (step, total, now)
        elif step > self._last[0]:
            seconds = (now - self._last[2]) / (step - self._last[0])
            previous = seconds if self._seconds_per_step is None else self._seconds_per_step
            self._seconds_per_step = previous + STEP_SMOOTHING * (seconds - previous)
            self._last = (step, total, now)
        return None if self._seconds_per_step is None else self._seconds_per_step * (total - step)


class Job(Generic[T]):
    """One piece of work and what became of it. Made by `JobQueue.submit`; safe to read from any thread."""

    def __init__(self, work: Callable[[JobContext], T], owner: str, kind: str, device: str) -> None:
        self.id = secrets.token_urlsafe(12)
        self.owner = owner
        self.kind = kind
        self.device = device
        self._work: Callable[[JobContext], T] = work
        self._cancelled = threading.Event()
        self._changed = threading.Condition()
        self._state = JobState.QUEUED
        self._position = 0
        self._result: T | None = None
        self._error: BaseException | None = None
        self._event_count = 0
        self._kept: list[tuple[int, JobEvent]] = []
        self._newest: dict[type, tuple[int, JobEvent]] = {}

    @property
    def state(self) -> JobState:
        """Where the job is now."""
        return self._state

    @property
    def position(self) -> int:
        """Jobs that will start or end before this one starts; 0 once it runs."""
        return self._position

    @property
    def stopping(self) -> bool:
        """True from the moment of a cancel on, also while the work is still on its way out."""
        return self._cancelled.is_set()

    @property
    def progress(self) -> Progress | None:
        """The newest progress, or None before the first."""
        with self._changed:
            newest = self._newest.get(Progress)
        return cast(Progress, newest[1]) if newest else None

    def events(self, timeout: float | None = None) -> Iterator[JobEvent]:
        """What has happened and what happens, in order, until the job has ended.

        Any number of listeners may iterate, each from the beginning: finished parts are all delivered; of progress,
        previews and queue positions a slow listener gets the newest. Raises TimeoutError when nothing comes for
        `timeout` seconds.
        """
        seen = 0
        while True:
            with self._changed:
                if not self._changed.wait_for(partial(self._has_news, seen), timeout):
                    raise TimeoutError(f"no event of job {self.id} within {timeout} s")
                waiting = [item for item in (*self._kept, *self._newest.values()) if item[0] > seen]
                ended = self._state.ended
                seen = self._event_count
            for _, event in sorted(waiting, key=lambda item: item[0]):
                yield event
            if ended:
                return

    def result(self, timeout: float | None = None) -> T:
        """What the work returned, once it has; raises what it raised, JobCancelled, or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._state.ended, timeout):
                raise TimeoutError(f"job {self.id} has not ended within {timeout} s")
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    def stop(self) -> None:
        """Ask the work to end at its next step. `JobQueue.cancel` is the way for users: it knows whose job this is."""
        self._cancelled.set()

    def move_to(self, position: int) -> None:
        """For the queue: say how many jobs are ahead while this one waits."""
        with self._changed:
            if self._state is JobState.QUEUED and (position != self._position or not self._event_count):
                self._position = position
                self._send(StateChange(JobState.QUEUED, position), kept=False)

    def end_unstarted(self) -> None:
        """For the queue: the job was cancelled while it waited."""
        self._enter(JobState.CANCELLED, error=JobCancelled())

    def fail(self, error: BaseException) -> None:
        """For the queue: the worker was hit before it had begun with the job, or had said how it ended."""
        self._enter(JobState.FAILED, error=_without_frames(error))

    def run(self, clock: Callable[[], float]) -> None:
        """For the queue: do the work in this thread. Never raises: what the work raises is kept for `result`."""
        context = JobContext(self.device, self._cancelled, self._send, clock)
        try:
            context.check()
            self._enter(JobState.RUNNING)
            result = self._work(context)
        except JobCancelled as cancelled:
            self._enter(JobState.CANCELLED, error=_without_frames(cancelled))
        # Whatever it is, it belongs to the one who waits for the result, and the worker must outlive it.
        except BaseException as error:  # noqa: BLE001
            if not isinstance(error, UserError):
                _log.exception("job %s (%s) failed", self.id, self.kind)
            self._enter(JobState.FAILED, error=_without_frames(error))
        else:
            self._enter(JobState.DONE, result=result)

    def _has_news(self, seen: int) -> bool:
        return self._event_count > seen or self._state.ended

    def _send(self, event: JobEvent, kept: bool) -> None:
        with self._changed:
            self._event_count += 1
            if kept:
                self._kept.append((self._event_count, event))
            else:
                self._newest[type(event)] = (self._event_count, event)
            self._changed.notify_all()

    def _enter(self, state: JobState, *, result: T | None = None, error: BaseException | None = None) -> None:
        with self._changed:
            self._state, self._position = state, 0
            self._result, self._error = result, error
            if state.ended:
                self._work = _nothing_left
            self._send(StateChange(state), kept=True)


def _nothing_left(_: JobContext) -> NoReturn:
    """Stands in for the work of an ended job, so that what the work refers to can be freed."""
    raise RuntimeError("this job has ended")


def _without_frames(error: BaseException) -> BaseException:
    """`error` with its frames' locals dropped: they would keep models and tensors alive as long as the job is kept."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    return error
