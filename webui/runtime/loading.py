"""From a folder to a model in RAM: check, measure, read, build, share. Imported inside the first load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from accelerate import init_empty_weights
from accelerate.utils import compute_module_sizes
from torch import nn

from webui.errors import UserError
from webui.runtime import memory, safety
from webui.runtime.entries import ModelKey
from webui.runtime.flights import OnProgress
from webui.runtime.jobs import JobCancelled
from webui.runtime.loaders import Family, load_part
from webui.runtime.locks import ConstructionLock
from webui.runtime.parts import Part
from webui.runtime.residents import Resident
from webui.runtime.sharing import share_modules, shareable_modules

READ_CHUNK_BYTES: Final = 8 * 2**20

_TURN_POLL_SECONDS: Final = 0.05


class ModelReader:
    """Reads one model at a time; everything that it holds is let go when a load fails or is cancelled."""

    def __init__(self, construction: ConstructionLock, roots: Sequence[Path]) -> None:
        self._construction = construction
        self._roots = roots
        self._turn = threading.Lock()

    def load(
        self,
        key: ModelKey,
        family: Family,
        loaded: Callable[[], Sequence[Resident]],
        make_room: Callable[[int], None],
        cancel: threading.Event | None,
        on_progress: OnProgress,
    ) -> Resident:
        """The model named by `key` (its dtype already chosen), in RAM.

        `make_room` is told the bytes of weights before anything large is read, and again when RAM ran out on the way;
        it raises UserError when they do not fit. `loaded` gives the models whose modules may be shared. Raises
        UserError for files that are missing, damaged or not allowed, and JobCancelled between chunks and parts.
        """
        with self._my_turn(cancel):
            folder = safety.resolve_inside(Path(key.source), self._roots)
            family.check(folder, self._roots)
            parts = family.parts(folder)
            dtype: torch.dtype = getattr(torch, key.dtype)
            sizes = self._measure(parts, dtype)
            make_room(sum(sizes.values()))
            try:
                modules = self._read(parts, dtype, cancel, on_progress)
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                memory.forget_frames(error)
                make_room(2 * sum(sizes.values()))
                modules = self._read(parts, dtype, cancel, on_progress)
            others = [resident.shareable for resident in loaded()]
            modules = share_modules(modules, family.shareable, others)
            with self._construction.write():
                model = family.assemble(folder, modules)
        return Resident(key, family, model, modules, shareable_modules(modules, family.shareable), sizes)

    @contextmanager
    def _my_turn(self, cancel: threading.Event | None) -> Iterator[None]:
        """One load at a time: two would read the same disk, and could not share what they bring."""
        while not self._turn.acquire(timeout=_TURN_POLL_SECONDS):
            _check(cancel)
        try:
            _check(cancel)
            yield
        finally:
            self._turn.release()

    def _measure(self, parts: Sequence[Part], dtype: torch.dtype) -> dict[str, int]:
        """Bytes of each part's weights in `dtype`, from modules without any."""
        with self._construction.write():
            sizes: dict[str, int] = {}
            for part in parts:
                try:
                    with init_empty_weights():
                        empty = part.build_empty()
                    tie = getattr(empty, "tie_weights", None)
                    if callable(tie):
                        tie()  # building without weights undoes it, and what is used twice would count twice
                except (ValueError, TypeError, KeyError, AttributeError, OSError, ArithmeticError) as error:
                    file = _described_by(part)
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                    raise UserError("error.model_file_broken", file=file, reason=reason) from error
                sizes[part.name] = int(compute_module_sizes(empty, dtype=dtype)[""])
            return sizes

    def _read(
        self, parts: Sequence[Part], dtype: torch.dtype, cancel: threading.Event | None, on_progress: OnProgress
    ) -> dict[str, nn.Module]:
        files = dict.fromkeys(file for part in parts for file in part.files)  # one file may hold several parts
        total = sum(file.stat().st_size for file in files)
        done = 0
        modules: dict[str, nn.Module] = {}
        for part in parts:
            for file in [file for file in part.files if file in files]:
                del files[file]
                for size in _read_through(file):
                    _check(cancel)
                    done += size
                    on_progress(done, total, "phase.loading_weights")
            _check(cancel)
            with self._construction.write():
                modules[part.name] = load_part(part, dtype)
        _check(cancel)
        return modules


def _described_by(part: Part) -> str:
    """The file that says how the part is built."""
    if not part.files:
        return part.name
    config = part.files[0].parent / "config.json"
    return str(config if config.is_file() else part.files[0])


def _read_through(file: Path) -> Iterator[int]:
    """Read `file` once and drop what was read, yielding the bytes of each chunk.

    The libraries map a file into memory and read it inside one call that can neither be watched nor stopped. Reading it
    first puts it into the page cache, so that their call finds it there, and this reading can be watched and stopped.
    """
    buffer = bytearray(READ_CHUNK_BYTES)
    try:
        with file.open("rb", buffering=0) as stream:
            while size := stream.readinto(buffer):
                yield size
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError("error.model_file_broken", file=str(file), reason=reason) from error


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise JobCancelled
