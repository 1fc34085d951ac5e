"""The diffusers pipelines that can be loaded, as a table of what each is made of and what it can do; needs no torch.

A class is known to the loader by its entry here, and everything that asks before a model is loaded (which samplers, a
negative prompt, word maps?) asks this table. What is loaded is asked itself: `diffusion.capabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

_CLIP_TEXT: Final = ("transformers", r"CLIPTextModel")
_CLIP_PROJECTED: Final = ("transformers", r"CLIPTextModelWithProjection")
_T5_TEXT: Final = ("transformers", r"T5EncoderModel")
_CLIP_TOKENS: Final = ("transformers", r"CLIPTokenizer(Fast)?")
_T5_TOKENS: Final = ("transformers", r"T5Tokenizer(Fast)?")
_UNET: Final = ("diffusers", r"UNet2DConditionModel")
_VAE: Final = ("diffusers", r"AutoencoderKL")
_PIXART: Final = ("diffusers", r"(PixArt)?Transformer2DModel")  # by its class's name before diffusers 0.29, too
_SCHEDULER: Final = ("diffusers", r"[A-Z]\w*Scheduler")
_LCM_SCHEDULER: Final = ("diffusers", r"LCMScheduler")
_FLOW_SCHEDULER: Final = ("diffusers", r"FlowMatchEulerDiscreteScheduler")

Training = Literal["noise", "flow", "consistency"]
Half = Literal["float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class PipelineKind:
    """One pipeline class.

    `parts` are library and class (a regular expression) of everything it is made of, in the order of use; `optional`
    are those that may be left out. `training` says what it learned: to predict noise (or v), by flow matching, or as a
    consistency model, which was distilled to draw in few steps, at most `max_steps`. `embedded_guidance` says that the
    guidance scale is an input of the model, so that there is no negative prompt. `patch` is how many latent cells a
    side the denoiser takes together. `guidance_scale` is what it is drawn with where the model names none.
    `counted` is the tokenizer whose window a prompt has to fit into, and that window's tokens. `windows` are the
    tokenizers whose tokens a transformer reads as its rows of text, and how many rows each of them fills. `half` is the
    16-bit dtype that it computes well in: a T5's values are too large for float16. `lowercase` says that it makes small
    letters of a prompt's, and `options` are what it is called with beside the usual.
    """

    name: str
    parts: Mapping[str, tuple[str, str]]
    optional: frozenset[str] = frozenset()
    training: Training = "noise"
    embedded_guidance: bool = False
    patch: int = 1
    guidance_scale: float = 7.0
    counted: tuple[str, int] = ("tokenizer", 77)
    windows: tuple[tuple[str, int], ...] = (("tokenizer", 77),)
    max_steps: int | None = None
    half: Half = "float16"
    lowercase: bool = False
    options: Mapping[str, bool] = field(default_factory=dict)

    @property
    def flow(self) -> bool:
        """Whether flow matching trained it."""
        return self.training == "flow"

    @property
    def weights(self) -> tuple[str, ...]:
        """The parts that have weights, in the order of use."""
        return tuple(name for name in self.parts if name != "scheduler" and not name.startswith("tokenizer"))

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The parts that cut a prompt into tokens."""
        return tuple(name for name in self.parts if name.startswith("tokenizer"))

    def reads_with_t5(self, tokenizer: str) -> bool:
        """Whether the part of that name is a T5's tokenizer; else it is CLIP's."""
        return self.parts[tokenizer][1].startswith("T5")

    @property
    def weighs_words(self) -> bool:
        """Whether the denoiser reads vectors of CLIP's, on which the weights of a prompt's words are put."""
        return any(name in self.parts and not self.reads_with_t5(name) for name, _ in self.windows)

    @property
    def denoiser(self) -> str:
        """The part that predicts noise or velocity: "unet" or "transformer"."""
        return "unet" if "unet" in self.parts else "transformer"

    @property
    def word_maps(self) -> bool:
        """Whether the text enters through a U-Net's cross-attention, whose maps say where each word was looked for.

        A multimodal transformer (Esser et al. 2024) has text and picture attend to all of both at once instead; the
        cross-attention of PixArt's is not recorded.
        """
        return self.denoiser == "unet"


