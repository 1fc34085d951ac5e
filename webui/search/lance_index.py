"""The index of a table too large for memory: built, kept fresh, measured and asked in LanceDB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from webui.search.approximate import (
    EFFORTS,
    MAX_MEASURED_QUERIES,
    RECALL_AT,
    MeasuredIndex,
    SearchEffort,
    choose_effort,
    exact_ids,
)
from webui.search.lance_table import COLUMNS
from webui.search.store import Matrix

if TYPE_CHECKING:
    import pyarrow as pa

_VECTORS: Final = "vector_idx"
_IDS: Final = "id_idx"
_ROWS_A_GRAPH: Final = 65_536
_MAX_REFINED: Final = 600
_MAX_UNINDEXED_SHARE: Final = 0.05
_REBUILD_SHARE: Final = 0.3
_SMALL_FRAGMENTS: Final = 64


def has_index(table: Any) -> bool:
    """Whether its vectors have an index."""
    return any(found.name == _VECTORS for found in table.list_indices())


def bring_up_to_date(table: Any, kept_versions: timedelta) -> bool:
    """Build, refresh or leave the index; whether it has changed."""
    total = int(table.count_rows())
    outside = int(table.index_stats(_VECTORS).num_unindexed_rows) if has_index(table) else total
    if outside > _REBUILD_SHARE * total:
        _build(table, total)
    elif (
        outside <= _MAX_UNINDEXED_SHARE * total
        and table.stats()["fragment_stats"]["num_small_fragments"] < _SMALL_FRAGMENTS
    ):
        return False
    table.optimize(cleanup_older_than=kept_versions)
    return True


def measure(table: Any, text_queries: Matrix | None) -> MeasuredIndex:
    """Find the effort with which the index finds enough of the true nearest."""
    rows = int(table.count_rows())
    if text_queries is None or not len(text_queries):
        return MeasuredIndex(EFFORTS[-1], None, rows)
    queries = text_queries[:MAX_MEASURED_QUERIES]
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    truth = exact_ids(table.search().select(["id", "vector"]).to_batches(), queries)
    effort, recall = choose_effort(queries, truth, partial(_found_ids, table))
    return MeasuredIndex(effort, recall, rows)


def nearest_rows(
    table: Any, query: npt.NDArray[np.float32], limit: int, where: str | None, effort: SearchEffort | None
) -> pa.Table:
    """The rows that the index finds, or all of them when there is no `effort`: everything known of them in one go."""
    return _asked(table, query, limit, effort, (*COLUMNS, "vector", "_distance"), where)


def _build(table: Any, total: int) -> None:
    from lancedb.index import BTree, HnswSq

    # Graphs of a moderate size build faster than a large one, and several are searched side by side.
    graphs = max(1, round(total / _ROWS_A_GRAPH))
    config = HnswSq(distance_type="dot", num_partitions=graphs, m=20, ef_construction=150)
    table.create_index("vector", config=config, name=_VECTORS, replace=True)
    table.create_index("id", config=BTree(), name=_IDS, replace=True)


def _found_ids(table: Any, query: npt.NDArray[np.float32], effort: SearchEffort) -> list[str]:
    ids: list[str] = _asked(table, query, RECALL_AT, effort, ("id", "_distance"), None)["id"].to_pylist()
    return ids


def _asked(
    table: Any,
    query: npt.NDArray[np.float32],
    limit: int,
    effort: SearchEffort | None,
    columns: Sequence[str],
    where: str | None,
) -> pa.Table:
    ask = table.search(query, vector_column_name="vector").distance_type("dot").limit(limit).select(list(columns))
    if where is not None:
        ask = ask.where(where, prefilter=True)
    if effort is None:
        return ask.bypass_vector_index().to_arrow()
    # The engine refuses an `ef` below the number of rows to re-score; of many wanted rows few are at the edge.
    refine = max(1, min(effort.refine, _MAX_REFINED // limit))
    return ask.ef(max(effort.ef, limit * refine)).refine_factor(refine).nprobes(effort.graphs).to_arrow()
