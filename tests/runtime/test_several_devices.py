"""Several accelerators: a job on each at once, with the same model, of which RAM never holds two."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.runtime.dummies import DummyFamilies, DummyModel, FakeHardware, Recipe
from webui.runtime.entries import ModelKey
from webui.runtime.jobs import Job, JobContext, JobQueue
from webui.runtime.manager import ModelManager
from webui.runtime.placement import DEVICE_RESERVE_BYTES, Mode

MIB = 2**20
PATIENCE = 60.0
TWO = ("cuda:0", "cuda:1")


@pytest.fixture
def dummies(tmp_path: Path) -> DummyFamilies:
    return DummyFamilies(tmp_path)


class Machine:
    """Queue and manager, put together as `open_studio` does, on accelerators with this much room."""

    def __init__(self, dummies: DummyFamilies, rooms: dict[str, int]) -> None:
        self.jobs = JobQueue()
        self.hardware = FakeHardware({name: DEVICE_RESERVE_BYTES + room for name, room in rooms.items()})
        self.manager = ModelManager(
            [dummies.root],
            2**40,
            hardware=self.hardware,
            families=dummies.as_mapping(),
            on_loaded=lambda _key, _seconds: self.jobs.serve_on(self.manager.accelerators()),
            device_here=self.jobs.accelerator_here,
        )
        self.hardware.manager = self.manager

    def submit(self, key: ModelKey, work: Callable[[DummyModel], float]) -> Job[float]:
        return self.jobs.submit(
            lambda context: self.manager.run(key, work, cancel=context.cancelled), owner="ann", kind="test"
        )

    def at_once(self, *keys: ModelKey) -> list[float]:
        """A job with each of `keys`; none of them ends before all compute."""
        together = threading.Barrier(len(keys))

        def work(model: DummyModel) -> float:
            together.wait(PATIENCE)
            return float(model(torch.ones(1)).item())

        return [job.result(PATIENCE) for job in [self.submit(key, work) for key in keys]]

    def where(self) -> dict[str, tuple[str, ...]]:
        places: dict[str, list[str]] = {}
        for status in self.manager.status():
            places.setdefault(status.key.name, []).append(status.device)
        return {name: tuple(sorted(devices)) for name, devices in places.items()}


@pytest.fixture
def machine_with(dummies: DummyFamilies) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(**rooms: int) -> Machine:
        made.append(Machine(dummies, {name.replace("cuda", "cuda:"): room for name, room in rooms.items()}))
        return made[-1]

    yield make
    for machine in made:
        machine.jobs.close(PATIENCE)
        machine.manager.close()


def use(model: DummyModel) -> float:
    return float(model(torch.ones(1)).item())


def test_two_jobs_compute_at_once_each_on_its_own_accelerator(
    machine_with: Callable[..., Machine], dummies: DummyFamilies
) -> None:
    machine = machine_with(cuda0=50 * MIB, cuda1=50 * MIB)
    first, second = (
        dummies.add(name, Recipe({"only": 10 * MIB}, value=value)) for name, value in (("a", 3.0), ("b", 5.0))
    )
    assert machine.submit(first, use).result(PATIENCE) == 3  # with it the accelerators are known
    assert machine.at_once(first, second) == [3, 5]
    assert sorted(place for places in machine.where().values() for place in places) == list(TWO)


def test_the_same_model_is_there_twice_and_in_ram_once(
    machine_with: Callable[..., Machine], dummies: DummyFamilies
) -> None:
    machine = machine_with(cuda0=50 * MIB, cuda1=50 * MIB)
    key = dummies.add("a", Recipe({"only": 10 * MIB}, value=3.0))
    machine.submit(key, use).result(PATIENCE)
    for _ in range(3):
        assert machine.at_once(key, key) == [3, 3]
    assert machine.where() == {"a": TWO}
    assert dummies.loads == ["a/only", "a/only"], "each accelerator's weights are read once"
    assert machine.manager.memory_status().models_bytes == 0
    for status in machine.manager.status():
        machine.manager.move_to_ram(status.key)
    assert machine.where() == {"a": ("cpu",)}
    assert machine.manager.memory_status().models_bytes == 10 * MIB
    assert machine.at_once(key, key) == [3, 3]


def test_where_a_second_copy_has_no_room_both_compute_on_the_first(
    machine_with: Callable[..., Machine], dummies: DummyFamilies
) -> None:
    machine = machine_with(cuda0=50 * MIB, cuda1=50 * MIB)
    key = dummies.add("a", Recipe({"only": 10 * MIB}, value=3.0))
    machine.submit(key, use).result(PATIENCE)
    machine.hardware.ram = 5 * MIB
    assert machine.at_once(key, key) == [3, 3]
    assert [len(places) for places in machine.where().values()] == [1]


def test_one_accelerator_has_one_worker(machine_with: Callable[..., Machine], dummies: DummyFamilies) -> None:
    machine = machine_with(cuda0=50 * MIB)
    key = dummies.add("a", Recipe({"only": 10 * MIB}, value=3.0))
    assert machine.submit(key, use).result(PATIENCE) == 3
    ran: list[int] = []

    def alone(_context: JobContext) -> None:
        ran.append(threading.get_ident())

    for job in [machine.jobs.submit(alone, owner=owner, kind="test") for owner in ("ann", "ben")]:
        job.result(PATIENCE)
    assert len(set(ran)) == 1
    (status,) = machine.manager.status()
    assert (status.device, status.mode) == ("cuda:0", Mode.WHOLE)
