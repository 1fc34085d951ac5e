"""Everything that was drawn, newest first: found by its words, marked as a favourite, deleted and brought back.

A picture's id is its place below the outputs folder, "2026-01-31/00012-42.png". What is deleted moves to a hidden
folder beside the days and comes back from there, until the bin is emptied.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.store.gallery import DELETED, Gallery, SavedPicture, open_picture
from webui.store.infotext import read_infotext
from webui.store.json_file import read_json, write_json

_ID: Final = re.compile(r"\d{4}-\d{2}-\d{2}/\d{5,}-\d+\.png")


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a search through the pictures' words is: `done` of `total` were read, `found` in the album's order."""

    done: int
    total: int
    found: tuple[str, ...]


class Album:
    """The pictures of one outputs folder; safe from any thread. `marks` is the file that keeps the favourites."""

    def __init__(self, gallery: Gallery, marks: Path) -> None:
        self._gallery = gallery
        self._marks = marks
        self._lock = threading.Lock()
        self._favourites: frozenset[str] | None = None
        self._words: dict[str, tuple[int, int, str]] = {}

    def pictures(self) -> tuple[str, ...]:
        """The ids of all pictures, newest first. No file is opened."""
        return tuple(self._id(path) for path in self._gallery.newest_first())

    def file(self, picture: str) -> Path:
        """Where a picture lies; raises UserError for one that is not there and for what is no id."""
        path = self._gallery.outputs_dir / picture
        if not _ID.fullmatch(picture) or path.is_symlink() or not path.is_file():
            raise UserError("error.album_picture_gone")
        return path

    def open(self, picture: str) -> SavedPicture:
        """A picture with its infotext; raises UserError."""
        return open_picture(self.file(picture))

    def id_of(self, path: Path) -> str | None:
        """The id of the picture that lies at `path`; None for what is no picture of this album."""
        if not path.is_relative_to(self._gallery.outputs_dir):
            return None
        picture = self._id(path)
        return picture if _ID.fullmatch(picture) else None

    def words(self, picture: str) -> str:
        """The infotext of a picture, "" where it has none that can be read; kept until the file changes."""
        try:
            path = self.file(picture)
            stat = path.stat()
            kept = self._words.get(picture)
            if kept is not None and kept[:2] == (stat.st_mtime_ns, stat.st_size):
                return kept[2]
            words = read_infotext(path)
        except (UserError, OSError):
            return ""
        self._words[picture] = stat.st_mtime_ns, stat.st_size, words
        return words

    def search(self, words: str, *, favourites: bool = False) -> Iterator[Reading]:
        """The pictures whose infotext holds each of `words`, in capitals or not; one Reading a picture that is read.

        Without words nothing is read: then there is one Reading.
        """
        wanted = words.casefold().split()
        marked = self.favourites() if favourites else None
        pictures = [picture for picture in self.pictures() if marked is None or picture in marked]
        if not wanted:
            yield Reading(len(pictures), len(pictures), tuple(pictures))
            return
        found: list[str] = []
        for done, picture in enumerate(pictures, 1):
            held = self.words(picture).casefold()
            if all(word in held for word in wanted):
                found.append(picture)
            yield Reading(done, len(pictures), tuple(found) if done == len(pictures) else ())
        if not pictures:
            yield Reading(0, 0, ())

    def favourites(self) -> frozenset[str]:
        """The ids that were marked; raises UserError when the file that keeps them is damaged."""
        with self._lock:
            if self._favourites is None:
                self._favourites = self._read_favourites()
            return self._favourites

    def mark(self, picture: str, *, favourite: bool) -> None:
        """Make a picture a favourite, or no longer; raises UserError when that cannot be kept."""
        self.file(picture)
        before = self.favourites()
        after = before | {picture} if favourite else before - {picture}
        with self._lock:
            write_json(self._marks, sorted(after))
            self._favourites = after

    def delete(self, pictures: Iterable[str]) -> tuple[str, ...]:
        """Move pictures into the bin; those that are there now. One that had gone already is passed over."""
        return self._move(pictures, self._gallery.outputs_dir, self._bin)

    def restore(self, pictures: Iterable[str]) -> tuple[str, ...]:
        """Bring pictures back from the bin; those that are back."""
        return self._move(pictures, self._bin, self._gallery.outputs_dir)

    def deleted(self) -> tuple[str, ...]:
        """The ids of what is in the bin."""
        found = (path.relative_to(self._bin).as_posix() for path in self._bin.glob("*/*.png"))
        return tuple(sorted((picture for picture in found if _ID.fullmatch(picture)), reverse=True))

    def empty_bin(self) -> int:
        """Delete for good what is in the bin; how many pictures that were. Raises UserError."""
        pictures = self.deleted()
        for picture in pictures:
            try:
                (self._bin / picture).unlink(missing_ok=True)
            except OSError as error:
                raise UserError("error.folder_not_writable", folder=str(self._bin)) from error
        self._forget_marks(pictures)
        return len(pictures)

    def bytes_of(self, pictures: Sequence[str], *, in_bin: bool = False) -> int:
        """How much room pictures take; nothing for those that have gone."""
        folder = self._bin if in_bin else self._gallery.outputs_dir
        total = 0
        for picture in pictures:
            try:
                total += (folder / picture).stat().st_size
            except FileNotFoundError:
                continue
        return total

    @property
    def _bin(self) -> Path:
        return self._gallery.outputs_dir / DELETED

    def _id(self, path: Path) -> str:
        return path.relative_to(self._gallery.outputs_dir).as_posix()

    def _move(self, pictures: Iterable[str], source: Path, target: Path) -> tuple[str, ...]:
        moved = []
        for picture in pictures:
            if not _ID.fullmatch(picture) or (target / picture).exists():
                continue
            try:
                (target / picture).parent.mkdir(parents=True, exist_ok=True)
                (source / picture).rename(target / picture)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UserError("error.folder_not_writable", folder=str(target)) from error
            moved.append(picture)
        return tuple(moved)

    def _read_favourites(self) -> frozenset[str]:
        try:
            kept = read_json(self._marks)
        except (ValueError, OSError) as error:
            raise UserError("error.favourites_broken", file=str(self._marks)) from error
        if kept is None:
            return frozenset()
        if not isinstance(kept, list) or not all(isinstance(picture, str) for picture in kept):
            raise UserError("error.favourites_broken", file=str(self._marks))
        return frozenset(kept)

    def _forget_marks(self, pictures: Iterable[str]) -> None:
        before = self.favourites()
        after = before - set(pictures)
        if after != before:
            with self._lock:
                write_json(self._marks, sorted(after))
                self._favourites = after
