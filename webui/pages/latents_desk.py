"""What each open page on latents works on: its pictures, the latent in the editor, and what came of its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from webui.diffusion.latent_edits import EditHistory, Region, apply_edits
from webui.errors import UserError
from webui.pages.clip_run import JobStep
from webui.pages.session_desks import SessionDesks
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.diffusion.latent_colours import LinearColours
    from webui.tasks.latent_walks import Interpolation
    from webui.tasks.latents import EncodedPicture, Guess
    from webui.tasks.recordings import Recording

MAX_DESKS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """The latent in the editor before any edit: a picture's (`call` None), or x_t of a recorded run's U-Net call."""

    latent: np.ndarray
    colours: LinearColours
    call: int | None = None
    other: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LatentDesk:
    """`view` is what the canvas shows, "colours" or a channel; `region` the cells marked on it.

    `prompt` is what the encoded picture was drawn from, "" for one that does not say.
    """

    picture: PictureFile | None = None
    other: PictureFile | None = None
    encoding: JobStep[EncodedPicture] = field(default_factory=JobStep)
    prompt: str = ""
    subject: Subject | None = None
    edits: EditHistory = field(default_factory=EditHistory)
    refused: UserError | None = None
    view: str = "colours"
    region: Region = field(default_factory=lambda: Region(0, 0, 4, 4))
    decoding: JobStep[np.ndarray] = field(default_factory=JobStep)
    between: JobStep[Interpolation] = field(default_factory=JobStep)
    format: str = "webp"
    timestep: int = 300
    noise_seed: int = 0
    guessing: JobStep[Guess] = field(default_factory=JobStep)
    recording: JobStep[Recording] = field(default_factory=JobStep)
    call: int = 0
    resuming: JobStep[np.ndarray] = field(default_factory=JobStep)

    @property
    def encoded(self) -> EncodedPicture | None:
        """The picture that is shown, if there is one."""
        return self.encoding.value

    def edited(self) -> np.ndarray | None:
        """The editor's latent after its edits."""
        if self.subject is None:
            return None
        return apply_edits(self.subject.latent, self.edits.done, self.subject.other)


class LatentDesks(SessionDesks[LatentDesk]):
    """The desk of each session, at most `MAX_DESKS`, those used longest ago cleared first; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(LatentDesk, MAX_DESKS)
