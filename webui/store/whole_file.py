"""Files that appear whole or not at all, whenever the process or the machine dies."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path, unfinished: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write into, which takes `path`'s place when the block ends well and is gone when it does not.

    Until then the content lies in `unfinished`, a hidden file of the same folder (None: one is named here). When the
    block has ended, the content and its name are on the disk. Raises OSError.
    """
    hidden = path.with_name(f".{secrets.token_hex(8)}.part") if unfinished is None else unfinished
    try:
        with hidden.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` into the file, in place of what was there. Raises OSError."""
    with written_whole(path) as file:
        file.write(content)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last; Windows cannot open folders and needs no such step."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
