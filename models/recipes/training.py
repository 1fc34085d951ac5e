"""What the three trainers share: the time budget, the learning rate, moving averages, the device and the log."""

import argparse
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

DEFAULT_WORK_DIR = Path(__file__).with_name("work")


@dataclass
class Budget:
    """Training time, counted over all runs: `spent` is what earlier runs used (it is kept in the checkpoint)."""

    minutes: float
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return min(1.0, self.seconds / (60 * self.minutes)) if self.minutes > 0 else 1.0


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up over `warmup` steps, then a cosine over the time budget, down to `floor` times the peak."""

    peak: float
    warmup: int = 200
    floor: float = 0.02

    def at(self, step: int, progress: float) -> float:
        cosine = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak * min(1.0, (step + 1) / self.warmup) * cosine


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


class MovingAverage:
    """Exponential moving average of a model's weights. The decay warms up, so that short runs forget their start."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().clone().float() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        averages = list(self.weights.values())
        torch._foreach_lerp_(averages, [current[name].float() for name in self.weights], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)

    @contextmanager
    def swapped_into(self, model: torch.nn.Module) -> Iterator[None]:
        """The model carries the averages inside the `with` block, and its own weights again after it."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.weights)
        try:
            yield
        finally:
            model.load_state_dict(own)


def make_accelerator(threads: int | None = None) -> Accelerator:
    """The GPU if there is one, in bfloat16 where the hardware multiplies it; otherwise the CPU with `threads` threads."""
    if threads:
        torch.set_num_threads(threads)
    fast_bf16 = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return Accelerator(mixed_precision="bf16" if fast_bf16 else "no")


def make_logger(name: str, work_dir: Path) -> logging.Logger:
    """Log to `<work_dir>/<name>.log` and to the terminal."""
    work_dir.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"diffuscope.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    for handler in (logging.FileHandler(work_dir / f"{name}.log"), logging.StreamHandler()):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    return logger


def trainer_arguments(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """The flags that every trainer has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes, help="total training time, over all runs (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=DEFAULT_WORK_DIR, help="checkpoints, caches, logs (%(default)s)")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf (default: where Debian's fonts-noto-color-emoji puts it)")
    parser.add_argument("--batch", type=int, help="samples a step (default: by device)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps in this run")
    return parser
