"""The cross-attention maps of one batch, taken call by call while a U-Net computes; part of a recording.

Maps are averaged and rounded to a byte as they come, so a run of 50 steps holds a few megabytes, not gigabytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from webui.diffusion.attention import (
    AttentionReader,
    CrossLayer,
    cross_attention_layers,
    level_size,
    probabilities,
)
from webui.diffusion.trace import head_map_size
from webui.diffusion.trace_header import TraceLayer, TraceLevel, TraceToken
from webui.errors import UserError

_LEAST_MAP_BYTES: Final = 4_000_000
_LEAST_MAP_SIDE: Final = 4
_MAP_SHARE: Final = 0.6
"""Step maps may take this share of what the latents take, which keeps 50 steps of Stable Diffusion 1.x under 15 MB."""
_TOGETHER: Final = 1_000_000
"""Layers with at most this many probabilities are computed together: for them it is the number of calls that costs."""

_Alike = tuple[tuple[int, int], int, tuple[int, ...], torch.device]
"""What layers must share to be computed together: size, heads, the queries' shape, the device."""


@dataclass(frozen=True, slots=True)
class PictureMaps:
    """The maps of one picture, as `Trace` has them."""

    step_maps: tuple[np.ndarray, ...] = ()
    step_scales: np.ndarray | None = None
    mean_maps: tuple[np.ndarray, ...] = ()
    head_maps: tuple[np.ndarray, ...] = ()
    head_scales: np.ndarray | None = None


