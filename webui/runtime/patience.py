"""Waits for code of others, but not for ever."""

from __future__ import annotations

import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class HungError(Exception):
    """The code had not returned when its time was up; its thread is left to itself. `where` is what it was doing."""

    def __init__(self, seconds: float, where: str) -> None:
        super().__init__(f"no answer within {seconds:g} s; it was here:\n{where}")
        self.where = where


class _Thread(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[], T], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._context = contextvars.copy_context()
        self.ended = False
        self.answers: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.answers.append(self._context.run(self._work))
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits, an exit too
            self.error = error
        self.ended = True


def within(seconds: float, work: Callable[[], T], name: str) -> T:
    """What `work` returns, or raises, in a thread called `name`; HungError when it takes longer than `seconds`."""
    thread = _Thread(work, name)
    thread.start()
    thread.join(seconds)
    if not thread.ended:
        raise HungError(seconds, _where(thread))
    if thread.error is not None:
        raise thread.error
    return thread.answers[0]


def _where(thread: threading.Thread) -> str:
    frames: dict[int, Any] = sys._current_frames()  # noqa: SLF001 - the only way to see where a thread stands
    frame = frames.get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-4:]) if frame is not None else ""
