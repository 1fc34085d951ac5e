"""Models that the owner has named by their path, beside the models folder: read where they are, never copied."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, overload

from webui.errors import UserError

_log = logging.getLogger(__name__)

FILE_NAME: Final = "model_paths.json"


class AddedPaths:
    """The absolute paths, kept in a file; safe between threads. What another process adds is seen at the next look."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: tuple[int, tuple[Path, ...]] = (0, ())

    def paths(self) -> tuple[Path, ...]:
        """The folders and files in the order in which they were added, those that are gone too."""
        try:
            changed = self._file.stat().st_mtime_ns
        except OSError:
            return ()
        with self._lock:
            if self._known[0] != changed:
                self._known = changed, self._read()
            return self._known[1]

    def add(self, path: Path) -> None:
        """Name one more. Raises UserError when that cannot be written down."""
        self._write((*(known for known in self.paths() if known != path), path))

    def forget(self, path: Path) -> None:
        """Name it no longer; the file or folder itself is left alone."""
        self._write(tuple(known for known in self.paths() if known != path))

    def _read(self) -> tuple[Path, ...]:
        try:
            listed = json.loads(self._file.read_text(encoding="utf-8"))
            return tuple(Path(path) for path in listed if isinstance(path, str) and Path(path).is_absolute())
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s is not read, so that no model outside the models folder is listed: %s", self._file, error)
            return ()

    def _write(self, paths: Sequence[Path]) -> None:
        part = self._file.with_name(f".{FILE_NAME}.{os.getpid()}.part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps([str(path) for path in paths], indent=2) + "\n", encoding="utf-8")
            part.replace(self._file)
        except OSError as error:
            raise UserError("error.folder_not_writable", folder=str(self._file.parent)) from error
        with self._lock:
            self._known = (0, ())


class Roots(Sequence[Path]):
    """The folders that models may be read from, and what was added, as it is at each look."""

    def __init__(self, fixed: Sequence[Path], added: AddedPaths) -> None:
        self._fixed = tuple(fixed)
        self._added = added

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        return (*self._fixed, *self._added.paths())[index]

    def __len__(self) -> int:
        return len(self._fixed) + len(self._added.paths())
