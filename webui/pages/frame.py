"""The page around the tabs: its header with the language and theme switches, and the events of all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.extensions.loading import Extensions
from webui.hooks import PageBuilt
from webui.i18n import Language, Translator
from webui.pages.create import CreatePage
from webui.pages.extension_parts import build_panels, build_tabs
from webui.pages.extensions import ExtensionsPage
from webui.pages.inside import InsidePage
from webui.pages.latents import LatentsPage
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, unchanged
from webui.pages.models import ModelsPage
from webui.pages.page import LanguageChange, Page
from webui.pages.prompt import PromptDesk, PromptPage
from webui.pages.reader import Readers
from webui.pages.score import ScorePage
from webui.pages.search import SearchPage
from webui.pages.sharing import build_sharing
from webui.pages.vision import VisionPage
from webui.share.tunnel import Share
from webui.studio import Studio
from webui.views.markup import element, text

_LANGUAGE_NAMES: Final[list[tuple[str, str]]] = [("English", "en"), ("ไทย", "th")]
"""Each language under its own name, in every language."""

_STYLES: Final = (
    "page.css",
    "similarity.css",
    "inside.css",
    "latents.css",
    "search.css",
    "vision.css",
    "prompt.css",
    "extensions.css",
    "models.css",
    "sharing.css",
)
_SCRIPTS: Final = (
    "inside_core.js",
    "inside_scrubber.js",
    "inside_maps.js",
    "inside_view.js",
    "inside_compare.js",
    "similarity.js",
    "latents.js",
    "vision.js",
    "page.js",
)
"""In this order: a tab's script listens before the page's own, and keeps from it what belongs to the tab."""

_CREATE_TAB: Final = "create"
_SCORE_TAB: Final = "score"
_INSIDE_TAB: Final = "inside"
_LATENTS_TAB: Final = "latents"
_VISION_TAB: Final = "vision"
_PROMPT_TAB: Final = "prompt"

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
        language = _build_header(page)
        if studio.settings.remote:
            build_sharing(page, studio.settings, share)
        with gr.Tabs(elem_id="tabs") as tabs:
            with page.make(gr.Tab, {"label": "app.tab.create"}, id=_CREATE_TAB):
                create = CreatePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.score"}, id=_SCORE_TAB):
                score = ScorePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.inside"}, id=_INSIDE_TAB) as inside_tab:
                inside = InsidePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.latents"}, id=_LATENTS_TAB):
                latents = LatentsPage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.vision"}, id=_VISION_TAB) as vision_tab:
                vision = VisionPage.build(studio, readers, page)
            vision.wire_recent(vision_tab)
            with page.make(gr.Tab, {"label": "app.tab.prompt"}, id=_PROMPT_TAB):
                prompt = PromptPage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.search"}, id="search"):
                search = SearchPage.build(studio, readers, page)
            models = _build_models(studio, readers, page)
            added = build_tabs(blocks, studio, readers, page, extensions)
            added_below = build_panels(blocks, studio, readers, page, extensions, create)
            with page.make(
                gr.Tab, {"label": "app.tab.extensions"}, id="extensions", visible=not studio.settings.remote
            ) as listing:
                listed = ExtensionsPage.build(studio, readers, extensions)
            listing.select(listed.refreshed, outputs=[listed.listed], **QUIET)
        own: tuple[Page, ...] = (create, create.check, score, inside, latents, vision, prompt, search)
        pages = (*own, *models, *added, *added_below, listed)
        _wire_language(blocks, readers, page, language, pages)
        _wire_sending(tabs, create, score)
        _wire_inside(tabs, inside_tab, create, inside)
        _wire_resuming(tabs, inside, latents)
        _wire_sending_to_latents(tabs, create, latents)
        _wire_vision(tabs, create, vision)
        _wire_search(tabs, create, score, search)
        _wire_prompts(tabs, create, prompt)
        for each in pages:
            blocks.unload(each.leave)
        blocks.unload(readers.forget)
    studio.hooks.tell(PageBuilt(tuple(part.place.id for part in added)))
    return blocks


def page_head(owners_language: Language | None) -> str:
    """What goes into <head>: the style sheet, and the script that must run before the page is painted.

    Gradio has a place of its own for style sheets, but rewrites their selectors. `owners_language` is for the script.
    """
    language = f"window.diffuscopeLanguage = {json.dumps(owners_language)};"
    style = "".join(map(_asset, _STYLES))
    script = "\n".join([language, *map(_asset, _SCRIPTS)])
    return f"<style>{style}</style><script>{script}</script>"


def page_theme() -> gr.themes.Base:
    """Quiet neutrals and one colour; fonts that the package brings or the system has, so that no network is needed."""
    fonts = (
        gr.themes.LocalFont("IBM Plex Sans"),
        "IBM Plex Sans Thai",
        "Noto Sans Thai",
        "Sarabun",
        "Loma",
        "Leelawadee UI",
        "Thonburi",
        "system-ui",
        "sans-serif",
    )
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=fonts,
    ).set(
        body_text_color_subdued="*neutral_600",  # Gradio's own is 2.4:1 on this ground, too faint to read
        input_placeholder_color="*neutral_500",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_label_text_size="*text_sm",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#991b1b",
        button_cancel_background_fill_hover_dark="#b91c1c",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
    )


def _build_models(studio: Studio, readers: Readers, page: Localizer) -> list[ModelsPage]:
    """The owner's tab; in remote mode it is not there at all, nor are its events."""
    if studio.settings.remote:
        return []
    with page.make(gr.Tab, {"label": "app.tab.models"}, id="models") as tab:
        models = ModelsPage.build(studio, readers, page)
    models.wire_tab(tab)
    return [models]


