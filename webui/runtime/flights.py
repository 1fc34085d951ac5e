"""Work that several threads want at the same time is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from webui.errors import UserError
from webui.runtime.jobs import JobCancelled

K = TypeVar("K")
V = TypeVar("V")

OnProgress = Callable[[int, int, str], None]
"""Called with what is done, the total and a phase key ("phase.loading_weights"); `JobContext.progress` is one."""

_POLL_SECONDS: Final = 0.05
"""How often a waiting thread looks at its own cancel event."""


class Flight:
    """One piece of work under way, and how far it is."""

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self.progress: tuple[int, int, str] | None = None


class SingleFlight(Generic[K, V]):
    """Runs the work for a key in the first thread that asks; the others wait for it and get its error too.

    When the first one's job is cancelled, the others are not: one of them starts again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flights: dict[K, Flight] = {}

    def run(
        self, key: K, work: Callable[[OnProgress], V], cancel: threading.Event | None, on_progress: OnProgress | None
    ) -> V | None:
        """Do `work` (it gets a progress callback) and return its result, or wait while another thread does it: None.

        After None the caller looks again for what the work was to bring: the other thread may have been cancelled.
        Raises JobCancelled once `cancel` is set while waiting, and what the work raised in the other thread.
        """
        with self._changed:
            flight = self._flights.get(key)
            if flight is not None:
                self._wait(flight, cancel, on_progress)
                return None
            flight = self._flights[key] = Flight()

        def report(done: int, total: int, phase: str) -> None:
            with self._changed:
                flight.progress = (done, total, phase)
                self._changed.notify_all()
            if on_progress is not None:
                on_progress(done, total, phase)

        try:
            return work(report)
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._changed:
                flight.done = True
                del self._flights[key]
                self._changed.notify_all()

    def under_way(self) -> dict[K, tuple[int, int, str] | None]:
        """The keys that are being worked on, with their progress."""
        with self._changed:
            return {key: flight.progress for key, flight in self._flights.items()}

    def _wait(self, flight: Flight, cancel: threading.Event | None, on_progress: OnProgress | None) -> None:
        seen: tuple[int, int, str] | None = None
        while not flight.done:
            if cancel is not None and cancel.is_set():
                raise JobCancelled
            if on_progress is not None and flight.progress is not None and flight.progress != seen:
                seen = flight.progress
                on_progress(*seen)
            self._changed.wait(_POLL_SECONDS)
        if isinstance(flight.error, UserError):
            raise UserError(flight.error.key, **flight.error.values)
        if flight.error is not None and not isinstance(flight.error, JobCancelled):
            raise flight.error
