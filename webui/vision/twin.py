"""A second model over the same weights, whose attention can be read and differentiated while others use the first.

The fast attention of the shared model gives no weights out, and switching it would change it for everybody.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch

from webui.clip.similarity import Matrix


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


def start_gradient(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
    """A forward hook for a twin's embeddings: its parameters are frozen, so gradients start here."""
    return output.requires_grad_()


def gradient_relevance(
    attentions: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], last_layers: int | None = None
) -> Matrix:
    """R after all layers, (tokens, tokens): attentions and their gradients are (1, heads, tokens, tokens) each.

    Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability", eq. 5 and 6: each layer adds Ā R to R (the
    identity at first), Ā = mean over heads of (∂s/∂A ⊙ A)⁺. `last_layers` counts the layers, from the last, that
    contribute; None is all.
    """
    first = 0 if last_layers is None else max(len(attentions) - last_layers, 0)
    relevance = torch.eye(attentions[0].shape[-1], dtype=torch.float64)
    for attention, gradient in zip(attentions[first:], gradients[first:], strict=True):
        layer = (gradient * attention)[0].clamp(min=0).mean(dim=0).double().cpu()
        relevance = relevance + layer @ relevance
    return cast(Matrix, relevance.detach().numpy())
