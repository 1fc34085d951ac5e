"""The RAM that loaded models may take together, and who leaves when it runs short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.errors import UserError
from webui.runtime import memory
from webui.runtime.placement import CPU, Hardware

if TYPE_CHECKING:
    from webui.runtime.entries import ModelKey
    from webui.runtime.residents import Resident, ResidentTable


class RamBudget:
    """Unloads the least recently used idle models, so that those which stay take at most `limit_bytes`.

    The budget bounds what is kept, not what may be used: a single model that is larger is still loaded when the memory
    is there. What is really free decides about that.
    """

    def __init__(self, table: ResidentTable, hardware: Hardware, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._table = table
        self._hardware = hardware

    def make_room(self, key: ModelKey, needed: int) -> None:
        """Before `needed` bytes are read for `key`: older revisions leave, then others until both limits hold.

        Raises UserError with the numbers when the memory is not there even then.
        """
        for resident in self._table.idle():
            other = resident.key
            same = (other.task, other.source, other.dtype) == (key.task, key.source, key.dtype)
            if same and other.revision != key.revision:
                self.unload(resident)
        while self._table.ram_bytes() + needed > self.limit_bytes and self._unload_next(None):
            pass
        if not self.free_up(needed, but=None):
            free = self._hardware.free_bytes()[CPU]
            raise UserError(
                "error.not_enough_ram",
                model=key.name,
                needed=memory.format_bytes(needed),
                free=memory.format_bytes(free),
            )

    def free_up(self, needed: int, but: Resident | None) -> bool:
        """Unload idle models until `needed` bytes of RAM are really free; False when that is not to be had."""
        while self._hardware.free_bytes()[CPU] < needed:
            if not self._unload_next(but):
                return False
        return True

    def has_room_for(self, resident: Resident) -> bool:
        """Whether a model that comes from an accelerator may stay in RAM, others having left for it."""
        if resident.size_bytes > self.limit_bytes:
            return False
        while self._table.ram_bytes() + resident.size_bytes > self.limit_bytes:
            if not self._unload_next(resident):
                return False
        return True

    def unload(self, resident: Resident) -> bool:
        """Drop the model from every tier; False when it is in use."""
        if not self._table.take_out(resident):
            return False
        resident.let_go()
        return True

    def _unload_next(self, but: Resident | None) -> bool:
        return any(self.unload(victim) for victim in self._table.idle(but=but) if victim.lies_in_ram)
