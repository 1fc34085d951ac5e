"""Two people draw at once, each on an accelerator of their own."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from PIL import Image

from tests.runtime.dummies import FakeHardware
from tests.tiny import save_tiny_pipeline
from webui.diffusion.request import GenerateRequest
from webui.runtime.manager import ModelManager
from webui.runtime.placement import DEVICE_RESERVE_BYTES
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.txt2img import draw_pictures

PATIENCE = 120.0
REQUESTS = tuple(
    GenerateRequest("a cat", model="tiny", sampler="Euler", steps=2, seed=seed, width=16, height=16) for seed in (3, 4)
)


def drawn(studio: Studio, *requests: GenerateRequest) -> list[np.ndarray]:
    """A job of somebody else for each, all submitted before the first is waited for."""
    jobs = [
        studio.jobs.submit(lambda context, asked=asked: draw_pictures(studio, asked, context), owner=owner, kind="test")
        for owner, asked in zip(("ann", "ben"), requests, strict=False)
    ]
    pictures = [job.result(PATIENCE).pictures[0].path for job in jobs]
    return [np.asarray(Image.open(path)) for path in pictures]


def test_two_people_draw_at_once_with_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_pipeline(tmp_path / "models" / "tiny")
    opened = open_studio(Settings(data_dir=tmp_path, index_outputs=False))
    hardware = FakeHardware(dict.fromkeys(("cuda:0", "cuda:1"), DEVICE_RESERVE_BYTES + 2**30))
    manager = ModelManager(
        opened.catalog.roots,
        2**40,
        hardware=hardware,
        on_loaded=lambda _key, _seconds: opened.jobs.serve_on(manager.accelerators()),
        device_here=opened.jobs.accelerator_here,
    )
    hardware.manager = manager
    studio = replace(opened, manager=manager)
    alone = [drawn(studio, request)[0] for request in REQUESTS]

    together, own = threading.Barrier(2), UNet2DConditionModel.forward
    at_work: set[UNet2DConditionModel] = set()

    def forward(self: UNet2DConditionModel, *arguments: Any, **options: Any) -> Any:
        at_work.add(self)
        together.wait(PATIENCE)  # neither goes on before the other computes too
        return own(self, *arguments, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    both = drawn(studio, *REQUESTS)
    assert len(at_work) == 2, "a U-Net each"
    assert sorted(status.device for status in manager.status()) == ["cuda:0", "cuda:1"]
    for ours, theirs in zip(both, alone, strict=True):
        assert np.array_equal(ours, theirs)
    opened.close()
    manager.close()
