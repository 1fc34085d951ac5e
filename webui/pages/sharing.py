"""What a shared page says about itself, above the tabs."""

from __future__ import annotations

import gradio as gr

from webui.pages.localize import Localizer
from webui.security.rules import OWNER_ONLY
from webui.settings import Settings
from webui.views.sharing import render_sharing


def build_sharing(page: Localizer, settings: Settings) -> None:
    """Lay out the note inside the current `gr.Blocks`."""
    forbidden = tuple(OWNER_ONLY.values())
    said = {"value": lambda say: render_sharing(settings, forbidden, say)}
    page.make(gr.HTML, said, apply_default_css=False, elem_id="sharing")
