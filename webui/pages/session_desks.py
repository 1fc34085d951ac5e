"""What pages keep of each visitor: one desk a session, the same way for every page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Desk = TypeVar("Desk", bound="DataclassInstance")


class SessionDesks(Generic[Desk]):
    """The desk of each session, at most `most`, those used longest ago cleared first; safe from any thread.

    `empty` makes the desk of a session that has none; desks are frozen dataclasses.
    """

    def __init__(self, empty: Callable[[], Desk], most: int) -> None:
        self._empty = empty
        self._most = most
        self._desks: OrderedDict[str, Desk] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> Desk:
        """The session's desk; an empty one for a session that has none."""
        with self._lock:
            return self._desks.get(session) or self._empty()

    def change(self, session: str, **fields: Any) -> Desk:
        """Put `fields` on the session's desk and leave the rest as it is."""
        with self._lock:
            desk = replace(self._desks.pop(session, None) or self._empty(), **fields)
            self._desks[session] = desk
            while len(self._desks) > self._most:
                self._desks.popitem(last=False)
            return desk

    def forget(self, session: str) -> None:
        """The session's page has closed."""
        with self._lock:
            self._desks.pop(session, None)
