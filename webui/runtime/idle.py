"""A timer that calls one function again and again until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable


class RepeatingTimer:
    """Calls `action` every `seconds` on a daemon thread of its own."""

    def __init__(self, action: Callable[[], object], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle-timer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return once no call is under way and none will follow."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._action()
