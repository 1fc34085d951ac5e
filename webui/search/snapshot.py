"""What is known of one version of a table, so that a query asks the engine nothing but the query."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from webui.search.approximate import MeasuredIndex
from webui.search.exact import InMemory
from webui.search.store import Filters

_SETTLED_NS: Final = 100_000_000
"""File systems tell times in steps of some milliseconds: a change so soon after another may not show in them."""
_MAX_COUNTS: Final = 64


class ChangeWatch:
    """Tells by their times alone whether files or folders have changed; two system calls instead of a look inside."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen: tuple[int, ...] = ()
        self._settled = False

    def changed(self) -> bool:
        """Whether one may have changed since the last call: True in doubt, and the first time."""
        now = time.time_ns()
        times = tuple(map(_modified_ns, self._paths))
        same = self._settled and times == self._seen
        self._seen, self._settled = times, now - max(times) > _SETTLED_NS
        return not same


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A version of a table: its number of rows, the folders they are in, all rows (None when they are too many for
    memory), and the index if there is one. `measured` is None without an index.
    """

    version: int
    total: int
    folders: frozenset[str]
    view: InMemory | None
    measured: MeasuredIndex | None
    _counts: dict[Filters, int] = field(default_factory=dict)

    def with_view(self, view: InMemory) -> Snapshot:
        """The same with its rows in memory."""
        return replace(self, view=view)

    def with_index(self, measured: MeasuredIndex | None) -> Snapshot:
        """The same with another index."""
        return replace(self, measured=measured)

    def narrowed(self, filters: Filters) -> Filters:
        """The same filters without what every row passes: mostly all folders are searched, at no cost then."""
        if filters.folders is not None and self.folders <= set(filters.folders):
            return replace(filters, folders=None)
        return filters

    def passing(self, filters: Filters, count: Callable[[], int]) -> int:
        """How many rows pass; `count` is asked once for each filter."""
        if filters == Filters():
            return self.total
        if filters not in self._counts:
            if len(self._counts) >= _MAX_COUNTS:
                self._counts.clear()
            self._counts[filters] = count()
        return self._counts[filters]


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
