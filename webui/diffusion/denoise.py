"""The sampler's loop on its own, from a given latent on: from a noise, from the middle of a recorded run, or one step.

The pixels are the stock pipeline's, bit for bit, for one picture; tests hold that for every sampler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from webui.diffusion.capabilities import capabilities_of
from webui.diffusion.generate import StepView, generate, resolved_request
from webui.diffusion.interpolate import slerp
from webui.diffusion.latents import predicted_x0
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Samplers
from webui.diffusion.vae_codec import computing_device, decode_latent, to_array
from webui.diffusion.weighted_text import weighted_prompts, weights_applied
from webui.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.trace import Trace

OnCall = Callable[[int, int], None]
"""Hears (calls done, calls in all) before each U-Net call, and may raise to end the work."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedRun:
    """One picture's run: everything that is needed to go on from any of its steps.

    `request` has size, seed and guidance filled in and asks for one picture. `samples` are x_t as the sampler got them
    and `outputs` the guided predictions, both (calls, 4, H/8, W/8) float32; `timesteps` has one entry a U-Net call.
    `steps` are the calls that can be resumed from (see `resumable_steps`). `picture` is (H, W, 3) uint8.
    """

    request: GenerateRequest
    timesteps: tuple[float, ...]
    samples: np.ndarray
    outputs: np.ndarray
    steps: tuple[int, ...]
    picture: np.ndarray


