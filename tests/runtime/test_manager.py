from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.runtime.dummies import KIB, DummyFamilies, FakeClock, FakeHardware, Recipe
from webui.errors import UserError
from webui.runtime.entries import ModelKey
from webui.runtime.jobs import JobCancelled
from webui.runtime.loaders import Part
from webui.runtime.manager import ModelManager, Relief


@pytest.fixture
def dummies(tmp_path: Path) -> DummyFamilies:
    return DummyFamilies(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_manager(dummies: DummyFamilies, clock: FakeClock) -> Callable[..., ModelManager]:
    def make(budget: int = 2**30, **family_changes: object) -> ModelManager:
        return ModelManager(
            [dummies.root],
            budget,
            hardware=FakeHardware({}),
            families=dummies.as_mapping(**family_changes),
            clock=clock,
        )

    return make


def loaded_names(manager: ModelManager) -> set[str]:
    return {model.key.name for model in manager.status()}


def test_a_model_is_loaded_once_and_stays(make_manager: Callable[..., ModelManager], dummies: DummyFamilies) -> None:
    manager, key = make_manager(), dummies.add("a")
    with manager.use(key) as first:
        assert manager.status()[0].state == "in_use"
    with manager.use(key) as second:
        pass
    assert first is second
    assert dummies.loads == ["a/only"]
    (status,) = manager.status()
    assert (status.state, status.pins, status.size_bytes, status.device) == ("idle", 0, 64 * KIB, "cpu")


def test_what_is_handed_out_cannot_be_trained(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    with make_manager().use(dummies.add("a")) as model:
        (part,) = model.parts.values()
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())


def test_sixteen_threads_that_ask_for_one_model_load_it_once(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    everyone_asks = threading.Barrier(16)
    loading, may_end = threading.Event(), threading.Event()

    def slow(_part: str) -> None:
        loading.set()
        assert may_end.wait(30)

    manager, key = make_manager(), dummies.add("a", Recipe(before_part=slow))

    def ask() -> int:
        everyone_asks.wait(30)
        with manager.use(key) as model:
            return id(model)

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask) for _ in range(16)]
        assert loading.wait(30)
        assert [model.state for model in manager.status()] == ["loading"]
        may_end.set()
        assert len({future.result(30) for future in asked}) == 1
    assert dummies.loads == ["a/only"]
    assert manager.status()[0].pins == 0


def test_those_who_wait_get_the_error_too_and_the_next_try_starts_afresh(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    loading, may_fail = threading.Event(), threading.Event()

    def fail(_part: str) -> None:
        loading.set()
        assert may_fail.wait(30)
        raise OSError("the disk is gone")

    manager, key = make_manager(), dummies.add("a", Recipe(before_part=fail))

    def ask() -> str:
        with pytest.raises(UserError) as caught, manager.use(key):
            pass
        return caught.value.key

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask)
        assert loading.wait(30)
        others = [pool.submit(ask) for _ in range(2)]
        may_fail.set()
        assert {future.result(30) for future in (first, *others)} == {"error.model_file_broken"}
    assert manager.status() == ()
    dummies.recipes["a"] = Recipe()
    with manager.use(key) as model:
        assert model(torch.ones(4)).tolist() == [2.0] * 4


def test_a_failed_load_leaves_nothing_alive(make_manager: Callable[..., ModelManager], dummies: DummyFamilies) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []
    recipe = Recipe({"first": 64 * KIB, "second": 64 * KIB})
    families = dummies.as_mapping()
    parts = families["dummy"].parts

    def watched(folder: Path) -> tuple[Part, ...]:
        first, second = parts(folder)

        def load_first(dtype: torch.dtype) -> torch.nn.Module:
            module = first.load(dtype)
            made.append(weakref.ref(module))
            return module

        def load_second(dtype: torch.dtype) -> torch.nn.Module:
            raise ValueError("half a file")

        return (replace(first, load=load_first), replace(second, load=load_second))

    manager, key = make_manager(parts=watched), dummies.add("a", recipe)
    with pytest.raises(UserError) as caught, manager.use(key):
        pass
    assert caught.value.values["reason"] == "half a file"
    assert made
    assert made[0]() is None  # though `caught` still holds the error and its frames
    assert manager.status() == ()


