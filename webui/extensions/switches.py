"""Which extensions the owner has switched off: a small JSON file in the data folder."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from webui.store.json_file import read_json, write_json

_log = logging.getLogger(__name__)

SWITCHES_NAME: Final = "extensions.json"


class Switches:
    """The ids that are switched off; what is not named is on. Safe from any thread of this process."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / SWITCHES_NAME
        self._lock = threading.Lock()

    def off(self) -> frozenset[str]:
        """The ids; none where the file cannot be read, which is logged."""
        try:
            content = read_json(self.path)
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read, so every extension counts as switched on: %s", self.path, error)
            return frozenset()
        ids = content.get("off") if isinstance(content, dict) else None
        return frozenset(id_ for id_ in ids if isinstance(id_, str)) if isinstance(ids, list) else frozenset()

    def switch(self, extension: str, *, on: bool) -> None:
        """Switch one on or off, from the next start; raises UserError where the file cannot be written."""
        with self._lock:
            off = self.off() - {extension} if on else self.off() | {extension}
            write_json(self.path, {"off": sorted(off)})
