from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import save_trace
from webui.errors import UserError
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.latent_walks import interpolate_latents, interpolate_seeds
from webui.tasks.latents import EncodeRequest, decode, encode, guess_x0
from webui.tasks.recordings import open_recording, record, resume
from webui.vision.pictures import PictureFile, picture_from_image

REQUEST = GenerateRequest("a cat", model="tiny", steps=3, seed=5, sampler="DPM++ 2M", width=16, height=16)


def picture(width: int, height: int) -> PictureFile:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return picture_from_image(f"{width}.png", Image.fromarray(pixels))


def test_a_picture_goes_there_and_back_and_takes_edits(studio: Studio, context: JobContext) -> None:
    found = encode(studio, EncodeRequest(picture(40, 30), "tiny", picture(20, 20)), context)
    assert found.original.shape == found.decoded.shape == (16, 16, 3)
    assert found.latent.shape == (4, 8, 8)
    assert found.factor == 2
    assert found.other is not None
    assert found.other.shape == found.latent.shape
    assert found.fitted.scaled
    assert found.fitted.cropped
    assert found.error.ssim is not None
    assert np.array_equal(decode(studio, "tiny", found.latent, context), found.decoded)
    between = interpolate_latents(studio, "tiny", found.latent, found.other, 4, context)
    assert len(between.slerp) == len(between.lerp) == 4
    assert np.array_equal(between.slerp[0], found.decoded)
    assert np.array_equal(between.slerp[-1], between.lerp[-1])
    kept = encode(studio, EncodeRequest(picture(41, 30), "tiny", keep_size=True), context)
    assert kept.original.shape == (30, 40, 3)
    guess = guess_x0(studio, replace(REQUEST, sampler="DDIM"), found.latent, found.latent, 400, context)
    assert guess.picture.shape == (16, 16, 3)
    assert guess.mean_squared_error > 0


def test_two_seeds_are_the_ends_of_their_strip(studio: Studio, context: JobContext) -> None:
    strip = interpolate_seeds(studio, REQUEST, 6, 3, context)
    for seed, end in ((5, 0), (6, -1)):
        assert np.array_equal(strip.slerp[end], record(studio, replace(REQUEST, seed=seed), context).run.picture)


def test_a_run_is_resumed_from_memory_and_from_its_file(studio: Studio, context: JobContext, tmp_path: Path) -> None:
    recording = record(studio, REQUEST, context)
    assert np.array_equal(resume(studio, recording, 1, None, context), recording.run.picture)
    recorder = Recorder()

    def draw(pipe: object) -> None:
        from webui.diffusion.generate import generate

        generate(pipe, recording.run.request, recorder=recorder)  # type: ignore[arg-type]

    studio.manager.run(studio.catalog.find("tiny", TXT2IMG).key(), draw)
    save_trace(recorder.traces[0], tmp_path / "run.safetensors")
    opened = open_recording(studio, tmp_path / "run.safetensors", context)
    assert opened.rounded
    assert np.array_equal(opened.run.picture, recording.run.picture)
    assert np.abs(resume(studio, opened, 1, None, context).astype(int) - recording.run.picture).max() <= 2


def test_mistakes_are_said(studio: Studio, context: JobContext) -> None:
    with pytest.raises(UserError, match="frames"):
        interpolate_seeds(studio, REQUEST, 6, 1, context)
    with pytest.raises(UserError, match="seed"):
        interpolate_seeds(studio, REQUEST, -2, 3, context)
    with pytest.raises(UserError, match="picture"):
        encode(studio, EncodeRequest(PictureFile("a.png", b"no picture"), "tiny"), context)
