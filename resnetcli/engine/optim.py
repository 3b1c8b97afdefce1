"""Optimisers.

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

from resnetcli.config.train import TrainConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration; chosen by Muon's authors for a steep slope at 0, not for convergence to 1."""


def orthogonalize(matrices: Tensor, steps: int = 3) -> Tensor:
    """Replaces each matrix of float[B,R,C] by one with nearly the same singular vectors and singular values near 1.

    A step of the iteration multiplies X by a polynomial of the small matrix A = X Xᵀ, and such polynomials commute. So
    all steps can be taken on A alone and X multiplied once, at the end. Where X is much wider than high that is less
    arithmetic (for three steps on the identity variant 10 instead of 16 GMAC, measured 76 instead of 117 ms; in bf16
    the result is then 2 % from the exact one instead of 1.3 %); a square X is multiplied in each step.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    gram = x @ x.mT
    # The largest singular value must not exceed 1; the Frobenius norm, which bounds it, is the root of the trace.
    square = gram.diagonal(dim1=1, dim2=2).float().sum(1).add_(1e-14)[:, None, None]
    gram = gram.div_(square)
    if 2 * x.shape[2] < 3 * x.shape[1]:
        x = x / square.sqrt().to(x.dtype)
        for step in range(steps):
            gram = gram if step == 0 else x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.mT if tall else x
    factor: Tensor | None = None
    for step in range(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)  # a I + b A + c A²
        factor = polynomial if factor is None else polynomial @ factor
        if step < steps - 1:
            gram = polynomial @ gram @ polynomial
    assert factor is not None
    result = (factor / square.sqrt().to(factor.dtype)) @ x
    return result.mT if tall else result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for weights that act as matrices (a convolution's is [out, in·k·k]).

    Before its step each weight is scaled to norm √out: behind BatchNorm its length has no effect but on the step's
    relative size. That, and three steps of the iteration, are as in the record runs of Jordan's "CIFAR-10 Airbench"
    (2024, https://github.com/KellerJordan/cifar10-airbench). Weights of one shape go through the iteration as one
    batch. `dtype` is the arithmetic of the iteration. Where the tensor `found_inf` is 1 a step leaves the weights as
    they are, as in torch's fused optimisers.

    After three epochs of `fast` 33.3 points better than SGD and 9.4 better than Adam (examples/ablation.md).
    """

    found_inf: Tensor | None = None

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
                gradients = [p.grad for p in params if p.grad is not None]
                assert len(gradients) == len(params)
                buffers = [self._buffer(p) for p in params]
                torch._foreach_mul_(buffers, group["momentum"])
                torch._foreach_add_(buffers, gradients)
                ahead = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
                orthogonal = orthogonalize(torch.stack([_as_matrix(update).to(self.dtype) for update in ahead]))
                weights: list[Tensor] = list(params)
                # a convolution of zeros has no norm to be brought to another
                scales = math.sqrt(shape[0]) / torch.stack(torch._foreach_norm(weights)).clamp_min_(1e-12)
                orthogonal = orthogonal.mul_(group["lr"])
                if self.found_inf is not None:
                    scales = torch.where(self.found_inf > 0, 1.0, scales)
                    orthogonal = torch.where(self.found_inf > 0, 0.0, orthogonal)
                torch._foreach_mul_(weights, scales.unbind())
                for p, update in zip(params, orthogonal, strict=True):
                    _as_matrix(p).sub_(update)

    def _buffer(self, p: nn.Parameter) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _as_matrix(weight: Tensor) -> Tensor:
    """[out,in,k,k] as a view [out,in·k·k], its columns as they lie in memory: the iteration does not care for their
    order."""
    # view, not flatten: of a third layout it would silently make a copy, and the step would go nowhere
    return (weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)).view(len(weight), -1)


