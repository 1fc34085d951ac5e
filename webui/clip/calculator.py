"""The cosine of small vectors with every number in between: the tutorial's four-dimensional example.

Plain Python, so that each line can be read beside the tutorial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from webui.errors import UserError

MAX_VECTORS: Final = 20
MAX_COMPONENTS: Final = 16


@dataclass(frozen=True, slots=True)
class NamedVector:
    """A vector and what it stands for."""

    name: str
    components: tuple[float, ...]


TUTORIAL_PICTURE: Final = NamedVector("cat picture", (0.2, 0.7, 0.1, 0.9))
TUTORIAL_TEXTS: Final = (
    NamedVector("cat", (0.2, 0.7, 0.1, 0.9)),
    NamedVector("dog", (0.3, 0.6, 0.2, 0.8)),
    NamedVector("car", (0.9, 0.1, 0.4, 0.2)),
)


@dataclass(frozen=True, slots=True)
class CosineSteps:
    """`products` are a_i * b_i, `dot` their sum; `squares` are b_i ** 2 and `norm` the root of their sum.

    `norm_product` is ‖a‖‖b‖ and `cosine` the division; None when a vector is all zeros: it has no direction. `rank`
    counts from 1, the largest cosine; None with it.
    """

    name: str
    components: tuple[float, ...]
    products: tuple[float, ...]
    dot: float
    squares: tuple[float, ...]
    norm: float
    norm_product: float
    cosine: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Calculation:
    """The picture vector with its squares and norm, and the steps for each text in the order given."""

    picture: NamedVector
    picture_squares: tuple[float, ...]
    picture_norm: float
    texts: tuple[CosineSteps, ...]

    @property
    def zero_vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are all zeros."""
        zeros = [self.picture.name] if self.picture_norm == 0 else []
        return tuple(zeros + [steps.name for steps in self.texts if steps.norm == 0])


def calculate(picture: NamedVector, texts: Sequence[NamedVector]) -> Calculation:
    """Work out every cosine. Raises UserError for vectors of different lengths or values that are not finite."""
    _check(picture, texts)
    picture_squares = tuple(a * a for a in picture.components)
    picture_norm = _norm(picture.components)
    unranked = [_steps(picture, picture_norm, text) for text in texts]
    cosines = sorted((steps.cosine for steps in unranked if steps.cosine is not None), reverse=True)
    ranked = tuple(
        replace(steps, rank=None if steps.cosine is None else cosines.index(steps.cosine) + 1) for steps in unranked
    )
    return Calculation(picture, picture_squares, picture_norm, ranked)


def _steps(picture: NamedVector, picture_norm: float, text: NamedVector) -> CosineSteps:
    products = tuple(a * b for a, b in zip(picture.components, text.components, strict=True))
    norm = _norm(text.components)
    dot, norm_product = math.fsum(products), picture_norm * norm
    squares = tuple(b * b for b in text.components)
    cosine = None
    if picture_norm and norm:  # divided one after the other: their product may underflow to 0
        cosine = min(1.0, max(-1.0, math.fsum(a / picture_norm * (b / norm) for a, b in _pairs(picture, text))))
    return CosineSteps(text.name, text.components, products, dot, squares, norm, norm_product, cosine, None)


def _pairs(picture: NamedVector, text: NamedVector) -> zip[tuple[float, float]]:
    return zip(picture.components, text.components, strict=True)


def _norm(components: Sequence[float]) -> float:
    return math.hypot(*components)


def _check(picture: NamedVector, texts: Sequence[NamedVector]) -> None:
    length = len(picture.components)
    if not 1 <= length <= MAX_COMPONENTS:
        raise UserError("error.vector_length", length=length, high=MAX_COMPONENTS)
    if len(texts) > MAX_VECTORS:
        raise UserError("error.too_many_vectors", count=len(texts), limit=MAX_VECTORS)
    for vector in (picture, *texts):
        if len(vector.components) != length:
            raise UserError(
                "error.vector_lengths_differ", name=vector.name, length=len(vector.components), expected=length
            )
        if not all(math.isfinite(component) and abs(component) <= 1e6 for component in vector.components):
            raise UserError("error.vector_not_finite", name=vector.name)
