"""Two recorded runs side by side: where their latents part, and both paths in one plane; numpy on two `Trace`s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from webui.diffusion.guidance import alpha_latents
from webui.diffusion.trace import Trace
from webui.errors import UserError

DEFAULT_EPSILON: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class RunComparison:
    """`pairs` (N, 2) are the U-Net calls that are set against each other, from 0; where one run has more calls, the
    nearest share of the way is taken.

    `distance` (N,) is |x_t - x_t'| over the mean of their norms, both in "alpha" scaling; `difference` (N, h, w)
    float32 the mean |x0 - x0'| over the channels. `parting` counts the pairs: the first whose distance is above
    `epsilon`, None if there is none. `paths` are the two runs' x_t as points (S, 2) of the plane that a principal
    component analysis of all of both fits best, and `explained` (2,) the shares of the variance along its axes.
    """

    pairs: np.ndarray
    distance: np.ndarray
    difference: np.ndarray
    epsilon: float
    parting: int | None
    paths: tuple[np.ndarray, np.ndarray]
    explained: tuple[float, float]


def compare_runs(one: Trace, other: Trace, epsilon: float = DEFAULT_EPSILON) -> RunComparison:
    """Compare two runs over latents of the same size. Raises UserError when the sizes differ."""
    if one.latents.shape[1:] != other.latents.shape[1:]:
        sizes = [f"{trace.header.shapes.width} x {trace.header.shapes.height}" for trace in (one, other)]
        raise UserError("error.runs_of_other_sizes", first=sizes[0], second=sizes[1])
    points = [np.stack([alpha_latents(t, call) for call in range(len(t.latents))]) for t in (one, other)]
    pairs = _pairs(len(points[0]), len(points[1]))
    mine, theirs = points[0][pairs[:, 0]], points[1][pairs[:, 1]]
    distance = _norms(mine - theirs) / np.maximum((_norms(mine) + _norms(theirs)) / 2, np.finfo(np.float32).tiny)
    believed = one.predicted_x0[pairs[:, 0]].astype(np.float32) - other.predicted_x0[pairs[:, 1]].astype(np.float32)
    beyond = np.flatnonzero(distance > epsilon)
    paths, explained = _plane(points[0], points[1])
    return RunComparison(
        pairs=pairs,
        distance=distance,
        difference=np.abs(believed).mean(axis=1),
        epsilon=epsilon,
        parting=int(beyond[0]) if len(beyond) else None,
        paths=paths,
        explained=explained,
    )


def _pairs(first: int, second: int) -> np.ndarray:
    """Calls at the same share of the way; the longer run's are all there."""
    longer = max(first, second)
    return np.stack([np.linspace(0, count - 1, longer).round().astype(int) for count in (first, second)], axis=1)


def _norms(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(points.reshape(len(points), -1).astype(np.float64), axis=1))


def _plane(one: np.ndarray, other: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[float, float]]:
    """Principal component analysis by singular values; with fewer points than numbers it is their Gram matrix's."""
    points = np.concatenate([one, other]).reshape(len(one) + len(other), -1).astype(np.float64)
    centred = points - points.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    flat = left[:, :2] * values[:2]
    total = float((values**2).sum())
    shares = (values[:2] ** 2 / total) if total else np.zeros(2)
    return (flat[: len(one)], flat[len(one) :]), (float(shares[0]), float(shares[1]))
