"""What a shared page says about itself, above the tabs."""

from __future__ import annotations

import gradio as gr

from webui.pages.localize import Localizer
from webui.security.rules import OWNER_ONLY
from webui.settings import Settings
from webui.share.tunnel import Share
from webui.views.sharing import LinkView, render_sharing


def build_sharing(page: Localizer, settings: Settings, share: Share | None) -> None:
    """Lay out the note inside the current `gr.Blocks`; the link is looked at whenever a page opens."""
    forbidden = tuple(OWNER_ONLY.values())
    said = {"value": lambda say: render_sharing(settings, forbidden, _seen(share), say)}
    page.make(gr.HTML, said, apply_default_css=False, elem_id="sharing")


def _seen(share: Share | None) -> LinkView | None:
    if share is None or (share.link is None and share.problem is None):
        return None
    if share.link is None:
        return LinkView(problem=share.problem)
    return LinkView(share.link.url, share.link.ends, share.link.open)
