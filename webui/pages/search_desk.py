"""What each open search page has found, kept here rather than sent to and fro."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from webui.pages.clip_run import JobStep
from webui.search.rows import PictureRow

if TYPE_CHECKING:
    from webui.search.find import Found

MAX_DESKS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class SearchDesk:
    """The last answer, the page of it that is shown, and the place of the picture looked at."""

    searching: JobStep[Found] = field(default_factory=JobStep)
    page: int = 0
    chosen: int | None = None

    @property
    def found(self) -> Found | None:
        """The answer, if there is one."""
        return self.searching.value

    @property
    def row(self) -> PictureRow | None:
        """The picture looked at."""
        return None if self.found is None or self.chosen is None else self.found.hits[self.chosen].row


class SearchDesks:
    """The desk of each session, the `MAX_DESKS` used last; safe from any thread."""

    def __init__(self) -> None:
        self._desks: OrderedDict[str, SearchDesk] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> SearchDesk:
        """The session's desk; an empty one for a session that has none."""
        with self._lock:
            return self._desks.get(session, SearchDesk())

    def change(self, session: str, **fields: Any) -> SearchDesk:
        """Put `fields` on the session's desk and leave the rest as it is."""
        with self._lock:
            desk = replace(self._desks.pop(session, SearchDesk()), **fields)
            self._desks[session] = desk
            while len(self._desks) > MAX_DESKS:
                self._desks.popitem(last=False)
            return desk

    def forget(self, session: str) -> None:
        """The session's page has closed."""
        with self._lock:
            self._desks.pop(session, None)
