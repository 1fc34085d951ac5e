"""What the page "Inside" ships to the browser, once a run: every frame that its scrubber shows, packed small.

Arrays travel as bytes: differences between neighbouring bytes (they are small in smooth maps), deflated, in base64. The
browser undoes both, so that it has numbers rather than finished pictures: it can change a colour scale, sum over steps
or read the value under the pointer without asking the server.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from typing import Any, Final

import numpy as np
from PIL import Image

from webui.diffusion.trace import Trace

_MAX_MAP_VALUES: Final = 2_000_000
"""Bytes of word maps over all steps before packing; above it the maps are halved until they fit."""
_ATLAS_SIDE: Final = 16
_JPEG_ABOVE_PIXELS: Final = 256 * 256


def pack(codes: np.ndarray) -> str:
    """Bytes for the browser: neighbours' differences modulo 256, deflated, base64."""
    flat = np.ascontiguousarray(codes, np.uint8).reshape(-1)
    return base64.b64encode(zlib.compress(np.diff(flat, prepend=np.uint8(0)).tobytes(), 9)).decode("ascii")


def signed_codes(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """(N, ...) values as bytes around 128, and the largest magnitude of each of the N: (byte - 128) / 127 * it."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    peaks = np.abs(flat).max(axis=1)
    codes = np.rint(flat / np.maximum(peaks, 1e-12)[:, None] * 127 + 128)
    return codes.astype(np.uint8).reshape(values.shape), _rounded(peaks)


def unsigned_codes(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """(N, h, w) values >= 0 as bytes, with the largest of each of the N: value = byte / 255 * it."""
    peaks = values.reshape(len(values), -1).max(axis=1)
    codes = np.rint(values / np.maximum(peaks, 1e-12)[:, None, None] * 255)
    return codes.astype(np.uint8), _rounded(peaks)


def resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """(..., h, w) maps at another size, bilinear with centres kept; shrinking averages whole areas where it divides."""
    high, wide = maps.shape[-2:]
    if high % height == 0 and wide % width == 0:
        areas = maps.reshape(*maps.shape[:-2], height, high // height, width, wide // width)
        mean: np.ndarray = areas.mean(axis=(-3, -1), dtype=np.float32)
        return mean
    rows, columns = _weights(high, height), _weights(wide, width)
    return np.einsum("yh,...hw,xw->...yx", rows, maps.astype(np.float32), columns, optimize=True)


def word_maps(trace: Trace, height: int, width: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The chips of the page and their maps, (chips, S, height, width) float32 probabilities.

    One chip a word (the mean over its tokens, as in DAAM: Tang et al. 2022), then the start, end and padding tokens.
    Levels are brought to one size and averaged by how many layers they stand for. `count` is how many tokens a chip's
    map stands for, so that count x map summed over all chips and the tokens of no word gives 1.
    """
    header = trace.header
    layers = sum(level.layers for level in header.levels)
    calls = len(header.steps)
    total = np.zeros((calls, len(header.tokens), height, width), np.float32)
    for number, level in enumerate(header.levels):
        for call in range(calls):
            total[call] += resized(trace.level_map(call, number), height, width) * (level.layers / layers)
    chips: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    for word, letters in enumerate(header.words):
        rows = header.rows_of_word(word)
        if rows:
            chips.append({"text": letters, "kind": "word", "count": len(rows), "word": word})
            maps.append(total[:, rows].mean(axis=1))
    for kind in ("start", "end", "padding"):
        rows = header.rows_of_kind(kind)
        if rows:
            chips.append({"text": "", "kind": kind, "count": 1, "word": None})
            maps.append(total[:, rows].sum(axis=1))
    return chips, np.stack(maps)


def map_size(trace: Trace) -> tuple[int, int]:
    """The size at which word maps are shipped: the latents', halved while all steps together are too many."""
    shapes = trace.header.shapes
    height, width = shapes.latent_height, shapes.latent_width
    chips = len(trace.header.words) + 3
    while chips * len(trace.header.steps) * height * width > _MAX_MAP_VALUES and min(height, width) > 8:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def trace_payload(trace: Trace) -> dict[str, Any]:
    """Everything of one run that the page shows, ready for JSON."""
    header, shapes = trace.header, trace.header.shapes
    height, width = map_size(trace)
    chips, maps = word_maps(trace, height, width)
    codes, peaks = unsigned_codes(maps.reshape(-1, height, width))
    latents, latent_peaks = signed_codes(trace.latents)
    clean, clean_peaks = signed_codes(trace.predicted_x0.astype(np.float32))
    return {
        "request": _request(trace),
        "shapes": {
            "positions": shapes.positions, "embedding": shapes.embedding, "channels": shapes.channels,
            "h": shapes.latent_height, "w": shapes.latent_width, "height": shapes.height, "width": shapes.width,
        },
        "planned": header.planned_calls,
        "stopped": header.stopped,
        "cut": header.cut_text,
        "space": header.space,
        "prediction": header.prediction_type,
        "versions": dict(header.versions),
        "tokens": _tokens(trace),
        "chips": chips,
        "steps": _steps(trace),
        "schedule": _schedule(trace),
        "rgb": [[round(float(value), 5) for value in row] for row in trace.latent_rgb],
        "r2": round(header.r_squared, 4),
        "xt": {"data": pack(latents), "peaks": latent_peaks},
        "x0": {"data": pack(clean), "peaks": clean_peaks},
        "maps": {"h": height, "w": width, "data": pack(codes), "peaks": peaks},
        "guidance": _guidance_maps(trace),
        "atlas": _atlas(trace),
        "picture": _picture(trace),
    }  # fmt: skip


def as_json(payload: dict[str, Any]) -> str:
    """The payload as one line of JSON, in which Thai stays Thai."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def _request(trace: Trace) -> dict[str, Any]:
    header = trace.header
    request = header.request
    return {
        "prompt": request.prompt, "negative": request.negative_prompt, "seed": header.seed, "steps": request.steps,
        "cfg": trace.guidance_scale, "sampler": request.sampler, "model": header.model_title,
    }  # fmt: skip


def _tokens(trace: Trace) -> list[dict[str, Any]]:
    """Each row with the length of its vector, as the text encoder gave it (the mean over padding)."""
    norms = np.linalg.norm(trace.prompt_embeds.astype(np.float32), axis=1)
    return [
        {
            "text": token.text, "kind": token.kind, "first": token.first, "positions": token.positions,
            "word": token.word,
            "norm": round(float(norms[token.first : token.first + token.positions].mean()), 3),
        }
        for token in trace.header.tokens
    ]  # fmt: skip


def _steps(trace: Trace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for call, step in enumerate(trace.header.steps):
        cond = trace.cond[call].astype(np.float32)
        latents, clean = trace.latents[call], trace.predicted_x0[call].astype(np.float32)
        row: dict[str, Any] = {
            "step": step.step, "order": step.order, "timestep": round(step.timestep, 2),
            "sigma": round(step.sigma, 5), "xn": _number(np.linalg.norm(latents)), "xs": _number(latents.std()),
            "cn": _number(np.linalg.norm(clean)), "cs": _number(clean.std()),
        }  # fmt: skip
        if trace.uncond is not None:
            uncond = trace.uncond[call].astype(np.float32)
            base, far = float(np.linalg.norm(uncond)), float(np.linalg.norm(cond))
            row |= {
                "ratio": _number(np.linalg.norm(cond - uncond) / max(base, 1e-12)),
                "cosine": _number((cond * uncond).sum() / max(base * far, 1e-12), 5),
                "guided": _number(np.linalg.norm(trace.guided(call)) / max(far, 1e-12)),
            }
        found.append(row)
    return found


def _schedule(trace: Trace) -> list[float]:
    """sqrt(alpha_cumprod) over the training timesteps, at 65 of them: how much of the picture is in x_t."""
    alphas = trace.alphas_cumprod
    places = np.linspace(0, len(alphas) - 1, min(65, len(alphas))).round().astype(int)
    return [round(float(value), 4) for value in np.sqrt(alphas[places])] + [float(len(alphas))]


def _guidance_maps(trace: Trace) -> dict[str, Any] | None:
    """|conditional - unconditional| at each place, the length over the channels."""
    if trace.uncond is None:
        return None
    difference = np.linalg.norm(trace.cond.astype(np.float32) - trace.uncond.astype(np.float32), axis=1)
    codes, peaks = unsigned_codes(difference)
    return {"data": pack(codes), "peaks": peaks}


def _atlas(trace: Trace) -> dict[str, Any] | None:
    """The mean over the run of every head of every layer, for each chip; None unless all heads were recorded."""
    if trace.head_scales is None:
        return None
    header = trace.header
    height, width = header.shapes.latent_height, header.shapes.latent_width
    while max(height, width) > _ATLAS_SIDE:
        height, width = -(-height // 2), -(-width // 2)
    rows = [header.rows_of_word(word) for word in range(len(header.words))]
    rows = [found for found in rows if found]
    tiles, layers = [], []
    for number, layer in enumerate(header.layers):
        total = sum(trace.head_map(call, number) for call in range(len(header.steps)))
        mean = np.asarray(total, np.float32) / len(header.steps)
        tiles.append(resized(np.stack([mean[:, found].mean(axis=1) for found in rows]), height, width))
        layers.append({"name": layer.name, "heads": layer.heads, "h": layer.height, "w": layer.width})
    stacked = np.concatenate(tiles, axis=1)  # (words, all heads of all layers, h, w)
    codes, peaks = unsigned_codes(stacked.reshape(-1, height, width))
    return {"h": height, "w": width, "layers": layers, "data": pack(codes), "peaks": peaks}


def _picture(trace: Trace) -> str | None:
    """The finished picture as a data URL: PNG while small, JPEG above 256 x 256 pixels; None for a stopped run."""
    if trace.picture is None:
        return None
    small = trace.picture.shape[0] * trace.picture.shape[1] <= _JPEG_ABOVE_PIXELS
    buffer = io.BytesIO()
    Image.fromarray(trace.picture).save(buffer, format="PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _weights(before: int, after: int) -> np.ndarray:
    """(after, before) weights of linear interpolation between pixel centres."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, before - 1)
    weights = np.zeros((after, before), np.float32)
    share = places - low
    np.add.at(weights, (np.arange(after), low), 1 - share)
    np.add.at(weights, (np.arange(after), high), share)
    return weights


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values.reshape(-1)]


def _number(value: Any, digits: int = 4) -> float:
    return round(float(value), digits)
