"""The Models page, for the owner of this machine: what exists, what is loaded where, and downloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, follow_job, stop_job
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.session_desks import SessionDesks
from webui.runtime.download import DownloadPlan
from webui.runtime.entries import CatalogEntry
from webui.runtime.memory import process_bytes
from webui.studio import Studio
from webui.tasks.models import (
    LOAD,
    add_path,
    forget_path,
    is_path,
    load_model,
    look_up,
    move_model_to_ram,
    start_download,
    stop_download,
    unload_model,
)
from webui.views.job import render_job
from webui.views.models import TASK_WORDS, task_words
from webui.views.models_page import (
    render_added,
    render_downloads,
    render_loaded,
    render_memory,
    render_models,
    render_plan,
)

_BUTTONS_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button && !button.disabled) trigger("click", { ...button.dataset });
});
"""
_LIVE_JS: Final = """
setInterval(() => {
  if (element.offsetParent !== null && !document.hidden) trigger("click", {});
}, 2000);
"""
"""Ask for news while the page is looked at."""

MAX_DESKS: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class ModelsDesk:
    """What was looked up last, why it failed, the task that is shown ("" for all), and the model that is loading.

    `local` says that a path is typed. `shown` is what the page shows now, so that only news is sent.
    """

    plan: DownloadPlan | None = None
    problem: UserError | None = None
    asking: str = ""
    added: str = ""
    local: bool = False
    task: str = ""
    loading: JobStep[CatalogEntry] = field(default_factory=JobStep)
    shown: Mapping[str, str] = field(default_factory=dict)


class ModelsDesks(SessionDesks[ModelsDesk]):
    """The desk of each session, at most `MAX_DESKS`; safe from any thread."""

    def __init__(self) -> None:
        super().__init__(ModelsDesk, MAX_DESKS)


@dataclass(frozen=True, slots=True)
class ModelsParts:
    """The components of the page."""

    typed: gr.Textbox
    half: gr.Checkbox
    look: gr.Button
    plan: gr.HTML
    download: gr.Button
    memory: gr.HTML
    loaded: gr.HTML
    downloads: gr.HTML
    status: gr.HTML
    stop: gr.Button
    task: gr.Dropdown
    listed: gr.HTML

    def live(self) -> dict[str, gr.HTML]:
        """What changes by itself, by name."""
        return {"memory": self.memory, "loaded": self.loaded, "downloads": self.downloads, "listed": self.listed}


