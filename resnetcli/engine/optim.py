"""Optimisers and learning-rate schedules.

Muon: Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024,
https://kellerjordan.github.io/posts/muon/).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from resnetcli.config import TrainConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration; chosen by Muon's authors for a steep slope at 0, not for convergence to 1."""


def orthogonalize(matrices: Tensor, steps: int = 3) -> Tensor:
    """Replaces each matrix of float[B,R,C] by one with nearly the same singular vectors and singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x.float(), dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a x + (b A + c A²) x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for weights that act as matrices (a convolution's is [out, in·k·k]).

    Before its step each weight is scaled to norm √out: behind BatchNorm its length has no effect but on the step's
    relative size. Weights of one shape go through the iteration as one batch. `dtype` is the arithmetic of the
    iteration.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float, dtype: torch.dtype) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    assert p.grad is not None
                    state = self.state[p]
                    if not state:
                        state["momentum_buffer"] = torch.zeros_like(p)
                    buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(p.grad)
                    updates.append(p.grad.add(buffer, alpha=group["momentum"]).flatten(1).to(self.dtype))
                orthogonal = orthogonalize(torch.stack(updates))
                for p, update in zip(params, orthogonal, strict=True):
                    p.mul_(math.sqrt(shape[0]) / torch.linalg.vector_norm(p))
                    p.sub_(update.view(shape).to(p.dtype), alpha=group["lr"])


class Optimizers:
    """The optimisers of one run behind one door: step, learning rate, and a state of named tensors."""

    def __init__(self, model: nn.Module, config: TrainConfig, precision: str) -> None:
        named = list(model.named_parameters())
        self._names: dict[Tensor, str] = {p: name for name, p in named}
        matrices = [p for name, p in named if p.ndim == 4 and not name.startswith("layer1")]
        taken = {id(p) for p in matrices} if config.optimizer == "muon" else set()
        rest = [p for _, p in named if id(p) not in taken]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = rest[0].device.type in ("cpu", "cuda")
        self.members: list[torch.optim.Optimizer] = []
        match config.optimizer:
            case "muon":
                dtype = torch.bfloat16 if precision == "bf16" else torch.float32
                self.members.append(Muon(matrices, config.lr, config.momentum, dtype))
                self.members.append(_sgd(groups, config.sgd_lr, config.momentum, fused))
            case "sgd":
                self.members.append(_sgd(groups, config.lr, config.momentum, fused))
            case "adam":
                self.members.append(torch.optim.Adam(groups, config.lr, fused=fused))
            case "adamw":
                self.members.append(torch.optim.AdamW(groups, config.lr, fused=fused))
        self._peaks = [group["lr"] for member in self.members for group in member.param_groups]

    def set_rate(self, share: float) -> float:
        """Sets every learning rate to `share` of its peak; returns the first, which is the one that `lr` names."""
        groups = [group for member in self.members for group in member.param_groups]
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * share
        return float(groups[0]["lr"])

    def step(self) -> None:
        for member in self.members:
            member.step()

    def state(self) -> dict[str, Tensor]:
        """Every state tensor under "parameter/key". Learning rates are not in it: they follow from the step."""
        return {
            f"{self._names[p]}/{key}": value
            for member in self.members
            for p, values in member.state.items()
            for key, value in values.items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        entries: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in state.items():
            parameter, key = name.rsplit("/", 1)
            entries[parameter][key] = tensor
        for member in self.members:
            for group in member.param_groups:
                for p in group["params"]:
                    if self._names[p] in entries:
                        member.state[p] = {key: _laid_out_as(p, t) for key, t in entries[self._names[p]].items()}


def _laid_out_as(p: Tensor, tensor: Tensor) -> Tensor:
    """In the memory format of the parameter: a fused step walks both in memory order."""
    return torch.empty_like(p).copy_(tensor) if tensor.shape == p.shape else tensor.to(p.device)


def _sgd(groups: list[dict[str, Any]], lr: float, momentum: float, fused: bool) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=momentum > 0, fused=fused)


def learning_rate_share(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """The learning rate of optimiser step `step` (from 0) as a share of its peak, 0..1. A pure function of the step.

    Warm-up rises linearly to 1. Then: linear and cosine fall to 0 at the last step's end, step divides by
    `step_factor` every `step_epochs` epochs, constant stays.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    match config.schedule:
        case "linear":
            return 1 - progress
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "step":
            return float(config.step_factor ** -(step // steps_per_epoch // config.step_epochs))
        case "constant":
            return 1.0
