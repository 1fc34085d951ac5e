"""The page around the tabs: its header with the language and theme switches, and the events of all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.extensions.loading import Extensions
from webui.hooks import PageBuilt
from webui.i18n import Language, Translator
from webui.pages.create import CreatePage
from webui.pages.create_stage import sent_picture
from webui.pages.extension_parts import build_panels, build_tabs
from webui.pages.extensions import ExtensionsPage
from webui.pages.gallery import GalleryPage
from webui.pages.inside import InsidePage
from webui.pages.latents import LatentsPage
from webui.pages.learn import LearnPage
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged
from webui.pages.looks import asset
from webui.pages.models import ModelsPage
from webui.pages.page import LanguageChange, Page
from webui.pages.prompt import PromptDesk, PromptPage
from webui.pages.reader import Readers
from webui.pages.score import ScorePage
from webui.pages.search import SearchPage
from webui.pages.sending import Destination, Sender, TabId, WayBack, build_way_back, wire_sending
from webui.pages.sharing import build_sharing
from webui.pages.vision import VisionPage
from webui.security.rules import Deed, may
from webui.share.tunnel import Share
from webui.studio import Studio
from webui.views.markup import element, text

_LANGUAGE_NAMES: Final[list[tuple[str, str]]] = [("English", "en"), ("ไทย", "th")]
"""Each language under its own name, in every language."""

"""In this order: a tab's script listens before the page's own, and keeps from it what belongs to the tab."""


_OPEN_JS: Final = "(language, ...saved) => [window.diffuscope.chosenLanguage(), ...saved]"
_SPEAK_JS: Final = "(language, ...kept) => { window.diffuscope.speak(language); return [language, ...kept]; }"
_READY_JS: Final = "() => { window.diffuscope.ready(); return []; }"
_THEME_JS: Final = "() => { window.diffuscope.toggleTheme(); return []; }"


def build_page(studio: Studio, extensions: Extensions | None = None, share: Share | None = None) -> gr.Blocks:
    """Lay out the whole page and wire it; nothing is served and no model is loaded yet.

    `share` is where the public link will be, once there is one.
    """
    extensions = extensions or Extensions()
    default: Language = studio.settings.language or "en"
    readers = Readers(studio.messages, default)
    page = Localizer(studio.messages.translator(default))
    blocks = gr.Blocks(analytics_enabled=False, title="Diffuscope", delete_cache=(600, 3600), fill_width=True)
    with blocks:
        language, back = _build_header(page)
        if studio.settings.remote:
            build_sharing(page, studio.settings, share)
        with gr.Tabs(elem_id="tabs") as tabs:
            with page.make(gr.Tab, {"label": "app.tab.create"}, id=TabId.CREATE):
                create = CreatePage.build(studio, readers, page)
            gallery = _build_gallery(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.score"}, id=TabId.SCORE):
                score = ScorePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.inside"}, id=TabId.INSIDE) as inside_tab:
                inside = InsidePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.latents"}, id=TabId.LATENTS):
                latents = LatentsPage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.vision"}, id=TabId.VISION) as vision_tab:
                vision = VisionPage.build(studio, readers, page)
            vision.wire_recent(vision_tab)
            with page.make(gr.Tab, {"label": "app.tab.prompt"}, id=TabId.PROMPT):
                prompt = PromptPage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.search"}, id=TabId.SEARCH):
                search = SearchPage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.learn"}, id=TabId.LEARN):
                learn = LearnPage.build(studio, readers, page)
            models = _build_models(studio, readers, page)
            added = build_tabs(blocks, studio, readers, page, extensions)
            below = {str(tab.id): tab for tab in tabs.children if isinstance(tab, gr.Tab)}
            added_below = build_panels(blocks, studio, readers, page, extensions, create, below)
            with page.make(
                gr.Tab, {"label": "app.tab.extensions"}, id="extensions", visible=not studio.settings.remote
            ) as listing:
                listed = ExtensionsPage.build(studio, readers, extensions)
            listing.select(listed.refreshed, outputs=[listed.listed], **QUIET)
        own: tuple[Page, ...] = (create, create.check, *gallery, score, inside, latents, vision, prompt, search, learn)
        pages = (*own, *models, *added, *added_below, listed)
        _wire_language(blocks, readers, page, language, pages)
        inside_tab.select(inside.arrive, outputs=inside.arrive_outputs(), **QUIET)
        here = _Tabs(create, next(iter(gallery), None), score, inside, latents, vision, prompt, search, learn)
        _wire_pictures(tabs, back, readers, here)
        _wire_resuming(tabs, back, inside, latents)
        _wire_found_prompt(tabs, back, create, search)
        _wire_prompts(tabs, back, create, prompt)
        back.wire(tabs)
        for each in pages:
            blocks.unload(each.leave)
        blocks.unload(readers.forget)
    studio.hooks.tell(PageBuilt(tuple(part.place.id for part in added)))
    return blocks


@dataclass(frozen=True, slots=True)
class _Tabs:
    """The pages that pictures go between; on a shared page there is no gallery."""

    create: CreatePage
    gallery: GalleryPage | None
    score: ScorePage
    inside: InsidePage
    latents: LatentsPage
    vision: VisionPage
    prompt: PromptPage
    search: SearchPage
    learn: LearnPage


def _build_gallery(studio: Studio, readers: Readers, page: Localizer) -> list[GalleryPage]:
    """The owner's tab: on a shared page nobody sees what others have drawn."""
    if not may(studio.settings, Deed.SEE_OTHERS_PICTURES):
        return []
    with page.make(gr.Tab, {"label": "app.tab.gallery"}, id=TabId.GALLERY) as tab:
        gallery = GalleryPage.build(studio, readers, page)
    gallery.wire_tab(tab)
    return [gallery]


