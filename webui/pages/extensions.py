"""The Extensions page: what was found at this start, what of it runs, and the owner's switches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.extensions.loading import USER_FOLDER, Extensions, switch_extension
from webui.extensions.switches import Switches
from webui.i18n import Translator
from webui.pages.localize import QUIET, Updates, unchanged
from webui.pages.page import LanguageChange, Page
from webui.pages.reader import Readers
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.views.extensions import render_extensions
from webui.views.markup import element, text

_SWITCH_JS: Final = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-switch]");
  if (button) trigger("click", { extension: button.dataset.switch, on: button.dataset.on === "1" });
});
"""


@dataclass(frozen=True, slots=True)
class ExtensionsPage(Page):
    """The list, and a line for what could not be done. In remote mode it stays empty and refuses every switch."""

    studio: Studio
    readers: Readers
    extensions: Extensions
    listed: gr.HTML
    problem: gr.HTML

    @classmethod
    def build(cls, studio: Studio, readers: Readers, extensions: Extensions) -> ExtensionsPage:
        """Lay out the page and wire it; the list is filled in when a page opens, and when its tab is chosen."""
        problem = gr.HTML(apply_default_css=False, elem_id="extensions-problem")
        listed = gr.HTML(apply_default_css=False, elem_id="extensions-list", js_on_load=_SWITCH_JS)
        built = cls(studio, readers, extensions, listed, problem)
        listed.click(built._switch, outputs=[listed, problem], **QUIET)
        return built

    def refreshed(self, request: gr.Request) -> Updates:
        """The list as it is now, with what has gone wrong meanwhile."""
        return {self.listed: self._list(self.readers.translator(request))}

    def opening(self, remembered: object, say: Translator) -> Updates:  # noqa: ARG002
        """The list."""
        return {self.listed: self._list(say)}

    def opening_outputs(self) -> list[Block]:
        """The list."""
        return [self.listed]

    def said_again(self, change: LanguageChange) -> Updates:
        """The list, in another language."""
        return {self.listed: self._list(change.say), self.problem: ""}

    def said_again_outputs(self) -> list[Block]:
        """The list, and the line above it."""
        return [self.listed, self.problem]

    def _switch(self, event: gr.EventData, request: gr.Request) -> Updates:
        chosen, on = getattr(event, "extension", None), getattr(event, "on", None)
        if not isinstance(chosen, str) or not isinstance(on, bool):
            return unchanged()
        say = self.readers.translator(request)
        try:
            switch_extension(self.studio, self.extensions, chosen, on=on)
        except UserError as error:
            return {self.problem: element("div", text(say.error(error)), class_="status-failed", role="alert")}
        return {self.listed: self._list(say), self.problem: ""}

    def _list(self, say: Translator) -> str:
        if not may(self.studio.settings, Deed.CHANGE_EXTENSIONS):
            return ""
        data_dir = self.studio.settings.data_dir
        off = Switches(data_dir).off()
        return render_extensions(self.extensions, off, data_dir / USER_FOLDER, self.studio.hooks.faults, say)
