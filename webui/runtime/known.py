"""Models that people ask for by name: what `catalog.toml` says of each, typed. Nothing here is on this machine yet."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from webui.runtime.entries import TXT2IMG
from webui.runtime.pipelines import PIPELINES

_FILE: Final = "catalog.toml"


class Ability(StrEnum):
    """What a model can do, in a word; the values end message keys of views."""

    DRAWS_512 = "draws_512"
    DRAWS_768 = "draws_768"
    DRAWS_1024 = "draws_1024"
    FEW_STEPS = "few_steps"
    WORD_MAPS = "word_maps"
    SCORES = "scores"
    READS_FOR_SD1 = "reads_for_sd1"
    NAMES_IMAGENET = "names_imagenet"
    SHORTENS = "shortens"
    FOLLOWS_INSTRUCTIONS = "follows_instructions"
    TRANSLATES = "translates"
    REPAIRS = "repairs"


class KnownModel(BaseModel):
    """A model of the Hugging Face Hub that is worth knowing. What its card does not say is empty or None.

    `download_bytes` is what a download takes, `memory_bytes` the weights in float32; `commercial_use` is how its
    licence stands to that. `pipeline` is the diffusers class of a txt2img model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    task: Literal["txt2img", "clip", "vit", "t5", "bart"]
    title: str
    family: str
    pipeline: str = ""
    licence: str = ""
    commercial_use: Literal["allowed", "limited", "not_allowed"] | None = None
    download_bytes: int | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    languages: tuple[str, ...] = ()
    abilities: tuple[Ability, ...] = ()
    sources: tuple[str, ...] = Field(min_length=1)

    @property
    def loadable(self) -> bool:
        """Whether this version can load it: other pipelines are listed for what is known of them, not offered."""
        return self.task != TXT2IMG or self.pipeline in PIPELINES


def known_models() -> tuple[KnownModel, ...]:
    """The entries of `catalog.toml`, in its order; raises ValueError for a file that breaks its own rules."""
    table = tomllib.loads(files("webui.runtime").joinpath(_FILE).read_text(encoding="utf-8"))
    models = TypeAdapter(tuple[KnownModel, ...]).validate_python(table["model"])
    if len({model.id for model in models}) != len(models):
        raise ValueError(f"{_FILE} names a model twice")
    return models
