"""What is said of the extensions: the list on their page, and the lines in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webui.hooks import Fault
from webui.i18n import Translator
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.extensions.loading import Extensions, ExtensionState

_STATES: Final = {
    "on": "extension.state.on",
    "off": "extension.state.off",
    "refused": "extension.state.refused",
    "safe_mode": "extension.state.safe_mode",
}


def extension_lines(extensions: Extensions, say: Translator) -> Iterator[str]:
    """One line an extension: how long it took to load, or why it is off; nothing of those the owner switched off."""
    if any(state.state == "safe_mode" for state in extensions.states):
        yield say.text("extension.line.safe_mode")
    for state in extensions.states:
        title = state.title.text(say.language)
        if state.state == "on" and state.manifest is not None:
            seconds = f"{state.seconds:.2f}"
            yield say.text("extension.line.on", title=title, version=state.manifest.version, seconds=seconds)
    yield from refused_lines(extensions, say)


def refused_lines(extensions: Extensions, say: Translator) -> Iterator[str]:
    """One line for each extension that could not be loaded."""
    for state in extensions.states:
        if state.problem is not None and state.state == "refused":
            reason = " ".join(say.error(state.problem).split())
            yield say.text("extension.line.refused", title=state.title.text(say.language), reason=reason)


def render_extensions(
    extensions: Extensions,
    off: frozenset[str],
    folder: Path,
    faults: Callable[[str], tuple[Fault, ...]],
    say: Translator,
) -> str:
    """A card an extension with its switch; `off` are off from the next start, `folder` takes new ones."""
    note = element("p", text(say.text("extension.about", folder=folder)), class_="check-note")
    if not extensions.states:
        return element("div", element("p", text(say.text("extension.none"))), note)
    safe = any(state.state == "safe_mode" for state in extensions.states)
    warning = element("p", text(say.text("extension.safe_mode")), class_="notice", role="status") if safe else ""
    cards = [_card(state, off, faults(state.id), say) for state in extensions.states]
    return warning + element("ul", *cards, class_="extension-list", aria_label=say.text("extension.list")) + note


def _card(state: ExtensionState, off: frozenset[str], faults: tuple[Fault, ...], say: Translator) -> str:
    title = state.title.text(say.language)
    about = state.manifest.about if state.manifest is not None else None
    label = element("span", text(say.text(_STATES[state.state])), class_=f"extension-state {state.state}")
    return element(
        "li",
        element(
            "div",
            element("h3", text(title), dir="auto"),
            label,
            _switch(state, off, title, say),
            class_="extension-head",
        ),
        element("p", text(about.text(say.language))) if about is not None else "",
        element("p", *_facts(state, say), class_="extension-facts"),
        element("p", text(say.error(state.problem)), class_="status-failed") if state.problem is not None else "",
        _trace(say.text("extension.traceback"), state.traceback) if state.traceback else "",
        _faults(faults, say),
        class_="card",
        data_extension=state.id,
    )


def _switch(state: ExtensionState, off: frozenset[str], title: str, say: Translator) -> str:
    """The button, and a word on the restart where what was chosen is not what runs."""
    on = state.id not in off
    word, named = ("extension.switch_off", "extension.switch_off_named") if on else (
        "extension.switch_on", "extension.switch_on_named"
    )  # fmt: skip
    button = element(
        "button",
        text(say.text(word)),
        type="button",
        aria_label=say.text(named, title=title),
        data_switch=state.id,
        data_on="" if on else "1",
    )
    waits = (state.state == "off") == on
    note = (
        element("span", text(say.text("extension.restart")), class_="extension-restart", role="status") if waits else ""
    )
    return element("div", note, button, class_="extension-switch")


def _facts(state: ExtensionState, say: Translator) -> list[str]:
    facts = [element("code", text(state.id), dir="auto")]
    if state.manifest is not None:
        facts.append(text(say.text("extension.version", version=state.manifest.version)))
    if state.state == "on":
        facts.append(text(say.text("extension.seconds", seconds=f"{state.seconds:.2f}")))
    facts.append(text(say.text("extension.bundled")) if state.bundled else element("bdi", text(str(state.folder))))
    return [" · ".join(facts)]


def _faults(faults: tuple[Fault, ...], say: Translator) -> str:
    if not faults:
        return ""
    shown = [
        _trace(say.text("extension.fault", where=fault.where, count=fault.count), fault.traceback) for fault in faults
    ]
    return element(
        "div", element("p", text(say.text("extension.faults"))), *shown, class_="extension-faults", role="alert"
    )


def _trace(summary: str, trace: str) -> str:
    return element("details", element("summary", text(summary)), element("pre", text(trace), tabindex="0"))
