"""What each open Vision page has looked at; the pages used longest ago are forgotten first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from webui.pages.clip_run import JobStep
from webui.vision.labels import LabelSet
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.vision.attention import AttentionRows, SeenPicture, WorkedAttention
    from webui.vision.saliency import ExplainedClass

MAX_DESKS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class VisionDesk:
    """`picture` and `model` are what `seeing` answers; `rows`, `layer`, `head` and `token` what attention shows.

    `patch` is the one whose vectors are shown.
    """

    picture: PictureFile | None = None
    model: str = ""
    labels: LabelSet | None = None
    seeing: JobStep[SeenPicture] = field(default_factory=JobStep)
    patch: int = 0
    rows: AttentionRows | None = None
    layer: int = 0
    head: int = -1
    token: int = 0
    working: JobStep[WorkedAttention] = field(default_factory=JobStep)
    explaining: JobStep[ExplainedClass] = field(default_factory=JobStep)


class VisionDesks:
    """The desk of each session, at most `MAX_DESKS`; safe from any thread."""

    def __init__(self) -> None:
        self._desks: OrderedDict[str, VisionDesk] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> VisionDesk:
        """The session's desk; an empty one for a session that has none."""
        with self._lock:
            return self._desks.get(session, VisionDesk())

    def change(self, session: str, **fields: Any) -> VisionDesk:
        """Put `fields` on the session's desk and leave the rest as it is."""
        with self._lock:
            desk = replace(self._desks.pop(session, VisionDesk()), **fields)
            self._desks[session] = desk
            while len(self._desks) > MAX_DESKS:
                self._desks.popitem(last=False)
            return desk

    def forget(self, session: str) -> None:
        """The session's page has closed."""
        with self._lock:
            self._desks.pop(session, None)