def _build_models(studio: Studio, readers: Readers, page: Localizer) -> list[ModelsPage]:
    """The owner's tab; in remote mode it is not there at all, nor are its events."""
    if studio.settings.remote:
        return []
    with page.make(gr.Tab, {"label": "app.tab.models"}, id="models") as tab:
        models = ModelsPage.build(studio, readers, page)
    models.wire_tab(tab)
    return [models]


def _build_header(page: Localizer) -> tuple[gr.Radio, WayBack]:
    with gr.Row(elem_id="header"):
        page.make(gr.HTML, {"value": _brand}, apply_default_css=False, elem_id="brand")
        language = page.make(
            gr.Radio,
            {"label": "app.language"},
            choices=_LANGUAGE_NAMES,
            value=page.first_language.language,
            show_label=False,
            container=False,
            elem_id="language",
        )
        back = build_way_back(page)
        theme = page.make(gr.Button, {"value": "app.theme"}, elem_id="theme", size="sm")
        theme.click(None, js=_THEME_JS, **QUIET)
    return language, back


def _wire_language(
    blocks: gr.Blocks, readers: Readers, page: Localizer, language: gr.Radio, pages: Sequence[Page]
) -> None:
    """Say the whole page in the reader's language: when it opens, with the forms of last time, and at every switch."""
    remembered = [each.remembered() for each in pages]
    kept = [each.kept() for each in pages]

    def open_page(chosen: object, request: gr.Request, *values: Any) -> Updates:
        say = readers.choose(request, chosen)
        openings = (each.opening(own, say) for each, own in zip(pages, _dealt(values, remembered), strict=True))
        return merged({language: gr.update(value=say.language)}, page.updates_since_built(say), *openings)

    def change_language(chosen: object, request: gr.Request, *values: Any) -> Updates:
        before = readers.translator(request)
        say = readers.choose(request, chosen)
        changes = (LanguageChange(own, before, say, request) for own in _dealt(values, kept))
        said = (each.said_again(change) for each, change in zip(pages, changes, strict=True))
        return merged(page.updates(say), *said)

    opened = blocks.load(
        open_page,
        inputs=[language, *chain.from_iterable(remembered)],
        outputs=_unique([language, *page.components, *chain.from_iterable(each.opening_outputs() for each in pages)]),
        js=_OPEN_JS,
        **QUIET,
    )
    opened.then(None, js=_READY_JS, **QUIET)
    language.input(
        change_language,
        inputs=[language, *chain.from_iterable(kept)],
        outputs=_unique([*page.components, *chain.from_iterable(each.said_again_outputs() for each in pages)]),
        js=_SPEAK_JS,
        **QUIET,
    )


def _dealt(values: Sequence[Any], hands: Sequence[Sequence[Block]]) -> list[Sequence[Any]]:
    """The values of all pages' components, given to each page as it asked for them."""
    rest = iter(values)
    return [tuple(islice(rest, len(hand))) for hand in hands]


