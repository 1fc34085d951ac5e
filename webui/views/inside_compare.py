"""Two recorded runs side by side: where they part, and both paths in one plane. Data in, data for the browser out."""

from __future__ import annotations

from typing import Any

import numpy as np

from webui.diffusion.trace import Trace
from webui.errors import UserError


def comparison_payload(first: Trace, second: Trace) -> dict[str, Any]:
    """What the page needs beside both runs' own payloads.

    `pairs[i]` is the U-Net call of the second run whose noise is nearest to that of call i of the first. `parted[i]` is
    the relative distance |x0 - x0'| / |x0| of the two predictions there, which does not depend on the scaling of the
    samplers' latents. `paths` are both runs' x0 in the plane of the first two principal components of all of them
    together, `explained` the variance that each of the two explains. Raises UserError for latents of different sizes.
    """
    one, other = first.header.shapes, second.header.shapes
    if (one.channels, one.latent_height, one.latent_width) != (other.channels, other.latent_height, other.latent_width):
        raise UserError(
            "error.compare_sizes", first=f"{one.width}x{one.height}", second=f"{other.width}x{other.height}"
        )
    pairs = paired_calls(first, second)
    x0, rival = _flat(first), _flat(second)
    distance = np.linalg.norm(x0 - rival[pairs], axis=1) / np.maximum(np.linalg.norm(x0, axis=1), 1e-12)
    paths, explained = principal_plane(x0, rival)
    return {
        "pairs": [int(pair) for pair in pairs],
        "parted": [round(float(value), 5) for value in distance],
        "paths": [[[round(float(x), 3), round(float(y), 3)] for x, y in path] for path in paths],
        "explained": [round(float(share), 4) for share in explained],
    }


def paired_calls(first: Trace, second: Trace) -> np.ndarray:
    """For each call of `first` the call of `second` at the nearest noise level (in log sigma); the first of equals."""
    one = np.log([max(step.sigma, 1e-6) for step in first.header.steps])
    other = np.log([max(step.sigma, 1e-6) for step in second.header.steps])
    if len(one) == len(other) and np.allclose(one, other, atol=1e-4):
        return np.arange(len(one))
    return np.abs(one[:, None] - other[None, :]).argmin(axis=1)


def principal_plane(*paths: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Each (S, D) path in the plane of the first two principal components of all points, and their variance shares."""
    points = np.concatenate(paths)
    centred = points - points.mean(axis=0)
    # S is far below D, so the small Gram matrix has all there is to know.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    order = np.argsort(values)[::-1][:2]
    total = max(float(values.sum()), 1e-12)
    placed = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    cuts = np.cumsum([len(path) for path in paths])[:-1]
    return tuple(np.split(placed, cuts)), np.maximum(values[order], 0) / total


def _flat(trace: Trace) -> np.ndarray:
    points: np.ndarray = trace.predicted_x0.reshape(len(trace.predicted_x0), -1).astype(np.float32)
    return points
