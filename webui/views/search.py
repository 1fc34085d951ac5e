"""The search page in HTML: results, the picture looked at, folders, and what is said of an index run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webui.i18n import Translator
from webui.search.folders import OUTPUTS, SearchFolder
from webui.search.query import Term
from webui.search.rows import PictureRow
from webui.search.service import IndexPhase, IndexStatus
from webui.views.figures import file_size
from webui.views.markup import element, text
from webui.views.pager import render_pager

if TYPE_CHECKING:
    from webui.search.find import Found

PAGE: Final = 24
"""Groups of results on one page."""

Address = Callable[[str, PictureRow], str]
"""Kind ("thumbnail", "full") and row to the address that a browser loads."""


def index_words(status: IndexStatus, say: Translator) -> str:
    """One line on an index run: what it does, how fast, and what it has done."""
    counts, phase = status.counts, say.text(status.phase.value)
    if status.phase is IndexPhase.EMBEDDING or (status.phase is IndexPhase.WAITING and counts.done):
        rate = f"{counts.rate:.1f}" if counts.rate else "…"
        left = _duration(counts.seconds_left) if counts.seconds_left is not None else "…"
        return say.text(
            "search.index.going", phase=phase, done=counts.done, total=counts.total, rate=rate, left=left,
            device=status.device,
        )  # fmt: skip
    if status.phase in (IndexPhase.DONE, IndexPhase.STOPPED):
        happened = (
            ("search.index.embedded", counts.embedded), ("search.index.reused", counts.reused),
            ("search.index.unchanged", counts.unchanged), ("search.index.vanished", counts.vanished),
            ("search.index.refused", counts.refused), ("search.index.links_out", counts.links_out),
        )  # fmt: skip
        parts = [say.text(key, count=count) for key, count in happened if count]
        return f"{phase} {' · '.join(parts) or say.text('search.index.no_pictures')}"
    return phase


def answer_words(found: Found, say: Translator) -> str:
    """What kind of answer it is: exact or not, and whether anything stands out."""
    if not found.searched:
        return say.text("search.nothing_indexed" if not found.spread.count else "search.nothing_passes")
    kind = _kind(found, say)
    words = say.text(
        "search.searched", count=f"{found.searched:,}", milliseconds=round(found.seconds * 1000), kind=kind
    )
    if found.matches is None or not found.hits:
        return f"{words} {say.text('search.too_few')}"
    key = "search.stands_out" if found.matches else "search.stands_out_not"
    best, needed = f"{found.hits[0].sigmas:.1f}", f"{found.spread.threshold:.1f}"
    return f"{words} {say.text(key, best=best, needed=needed)}"


def render_index(status: IndexStatus, say: Translator) -> str:
    """The line on an index run, its bar, and the files that could not be read."""
    if status.phase is IndexPhase.IDLE:
        return ""
    if status.phase is IndexPhase.FAILED:
        sentence = say.error(status.error) if status.error else say.text("create.unexpected")
        return element("div", text(sentence), class_="status-failed", role="alert")
    counts, parts = status.counts, [element("div", text(index_words(status, say)), class_="status-words")]
    if status.phase.busy and counts.total:
        share = 100 * counts.done / counts.total
        fill = element("div", class_="bar-fill", style=f"width:{share:.1f}%")
        parts.append(
            element(
                "div", fill, class_="bar", role="progressbar", aria_valuemin="0", aria_valuemax="100",
                aria_valuenow=f"{share:.0f}", aria_label=say.text("search.index.progress"),
            )
        )  # fmt: skip
    parts += [
        element("p", text(say.text("search.index.missing", folder=folder)), class_="score-hint")
        for folder in counts.missing_folders
    ]
    if counts.problems:
        lines = [
            element("li", element("bdi", text(name)), ": ", text(say.error(problem)))
            for name, problem in counts.problems
        ]
        heading = say.text("search.index.problems", count=counts.refused, shown=len(lines))
        parts.append(element("details", element("summary", text(heading)), element("ul", *lines), class_="refused"))
    return element("div", *parts, class_="status", role="status")


def render_folders(folders: Sequence[SearchFolder], say: Translator) -> str:
    """The owner's folders, each with whether it is shared and a button that takes it off the list."""
    items = []
    for folder in folders:
        name = say.text("search.folder.outputs") if folder.id == OUTPUTS else str(folder.path)
        shared = element(
            "button", text(say.text("search.folder.shared" if folder.shared else "search.folder.private")),
            type="button", data_share=folder.id, aria_pressed="true" if folder.shared else "false",
            title=say.text("search.folder.share_hint"),
        )  # fmt: skip
        remove = element(
            "button", "×", type="button", data_remove=folder.id,
            aria_label=say.text("search.folder.remove", folder=name),
        )  # fmt: skip
        items.append(
            element(
                "li", element("bdi", text(name), title=str(folder.path)), shared, remove if folder.id != OUTPUTS else ""
            )
        )
    return element("ul", *items, class_="search-folders")


