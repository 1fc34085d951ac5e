"""What a running program has for searching: the folders, a store for each model, and the run that indexes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from webui.errors import UserError
from webui.search.folders import SearchFolders, deepest
from webui.search.index import IndexCounts
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity, PictureRow
from webui.search.thumbnails import Thumbnails
from webui.vision.pictures import PictureLimits


class IndexPhase(StrEnum):
    """What the run is about; the values are message keys."""

    IDLE = "search.phase.idle"
    WAITING = "search.phase.waiting"
    SCANNING = "search.phase.scanning"
    EMBEDDING = "search.phase.embedding"
    TIDYING = "search.phase.tidying"
    DONE = "search.phase.done"
    STOPPED = "search.phase.stopped"
    FAILED = "search.phase.failed"

    @property
    def busy(self) -> bool:
        """Whether there is something to stop."""
        return self in (IndexPhase.WAITING, IndexPhase.SCANNING, IndexPhase.EMBEDDING, IndexPhase.TIDYING)


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What is said of the run that goes on, or of the last one. `error` is None for a failure that is our defect."""

    phase: IndexPhase = IndexPhase.IDLE
    counts: IndexCounts = field(default_factory=IndexCounts)
    device: str = ""
    error: UserError | None = None


class IndexBoard:
    """Where the run says how far it is and others read it; only one run at a time. Safe from any thread."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._changed = threading.Condition()
        self._status = IndexStatus()
        self._version = 0
        self._new: list[Path] = []

    @property
    def status(self) -> IndexStatus:
        """The newest."""
        return self._status

    def begin(self) -> None:
        """Claim the board for a run. Raises UserError while another goes on."""
        with self._changed:
            if self._status.phase.busy:
                raise UserError("error.index_running")
            self.cancelled.clear()
            self._put(IndexStatus(IndexPhase.WAITING))

    def say(self, **changes: object) -> None:
        """Change fields of the status."""
        with self._changed:
            self._put(replace(self._status, **changes))  # type: ignore[arg-type]

    def follow(self, timeout: float | None = None) -> Iterator[IndexStatus]:
        """The status now and at every change, until no run goes on; TimeoutError when nothing changes for so long."""
        seen = -1
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda seen=seen: self._version != seen, timeout):  # type: ignore[misc]
                    raise TimeoutError(f"the index run has said nothing for {timeout} s")
                seen, status = self._version, self._status
            yield status
            if not status.phase.busy:
                return

    def add_new(self, path: Path) -> bool:
        """Remember a picture that was just made; True when it is the first one that waits."""
        with self._changed:
            self._new.append(path)
            return len(self._new) == 1

    def waiting_pictures(self) -> int:
        """How many pictures were made and are not indexed yet."""
        return len(self._new)

    def take_new(self) -> tuple[Path, ...]:
        """The pictures that were remembered; they are forgotten here."""
        with self._changed:
            new, self._new = tuple(self._new), []
            return new

    def _put(self, status: IndexStatus) -> None:
        self._status = status
        self._version += 1
        self._changed.notify_all()


class PictureSearch:
    """Made once a program; opens nothing before the first search."""

    def __init__(self, data_dir: Path, outputs_dir: Path, limits: PictureLimits) -> None:
        self._folder = data_dir / "search"
        self.folders = SearchFolders(self._folder / "folders.json", outputs_dir)
        self.thumbnails = Thumbnails(data_dir / "cache" / "thumbnails", limits)
        self.board = IndexBoard()
        self._stores: dict[str, LanceStore] = {}
        self._walked: set[str] = set()
        self._lock = threading.Lock()

    def allowed_file(self, row: PictureRow, *, owner: bool) -> Path:
        """The file of a picture that may be shown now: it lies in a listed folder, links resolved again.

        For anybody but the owner the folder must be shared. Raises UserError.
        """
        path = Path(row.path)
        folder = deepest(path, self.folders.listed())
        if folder is None or not (owner or folder.shared) or not folder.holds(path) or not path.is_file():
            raise UserError("error.search_picture_gone")
        return path

    def was_walked(self, table: str) -> bool:
        """Whether this program has compared the outputs folder with a table."""
        return table in self._walked

    def mark_walked(self, table: str) -> None:
        """It has."""
        self._walked.add(table)

    def store(self, identity: ModelIdentity) -> LanceStore:
        """The store of a model's vectors; the same one every time."""
        with self._lock:
            return self._stores.setdefault(identity.table, LanceStore(self._folder / "tables", identity))

    def opened(self, table: str) -> LanceStore | None:
        """A store that was asked for before, by its table's name."""
        with self._lock:
            return self._stores.get(table)