class MapRecording:
    """Reads every cross-attention layer of `unet` while it is open; `take_call` ends each U-Net call.

    `latent_size` is (h, w), `pictures` the conditional rows of a batch, `tokens` the rows of the maps. `all_heads`
    keeps the maps of every head of every layer too.
    """

    def __init__(
        self,
        unet: Any,
        latent_size: tuple[int, int],
        pictures: int,
        tokens: Sequence[TraceToken],
        all_heads: bool,
    ) -> None:
        self._layers: tuple[CrossLayer, ...] = cross_attention_layers(unet)
        self.levels: tuple[TraceLevel, ...] = ()
        self._latent_values = math.prod(latent_size) * int(unet.config.in_channels)
        self._latent_size, self._tokens, self._all_heads = latent_size, tuple(tokens), all_heads
        self._reader = AttentionReader(self._layers, pictures, self._take_layer)
        self._layer_sizes: dict[int, tuple[int, int]] = {}
        self._sums: dict[tuple[int, int], torch.Tensor] = {}
        self._waiting: dict[_Alike, list[tuple[int, torch.Tensor, torch.Tensor]]] = {}
        self._head_maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._seen = 0
        self._run_sums: list[torch.Tensor] = []
        self._maps: list[list[np.ndarray]] = []  # call by call, level by level, (B, ...)
        self._scales: list[np.ndarray] = []  # (B, R, levels)
        self._heads: list[list[np.ndarray]] = []  # layer by layer
        self._head_scales: list[np.ndarray] = []  # (B, layers, heads, R)

    def __enter__(self) -> MapRecording:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    @property
    def layers(self) -> tuple[TraceLayer, ...]:
        """The layers, in the order in which they compute; known after the first call."""
        return tuple(
            TraceLayer(layer.name, layer.attention.heads, *self._layer_sizes[index])
            for index, layer in enumerate(self._layers)
        )

    def take_call(self, planned_calls: int) -> None:
        """One call of the U-Net is done: keep the maps of all layers. Raises UserError if a layer was not seen."""
        seen, self._seen = self._seen, 0
        waiting, self._waiting = self._waiting, {}
        if seen != len(self._layers):
            raise incomplete(seen, len(self._layers))
        for (size, *_), layers in waiting.items():
            self._add_layers(size, layers)
        if not self.levels:
            self.levels = self._plan_levels(planned_calls)
        self._take_maps()

    def of_picture(self, picture: int, calls: int) -> PictureMaps:
        """The first `calls` calls of one picture; the means are over all that were taken."""

        def over_calls(arrays: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([array[picture] for array in arrays[:calls]])

        def over_parts(arrays: Sequence[Sequence[np.ndarray]]) -> tuple[np.ndarray, ...]:
            return tuple(over_calls(part) for part in zip(*arrays[:calls], strict=True))

        return PictureMaps(
            step_maps=over_parts(self._maps),
            step_scales=over_calls(self._scales),
            mean_maps=tuple(to_numpy(total[picture] / len(self._maps), np.float16) for total in self._run_sums),
            head_maps=over_parts(self._heads),
            head_scales=over_calls(self._head_scales) if self._head_scales else None,
        )

    def _take_layer(self, index: int, query: torch.Tensor, key: torch.Tensor) -> None:
        """Add one layer to its level: a large one at once, a small one together with those like it."""
        queries = query.shape[1]
        size = level_size(queries, *self._latent_size)
        if size is None:
            raise UserError("error.recording_odd_layer", layer=self._layers[index].name, queries=queries)
        self._layer_sizes[index] = size
        self._seen += 1
        attention = self._layers[index].attention
        if attention.norm_q is not None or attention.heads * queries * key.shape[0] * key.shape[1] > _TOGETHER:
            self._add_layers(size, [(index, query, key)])
        else:
            alike = (size, attention.heads, tuple(query.shape), query.device)
            self._waiting.setdefault(alike, []).append((index, query, key))

    def _add_layers(self, size: tuple[int, int], layers: Sequence[tuple[int, torch.Tensor, torch.Tensor]]) -> None:
        """Add the probabilities of layers with as many queries, heads and channels to their level."""
        first = layers[0][0]
        found = probabilities(
            self._layers[first].attention,
            torch.cat([query for _, query, _ in layers]),
            torch.cat([key for _, _, key in layers]),
        ).unflatten(0, (len(layers), -1))  # (layers, B, heads, queries, positions)
        mean = found.sum(dim=(0, 2)) / found.shape[2]
        if size in self._sums:
            self._sums[size] += mean.to(self._sums[size].device)
        else:
            self._sums[size] = mean
        if self._all_heads:
            maps = _pooled(_row_maps(found.flatten(0, 2), size, self._tokens), head_map_size(*size))
            values, scales = _bytes(maps.unflatten(0, found.shape[:3]))
            for place, (index, _, _) in enumerate(layers):
                self._head_maps[index] = values[place], scales[place]

    def _take_maps(self) -> None:
        by_level, scales = [], []
        for index, level in enumerate(self.levels):
            size = (level.height, level.width)
            maps = _row_maps(self._sums.pop(size) / level.layers, size, self._tokens)
            if index < len(self._run_sums):
                self._run_sums[index] += maps
            else:
                self._run_sums.append(maps.clone())
            values, scale = _bytes(_pooled(maps, (level.step_height, level.step_width)))
            by_level.append(values)
            scales.append(scale)
        self._maps.append(by_level)
        self._scales.append(np.stack(scales, axis=-1))
        if self._all_heads:
            self._take_heads()

    def _take_heads(self) -> None:
        most = max(layer.attention.heads for layer in self._layers)
        pairs = [self._head_maps.pop(index) for index in range(len(self._layers))]
        self._heads.append([values for values, _ in pairs])
        padded = [np.pad(scale, ((0, 0), (0, most - scale.shape[1]), (0, 0))) for _, scale in pairs]
        self._head_scales.append(np.stack(padded, axis=1))

    def _plan_levels(self, planned_calls: int) -> tuple[TraceLevel, ...]:
        """The levels, the finest first; the finest maps are halved until those of all calls fit their share."""
        sizes = sorted(set(self._layer_sizes.values()), reverse=True)
        kept = step_sizes(sizes, planned_calls, len(self._tokens), self._latent_values)
        counts = list(self._layer_sizes.values())
        return tuple(TraceLevel(*size, counts.count(size), *kept[size]) for size in sizes)


def step_sizes(
    sizes: Sequence[tuple[int, int]], calls: int, rows: int, latent_values: int
) -> dict[tuple[int, int], tuple[int, int]]:
    """At which size each level's maps of single steps are kept; `latent_values` is C h w.

    The finest are halved until the maps of all `calls` fit beside the latents (10 bytes a value: x_t in float32, x0
    and the two halves in float16).
    """
    kept = dict(zip(sizes, sizes, strict=True))
    room = max(_LEAST_MAP_BYTES, _MAP_SHARE * calls * latent_values * 10)
    while calls * rows * sum(math.prod(size) for size in kept.values()) > room:
        finest = max(kept.values())
        if max(finest) <= _LEAST_MAP_SIDE:
            break
        half = (-(-finest[0] // 2), -(-finest[1] // 2))
        kept = {size: half if now == finest else now for size, now in kept.items()}
    return kept


def incomplete(seen: int, expected: int) -> UserError:
    """What to raise when the recorder did not see all that computes."""
    return UserError("error.recording_incomplete", seen=seen, expected=expected)


def _row_maps(probabilities: torch.Tensor, size: tuple[int, int], tokens: Sequence[TraceToken]) -> torch.Tensor:
    """(N, queries, positions) as (N, R, h, w): one row a token, the padding's positions summed."""
    rows = probabilities.transpose(1, 2)
    if tokens[-1].kind == "padding":
        first = tokens[-1].first
        rows = torch.cat([rows[:, :first], rows[:, first:].sum(dim=1, keepdim=True)], dim=1)
    return rows.reshape(*rows.shape[:2], *size)


def _pooled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(..., h, w) averaged over areas down to `size`."""
    return maps if tuple(maps.shape[-2:]) == size else functional.adaptive_avg_pool2d(maps, size)


def _bytes(maps: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Maps (..., h, w) rounded to 255 levels of their own peaks (...)."""
    values = to_numpy(maps)
    peaks = values.max(axis=(-2, -1))
    steps = values * (255 / np.maximum(peaks, np.finfo(np.float32).tiny))[..., None, None]
    return (steps + 0.5).astype(np.uint8), peaks


def to_numpy(tensor: torch.Tensor, dtype: Any = np.float32) -> np.ndarray:
    """A copy in numpy that does not share memory with the run."""
    wanted = torch.float16 if dtype is np.float16 else torch.float32
    array: np.ndarray = tensor.detach().to("cpu", wanted, copy=True).numpy()
    return array
