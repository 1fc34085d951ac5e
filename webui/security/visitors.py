"""Who has logged in, which open pages are theirs, and how much they may ask for."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from webui.errors import UserError

LOGIN_SECONDS: Final = 7 * 24 * 3600.0
_MAX_LOGINS: Final = 1000
_MAX_PAGES: Final = 10_000
_BURST_SECONDS: Final = 20.0
"""A page that opens, or a slider that is dragged, may spend the calls of so long at once."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has logged in. `id` owns jobs: two logins under one name are two visitors."""

    name: str
    id: str


@dataclass(slots=True)
class _Purse:
    """A token bucket."""

    calls: float
    filled: float


@dataclass(slots=True, eq=False)
class Visitors:
    """The logins of this run of the server, in memory alone. `calls_per_minute` 0 sets no limit. Safe from any thread.

    A page's session is named by the browser and no secret, so that it belongs to the first visitor who uses it and
    nobody else may use it afterwards.
    """

    calls_per_minute: int
    clock: Callable[[], float] = time.monotonic
    _logins: OrderedDict[str, tuple[Visitor, float]] = field(default_factory=OrderedDict)
    _pages: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _purses: OrderedDict[str, _Purse] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, name: str) -> str:
        """The secret of a new login, for a cookie."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._logins[token] = (Visitor(name, f"{name}#{secrets.token_urlsafe(6)}"), self.clock())
            if len(self._logins) > _MAX_LOGINS:
                self._logins.popitem(last=False)
        return token

    def of(self, token: str) -> Visitor | None:
        """Whose secret this is; None for nobody's, or one that is too old."""
        with self._lock:
            visitor, entered = self._logins.get(token, (None, 0.0))
            if visitor is not None and self.clock() - entered > LOGIN_SECONDS:
                del self._logins[token]
                return None
            return visitor

    def leave(self, token: str) -> None:
        """The visitor has logged out."""
        with self._lock:
            self._logins.pop(token, None)

    def claim(self, page: str, visitor: Visitor) -> bool:
        """Whether this page's session is the visitor's; it becomes theirs when it was nobody's."""
        with self._lock:
            owner = self._pages.setdefault(page, visitor.id)
            self._pages.move_to_end(page)
            if len(self._pages) > _MAX_PAGES:
                self._pages.popitem(last=False)
            return owner == visitor.id

    def spend(self, visitor: Visitor) -> None:
        """One call of the visitor; raises UserError when they have made too many."""
        if not self.calls_per_minute:
            return
        most = max(1.0, self.calls_per_minute * _BURST_SECONDS / 60)
        with self._lock:
            now = self.clock()
            purse = self._purses.setdefault(visitor.id, _Purse(most, now))
            self._purses.move_to_end(visitor.id)
            if len(self._purses) > _MAX_LOGINS:
                self._purses.popitem(last=False)
            purse.calls = min(most, purse.calls + (now - purse.filled) * self.calls_per_minute / 60)
            purse.filled = now
            if purse.calls < 1:
                raise UserError("error.too_many_calls", limit=self.calls_per_minute)
            purse.calls -= 1
