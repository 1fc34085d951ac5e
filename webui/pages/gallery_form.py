"""The layout of the gallery: how to find a picture, what is done with those picked, the one looked at, and the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.localize import Localizer
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.views.gallery import render_empty_gallery

_GRID_JS: Final = """
const names = ["open", "star", "pick", "page"];
element.addEventListener("click", (event) => {
  const target = event.target.closest(names.map((name) => `[data-${name}]`).join(","));
  if (!target || target.disabled) return;
  const name = names.find((each) => target.dataset[each] !== undefined);
  const value = target.dataset[name];
  const turned = (state) => {
    target[state] = target[state] === "true" ? "false" : "true";
    return target[state] === "true";
  };
  if (name === "page") trigger("click", { page: Number(value) });
  else if (name === "star") trigger("click", { star: value, on: turned("ariaPressed") });
  else if (name === "pick") trigger("click", { pick: value, on: turned("ariaChecked") });
  else trigger("click", { open: value });
});
"""
_SPLIT_JS: Final = """
element.addEventListener("input", (event) => {
  if (event.target.dataset.split === undefined) return;
  event.target.closest("figure").style.setProperty("--split", `${event.target.value}%`);
});
"""


@dataclass(frozen=True, slots=True)
class AlbumTools:
    """How a picture is found, and what can be done with those picked."""

    words: gr.Textbox
    find: gr.Button
    meaning: RunBar
    favourites: gr.Checkbox
    count: gr.HTML
    actions: gr.Row
    compare: gr.Button
    zip: gr.Button
    delete: gr.Button
    unpick: gr.Button
    zip_file: gr.DownloadButton
    deleted: gr.HTML
    undo: gr.Button
    problem: gr.HTML


@dataclass(frozen=True, slots=True)
class AlbumStage:
    """The picture looked at, two compared, the grid, and the bin."""

    looked_at: gr.Column
    picture: gr.HTML
    parameters: gr.HTML
    bar: SendBar
    remove: gr.Button
    close: gr.Button
    compared: gr.HTML
    empty: gr.HTML
    grid: gr.HTML
    bin: gr.HTML
    restore: gr.Button
    empty_bin: gr.Button

    def outputs(self) -> list[Block]:
        """Everything that changes with the desk."""
        return [
            self.looked_at, self.picture, self.parameters, self.compared, self.empty, self.grid, self.bin,
            self.restore, self.empty_bin,
        ]  # fmt: skip


def build_tools(page: Localizer) -> AlbumTools:
    """Lay out what stands above the grid."""
    with gr.Row(elem_id="gallery-find", equal_height=False):
        words = page.make(
            gr.Textbox, {"label": "gallery.words", "placeholder": "gallery.words.placeholder"}, max_lines=1,
            elem_id="gallery-words", scale=3,
        )  # fmt: skip
        with gr.Column(scale=2, min_width=260):
            find = page.make(gr.Button, {"value": "gallery.find"}, size="md", elem_id="gallery-search")
            meaning = build_run_bar(page, "gallery-meaning", "gallery.find_meaning")
        favourites = page.make(
            gr.Checkbox, {"label": "gallery.only_favourites"}, value=False, elem_id="gallery-favourites"
        )
    count = gr.HTML(apply_default_css=False, elem_id="gallery-count")
    with gr.Row(visible=False, elem_id="gallery-actions", elem_classes="send-bar") as actions:
        compare = page.make(gr.Button, {"value": "gallery.compare"}, size="md", elem_id="gallery-compare")
        pack = page.make(gr.Button, {"value": "gallery.zip"}, size="md", elem_id="gallery-zip")
        delete = page.make(gr.Button, {"value": "gallery.delete"}, size="md", elem_id="gallery-delete")
        unpick = page.make(gr.Button, {"value": "gallery.unpick"}, size="md", elem_id="gallery-unpick")
    zip_file = page.make(
        gr.DownloadButton, {"label": "gallery.zip_file"}, size="md", visible=False, elem_id="gallery-zip-file"
    )
    with gr.Row(elem_id="gallery-undone"):
        deleted = gr.HTML(apply_default_css=False, elem_id="gallery-deleted")
        undo = page.make(gr.Button, {"value": "gallery.undo"}, size="md", visible=False, elem_id="gallery-undo")
    problem = gr.HTML(apply_default_css=False, elem_id="gallery-problem")
    return AlbumTools(
        words, find, meaning, favourites, count, actions, compare, pack, delete, unpick, zip_file, deleted, undo,
        problem,
    )  # fmt: skip


def build_stage(page: Localizer) -> AlbumStage:
    """Lay out what was found."""
    with gr.Column(visible=False, elem_id="gallery-picture", elem_classes="card") as looked_at:
        picture = gr.HTML(apply_default_css=False, elem_id="gallery-full")
        bar = build_send_bar(
            page, "gallery", TabId.CREATE, TabId.SCORE, TabId.INSIDE, TabId.LATENTS, TabId.VISION, TabId.PROMPT,
            TabId.SEARCH,
        )  # fmt: skip
        parameters = gr.HTML(apply_default_css=False, elem_id="gallery-parameters")
        with gr.Row(elem_classes="send-bar"):
            remove = page.make(gr.Button, {"value": "gallery.delete_this"}, size="md", elem_id="gallery-delete-this")
            close = page.make(gr.Button, {"value": "gallery.close"}, size="md", elem_id="gallery-close")
    compared = gr.HTML(apply_default_css=False, elem_id="gallery-compared", js_on_load=_SPLIT_JS)
    empty = page.make(
        gr.HTML, {"value": lambda say: render_empty_gallery(say, any_pictures=False)}, apply_default_css=False,
        elem_id="gallery-empty",
    )  # fmt: skip
    grid = gr.HTML(apply_default_css=False, elem_id="gallery-grid", js_on_load=_GRID_JS)
    with page.make(gr.Accordion, {"label": "gallery.bin"}, open=False, elem_id="gallery-bin"):
        in_bin = gr.HTML(apply_default_css=False, elem_id="gallery-bin-holds")
        with gr.Row(elem_classes="send-bar"):
            restore = page.make(gr.Button, {"value": "gallery.bin.restore"}, size="md", elem_id="gallery-restore")
            empty_bin = page.make(
                gr.Button, {"value": "gallery.bin.delete"}, size="md", variant="stop", elem_id="gallery-empty-bin"
            )
    return AlbumStage(
        looked_at, picture, parameters, bar, remove, close, compared, empty, grid, in_bin, restore, empty_bin
    )
