"""A pipeline over the same weights in which some parts are others: for one run, so that the model's own stays."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def with_parts(pipe: Any, replaced: Mapping[str, Any]) -> Any:
    """A pipeline of the class of `pipe` with `replaced` instead of its own parts, and without a progress bar."""
    known = inspect.signature(type(pipe).__init__).parameters
    parts = pipe.components | {"safety_checker": None, "feature_extractor": None} | dict(replaced)
    # What a pipeline is made with beside its parts; no checker and no watermark, which would change pixels.
    options = {name: value for name, value in pipe.config.items() if name in known and name not in pipe.components}
    options |= {"requires_safety_checker": False, "add_watermarker": False}
    light = type(pipe)(**{name: value for name, value in (options | parts).items() if name in known})
    light.set_progress_bar_config(disable=True)
    return light