def _build_header(page: Localizer) -> gr.Radio:
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
        theme = page.make(gr.Button, {"value": "app.theme"}, elem_id="theme", size="sm")
        theme.click(None, js=_THEME_JS, **QUIET)
    return language


def _wire_language(
    blocks: gr.Blocks, readers: Readers, page: Localizer, language: gr.Radio, pages: Sequence[Page]
) -> None:
    """Say the whole page in the reader's language: when it opens, with the forms of last time, and at every switch."""
    remembered = [each.remembered() for each in pages]
    kept = [each.kept() for each in pages]

    def open_page(chosen: object, request: gr.Request, *values: Any) -> Updates:
        say = readers.choose(request, chosen)
        openings = (each.opening(own, say) for each, own in zip(pages, _dealt(values, remembered), strict=True))
        return merged({language: gr.update(value=say.language)}, page.updates(say), *openings)

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


def _wire_sending(tabs: gr.Tabs, create: CreatePage, score: ScorePage) -> None:
    """The button under a drawn picture that takes it, and its prompt, to the similarity page."""
    create.stage.send.click(
        score.tray.receive,
        inputs=[create.stage.run, create.stage.selected, score.form.texts],
        outputs=score.tray.receive_outputs(),
        **QUIET,
    ).then(lambda: gr.update(selected=_SCORE_TAB), outputs=[tabs], **QUIET)


def _wire_sending_to_latents(tabs: gr.Tabs, create: CreatePage, latents: LatentsPage) -> None:
    """The button under a drawn picture that opens its latent; the tab first, so that the work is seen."""
    create.stage.send_to_latents.click(lambda: gr.update(selected=_LATENTS_TAB), outputs=[tabs], **QUIET).then(
        latents.receive,
        inputs=[create.stage.run, create.stage.selected, latents.form.model],
        outputs=latents.receive_outputs(),
        **FOLLOWED,
    )


def _wire_vision(tabs: gr.Tabs, create: CreatePage, vision: VisionPage) -> None:
    """The button under a drawn picture that shows it to ViT, and the one that takes a picture's settings back."""
    create.stage.send_to_vision.click(lambda: gr.update(selected=_VISION_TAB), outputs=[tabs], **QUIET).then(
        vision.receive, inputs=[create.stage.run, create.stage.selected], outputs=[vision.form.picture], **QUIET
    )

    def take_back(request: gr.Request) -> Updates:
        file = vision.chosen_file(request)
        if file is None or not isinstance(file.content, Path):
            return unchanged()
        shown = create.read_picture(file.content, file.name, create.readers.translator(request))
        return shown | {tabs: gr.update(selected=_CREATE_TAB)}

    vision.form.send.click(take_back, outputs=[*create.picture_outputs(), tabs], **QUIET)


