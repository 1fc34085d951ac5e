"""What was recorded of one run for one picture, and the file it is kept in. Needs numpy alone; no model, no torch.

A trace file is one `.safetensors`: the arrays by name, and a JSON header under `diffuscope_trace` in its metadata. It
holds no pickle, and a file from elsewhere is checked against its own header before anything is believed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from webui.diffusion.request import GenerateLimits, check_request
from webui.diffusion.trace_header import TraceHeader
from webui.errors import UserError
from webui.store.whole_file import write_whole

FORMAT_VERSION: Final = 2
"""What can be read. Version 2 added runs of flow matching, and only those are written as such."""
METADATA_KEY: Final = "diffuscope_trace"
MAX_FILE_BYTES: Final = 256 * 2**20
MAX_HEADER_BYTES: Final = 4 * 2**20
TRACE_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One run, one picture. S U-Net calls, C x h x w latents, R rows of `header.tokens`, all as numpy arrays.

    `latents` (S, C, h, w) float32 is x_t as the scheduler gets it, before `scale_model_input`; `final_latents`
    (C, h, w) float32 is what the VAE decodes, None for a stopped run. `predicted_x0` (S, C, h, w) float16 is what the
    sampler believes, from the guided output. `cond` and `uncond` (S, C, h, w) float16 are the two halves of the
    U-Net's output, uncond None where guidance is off.

    `step_maps` holds for each level (S, R, step_height, step_width) uint8 with `step_scales` (S, R, levels) float32:
    probability = value / 255 * scale, mean over the heads and layers of the level, conditional half. `mean_maps` holds
    for each level its mean over the run, (R, height, width) float16. Over all rows they sum to 1 at every place.
    `head_maps`, () unless all heads were recorded, holds for each layer (S, heads, R, y, x) uint8, pooled to 16 x 16 at
    most, with `head_scales` (S, layers, heads, R) float32.

    `picture` (H, W, 3) uint8, None for a stopped run. `prompt_embeds` (positions, embedding) float16 is what the U-Net
    attends to. `alphas_cumprod` (T,) float32 is the training schedule, (0,) in "flow" space; `latent_rgb` (C + 1, 3)
    float32 the linear map to colours 0..1 (last row: constant), all zero where none was fitted.
    """

    header: TraceHeader
    latents: np.ndarray
    final_latents: np.ndarray | None
    predicted_x0: np.ndarray
    cond: np.ndarray
    uncond: np.ndarray | None
    step_maps: tuple[np.ndarray, ...]
    step_scales: np.ndarray
    mean_maps: tuple[np.ndarray, ...]
    head_maps: tuple[np.ndarray, ...]
    head_scales: np.ndarray | None
    picture: np.ndarray | None
    prompt_embeds: np.ndarray
    alphas_cumprod: np.ndarray
    latent_rgb: np.ndarray

    @property
    def guidance_scale(self) -> float:
        """The guidance between the two halves; 1 where there is no unconditional half."""
        return 1.0 if self.uncond is None else float(self.header.request.guidance_scale or 1.0)

    def guided(self, call: int) -> np.ndarray:
        """What the scheduler got at U-Net call `call` (from 0): uncond + scale (cond - uncond); (C, h, w) float32."""
        cond: np.ndarray = self.cond[call].astype(np.float32)
        if self.uncond is None:
            return cond
        uncond: np.ndarray = self.uncond[call].astype(np.float32)
        guided: np.ndarray = uncond + np.float32(self.guidance_scale) * (cond - uncond)
        return guided

    def level_map(self, call: int, level: int) -> np.ndarray:
        """Attention probabilities of one U-Net call at one level, (R, step_height, step_width) float32."""
        scale = self.step_scales[call, :, level, None, None] / np.float32(255)
        maps: np.ndarray = self.step_maps[level][call] * scale
        return maps

    def head_map(self, call: int, layer: int) -> np.ndarray:
        """Attention probabilities of one call in one layer, (heads, R, y, x) float32; ValueError without heads."""
        if self.head_scales is None:
            raise ValueError("this trace was recorded without single heads")
        stored = self.head_maps[layer][call]
        maps: np.ndarray = stored * (self.head_scales[call, layer, : len(stored), :, None, None] / np.float32(255))
        return maps


def save_trace(trace: Trace, path: Path) -> None:
    """Write `trace` to `path`, whole or not at all. Raises UserError when it holds NaN or the disk refuses."""
    content = trace_bytes(trace, path.name)
    try:
        write_whole(path, content)
    except OSError as error:
        raise UserError("error.trace_not_saved", file=str(path), reason=error.strerror or str(error)) from error


def trace_bytes(trace: Trace, name: str) -> bytes:
    """The content of a trace file called `name`. Raises UserError when the trace holds NaN."""
    from pydantic import TypeAdapter
    from safetensors.numpy import save

    arrays = dict(_named_arrays(trace))
    for part, array in arrays.items():
        _check_finite(name, part, array)
    version = FORMAT_VERSION if trace.header.space == "flow" else 1
    header = TypeAdapter(_FileHeader).dump_json(_FileHeader(version, trace.header)).decode()
    return save({part: np.ascontiguousarray(array) for part, array in arrays.items()}, {METADATA_KEY: header})


