"""The queue of work that users start: one worker thread a device, fair between users, stopped only from within.

Gradio's own queue frees its slot when a user cancels while the thread still computes; here a device is free only when
the work on it has really returned.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


PLACE_SECONDS: Final = 60.0
"""How long a place in line is kept for somebody who was refused, or whose waiting job was cancelled."""

_MAX_PLACES: Final = 1000


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in line somebody stood who has no waiting job any more, or not yet; the lower `turn` is served first.

    For one who was `refused`, room is kept until the time `until`.
    """

    turn: int
    until: float
    refused: bool


class _Lane:
    """One device: the job that runs there and those that wait, by user. The queue's lock guards it.

    `accelerator` is the one that its jobs compute on, None while there is only one lane.
    """

    def __init__(self, device: str, accelerator: str | None = None) -> None:
        self.device = device
        self.accelerator = accelerator
        self.thread_id = 0
        self.running: Job[Any] | None = None
        self.waiting: dict[str, deque[Job[Any]]] = {}
        self.turns: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self.waiting.values())) + (self.running is not None)

    def add(self, job: Job[Any], turn: int) -> None:
        """Let the job wait; `turn` is its user's place in line, if they have none yet."""
        user = user_of(job.owner)
        self.turns.setdefault(user, turn)
        self.waiting.setdefault(user, deque()).append(job)

    def take_next(self, turn: int) -> Job[Any]:
        """The next job of the user whose turn it is; with more jobs, that user's place is now `turn`."""
        user = min(self.waiting, key=self.turns.__getitem__)
        job = self.waiting[user].popleft()
        self.turns[user] = turn
        self._leave_if_done(user)
        self.running = job
        return job

    def remove(self, job: Job[Any]) -> bool:
        """Take the job out of the line; False when it is not there."""
        user = user_of(job.owner)
        if job not in self.waiting.get(user, ()):
            return False
        self.waiting[user].remove(job)
        self._leave_if_done(user)
        return True

    def start_order(self) -> Iterator[Job[Any]]:
        """The waiting jobs in the order in which they would start."""
        turns = [deque(self.waiting[user]) for user in sorted(self.waiting, key=self.turns.__getitem__)]
        while turns:
            for jobs in turns:
                yield jobs.popleft()
            turns = [jobs for jobs in turns if jobs]

    def _leave_if_done(self, user: str) -> None:
        if not self.waiting[user]:
            del self.waiting[user], self.turns[user]


class JobQueue:
    """Runs jobs, one at a time a device, users taking turns; "user/page" owns the jobs of one of the user's pages.

    Everybody may let one job wait, `max_waiting_users` of them at a time. Further jobs of somebody who waits already
    are taken only while fewer than `max_waiting` wait in all and `max_waiting_per_user` of theirs. More are refused
    with UserError; a user who has none waiting keeps the place in line for a while, before all who come later.
    `clock` gives seconds.
    """

    def __init__(
        self,
        devices: tuple[str, ...] = ("cpu",),
        max_waiting: int = 32,
        max_waiting_per_user: int = 8,
        max_waiting_users: int = 128,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_per_user = max_waiting_per_user
        self._max_waiting_users = max_waiting_users
        self._clock = clock
        self._turns = itertools.count()
        self._places: OrderedDict[str, _Place] = OrderedDict()
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
            turn = self._turn_of(user_of(owner))
            lane = min(self._lanes.values(), key=len) if device is None else self._lanes[device]
            job = Job(work, owner, kind, lane.device)
            self._jobs[job.id] = job
            lane.add(job, turn)
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
            return sum(job.owner != but for job in self._waiting())

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

    def _turn_of(self, user: str) -> int:
        """Where in line a new job of the user comes; raises UserError when there is no room for it."""
        now, waiting = self._clock(), Counter(user_of(job.owner) for job in self._waiting())
        self._places = OrderedDict((name, place) for name, place in self._places.items() if place.until > now)
        refused = {name: place.turn for name, place in self._places.items() if place.refused}
        if user in waiting:
            self._check_further(waiting, user, others=bool(refused))
            return next(self._turns)
        place = self._places.pop(user, None)
        turn = next(self._turns) if place is None else place.turn
        ahead = sum(other < turn for name, other in refused.items() if name != user)
        running = [lane.running for lane in self._lanes.values()]
        idle = not waiting and any(job is None or job.state.ended for job in running)
        if len(waiting) + ahead < self._max_waiting_users or idle:  # nothing stands still for those who may come back
            return turn
        self._keep_place(user, _Place(turn, now + PLACE_SECONDS, refused=True))
        raise UserError(
            "error.queue_full",
            waiting=len(waiting),
            limit=self._max_waiting_users,
            place=ahead + 1,
            seconds=f"{PLACE_SECONDS:g}",
        )

    def _check_further(self, waiting: Counter[str], user: str, *, others: bool) -> None:
        """Whether somebody who waits already may let one more job wait; not while `others` were refused a first."""
        if waiting[user] >= self._max_waiting_per_user:
            limit = self._max_waiting_per_user
            raise UserError("error.queue_full_for_owner", waiting=waiting[user], limit=limit)
        if waiting.total() >= self._max_waiting or others:
            raise UserError("error.queue_full_for_more", waiting=waiting.total(), limit=self._max_waiting)

    def _keep_place(self, user: str, place: _Place) -> None:
        self._places[user] = place
        if len(self._places) > _MAX_PLACES:
            self._places.popitem(last=False)

    def _waiting(self) -> Iterator[Job[Any]]:
        for lane in self._lanes.values():
            yield from lane.start_order()

    def _cancel(self, jobs: list[Job[Any]]) -> None:
        with self._changed:
            for job in jobs:
                job.stop()
                lane, user = self._lanes[job.device], user_of(job.owner)
                turn = lane.turns.get(user)
                if lane.remove(job):
                    job.end_unstarted()
                    if turn is not None and user not in lane.waiting:  # a page that is loaded again comes back soon
                        self._keep_place(user, _Place(turn, self._clock() + PLACE_SECONDS, refused=False))
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
            job = lane.take_next(next(self._turns))
            _tell_positions(lane)
        job.run(self._clock)
        return True

    def _forget_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.state.ended]
        for job_id in ended[:-FINISHED_JOBS_KEPT]:
            del self._jobs[job_id]


def user_of(owner: str) -> str:
    """Who an owner "user/page" is: somebody with ten open pages has no more turns, and waits for no more jobs."""
    return owner.partition("/")[0] or owner


def _tell_positions(lane: _Lane) -> None:
    ahead = int(lane.running is not None)
    for position, job in enumerate(lane.start_order(), start=ahead):
        job.move_to(position)
