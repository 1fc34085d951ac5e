"""What is loaded: the one object through which every job gets its models.

    with manager.use(entry.key(), cancel=context.cancelled, on_progress=context.progress) as pipe:
        ...

A model is loaded on its first use, stays while it is used, and leaves when memory is wanted for another or when it has
been idle for long. Importing this module imports no model library; the first `use` does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from webui.errors import UserError
from webui.runtime import memory, placement
from webui.runtime.budget import RamBudget
from webui.runtime.entries import AUTO_DTYPE, ModelKey
from webui.runtime.flights import OnProgress, SingleFlight
from webui.runtime.idle import RepeatingTimer
from webui.runtime.locks import ConstructionLock
from webui.runtime.placement import CPU, Hardware, LocalHardware, Mode
from webui.runtime.placing import Need, Placer
from webui.runtime.residents import Resident, ResidentTable
from webui.runtime.status import LoadedModelStatus, MemoryStatus

if TYPE_CHECKING:
    from webui.runtime.loaders import Family
    from webui.runtime.loading import ModelReader

_log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TIMER_SECONDS: Final = 60.0


class Relief(StrEnum):
    """What `ModelManager.run` does about a lack of memory, in this order; the values are message keys."""

    DROP_IDLE = "memory.dropped_idle_models"
    SAVE_MEMORY = "memory.sliced_and_tiled"
    TAKE_TURNS = "memory.parts_take_turns"


class ModelManager:
    """Leases on loaded models. Safe from any thread; a leased model itself belongs to one job at a time.

    `roots` are the folders that models may be read from; `ram_budget_bytes` bounds what is kept in RAM (None: half of
    the memory, see `memory.default_ram_budget`). `on_loaded` hears of every model that was read, with the seconds it
    took. `device_here` names the accelerator whose job the calling thread runs, None for any. The rest of the arguments
    stand in for the real thing in tests.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        ram_budget_bytes: int | None = None,
        *,
        hardware: Hardware | None = None,
        families: Mapping[str, Family] | None = None,
        clock: Callable[[], float] = time.monotonic,
        construction: ConstructionLock | None = None,
        on_loaded: Callable[[ModelKey, float], None] | None = None,
        device_here: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._roots = roots
        self._hardware = hardware or LocalHardware()
        self._families = families
        self._construction = construction or ConstructionLock()
        self._table = ResidentTable(clock)
        limit = memory.default_ram_budget() if ram_budget_bytes is None else ram_budget_bytes
        self._budget = RamBudget(self._table, self._hardware, limit)
        self._placer = Placer(self._hardware, self._table, self._construction, self._budget)
        self._on_loaded = on_loaded
        self._device_here = device_here
        self._flights: SingleFlight[ModelKey, Resident] = SingleFlight()
        self._reader: ModelReader | None = None
        self._device_type: str | None = None
        self._lock = threading.Lock()
        self._timer: RepeatingTimer | None = None
        self._closed = False

    @contextmanager
    def use(
        self,
        key: ModelKey,
        *,
        working_memory: int = 0,
        cancel: threading.Event | None = None,
        on_progress: OnProgress | None = None,
        device: str | None = None,
    ) -> Iterator[Any]:
        """Lease the model: a `StableDiffusionPipeline` for "txt2img", a `loaders.ClipModel` for "clip".

        `working_memory` are the bytes that the computation takes beside the weights; `device` names where it must run
        (a job's own), None lets the manager choose. Raises UserError when the model cannot be read or finds no room,
        also when the body of the `with` runs out of memory (`run` tries harder); JobCancelled when `cancel` is set
        while it loads.
        """
        resident = self._lease(key, Need(working_memory, device), cancel, on_progress)
        try:
            yield resident.model
        except BaseException as error:
            if not memory.is_out_of_memory(error):
                raise
            memory.forget_frames(error)
            raise self._out_of_memory(resident) from error
        finally:
            self._release(resident)

    @contextmanager
    def beside(self, key: ModelKey, device: str, cancel: threading.Event | None = None) -> Iterator[Any]:
        """Lease a model for work on another one, whose lease a lack of memory is left to."""
        resident = self._lease(key, Need(0, device), cancel, None)
        try:
            yield resident.model
        finally:
            self._release(resident)

    def run(
        self,
        key: ModelKey,
        work: Callable[[Any], T],
        *,
        working_memory: int = 0,
        cancel: threading.Event | None = None,
        on_progress: OnProgress | None = None,
        device: str | None = None,
        on_relief: Callable[[Relief], None] | None = None,
    ) -> T:
        """Call `work` with the leased model; when memory runs out, make room step by step and call it again.

        Idle models leave first; then the model slices its attention and tiles its VAE; then its parts take turns on
        the accelerator. `on_relief` is told of each step, since the second changes pixels by rounding and, above the
        VAE's tile size, visibly at seams. Raises UserError with the numbers when all of it was not enough.
        """
        applied: set[Relief] = set()
        ladder = iter(Relief)
        while True:
            need = Need(working_memory, device, Relief.TAKE_TURNS in applied)
            resident = self._lease(key, need, cancel, on_progress)
            try:
                if Relief.SAVE_MEMORY in applied:
                    self._save_memory(resident)
                return work(resident.model)
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                memory.forget_frames(error)
                failure = self._out_of_memory(resident)
            finally:
                self._release(resident)
            memory.release_memory()
            relief = next((step for step in ladder if self._can(step, resident)), None)
            if relief is None:
                raise failure
            _log.warning("%s ran out of memory; next try: %s", key.name, relief.value)
            applied.add(relief)
            if on_relief is not None:
                on_relief(relief)

    @property
    def construction(self) -> ConstructionLock:
        """What to hold while modules of a leased model are built or replaced; released before computing."""
        return self._construction

    def status(self) -> tuple[LoadedModelStatus, ...]:
        """The models that are loaded, the least recently used first, then those that are being loaded."""
        loaded = self._table.status()
        for key, progress in self._flights.under_way().items():
            done, total, _ = progress or (0, 0, "")
            loaded.append(LoadedModelStatus(key, "loading", CPU, Mode.WHOLE, total, done, 0, 0.0, False, False))
        return tuple(loaded)

    def memory_status(self) -> MemoryStatus:
        """How much RAM the models take and how much is left."""
        taken = self._table.ram_bytes() if self._table.all() else 0
        return MemoryStatus(taken, self._budget.limit_bytes, memory.available_ram_bytes())

    def accelerators(self) -> tuple[str, ...]:
        """The accelerators of this machine; asking opens a context on each, so it is for after a load."""
        return self._hardware.accelerators()

    def device_memory(self) -> dict[str, int]:
        """Free bytes of each accelerator, by name; nothing before a model is loaded, since asking takes a context."""
        if not self._table.all():
            return {}
        return {name: free for name, free in self._hardware.free_bytes().items() if name != CPU}

    def move_to_ram(self, key: ModelKey) -> None:
        """Free the accelerator of this model, but keep it in RAM for a quick return; UserError while it is in use."""
        resident = self._loaded(key)
        if resident is not None and not self._placer.to_ram(resident):
            raise UserError("error.model_in_use", model=key.name)

    def unload(self, key: ModelKey) -> None:
        """Free all memory of this model. Raises UserError while it is in use or being loaded."""
        resident = self._loaded(key)
        if resident is not None and not self._budget.unload(resident):
            raise UserError("error.model_in_use", model=key.name)

    def unload_all_idle(self) -> int:
        """Unload every model that nobody uses; returns how many."""
        return self.unload_idle_since(0.0)

    def unload_idle_since(self, seconds: float) -> int:
        """Unload every model whose last use ended at least `seconds` ago; returns how many."""
        return sum(self._budget.unload(resident) for resident in self._table.idle_since(seconds))

    def start_idle_timer(self, idle_seconds: float) -> None:
        """From now on unload what has been idle for `idle_seconds`, looking several times in that span."""
        self.stop_idle_timer()
        interval = min(max(idle_seconds / 4, 0.01), MAX_TIMER_SECONDS)
        timer = RepeatingTimer(lambda: self.unload_idle_since(idle_seconds), interval)
        with self._lock:
            self._timer = timer

    def stop_idle_timer(self) -> None:
        """Keep idle models until memory is wanted for others."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()

    def close(self) -> None:
        """Refuse new leases and unload everything; what is still in use leaves when its lease ends."""
        self._closed = True
        self.stop_idle_timer()
        self.unload_all_idle()

    def _lease(
        self, key: ModelKey, need: Need, cancel: threading.Event | None, on_progress: OnProgress | None
    ) -> Resident:
        key = self._with_dtype(key)
        need = replace(need, device=need.device or self._device_here())
        copy = replace(key, copy_on=need.device or "")
        if copy.copy_on and self._table.get(copy) is not None:
            key = copy
        resident = self._placed(key, need, cancel, on_progress)
        if need.device in (None, CPU, resident.device) or resident.device == CPU:
            return resident
        # In use on another accelerator: two jobs are done sooner side by side, where there is room for two.
        try:
            own = self._placed(copy, need, cancel, on_progress)
        except UserError as problem:
            _log.info("%s stays on %s for two jobs: %s", key.name, resident.device, problem)
            return resident
        except BaseException:
            self._release(resident)
            raise
        self._release(resident)
        return own

    def _placed(
        self, key: ModelKey, need: Need, cancel: threading.Event | None, on_progress: OnProgress | None
    ) -> Resident:
        resident = self._pinned(key, cancel, on_progress)
        try:
            self._placer.place(resident, need)
        except BaseException:
            self._release(resident)
            raise
        return resident

    def _pinned(self, key: ModelKey, cancel: threading.Event | None, on_progress: OnProgress | None) -> Resident:
        """The model with a pin of the caller's on it, loaded by this thread or another if need be."""
        while True:
            if self._closed:
                raise UserError("error.shutting_down")
            resident = self._table.pin(key)
            if resident is not None:
                return resident
            resident = self._flights.run(key, partial(self._load, key, cancel), cancel, on_progress)
            if resident is not None:
                return resident

    def _load(self, key: ModelKey, cancel: threading.Event | None, report: OnProgress) -> Resident:
        """Load the model and put it in the table, pinned; whatever goes wrong, nothing of it stays in memory."""
        started = time.perf_counter()
        try:
            resident = self._model_reader().load(
                key,
                self._family(key.task),
                loaded=list if key.copy_on else self._shareable_residents,
                make_room=lambda needed: self._budget.make_room(key, needed),
                cancel=cancel,
                on_progress=report,
            )
        except BaseException as error:
            memory.forget_frames(error)
            memory.release_memory()
            if memory.is_out_of_memory(error):
                raise self._not_enough_ram(key) from error
            raise
        if key.copy_on:
            resident.shareable = {}  # each accelerator has its own
        self._table.add_pinned(resident)
        size = memory.format_bytes(resident.size_bytes)
        seconds = time.perf_counter() - started
        _log.info("loaded %s (%s, %s) in %.1f s", key.name, key.dtype, size, seconds)
        if self._on_loaded is not None:
            self._on_loaded(key, seconds)
        return resident

    def _release(self, resident: Resident) -> None:
        if resident.saves_memory and resident.pins == 1:
            assert resident.family.restore is not None  # noqa: S101 - goes with save_memory
            resident.family.restore(resident.model)
            resident.saves_memory = False
        if self._table.unpin(resident) == 0:
            self._placer.rest(resident)
            if self._closed:
                self._budget.unload(resident)

    def _save_memory(self, resident: Resident) -> None:
        assert resident.family.save_memory is not None  # noqa: S101 - _can has asked
        resident.family.save_memory(resident.model)
        resident.saves_memory = True

    def _can(self, relief: Relief, resident: Resident) -> bool:
        """Whether this step of the ladder has something to give; the first is taken at once."""
        if relief is Relief.DROP_IDLE:
            return self.unload_all_idle_but(resident) > 0
        if relief is Relief.SAVE_MEMORY:
            return resident.family.save_memory is not None
        return resident.device != CPU and len(resident.sizes) > 1

    def unload_all_idle_but(self, resident: Resident) -> int:
        """Unload what nobody uses, except this model; returns how many."""
        return sum(self._budget.unload(other) for other in self._table.idle(but=resident))

    def _shareable_residents(self) -> list[Resident]:
        """The models whose modules carry no hooks of accelerate's."""
        whole = (None, Mode.WHOLE)
        return [other for other in self._table.all() if (other.placement and other.placement.mode) in whole]

    def _loaded(self, key: ModelKey) -> Resident | None:
        key = self._with_dtype(key)
        if key in self._flights.under_way():
            raise UserError("error.model_in_use", model=key.name)
        return self._table.get(key)

    def _with_dtype(self, key: ModelKey) -> ModelKey:
        """The key with "auto" replaced, so that both names mean one model."""
        if key.dtype != AUTO_DTYPE:
            return key
        if self._device_type is None:
            self._device_type = placement.local_device_type(self._hardware)
        half = "float16" if self._device_type == CPU else self._family(key.task).half(Path(key.source))
        return replace(key, dtype=placement.local_dtype(self._device_type, half))

    def _family(self, task: str) -> Family:
        if self._families is None:
            from webui.runtime.loaders import FAMILIES

            self._families = FAMILIES
        return self._families[task]

    def _model_reader(self) -> ModelReader:
        with self._lock:
            if self._reader is None:
                from webui.runtime.loading import ModelReader

                self._reader = ModelReader(self._construction, self._roots)
            return self._reader

    def _out_of_memory(self, resident: Resident) -> UserError:
        return UserError(
            "error.out_of_memory",
            model=resident.key.name,
            device=resident.device,
            size=memory.format_bytes(resident.size_bytes),
            free=memory.format_bytes(self._hardware.free_bytes()[resident.device]),
        )

    def _not_enough_ram(self, key: ModelKey) -> UserError:
        source = Path(key.source)
        files = [source] if source.is_file() else source.rglob("*.safetensors")
        size = sum(file.stat().st_size for file in files)
        free = memory.format_bytes(memory.available_ram_bytes())
        return UserError("error.not_enough_ram", model=key.name, needed=memory.format_bytes(size), free=free)
