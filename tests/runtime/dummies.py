"""Models of a few kilobytes and accelerators that are not there, for tests of the manager."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from webui.runtime.entries import ModelKey
from webui.runtime.loaders import Family, Part
from webui.runtime.manager import ModelManager
from webui.runtime.placement import CPU, Mode

KIB = 2**10
TASK = "dummy"


class Scale(nn.Module):
    """Multiplies by a vector of `size` bytes that are all `value`."""

    def __init__(self, size: int, value: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size // 4,), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[: x.shape[-1]]


@dataclass
class Recipe:
    """What the dummy called so is made of, and what happens while it loads."""

    sizes: Mapping[str, int] = field(default_factory=lambda: {"only": 64 * KIB})
    before_part: Callable[[str], None] = lambda _: None
    value: float = 2.0
    values: Mapping[str, float] = field(default_factory=dict)  # of the parts that differ


@dataclass
class DummyModel:
    parts: Mapping[str, nn.Module]
    saves_memory: bool = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts.values():
            x = part(x)
        return x


class DummyFamilies:
    """A family whose recipes are looked up by the folder's name; counts loads of parts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipes: dict[str, Recipe] = {}
        self.loads: list[str] = []
        self._lock = threading.Lock()

    def add(self, name: str, recipe: Recipe | None = None, revision: str = "1") -> ModelKey:
        self.recipes[name] = recipe or Recipe(value=float(len(self.recipes) + 2))
        (self.root / name).mkdir(exist_ok=True)
        return self.key(name, revision)

    def key(self, name: str, revision: str = "1") -> ModelKey:
        return ModelKey(TASK, str(self.root / name), revision, "float32")

    def as_mapping(self, **changes: Any) -> dict[str, Family]:
        family = {
            "task": TASK,
            "check": lambda _folder, _roots: None,
            "parts": self._parts,
            "assemble": lambda _folder, modules: DummyModel(dict(modules)),
            "save_memory": lambda model: setattr(model, "saves_memory", True),
            "restore": lambda model: setattr(model, "saves_memory", False),
        }
        return {TASK: Family(**{**family, **changes})}

    def _parts(self, folder: Path) -> tuple[Part, ...]:
        recipe = self.recipes[folder.name]
        return tuple(self._part(folder, recipe, name, size) for name, size in recipe.sizes.items())

    def _part(self, folder: Path, recipe: Recipe, name: str, size: int) -> Part:
        file = folder / f"{name}.safetensors"
        file.write_bytes(bytes(size))

        def load(dtype: torch.dtype) -> nn.Module:
            with self._lock:
                self.loads.append(f"{folder.name}/{name}")
            recipe.before_part(name)
            return Scale(size, recipe.values.get(name, recipe.value)).to(dtype)

        return Part(name, (file,), lambda: Scale(size, recipe.value), load)


class FakeHardware:
    """Accelerators with a given room, all of them RAM in truth; what the manager placed there is taken."""

    def __init__(self, room: Mapping[str, int], ram: int = 2**40) -> None:
        self.room = dict(room)
        self.ram = ram
        self.manager: ModelManager | None = None

    def accelerators(self) -> tuple[str, ...]:
        return tuple(self.room)

    def free_bytes(self) -> dict[str, int]:
        free = dict(self.room)
        for model in self.manager.status() if self.manager else ():
            if model.device in free and model.mode is not Mode.TURNS:
                free[model.device] -= model.size_bytes
        return {**free, CPU: self.ram}

    def torch_device(self, name: str) -> torch.device:
        return torch.device(CPU)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
