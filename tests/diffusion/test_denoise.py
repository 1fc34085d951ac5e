from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from webui.diffusion.denoise import (
    RecordedRun,
    alphas_cumprod,
    draw_from_noise,
    initial_noise,
    one_step_guess,
    record_run,
    resumable_steps,
    resume_run,
    run_from_trace,
)
from webui.diffusion.forward_diffusion import add_noise, noise_point, seeded_noise
from webui.diffusion.generate import generate
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SAMPLERS, SHIPPED_SAMPLERS
from webui.errors import UserError

REQUEST = GenerateRequest("a cat", negative_prompt="dog", steps=4, guidance_scale=3.0, width=24, height=16, seed=11)


def quiet(_done: int, _total: int) -> None:
    """Nobody listens."""


def run_of(pipe: StableDiffusionPipeline, sampler: str) -> RecordedRun:
    return record_run(pipe, replace(REQUEST, sampler=sampler), quiet)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_resuming_without_an_edit_draws_the_same_picture_bit_for_bit(
    sampler: str, tiny_pipe: StableDiffusionPipeline
) -> None:
    run = run_of(tiny_pipe, sampler)
    stock = generate(tiny_pipe, run.request).pictures[0].image
    assert np.array_equal(run.picture, np.asarray(stock))
    assert run.steps[0] == 0
    for call in run.steps[-2:]:
        assert np.array_equal(resume_run(tiny_pipe, run, call, None, quiet), run.picture), call
        assert np.array_equal(resume_run(tiny_pipe, run, call, run.samples[call].copy(), quiet), run.picture) or (
            sampler == "UniPC" and call > 0
        ), "UniPC corrects the sample it is given, but for one that was edited"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_edit_at_any_offered_step_reaches_the_picture_in_full(
    sampler: str, tiny_pipe: StableDiffusionPipeline
) -> None:
    """Everything set to one far value: had the sampler gone on from a sample of its own, little would change."""
    run = run_of(tiny_pipe, sampler)
    for call in run.steps[-2:]:
        edited = np.full_like(run.samples[call], 8.0 * np.abs(run.samples[call]).max())
        picture = resume_run(tiny_pipe, run, call, edited, quiet)
        assert np.abs(picture.astype(int) - run.picture).mean() > 30, call


@pytest.mark.parametrize("sampler", ["PLMS", "Heun", "DPM++ 2S", "DPM2 a Karras"])
def test_a_step_whose_sample_the_sampler_ignores_is_refused(sampler: str, tiny_pipe: StableDiffusionPipeline) -> None:
    run = run_of(tiny_pipe, sampler)
    assert 1 not in run.steps
    with pytest.raises(UserError) as refusal:
        resume_run(tiny_pipe, run, 1, None, quiet)
    assert refusal.value.key == "error.step_not_resumable"


@pytest.mark.parametrize("sampler", ["DPM++ 2M Karras", "Euler a", "DDIM"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_noise_of_a_seed_draws_the_seeds_picture(
    sampler: str, guidance_scale: float, tiny_pipe: StableDiffusionPipeline
) -> None:
    request = replace(REQUEST, sampler=sampler, guidance_scale=guidance_scale)
    picture = draw_from_noise(tiny_pipe, request, initial_noise(tiny_pipe, request), quiet)
    assert np.array_equal(picture, np.asarray(generate(tiny_pipe, request).pictures[0].image))
    assert not np.array_equal(picture, draw_from_noise(tiny_pipe, request, seeded_noise((4, 8, 12), 1), quiet))


def test_the_work_ends_where_the_listener_says(tiny_pipe: StableDiffusionPipeline) -> None:
    heard: list[tuple[int, int]] = []

    def stop_at_two(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        draw_from_noise(tiny_pipe, REQUEST, seeded_noise((4, 8, 12), 1), stop_at_two)
    assert heard == [(0, 4), (1, 4), (2, 4)]


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_the_closed_form_is_the_schedulers_add_noise(timestep: int, tiny_pipe: StableDiffusionPipeline) -> None:
    x0, noise = seeded_noise((4, 8, 8), 1), seeded_noise((4, 8, 8), 2)
    point = noise_point(alphas_cumprod(tiny_pipe), timestep)
    assert point.signal**2 + point.noise**2 == pytest.approx(1)
    scheduler: Any = SHIPPED_SAMPLERS.build("DDIM", tiny_pipe.scheduler.config)
    theirs = scheduler.add_noise(torch.from_numpy(x0), torch.from_numpy(noise), torch.tensor([timestep]))
    np.testing.assert_allclose(add_noise(x0, noise, point), theirs.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_the_guess_is_the_first_prediction_of_a_run(guidance_scale: float, tiny_pipe: StableDiffusionPipeline) -> None:
    """What DDIM itself predicts in its first step from the same noise."""
    request = replace(REQUEST, sampler="DDIM", negative_prompt="", guidance_scale=guidance_scale)
    seen: list[Any] = []
    generate(tiny_pipe, request, on_step=seen.append)
    first = seen[0]
    sample = first.latents[0].numpy()
    guess = one_step_guess(tiny_pipe, sample, int(first.timestep), request.prompt, guidance_scale)
    np.testing.assert_allclose(guess, first.predicted_x0[0].numpy(), rtol=0, atol=1e-5)


def test_every_sampler_can_be_resumed_somewhere_after_its_start(tiny_pipe: StableDiffusionPipeline) -> None:
    for sampler in SAMPLERS:
        assert len(resumable_steps(replace(REQUEST, sampler=sampler), tiny_pipe.scheduler.config)) >= 2, sampler


@pytest.mark.parametrize(
    "sampler", ["Euler", "DDIM", "Euler a", "DPM++ 2M Karras", "DPM++ 2M SDE", "PLMS", "UniPC", "DEIS"]
)
def test_a_run_is_resumed_from_its_trace(sampler: str, tiny_pipe: StableDiffusionPipeline) -> None:
    """x_t is kept exactly; the history of a multistep sampler is rounded to 16 bits, which moves pixels a little."""
    recorder = Recorder()
    generate(tiny_pipe, replace(REQUEST, sampler=sampler), recorder=recorder)
    (trace,) = recorder.traces
    run = run_from_trace(tiny_pipe, trace)
    resumed = resume_run(tiny_pipe, run, run.steps[-2], None, quiet)
    assert trace.picture is not None
    difference = np.abs(resumed.astype(int) - trace.picture)
    assert difference.max() <= (0 if sampler in ("Euler", "DDIM", "Euler a") else 2)


def test_a_trace_of_a_stopped_run_cannot_be_resumed(tiny_pipe: StableDiffusionPipeline) -> None:
    recorder, cancel = Recorder(), threading.Event()
    stop_at_two = lambda view: cancel.set() if view.step == 2 else None  # noqa: E731
    generate(tiny_pipe, REQUEST, on_step=stop_at_two, cancel=cancel, recorder=recorder)
    with pytest.raises(UserError) as refusal:
        run_from_trace(tiny_pipe, recorder.traces[0])
    assert refusal.value.key == "error.trace_stopped"
