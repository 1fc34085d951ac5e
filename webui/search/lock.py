"""One process writes: a file lock that the system drops when its owner dies, and the owner's pid for the message."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from webui.errors import UserError

PATIENCE_SECONDS: Final = 10.0
"""How long a writer waits for another process; most writes take far less."""


class WriterLock:
    """Lets one thread of one process write at a time; the thread that holds it may enter again."""

    def __init__(self, path: Path, patience: float = PATIENCE_SECONDS) -> None:
        self._path = path
        self._patience = patience
        self._threads = threading.RLock()
        self._depth = 0
        self._file = FileLock(path, thread_local=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for the block. Raises UserError that names the process which has it."""
        with self._threads:
            if self._depth == 0:
                self._acquire()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._file.release()

    def _acquire(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file.acquire(timeout=self._patience)
        except Timeout as error:
            raise UserError("error.index_locked", pid=self._owner()) from error
        except OSError as error:
            raise UserError("error.folder_not_writable", folder=str(self._path.parent)) from error
        # In a file of its own: where locks are mandatory, nobody else could read it from the locked one.
        self._note().write_text(str(os.getpid()), encoding="ascii")

    def _owner(self) -> str:
        try:
            return self._note().read_text(encoding="ascii").strip() or "?"
        except (OSError, UnicodeDecodeError):
            return "?"

    def _note(self) -> Path:
        return self._path.with_suffix(".pid")
