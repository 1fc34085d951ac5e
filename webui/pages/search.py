"""The search page: pictures of one's own folders by a text, a picture, or both."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.search_desk import SearchDesk, SearchDesks
from webui.pages.search_form import FolderPanel, SearchForm, SearchStage, build_folders, build_form, build_stage
from webui.pages.sending import SentPicture
from webui.search.folders import OUTPUTS
from webui.search.query import SearchRequest, Term, read_query, time_of_day_start
from webui.search.rows import PictureRow
from webui.search.store import Filters
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.tasks.search import check_search, search_pictures, shown_path, start_index, stop_index, store_of
from webui.views.run import RunPhase, RunView
from webui.views.search import PAGE, render_chosen, render_folders, render_index, render_results, render_terms
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from webui.search.find import Found

_SHOW_CHOSEN_JS = "() => { document.querySelector('#search-chosen')?.scrollIntoView({ block: 'nearest' }); }"
"""The picture looked at stands above the results, which may be out of sight from far down."""


@dataclass(frozen=True, slots=True)
class SearchPage(Page):
    """The search page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: SearchDesks
    form: SearchForm
    folders: FolderPanel
    stage: SearchStage

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> SearchPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        owner = may(studio.settings, Deed.INDEX_FOLDERS)
        with gr.Row(elem_id="search-page"):
            with gr.Column(elem_classes="card"):
                form = build_form(page, studio.catalog)
                folders = build_folders(page, owner=owner)
            with gr.Column():
                stage = build_stage(page, owner=owner)
        built = cls(studio, readers, SearchDesks(), form, folders, stage)
        built._wire()
        return built

    @property
    def owner(self) -> bool:
        """Whether visitors are the owner: nobody else reaches a page on this machine alone."""
        return may(self.studio.settings, Deed.INDEX_FOLDERS)

    def opening(self, remembered: Sequence[Any], say: Translator) -> Updates:  # noqa: ARG002
        """The folders as they are now, and a run that goes on."""
        return self._folders(say)

    def opening_outputs(self) -> list[Block]:
        """Everything that `opening` changes."""
        return [self.folders.listed, self.form.folder, *self.folders.bar.outputs()]

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        desk, say = self.desks.of(session_of(change.request)), change.say
        return merged(self._folders(say), self._found(desk, say), self.form.bar.show(desk.searching.view, say))

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [*self.opening_outputs(), *self._outputs()]

    def chosen_prompt(self, request: gr.Request) -> Any:
        """The prompt of the picture looked at, for txt2img's form."""
        row = self.desks.of(session_of(request)).row
        return gr.update(value=row.prompt) if row is not None and row.prompt else gr.update()

    def looked_at(self, _: gr.EventData, request: gr.Request) -> SentPicture | None:
        """A copy of the picture looked at, where the page may show it from, and the words that found it."""
        desk = self.desks.of(session_of(request))
        if desk.row is None or desk.found is None:
            return None
        copies = self.studio.settings.data_dir / "cache" / "page" / secrets.token_hex(16)
        try:
            copies.mkdir(parents=True)
            copy = Path(shutil.copy(self._allowed(desk.row), copies))
        except OSError as error:
            raise UserError("error.search_picture_gone") from error
        words = " ".join(term.text for term in desk.found.request.terms if term.text and term.weight > 0)
        return SentPicture(PictureFile(copy.name, copy), words or desk.row.prompt)

    def receive(self, picture: SentPicture, request: gr.Request, model: str | None) -> Iterator[Updates]:
        """A picture from another tab: find what is like it."""
        yield {self.form.query: "", self.form.picture: str(picture.path)}
        yield from self._follow(SearchRequest((Term(picture=picture.file),), model=model or ""), request)

    def receive_outputs(self) -> list[Block]:
        """Everything that `receive` changes."""
        return [self.form.query, self.form.picture, *self._outputs()]

    def leave(self, request: gr.Request) -> None:
        """The page has closed; an index run goes on."""
        self.desks.forget(session_of(request))

    def _wire(self) -> None:
        form, stage, folders = self.form, self.stage, self.folders
        for start in (form.bar.start.click, form.query.submit):
            start(self._search, inputs=form.asked(), outputs=self._outputs(), preprocess=False, **FOLLOWED)
        form.bar.stop.click(self._stop, **QUIET)
        for shown in (stage.results, stage.full):
            clicked = shown.click(self._click, outputs=self._outputs(), **QUIET)
            clicked.then(None, js=_SHOW_CHOSEN_JS, **QUIET)
        stage.like.click(self._like, inputs=[form.model], outputs=self._outputs(), **FOLLOWED)
        if not self.owner:
            return
        index = [folders.path, *self.opening_outputs()]
        for add in (folders.add.click, folders.path.submit):
            add(self._add, inputs=[folders.path, form.model], outputs=index, **FOLLOWED)
        folders.bar.start.click(self._index, inputs=[form.model], outputs=index, **FOLLOWED)
        folders.bar.stop.click(lambda: stop_index(self.studio), **QUIET)
        folders.listed.click(self._change_folder, outputs=self.opening_outputs(), **QUIET)

    def _search(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Search for what the form asks."""
        try:
            asked = self._request(*values)
        except UserError as error:
            yield self._failed(error, request)
            return
        yield from self._follow(asked, request)

    def _like(self, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """More pictures like the one looked at."""
        row = self.desks.of(session_of(request)).row
        if row is not None:
            yield from self._follow(SearchRequest((Term(indexed=row.id),), model=model or ""), request)

    def _follow(self, asked: SearchRequest, request: gr.Request) -> Iterator[Updates]:
        session = session_of(request)
        try:
            check_search(self.studio, asked, owner=self.owner)
        except UserError as error:
            yield self._failed(error, request)
            return
        before = self.desks.of(session).found

        def work(context: Any) -> Found:
            return search_pictures(self.studio, asked, context, owner=self.owner)

        for step in follow_job(self.studio, work, owner_of(request)):
            say = self.readers.translator(request)
            if step.value is None:  # the results of last time stay until there are new ones
                self.desks.change(session, searching=replace(step, value=before))
                yield self.form.bar.show(step.view, say)
                continue
            desk = self.desks.change(session, searching=step, page=0, chosen=None)
            yield merged(self.form.bar.show(step.view, say), self._found(desk, say))

    def _request(
        self, query: str, picture: object, weight: float, model: str, folder: str, since: str, until: str,
        min_side: float, prompt: str,
    ) -> SearchRequest:  # fmt: skip
        terms = read_query(query or "")
        if isinstance(picture, Mapping) and picture.get("path"):
            path = Path(str(picture["path"]))
            name = str(picture.get("orig_name") or path.name)
            terms = (Term(float(weight or 0), picture=PictureFile(name, path)), *terms)
        filters = Filters(
            folders=(str(folder),) if folder else None,
            since_ns=time_of_day_start(since or ""),
            until_ns=time_of_day_start(until or "", after=True),
            min_side=int(min_side or 0),
            prompt=(prompt or "").strip(),
        )
        return SearchRequest(terms, filters, model or "")

    def _failed(self, error: UserError, request: gr.Request) -> Updates:
        session = session_of(request)
        view = RunView(RunPhase.FAILED, error=error)
        self.desks.change(session, searching=JobStep(view, self.desks.of(session).found))
        return self.form.bar.show(view, self.readers.translator(request))

    def _stop(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).searching, owner_of(request))

    def _click(self, event: gr.EventData, request: gr.Request) -> Updates:
        """A result was chosen, or another page of them."""
        session = session_of(request)
        desk = self.desks.of(session)
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        if desk.found is None or not isinstance(sent, Mapping):
            return {}
        pages, hits = -(-len(desk.found.groups) // PAGE), len(desk.found.hits)
        page, place = sent.get("page"), sent.get("place")
        if isinstance(page, int) and 0 <= page < pages:
            desk = self.desks.change(session, page=page, chosen=None)
        elif isinstance(place, int) and 0 <= place < hits:
            desk = self.desks.change(session, chosen=place)
        return self._found(desk, self.readers.translator(request))

    def _add(self, path: str, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """Let a folder be read, and index it."""
        try:
            added = self.studio.search.folders.add(Path(path.strip() or "?"))
            start_index(self.studio, model or "", [added])
        except UserError as error:
            yield self._index_failed(error, request)
            return
        yield {self.folders.path: ""} | self._folders(self.readers.translator(request))
        yield from self._follow_index(request)

    def _index(self, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """Bring all folders up to date, or show the run that does."""
        try:
            if not self.studio.search.board.status.phase.busy:
                start_index(self.studio, model or "")
        except UserError as error:
            yield self._index_failed(error, request)
            return
        yield from self._follow_index(request)

    def _follow_index(self, request: gr.Request) -> Iterator[Updates]:
        for _ in self.studio.search.board.follow():
            yield self._progress(self.readers.translator(request))
        yield self._folders(self.readers.translator(request))

    def _index_failed(self, error: UserError, request: gr.Request) -> Updates:
        view = RunView(RunPhase.FAILED, error=error)
        return self.folders.bar.show(view, self.readers.translator(request))

    def _change_folder(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Share a folder or take it off the list."""
        sent = event._data  # noqa: SLF001
        listed = self.studio.search.folders
        if isinstance(sent, Mapping) and isinstance(sent.get("share"), str):
            folder = listed.find(sent["share"])
            listed.share(folder.id, not folder.shared)
        elif isinstance(sent, Mapping) and isinstance(sent.get("remove"), str):
            listed.remove(sent["remove"])
        return self._folders(self.readers.translator(request))

    def _folders(self, say: Translator) -> Updates:
        listed = self.studio.search.folders.listed(only_shared=not self.owner)
        names = [(say.text("search.folder.outputs") if f.id == OUTPUTS else f.name, f.id) for f in listed]
        return {
            self.folders.listed: render_folders(listed, say) if self.owner else "",
            self.form.folder: gr.update(choices=[(say.text("search.filter.all_folders"), ""), *names]),
        } | self._progress(say)

    def _progress(self, say: Translator) -> Updates:
        bar, status = self.folders.bar, self.studio.search.board.status
        return {
            bar.start: gr.update(visible=not status.phase.busy),
            bar.stop: gr.update(visible=status.phase.busy),
            bar.status: render_index(status, say) if self.owner else "",
        }

    def _found(self, desk: SearchDesk, say: Translator) -> Updates:
        """The results and the picture looked at, or the words that stand there before."""
        stage, found = self.stage, desk.found
        if found is None:
            return {stage.empty: gr.update(visible=True)}
        row, full = desk.row, ""
        if desk.chosen is not None:
            group = next(group for group in found.groups if desk.chosen in group)
            names = {place: shown_path(self.studio, found.hits[place].row, owner=self.owner) for place in group}
            full = render_chosen(found, desk.chosen, names, self._address(found), say)
        return {
            stage.empty: gr.update(visible=False),
            stage.chosen: gr.update(visible=row is not None),
            stage.full: full,
            stage.use: gr.update(interactive=bool(row is not None and row.prompt)),
            stage.results: render_results(found, desk.page, desk.chosen, self._address(found), say),
            self.form.terms: render_terms(found.request.terms, say),
        }

    def _outputs(self) -> list[Block]:
        stage = self.stage
        return [
            *self.form.bar.outputs(), stage.empty, stage.chosen, stage.full, stage.use, stage.results, self.form.terms,
        ]  # fmt: skip

    def _address(self, found: Found) -> Any:
        table = store_of(self.studio, found.request.model).identity.table
        links = self.studio.links

        def address(kind: str, row: PictureRow) -> str:
            return links.address(kind, table, row.id)

        return address

    def _allowed(self, row: PictureRow) -> Path:
        return self.studio.search.allowed_file(row, owner=self.owner)
