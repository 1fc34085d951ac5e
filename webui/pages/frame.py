"""The page around the tabs: its header with the language and theme switches, and the events of all of it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.i18n import Language, Translator
from webui.pages.create import CreatePage, Kept
from webui.pages.create_run import Run
from webui.pages.localize import QUIET, Localizer, Updates, merged
from webui.pages.reader import Readers
from webui.pages.score import ScorePage
from webui.studio import Studio
from webui.views.markup import element, text
from webui.views.notice import PictureNotice

_LANGUAGE_NAMES: Final[list[tuple[str, str]]] = [("English", "en"), ("ไทย", "th")]
"""Each language under its own name, in every language."""

_SCORE_TAB: Final = "score"

_OPEN_JS: Final = "(language, saved) => [window.diffuscope.chosenLanguage(), saved]"
_SPEAK_JS: Final = "(language, ...kept) => { window.diffuscope.speak(language); return [language, ...kept]; }"
_READY_JS: Final = "() => { window.diffuscope.ready(); return []; }"
_THEME_JS: Final = "() => { window.diffuscope.toggleTheme(); return []; }"


def build_page(studio: Studio) -> gr.Blocks:
    """Lay out the whole page and wire it; nothing is served and no model is loaded yet."""
    default: Language = studio.settings.language or "en"
    readers = Readers(studio.messages, default)
    page = Localizer(studio.messages.translator(default))
    blocks = gr.Blocks(analytics_enabled=False, title="Diffuscope", delete_cache=(600, 3600), fill_width=True)
    with blocks:
        language = _build_header(page)
        with gr.Tabs(elem_id="tabs") as tabs:
            with page.make(gr.Tab, {"label": "app.tab.create"}, id="create"):
                create = CreatePage.build(studio, readers, page)
            with page.make(gr.Tab, {"label": "app.tab.score"}, id=_SCORE_TAB):
                score = ScorePage.build(studio, readers, page)
        _wire_language(blocks, readers, page, language, create, score)
        _wire_sending(tabs, create, score)
        blocks.unload(create.leave)
        blocks.unload(score.leave)
        blocks.unload(readers.forget)
    return blocks


def page_head(owners_language: Language | None) -> str:
    """What goes into <head>: the style sheet, and the script that must run before the page is painted.

    Gradio has a place of its own for style sheets, but rewrites their selectors. `owners_language` is for the script.
    """
    language = f"window.diffuscopeLanguage = {json.dumps(owners_language)};"
    script = "\n".join([language, _asset("similarity.js"), _asset("page.js")])
    return f"<style>{_asset('page.css')}{_asset('similarity.css')}</style><script>{script}</script>"


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
    blocks: gr.Blocks, readers: Readers, page: Localizer, language: gr.Radio, create: CreatePage, score: ScorePage
) -> None:
    """Say the whole page in the reader's language: when it opens, with the form of last time, and at every switch."""

    def open_page(chosen: object, saved: object, request: gr.Request) -> Updates:
        say = readers.choose(request, chosen)
        return merged({language: gr.update(value=say.language)}, page.updates(say), create.opening(saved, say))

    def change_language(
        chosen: object, run: Run, selected: int, notice: PictureNotice | None, prompt: str, model: str | None,
        request: gr.Request,
    ) -> Updates:  # fmt: skip
        before = readers.translator(request)
        say = readers.choose(request, chosen)
        created = create.said_again(Kept(run, selected, notice, prompt, model), before, say)
        return merged(page.updates(say), created, score.said_again(request, say))

    opened = blocks.load(
        open_page,
        inputs=[language, create.saved],
        outputs=_unique([language, *page.components, *create.opening_outputs()]),
        js=_OPEN_JS,
        **QUIET,
    )
    opened.then(None, js=_READY_JS, **QUIET)
    language.input(
        change_language,
        inputs=[language, *create.kept()],
        outputs=_unique([*page.components, *create.said_again_outputs(), *score.said_again_outputs()]),
        js=_SPEAK_JS,
        **QUIET,
    )


def _wire_sending(tabs: gr.Tabs, create: CreatePage, score: ScorePage) -> None:
    """The button under a drawn picture that takes it, and its prompt, to the similarity page."""
    create.stage.send.click(
        score.receive,
        inputs=[create.stage.run, create.stage.selected, score.form.texts],
        outputs=score.receive_outputs(),
        **QUIET,
    ).then(lambda: gr.update(selected=_SCORE_TAB), outputs=[tabs], **QUIET)


def _brand(say: Translator) -> str:
    name = element("div", text(say.text("app.name")), class_="brand-name")
    line = element("div", text(say.text("app.tagline")), class_="brand-line")
    return element("div", _asset("logo.svg"), element("div", name, line), class_="brand")


def _unique(components: list[Block]) -> list[Block]:
    return list(dict.fromkeys(components))


def _asset(name: str) -> str:
    return files("webui").joinpath("assets", name).read_text(encoding="utf-8")
