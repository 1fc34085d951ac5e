"""The pictures on the similarity page's desk: uploaded, photographed, taken from the gallery, sent from txt2img."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.clip.request import check_picture_count
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.create_stage import drawn_from
from webui.pages.localize import QUIET, Updates, unchanged
from webui.pages.reader import Readers, session_of
from webui.pages.score_desk import Desk, Desks
from webui.pages.score_form import ScoreForm
from webui.pages.sending import SentPicture
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.views.score_parts import render_recent, render_tray
from webui.vision.pictures import PictureFile

_RECENT: Final = 24


@dataclass(frozen=True, slots=True)
class ScoreTray:
    """How pictures come onto the desk and leave it."""

    studio: Studio
    readers: Readers
    desks: Desks
    form: ScoreForm

    def wire(self) -> None:
        """Connect the events."""
        form = self.form
        form.upload.upload(self._upload, inputs=[form.upload], outputs=[form.tray], preprocess=False, **QUIET)
        form.camera.input(self._photograph, inputs=[form.camera], outputs=[form.tray], preprocess=False, **QUIET)
        form.gallery.expand(self._offer, outputs=[form.recent], **QUIET)
        form.recent.click(self._take, outputs=[form.tray], trigger_mode="multiple", **QUIET)
        form.tray.click(self._remove, outputs=[form.tray], **QUIET)
        form.clear.click(self._clear, outputs=[form.tray], **QUIET)

    def receive(self, picture: SentPicture, request: gr.Request, texts: str | None) -> Iterator[Updates]:
        """A picture from another tab: put it on the desk, and the words that go with it before the texts."""
        words = " ".join(picture.words.split())
        others = [line for line in (texts or "").splitlines() if line.strip() and line.strip() != words]
        desk = self.add(request, [picture.file])
        lines = [words, *others] if words else others
        yield self.show(desk, self.readers.translator(request)) | {self.form.texts: "\n".join(lines)}

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return [self.form.tray, self.form.texts]

    def add(self, request: gr.Request, files: list[PictureFile]) -> Desk:
        """Put pictures on the desk, if there is room for all of them."""
        session = session_of(request)
        pictures = (*self.desks.of(session).pictures, *files)
        try:
            check_picture_count(len(pictures), self.studio.settings.score_limits)
        except UserError as error:
            return self.desks.change(session, refused=error)
        return self.desks.change(session, pictures=pictures, refused=None)

    def show(self, desk: Desk, say: Translator) -> Updates:
        """The pictures on the desk."""
        return {self.form.tray: render_tray(desk.pictures, say, desk.refused)}

    def _upload(self, files: object, request: gr.Request) -> Updates:
        """Put the files on the desk; whether they are pictures is said when they are scored."""
        listed = files if isinstance(files, list) else [files]
        found = [_uploaded(file) for file in listed if isinstance(file, Mapping) and file.get("path")]
        return self.show(self.add(request, found), self.readers.translator(request))

    def _photograph(self, file: object, request: gr.Request) -> Updates:
        """Put what the camera saw on the desk."""
        if not isinstance(file, Mapping) or not file.get("path"):
            return unchanged()
        number = len(self.desks.of(session_of(request)).pictures) + 1
        path = Path(str(file["path"]))
        desk = self.add(request, [PictureFile(f"camera-{number}{path.suffix}", path)])
        return self.show(desk, self.readers.translator(request))

    def _offer(self, request: gr.Request) -> str:
        """The newest pictures of the gallery."""
        offered = [(path, drawn.prompt) for path, drawn in self._gallery().items()]
        return render_recent(offered, self.readers.translator(request))

    def _take(self, event: gr.EventData, request: gr.Request) -> Updates:
        """A picture of the gallery was chosen; any other path that a browser may send is not taken."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        path = Path(str(sent.get("file"))) if isinstance(sent, Mapping) else Path()
        if path not in self._gallery():
            return unchanged()
        return self.show(self.add(request, [PictureFile(path.name, path)]), self.readers.translator(request))

    def _gallery(self) -> dict[Path, Any]:
        """What is offered; nothing to strangers, for the gallery is everybody's."""
        if not may(self.studio.settings, Deed.SEE_OTHERS_PICTURES):
            return {}
        return {picture.path: drawn_from(picture) for picture in self.studio.gallery.recent(_RECENT)}

    def _remove(self, event: gr.EventData, request: gr.Request) -> Updates:
        desk = self.desks.of(session_of(request))
        place = place_of(event, "place", len(desk.pictures))
        if place is not None:
            rest = (*desk.pictures[:place], *desk.pictures[place + 1 :])
            desk = self.desks.change(session_of(request), pictures=rest, refused=None)
        return self.show(desk, self.readers.translator(request))

    def _clear(self, request: gr.Request) -> Updates:
        desk = self.desks.change(session_of(request), pictures=(), refused=None)
        return self.show(desk, self.readers.translator(request))


def place_of(event: gr.EventData, name: str, count: int) -> int | None:
    """A place below `count` that a browser sent; None for anything else it may have sent."""
    sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
    value = sent.get(name) if isinstance(sent, Mapping) else None
    return value if isinstance(value, int) and 0 <= value < count else None


def _uploaded(file: Mapping[str, Any]) -> PictureFile:
    path = Path(str(file["path"]))
    return PictureFile(str(file.get("orig_name") or path.name), path)
