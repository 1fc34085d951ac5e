"""All vectors in memory: the exact answer, and a filter over the columns beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from webui.search.rows import PictureRow, Vector
from webui.search.store import Filters, Matrix

if TYPE_CHECKING:
    import pyarrow as pa

Mask = npt.NDArray[np.bool_]

SAMPLE: Final = 4000
_SAMPLE_SEED: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """The rows of one version of a table: `matrix` (N, D) float32, rows of length 1; `columns` is everything else."""

    matrix: Matrix
    columns: pa.Table

    def search(self, query: Vector, limit: int, filters: Filters) -> tuple[list[PictureRow], npt.NDArray[np.float32]]:
        """The nearest rows and their cosines with `query` (D,), which has length 1."""
        mask = matching(self.columns, filters)
        places, scores = nearest(self.matrix, query, limit, mask)
        return self.rows(places), scores

    def count(self, filters: Filters) -> int:
        """How many rows pass."""
        mask = matching(self.columns, filters)
        return len(self.matrix) if mask is None else int(mask.sum())

    def sample(self, filters: Filters) -> Matrix:
        """Vectors of at most `SAMPLE` rows that pass."""
        return sampled(self.matrix, matching(self.columns, filters))

    def with_ids(self, ids: Sequence[str]) -> list[PictureRow]:
        """The rows with these ids, in their order; unknown ids are left out."""
        from pyarrow import compute

        places = [compute.index(self.columns["id"], picture).as_py() for picture in ids]
        return self.rows([place for place in places if place >= 0])

    def rows(self, places: Sequence[int] | npt.NDArray[np.intp]) -> list[PictureRow]:
        """The rows at these places."""
        chosen = np.asarray(places, np.int64)
        return rows_from(self.columns.take(chosen), self.matrix[chosen])


def nearest(
    matrix: Matrix, query: Vector, limit: int, mask: Mask | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Places and scores of the `limit` largest products of `matrix` (N, D) with `query`, the best first.

    Equal scores keep the order of the rows.
    """
    scores: npt.NDArray[np.float32] = matrix @ query
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    count = min(limit, len(scores) if mask is None else int(mask.sum()))
    if count == 0:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    best = np.argpartition(-scores, count - 1)[:count]
    best = best[np.lexsort((best, -scores[best]))]
    return best, scores[best]


def matching(columns: pa.Table, filters: Filters) -> Mask | None:
    """Which rows pass; None when nothing is filtered."""
    import pyarrow as pa
    from pyarrow import compute

    conditions: list[Any] = []
    if filters.folders is not None:
        conditions.append(compute.is_in(columns["folder"], value_set=pa.array(filters.folders, pa.string())))
    if filters.since_ns is not None:
        conditions.append(compute.greater_equal(columns["modified_ns"], filters.since_ns))
    if filters.until_ns is not None:
        conditions.append(compute.less(columns["modified_ns"], filters.until_ns))
    if filters.min_side > 0:
        shorter = compute.min_element_wise(columns["width"], columns["height"])
        conditions.append(compute.greater_equal(shorter, filters.min_side))
    if filters.prompt:
        conditions.append(compute.match_substring(columns["prompt"], filters.prompt, ignore_case=True))
    if not conditions:
        return None
    mask: Mask = np.logical_and.reduce([condition.to_numpy() for condition in conditions])
    return mask


def sampled(matrix: Matrix, mask: Mask | None) -> Matrix:
    """At most `SAMPLE` rows by chance, the same ones for the same table."""
    places = np.arange(len(matrix)) if mask is None else np.flatnonzero(mask)
    if len(places) > SAMPLE:
        places = np.sort(np.random.default_rng(_SAMPLE_SEED).choice(places, SAMPLE, replace=False))
    return matrix[places]


def rows_from(columns: pa.Table, vectors: Matrix) -> list[PictureRow]:
    """Rows of a result of a query, with their vectors (N, D)."""
    fields = {name: columns[name].to_pylist() for name in _FIELDS}
    return [
        PictureRow(**dict(zip(fields, values, strict=True)), vector=vector)
        for *values, vector in zip(*fields.values(), vectors, strict=True)
    ]


_FIELDS: Final = ("path", "folder", "content", "size", "modified_ns", "width", "height", "prompt", "look")
