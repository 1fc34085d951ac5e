"""One picture through the txt2img task, and the studio of test modules with a models folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.runtime.entries import TXT2IMG
from webui.settings import Settings
from webui.store.infotext import read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.txt2img import draw_pictures

PATIENCE: Final = 120.0


@pytest.fixture(scope="module")
def studio(models_dir: Path) -> Iterator[Studio]:
    """One for all tests of a module, over its `models_dir`: each leaves the model as it was, or the next one fails."""
    opened = open_studio(Settings(data_dir=models_dir.parent, models_dir=models_dir, index_outputs=False))
    yield opened
    opened.close()


def draw_one(studio: Studio, asked: GenerateRequest) -> tuple[Any, str]:
    """The picture as an int array (height, width, 3), and what its file says of it."""
    job = studio.jobs.submit(lambda context: draw_pictures(studio, asked, context), owner="ann", kind=TXT2IMG)
    (picture,) = job.result(PATIENCE).pictures
    with Image.open(picture.path) as image:
        return np.asarray(image).astype(int), read_infotext(picture.path)
