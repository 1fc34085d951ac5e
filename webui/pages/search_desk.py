"""What each open search page has found, kept here rather than sent to and fro."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webui.pages.clip_run import JobStep
from webui.pages.session_desks import SessionDesks
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


class SearchDesks(SessionDesks[SearchDesk]):
    """The desk of each session, the `MAX_DESKS` used last; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(SearchDesk, MAX_DESKS)
