"""One step at Stable Diffusion 1.4's full size, random weights: ours, the stock pipeline, and ways to be faster.

A round runs every way once, in turn, so that whatever else the machine does falls on all of them; a ratio is the median
of the rounds' own ratios, and that of CPU seconds says more on a machine that is busy. First whole pictures of one
guided step at 512 x 512, by `generate` and by diffusers as its documentation has it. Then the two parts that take the
time, alone: a guided U-Net call, (2, 4, 64, 64), and a decoding, each as loaded and in other layouts, with the largest
difference of what comes out (as a share of the largest value) and the memory above the weights. With an accelerator
the U-Net call is repeated there in float16, with and without `torch.compile`.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from webui.diffusion.generate import generate
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS
from webui.runtime.fullsize import full_size_models
from webui.runtime.memory import PeakMemory
from webui.runtime.random_weights import fill_randomly
from webui.runtime.single_file import load_clip_tokenizer

ROUNDS = 3
SIDE = 512
REQUEST = GenerateRequest(
    "a cat on a blue background", sampler="DDIM", steps=1, seed=7, guidance_scale=7.0, width=SIDE, height=SIDE
)
TILE = 32


@dataclass
class Way:
    """One way of computing the same: what is set up around it, and what is called."""

    around: Callable[[], AbstractContextManager[object]]
    compute: Callable[[], torch.Tensor]


def run() -> dict[str, object]:
    """Seconds, ratios, differences and memory; minutes on a CPU."""
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    with torch.inference_mode():
        pipe = _pipeline()
        figures: dict[str, object] = {
            "machine": f"{_processor()}, {threads} cores, torch {torch.__version__}",
            "weights_gib": round(sum(p.nbytes for m in _modules(pipe) for p in m.parameters()) / 2**30, 2),
            "picture": _compared(_pictures(pipe)),
            "unet_call": _compared(_unet_ways(pipe.unet, threads)),
            "decoding": _compared(_vae_ways(pipe.vae)),
        }
        return figures | {"accelerator": _on_accelerator(pipe.unet)}


def _pipeline() -> StableDiffusionPipeline:
    parts = full_size_models()["sd14"].parts
    torch.manual_seed(0)
    text: Any = CLIPTextModel(CLIPTextConfig(**parts["text_encoder"].config))
    unet: Any = UNet2DConditionModel.from_config(parts["unet"].config)
    vae: Any = AutoencoderKL.from_config(parts["vae"].config)
    generator = torch.Generator().manual_seed(0)
    for module in (text, unet, vae):
        for name, tensor in module.named_parameters():
            fill_randomly(tensor.data, name, generator)
        module.eval().requires_grad_(requires_grad=False)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=load_clip_tokenizer(open_clip=False),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _pictures(pipe: Any) -> dict[str, Way]:
    def stock() -> torch.Tensor:
        own, pipe.scheduler = pipe.scheduler, SHIPPED_SAMPLERS.build(REQUEST.sampler, pipe.scheduler.config)
        image = pipe(
            REQUEST.prompt, num_inference_steps=REQUEST.steps, guidance_scale=REQUEST.guidance_scale, width=SIDE,
            height=SIDE, generator=torch.Generator().manual_seed(REQUEST.seed),
        ).images[0]  # fmt: skip
        pipe.scheduler = own
        return torch.from_numpy(np.asarray(image, np.float32) / 255)

    def ours() -> torch.Tensor:
        return torch.from_numpy(np.asarray(generate(pipe, REQUEST).pictures[0].image, np.float32) / 255)

    return {"stock": Way(nullcontext, stock), "ours": Way(nullcontext, ours)}


def _unet_ways(unet: Any, threads: int) -> dict[str, Way]:
    latents, text = torch.randn(2, 4, SIDE // 8, SIDE // 8), torch.randn(2, 77, 768)

    def compute() -> torch.Tensor:
        found: torch.Tensor = unet(latents, 500, encoder_hidden_states=text, return_dict=False)[0]
        return found

    @contextmanager
    def fused() -> Any:
        unet.fuse_qkv_projections()
        yield
        unet.unfuse_qkv_projections()

    @contextmanager
    def one_thread() -> Any:
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    return {
        "as_loaded": Way(nullcontext, compute),
        "channels_last": Way(lambda: _channels_last(unet), compute),
        "fused_qkv": Way(fused, compute),
        "one_thread": Way(one_thread, compute),
    }


def _vae_ways(vae: Any) -> dict[str, Way]:
    latents = torch.randn(1, 4, SIDE // 8, SIDE // 8)

    def compute() -> torch.Tensor:
        found: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return found

    @contextmanager
    def tiled() -> Any:
        own = vae.tile_latent_min_size, vae.tile_sample_min_size
        vae.tile_latent_min_size, vae.tile_sample_min_size = TILE, TILE * 8
        vae.enable_tiling()
        yield
        vae.disable_tiling()
        vae.tile_latent_min_size, vae.tile_sample_min_size = own

    return {
        "as_loaded": Way(nullcontext, compute),
        "channels_last": Way(lambda: _channels_last(vae), compute),
        f"tiles_of_{TILE * 8}": Way(tiled, compute),
    }


@contextmanager
def _channels_last(module: torch.nn.Module) -> Any:
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    yield
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _compared(ways: Mapping[str, Way]) -> dict[str, object]:
    """Every way in turn, `ROUNDS` times; the first of them is what the others are held against."""
    first = next(iter(ways))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, torch.Tensor] = {}
    peaks: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            with way.around(), PeakMemory() as peak:
                started, cpu_started = time.perf_counter(), time.process_time()
                outputs[name] = way.compute()
                seconds[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - cpu_started)
            peaks[name] = round((peak.highest - peak.before) / 2**30, 2)
    scale = float(outputs[first].abs().max())
    return {
        "seconds": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
        "ratio": {name: _ratio(values, seconds[first]) for name, values in seconds.items()},
        "cpu_seconds": {name: round(statistics.median(values), 2) for name, values in cpu.items()},
        "cpu_ratio": {name: _ratio(values, cpu[first]) for name, values in cpu.items()},
        "largest_difference": {
            name: float(f"{float((output - outputs[first]).abs().max()) / scale:.2g}")
            for name, output in outputs.items()
        },
        "gib_above_weights": peaks,
    }


def _ratio(values: list[float], base: list[float]) -> float:
    return round(statistics.median(value / other for value, other in zip(values, base, strict=True)), 3)


def _on_accelerator(unet: Any) -> object:
    """The U-Net call in float16 on the GPU, with and without `torch.compile`."""
    if not torch.cuda.is_available():
        return "no accelerator here"
    device = torch.device("cuda")
    unet = unet.to(device, torch.float16)
    compiled = torch.compile(unet)
    latents = torch.randn(2, 4, SIDE // 8, SIDE // 8, device=device, dtype=torch.float16)
    text = torch.randn(2, 77, 768, device=device, dtype=torch.float16)

    def way(module: Any) -> Callable[[], torch.Tensor]:
        def compute() -> torch.Tensor:
            found: torch.Tensor = module(latents, 500, encoder_hidden_states=text, return_dict=False)[0]
            torch.cuda.synchronize()
            return found.float()

        return compute

    ways = {"float16": Way(nullcontext, way(unet)), "float16_compiled": Way(nullcontext, way(compiled))}
    for each in ways.values():
        each.compute()  # compiled, and warm
    return {"device": torch.cuda.get_device_name(), **_compared(ways)}


def _modules(pipe: Any) -> tuple[torch.nn.Module, ...]:
    return pipe.text_encoder, pipe.unet, pipe.vae


def _processor() -> str:
    """The CPU's own name; Linux keeps it in a file."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
