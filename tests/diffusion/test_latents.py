from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from webui.diffusion.latents import LatentRGB, colour_chart, fit_latent_rgb, noise_level, predicted_x0
from webui.diffusion.previews import PreviewMaps
from webui.diffusion.samplers import SAMPLERS, SHIPPED_SAMPLERS


def scheduler_for(name: str, prediction_type: str, config: Any, steps: int = 6) -> Any:
    scheduler = SHIPPED_SAMPLERS.build(name, {**config, "prediction_type": prediction_type})
    scheduler.set_timesteps(steps)
    return scheduler


PREDICTION_TYPES = ["epsilon", "v_prediction"]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_predicted_x0_is_the_schedulers_own(
    name: str, prediction_type: str, tiny_pipe: StableDiffusionPipeline
) -> None:
    """Where the scheduler tells its x0 (in its output, or as DPM-Solver++'s converted output), ours is the same."""
    scheduler = scheduler_for(name, prediction_type, tiny_pipe.scheduler.config)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    compared = 0
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(sample, timestep)
        output = torch.randn(sample.shape, generator=generator)
        ours = predicted_x0(scheduler, SAMPLERS[name].space, output, timestep, sample)
        options = {"generator": generator} if "generator" in type(scheduler).step.__annotations__ else {}
        stepped = scheduler.step(output, timestep, sample, **options)
        theirs = getattr(stepped, "pred_original_sample", None)
        if theirs is None and name.startswith(("DPM++", "UniPC")):
            theirs = scheduler.model_outputs[-1]
        if theirs is not None:
            compared += 1
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(sample.abs().max()))
        sample = stepped.prev_sample
    tells_nothing = name in ("PLMS", "DEIS")
    assert compared == (0 if tells_nothing else len(scheduler.timesteps))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_model_that_knows_the_picture_leads_every_sampler_to_it(
    name: str, prediction_type: str, tiny_pipe: StableDiffusionPipeline
) -> None:
    """An oracle that answers for the noise level we believe in: a wrong belief would lead elsewhere."""
    scheduler = scheduler_for(name, prediction_type, tiny_pipe.scheduler.config, steps=12)
    generator = torch.Generator().manual_seed(1)
    picture = torch.randn(1, 4, 8, 8, generator=generator)
    sample = torch.randn(picture.shape, generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(sample, timestep)
        sigma = noise_level(scheduler, timestep)
        root = (sigma**2 + 1) ** 0.5
        unscaled = sample if SAMPLERS[name].space == "sigma" else sample * root  # x = x0 + sigma eps
        noise = (unscaled - picture) / sigma
        output = noise if prediction_type == "epsilon" else (noise - sigma * picture) / root
        told = predicted_x0(scheduler, SAMPLERS[name].space, output, timestep, sample)
        torch.testing.assert_close(told, picture, rtol=0, atol=1e-3)
        options = {"generator": generator} if "generator" in type(scheduler).step.__annotations__ else {}
        sample = scheduler.step(output, timestep, sample, **options).prev_sample
    # Stable Diffusion's own samplers end at the first training step's noise, not at none.
    remaining = 0.05 if name in ("DDIM", "PLMS", "DDPM", "DEIS") else 1e-3
    assert (sample - picture).std() < remaining * 2


def test_an_unknown_prediction_type_is_not_guessed(tiny_pipe: StableDiffusionPipeline) -> None:
    scheduler = scheduler_for("Euler", "epsilon", tiny_pipe.scheduler.config)
    scheduler.register_to_config(prediction_type="sample")
    noise = torch.randn(1, 4, 8, 8)
    with pytest.raises(NotImplementedError):
        predicted_x0(scheduler, "sigma", noise, scheduler.timesteps[0], noise)


def test_the_chart_holds_64_different_colours() -> None:
    chart = colour_chart()
    assert chart.shape == (128, 128, 3)
    assert (chart.min(), chart.max()) == (0.0, 1.0)
    assert len(np.unique(chart.reshape(-1, 3), axis=0)) == 64
    assert np.array_equal(chart, colour_chart())


class LinearVAE(torch.nn.Module):
    """A VAE whose latents are linear in the mean colour of 8x8 pixels: the fit must find its inverse."""

    mixing = torch.tensor([[0.5, -0.2, 0.1], [0.3, 0.8, 0.0], [-0.4, 0.1, 0.9], [0.2, 0.2, -0.3]])
    dtype = torch.float32

    class config:  # noqa: N801, D106
        scaling_factor = 0.5

    def encode(self, pixels: torch.Tensor) -> Any:
        mean = torch.nn.functional.avg_pool2d(pixels, 8)
        latents = torch.einsum("dc,bchw->bdhw", self.mixing, mean) + 0.25

        class Distribution:
            def mode(self) -> torch.Tensor:
                return latents

        class Encoded:
            latent_dist = Distribution()

        return Encoded()


class LinearPipe:
    vae = LinearVAE()
    _execution_device = torch.device("cpu")


def test_the_fit_finds_a_linear_decoder_exactly() -> None:
    latent_rgb = fit_latent_rgb(LinearPipe())  # type: ignore[arg-type]
    assert latent_rgb.factors.shape == (5, 3)
    assert latent_rgb.r_squared == pytest.approx(1.0, abs=1e-6)
    colour = torch.tensor([0.9, 0.1, 0.4])
    pixels = colour.view(1, 3, 1, 1).expand(1, 3, 16, 24) * 2 - 1
    latents = LinearPipe.vae.encode(pixels).latent_dist.mode() * 0.5
    (picture,) = latent_rgb.image(latents)
    assert picture.size == (3, 2)
    assert np.abs(np.asarray(picture, dtype=int) - [230, 26, 102]).max() <= 1


def test_the_fit_on_trained_weights_explains_most_of_the_colour(emoji_pipe: StableDiffusionPipeline) -> None:
    """A narrow VAE packs colour less linearly than Stable Diffusion's: 0.64 when this was written."""
    latent_rgb = fit_latent_rgb(emoji_pipe)
    assert 0.5 < latent_rgb.r_squared <= 1


@pytest.fixture(scope="module")
def emoji_pipe(emoji_suite: Any) -> StableDiffusionPipeline:
    folder = next(emoji_suite.glob("*/model_index.json")).parent
    return StableDiffusionPipeline.from_pretrained(folder, local_files_only=True).to(torch.float32)


def test_previews_are_small_jpegs_of_the_pictures_shape() -> None:
    latent_rgb = LatentRGB(np.eye(5, 3, dtype=np.float32), 1.0)
    jpegs = latent_rgb.jpegs(torch.rand(2, 4, 64, 96), width=768, height=512)
    assert len(jpegs) == 2
    for jpeg in jpegs:
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (256, 171)
        assert len(jpeg) < 64 * 1024
    (small,) = latent_rgb.jpegs(torch.rand(1, 4, 16, 16), width=128, height=128)
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (128, 128)


def test_a_map_takes_half_precision_and_values_out_of_range() -> None:
    latent_rgb = LatentRGB(np.eye(5, 3, dtype=np.float32), 1.0)
    latents = torch.tensor([-3.0, 0.5, 9.0, 0.0], dtype=torch.float16).view(1, 4, 1, 1)
    (picture,) = latent_rgb.image(latents)
    assert picture.getpixel((0, 0)) == (0, 128, 255)


def test_a_models_map_is_fitted_once(tiny_pipe: StableDiffusionPipeline) -> None:
    maps = PreviewMaps()
    assert maps.of("a", tiny_pipe) is maps.of("a", tiny_pipe)
    assert maps.of("a", tiny_pipe) is not maps.of("b", tiny_pipe)
