"""The outputs folder: one folder a day, numbered PNG files that carry their infotext.

A picture appears whole or not at all: it is written under a hidden name, flushed to the disk, and renamed. The hidden
name holds the number, so that two threads or processes never give the same number to two pictures.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from webui.errors import UserError
from webui.store.infotext import PNG_KEY, read_infotext
from webui.store.whole_file import written_whole

_log = logging.getLogger(__name__)

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_PICTURE: Final = re.compile(r"(\d{5,})-(\d+)\.png")
_UNFINISHED: Final = re.compile(r"\.(\d{5,})\.png\.part")
DELETED: Final = ".deleted"
"""The folder beside the days in which deleted pictures lie; their numbers are not given again."""
STALE_SECONDS: Final = 3600.0
"""An unfinished file of this age was left behind by a process that died; a picture takes well under a second."""


@dataclass(frozen=True, slots=True)
class SavedPicture:
    """A picture in the outputs folder; `infotext` is what its PNG carries."""

    path: Path
    seed: int
    width: int
    height: int
    infotext: str


class Gallery:
    """Saves pictures below `outputs_dir` and lists them; safe between threads and processes.

    `now` gives the local time whose date names the folder.
    """

    def __init__(self, outputs_dir: Path, now: Callable[[], datetime] = datetime.now) -> None:
        self.outputs_dir = outputs_dir
        self._now = now

    def save(self, image: Image.Image, infotext: str, seed: int) -> SavedPicture:
        """Write `image` as YYYY-MM-DD/NNNNN-SEED.png; raises UserError when the folder cannot take it."""
        folder = self.outputs_dir / f"{self._now():%Y-%m-%d}"
        try:
            path = _write_numbered(folder, image, infotext, seed)
        except OSError as error:
            raise save_refusal(folder, error) from error
        return SavedPicture(path, seed, *image.size, infotext)

    def recent(self, count: int) -> tuple[SavedPicture, ...]:
        """The newest `count` pictures, newest first; files in the folder that are not ours are left out."""
        pictures: list[SavedPicture] = []
        for path in self.newest_first():
            if len(pictures) == count:
                break
            try:
                pictures.append(open_picture(path))
            except UserError as error:
                _log.warning("%s is left out of the gallery: %s", path, error)
        return tuple(pictures)

    def newest_first(self) -> Iterator[Path]:
        """The files of all pictures; none is opened."""
        if not self.outputs_dir.is_dir():
            return
        days = [path for path in self.outputs_dir.iterdir() if _DAY.fullmatch(path.name) and path.is_dir()]
        for day in sorted(days, reverse=True):
            numbered = [(int(match[1]), path) for path in day.iterdir() if (match := _PICTURE.fullmatch(path.name))]
            yield from (path for _, path in sorted(numbered, reverse=True))


def open_picture(path: Path) -> SavedPicture:
    """A picture that lies on the disk; raises UserError when it is no PNG with infotext."""
    infotext = read_infotext(path)
    match = _PICTURE.fullmatch(path.name)
    with Image.open(path, formats=["PNG"]) as image:
        width, height = image.size
    return SavedPicture(path, int(match[2]) if match else 0, width, height, infotext)


def png_bytes(image: Image.Image, infotext: str = "") -> bytes:
    """`image` as a PNG file that carries `infotext`, or nothing but its pixels."""
    buffer = io.BytesIO()
    _write_png(buffer, image, infotext)
    return buffer.getvalue()


def _write_numbered(folder: Path, image: Image.Image, infotext: str, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number, unfinished = _claim_number(folder)
    path = folder / f"{number:05d}-{seed}.png"
    with written_whole(path, unfinished) as file:
        _write_png(file, image, infotext)
    return path


def _write_png(file: IO[bytes], image: Image.Image, infotext: str) -> None:
    info = PngInfo()
    if infotext:
        info.add_text(PNG_KEY, infotext)
    image.save(file, format="PNG", pnginfo=info)


def _claim_number(folder: Path) -> tuple[int, Path]:
    """The next free number and its hidden file, just made; whoever has made that file owns the number."""
    while True:
        number = 1 + max((taken for taken, _ in _numbers(folder)), default=0)
        unfinished = folder / f".{number:05d}.png.part"
        try:
            unfinished.touch(exist_ok=False)
        except FileExistsError:
            continue
        # Between our listing and our claim another may have finished a picture of this very number.
        if not any(taken == number and finished for taken, finished in _numbers(folder)):
            return number, unfinished
        unfinished.unlink()


def _numbers(folder: Path) -> Iterator[tuple[int, bool]]:
    """The numbers in use and whether the picture is finished; drops what a dead process left behind."""
    deleted = folder.parent / DELETED / folder.name
    for path in deleted.iterdir() if deleted.is_dir() else ():
        if match := _PICTURE.fullmatch(path.name):
            yield int(match[1]), True
    for entry in os.scandir(folder):
        if match := _PICTURE.fullmatch(entry.name):
            yield int(match[1]), True
        elif match := _UNFINISHED.fullmatch(entry.name):
            if _is_stale(entry):
                Path(entry.path).unlink(missing_ok=True)
            else:
                yield int(match[1]), False


def _is_stale(entry: os.DirEntry[str]) -> bool:
    try:
        return time.time() - entry.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:  # finished since the listing
        return False


def save_refusal(folder: Path, error: OSError) -> UserError:
    """Why `folder` did not take a picture, in words that say what to change."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("error.disk_full", folder=str(folder))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError("error.folder_not_writable", folder=str(folder))
    return UserError("error.picture_not_saved", folder=str(folder), reason=error.strerror or str(error))
