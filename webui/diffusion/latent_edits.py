"""Edits of a latent as a list of what was done, replayed on the original every time. numpy only.

A latent here is one picture's: (4, H/8, W/8) float32, scaled as in the pipeline. Regions are in its cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from webui.errors import UserError

MAX_EDITS: Final = 100
MAX_GAIN: Final = 100.0
MAX_BITS: Final = 12


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of cells: its left upper corner, width and height."""

    x: int
    y: int
    width: int
    height: int

    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing the last two axes of a latent."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


@dataclass(frozen=True, slots=True)
class ScaleChannel:
    """z <- gain * z + offset in one channel."""

    channel: int
    gain: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class ZeroChannel:
    """z <- 0 in one channel."""

    channel: int


@dataclass(frozen=True, slots=True)
class SwapChannels:
    """Two channels change places."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class ZeroRegion:
    """z <- 0 in a region, in all channels."""

    region: Region


@dataclass(frozen=True, slots=True)
class NoiseRegion:
    """Gaussian noise of `strength` (its standard deviation) in place of a region, the same for the same seed."""

    region: Region
    seed: int = 0
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class PasteRegion:
    """A region of the other latent, from its cell (from_x, from_y) on, laid over `region`."""

    region: Region
    from_x: int
    from_y: int


@dataclass(frozen=True, slots=True)
class RoundToBits:
    """Each channel on 2^bits evenly spaced levels between its own least and greatest value."""

    bits: int


LatentEdit = ScaleChannel | ZeroChannel | SwapChannels | ZeroRegion | NoiseRegion | PasteRegion | RoundToBits


@dataclass(frozen=True, slots=True)
class EditHistory:
    """What was done, in order, and what was undone and can be done again (the last undone first)."""

    done: tuple[LatentEdit, ...] = ()
    undone: tuple[LatentEdit, ...] = ()

    def add(self, edit: LatentEdit) -> EditHistory:
        """One more edit; what was undone is forgotten. Raises UserError at the hundred-first."""
        if len(self.done) >= MAX_EDITS:
            raise UserError("error.too_many_edits", limit=MAX_EDITS)
        return EditHistory((*self.done, edit))

    def undo(self) -> EditHistory:
        """Without the last edit; the same when there is none."""
        if not self.done:
            return self
        return EditHistory(self.done[:-1], (self.done[-1], *self.undone))

    def redo(self) -> EditHistory:
        """With the edit that was undone last; the same when there is none."""
        if not self.undone:
            return self
        return EditHistory((*self.done, self.undone[0]), self.undone[1:])


def apply_edits(latent: np.ndarray, edits: tuple[LatentEdit, ...], other: np.ndarray | None = None) -> np.ndarray:
    """`latent` after all `edits`, as a new array; `other` is what PasteRegion takes from.

    Raises UserError for an edit that does not fit these latents.
    """
    edited = latent.astype(np.float32, copy=True)
    for edit in edits:
        check_edit(edit, edited.shape, None if other is None else other.shape)
        _apply(edited, edit, other)
    return edited


def check_edit(edit: LatentEdit, shape: tuple[int, ...], other_shape: tuple[int, ...] | None) -> None:
    """Raise UserError unless `edit` fits a latent of `shape` (C, h, w) and another of `other_shape`."""
    channels, height, width = shape
    match edit:
        case ScaleChannel(channel, gain, offset):
            _check_channel(channel, channels)
            _check_number(gain, MAX_GAIN)
            _check_number(offset, MAX_GAIN)
        case ZeroChannel(channel):
            _check_channel(channel, channels)
        case SwapChannels(first, second):
            _check_channel(first, channels)
            _check_channel(second, channels)
        case ZeroRegion(region):
            check_region(region, width, height)
        case NoiseRegion(region, _, strength):
            check_region(region, width, height)
            _check_number(strength, MAX_GAIN)
        case PasteRegion(region, from_x, from_y):
            check_region(region, width, height)
            if other_shape is None:
                raise UserError("error.no_other_latent")
            check_region(replace(region, x=from_x, y=from_y), other_shape[2], other_shape[1])
        case RoundToBits(bits):
            if not 1 <= bits <= MAX_BITS:
                raise UserError("error.bits_out_of_range", value=bits, high=MAX_BITS)


def check_region(region: Region, width: int, height: int) -> None:
    """Raise UserError unless the region has cells and lies within `width` x `height` of them."""
    fits = 0 <= region.x <= region.x + region.width <= width and 0 <= region.y <= region.y + region.height <= height
    if not fits or region.width < 1 or region.height < 1:
        raise UserError(
            "error.region_outside", x=region.x, y=region.y, region_width=region.width, region_height=region.height,
            width=width, height=height,
        )  # fmt: skip


def _apply(latent: np.ndarray, edit: LatentEdit, other: np.ndarray | None) -> None:
    match edit:
        case ScaleChannel(channel, gain, offset):
            latent[channel] = gain * latent[channel] + offset
        case ZeroChannel(channel):
            latent[channel] = 0
        case SwapChannels(first, second):
            latent[[first, second]] = latent[[second, first]]
        case ZeroRegion(region):
            latent[:, *region.slices()] = 0
        case NoiseRegion(region, seed, strength):
            # Noise for the whole latent, so that a moved region shows the same noise from another place.
            noise = np.random.default_rng(seed).standard_normal(latent.shape, dtype=np.float32)
            latent[:, *region.slices()] = strength * noise[:, *region.slices()]
        case PasteRegion(region, from_x, from_y) if other is not None:
            taken = replace(region, x=from_x, y=from_y)
            latent[:, *region.slices()] = other[:, *taken.slices()]
        case RoundToBits(bits):
            latent[:] = _rounded(latent, bits)


def _rounded(latent: np.ndarray, bits: int) -> np.ndarray:
    low, high = latent.min(axis=(1, 2), keepdims=True), latent.max(axis=(1, 2), keepdims=True)
    step = (high - low) / (2**bits - 1)
    step = np.where(step == 0, 1, step)  # a channel of one value stays as it is
    rounded: np.ndarray = low + np.round((latent - low) / step) * step
    return rounded


def _check_channel(channel: int, channels: int) -> None:
    if not 0 <= channel < channels:
        raise UserError("error.no_such_channel", value=channel + 1, high=channels)


def _check_number(value: float, limit: float) -> None:
    if not -limit <= value <= limit:  # NaN is not either
        raise UserError("error.edit_number_out_of_range", value=value, limit=limit)