class Optimizers:
    """The optimisers of one run behind one door: step, learning rate, and a state of named tensors.

    Beside Muon: SGD with Nesterov's momentum in the form of Sutskever et al., "On the importance of initialization and
    momentum in deep learning" (2013, https://proceedings.mlr.press/v28/sutskever13.html); Adam, Kingma & Ba (2014,
    https://arxiv.org/abs/1412.6980); AdamW, Loshchilov & Hutter, "Decoupled weight decay regularization" (2017,
    https://arxiv.org/abs/1711.05101).
    """

    def __init__(self, model: nn.Module, config: TrainConfig, precision: str) -> None:
        named = list(model.named_parameters())
        self._names: dict[Tensor, str] = {p: name for name, p in named}
        matrices = [p for name, p in named if p.ndim == 4 and not name.startswith("layer1")]
        taken = {id(p) for p in matrices} if config.optimizer == "muon" else set()
        rest = [p for _, p in named if id(p) not in taken]
        lr = config.sgd_lr if config.optimizer == "muon" else config.lr
        groups = _groups(model, rest, lr, config)
        device = rest[0].device
        fused = device.type in ("cpu", "cuda")
        capturable = device.type == "cuda"  # a recorded step reads the learning rate where the next one can change it
        self.members: list[torch.optim.Optimizer] = []
        match config.optimizer:
            case "muon":
                dtype = torch.bfloat16 if precision == "bf16" else torch.float32
                self.members.append(Muon(matrices, config.lr, config.momentum, dtype))
                self.members.append(_sgd(groups, config.momentum, fused))
            case "sgd":
                self.members.append(_sgd(groups, config.momentum, fused))
            case "adam":
                self.members.append(torch.optim.Adam(groups, fused=fused, capturable=capturable))
            case "adamw":
                self.members.append(torch.optim.AdamW(groups, fused=fused, capturable=capturable))
        for member in self.members:  # the steps before recording are meant to run as they are: no reason to warn
            member._warned_capturable_if_run_uncaptured = True
        self._groups = [group for member in self.members for group in member.param_groups]
        self._peaks: list[float] = [group["lr"] for group in self._groups]
        if capturable:
            for group, peak in zip(self._groups, self._peaks, strict=True):
                group["lr"] = torch.tensor(peak, device=device)

    def set_rate(self, share: float) -> float:
        """Sets every learning rate to `share` of its peak; returns the first, which is the one that `lr` names."""
        for group, peak in zip(self._groups, self._peaks, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(peak * share)
            else:
                group["lr"] = peak * share
        return self._peaks[0] * share

    def hold_by(self, held: Tensor) -> None:
        """While the tensor `held` is 1, a step changes no parameter. By the name that torch's gradient scaler gives it
        in fused optimisers, which are all that there are on CPU and CUDA."""
        for member in self.members:
            member.found_inf = held  # type: ignore[attr-defined]

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

    def load_state(self, state: dict[str, Tensor], *, stepped: bool) -> None:
        """The inverse of `state`; `stepped` says whether it was taken after a step. Raises ValueError, before anything
        is changed, where a tensor does not fit."""
        entries: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in state.items():
            parameter, key = name.rsplit("/", 1)
            entries[parameter][key] = tensor
        for p, name in self._names.items():
            for key, tensor in entries[name].items():
                # A fused kernel checks neither: given a smaller tensor it reads and writes past its end.
                fits = tensor.dtype == torch.float32 if key == "step" else tensor.is_floating_point()
                shape = torch.Size() if key == "step" else p.shape
                if tensor.shape != shape or not fits:
                    found = f"{tensor.dtype}{list(tensor.shape)}"
                    raise ValueError(f"{name}/{key} is {found}, expected float{list(shape)}")
        if unknown := sorted(entries.keys() - self._names.values()):
            raise ValueError(f"{unknown[0]} is no parameter of this network")
        for member in self.members:
            expected = _keys(member) if stepped else frozenset[str]()
            for group in member.param_groups:
                for p in group["params"]:
                    name = self._names[p]
                    if entries[name].keys() != expected:
                        found = "+".join(sorted(entries[name])) or "nothing"
                        raise ValueError(f"{name} has {found}, expected {'+'.join(sorted(expected)) or 'nothing'}")
        for member in self.members:
            for group in member.param_groups:
                for p in group["params"]:
                    if entries[self._names[p]]:
                        member.state[p] = {key: _laid_out_as(p, t) for key, t in entries[self._names[p]].items()}


def _keys(member: torch.optim.Optimizer) -> frozenset[str]:
    """What it keeps of each parameter that it has moved: one number as "step", all else in the parameter's shape."""
    if isinstance(member, torch.optim.Adam):  # AdamW is one, too
        return frozenset({"step", "exp_avg", "exp_avg_sq"})
    return frozenset({"momentum_buffer"} if isinstance(member, Muon) or member.defaults["momentum"] else ())


def _laid_out_as(p: Tensor, tensor: Tensor) -> Tensor:
    """In the memory format of the parameter: a fused step walks both in memory order."""
    return torch.empty_like(p).copy_(tensor) if tensor.shape == p.shape else tensor.to(p.device)


def _groups(model: nn.Module, params: list[nn.Parameter], lr: float, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups: what decays, what does not, and BatchNorm's biases with a learning rate of their own.

    The last is from Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024,
    https://arxiv.org/abs/2404.00498), who takes a factor of 64 and freezes the scales beside them. A factor of 8
    brought 0.1 points and weight decay on the stem and the head 0.6 after three epochs of `fast`, both within chance
    (examples/ablation.md).
    """
    biases = {id(m.bias) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in params if p.ndim > 1], "lr": lr, "weight_decay": config.weight_decay},
        {"params": [p for p in params if p.ndim <= 1 and id(p) not in biases], "lr": lr, "weight_decay": 0.0},
        {"params": [p for p in params if id(p) in biases], "lr": lr * config.bias_lr_scale, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _sgd(groups: list[dict[str, Any]], momentum: float, fused: bool) -> torch.optim.SGD:
    return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=fused)
