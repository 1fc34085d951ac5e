from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from accelerate import init_empty_weights
from accelerate.utils import compute_module_sizes
from diffusers import UNet2DConditionModel
from torch import nn

from tests.runtime.dummies import Scale
from webui.runtime import memory, placement
from webui.runtime.locks import ConstructionLock
from webui.runtime.pipelines import PIPELINES
from webui.runtime.placement import DEVICE_RESERVE_BYTES, LocalHardware, Mode, Placement, plan_placement

GIB = 2**30
SD1 = {"text_encoder": GIB // 4, "unet": 7 * GIB // 4, "vae": GIB // 6}


@pytest.mark.parametrize(
    ("free", "options", "expected"),
    [
        ({"cpu": 64 * GIB}, {}, Placement(Mode.WHOLE, "cpu")),
        ({"cuda:0": 8 * GIB, "cpu": 64 * GIB}, {}, Placement(Mode.WHOLE, "cuda:0")),
        ({"cuda:0": 8 * GIB, "cuda:1": 12 * GIB, "cpu": GIB}, {}, Placement(Mode.WHOLE, "cuda:1")),
        ({"cuda:0": 8 * GIB, "cuda:1": 12 * GIB, "cpu": GIB}, {"device": "cuda:0"}, Placement(Mode.WHOLE, "cuda:0")),
        ({"cuda:0": 8 * GIB, "cpu": GIB}, {"device": "cpu"}, Placement(Mode.WHOLE, "cpu")),
        ({"cuda:0": 8 * GIB, "cpu": GIB}, {"working_memory": 6 * GIB}, Placement(Mode.SPLIT, "cuda:0")),
        ({"cuda:0": 8 * GIB, "cpu": GIB}, {"working_memory": 5 * GIB + GIB // 2}, Placement(Mode.TURNS, "cuda:0")),
        ({"cuda:0": 8 * GIB, "cpu": GIB}, {"take_turns": True}, Placement(Mode.TURNS, "cuda:0")),
        ({"cuda:0": 1 * GIB, "cuda:1": 2 * GIB, "cpu": GIB}, {}, Placement(Mode.SPLIT, "cuda:1")),
        ({"mps": 8 * GIB, "cpu": 8 * GIB}, {}, Placement(Mode.WHOLE, "mps")),
    ],
)
def test_the_plan(free: dict[str, int], options: dict[str, object], expected: Placement) -> None:
    assert plan_placement(SD1, free, **options) == expected  # type: ignore[arg-type]


def test_a_model_of_one_part_cannot_take_turns_with_itself() -> None:
    assert plan_placement({"model": GIB}, {"cuda:0": 8 * GIB}, take_turns=True).mode is Mode.WHOLE
    assert plan_placement({"model": 9 * GIB}, {"cuda:0": 8 * GIB}).mode is Mode.SPLIT


def test_a_split_uses_both_devices_then_ram_and_keeps_blocks_whole() -> None:
    with init_empty_weights():
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, layers_per_block=1)
    size = compute_module_sizes(unet, dtype=torch.float16)[""]
    fake = {"cuda:0": size // 2 + DEVICE_RESERVE_BYTES, "cuda:1": size // 2 + DEVICE_RESERVE_BYTES, "cpu": 64 * GIB}
    limits = placement.split_memory(fake, "cuda:0", working_memory=0)
    assert limits == {0: size // 2, 1: size // 2, "cpu": 64 * GIB}
    plan = placement.plan_split({"unet": unet}, limits, torch.float16)["unet"]
    assert set(plan.values()) == {0, 1, "cpu"}
    sizes = compute_module_sizes(unet, dtype=torch.float16)
    for device in (0, 1):
        assert sum(sizes[layer] for layer, place in plan.items() if place == device) <= size // 2
    assert sum(sizes[layer] for layer in plan) == size


def test_what_one_part_takes_is_gone_for_the_next() -> None:
    parts = {"small": nn.Sequential(nn.Linear(8, 8)), "large": nn.Sequential(nn.Linear(64, 64))}
    large = compute_module_sizes(parts["large"])[""]
    plan = placement.plan_split(parts, {0: large + 16, "cpu": GIB}, torch.float32)
    assert set(plan["large"].values()) == {0}
    assert set(plan["small"].values()) == {"cpu"}


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "float16"), ("mps", "float16"), ("cpu", "float32")])
def test_the_dtype(device: str, dtype: str) -> None:
    assert placement.choose_dtype(device) == dtype


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "dtype"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float32"), ("mps", True, "bfloat16"), ("cpu", True, "float32")],
)
def test_a_model_with_a_t5_is_not_computed_in_float16(device: str, has_bfloat16: bool, dtype: str) -> None:
    assert placement.choose_dtype(device, "bfloat16", has_bfloat16=has_bfloat16) == dtype
    assert {kind.half for kind in PIPELINES.values() if "T5" in str(kind.parts)} == {"bfloat16"}


