"""Small JSON files that are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from webui.errors import UserError
from webui.store.whole_file import write_whole


def read_json(path: Path) -> Any:
    """What the file holds, None where there is no file; raises ValueError for what is not JSON, and OSError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write_json(path: Path, value: object) -> None:
    """Put `value` into the file, in place of what was there; raises UserError where the folder cannot take it."""
    content = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.encode("utf-8"))
    except OSError as error:
        raise UserError("error.folder_not_writable", folder=str(path.parent)) from error