@dataclass(frozen=True, slots=True)
class ModelsPage(Page):
    """The Models page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    desks: ModelsDesks
    parts: ModelsParts

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> ModelsPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events. Not for remote mode."""
        with gr.Row(elem_id="models-page"):
            with gr.Column(elem_classes="card"):
                memory, loaded, status, stop = _build_memory(page)
                typed, half, look, plan, download = _build_add(page)
            with gr.Column():
                downloads = gr.HTML(apply_default_css=False, elem_id="models-downloads", js_on_load=_BUTTONS_JS)
                task = page.make(
                    gr.Dropdown, {"label": "models.filter", "choices": _task_choices}, value="", elem_id="models-task"
                )
                listed = gr.HTML(apply_default_css=False, elem_id="models-list", js_on_load=_BUTTONS_JS)
        parts = ModelsParts(typed, half, look, plan, download, memory, loaded, downloads, status, stop, task, listed)
        built = cls(studio, readers, ModelsDesks(), parts)
        built._wire()
        return built

    def opening(self, remembered: Sequence[Any], say: Translator) -> Updates:  # noqa: ARG002
        """Everything as it is now."""
        parts = self.parts.live()
        return {parts[name]: html for name, html in self._rendered("", say).items()}

    def opening_outputs(self) -> list[Block]:
        """Everything that `opening` changes."""
        return list(self.parts.live().values())

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        session, say = session_of(change.request), change.say
        self.desks.change(session, shown={})
        desk = self.desks.of(session)
        return merged(
            self._news(session, say), self._looked_up(desk, say), self._loading(desk, say), self._named(desk, say)
        )

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        parts = self.parts
        return [*self.opening_outputs(), parts.plan, parts.download, parts.status, parts.stop, parts.look]

    def leave(self, request: gr.Request) -> None:
        """The page has closed; downloads go on."""
        self.desks.forget(session_of(request))

    def wire_tab(self, tab: gr.Tab) -> None:
        """Show what is new whenever the tab is opened."""
        tab.select(self._refresh, outputs=self.opening_outputs(), **QUIET)

    def _wire(self) -> None:
        parts = self.parts
        live = self.opening_outputs()
        looked = [parts.plan, parts.download, *live]
        parts.memory.click(self._refresh, outputs=live, **QUIET)
        for ask in (parts.look.click, parts.typed.submit):
            ask(self._look, inputs=[parts.typed, parts.half], outputs=looked, **FOLLOWED)
        parts.typed.change(self._name_look, inputs=[parts.typed], outputs=[parts.look], **QUIET)
        parts.download.click(self._download, outputs=looked, **QUIET)
        acted = [parts.typed, parts.status, parts.stop, *looked]
        for shown in (parts.listed, parts.downloads, parts.loaded):
            shown.click(
                never_silent(self._act), inputs=[parts.half], outputs=acted, trigger_mode="multiple", **FOLLOWED
            )
        parts.stop.click(self._stop_loading, **QUIET)
        parts.task.select(self._filter, inputs=[parts.task], outputs=live, **QUIET)

    def _refresh(self, request: gr.Request) -> Updates:
        return self._news(session_of(request), self.readers.translator(request)) or unchanged()

    def _filter(self, task: str | None, request: gr.Request) -> Updates:
        self.desks.change(session_of(request), task=task or "")
        return self._refresh(request)

    def _name_look(self, typed: str | None, request: gr.Request) -> Updates:
        """The button says what it does with what is typed now."""
        desk = self.desks.change(session_of(request), local=is_path(typed or ""))
        return self._named(desk, self.readers.translator(request))

    def _named(self, desk: ModelsDesk, say: Translator) -> Updates:
        return {self.parts.look: gr.update(value=say.text("models.look_up.local" if desk.local else "models.look_up"))}

    def _look(self, typed: str | None, half: bool, request: gr.Request) -> Iterator[Updates]:
        """Ask the Hub about what was typed, or list what lies at a path."""
        session, wanted = session_of(request), (typed or "").strip()
        if is_path(wanted):
            yield self._add(wanted, request)
            return
        desk = self.desks.change(session, asking=wanted, plan=None, problem=None, added="")
        yield self._looked_up(desk, self.readers.translator(request))
        try:
            plan, problem = look_up(self.studio, wanted, half=half), None
        except UserError as error:
            plan, problem = None, error
        desk = self.desks.change(session, asking="", plan=plan, problem=problem)
        yield self._looked_up(desk, self.readers.translator(request))

    def _add(self, typed: str, request: gr.Request) -> Updates:
        session, say = session_of(request), self.readers.translator(request)
        try:
            added, problem = add_path(self.studio, typed), None
        except UserError as error:
            added, problem = "", error
        desk = self.desks.change(session, plan=None, problem=problem, asking="", added=added)
        return merged(self._looked_up(desk, say), self._news(session, say))

    def _download(self, request: gr.Request) -> Updates:
        """Start the download of what was looked up."""
        session, say = session_of(request), self.readers.translator(request)
        plan = self.desks.of(session).plan
        if plan is None:
            return unchanged()
        try:
            start_download(self.studio, plan)
        except UserError as error:
            return self._looked_up(self.desks.change(session, problem=error), say)
        desk = self.desks.change(session, plan=None)
        return merged(self._looked_up(desk, say), self._news(session, say))

    def _act(self, half: bool, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """A button in one of the lists."""
        sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
        if not isinstance(sent, Mapping):
            return
        action, model = str(sent.get("action")), str(sent.get("model"))
        if action == "load":
            yield from self._load(model, str(sent.get("task")), request)
        elif action == "look":
            yield {self.parts.typed: model}
            yield from self._look(model, half, request)
        else:
            yield self._done(action, model, str(sent.get("loaded")), request)

    def _done(self, action: str, model: str, loaded: str, request: gr.Request) -> Updates:
        """What is done at once: stop a download, free memory."""
        session, say = session_of(request), self.readers.translator(request)
        try:
            if action == "stop":
                stop_download(self.studio, model)
            elif action == "unload":
                unload_model(self.studio, loaded)
            elif action == "forget":
                forget_path(self.studio, model)
            elif action == "ram":
                move_model_to_ram(self.studio, loaded)
        except UserError as error:
            return merged({self.parts.plan: render_plan(None, error, "", say)}, self._news(session, say))
        return self._news(session, say) or unchanged()

    def _load(self, model: str, task: str, request: gr.Request) -> Iterator[Updates]:
        """Load a model, and say how far it is."""
        session = session_of(request)

        def work(context: Any) -> CatalogEntry:
            return load_model(self.studio, model, task, context)

        for step in follow_job(self.studio, work, owner_of(request), LOAD):
            say = self.readers.translator(request)
            desk = self.desks.change(session, loading=step)
            yield merged(self._loading(desk, say), self._news(session, say))

    def _stop_loading(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).loading, owner_of(request))

    def _loading(self, desk: ModelsDesk, say: Translator) -> Updates:
        step = desk.loading
        done = say.text("models.load.done", id=step.value.id) if step.value is not None else ""
        return {
            self.parts.status: render_job(step.view, say, done),
            self.parts.stop: gr.update(visible=step.view.phase.busy),
        }

    def _looked_up(self, desk: ModelsDesk, say: Translator) -> Updates:
        ready = desk.plan is not None and desk.problem is None
        return {
            self.parts.plan: render_added(desk.added, say) or render_plan(desk.plan, desk.problem, desk.asking, say),
            self.parts.download: gr.update(visible=ready),
        }

    def _news(self, session: str, say: Translator) -> Updates:
        """What has changed since it was last sent."""
        desk, parts = self.desks.of(session), self.parts.live()
        now = self._rendered(desk.task, say)
        self.desks.change(session, shown=now)
        return {parts[name]: html for name, html in now.items() if desk.shown.get(name) != html}

    def _rendered(self, task: str, say: Translator) -> dict[str, str]:
        manager, settings = self.studio.manager, self.studio.settings
        devices, idle = manager.device_memory(), settings.idle_unload_minutes
        entries = self.studio.catalog.entries()
        files, waiting = self.studio.catalog.extras(), self.studio.catalog.files.waiting()
        return {
            "memory": render_memory(manager.memory_status(), process_bytes(), devices, idle, say),
            "loaded": render_loaded(manager.status(), say),
            "downloads": render_downloads(self.studio.downloads.statuses(), say),
            "listed": render_models(entries, self.studio.known, task, say, files, waiting),
        }


