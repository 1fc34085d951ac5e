"""What is told of the loaded models and of the memory: plain data for pages and commands."""

from __future__ import annotations

from dataclasses import dataclass

from webui.runtime.entries import ModelKey
from webui.runtime.placement import Mode


@dataclass(frozen=True, slots=True)
class LoadedModelStatus:
    """One line of the table of loaded models.

    `state` is "loading" (then `loaded_bytes` of `size_bytes` are read), "in_use" or "idle"; `device` is "cpu" for a
    model in RAM; `mode` says how it sits on its device.
    """

    key: ModelKey
    state: str
    device: str
    mode: Mode
    size_bytes: int
    loaded_bytes: int
    pins: int
    idle_seconds: float
    saves_memory: bool
    shares_modules: bool


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """RAM in bytes: what the models take, what they may take, what is still free on this machine."""

    models_bytes: int
    budget_bytes: int
    available_bytes: int
