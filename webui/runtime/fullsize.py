"""The configurations of well-known models, as data: to build one at full size with random weights, without a download.

Read from `fullsize.json`; the values are those of the `config.json` files that each model's Hub repository publishes.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_FILE: Final = "fullsize.json"


class FullSizePart(BaseModel):
    """One module with weights: its class in diffusers or transformers, that class's configuration, its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_name: str = Field(alias="class")
    parameters: int = Field(gt=0)
    config: dict[str, Any]


class FullSizeScheduler(BaseModel):
    """The scheduler of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_name: str = Field(alias="class")
    config: dict[str, Any]


class FullSizeModel(BaseModel):
    """A whole model. `like` is the Hub repository whose configuration it has.

    `parts` and `tokenizers` are by the subfolder that they lie in, "" for the model's own folder; `pipeline` is the
    diffusers class of a txt2img model; `processor` is what `preprocessor_config.json` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    like: str
    task: Literal["txt2img", "clip", "vit", "t5", "bart"]
    parts: dict[str, FullSizePart]
    pipeline: str = ""
    tokenizers: dict[str, Literal["clip", "t5", "bart"]] = {}
    scheduler: FullSizeScheduler | None = None
    processor: dict[str, Any] | None = None

    @property
    def parameters(self) -> int:
        """Of all parts together."""
        return sum(part.parameters for part in self.parts.values())


def full_size_models() -> dict[str, FullSizeModel]:
    """Every configuration by its short name, in the file's order."""
    text = files("webui.runtime").joinpath(_FILE).read_text(encoding="utf-8")
    return TypeAdapter(dict[str, FullSizeModel]).validate_json(text)