def _wire_pictures(tabs: gr.Tabs, back: WayBack, readers: Readers, here: _Tabs) -> None:
    """The buttons under a picture, wherever there is one, that take it to the other tabs."""
    create, inside, vision, prompt, search = here.create, here.inside, here.vision, here.prompt, here.search
    stage = create.stage
    senders = [
        Sender(TabId.CREATE, stage.bar.presses, sent_picture, [stage.run, stage.selected]),
        here.score.sender(),
        inside.sender(),
        *here.latents.senders(),
        Sender(TabId.VISION, vision.form.sending.presses, vision.looked_at),
        prompt.sender(),
        Sender(TabId.SEARCH, search.stage.bar.presses, search.looked_at),
        *here.learn.senders(),
    ]
    if here.gallery is not None:
        gallery = here.gallery
        senders.append(Sender(TabId.GALLERY, gallery.stage.bar.presses, gallery.looked_at))
    tray = here.score.tray
    destinations = [
        Destination(TabId.CREATE, create.receive, create.picture_outputs()),
        Destination(TabId.SCORE, tray.receive, tray.receive_outputs(), [here.score.form.texts]),
        Destination(
            TabId.INSIDE, inside.receive, inside.receive_outputs(), then=inside.record_on, prepare=inside.prepare
        ),
        Destination(TabId.LATENTS, here.latents.receive, here.latents.receive_outputs(), [here.latents.form.model]),
        Destination(TabId.VISION, vision.receive, [vision.form.picture]),
        Destination(TabId.PROMPT, prompt.receive_picture, [prompt.form.text], prepare=prompt.prepare),
        Destination(TabId.SEARCH, search.receive, search.receive_outputs(), [search.form.model]),
    ]
    wire_sending(tabs, back, readers, senders, destinations)


def _wire_resuming(tabs: gr.Tabs, back: WayBack, inside: InsidePage, latents: LatentsPage) -> None:
    """The button that takes the run looked at, and the step that the scrubber is at, to the page on latents."""
    inner = latents.tools.tabs

    def resume(event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        chosen = inside.chosen_step(event, request)
        if chosen is None:
            yield {tabs: gr.skip()}
            return
        yield {
            tabs: gr.update(selected=TabId.LATENTS),
            inner: gr.update(selected="resume"),
        } | back.leads_to(TabId.INSIDE)
        yield from latents.tools.receive(*chosen, request)

    inside.parts.viewer.resume(
        resume, outputs=[tabs, inner, *back.outputs(), *latents.tools.receive_outputs()], **FOLLOWED
    )


def _wire_found_prompt(tabs: gr.Tabs, back: WayBack, create: CreatePage, search: SearchPage) -> None:
    """The button under a picture that was found that takes its prompt to txt2img."""

    def use(request: gr.Request) -> Updates:
        return {create.form.prompt: search.chosen_prompt(request), create.form.original_prompt: ""}

    search.stage.use.click(use, outputs=create.prompt_outputs(), **QUIET).then(
        lambda: {tabs: gr.update(selected=TabId.CREATE)} | back.leads_to(TabId.SEARCH),
        outputs=[tabs, *back.outputs()],
        **QUIET,
    )


def _wire_prompts(tabs: gr.Tabs, back: WayBack, create: CreatePage, prompt: PromptPage) -> None:
    """The way of a prompt to the page that works on it, and of a candidate back to the form."""

    def use(desk: PromptDesk, event: gr.EventData) -> Updates:
        chosen = prompt.use(desk, event)
        if chosen is None:
            return {tabs: gr.skip()}  # another button of the candidate
        shown = create.with_prompt(*chosen) | {tabs: gr.update(selected=TabId.CREATE)}
        return shown | back.leads_to(TabId.PROMPT)

    create.send_prompt.click(prompt.receive, inputs=[create.form.prompt], outputs=[prompt.form.text], **QUIET).then(
        lambda: {tabs: gr.update(selected=TabId.PROMPT)} | back.leads_to(TabId.CREATE),
        outputs=[tabs, *back.outputs()],
        **QUIET,
    )
    prompt.stage.candidates.click(
        use, inputs=[prompt.desk], outputs=[*create.prompt_outputs(), tabs, *back.outputs()], **QUIET
    )
    prompt.wire_attention()


def _brand(say: Translator) -> str:
    name = element("div", text(say.text("app.name")), class_="brand-name")
    line = element("div", text(say.text("app.tagline")), class_="brand-line")
    return element("div", asset("logo.svg"), element("div", name, line), class_="brand")


def _unique(components: list[Block]) -> list[Block]:
    return list(dict.fromkeys(components))
