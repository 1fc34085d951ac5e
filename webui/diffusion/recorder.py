"""Records what happens inside a run, call by call, without changing it: `generate(pipe, request, recorder=Recorder())`.

Each picture of each batch becomes a `Trace`. Maps are averaged and rounded to a byte as they come, so a run of 50 steps
holds a few megabytes, not gigabytes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from torch.nn import functional

from webui.diffusion.attention import (
    AttentionReader,
    CrossLayer,
    cross_attention_layers,
    level_size,
    probabilities,
)
from webui.diffusion.latents import LatentRGB, noise_level
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import find_sampler
from webui.diffusion.trace import (
    Trace,
    TraceHeader,
    TraceLayer,
    TraceLevel,
    TraceShapes,
    TraceStep,
    TraceToken,
    head_map_size,
)
from webui.diffusion.words import prompt_rows
from webui.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.generate import StepView

_LEAST_MAP_BYTES: Final = 4_000_000
_LEAST_MAP_SIDE: Final = 4
_MAP_SHARE: Final = 0.6
"""Step maps may take this share of what the latents take, which keeps 50 steps of Stable Diffusion 1.x under 15 MB."""
_TOGETHER: Final = 1_000_000
"""Layers with at most this many probabilities are computed together: for them it is the number of calls that costs."""

_Alike = tuple[tuple[int, int], int, tuple[int, ...], torch.device]
"""What layers must share to be computed together: size, heads, the queries' shape, the device."""


