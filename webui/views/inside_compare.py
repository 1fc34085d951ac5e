"""Two recorded runs, or a run and what the model answers about it, for the browser. Data in, data out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from webui.diffusion.compare import RunComparison
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import THRESHOLD
from webui.views.inside_payload import picture_url

if TYPE_CHECKING:
    from webui.diffusion.ablation import Ablation


def comparison_payload(calls: int, found: RunComparison) -> dict[str, Any]:
    """What the page needs beside both runs' own payloads; one entry for each of the first run's `calls`."""
    rows = [int(np.flatnonzero(found.pairs[:, 0] == call)[0]) for call in range(calls)]
    return {
        "pairs": [int(found.pairs[row, 1]) for row in rows],
        "parted": [round(float(found.distance[row]), 5) for row in rows],
        "paths": [[[round(float(x), 3), round(float(y), 3)] for x, y in path] for path in found.paths],
        "explained": [round(share, 4) for share in found.explained],
    }


def ablation_payload(trace: Trace, found: Ablation) -> dict[str, Any]:
    """The two maps and the two pictures of a word left out."""
    height, width = found.change.shape
    return {
        "word": found.word, "h": height, "w": width, "threshold": THRESHOLD, "correlation": found.correlation,
        "iou": found.overlap, "attention": _list(found.attention), "change": _list(found.change),
        "with": None if trace.picture is None else picture_url(trace.picture), "without": picture_url(found.picture),
    }  # fmt: skip


def lock_in_payload(texts: tuple[str, ...], scores: np.ndarray, call: int | None) -> dict[str, Any]:
    """Cosines (S, T) of each call's x0 with the texts; `locked` counts calls from 1."""
    rows = [[round(float(value), 4) for value in row] for row in scores]
    return {"texts": list(texts), "scores": rows, "locked": None if call is None else call + 1}


def _list(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values.reshape(-1)]
