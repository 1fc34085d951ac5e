"""What the page's own calls carry: which session they are for, and which files they name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from webui.errors import UserError


def read_json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a call is. Raises UserError for anything else."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("error.not_json") from error
    if not isinstance(values, dict):
        raise UserError("error.not_json")
    return values


def check_files(values: object, folders: Sequence[Path]) -> None:
    """Raise UserError when a file that a call names, as an upload does, is not in one of `folders`.

    Gradio checks what says that it is a file; a handler that takes a value as it comes would read any {"path": ...}.
    """
    for path in _paths(values):
        if not lies_in(path, folders):
            raise UserError("error.foreign_file")


def lies_in(path: str, folders: Sequence[Path]) -> bool:
    """Whether `path`, links followed, is an absolute path inside one of `folders`; an address never is."""
    if "\0" in path or "://" in path or not Path(path).is_absolute():
        return False
    try:
        resolved = Path(path).resolve()
    except (OSError, RuntimeError):  # a loop of links, a name that is too long
        return False
    return any(resolved.is_relative_to(folder.resolve()) for folder in folders)


def _paths(values: object) -> Iterator[str]:
    """Every {"path": text} at any depth; no recursion, since the depth is the sender's."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(path := value.get("path"), str) and path:
                yield path
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
