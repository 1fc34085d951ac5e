"""Above some hundred thousand vectors: an HNSW graph over 8-bit vectors, and how often it finds the true nearest.

Queries that look like the rows themselves flatter such an index (measured: 0.95 where texts get 0.87), since texts lie
apart from all pictures (the modality gap). So its recall is measured with vectors of texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from webui.search.store import Matrix
from webui.store.whole_file import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

WANTED_RECALL: Final = 0.95
RECALL_AT: Final = 10
_ONE_SIDED: Final = 1.64
MAX_MEASURED_QUERIES: Final = 200


@dataclass(frozen=True, slots=True)
class SearchEffort:
    """How hard a query looks: `graphs` of the index are searched, the nearest first, in each of which `ef` candidates
    are kept; of all together `refine` x limit rows are re-scored exactly.
    """

    ef: int
    refine: int
    graphs: int


EFFORTS: Final = (
    SearchEffort(100, 3, 8),
    SearchEffort(200, 3, 16),
    SearchEffort(400, 5, 16),
    SearchEffort(800, 10, 32),
    SearchEffort(1600, 20, 64),
    SearchEffort(3200, 40, 256),
)
"""Tried in this order until the recall is as wanted."""


@dataclass(frozen=True, slots=True)
class MeasuredIndex:
    """What is known of the index of a table: the effort that queries use, and the recall@10 that was measured with it.

    `recall` is None when there were no text queries to measure with.
    """

    effort: SearchEffort
    recall: float | None
    rows: int

    @property
    def good(self) -> bool:
        """Whether the recall is as wanted."""
        return self.recall is not None and self.recall >= WANTED_RECALL


def choose_effort(
    queries: Matrix, truth: npt.NDArray[np.str_], ask: Callable[[npt.NDArray[np.float32], SearchEffort], list[str]]
) -> tuple[SearchEffort, float]:
    """The least effort whose recall is as wanted, or the greatest one, and its recall@10.

    As wanted means: for other queries too, as far as those asked can tell (the lower end of a one-sided 95 %
    interval, 1.64 standard errors below the mean).

    `truth` (Q, 10) are the ids that an exact search finds; `ask` gives the ids that the index finds.
    """
    effort, recall = EFFORTS[0], 0.0
    for effort in EFFORTS:
        found = [ask(query, effort) for query in queries]
        recalls = [len({*ids} & {*right}) / len(right) for ids, right in zip(found, truth, strict=True)]
        recall = float(np.mean(recalls))
        if recall - _ONE_SIDED * float(np.std(recalls)) / len(recalls) ** 0.5 >= WANTED_RECALL:
            break
    return effort, recall


def exact_ids(batches: Iterator[pa.RecordBatch], queries: Matrix, count: int = RECALL_AT) -> npt.NDArray[np.str_]:
    """(Q, count) ids of the nearest rows, by one pass over all batches with the columns "id" and "vector"."""
    scores = np.full((len(queries), count), -np.inf, np.float32)
    ids = np.full((len(queries), count), "", "U32")
    for batch in batches:
        if not batch.num_rows:
            continue
        fresh = queries @ vectors_of(batch["vector"]).T
        names = np.asarray(batch["id"].to_pylist(), "U32")
        kept = min(count, len(names))
        best = np.argpartition(-fresh, kept - 1, axis=1)[:, :kept]
        scores = np.concatenate([scores, np.take_along_axis(fresh, best, axis=1)], axis=1)
        ids = np.concatenate([ids, names[best]], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return ids


def vectors_of(column: Any) -> Matrix:
    """A column of vectors as (N, D) float32, copied only when it lies in several chunks."""
    chunks = getattr(column, "chunks", None)
    parts = [column] if chunks is None else chunks
    width = column.type.list_size
    arrays = [part.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for part in parts if len(part)]
    if not arrays:
        return np.empty((0, width), np.float32)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_measured(path: Path) -> MeasuredIndex | None:
    """What was written when the index was built; None when there is nothing readable."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        recall = kept["recall"]
        effort = SearchEffort(**{name: int(value) for name, value in kept["effort"].items()})
        return MeasuredIndex(effort, None if recall is None else float(recall), int(kept["rows"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_measured(path: Path, measured: MeasuredIndex) -> None:
    """Write whole or not at all."""
    write_whole(path, json.dumps(asdict(measured)).encode("utf-8"))
