"""Why this score: gradient relevance over patches and words, and the deletion curve that says what it is worth.

Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability", eq. 5 and 6: with attention A and the gradient of
the score s to it, each layer adds Ā R to the relevance R (the identity at first), Ā = mean over heads of
(∂s/∂A ⊙ A)⁺. s is the cosine here; a positive factor such as exp(logit_scale) changes no ranking.

A relevance map is an illustration; the claim is the deletion curve: remove the most relevant patches first and the
score has to fall faster than when patches go in random order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.embed import Encoder, picture_inputs, prepare_picture, text_inputs
from webui.clip.similarity import Matrix
from webui.clip.tokens import TokenizedText, tokenize
from webui.clip.watch import UNWATCHED, Watch
from webui.clip.worked import pooled_position
from webui.errors import UserError
from webui.vision.pictures import PictureFile


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """`patches` (rows, columns), at least 0, of what the model saw; `pieces` the same for `tokens.pieces`.

    Only the order and the proportions mean something. `cosine` is the score that was explained.
    """

    name: str
    tokens: TokenizedText
    cosine: float
    patches: Matrix
    pieces: Matrix

    @property
    def left_share(self) -> float:
        """Share of the patches' relevance left of the middle; a middle column counts half. 0.5 when there is none."""
        rows = self.patches.sum(axis=0)
        half, middle = len(rows) // 2, len(rows) % 2
        left = rows[:half].sum() + (rows[half] / 2 if middle else 0.0)
        return float(left / rows.sum()) if rows.sum() > 0 else 0.5


@dataclass(frozen=True, slots=True, eq=False)
class DeletionCurve:
    """The cosine against the share of patches painted over.

    `shares` (S,) runs from 0 to 1; `relevant` (S,) has the most relevant patches removed first, `random` (R, S) is one
    row a random order. The areas are under the curves (trapezoids over shares 0..1), lower is better: the explanation
    holds when `relevant_area` is below `random_area`, the mean over the orders.
    """

    shares: Matrix
    relevant: Matrix
    random: Matrix

    @property
    def relevant_area(self) -> float:
        """Area under `relevant`."""
        return float(np.trapezoid(self.relevant, self.shares))

    @property
    def random_area(self) -> float:
        """Area under the mean of `random`."""
        return float(np.trapezoid(self.random.mean(axis=0), self.shares))

    @property
    def holds(self) -> bool:
        """Whether relevance found what the score rests on better than chance."""
        return self.relevant_area < self.random_area


def explain(encoder: Encoder, picture: PictureFile, text: str, last_layers: int | None = None) -> Relevance:
    """Relevance of the patches and words for the cosine of `picture` and `text`.

    Runs a forward and backward pass of its own over a twin of the model (`eager_twin`); the shared model is only read,
    so others may use it at the same time. `last_layers` counts the layers, from the last, that contribute; None is all.
    Raises UserError when the picture cannot be read, or the model pools its patches without a class token (SigLIP).
    """
    if encoder.is_siglip:
        raise UserError("error.relevance_needs_class_token", model=encoder.name)
    prepared = prepare_picture(encoder, picture)
    inputs = {**text_inputs(encoder, [text]), **picture_inputs(encoder, [prepared])}
    twin = eager_twin(encoder.model)
    for tower in (twin.vision_model, twin.text_model):  # the parameters are frozen, so gradients start here
        tower.embeddings.register_forward_hook(_start_gradient)
    with torch.inference_mode(False), torch.enable_grad():
        output = twin(**inputs, output_attentions=True)
        cosine = (output.image_embeds.float() * output.text_embeds.float()).sum()
        image_attentions = output.vision_model_output.attentions
        text_attentions = output.text_model_output.attentions
        gradients = torch.autograd.grad(cosine, (*image_attentions, *text_attentions))
    image = _accumulate(image_attentions, gradients[: len(image_attentions)], last_layers)
    words = _accumulate(text_attentions, gradients[len(image_attentions) :], last_layers)
    rows, columns = _grid(encoder)
    pooled = pooled_position(encoder, inputs["input_ids"][0])
    tokens = tokenize(encoder.tokenizer, text, encoder.text_limit)
    return Relevance(
        name=picture.name,
        tokens=tokens,
        cosine=float(cosine.detach()),
        patches=image[0, 1:].reshape(rows, columns),
        pieces=words[pooled, : len(tokens.pieces)],
    )


