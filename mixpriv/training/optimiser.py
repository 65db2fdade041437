"""Muon for the convolutions, AdamW for the rest: on the same examples losses fall faster than with AdamW alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MIN_RANK = 16
"""Weights with fewer rows or columns than this are left to AdamW."""

HEADS = ("head.", "output_block.")
"""Last layers, by a part of their name: left to AdamW, which moves them five times as fast; else all wait for them."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, each convolution's weight taken as a matrix (out, in x kernel).

    The update's root mean square is that of AdamW, so that both take one learning rate. ``torch.optim.Muon`` takes
    matrices only and computes in bfloat16, which is slow on CPUs without it. Source: Jordan et al., "Muon: an optimizer
    for hidden layers in neural networks", 2024; scaling after Liu et al., arXiv 2502.16982.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["momentum"])

    def _update(self, parameter: Tensor, rate: float, momentum: float) -> None:
        state: dict[str, Any] = self.state[parameter]
        velocity = state.setdefault("velocity", torch.zeros_like(parameter))
        velocity.mul_(momentum).add_(parameter.grad)
        update = orthogonal((parameter.grad + momentum * velocity).flatten(1))
        parameter.add_(update.view(parameter.shape), alpha=-rate * 0.2 * max(update.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix (M, N) with singular values near 1, by five Newton-Schulz iterations in float32."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), wide, beta=3.4445)
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).contiguous()


def optimisers(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """The two optimisers of a network, every parameter that is to be trained in one of them."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        large = parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) >= MIN_RANK
        large = large and not any(head in name for head in HEADS)
        (matrices if large else others).append(parameter)
    muon = [Muon(matrices, learning_rate)] if matrices else []
    return [*muon, torch.optim.AdamW(others, learning_rate, weight_decay=1e-4)]
