"""What the rest of the program wants of a store of vectors, so that another engine can stand where LanceDB does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from webui.search.rows import KnownPicture, PictureRow, Vector

Matrix = npt.NDArray[np.float32]

MAX_RESULTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """Which pictures are looked at. `folders` None means all; times are nanoseconds since 1970, `until_ns` excluded;
    `min_side` is the least length of the shorter side in pixels; `prompt` must be part of the prompt, in any case.
    """

    folders: tuple[str, ...] | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    min_side: int = 0
    prompt: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest pictures, the best first: `scores` (N,) are cosines with the query.

    `searched` pictures passed the filters (in the approximate tier, where they are not all looked at, too). `recall`
    is the measured recall@10 of the index that answered, None for an exact answer or one that was never measured;
    `exact` tells which.
    """

    rows: tuple[PictureRow, ...]
    scores: npt.NDArray[np.float32]
    searched: int
    exact: bool
    recall: float | None = None


class PictureStore(Protocol):
    """Rows by id, the nearest of them to a vector, and what keeps a store fast.

    Readers may be many, also in other processes. Whoever writes enters `writing()` first, which raises UserError while
    another process writes. A write that returned survives the death of the process.
    """

    def writing(self) -> AbstractContextManager[None]:
        """Own the store for the length of the block."""

    def upsert(self, rows: Sequence[PictureRow]) -> None:
        """Add rows, or replace those whose path is there already."""

    def delete(self, ids: Sequence[str]) -> None:
        """Drop rows; unknown ids are nothing."""

    def count(self, filters: Filters = Filters()) -> int:
        """How many rows pass the filters."""

    def known(self) -> Mapping[str, KnownPicture]:
        """Every row without its vector, by path."""

    def rows(self, ids: Sequence[str]) -> tuple[PictureRow, ...]:
        """The rows with these ids, in their order; unknown ids are left out."""

    def sample(self, filters: Filters = Filters()) -> Matrix:
        """Vectors (S, D) of some thousand rows chosen by chance, or of all when there are few."""

    def search(self, query: Vector, limit: int, filters: Filters = Filters()) -> Nearest:
        """The `limit` rows whose vectors have the largest cosine with `query` (D,), of any length but 0."""

    def optimize(self, text_queries: Matrix | None = None) -> None:
        """Tidy up when it pays; with many rows build an index and measure its recall with `text_queries` (Q, D)."""
