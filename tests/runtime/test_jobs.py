"""Jobs: what runs when, for whom, and how it stops. Steps are gated by events, never by sleeping."""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from webui.errors import UserError
from webui.runtime.jobs import (
    FINISHED_JOBS_KEPT,
    PLACE_SECONDS,
    Job,
    JobCancelled,
    JobContext,
    JobQueue,
    JobState,
    Progress,
    Published,
    StateChange,
)

PATIENCE = 10.0
"""Seconds after which a test gives up; nothing is timed by it."""


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    queue = JobQueue()
    yield queue
    queue.close(PATIENCE)


class Gate:
    """Work that says when it has begun, and goes on when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, context: JobContext) -> str:
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE)
        return "done"


def occupy(queue: JobQueue, owner: str = "somebody") -> Gate:
    """Keep the worker busy until the gate is opened."""
    gate = Gate()
    queue.submit(gate, owner=owner, kind="test")
    assert gate.begun.wait(PATIENCE)
    return gate


def noting(log: list[str], name: str) -> Callable[[JobContext], str]:
    def work(context: JobContext) -> str:
        log.append(name)
        return name

    return work


def test_a_job_returns_what_its_work_returned(queue: JobQueue) -> None:
    job = queue.submit(lambda context: 6 * 7, owner="ann", kind="sum")
    assert job.result(PATIENCE) == 42
    assert job.state is JobState.DONE


def test_an_error_reaches_the_one_who_waits_and_the_worker_lives_on(
    queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(context: JobContext) -> None:
        raise ZeroDivisionError("as it happens")

    job = queue.submit(fail, owner="ann", kind="test")
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError, match="as it happens"):
        job.result(PATIENCE)
    assert job.state is JobState.FAILED
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1, "an unforeseen error is logged once, with its traceback"
    assert queue.submit(lambda context: "alive", owner="ann", kind="test").result(PATIENCE) == "alive"


def test_an_error_of_the_users_is_not_logged(queue: JobQueue, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(context: JobContext) -> None:
        raise UserError("error.unknown_sampler", name="x", known="y")

    with caplog.at_level(logging.DEBUG), pytest.raises(UserError):
        queue.submit(refuse, owner="ann", kind="test").result(PATIENCE)
    assert not caplog.records


def test_system_exit_in_a_job_does_not_end_the_worker(queue: JobQueue) -> None:
    def leave(context: JobContext) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        queue.submit(leave, owner="ann", kind="test").result(PATIENCE)
    assert queue.submit(lambda context: "alive", owner="ann", kind="test").result(PATIENCE) == "alive"


def test_a_cancel_in_mid_step_ends_the_job_at_the_next_and_nothing_starts_before(queue: JobQueue) -> None:
    """Steps really overlap with the cancel: each blocks in the middle until the test lets it end."""
    in_step, end_step, next_began = threading.Event(), threading.Event(), threading.Event()
    steps: list[int] = []
    order: list[str] = []

    def draw(context: JobContext) -> None:
        try:
            for step in range(100):
                context.check()
                steps.append(step)
                in_step.set()
                assert end_step.wait(PATIENCE)
        finally:
            order.append("first ended")

    def follow(context: JobContext) -> None:
        order.append("second began")
        next_began.set()

    first = queue.submit(draw, owner="ann", kind="test")
    assert in_step.wait(PATIENCE)
    second = queue.submit(follow, owner="bob", kind="test")
    queue.cancel(first.id, "ann")
    assert first.stopping
    assert first.state is JobState.RUNNING, "it still computes"
    assert second.state is JobState.QUEUED
    assert not next_began.is_set()
    end_step.set()
    with pytest.raises(JobCancelled):
        first.result(PATIENCE)
    assert first.state is JobState.CANCELLED
    second.result(PATIENCE)
    assert order == ["first ended", "second began"]
    assert steps == [0], "no step begins after a cancel"


def test_work_that_keeps_what_is_finished_is_done_although_cancelled(queue: JobQueue) -> None:
    begun = threading.Event()

    def keep(context: JobContext) -> str:
        begun.set()
        assert context.cancelled.wait(PATIENCE)
        return "half of it"

    job = queue.submit(keep, owner="ann", kind="test")
    assert begun.wait(PATIENCE)
    queue.cancel(job.id, "ann")
    assert job.result(PATIENCE) == "half of it"
    assert job.state is JobState.DONE


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(queue: JobQueue) -> None:
    gate, log = occupy(queue), []
    job = queue.submit(noting(log, "never"), owner="ann", kind="test")
    queue.cancel(job.id, "ann")
    with pytest.raises(JobCancelled):
        job.result(timeout=0)
    gate.may_go_on.set()
    queue.submit(noting(log, "after"), owner="ann", kind="test").result(PATIENCE)
    assert log == ["after"]


def test_one_users_cancel_never_touches_the_others_job(queue: JobQueue) -> None:
    gate = Gate()
    hers = queue.submit(gate, owner="ann", kind="test")
    assert gate.begun.wait(PATIENCE)
    waiting = queue.submit(lambda context: "drawn", owner="ann", kind="test")
    for job in (hers, waiting):
        with pytest.raises(UserError) as refusal:
            queue.cancel(job.id, "bob")
        assert refusal.value.key == "error.unknown_job"
        with pytest.raises(UserError):
            queue.get(job.id, "bob")
    queue.cancel_owner("bob")
    assert not hers.stopping
    gate.may_go_on.set()
    assert hers.result(PATIENCE) == "done"
    assert waiting.result(PATIENCE) == "drawn"


def test_an_unknown_job_and_somebody_elses_are_told_alike(queue: JobQueue) -> None:
    job = queue.submit(lambda context: None, owner="ann", kind="test")
    with pytest.raises(UserError) as unknown:
        queue.get("no such job", "bob")
    with pytest.raises(UserError) as foreign:
        queue.get(job.id, "bob")
    assert unknown.value.key == foreign.value.key


def test_cancel_owner_stops_all_of_one_owners_jobs(queue: JobQueue) -> None:
    gate, log = occupy(queue, "ann"), []
    jobs = [queue.submit(noting(log, owner), owner=owner, kind="test") for owner in ("ann", "bob", "ann")]
    queue.cancel_owner("ann")
    gate.may_go_on.set()
    assert jobs[1].result(PATIENCE) == "bob"
    assert [job.state for job in jobs] == [JobState.CANCELLED, JobState.DONE, JobState.CANCELLED]
    assert log == ["bob"]


def test_owners_take_turns(queue: JobQueue) -> None:
    gate, log = occupy(queue), []
    names = ["ann 1", "ann 2", "ann 3", "ann 4", "bob 1", "bob 2", "cho 1"]
    jobs = [queue.submit(noting(log, name), owner=name.split()[0], kind="test") for name in names]
    assert [job.position for job in jobs] == [1, 4, 6, 7, 2, 5, 3], "the one that runs counts too"
    gate.may_go_on.set()
    for job in jobs:
        job.result(PATIENCE)
    assert log == ["ann 1", "bob 1", "cho 1", "ann 2", "bob 2", "ann 3", "ann 4"]


def test_the_order_foretold_is_the_order_kept_when_a_newcomer_arrives(queue: JobQueue) -> None:
    """One who queued ten jobs first does not keep a second user waiting for more than one of them."""
    gate, log = occupy(queue, "ann"), []
    many = [queue.submit(noting(log, "ann"), owner="ann", kind="test") for _ in range(5)]
    one = queue.submit(noting(log, "bob"), owner="bob", kind="test")
    assert one.position == 2
    gate.may_go_on.set()
    for job in (*many, one):
        job.result(PATIENCE)
    assert log.index("bob") == 1


def test_a_user_has_no_more_turns_with_more_pages(queue: JobQueue) -> None:
    gate, log = occupy(queue), []
    owners = ["ann/1", "ann/2", "ann/3", "bob/1", "/4", "/5"]  # without a login every page is somebody
    jobs = [queue.submit(noting(log, owner), owner=owner, kind="test") for owner in owners]
    gate.may_go_on.set()
    for job in jobs:
        job.result(PATIENCE)
    assert log == ["ann/1", "bob/1", "/4", "/5", "ann/2", "ann/3"]


class Line:
    """A queue whose worker is busy, and the time, which stands still unless it is moved."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.queue = JobQueue(**limits, clock=lambda: self.now)
        self.gate = occupy(self.queue, "somebody")
        self.started: list[str] = []

    def ask(self, owner: str) -> Job[str]:
        return self.queue.submit(noting(self.started, owner), owner=owner, kind="test")

    def refused(self, owner: str) -> tuple[str, object]:
        """Why, and the number in line of one who is to come back."""
        with pytest.raises(UserError) as refusal:
            self.ask(owner)
        return refusal.value.key.removeprefix("error."), refusal.value.values.get("place")

    def begin(self, job: Job[str]) -> None:
        """Let everything run until that job is over, and keep the worker busy again."""
        self.gate.may_go_on.set()
        job.result(PATIENCE)
        self.gate = Gate()
        self.queue.submit(self.gate, owner="somebody", kind="test")
        assert self.gate.begun.wait(PATIENCE)

    def close(self) -> None:
        self.gate.may_go_on.set()
        self.queue.close(PATIENCE)


