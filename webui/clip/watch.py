"""How a long computation is watched: told to stop, and asked how far it is."""

from __future__ import annotations

from typing import Final, Protocol


class Watch(Protocol):
    """What an instrument tells while it works. A `JobContext` is one."""

    def check(self) -> None:
        """Raises when the work is to stop; called between batches."""

    def progress(self, step: int, total: int, phase: str) -> None:
        """`step` of `total` are done; `phase` is a message key."""


class Unwatched:
    """For notebooks and tests: never stops, tells nobody."""

    def check(self) -> None:
        """Go on."""

    def progress(self, step: int, total: int, phase: str) -> None:
        """Nobody asked."""


UNWATCHED: Final = Unwatched()
