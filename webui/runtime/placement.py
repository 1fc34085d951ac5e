"""Where a model goes: the planners (plain arithmetic over sizes and free memory) and the hands that carry it there.

Sizes and free memory come from accelerate. A model goes whole to the accelerator with most free memory. When none has
room for the whole of it, its parts take turns on one; when one part alone is too large for that, the parts are split
over all accelerators and RAM. Without an accelerator everything stays in RAM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from webui.runtime import memory
from webui.runtime.locks import ConstructionLock
from webui.runtime.pipelines import Half

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU: Final = "cpu"

DEVICE_RESERVE_BYTES: Final = 512 * 2**20
"""Left free on an accelerator for its context, its libraries' workspaces and other programs."""


class Mode(StrEnum):
    """How a model sits on its device."""

    WHOLE = "whole"  # every part is there
    TURNS = "turns"  # parts come from RAM when they compute, and go back for the next (accelerate's CpuOffload)
    SPLIT = "split"  # layers lie on several devices and in RAM (accelerate's dispatch_model); only a reload undoes it


@dataclass(frozen=True, slots=True)
class Placement:
    """What was decided: the device that computes, and how the model sits on it."""

    mode: Mode
    device: str


class Hardware(Protocol):
    """The devices of this machine, by name: "cpu", "cuda:0", "mps"."""

    def accelerators(self) -> tuple[str, ...]:
        """Everything but the CPU, in the library's order."""

    def free_bytes(self) -> dict[str, int]:
        """Free memory now, by device name; "cpu" is RAM."""

    def torch_device(self, name: str) -> torch.device:
        """What to hand to `.to()`."""


class LocalHardware:
    """The real devices, as accelerate finds them.

    Nothing is asked before the first model is loaded: finding out how much memory is free opens a context on each
    accelerator, which takes some 300 MiB of it for good.
    """

    def accelerators(self) -> tuple[str, ...]:
        """All accelerators of the one kind that accelerate chose."""
        return tuple(name for name in self.free_bytes() if name != CPU)

    def free_bytes(self) -> dict[str, int]:
        """What `accelerate.utils.get_max_memory` measures; RAM as this container may use it."""
        from accelerate import PartialState
        from accelerate.utils import get_max_memory

        kind = PartialState().device.type
        free: dict[str, int] = {}
        for device, size in get_max_memory().items():
            if device == CPU:
                continue
            free[f"{kind}:{device}" if isinstance(device, int) else device] = size
        free[CPU] = memory.available_ram_bytes()
        return free

    def torch_device(self, name: str) -> torch.device:
        """The same name in torch."""
        import torch

        return torch.device(name)


def plan_placement(
    sizes: Mapping[str, int],
    free: Mapping[str, int],
    *,
    working_memory: int = 0,
    device: str | None = None,
    take_turns: bool = False,
) -> Placement:
    """Decide where a model with parts of these `sizes` (bytes) goes, given the `free` bytes of each device.

    `working_memory` is what the computation needs beside the weights. `device` restricts the choice to that one;
    `take_turns` forbids WHOLE on an accelerator (after the whole model proved too large in use).
    """
    accelerators = [name for name in free if name != CPU and device in (None, name)]
    if not accelerators:
        return Placement(Mode.WHOLE, CPU)
    best = max(accelerators, key=lambda name: free[name])
    room = free[best] - DEVICE_RESERVE_BYTES - working_memory
    if sum(sizes.values()) <= room and not (take_turns and len(sizes) > 1):
        return Placement(Mode.WHOLE, best)
    if len(sizes) > 1 and max(sizes.values()) <= room:
        return Placement(Mode.TURNS, best)
    return Placement(Mode.SPLIT, best)


def split_memory(free: Mapping[str, int], main: str, working_memory: int) -> dict[int | str, int]:
    """The `max_memory` for `infer_auto_device_map`, with accelerate's names for devices (0, 1, "mps", "cpu").

    Each accelerator keeps its reserve; the one that computes (`main`) keeps the working memory too.
    """
    limits: dict[int | str, int] = {}
    for name, size in free.items():
        kept = 0 if name == CPU else DEVICE_RESERVE_BYTES + (working_memory if name == main else 0)
        limits[_accelerate_name(name)] = max(size - kept, 0)
    return limits


