"""The page on latents: what the VAE makes of a picture, and what becomes of pictures when their latents are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.diffusion.latent_edits import (
    EditHistory,
    LatentEdit,
    NoiseRegion,
    PasteRegion,
    Region,
    RoundToBits,
    ScaleChannel,
    SwapChannels,
    ZeroChannel,
    ZeroRegion,
    apply_edits,
    check_region,
)
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.latents_desk import LatentDesk, LatentDesks, Subject
from webui.pages.latents_form import Anatomy, Editor, SourceForm, build_anatomy, build_editor, build_source
from webui.pages.latents_sending import latents_senders
from webui.pages.latents_tools import LatentTools
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import Sender, SentPicture
from webui.store.infotext import prompt_in
from webui.studio import Studio
from webui.tasks.latents import EncodeRequest, decode, encode
from webui.views.latents import (
    render_canvas,
    render_channels,
    render_colours,
    render_edited,
    render_edits,
    render_empty,
    render_encoding,
)
from webui.views.markup import element, text
from webui.views.run import RunPhase, RunView
from webui.vision.pictures import PictureFile


@dataclass(frozen=True, slots=True)
class LatentsPage(Page):
    """The page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: LatentDesks
    form: SourceForm
    anatomy: Anatomy
    editor: Editor
    tools: LatentTools

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> LatentsPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        desks = LatentDesks()
        with gr.Row(elem_id="latents-page"):
            with gr.Column(elem_classes="card", scale=1, min_width=260):
                form = build_source(page, studio.catalog)
            with gr.Column(scale=3, min_width=300, elem_classes="card"), gr.Tabs(elem_id="latents-tabs") as tabs:
                with page.make(gr.Tab, {"label": "latents.tab.encode"}, id="encode"):
                    anatomy = build_anatomy(page)
                with page.make(gr.Tab, {"label": "latents.tab.edit"}, id="edit"):
                    editor = build_editor(page)
                tools = LatentTools.build(studio, readers, desks, page, form, tabs)
        built = cls(studio, readers, desks, form, anatomy, editor, tools)
        built._wire()
        return built

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        desk, say = self.desks.of(session_of(change.request)), change.say
        bar = self.form.bar.show(desk.encoding.view, say, _summary(desk, say))
        return merged(
            self._chosen(desk, say), bar, self._anatomy(desk, say), self._editor(desk, say),
            self.tools.said_again(desk, say),
        )  # fmt: skip

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [
            self.form.chosen, *self.form.bar.outputs(), *self._anatomy_outputs(), *self._editor_outputs(),
            *self.tools.said_again_outputs(),
        ]  # fmt: skip

    @never_silent
    def receive(self, picture: SentPicture, request: gr.Request, model: str | None) -> Iterator[Updates]:
        """A picture from another tab: encode it at once."""
        desk = self.desks.change(session_of(request), picture=picture.file)
        yield self._chosen(desk, self.readers.translator(request))
        yield from self._encode(model, False, request)

    def senders(self) -> list[Sender]:
        """The ways of the pictures decoded here to the other tabs."""
        return latents_senders(self.desks, self.anatomy, self.editor, self.tools.run)

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return [self.form.chosen, *self._encode_outputs()]

    def leave(self, request: gr.Request) -> None:
        """The browser's page has closed."""
        self.desks.forget(session_of(request))

    def _wire(self) -> None:
        form, editor = self.form, self.editor
        for upload, slot in ((form.picture, "picture"), (form.other, "other")):
            upload.upload(
                self._uploads(slot), inputs=[upload], outputs=[form.chosen], preprocess=False, **QUIET
            )  # fmt: skip
        form.bar.start.click(
            self._encode, inputs=[form.model, form.keep_size], outputs=self._encode_outputs(), **FOLLOWED
        )
        form.bar.stop.click(self._stop, **QUIET)
        editor.view.input(self._view, inputs=[editor.view], outputs=[editor.canvas], **QUIET)
        editor.canvas.click(self._mark, outputs=[*editor.region], trigger_mode="multiple", **QUIET)
        for number in editor.region:
            number.input(self._type_region, inputs=[*editor.region], outputs=[editor.canvas, editor.status], **QUIET)
        for button, inputs, make in self._edit_buttons():
            button.click(self._edits(make), inputs=inputs, outputs=self._editor_outputs(), **FOLLOWED)
        walks: tuple[tuple[gr.Button, Callable[[EditHistory], EditHistory]], ...] = (
            (editor.undo, EditHistory.undo),
            (editor.redo, EditHistory.redo),
            (editor.reset, lambda _: EditHistory()),
        )
        for button, walk in walks:
            button.click(self._walks(walk), outputs=self._editor_outputs(), **FOLLOWED)
        self.tools.wire(FOLLOWED, self._editor, self._editor_outputs())

    def _edit_buttons(self) -> list[tuple[gr.Button, list[Block], Callable[..., LatentEdit]]]:
        """Each tool: its button, the numbers it reads, and the edit that they are."""
        e = self.editor
        region: list[Block] = [*e.region]
        return [
            (e.scale, [e.channel, e.gain, e.offset], lambda c, g, o: ScaleChannel(_whole(c) - 1, _real(g), _real(o))),
            (e.zero_channel, [e.channel], lambda c: ZeroChannel(_whole(c) - 1)),
            (e.swap, [e.channel, e.second], lambda a, b: SwapChannels(_whole(a) - 1, _whole(b) - 1)),
            (e.zero_region, region, lambda *r: ZeroRegion(_region(r))),
            (
                e.noise_region,
                [*region, e.noise_seed, e.strength],
                lambda *r: NoiseRegion(_region(r[:4]), abs(_whole(r[4])), _real(r[5])),
            ),
            (
                e.paste,
                [*region, e.from_x, e.from_y],
                lambda *r: PasteRegion(_region(r[:4]), _whole(r[4]), _whole(r[5])),
            ),
            (e.round, [e.bits], lambda bits: RoundToBits(_whole(bits))),
        ]

    def _uploads(self, slot: str) -> Callable[..., Updates]:
        def upload(file: object, request: gr.Request) -> Updates:
            listed = file[0] if isinstance(file, list) and file else file
            if not isinstance(listed, Mapping) or not listed.get("path"):
                return unchanged()
            path = Path(str(listed["path"]))
            picture = PictureFile(str(listed.get("orig_name") or path.name), path)
            desk = self.desks.change(session_of(request), **{slot: picture})
            return self._chosen(desk, self.readers.translator(request))

        return upload

    def _encode(self, model: str | None, keep_size: bool, request: gr.Request) -> Iterator[Updates]:
        """Encode the pictures on the desk; the first becomes the editor's."""
        session = session_of(request)
        desk = self.desks.of(session)
        if desk.picture is None:
            failed = RunView(RunPhase.FAILED, error=UserError("error.no_picture_to_encode"))
            yield self.form.bar.show(failed, self.readers.translator(request))
            return
        asked = EncodeRequest(desk.picture, model or "", desk.other, bool(keep_size))
        before = desk.encoding
        for step in follow_job(self.studio, lambda context: encode(self.studio, asked, context), owner_of(request)):
            say = self.readers.translator(request)
            if step.value is None:
                desk = self.desks.change(session, encoding=JobStep(step.view, before.value, step.job))
                yield self.form.bar.show(step.view, say)
                continue
            found = step.value
            desk = self.desks.change(
                session,
                encoding=step,
                prompt=prompt_in(SentPicture(asked.picture).path),
                subject=Subject(found.latent, found.colours, None, found.other),
                edits=EditHistory(),
                refused=None,
                decoding=JobStep(),
                guessing=JobStep(),
                region=_inside(desk.region, found.latent.shape),
            )
            yield merged(
                self.form.bar.show(step.view, say, _summary(desk, say)),
                self._anatomy(desk, say),
                self._editor(desk, say),
                self.tools.encoded(desk, say),
            )

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).encoding, owner_of(request))

    def _view(self, view: str, request: gr.Request) -> Updates:
        known = view if view in ("colours", "0", "1", "2", "3") else "colours"
        desk = self.desks.change(session_of(request), view=known)
        return {self.editor.canvas: _canvas(desk, self.readers.translator(request))}

    def _mark(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Cells were marked on the canvas: write their numbers, and leave the canvas, which has the focus, alone."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        desk = self.desks.of(session_of(request))
        if not isinstance(sent, Mapping) or desk.subject is None:
            return unchanged()
        try:
            region = _region([sent.get(name) for name in "xywh"])
            check_region(region, desk.subject.latent.shape[2], desk.subject.latent.shape[1])
        except UserError:
            return unchanged()
        self.desks.change(session_of(request), region=region)
        return self._region_numbers(region)

    def _type_region(self, x: object, y: object, w: object, h: object, request: gr.Request) -> Updates:
        """The numbers were typed: mark them on the canvas, or say why they cannot be."""
        say, desk = self.readers.translator(request), self.desks.of(session_of(request))
        if desk.subject is None:
            return unchanged()
        try:
            region = _region([x, y, w, h])
            check_region(region, desk.subject.latent.shape[2], desk.subject.latent.shape[1])
        except UserError as error:
            return {self.editor.status: _problem(error, say)}
        desk = self.desks.change(session_of(request), region=region)
        return {self.editor.canvas: _canvas(desk, say), self.editor.status: ""}

    def _region_numbers(self, region: Region) -> Updates:
        values = (region.x, region.y, region.width, region.height)
        return dict(zip(self.editor.region, values, strict=True))

    def _edits(self, make: Callable[..., LatentEdit]) -> Callable[..., Iterator[Updates]]:
        def edit(request: gr.Request, *values: Any) -> Iterator[Updates]:
            def add(history: EditHistory, subject: Subject) -> EditHistory:
                longer = history.add(make(*values))
                apply_edits(subject.latent, longer.done, subject.other)  # refuses what does not fit
                return longer

            yield from self._change_edits(add, request)

        return edit

    def _walks(self, walk: Callable[[EditHistory], EditHistory]) -> Callable[..., Iterator[Updates]]:
        def go(request: gr.Request) -> Iterator[Updates]:
            yield from self._change_edits(lambda history, _: walk(history), request)

        return go

    def _change_edits(
        self, change: Callable[[EditHistory, Subject], EditHistory], request: gr.Request
    ) -> Iterator[Updates]:
        """Show the edited latent at once through the linear map, and decode it in a job; a newer edit ends that."""
        session = session_of(request)
        desk = self.desks.of(session)
        try:
            if desk.subject is None:
                raise UserError("error.no_latent_to_edit")
            history = change(desk.edits, desk.subject)
        except UserError as error:
            desk = self.desks.change(session, refused=error)
            yield {self.editor.status: _problem(error, self.readers.translator(request))}
            return
        stop_job(self.studio, desk.decoding, owner_of(request))
        desk = self.desks.change(session, edits=history, refused=None, decoding=JobStep())
        yield self._editor(desk, self.readers.translator(request))
        latent, encoded = desk.edited(), desk.encoded
        if desk.subject is None or desk.subject.call is not None or encoded is None or latent is None:
            return  # x_t of a run is not decoded but resumed from
        if not history.done:
            return
        for step in follow_job(
            self.studio, lambda context: decode(self.studio, encoded.model, latent, context), owner_of(request)
        ):
            if self.desks.of(session).edits is not history:
                return
            desk = self.desks.change(session, decoding=step)
            yield self._decoded(desk, self.readers.translator(request))

    def _chosen(self, desk: LatentDesk, say: Translator) -> Updates:
        pairs = (("latents.picture", desk.picture), ("latents.other", desk.other))
        lines = [
            element("li", text(f"{say.text(key)}: {picture.name}"), dir="auto") for key, picture in pairs if picture
        ]
        return {self.form.chosen: element("ul", *lines, class_="remarks") if lines else ""}

    def _anatomy(self, desk: LatentDesk, say: Translator) -> Updates:
        found, anatomy = desk.encoded, self.anatomy
        if found is None:
            return {self.form.empty: render_empty(say), anatomy.encoding: "", anatomy.channels: "", anatomy.colours: ""}
        return {
            self.form.empty: "",
            anatomy.encoding: render_encoding(found, say),
            anatomy.channels: render_channels(found.latent, say),
            anatomy.colours: render_colours(found, say),
        }

    def _anatomy_outputs(self) -> list[Block]:
        return [self.form.empty, self.anatomy.encoding, self.anatomy.channels, self.anatomy.colours]

    def _editor(self, desk: LatentDesk, say: Translator) -> Updates:
        editor, latent, subject = self.editor, desk.edited(), desk.subject
        if latent is None or subject is None:
            words = element("p", text(say.text("latents.subject.none")), class_="score-hint")
            return {editor.subject: words}
        said = (
            say.text("latents.subject.picture")
            if subject.call is None
            else say.text("latents.subject.step", call=subject.call + 1)
        )
        return {
            editor.subject: element("p", text(said), class_="score-hint"),
            editor.canvas: _canvas(desk, say),
            editor.edits: render_edits(desk.edits.done, len(desk.edits.undone), say),
            editor.channels: render_channels(latent, say) if desk.edits.done else "",
            **self._region_numbers(desk.region),
            **self._decoded(desk, say),
        }

    def _decoded(self, desk: LatentDesk, say: Translator) -> Updates:
        found, picture = desk.encoded, desk.decoding.value
        status = self.form.bar.show(desk.decoding.view, say)[self.form.bar.status]
        if desk.refused is not None:
            status = _problem(desk.refused, say)
        updates: Updates = {self.editor.status: status}
        if picture is not None and found is not None:
            captions = ("latents.decoded", "latents.edited")
            return updates | {self.editor.result: render_edited(found.decoded, picture, say, captions)}
        if not desk.decoding.view.phase.busy:
            updates[self.editor.result] = ""
        return updates

    def _editor_outputs(self) -> list[Block]:
        e = self.editor
        return [e.subject, e.canvas, e.edits, e.channels, *e.region, e.status, e.result]

    def _encode_outputs(self) -> list[Block]:
        return [
            *self.form.bar.outputs(), *self._anatomy_outputs(), *self._editor_outputs(), *self.tools.encoded_outputs(),
        ]  # fmt: skip


def _summary(desk: LatentDesk, say: Translator) -> str:
    return say.text("latents.done", name=desk.encoded.name) if desk.encoded is not None else ""


def _canvas(desk: LatentDesk, say: Translator) -> str:
    latent = desk.edited()
    if latent is None or desk.subject is None:
        return ""
    return render_canvas(latent, desk.subject.colours, desk.view, desk.region, say)


def _problem(error: UserError, say: Translator) -> str:
    return element("div", text(say.error(error)), class_="status-failed", role="alert")


def _inside(region: Region, shape: tuple[int, ...]) -> Region:
    """The region if it lies in a latent of `shape`, else the middle quarter of that."""
    _, height, width = shape
    if region.x + region.width <= width and region.y + region.height <= height:
        return region
    return Region(width // 4, height // 4, max(1, width // 2), max(1, height // 2))


def _region(values: Any) -> Region:
    return Region(*(_whole(value) for value in values))


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 2**31:  # noqa: PLR0124 - NaN
        raise UserError("error.latents_number", value=str(value)[:60])
    return int(value)


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError("error.latents_number", value=str(value)[:60])
    return float(value)
