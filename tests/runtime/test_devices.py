"""The manager with accelerators: two cards of which the test decides how much room they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch

from tests.runtime.dummies import DummyFamilies, FakeClock, FakeHardware, Recipe
from webui.errors import UserError
from webui.runtime import placement
from webui.runtime.manager import ModelManager, Relief
from webui.runtime.placement import DEVICE_RESERVE_BYTES, Mode
from webui.runtime.status import LoadedModelStatus

MIB = 2**20
ONE = Recipe({"only": 10 * MIB})
THREE = {"first": 2 * MIB, "second": 6 * MIB, "third": 2 * MIB}


@pytest.fixture
def dummies(tmp_path: Path) -> DummyFamilies:
    return DummyFamilies(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_manager(dummies: DummyFamilies, clock: FakeClock) -> Callable[..., ModelManager]:
    def make(rooms: dict[str, int], budget: int = 2**40, **changes: object) -> ModelManager:
        hardware = FakeHardware({name: DEVICE_RESERVE_BYTES + room for name, room in rooms.items()})
        families = dummies.as_mapping(**changes)
        manager = ModelManager([dummies.root], budget, hardware=hardware, families=families, clock=clock)
        hardware.manager = manager
        return manager

    return make


def status_of(manager: ModelManager, name: str) -> LoadedModelStatus:
    return next(model for model in manager.status() if model.key.name == name)


def touch(manager: ModelManager, key: object, clock: FakeClock, **options: object) -> None:
    clock.now += 1
    with manager.use(key, **options):  # type: ignore[arg-type]
        pass


def test_models_go_whole_to_the_card_with_most_room(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager({"cuda:0": 15 * MIB, "cuda:1": 18 * MIB})
    for name in ("a", "b"):
        touch(manager, dummies.add(name, ONE), clock)
    assert (status_of(manager, "a").device, status_of(manager, "b").device) == ("cuda:1", "cuda:0")


def test_a_job_gets_its_models_on_its_own_card(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager, key = make_manager({"cuda:0": 15 * MIB, "cuda:1": 18 * MIB}), dummies.add("a", ONE)
    for device in ("cuda:0", "cuda:1", "cpu"):
        touch(manager, key, clock, device=device)
        assert status_of(manager, "a").device == device
    assert dummies.loads == ["a/only"]


def test_idle_models_make_way_to_ram_and_come_back_without_being_read_again(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager({"cuda:0": 15 * MIB})
    a, b = dummies.add("a", ONE), dummies.add("b", ONE)
    for key in (a, b):
        touch(manager, key, clock)
    assert (status_of(manager, "a").device, status_of(manager, "b").device) == ("cpu", "cuda:0")
    touch(manager, a, clock)
    assert (status_of(manager, "a").device, status_of(manager, "b").device) == ("cuda:0", "cpu")
    assert dummies.loads == ["a/only", "b/only"]


def test_a_model_that_has_no_room_in_ram_either_is_unloaded(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager({"cuda:0": 15 * MIB}, budget=10 * MIB)
    for name in ("a", "b", "c"):
        touch(manager, dummies.add(name, ONE), clock)
    assert [(model.key.name, model.device) for model in manager.status()] == [("c", "cuda:0")]


def test_working_memory_that_a_job_asks_for_is_made_free(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager({"cuda:0": 25 * MIB})
    a, b = dummies.add("a", ONE), dummies.add("b", ONE)
    for key in (a, b):
        touch(manager, key, clock)
    assert status_of(manager, "a").device == "cuda:0"
    touch(manager, b, clock, working_memory=10 * MIB)
    assert (status_of(manager, "a").device, status_of(manager, "b").device) == ("cpu", "cuda:0")


def test_move_to_ram_keeps_the_model_loaded(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager, key = make_manager({"cuda:0": 15 * MIB}), dummies.add("a", ONE)
    touch(manager, key, clock)
    assert manager.memory_status().models_bytes == 0
    manager.move_to_ram(key)
    assert (status_of(manager, "a").device, manager.memory_status().models_bytes) == ("cpu", 10 * MIB)


def test_when_the_whole_does_not_fit_the_parts_take_turns(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager, key = make_manager({"cuda:0": 7 * MIB}), dummies.add("a", Recipe(THREE))
    with manager.use(key) as model:
        assert (status_of(manager, "a").mode, status_of(manager, "a").device) == (Mode.TURNS, "cuda:0")
        assert all(hasattr(part, "_hf_hook") for part in model.parts.values())
        assert model(torch.ones(4)).tolist() == [8.0] * 4
    manager.move_to_ram(key)
    with manager.use(key, device="cpu") as model:
        assert status_of(manager, "a").mode is Mode.WHOLE
        assert not any(hasattr(part, "_hf_hook") for part in model.parts.values())
        assert model(torch.ones(4)).tolist() == [8.0] * 4


def test_when_one_part_does_not_fit_it_is_split(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager, key = make_manager({"cuda:0": 4 * MIB, "cuda:1": 5 * MIB}), dummies.add("a", Recipe(THREE))
    planned: list[dict[str, dict[str, int | str]]] = []
    with mock.patch.object(placement, "dispatch_split", side_effect=lambda _, plan, __: planned.append(plan)):
        touch(manager, key, clock)
    assert (status_of(manager, "a").mode, status_of(manager, "a").device) == (Mode.SPLIT, "cuda:1")
    places = {device for part in planned[0].values() for device in part.values()}
    assert places <= {0, 1, "cpu"}
    assert len(places) > 1
    manager.move_to_ram(key)  # which only unloading can do
    assert manager.status() == ()


def test_a_card_that_is_fuller_than_it_said_costs_a_retry_not_the_job(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = make_manager({"cuda:0": 25 * MIB})
    idle, key = dummies.add("idle", ONE), dummies.add("a", ONE)
    touch(manager, idle, clock)
    move, refusals = placement.move_whole, iter([torch.OutOfMemoryError("CUDA out of memory.")])

    def refuse_once(*arguments: object) -> None:
        for error in refusals:
            raise error
        move(*arguments)  # type: ignore[arg-type]

    with mock.patch.object(placement, "move_whole", side_effect=refuse_once):
        touch(manager, key, clock)
    assert (status_of(manager, "idle").device, status_of(manager, "a").device) == ("cpu", "cuda:0")


def test_the_last_step_before_giving_up_is_to_take_turns(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key, reliefs = make_manager({"cuda:0": 50 * MIB}), dummies.add("a", Recipe(THREE)), []
    modes: list[Mode] = []

    def work(_model: object) -> None:
        modes.append(status_of(manager, "a").mode)
        if modes[-1] is Mode.WHOLE:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    manager.run(key, work, on_relief=reliefs.append)
    assert reliefs == [Relief.SAVE_MEMORY, Relief.TAKE_TURNS]
    assert modes == [Mode.WHOLE, Mode.WHOLE, Mode.TURNS]


def test_a_model_that_nothing_can_place_is_refused_with_the_numbers(
    make_manager: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager, key = make_manager({"cuda:0": 5 * MIB}), dummies.add("a", ONE)
    manager._hardware.ram = 11 * MIB  # type: ignore[attr-defined]
    with (
        mock.patch.object(placement, "plan_split", return_value={"only": {"": "disk"}}),
        pytest.raises(UserError) as caught,
        manager.use(key),
    ):
        pass
    assert caught.value.key == "error.no_room_on_device"
    assert caught.value.values["needed"] == "10 MiB"
    assert status_of(manager, "a").pins == 0


@pytest.fixture
def sharing(make_manager: Callable[..., ModelManager], dummies: DummyFamilies) -> Callable[..., ModelManager]:
    """A manager on these cards, and models "a" and "b" of 10 MiB each that hold their "second" part together."""
    dummies.add("a", Recipe(THREE, value=2.0, values={"second": 7.0}))
    dummies.add("b", Recipe(THREE, value=3.0, values={"second": 7.0}))
    return lambda rooms: make_manager(rooms, shareable=("second",))


def test_a_model_that_shares_a_part_comes_back_whole_after_the_other_took_the_part_away(
    sharing: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = sharing({"cuda:0": 50 * MIB, "cuda:1": 50 * MIB})
    a, b = dummies.key("a"), dummies.key("b")
    touch(manager, a, clock, device="cuda:0")
    touch(manager, b, clock, device="cuda:1")
    moved: list[int] = []
    move = placement.move_whole

    def watch(parts: dict[str, torch.nn.Module], *rest: object) -> None:
        moved.append(len(parts))
        move(parts, *rest)  # type: ignore[arg-type]

    with mock.patch.object(placement, "move_whole", side_effect=watch):
        touch(manager, a, clock)  # its part is on cuda:1 with b
        assert moved == [3, 3]  # to RAM, and back as a whole
        touch(manager, a, clock)
        assert moved == [3, 3]
        touch(manager, b, clock)  # now b lacks it
        assert len(moved) == 4


def test_a_part_in_use_is_not_moved_from_under_its_user(
    sharing: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    manager = sharing({"cuda:0": 50 * MIB, "cuda:1": 90 * MIB})
    a, b = dummies.key("a"), dummies.key("b")
    touch(manager, b, clock, device="cuda:0")
    with manager.use(a, device="cuda:0") as model:
        with pytest.raises(UserError, match="model_in_use"):
            manager.move_to_ram(b)  # would take the part that a computes with
        with manager.use(b) as other:  # the emptier card is cuda:1, but the part is here
            assert other.parts["second"] is model.parts["second"]
            assert status_of(manager, "b").device == "cuda:0"
    manager.move_to_ram(b)
    assert status_of(manager, "b").device == "cpu"


def test_a_model_beside_a_pinned_partner_is_refused_when_there_is_no_room(
    sharing: Callable[..., ModelManager], dummies: DummyFamilies
) -> None:
    manager = sharing({"cuda:0": 15 * MIB, "cuda:1": 12 * MIB})
    with (
        manager.use(dummies.key("a")),
        pytest.raises(UserError, match="model_in_use"),
        manager.use(dummies.key("b")),
    ):
        pass
    assert status_of(manager, "b").pins == 0


def test_parts_that_take_turns_are_not_shared(
    sharing: Callable[..., ModelManager], dummies: DummyFamilies, clock: FakeClock
) -> None:
    """A hook on a shared part would act in the other model too."""
    manager = sharing({"cuda:0": 50 * MIB})
    a, b = dummies.key("a"), dummies.key("b")
    for key in (a, b):
        touch(manager, key, clock)
    manager._hardware.room["cuda:0"] = DEVICE_RESERVE_BYTES + 7 * MIB  # type: ignore[attr-defined]
    manager.move_to_ram(a)
    with manager.use(a) as model:
        assert status_of(manager, "a").mode is Mode.TURNS
        assert [status.key.name for status in manager.status()] == ["a"]
        with manager.use(b, device="cpu") as other:
            assert other.parts["second"] is not model.parts["second"]
            assert not hasattr(other.parts["second"], "_hf_hook")
