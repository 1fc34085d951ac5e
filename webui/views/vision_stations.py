"""A picture's way through a Vision Transformer, station by station, with the shape of everything said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.colours import NEGATIVE, POSITIVE
from webui.views.figures import data_url, percent
from webui.views.markup import element, text
from webui.views.picture_check import render_top_labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from webui.vision.attention import SeenPicture
    from webui.vision.labels import LabelSet

STATIONS = ("patches", "embedding", "tokens", "attention", "relevance", "classes")
"""In the order in which a picture passes them; the browser shows one at a time."""

_SHOWN = 12


def render_pipeline(seen: SeenPicture, labels: LabelSet, say: Translator) -> str:
    """The stations as buttons, each with the shape of what leaves it, and buttons to the one before and after."""
    grid, width, tokens = seen.grid, seen.embedding_width, seen.grid.count + 1
    best, probability = seen.classified.top(1)[0]
    shapes = (
        f"{grid.rows} × {grid.columns} = {grid.count}",
        f"{grid.count} × {width}",
        f"{tokens} × {width}",
        f"{seen.layers} × {seen.heads} × {tokens} × {tokens}",
        f"{grid.rows} × {grid.columns}",
        f"{len(labels.names)}: {labels.name(best, say.language)} {percent(probability)}",
    )
    names = (
        say.text("vision.station.patches"),
        say.text("vision.station.embedding"),
        say.text("vision.station.tokens"),
        say.text("vision.station.attention"),
        say.text("vision.station.relevance"),
        say.text("vision.station.classes"),
    )
    items = [
        element(
            "li",
            element(
                "button",
                element("strong", text(f"{number}. {name}")),
                element("small", text(shape)),
                type="button",
                data_station=station,
                aria_pressed="false",
            ),
        )
        for number, (station, name, shape) in enumerate(zip(STATIONS, names, shapes, strict=True), start=1)
    ]
    steps = [
        element("button", text(say.text("vision.back")), type="button", data_step="-1"),
        element("button", text(say.text("vision.next")), type="button", data_step="1"),
    ]
    return element(
        "nav",
        element("ol", *items),
        element("div", *steps, class_="pipeline-steps"),
        class_="pipeline",
        aria_label=say.text("vision.pipeline"),
    )


def render_patches(seen: SeenPicture, say: Translator) -> str:
    """The picture as the model sees it, with its grid; each patch can be chosen."""
    grid = seen.grid
    resized = say.text(
        "vision.resized", name=seen.name, from_width=seen.width, from_height=seen.height, width=grid.width,
        height=grid.height,
    )  # fmt: skip
    counted = say.text(
        "vision.patch_count", side=grid.width, patch=grid.patch_size, columns=grid.columns, rows=grid.rows,
        count=grid.count,
    )  # fmt: skip
    notes = [element("li", text(say.text(note.key, **note.values))) for note in seen.notes]
    return element(
        "div",
        element("p", text(resized)),
        element("ul", *notes, class_="remarks") if notes else "",
        render_grid(seen, counted),
        element("p", text(counted)),
        element("p", text(say.text("vision.choose_patch")), class_="score-hint"),
    )


def render_grid(seen: SeenPicture, alt: str, chosen: int | None = None) -> str:
    """The model's view as SVG with one square a patch (`data-patch`, from 0)."""
    grid, side = seen.grid, seen.grid.patch_size
    image = element(
        "image", href=data_url(seen.model_view, "png"), width=str(grid.width), height=str(grid.height)
    )  # fmt: skip
    squares = [
        element(
            "rect",
            x=str(patch % grid.columns * side),
            y=str(patch // grid.columns * side),
            width=str(side),
            height=str(side),
            data_patch=str(patch),
            class_="patch chosen" if patch == chosen else "patch",
        )
        for patch in range(grid.count)
    ]
    return element(
        "svg", image, *squares, viewBox=f"0 0 {grid.width} {grid.height}", role="img", aria_label=alt, tabindex="0",
        class_="patch-grid", data_columns=str(grid.columns),
    )  # fmt: skip


def render_embedding(seen: SeenPicture, patch: int, say: Translator) -> str:
    """One patch's flat vector, and the vector that the learned projection makes of it."""
    grid, width = seen.grid, seen.embedding_width
    flat = seen.patch_values.shape[1]
    said = say.text("vision.flat", patch=_patch_name(seen, patch, say), side=grid.patch_size, flat=flat)
    projected = say.text("vision.projected", flat=flat, width=width, count=grid.count)
    return element(
        "div",
        element("p", text(said)),
        _vector("x", seen.patch_values[patch], say),
        element("p", element("code", text(f"e = W x + b,  W: {width} × {flat},  b: {width}"))),
        element("p", text(projected)),
        _vector("e", seen.patch_embeddings[patch], say),
        element("p", text(say.text("vision.choose_patch_before")), class_="score-hint"),
        class_="vision-vectors",
    )


def render_tokens(seen: SeenPicture, patch: int, say: Translator) -> str:
    """[CLS] before the patches, and the position added to each."""
    tokens, width = seen.grid.count + 1, seen.embedding_width
    rows = (
        ("[CLS]", 0, seen.class_token),
        (_patch_name(seen, patch, say), patch + 1, seen.patch_embeddings[patch]),
    )
    blocks = []
    for name, place, vector in rows:
        blocks += [
            element("h4", text(say.text("vision.token", place=place, name=name))),
            _vector("e", vector, say),
            _vector("p", seen.positions[place], say),
            _vector("e + p", seen.tokens[place], say),
        ]
    return element(
        "div",
        element("p", text(say.text("vision.class_token", count=seen.grid.count, tokens=tokens, width=width))),
        *blocks,
        class_="vision-vectors",
    )


def render_classes(seen: SeenPicture, labels: LabelSet, say: Translator) -> str:
    """The probabilities of the likeliest labels."""
    count = len(labels.names)
    said = say.text("vision.head", width=seen.embedding_width, count=count)
    shown = min(10, count)
    return element(
        "div",
        element("p", text(said)),
        render_top_labels(labels, seen.classified, shown, say),
        element("p", text(say.text("vision.only_labels", count=count)), class_="score-hint"),
    )


def render_empty_vision(say: Translator, able: bool = True) -> str:
    """What the page is for, as long as no picture was looked at; or what is missing."""
    lines = (
        element("p", text(say.text("vision.empty.title")), class_="stage-title"),
        element("p", text(say.text("vision.empty.how" if able else "vision.empty.no_model")), class_="stage-hint"),
    )
    return element("div", *lines, class_="score-empty")


def _patch_name(seen: SeenPicture, patch: int, say: Translator) -> str:
    columns = seen.grid.columns
    return say.text("vision.patch", number=patch + 1, row=patch // columns + 1, column=patch % columns + 1)


def _vector(name: str, vector: npt.NDArray[np.floating], say: Translator) -> str:
    """A vector as a strip of signed colours, its first numbers, and all of them on demand."""
    largest = float(abs(vector).max()) or 1.0
    cells = [
        element(
            "rect", x=str(place), y="0", width="1.02", height="1", fill=POSITIVE if value >= 0 else NEGATIVE,
            fill_opacity=f"{abs(float(value)) / largest:.2f}",
        )
        for place, value in enumerate(vector[:256])
    ]  # fmt: skip
    alt = say.text("vision.vector", name=name, size=len(vector), shown=min(256, len(vector)), largest=f"{largest:.3f}")
    strip = element(
        "svg", *cells, viewBox=f"0 0 {min(256, len(vector))} 1", preserveAspectRatio="none", role="img", aria_label=alt,
        class_="vector-strip",
    )  # fmt: skip
    first = ", ".join(f"{value:+.4f}" for value in vector[:_SHOWN])
    everything = ", ".join(f"{value:+.4f}" for value in vector)
    return element(
        "div",
        strip,
        element("p", element("code", text(f"{name} = ({first}{', …' if len(vector) > _SHOWN else ''})"))),
        element(
            "details",
            element("summary", text(say.text("vision.all_numbers", count=len(vector)))),
            element("p", element("code", text(everything)), class_="all-numbers"),
        ),
        class_="vector",
    )
