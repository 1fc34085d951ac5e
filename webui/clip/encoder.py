"""A loaded model that scores pictures against texts, and what is asked of it everywhere."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from webui.clip.cache import EmbeddingCache
from webui.clip.preprocess import PreprocessPlan, plan_for
from webui.clip.similarity import ScoreHead
from webui.clip.tokens import token_limit
from webui.vision.pictures import PictureLimits


class ClipLike(Protocol):
    """A loaded model and its processor: what the model manager leases for the task "clip"."""

    @property
    def model(self) -> Any:
        """A CLIPModel, SiglipModel or Siglip2Model in eval mode."""

    @property
    def processor(self) -> Any:
        """Its `tokenizer` and `image_processor`."""


@dataclass(frozen=True, slots=True)
class ClipParts:
    """A CLIPModel or SiglipModel in eval mode with its processor, for those who loaded them themselves."""

    model: Any
    processor: Any


@dataclass(frozen=True)
class Encoder:
    """A loaded CLIP or SigLIP and where its vectors are kept.

    `identity` names the weights with revision and dtype; two models must never share one, or the cache mixes their
    vectors. `title` is what people call the model (`identity` without one). `draft` lets JPEGs be decoded at a reduced
    size (faster, the vectors drift a little). `batch_size` counts pictures in one forward pass (four times as many
    texts); `threads` decode pictures beside the model.
    """

    clip: ClipLike
    identity: str
    cache: EmbeddingCache = field(default_factory=EmbeddingCache)
    title: str | None = None
    draft: bool = False
    batch_size: int = 16
    threads: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    limits: PictureLimits = field(default_factory=PictureLimits)

    @property
    def model(self) -> Any:
        """The model itself."""
        return self.clip.model

    @property
    def name(self) -> str:
        """What the model is called in results and messages."""
        return self.title or self.identity

    @property
    def tokenizer(self) -> Any:
        """What cuts texts into pieces."""
        return self.clip.processor.tokenizer

    @property
    def is_siglip(self) -> bool:
        """Whether pooling and padding follow SigLIP rather than CLIP."""
        return str(self.model.config.model_type).startswith("siglip")

    @cached_property
    def text_limit(self) -> int:
        """How many tokens a text may have, start and end included."""
        return token_limit(self.model.config)

    @cached_property
    def plan(self) -> PreprocessPlan | None:
        """How a picture is prepared, or None when only the model's own image processor knows."""
        try:
            return plan_for(self.clip.processor.image_processor, self.draft)
        except ValueError:
            return None

    @property
    def head(self) -> ScoreHead:
        """What turns a cosine into this model's score."""
        bias = getattr(self.model, "logit_bias", None)
        scale = float(self.model.logit_scale.detach().double().exp())
        return ScoreHead("softmax", scale) if bias is None else ScoreHead("sigmoid", scale, float(bias.detach()))

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)