def test_local_hardware_names_the_devices_as_torch_does() -> None:
    with (
        mock.patch("accelerate.utils.get_max_memory", return_value={0: 8 * GIB, 1: 6 * GIB, "cpu": GIB}),
        mock.patch("accelerate.PartialState") as state,
    ):
        state.return_value.device = torch.device("cuda")
        hardware = LocalHardware()
        assert hardware.accelerators() == ("cuda:0", "cuda:1")
        assert hardware.free_bytes()["cuda:1"] == 6 * GIB
    assert hardware.torch_device("cuda:1") == torch.device("cuda", 1)
    assert LocalHardware().free_bytes()["cpu"] == pytest.approx(memory.available_ram_bytes(), rel=0.2)


def test_parts_that_take_turns_compute_exactly_what_they_did() -> None:
    """On one device, for want of two: the hooks run, the moves go nowhere."""
    first, second = nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 8)
    x = torch.randn(4, 8)
    expected = second(first(x))
    hooks = placement.let_take_turns({"first": first, "second": second}, torch.device("cpu"), ConstructionLock())
    assert torch.equal(second(first(x)), expected)
    placement.end_turns(hooks)
    assert not hasattr(first, "_hf_hook")
    assert torch.equal(second(first(x)), expected)


def test_a_part_sends_the_one_before_it_back_first() -> None:
    """`meta` stands in for the accelerator: nothing can be computed there, but the moves are seen."""
    first, second = Scale(64), Scale(64)
    placement.let_take_turns({"first": first, "second": second}, torch.device("meta"), ConstructionLock())
    assert (first.weight.device.type, second.weight.device.type) == ("cpu", "cpu")
    first(torch.ones(2))
    assert (first.weight.device.type, second.weight.device.type) == ("meta", "cpu")
    with mock.patch.object(first, "to") as moved:  # from meta there is no way back
        second(torch.ones(2))
    moved.assert_called_once_with("cpu")
    assert second.weight.device.type == "meta"


def test_a_dispatched_model_computes_exactly_what_it_did() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    x = torch.randn(4, 8)
    expected = model(x)
    placement.dispatch_split({"model": model}, {"model": {"0": "cpu", "1": "cpu", "2": "cpu"}}, ConstructionLock())
    assert model[0]._hf_hook is not None
    assert torch.equal(model(x), expected)


def test_a_move_that_fails_halfway_is_taken_back() -> None:
    first, second = Scale(64), Scale(64)
    moved: list[object] = []
    first_to = first.to
    with (
        mock.patch.object(first, "to", side_effect=lambda device: moved.append(device) or first_to("cpu")),
        mock.patch.object(second, "to", side_effect=[torch.OutOfMemoryError("CUDA out of memory."), second]),
        pytest.raises(torch.OutOfMemoryError),
    ):
        placement.move_whole({"first": first, "second": second}, torch.device("meta"), ConstructionLock())
    assert moved == [torch.device("meta"), "cpu"]


def test_memory_in_a_container_is_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"_CGROUP_LIMIT": "1000", "_CGROUP_CURRENT": "900"}.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, name, tmp_path / name)
    (tmp_path / "stat").write_text("anon 500\ninactive_file 300\n")
    monkeypatch.setattr(memory, "_CGROUP_STAT", tmp_path / "stat")
    assert memory.total_ram_bytes() == 1000
    assert memory.available_ram_bytes() == 400
    (tmp_path / "_CGROUP_LIMIT").write_text("max")
    assert memory.available_ram_bytes() > 10**6


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 MiB"), (1, "1 MiB"), (24 * 2**20, "24 MiB"), (1717986918, "1.6 GiB")]
)
def test_bytes_for_people(size: int, text: str) -> None:
    assert memory.format_bytes(size) == text


def test_what_counts_as_running_out_of_memory() -> None:
    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"))
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_out_of_memory(ValueError("can't allocate memory"))
