"""Records what happens inside a run, call by call, without changing it: `generate(pipe, request, recorder=Recorder())`.

Each picture of each batch becomes a `Trace`. Of a transformer (Stable Diffusion 3, FLUX, PixArt) it holds the
steps without word maps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from webui.diffusion.capabilities import Capabilities, capabilities_of, unpacked
from webui.diffusion.latents import LatentRGB, noise_level
from webui.diffusion.recorded_maps import MapRecording, PictureMaps, incomplete, to_numpy
from webui.diffusion.request import GenerateRequest
from webui.diffusion.text_rows import prompt_pieces
from webui.diffusion.trace import Trace
from webui.diffusion.trace_header import TraceHeader, TraceShapes, TraceStep, TraceToken
from webui.diffusion.weighted_text import weighted_prompts
from webui.diffusion.words import prompt_rows
from webui.runtime.pipelines import PIPELINES

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.generate import StepView
    from webui.diffusion.samplers import MakeScheduler, Sampler


class Recorder:
    """Give one to `generate`; afterwards `traces` has one `Trace` a picture, also of a run that was stopped.

    `all_heads` keeps the maps of every head of every cross-attention layer too, pooled to 16 x 16. `latent_rgb` goes
    into the trace for showing latents as colours. `lexicon` helps to split a prompt that is written without spaces into
    words.
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
        self,
        pipe: StableDiffusionPipeline,
        request: GenerateRequest,
        sampler: Sampler,
        scheduler: Any,
        seeds: Sequence[int],
    ) -> BatchRecording:
        """A context in which one batch is recorded; `generate` opens it."""
        return BatchRecording(self, pipe, request, sampler, scheduler, tuple(seeds))

    def keep(self, traces: Iterable[Trace]) -> None:
        """Take over what a batch has recorded."""
        self._traces.extend(traces)


@dataclass(slots=True)
class _Rows:
    """What was recorded, one entry a call of the denoiser; arrays start with the picture, (B, ...)."""

    steps: list[TraceStep] = field(default_factory=list)
    latents: list[np.ndarray] = field(default_factory=list)
    predicted_x0: list[np.ndarray] = field(default_factory=list)
    cond: list[np.ndarray] = field(default_factory=list)
    uncond: list[np.ndarray] = field(default_factory=list)


