"""What each open Vision page has looked at; the pages used longest ago are forgotten first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webui.pages.clip_run import JobStep
from webui.pages.session_desks import SessionDesks
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


class VisionDesks(SessionDesks[VisionDesk]):
    """The desk of each session, at most `MAX_DESKS`; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(VisionDesk, MAX_DESKS)
