"""A VAE from a file of its own through the txt2img task, beside the stock pipeline with that VAE put into it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.tasks.drawing import PATIENCE, draw_one, studio
from tests.tiny_checkpoint import (
    checkpoint_tensors,
    save_checkpoint,
    sdxl_tensors,
    tiny_sdxl,
    tiny_stable_diffusion,
    tiny_vae,
    vae_names,
)
from tests.tiny_families import save_family
from webui.api.routes import api_routes
from webui.cli import run
from webui.diffusion.generate import generate
from webui.diffusion.request import GenerateRequest
from webui.diffusion.request_values import request_from_values
from webui.errors import UserError
from webui.i18n import LANGUAGES
from webui.pages.saved_form import usable_values
from webui.runtime.entries import TXT2IMG
from webui.settings import Settings
from webui.store.infotext import parse_infotext, read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.files import other_files, usable_files
from webui.tasks.inside import TraceRequest, record_run
from webui.tasks.latents import request_to_draw
from webui.tasks.txt2img import prepare_plain_request, prepare_request

__all__ = ["studio"]

REQUEST = GenerateRequest("a cat", model="one", steps=2, seed=7, width=32, height=32, guidance_scale=4.0)
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def seeded_vae(**config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return tiny_vae(**config).eval()


def with_old_attention(name: str) -> str:
    for new, old in OLD_ATTENTION.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A1111's tree, with one VAE in all the layouts that there are, and some that cannot be used."""
    folder = tmp_path_factory.mktemp("data") / "models"
    save_checkpoint(folder / "one.safetensors", checkpoint_tensors(tiny_stable_diffusion(1), 1))
    save_checkpoint(folder / "big.safetensors", sdxl_tensors(tiny_sdxl()))
    vae = seeded_vae()
    original, own = vae_names(vae), vae.state_dict()
    files = {
        "smooth": original,
        "whole": {f"first_stage_model.{name}": tensor for name, tensor in original.items()},
        "diffusers": own,
        "older": {with_old_attention(name): tensor for name, tensor in own.items()},
        "sixteen": vae_names(seeded_vae(latent_channels=16)),
        "deep": vae_names(seeded_vae(block_out_channels=(32, 32, 64))),
        "holey": {name: tensor for name, tensor in original.items() if "decoder.mid.attn_1.q" not in name},
        "hollow": {**original, "decoder.conv_out.bias": torch.full((3,), torch.nan)},
        "headless": {name: tensor for name, tensor in original.items() if "encoder.down" not in name},
    }
    for name, tensors in files.items():
        save_checkpoint(folder / "VAE" / f"{name}.safetensors", tensors)
    (folder / "VAE" / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    return folder


def draw(studio: Studio, **fields: Any) -> tuple[Any, str]:
    return draw_one(studio, replace(REQUEST, **fields))


def stock(pipe: Any, model: str) -> Any:
    pipe.vae = seeded_vae(scaling_factor=pipe.vae.config.scaling_factor)
    return np.asarray(generate(pipe, replace(REQUEST, model=model)).pictures[0].image).astype(int)


def test_it_decodes_in_every_layout_and_the_models_own_comes_back(studio: Studio) -> None:
    own, infotext = draw(studio)
    assert "VAE" not in infotext
    expected = stock(tiny_stable_diffusion(1), "one")
    assert np.abs(own - expected).max() > 20
    before = studio.manager.memory_status().models_bytes
    for name in ("smooth", "whole", "diffusers", "older"):
        pixels, infotext = draw(studio, vae=name)
        assert np.abs(pixels - expected).max() <= 1, name
        assert f"VAE: {name}.safetensors, VAE hash: " in infotext
    assert np.array_equal(draw(studio)[0], own)
    loaded = studio.manager.status()
    assert [status.key.task for status in loaded].count(TXT2IMG) == 1  # nothing but the VAE is there again
    vaes = sum(status.size_bytes for status in loaded if status.key.task == "vae")
    assert studio.manager.memory_status().models_bytes == before + vaes


def test_the_latents_scale_is_the_models(studio: Studio) -> None:
    """A file does not say it: SDXL's latents are smaller than those of Stable Diffusion 1."""
    expected = stock(tiny_sdxl(), "big")
    pixels, _ = draw(studio, model="big", vae="VAE/smooth")
    assert np.abs(pixels - expected).max() <= 1
    assert np.abs(draw(studio, vae="smooth")[0] - stock(tiny_stable_diffusion(1), "one")).max() <= 1


def test_a_picture_says_which_it_was_and_is_drawn_and_recorded_again(studio: Studio) -> None:
    pixels, infotext = draw(studio, vae="smooth")
    found = parse_infotext(infotext)
    assert (found.ignored, other_files(studio, found)) == ((), ())
    again = found.over(GenerateRequest(""))
    assert again.vae == "smooth"
    assert request_from_values(asdict(again)) == again
    job = studio.jobs.submit(
        lambda context: record_run(studio, TraceRequest(again), context), owner="ann", kind="trace"
    )
    assert np.array_equal(job.result(PATIENCE).trace.picture.astype(int), pixels)
    (other,) = other_files(studio, replace(found, vae_hash="0" * 10))
    assert other.key == "infotext.vae_other"
    foreign = parse_infotext("a cat\nSteps: 2, Seed: 1, VAE hash: 0123456789, VAE: kl-f8.ckpt, Size: 32x32")
    assert foreign.values["vae"] == "kl-f8"
    assert [remark.key for remark in other_files(studio, foreign)] == ["error.weights_no_such"]
    assert "vae" not in usable_files(studio, foreign.values)
    kept = usable_values({"vae": "smooth", "prompt": "x"}, studio), usable_values({"vae": "gone"}, studio)
    assert kept == ({"vae": "smooth", "prompt": "x"}, {})


def test_the_command_line_draws_with_it(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--models-dir", str(models_dir), "--data-dir", str(tmp_path), "--out", str(tmp_path / "cat.png")]
    size = ["--width", "32", "--height", "32", "--steps", "1", "--seed", "7", "--model", "one"]
    assert run(["generate", "a cat", "--vae", "smooth", *size, *places, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["vae"] == "smooth"
    drawn = read_infotext(tmp_path / "cat.png")
    assert "VAE: smooth.safetensors, VAE hash: " in drawn

    traced = ["--out", str(tmp_path / "cat.safetensors"), "--image", str(tmp_path / "traced.png")]
    assert run(["trace", "a cat", "--vae", "smooth", *size, *places[:4], *traced]) == 0
    assert read_infotext(tmp_path / "traced.png") == drawn
    with Image.open(tmp_path / "traced.png") as picture, Image.open(tmp_path / "cat.png") as other:
        assert np.array_equal(np.asarray(picture), np.asarray(other))


def test_one_of_other_latents_is_refused_before_anything_is_loaded(models_dir: Path) -> None:
    folder = models_dir / "flow"  # a model in a folder, whose VAE is told by its configuration
    save_family("sd3", folder)
    opened = open_studio(Settings(data_dir=models_dir.parent, models_dir=models_dir, index_outputs=False))
    try:
        for vae, model, sampler, name in (
            ("sixteen", "one", "Euler", "latent_channels"),
            ("deep", "one", "Euler", "vae_scale_factor"),
            ("sixteen", "flow", "Flow Euler", "latent_channels"),
        ):
            with pytest.raises(UserError, match="vae_other_latents") as caught:
                prepare_request(opened, replace(REQUEST, model=model, sampler=sampler, vae=vae))
            assert (caught.value.values["name"], Path(caught.value.values["file"]).stem) == (name, vae)
        assert not opened.manager.status()
    finally:
        opened.close()
        shutil.rmtree(folder)


def test_programs_can_ask_for_the_files(studio: Studio) -> None:
    client = TestClient(Starlette(routes=api_routes(studio)))
    listed = {file["id"]: file for file in client.get("/api/v1/files").json()["files"]}
    assert {file["kind"] for file in listed.values()} == {"vae"}
    assert (listed["VAE/smooth"]["usable"], listed["VAE/old"]["usable"]) == (True, False)
    assert list(listed.values()) == client.get("/api/v1/files?kind=vae").json()["files"]
    assert client.get("/api/v1/files?kind=lora").json() == {"files": []}
    refused = client.get("/api/v1/files?kind=models")
    assert (refused.status_code, refused.json()["error"]["key"]) == (400, "error.unknown_file_kind")
    assert "inversion" in refused.json()["error"]["message"]


REFUSED = {
    "gone": "error.weights_no_such",
    "old": "error.weights_pickle",
    "sixteen": "error.vae_other_latents",
    "deep": "error.vae_other_latents",
    "holey": "error.weights_incomplete",
    "hollow": "error.weights_not_finite",
    "headless": "error.checkpoint_lacks",
}


def test_one_that_cannot_be_used_is_one_sentence(studio: Studio) -> None:
    before, _ = draw(studio)
    for name, key in REFUSED.items():
        with pytest.raises(UserError) as caught:
            draw(studio, vae=name)
        assert caught.value.key == key, name
        for language in LANGUAGES:
            sentence = studio.messages.error(language, caught.value)
            assert name in sentence
            assert "\n" not in sentence
    asked = request_to_draw(studio, "a cat", "one", 7, "DDIM", 2)
    with pytest.raises(UserError, match="vae_not_here"):
        prepare_plain_request(studio, replace(asked, vae="smooth"))
    assert np.array_equal(draw(studio)[0], before)
