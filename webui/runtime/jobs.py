"""The queue of work that users start: one worker thread a device, fair between owners, stopped only from within.

Gradio's own queue frees its slot when a user cancels while the thread still computes; here a device is free only when
the work on it has really returned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from webui.errors import UserError
from webui.runtime.job import (
    Job,
    JobCancelled,
    JobContext,
    JobEvent,
    JobState,
    Progress,
    Published,
    StateChange,
)

__all__ = [
    "Job",
    "JobCancelled",
    "JobContext",
    "JobEvent",
    "JobQueue",
    "JobState",
    "Progress",
    "Published",
    "StateChange",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")

FINISHED_JOBS_KEPT: Final = 64
"""Ended jobs that `JobQueue.get` still finds; the oldest are forgotten first."""


class _Lane:
    """One device: the job that runs there and those that wait, by owner. The queue's lock guards it.

    `accelerator` is the one that its jobs compute on, None while there is only one lane.
    """

    def __init__(self, device: str, accelerator: str | None = None) -> None:
        self.device = device
        self.accelerator = accelerator
        self.thread_id = 0
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
        self._threads: list[threading.Thread] = []
        for lane in self._lanes.values():
            self._start(lane)

    def submit(self, work: Callable[[JobContext], T], *, owner: str, kind: str, device: str | None = None) -> Job[T]:
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

    def serve_on(self, accelerators: Sequence[str]) -> None:
        """Give each of several accelerators a worker; the first worker keeps the first. Later calls change nothing.

        Jobs that wait already stay where they wait.
        """
        with self._changed:
            first = next(iter(self._lanes.values()))
            if self._closed or len(accelerators) < 2 or len(self._lanes) > 1:
                return
            first.accelerator = accelerators[0]
            for name in accelerators[1:]:
                self._lanes[name] = _Lane(name, name)
                self._start(self._lanes[name])

    def accelerator_here(self) -> str | None:
        """The accelerator of the job that runs in this thread; None for any, or in a thread that runs none."""
        here = threading.get_ident()
        with self._changed:
            return next((lane.accelerator for lane in self._lanes.values() if lane.thread_id == here), None)

    def get(self, job_id: str, owner: str) -> Job[Any]:
        """The owner's job; raises UserError for one that is unknown, forgotten or somebody else's, all alike."""
        with self._changed:
            job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise UserError("error.unknown_job", job=job_id)
        return job

    def waiting(self, *, but: str) -> int:
        """How many jobs of others than the owner `but` wait: work that is in no hurry steps aside for them."""
        with self._changed:
            return sum(job.owner != but for lane in self._lanes.values() for job in lane.start_order())

    @property
    def working(self) -> bool:
        """Whether every device has its worker."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def counts(self) -> Counter[tuple[str, str]]:
        """How many jobs there are that wait, run, or have ended lately, by kind and state."""
        with self._changed:
            return Counter((job.kind, str(job.state)) for job in self._jobs.values())

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
        theirs = sum(_user(job.owner) == _user(owner) for job in waiting)
        if theirs >= self._max_waiting_per_owner:
            raise UserError("error.queue_full_for_owner", waiting=theirs, limit=self._max_waiting_per_owner)

    def _cancel(self, jobs: list[Job[Any]]) -> None:
        with self._changed:
            for job in jobs:
                job.stop()
                lane = self._lanes[job.device]
                if lane.remove(job):
                    job.end_unstarted()
                    _tell_positions(lane)

    def _start(self, lane: _Lane) -> None:
        thread = threading.Thread(target=self._serve, args=(lane,), name=f"jobs-{lane.device}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, lane: _Lane) -> None:
        """What a worker does until the queue is closed. Whatever hits it between two jobs, it goes on."""
        lane.thread_id = threading.get_ident()
        working = True
        while working:
            try:
                working = self._run_next(lane)
            # Raised in this thread by somebody else, or for want of memory: nobody would ever start the next job.
            except BaseException as error:  # noqa: BLE001
                _log.exception("the worker of %s was hit and goes on", lane.device)
                if lane.running is not None and not lane.running.state.ended:
                    lane.running.fail(error)
            with self._changed:
                lane.running = None
                self._forget_oldest()

    def _run_next(self, lane: _Lane) -> bool:
        """Wait for a job and run it; False when the queue is closed. An idle worker holds no job that has ended."""
        with self._changed:
            self._changed.wait_for(lambda: lane.waiting or self._closed)
            if self._closed:
                return False
            job = lane.take_next()
            _tell_positions(lane)
        job.run(self._clock)
        return True

    def _forget_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.state.ended]
        for job_id in ended[:-FINISHED_JOBS_KEPT]:
            del self._jobs[job_id]


def _user(owner: str) -> str:
    """Who an owner "user/page" is: somebody with ten open pages waits for no more jobs than with one."""
    return owner.partition("/")[0] or owner


def _tell_positions(lane: _Lane) -> None:
    ahead = int(lane.running is not None)
    for position, job in enumerate(lane.start_order(), start=ahead):
        job.move_to(position)
