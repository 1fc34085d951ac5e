"""The grid as a table with headings, and the picture that was chosen from it."""

from __future__ import annotations

import base64

from webui.extensions.api import Words, element, text

from .grid import Cell, Grid, full_picture

STYLE = """
.xyz-scroll { overflow-x: auto; }
.xyz { border-collapse: separate; border-spacing: 6px; margin: 0 0 1rem; }
.xyz caption { text-align: start; font-weight: 600; line-height: 1.7; padding: 0.2rem 0; }
.xyz th { font-size: 0.85rem; font-weight: 500; line-height: 1.6; max-width: 12rem; overflow-wrap: anywhere; }
.xyz tbody th { text-align: end; }
.xyz td { padding: 0; width: 8rem; height: 8rem; border-radius: 8px; background: rgb(128 128 128 / 0.15); }
.xyz button { display: block; width: 8rem; height: 8rem; padding: 0; border: 0; background: none; cursor: pointer; }
.xyz button:focus-visible { outline: 3px solid var(--primary-400, #2dd4bf); outline-offset: 1px; }
.xyz img { width: 100%; height: 100%; object-fit: contain; border-radius: 8px; margin: 0; display: block; }
.xyz-chosen img { max-width: 100%; border-radius: 10px; margin: 0; }
.xyz-chosen pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85rem; line-height: 1.6; }
.xyz-chosen p, .xyz-note { line-height: 1.7; }
"""
CLICK_JS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-cell]");
  if (button) trigger("click", { cell: Number(button.dataset.cell) });
});
"""
NAMES = {
    "prompt_words": "axis.prompt_words",
    "negative_prompt": "axis.negative_prompt",
    "seed": "axis.seed",
    "steps": "axis.steps",
    "guidance_scale": "axis.guidance_scale",
    "sampler": "axis.sampler",
    "model": "axis.model",
    "width": "axis.width",
    "height": "axis.height",
}


def name_of(parameter: str, words: Words) -> str:
    """The parameter in the reader's language."""
    return words.text(NAMES[parameter])


def render_grid(grid: Grid | None, words: Words) -> str:
    """A table for each value of z; before the first run, what to do."""
    if grid is None:
        return element("p", text(words.text("empty")), class_="stage-hint")
    note = element("p", text(words.text("drawn", done=len(grid.cells), wanted=grid.wanted)), class_="xyz-note")
    return element("style", STYLE) + note + _tables(grid, words, clickable=True)


def render_file(grid: Grid | None, words: Words) -> str:
    """A link that saves the grid as one file, with its headings and pictures; nothing without a picture."""
    if grid is None or not grid.cells:
        return ""
    head = element("meta", charset="utf-8") + element("title", text(words.text("title"))) + element("style", STYLE)
    page = "<!doctype html>" + element("html", head, _tables(grid, words, clickable=False), lang=words.language)
    url = "data:text/html;base64," + base64.b64encode(page.encode()).decode()
    return element("a", text(words.text("save")), href=url, download="xyz.html")


def render_chosen(cell: Cell | None, words: Words) -> str:
    """The whole picture and what it was drawn from."""
    if cell is None:
        return ""
    if not cell.path.is_file():
        return element("p", text(words.text("gone", name=cell.path.name)), class_="status-failed", role="alert")
    return element(
        "section",
        element("img", src=full_picture(cell), alt=words.text("chosen", name=cell.path.name)),
        element("p", text(words.text("take_over", name=cell.path.name))),
        element("pre", text(cell.infotext), dir="auto"),
        class_="xyz-chosen",
    )


def _tables(grid: Grid, words: Words, *, clickable: bool) -> str:
    cells = {cell.at: (number, cell) for number, cell in enumerate(grid.cells)}
    if len(grid.axes) == 2:
        return _table(grid, (), cells, words, clickable)
    third = grid.axes[2]
    return "".join(_table(grid, (z,), cells, words, clickable) for z in range(len(third.values)))


def _table(
    grid: Grid, rest: tuple[int, ...], cells: dict[tuple[int, ...], tuple[int, Cell]], words: Words, clickable: bool
) -> str:
    x, y = grid.axes[:2]
    title = f"{name_of(x.parameter, words)} × {name_of(y.parameter, words)}"
    if rest:
        title += f" · {name_of(grid.axes[2].parameter, words)}: {grid.axes[2].label(rest[0])}"
    heads = [element("th", text(x.label(place)), scope="col", dir="auto") for place in range(len(x.values))]
    rows = []
    for row in range(len(y.values)):
        shown = []
        for column in range(len(x.values)):
            known = cells.get((column, row, *rest))
            name = f"{x.label(column)}, {y.label(row)}"
            shown.append(element("td", "" if known is None else _cell(*known, name, clickable)))
        rows.append(element("tr", element("th", text(y.label(row)), scope="row", dir="auto"), *shown))
    table = element(
        "table",
        element("caption", text(title)),
        element("thead", element("tr", element("td", style="height:auto;background:none"), *heads)),
        element("tbody", *rows),
        class_="xyz",
    )
    return element("div", table, class_="xyz-scroll")


def _cell(number: int, cell: Cell, name: str, clickable: bool) -> str:
    # An img has no end tag; what the browser makes of one is nothing.
    picture = element("img", src=cell.thumbnail, alt=name)
    return element("button", picture, type="button", data_cell=str(number)) if clickable else picture
