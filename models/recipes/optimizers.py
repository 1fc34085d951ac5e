"""Muon for the matrices, AdamW for the rest.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by the nearest
orthogonal matrix. For small networks at a fixed time budget it learns clearly more a second than AdamW alone.
`torch.optim.Muon` takes matrices only, so a convolution's kernel (out, in, height, width) is shown to it as the matrix
(out, in * height * width), which shares its memory.
"""

from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW:
    """Steps `torch.optim.Muon` over weights of two or more dimensions and `torch.optim.AdamW` over everything else.

    Embeddings, and layers named in `adamw_layers` (usually the first and the last), stay with AdamW, as Muon's author
    advises.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        adamw_layers: tuple[str, ...] = ("conv_in", "conv_out"),
    ) -> None:
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        self._kernels: list[tuple[nn.Parameter, nn.Parameter]] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            at_the_edge = any(layer in name.split(".") for layer in adamw_layers)
            if parameter.ndim < 2 or at_the_edge or id(parameter) in embeddings:
                others.append(parameter)
            else:
                self._kernels.append((parameter, nn.Parameter(_as_matrix(parameter.detach()))))
        matrices = [matrix for _, matrix in self._kernels]
        self._muon = torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def set_learning_rate(self, rate: float) -> None:
        """For both optimizers: Muon's updates are scaled to AdamW's size (`match_rms_adamw`)."""
        for group in (*self._muon.param_groups, *self._adamw.param_groups):
            group["lr"] = rate

    def step(self) -> None:
        """Update the weights from their gradients."""
        for parameter, matrix in self._kernels:
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad)
        self._muon.step()
        self._adamw.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad()
        for parameter, matrix in self._kernels:
            parameter.grad = matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _as_matrix(weight: Tensor) -> Tensor:
    """(out, ...) -> (out, rest); a view, so that a step on the matrix is a step on the weight."""
    return weight.view(weight.shape[0], -1)
