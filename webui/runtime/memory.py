"""Bytes: how many this machine has, how many a model may take, and what an allocator's refusal looks like."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from pathlib import Path
from typing import Final

GIB: Final = 2**30

_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_CGROUP_CURRENT: Final = Path("/sys/fs/cgroup/memory.current")
_CGROUP_STAT: Final = Path("/sys/fs/cgroup/memory.stat")
_PROCESS_STATUS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = Path("/proc/self/clear_refs")
_WATCH_SECONDS: Final = 0.005


def total_ram_bytes() -> int:
    """The machine's memory, or the container's limit (cgroup v2) where that is lower."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read_bytes(_CGROUP_LIMIT)
    return total if limit is None else min(total, limit)


def available_ram_bytes() -> int:
    """What can still be taken without swapping, in this container.

    A container's own figure counts the page cache as used; the kernel gives that back first, so it is added again.
    """
    import psutil

    available = int(psutil.virtual_memory().available)
    limit, current = _read_bytes(_CGROUP_LIMIT), _read_bytes(_CGROUP_CURRENT)
    if limit is None or current is None:
        return available
    return min(available, max(limit - current + _inactive_file_bytes(), 0))


def process_bytes() -> int:
    """What this process takes of the machine's memory now (resident set size)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """The most memory that this process has had, resident, while the context was open; `highest` is kept up to date.

    Linux counts it exactly and can be told to start anew; elsewhere it is looked at every few milliseconds.
    """

    def __init__(self) -> None:
        self.before = 0
        self._seen = 0
        self._counted = False
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self.before = self._seen = process_bytes()
        try:
            _FORGET_PEAK.write_text("5", encoding="ascii")
            self._counted = True
        except OSError:
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seen = self.highest
        self._counted = False
        self._done.set()

    @property
    def highest(self) -> int:
        """Bytes, at least `before`."""
        if self._counted:
            line = next(line for line in _PROCESS_STATUS.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
            self._seen = max(self._seen, int(line.split()[1]) * 1024)
        return self._seen

    def _watch(self) -> None:
        while not self._done.wait(_WATCH_SECONDS):
            self._seen = max(self._seen, process_bytes())


def default_ram_budget() -> int:
    """What loaded models may take together: half of the memory less 2 GiB, at least 4 GiB, at most three quarters.

    A fixed share of the total, not of what happens to be free: the same machine then always behaves the same.
    """
    total = total_ram_bytes()
    return min(max(total // 2 - 2 * GIB, 4 * GIB), total * 3 // 4)


def format_bytes(size: int) -> str:
    """A figure for people: "1.7 GiB", "24 MiB"."""
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{max(round(size / 2**20), 1 if size else 0)} MiB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is an allocator's refusal, on an accelerator or in RAM."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # The CPU and MPS allocators raise a plain RuntimeError (the texts accelerate.utils.should_reduce_batch_size knows).
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "MPS backend out of memory" in text)


def forget_frames(error: BaseException) -> None:
    """Drop the local variables of the frames that `error` came through: they hold the half-built model alive."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__


def release_memory() -> None:
    """Collect what is held by reference cycles only, and give the device allocator's spare blocks back.

    A collection takes about half a second with the model libraries loaded; where nothing can be left over,
    `release_device_cache` is enough.
    """
    gc.collect()
    release_device_cache()


def release_device_cache() -> None:
    """Give the device allocator's spare blocks back, for other programs and for honest measurements."""
    if "torch" in sys.modules:
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache()


def _inactive_file_bytes() -> int:
    try:
        fields = (line.split() for line in _CGROUP_STAT.read_text(encoding="ascii").splitlines())
        return next((int(value) for name, value in fields if name == "inactive_file"), 0)
    except (OSError, ValueError):
        return 0


def _read_bytes(path: Path) -> int | None:
    """The number in a cgroup file; None where there is no such file or it says "max"."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
