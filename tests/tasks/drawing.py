"""One picture through the txt2img task."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.runtime.entries import TXT2IMG
from webui.store.infotext import read_infotext
from webui.studio import Studio
from webui.tasks.txt2img import draw_pictures

PATIENCE: Final = 120.0


def draw_one(studio: Studio, asked: GenerateRequest) -> tuple[Any, str]:
    """The picture as an int array (height, width, 3), and what its file says of it."""
    job = studio.jobs.submit(lambda context: draw_pictures(studio, asked, context), owner="ann", kind=TXT2IMG)
    (picture,) = job.result(PATIENCE).pictures
    with Image.open(picture.path) as image:
        return np.asarray(image).astype(int), read_infotext(picture.path)