class BatchRecording:
    """One batch being recorded; keeps what it has when the run is stopped, and nothing when the run fails."""

    def __init__(
        self,
        recorder: Recorder,
        pipe: StableDiffusionPipeline,
        request: GenerateRequest,
        sampler: Sampler,
        scheduler: Any,
        seeds: tuple[int, ...],
    ) -> None:
        self._recorder, self._pipe, self._request = recorder, pipe, request
        self._scheduler, self._seeds = scheduler, seeds
        self._sampler = sampler
        self._can = capabilities_of(pipe)
        width, height = request.width or 0, request.height or 0
        self._latent_size = height // self._can.factor, width // self._can.factor
        prompt = weighted_prompts(pipe, request)[0].text
        self._tokens, self._words, self._cut = _rows_of(pipe, prompt, recorder.lexicon, self._can)
        self._maps: MapRecording | None = None
        if self._can.cross_attention:
            self._maps = MapRecording(pipe.unet, self._latent_size, len(seeds), self._tokens, recorder.all_heads)
        self._rows = _Rows()
        self._thread = 0
        self._hook: Any = None
        self._halves: tuple[torch.Tensor | None, torch.Tensor] | None = None
        self._prompt_embeds: np.ndarray | None = None
        self._final: np.ndarray | None = None
        self._pictures: list[np.ndarray] | None = None

    def __enter__(self) -> BatchRecording:
        self._thread = threading.get_ident()
        if self._maps is not None:
            self._maps.__enter__()
        denoiser = self._pipe.components.get("unet") or self._pipe.components["transformer"]
        self._hook = denoiser.register_forward_hook(self._take_output, with_kwargs=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from webui.diffusion.generate import Stopped

        if self._maps is not None:
            self._maps.__exit__()
        self._hook.remove()
        if self._rows.steps and (error is None or isinstance(error, Stopped)):
            self._recorder.keep(self._trace(picture) for picture in range(len(self._seeds)))

    def step(self, view: StepView) -> None:
        """Record one call of the denoiser: to be told before the scheduler's step."""
        if self._halves is None:
            raise incomplete(0, 1)
        uncond, cond = self._halves
        self._halves = None
        rows = self._rows
        step, order = _place_of_call(view.step - 1, self._sampler.calls_per_step, self._sampler.scheduler)
        rows.steps.append(TraceStep(step, order, view.timestep, noise_level(self._scheduler, view.timestep)))
        rows.latents.append(to_numpy(view.latents))
        rows.predicted_x0.append(to_numpy(view.predicted_x0, np.float16))
        rows.cond.append(to_numpy(cond, np.float16))
        if uncond is not None:
            rows.uncond.append(to_numpy(uncond, np.float16))

    def stepped(self, latents: torch.Tensor) -> None:
        """What the scheduler made of the call, (B, C, h, w)."""
        self._final = to_numpy(latents)

    def finish(self, images: Sequence[Image.Image]) -> None:
        """The pictures, when the batch is done."""
        self._pictures = [np.asarray(image.convert("RGB")) for image in images]

    def _take_output(self, _module: Any, *call: Any) -> None:
        """The denoiser is done with one call: keep its two halves and the maps of all layers."""
        if threading.get_ident() != self._thread:
            return
        _, kwargs, output = call
        if self._maps is not None:
            self._maps.take_call(len(self._scheduler.timesteps))
        predicted = self._unpacked(output[0])[:, : self._can.latent_channels]  # PixArt's second half is a variance
        pictures = len(self._seeds)
        self._halves = (predicted[:pictures] if len(predicted) > pictures else None), predicted[-pictures:]
        if self._prompt_embeds is None:
            self._prompt_embeds = to_numpy(kwargs["encoder_hidden_states"][-1], np.float16)

    def _unpacked(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), also of a transformer that works on rows of patches."""
        return unpacked(self._pipe, rows, self._request.height or 0, self._request.width or 0)

    def _trace(self, picture: int) -> Trace:
        rows = self._rows
        calls = len(rows.steps)  # a call that was stopped between denoiser and scheduler has maps but no step
        fitted = self._recorder.latent_rgb
        channels = rows.latents[0].shape[1]

        def over_calls(arrays: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([array[picture] for array in arrays[:calls]])

        assert self._prompt_embeds is not None  # noqa: S101 - there was a call
        done = self._pictures is not None
        maps = PictureMaps() if self._maps is None else self._maps.of_picture(picture, calls)
        none = np.zeros((calls, len(self._tokens), 0), np.float32)
        flow = self._sampler.space == "flow"
        return Trace(
            header=self._header(picture),
            latents=over_calls(rows.latents),
            final_latents=self._final[picture] if done and self._final is not None else None,
            predicted_x0=over_calls(rows.predicted_x0),
            cond=over_calls(rows.cond),
            uncond=over_calls(rows.uncond) if rows.uncond else None,
            step_maps=maps.step_maps,
            step_scales=none if maps.step_scales is None else maps.step_scales,
            mean_maps=maps.mean_maps,
            head_maps=maps.head_maps,
            head_scales=maps.head_scales,
            picture=self._pictures[picture] if self._pictures is not None else None,
            prompt_embeds=self._prompt_embeds,
            alphas_cumprod=np.zeros(0, np.float32) if flow else to_numpy(self._scheduler.alphas_cumprod),
            latent_rgb=np.zeros((channels + 1, 3), np.float32) if fitted is None else fitted.factors,
        )

    def _header(self, picture: int) -> TraceHeader:
        assert self._prompt_embeds is not None  # noqa: S101 - there was a call
        request, (height, width), factor = self._request, self._latent_size, self._can.factor
        positions, embedding = self._prompt_embeds.shape
        channels = int(self._rows.latents[0].shape[1])
        fitted = self._recorder.latent_rgb
        flow = self._sampler.space == "flow"
        return TraceHeader(
            request=request,
            seed=self._seeds[picture],
            model_title=self._recorder.model_title or request.model,
            space=self._sampler.space,
            prediction_type="flow" if flow else self._scheduler.config.prediction_type,
            tokens=self._tokens,
            words=self._words,
            cut_text=self._cut,
            steps=tuple(self._rows.steps),
            planned_calls=len(self._scheduler.timesteps),
            stopped=self._pictures is None,
            layers=() if self._maps is None else self._maps.layers,
            levels=() if self._maps is None else self._maps.levels,
            shapes=TraceShapes(positions, embedding, channels, height, width, height * factor, width * factor),
            r_squared=0.0 if fitted is None else fitted.r_squared,
            versions={library.__name__: library.__version__ for library in (diffusers, np, torch, transformers)},
            denoiser="unet" if "unet" in self._pipe.components else "transformer",
            guidance=self._can.guidance,
            encoders=_encoder_names(self._pipe, self._can),
        )


def _rows_of(
    pipe: Any, prompt: str, lexicon: Iterable[str], can: Capabilities
) -> tuple[tuple[TraceToken, ...], tuple[str, ...], str]:
    """The rows of the text that the denoiser reads, the words that have maps, and the end that is not read."""
    if can.cross_attention:
        positions = int(pipe.text_encoder.config.max_position_embeddings)
        return prompt_rows(pipe.tokenizer, prompt, positions, lexicon)
    kind = PIPELINES[type(pipe).__name__]
    parts = [(getattr(pipe, name), length) for name, length in kind.windows]
    rows, cut = prompt_pieces(prompt.lower() if kind.lowercase else prompt, parts)
    return rows, (), cut


def _encoder_names(pipe: Any, can: Capabilities) -> tuple[str, ...]:
    """Each kind of encoder once, in the order of use: "CLIP", "T5"."""
    classes = [type(getattr(pipe, name)).__name__ for name in can.text_encoders]
    return tuple(dict.fromkeys("T5" if name.startswith("T5") else "CLIP" for name in classes))


def _place_of_call(call: int, calls_per_step: int, scheduler: str | MakeScheduler) -> tuple[int, int]:
    """(step, order) of denoiser call number `call` from 0."""
    if scheduler == "PNDMScheduler":  # PLMS begins by repeating its first step, to have a slope to go on with
        return (max(call, 1), 2 if call == 1 else 1)
    return call // calls_per_step + 1, call % calls_per_step + 1
