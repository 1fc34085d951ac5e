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

from webui.diffusion.guidance import GuidanceMeter, guidance_meter
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import competing_word_maps, enlarged, word_map

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


def word_maps(trace: Trace, height: int, width: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The chips of the page and their maps, (chips, S, height, width) float32 probabilities.

    One chip a word (the mean over its tokens, as in DAAM: Tang et al. 2022), then the start, end and padding tokens.
    `count` is how many tokens a chip's map is the mean of: count x map is what the word's tokens take together.
    """
    header = trace.header
    calls = range(len(header.steps))

    def over_calls(rows: tuple[int, ...]) -> np.ndarray:
        return np.stack([word_map(trace, rows, calls=[call], size=(height, width)) for call in calls])

    chips: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    for word, letters in enumerate(header.words):
        rows = header.rows_of_word(word)
        if rows:
            chips.append({"text": letters, "kind": "word", "count": len(rows), "word": word})
            maps.append(over_calls(rows))
    for kind in ("start", "end", "padding"):
        rows = header.rows_of_kind(kind)
        if rows:
            chips.append({"text": "", "kind": kind, "count": 1, "word": None})
            maps.append(over_calls(rows))
    return chips, np.stack(maps)


def competing_frames(trace: Trace, height: int, width: int) -> np.ndarray:
    """The words' maps when they compete, in the order of their chips: (words, S + 1, height, width), the run last."""
    header = trace.header
    seen = [word for word in range(len(header.words)) if header.rows_of_word(word)]
    spans = [*([call] for call in range(len(header.steps))), None]
    frames = [competing_word_maps(trace, calls=span, size=(height, width))[seen] for span in spans]
    return np.stack(frames, axis=1)


def map_size(trace: Trace) -> tuple[int, int]:
    """The size at which word maps are shipped: the latents', halved while all steps together are too many."""
    shapes = trace.header.shapes
    height, width = shapes.latent_height, shapes.latent_width
    frames = 2 * len(trace.header.words) + 3
    while frames * len(trace.header.steps) * height * width > _MAX_MAP_VALUES and min(height, width) > 8:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def trace_payload(trace: Trace) -> dict[str, Any]:
    """Everything of one run that the page shows, ready for JSON."""
    header, shapes = trace.header, trace.header.shapes
    meter = guidance_meter(trace)
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
        "denoiser": header.denoiser,
        "embedded": header.guidance == "embedded",
        "encoders": list(header.encoders),
        "versions": dict(header.versions),
        "tokens": _tokens(trace),
        "steps": _steps(trace, meter),
        "schedule": _schedule(trace),
        "rgb": [[round(float(value), 5) for value in row] for row in trace.latent_rgb],
        "r2": round(header.r_squared, 4),
        "xt": {"data": pack(latents), "peaks": latent_peaks},
        "x0": {"data": pack(clean), "peaks": clean_peaks},
        **_word_maps(trace),
        "guidance": _guidance_maps(meter),
        "atlas": _atlas(trace),
        "picture": _picture(trace),
    }  # fmt: skip


def _word_maps(trace: Trace) -> dict[str, Any]:
    """The chips and their maps, packed; without cross-attention there are none."""
    if not trace.header.levels:
        return {"chips": [], "maps": None, "competing": None}
    height, width = map_size(trace)
    chips, maps = word_maps(trace, height, width)
    codes, peaks = unsigned_codes(maps.reshape(-1, height, width))
    competing, tops = unsigned_codes(competing_frames(trace, height, width).reshape(-1, height, width))
    return {
        "chips": chips,
        "maps": {"h": height, "w": width, "data": pack(codes), "peaks": peaks},
        "competing": {"data": pack(competing), "peaks": tops},
    }


def as_json(payload: dict[str, Any]) -> str:
    """The payload as one line of JSON, in which Thai stays Thai."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def _request(trace: Trace) -> dict[str, Any]:
    header = trace.header
    request = header.request
    guidance = request.guidance_scale if header.guidance == "embedded" else trace.guidance_scale
    return {
        "prompt": request.prompt, "negative": request.negative_prompt, "seed": header.seed, "steps": request.steps,
        "cfg": guidance, "sampler": request.sampler, "model": header.model_title,
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


def _steps(trace: Trace, meter: GuidanceMeter | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for call, step in enumerate(trace.header.steps):
        latents, clean = trace.latents[call], trace.predicted_x0[call].astype(np.float32)
        row: dict[str, Any] = {
            "step": step.step, "order": step.order, "timestep": round(step.timestep, 2),
            "sigma": round(step.sigma, 5), "xn": _number(np.linalg.norm(latents)), "xs": _number(latents.std()),
            "cn": _number(np.linalg.norm(clean)), "cs": _number(clean.std()),
        }  # fmt: skip
        if meter is not None:
            row |= {
                "ratio": _number(meter.ratio[call]),
                "cosine": _number(meter.cosine[call], 5),
                "guided": _number(meter.stretch[call]),
            }
        found.append(row)
    return found


def _schedule(trace: Trace) -> list[float]:
    """How much of the picture is in x_t over the training timesteps, at 65 of them, and how many timesteps there are.

    That is sqrt(alpha_cumprod); in "flow" space 1 - sigma, where the timestep is sigma by its definition.
    """
    if trace.header.space == "flow":
        first = max(trace.header.steps, key=lambda step: step.sigma)
        length = round(min(max(first.timestep / first.sigma, 1), 1e6)) if first.sigma else 1000
        return [round(1 - place / 64, 4) for place in range(65)] + [float(length)]
    alphas = trace.alphas_cumprod
    places = np.linspace(0, len(alphas) - 1, min(65, len(alphas))).round().astype(int)
    return [round(float(value), 4) for value in np.sqrt(alphas[places])] + [float(len(alphas))]


def _guidance_maps(meter: GuidanceMeter | None) -> dict[str, Any] | None:
    if meter is None:
        return None
    codes, peaks = unsigned_codes(meter.difference)
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
        words = [mean[:, found].mean(axis=1) for found in rows]
        tiles.append(np.stack([[enlarged(head, height, width) for head in heads] for heads in words]))
        layers.append({"name": layer.name, "heads": layer.heads, "h": layer.height, "w": layer.width})
    stacked = np.concatenate(tiles, axis=1)  # (words, all heads of all layers, h, w)
    codes, peaks = unsigned_codes(stacked.reshape(-1, height, width))
    return {"h": height, "w": width, "layers": layers, "data": pack(codes), "peaks": peaks}


def _picture(trace: Trace) -> str | None:
    return None if trace.picture is None else picture_url(trace.picture)


def picture_url(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 as a data URL: PNG while small, JPEG above 256 x 256 pixels."""
    small = picture.shape[0] * picture.shape[1] <= _JPEG_ABOVE_PIXELS
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values.reshape(-1)]


def _number(value: Any, digits: int = 4) -> float:
    return round(float(value), digits)
