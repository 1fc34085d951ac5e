"""What a catalogue lists: a model's entry, its task, and the key under which the manager shares it once loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.runtime.checkpoint_family import CheckpointFamily
from webui.runtime.hub_cache import name_of
from webui.runtime.pipelines import STABLE_DIFFUSION, PipelineKind

TXT2IMG: Final = "txt2img"
CLIP: Final = "clip"
VIT: Final = "vit"
T5: Final = "t5"
BART: Final = "bart"
VAE: Final = "vae"
"""A VAE in a file of its own, which the manager leases beside a model; the catalogue lists no such models."""

AUTO_DTYPE: Final = "auto"
"""Let the manager choose: what the device computes fastest (`placement.choose_dtype`)."""

USUAL_GUIDANCE_SCALE: Final = 7.0
"""What Stable Diffusion models are drawn with where they do not name their own."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """Names one loaded model: equal keys share it.

    `source` is the absolute folder or, for a single-file checkpoint, the file; `revision` changes when the files in it
    do, so that weights which were replaced on disk are loaded anew; `dtype` is "auto", "float32", "float16" or
    "bfloat16". `copy_on` names the accelerator of a second copy, which the manager loads while the first is in use on
    another one; nobody else asks for it.
    """

    task: str
    source: str
    revision: str
    dtype: str = AUTO_DTYPE
    copy_on: str = ""

    @property
    def name(self) -> str:
        """The folder's name, or its repository's in the Hub's cache; for messages."""
        return name_of(Path(self.source))


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be asked for by `id` within its `task`.

    `size_bytes` is the size on disk. `default_width` and `default_height` (pixels) are what a txt2img model was trained
    at, and every size must be a multiple of `size_multiple` (the VAE's factor); all three are 0 for other tasks.
    `guidance_scale` is what it draws best with. `problem` says why the model cannot be used; None for a good one.
    `languages` are the prompt languages its card names, empty when it names none. `hub` is True for what lies in the
    Hugging Face cache, `added` for what was named by its path. `family` is told for single-file checkpoints, whose
    `source` is the file. `kind` is what a txt2img model is made of and can do. `titles` are `title` in other languages.
    """

    id: str
    task: str
    title: str
    source: Path
    revision: str
    licence: str
    size_bytes: int
    bundled: bool
    default_width: int = 0
    default_height: int = 0
    size_multiple: int = 0
    guidance_scale: float = USUAL_GUIDANCE_SCALE
    languages: tuple[str, ...] = ()
    parameters: int | None = None
    problem: UserError | None = None
    hub: bool = False
    added: bool = False
    family: CheckpointFamily | None = None
    kind: PipelineKind = STABLE_DIFFUSION
    titles: Mapping[str, str] = field(default_factory=dict, hash=False)

    def title_in(self, language: str) -> str:
        """The title in the reader's language, or as the model's maker wrote it."""
        return self.titles.get(language, self.title)

    def key(self, dtype: str | None = None) -> ModelKey:
        """What to ask the manager for; raises the entry's problem if it has one."""
        if self.problem is not None:
            raise UserError(self.problem.key, **self.problem.values)
        return ModelKey(self.task, str(self.source), self.revision, dtype or AUTO_DTYPE)
