"""What a shared page says about itself: its link, what visitors cannot do, and how much they may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from webui.errors import UserError
from webui.i18n import Translator
from webui.settings import Settings
from webui.views.markup import element, text


@dataclass(frozen=True, slots=True)
class LinkView:
    """The public link: where, until when at the latest, and whether it still leads here; or why there is none."""

    url: str = ""
    ends: datetime | None = None
    open: bool = False
    problem: UserError | None = None


def render_sharing(settings: Settings, forbidden: Sequence[str], link: LinkView | None, say: Translator) -> str:
    """A line that unfolds. `forbidden` are the keys of what stays with the owner; no `link`: none was wanted."""
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
        "" if link is None else _link(link, say),
        element(
            "div",
            _listed(say.text("sharing.only_owner"), [say.text(key) for key in forbidden]),
            _listed(say.text("sharing.limits"), allowed),
            class_="sharing-lists",
        ),
        class_="sharing",
    )


def _link(link: LinkView, say: Translator) -> str:
    if link.problem is not None:
        return element("p", text(say.error(link.problem)), class_="sharing-problem")
    if not link.open:
        return element("p", text(say.text("sharing.link.ended")), class_="sharing-problem")
    ends = say.text("sharing.link.ends_with_server")
    if link.ends is not None:
        ends = say.text("sharing.link.ends", time=link.ends.astimezone().strftime("%Y-%m-%d %H:%M"))
    anchor = element("a", text(link.url), href=link.url, rel="noreferrer", target="_blank")
    about = element("div", element("p", anchor), element("p", text(ends)))
    return element("div", _qr_code(link.url, say), about, class_="sharing-link")


def _qr_code(url: str, say: Translator) -> str:
    """The address for a phone's camera (ISO/IEC 18004), dark on white in both themes, as cameras want it."""
    import segno

    drawn = segno.make(url, error="m", micro=False).svg_inline(scale=4, border=2, light="white")
    return element("div", drawn, class_="sharing-code", role="img", aria_label=say.text("sharing.link.code", url=url))


def _listed(title: str, lines: Sequence[str]) -> str:
    items = (element("li", text(line)) for line in lines)
    return element("section", element("h3", text(title)), element("ul", *items))