class Recorder:
    """Give one to `generate`; afterwards `traces` has one `Trace` a picture, also of a run that was stopped.

    `all_heads` keeps the maps of every head of every layer too, pooled to 16 x 16. `latent_rgb` goes into the trace for
    showing latents as colours. `lexicon` helps to split a prompt that is written without spaces into words.
    """

    def __init__(
        self,
        *,
        all_heads: bool = False,
        model_title: str = "",
        latent_rgb: LatentRGB | None = None,
        lexicon: Iterable[str] = (),
    ) -> None:
        self.all_heads = all_heads
        self.model_title = model_title
        self.latent_rgb = latent_rgb
        self.lexicon = tuple(lexicon)
        self._traces: list[Trace] = []

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What is recorded so far, in the order of the pictures."""
        return tuple(self._traces)

    def recording(
        self, pipe: StableDiffusionPipeline, request: GenerateRequest, scheduler: Any, seeds: Sequence[int]
    ) -> BatchRecording:
        """A context in which one batch is recorded; `generate` opens it."""
        return BatchRecording(self, pipe, request, scheduler, tuple(seeds))

    def keep(self, traces: Iterable[Trace]) -> None:
        """Take over what a batch has recorded."""
        self._traces.extend(traces)


@dataclass(slots=True)
class _Rows:
    """What was recorded, one entry a U-Net call; arrays start with the picture, (B, ...)."""

    steps: list[TraceStep] = field(default_factory=list)
    latents: list[np.ndarray] = field(default_factory=list)
    predicted_x0: list[np.ndarray] = field(default_factory=list)
    cond: list[np.ndarray] = field(default_factory=list)
    uncond: list[np.ndarray] = field(default_factory=list)
    maps: list[list[np.ndarray]] = field(default_factory=list)  # level by level
    scales: list[np.ndarray] = field(default_factory=list)  # (B, R, levels)
    heads: list[list[np.ndarray]] = field(default_factory=list)  # layer by layer
    head_scales: list[np.ndarray] = field(default_factory=list)  # (B, layers, heads, R)


class BatchRecording:
    """One batch being recorded; keeps what it has when the run is stopped, and nothing when the run fails."""

    def __init__(
        self,
        recorder: Recorder,
        pipe: StableDiffusionPipeline,
        request: GenerateRequest,
        scheduler: Any,
        seeds: tuple[int, ...],
    ) -> None:
        self._recorder, self._pipe, self._request = recorder, pipe, request
        self._scheduler, self._seeds = scheduler, seeds
        self._sampler = find_sampler(request.sampler)
        self._layers: tuple[CrossLayer, ...] = cross_attention_layers(pipe.unet)
        self._factor = pipe.vae_scale_factor
        width, height = request.width or 0, request.height or 0
        self._latent_size = height // self._factor, width // self._factor
        positions = int(pipe.text_encoder.config.max_position_embeddings)
        self._tokens, self._words, self._cut = prompt_rows(pipe.tokenizer, request.prompt, positions, recorder.lexicon)
        self._reader = AttentionReader(self._layers, len(seeds), self._take_layer)
        self._rows = _Rows()
        self._thread = 0
        self._hook: Any = None
        self._layer_sizes: dict[int, tuple[int, int]] = {}
        self._sums: dict[tuple[int, int], torch.Tensor] = {}
        self._waiting: dict[_Alike, list[tuple[int, torch.Tensor, torch.Tensor]]] = {}
        self._head_maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._seen = 0
        self._levels: tuple[TraceLevel, ...] = ()
        self._run_sums: list[torch.Tensor] = []
        self._halves: tuple[torch.Tensor | None, torch.Tensor] | None = None
        self._prompt_embeds: np.ndarray | None = None
        self._final: np.ndarray | None = None
        self._pictures: list[np.ndarray] | None = None

    def __enter__(self) -> BatchRecording:
        self._thread = threading.get_ident()
        self._reader.__enter__()
        self._hook = self._pipe.unet.register_forward_hook(self._take_output, with_kwargs=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from webui.diffusion.generate import Stopped

        self._reader.__exit__()
        self._hook.remove()
        if self._rows.steps and (error is None or isinstance(error, Stopped)):
            self._recorder.keep(self._trace(picture) for picture in range(len(self._seeds)))

    def step(self, view: StepView) -> None:
        """Record one U-Net call: to be told before the scheduler's step."""
        if self._halves is None:
            raise _incomplete(0, len(self._layers))
        uncond, cond = self._halves
        self._halves = None
        rows = self._rows
        step, order = _place_of_call(view.step - 1, self._sampler.calls_per_step, self._sampler.scheduler)
        rows.steps.append(TraceStep(step, order, view.timestep, noise_level(self._scheduler, view.timestep)))
        rows.latents.append(_array(view.latents))
        rows.predicted_x0.append(_array(view.predicted_x0, np.float16))
        rows.cond.append(_array(cond, np.float16))
        if uncond is not None:
            rows.uncond.append(_array(uncond, np.float16))

    def stepped(self, latents: torch.Tensor) -> None:
        """What the scheduler made of the call."""
        self._final = _array(latents)

    def finish(self, images: Sequence[Image.Image]) -> None:
        """The pictures, when the batch is done."""
        self._pictures = [np.asarray(image.convert("RGB")) for image in images]

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
        if self._recorder.all_heads:
            maps = _pooled(_row_maps(found.flatten(0, 2), size, self._tokens), head_map_size(*size))
            values, scales = _bytes(maps.unflatten(0, found.shape[:3]))
            for place, (index, _, _) in enumerate(layers):
                self._head_maps[index] = values[place], scales[place]

    def _take_output(self, _module: Any, *call: Any) -> None:
        """The U-Net is done with one call: keep its two halves and the maps of all layers."""
        if threading.get_ident() != self._thread:
            return
        _, kwargs, output = call
        seen, self._seen = self._seen, 0
        waiting, self._waiting = self._waiting, {}
        if seen != len(self._layers):
            raise _incomplete(seen, len(self._layers))
        for (size, *_), layers in waiting.items():
            self._add_layers(size, layers)
        predicted = output[0]
        pictures = len(self._seeds)
        self._halves = (predicted[:pictures] if len(predicted) > pictures else None), predicted[-pictures:]
        if self._prompt_embeds is None:
            self._prompt_embeds = _array(kwargs["encoder_hidden_states"][-1], np.float16)
            self._levels = self._plan_levels()
        self._take_maps()

    def _take_maps(self) -> None:
        by_level, scales = [], []
        for index, level in enumerate(self._levels):
            size = (level.height, level.width)
            maps = _row_maps(self._sums.pop(size) / level.layers, size, self._tokens)
            if index < len(self._run_sums):
                self._run_sums[index] += maps
            else:
                self._run_sums.append(maps.clone())
            values, scale = _bytes(_pooled(maps, (level.step_height, level.step_width)))
            by_level.append(values)
            scales.append(scale)
        self._rows.maps.append(by_level)
        self._rows.scales.append(np.stack(scales, axis=-1))
        if self._recorder.all_heads:
            self._take_heads()

    def _take_heads(self) -> None:
        most = max(layer.attention.heads for layer in self._layers)
        pairs = [self._head_maps.pop(index) for index in range(len(self._layers))]
        self._rows.heads.append([values for values, _ in pairs])
        padded = [np.pad(scale, ((0, 0), (0, most - scale.shape[1]), (0, 0))) for _, scale in pairs]
        self._rows.head_scales.append(np.stack(padded, axis=1))

    def _plan_levels(self) -> tuple[TraceLevel, ...]:
        """The levels, the finest first; the finest maps are halved until those of all calls fit their share."""
        sizes = sorted(set(self._layer_sizes.values()), reverse=True)
        latent_values = math.prod(self._latent_size) * int(self._pipe.unet.config.in_channels)
        kept = step_sizes(sizes, len(self._scheduler.timesteps), len(self._tokens), latent_values)
        counts = list(self._layer_sizes.values())
        return tuple(TraceLevel(*size, counts.count(size), *kept[size]) for size in sizes)

    def _trace(self, picture: int) -> Trace:
        rows = self._rows
        calls = len(rows.steps)  # a call that was stopped between U-Net and scheduler has maps but no step
        fitted = self._recorder.latent_rgb
        channels = rows.latents[0].shape[1]

        def over_calls(arrays: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([array[picture] for array in arrays[:calls]])

        def over_parts(arrays: Sequence[Sequence[np.ndarray]]) -> tuple[np.ndarray, ...]:
            return tuple(over_calls(part) for part in zip(*arrays[:calls], strict=True))

        assert self._prompt_embeds is not None  # noqa: S101 - there was a call
        done = self._pictures is not None
        return Trace(
            header=self._header(picture),
            latents=over_calls(rows.latents),
            final_latents=self._final[picture] if done and self._final is not None else None,
            predicted_x0=over_calls(rows.predicted_x0),
            cond=over_calls(rows.cond),
            uncond=over_calls(rows.uncond) if rows.uncond else None,
            step_maps=over_parts(rows.maps),
            step_scales=over_calls(rows.scales),
            mean_maps=tuple(_array(total[picture] / len(rows.maps), np.float16) for total in self._run_sums),
            head_maps=over_parts(rows.heads),
            head_scales=over_calls(rows.head_scales) if rows.head_scales else None,
            picture=self._pictures[picture] if self._pictures is not None else None,
            prompt_embeds=self._prompt_embeds,
            alphas_cumprod=_array(self._scheduler.alphas_cumprod),
            latent_rgb=np.zeros((channels + 1, 3), np.float32) if fitted is None else fitted.factors,
        )

    def _header(self, picture: int) -> TraceHeader:
        assert self._prompt_embeds is not None  # noqa: S101 - there was a call
        space = self._sampler.space
        assert space != "flow"  # noqa: S101 - no model trained by flow matching has cross-attention
        request, (height, width) = self._request, self._latent_size
        positions, embedding = self._prompt_embeds.shape
        channels = int(self._rows.latents[0].shape[1])
        fitted = self._recorder.latent_rgb
        return TraceHeader(
            request=request,
            seed=self._seeds[picture],
            model_title=self._recorder.model_title or request.model,
            space=space,
            prediction_type=self._scheduler.config.prediction_type,
            tokens=self._tokens,
            words=self._words,
            cut_text=self._cut,
            steps=tuple(self._rows.steps),
            planned_calls=len(self._scheduler.timesteps),
            stopped=self._pictures is None,
            layers=tuple(
                TraceLayer(layer.name, layer.attention.heads, *self._layer_sizes[index])
                for index, layer in enumerate(self._layers)
            ),
            levels=self._levels,
            shapes=TraceShapes(
                positions, embedding, channels, height, width, height * self._factor, width * self._factor
            ),
            r_squared=0.0 if fitted is None else fitted.r_squared,
            versions={library.__name__: library.__version__ for library in (diffusers, np, torch, transformers)},
        )


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


def _incomplete(seen: int, expected: int) -> UserError:
    return UserError("error.recording_incomplete", seen=seen, expected=expected)


def _place_of_call(call: int, calls_per_step: int, scheduler: str) -> tuple[int, int]:
    """(step, order) of U-Net call number `call` from 0."""
    if scheduler == "PNDMScheduler":  # PLMS begins by repeating its first step, to have a slope to go on with
        return (max(call, 1), 2 if call == 1 else 1)
    return call // calls_per_step + 1, call % calls_per_step + 1


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
    values = _array(maps)
    peaks = values.max(axis=(-2, -1))
    steps = values * (255 / np.maximum(peaks, np.finfo(np.float32).tiny))[..., None, None]
    return (steps + 0.5).astype(np.uint8), peaks


def _array(tensor: torch.Tensor, dtype: Any = np.float32) -> np.ndarray:
    """A copy in numpy that does not share memory with the run."""
    wanted = torch.float16 if dtype is np.float16 else torch.float32
    array: np.ndarray = tensor.detach().to("cpu", wanted, copy=True).numpy()
    return array
