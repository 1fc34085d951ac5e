"""What in a page is text, so that one event can say all of it in another language without reloading the page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

import gradio as gr
from gradio.blocks import Block

from webui.i18n import Translator

_NO_PROGRESS: Final[dict[str, Any]] = {"show_progress": "hidden", "show_progress_on": []}
"""Gradio's page else tells every component that ever was an output of an event, at every step of every event, how far
that event is, and looks each of them up in the whole tree: a tenth of a second and more for every step of a run."""

QUIET: Final[dict[str, Any]] = {
    "queue": False,
    **_NO_PROGRESS,
    "api_visibility": "private",
}
"""For events that answer at once: they do not wait behind a run, and nothing flickers."""

FOLLOWED: Final[dict[str, Any]] = {
    "concurrency_limit": None,  # the job queue decides who computes; a page that waits must not hold up the others
    **_NO_PROGRESS,
    "api_visibility": "private",
}
"""For events that follow a job and yield until it has ended."""

P = ParamSpec("P")
AnyBlock = TypeVar("AnyBlock", bound=Block)
Updates = dict[Block, Any]
"""New values or `gr.update(...)` for some of an event's outputs; the others stay as they are."""

Localized = str | Callable[[Translator], object]
"""A message key, or what makes a property (choices, samples) from the reader's language."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The properties of one component that are words."""

    component: Block
    properties: Mapping[str, Localized]

    def update(self, translator: Translator) -> Any:
        """The Gradio update that says them in the reader's language and leaves the component's value alone."""
        return gr.update(**{name: _say(said, translator) for name, said in self.properties.items()})


@dataclass(slots=True)
class Localizer:
    """Builds components in one language and remembers, for each, which properties are words.

    `first_language` is what the page is served in; the reader's own arrives with the load event.
    """

    first_language: Translator
    bindings: list[Binding] = field(default_factory=list)

    def make(self, component: type[AnyBlock], words: Mapping[str, Localized], /, **properties: Any) -> AnyBlock:
        """Build `component(**properties)` with `words` in the first language, and remember them."""
        said = {name: _say(localized, self.first_language) for name, localized in words.items()}
        built = component(**properties, **said)
        self.bindings.append(Binding(built, dict(words)))
        return built

    @property
    def components(self) -> list[Block]:
        """Every component that has words: the outputs of an event that changes the language."""
        return [binding.component for binding in self.bindings]

    def updates(self, translator: Translator) -> Updates:
        """What to send to `components` so that the whole page speaks the reader's language."""
        return {binding.component: binding.update(translator) for binding in self.bindings}

    def updates_since_built(self, translator: Translator) -> Updates:
        """What to send when the page opens: in the language that it was served in, phrases are said already.

        What is made from the language (choices, samples) may be another than when the page was built.
        """
        if translator.language != self.first_language.language:
            return self.updates(translator)
        return {
            binding.component: binding.update(translator)
            for binding in self.bindings
            if any(callable(said) for said in binding.properties.values())
        }


def unchanged() -> Updates:
    """What an event handler answers when nothing changes: Gradio takes an empty dict for a value, or for too few."""
    return dict(gr.skip())


def never_silent(handler: Callable[P, Iterator[Updates]]) -> Callable[P, Iterator[Updates]]:
    """An event handler that yields, made to say that nothing changes where it ends without a word.

    Gradio would empty all its outputs: a button would lose its label.
    """

    @functools.wraps(handler)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Iterator[Updates]:
        steps = iter(handler(*args, **kwargs))
        yield next(steps, unchanged())
        yield from steps

    return answer


def merged(*updates: Updates) -> Updates:
    """All `updates` as one; where two change different properties of a component, both hold."""
    result: Updates = {}
    for update in updates:
        for component, change in update.items():
            earlier: Any = result.get(component)
            both = _is_update(earlier) and _is_update(change)
            result[component] = {**earlier, **change} if both else change
    return result


def _is_update(change: Any) -> bool:
    return isinstance(change, dict) and change.get("__type__") == "update"


def _say(localized: Localized, translator: Translator) -> Any:
    return translator.text(localized) if isinstance(localized, str) else localized(translator)
