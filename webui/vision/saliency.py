"""Where a Vision Transformer's answer comes from: attention rollout, gradient relevance, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.similarity import Matrix
from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.vision.deletion import DeletionCurve, measure_deletion
from webui.vision.pictures import PictureFile
from webui.vision.twin import eager_twin, gradient_relevance, start_gradient
from webui.vision.vit import Classifier, pixel_batch, prepare, probabilities

Fusion = Literal["mean", "min", "max"]


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedClass:
    """Why one label has its probability: `relevance` (rows, columns) by gradients, `rollout` the same without a label.

    `curve` has the relevance first, random orders, and the rollout as its only other map; its score is the probability.
    """

    label: int
    probability: float
    relevance: Matrix
    rollout: Matrix
    curve: DeletionCurve


def rollout(attentions: npt.NDArray[np.floating], fusion: Fusion = "mean") -> Matrix:
    """(tokens, tokens) float64 from (layers, heads, tokens, tokens): how much of each input reaches each output token.

    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers": Â = (A + I) / 2 for the residual connection,
    A the heads' mean (or min, max, whose rows are scaled back to 1), multiplied from the last layer to the first. Rows
    sum to 1. It knows no label: the same for every class.
    """
    layers = np.asarray(attentions, np.float64)
    fused: Matrix = getattr(layers, fusion)(axis=1)
    tokens = fused.shape[-1]
    rolled = np.eye(tokens)
    for layer in fused:
        mixed = layer + np.eye(tokens)
        rolled = (mixed / mixed.sum(axis=-1, keepdims=True)) @ rolled
    return cast(Matrix, rolled)


def explain_class(
    classifier: Classifier,
    picture: PictureFile,
    label: int | None = None,
    *,
    steps: int = 16,
    random_orders: int = 4,
    watch: Watch = UNWATCHED,
) -> ExplainedClass:
    """Relevance of the patches for `label` (None: the likeliest), with the deletion check over its probability.

    One forward and backward pass over a twin of the model. Raises UserError for a label that there is not.
    """
    prepared = prepare(classifier, picture)
    batch = pixel_batch(classifier, [prepared])
    before = probabilities(classifier, batch)[0]
    chosen = int(before.argmax()) if label is None else label
    if not 0 <= chosen < len(before):
        raise UserError("error.no_such_label", value=chosen, count=len(before))
    twin = eager_twin(classifier.model)
    twin.vit.embeddings.register_forward_hook(start_gradient)
    with torch.inference_mode(False), torch.enable_grad():
        output = twin(pixel_values=batch.clone(), output_attentions=True)
        gradients = torch.autograd.grad(output.logits[0, chosen].float(), output.attentions)
    shape = (classifier.grid.rows, classifier.grid.columns)
    relevance = gradient_relevance(output.attentions, gradients)[0, 1:].reshape(shape)
    weights = np.stack([layer[0].detach().float().cpu().numpy() for layer in output.attentions])
    rolled = rollout(weights)[0, 1:].reshape(shape)
    del output, gradients

    def score(pixel_values: torch.Tensor) -> Any:
        return probabilities(classifier, pixel_values)[:, chosen]

    curve = measure_deletion(
        score, batch[0], relevance, others=[rolled], steps=steps, random_orders=random_orders, watch=watch
    )
    return ExplainedClass(chosen, float(before[chosen]), relevance, rolled, curve)
