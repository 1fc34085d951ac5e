"""Bringing a store up to date with folders: only what is new or changed is read, only what is unknown is embedded.

A run can stop or die at any time and be started again: what was written stays, and the next run goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from webui.clip.cache import Embedded, EmbeddingCache, EmbeddingKey, PictureFacts
from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.search.folders import OUTPUTS, SearchFolder
from webui.search.rows import KnownPicture, PictureRow, picture_id
from webui.search.scan import FoundFile, Scan, scan_folder
from webui.search.similar import look_of_file
from webui.search.store import PictureStore
from webui.store.infotext import parse_infotext, read_infotext
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.clip.embed import EmbeddedPictures, Encoder

_log = logging.getLogger(__name__)

ROWS_A_WRITE: Final = 1000
SECONDS_A_WRITE: Final = 30.0
"""Rows are written at the latest after this time, so that a slow machine that dies does not lose minutes of work."""

MAX_LISTED: Final = 200
_FILES_A_STEP: Final = 64


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """How far a run is. Of `total` files that were new or changed, `done` are dealt with: `embedded` by the model,
    `reused` by their content (renamed, copied, touched), or `refused`, the first `MAX_LISTED` of which are listed in
    `problems` by name. `unchanged` were skipped, `vanished` dropped. `seconds` were spent on reading and embedding.
    """

    total: int = 0
    done: int = 0
    embedded: int = 0
    reused: int = 0
    refused: int = 0
    unchanged: int = 0
    vanished: int = 0
    links_out: int = 0
    missing_folders: tuple[str, ...] = ()
    problems: tuple[tuple[str, UserError], ...] = ()
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Pictures a second; None before the first."""
        return self.done / self.seconds if self.done and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far."""
        rate = self.rate
        return (self.total - self.done) / rate if rate else None


class IndexRun:
    """One run over `folders` (those inside which others of `every` lie leave these to them).

    `prepare()`, then `advance(...)` until it returns True. Not for several threads at a time.
    """

    def __init__(
        self, store: PictureStore, folders: Sequence[SearchFolder], every: Collection[SearchFolder] = ()
    ) -> None:
        self.counts = IndexCounts()
        self._store = store
        self._folders = {folder.id: folder for folder in folders}
        self._others = {folder.path for folder in (*every, *folders)}
        self._waiting: list[FoundFile] = []
        self._vanished: list[str] = []
        self._known: Mapping[str, KnownPicture] = {}
        self._by_content: dict[str, str] = {}
        self._unwritten: dict[str, PictureRow] = {}
        self._written_at = time.monotonic()

    def prepare(self, watch: Watch = UNWATCHED) -> None:
        """Look what there is to do. Raises UserError when another process is writing."""
        with self._store.writing():
            scan = Scan()
            for folder in self._folders.values():
                watch.check()
                scan_folder(folder, self._others - {folder.path}, scan)
            self._known = self._store.known()
        self._by_content = {known.content: known.id for known in self._known.values()}
        self._waiting = [file for file in scan.files if not self._is_unchanged(file)]
        self._waiting.reverse()
        self._vanished = self._find_vanished(scan)
        unreadable = [(str(path), UserError("error.search_unreadable", name=path.name)) for path in scan.unreadable]
        self.counts = IndexCounts(
            total=len(self._waiting),
            refused=len(unreadable),
            unchanged=len(scan.files) - len(self._waiting),
            links_out=scan.links_out,
            missing_folders=tuple(str(folder.path) for folder in scan.missing if self._is_missed(folder)),
            problems=tuple(unreadable[:MAX_LISTED]),
        )

    def advance(self, encoder: Encoder, seconds: float = float("inf"), watch: Watch = UNWATCHED) -> bool:
        """Go on for about `seconds`; True when all is done. What is finished is written whatever happens."""
        deadline = time.monotonic() + seconds
        try:
            while self._waiting and time.monotonic() < deadline:
                watch.check()
                self._step(encoder, watch)
                if len(self._unwritten) >= ROWS_A_WRITE or time.monotonic() - self._written_at > SECONDS_A_WRITE:
                    self._write()
        except BaseException:
            self._write()
            raise
        if self._waiting:
            return False
        self.finish()
        return True

    @property
    def needs_model(self) -> bool:
        """Whether there are files to embed; without any, `finish()` is all there is to do."""
        return bool(self._waiting)

    def finish(self) -> None:
        """Write what waits and drop what has vanished."""
        self._write()
        self._store.delete(self._vanished)
        self.counts = replace(self.counts, vanished=len(self._vanished))
        self._vanished = []

    def _is_unchanged(self, file: FoundFile) -> bool:
        known = self._known.get(str(file.path))
        found = (file.folder, file.size, file.modified_ns)
        return known is not None and (known.folder, known.size, known.modified_ns) == found

    def _is_missed(self, folder: SearchFolder) -> bool:
        """Whether a missing folder is worth a word: the outputs folder is not there before the first picture."""
        return folder.id != OUTPUTS or any(known.folder == OUTPUTS for known in self._known.values())

    def _find_vanished(self, scan: Scan) -> list[str]:
        """Rows of these folders whose file is gone; not where it cannot be seen: a disk may be unplugged."""
        seen = {str(file.path) for file in scan.files}
        blind = [*scan.unreadable, *(folder.path for folder in scan.missing)]
        missing = {folder.id for folder in scan.missing}
        return [
            known.id
            for path, known in self._known.items()
            if known.folder in self._folders
            and known.folder not in missing
            and path not in seen
            and not any(Path(path).is_relative_to(place) for place in blind)
        ]

    def _step(self, encoder: Encoder, watch: Watch) -> None:
        from webui.clip.embed import embed_pictures

        started = time.monotonic()
        files: list[FoundFile] = []
        refused: list[tuple[str, UserError]] = []
        while self._waiting and len(files) < _FILES_A_STEP:
            file = self._waiting.pop()
            if _is_storable(file.path):
                files.append(file)
            else:
                refused.append((ascii(str(file.path)), UserError("error.search_name", name=ascii(file.path.name))))
        stored = _StoredVectors(self._row_with)
        asked = [PictureFile(self._shown(file), file.path) for file in files]
        embedded = embed_pictures(replace(encoder, cache=stored), asked, _Checked(watch))
        for row in _rows(files, embedded, stored):
            self._unwritten[row.id] = row
            self._by_content[row.content] = row.id
        refused += [(picture.name, picture.error) for picture in embedded.refused]
        counts = self.counts
        self.counts = replace(
            counts,
            done=counts.done + len(files) + len(refused) - len(embedded.refused),
            embedded=counts.embedded + embedded.encoded,
            reused=counts.reused + len(embedded.pictures) - embedded.encoded,
            refused=counts.refused + len(refused),
            problems=(*counts.problems, *refused)[:MAX_LISTED],
            seconds=counts.seconds + time.monotonic() - started,
        )

    def _shown(self, file: FoundFile) -> str:
        """What a file is called in messages: its folder's name and the path below it."""
        folder = self._folders[file.folder]
        return str(Path(folder.name) / file.path.relative_to(folder.path))

    def _row_with(self, content: str) -> PictureRow | None:
        """A row of a file with the same bytes, if there is one."""
        found = self._by_content.get(content)
        if found is None:
            return None
        if found in self._unwritten:
            return self._unwritten[found]
        return next(iter(self._store.rows([found])), None)

    def _write(self) -> None:
        rows, self._unwritten = list(self._unwritten.values()), {}
        self._store.upsert(rows)
        self._written_at = time.monotonic()


