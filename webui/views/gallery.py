"""The gallery: cards of pictures, the one looked at, two of them side by side, and what is said of all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from webui.i18n import Translator
from webui.store.gallery import SavedPicture
from webui.views.figures import file_size
from webui.views.markup import element, text
from webui.views.pager import render_pager

PAGE = 48
"""Cards on a page: whole rows of 2, 3, 4, 6 and 8."""

Address = Callable[[str, str], str]
"""("thumbnail" or "full", id of a picture) -> where the browser finds it."""


@dataclass(frozen=True, slots=True)
class Card:
    """A picture in the grid; `prompt` is the first line of its infotext, "" for none."""

    picture: str
    prompt: str
    favourite: bool
    picked: bool


def render_grid(
    cards: Sequence[Card], chosen: str | None, page: int, pages: int, address: Address, say: Translator
) -> str:
    """One page of cards, each a button that opens the picture, a star and a box to pick it."""
    listed = (_card(card, card.picture == chosen, address, say) for card in cards)
    return element("ul", *listed, class_="album") + render_pager(pages, page, say)


def render_count(total: int, found: int | None, picked: int, say: Translator) -> str:
    """How many pictures there are, how many were found (None: nothing was searched) and how many are picked."""
    words = say.text("gallery.count", total=f"{total:,}")
    if found is not None:
        words = say.text("gallery.count_found", shown=f"{found:,}", total=f"{total:,}")
    if picked:
        words += " · " + say.text("gallery.count_picked", count=picked)
    return element("p", text(words), class_="score-hint", role="status")


def render_reading(done: int, total: int, say: Translator) -> str:
    """How far the search through the prompts is."""
    return element("p", text(say.text("gallery.reading", done=f"{done:,}", total=f"{total:,}")), role="status")


def render_empty_gallery(say: Translator, *, any_pictures: bool) -> str:
    """Why there is nothing to see, and what to do."""
    title = "gallery.none_found.title" if any_pictures else "gallery.empty.title"
    how = "gallery.none_found.how" if any_pictures else "gallery.empty.how"
    return element(
        "div",
        element("p", text(say.text(title)), class_="stage-title"),
        element("p", text(say.text(how)), class_="stage-hint"),
        class_="score-empty",
    )


def render_picture(picture: SavedPicture, name: str, address: Address, prompt: str, say: Translator) -> str:
    """The picture looked at, in full, with a way to its file."""
    full = address("full", name)
    alt = say.text("gallery.alt", name=name, prompt=prompt or "–")
    size = {"width": str(picture.width), "height": str(picture.height)}
    image = element("img", src=full, alt=alt, **size).removesuffix("</img>")
    link = element("a", text(say.text("gallery.download", name=picture.path.name)), href=full,
                   download=picture.path.name)  # fmt: skip
    return element("figure", image, element("figcaption", link), class_="album-full")


def render_compare(pair: tuple[str, str], address: Address, say: Translator) -> str:
    """Two pictures one over the other, and a slider that says how much of the first is seen."""
    first, second = (
        element("img", src=address("full", name), alt=say.text("gallery.compare.alt", name=name)).removesuffix("</img>")
        for name in pair
    )
    label = say.text("gallery.compare.slider")
    slider = element("input", type="range", min="0", max="100", value="50", aria_label=label, data_split=True)
    names = (element("bdi", text(name)) for name in pair)
    stack = element("div", element("div", second, class_="under"), element("div", first, class_="over"),
                    class_="stack")  # fmt: skip
    caption = element("figcaption", *names)
    return element("figure", stack, slider.removesuffix("</input>"), caption, class_="album-compare")


def render_bin(count: int, size: int, say: Translator) -> str:
    """What is in the bin."""
    if not count:
        return element("p", text(say.text("gallery.bin.empty")), class_="score-hint")
    return element("p", text(say.text("gallery.bin.holds", count=count, size=file_size(size))), class_="score-hint")


def render_deleted(count: int, say: Translator) -> str:
    """That pictures were deleted, beside the button that brings them back; nothing for none."""
    if not count:
        return ""
    return element("p", text(say.text("gallery.deleted", count=count)), class_="notice", role="status")


def cards_of(
    pictures: Sequence[str], prompts: Callable[[str], str], favourites: Collection[str], picked: Collection[str]
) -> tuple[Card, ...]:
    """The cards of one page."""
    return tuple(Card(name, prompts(name), name in favourites, name in picked) for name in pictures)


def _card(card: Card, chosen: bool, address: Address, say: Translator) -> str:
    image = element("img", src=address("thumbnail", card.picture), alt="", loading="lazy").removesuffix("</img>")
    label = say.text("gallery.open", name=card.picture, prompt=card.prompt or "–")
    pressed = "true" if chosen else "false"
    opened = element("button", image, type="button", data_open=card.picture, aria_label=label, aria_pressed=pressed,
                     title=card.prompt or card.picture)  # fmt: skip
    star = element(
        "button", "★", type="button", class_="star", data_star=card.picture,
        aria_pressed="true" if card.favourite else "false", aria_label=say.text("gallery.star", name=card.picture),
    )  # fmt: skip
    box = element(
        "button", "✓", type="button", role="checkbox", class_="pick", data_pick=card.picture,
        aria_checked="true" if card.picked else "false", aria_label=say.text("gallery.pick", name=card.picture),
    )  # fmt: skip
    return element("li", opened, star, box)