def test_everybody_may_let_one_job_wait_before_anybody_a_second() -> None:
    line = Line(max_waiting=3, max_waiting_per_user=2)
    line.ask("ann/1")
    line.ask("ann/2")
    assert line.refused("ann/1") == ("queue_full_for_owner", None)
    line.ask("bob")
    assert line.refused("bob") == ("queue_full_for_more", None)
    cho = line.ask("cho")
    assert cho.position == 3
    line.begin(cho)
    assert line.started[:3] == ["ann/1", "bob", "cho"]
    line.close()


def test_whoever_is_refused_keeps_the_place_in_line() -> None:
    line = Line(max_waiting_users=2)
    ann = line.ask("ann")
    line.ask("bob")
    assert [line.refused(who) for who in ("cho", "dan", "cho")] == [
        ("queue_full", 1), ("queue_full", 2), ("queue_full", 1),
    ]  # fmt: skip
    assert line.refused("bob") == ("queue_full_for_more", None), "no second while others wait for a first"
    line.queue.cancel(ann.id, "ann")
    assert line.refused("dan") == ("queue_full", 2), "there is room for one, and that is kept for the first"
    cho = line.ask("cho")
    line.now += PLACE_SECONDS + 1
    assert line.refused("eve") == ("queue_full", 1), "dan has not come back in time"
    line.begin(cho)
    assert line.started == ["bob", "cho"]
    line.close()