def _build_memory(page: Localizer) -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.Button]:
    page.make(gr.HTML, {"value": lambda say: f"<h3>{say.text('models.loaded')}</h3>"}, apply_default_css=False)
    memory = gr.HTML(apply_default_css=False, elem_id="models-memory", js_on_load=_LIVE_JS)
    loaded = gr.HTML(apply_default_css=False, elem_id="models-loaded", js_on_load=_BUTTONS_JS)
    status = gr.HTML(apply_default_css=False, elem_id="models-status")
    stop = page.make(gr.Button, {"value": "create.stop"}, variant="stop", visible=False, elem_id="models-stop")
    return memory, loaded, status, stop


def _build_add(page: Localizer) -> tuple[gr.Textbox, gr.Checkbox, gr.Button, gr.HTML, gr.Button]:
    typed = page.make(
        gr.Textbox, {"label": "models.add", "placeholder": "models.add.placeholder", "info": "models.add.info"},
        max_lines=1, elem_id="models-typed",
    )  # fmt: skip
    half = page.make(gr.Checkbox, {"label": "models.half"}, value=False, elem_id="models-half")
    look = page.make(gr.Button, {"value": "models.look_up"}, elem_id="models-look")
    plan = gr.HTML(apply_default_css=False, elem_id="models-plan")
    download = page.make(
        gr.Button, {"value": "models.download"}, variant="primary", visible=False, elem_id="models-download"
    )
    return typed, half, look, plan, download


def _task_choices(say: Translator) -> list[tuple[str, str]]:
    return [(say.text("models.filter.all"), ""), *((task_words(task, say), task) for task in TASK_WORDS)]
