"""The gallery page: everything that was drawn, newest first; found, compared, deleted, taken along, sent on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.create_stage import drawn_from
from webui.pages.gallery_form import AlbumStage, AlbumTools, build_stage, build_tools
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.sending import SentPicture
from webui.pages.session_desks import SessionDesks
from webui.store.export import write_zip
from webui.studio import Studio
from webui.tasks.album import picture_address, pictures_by_meaning, prompt_of
from webui.views.figures import file_size
from webui.views.gallery import (
    PAGE,
    cards_of,
    render_bin,
    render_compare,
    render_count,
    render_deleted,
    render_empty_gallery,
    render_grid,
    render_picture,
    render_reading,
)
from webui.views.parameters import render_parameters
from webui.views.run import RunPhase, RunView, render_problem
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.runtime.jobs import JobContext

_MAX_DESKS: Final = 64
_TELL_SECONDS: Final = 0.5
_CONFIRM_JS: Final = "(words) => { if (!confirm(words)) throw new Error('kept'); return [words]; }"


@dataclass(frozen=True, slots=True)
class AlbumDesk:
    """What one open page looks at: the pictures found (None: all of them), the page of them, the picture looked at,
    those picked, in the order of picking, those deleted last, and two that are compared.
    """

    found: tuple[str, ...] | None = None
    favourites: bool = False
    page: int = 0
    chosen: str | None = None
    picked: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    compared: tuple[str, str] | None = None
    asking: JobStep[tuple[str, ...]] = field(default_factory=JobStep)


@dataclass(frozen=True, slots=True)
class GalleryPage(Page):
    """The gallery of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: SessionDesks[AlbumDesk]
    tools: AlbumTools
    stage: AlbumStage
    warning: gr.Textbox

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> GalleryPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        with gr.Column(elem_id="gallery-page"):
            tools = build_tools(page)
            stage = build_stage(page)
            warning = page.make(gr.Textbox, {"value": "gallery.bin.sure"}, visible=False)
        built = cls(studio, readers, SessionDesks(AlbumDesk, _MAX_DESKS), tools, stage, warning)
        built._wire()
        return built

    def wire_tab(self, tab: gr.Tab) -> None:
        """Show what is there whenever the tab is opened."""
        tab.select(self._open, outputs=self._outputs(), **QUIET)

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        return self._shown(self.desks.of(session_of(change.request)), change.say)

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return self._outputs()

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.desks.forget(session_of(request))

    def looked_at(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """The picture looked at, to be sent to another tab."""
        chosen = self.desks.of(session_of(request)).chosen
        if chosen is None:
            return None
        try:
            path = self.studio.album.file(chosen)
        except UserError:
            return None
        return SentPicture(PictureFile(path.name, path), prompt_of(self.studio, chosen))

    def _wire(self) -> None:
        tools, stage, outputs = self.tools, self.stage, self._outputs()
        for find in (tools.find.click, tools.words.submit, tools.favourites.input):
            find(self._find, inputs=[tools.words, tools.favourites], outputs=outputs, **FOLLOWED)
        asked = [tools.words, tools.favourites]
        tools.meaning.start.click(self._find_meaning, inputs=asked, outputs=outputs, **FOLLOWED)
        tools.meaning.stop.click(self._stop, **QUIET)
        stage.grid.click(self._click, outputs=outputs, trigger_mode="multiple", **QUIET)
        for button, work in (
            (tools.compare, self._compare),
            (tools.delete, self._delete_picked),
            (tools.unpick, self._unpick),
            (tools.undo, self._undo),
            (stage.remove, self._delete_chosen),
            (stage.close, self._close),
            (stage.restore, self._restore),
        ):
            button.click(work, outputs=outputs, **QUIET)
        stage.empty_bin.click(self._empty_bin, inputs=[self.warning], outputs=outputs, js=_CONFIRM_JS, **QUIET)
        tools.zip.click(self._pack, outputs=[tools.zip_file, tools.problem], **FOLLOWED)

    def _open(self, request: gr.Request) -> Updates:
        """The tab was opened: whatever was drawn meanwhile stands in front."""
        return self._shown(self.desks.of(session_of(request)), self.readers.translator(request))

    def _find(self, words: str | None, favourites: bool, request: gr.Request) -> Iterator[Updates]:
        """Search the prompts for words; without words, all pictures or all favourites."""
        say, said = self.readers.translator(request), time.monotonic()
        found: tuple[str, ...] | None = None
        try:
            for reading in self.studio.album.search(words or "", favourites=favourites):
                found = reading.found
                if time.monotonic() - said > _TELL_SECONDS:
                    said = time.monotonic()
                    yield {self.tools.count: render_reading(reading.done, reading.total, say)}
        except UserError as error:
            yield {self.tools.problem: _problem(error, say)}
            return
        kept = found if favourites or (words or "").strip() else None
        yield self._change(request, found=kept, favourites=favourites, page=0, chosen=None, compared=None)

    def _find_meaning(self, words: str | None, favourites: bool, request: gr.Request) -> Iterator[Updates]:
        """Let CLIP rank the pictures by how well they fit the words."""
        session = session_of(request)

        def work(context: JobContext) -> tuple[str, ...]:
            return pictures_by_meaning(self.studio, words or "", context)

        for step in follow_job(self.studio, work, owner_of(request)):
            self.desks.change(session, asking=step)
            shown = self.tools.meaning.show(step.view, self.readers.translator(request))
            if step.value is not None:
                marked = self.studio.album.favourites()
                ranked = tuple(each for each in step.value if not favourites or each in marked)
                shown |= self._change(request, found=ranked, favourites=favourites, page=0, chosen=None)
            yield shown

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).asking, owner_of(request))

    def _click(self, event: gr.EventData, request: gr.Request) -> Updates:
        """A card was opened, marked or picked, or another page was asked for."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        if not isinstance(sent, Mapping):
            return unchanged()
        desk = self.desks.of(session_of(request))
        match dict(sent):
            case {"page": int(page)} if page >= 0:
                return self._change(request, page=page)
            case {"open": str(picture)}:
                return self._change(request, chosen=picture, compared=None)
            case {"star": str(picture), "on": bool(on)}:
                return self._tried(request, lambda: self.studio.album.mark(picture, favourite=on))
            case {"pick": str(picture), "on": bool(on)}:
                rest = tuple(each for each in desk.picked if each != picture)
                return self._change(request, picked=(*rest, picture) if on else rest)
            case _:
                return unchanged()

    def _compare(self, request: gr.Request) -> Updates:
        picked = self.desks.of(session_of(request)).picked
        if len(picked) != 2:
            return unchanged()
        return self._change(request, compared=(picked[0], picked[1]), chosen=None)

    def _unpick(self, request: gr.Request) -> Updates:
        return self._change(request, picked=(), compared=None)

    def _close(self, request: gr.Request) -> Updates:
        return self._change(request, chosen=None)

    def _delete_picked(self, request: gr.Request) -> Updates:
        return self._delete(self.desks.of(session_of(request)).picked, request)

    def _delete_chosen(self, request: gr.Request) -> Updates:
        chosen = self.desks.of(session_of(request)).chosen
        return unchanged() if chosen is None else self._delete((chosen,), request)

    def _delete(self, pictures: Sequence[str], request: gr.Request) -> Updates:
        session = session_of(request)

        def delete() -> None:
            gone = self.studio.album.delete(pictures)
            desk = self.desks.of(session)
            picked = tuple(each for each in desk.picked if each not in gone)
            self.desks.change(session, deleted=gone, picked=picked, chosen=None, compared=None)

        return self._tried(request, delete)

    def _undo(self, request: gr.Request) -> Updates:
        return self._bring_back(self.desks.of(session_of(request)).deleted, request)

    def _restore(self, request: gr.Request) -> Updates:
        return self._bring_back(self.studio.album.deleted(), request)

    def _bring_back(self, pictures: Sequence[str], request: gr.Request) -> Updates:
        def restore() -> None:
            self.studio.album.restore(pictures)
            self.desks.change(session_of(request), deleted=())

        return self._tried(request, restore)

    def _empty_bin(self, _: str, request: gr.Request) -> Updates:
        def empty() -> None:
            self.studio.album.empty_bin()
            self.desks.change(session_of(request), deleted=())

        return self._tried(request, empty)

    def _pack(self, request: gr.Request) -> Iterator[Updates]:
        """Put the picked pictures into a ZIP file, and offer it."""
        say, said = self.readers.translator(request), time.monotonic()
        picked = self.desks.of(session_of(request)).picked
        name = f"diffuscope-{datetime.now().astimezone():%Y%m%d-%H%M%S}.zip"
        target = self.studio.settings.data_dir / "cache" / "page" / secrets.token_hex(16) / name
        try:
            files = {picture: self.studio.album.file(picture) for picture in picked}
            for count in write_zip(target, files):
                if time.monotonic() - said > _TELL_SECONDS:
                    said = time.monotonic()
                    yield {self.tools.problem: render_reading(count, len(files), say)}
        except UserError as error:
            yield {self.tools.problem: _problem(error, say)}
            return
        label = say.text("gallery.zip_file_size", name=name, size=file_size(target.stat().st_size))
        yield {
            self.tools.zip_file: gr.update(value=str(target), label=label, visible=True),
            self.tools.problem: "",
        }

    def _tried(self, request: gr.Request, work: Callable[[], None]) -> Updates:
        """Do `work` and show the desk; what went wrong is said above the grid."""
        try:
            work()
        except UserError as error:
            problem = {self.tools.problem: _problem(error, self.readers.translator(request))}
            return self._open(request) | problem
        return self._open(request)

    def _change(self, request: gr.Request, **fields: Any) -> Updates:
        self.desks.change(session_of(request), **fields)
        return self._open(request)

    def _shown(self, desk: AlbumDesk, say: Translator) -> Updates:
        album = self.studio.album
        try:
            favourites, problem = album.favourites(), ""
        except UserError as error:
            favourites, problem = frozenset(), _problem(error, say)
        every = album.pictures()
        there = frozenset(every)
        found = every if desk.found is None else tuple(each for each in desk.found if each in there)
        searched = None if desk.found is None else len(found)
        pages = max(1, -(-len(found) // PAGE))
        page = min(desk.page, pages - 1)
        picked = tuple(each for each in desk.picked if each in there)
        cards = cards_of(
            found[page * PAGE : (page + 1) * PAGE], lambda name: prompt_of(self.studio, name), favourites, picked
        )
        address = picture_address(self.studio)
        tools, stage = self.tools, self.stage
        compared = desk.compared if desk.compared and there.issuperset(desk.compared) else None
        return merged(
            {
                tools.count: render_count(len(every), searched, len(picked), say) if every else "",
                tools.actions: gr.update(visible=bool(picked)),
                tools.compare: gr.update(interactive=len(picked) == 2),
                tools.zip_file: gr.update(visible=False),
                tools.deleted: render_deleted(len(desk.deleted), say),
                tools.undo: gr.update(visible=bool(desk.deleted)),
                tools.problem: problem,
                stage.compared: render_compare(compared, address, say) if compared else "",
                stage.empty: gr.update(value=render_empty_gallery(say, any_pictures=bool(every)), visible=not found),
                stage.grid: render_grid(cards, desk.chosen, page, pages, address, say) if found else "",
            },
            self._picture(desk.chosen if desk.chosen in there else None, say),
            self._in_bin(say),
        )

    def _picture(self, chosen: str | None, say: Translator) -> Updates:
        stage = self.stage
        if chosen is None:
            return {stage.looked_at: gr.update(visible=False)}
        prompt, address = prompt_of(self.studio, chosen), picture_address(self.studio)
        try:
            picture = self.studio.album.open(chosen)
            parameters = render_parameters(drawn_from(picture), picture.infotext, say)
        except UserError as error:
            return {stage.looked_at: gr.update(visible=True), stage.picture: _problem(error, say)}
        return {
            stage.looked_at: gr.update(visible=True),
            stage.picture: render_picture(picture, chosen, address, prompt, say),
            stage.parameters: parameters,
        }

    def _in_bin(self, say: Translator) -> Updates:
        deleted = self.studio.album.deleted()
        size = self.studio.album.bytes_of(deleted, in_bin=True)
        return {
            self.stage.bin: render_bin(len(deleted), size, say),
            self.stage.restore: gr.update(interactive=bool(deleted)),
            self.stage.empty_bin: gr.update(interactive=bool(deleted)),
        }

    def _outputs(self) -> list[Block]:
        tools = self.tools
        return [
            tools.count, tools.actions, tools.compare, tools.zip_file, tools.deleted, tools.undo, tools.problem,
            *tools.meaning.outputs(), *self.stage.outputs(),
        ]  # fmt: skip


def _problem(error: UserError, say: Translator) -> str:
    return render_problem(RunView(RunPhase.FAILED, error=error), say)
