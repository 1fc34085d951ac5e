"""The small views beside the form: parameters, token counter, model line, what a dropped picture brought."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from webui.diffusion.prompt import TokenCount
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import load_messages
from webui.runtime.entries import CatalogEntry
from webui.views.markup import element, text
from webui.views.model import render_model
from webui.views.notice import PictureNotice, render_notice
from webui.views.parameters import render_parameters
from webui.views.tokens import SHOWN_CHARACTERS, render_tokens

SAY = load_messages().translator("en")
ENTRY = CatalogEntry("m", "txt2img", "M", Path("m"), "1", "Apache-2.0", 12_000_000, False, 128, 64, 8)


class Reader(HTMLParser):
    """What a browser would find: tags, the copied text, and the words."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.copied: list[str | None] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.copied += [value for name, value in attrs if name == "data-copy"]

    def handle_data(self, data: str) -> None:
        self.words += data


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r")))
def test_other_peoples_words_stay_words(words: str) -> None:
    found = Reader(element("p", text(words), data_copy=words))
    assert found.tags == ["p"]
    assert found.words == words
    assert found.copied == [words]


def test_the_parameters_hold_everything_and_copy_the_infotext() -> None:
    request = GenerateRequest("<b>cat</b>", "blue", "emoji", "Euler a", 12, 7.5, 128, 64, 99)
    found = Reader(render_parameters(request, "the\ninfotext", SAY))
    for value in ("<b>cat</b>", "blue", "emoji", "Euler a", "12", "7.5", "128 × 64", "99"):
        assert value in found.words
    assert found.copied == ["the\ninfotext"]
    assert "b" not in found.tags


def test_the_token_counter_quotes_what_is_cut_up_to_a_measure() -> None:
    assert "5 of 77" in render_tokens(TokenCount(5, 77, "a cat", ""), SAY)
    over = render_tokens(TokenCount(90, 77, "a", " <i>zebra"), SAY)
    assert "<del> &lt;i&gt;zebra</del>" in over
    endless = render_tokens(TokenCount(9999, 77, "a", "x" * 9999), SAY)
    assert "x" * SHOWN_CHARACTERS + "…" in endless
    assert "x" * (SHOWN_CHARACTERS + 1) not in endless


def test_the_model_line_tells_size_and_licence_or_the_problem() -> None:
    about = render_model(ENTRY, SAY)
    assert "128 × 64 px" in about
    assert "12 MB" in about
    assert "Apache-2.0" in about
    assert "licence not stated" in render_model(dataclasses.replace(ENTRY, licence=""), SAY)
    long = Reader(render_model(dataclasses.replace(ENTRY, licence="Apache-2.0\nglyphs OFL-1.1"), SAY))
    assert long.words.endswith("Apache-2.0")
    problem = UserError("error.model_file_broken", file="unet", reason="it ends early")
    assert 'role="alert"' in render_model(dataclasses.replace(ENTRY, problem=problem), SAY)
    assert render_model(None, SAY) == ""


def test_a_dropped_picture_says_what_was_filled_and_what_was_not() -> None:
    ignored = (UserError("error.unknown_model", model="v1-5", known="emoji"),)
    markup = render_notice(PictureNotice("cat.png", ignored), SAY)
    assert "cat.png" in markup
    assert "<li>" in markup
    assert "v1-5" in markup
    assert 'role="alert"' in render_notice(PictureNotice("x", error=UserError("error.not_a_png")), SAY)
    assert render_notice(None, SAY) == ""
