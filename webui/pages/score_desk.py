"""What each open similarity page has on its desk: its pictures, its results, the cell looked at.

Kept here rather than in the page's own state, so that matrices and vectors are neither copied at events nor held for
every page that was ever opened: the desks used longest ago are cleared first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webui.clip.request import CellRequest, ScoreRequest
from webui.errors import UserError
from webui.pages.clip_run import JobStep
from webui.pages.session_desks import SessionDesks
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.clip.score import ScoreResult
    from webui.clip.worked import WorkedExample
    from webui.clip.zeroshot import Accuracy, Answers, ZeroShot
    from webui.tasks.clip import ExplainedScore

MAX_DESKS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """Zero-shot answers, with what they were compared to."""

    answers: ZeroShot
    refused: tuple[UserError, ...]
    top: int
    right: Answers | None
    accuracy: Accuracy | None


@dataclass(frozen=True, slots=True)
class Nearest:
    """The labels nearest to each text."""

    texts: tuple[str, ...]
    labels: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Desk:
    """`request` is what `scoring` answers; `cell` is the picture and text looked at, by their places in the result.

    `vectors` are the calculator's, as they were written; () before the first change.
    """

    pictures: tuple[PictureFile, ...] = ()
    refused: UserError | None = None
    request: ScoreRequest | None = None
    measure: str = "cosine"
    scoring: JobStep[ScoreResult] = field(default_factory=JobStep)
    cell: tuple[int, int] | None = None
    working: JobStep[WorkedExample] = field(default_factory=JobStep)
    explaining: JobStep[ExplainedScore] = field(default_factory=JobStep)
    sorting: JobStep[Sorted] = field(default_factory=JobStep)
    finding: JobStep[Nearest] = field(default_factory=JobStep)
    vectors: tuple[str, ...] = ()

    @property
    def result(self) -> ScoreResult | None:
        """The matrix that is shown, if there is one."""
        return self.scoring.value

    def cell_request(self) -> CellRequest | None:
        """The cell looked at, ready to be worked out."""
        if self.result is None or self.request is None or self.cell is None:
            return None
        picture, words = self.cell
        source = self.result.pictures[picture].source
        return CellRequest(self.request.pictures[source], self.result.texts[words], self.request.model)


class Desks(SessionDesks[Desk]):
    """The desk of each session, at most `MAX_DESKS`; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(Desk, MAX_DESKS)
