"""The way of decoded pictures from the page on latents to other tabs: as decoded, edited, or resumed.

None carries parameters: what comes out of the VAE here is not what its prompt draws. The prompt goes along as words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr
import numpy as np
from PIL import Image

from webui.pages.latents_desk import LatentDesk, LatentDesks
from webui.pages.latents_form import Anatomy, Editor, ResumeForm
from webui.pages.reader import session_of
from webui.pages.sending import Sender, SentPicture, TabId, lend
from webui.store.gallery import png_bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture (H, W, 3) uint8 and the prompt it has to do with, "" for none."""

    pixels: np.ndarray
    prompt: str


def latents_senders(desks: LatentDesks, anatomy: Anatomy, editor: Editor, run: ResumeForm) -> list[Sender]:
    """One for each picture that can be sent."""
    bars = (
        (anatomy.bar, "decoded.png", decoded_picture),
        (editor.bar, "edited.png", edited_picture),
        (run.bar, "resumed.png", resumed_picture),
    )
    return [Sender(TabId.LATENTS, bar.presses, _sends(desks, name, find)) for bar, name, find in bars]


def decoded_picture(desk: LatentDesk) -> Decoded | None:
    """What the VAE makes of the picture's latent."""
    return None if desk.encoded is None else Decoded(desk.encoded.decoded, desk.prompt)


def edited_picture(desk: LatentDesk) -> Decoded | None:
    """What the VAE makes of the edited latent."""
    return None if desk.decoding.value is None else Decoded(desk.decoding.value, desk.prompt)


def resumed_picture(desk: LatentDesk) -> Decoded | None:
    """Where the recorded run ended when it went on from the chosen step."""
    recording, picture = desk.recording.value, desk.resuming.value
    return None if recording is None or picture is None else Decoded(picture, recording.run.request.prompt)


def _sends(
    desks: LatentDesks, name: str, find: Callable[[LatentDesk], Decoded | None]
) -> Callable[[gr.EventData, gr.Request], SentPicture | None]:
    def picture(_: gr.EventData, request: gr.Request) -> SentPicture | None:
        found = find(desks.of(session_of(request)))
        return None if found is None else lend(name, png_bytes(Image.fromarray(found.pixels)), found.prompt)

    return picture