def open_trace(path: Path) -> Trace:
    """Read a trace file from anywhere. Raises UserError for one that is missing, foreign, truncated or inconsistent."""
    from safetensors import SafetensorError, deserialize

    content = _read_bounded(path)
    header = _read_header(path, content)
    try:
        tensors: dict[str, Any] = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, OverflowError) as error:
        raise UserError("error.trace_not_whole", file=path.name) from error
    expected = _expected_arrays(header, tensors)
    layouts = {name: (str(tensor["dtype"]), tuple(tensor["shape"])) for name, tensor in tensors.items()}
    if layouts != expected:
        wrong = next(name for name in (*expected, *layouts) if layouts.get(name) != expected.get(name))
        raise UserError("error.trace_inconsistent", file=path.name, part=wrong[:60])
    arrays: dict[str, np.ndarray] = {}
    for name, (dtype, shape) in expected.items():
        arrays[name] = np.frombuffer(tensors[name]["data"], _DTYPES[dtype]).reshape(shape)
        _check_finite(path.name, name, arrays[name])
    return _assembled(header, arrays)


@dataclass(frozen=True, slots=True)
class _FileHeader:
    """What stands in the file."""

    version: int
    trace: TraceHeader


_DTYPES: Final[Mapping[str, Any]] = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}
_MAX_HEAD_SIDE: Final = 16


def head_map_size(height: int, width: int) -> tuple[int, int]:
    """The size at which the maps of single heads are kept: halved until neither side is above 16."""
    while max(height, width) > _MAX_HEAD_SIDE:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def _named_arrays(trace: Trace) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays by the names they have in the file."""
    for name in ("latents", "predicted_x0", "cond", "step_scales", "prompt_embeds", "alphas_cumprod", "latent_rgb"):
        yield name, getattr(trace, name)
    for name in ("final_latents", "uncond", "head_scales", "picture"):
        if getattr(trace, name) is not None:
            yield name, getattr(trace, name)
    for name in ("step_maps", "mean_maps", "head_maps"):
        yield from ((f"{name}.{index}", array) for index, array in enumerate(getattr(trace, name)))


def _read_bounded(path: Path) -> bytes:
    """The content of a regular file of bounded size; never of a device, which would not end."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError("error.trace_not_a_file", file=path.name)
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError("error.trace_not_a_file", file=path.name) from error
    if len(content) > MAX_FILE_BYTES:
        raise UserError("error.trace_too_large", file=path.name, limit=MAX_FILE_BYTES >> 20)
    return content


def _read_header(path: Path, content: bytes) -> TraceHeader:
    """The header, checked in itself. Layout: 8 bytes of length (little endian), JSON, the tensors' bytes."""
    from pydantic import TypeAdapter, ValidationError

    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        raise UserError("error.trace_not_whole", file=path.name)
    if length > MAX_HEADER_BYTES:
        raise UserError("error.trace_foreign", file=path.name)
    try:
        text = json.loads(content[8 : 8 + length])["__metadata__"][METADATA_KEY]
        version = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("error.trace_foreign", file=path.name) from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError("error.trace_newer", file=path.name)
    try:
        header = TypeAdapter(_FileHeader).validate_json(text, strict=True).trace
        check_request(header.request, GenerateLimits())
    except (ValidationError, UserError, RecursionError) as error:
        raise UserError("error.trace_inconsistent", file=path.name, part=METADATA_KEY) from error
    if not header.holds_together():
        raise UserError("error.trace_inconsistent", file=path.name, part=METADATA_KEY)
    return header


def _expected_arrays(header: TraceHeader, found: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Safetensors' dtype and shape of every array that a file with this header holds; what may be missing, if found."""
    shapes = header.shapes
    latent = (shapes.channels, shapes.latent_height, shapes.latent_width)
    calls, rows = len(header.steps), len(header.tokens)
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "latents": ("F32", (calls, *latent)),
        "predicted_x0": ("F16", (calls, *latent)),
        "cond": ("F16", (calls, *latent)),
        "step_scales": ("F32", (calls, rows, len(header.levels))),
        "prompt_embeds": ("F16", (shapes.positions, shapes.embedding)),
        "alphas_cumprod": ("F32", tuple(found.get("alphas_cumprod", {"shape": (1,)})["shape"][:1])),
        "latent_rgb": ("F32", (shapes.channels + 1, 3)),
    }
    for index, level in enumerate(header.levels):
        expected[f"step_maps.{index}"] = ("U8", (calls, rows, level.step_height, level.step_width))
        expected[f"mean_maps.{index}"] = ("F16", (rows, level.height, level.width))
    if "uncond" in found:
        expected["uncond"] = ("F16", (calls, *latent))
    if not header.stopped:
        expected["final_latents"] = ("F32", latent)
        expected["picture"] = ("U8", (shapes.height, shapes.width, 3))
    if "head_scales" in found and header.layers:
        heads = max(layer.heads for layer in header.layers)
        expected["head_scales"] = ("F32", (calls, len(header.layers), heads, rows))
        for index, layer in enumerate(header.layers):
            size = head_map_size(layer.height, layer.width)
            expected[f"head_maps.{index}"] = ("U8", (calls, layer.heads, rows, *size))
    return expected


def _check_finite(file: str, part: str, array: np.ndarray) -> None:
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        raise UserError("error.trace_not_finite", file=file, part=part)


def _assembled(header: TraceHeader, arrays: Mapping[str, np.ndarray]) -> Trace:
    def numbered(name: str) -> tuple[np.ndarray, ...]:
        return tuple(arrays[key] for key in arrays if key.startswith(f"{name}."))

    return Trace(
        header=header,
        latents=arrays["latents"],
        final_latents=arrays.get("final_latents"),
        predicted_x0=arrays["predicted_x0"],
        cond=arrays["cond"],
        uncond=arrays.get("uncond"),
        step_maps=numbered("step_maps"),
        step_scales=arrays["step_scales"],
        mean_maps=numbered("mean_maps"),
        head_maps=numbered("head_maps"),
        head_scales=arrays.get("head_scales"),
        picture=arrays.get("picture"),
        prompt_embeds=arrays["prompt_embeds"],
        alphas_cumprod=arrays["alphas_cumprod"],
        latent_rgb=arrays["latent_rgb"],
    )
