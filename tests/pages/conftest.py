from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.settings import Settings
from webui.studio import Studio, open_studio


@pytest.fixture
def studio(tmp_path: Path, tiny_pipeline_folder: Path) -> Iterator[Studio]:
    """A studio over a folder of its own, with one tiny model."""
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    opened = open_studio(Settings(data_dir=tmp_path))
    yield opened
    opened.close()
