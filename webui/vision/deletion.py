"""What an explanation is worth: paint its patches over, the most relevant first, and see the score fall.

A relevance map is an illustration; the claim is this curve: the score has to fall faster than when patches go in random
order. The score is a function, so CLIP's cosine and ViT's probability are checked alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.similarity import Matrix
from webui.clip.watch import UNWATCHED, Watch

Score = Callable[[torch.Tensor], npt.NDArray[np.floating]]
"""(B, 3, H, W) pixels as the model reads them -> (B,) scores."""


@dataclass(frozen=True, slots=True, eq=False)
class DeletionCurve:
    """The score against the share of patches painted over.

    `shares` (S,) runs from 0 to 1; `relevant` (S,) has the most relevant patches removed first, `random` (R, S) is one
    row a random order, `others` (M, S) one row for each further map that was tried. The areas are under the curves
    (trapezoids over shares 0..1), lower is better: the explanation holds when `relevant_area` is below `random_area`,
    the mean over the orders.
    """

    shares: Matrix
    relevant: Matrix
    random: Matrix
    others: Matrix = field(default_factory=lambda: np.empty((0, 0)))

    def area(self, curve: Matrix) -> float:
        """Area under a curve (S,)."""
        return float(np.trapezoid(curve, self.shares))

    @property
    def relevant_area(self) -> float:
        """Area under `relevant`."""
        return self.area(self.relevant)

    @property
    def random_area(self) -> float:
        """Area under the mean of `random`."""
        return self.area(self.random.mean(axis=0))

    @property
    def holds(self) -> bool:
        """Whether relevance found what the score rests on better than chance."""
        return self.relevant_area < self.random_area


def measure_deletion(
    score: Score,
    pixel_values: torch.Tensor,
    relevance: Matrix,
    *,
    others: Sequence[Matrix] = (),
    steps: int = 16,
    random_orders: int = 4,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> DeletionCurve:
    """Paint patches of `pixel_values` (3, H, W) over in its median colour, `relevance` (rows, columns) first.

    Beside it, `random_orders` random orders, and the orders of `others`, maps of the same shape. At most `steps` + 1
    points from nothing to everything removed.
    """
    rows, columns = relevance.shape
    count = rows * columns
    counts = np.unique(np.linspace(0, count, min(steps, count) + 1).round().astype(int))
    generator = np.random.default_rng(seed)
    orders = [np.argsort(-relevance.ravel(), kind="stable")]
    orders += [generator.permutation(count) for _ in range(random_orders)]
    orders += [np.argsort(-other.ravel(), kind="stable") for other in others]
    curves = np.empty((len(orders), len(counts)))
    for column, removed in enumerate(counts):
        watch.check()
        batch = torch.stack([_without(pixel_values, order[:removed], rows, columns) for order in orders])
        curves[:, column] = score(batch)
        watch.progress(column + 1, len(counts), "phase.deletion_curve")
    first_other = 1 + random_orders
    return DeletionCurve(counts / count, curves[0], curves[1:first_other], curves[first_other:])


def _without(pixel_values: torch.Tensor, removed: npt.NDArray[np.intp], rows: int, columns: int) -> torch.Tensor:
    """`pixel_values` (3, H, W) with the patches of these numbers painted in the median colour."""
    height, width = pixel_values.shape[1] // rows, pixel_values.shape[2] // columns
    median = pixel_values.flatten(1).median(dim=1).values
    painted = pixel_values.clone()
    for number in removed:
        top, left = int(number) // columns * height, int(number) % columns * width
        painted[:, top : top + height, left : left + width] = median[:, None, None]
    return painted
