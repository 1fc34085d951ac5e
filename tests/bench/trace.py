"""What recording costs: time and peak memory of a traced run over an untraced one, interleaved.

At emoji size whole runs of 20 steps; at Stable Diffusion 1.x size one step of a U-Net with random weights (float32,
512 x 512, guided; a small text encoder and VAE stand in for the real ones, which recording does not touch). A round
does each way once, in turn; a ratio is the median of the rounds' own. Peak memory is the process's resident size.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from webui.diffusion.generate import generate
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import open_trace, save_trace
from webui.runtime.entries import TXT2IMG
from webui.runtime.fullsize import full_size_models
from webui.runtime.random_weights import build_empty, fill_randomly
from webui.settings import Settings
from webui.studio import open_studio

ROUNDS, LARGE_ROUNDS = 9, 3
REQUEST = GenerateRequest("a cat and a car", sampler="DPM++ 2M Karras", steps=20, seed=5, guidance_scale=2.0)
LARGE_BYTES = 9 * 2**30
SAMPLE_SECONDS = 0.002


def run() -> dict[str, object]:
    """Ratios at both sizes; the large one is left out, and said to be, where memory is short."""
    with tempfile.TemporaryDirectory() as data_dir:
        studio = open_studio(Settings(data_dir=Path(data_dir)))
        try:
            with studio.manager.use(studio.catalog.find(REQUEST.model, TXT2IMG).key()) as pipe:
                figures = {"emoji, 20 steps": _measure(pipe, REQUEST, ROUNDS), "file": _file(pipe, Path(data_dir))}
                free = psutil.virtual_memory().available
                if free < LARGE_BYTES:
                    left_out = f"left out: {free / 2**30:.1f} GiB free, {LARGE_BYTES / 2**30:.0f} needed"
                    return {**figures, "Stable Diffusion 1.x, 1 step": left_out}
                request = replace(REQUEST, steps=1, guidance_scale=7.5, width=512, height=512)
                large = _measure(_large(pipe), request, LARGE_ROUNDS)
        finally:
            studio.close()
    return {**figures, "Stable Diffusion 1.x, 1 step": large}


def _measure(pipe: Any, request: GenerateRequest, rounds: int) -> dict[str, object]:
    recorders: Mapping[str, Callable[[], Recorder | None]] = {
        "untraced": lambda: None,
        "head mean": Recorder,
        "all heads": lambda: Recorder(all_heads=True),
    }
    pictures = {name: _draw(pipe, request, make()) for name, make in recorders.items()}  # and all is warm now
    taken = [{name: _timed(pipe, request, make) for name, make in recorders.items()} for _ in range(rounds)]
    traced = [name for name in recorders if name != "untraced"]

    def ratio(name: str, figure: int) -> float:
        return round(statistics.median(r[name][figure] / r["untraced"][figure] for r in taken), 4)

    return {
        "rounds": rounds,
        "seconds": {name: round(statistics.median(r[name][0] for r in taken), 3) for name in recorders},
        "wall_ratio": {name: ratio(name, 0) for name in traced},
        "cpu_ratio": {name: ratio(name, 1) for name in traced},
        "peak_memory_ratio": {name: ratio(name, 2) for name in traced},
        "same_pixels": all(np.array_equal(picture, pictures["untraced"]) for picture in pictures.values()),
    }


def _draw(pipe: Any, request: GenerateRequest, recorder: Recorder | None) -> np.ndarray:
    return np.asarray(generate(pipe, request, recorder=recorder).pictures[0].image)


def _timed(pipe: Any, request: GenerateRequest, make: Callable[[], Recorder | None]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak bytes; the sampling thread's own CPU time is in all ways alike."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        _draw(pipe, request, make())
        return time.perf_counter() - wall, time.process_time() - cpu, float(peak[0])
    finally:
        done.set()
        sampler.join()


def _file(pipe: Any, folder: Path) -> dict[str, object]:
    recorder = Recorder()
    generate(pipe, replace(REQUEST, steps=50), recorder=recorder)
    path = folder / "run.safetensors"
    save_trace(recorder.traces[0], path)
    started = time.perf_counter()
    open_trace(path)
    opened = time.perf_counter() - started
    return {"emoji, 50 steps, bytes": path.stat().st_size, "opens in seconds": round(opened, 3)}


def _large(emoji: Any) -> Any:
    """Stable Diffusion 1.x's U-Net, made without its slow initialisation, between small stand-ins."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    unet: Any = build_empty(full_size_models()["sd14"].parts["unet"]).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in unet.named_parameters():
        fill_randomly(parameter.data, name, generator)
    own = emoji.text_encoder.config
    text = CLIPTextConfig(
        vocab_size=own.vocab_size,
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=12,
        **{name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae = AutoencoderKL(block_out_channels=[16] * 4, norm_num_groups=8, **blocks)
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=emoji.tokenizer,
        unet=unet,
        scheduler=emoji.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
