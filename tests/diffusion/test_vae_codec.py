from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from webui.diffusion.latent_colours import cell_colours, channel_facts, fit_linear_colours
from webui.diffusion.vae_codec import decode_latent, encode_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_encoding_and_decoding_are_the_stock_vaes(stock_pipe: StableDiffusionPipeline) -> None:
    vae = stock_pipe.vae
    latent = encode_picture(stock_pipe, Image.fromarray(PIXELS))
    with torch.no_grad():
        given = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float() / 127.5 - 1
        theirs = vae.encode(given).latent_dist.mean * vae.config.scaling_factor
        decoded = vae.decode(theirs / vae.config.scaling_factor).sample
    assert latent.shape == (4, 8, 12)
    np.testing.assert_allclose(latent, theirs[0].numpy(), atol=1e-5)
    wanted = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    got = decode_latent(stock_pipe, latent)
    assert got.shape == PIXELS.shape
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1, "rounding of values that differ in the sixth digit"


def test_cells_have_the_mean_colour_of_their_pixels() -> None:
    means = cell_colours(PIXELS, 8, 12)
    assert means[3, 5] == pytest.approx(PIXELS[6:8, 10:12].mean(axis=(0, 1)) / 255)


def test_a_linear_latent_is_fitted_exactly_and_noise_is_not() -> None:
    latent = np.random.default_rng(1).normal(size=(4, 8, 12)).astype(np.float32)
    mixing = np.random.default_rng(2).normal(size=(4, 3))
    colours = latent.transpose(1, 2, 0) @ mixing + 0.5
    fit = fit_linear_colours(latent, colours)
    assert fit.r_squared == pytest.approx(1)
    np.testing.assert_allclose(fit.factors, [*mixing, [0.5] * 3], atol=1e-5)
    assert fit.explained(latent, colours) == pytest.approx(1)
    noise = np.random.default_rng(3).uniform(size=(8, 12, 3))
    assert fit_linear_colours(latent, noise).r_squared < 0.4
    assert fit.explained(latent, noise) < 0
    assert fit_linear_colours(latent, np.full((8, 12, 3), 0.25)).r_squared == 1


def test_the_facts_of_a_channel() -> None:
    latent = np.zeros((4, 2, 3), np.float32)
    latent[1, 1, 2] = -6
    facts = channel_facts(latent)[1]
    assert (facts.minimum, facts.maximum, facts.mean, facts.peak) == (-6, 0, -1, (2, 1))
    assert facts.deviation == pytest.approx(latent[1].std())
