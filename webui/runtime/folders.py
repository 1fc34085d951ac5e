"""Looking into folders without reading files: what lies there, how large it is, and whether it has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def folders_in(folder: Path) -> Sequence[Path]:
    """The folders in `folder` by name, hidden ones left out; none where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            names = sorted(item.name for item in found if item.is_dir() and not item.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    return [folder / name for name in names]


def measure(folder: Path) -> tuple[int, str]:
    """The size in bytes of what lies in `folder`, and a fingerprint of its files' names, sizes and times."""
    digest = hashlib.sha256()
    total = 0
    for name, size, changed in sorted(_files_below(folder)):
        total += size
        digest.update(f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return total, digest.hexdigest()[:12]


def card_licence(folder: Path) -> str:
    """The licence that a Hub model card names in the header of its README.md; empty when there is none."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as card:
            lines = [line.strip() for line in card.readlines(8192)]
    except OSError:
        return ""
    header = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    return next((line.removeprefix("license:").strip() for line in header if line.startswith("license:")), "")


def _files_below(folder: Path, prefix: str = "", depth: int = 2) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as found:
            items = list(found)
    except OSError:
        return
    for item in items:
        if item.is_dir() and depth > 1 and not item.name.startswith("."):
            yield from _files_below(Path(item.path), f"{prefix}{item.name}/", depth - 1)
        elif item.is_file():
            stat = item.stat()
            yield f"{prefix}{item.name}", stat.st_size, stat.st_mtime_ns