def render_terms(terms: Sequence[Term], say: Translator) -> str:
    """How a query was understood; nothing for a plain one."""
    if len(terms) < 2 and all(term.weight == 1 for term in terms):
        return ""
    chips = []
    for term in terms:
        words = term.text or say.text("search.term.indexed" if term.indexed else "search.term.picture")
        chips.append(element("li", element("b", text(_weight(term.weight))), " ", element("bdi", text(words))))
    return element(
        "div", element("span", text(say.text("search.understood"))), element("ul", *chips), class_="search-terms"
    )


def render_empty_search(say: Translator, *, owner: bool) -> str:
    """What the page is for, as long as nothing was searched."""
    keys = ("search.empty.how", "search.empty.folders" if owner else "search.empty.shared")
    lines = (element("p", text(say.text(key)), class_="stage-hint") for key in keys)
    title = element("p", text(say.text("search.empty.title")), class_="stage-title")
    return element("div", title, *lines, class_="score-empty")


def render_results(found: Found, page: int, chosen: int | None, address: Address, say: Translator) -> str:
    """One page of results: a button a group of near-duplicates, and the way to the other pages."""
    said = [element("p", text(say.text(note)), class_="notice") for note in found.notes]
    strong = " search-weak" if found.matches is False else ""
    said.append(element("p", text(answer_words(found, say)), class_=f"score-hint{strong}", role="status"))
    first = page * PAGE
    cards = [_card(found, group, chosen, address, say) for group in found.groups[first : first + PAGE]]
    return (
        "".join(said)
        + element("ul", *cards, class_="search-results")
        + render_pager(-(-len(found.groups) // PAGE), page, say)
    )


def render_chosen(found: Found, place: int, names: Mapping[int, str], address: Address, say: Translator) -> str:
    """The picture looked at in full, what is known of it, and its near-duplicates. `names` are what they are called."""
    hit = found.hits[place]
    row, group = hit.row, next(group for group in found.groups if place in group)
    name = names[place]
    alt = say.text("search.alt", name=Path(name).name, prompt=row.prompt or "–")
    figure = f'<img src="{address("full", row)}" alt="{_attribute(alt)}">'
    day = datetime.fromtimestamp(row.modified_ns / 1e9).astimezone()
    facts = [
        ("search.fact.score", f"{hit.score:.4f}"),
        ("search.fact.sigmas", f"{hit.sigmas:+.1f} σ"),
        ("search.fact.file", name),
        ("search.fact.size", f"{row.width} × {row.height} px · {file_size(row.size)}"),
        ("search.fact.date", f"{day:%Y-%m-%d %H:%M}"),
        ("search.fact.prompt", row.prompt or say.text("search.no_prompt")),
    ]
    if len(hit.parts) > 1:
        shares = " · ".join(
            f"{_weight(term.weight)} {term.text or say.text('search.term.picture')}: {cosine:.3f}"
            for term, cosine in zip(found.request.terms, hit.parts, strict=True)
        )
        facts.insert(2, ("search.fact.parts", shares))
    listed = "".join(
        element("div", element("dt", text(say.text(key))), element("dd", element("bdi", text(value))))
        for key, value in facts
    )
    others = [
        element("button", _image(found.hits[other].row, address, names[other], say), type="button",
                data_place=str(other), aria_label=names[other])
        for other in group if other != place
    ]  # fmt: skip
    alike = element("p", text(say.text("search.duplicates", count=len(others)))) + element(
        "div", *others, class_="alike"
    )
    return (
        element("figure", figure, class_="search-full")
        + element("dl", listed, class_="parameters search-facts")
        + (alike if others else "")
    )


def _card(found: Found, group: Sequence[int], chosen: int | None, address: Address, say: Translator) -> str:
    hit = found.hits[group[0]]
    name = Path(hit.row.path).name
    words = element("span", text(f"{hit.score:.3f}"), class_="card-score")
    more = (
        element(
            "span",
            text(f"+{len(group) - 1}"),
            class_="card-more",
            title=say.text("search.duplicates", count=len(group) - 1),
        )
        if len(group) > 1
        else ""
    )
    label = say.text("search.card", name=name, score=f"{hit.score:.3f}", prompt=hit.row.prompt or "–")
    button = element(
        "button", _image(hit.row, address, "", say), words, more, type="button", data_place=str(group[0]),
        aria_label=label, aria_pressed="true" if chosen in group else "false", title=name,
    )  # fmt: skip
    return element("li", button)


def _image(row: PictureRow, address: Address, alt: str, say: Translator) -> str:  # noqa: ARG001
    size = f'width="{row.width}" height="{row.height}"'
    return f'<img src="{address("thumbnail", row)}" alt="{_attribute(alt)}" loading="lazy" {size}>'


def _kind(found: Found, say: Translator) -> str:
    if found.exact:
        return say.text("search.exact")
    if found.recall is None:
        return say.text("search.approximate_unmeasured")
    key = "search.approximate" if found.recall >= 0.95 else "search.approximate_weak"
    return say.text(key, recall=f"{100 * found.recall:.0f}")


def _weight(weight: float) -> str:
    return f"{'−' if weight < 0 else '+'}{abs(weight):g}"


def _attribute(words: str) -> str:
    from html import escape

    return escape(words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