def test_an_idle_worker_waits_for_nobody_who_may_come_back() -> None:
    line = Line(max_waiting_users=1)
    bob = line.ask("bob")
    assert line.refused("ann") == ("queue_full", 1)
    line.gate.may_go_on.set()
    bob.result(PATIENCE)
    line.queue.submit(lambda context: None, owner="cho", kind="test").result(PATIENCE)
    line.close()


def test_a_page_that_is_loaded_again_comes_back_to_its_place() -> None:
    line = Line()
    for owner in ("ann/old page", "bob", "cho"):
        line.ask(owner)
    line.queue.cancel_owner("ann/old page")
    again = line.ask("ann/new page")
    assert again.position == 1
    line.queue.cancel_owner("ann/new page")
    line.now += PLACE_SECONDS + 1
    late = line.ask("ann/new page")
    assert late.position == 3
    line.close()


def test_room_comes_back_when_a_waiting_job_is_cancelled() -> None:
    queue = JobQueue(max_waiting=1)
    gate = occupy(queue)
    job = queue.submit(lambda context: None, owner="ann", kind="test")
    queue.cancel(job.id, "ann")
    queue.submit(lambda context: "in", owner="bob", kind="test")
    gate.may_go_on.set()
    queue.close(PATIENCE)


def test_each_device_has_a_worker_of_its_own() -> None:
    queue = JobQueue(devices=("cuda:0", "cuda:1"))
    meeting = threading.Barrier(2)

    def meet(context: JobContext) -> str:
        meeting.wait(PATIENCE)  # breaks unless both run at the same time
        return context.device

    jobs = [queue.submit(meet, owner="ann", kind="test") for _ in range(2)]
    assert {job.result(PATIENCE) for job in jobs} == {"cuda:0", "cuda:1"}
    asked_for = queue.submit(lambda context: context.device, owner="ann", kind="test", device="cuda:1")
    assert asked_for.result(PATIENCE) == "cuda:1"
    queue.close(PATIENCE)