def index_folder(
    store: PictureStore, encoder: Encoder, path: Path, watch: Watch = UNWATCHED, folder_id: str = ""
) -> IndexCounts:
    """Index one folder to its end: for notebooks, which need no list of folders."""
    resolved = path.resolve()
    run = IndexRun(store, [SearchFolder(folder_id or picture_id(str(resolved))[:12], resolved)])
    run.prepare(watch)
    run.advance(encoder, watch=watch)
    store.optimize()
    return run.counts


class _StoredVectors(EmbeddingCache):
    """What the store knows of a content, so that a renamed file is neither decoded nor embedded again."""

    def __init__(self, row_with: Callable[[str], PictureRow | None]) -> None:
        super().__init__(0)
        self.found: dict[str, PictureRow] = {}
        self._row_with = row_with

    def get(self, key: EmbeddingKey) -> Embedded | None:
        row = self._row_with(key.content)
        if row is None:
            return None
        self.found[key.content] = row
        return Embedded(row.vector, PictureFacts(row.width, row.height, "", (), b""))


class _Checked:
    """Passes on the wish to stop; how far a step is, nobody asks."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def check(self) -> None:
        self._watch.check()

    def progress(self, step: int, total: int, phase: str) -> None:
        """A step takes a second or so."""


def _rows(files: Sequence[FoundFile], embedded: EmbeddedPictures, stored: _StoredVectors) -> list[PictureRow]:
    rows = []
    for picture, vector in zip(embedded.pictures, embedded.vectors, strict=True):
        file = files[picture.source]
        place: dict[str, Any] = {
            "path": str(file.path), "folder": file.folder, "size": file.size, "modified_ns": file.modified_ns,
        }  # fmt: skip
        if (known := stored.found.get(picture.content)) is not None:
            rows.append(replace(known, **place))
            continue
        length = float(np.linalg.norm(vector))
        rows.append(
            PictureRow(
                **place,
                content=picture.content,
                width=picture.facts.width,
                height=picture.facts.height,
                prompt=_prompt_of(file.path),
                look=look_of_file(picture.facts.thumbnail),
                vector=np.asarray(vector / length, np.float32),
            )
        )
    return rows


def _prompt_of(path: Path) -> str:
    """The prompt in a PNG's infotext; "" for every other file."""
    if path.suffix.lower() != ".png":
        return ""
    try:
        return str(parse_infotext(read_infotext(path)).values.get("prompt", ""))
    except UserError:
        return ""


def _is_storable(path: Path) -> bool:
    """Whether the name is text: Linux lets a name be any bytes."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
