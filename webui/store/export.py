"""Pictures in one ZIP file, to take along."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.store.whole_file import written_whole

_ROOM_LEFT: Final = 64 * 1024 * 1024


def write_zip(target: Path, files: Mapping[str, Path]) -> Iterator[int]:
    """Write `files`, by the names they get inside, to `target`; yields how many are in so far.

    PNG files are compressed already, so they are stored as they are. The file appears whole or not at all, also when
    the iteration is given up. Raises UserError when the disk has no room; a file that has gone meanwhile is left out.
    """
    size = sum(path.stat().st_size for path in files.values() if path.is_file())
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < size + _ROOM_LEFT:
        raise UserError("error.disk_full", folder=str(target.parent))
    try:
        with (
            written_whole(target) as unfinished,
            zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
        ):
            for count, (name, path) in enumerate(files.items(), 1):
                if path.is_file():
                    archive.write(path, name)
                yield count
    except OSError as error:
        raise UserError("error.disk_full", folder=str(target.parent)) from error
