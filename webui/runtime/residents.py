"""The table of loaded models: who is in use, who shares weights with whom, who is least recently used."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webui.runtime import memory
from webui.runtime.entries import ModelKey
from webui.runtime.placement import CPU, Mode, Placement
from webui.runtime.status import LoadedModelStatus

if TYPE_CHECKING:
    from torch import nn

    from webui.runtime.loaders import Family


@dataclass(slots=True, eq=False)
class Resident:
    """One loaded model. `sizes` are the bytes of its parts; `placement` None means that it waits in RAM.

    `pins` counts the leases on it; whoever changes it or `last_used` holds the table's lock. `hooks` are there while
    its parts take turns, `saves_memory` while it is sliced and tiled. `intact` is False once another model has moved a
    module that the two share.
    """

    key: ModelKey
    family: Family
    model: Any
    parts: dict[str, nn.Module]
    shareable: dict[str, nn.Module]
    sizes: dict[str, int]
    pins: int = 0
    last_used: float = 0.0
    placement: Placement | None = None
    hooks: list[Any] = field(default_factory=list)
    saves_memory: bool = False
    intact: bool = True

    @property
    def size_bytes(self) -> int:
        """Bytes of weights, shared ones included."""
        return sum(self.sizes.values())

    @property
    def device(self) -> str:
        """Where the model computes; "cpu" while it waits in RAM."""
        return CPU if self.placement is None else self.placement.device

    @property
    def lies_in_ram(self) -> bool:
        """Whether its weights take RAM: always, except whole or split on an accelerator."""
        return self.device == CPU or (self.placement is not None and self.placement.mode is Mode.TURNS)

    def let_go(self) -> None:
        """Free the weights of a model that has left the table, whoever still holds this record."""
        modules = [weakref.ref(module) for module in self.parts.values()]
        self.model, self.parts, self.shareable, self.hooks = None, {}, {}, []
        if any(module() is not None for module in modules):
            memory.release_memory()
        else:
            memory.release_device_cache()

    def shares_with(self, other: Resident) -> bool:
        """Whether the two hold a module together."""
        own = {id(module) for module in self.shareable.values()}
        return self is not other and any(id(module) in own for module in other.shareable.values())


class ResidentTable:
    """The loaded models by key. Its lock is held for moments only, never while weights are read or moved."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_key: dict[ModelKey, Resident] = {}

    def pin(self, key: ModelKey) -> Resident | None:
        """The model with one more pin on it; None when it is not loaded."""
        with self._lock:
            resident = self._by_key.get(key)
            if resident is not None:
                resident.pins += 1
            return resident

    def add_pinned(self, resident: Resident) -> None:
        """Put a new model in the table, with its first pin."""
        with self._lock:
            resident.pins = 1
            resident.last_used = self._clock()
            self._by_key[resident.key] = resident

    def unpin(self, resident: Resident) -> int:
        """Take one pin off; returns how many are left."""
        with self._lock:
            resident.pins -= 1
            resident.last_used = self._clock()
            return resident.pins

    def take_out(self, resident: Resident) -> bool:
        """Remove the model unless it is pinned; False when it is, or is no longer there."""
        with self._lock:
            if resident.pins or self._by_key.get(resident.key) is not resident:
                return False
            del self._by_key[resident.key]
            return True

    def get(self, key: ModelKey) -> Resident | None:
        """The model, without a pin."""
        with self._lock:
            return self._by_key.get(key)

    def all(self) -> tuple[Resident, ...]:
        """Every model, the least recently used first."""
        with self._lock:
            return tuple(sorted(self._by_key.values(), key=lambda resident: resident.last_used))

    def status(self) -> list[LoadedModelStatus]:
        """What is told of every model, the least recently used first."""
        return [
            LoadedModelStatus(
                key=resident.key,
                state="in_use" if resident.pins else "idle",
                device=resident.device,
                mode=resident.placement.mode if resident.placement else Mode.WHOLE,
                size_bytes=resident.size_bytes,
                loaded_bytes=resident.size_bytes,
                pins=resident.pins,
                idle_seconds=self.seconds_idle(resident),
                saves_memory=resident.saves_memory,
                shares_modules=bool(self.partners(resident)),
            )
            for resident in self.all()
        ]

    def partners(self, resident: Resident) -> tuple[Resident, ...]:
        """The models that share a module with this one."""
        return tuple(other for other in self.all() if resident.shares_with(other))

    def movable(self, resident: Resident, but_for: Resident | None = None) -> bool:
        """Whether nobody computes with it, nor with a module that it shares; `but_for` is known not to."""
        partners = (partner for partner in self.partners(resident) if partner is not but_for)
        return resident.pins == 0 and all(partner.pins == 0 for partner in partners)

    def idle(self, but: Resident | None = None) -> Iterator[Resident]:
        """The models without pins, the least recently used first."""
        return (resident for resident in self.all() if resident.pins == 0 and resident is not but)

    def idle_since(self, seconds: float) -> Iterator[Resident]:
        """The models without pins whose last use is at least `seconds` ago."""
        latest = self._clock() - seconds
        return (resident for resident in self.idle() if resident.last_used <= latest)

    def seconds_idle(self, resident: Resident) -> float:
        """How long ago the last lease ended; 0 while there is one."""
        return 0.0 if resident.pins else max(self._clock() - resident.last_used, 0.0)

    def ram_bytes(self) -> int:
        """What the models take of RAM; a module that two of them share counts once."""
        from webui.runtime.sharing import tensors_of

        modules = [module for resident in self.all() if resident.lies_in_ram for module in resident.parts.values()]
        return sum(tensor.nbytes for tensor in tensors_of(modules))
