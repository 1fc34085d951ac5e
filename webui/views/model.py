"""The line under the model list: what size it draws, how large it is, and under what licence it may be used."""

from __future__ import annotations

from webui.i18n import Translator
from webui.runtime.entries import CatalogEntry
from webui.views.markup import element, text


def render_model(entry: CatalogEntry | None, say: Translator) -> str:
    """What is known of the chosen model, or why it cannot be used; nothing when none is chosen.

    A licence text of several lines shows the first; the rest appears when it is pointed at.
    """
    if entry is None:
        return ""
    if entry.problem is not None:
        return element("div", text(say.error(entry.problem)), class_="status-failed", role="alert")
    licence = entry.licence or say.text("create.model.licence_unknown")
    about = say.text(
        "create.model.about",
        width=entry.default_width,
        height=entry.default_height,
        size=f"{entry.size_bytes / 1e6:.0f}",
        licence=licence.splitlines()[0],
    )
    return element("div", text(about), class_="about", title=licence)
