"""Three things to look at once the first picture is there; gone for good when one was looked at."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from webui.views.markup import element, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webui.i18n import Translator

_STEPS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "#send-to-inside": ("next.inside", "next.inside.why"),
        "#send-to-score": ("next.score", "next.score.why"),
        "#send-to-vision": ("next.vision", "next.vision.why"),
    }
)
"""The button under the picture that leads there, by what is said of it."""


def render_next_steps(say: Translator) -> str:
    """The list; the page's script presses the buttons that it names, and hides it afterwards."""
    items = (
        element(
            "li",
            element("button", text(say.text(title)), type="button", data_press=button, data_once="next"),
            " ",
            text(say.text(why)),
        )
        for button, (title, why) in _STEPS.items()
    )
    closing = element("button", text(say.text("next.close")), type="button", data_once="next", class_="next-close")
    heading = element("h3", text(say.text("next.title")), id="next-title")
    return element("section", heading, element("ul", *items), closing, class_="next", aria_labelledby="next-title")
