"""The store in LanceDB: columnar files in the data folder, every commit one atomic new version.

Exact up to `exact_limit` rows, from a matrix in memory that follows the table's version; above that an index answers.
LanceDB itself is imported when the first table is opened: it takes seconds.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from webui.errors import UserError
from webui.search.approximate import (
    EFFORTS,
    MAX_MEASURED_QUERIES,
    RECALL_AT,
    MeasuredIndex,
    SearchEffort,
    choose_effort,
    exact_ids,
    read_measured,
    vectors_of,
    write_measured,
)
from webui.search.exact import InMemory, matching, rows_from, sampled
from webui.search.lock import PATIENCE_SECONDS, WriterLock
from webui.search.rows import KnownPicture, ModelIdentity, PictureRow, Vector
from webui.search.store import MAX_RESULTS, Filters, Matrix, Nearest

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger(__name__)

EXACT_LIMIT: Final = 200_000
_SMALL_FRAGMENTS: Final = 16
_SMALL_FRAGMENTS_INDEXED: Final = 64
_MAX_UNINDEXED_SHARE: Final = 0.05
_REBUILD_SHARE: Final = 0.3
_KEPT_VERSIONS: Final = timedelta(hours=1)
_VECTOR_INDEX: Final = "vector_idx"
_SAMPLED_ON_DISK: Final = 20_000
"""Rows read by chance from a table that is not in memory, so that a filter leaves enough of them."""
_COLUMNS: Final = ("id", "path", "folder", "content", "size", "modified_ns", "width", "height", "prompt", "look")
_FULL_DISK: Final = (
    os.strerror(errno.ENOSPC).lower(),
    os.strerror(errno.EDQUOT).lower(),
    os.strerror(errno.EFBIG).lower(),
)


class LanceStore:
    """The table of one model identity below `folder`; safe from any thread. Nothing is opened before the first use.

    Implements `store.PictureStore`.
    """

    def __init__(
        self,
        folder: Path,
        identity: ModelIdentity,
        *,
        exact_limit: int = EXACT_LIMIT,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.identity = identity
        self._folder = folder
        self._exact_limit = exact_limit
        self._lock = WriterLock(folder / "writer.lock", patience)
        self._opening = threading.RLock()
        self._opened: Any = None
        self._view: InMemory | None = None
        self._sample: tuple[int, Matrix, Any] | None = None

    def writing(self) -> AbstractContextManager[None]:
        """Own all tables of the folder for the block; raises UserError while another process does."""
        return self._lock.held()

    def upsert(self, rows: Sequence[PictureRow]) -> None:
        """Add or replace rows in one commit. Raises UserError when the disk is full; the rows before stay."""
        if not rows:
            return
        with self.writing(), _told_plainly(self._folder):
            width = len(rows[0].vector)
            table = self._table() or self._create(width)
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(_arrow(rows, width))

    def delete(self, ids: Sequence[str]) -> None:
        """Drop rows, some thousand in a commit."""
        with self.writing(), _told_plainly(self._folder):
            table = self._table()
            for start in range(0, len(ids) if table is not None else 0, 2000):
                table.delete(_in("id", ids[start : start + 2000]))

    def count(self, filters: Filters = Filters()) -> int:  # noqa: B008 - frozen
        """How many rows pass the filters."""
        table = self._table()
        if table is None:
            return 0
        view = self._in_memory(table)
        if view is None:
            return int(table.count_rows(_sql(filters)))
        mask = matching(view.columns, filters)
        return view.columns.num_rows if mask is None else int(mask.sum())

    def known(self) -> Mapping[str, KnownPicture]:
        """Every row without its vector, by path."""
        table = self._table()
        if table is None:
            return {}
        names = ("path", "id", "folder", "content", "size", "modified_ns")
        columns = _scan(table, names)
        values = zip(*(columns[name].to_pylist() for name in names), strict=True)
        return {path: KnownPicture(*rest) for path, *rest in values}

    def rows(self, ids: Sequence[str]) -> tuple[PictureRow, ...]:
        """The rows with these ids, in their order."""
        table = self._table()
        if table is None or not ids:
            return ()
        checked = [picture for picture in ids if _is_id(picture)]
        found = _scan(table, (*_COLUMNS, "vector"), _in("id", checked)) if checked else None
        if found is None:
            return ()
        rows = {row.id: row for row in rows_from(found, vectors_of(found["vector"]))}
        return tuple(rows[picture] for picture in ids if picture in rows)

    def sample(self, filters: Filters = Filters()) -> Matrix:  # noqa: B008 - frozen
        """Vectors (S, D) of at most `exact.SAMPLE` rows."""
        table = self._table()
        if table is None:
            return np.empty((0, 0), np.float32)
        view = self._in_memory(table)
        if view is not None:
            return sampled(view.matrix, matching(view.columns, filters))
        vectors, columns = self._sample_of(table)
        return sampled(vectors, matching(columns, filters))

    def search(self, query: Vector, limit: int, filters: Filters = Filters()) -> Nearest:  # noqa: B008 - frozen
        """The nearest rows; `limit` is at most `MAX_RESULTS`."""
        table = self._table()
        direction = (query / np.linalg.norm(query)).astype(np.float32)
        limit = min(limit, MAX_RESULTS)
        if table is None:
            return Nearest((), np.empty(0, np.float32), 0, exact=True)
        view = self._in_memory(table)
        if view is not None:
            rows, scores = view.search(direction, limit, filters)
            return Nearest(tuple(rows), scores, self.count(filters), exact=True)
        return self._search_table(table, direction, limit, filters)

    def optimize(self, text_queries: Matrix | None = None) -> None:
        """Merge small files and drop old versions; above the exact limit, build or refresh the index and measure it."""
        with self.writing(), _told_plainly(self._folder):
            table = self._table()
            if table is None:
                return
            indexed = self._index_of(table)
            if indexed is None and table.count_rows() <= self._exact_limit:
                if table.stats()["fragment_stats"]["num_small_fragments"] >= _SMALL_FRAGMENTS:
                    table.optimize(cleanup_older_than=_KEPT_VERSIONS)
                return
            if self._bring_index_up_to_date(table, indexed) or self.measured() is None:
                self._measure(table, text_queries)

    def measured(self) -> MeasuredIndex | None:
        """What is known of the index; None when there is none."""
        return read_measured(self._measured_path)

    @property
    def is_exact(self) -> bool:
        """Whether every answer is exact: no more rows than fit into memory."""
        table = self._table()
        return table is None or bool(table.count_rows() <= self._exact_limit)

    @property
    def _measured_path(self) -> Path:
        return self._folder / f"{self.identity.table}.index.json"

    def _table(self) -> Any:
        """The open table at its newest version, or None when it was never written to."""
        with self._opening:
            if self._opened is None:
                path = self._folder / f"{self.identity.table}.lance"
                if not any((path / "_versions").glob("*.manifest")):
                    return None
                database = _connect(self._folder)
                try:
                    self._opened = database.open_table(self.identity.table)
                except (OSError, RuntimeError, ValueError):
                    if not self._set_torn_commits_aside(path):
                        raise
                    self._opened = database.open_table(self.identity.table)
            return self._opened

    def _set_torn_commits_aside(self, path: Path) -> bool:
        """After a loss of power a commit may be there by name only: rename such files, so the one before counts."""
        with self.writing():
            torn = [file for file in (path / "_versions").glob("*.manifest") if file.stat().st_size == 0]
            for file in torn:
                _log.warning("%s is empty: its commit never reached the disk", file)
                file.rename(file.with_suffix(".torn"))
            (path / "_versions" / "latest_version_hint.json").unlink(missing_ok=True)
        return bool(torn)

    def _create(self, width: int) -> Any:
        database = _connect(self._folder)
        with self._opening:
            self._opened = database.create_table(self.identity.table, schema=_schema(width), exist_ok=True)
            return self._opened

    def _in_memory(self, table: Any) -> InMemory | None:
        """All rows of the newest version, or None when they are too many."""
        with self._opening:
            version = int(table.version)
            if self._view is not None and self._view.version == version:
                return self._view
            if table.count_rows() > self._exact_limit:
                self._view = None
                return None
            found = _scan(table, (*_COLUMNS, "vector"))
            matrix = np.ascontiguousarray(vectors_of(found["vector"]))
            self._view = InMemory(version, matrix, found.drop_columns(["vector"]).combine_chunks())
            return self._view

    def _sample_of(self, table: Any) -> tuple[Matrix, Any]:
        """Rows by chance from a table that is too large for memory; drawn anew when it has changed."""
        with self._opening:
            version = int(table.version)
            if self._sample is None or self._sample[0] != version:
                total = int(table.count_rows())
                places = np.random.default_rng(0).choice(total, min(total, _SAMPLED_ON_DISK), replace=False)
                found = table.take_offsets(np.sort(places).tolist()).select([*_COLUMNS, "vector"]).to_arrow()
                self._sample = (version, vectors_of(found["vector"]), found.drop_columns(["vector"]))
            return self._sample[1], self._sample[2]

    def _search_table(self, table: Any, query: Vector, limit: int, filters: Filters) -> Nearest:
        where = _sql(filters)
        searched = int(table.count_rows(where))
        index = self.measured() if self._index_of(table) is not None else None
        # A filter that leaves few rows would leave a graph in pieces; those few are looked at one by one.
        exact = index is None or searched <= self._exact_limit // 4
        ask = _ask(table, query, limit, None if exact or index is None else index.effort)
        found = (
            (ask.where(where, prefilter=True) if where else ask).select([*_COLUMNS, "vector", "_distance"]).to_arrow()
        )
        vectors = vectors_of(found["vector"])
        scores = vectors @ query
        order = np.argsort(-scores, kind="stable")
        rows = rows_from(found, vectors)
        recall = None if exact or index is None else index.recall
        return Nearest(tuple(rows[place] for place in order), scores[order], searched, exact=exact, recall=recall)

    def _index_of(self, table: Any) -> Any:
        return next((found for found in table.list_indices() if found.name == _VECTOR_INDEX), None)

    def _bring_index_up_to_date(self, table: Any, indexed: Any) -> bool:
        """Build, refresh or leave the index; whether it has changed."""
        from lancedb.index import HnswSq

        total = int(table.count_rows())
        outside = total if indexed is None else int(table.index_stats(_VECTOR_INDEX).num_unindexed_rows)
        if indexed is None or outside > _REBUILD_SHARE * total:
            config = HnswSq(distance_type="dot", m=20, ef_construction=300)
            table.create_index("vector", config=config, name=_VECTOR_INDEX, replace=True)
            table.optimize(cleanup_older_than=_KEPT_VERSIONS)
            return True
        small = table.stats()["fragment_stats"]["num_small_fragments"]
        if outside > _MAX_UNINDEXED_SHARE * total or small >= _SMALL_FRAGMENTS_INDEXED:
            table.optimize(cleanup_older_than=_KEPT_VERSIONS)
            return True
        return False

    def _measure(self, table: Any, text_queries: Matrix | None) -> None:
        """Find the effort with which the index finds enough of the true nearest, and write both down."""
        rows = int(table.count_rows())
        if text_queries is None or not len(text_queries):
            write_measured(self._measured_path, MeasuredIndex(EFFORTS[1], None, rows))
            return
        queries = text_queries[:MAX_MEASURED_QUERIES]
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        truth = exact_ids(table.search().select(["id", "vector"]).to_batches(), queries)
        effort, recall = choose_effort(queries, truth, partial(_found_ids, table))
        write_measured(self._measured_path, MeasuredIndex(effort, recall, rows))


def _found_ids(table: Any, query: npt.NDArray[np.float32], effort: SearchEffort) -> list[str]:
    found = _ask(table, query, RECALL_AT, effort).select(["id", "_distance"]).to_arrow()
    ids: list[str] = found["id"].to_pylist()
    return ids


def _ask(table: Any, query: npt.NDArray[np.float32], limit: int, effort: SearchEffort | None) -> Any:
    ask = table.search(query, vector_column_name="vector").distance_type("dot").limit(limit)
    if effort is None:
        return ask.bypass_vector_index()
    ask = ask.ef(max(effort.ef, 2 * limit)).refine_factor(effort.refine)
    return ask.nprobes(effort.partitions) if effort.partitions else ask


def _connect(folder: Path) -> Any:
    os.environ.setdefault("LANCE_LOG", "error")  # read when the library is imported
    import lancedb

    return lancedb.connect(str(folder), read_consistency_interval=timedelta(0))


def _schema(width: int) -> pa.Schema:
    import pyarrow as pa

    texts = {name: pa.string() for name in ("id", "path", "folder", "content", "prompt")}
    numbers = {name: pa.int64() for name in ("size", "modified_ns", "width", "height")}
    types = {**texts, **numbers, "look": pa.binary()}
    return pa.schema([*((name, types[name]) for name in _COLUMNS), ("vector", pa.list_(pa.float32(), width))])


def _arrow(rows: Sequence[PictureRow], width: int) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    flat = np.concatenate([row.vector for row in rows]).astype(np.float32)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns, schema=_schema(width))


def _scan(table: Any, columns: Sequence[str], where: str | None = None) -> pa.Table:
    ask = table.search().select(list(columns))
    return (ask.where(where) if where else ask).limit(None).to_arrow()


def _sql(filters: Filters) -> str | None:
    conditions = []
    if filters.folders is not None:
        conditions.append(_in("folder", filters.folders))
    if filters.since_ns is not None:
        conditions.append(f"modified_ns >= {int(filters.since_ns)}")
    if filters.until_ns is not None:
        conditions.append(f"modified_ns < {int(filters.until_ns)}")
    if filters.min_side > 0:
        conditions.append(f"width >= {int(filters.min_side)} AND height >= {int(filters.min_side)}")
    if filters.prompt:
        conditions.append(f"strpos(lower(prompt), {_quoted(filters.prompt.lower())}) > 0")
    return " AND ".join(conditions) or None


def _in(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(map(_quoted, values))})" if values else "false"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_id(value: str) -> bool:
    return len(value) == 32 and all(character in "0123456789abcdef" for character in value)


@contextmanager
def _told_plainly(folder: Path) -> Iterator[None]:
    """A full disk becomes one sentence; the commit that did not fit has not happened."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).lower()
        if any(sign in reason for sign in _FULL_DISK):
            raise UserError("error.disk_full", folder=str(folder)) from error
        raise
