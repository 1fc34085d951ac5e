"""How the log looks in a terminal: whatever is in a message, nobody can make it look like another one."""

from __future__ import annotations

import logging
import re
from typing import Final

from typing_extensions import override

_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, changes its colours or turns letters round; not the tab and the end of a line."""


def printable(text: str) -> str:
    r"""`text` with control characters written out ("\x1b"), so that a terminal shows them and does nothing."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


class PlainFormatter(logging.Formatter):
    """A message begins at the margin, and only a message does: its further lines, which may be anybody's, do not."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", "\n    ")


def log_plainly() -> None:
    """Let everything that is logged come out in that form, the web server's messages too. Safe to call again."""
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, PlainFormatter) for handler in root.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter())
        root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
