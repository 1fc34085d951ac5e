"""The tabs and panels that extensions add: built by their code, kept apart from everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block, BlockContext, Blocks
from gradio.context import Context

from webui.extensions.api import ExtensionAPI, Place, Words
from webui.extensions.isolation import FailedError, run_isolated
from webui.extensions.loading import Extensions
from webui.extensions.tab import Said
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, RunBar, build_run_bar, follow_job, stop_job
from webui.pages.create import CreatePage
from webui.pages.localize import Binding, Localized, Localizer, Updates
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers, owner_of
from webui.runtime.jobs import JobContext
from webui.runtime.patience import HungError
from webui.studio import Studio
from webui.views.markup import element, text

T = TypeVar("T")
AnyBlock = TypeVar("AnyBlock", bound=Block)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A place whose words Python makes of a state."""

    output: gr.HTML
    state: gr.State
    render: Callable[[Any, Words], str]


@dataclass(frozen=True, slots=True)
class ExtensionPart(Page):
    """One tab or panel of an extension: what its `build` gets (`api.Panel`), and a page to the frame."""

    studio: Studio
    readers: Readers
    page: Localizer
    api: ExtensionAPI
    place: Place
    create: CreatePage | None = None
    shown: list[_Shown] = field(default_factory=list)

    @property
    def prompt(self) -> gr.Textbox:
        """What is to be drawn; of panels under "create" only."""
        return self._create().form.prompt

    @property
    def negative_prompt(self) -> gr.Textbox:
        """What is not wanted; of panels under "create" only."""
        return self._create().form.negative_prompt

    def make(self, component: type[AnyBlock], words: Mapping[str, Said], /, **properties: Any) -> AnyBlock:
        """As `webui.extensions.api.Tab.make`."""
        return self.page.make(component, {name: self._words(said) for name, said in words.items()}, **properties)

    def words(self, request: gr.Request) -> Words:
        """What speaks to the reader behind an event."""
        return self._spoken(self.readers.translator(request))

    def shows(self, output: gr.HTML, state: gr.State, render: Callable[[Any, Words], str]) -> None:
        """Remember what makes the words of `output`; a page that opens shows what it makes of the state's own value."""
        self.shown.append(_Shown(output, state, render))
        first = self._localized(lambda words: render(state.value, words))
        output.value = first(self.page.first_language)
        self.page.bindings.append(Binding(output, {"value": first}))

    def run_bar(self, name: str, start: str) -> RunBar:
        """The two buttons and the line of a job."""
        return build_run_bar(self.page, f"{self.place.id}-{name}", self.api.key(start))

    def follow(self, work: Callable[[JobContext], T], request: gr.Request) -> Iterator[JobStep[T]]:
        """Queue `work` and yield what becomes of it."""
        return follow_job(self.studio, work, owner_of(request), kind=f"extension {self.api.id}")

    def show_run(self, bar: RunBar, step: JobStep[Any], request: gr.Request) -> Updates:
        """The updates of the bar for a step."""
        return bar.show(step.view, self.readers.translator(request))

    def stop(self, step: JobStep[Any] | None, request: gr.Request) -> None:
        """Ask the job of a step to end."""
        if step is not None:
            stop_job(self.studio, step, owner_of(request))

    def kept(self) -> list[Block]:
        """The states that words are made of."""
        return [shown.state for shown in self.shown]

    def said_again(self, change: LanguageChange) -> Updates:
        """The words, in another language; an extension that fails at it leaves its own as they were."""
        words = self._spoken(change.say)
        updates: Updates = {}
        for shown, value in zip(self.shown, change.kept, strict=True):
            said = self.studio.hooks.guarded(self.api.id, "shows", partial(shown.render, value, words), None)
            if said is not None:
                updates[shown.output] = said
        return updates

    def said_again_outputs(self) -> list[Block]:
        """Where the words are."""
        return [shown.output for shown in self.shown]

    def _words(self, said: Said) -> Localized:
        return self.api.key(said) if isinstance(said, str) else self._localized(said)

    def _localized(self, said: Callable[[Words], object]) -> Callable[[Translator], object]:
        """What an extension makes of a language. It may fail while the part is built; later it keeps what it was."""
        newest: list[object] = []

        def localized(say: Translator) -> object:
            make = partial(said, self._spoken(say))
            newest[:] = [self.studio.hooks.guarded(self.api.id, "words", make, newest[0]) if newest else make()]
            return newest[0]

        return localized

    def _spoken(self, say: Translator) -> Words:
        return Words(say, self.api.key(""))

    def _create(self) -> CreatePage:
        if self.create is None:
            raise AttributeError('only a panel under "create" lies under the prompt: use add_panel')
        return self.create


def build_tabs(
    blocks: Blocks, studio: Studio, readers: Readers, page: Localizer, extensions: Extensions
) -> list[ExtensionPart]:
    """Lay out the extensions' tabs inside the current `gr.Tabs`; one that cannot be built says so and is left empty."""
    built = []
    for api in extensions.loaded:
        for place in api.contributions.tabs:
            part = ExtensionPart(studio, readers, page, api, place)
            title = {"label": lambda say, place=place: place.title.text(say.language)}
            with page.make(gr.Tab, title, id=place.id) as tab:
                if _build(blocks, part, tab):
                    built.append(part)
    return built


def build_panels(
    blocks: Blocks,
    studio: Studio,
    readers: Readers,
    page: Localizer,
    extensions: Extensions,
    create: CreatePage,
    tabs: Mapping[str, BlockContext],
) -> list[ExtensionPart]:
    """Lay out the extensions' panels: under the prompt of the txt2img page, and at the end of the other `tabs`."""
    places = {**tabs, "create": create.panels}
    built = []
    for api in extensions.loaded:
        for place in api.contributions.panels:
            if place.under not in places:  # a page that this server does not have
                continue
            part = ExtensionPart(studio, readers, page, api, place, create if place.under == "create" else None)
            title = {"label": lambda say, place=place: place.title.text(say.language)}
            with places[place.under], page.make(gr.Accordion, title, open=False, elem_id=place.id) as panel:
                if _build(blocks, part, panel):
                    built.append(part)
    return built


def _build(blocks: Blocks, part: ExtensionPart, inside: BlockContext) -> bool:
    """Let the extension lay out its part; whatever of it a failure leaves behind is taken away again."""
    components, functions, words = set(blocks.blocks), set(blocks.fns), len(part.page.bindings)
    try:
        run_isolated(lambda: part.place.build(part), part.api.source)
    except (FailedError, HungError) as error:
        trace = error.where if isinstance(error, HungError) else error.trace
        part.studio.hooks.charge(part.api.id, part.place.title.en, trace)
        Context.block, Context.root_block = inside, blocks  # its code may have stopped inside a row of its own
        for id_ in set(blocks.blocks) - components:
            del blocks.blocks[id_]
        for id_ in set(blocks.fns) - functions:
            del blocks.fns[id_]
        del part.page.bindings[words:]
        inside.children.clear()
        _say_broken(part)
        return False
    for id_ in set(blocks.fns) - functions:
        blocks.fns[id_].api_visibility = "private"  # extensions open no door beside the page
        blocks.fns[id_].concurrency_limit = None  # the job queue decides who draws
    return True


def _say_broken(part: ExtensionPart) -> None:
    def sentence(say: Translator) -> str:
        title = part.place.title.text(say.language)
        said = say.text("extension.broken_part", title=title, id=part.api.id)
        return element("div", text(said), class_="status-failed", role="alert")

    part.page.make(gr.HTML, {"value": sentence}, apply_default_css=False)
