"""What a shared page says about itself: what visitors cannot do, and how much they may ask for."""

from __future__ import annotations

from collections.abc import Sequence

from webui.i18n import Translator
from webui.settings import Settings
from webui.views.markup import element, text


def render_sharing(settings: Settings, forbidden: Sequence[str], say: Translator) -> str:
    """A line that unfolds. `forbidden` are the message keys of what stays with the owner."""
    limits = settings.limits
    allowed = (
        say.text("sharing.pixels", pixels=f"{limits.max_pixels:,}", side=limits.max_side),
        say.text("sharing.at_once", count=limits.max_batch_size, batches=limits.max_batch_count),
        say.text("sharing.upload", size=settings.max_upload_mb),
        say.text("sharing.waiting", count=settings.max_waiting_jobs_per_user, all=settings.max_waiting_jobs),
        *([say.text("sharing.calls", count=settings.calls_per_minute)] if settings.calls_per_minute else []),
    )
    return element(
        "details",
        element("summary", text(say.text("sharing.title"))),
        element("p", text(say.text("sharing.why"))),
        element(
            "div",
            _listed(say.text("sharing.only_owner"), [say.text(key) for key in forbidden]),
            _listed(say.text("sharing.limits"), allowed),
            class_="sharing-lists",
        ),
        class_="sharing",
    )


def _listed(title: str, lines: Sequence[str]) -> str:
    return element("section", element("h3", text(title)), element("ul", *(element("li", text(line)) for line in lines)))