def test_two_jobs_on_one_device_never_overlap(queue: JobQueue) -> None:
    inside, most_inside = 0, 0
    lock = threading.Lock()

    def work(context: JobContext) -> None:
        nonlocal inside, most_inside
        with lock:
            inside += 1
            most_inside = max(most_inside, inside)
        threading.Event().wait(0.001)  # room for a second worker to come in, if there were one
        with lock:
            inside -= 1

    jobs: list[Job[None]] = []
    threads = [
        threading.Thread(target=lambda owner=f"user {n}": jobs.append(queue.submit(work, owner=owner, kind="test")))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        job.result(PATIENCE)
    assert len(jobs) == 16
    assert most_inside == 1


def test_events_tell_the_whole_story_to_every_listener(queue: JobQueue) -> None:
    gate = occupy(queue)

    def draw(context: JobContext) -> str:
        context.progress(1, 2, "phase.denoising")
        context.preview("glimpse")
        context.publish("first picture")
        context.publish("second picture")
        return "all"

    job = queue.submit(draw, owner="ann", kind="test")
    early = job.events(PATIENCE)
    assert next(early) == StateChange(JobState.QUEUED, 1)
    gate.may_go_on.set()
    job.result(PATIENCE)
    for events in (list(early), list(job.events(PATIENCE))):
        kept = [event for event in events if event in (Published("first picture"), Published("second picture"))]
        assert kept == [Published("first picture"), Published("second picture")]
        assert StateChange(JobState.RUNNING) in events
        assert Progress(1, 2, "phase.denoising") in events
        assert Published("glimpse") in events
        assert events[-1] == StateChange(JobState.DONE)


def test_a_slow_listener_gets_the_newest_preview_and_every_picture(queue: JobQueue) -> None:
    def draw(context: JobContext) -> None:
        for step in range(1, 6):
            context.progress(step, 5, "phase.denoising")
            context.preview(f"glimpse {step}")
            context.publish(step)

    job = queue.submit(draw, owner="ann", kind="test")
    job.result(PATIENCE)
    published = [event.value for event in job.events(PATIENCE) if isinstance(event, Published)]
    assert published == [1, 2, 3, 4, "glimpse 5", 5]
    assert job.progress is not None
    assert job.progress.step == 5


def test_a_listener_hears_when_its_place_in_the_queue_changes(queue: JobQueue) -> None:
    gate = occupy(queue)
    second = Gate()
    queue.submit(second, owner="bob", kind="test")
    job = queue.submit(lambda context: None, owner="ann", kind="test")
    events = job.events(PATIENCE)
    assert next(events) == StateChange(JobState.QUEUED, 2)
    gate.may_go_on.set()
    assert second.begun.wait(PATIENCE)
    assert next(events) == StateChange(JobState.QUEUED, 1)
    second.may_go_on.set()
    assert StateChange(JobState.RUNNING) in list(events)


def test_waiting_for_an_event_or_a_result_can_time_out(queue: JobQueue) -> None:
    gate = occupy(queue)
    job = queue.submit(lambda context: None, owner="ann", kind="test")
    events = job.events(timeout=0)
    next(events)
    with pytest.raises(TimeoutError):
        next(events)
    with pytest.raises(TimeoutError):
        job.result(timeout=0)
    gate.may_go_on.set()


def test_the_time_left_comes_from_a_smoothed_step_time() -> None:
    now = iter([0.0, 1.0, 3.0, 3.5])
    told: list[Progress] = []
    context = JobContext("cpu", threading.Event(), lambda event, kept: told.append(event), lambda: next(now))  # type: ignore[arg-type]
    for step in (0, 1, 2, 3):
        context.progress(step, 10, "phase.denoising")
    eta = [progress.eta_seconds for progress in told]
    assert eta[0] is None
    assert eta[1] == pytest.approx(1.0 * 9)
    assert eta[2] == pytest.approx((1.0 + 0.3 * (2.0 - 1.0)) * 8)
    assert eta[3] == pytest.approx((1.3 + 0.3 * (0.5 - 1.3)) * 7)


def test_the_estimate_starts_anew_with_another_total() -> None:
    now = iter([0.0, 100.0, 101.0, 102.0])
    told: list[Progress] = []
    context = JobContext("cpu", threading.Event(), lambda event, kept: told.append(event), lambda: next(now))  # type: ignore[arg-type]
    context.progress(0, 3, "phase.loading")
    context.progress(3, 3, "phase.loading")
    context.progress(1, 5, "phase.denoising")
    context.progress(2, 5, "phase.denoising")
    assert [progress.eta_seconds for progress in told] == [None, 0.0, None, pytest.approx(3.0)]


def test_a_failed_job_keeps_nothing_of_its_work_alive(queue: JobQueue) -> None:
    """A kept exception would hold its frames, and so the model that was in use."""

    class Model:
        pass

    references: list[weakref.ref[Model]] = []

    def fail(context: JobContext) -> None:
        model = Model()
        references.append(weakref.ref(model))
        raise UserError("error.unknown_job", job="x")

    job = queue.submit(fail, owner="ann", kind="test")
    with pytest.raises(UserError):
        job.result(PATIENCE)
    gc.collect()
    assert references[0]() is None


def test_the_queue_forgets_its_oldest_ended_jobs(queue: JobQueue) -> None:
    jobs = [queue.submit(lambda context: None, owner="ann", kind="test") for _ in range(1)]
    for _ in range(FINISHED_JOBS_KEPT + 1):
        job = queue.submit(lambda context: None, owner="ann", kind="test")
        job.result(PATIENCE)
        jobs.append(job)
    queue.submit(lambda context: None, owner="ann", kind="test").result(PATIENCE)
    assert queue.get(jobs[-1].id, "ann") is jobs[-1]
    with pytest.raises(UserError):
        queue.get(jobs[0].id, "ann")


def test_a_worker_that_is_hit_goes_on_and_no_job_is_forgotten(
    queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """What CPython does to a thread that is asked to end: SystemExit comes wherever it stands."""
    (worker,) = [thread for thread in threading.enumerate() if thread.name == "jobs-cpu" and thread in queue._threads]
    hit = ctypes.pythonapi.PyThreadState_SetAsyncExc
    for _ in range(3):
        assert hit(ctypes.c_ulong(worker.ident or 0), ctypes.py_object(SystemExit)) == 1
        jobs = [queue.submit(lambda context: context.device, owner=name, kind="test") for name in ("ann", "bob")]
        assert jobs[1].result(PATIENCE) == "cpu"
        assert jobs[0].state.ended
    assert queue.working
    assert "goes on" in caplog.text


def test_close_ends_the_running_job_the_waiting_ones_and_the_threads() -> None:
    before = set(threading.enumerate())
    queue = JobQueue(devices=("a", "b"))
    workers = set(threading.enumerate()) - before
    begun = threading.Event()

    def draw(context: JobContext) -> None:
        begun.set()
        assert context.cancelled.wait(PATIENCE)
        context.check()

    running = queue.submit(draw, owner="ann", kind="test", device="a")
    waiting = queue.submit(lambda context: None, owner="ann", kind="test", device="a")
    assert begun.wait(PATIENCE)
    queue.close(PATIENCE)
    assert (running.state, waiting.state) == (JobState.CANCELLED, JobState.CANCELLED)
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)
    with pytest.raises(UserError) as refusal:
        queue.submit(lambda context: None, owner="ann", kind="test")
    assert refusal.value.key == "error.shutting_down"
