"""What an extension sees of the program: `def register(api: ExtensionAPI) -> None`. Version 1.

Import from here only: the rest of the program may change any day, this changes with its version number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from webui.diffusion.animation import ANIMATION_FORMATS, animate
from webui.diffusion.interpolate import lerp, slerp
from webui.diffusion.request import MAX_SEED, GenerateLimits, GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS, MakeScheduler, Sampler, Space
from webui.errors import UserError
from webui.extensions.manifest import API_VERSION, BothLanguages, Manifest
from webui.extensions.samplers import check_new_sampler
from webui.extensions.tab import Panel, Tab, Words
from webui.hooks import (
    BeforeGenerate,
    ImageSaved,
    ModelLoaded,
    PageBuilt,
    PromptDraft,
    PromptTool,
    Score,
    ScoredPicture,
    StepDone,
)
from webui.i18n import LANGUAGES, Language
from webui.runtime.entries import CatalogEntry
from webui.runtime.jobs import JobCancelled, JobContext, JobEvent, Progress
from webui.runtime.known import KnownModel
from webui.runtime.pipelines import Training
from webui.store.gallery import SavedPicture
from webui.store.json_file import read_json, write_json
from webui.tasks.latent_walks import walk
from webui.tasks.txt2img import DrawnPictures, draw_pictures, prepare_request
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.studio import Studio

__all__ = [
    "ANIMATION_FORMATS",
    "API_VERSION",
    "MAX_SEED",
    "BeforeGenerate",
    "BothLanguages",
    "CatalogEntry",
    "CommandLine",
    "DrawnPictures",
    "ExtensionAPI",
    "GenerateLimits",
    "GenerateRequest",
    "ImageSaved",
    "JobCancelled",
    "JobContext",
    "ModelLoaded",
    "PageBuilt",
    "PageName",
    "Panel",
    "PromptDraft",
    "SavedPicture",
    "ScoredPicture",
    "StepDone",
    "Tab",
    "UserError",
    "Words",
    "animate",
    "element",
    "lerp",
    "slerp",
    "text",
]

PageName = Literal["create", "gallery", "score", "inside", "latents", "vision", "prompt", "search", "learn"]
"""The pages of the program that a panel can lie under."""

T = TypeVar("T")
Event = TypeVar("Event", BeforeGenerate, StepDone, ImageSaved, ModelLoaded, PageBuilt)


@dataclass(frozen=True, slots=True)
class Place:
    """A tab or a panel that an extension adds. `id` begins with "ext-"; `title` is what its tab says.

    A panel lies `under` one of the program's own pages; a tab under none.
    """

    id: str
    title: BothLanguages
    build: Callable[[Any], object]
    under: PageName | None = None


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command works with: what was typed after its name, and the way to say and to do something.

    `write` puts a line on the terminal; `run` does a job with a progress bar and returns what it returns (raises its
    UserError, and JobCancelled after Ctrl-C).
    """

    arguments: tuple[str, ...]
    words: Words
    write: Callable[[str], None]
    run: Callable[[Callable[[JobContext], Any]], Any]


@dataclass(frozen=True, slots=True)
class Command:
    """What `diffuscope extension ID` does, and one line about it."""

    about: BothLanguages
    run: Callable[[CommandLine], int | None]


@dataclass(slots=True)
class Contributions:
    """What an extension asks for in `register`; it takes effect when that has returned."""

    tabs: list[Place] = field(default_factory=list)
    panels: list[Place] = field(default_factory=list)
    listeners: list[tuple[type, Callable[[Any], object]]] = field(default_factory=list)
    command: Command | None = None
    prompt_tools: list[PromptTool] = field(default_factory=list)
    scores: list[tuple[BothLanguages, Score]] = field(default_factory=list)
    known_models: list[KnownModel] = field(default_factory=list)
    samplers: list[Sampler] = field(default_factory=list)
    texts: dict[Language, dict[str, str]] = field(default_factory=lambda: {language: {} for language in LANGUAGES})
    closed: bool = False


@dataclass(slots=True)
class Host:
    """Where extensions find the running program; empty while they register."""

    studio: Studio | None = None