def plan_split(
    parts: Mapping[str, nn.Module], max_memory: Mapping[int | str, int], dtype: torch.dtype
) -> dict[str, dict[str, int | str]]:
    """Which layer of each part goes where: `accelerate.infer_auto_device_map` part by part, over what is left.

    The parts may be empty (`meta`) modules: only names and sizes count.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    left = dict(max_memory)
    plan: dict[str, dict[str, int | str]] = {}
    for name, module in sorted(parts.items(), key=lambda item: -compute_module_sizes(item[1], dtype=dtype)[""]):
        blocks = getattr(module, "_no_split_modules", None)
        device_map: dict[str, int | str] = infer_auto_device_map(
            module, max_memory=dict(left), no_split_module_classes=blocks, dtype=dtype
        )
        sizes = compute_module_sizes(module, dtype=dtype)
        for layer, device in device_map.items():
            left[device] = max(left.get(device, 0) - sizes[layer], 0)
        plan[name] = device_map
    return plan


def choose_dtype(device_type: str, half: Half = "float16", *, has_bfloat16: bool = True) -> str:
    """The dtype to compute a model in: its own 16-bit one, `half`, on accelerators, float32 on CPUs.

    An accelerator without bfloat16 computes a model that wants it in float32, since in float16 it would overflow.

    A CPU computes bfloat16 faster only with AVX512-BF16 or AMX (without them three times slower, float16 slower still),
    and its 8 bits of precision draw another picture: in float32 one seed draws the same on every CPU. Whoever wants
    bfloat16 asks for it in the key.
    """
    if device_type == CPU or (half == "bfloat16" and not has_bfloat16):
        return "float32"
    return half


def local_device_type(hardware: Hardware) -> str:
    """What torch calls the kind of device that this machine computes on: "cpu", "cuda", "mps"."""
    accelerators = hardware.accelerators()
    return hardware.torch_device(accelerators[0]).type if accelerators else CPU


def local_dtype(device_type: str, half: Half = "float16") -> str:
    """`choose_dtype` for a kind of device of this machine."""
    import torch

    has_bfloat16 = device_type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return choose_dtype(device_type, half, has_bfloat16=has_bfloat16)


def move_whole(parts: Mapping[str, nn.Module], device: torch.device, construction: ConstructionLock) -> None:
    """Move every part to `device`; when one does not fit, those already there go back to RAM before the error rises."""
    moved: list[nn.Module] = []
    try:
        for module in parts.values():
            moved.append(module)
            with construction.read():
                module.to(device)
    except BaseException:
        for module in moved:
            with construction.read():
                module.to(CPU)
        raise


def let_take_turns(parts: Mapping[str, nn.Module], device: torch.device, construction: ConstructionLock) -> list[Any]:
    """Hook the parts, in their order of use, so that each sends the one before it back to RAM; returns the hooks.

    What `accelerate.cpu_offload_with_hook` does, with a hook that moves under the construction lock: these moves
    happen in the middle of a job, while another thread may be building a model.
    """
    from accelerate.hooks import CpuOffload, UserCpuOffloadHook, add_hook_to_module

    class TurnTaking(CpuOffload):  # type: ignore[misc] # accelerate carries no types
        def __init__(self, execution_device: torch.device, previous: Any) -> None:
            super().__init__(execution_device)
            self._previous = previous

        def init_hook(self, module: nn.Module) -> nn.Module:
            with construction.read():
                return module.to(CPU)

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if next(module.parameters()).device == self.execution_device:
                return args, kwargs
            if self._previous is not None:
                self._previous.offload()
            with construction.read():
                return super().pre_forward(module, *args, **kwargs)

    hooks: list[Any] = []
    for module in parts.values():
        hook = TurnTaking(device, previous=hooks[-1] if hooks else None)
        add_hook_to_module(module, hook, append=True)
        hooks.append(UserCpuOffloadHook(module, hook))
    return hooks


def dispatch_split(
    parts: Mapping[str, nn.Module], plan: Mapping[str, Mapping[str, int | str]], construction: ConstructionLock
) -> None:
    """Lay out the parts as planned, with hooks that carry the activations across (`accelerate.dispatch_model`)."""
    from accelerate import dispatch_model

    for name, module in parts.items():
        with construction.read():
            dispatch_model(module, dict(plan[name]), force_hooks=True)


def end_turns(hooks: Sequence[Any]) -> None:
    """Send every part back to RAM and take the hooks off."""
    for hook in hooks:
        hook.offload()
        hook.remove()


def _accelerate_name(name: str) -> int | str:
    kind, _, index = name.partition(":")
    return int(index) if index else kind
