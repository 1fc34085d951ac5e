"""Walking a folder: which picture files there are, without opening one of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from webui.search.folders import SearchFolder

SUFFIXES: Final = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".mpo",
        ".ppm",
        ".pgm",
        ".pbm",
        ".ico",
        ".avif",
    ]
)
"""Endings of the formats in `vision.pictures.READABLE_FORMATS`; what a file is, its content tells when it is opened."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A picture file in a folder of the owner's."""

    path: Path
    folder: str
    size: int
    modified_ns: int


@dataclass(slots=True)
class Scan:
    """What a walk has found. `unreadable` are folders and files that could not be looked at, `links_out` counts the
    links that lead out of the folder and were not followed.
    """

    files: list[FoundFile] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    missing: list[SearchFolder] = field(default_factory=list)
    links_out: int = 0


def scan_folder(folder: SearchFolder, others: Collection[Path] = (), into: Scan | None = None) -> Scan:
    """All picture files below `folder`; hidden names are passed over, and so are `others`: folders listed themselves.

    No link is followed: one that stays inside leads to a file that is found anyway, one that leaves is counted.
    """
    scan = into if into is not None else Scan()
    if not folder.path.is_dir():
        scan.missing.append(folder)
        return scan
    waiting = [folder.path]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            scan.unreadable.append(here)
            continue
        for entry in entries:
            if not entry.name.startswith("."):
                _look_at(entry, folder, others, waiting, scan)
    return scan


def _look_at(
    entry: os.DirEntry[str], folder: SearchFolder, others: Collection[Path], waiting: list[Path], scan: Scan
) -> None:
    path = Path(entry.path)
    try:
        if entry.is_symlink():
            scan.links_out += not folder.holds(path)
        elif entry.is_dir(follow_symlinks=False):
            if path not in others:
                waiting.append(path)
        elif path.suffix.lower() in SUFFIXES:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                scan.files.append(FoundFile(path, folder.id, status.st_size, status.st_mtime_ns))
    except FileNotFoundError:  # gone since the listing
        return
    except (OSError, RuntimeError):  # RuntimeError: a circle of links
        scan.unreadable.append(path)