class ExtensionAPI:
    """The program as one extension sees it. The `add_*` methods and `listen` are for `register`, the rest for later."""

    def __init__(self, manifest: Manifest, source: Path, data_dir: Path, host: Host) -> None:
        self.manifest = manifest
        self.source = source
        """The folder with the extension's code, and what it brings along."""
        self.contributions = Contributions()
        self._folder = data_dir / "extension_data" / manifest.id
        self._host = host

    @property
    def id(self) -> str:
        """The extension's id, as its manifest has it."""
        return self.manifest.id

    def add_translations(self, texts: Mapping[Language, Mapping[str, str]]) -> None:
        """The extension's texts by key, both languages with the same keys and `{placeholders}`; else ValueError."""
        english, thai = texts["en"], texts["th"]
        if english.keys() != thai.keys():
            raise ValueError(f"only in one language: {', '.join(sorted(english.keys() ^ thai.keys()))}")
        for key in english:
            if _placeholders(english[key]) != _placeholders(thai[key]):
                raise ValueError(f"{key} has other placeholders in Thai than in English")
        for language in LANGUAGES:
            self._open().texts[language].update(texts[language])

    def add_tab(self, name: str, title: Mapping[Language, str], build: Callable[[Tab], object]) -> None:
        """A tab of the page; `build` lays it out with Gradio components when the page is built."""
        self._open().tabs.append(self._place(name, title, build))

    def add_panel(
        self,
        name: str,
        title: Mapping[Language, str],
        build: Callable[[Panel], object],
        *,
        under: PageName = "create",
    ) -> None:
        """A part that folds out under one of the program's pages: under the prompt of "create", else at its end.

        Only under "create" has it a prompt to read and fill. "gallery" is not there for visitors of a shared page, and
        neither are its panels. Raises ValueError for a page that is none.
        """
        if under not in get_args(PageName):
            raise ValueError(f"a panel lies under one of {', '.join(get_args(PageName))}, not under {under}")
        self._open().panels.append(replace(self._place(name, title, build), under=under))

    def add_prompt_tool(self, tool: PromptTool) -> None:
        """Let `tool` change the prompts of every txt2img job, once, before it draws.

        Runs that are recorded on the page "Inside", REST and `diffuscope generate` and `trace` are such jobs too. A
        UserError that it raises refuses the job in words; anything else is charged to the extension and the prompt
        stays as it was, also where it has not answered within 10 s.
        """
        self._open().prompt_tools.append(tool)

    def add_score(self, title: Mapping[Language, str], score: Score) -> None:
        """Let "Check my picture" also show what `score` makes of each picture: a finite number.

        It runs in the job that checks; one that raises is left out and charged to the extension.
        """
        self._open().scores.append((BothLanguages(**dict(title)), score))

    def add_known_model(self, **facts: Any) -> None:
        """Let the Models page offer one more model of the Hugging Face Hub; `facts` are the fields of an entry of
        `webui/runtime/catalog.toml`. Raises ValueError for one that breaks its rules.
        """
        self._open().known_models.append(KnownModel(**facts))

    def add_sampler(
        self,
        name: str,
        scheduler: str | MakeScheduler,
        *,
        space: Space,
        calls_per_step: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Let pictures be drawn with one more sampler, wherever one can be chosen.

        `scheduler` is the name of a diffusers class, made with what the model was trained with and `options`; or a
        function that makes a fresh scheduler from a model's scheduler config. `space` is what the latents are on the
        way: "alpha" for x = sqrt(a) x0 + sqrt(1 - a) eps (DDIM, DPM++), "sigma" for x = x0 + sigma eps (Euler), "flow"
        for models trained by flow matching. `calls_per_step` is how often a step calls the U-Net. A scheduler that
        raises is charged to the extension, and whoever asked for the picture is told so. Raises ValueError for a name
        that is taken or that an infotext cannot hold.
        """
        training: Training = "flow" if space == "flow" else "noise"
        own = MappingProxyType(dict(options or {}))
        sampler = Sampler(name, None, scheduler, own, space, calls_per_step, training)
        check_new_sampler(sampler)
        SHIPPED_SAMPLERS.and_also(sampler)
        self._open().samplers.append(sampler)

    def add_command(self, about: Mapping[Language, str], run: Callable[[CommandLine], int | None]) -> None:
        """Let `diffuscope extension ID` call `run`, whose answer is the exit code (None: 0); one an extension."""
        if self._open().command is not None:
            raise ValueError("an extension adds one command")
        self._open().command = Command(BothLanguages(**dict(about)), run)

    def listen(self, event: type[Event], listener: Callable[[Event], object]) -> None:
        """Call `listener` with every event of this type. The work waits for it, 10 s at most: be quick."""
        self._open().listeners.append((event, listener))

    @property
    def folder(self) -> Path:
        """The extension's own folder for files, in the data folder; made when it is first asked for, if it can be."""
        with suppress(OSError):  # there is nothing to read then, and whoever writes is told why not
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def read_settings(self) -> dict[str, Any]:
        """What `write_settings` has kept; empty when there is nothing, or nothing that can be read."""
        try:
            kept = read_json(self._folder / "settings.json")
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep what JSON can hold, atomically. Raises UserError where the folder cannot take it."""
        write_json(self._folder / "settings.json", dict(settings))

    def error(self, key: str, /, **values: object) -> UserError:
        """An error to raise, which the page says in the reader's language with the extension's text `key`."""
        return UserError(self.key(key), **values)

    def key(self, key: str) -> str:
        """The name under which the whole program knows the extension's text `key` (for `JobContext.progress`)."""
        return f"ext.{self.id}.{key}"

    @property
    def limits(self) -> GenerateLimits:
        """The largest request that is accepted here; lower where other machines can reach the page."""
        return self._studio().settings.limits

    @property
    def remote(self) -> bool:
        """Whether other machines can reach the page: then show no paths, and change nothing for everybody."""
        return self._studio().settings.remote

    def models(self, task: str = "txt2img") -> tuple[CatalogEntry, ...]:
        """The usable models of one task ("txt2img", "clip", "vit", ...)."""
        return tuple(entry for entry in self._studio().catalog.entries(task) if entry.problem is None)

    def with_model(
        self, model: str, task: str, work: Callable[[Any], T], context: JobContext, working_memory: int = 0
    ) -> T:
        """In a job: load the model if need be, lend it to `work`, and return what that returns.

        `work` is called again with more room where memory runs out. `working_memory` are the bytes it takes beside the
        weights. Raises UserError for a model that there is not or that finds no room, JobCancelled.
        """
        studio = self._studio()
        return studio.manager.run(
            studio.catalog.find(model, task).key(),
            work,
            working_memory=working_memory,
            cancel=context.cancelled,
            on_progress=context.progress,
        )

    def samplers(self) -> tuple[str, ...]:
        """The names of the samplers, those that extensions add too. `check` refuses one that is not a model's."""
        return tuple(self._studio().samplers.names())

    def check(self, request: GenerateRequest) -> GenerateRequest:
        """The request with size, guidance and seed filled in; raises UserError for what could not be drawn."""
        return prepare_request(self._studio(), request)

    def draw(self, request: GenerateRequest, context: JobContext, part: int = 0, parts: int = 1) -> DrawnPictures:
        """In a job: draw and save as the txt2img page does; after a cancel it returns what is finished.

        Of a job that draws several times, say which `part` of how many `parts` this is: its bar is of the whole.
        """
        return draw_pictures(self._studio(), request, _part_of(context, part, parts))

    def walk(
        self,
        stops: Sequence[GenerateRequest],
        frames: int,
        context: JobContext,
        on_frame: Callable[[np.ndarray], None],
    ) -> bool:
        """In a job: draw `frames` (at least 2) pictures on the way from stop to stop, noise and prompt slerped.

        `on_frame` gets each, (H, W, 3) uint8; they are not saved. Of everything but prompts and seeds, the first stop
        decides. False when the job was stopped before the last one.
        """
        return walk(self._studio(), stops, frames, context, on_frame)

    def _place(self, name: str, title: Mapping[Language, str], build: Callable[[Any], object]) -> Place:
        return Place(f"ext-{self.id}-{name}", BothLanguages(**dict(title)), build)

    def _open(self) -> Contributions:
        if self.contributions.closed:
            raise RuntimeError("an extension adds things in register() only")
        return self.contributions

    def _studio(self) -> Studio:
        if self._host.studio is None:
            raise RuntimeError("the program is not there yet while register() runs: ask in a handler or a job")
        return self._host.studio


def _part_of(context: JobContext, part: int, parts: int) -> JobContext:
    """The job as one of its parts sees it: progress is moved to its place, and nothing is published."""

    def send(event: JobEvent, _kept: bool) -> None:
        if isinstance(event, Progress) and event.phase == "phase.denoising":
            context.progress(part * event.total + event.step, parts * event.total, event.phase)
        elif isinstance(event, Progress):
            context.progress(event.step, event.total, event.phase)

    return JobContext(context.device, context.cancelled, send)


def _placeholders(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name is not None}