_KINDS: Final = (
    PipelineKind(
        "StableDiffusionPipeline",
        {"text_encoder": _CLIP_TEXT, "tokenizer": _CLIP_TOKENS, "unet": _UNET, "vae": _VAE, "scheduler": _SCHEDULER},
    ),
    PipelineKind(
        "StableDiffusionXLPipeline",
        {
            "text_encoder": _CLIP_TEXT,
            "text_encoder_2": _CLIP_PROJECTED,
            "tokenizer": _CLIP_TOKENS,
            "tokenizer_2": _CLIP_TOKENS,
            "unet": _UNET,
            "vae": _VAE,
            "scheduler": _SCHEDULER,
        },
        guidance_scale=5.0,
    ),
    PipelineKind(
        "StableDiffusion3Pipeline",
        {
            "text_encoder": _CLIP_PROJECTED,
            "text_encoder_2": _CLIP_PROJECTED,
            "text_encoder_3": _T5_TEXT,
            "tokenizer": _CLIP_TOKENS,
            "tokenizer_2": _CLIP_TOKENS,
            "tokenizer_3": _T5_TOKENS,
            "transformer": ("diffusers", r"SD3Transformer2DModel"),
            "vae": _VAE,
            "scheduler": _FLOW_SCHEDULER,
        },
        optional=frozenset({"text_encoder_3", "tokenizer_3"}),
        training="flow",
        half="bfloat16",
        patch=2,
        counted=("tokenizer_3", 256),
        windows=(("tokenizer", 77), ("tokenizer_3", 256)),
    ),
    PipelineKind(
        "FluxPipeline",
        {
            "text_encoder": _CLIP_TEXT,
            "text_encoder_2": _T5_TEXT,
            "tokenizer": _CLIP_TOKENS,
            "tokenizer_2": _T5_TOKENS,
            "transformer": ("diffusers", r"FluxTransformer2DModel"),
            "vae": _VAE,
            "scheduler": _FLOW_SCHEDULER,
        },
        training="flow",
        half="bfloat16",
        embedded_guidance=True,
        patch=2,
        guidance_scale=3.5,
        counted=("tokenizer_2", 512),
        windows=(("tokenizer_2", 512),),
    ),
    PipelineKind(
        "LatentConsistencyModelPipeline",
        {
            "text_encoder": _CLIP_TEXT,
            "tokenizer": _CLIP_TOKENS,
            "unet": _UNET,
            "vae": _VAE,
            "scheduler": _LCM_SCHEDULER,
        },
        training="consistency",
        embedded_guidance=True,
        guidance_scale=8.0,
        max_steps=50,
    ),
    PipelineKind(
        "PixArtSigmaPipeline",
        {
            "text_encoder": _T5_TEXT,
            "tokenizer": _T5_TOKENS,
            "transformer": _PIXART,
            "vae": _VAE,
            "scheduler": _SCHEDULER,
        },
        half="bfloat16",
        patch=2,
        guidance_scale=4.5,
        counted=("tokenizer", 300),
        windows=(("tokenizer", 300),),
        lowercase=True,
        # Else it draws at the nearest of its training's sizes and scales the picture, and takes words out of the prompt
        # where two libraries happen to be installed.
        options={"use_resolution_binning": False, "clean_caption": False},
    ),
)

STABLE_DIFFUSION: Final = _KINDS[0]
"""Stable Diffusion 1.x and 2.x, and everything of their shape."""

STABLE_DIFFUSION_XL: Final = _KINDS[1]
"""SDXL's base model, and everything of its shape."""

PIPELINES: Final[Mapping[str, PipelineKind]] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""The pipelines by class name."""
