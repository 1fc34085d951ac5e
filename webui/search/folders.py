"""The folders that the owner added: the only ones that are read, and which of them remote visitors may search."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.store.json_file import write_json

OUTPUTS: Final = "outputs"
"""The id of the folder where generated pictures are saved; it is always there."""


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """A folder whose pictures can be searched. `path` is absolute with links resolved."""

    id: str
    path: Path
    shared: bool = False

    @property
    def name(self) -> str:
        """What visitors see of it."""
        return self.path.name or str(self.path)

    def holds(self, path: Path) -> bool:
        """Whether `path`, links followed, lies in it."""
        return path.resolve().is_relative_to(self.path)


class SearchFolders:
    """The list in `file`, read anew when the file changes; safe between threads, and written whole or not at all."""

    def __init__(self, file: Path, outputs_dir: Path) -> None:
        self._file = file
        self._outputs_dir = outputs_dir
        self._lock = threading.Lock()

    def listed(self, *, only_shared: bool = False) -> tuple[SearchFolder, ...]:
        """All folders, the outputs first. Raises UserError when the list is damaged."""
        outputs = SearchFolder(OUTPUTS, self._outputs_dir.resolve())
        found = {folder.id: folder for folder in self._read()}
        if OUTPUTS in found:
            outputs = replace(outputs, shared=found.pop(OUTPUTS).shared)
        every = (outputs, *found.values())
        return tuple(folder for folder in every if folder.shared or not only_shared)

    def add(self, path: Path) -> SearchFolder:
        """Let a folder be read. Adding it again changes nothing. Raises UserError when it is no folder."""
        resolved = path.expanduser().resolve()
        if not resolved.is_dir():
            raise UserError("error.search_folder_missing", folder=str(path))
        if not os.access(resolved, os.R_OK | os.X_OK):
            raise UserError("error.search_folder_unreadable", folder=str(path))
        _check_storable(resolved)
        for folder in self.listed():
            if folder.path == resolved:
                return folder
        added = SearchFolder(secrets.token_hex(6), resolved)
        with self._lock:
            self._write([*self._read(), added])
        return added

    def remove(self, folder_id: str) -> None:
        """Take a folder off the list, so that its pictures are found no more; the files stay where they are."""
        with self._lock:
            self._write([folder for folder in self._read() if folder.id != folder_id])

    def share(self, folder_id: str, shared: bool) -> SearchFolder:
        """Let remote visitors search a folder, or no longer. Raises UserError for a folder that is not listed."""
        changed = replace(self.find(folder_id), shared=shared)
        with self._lock:
            others = [folder for folder in self._read() if folder.id != folder_id]
            self._write([*others, changed])
        return changed

    def find(self, wanted: str, *, only_shared: bool = False) -> SearchFolder:
        """The folder with this id, this path, or this name if only one has it. Raises UserError.

        With `only_shared` a path finds nothing: an answer would tell where folders lie.
        """
        listed = self.listed(only_shared=only_shared)
        path = None if only_shared else Path(wanted).expanduser().resolve()
        for matching in (
            [folder for folder in listed if folder.id == wanted],
            [folder for folder in listed if folder.path == path],
            [folder for folder in listed if folder.name == wanted],
        ):
            if len(matching) == 1:
                return matching[0]
        raise UserError("error.search_folder_unknown", folder=wanted, folders=", ".join(f.name for f in listed))

    def _read(self) -> list[SearchFolder]:
        try:
            listed = json.loads(self._file.read_text(encoding="utf-8"))["folders"]
            return [SearchFolder(str(f["id"]), Path(f["path"]), f["shared"] is True) for f in listed]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError("error.search_folders_broken", file=str(self._file)) from error

    def _write(self, folders: Iterable[SearchFolder]) -> None:
        listed = [asdict(folder) | {"path": str(folder.path)} for folder in folders]
        write_json(self._file, {"folders": listed})


def _check_storable(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError("error.search_folder_unreadable", folder=ascii(str(path))) from error


def deepest(path: Path, folders: Iterable[SearchFolder]) -> SearchFolder | None:
    """Of the folders that hold `path` (resolved already) the innermost one: it alone owns the file."""
    holding = [folder for folder in folders if path.is_relative_to(folder.path)]
    return max(holding, key=lambda folder: len(folder.path.parts), default=None)
