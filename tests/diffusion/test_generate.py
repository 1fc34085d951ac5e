from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from tests.diffusion.conftest import load_pipeline
from webui.diffusion.generate import StepView, generate
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SAMPLERS
from webui.runtime.entries import USUAL_GUIDANCE_SCALE

TINY = GenerateRequest("a cat", negative_prompt="a dog", steps=3, seed=7)


def stock_pictures(pipe: StableDiffusionPipeline, request: GenerateRequest) -> list[Image.Image]:
    """What a reader of diffusers' documentation would write for one batch."""
    sampler = SAMPLERS[request.sampler]
    model_config = pipe.scheduler.config
    pipe.scheduler = getattr(diffusers, sampler.scheduler).from_config(model_config, **sampler.overrides)
    try:
        images: list[Image.Image] = pipe(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_images_per_prompt=request.batch_size,
            num_inference_steps=request.steps,
            guidance_scale=USUAL_GUIDANCE_SCALE if request.guidance_scale is None else request.guidance_scale,
            width=request.width,
            height=request.height,
            generator=[torch.Generator().manual_seed(request.seed + i) for i in range(request.batch_size)],
        ).images
    finally:
        pipe.scheduler = diffusers.DDIMScheduler.from_config(model_config)
    return images


def assert_same_pixels(ours: list[Image.Image], theirs: list[Image.Image]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.size == other.size
        assert np.array_equal(np.asarray(mine), np.asarray(other))


CASES = [
    pytest.param({}, id="square, guided, one"),
    pytest.param({"width": 24, "height": 16, "guidance_scale": 1.0, "batch_size": 2}, id="wide, unguided, two"),
    pytest.param({"width": 16, "height": 32, "guidance_scale": 3.5, "batch_size": 3}, id="tall, guided, three"),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_pixels_equal_the_stock_pipelines(
    name: str, case: dict[str, Any], tiny_pipe: StableDiffusionPipeline, stock_pipe: StableDiffusionPipeline
) -> None:
    request = replace(TINY, sampler=name, **case)
    theirs = stock_pictures(stock_pipe, request)
    unwatched = generate(tiny_pipe, request)
    views: list[StepView] = []
    watched = generate(tiny_pipe, request, on_step=views.append)
    assert_same_pixels([picture.image for picture in unwatched.pictures], theirs)
    assert_same_pixels([picture.image for picture in watched.pictures], theirs)
    assert [view.step for view in views] == list(range(1, views[0].total + 1)), "every U-Net call is seen once"


@pytest.mark.parametrize("name", SAMPLERS)
def test_pixels_equal_the_stock_pipelines_on_trained_weights(name: str, emoji_pipes: tuple[Any, Any]) -> None:
    ours, stock = emoji_pipes
    request = GenerateRequest("แมว and a car", steps=3, seed=11, sampler=name, width=128, height=128)
    drawn = generate(ours, request, on_step=lambda view: None)
    assert_same_pixels([picture.image for picture in drawn.pictures], stock_pictures(stock, request))


@pytest.fixture(scope="module")
def emoji_pipes(emoji_suite: Path) -> tuple[StableDiffusionPipeline, StableDiffusionPipeline]:
    folder = next(emoji_suite.glob("*/model_index.json")).parent
    pipes = load_pipeline(folder), load_pipeline(folder)
    for pipe in pipes:
        pipe.to(torch.float32)
        pipe.set_progress_bar_config(disable=True)
    return pipes


def test_different_samplers_draw_different_pictures(tiny_pipe: StableDiffusionPipeline) -> None:
    """So that the equality above is not that of twenty names for one sampler."""
    pictures = {}
    for name in SAMPLERS:
        image = generate(tiny_pipe, replace(TINY, sampler=name, steps=6)).pictures[0].image
        pictures.setdefault(image.tobytes(), []).append(name)
    assert [names for names in pictures.values() if len(names) > 1] == []


def test_each_picture_of_a_batch_is_drawn_from_its_own_seed(tiny_pipe: StableDiffusionPipeline) -> None:
    result = generate(tiny_pipe, replace(TINY, batch_size=2, batch_count=2))
    assert [picture.seed for picture in result.pictures] == [7, 8, 9, 10]
    for picture in result.pictures:
        alone = generate(tiny_pipe, replace(TINY, seed=picture.seed)).pictures[0].image
        difference = np.abs(np.asarray(alone, dtype=int) - np.asarray(picture.image, dtype=int))
        assert difference.max() <= 1, "a batch rounds differently, by one level at most"


def test_a_new_seed_and_the_models_own_size_are_filled_in(tiny_pipe: StableDiffusionPipeline) -> None:
    result = generate(tiny_pipe, GenerateRequest("a cat", steps=1))
    assert (result.request.width, result.request.height) == (16, 16)
    assert result.request.seed == result.pictures[0].seed >= 0
    again = generate(tiny_pipe, result.request)
    assert_same_pixels([again.pictures[0].image], [result.pictures[0].image])


def test_the_shared_pipeline_is_left_as_it_was(tiny_pipe: StableDiffusionPipeline) -> None:
    attributes, scheduler_state = dict(vars(tiny_pipe)), dict(vars(tiny_pipe.scheduler))
    generate(tiny_pipe, replace(TINY, sampler="DPM++ 2M Karras"), on_step=lambda view: None)
    assert vars(tiny_pipe) == attributes
    assert vars(tiny_pipe.scheduler) == scheduler_state


def test_two_threads_on_one_pipeline_do_not_disturb_each_other(tiny_pipe: StableDiffusionPipeline) -> None:
    """With a shared multistep scheduler both would die of an IndexError."""
    requests = [replace(TINY, sampler="DPM++ 2M", steps=8, seed=seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda request: generate(tiny_pipe, request), requests))
    for request, result in zip(requests, together, strict=True):
        alone = generate(tiny_pipe, request)
        assert_same_pixels([result.pictures[0].image], [alone.pictures[0].image])


def test_a_step_shows_what_the_sampler_believes(tiny_pipe: StableDiffusionPipeline) -> None:
    views: list[StepView] = []
    generate(tiny_pipe, replace(TINY, sampler="Euler", batch_size=2, batch_count=2, width=24), on_step=views.append)
    assert [(view.batch, view.step, view.total) for view in views] == [(b, s, 3) for b in (0, 1) for s in (1, 2, 3)]
    for view in views:
        assert view.latents.shape == view.model_output.shape == view.predicted_x0.shape == (2, 4, 8, 12)
    assert [view.timestep for view in views[:3]] == [999.0, 499.5, 0.0]


@pytest.mark.parametrize("name", ["Euler a", "DPM++ 2M", "Heun", "PLMS"])
def test_a_cancel_ends_the_run_within_one_unet_call(name: str, tiny_pipe: StableDiffusionPipeline) -> None:
    cancel, calls, finished = threading.Event(), 0, []

    def cancel_in_the_fifth_call(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            cancel.set()

    hook = tiny_pipe.unet.register_forward_hook(cancel_in_the_fifth_call)
    request = replace(TINY, sampler=name, steps=30, batch_count=3)
    try:
        result = generate(tiny_pipe, request, on_pictures=finished.extend, cancel=cancel)
    finally:
        hook.remove()
    assert calls == 5
    assert result.stopped
    assert (result.pictures, finished) == ((), [])


def test_a_cancel_keeps_the_batches_that_are_finished(tiny_pipe: StableDiffusionPipeline) -> None:
    cancel = threading.Event()

    def stop_in_the_third(view: StepView) -> None:
        if (view.batch, view.step) == (2, 2):
            cancel.set()

    request = replace(TINY, batch_size=2, batch_count=4)
    result = generate(tiny_pipe, request, on_step=stop_in_the_third, cancel=cancel)
    assert result.stopped
    assert [picture.seed for picture in result.pictures] == [7, 8, 9, 10]
    whole = generate(tiny_pipe, request)
    assert not whole.stopped
    assert_same_pixels([p.image for p in result.pictures], [p.image for p in whole.pictures[:4]])


def test_a_cancel_before_the_start_draws_nothing(tiny_pipe: StableDiffusionPipeline) -> None:
    cancel = threading.Event()
    cancel.set()
    result = generate(tiny_pipe, TINY, on_step=lambda view: pytest.fail("a step was made"), cancel=cancel)
    assert result.stopped
    assert result.pictures == ()


def test_batches_drawn_before_can_be_left_out(tiny_pipe: StableDiffusionPipeline) -> None:
    request = replace(TINY, batch_size=2, batch_count=3)
    rest = generate(tiny_pipe, request, first_batch=2)
    assert not rest.stopped
    assert_same_pixels(
        [picture.image for picture in rest.pictures],
        [picture.image for picture in generate(tiny_pipe, request).pictures[4:]],
    )
