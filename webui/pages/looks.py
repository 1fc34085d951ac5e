"""What the page looks like before anything is on it: its style sheets, scripts, fonts and colours."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import Final

import gradio as gr

from webui.i18n import LANGUAGES, Language, Messages

THAI_FONT: Final = "Noto Sans Thai"
_THAI_RANGE: Final = "U+0E01-0E5B, U+200C-200D, U+25CC"
"""Thai letters, what joins and parts them, and the circle that stands for a missing consonant."""
_STYLES: Final = (
    "page.css",
    "similarity.css",
    "inside.css",
    "latents.css",
    "search.css",
    "gallery.css",
    "learn.css",
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
    "learn.js",
    "page.js",
)


_GRADIOS_NAMES: Final = (
    "app.gradio.camera",
    "app.gradio.clipboard",
    "app.gradio.fullscreen",
    "app.gradio.more_tabs",
    "app.gradio.number_input",
    "app.gradio.picture",
    "app.gradio.range_slider",
    "app.gradio.remove",
    "app.gradio.upload",
)
"""What Gradio calls its own buttons and fields for screen readers and under the pointer, in English whatever the
reader's language; the English entries are its own words."""


def page_head(owners_language: Language | None, messages: Messages) -> str:
    """What goes into <head>: the style sheet, and the script that must run before the page is painted.

    Gradio has a place of its own for style sheets, but rewrites their selectors. `owners_language` is for the script.
    """
    language = f"window.diffuscopeLanguage = {json.dumps(owners_language)};"
    names = {
        language: {
            messages.tables[other][key]: messages.tables[language][key]
            for other in LANGUAGES
            if other != language
            for key in _GRADIOS_NAMES
        }
        for language in LANGUAGES
    }
    language += f"window.diffuscopeGradio = {json.dumps(names, ensure_ascii=False)};"
    style = thai_font_face() + "".join(map(asset, _STYLES))
    script = "\n".join([language, *map(asset, _SCRIPTS)])
    return f"<style>{style}</style><script>{script}</script>"


def page_theme() -> gr.themes.Base:
    """Quiet neutrals and one colour; fonts that come with the packages, so that no network is needed."""
    fonts = (
        gr.themes.LocalFont("IBM Plex Sans"),
        THAI_FONT,
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
        link_text_color="*primary_700",
        link_text_color_hover="*primary_800",
        link_text_color_visited="*primary_700",
        link_text_color_dark="*primary_400",
        link_text_color_hover_dark="*primary_300",
        link_text_color_visited_dark="*primary_400",
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
        input_border_color="*neutral_300",  # the ground alone hardly sets a field off from its card
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        checkbox_border_radius="*radius_xs",  # a round one would be a radio button
    )


def thai_font_face() -> str:
    """The CSS rule that gives every machine the same Thai letters, of any weight, without asking a network or a system.

    The font travels in the rule itself, as a data URI: a request of its own would come after the page's login.
    """
    font = base64.b64encode(files("webui").joinpath("assets", "fonts", "noto-sans-thai.woff2").read_bytes()).decode()
    return (
        f'@font-face {{ font-family: "{THAI_FONT}"; font-weight: 100 900; font-display: block; '
        f'unicode-range: {_THAI_RANGE}; src: url("data:font/woff2;base64,{font}") format("woff2"); }}\n'
    )


def asset(name: str) -> str:
    """The text of a file in `webui/assets`."""
    return files("webui").joinpath("assets", name).read_text(encoding="utf-8")
