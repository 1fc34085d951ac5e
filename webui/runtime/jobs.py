"""Work that users start: one worker thread a device, fair between owners, stopped only from within.

Gradio's own queue frees its slot when a user cancels while the thread still computes; here a device is free only when the
work on it has really returned.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar, cast

from webui.errors import UserError

_log = logging.getLogger(__name__)

T = TypeVar("T")

STEP_SMOOTHING: Final = 0.3
"""Weight of the newest step in the exponential moving average of seconds a step."""

FINISHED_JOBS_KEPT: Final = 64
"""Ended jobs that `JobQueue.get` still finds; the oldest are forgotten first."""


class JobCancelled(Exception):
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
    """A value from the work: a finished part (each is delivered) or a preview (a slow listener gets only the newest)."""

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
        self._work: Callable[[JobContext], T] | None = work
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
                if not self._changed.wait_for(lambda: self._event_count > seen or self._state.ended, timeout):
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

    def _send(self, event: JobEvent, kept: bool) -> None:
        with self._changed:
            self._event_count += 1
            if kept:
                self._kept.append((self._event_count, event))
            else:
                self._newest[type(event)] = (self._event_count, event)
            self._changed.notify_all()

    def _wait_at(self, position: int) -> None:
        with self._changed:
            if self._state is JobState.QUEUED and (position != self._position or not self._event_count):
                self._position = position
                self._send(StateChange(JobState.QUEUED, position), kept=False)

    def _enter(self, state: JobState, *, result: T | None = None, error: BaseException | None = None) -> None:
        with self._changed:
            self._state, self._position = state, 0
            self._result, self._error = result, error
            if state.ended:
                self._work = None
            self._send(StateChange(state), kept=True)

    def _run(self, clock: Callable[[], float]) -> None:
        assert self._work is not None
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


def _without_frames(error: BaseException) -> BaseException:
    """`error` with its frames' locals dropped: they would keep models and tensors alive as long as the job is kept."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    return error


class _Lane:
    """One device: the job that runs there and those that wait, by owner. The queue's lock guards it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.running: Job[Any] | None = None
        self.waiting: OrderedDict[str, deque[Job[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self.waiting.values())) + (self.running is not None)

    def add(self, job: Job[Any]) -> None:
        self.waiting.setdefault(job.owner, deque()).append(job)

    def take_next(self) -> Job[Any]:
        """The next job of the owner whose turn it is; that owner goes to the end of the line."""
        owner, jobs = self.waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self.waiting[owner] = jobs
        self.running = job
        return job

    def remove(self, job: Job[Any]) -> bool:
        jobs = self.waiting.get(job.owner)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self.waiting[job.owner]
        return True

    def start_order(self) -> Iterator[Job[Any]]:
        """The waiting jobs in the order in which they would start."""
        turns = [deque(jobs) for jobs in self.waiting.values()]
        while turns:
            for jobs in turns:
                yield jobs.popleft()
            turns = [jobs for jobs in turns if jobs]


class JobQueue:
    """Runs jobs, one at a time a device, owners taking turns.

    `max_waiting` and `max_waiting_per_owner` bound the jobs that wait; more are refused with UserError.
    `clock` gives seconds, for the estimate of the time left.
    """

    def __init__(
        self,
        devices: tuple[str, ...] = ("cpu",),
        max_waiting: int = 32,
        max_waiting_per_owner: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_per_owner = max_waiting_per_owner
        self._clock = clock
        self._lanes = {device: _Lane(device) for device in devices}
        self._jobs: OrderedDict[str, Job[Any]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"jobs-{lane.device}", daemon=True)
            for lane in self._lanes.values()
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, work: Callable[[JobContext], T], *, owner: str, kind: str, device: str | None = None
    ) -> Job[T]:
        """Queue `work` on `device` (None: the one with the fewest jobs); raises UserError when there is no room."""
        with self._changed:
            if self._closed:
                raise UserError("error.shutting_down")
            self._check_room(owner)
            lane = min(self._lanes.values(), key=len) if device is None else self._lanes[device]
            job = Job(work, owner, kind, lane.device)
            self._jobs[job.id] = job
            lane.add(job)
            _tell_positions(lane)
            self._changed.notify_all()
            return job

    def get(self, job_id: str, owner: str) -> Job[Any]:
        """The owner's job; raises UserError for one that is unknown, forgotten or somebody else's, all alike."""
        with self._changed:
            job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise UserError("error.unknown_job", job=job_id)
        return job

    def cancel(self, job_id: str, owner: str) -> None:
        """Stop the owner's job: at once if it waits, at its next step if it runs. Raises UserError as `get` does."""
        self._cancel([self.get(job_id, owner)])

    def cancel_owner(self, owner: str) -> None:
        """Stop all jobs of one owner, whose page has gone for instance."""
        with self._changed:
            theirs = [job for job in self._jobs.values() if job.owner == owner]
        self._cancel(theirs)

    def close(self, timeout: float | None = None) -> None:
        """Cancel everything, wait for what runs to return, and end the threads; raises TimeoutError if one stays."""
        with self._changed:
            self._closed = True
            jobs = list(self._jobs.values())
            self._changed.notify_all()
        self._cancel(jobs)
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"{thread.name} still runs a job after {timeout} s")

    def _check_room(self, owner: str) -> None:
        waiting = [job for lane in self._lanes.values() for job in lane.start_order()]
        if len(waiting) >= self._max_waiting:
            raise UserError("error.queue_full", waiting=len(waiting), limit=self._max_waiting)
        theirs = sum(job.owner == owner for job in waiting)
        if theirs >= self._max_waiting_per_owner:
            raise UserError("error.queue_full_for_owner", waiting=theirs, limit=self._max_waiting_per_owner)

    def _cancel(self, jobs: list[Job[Any]]) -> None:
        with self._changed:
            for job in jobs:
                job._cancelled.set()
                lane = self._lanes[job.device]
                if lane.remove(job):
                    job._enter(JobState.CANCELLED, error=JobCancelled())
                    _tell_positions(lane)

    def _serve(self, lane: _Lane) -> None:
        while self._start_next(lane):
            assert lane.running is not None
            lane.running._run(self._clock)
            with self._changed:
                lane.running = None
                self._forget_oldest()

    def _start_next(self, lane: _Lane) -> bool:
        """Wait for a job and make it the running one; False when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: lane.waiting or self._closed)
            if self._closed:
                return False
            lane.take_next()
            _tell_positions(lane)
            return True

    def _forget_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.state.ended]
        for job_id in ended[:-FINISHED_JOBS_KEPT]:
            del self._jobs[job_id]


def _tell_positions(lane: _Lane) -> None:
    ahead = int(lane.running is not None)
    for position, job in enumerate(lane.start_order(), start=ahead):
        job._wait_at(position)
