"""What LanceDB is told: how a table looks, how rows become columns, and filters in its SQL."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from webui.errors import UserError
from webui.search.rows import PictureRow
from webui.search.store import Filters

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("id", "path", "folder", "content", "size", "modified_ns", "width", "height", "prompt", "look")
"""All but "vector"."""

_FULL_DISK: Final = (
    os.strerror(errno.ENOSPC).lower(),
    os.strerror(errno.EDQUOT).lower(),
    os.strerror(errno.EFBIG).lower(),
)


def connect(folder: Path) -> Any:
    """The database below `folder`. Its tables stay at the version they were opened at, until they are told to look."""
    for name in ("LANCE_LOG", "LANCEDB_LOG"):
        os.environ.setdefault(name, "error")  # read when the library is imported
    import lancedb

    return lancedb.connect(str(folder))


def schema(width: int) -> pa.Schema:
    """The columns of a table of vectors of that length."""
    import pyarrow as pa

    texts = {name: pa.string() for name in ("id", "path", "folder", "content", "prompt")}
    numbers = {name: pa.int64() for name in ("size", "modified_ns", "width", "height")}
    types = {**texts, **numbers, "look": pa.binary()}
    return pa.schema([*((name, types[name]) for name in COLUMNS), ("vector", pa.list_(pa.float32(), width))])


def as_columns(rows: Sequence[PictureRow], width: int) -> pa.Table:
    """Rows as `schema` wants them."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    flat = np.concatenate([row.vector for row in rows]).astype(np.float32)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns, schema=schema(width))


def scan(table: Any, columns: Sequence[str], where: str | None = None) -> pa.Table:
    """These columns of all rows that pass."""
    ask = table.search().select(list(columns))
    return (ask.where(where) if where else ask).limit(None).to_arrow()


def sql(filters: Filters) -> str | None:
    """The filters as a condition; None when nothing is filtered."""
    conditions = []
    if filters.folders is not None:
        conditions.append(is_in("folder", filters.folders))
    if filters.since_ns is not None:
        conditions.append(f"modified_ns >= {int(filters.since_ns)}")
    if filters.until_ns is not None:
        conditions.append(f"modified_ns < {int(filters.until_ns)}")
    if filters.min_side > 0:
        conditions.append(f"width >= {int(filters.min_side)} AND height >= {int(filters.min_side)}")
    if filters.prompt:
        conditions.append(f"strpos(lower(prompt), {_quoted(filters.prompt.lower())}) > 0")
    return " AND ".join(conditions) or None


def is_in(column: str, values: Sequence[str]) -> str:
    """The condition that a column has one of these values."""
    return f"{column} IN ({', '.join(map(_quoted, values))})" if values else "false"


def is_id(value: str) -> bool:
    """Whether this can be the id of a row."""
    return len(value) == 32 and all(character in "0123456789abcdef" for character in value)


@contextmanager
def told_plainly(folder: Path) -> Iterator[None]:
    """A full disk becomes one sentence; the commit that did not fit has not happened."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).lower()
        if any(sign in reason for sign in _FULL_DISK):
            raise UserError("error.disk_full", folder=str(folder)) from error
        raise


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
