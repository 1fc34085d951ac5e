"""What the frame asks of the page in each tab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.i18n import Translator
from webui.pages.localize import Updates


@dataclass(frozen=True, slots=True)
class LanguageChange:
    """A reader switches from one language to another; `kept` are the values of the page's own `kept()` components."""

    kept: Sequence[Any]
    before: Translator
    say: Translator
    request: gr.Request


class Page:
    """One tab. A page overrides what concerns it: whatever is not overridden has nothing to do.

    Words that never change with the reader's doings are the `Localizer`'s; these methods are for what Python made.
    """

    __slots__ = ()

    def remembered(self) -> list[Block]:
        """The components (`gr.BrowserState`) whose values `opening` wants."""
        return []

    def opening(self, remembered: Sequence[Any], say: Translator) -> Updates:  # noqa: ARG002
        """What a page that has just opened shows."""
        return {}

    def opening_outputs(self) -> list[Block]:
        """Everything that `opening` changes."""
        return []

    def kept(self) -> list[Block]:
        """The components whose values `said_again` wants."""
        return []

    def said_again(self, change: LanguageChange) -> Updates:  # noqa: ARG002
        """What Python made, in another language."""
        return {}

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return []

    def leave(self, request: gr.Request) -> None:
        """The browser's page has closed."""
