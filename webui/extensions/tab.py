"""What an extension builds a tab or a panel with, and the texts that it speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from webui.errors import UserError
from webui.i18n import Language, Translator
from webui.runtime.jobs import JobContext

if TYPE_CHECKING:
    import gradio as gr

    from webui.pages.clip_run import JobStep, RunBar

T = TypeVar("T")
AnyBlock = TypeVar("AnyBlock")


@dataclass(frozen=True, slots=True)
class Words:
    """An extension's own texts, as one reader gets them."""

    translator: Translator
    prefix: str

    @property
    def language(self) -> Language:
        """The reader's."""
        return self.translator.language

    def text(self, key: str, /, **values: object) -> str:
        """The text of `key` (one of `add_translations`) with its placeholders filled in."""
        return self.translator.text(self.prefix + key, **values)

    def error(self, error: UserError) -> str:
        """One sentence that says what to change."""
        return self.translator.error(error)


Said = str | Callable[[Words], object]


class Tab(Protocol):
    """What the function that builds a tab, or a panel, works with."""

    def make(self, component: type[AnyBlock], words: Mapping[str, Said], /, **properties: Any) -> AnyBlock:
        """Build `component(**properties)`; the properties in `words` follow the reader's language.

        Each is the key of a text, or a function that makes the property of the extension's `Words`.
        """
        ...

    def words(self, request: gr.Request) -> Words:
        """What speaks to the reader behind an event, in a handler that takes a `gr.Request`."""
        ...

    def shows(self, output: gr.HTML, state: gr.State, render: Callable[[Any, Words], str]) -> None:
        """`output` shows what `render` makes of `state`'s value; the reader changing the language renders it again."""
        ...

    def run_bar(self, name: str, start: str) -> RunBar:
        """A button with the text `start`, one that stops, and a line that says how far a job is."""
        ...

    def follow(self, work: Callable[[JobContext], T], request: gr.Request) -> Iterator[JobStep[T]]:
        """Queue `work` as a job of this reader and yield a step whenever it has come further; the last one has ended.

        Give it up (a page that closes does) and the job is cancelled.
        """
        ...

    def show_run(self, bar: RunBar, step: JobStep[Any], request: gr.Request) -> dict[Any, Any]:
        """The updates of the bar for a step."""
        ...

    def stop(self, step: JobStep[Any] | None, request: gr.Request) -> None:
        """Ask the job of a step to end; one that has ended, and None, is left alone."""
        ...


class Panel(Tab, Protocol):
    """A tab that lies under a page; under "create", with the two boxes above it to read and fill."""

    @property
    def prompt(self) -> gr.Textbox:
        """What is to be drawn."""
        ...

    @property
    def negative_prompt(self) -> gr.Textbox:
        """What is not wanted."""
        ...
