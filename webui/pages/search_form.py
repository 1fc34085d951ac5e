"""The layout of the search page: what is asked and the folders on the left, what was found on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.pages.clip_run import RunBar, build_run_bar
from webui.pages.localize import Localizer
from webui.pages.model_list import build_model_list
from webui.pages.sending import SendBar, TabId, build_send_bar
from webui.runtime.catalog import Catalog
from webui.runtime.entries import CLIP
from webui.views.search import render_empty_search

_RESULTS_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-place], button[data-page]");
  if (!button || button.disabled) return;
  if (button.dataset.page !== undefined) trigger("click", { page: Number(button.dataset.page) });
  else trigger("click", { place: Number(button.dataset.place) });
});
"""
_FOLDERS_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-share], button[data-remove]");
  if (!button) return;
  if (button.dataset.share) trigger("click", { share: button.dataset.share });
  else trigger("click", { remove: button.dataset.remove });
});
"""


@dataclass(frozen=True, slots=True)
class SearchForm:
    """What is asked, and of what."""

    query: gr.Textbox
    picture: gr.Image
    weight: gr.Slider
    terms: gr.HTML
    model: gr.Dropdown
    bar: RunBar
    folder: gr.Dropdown
    since: gr.Textbox
    until: gr.Textbox
    min_side: gr.Number
    prompt: gr.Textbox

    def asked(self) -> list[Block]:
        """The components whose values make a request, in the order of `SearchPage._request`."""
        return [
            self.query, self.picture, self.weight, self.model, self.folder, self.since, self.until, self.min_side,
            self.prompt,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FolderPanel:
    """The owner's folders, and the run that indexes them."""

    listed: gr.HTML
    path: gr.Textbox
    add: gr.Button
    bar: RunBar


@dataclass(frozen=True, slots=True)
class SearchStage:
    """What was found, and the picture looked at."""

    empty: gr.HTML
    chosen: gr.Column
    full: gr.HTML
    use: gr.Button
    like: gr.Button
    bar: SendBar
    results: gr.HTML


def build_form(page: Localizer, catalog: Catalog) -> SearchForm:
    """Lay out the question."""
    query = page.make(
        gr.Textbox, {"label": "search.query", "placeholder": "search.query.placeholder", "info": "search.query.info"},
        lines=1, max_lines=4, elem_id="search-query",
    )  # fmt: skip
    terms = gr.HTML(apply_default_css=False, elem_id="search-terms")
    bar = build_run_bar(page, "search", "search.run")
    with page.make(gr.Accordion, {"label": "search.by_picture"}, open=False):
        picture = page.make(
            gr.Image, {"label": "search.picture"}, sources=["upload", "clipboard"], type="filepath", height=180,
            elem_id="search-picture",
        )  # fmt: skip
        weight = page.make(
            gr.Slider, {"label": "search.weight", "info": "search.weight.info"}, minimum=-2, maximum=2, step=0.1,
            value=1, elem_id="search-weight",
        )  # fmt: skip
    with page.make(gr.Accordion, {"label": "search.filters"}, open=False):
        folder = page.make(gr.Dropdown, {"label": "search.filter.folder"}, choices=[], elem_id="search-folder")
        with gr.Row():
            since = page.make(
                gr.Textbox,
                {"label": "search.filter.since", "placeholder": "search.filter.date_example"},
                elem_id="search-since",
            )
            until = page.make(
                gr.Textbox,
                {"label": "search.filter.until", "placeholder": "search.filter.date_example"},
                elem_id="search-until",
            )
        with gr.Row():
            min_side = page.make(
                gr.Number, {"label": "search.filter.min_side"}, value=0, minimum=0, precision=0,
                elem_id="search-min-side",
            )  # fmt: skip
            prompt = page.make(gr.Textbox, {"label": "search.filter.prompt"}, elem_id="search-prompt")
    model = build_model_list(page, catalog, CLIP, elem_id="search-model")
    return SearchForm(query, picture, weight, terms, model, bar, folder, since, until, min_side, prompt)


def build_folders(page: Localizer, *, owner: bool) -> FolderPanel:
    """Lay out the folders; only the owner sees them."""
    with page.make(gr.Accordion, {"label": "search.folders"}, open=owner, visible=owner, elem_id="search-folder-panel"):
        listed = gr.HTML(apply_default_css=False, elem_id="search-folders", js_on_load=_FOLDERS_JS)
        path = page.make(
            gr.Textbox, {"label": "search.folder.path", "placeholder": "search.folder.placeholder"}, max_lines=1,
            elem_id="search-path",
        )  # fmt: skip
        add = page.make(gr.Button, {"value": "search.folder.add"}, size="md", elem_id="search-add")
        bar = build_run_bar(page, "index", "search.index.run")
    return FolderPanel(listed, path, add, bar)


def build_stage(page: Localizer, *, owner: bool) -> SearchStage:
    """Lay out the answer."""
    empty = page.make(
        gr.HTML, {"value": lambda say: render_empty_search(say, owner=owner)}, apply_default_css=False,
        elem_id="search-empty",
    )  # fmt: skip
    with gr.Column(visible=False, elem_id="search-chosen", elem_classes="card") as chosen:
        full = gr.HTML(apply_default_css=False, elem_id="search-full", js_on_load=_RESULTS_JS)
        with gr.Row(elem_classes="pair"):
            like = page.make(gr.Button, {"value": "search.like"}, size="md", elem_id="search-like")
            use = page.make(gr.Button, {"value": "search.use_prompt"}, size="md", elem_id="search-use")
        bar = build_send_bar(
            page, "search", TabId.CREATE, TabId.SCORE, TabId.INSIDE, TabId.LATENTS, TabId.VISION, TabId.PROMPT
        )
    results = gr.HTML(apply_default_css=False, elem_id="search-results", js_on_load=_RESULTS_JS)
    return SearchStage(empty, chosen, full, use, like, bar, results)
