"""One part of a model that can be built and read by itself. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Part:
    """One module of a model: `files` are its weights; `build_empty` is called under `init_empty_weights`."""

    name: str
    files: tuple[Path, ...]
    build_empty: Callable[[], nn.Module]
    load: Callable[[torch.dtype], nn.Module]
