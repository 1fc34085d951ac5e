"""Instruments that run the model again on a recorded run: without a word, and what each step's x0 looks like."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from webui.diffusion.attention import MaskedKeys, cross_attention_layers
from webui.diffusion.capabilities import latent_scaling
from webui.diffusion.generate import StepView, generate
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Samplers
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import competing_word_maps, enlarged, intersection_over_union, threshold_mask
from webui.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass(frozen=True, slots=True, eq=False)
class Ablation:
    """The same seed with one word's keys masked, set beside where the U-Net had looked for that word.

    `change` (h, w) float32 is the mean over the channels of |x0 - x0'| at the last step; `attention` (h, w) float32 the
    word's map where the words compete; `correlation` is Pearson's between the two, -1..1 (None where one of them is
    flat); `overlap` the intersection over union of both above 0.4 of their peaks. `picture` (H, W, 3) uint8 is what was
    drawn without the word.
    """

    word: str
    change: np.ndarray
    attention: np.ndarray
    correlation: float | None
    overlap: float
    picture: np.ndarray


def ablate_word(
    pipe: StableDiffusionPipeline,
    trace: Trace,
    word: int,
    *,
    on_step: Callable[[StepView], None] | None = None,
    cancel: threading.Event | None = None,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> Ablation | None:
    """Draw the recorded picture again with word number `word` unseen by every cross-attention layer.

    Only the conditional half is masked, so what remains is the effect of the word itself and of nothing that the text
    encoder has already carried from it to later words. None when cancelled. Raises UserError for a run that was
    stopped, a word that is not there, and a model that is not the recorded one.
    """
    header = trace.header
    if header.stopped:
        raise UserError("error.trace_unfinished")
    if not header.layers:
        raise UserError("error.no_word_maps", model=header.model_title)
    if not 0 <= word < len(header.words):
        raise UserError("error.no_such_word", word=word, count=len(header.words))
    layers = cross_attention_layers(pipe.unet)
    if [layer.name for layer in layers] != [layer.name for layer in header.layers]:
        raise UserError("error.trace_of_other_model", model=header.request.model)
    positions = tuple(header.tokens[row].first for row in header.rows_of_word(word))
    last: list[torch.Tensor] = []

    def keep(view: StepView) -> None:
        last[:] = [view.predicted_x0]
        if on_step is not None:
            on_step(view)

    request = replace(header.request, seed=header.seed, batch_size=1, batch_count=1)
    with MaskedKeys(layers, 1, positions):
        result = generate(pipe, request, on_step=keep, cancel=cancel, samplers=samplers)
    if result.stopped:
        return None
    x0 = last[0][0].float().cpu().numpy()
    change = np.abs(trace.predicted_x0[-1].astype(np.float32) - x0).mean(axis=0)
    attention = competing_word_maps(trace)[word]
    return Ablation(
        word=header.words[word],
        change=change,
        attention=attention,
        correlation=_correlation(change, attention),
        overlap=intersection_over_union(threshold_mask(change), threshold_mask(attention)),
        picture=np.asarray(result.pictures[0].image.convert("RGB")),
    )


@torch.inference_mode()
def decode_x0(pipe: StableDiffusionPipeline, trace: Trace, *, cancel: threading.Event | None = None) -> np.ndarray:
    """Each call's predicted x0 through the VAE's decoder, (N, H, W, 3) uint8; fewer than all calls when cancelled."""
    vae, device = pipe.vae, pipe._execution_device  # noqa: SLF001 - where offloading computes
    shift, scale = latent_scaling(vae)
    frames = []
    for latents in trace.predicted_x0:
        if cancel is not None and cancel.is_set():
            break
        scaled = torch.from_numpy(latents.astype(np.float32)).to(device, vae.dtype) / scale + shift
        decoded = vae.decode(scaled[None], return_dict=False)[0][0]
        pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        frames.append((pixels * 255).round().astype(np.uint8))
    shapes = trace.header.shapes
    return np.stack(frames) if frames else np.zeros((0, shapes.height, shapes.width, 3), np.uint8)


def locked_in(scores: np.ndarray) -> int | None:
    """The first call from which the first text beats every other to the end; None if never, or without others.

    `scores` (S, T) are the cosines of each call's picture with each text.
    """
    if scores.shape[1] < 2:
        return None
    ahead = scores[:, 0] > scores[:, 1:].max(axis=1)
    behind = np.flatnonzero(~ahead)
    first = int(behind[-1]) + 1 if len(behind) else 0
    return first if first < len(scores) else None


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    other = other if other.shape == one.shape else enlarged(other, *one.shape)
    if one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
