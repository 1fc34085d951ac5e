"""From vectors to the figures people compare: cosine, logit, and what a softmax or a sigmoid makes of it.

The four are kept apart because they answer different questions. The cosine is a property of one picture and one text.
The logit is the cosine times the model's learned scale. A softmax over the texts says which of *these* texts suits a
picture best, a softmax over the pictures which of *these* pictures suits a text best: both change when the others do.
SigLIP (Zhai et al. 2023) was trained with a sigmoid a pair instead, so its probabilities do not sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
HeadKind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class ScoreHead:
    """What a model does with a cosine: logit = `scale` x cosine + `bias`; then softmax (CLIP) or sigmoid (SigLIP).

    `scale` is exp(logit_scale), the inverse of the temperature; `bias` is 0 for CLIP.
    """

    kind: HeadKind
    scale: float
    bias: float = 0.0

    @property
    def temperature(self) -> float:
        """What the cosine is divided by."""
        return 1.0 / self.scale


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityMatrix:
    """Every picture against every text: matrices (pictures, texts), float64.

    A softmax head fills `softmax_texts` (each row sums to 1) and `softmax_pictures` (each column sums to 1) and leaves
    `sigmoid` None; a sigmoid head the other way round.
    """

    head: ScoreHead
    cosine: Matrix
    logit: Matrix
    softmax_texts: Matrix | None
    softmax_pictures: Matrix | None
    sigmoid: Matrix | None

    @property
    def measures(self) -> dict[str, Matrix]:
        """The matrices that this head has, by name, in the order they are shown."""
        named = {name: getattr(self, name) for name in MEASURES}
        return {name: values for name, values in named.items() if values is not None}


MEASURES = ("cosine", "logit", "softmax_texts", "softmax_pictures", "sigmoid")


def similarity(pictures: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], head: ScoreHead) -> SimilarityMatrix:
    """Score picture vectors (P, D) against text vectors (T, D), neither normalised.

    Computed in float64, so `logit` equals the model's own float32 `logits_per_image` up to float32 rounding.
    """
    cosine = unit(pictures) @ unit(texts).T
    logit = head.scale * cosine + head.bias
    if head.kind == "sigmoid":
        return SimilarityMatrix(head, cosine, logit, None, None, sigmoid(logit))
    return SimilarityMatrix(head, cosine, logit, softmax(logit, axis=1), softmax(logit, axis=0), None)


def unit(vectors: npt.NDArray[np.floating]) -> Matrix:
    """Rows scaled to length 1, float64. A row of zeros, which has no direction, raises ValueError."""
    values = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    if (norms == 0).any():
        raise ValueError("a vector of zeros has no direction, so no cosine")
    return cast(Matrix, values / norms)


def softmax(logits: Matrix, axis: int) -> Matrix:
    """exp(x) / sum(exp(x)) along `axis`, safe for large logits."""
    if not logits.size:
        return logits
    exponentials = np.exp(logits - logits.max(axis=axis, keepdims=True))
    scaled: Matrix = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return scaled


def sigmoid(logits: Matrix) -> Matrix:
    """1 / (1 + exp(-x)), safe for large logits of either sign."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def ranking(values: Matrix, axis: int) -> npt.NDArray[np.intp]:
    """Indices from best to worst along `axis`; equal values keep their order."""
    return np.argsort(-values, axis=axis, kind="stable")
