"""The guidance meter and the comparison of two runs, on real runs of the tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from tests.diffusion.conftest import load_pipeline, recorded
from webui.diffusion.compare import compare_runs
from webui.diffusion.guidance import alpha_latents, guidance_meter, noise_prediction
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError

TINY = GenerateRequest("a cat", negative_prompt="a dog", steps=6, seed=7, guidance_scale=4.0)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_the_meter_reads_the_noise_whatever_the_space(sampler: str, tiny_pipe: StableDiffusionPipeline) -> None:
    trace = recorded(tiny_pipe, replace(TINY, sampler=sampler))
    meter = guidance_meter(trace)
    assert meter is not None
    assert trace.uncond is not None
    for call in range(6):
        cond, uncond = (half[call].astype(float) for half in (trace.cond, trace.uncond))
        norm = np.linalg.norm
        assert meter.ratio[call] == pytest.approx(norm(cond - uncond) / norm(uncond), rel=1e-3)
        assert meter.cosine[call] == pytest.approx((cond * uncond).sum() / norm(cond) / norm(uncond), abs=1e-4)
        assert meter.stretch[call] == pytest.approx(norm(uncond + 4 * (cond - uncond)) / norm(cond), rel=1e-3)
    assert meter.difference.shape == (6, 8, 8)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_v_is_turned_into_noise(sampler: str, tiny_pipeline_folder: Path) -> None:
    """x_t = sqrt(a) x0 + sqrt(1 - a) eps must hold for the x0 that was recorded."""
    pipe = load_pipeline(tiny_pipeline_folder)
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    trace = recorded(pipe, replace(TINY, sampler=sampler))
    for call, step in enumerate(trace.header.steps[:-1]):
        noise = noise_prediction(trace, call, trace.guided(call))
        a = step.alpha_cumprod
        rebuilt = np.sqrt(a) * trace.predicted_x0[call].astype(np.float32) + np.sqrt(1 - a) * noise
        np.testing.assert_allclose(rebuilt, alpha_latents(trace, call), atol=0.03)


def test_without_guidance_there_is_no_meter(tiny_pipe: StableDiffusionPipeline) -> None:
    assert guidance_meter(recorded(tiny_pipe, replace(TINY, guidance_scale=1.0))) is None


def test_equal_runs_never_part(tiny_pipe: StableDiffusionPipeline) -> None:
    one = recorded(tiny_pipe, TINY)
    found = compare_runs(one, one)
    assert found.parting is None
    assert not found.distance.any()
    assert not found.difference.any()
    assert np.allclose(found.paths[0], found.paths[1])


def test_another_cfg_starts_alike_and_parts(tiny_pipe: StableDiffusionPipeline) -> None:
    one, other = (recorded(tiny_pipe, replace(TINY, guidance_scale=scale)) for scale in (1.0, 12.0))
    found = compare_runs(one, other, epsilon=1e-3)
    assert found.distance[0] == 0, "the same seed"
    assert found.parting is not None
    assert found.parting >= 1
    assert (found.distance[: found.parting] <= 1e-3).all()
    assert found.distance[found.parting] > 1e-3
    assert compare_runs(one, other, epsilon=100.0).parting is None


def test_the_plane_is_the_best_one(tiny_pipe: StableDiffusionPipeline) -> None:
    one, other = (recorded(tiny_pipe, replace(TINY, seed=seed)) for seed in (1, 2))
    found = compare_runs(one, other)
    points = np.concatenate([[alpha_latents(t, call).ravel() for call in range(6)] for t in (one, other)])
    centred = points - points.mean(axis=0)
    variances = np.sort(np.linalg.eigvalsh(centred @ centred.T))[::-1]
    np.testing.assert_allclose(found.explained, variances[:2] / variances.sum(), rtol=1e-3)
    flat = np.concatenate(found.paths)
    np.testing.assert_allclose((flat**2).sum(axis=0), variances[:2], rtol=1e-3)


def test_runs_of_other_samplers_and_lengths_are_set_against_each_other(tiny_pipe: StableDiffusionPipeline) -> None:
    one, other = (recorded(tiny_pipe, replace(TINY, sampler=name)) for name in ("Euler", "Heun"))
    found = compare_runs(one, other)
    assert len(found.pairs) == 11
    assert found.pairs[0].tolist() == [0, 0]
    assert found.pairs[-1].tolist() == [5, 10]
    assert found.distance[0] < 1e-3, "the same noise, though Euler's x_T is 15 times as large"


def test_runs_of_other_sizes_are_refused(tiny_pipe: StableDiffusionPipeline) -> None:
    one, other = (recorded(tiny_pipe, replace(TINY, steps=1, width=width)) for width in (16, 32))
    with pytest.raises(UserError) as caught:
        compare_runs(one, other)
    assert caught.value.key == "error.runs_of_other_sizes"
