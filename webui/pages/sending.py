"""A picture goes from the tab that has it to any other: the same buttons everywhere, wired the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block
from gradio.utils import get_upload_folder

from webui.errors import UserError
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates
from webui.pages.reader import Readers
from webui.store.gallery import save_refusal
from webui.store.whole_file import write_whole
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
        TabId.PROMPT: "send.to_prompt",
        TabId.SEARCH: "send.to_search",
    }
)


_TWO_FRAMES_JS: Final = """
(...values) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(values))))
"""


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

    @property
    def presses(self) -> dict[TabId, Callable[..., Any]]:
        """What listens to each button."""
        return {tab: getattr(button, "click") for tab, button in self.buttons.items()}  # noqa: B009 - made at run time

    def shown(self, there: bool) -> Updates:
        """The bar is there as long as there is a picture to send."""
        return {self.row: gr.update(visible=there)}


@dataclass(frozen=True, slots=True)
class Destination:
    """A tab that takes pictures.

    `receive(picture, request, *values of inputs)` yields updates of `outputs`; it raises UserError when it cannot use
    the picture. `then` wires what follows on the event's end. `prepare(picture, request)` is called before the tab
    opens, and may refuse the picture while nothing has moved yet.
    """

    tab: TabId
    receive: Callable[..., Iterator[Updates]]
    outputs: Sequence[Block]
    inputs: Sequence[Block] = ()
    then: Callable[[Callable[..., Any]], object] | None = None
    prepare: Callable[[SentPicture, gr.Request], None] | None = None


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
    """A tab that has a picture: `picture(event, request, *values of inputs)` is the one looked at, None for none.

    `presses` are what listens to the presses (`button.click`), by the tab they lead to.
    """

    tab: TabId
    presses: Mapping[TabId, Callable[..., Any]]
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


def lend(name: str, png: bytes, words: str = "") -> SentPicture:
    """A picture that is no file yet, as one in the folder from which the page may show files.

    The same picture has the same file however often it is sent. Raises UserError when the folder cannot take it.
    """
    path = Path(get_upload_folder()) / hashlib.sha256(png).hexdigest() / name
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, png)
    except OSError as error:
        raise save_refusal(path.parent, error) from error
    return SentPicture(PictureFile(name, path), words)


def wire_sending(
    tabs: gr.Tabs, back: WayBack, readers: Readers, senders: Sequence[Sender], destinations: Sequence[Destination]
) -> None:
    """Connect every button with the tab that it leads to; the tab first, so that the work is seen."""
    wires = _Wires(tabs, back, readers, gr.State(None))
    for sender in senders:
        for destination in destinations:
            press = sender.presses.get(destination.tab)
            if press is not None:
                wires.connect(press, sender, destination)


@dataclass(frozen=True, slots=True)
class _Wires:
    """What all ways share; `carried` holds the picture of the session that is between two tabs."""

    tabs: gr.Tabs
    back: WayBack
    readers: Readers
    carried: gr.State

    def connect(self, press: Callable[..., Any], sender: Sender, destination: Destination) -> None:
        """Two events: Gradio fills a tab that opens for the first time once more, over what came with its opening."""
        tabs, carried = self.tabs, self.carried

        def send(event: gr.EventData, request: gr.Request, *values: Any) -> Updates:
            with self._said(request):
                picture = sender.picture(event, request, *values)
                if picture is not None and destination.prepare is not None:
                    destination.prepare(picture, request)
            if picture is None:
                return {tabs: gr.skip(), carried: None}
            opened = {tabs: gr.update(selected=destination.tab.value), carried: picture}
            return opened | self.back.leads_to(sender.tab)

        def receive(picture: SentPicture | None, request: gr.Request, *values: Any) -> Iterator[Updates]:
            if picture is None:
                yield {carried: None}
                return
            with self._said(request):
                yield from destination.receive(picture, request, *values)

        sent = press(send, inputs=sender.inputs, outputs=[tabs, carried, *self.back.outputs()], **QUIET)
        received = sent.success(
            receive,
            inputs=[carried, *destination.inputs],
            outputs=[carried, *destination.outputs],
            js=_TWO_FRAMES_JS,
            **FOLLOWED,
        )
        if destination.then is not None:
            destination.then(received.success)

    @contextmanager
    def _said(self, request: gr.Request) -> Iterator[None]:
        """What the user can put right becomes what Gradio's page shows, in the reader's language."""
        try:
            yield
        except UserError as error:
            raise gr.Error(self.readers.translator(request).error(error), print_exception=False) from error
