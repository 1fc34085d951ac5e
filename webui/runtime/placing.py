"""Carrying loaded models between RAM and the accelerators, one move at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webui.errors import UserError
from webui.runtime import memory, placement
from webui.runtime.placement import CPU, Hardware, Mode, Placement

if TYPE_CHECKING:
    from webui.runtime.budget import RamBudget
    from webui.runtime.locks import ConstructionLock
    from webui.runtime.residents import Resident, ResidentTable


@dataclass(frozen=True, slots=True)
class Need:
    """What one use of a model asks of its place; `device` None lets the placer choose."""

    working_memory: int = 0
    device: str | None = None
    take_turns: bool = False


class Placer:
    """Puts models where they can compute and sends others away for them.

    All moves go through one lock: they compete for the same memory, and each decision rests on a measurement that
    another move would make stale. A model whose modules another one shares stays beside that one while it is in use.
    """

    def __init__(
        self,
        hardware: Hardware,
        table: ResidentTable,
        construction: ConstructionLock,
        budget: RamBudget,
    ) -> None:
        self._hardware = hardware
        self._table = table
        self._construction = construction
        self._budget = budget
        self._moving = threading.Lock()

    def place(self, resident: Resident, need: Need) -> None:
        """Make `resident`, which the caller has pinned, ready to compute; UserError with the numbers if it cannot be.

        A model in use by another lease stays as it is.
        """
        with self._moving:
            partner = self._pinned_partner(resident)
            if resident.placement is not None and (resident.pins > 1 or self._stays(resident, need)):
                pass
            elif partner is not None:
                self._place_beside(resident, partner, need)
            else:
                self._place_freely(resident, need)
            self._free_working_memory(resident, need)

    def to_ram(self, resident: Resident) -> bool:
        """Take an unpinned model off its accelerator; False when it is in use (itself or a module that it shares).

        A model that was split has lost its weights to accelerate's hooks, one that no longer fits into the RAM budget
        has nowhere to go, and a copy for a second accelerator would lie there twice: those are unloaded.
        """
        with self._moving:
            return self._to_ram(resident)

    def rest(self, resident: Resident) -> None:
        """After a lease: parts that take turns all go back to RAM, so that the device is free for the next model."""
        if not resident.hooks:
            return
        with self._moving:
            if resident.pins == 0:
                for hook in resident.hooks:
                    hook.offload()
                memory.release_device_cache()

    def _stays(self, resident: Resident, need: Need) -> bool:
        current = resident.placement
        assert current is not None  # noqa: S101 - asked only of placed models
        if current.mode is Mode.SPLIT:
            return True  # only a reload could change it
        if need.take_turns and current.mode is Mode.WHOLE and current.device != CPU:
            return False
        return resident.intact and need.device in (None, current.device)

    def _free_working_memory(self, resident: Resident, need: Need) -> None:
        """Send idle models away from the device until the computation has room; what is missing then, it will say."""
        if resident.device == CPU:
            if need.working_memory:
                self._budget.free_up(need.working_memory, but=resident)
            return
        wanted = need.working_memory + placement.DEVICE_RESERVE_BYTES
        while self._hardware.free_bytes()[resident.device] < wanted and self._send_away(resident, resident.device):
            pass

    def _place_beside(self, resident: Resident, partner: Resident, need: Need) -> None:
        """A module is in use on the partner's device: the rest joins it there or waits for another time."""
        if resident.placement is not None and resident.device == partner.device:
            plan = resident.placement  # most of it lies there already
        else:
            plan = self._plan(resident, Need(need.working_memory, partner.device))
        if plan.mode is not Mode.WHOLE or (partner.placement and partner.placement.mode is not Mode.WHOLE):
            raise UserError("error.model_in_use", model=partner.key.name)
        self._carry(resident, plan, need)

    def _place_freely(self, resident: Resident, need: Need) -> None:
        if resident.placement is not None:
            self._bring_to_ram(resident)
        take_turns = need.take_turns
        while True:
            plan = self._plan(resident, Need(need.working_memory, need.device, take_turns))
            try:
                self._carry(resident, plan, need)
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                memory.forget_frames(error)
                resident.placement = None
            else:
                return
            # The measured room was not there after all (another program, fragments): less room, then fewer parts.
            memory.release_memory()
            if not self._send_away(resident, plan.device):
                if plan.mode is not Mode.WHOLE or plan.device == CPU or take_turns:
                    raise self._no_room(resident, plan.device)
                take_turns = True

    def _plan(self, resident: Resident, need: Need) -> Placement:
        """The best placement, after sending idle models away one by one while that may make the whole model fit."""
        while True:
            plan = placement.plan_placement(
                resident.sizes,
                self._hardware.free_bytes(),
                working_memory=need.working_memory,
                device=need.device,
                take_turns=need.take_turns,
            )
            if plan.mode is Mode.WHOLE or need.take_turns or not self._send_away(resident, need.device):
                return plan

    def _carry(self, resident: Resident, plan: Placement, need: Need) -> None:
        device = self._hardware.torch_device(plan.device)
        if plan.mode is Mode.WHOLE:
            placement.move_whole(resident.parts, device, self._construction)
        else:
            self._part_from_partners(resident)
            if plan.mode is Mode.TURNS:
                resident.hooks = placement.let_take_turns(resident.parts, device, self._construction)
            else:
                self._split(resident, plan.device, need.working_memory)
        resident.placement, resident.intact = plan, True
        self._disturb_partners(resident)

    def _split(self, resident: Resident, main: str, working_memory: int) -> None:
        import torch

        limits = placement.split_memory(self._hardware.free_bytes(), main, working_memory)
        dtype: torch.dtype = getattr(torch, resident.key.dtype)
        layers = placement.plan_split(resident.parts, limits, dtype)
        if any(device == "disk" for part in layers.values() for device in part.values()):
            raise self._no_room(resident, main)
        placement.dispatch_split(resident.parts, layers, self._construction)

    def _part_from_partners(self, resident: Resident) -> None:
        """Hooks on a shared module would act in the other model too, so that one is unloaded first."""
        for partner in self._table.partners(resident):
            if not self._table.take_out(partner):
                raise UserError("error.model_in_use", model=partner.key.name)
            partner.let_go()

    def _send_away(self, wanted_by: Resident, device: str | None) -> bool:
        """Move the least recently used idle model off `device` (None: any accelerator); False when there is none."""
        for victim in self._table.idle(but=wanted_by):
            on_it = victim.placement is not None and victim.device != CPU and device in (None, victim.device)
            if on_it and self._to_ram(victim, wanted_by):
                return True
        return False

    def _to_ram(self, resident: Resident, wanted_by: Resident | None = None) -> bool:
        """`to_ram` without the lock; a module shared with `wanted_by` may go too while that one has no place yet."""
        unplaced = wanted_by if wanted_by is not None and wanted_by.placement is None else None
        if not self._table.movable(resident, but_for=unplaced):
            return False
        if resident.placement is None or resident.device == CPU:
            return True
        stays = resident.placement.mode is not Mode.SPLIT and not resident.key.copy_on
        if not stays or not self._budget.has_room_for(resident):
            return self._budget.unload(resident)
        self._bring_to_ram(resident)
        return True

    def _bring_to_ram(self, resident: Resident) -> None:
        if resident.hooks:
            placement.end_turns(resident.hooks)
            resident.hooks = []
        placement.move_whole(resident.parts, self._hardware.torch_device(CPU), self._construction)
        resident.placement, resident.intact = None, True
        self._disturb_partners(resident)
        memory.release_device_cache()

    def _disturb_partners(self, resident: Resident) -> None:
        """Remember that idle models have had a shared module moved from under them."""
        for partner in self._table.partners(resident):
            if not partner.pins and partner.placement != resident.placement:
                partner.intact = False

    def _pinned_partner(self, resident: Resident) -> Resident | None:
        return next((other for other in self._table.partners(resident) if other.pins and other.placement), None)

    def _no_room(self, resident: Resident, device: str) -> UserError:
        return UserError(
            "error.no_room_on_device",
            model=resident.key.name,
            device=device,
            needed=memory.format_bytes(resident.size_bytes),
            free=memory.format_bytes(self._hardware.free_bytes()[device]),
        )
