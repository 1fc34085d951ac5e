"""What each open page "Inside" looks at: a recorded run, perhaps a second one, and the jobs behind them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.errors import UserError
from webui.pages.clip_run import JobStep

if TYPE_CHECKING:
    from webui.diffusion.ablation import Ablation
    from webui.tasks.inside import LockIn, RecordedRun

MAX_DESKS: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class InsideDesk:
    """`saved` is the file behind the download button, None for a trace that was opened; `problem` why one was not."""

    trace: Trace | None = None
    saved: Path | None = None
    problem: UserError | None = None
    recording: JobStep[RecordedRun] = field(default_factory=JobStep)
    other: Trace | None = None
    comparing: JobStep[RecordedRun] = field(default_factory=JobStep)
    ablating: JobStep[Ablation] = field(default_factory=JobStep)
    locking: JobStep[LockIn] = field(default_factory=JobStep)

    def drawn_from(self) -> GenerateRequest | None:
        """The request that draws the run looked at again, with its own seed."""
        if self.trace is None:
            return None
        header = self.trace.header
        return replace(header.request, seed=header.seed, batch_size=1, batch_count=1)


class InsideDesks:
    """The desk of each session, at most `MAX_DESKS`, for a trace takes megabytes; safe from any thread."""

    def __init__(self) -> None:
        self._desks: OrderedDict[str, InsideDesk] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> InsideDesk:
        """The session's desk; an empty one for a session that has none."""
        with self._lock:
            return self._desks.get(session, InsideDesk())

    def change(self, session: str, **fields: Any) -> InsideDesk:
        """Put `fields` on the session's desk and leave the rest as it is."""
        with self._lock:
            desk = replace(self._desks.pop(session, InsideDesk()), **fields)
            self._desks[session] = desk
            while len(self._desks) > MAX_DESKS:
                self._desks.popitem(last=False)
            return desk

    def forget(self, session: str) -> None:
        """The session's page has closed."""
        with self._lock:
            self._desks.pop(session, None)
