"""The list that a model is chosen from: the same on every page, and never older than the page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from webui.i18n import Translator
from webui.pages.localize import Localizer
from webui.runtime.catalog import Catalog


def build_model_list(
    page: Localizer,
    catalog: Catalog,
    task: str,
    *,
    label: str = "create.model",
    first: str | None = None,
    **properties: Any,
) -> gr.Dropdown:
    """A dropdown of the models of `task`; `first` is chosen if it is there, else the first that can be used.

    `label` is a message key. The catalogue is asked anew whenever the page opens: a model may have been put there.
    """

    def choices(say: Translator) -> list[tuple[str, str]]:
        return [(entry.title_in(say.language), entry.id) for entry in catalog.entries(task)]

    entries = catalog.entries(task)
    usable = [entry.id for entry in entries if entry.problem is None or entry.id == first]
    chosen = first if first in usable else next(iter(usable), None)
    return page.make(gr.Dropdown, {"label": label, "choices": choices}, value=chosen, **properties)
