"""The same picture through generate() with previews, through a job, and through the stock pipeline, interleaved.

A round draws one 20-step picture each way, in turn, so that whatever else the machine does falls on all three; a ratio
is the median of the rounds' own ratios. The pixels are compared too. Every way keeps its model loaded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from webui.diffusion.generate import StepView, generate
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS
from webui.runtime.entries import TXT2IMG
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.txt2img import draw_pictures

ROUNDS = 9
REQUEST = GenerateRequest("a cat on a blue background", sampler="DPM++ 2M Karras", steps=20, seed=7, guidance_scale=2.0)


def run() -> dict[str, object]:
    """Median wall and CPU seconds of each way, and their ratios to the stock pipeline's."""
    with tempfile.TemporaryDirectory() as data_dir:
        studio = open_studio(Settings(data_dir=Path(data_dir)))
        try:
            return _measure(studio)
        finally:
            studio.close()


def _measure(studio: Studio) -> dict[str, object]:
    with studio.manager.use(studio.catalog.find(REQUEST.model, TXT2IMG).key()) as pipe:
        ways: dict[str, Callable[[], Image.Image]] = {
            "stock": lambda: _stock(pipe),
            "generate": lambda: _generate(studio, pipe),
            "job": lambda: _job(studio),
        }
        pictures = {name: np.asarray(draw()) for name, draw in ways.items()}  # and all is warm now
        rounds = [{name: _timed(draw) for name, draw in ways.items()} for _ in range(ROUNDS)]
    wall = {name: [round_[name][0] for round_ in rounds] for name in ways}
    cpu = {name: [round_[name][1] for round_ in rounds] for name in ways}
    height, width, _ = pictures["stock"].shape
    return {
        "picture": f"{REQUEST.steps} steps, {REQUEST.sampler}, {width}x{height}",
        "threads": torch.get_num_threads(),
        "seconds": {name: round(statistics.median(values), 3) for name, values in wall.items()},
        "cpu_seconds": {name: round(statistics.median(values), 3) for name, values in cpu.items()},
        "wall_ratio_to_stock": {name: _ratio(wall[name], wall["stock"]) for name in ("generate", "job")},
        "cpu_ratio_to_stock": {name: _ratio(cpu[name], cpu["stock"]) for name in ("generate", "job")},
        "same_pixels": all(np.array_equal(picture, pictures["stock"]) for picture in pictures.values()),
    }


def _timed(draw: Callable[[], Image.Image]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    draw()
    return time.perf_counter() - wall, time.process_time() - cpu


def _ratio(values: list[float], stock: list[float]) -> float:
    return round(statistics.median(value / base for value, base in zip(values, stock, strict=True)), 3)


def _stock(pipe: Any) -> Image.Image:
    """Diffusers as its documentation has it, with the scheduler of that sampler."""
    own = pipe.scheduler
    pipe.scheduler = SHIPPED_SAMPLERS.build(REQUEST.sampler, own.config)
    pipe.set_progress_bar_config(disable=True)
    try:
        generator = torch.Generator().manual_seed(REQUEST.seed)
        image: Image.Image = pipe(
            REQUEST.prompt,
            num_inference_steps=REQUEST.steps,
            guidance_scale=REQUEST.guidance_scale,
            generator=generator,
        ).images[0]
        return image
    finally:
        pipe.scheduler = own


def _generate(studio: Studio, pipe: Any) -> Image.Image:
    preview_map = studio.previews.of("bench", pipe)

    def show(view: StepView) -> None:
        height, width = (side * pipe.vae_scale_factor for side in view.latents.shape[-2:])
        preview_map.jpegs(view.predicted_x0, width, height)

    return generate(pipe, REQUEST, on_step=show).pictures[0].image


def _job(studio: Studio) -> Image.Image:
    """Through the queue, with a listener, to the PNG on the disk."""
    job = studio.jobs.submit(lambda context: draw_pictures(studio, REQUEST, context), owner="bench", kind=TXT2IMG)
    for _ in job.events():
        pass
    return Image.open(job.result().pictures[0].path)
