"""Loads the extensions of a program that starts: each on its own, timed, and refused with a reason if it must be."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from webui.errors import UserError
from webui.extensions.api import ExtensionAPI, Host
from webui.extensions.discovery import Candidate, find_extensions
from webui.extensions.isolation import TIME_LIMIT, FailedError, forget_modules, import_entry, run_isolated
from webui.extensions.manifest import BothLanguages, Manifest
from webui.extensions.samplers import charged_sampler
from webui.extensions.switches import Switches
from webui.i18n import LANGUAGES
from webui.runtime.patience import HungError
from webui.security.rules import Deed, may
from webui.settings import bundled_extensions_dir
from webui.studio import Studio

USER_FOLDER: Final = "extensions"

State = Literal["on", "off", "refused", "safe_mode"]


@dataclass(frozen=True, slots=True)
class ExtensionState:
    """One extension as it was found at this start. `problem` and `traceback` say why a refused one is not on."""

    id: str
    folder: Path
    bundled: bool
    manifest: Manifest | None
    state: State
    seconds: float = 0.0
    problem: UserError | None = None
    traceback: str = ""

    @property
    def title(self) -> BothLanguages:
        """The manifest's, else the folder's name."""
        if self.manifest is not None:
            return self.manifest.title
        name = self.folder.name[:100] or "?"
        return BothLanguages(en=name, th=name)


@dataclass(frozen=True, slots=True)
class Extensions:
    """All extensions that were found, and the API objects of those that are on, in their order."""

    states: tuple[ExtensionState, ...] = ()
    loaded: tuple[ExtensionAPI, ...] = ()


def load_extensions(studio: Studio, time_limit: float = TIME_LIMIT) -> tuple[Studio, Extensions]:
    """Load what is switched on; the studio that comes back also speaks the extensions' texts.

    Never raises for an extension's sake. Their listeners and prompt tools work from here on.
    """
    settings = studio.settings
    found = find_extensions(bundled_extensions_dir(), settings.data_dir / USER_FOLDER)
    if settings.safe_mode:
        return studio, Extensions(tuple(_state(candidate, "safe_mode") for candidate in found))
    host = Host()
    off = Switches(settings.data_dir).off()
    states: list[ExtensionState] = []
    loaded: list[ExtensionAPI] = []
    for candidate in found:
        state, api = _load(candidate, off, {other.id for other in loaded}, settings.data_dir, host, time_limit)
        states.append(state)
        if api is not None:
            loaded.append(api)
    host.studio = _joined(studio, loaded)
    return host.studio, Extensions(tuple(states), tuple(loaded))


def switch_extension(studio: Studio, extensions: Extensions, extension: str, *, on: bool) -> None:
    """Switch an extension that there is on or off, from the next start; raises UserError where that is refused."""
    if not may(studio.settings, Deed.CHANGE_EXTENSIONS):
        raise UserError("error.extensions_are_the_owners")
    if extension not in {state.id for state in extensions.states}:
        raise UserError("error.unknown_extension", id=extension[:100])
    Switches(studio.settings.data_dir).switch(extension, on=on)


def _load(
    candidate: Candidate, off: frozenset[str], on: set[str], data_dir: Path, host: Host, time_limit: float
) -> tuple[ExtensionState, ExtensionAPI | None]:
    if candidate.id in off:
        return _state(candidate, "off"), None
    if candidate.problem is not None or candidate.manifest is None:
        return _state(candidate, "refused", problem=candidate.problem), None
    if absent := [need for need in candidate.manifest.needs.extensions if need not in on]:
        problem = UserError("error.extension_needs_one_that_is_off", id=absent[0])
        return _state(candidate, "refused", problem=problem), None
    api = ExtensionAPI(candidate.manifest, candidate.folder, data_dir, host)
    started = time.perf_counter()
    try:
        run_isolated(lambda: import_entry(candidate.id, candidate.folder).register(api), candidate.folder, time_limit)
    except (FailedError, HungError) as error:
        api.contributions.closed = True
        forget_modules(candidate.id)
        problem, trace = problem_of(error, time_limit)
        seconds = time.perf_counter() - started
        return _state(candidate, "refused", seconds=seconds, problem=problem, traceback=trace), None
    api.contributions.closed = True
    return _state(candidate, "on", seconds=time.perf_counter() - started), api


def problem_of(error: FailedError | HungError, time_limit: float = TIME_LIMIT) -> tuple[UserError, str]:
    """One sentence about what became of an extension's code, and the traceback for its author."""
    if isinstance(error, HungError):
        return UserError("error.extension_hung", seconds=f"{time_limit:g}"), error.where
    return UserError("error.extension_raised", reason=str(error)[:500]), error.trace


def _state(candidate: Candidate, state: State, **more: object) -> ExtensionState:
    made = ExtensionState(candidate.id, candidate.folder, candidate.bundled, candidate.manifest, state)
    return replace(made, **more)  # type: ignore[arg-type]


def _joined(studio: Studio, loaded: Sequence[ExtensionAPI]) -> Studio:
    """Let the extensions' listeners, tools, models, samplers and texts into the program."""
    messages, samplers = studio.messages, studio.samplers
    known = {model.id: model for model in studio.known}
    for api in loaded:
        asked = api.contributions
        messages = messages.with_texts(api.key(""), asked.texts)
        for event, listener in asked.listeners:
            studio.hooks.listen(api.id, event, listener)
        for tool in asked.prompt_tools:
            studio.hooks.add_prompt_tool(api.id, tool)
        for title, score in asked.scores:
            studio.hooks.add_score(api.id, {language: title.text(language) for language in LANGUAGES}, score)
        for model in asked.known_models:
            known.setdefault(model.id, model)  # what the project or another says of a model already stays
        for sampler in asked.samplers:
            try:
                samplers = samplers.and_also(charged_sampler(studio.hooks, api.id, sampler))
            except ValueError:  # another extension was first
                studio.hooks.charge(api.id, f"sampler {sampler.name}", traceback.format_exc())
    return replace(studio, messages=messages, known=tuple(known.values()), samplers=samplers)