def record_run(
    pipe: StableDiffusionPipeline,
    request: GenerateRequest,
    on_call: OnCall,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> RecordedRun:
    """Draw the first picture of `request` and keep what `resume_run` needs; the picture is that of `generate`."""
    _check_loop(pipe)
    views: list[tuple[float, np.ndarray, np.ndarray]] = []

    def keep(view: StepView) -> None:
        on_call(view.step, view.total)
        views.append((view.timestep, to_array(view.latents), to_array(view.model_output)))

    result = generate(pipe, replace(request, batch_size=1, batch_count=1), on_step=keep, samplers=samplers)
    timesteps, samples, outputs = zip(*views, strict=True)
    return RecordedRun(
        request=result.request,
        timesteps=timesteps,
        samples=np.stack(samples),
        outputs=np.stack(outputs),
        steps=resumable_steps(result.request, pipe.scheduler.config, samplers),
        picture=np.asarray(result.pictures[0].image),
    )


def run_from_trace(pipe: StableDiffusionPipeline, trace: Trace, samplers: Samplers = SHIPPED_SAMPLERS) -> RecordedRun:
    """What a trace holds of a run, to resume it; raises UserError for a run that was stopped before its end.

    A trace keeps x_t exactly and the U-Net's outputs in 16 bits. So one-step samplers give back the trace's picture bit
    for bit; those with a history (DPM++, PLMS, UniPC, DEIS, ...) within a few levels, for their history is rounded.
    """
    header = trace.header
    if header.stopped or trace.picture is None:
        raise UserError("error.trace_stopped")
    request = replace(header.request, seed=header.seed, batch_size=1, batch_count=1)
    calls = range(len(header.steps))
    return RecordedRun(
        request=request,
        timesteps=tuple(step.timestep for step in header.steps),
        samples=trace.latents,
        outputs=np.stack([trace.guided(call) for call in calls]),
        steps=tuple(call for call in resumable_steps(request, pipe.scheduler.config, samplers) if call in calls),
        picture=trace.picture,
    )


def resumable_steps(request: GenerateRequest, config: Any, samplers: Samplers = SHIPPED_SAMPLERS) -> tuple[int, ...]:
    """The U-Net calls, counted from 0, whose sample the sampler really goes on from.

    The second half of a step of Heun and DPM2, the second call of PLMS and the second of each pair of DPM++ 2S go on
    from a sample that the sampler kept itself: an edit there would be dropped without a word.
    """
    scheduler: Any = samplers.build(request.sampler, config)
    scheduler.set_timesteps(request.steps)
    calls = range(len(scheduler.timesteps))
    match request.sampler:
        case "PLMS":
            return tuple(call for call in calls if call != 1)
        case sampler if sampler.startswith("DPM++ 2S"):
            return tuple(call for call in calls if scheduler.order_list[call] == 1)
        case sampler:
            return tuple(calls)[:: samplers.find(sampler).calls_per_step]


@torch.inference_mode()
def resume_run(
    pipe: StableDiffusionPipeline,
    run: RecordedRun,
    call: int,
    sample: np.ndarray | None,
    on_call: OnCall,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> np.ndarray:
    """Go on from U-Net call `call` (from 0) of `run` with `sample` (4, H/8, W/8) as x_t; the picture, (H, W, 3) uint8.

    None stands for the recorded x_t: then the picture is the run's own. The sampler's history and its random numbers
    are rebuilt by stepping through the recorded outputs, without the U-Net. UniPC corrects each sample by the history
    behind it, which would undo an edit: with a `sample` it does so from the step after on. Raises UserError for a call
    that is not among `run.steps`.
    """
    if call not in run.steps:
        raise UserError("error.step_not_resumable", value=call, sampler=run.request.sampler, known=_listed(run.steps))
    loop = _Loop(pipe, run.request, samplers)
    for before in range(call):
        loop.step(loop.tensor(run.outputs[before]), before, loop.tensor(run.samples[before]))
    if sample is not None and getattr(loop.scheduler, "last_sample", None) is not None:
        loop.scheduler.last_sample = None
    start = run.samples[call] if sample is None else sample
    return loop.finish(loop.tensor(start), call, on_call)


@torch.inference_mode()
def draw_from_noise(
    pipe: StableDiffusionPipeline,
    request: GenerateRequest,
    noise: np.ndarray,
    on_call: OnCall,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> np.ndarray:
    """The picture (H, W, 3) uint8 that `request` draws from `noise` (4, H/8, W/8) instead of its seed's.

    A sampler that adds noise on its way takes that from the request's seed all the same.
    """
    loop = _Loop(pipe, resolved_request(pipe, request), samplers)
    return loop.finish(loop.tensor(noise) * loop.scheduler.init_noise_sigma, 0, on_call)


@torch.inference_mode()
def draw_between(
    pipe: StableDiffusionPipeline,
    start: GenerateRequest,
    end: GenerateRequest,
    share: float,
    on_call: OnCall,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> np.ndarray:
    """The picture (H, W, 3) uint8 at `share` (0..1) of the way: noise and text embeddings are slerped.

    At 0 and 1 it is what `start` and `end` draw. Of everything but prompts and seeds, `start` decides.
    """
    start, end = resolved_request(pipe, start), resolved_request(pipe, end)
    loop, other = _Loop(pipe, start, samplers), _Loop(pipe, end, samplers)
    # Prompt and negative prompt lie one above the other: each goes its own way, token by token.
    ways = [
        [slerp(first, last, share) for first, last in zip(half, other_half, strict=True)]
        for half, other_half in zip(_rows(loop.context), _rows(other.context), strict=True)
    ]
    loop.context = torch.from_numpy(np.stack([np.stack(tokens) for tokens in ways])).to(loop.context)
    noise = slerp(to_array(_seeded(pipe, start)[1]), to_array(_seeded(pipe, end)[1]), share)
    return loop.finish(loop.tensor(noise) * loop.scheduler.init_noise_sigma, 0, on_call)


@torch.inference_mode()
def initial_noise(pipe: StableDiffusionPipeline, request: GenerateRequest) -> np.ndarray:
    """The noise (4, H/8, W/8) float32 of unit variance that the request's seed stands for."""
    return to_array(_seeded(pipe, resolved_request(pipe, request))[1])


@torch.inference_mode()
def one_step_guess(
    pipe: StableDiffusionPipeline, sample: np.ndarray, timestep: int, prompt: str, guidance_scale: float
) -> np.ndarray:
    """The model's x_0 (4, H/8, W/8), guessed in one call from x_t = sqrt(a) x_0 + sqrt(1 - a) eps and a prompt."""
    asked = GenerateRequest(prompt, sampler="DDIM", steps=1, guidance_scale=guidance_scale, seed=0)
    loop = _Loop(pipe, asked, SHIPPED_SAMPLERS)
    x_t, t = loop.tensor(sample), torch.tensor(timestep, device=loop.device)
    output = loop.predict(x_t, t)
    return to_array(predicted_x0(loop.scheduler, "alpha", output, t, x_t))


def alphas_cumprod(pipe: StableDiffusionPipeline) -> np.ndarray:
    """The model's noise schedule: cumulative products of its alphas, (T,) float64."""
    scheduler: Any = SHIPPED_SAMPLERS.build("DDIM", pipe.scheduler.config)
    products: np.ndarray = scheduler.alphas_cumprod.double().numpy()
    return products


def _check_loop(pipe: StableDiffusionPipeline) -> None:
    """Raise UserError for a model whose denoiser `_Loop` does not know how to call."""
    can = capabilities_of(pipe)
    if len(can.text_encoders) != 1 or can.guidance == "embedded" or not can.cross_attention:
        raise UserError("error.loop_not_for_model")


class _Loop:
    """One run of a sampler: its scheduler, its random numbers, and what the U-Net is told of the prompt."""

    def __init__(self, pipe: StableDiffusionPipeline, request: GenerateRequest, samplers: Samplers) -> None:
        _check_loop(pipe)
        self.pipe = pipe
        self.device = computing_device(pipe)
        self.guidance_scale = cast(float, request.guidance_scale)
        self.scheduler: Any = samplers.build(request.sampler, pipe.scheduler.config)
        self.scheduler.set_timesteps(request.steps, device=self.device)
        self.guided = self.guidance_scale > 1
        prompts = weighted_prompts(pipe, request)
        with weights_applied(pipe, prompts):
            embeds, negative = pipe.encode_prompt(prompts[0].text, self.device, 1, self.guided, prompts[1].text)
        self.context = torch.cat([negative, embeds]) if self.guided else embeds
        # The generator stands where drawing the initial noise leaves it, as samplers that add noise expect.
        generator = _seeded(pipe, request)[0] if request.width is not None else torch.Generator("cpu")
        self.options = _step_options(self.scheduler, generator)

    def tensor(self, latent: np.ndarray) -> torch.Tensor:
        """(4, h, w) as a batch of one for the U-Net."""
        return torch.from_numpy(latent)[None].to(self.device, self.context.dtype)

    def predict(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The guided prediction for x_t (Ho & Salimans 2022)."""
        given = torch.cat([sample] * 2) if self.guided else sample
        given = self.scheduler.scale_model_input(given, timestep)
        output = self.pipe.unet(given, timestep, encoder_hidden_states=self.context, return_dict=False)[0]
        if not self.guided:
            return cast(torch.Tensor, output)
        unconditional, conditional = output.chunk(2)
        return cast(torch.Tensor, unconditional + self.guidance_scale * (conditional - unconditional))

    def step(self, output: torch.Tensor, call: int, sample: torch.Tensor) -> torch.Tensor:
        """x_{t-1} from x_t and what was predicted for it."""
        timestep = self.scheduler.timesteps[call]
        self.scheduler.scale_model_input(sample, timestep)  # some samplers find their place by it
        stepped = self.scheduler.step(output, timestep, sample, **self.options, return_dict=False)[0]
        return cast(torch.Tensor, stepped)

    def finish(self, sample: torch.Tensor, call: int, on_call: OnCall) -> np.ndarray:
        """The picture, from x_t of this call on."""
        total = len(self.scheduler.timesteps)
        for current in range(call, total):
            on_call(current - call, total - call)
            sample = self.step(self.predict(sample, self.scheduler.timesteps[current]), current, sample)
        return decode_latent(self.pipe, to_array(sample))


def _seeded(pipe: StableDiffusionPipeline, request: GenerateRequest) -> tuple[torch.Generator, torch.Tensor]:
    """The generator of the request's first picture, and the noise that was drawn from it."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    height, width = cast(int, request.height), cast(int, request.width)
    can = capabilities_of(pipe)
    shape = (1, can.latent_channels, height // can.factor, width // can.factor)
    return generator, randn_tensor(
        shape, generator=[generator], device=computing_device(pipe), dtype=pipe.text_encoder.dtype
    )


def _step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """As the pipeline's `prepare_extra_step_kwargs`: what this scheduler's step takes beside the sample."""
    known = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"eta": 0.0, "generator": [generator]}
    return {name: value for name, value in options.items() if name in known}


def _rows(context: torch.Tensor) -> np.ndarray:
    """Text embeddings (1 or 2, 77, D) as float32 in main memory."""
    rows: np.ndarray = context.detach().float().cpu().numpy()
    return rows


def _listed(steps: tuple[int, ...]) -> str:
    return ", ".join(map(str, steps))
