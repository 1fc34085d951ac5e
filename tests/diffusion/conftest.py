"""A tiny pipeline with random weights, loaded once a worker; nothing may change it."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

from webui.diffusion.generate import generate
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.runtime.shared_tokenizer import share


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """A stock pipeline, with the tokenizer made fit for several threads as the manager does it."""
    pipe: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, safety_checker=None
    )
    share(pipe.tokenizer)
    return pipe


@pytest.fixture(scope="session")
def tiny_pipe(tiny_pipeline_folder: Path) -> StableDiffusionPipeline:
    return load_pipeline(tiny_pipeline_folder)


@pytest.fixture(scope="session")
def stock_pipe(tiny_pipeline_folder: Path) -> StableDiffusionPipeline:
    """The same weights in a pipeline of its own, to be used as diffusers' documentation does."""
    pipe = load_pipeline(tiny_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def recorded(pipe: StableDiffusionPipeline, request: GenerateRequest, *, all_heads: bool = False) -> Trace:
    """The trace of the one picture that `request` asks for."""
    recorder = Recorder(all_heads=all_heads)
    generate(pipe, request, recorder=recorder)
    (trace,) = recorder.traces
    return trace
