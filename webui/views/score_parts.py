"""Small parts of the similarity page: the pictures that were chosen, the empty page, texts against texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from webui.clip.similarity import unit
from webui.errors import UserError
from webui.i18n import Translator
from webui.views.colours import ink_on, sequential
from webui.views.markup import clamped, element, text
from webui.vision.pictures import PictureFile


def render_tray(pictures: Sequence[PictureFile], say: Translator, problem: UserError | None = None) -> str:
    """A thumbnail a picture, each with a button `data-remove` that holds its place; the browser does the scaling."""
    said = element("div", text(say.error(problem)), class_="status-failed", role="alert") if problem else ""
    if not pictures:
        return said + element("p", text(say.text("score.tray.empty")), class_="score-hint")
    items = []
    for place, picture in enumerate(pictures):
        address = f"gradio_api/file={quote(str(picture.content))}" if not isinstance(picture.content, bytes) else ""
        items.append(
            element(
                "li",
                f'<img src="{address}" alt="" loading="lazy">',
                element("span", text(picture.name), dir="auto"),
                element(
                    "button", "×", type="button", data_remove=str(place),
                    aria_label=say.text("score.tray.remove", name=picture.name),
                ),
            )
        )  # fmt: skip
    count = element("p", text(say.text("score.tray.count", count=len(pictures))), class_="score-hint")
    return said + element("ul", *items, class_="tray") + count


def render_recent(pictures: Sequence[tuple[Path, str]], say: Translator) -> str:
    """Pictures of the gallery (path, prompt) as buttons whose `data-file` is the path; a hint when there are none."""
    if not pictures:
        return element("p", text(say.text("score.recent.empty")), class_="score-hint")
    items = [
        element(
            "li",
            element(
                "button", f'<img src="gradio_api/file={quote(str(path))}" alt="" loading="lazy">', type="button",
                data_file=str(path), title=prompt,
                aria_label=say.text("score.recent.add", name=path.name, prompt=prompt),
            ),
        )
        for path, prompt in pictures
    ]  # fmt: skip
    return element("ul", *items, class_="recent")


def render_empty_score(say: Translator) -> str:
    """What the page is for, as long as nothing was scored."""
    lines = (
        element("p", text(say.text("score.empty.title")), class_="stage-title"),
        element("p", text(say.text("score.empty.how")), class_="stage-hint"),
        element("p", text(say.text("score.empty.example")), class_="stage-hint"),
    )
    return element("div", *lines, class_="score-empty")


def render_text_matrix(texts: Sequence[str], vectors: npt.NDArray[np.float32], say: Translator) -> str:
    """The cosine of every text with every other one; a hint while there are fewer than two."""
    if len(texts) < 2:
        return element("p", text(say.text("score.text_matrix.needs_two")), class_="score-hint")
    directions = unit(vectors)
    cosines = directions @ directions.T
    low = float(cosines.min())
    rows = [
        element(
            "tr",
            element("th", clamped(words), scope="row"),
            *(_shade(float(value), low) for value in cosines[row]),
        )
        for row, words in enumerate(texts)
    ]
    headings = [element("th", clamped(words), scope="col") for words in texts]
    head = element("thead", element("tr", element("td", aria_hidden="true"), *headings))
    table = element("table", head, element("tbody", *rows), class_="heatmap")
    return element("div", table, class_="heatmap-scroll")


def _shade(value: float, low: float) -> str:
    colour = sequential((value - low) / (1 - low) if low < 1 else 1.0)
    return element("td", text(f"{value:.3f}"), class_="shade", style=f"background:{colour};color:{ink_on(colour)}")
