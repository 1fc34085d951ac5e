"""A tiny pipeline with random weights, loaded once a worker; nothing may change it."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)


@pytest.fixture(scope="session")
def tiny_pipe(tiny_pipeline_folder: Path) -> StableDiffusionPipeline:
    return load_pipeline(tiny_pipeline_folder)


@pytest.fixture(scope="session")
def stock_pipe(tiny_pipeline_folder: Path) -> StableDiffusionPipeline:
    """The same weights in a pipeline of its own, to be used as diffusers' documentation does."""
    pipe = load_pipeline(tiny_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe
