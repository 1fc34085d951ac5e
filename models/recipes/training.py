"""What the trainers share: the time budget, the learning rate, moving averages, the device and the log."""

import argparse
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from models.recipes.checkpoints import load_checkpoint, save_checkpoint
from models.recipes.draw import DEBIAN_FONT
from models.recipes.optimizers import MuonAdamW

DEFAULT_WORK_DIR = Path(__file__).with_name("work")
EMOJI_FOLDER = Path(__file__).parent.parent / "emoji"


@dataclass(frozen=True)
class Run:
    """How long and where to train. `minutes` counts over all runs of a phase, so a resumed run goes on where it was.

    Without a checkpoint, training starts from the exported suite in `exported`, or from nothing where that is None.
    """

    work_dir: Path = DEFAULT_WORK_DIR
    minutes: float = 60
    font: Path | None = None
    batch: int | None = None
    threads: int | None = None
    max_steps: int | None = None
    checkpoint_minutes: float = 3
    exported: Path | None = None

    def checkpoint(self, name: str) -> Path:
        """Where the model called `name` keeps its state."""
        return self.work_dir / f"{name}.pt"


@dataclass
class Progress:
    """Steps and seconds of the phase that is being trained, and of the phases before it."""

    phase: str
    step: int = 0
    seconds: float = 0.0
    earlier_steps: int = 0
    earlier_seconds: float = 0.0

    @classmethod
    def after(cls, checkpoint: dict[str, Any] | None, phase: str) -> "Progress":
        """Where to go on from: in the middle of the same phase, or at the start of a new one."""
        if checkpoint is None:
            return cls(phase)
        last = cls(**checkpoint["progress"])
        if last.phase == phase:
            return last
        return cls(phase, 0, 0.0, last.earlier_steps + last.step, last.earlier_seconds + last.seconds)

    @property
    def total_steps(self) -> int:
        """Of all phases."""
        return self.earlier_steps + self.step

    @property
    def total_seconds(self) -> float:
        """Of all phases."""
        return self.earlier_seconds + self.seconds


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up over `warmup` steps, then a cosine over the time budget, down to `floor` times the peak."""

    peak: float
    warmup: int = 200
    floor: float = 0.02

    def at(self, step: int, progress: float) -> float:
        """The rate of a step, at `progress` (0 to 1) of the time."""
        cosine = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak * min(1.0, (step + 1) / self.warmup) * cosine


class MovingAverage:
    """Exponential moving average of a model's weights. The decay warms up, so that short runs forget their start."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().clone().float() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """Take in the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        averages = list(self.weights.values())
        torch._foreach_lerp_(averages, [current[name].float() for name in self.weights], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
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


def step_all(
    accelerator: Accelerator,
    optimizer: MuonAdamW,
    model: torch.nn.Module,
    average: MovingAverage | None,
    loss: torch.Tensor,
) -> None:
    """Backward, clip the gradients at norm 1, step, and take the new weights into the average."""
    accelerator.backward(loss)
    accelerator.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if average is not None:
        average.update(model)


def averaged_state(
    model: torch.nn.Module, average: MovingAverage, optimizer: MuonAdamW, shape: Any, **more: Any
) -> dict[str, Any]:
    """What the checkpoint of a network with a moving average holds; `shape` is the dataclass of its sizes."""
    return {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shape": asdict(shape),
        **more,
    }


def load_averaged_state(
    state: dict[str, Any], model: torch.nn.Module, average: MovingAverage, optimizer: MuonAdamW, same_phase: bool
) -> None:
    """Take it back; a new phase starts with a new optimizer."""
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    if same_phase:
        optimizer.load_state_dict(state["optimizer"])


def make_accelerator(threads: int | None = None) -> Accelerator:
    """The GPU if there is one, else the CPU with `threads` threads; in bfloat16 where the hardware has it."""
    if threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        fast_bf16 = torch.cuda.is_bf16_supported()
    else:
        fast_bf16 = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - torch offers no public question
    return Accelerator(mixed_precision="bf16" if fast_bf16 else "no")


def prepared(accelerator: Accelerator, network: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
    """`network`, a function of tensors shaped like `example` to tensors, ready to train.

    Networks this small keep a GPU waiting for the next kernel, so there both passes are recorded once and replayed
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). The recording must cast the weights in every
    replay, so autocast must not keep copies, which the wrapper of `Accelerator.prepare` would do.
    """
    if accelerator.device.type != "cuda" or accelerator.num_processes > 1:
        return accelerator.prepare(network)
    network.to(accelerator.device)
    inputs = tuple(tensor.to(accelerator.device) for tensor in example)
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32, cache_enabled=False):
        return torch.cuda.make_graphed_callables(network, inputs)


def drawing_workers(accelerator: Accelerator) -> int:
    """How many processes should draw beside the training one: a GPU is faster than one core can draw for it."""
    return max(1, (os.cpu_count() or 1) - 2) if accelerator.device.type == "cuda" else 0


def make_logger(name: str, work_dir: Path, *, silent: bool = False) -> logging.Logger:
    """Log to `<work_dir>/<name>.log` and to the terminal."""
    work_dir.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"diffuscope.{name}")
    logger.setLevel(logging.CRITICAL if silent else logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    for handler in (logging.FileHandler(work_dir / f"{name}.log"), logging.StreamHandler()):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    return logger


class Task(Protocol):
    """One network being trained: what `fit` needs to know of it."""

    name: str
    phase: str
    optimizer: MuonAdamW
    batch_size: int

    def step(self, progress: float) -> dict[str, float]:
        """One optimizer step at `progress` (0 to 1) of the time; returns figures to be averaged and logged."""
        ...

    def probe(self) -> dict[str, float]:
        """A quick look at quality, for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """Take it back. In a new phase the optimizer starts anew."""
        ...


def fit(task: Task, run: Run, rate: LearningRate, accelerator: Accelerator) -> Progress:
    """Train, or go on training, until the time budget or `max_steps` is used.

    With several processes (`torchrun --nproc-per-node 2 -m models.recipes.train_unet`) the first one keeps the time,
    the log and the checkpoint.
    """
    log = make_logger(task.name, run.work_dir, silent=not accelerator.is_main_process)
    checkpoint = run.checkpoint(task.name)
    state = load_checkpoint(checkpoint)
    progress = Progress.after(state, task.phase)

    def save() -> None:
        if accelerator.is_main_process:
            save_checkpoint(checkpoint, {**task.state_dict(), "progress": asdict(progress)})

    if state is not None:
        same_phase = state["progress"]["phase"] == task.phase
        task.load_state_dict(state, same_phase)
        log.info("%s: going on after step %d (%s)", task.name, progress.total_steps, task.phase)
        if not same_phase:
            save()
    last_step = math.inf if run.max_steps is None else progress.step + run.max_steps
    meter = _Meter(log, task.batch_size * accelerator.num_processes)
    clock, saved = time.monotonic(), progress.seconds
    while progress.seconds < 60 * run.minutes and progress.step < last_step:
        share = progress.seconds / (60 * run.minutes)
        task.optimizer.set_learning_rate(rate.at(progress.step, share))
        meter.add(task.step(share), progress.step, share)
        progress.step += 1
        now = time.monotonic()
        progress.seconds, clock = _agree(progress.seconds + now - clock, accelerator), now
        if progress.seconds - saved > 60 * run.checkpoint_minutes:
            saved = progress.seconds
            save()
            if accelerator.is_main_process:
                log.info("step %d  %s", progress.step, _line(task.probe()))
    save()
    log.info("done: step %d, %.1f minutes", progress.total_steps, progress.total_seconds / 60)
    return progress


def run_task(make: Callable[[Accelerator], Task], run: Run, rate: LearningRate) -> Progress:
    """Make the task on the device there is, and `fit` it."""
    accelerator = make_accelerator(run.threads)
    return fit(make(accelerator), run, rate, accelerator)


def _agree(seconds: float, accelerator: Accelerator) -> float:
    """The first process's clock, so that all of them stop at the same step."""
    if accelerator.num_processes == 1:
        return seconds
    return broadcast(torch.tensor(seconds, dtype=torch.float64, device=accelerator.device)).item()


class _Meter:
    """Logs means and throughput twice a minute."""

    def __init__(self, log: logging.Logger, batch_size: int, every_seconds: float = 30) -> None:
        self._log, self._batch_size, self._every = log, batch_size, every_seconds
        self._since = time.monotonic()
        self._rows: list[dict[str, float]] = []

    def add(self, figures: dict[str, float], step: int, share: float) -> None:
        self._rows.append(figures)
        elapsed = time.monotonic() - self._since
        if elapsed < self._every:
            return
        means = {name: sum(row[name] for row in self._rows) / len(self._rows) for name in figures}
        speed = self._batch_size * len(self._rows) / elapsed
        self._log.info("step %d (%.0f%%)  %s  %.1f samples/s", step, 100 * share, _line(means), speed)
        self._since, self._rows = time.monotonic(), []


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def run_arguments(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """The flags that every trainer has; their names are `Run`'s fields."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes, help="time of all runs together (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=DEFAULT_WORK_DIR, help="checkpoints, caches, logs")
    parser.add_argument("--font", type=Path, help=f"NotoColorEmoji.ttf (default: {DEBIAN_FONT})")
    parser.add_argument("--batch", type=int, help="samples a step (default: by device)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument(
        "--start-from-exported",
        dest="exported",
        type=Path,
        nargs="?",
        const=EMOJI_FOLDER,
        help=f"a suite whose weights stand in for checkpoints that are missing (default: {EMOJI_FOLDER})",
    )
    parser.add_argument("--max-steps", type=int, help="stop after so many steps in this run")
    return parser


def run_from(flags: argparse.Namespace) -> Run:
    """The `Run` that the flags of `run_arguments` describe."""
    return Run(**{field.name: getattr(flags, field.name) for field in fields(Run) if hasattr(flags, field.name)})
