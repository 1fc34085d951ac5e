"""All current vectors on a map: principal components in two dimensions, and the gap between pictures and texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webui.clip.similarity import Matrix, unit


@dataclass(frozen=True, slots=True, eq=False)
class VectorMap:
    """`pictures` (P, 2) and `texts` (T, 2) in the plane of the two main components, the mean at the origin.

    `explained_variance` is the share of the total variance along each axis (0..1); what the plane does not show is the
    rest. `modality_gap` is the distance between the mean picture and the mean text on the unit sphere, 0..2 (Liang et
    al. 2022, "Mind the Gap", eq. 1); None unless there are both. `gap_line` are the two means in the plane.
    """

    pictures: Matrix
    texts: Matrix
    explained_variance: tuple[float, float]
    modality_gap: float | None
    gap_line: tuple[tuple[float, float], tuple[float, float]] | None


def project(pictures: npt.NDArray[np.float32], texts: npt.NDArray[np.float32]) -> VectorMap:
    """PCA of the normalised vectors, (P, D) and (T, D) together.

    An axis is turned so that its largest component is positive, so equal vectors give an equal map. One vector alone
    lies at the origin with no variance to explain.
    """
    units = np.concatenate([unit(pictures), unit(texts)])
    count = len(pictures)
    plane, shares = _principal_plane(units)
    gap, line = None, None
    if count and len(texts):
        gap = float(np.linalg.norm(units[:count].mean(axis=0) - units[count:].mean(axis=0)))
        picture_mean, text_mean = plane[:count].mean(axis=0), plane[count:].mean(axis=0)
        line = ((float(picture_mean[0]), float(picture_mean[1])), (float(text_mean[0]), float(text_mean[1])))
    return VectorMap(plane[:count], plane[count:], shares, gap, line)


def _principal_plane(units: Matrix) -> tuple[Matrix, tuple[float, float]]:
    """(N, 2) coordinates and the share of the variance along both axes."""
    if len(units) < 2:
        return np.zeros((len(units), 2)), (0.0, 0.0)
    centred = units - units.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1))[:, 0]
    scores = left * sizes * np.where(signs == 0, 1.0, signs)
    total = float((sizes**2).sum())
    shares = sizes**2 / total if total > 1e-18 else np.zeros_like(sizes)
    plane = np.zeros((len(units), 2))
    plane[:, : min(2, scores.shape[1])] = scores[:, :2]
    padded = np.zeros(2)
    padded[: min(2, len(shares))] = shares[:2]
    return plane, (float(padded[0]), float(padded[1]))
