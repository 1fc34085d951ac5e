"""What a trace says of a run beside its arrays; the bounds of every field are checked when a file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from webui.diffusion.request import GenerateRequest

TokenKind = Literal["start", "word", "end", "padding"]
_Text = Annotated[str, Field(max_length=4096)]
_Count = Annotated[int, Field(ge=0, le=100_000)]
_Side = Annotated[int, Field(ge=1, le=8192)]


@dataclass(frozen=True, slots=True)
class TraceToken:
    """One row of the attention maps.

    `text` are the letters it stands for, "" for the start, end and padding tokens. `first` is its position among the
    text encoder's and `positions` how many it sums: 1, but for padding, whose row sums them all. `word` counts
    `TraceHeader.words`, None for a token that belongs to none.
    """

    text: _Text
    kind: TokenKind
    first: _Count
    positions: _Count
    word: _Count | None


@dataclass(frozen=True, slots=True)
class TraceLayer:
    """One cross-attention layer of the U-Net, in the order in which they compute; `height` x `width` queries."""

    name: _Text
    heads: Annotated[int, Field(ge=1, le=1024)]
    height: _Side
    width: _Side


@dataclass(frozen=True, slots=True)
class TraceLevel:
    """One resolution of the U-Net, whose `layers` layers are averaged into one map.

    `height` x `width` is what they compute at; the map of each step is kept at `step_height` x `step_width`, which is
    smaller where a long prompt would make the file too large. The mean over the run is always kept in full.
    """

    height: _Side
    width: _Side
    layers: Annotated[int, Field(ge=1, le=1024)]
    step_height: _Side
    step_width: _Side


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One call of the U-Net or transformer. `step` counts the requested steps from 1.

    `order` is 1 for a step's first call and 2 for a second: the second half of Heun and DPM2, and PLMS's repeat of
    its first step. `sigma` is the noise level sqrt((1 - a) / a) of x_t, so a = 1 / (sigma^2 + 1); in "flow" space it
    is the share of the noise, 0..1.
    """

    step: _Count
    order: Annotated[int, Field(ge=1, le=2)]
    timestep: FiniteFloat
    sigma: Annotated[FiniteFloat, Field(ge=0)]

    @property
    def alpha_cumprod(self) -> float:
        """The share a of the signal's variance in x_t, 0..1; without meaning in "flow" space."""
        return 1 / (self.sigma**2 + 1)


@dataclass(frozen=True, slots=True)
class TraceShapes:
    """The model's true sizes.

    `positions` tokens of `embedding` numbers; latents (`channels`, `latent_height`, `latent_width`); the picture is
    `height` x `width` pixels.
    """

    positions: Annotated[int, Field(ge=1, le=4096)]
    embedding: Annotated[int, Field(ge=1, le=65536)]
    channels: Annotated[int, Field(ge=1, le=64)]
    latent_height: _Side
    latent_width: _Side
    height: _Side
    width: _Side


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """Everything about the run that is no array.

    `seed` is this picture's own. `space` is the sampler's scaling of x_t: "alpha" is x = sqrt(a) x0 + sqrt(1 - a) eps,
    "sigma" is x = x0 + sigma eps, "flow" is x = (1 - sigma) x0 + sigma eps. `prediction_type` says what `Trace.cond`
    and `uncond` hold: "epsilon", "v_prediction" (v = sqrt(a) eps - sqrt(1 - a) x0), or "flow", the velocity eps - x0.
    `planned_calls` is how many calls the whole run makes; `stopped` means that it ended before. `cut_text` is the end
    of the prompt that the model did not see. `r_squared` belongs to `Trace.latent_rgb`. Without cross-attention
    `words`, `layers` and `levels` are empty. `guidance` "embedded" says that the scale was an input of the model, which
    then has no unconditional half. `encoders` names the kinds of text encoders.
    """

    request: GenerateRequest
    seed: Annotated[int, Field(ge=0)]
    model_title: _Text
    space: Literal["alpha", "sigma", "flow"]
    prediction_type: Literal["epsilon", "v_prediction", "flow"]
    tokens: Annotated[tuple[TraceToken, ...], Field(min_length=1, max_length=1024)]
    words: Annotated[tuple[_Text, ...], Field(max_length=1024)]
    cut_text: _Text
    steps: Annotated[tuple[TraceStep, ...], Field(min_length=1, max_length=2048)]
    planned_calls: _Count
    stopped: bool
    layers: Annotated[tuple[TraceLayer, ...], Field(max_length=1024)]
    levels: Annotated[tuple[TraceLevel, ...], Field(max_length=16)]
    shapes: TraceShapes
    r_squared: FiniteFloat
    versions: Mapping[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=64)]]
    denoiser: Literal["unet", "transformer"] = "unet"
    guidance: Literal["classifier_free", "embedded"] = "classifier_free"
    encoders: Annotated[tuple[Annotated[str, Field(max_length=16)], ...], Field(max_length=8)] = ("CLIP",)

    def rows_of_word(self, word: int) -> tuple[int, ...]:
        """The rows of the maps that belong to word number `word`."""
        return tuple(row for row, token in enumerate(self.tokens) if token.word == word)

    def rows_of_kind(self, kind: TokenKind) -> tuple[int, ...]:
        """The rows of one kind of token."""
        return tuple(row for row, token in enumerate(self.tokens) if token.kind == kind)

    def holds_together(self) -> bool:
        """Whether the parts fit each other; each of them is in its own bounds already."""
        words = len(self.words)
        flow = self.space == "flow"
        return (
            all(token.word is None or token.word < words for token in self.tokens)
            and all(level.step_height <= level.height and level.step_width <= level.width for level in self.levels)
            and bool(self.levels) == bool(self.layers)
            and (bool(self.levels) or not words)
            and flow == (self.prediction_type == "flow")
            and not (flow and any(step.sigma > 1 for step in self.steps))
        )
