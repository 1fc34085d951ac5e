"""What became of a picture that was dropped on the page for its settings."""

from __future__ import annotations

from dataclasses import dataclass

from webui.errors import UserError
from webui.i18n import Translator
from webui.views.markup import element, text


@dataclass(frozen=True, slots=True)
class PictureNotice:
    """The file's name, why it could not be read (None: it could), and why fields in it were left out."""

    name: str
    ignored: tuple[UserError, ...] = ()
    error: UserError | None = None


def render_notice(notice: PictureNotice | None, say: Translator) -> str:
    """What was filled in and what was not, or the one sentence why nothing was; nothing for no notice."""
    if notice is None:
        return ""
    if notice.error is not None:
        return element("div", text(say.error(notice.error)), class_="status-failed", role="alert")
    filled = text(say.text("create.from_picture.filled", name=notice.name))
    if not notice.ignored:
        return element("div", filled, class_="notice", role="status")
    reasons = [element("li", text(say.error(reason))) for reason in notice.ignored]
    ignored = text(say.text("create.from_picture.ignored"))
    return element("div", filled, " ", ignored, element("ul", *reasons), class_="notice", role="status")
