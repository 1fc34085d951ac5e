"""What the catalogue says a download takes, against what a pull chooses from a repository of that model's true size."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import serve_hub
from webui.runtime.download import Downloader
from webui.runtime.fullsize import FullSizeModel, full_size_models
from webui.runtime.hub_cache import HubModel
from webui.runtime.hub_files import HubFile, choose_files
from webui.runtime.known import known_models

SAVED_AS_FLOAT16 = "facebook/bart-large"
"""Its file on the Hub is smaller than its parameters in float32, so it says nothing here."""
SIZES = {
    known.id: (known.download_bytes, model)
    for known in known_models()
    for model in full_size_models().values()
    if model.like == known.id and known.download_bytes and known.id != SAVED_AS_FLOAT16
}


def model_index(model: FullSizeModel) -> dict[str, Any]:
    weights = {
        name: ["diffusers" if name in ("unet", "vae") else "transformers", part.class_name]
        for name, part in model.parts.items()
    }
    assert model.scheduler is not None
    return {
        "_class_name": model.pipeline,
        **weights,
        **{name: ["transformers", "CLIPTokenizer"] for name in model.tokenizers},
        "scheduler": ["diffusers", model.scheduler.class_name],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }


def repository(model: FullSizeModel) -> dict[str, int]:
    """File sizes as such repositories have them: every part in several formats and precisions, and more."""
    sizes = {"README.md": 10_000, "all-in-one.safetensors": 4 * model.parameters, "model.ckpt": 4 * model.parameters}
    for name, part in model.parts.items():
        folder = f"{name}/" if name else ""
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
        sizes |= {f"{folder}config.json": 1000, f"{folder}{stem}.safetensors": 4 * part.parameters + 100_000}
        for other in (f"{stem}.bin", "flax_model.msgpack", "model.onnx", "tf_model.h5"):
            sizes[f"{folder}{other}"] = 4 * part.parameters
        sizes[f"{folder}{stem}.fp16.safetensors"] = 2 * part.parameters + 100_000
    for name in model.tokenizers:
        sizes |= {f"{name}/vocab.json".lstrip("/"): 1_000_000, f"{name}/merges.txt".lstrip("/"): 500_000}
    if model.pipeline:
        sizes |= {"model_index.json": 600, "scheduler/scheduler_config.json": 400}
        sizes["safety_checker/model.safetensors"] = 1_200_000_000
    return sizes


@pytest.mark.parametrize("name", SIZES)
def test_the_size_is_that_of_what_would_be_chosen(name: str) -> None:
    said, model = SIZES[name]
    files = [HubFile(path, size) for path, size in repository(model).items()]
    chosen = choose_files(name, files, model_index(model) if model.pipeline else None, half=False)
    assert sum(file.size for file in chosen) == pytest.approx(said, rel=0.02)


def test_a_pull_plans_that_size_from_the_hubs_listing(tmp_path: Path) -> None:
    name = "stabilityai/stable-diffusion-xl-base-1.0"
    said, model = SIZES[name]
    with serve_hub() as hub:
        index = json.dumps(model_index(model)).encode()
        hub.repos[name] = {path: index if path == "model_index.json" else b"{}" for path in repository(model)}
        hub.sizes[name] = repository(model) | {"model_index.json": len(index)}
        cache = tmp_path / "hf" / "hub"
        roomy = Downloader(cache, os.environ | hub.environment(cache), pause=0.01, free_bytes=lambda _: 10**12)
        plan = roomy.plan(HubModel(name))
        assert plan.total_bytes == pytest.approx(said, rel=0.02)
        assert plan.total_bytes - plan.missing_bytes == len(index)  # which was looked at
        assert roomy.plan(HubModel(name), half=True).total_bytes == pytest.approx(said / 2, rel=0.02)