def deletion_curve(
    encoder: Encoder,
    picture: PictureFile,
    text: str,
    relevance: Matrix,
    *,
    steps: int = 16,
    random_orders: int = 4,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> DeletionCurve:
    """Paint patches over with the picture's median colour, `relevance` (rows, columns) first, and in random orders.

    At most `steps` + 1 points from nothing to everything removed.
    """
    rows, columns = relevance.shape
    count = rows * columns
    counts = np.unique(np.linspace(0, count, min(steps, count) + 1).round().astype(int))
    generator = np.random.default_rng(seed)
    orders = [np.argsort(-relevance.ravel(), kind="stable")]
    orders += [generator.permutation(count) for _ in range(random_orders)]
    pixel_values = picture_inputs(encoder, [prepare_picture(encoder, picture)])["pixel_values"][0]
    with torch.inference_mode():
        text_vector = encoder.model.get_text_features(**text_inputs(encoder, [text])).pooler_output[0].float()
        curves = np.empty((len(orders), len(counts)))
        for column, removed in enumerate(counts):
            watch.check()
            batch = torch.stack([_without(pixel_values, order[:removed], rows, columns) for order in orders])
            vectors = encoder.model.get_image_features(pixel_values=batch).pooler_output.float()
            curves[:, column] = torch.cosine_similarity(vectors, text_vector[None]).cpu().numpy()
            watch.progress(column + 1, len(counts), "phase.deletion_curve")
    return DeletionCurve(counts / count, curves[0], curves[1:])


def eager_twin(model: Any) -> Any:
    """A model of its own over the same weights, whose attention is computed in the open.

    Modules and configuration are copied, tensors are not: the twin costs no memory and the shared model keeps its fast
    attention. The twin's parameters need no gradient, so a backward pass through it leaves nothing in the shared ones.
    """
    shared: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = torch.nn.Parameter(parameter.detach(), requires_grad=False)
    twin = copy.deepcopy(model, shared)
    twin.set_attn_implementation("eager")
    return twin.eval()


def _start_gradient(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
    return output.requires_grad_()


def _accumulate(
    attentions: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], last_layers: int | None
) -> Matrix:
    """R after all layers, (tokens, tokens): attentions and their gradients are (1, heads, tokens, tokens) each."""
    first = 0 if last_layers is None else max(len(attentions) - last_layers, 0)
    relevance = torch.eye(attentions[0].shape[-1], dtype=torch.float64)
    for attention, gradient in zip(attentions[first:], gradients[first:], strict=True):
        layer = (gradient * attention)[0].clamp(min=0).mean(dim=0).double().cpu()
        relevance = relevance + layer @ relevance
    return cast(Matrix, relevance.detach().numpy())


def _without(pixel_values: torch.Tensor, removed: npt.NDArray[np.intp], rows: int, columns: int) -> torch.Tensor:
    """`pixel_values` (3, H, W) with the patches of these numbers painted in the median colour."""
    height, width = pixel_values.shape[1] // rows, pixel_values.shape[2] // columns
    median = pixel_values.flatten(1).median(dim=1).values
    painted = pixel_values.clone()
    for number in removed:
        top, left = int(number) // columns * height, int(number) % columns * width
        painted[:, top : top + height, left : left + width] = median[:, None, None]
    return painted


def _grid(encoder: Encoder) -> tuple[int, int]:
    """(rows, columns) of patches."""
    vision = encoder.model.config.vision_config
    side = int(vision.image_size) // int(vision.patch_size)
    return side, side