def _wire_inside(tabs: gr.Tabs, tab: gr.Tab, create: CreatePage, inside: InsidePage) -> None:
    """What the tab shows first, and the button that records a drawn picture again to look inside it."""
    tab.select(inside.arrive, outputs=inside.arrive_outputs(), **QUIET)
    sent = create.stage.look.click(
        inside.receive,
        inputs=[create.stage.run, create.stage.selected],
        outputs=inside.receive_outputs(),
        **QUIET,
    ).then(lambda: gr.update(selected=_INSIDE_TAB), outputs=[tabs], **QUIET)
    inside.record_on(sent.then)


def _wire_resuming(tabs: gr.Tabs, inside: InsidePage, latents: LatentsPage) -> None:
    """The button that takes the run looked at, and the step that the scrubber is at, to the page on latents."""
    inner = latents.tools.tabs

    def resume(event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        chosen = inside.chosen_step(event, request)
        if chosen is None:
            yield {tabs: gr.skip()}
            return
        yield {tabs: gr.update(selected=_LATENTS_TAB), inner: gr.update(selected="resume")}
        yield from latents.tools.receive(*chosen, request)

    inside.parts.viewer.resume(resume, outputs=[tabs, inner, *latents.tools.receive_outputs()], **FOLLOWED)


def _wire_search(tabs: gr.Tabs, create: CreatePage, score: ScorePage, search: SearchPage) -> None:
    """The buttons under a picture that was found: its prompt to txt2img, the picture to the similarity page."""

    def receive(texts: str | None, request: gr.Request) -> Updates:
        found = search.chosen_file(request)
        return score.tray.receive_file(*found, texts, request) if found is not None else unchanged()

    def use(request: gr.Request) -> Updates:
        return {create.form.prompt: search.chosen_prompt(request), create.form.original_prompt: ""}

    search.stage.use.click(use, outputs=create.prompt_outputs(), **QUIET).then(
        lambda: gr.update(selected=_CREATE_TAB), outputs=[tabs], **QUIET
    )
    search.stage.score.click(receive, inputs=[score.form.texts], outputs=score.tray.receive_outputs(), **QUIET).then(
        lambda: gr.update(selected=_SCORE_TAB), outputs=[tabs], **QUIET
    )


def _wire_prompts(tabs: gr.Tabs, create: CreatePage, prompt: PromptPage) -> None:
    """The way of a prompt to the page that works on it, and of a candidate back to the form."""

    def use(desk: PromptDesk, event: gr.EventData) -> Updates:
        chosen = prompt.use(desk, event)
        if chosen is None:
            return {tabs: gr.skip()}  # another button of the candidate
        return create.with_prompt(*chosen) | {tabs: gr.update(selected=_CREATE_TAB)}

    create.send_prompt.click(prompt.receive, inputs=[create.form.prompt], outputs=[prompt.form.text], **QUIET).then(
        lambda: gr.update(selected=_PROMPT_TAB), outputs=[tabs], **QUIET
    )
    prompt.stage.candidates.click(use, inputs=[prompt.desk], outputs=[*create.prompt_outputs(), tabs], **QUIET)
    prompt.wire_attention()


def _brand(say: Translator) -> str:
    name = element("div", text(say.text("app.name")), class_="brand-name")
    line = element("div", text(say.text("app.tagline")), class_="brand-line")
    return element("div", _asset("logo.svg"), element("div", name, line), class_="brand")


def _unique(components: list[Block]) -> list[Block]:
    return list(dict.fromkeys(components))


def _asset(name: str) -> str:
    return files("webui").joinpath("assets", name).read_text(encoding="utf-8")
