"""The process-wide lock between building models and moving them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ConstructionLock:
    """A write-preferring read-write lock: whoever builds a model writes, whoever moves weights reads.

    `from_pretrained` and `accelerate.init_empty_weights` replace `torch.nn.Module.register_parameter` for the whole
    process while they build, and `from_pretrained` sets torch's default dtype for the whole process too. A `.to()` or
    `load_state_dict(assign=True)` in another thread meanwhile registers its parameters through the replacement and is
    left on the `meta` device ("Cannot copy out of meta tensor": diffusers #4296 and #4298). Moves do not disturb each
    other, so they share the lock. A waiting writer goes before new readers, since a stream of moves would otherwise
    keep a load waiting for ever.

    Not reentrant: no thread may ask for it while holding it. One lock guards one process, so whoever opens the studio
    makes one manager; two managers in one process must be given the same lock.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting_writers = 0

    @contextmanager
    def write(self) -> Iterator[None]:
        """Alone: no other construction and no move goes on inside."""
        with self._changed:
            self._waiting_writers += 1
            try:
                self._changed.wait_for(lambda: not self._writing and self._readers == 0)
            finally:
                self._waiting_writers -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    @contextmanager
    def read(self) -> Iterator[None]:
        """Together with other moves, never during construction."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing and self._waiting_writers == 0)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()
