"""What extensions are told of while the program works, and how their mistakes stay theirs.

The work waits for a listener, but not for ever. What it raises is charged to its extension by name and kept for the
Extensions page; the work goes on.
"""

from __future__ import annotations

import logging
import math
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import Language
from webui.runtime.jobs import JobCancelled, JobContext
from webui.runtime.patience import HungError, within
from webui.vision.check import ExtraScore

_log = logging.getLogger(__name__)

T = TypeVar("T")
Event = TypeVar("Event")

_FAULTS_KEPT: Final = 50
PATIENCE_SECONDS: Final = 10.0
"""How long a listener or a prompt tool may take. One that takes longer is not called again in this run."""


@dataclass(frozen=True, slots=True)
class BeforeGenerate:
    """A txt2img job starts: size, guidance and seed are filled in, and the prompt tools have had their say."""

    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class StepDone:
    """One U-Net call of a txt2img job, counted from 1 to `total` in batch `batch` (from 0).

    `read_predicted_x0` copies the predicted x0 of the batch to RAM, (B, 4, H/8, W/8) float32; call it while listening.
    """

    batch: int
    step: int
    total: int
    timestep: float
    read_predicted_x0: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class ImageSaved:
    """A picture lies in the outputs folder; `infotext` is what its PNG carries."""

    path: Path
    seed: int
    infotext: str


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """A model was read from the disk. `task` is "txt2img", "clip", ...; `name` is the folder's, and seconds it took."""

    task: str
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PageBuilt:
    """The page is laid out and will be served; `tabs` are the ids of the tabs that extensions have added."""

    tabs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """What a prompt tool may change, and the seed that makes its choices the same again."""

    prompt: str
    negative_prompt: str
    seed: int


PromptTool = Callable[[PromptDraft], PromptDraft]


@dataclass(frozen=True, slots=True)
class ScoredPicture:
    """A picture to give a figure, upright and RGB, the prompt it was drawn from, and the job that asks."""

    image: Image.Image
    prompt: str
    context: JobContext


Score = Callable[[ScoredPicture], float]


@dataclass(frozen=True, slots=True)
class Fault:
    """What an extension's code raised, where, and how often."""

    extension: str
    where: str
    traceback: str
    count: int = 1


class Hooks:
    """The listeners and prompt tools of all extensions; empty where none are loaded. Safe from any thread."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._hung: frozenset[tuple[str, int]] = frozenset()
        self._listeners: tuple[tuple[str, type, Callable[[Any], object]], ...] = ()
        self._tools: tuple[tuple[str, PromptTool], ...] = ()
        self._scores: tuple[tuple[str, Mapping[Language, str], Score], ...] = ()
        self._faults: dict[tuple[str, str, str], Fault] = {}
        self._lock = threading.Lock()

    def listen(self, extension: str, event: type[Event], listener: Callable[[Event], object]) -> None:
        """From now on call `listener` for every event of that type, after those that came before."""
        with self._lock:
            self._listeners = (*self._listeners, (extension, event, listener))

    def add_prompt_tool(self, extension: str, tool: PromptTool) -> None:
        """From now on let `tool` change the prompts of txt2img jobs, after those that came before."""
        with self._lock:
            self._tools = (*self._tools, (extension, tool))

    def add_score(self, extension: str, title: Mapping[Language, str], score: Score) -> None:
        """From now on let `score` give every picture that is checked a figure, after those that came before."""
        with self._lock:
            self._scores = (*self._scores, (extension, title, score))

    def scores_of(self, picture: ScoredPicture) -> tuple[ExtraScore, ...]:
        """The figures that extensions give the picture; one that fails is left out. Raises JobCancelled."""
        found = []
        for extension, title, score in self._scores:
            value = self.guarded(extension, "score", partial(_figure, score, picture), None, but=JobCancelled)
            if value is not None:
                found.append(ExtraScore(title, value))
        return tuple(found)

    def wanted(self, event: type) -> bool:
        """Whether anybody listens to that event, so that it need not be made for nobody."""
        return any(wanted is event for _, wanted, _ in self._listeners)

    def tell(self, event: object) -> None:
        """Call everybody who listens to this event; never raises."""
        for extension, wanted, listener in self._listeners:
            if wanted is type(event):
                self._waited_for(extension, wanted.__name__, listener, partial(listener, event), None)

    def rewritten(self, request: GenerateRequest) -> GenerateRequest:
        """The request with the prompts that the tools make of it; raises a tool's UserError, and nothing else."""
        for extension, tool in self._tools:
            draft = PromptDraft(request.prompt, request.negative_prompt, request.seed)
            work = partial(_drafted, tool, draft)
            made = self._waited_for(extension, "prompt tool", tool, work, draft, but=UserError)
            request = replace(request, prompt=made.prompt, negative_prompt=made.negative_prompt)
        return request

    def _waited_for(
        self,
        extension: str,
        where: str,
        code: object,
        work: Callable[[], T],
        otherwise: T,
        but: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> T:
        """As `guarded`, for `code` that must not hold up the work: once it has hung there it is left out."""
        key = (where, id(code))

        def limited() -> T:
            try:
                return within(self._patience, work, f"extension-{extension}")
            except HungError:
                with self._lock:
                    self._hung |= {key}
                raise

        return otherwise if key in self._hung else self.guarded(extension, where, limited, otherwise, but)

    def guarded(
        self,
        extension: str,
        where: str,
        work: Callable[[], T],
        otherwise: T,
        but: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> T:
        """What an extension's `work` returns; `otherwise` where it raises, which is then charged to it.

        An error of the type `but` is meant for the user and goes on its way.
        """
        try:
            return work()
        except but:
            raise
        # Code of others: whatever it raises, an exit included, must not end what the user waits for.
        except (Exception, SystemExit):  # noqa: BLE001
            self.charge(extension, where, traceback.format_exc())
            return otherwise

    def charge(self, extension: str, where: str, trace: str) -> None:
        """Keep what went wrong for the Extensions page, and log it once."""
        with self._lock:
            key = (extension, where, trace)
            before = self._faults.pop(key, None)
            self._faults[key] = Fault(extension, where, trace, 1 if before is None else before.count + 1)
            while len(self._faults) > _FAULTS_KEPT:
                del self._faults[next(iter(self._faults))]
        if before is None:
            _log.error("extension %s failed (%s):\n%s", extension, where, trace)

    def faults(self, extension: str) -> tuple[Fault, ...]:
        """What is charged to one extension, the newest last."""
        with self._lock:
            return tuple(fault for fault in self._faults.values() if fault.extension == extension)


def _figure(score: Score, picture: ScoredPicture) -> float | None:
    value = float(score(picture))
    if not math.isfinite(value):
        raise ValueError(f"a score is a finite number, not {value}")
    return value


def _drafted(tool: PromptTool, draft: PromptDraft) -> PromptDraft:
    made: object = tool(draft)
    if isinstance(made, PromptDraft) and all(isinstance(words, str) for words in (made.prompt, made.negative_prompt)):
        return made
    raise TypeError(f"a prompt tool returns a PromptDraft with two texts, not {made!r:.100}")
