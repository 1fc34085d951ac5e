"""What each open page "Inside" looks at: a recorded run, perhaps a second one, and the jobs behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.errors import UserError
from webui.pages.clip_run import JobStep
from webui.pages.sending import SentPicture, lend
from webui.pages.session_desks import SessionDesks
from webui.store.gallery import png_bytes
from webui.store.infotext import format_infotext

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

    def finished(self) -> SentPicture | None:
        """The picture of the run looked at, with what draws it again; None for a run that was stopped.

        Raises UserError when there is no room for the file.
        """
        if self.trace is None or self.trace.picture is None:
            return None
        image, header = Image.fromarray(self.trace.picture), self.trace.header
        infotext = format_infotext(header.request, header.seed, *image.size)
        return lend(f"run-{header.seed}.png", png_bytes(image, infotext), header.request.prompt)


class InsideDesks(SessionDesks[InsideDesk]):
    """The desk of each session, at most `MAX_DESKS`, for a trace takes megabytes; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(InsideDesk, MAX_DESKS)
