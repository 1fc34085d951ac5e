"""A picture goes from the tab that has it to any other: the same buttons everywhere, wired the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates
from webui.vision.pictures import PictureFile


class TabId(StrEnum):
    """The tabs that pictures and prompts go to and come from."""

    CREATE = "create"
    GALLERY = "gallery"
    SCORE = "score"
    INSIDE = "inside"
    LATENTS = "latents"
    VISION = "vision"
    PROMPT = "prompt"
    SEARCH = "search"
    LEARN = "learn"


_LABELS: Final[Mapping[TabId, str]] = MappingProxyType(
    {
        TabId.CREATE: "send.to_create",
        TabId.SCORE: "send.to_score",
        TabId.INSIDE: "send.to_inside",
        TabId.LATENTS: "send.to_latents",
        TabId.VISION: "send.to_vision",
        TabId.SEARCH: "send.to_search",
    }
)


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture on its way: a file that the page may show, and the prompt or words that go with it, "" for none."""

    file: PictureFile
    words: str = ""

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.content if isinstance(self.file.content, Path) else Path(self.file.name)


@dataclass(frozen=True, slots=True)
class SendBar:
    """The buttons under a picture, by the tab they lead to."""

    row: gr.Row
    buttons: Mapping[TabId, gr.Button]


@dataclass(frozen=True, slots=True)
class Destination:
    """A tab that takes pictures.

    `receive(picture, request, *values of inputs)` yields updates of `outputs`; it raises gr.Error, which the page
    shows, when it cannot use the picture. `then` wires what follows on the event's end.
    """

    tab: TabId
    receive: Callable[..., Iterator[Updates]]
    outputs: Sequence[Block]
    inputs: Sequence[Block] = ()
    then: Callable[[Callable[..., Any]], object] | None = None


@dataclass(frozen=True, slots=True)
class WayBack:
    """The button that leads back to the tab from which a picture or a prompt was sent last."""

    button: gr.Button
    came_from: gr.State

    def leads_to(self, tab: TabId) -> Updates:
        """Something is sent from `tab`."""
        return {self.button: gr.update(visible=True), self.came_from: tab.value}

    def outputs(self) -> list[Block]:
        """Everything that `leads_to` changes."""
        return [self.button, self.came_from]

    def wire(self, tabs: gr.Tabs) -> None:
        """Connect the button."""

        def go(tab: str) -> Updates:
            return {tabs: gr.update(selected=tab), self.button: gr.update(visible=False)}

        self.button.click(go, inputs=[self.came_from], outputs=[tabs, self.button], **QUIET)


@dataclass(frozen=True, slots=True)
class Sender:
    """A tab that has a picture: `picture(request, *values of inputs)` is the one looked at, None for none."""

    tab: TabId
    bar: SendBar
    picture: Callable[..., SentPicture | None]
    inputs: Sequence[Block] = field(default=())


def build_send_bar(page: Localizer, name: str, *to: TabId, visible: bool = True) -> SendBar:
    """Lay out the buttons; `name` begins their ids ("send" gives "send-to-score")."""
    with gr.Row(visible=visible, elem_id=f"{name}-bar", elem_classes="send-bar") as row:
        buttons = {
            tab: page.make(gr.Button, {"value": _LABELS[tab]}, size="md", elem_id=f"{name}-to-{tab}") for tab in to
        }
    return SendBar(row, buttons)


def build_way_back(page: Localizer) -> WayBack:
    """Lay out the button, which is not seen before something was sent."""
    button = page.make(gr.Button, {"value": "send.back"}, size="sm", visible=False, elem_id="way-back")
    return WayBack(button, gr.State(TabId.CREATE.value))


def wire_sending(tabs: gr.Tabs, back: WayBack, senders: Sequence[Sender], destinations: Sequence[Destination]) -> None:
    """Connect every button with the tab that it leads to; the tab first, so that the work is seen."""
    for sender in senders:
        for destination in destinations:
            button = sender.bar.buttons.get(destination.tab)
            if button is not None:
                _wire(tabs, back, button, sender, destination)


def _wire(tabs: gr.Tabs, back: WayBack, button: gr.Button, sender: Sender, destination: Destination) -> None:
    count = len(sender.inputs)

    def send(request: gr.Request, *values: Any) -> Iterator[Updates]:
        picture = sender.picture(request, *values[:count])
        if picture is None:
            yield {tabs: gr.skip()}
            return
        yield {tabs: gr.update(selected=destination.tab.value)} | back.leads_to(sender.tab)
        yield from destination.receive(picture, request, *values[count:])

    sent = button.click(
        send,
        inputs=[*sender.inputs, *destination.inputs],
        outputs=[tabs, *back.outputs(), *destination.outputs],
        **FOLLOWED,
    )
    if destination.then is not None:
        destination.then(sent.success)