def test_a_load_can_be_cancelled_and_asked_for_again(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    cancel = threading.Event()
    recipe = Recipe({"first": 64 * KIB, "second": 64 * KIB}, before_part=lambda _: cancel.set())
    manager, key = make_manager(), dummies.add("a", recipe)
    with pytest.raises(JobCancelled), manager.use(key, cancel=cancel):
        pass
    assert dummies.loads == ["a/first"]
    assert manager.status() == ()
    with manager.use(key) as model:
        assert model is not None


def test_one_who_stops_does_not_stop_the_others_load(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    loading, stopped, cancel = threading.Event(), threading.Event(), threading.Event()

    def first_time(_part: str) -> None:
        if not loading.is_set():
            loading.set()
            assert stopped.wait(30)

    manager, key = make_manager(), dummies.add("a", Recipe(before_part=first_time))

    def impatient() -> None:
        with pytest.raises(JobCancelled), manager.use(key, cancel=cancel):
            pass

    def patient() -> bool:
        with manager.use(key) as model:
            return model is not None

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(impatient)
        assert loading.wait(30)
        second = pool.submit(patient)
        cancel.set()
        stopped.set()
        first.result(30)
        assert second.result(30)


def test_a_waiting_job_that_is_cancelled_stops_waiting_at_once(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    loading, may_end, cancel = threading.Event(), threading.Event(), threading.Event()

    def slow(_part: str) -> None:
        loading.set()
        assert may_end.wait(30)

    manager, key = make_manager(), dummies.add("a", Recipe(before_part=slow))

    def use(event: threading.Event | None) -> None:
        with manager.use(key, cancel=event):
            pass

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(use, None)
        assert loading.wait(30)
        second = pool.submit(use, cancel)
        cancel.set()
        with pytest.raises(JobCancelled):
            second.result(30)
        assert not first.done()
        may_end.set()
        first.result(30)


def test_progress_counts_the_bytes_of_weights(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    key = dummies.add("a", Recipe({"first": 64 * KIB, "second": 32 * KIB}))
    seen: list[tuple[int, int, str]] = []
    with make_manager().use(key, on_progress=lambda *progress: seen.append(progress)):
        pass
    assert seen == [(64 * KIB, 96 * KIB, "phase.loading_weights"), (96 * KIB, 96 * KIB, "phase.loading_weights")]


def test_the_least_recently_used_model_leaves_under_the_budget(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager(budget=130 * KIB)
    a, b, c = (dummies.add(name) for name in "abc")
    for key in (a, b, a, c):
        clock.now += 1
        with manager.use(key):
            pass
    assert loaded_names(manager) == {"a", "c"}


def test_a_model_in_use_is_never_evicted(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager(budget=100 * KIB)
    a, b = dummies.add("a"), dummies.add("b")
    with manager.use(a) as model:
        clock.now += 1
        with manager.use(b):
            assert loaded_names(manager) == {"a", "b"}
            assert model(torch.ones(2)).tolist() == [2.0, 2.0]


def test_both_user_actions_are_refused_while_the_model_is_in_use(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key = make_manager(), dummies.add("a")
    with manager.use(key):
        for action in (manager.move_to_ram, manager.unload):
            with pytest.raises(UserError) as caught:
                action(key)
            assert (caught.value.key, caught.value.values) == ("error.model_in_use", {"model": "a"})
        assert manager.unload_all_idle() == 0
    manager.move_to_ram(key)
    assert loaded_names(manager) == {"a"}
    manager.unload(key)
    manager.unload(key)  # as good as done
    assert manager.status() == ()


def test_unloading_frees_the_weights(make_manager: Callable[..., ModelManager], dummies: DummyFamilies) -> None:
    manager, key = make_manager(), dummies.add("a")
    with manager.use(key) as model:
        weights = weakref.ref(model.parts["only"].weight)
    del model
    assert weights() is not None
    manager.unload(key)
    assert weights() is None


def test_idle_models_leave_after_their_time(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager()
    a, b = dummies.add("a"), dummies.add("b")
    with manager.use(a):
        pass
    clock.now = 50.0
    with manager.use(b):
        clock.now = 100.0
        assert manager.unload_idle_since(60.0) == 1
        assert loaded_names(manager) == {"b"}
    clock.now = 159.0
    assert manager.unload_idle_since(60.0) == 0
    clock.now = 160.0
    assert manager.unload_idle_since(60.0) == 1


def test_the_idle_timer_runs_until_it_is_stopped(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, key = make_manager(), dummies.add("a")
    with manager.use(key):
        pass
    looked = threading.Event()
    unload = manager.unload_idle_since
    monkeypatch.setattr(manager, "unload_idle_since", lambda seconds: (unload(seconds), looked.set()))
    manager.start_idle_timer(0.04)
    assert looked.wait(30)
    assert loaded_names(manager) == {"a"}  # by the manager's clock no time has passed
    clock.now = 1.0
    looked.clear()
    assert looked.wait(30)
    manager.stop_idle_timer()
    assert manager.status() == ()
    assert not [thread for thread in threading.enumerate() if thread.name == "idle-timer"]


def test_a_closed_manager_refuses_and_lets_the_last_lease_end(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key = make_manager(), dummies.add("a")
    with manager.use(key) as model:
        manager.close()
        assert model(torch.ones(1)).item() == 2.0
    assert manager.status() == ()
    with pytest.raises(UserError, match="shutting_down"), manager.use(key):
        pass


def test_a_new_revision_takes_the_place_of_the_old_one(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager = make_manager()
    old, new = dummies.add("a", revision="1"), dummies.add("a", revision="2")
    for key in (old, new):
        with manager.use(key):
            pass
    assert [model.key for model in manager.status()] == [new]


def test_a_model_outside_the_models_folders_is_refused(
    make_manager: Callable[..., ModelManager], tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with (
        pytest.raises(UserError, match="model_path_outside"),
        make_manager().use(ModelKey("dummy", str(elsewhere), "1", "float32")),
    ):
        pass


def test_too_little_memory_is_said_with_the_numbers(dummies: DummyFamilies) -> None:
    manager = ModelManager([dummies.root], hardware=FakeHardware({}, ram=32 * KIB), families=dummies.as_mapping())
    with pytest.raises(UserError) as caught, manager.use(dummies.add("a", Recipe({"only": 3 * 2**20}))):
        pass
    assert caught.value.key == "error.not_enough_ram"
    assert caught.value.values == {"model": "a", "needed": "3 MiB", "free": "1 MiB"}
    assert dummies.loads == []


def test_memory_that_runs_out_while_loading_is_freed_and_the_load_tried_again(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager = make_manager()
    failures = iter([True])

    def run_out_once(_part: str) -> None:
        if next(failures, False):
            raise MemoryError

    key = dummies.add("a", Recipe(before_part=run_out_once))
    with manager.use(key):
        pass
    assert dummies.loads == ["a/only", "a/only"]


class RunsOut:
    """Work that needs more memory than there is, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.saved: list[bool] = []

    def __call__(self, model: object) -> str:
        self.saved.append(model.saves_memory)  # type: ignore[attr-defined]
        if len(self.saved) <= self.times:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"
            )
        return "drawn"


def test_when_memory_runs_out_idle_models_leave_first_then_the_model_saves(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, reliefs = make_manager(), []
    idle, key = dummies.add("idle"), dummies.add("a")
    with manager.use(idle):
        pass
    work = RunsOut(times=2)
    assert manager.run(key, work, on_relief=reliefs.append) == "drawn"
    assert reliefs == [Relief.DROP_IDLE, Relief.SAVE_MEMORY]
    assert work.saved == [False, False, True]
    assert loaded_names(manager) == {"a"}
    with manager.use(key) as model:
        assert not model.saves_memory  # the next picture gets the exact pixels again


def test_when_nothing_helps_the_error_has_the_numbers(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key = make_manager(), dummies.add("a")
    with pytest.raises(UserError) as caught:
        manager.run(key, RunsOut(times=9))
    assert caught.value.key == "error.out_of_memory"
    assert set(caught.value.values) == {"model", "device", "size", "free"}
    assert manager.status()[0].pins == 0


def test_running_out_inside_a_lease_is_said_the_same_way(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    with pytest.raises(UserError, match="out_of_memory"), make_manager().use(dummies.add("a")):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_other_errors_pass_through_a_lease_unchanged(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key = make_manager(), dummies.add("a")
    with pytest.raises(RuntimeError, match="shape"):
        manager.run(key, lambda model: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(ZeroDivisionError), manager.use(key):
        _ = 1 / 0
    assert manager.status()[0].pins == 0


def test_loading_and_leasing_from_many_threads_keeps_count(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager(budget=150 * KIB)  # room for two of four
    keys = [dummies.add(name) for name in "abcd"]

    def use(number: int) -> float:
        with manager.use(keys[number % 4]) as model:
            clock.now += 1
            return float(model(torch.ones(1)).item())

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(use, range(64)))
    assert results == [float(number % 4 + 2) for number in range(64)]
    assert all(model.pins == 0 for model in manager.status())
    manager.unload_all_idle()
    gc.collect()
    assert manager.status() == ()
