"""The store in LanceDB: columnar files in the data folder, every commit one atomic new version.

Exact up to `exact_limit` rows, from a matrix in memory that follows the table's version; above that an index answers.
LanceDB itself is imported when the first table is opened: it takes seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from webui.search import lance_index
from webui.search.approximate import EFFORTS, MeasuredIndex, read_measured, vectors_of, write_measured
from webui.search.exact import InMemory, matching, rows_from, sampled
from webui.search.lance_table import COLUMNS, as_columns, connect, is_id, is_in, scan, schema, sql, told_plainly
from webui.search.lock import PATIENCE_SECONDS, WriterLock
from webui.search.rows import KnownPicture, ModelIdentity, PictureRow, Vector
from webui.search.snapshot import ChangeWatch, Snapshot
from webui.search.store import MAX_RESULTS, Filters, Matrix, Nearest

_log = logging.getLogger(__name__)

EXACT_LIMIT: Final = 200_000
_SMALL_FRAGMENTS: Final = 16
_KEPT_VERSIONS: Final = timedelta(hours=1)
_SAMPLED_ON_DISK: Final = 20_000
"""Rows read by chance from a table that is not in memory, so that a filter leaves enough of them."""


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
        self._place = folder / f"{identity.table}.lance"
        self._measured_path = folder / f"{identity.table}.index.json"
        self._exact_limit = exact_limit
        self._lock = WriterLock(folder / "writer.lock", patience)
        self._opening = threading.RLock()
        self._opened: Any = None
        self._watch = ChangeWatch(self._place / "_versions", self._measured_path)
        self._current: Snapshot | None = None
        self._sample: tuple[int, Matrix, Any] | None = None

    def writing(self) -> AbstractContextManager[None]:
        """Own all tables of the folder for the block; raises UserError while another process does."""
        return self._lock.held()

    def upsert(self, rows: Sequence[PictureRow]) -> None:
        """Add or replace rows in one commit. Raises UserError when the disk is full; the rows before stay."""
        if not rows:
            return
        with self.writing(), told_plainly(self._folder):
            width = len(rows[0].vector)
            table = self._newest() or self._create(width)
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(as_columns(rows, width))

    def delete(self, ids: Sequence[str]) -> None:
        """Drop rows, some thousand in a commit."""
        with self.writing(), told_plainly(self._folder):
            table = self._newest()
            for start in range(0, len(ids) if table is not None else 0, 2000):
                table.delete(is_in("id", ids[start : start + 2000]))

    def count(self, filters: Filters = Filters()) -> int:  # noqa: B008 - frozen
        """How many rows pass the filters."""
        table, snapshot = self._now()
        return self._passing(table, snapshot, snapshot.narrowed(filters))

    def known(self) -> Mapping[str, KnownPicture]:
        """Every row without its vector, by path."""
        table, snapshot = self._now(load=False)
        if table is None:
            return {}
        names = ("path", "id", "folder", "content", "size", "modified_ns")
        columns = scan(table, names) if snapshot.view is None else snapshot.view.columns
        values = zip(*(columns[name].to_pylist() for name in names), strict=True)
        return {path: KnownPicture(*rest) for path, *rest in values}

    def rows(self, ids: Sequence[str]) -> tuple[PictureRow, ...]:
        """The rows with these ids, in their order."""
        table, snapshot = self._now()
        checked = [picture for picture in ids if is_id(picture)]
        if table is None or not checked:
            return ()
        if snapshot.view is not None:
            return tuple(snapshot.view.with_ids(checked))
        found = scan(table, (*COLUMNS, "vector"), is_in("id", checked))
        rows = {row.id: row for row in rows_from(found, vectors_of(found["vector"]))}
        return tuple(rows[picture] for picture in checked if picture in rows)

    def sample(self, filters: Filters = Filters()) -> Matrix:  # noqa: B008 - frozen
        """Vectors (S, D) of at most `exact.SAMPLE` rows."""
        table, snapshot = self._now()
        if table is None:
            return np.empty((0, 0), np.float32)
        filters = snapshot.narrowed(filters)
        if snapshot.view is not None:
            return snapshot.view.sample(filters)
        vectors, columns = self._sample_of(table, snapshot)
        return sampled(vectors, matching(columns, filters))

    def search(self, query: Vector, limit: int, filters: Filters = Filters()) -> Nearest:  # noqa: B008 - frozen
        """The nearest rows; `limit` is at most `MAX_RESULTS`."""
        table, snapshot = self._now()
        direction = (query / np.linalg.norm(query)).astype(np.float32)
        limit = min(limit, MAX_RESULTS)
        filters = snapshot.narrowed(filters)
        searched = self._passing(table, snapshot, filters)
        if not searched:
            return Nearest((), np.empty(0, np.float32), 0, exact=True)
        if snapshot.view is not None:
            rows, scores = snapshot.view.search(direction, limit, filters)
            return Nearest(tuple(rows), scores, searched, exact=True)
        # A filter that leaves few rows would leave a graph in pieces; those few are looked at one by one.
        index = None if searched <= self._exact_limit // 4 else snapshot.measured
        found = lance_index.nearest_rows(table, direction, limit, sql(filters), None if index is None else index.effort)
        vectors = vectors_of(found["vector"])
        scores = vectors @ direction
        order = np.argsort(-scores, kind="stable")
        rows = rows_from(found, vectors)
        return Nearest(
            tuple(rows[place] for place in order), scores[order], searched, exact=index is None,
            recall=None if index is None else index.recall,
        )  # fmt: skip

    def optimize(self, text_queries: Matrix | None = None) -> None:
        """Merge small files and drop old versions; above the exact limit, build or refresh the index and measure it."""
        with self.writing(), told_plainly(self._folder):
            table = self._newest()
            if table is None:
                return
            if not lance_index.has_index(table) and table.count_rows() <= self._exact_limit:
                if table.stats()["fragment_stats"]["num_small_fragments"] >= _SMALL_FRAGMENTS:
                    table.optimize(cleanup_older_than=_KEPT_VERSIONS)
                return
            if lance_index.bring_up_to_date(table, _KEPT_VERSIONS) or self.measured() is None:
                write_measured(self._measured_path, lance_index.measure(table, text_queries))

    def measured(self) -> MeasuredIndex | None:
        """What is known of the index; None when there is none."""
        return read_measured(self._measured_path)

    @property
    def is_exact(self) -> bool:
        """Whether every answer is exact: no more rows than fit into memory."""
        return self._now(load=False)[1].total <= self._exact_limit

    def _newest(self) -> Any:
        """The open table at its newest version, or None when it was never written to."""
        with self._opening:
            if not any((self._place / "_versions").glob("*.manifest")):
                self._opened = None
            elif self._opened is not None:
                self._opened.checkout_latest()
            else:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Any:
        database = connect(self._folder)
        try:
            return database.open_table(self.identity.table)
        except (OSError, RuntimeError, ValueError):
            if not self._set_torn_commits_aside():
                raise
            return database.open_table(self.identity.table)

    def _set_torn_commits_aside(self) -> bool:
        """After a loss of power a commit may be there by name only: rename such files, so the one before counts."""
        versions = self._place / "_versions"
        with self.writing():
            torn = [file for file in versions.glob("*.manifest") if file.stat().st_size == 0]
            for file in torn:
                _log.warning("%s is empty: its commit never reached the disk", file)
                file.rename(file.with_suffix(".torn"))
            (versions / "latest_version_hint.json").unlink(missing_ok=True)
        return bool(torn)

    def _create(self, width: int) -> Any:
        with self._opening:
            database = connect(self._folder)
            self._opened = database.create_table(self.identity.table, schema=schema(width), exist_ok=True)
            return self._opened

    def _now(self, *, load: bool = True) -> tuple[Any, Snapshot]:
        """The table, None when it was never written to, and what is known of its newest version.

        Without `load` the rows are not read into memory: there are jobs that need them once or not at all.
        """
        with self._opening:
            known, self._current = self._current, None
            if self._watch.changed() or known is None:
                known = self._looked_at(self._newest(), known)
            if load and known.view is None and 0 < known.total <= self._exact_limit:
                known = known.with_view(_all_rows(self._opened))
            self._current = known
            return self._opened, known

    def _looked_at(self, table: Any, known: Snapshot | None) -> Snapshot:
        if table is None:
            return Snapshot(0, 0, frozenset(), None, None)
        version = int(table.version)
        measured = None
        if lance_index.has_index(table):
            measured = self.measured() or MeasuredIndex(EFFORTS[-1], None, 0)
        if known is not None and known.version == version:
            return known.with_index(measured)
        folders = frozenset(scan(table, ("folder",))["folder"].unique().to_pylist())
        return Snapshot(version, int(table.count_rows()), folders, None, measured)

    def _passing(self, table: Any, snapshot: Snapshot, filters: Filters) -> int:
        if snapshot.view is not None:
            return snapshot.passing(filters, partial(snapshot.view.count, filters))
        return snapshot.passing(filters, lambda: int(table.count_rows(sql(filters))))

    def _sample_of(self, table: Any, snapshot: Snapshot) -> tuple[Matrix, Any]:
        """Rows by chance from a table that is too large for memory; drawn anew when it has changed."""
        with self._opening:
            if self._sample is None or self._sample[0] != snapshot.version:
                total = int(table.count_rows())
                places = np.random.default_rng(0).choice(total, min(total, _SAMPLED_ON_DISK), replace=False)
                found = table.take_offsets(np.sort(places).tolist()).select([*COLUMNS, "vector"]).to_arrow()
                self._sample = (snapshot.version, vectors_of(found["vector"]), found.drop_columns(["vector"]))
            return self._sample[1], self._sample[2]


def _all_rows(table: Any) -> InMemory:
    found = scan(table, (*COLUMNS, "vector"))
    matrix = np.ascontiguousarray(vectors_of(found["vector"]))
    return InMemory(matrix, found.drop_columns(["vector"]).combine_chunks())
