"""Muon for the matrices, AdamW for the rest.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by the nearest
orthogonal matrix. For small networks at a fixed time budget it learns clearly more a second than AdamW alone.
`torch.optim.Muon` works in bfloat16, which most CPUs can only emulate: for T5's 128x128 matrices that took two thirds
of a step. Here it is float32 there, and matrices of one shape are made orthogonal together.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of Muon's author: steep at 0, so five steps are enough
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for weights of two or more dimensions.

    A convolution's kernel (out, in, height, width) counts as the matrix (out, in * height * width). Updates have
    AdamW's size (0.2 a number, root mean square), so that both can share a learning rate (Liu et al. 2025,
    https://arxiv.org/abs/2502.16982).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure is ever used here
        """Update the weights that have a gradient."""
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for parameter, moved in zip(trained, self._momentum(trained, group["momentum"]), strict=True):
                matrix = moved.flatten(1)
                alike[matrix.shape].append((parameter, matrix))
            torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            for (rows, columns), pairs in alike.items():
                rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                updates = rate * orthogonalise(torch.stack([matrix for _, matrix in pairs]))
                parameters = [parameter for parameter, _ in pairs]
                torch._foreach_sub_(parameters, [u.view_as(p) for u, p in zip(updates, parameters, strict=True)])

    def _momentum(self, parameters: list[nn.Parameter], momentum: float) -> Sequence[Tensor]:
        if not parameters:
            return ()
        gradients = [parameter.grad for parameter in parameters]
        averages = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return torch._foreach_lerp(gradients, averages, momentum)  # noqa: SLF001


def orthogonalise(matrices: Tensor) -> Tensor:
    """(batch, rows, columns) -> about the nearest matrices with singular values 1 (0.7 to 1.2, which is enough)."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW:
    """Steps `Muon` over weights of two or more dimensions and `torch.optim.AdamW` over everything else.

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
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            at_the_edge = any(layer in name.split(".") for layer in adamw_layers)
            of_adamw = parameter.ndim < 2 or at_the_edge or id(parameter) in embeddings
            (others if of_adamw else matrices).append(parameter)
        self._muon = Muon(matrices, lr=learning_rate, weight_decay=weight_decay)
        self._adamw = torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def set_learning_rate(self, rate: float) -> None:
        """For both optimizers."""
        for group in (*self._muon.param_groups, *self._adamw.param_groups):
            group["lr"] = rate

    def step(self) -> None:
        """Update the weights from their gradients."""
        self._muon.step()
        self._adamw.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._muon.zero_grad()
        self._adamw.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])
