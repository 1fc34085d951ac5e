"""Real tiny models in a models folder that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def models_dir(tmp_path: Path, tiny_pipeline_folder: Path, tiny_clip_folder: Path) -> Path:
    """A models folder with a pipeline "tiny" and a CLIP "clip"."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_pipeline_folder, folder / "tiny")
    shutil.copytree(tiny_clip_folder, folder / "clip")
    return folder
